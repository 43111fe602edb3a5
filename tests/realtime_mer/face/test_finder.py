"""MediaPipe finds a face in a single picture."""

import numpy as np
import pytest

from realtime_mer.face.finder import FaceFinder
from realtime_mer.face.landmark_model import LandmarkModel


@pytest.fixture
def finder(landmark_model):
    with FaceFinder(LandmarkModel(landmark_model, landmark_model.read_bytes())) as finder:
        yield finder


def test_each_picture_is_looked_at_for_itself(finder, astronaut):
    first = finder.find(astronaut)
    assert finder.find(np.zeros_like(astronaut)) is None
    again = finder.find(astronaut)
    assert first.landmarks.shape == (478, 3)
    assert first.blendshapes.shape == (52,)
    np.testing.assert_array_equal(first.landmarks, again.landmarks)
    mirrored = finder.find(np.ascontiguousarray(astronaut[:, ::-1])).landmarks
    assert abs(mirrored[:, 0].mean() + first.landmarks[:, 0].mean() - astronaut.shape[1]) < 4


def test_a_closed_finder_says_so_and_can_be_closed_again(finder, astronaut):
    finder.close()
    finder.close()
    with pytest.raises(ValueError, match="closed"):
        finder.find(astronaut)
