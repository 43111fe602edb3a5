"""What flow finds of a motion on a face."""

import numpy as np

from realtime_mer.demo.action_units import expression
from realtime_mer.spotting.motion import FACE_CELLS
from tools.spotting.face_response import FaceResponse


def test_a_motion_is_found_smaller_and_where_it_is(astronaut_face):
    face = FaceResponse(astronaut_face.grey, astronaut_face.grey, astronaut_face.landmarks)
    field = expression(("AU1", "AU2"))
    regions, cells = face(field)
    assert (regions.shape, cells.shape) == ((18, 2), (len(FACE_CELLS), 2))
    wanted = field[4::8, 4::8].reshape(-1, 2)[FACE_CELLS]
    strong = np.linalg.norm(wanted, axis=1) > 0.6
    assert 0.2 < (cells[strong] * wanted[strong]).sum() / (wanted[strong] ** 2).sum() < 1.1
    nothing, _ = face(np.zeros_like(field))
    assert np.abs(nothing).max() < 0.02
