import dataclasses

import pytest

from realtime_mer.output.size import size_of
from realtime_mer.results import Interval
from tests.results import event

SIZES = {
    # Of an event that lasted 301.4 ms and moved by 1.848 px, the record says 302 ms and 1.85 px.
    "rounded twice": ((1.0004, 1.3018), 1.848, ("302", "1.9")),
    "a half": ((0.0, 0.3), 1.25, ("300", "1.3")),
    # The nearest number that a computer has is a little less.
    "less than a half": ((12.4, 12.733), 1.15, ("333", "1.1")),
    "no motion": ((0.0, 0.1), 0.0, ("100", "0.0")),
    "not known": ((0.0, 0.1), float("nan"), ("100", "nan")),
}


def sized(times, motion_px):
    when = Interval(times[0], sum(times) / 2, times[1])
    return dataclasses.replace(event(0.0, "surprise", 0.9), interval=when, intensity_px=motion_px)


@pytest.mark.parametrize(("times", "motion_px", "size"), SIZES.values(), ids=SIZES)
def test_sizes_are_those_of_the_record(times, motion_px, size):
    assert size_of(sized(times, motion_px)) == size
