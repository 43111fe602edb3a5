"""Action units are named from how far the skin of a face came."""

import json
from itertools import product

import cv2
import numpy as np
import pytest

from realtime_mer.demo.action_units import UNITS, action_unit
from realtime_mer.spotting.action_units import (
    FEATURES,
    FUNCTIONS,
    UnitFunction,
    action_units,
    delivered,
    features,
)
from realtime_mer.spotting.cell_flow import CELLS, FACE_GRID, CellFlow
from realtime_mer.spotting.motion import FACE_CELLS, RigidMotion, texture_trust

# Across the face: 0 left of the middle of the picture, 1 right of it.
RIGHT = (1 / (1 + np.exp(-(np.arange(224) - 123) / 8)))[None, :, None]
UNIT = UnitFunction("AU2", True, np.zeros(FEATURES), 0.0, threshold=0.6, both=0.4)


@pytest.fixture(scope="module")
def displacement(astronaut_face):
    """What the runtime's flow finds in each cell when a field (224, 224, 2) moves the face."""
    face = astronaut_face
    flow, rigid = CellFlow(face.grey), RigidMotion(face.landmarks, texture_trust(face.grey))

    def of(field):
        where = (FACE_GRID - field).astype(np.float32)
        moved = cv2.remap(face.grey, where, None, cv2.INTER_CUBIC)
        return rigid.remove(flow(moved))[0][FACE_CELLS]

    return of


@pytest.mark.parametrize("name", [function.name for function in delivered()])
def test_a_unit_that_moves_the_face_is_named(displacement, name):
    units = action_units(displacement(action_unit(name, peak_px=2.5)))
    # The surest, and on both sides.
    assert (units[0].name, units[0].side) == (name, "both")
    assert 0.5 < units[0].score <= 1


def test_units_of_one_half_of_the_face_are_named_with_their_side(displacement):
    sided = [function.name for function in delivered() if function.sided]
    right = 0
    for name, (side, share) in product(sided, (("right", RIGHT), ("left", 1 - RIGHT))):
        units = action_units(displacement(share * action_unit(name, peak_px=2.5)))
        right += (name, side) in {(unit.name, unit.side) for unit in units}
    assert right >= 0.8 * 2 * len(sided) > 0


def test_a_still_face_shows_no_unit(displacement):
    noise = np.random.default_rng(0).normal(0, 0.02, (len(FACE_CELLS), 2))
    assert action_units(np.zeros_like(noise)) == action_units(noise) == ()


def test_only_units_that_passed_the_test_are_delivered():
    units = json.loads(FUNCTIONS.read_text())["units"]
    assert {"AU1", "AU4", "AU12"} <= {unit["name"] for unit in units} <= set(UNITS)
    assert all(min(unit["precision"], unit["recall"]) >= 0.8 for unit in units)


def test_features_are_the_face_and_its_mirror_image():
    moved = np.zeros((CELLS, CELLS, 2))
    moved[20, 9] = -2, 1
    mirrored = np.zeros_like(moved)
    mirrored[20, 21] = 2, 1
    face, other = (m.reshape(-1, 2)[FACE_CELLS] for m in (moved, mirrored))
    np.testing.assert_array_equal(features(face), features(other)[::-1])
    # One block of four cells.
    assert np.count_nonzero(features(face)[0]) == 2
    everywhere = features(np.full((len(FACE_CELLS), 2), [0.0, 3.0]))
    np.testing.assert_allclose(everywhere.reshape(-1, 2), [[0, 3 / 3.15]] * FEATURES)


@pytest.mark.parametrize(
    ("right", "left", "side"), [(2, 0, "both"), (2, -2, "right"), (-2, 2, "left"), (0, 0, None)]
)
def test_a_side_counts_that_is_probable_enough(right, left, side):
    weights = UNIT.weights.copy()
    weights[0] = 1
    seen = np.zeros((2, FEATURES))
    seen[:, 0] = right, left
    unit = UnitFunction("AU2", True, weights, 0.0, UNIT.threshold, UNIT.both)(seen)
    assert (unit and unit.side) == side


def test_a_function_is_the_same_after_it_was_stored():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=FEATURES).round(3)
    function = UnitFunction("AU2", True, weights, -1.5, 0.45, 0.2)
    stored = UnitFunction.from_dict(json.loads(json.dumps(function.to_dict())))
    np.testing.assert_array_equal(stored.weights, weights)
    assert stored.to_dict() == function.to_dict()
