"""The clock of a recording: seconds from its first frame, whatever the container declares."""

from __future__ import annotations

from realtime_mer.source.limits import MAX_TIME_S, MIN_FPS
from realtime_mer.source.reader import DEFAULT_FPS

# A position that lies this far back starts the container's times anew: nothing repeats or reorders
# pictures over such a distance. Chosen by judgement.
_RESTART_S = 1.0
# So many positions in a row that do not increase mean the same. Chosen by judgement.
_MAX_REPEATS = 3


class PresentationClock:
    """Turns presentation times into seconds from the first frame that always increase.

    - A position that is later than the one before it is taken as it is, however far it jumps.
    - A missing one adds a nominal frame period to the previous time.
    - One that repeats the previous time, or lies before it, does so too, and the second and third
      in a row add a half and a quarter of it. The next later position is taken as it is: a
      container that repeats every tenth time does not drift.
    - From the fourth in a row, or if it lies more than a second back, the container's times start
      anew: one period after the previous time.
    - A container whose times have never increased plays at its declared rate.

    Args:
        fps: Declared frame rate; 0 if unknown.
    """

    def __init__(self, fps: float) -> None:
        self._period_s = 1 / (fps if fps >= MIN_FPS else DEFAULT_FPS)
        self._time_s: float | None = None
        # Position of the container at time 0.
        self._zero_s: float | None = None
        self._has_increased = False
        self._repeats = 0

    def __call__(self, position_s: float | None) -> float:
        """The time of the next frame, whose declared position is `position_s`."""
        if position_s is not None and not abs(position_s) <= MAX_TIME_S:
            position_s = None
        if self._time_s is None:
            self._time_s = 0.0
            self._zero_s = position_s
            return 0.0
        if position_s is None:
            self._time_s += self._period_s
            return self._time_s
        if self._zero_s is None:
            self._restart(position_s)
            return self._time_s
        time_s = position_s - self._zero_s
        if time_s > self._time_s:
            self._time_s = time_s
            self._has_increased = True
            self._repeats = 0
        elif not self._has_increased:
            self._time_s += self._period_s
        elif self._repeats == _MAX_REPEATS or self._time_s - time_s > _RESTART_S:
            self._restart(position_s)
        else:
            self._time_s += self._period_s / 2**self._repeats
            self._repeats += 1
        return self._time_s

    def _restart(self, position_s: float) -> None:
        """Makes a position the time one period after the previous one."""
        assert self._time_s is not None
        self._time_s += self._period_s
        self._zero_s = position_s - self._time_s
