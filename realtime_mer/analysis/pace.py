"""Whether enough frames are analysed for what is found to mean something."""

from __future__ import annotations

import statistics
from collections import deque
from itertools import pairwise

from realtime_mer.source.frame import Frame
from realtime_mer.source.health import LEAST_FPS

REPORT_FPS = 8.0
"""At fewer analysed frames a second than this, nothing is reported. See `docs/spotting.md`."""

# Reports end below the first rate and begin again above the second: apart, so as not to flicker.
_SPARSE_FPS = (REPORT_FPS - 0.5, REPORT_FPS + 0.5)
# The rate is the median of this many periods, as a single pause does not matter; until the smaller
# number is known, the rate is not judged. Chosen by judgement.
_PERIODS, _MIN_PERIODS = 9, 4
# The analysis is too slow if its rate falls below the first part of what it needs, `LEAST_FPS` or
# all that a slower source gives; above the second it keeps up again. Chosen by judgement.
_SLOW = (0.75, 0.85)
# Its rate is measured over this time, and has to stay so for as long.
_WINDOW_S = 2.0


class Pace:
    """Watches how many of a source's frames are analysed.

    Attributes:
        sparse_since_s: Since when so few frames come that nothing is reported; None if enough do.
        notes: What the user should know, a sentence each; grows.
    """

    def __init__(self) -> None:
        self.sparse_since_s: float | None = None
        self.notes: tuple[str, ...] = ()
        self._times: deque[float] = deque(maxlen=_PERIODS + 1)
        # Number and time of the frames analysed within the window.
        self._frames: deque[tuple[int, float]] = deque()
        self._is_slow = False
        # Since when the rate has contradicted `_is_slow`.
        self._changed_s: float | None = None
        self._rates = (0.0, 0.0)
        self._noted: set[str] = set()

    def restart(self) -> None:
        """Frames that come now do not continue those so far: the source was away or paused."""
        self._times.clear()
        self._frames.clear()
        self._changed_s = None

    def update(self, frame: Frame, source_fps: float) -> float | None:
        """Takes the next analysed frame.

        Args:
            frame: The frame; numbers that are missing between two of them were dropped.
            source_fps: Frames a second that the source gives; 0 until known.

        Returns:
            Since when too few frames came, if that ended with this one.
        """
        self._judge_speed(frame, source_fps)
        return self._judge_rate(frame.time_s)

    @property
    def alerts(self) -> tuple[str, ...]:
        """What is wrong now, a few words each."""
        alerts = []
        if self._is_slow:
            analysed, source = self._rates
            alerts.append(f"analysis too slow: {analysed:.0f} of {source:.0f} fps")
        if self.sparse_since_s is not None:
            alerts.append(f"no reports below {REPORT_FPS:.0f} fps")
        return tuple(alerts)

    def _judge_rate(self, time_s: float) -> float | None:
        self._times.append(time_s)
        if len(self._times) <= _MIN_PERIODS:
            return None
        period_s = statistics.median(later - earlier for earlier, later in pairwise(self._times))
        since_s = self.sparse_since_s
        if since_s is None and period_s * _SPARSE_FPS[0] > 1:
            self.sparse_since_s = time_s
            self._note(
                "sparse",
                f"Fewer than {REPORT_FPS:.0f} frames a second are analysed: most of what was found "
                "in them would be false, so nothing is reported until more come",
            )
        elif since_s is not None and period_s * _SPARSE_FPS[1] < 1:
            # Not only of late: where frames come irregularly, some are always close together.
            lately = sum(time_s - at_s <= _WINDOW_S for _, at_s in self._frames)
            if lately > _SPARSE_FPS[1] * _WINDOW_S:
                self.sparse_since_s = None
                return since_s
        return None

    def _judge_speed(self, frame: Frame, source_fps: float) -> None:
        frames = self._frames
        frames.append((frame.index, frame.time_s))
        while frame.time_s - frames[0][1] > _WINDOW_S and len(frames) > 2:
            frames.popleft()
        came = frame.index - frames[0][0]
        if not (came and source_fps):
            return
        analysed_fps = (len(frames) - 1) / came * source_fps
        needed_fps = min(LEAST_FPS, source_fps)
        if self._is_slow:
            differs = analysed_fps > _SLOW[1] * needed_fps
        else:
            differs = analysed_fps < _SLOW[0] * needed_fps
        if differs != self._is_slow:
            # Not while the analysis catches up: the alert would say that nothing is wrong.
            self._rates = analysed_fps, source_fps
        if not differs:
            self._changed_s = None
            return
        if self._changed_s is None:
            self._changed_s = frame.time_s
        if frame.time_s - self._changed_s < _WINDOW_S:
            return
        self._is_slow, self._changed_s = not self._is_slow, None
        if self._is_slow:
            self._note(
                "slow",
                f"The analysis keeps up with {analysed_fps:.0f} of the source's {source_fps:.0f} "
                "frames a second and misses short motion: close other programs, or give it a "
                "smaller picture or fewer faces",
            )

    def _note(self, kind: str, text: str) -> None:
        if kind not in self._noted:
            self._noted.add(kind)
            self.notes += (text,)
