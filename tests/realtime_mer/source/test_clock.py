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
        ([0, 5.0, 5.1, 0.0, 0.1], [0, 5.0, 5.1, 5.2, 5.3]),  # times begin anew in the middle
        ([0, 0.1, 0.1, 0.3, 0.4], [0, 0.1, 0.2, 0.3, 0.4]),  # a repeated time
        ([0, 0.1, 0.2, 0.1, 0.4], [0, 0.1, 0.2, 0.3, 0.4]),  # two in the wrong order
        ([0, 0.1, 0.1, 0.1, 0.1, 0.4], [0, 0.1, 0.2, 0.25, 0.275, 0.4]),
        # The times have stopped: the declared rate goes on, and what comes later counts from there.
        ([0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2], [0, 0.1, 0.2, 0.25, 0.275, 0.375, 0.475]),
        ([0, 0.1, None, None, 0.4], [0, 0.1, 0.2, 0.3, 0.4]),
        ([0, 7200.0, 7200.1], [0, 7200.0, 7200.1]),  # a jump forward is kept
    ],
)
def test_times_always_rise(positions, times):
    clock = PresentationClock(fps=10)
    assert [clock(p) for p in positions] == pytest.approx(times)


def test_repeated_times_do_not_add_up():
    clock = PresentationClock(fps=10)
    positions = [(k - (k % 10 == 9)) / 10 for k in range(1000)]
    times = [clock(p) for p in positions]
    assert times == pytest.approx([k / 10 for k in range(1000)])
