"""Numbers of frames: which frame of the source was shown when."""

from __future__ import annotations

from collections import deque

from realtime_mer.results import Interval
from realtime_mer.source.frame import Frame

# An event begins at most 1.5 s before the last frame of its face. Chosen by judgement: that holds
# up to 2,000 frames a second.
_KEPT = 4096


class FrameNumbers:
    """The numbers of the newest frames, by their times."""

    def __init__(self) -> None:
        self._frames: deque[tuple[float, int]] = deque(maxlen=_KEPT)

    def add(self, frame: Frame) -> None:
        """Adds a frame that is later than all before it."""
        self._frames.append((frame.time_s, frame.index))

    def of(self, interval: Interval) -> tuple[int, int, int]:
        """The frames nearest to onset, apex and offset.

        Raises:
            IndexError: No frame was added.
        """
        onset, apex, offset = interval.onset_s, interval.apex_s, interval.offset_s
        return self._nearest(onset), self._nearest(apex), self._nearest(offset)

    def _nearest(self, time_s: float) -> int:
        best_s, number = self._frames[-1]
        for frame_s, index in reversed(self._frames):
            if abs(frame_s - time_s) > abs(best_s - time_s):
                break
            best_s, number = frame_s, index
        return number
