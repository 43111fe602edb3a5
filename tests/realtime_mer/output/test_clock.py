import math

import pytest

from realtime_mer.output.clock import clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00.000"),
        (0.9996, "0:01.000"),
        (59.9999, "1:00.000"),
        (3661.5, "1:01:01.500"),
        (math.nan, "?"),
    ],
)
def test_clock_shows_minutes_and_milliseconds_and_hours_if_there_are_any(seconds, text):
    assert clock(seconds) == text
