"""Displacements of cells: large ones, fractions of a pixel, and none when the light changes."""

import cv2
import numpy as np
import pytest

from realtime_mer.spotting.cell_flow import CELLS, CellFlow, to_cells
from realtime_mer.spotting.motion import FACE_CELLS, texture_trust

ROWS, COLUMNS = np.mgrid[0:224, 0:224].astype(np.float32)


def warped(grey: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The picture moved by a field (224, 224, 2) that is nearly constant."""
    field = field.astype(np.float32)
    return cv2.remap(
        grey, COLUMNS - field[..., 0], ROWS - field[..., 1], cv2.INTER_CUBIC, borderMode=2
    )


def everywhere(x: float, y: float) -> np.ndarray:
    return np.broadcast_to(np.float32([x, y]), (224, 224, 2))


def test_nothing_moves_from_a_face_to_itself(astronaut_face):
    flow = CellFlow(astronaut_face.grey)(astronaut_face.grey)
    assert flow.shape == (CELLS**2, 2)
    assert flow.dtype == np.float32
    assert np.abs(flow).max() < 0.02


@pytest.mark.parametrize("shift", [(0.3, 0.0), (0.0, -0.8), (2.0, 1.0), (-5.0, 4.0)])
def test_shifted_face_is_found_shifted_where_it_has_texture(astronaut_face, shift):
    grey = astronaut_face.grey
    flow = CellFlow(grey)(warped(grey, everywhere(*shift)))
    textured = np.intersect1d(FACE_CELLS, np.flatnonzero(texture_trust(grey) > 0.6))
    assert len(textured) > 30
    np.testing.assert_allclose(np.median(flow[textured], 0), shift, atol=0.12)


def test_small_motion_of_one_place_is_found_there(astronaut_face):
    bump = np.exp(-((COLUMNS - 82) ** 2 + (ROWS - 176) ** 2) / (2 * 14.0**2))  # a lip corner
    field = np.dstack([-1.0 * bump, -0.6 * bump])
    flow = CellFlow(astronaut_face.grey)(warped(astronaut_face.grey, field))
    truth = to_cells(field).reshape(-1, 2)
    there = np.linalg.norm(truth, axis=1) > 0.7
    found, wanted = flow[there].mean(0), truth[there].mean(0)
    assert found @ wanted / (wanted @ wanted) == pytest.approx(0.9, abs=0.3)
    elsewhere = np.linalg.norm(truth[FACE_CELLS], axis=1) < 0.01
    assert np.linalg.norm(flow[FACE_CELLS][elsewhere], axis=1).mean() < 0.1


@pytest.mark.parametrize(("gain", "level"), [(1.15, 0), (0.85, 0), (1.0, 12)])
def test_changing_light_is_not_motion(astronaut_face, gain, level):
    grey = np.clip(astronaut_face.grey * gain + level, 0, 255).round().astype(np.uint8)
    flow = CellFlow(astronaut_face.grey)(grey)
    assert np.median(np.linalg.norm(flow[FACE_CELLS], axis=1)) < 0.15


def test_cells_of_the_face_are_symmetric():
    rows, columns = np.divmod(FACE_CELLS, CELLS)
    np.testing.assert_array_equal(np.sort(rows * CELLS + 30 - columns), FACE_CELLS)
    assert not FACE_CELLS.flags.writeable
