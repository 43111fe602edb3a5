"""Frames are pictures that nobody can change."""

import numpy as np
import pytest

from realtime_mer.source.frame import Frame


def test_a_frame_keeps_its_picture_from_being_changed():
    frame = Frame(3, 0.1, np.zeros((4, 6, 3), np.uint8), 1.0)
    with pytest.raises(ValueError, match="read-only"):
        frame.image[0, 0] = 1
    with pytest.raises(AttributeError):
        frame.time_s = 0.2


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 6), np.uint8),  # grey
        np.zeros((4, 6, 4), np.uint8),  # with alpha
        np.zeros((4, 6, 3), np.float32),
        np.zeros((1, 4, 6, 3), np.uint8),
    ],
)
def test_other_arrays_are_no_frames(image):
    with pytest.raises(ValueError, match=r"\(height, width, 3\) uint8"):
        Frame(0, 0.0, image, 0.0)
