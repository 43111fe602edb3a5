import cv2
import numpy as np
import pytest

from realtime_mer.demo.action_units import action_unit
from realtime_mer.recognition.flow_pair import DenseFlow
from realtime_mer.results import EventPicture
from realtime_mer.spotting.cell_flow import to_cells
from realtime_mer.spotting.motion import RigidMotion, texture_trust


@pytest.fixture(scope="module")
def smile(astronaut_face):
    """What a real face looks like before and after lip corners and cheeks have risen by 3 px."""
    field = action_unit("AU12", peak_px=3.0)
    y, x = np.mgrid[0:224, 0:224].astype(np.float32)
    onset = astronaut_face.grey
    apex = cv2.remap(onset, x - field[..., 0], y - field[..., 1], cv2.INTER_LINEAR)
    head = RigidMotion(astronaut_face.landmarks, texture_trust(astronaut_face.grey))
    flow = head.remove_dense(DenseFlow()(onset, apex))
    return EventPicture(onset, apex, to_cells(flow))
