"""Which frame of the source was shown when."""

import numpy as np
import pytest

from realtime_mer.analysis.frame_numbers import FrameNumbers
from realtime_mer.results import Interval
from realtime_mer.source.frame import Frame

PICTURE = np.zeros((2, 2, 3), np.uint8)


@pytest.mark.parametrize(
    ("times_s", "first", "expected"),
    [
        ([0.0, 0.1, 0.2, 0.3, 0.4], 0, (1, 2, 4)),
        # Frames that were dropped keep their numbers.
        ([0.0, 0.1, 0.2, 0.3, 0.4], 7, (8, 9, 11)),
        # As a phone records: the rate changes.
        ([0.0, 0.02, 0.04, 0.09, 0.2, 0.43], 0, (3, 4, 5)),
        ([0.3], 5, (5, 5, 5)),
    ],
)
def test_moments_have_the_numbers_of_the_nearest_frames(times_s, first, expected):
    numbers = FrameNumbers()
    for index, time_s in enumerate(times_s, first):
        numbers.add(Frame(index, time_s, PICTURE, 0.0))
    assert numbers.of(Interval(0.11, 0.19, 0.42)) == expected


def test_memory_is_bounded_and_the_newest_frames_stay():
    numbers = FrameNumbers()
    for index in range(10_000):
        numbers.add(Frame(index, index / 1000, PICTURE, 0.0))
    assert numbers.of(Interval(8.0, 8.1, 8.2)) == (8000, 8100, 8200)
    assert len(numbers._frames) < 5000
