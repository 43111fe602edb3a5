"""The clock of a recording: seconds from its first frame, whatever the container declares."""

from __future__ import annotations

import math

from realtime_mer.source.reader import DEFAULT_FPS


class PresentationClock:
    """Turns presentation times into seconds from the first frame that always increase.

    A position that is missing or does not increase is replaced by the previous time plus one
    nominal frame period, and later positions count from there. A container without times thus plays
    at its declared rate.

    Args:
        fps: Declared frame rate; 0 if unknown.
    """

    def __init__(self, fps: float) -> None:
        self._period_s = 1 / (fps or DEFAULT_FPS)
        self._time_s: float | None = None
        self._zero_s: float | None = None

    def __call__(self, position_s: float | None) -> float:
        """The time of the next frame, whose declared position is `position_s`."""
        if position_s is not None and not math.isfinite(position_s):
            position_s = None
        if self._time_s is None:
            self._time_s = 0.0
        elif (
            position_s is not None
            and self._zero_s is not None
            and position_s - self._zero_s > self._time_s
        ):
            self._time_s = position_s - self._zero_s
            return self._time_s
        else:
            self._time_s += self._period_s
        if position_s is not None:
            self._zero_s = position_s - self._time_s
        return self._time_s
