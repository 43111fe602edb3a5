"""The frame rate of a source, as it is."""

from __future__ import annotations

import statistics
from collections import deque

from realtime_mer.source.frame import Frame

# The period is the median of this many: half a second at 60 fps. Chosen by judgement.
_PERIODS = 31


class SourceRate:
    """Measures the frame rate of a source by its frames' times, since headers are often wrong.

    The median period is robust against holes; dropped frames do not count, as frames keep their
    numbers.
    """

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self._periods: deque[float] = deque(maxlen=_PERIODS)

    def __call__(self, frame: Frame) -> float:
        """Frames a second up to this frame; 0 before the second one."""
        if self._last is not None:
            index, time_s = self._last
            self._periods.append((frame.time_s - time_s) / max(1, frame.index - index))
        self._last = frame.index, frame.time_s
        period = statistics.median(self._periods) if self._periods else 0.0
        return 1 / period if period > 0 else 0.0
