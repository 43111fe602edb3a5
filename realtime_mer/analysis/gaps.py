"""Gaps: for how long a face may be out of sight before that counts, and why it was not followed."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise

from realtime_mer.results import Gap, GapReason
from realtime_mer.source.health import Outage

# A shorter loss of the face is bridged; a longer one ends the window and is logged. Two or three
# frames of a slow source take longer, but never more than a second. Frame times are in whole
# milliseconds, hence the odd one.
_BRIDGE_S = (0.101, 1.0)
_BRIDGE_FRAMES = 2.5
# The usual distance between frames is the median of the last ones.
_RATE_FRAMES = 16
# Losses of the source that are remembered: the faces lost with it may come back much later.
_LOSSES = 16
# An absence of the source itself explains why the faces were lost with it.
_EXPLAINS = (GapReason.SOURCE_LOST, GapReason.PAUSED)


class FrameTimes:
    """The times of the last frames, and how long a face may be away at that rate."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_RATE_FRAMES)

    def add(self, time_s: float) -> None:
        """Takes the time of the next frame."""
        self._times.append(time_s)

    @property
    def newest_s(self) -> float:
        """Time of the newest frame; minus infinity before the first."""
        return self._times[-1] if self._times else -math.inf

    @property
    def before_s(self) -> float:
        """Time of the frame before the newest one; minus infinity at the first."""
        return self._times[-2] if len(self._times) > 1 else -math.inf

    @property
    def bridge_s(self) -> float:
        """How long a face may be away without a gap, at the rate at which frames come."""
        periods = [later - earlier for earlier, later in pairwise(self._times)]
        usual_s = statistics.median(periods) if periods else 0.0
        least, most = _BRIDGE_S
        return min(max(least, _BRIDGE_FRAMES * usual_s), most)


class SourceOutages:
    """Outages of the source: held until the frames after them are analysed, then remembered."""

    def __init__(self) -> None:
        self._waiting: list[Outage] = []
        self._remembered: deque[Outage] = deque(maxlen=_LOSSES)

    def add(self, outages: Iterable[Outage]) -> None:
        """Takes outages that have ended."""
        self._waiting += outages

    def over_at(self, time_s: float) -> list[Outage]:
        """The outages that were over at a time and have not been returned yet."""
        over = [outage for outage in self._waiting if outage.end_s <= time_s]
        self._waiting = [outage for outage in self._waiting if outage.end_s > time_s]
        self._remembered += (outage for outage in over if outage.reason in _EXPLAINS)
        return over

    def explained(self, gaps: Sequence[Gap], bridge_s: float) -> tuple[Gap, ...]:
        """The gaps, with the source's absence as the reason of those that began with it.

        A face was in sight until the last frame before a gap without frames. If frames were read
        after that one and dropped, the absence begins later than the gap, and still explains it.
        """
        return tuple(self._explained(gap, bridge_s) for gap in gaps)

    def _explained(self, gap: Gap, bridge_s: float) -> Gap:
        for outage in self._remembered:
            latest_s = math.inf if gap.reason == GapReason.NO_FRAMES else gap.start_s + bridge_s
            begins_with_it = gap.start_s <= outage.start_s <= latest_s
            if begins_with_it and outage.end_s <= gap.end_s:
                return dataclasses.replace(gap, reason=outage.reason)
        return gap
