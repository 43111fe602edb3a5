"""Patterns stand out against what a face does by itself, and know left from right."""

import numpy as np
import pytest

from realtime_mer.demo.action_units import expression
from realtime_mer.errors import InputError
from realtime_mer.spotting.motion import FACE_CELLS
from realtime_mer.spotting.signals import PATTERN_SHAPE, PATTERNS
from tests.signals import write_signals
from tools.spotting.face_response import FaceResponse
from tools.spotting.motion_patterns import (
    PARITY,
    find_patterns,
    mirrored_cells,
    natural_motions,
    patterns_between,
)

COUNT = len(FACE_CELLS)


@pytest.fixture(scope="module")
def motions() -> tuple[np.ndarray, np.ndarray]:
    """(n, cells, 2) natural motions along ten directions, and responses that share three."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(13, 2 * COUNT)) / np.sqrt(2 * COUNT)
    natural = 3 * rng.normal(size=(600, 10)) @ directions[:10] + 0.02 * rng.normal(
        size=(600, 2 * COUNT)
    )
    events = rng.normal(size=(300, 6)) @ directions[7:]
    return natural.reshape(-1, COUNT, 2), events.reshape(-1, COUNT, 2)


def test_patterns_see_responses_and_not_what_the_face_does_by_itself(motions):
    natural, responses = motions
    patterns = patterns_between(natural, responses)
    assert patterns.shape == PATTERN_SHAPE
    assert patterns.dtype == np.float32
    by_itself, seen = (m.reshape(len(m), -1) @ patterns for m in (natural, responses))
    # Of variance 1 or less, with what was added for motions that were never seen.
    assert by_itself.std(0).max() < 1.01
    raw = np.linalg.norm(responses.reshape(300, -1)) / np.linalg.norm(natural.reshape(600, -1))
    best = seen.std(0)[[0, PATTERNS // 2]] / by_itself.std(0)[[0, PATTERNS // 2]]
    assert best.min() > 5 * raw


def test_on_a_mirrored_face_half_of_them_change_their_sign(motions):
    natural, responses = motions
    patterns = patterns_between(natural, responses)
    seen = responses.reshape(300, -1) @ patterns
    mirrored = mirrored_cells(responses).reshape(300, -1) @ patterns
    np.testing.assert_allclose(mirrored, PARITY * seen, atol=1e-4 * np.abs(seen).max())


def test_cells_mirrored_twice_are_the_same():
    cells = np.random.default_rng(1).normal(size=(4, COUNT, 2)).astype(np.float32)
    np.testing.assert_array_equal(mirrored_cells(mirrored_cells(cells)), cells)


def test_a_motion_is_found_smaller_and_where_it_is(astronaut_face):
    face = FaceResponse(astronaut_face.grey, astronaut_face.grey, astronaut_face.landmarks)
    field = expression(("AU1", "AU2"))
    regions, cells = face(field)
    assert (regions.shape, cells.shape) == ((18, 2), (COUNT, 2))
    wanted = field[4::8, 4::8].reshape(-1, 2)[FACE_CELLS]
    strong = np.linalg.norm(wanted, axis=1) > 0.6
    assert 0.2 < (cells[strong] * wanted[strong]).sum() / (wanted[strong] ** 2).sum() < 1.1
    nothing, _ = face(np.zeros_like(field))
    assert np.abs(nothing).max() < 0.02


def test_they_are_found_in_files(tmp_path, astronaut_face):
    files = [
        write_signals(tmp_path / f"one.{i}.npz", astronaut_face, noise_px=0.05, seed=i)
        for i in range(2)
    ]
    rng = np.random.default_rng(0)
    assert natural_motions(files[0], rng).shape[1:] == (COUNT, 2)
    assert find_patterns(files, [expression(("AU12",))], rng).shape == PATTERN_SHAPE
    moved = [write_signals(tmp_path / "two.1.npz", astronaut_face, events=[(1, 1.2, 1.4, 0)])]
    with pytest.raises(InputError, match="even takes"):
        find_patterns(moved, [expression(("AU12",))], rng)
