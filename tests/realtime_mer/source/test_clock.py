"""The clock of a recording always goes forward."""

import math

import pytest

from realtime_mer.source.clock import PresentationClock


@pytest.mark.parametrize(
    ("positions", "times"),
    [
        ([0.5, 0.54, 0.60], [0, 0.04, 0.10]),  # variable rate, and the first frame is the zero
        ([0, 0, 0, 0], [0, 0.1, 0.2, 0.3]),  # a container without times
        ([None, None, None], [0, 0.1, 0.2]),
        ([0, math.nan, 0.25], [0, 0.1, 0.25]),
        ([math.nan, 5.0, 5.2], [0, 0.1, 0.3]),
        ([0, 0.1, 0.0, 0.1], [0, 0.1, 0.2, 0.3]),  # times begin anew in the middle
    ],
)
def test_times_always_rise(positions, times):
    clock = PresentationClock(fps=10)
    assert [clock(p) for p in positions] == pytest.approx(times)
