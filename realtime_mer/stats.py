"""Where the time goes: latencies by stage, frame rates and memory, in bounded space."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_LEAST_S = 1e-6
# Quantiles are off by at most half a bin, 2.5 %; 380 bins reach from a microsecond to 100 s.
_BIN_RATIO = 1.05
_BINS = 380
_LOG_RATIO = math.log(_BIN_RATIO)
# Two bins are written as one: 24 a decade.
_WRITTEN_TOGETHER = 2


class Histogram:
    """Durations in logarithmic bins: fixed memory, quantiles within 2.5 %.

    Example:
        histogram = Histogram()
        histogram.add(0.008)
        histogram.quantile(0.5)  # about 0.008
    """

    __slots__ = ("_bins", "count", "greatest", "least", "total")

    def __init__(self) -> None:
        self._bins = [0] * _BINS
        self.count = 0
        self.total = 0.0
        self.least = math.inf
        self.greatest = 0.0

    def add(self, seconds: float) -> None:
        if seconds < _LEAST_S:
            bin_ = 0
        else:
            bin_ = min(_BINS - 1, int(math.log(seconds / _LEAST_S) / _LOG_RATIO))
        self._bins[bin_] += 1
        self.count += 1
        self.total += seconds
        self.least = min(self.least, seconds)
        self.greatest = max(self.greatest, seconds)

    def add_all(self, other: Histogram) -> None:
        """Adds all durations of another one."""
        self._bins = [a + b for a, b in zip(self._bins, other._bins, strict=True)]
        self.count += other.count
        self.total += other.total
        self.least = min(self.least, other.least)
        self.greatest = max(self.greatest, other.greatest)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def quantile(self, q: float) -> float:
        """Returns the duration that a part `q` of all does not exceed; 0 without any."""
        if not self.count:
            return 0.0
        rank = q * self.count
        below = 0
        for i, n in enumerate(self._bins):
            below += n
            if n and below >= rank:
                middle = _LEAST_S * _BIN_RATIO ** (i + 0.5)
                return min(max(middle, self.least), self.greatest)
        return self.greatest

    def bins(self) -> list[list[float | int]]:
        """The histogram: [upper end in milliseconds, count] of each bin that is not empty.

        Bins are 10 % wide; the last also holds all beyond 100 s.
        """
        found: list[list[float | int]] = []
        for start in range(0, _BINS, _WRITTEN_TOGETHER):
            end = start + _WRITTEN_TOGETHER
            if count := sum(self._bins[start:end]):
                found.append([float(f"{1000 * _LEAST_S * _BIN_RATIO**end:.4g}"), count])
        return found

    def as_dict(self) -> dict[str, Any]:
        """The figures as the file of statistics holds them, in milliseconds."""
        return {
            "count": self.count,
            "mean": round(1000 * self.mean, 3),
            "median": round(1000 * self.quantile(0.5), 3),
            "p95": round(1000 * self.quantile(0.95), 3),
            "p99": round(1000 * self.quantile(0.99), 3),
            "max": round(1000 * self.greatest, 3),
            "bins": self.bins(),
        }


class Stats:
    """Counts and times of one session. Cheap enough to be always on (about 1 us a record).

    Its clock starts with the first thing recorded, so loading models does not count. Safe to use
    from the threads of several stages.

    Example:
        stats = Stats()
        with stats.stage("track"):
            faces = tracker.track(frame)
        stats.frame_done(time.monotonic() - frame.captured_at)
        stats.as_dict(frames_read=1, frames_dropped=0)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, Histogram] = {}
        self._end_to_end = Histogram()
        self._started_at: float | None = None
        self._stopped_at: float | None = None
        # At 200 fps still more than a second.
        self._recent: deque[float] = deque(maxlen=256)

    def with_all(self, others: Iterable[Stats]) -> Stats:
        """What these and others hold together, as of now; `fps` is not known of it."""
        total = Stats()
        everyone = [self, *others]
        for stats in everyone:
            with stats._lock:
                total._end_to_end.add_all(stats._end_to_end)
                for name, histogram in stats._stages.items():
                    total._stages.setdefault(name, Histogram()).add_all(histogram)
        # One in which nothing was recorded has no beginning.
        known = [stats for stats in everyone if stats._started_at is not None]
        total._started_at = min((s._started_at or 0.0 for s in known), default=None)
        ends = [stats._stopped_at for stats in known]
        if None not in ends:
            total._stopped_at = max((end or 0.0 for end in ends), default=None)
        return total

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the block as one pass through a stage."""
        started_at = time.perf_counter()
        try:
            yield
        finally:
            self.record(name, time.perf_counter() - started_at)

    def record(self, name: str, seconds: float) -> None:
        with self._lock:
            self._start(seconds)
            histogram = self._stages.get(name)
            if histogram is None:
                histogram = self._stages[name] = Histogram()
            histogram.add(seconds)

    def frame_done(self, latency_s: float) -> None:
        """Counts an analysed frame.

        Args:
            latency_s: As in `Analysis`.
        """
        with self._lock:
            self._start(latency_s)
            self._end_to_end.add(latency_s)
            self._recent.append(time.monotonic())

    def _start(self, ago_s: float) -> None:
        if self._started_at is None:
            self._started_at = time.monotonic() - ago_s

    def stop(self) -> None:
        """Stops the clock: what comes after the first call does not count."""
        with self._lock:
            if self._stopped_at is None:
                self._stopped_at = time.monotonic()

    @property
    def frames_analysed(self) -> int:
        return self._end_to_end.count

    @property
    def wall_s(self) -> float:
        """Seconds from the first thing recorded until now, or until `stop`."""
        if self._started_at is None:
            return 0.0
        now = time.monotonic() if self._stopped_at is None else self._stopped_at
        return max(0.0, now - self._started_at)

    @property
    def fps(self) -> float:
        """Frames analysed a second of wall clock, over the last second or so."""
        with self._lock:
            if not self._recent:
                return 0.0
            newest = self._recent[-1]
            while self._recent[0] < newest - 1:
                self._recent.popleft()
            span = newest - self._recent[0]
            return (len(self._recent) - 1) / span if span > 0 else 0.0

    def as_dict(
        self, frames_read: int, frames_dropped: int, drops: Mapping[str, int] | None = None
    ) -> dict[str, Any]:
        """The statistics as their file holds them. Times are in milliseconds.

        Args:
            frames_read: Frames that the source gave.
            frames_dropped: Those of them that were not analysed.
            drops: What was not analysed or not shown, by its cause.
        """
        with self._lock:
            wall_s = self.wall_s
            return {
                "frames_read": frames_read,
                "frames_analysed": self.frames_analysed,
                "frames_dropped": frames_dropped,
                "drops": dict(drops or {}),
                "wall_s": round(wall_s, 3),
                "fps": round(self.frames_analysed / wall_s, 2) if wall_s > 0 else 0.0,
                "end_to_end_ms": self._end_to_end.as_dict(),
                "stages_ms": {name: h.as_dict() for name, h in self._stages.items()},
                "memory_mb": round(memory_mb(), 1),
                "peak_memory_mb": round(peak_memory_mb(), 1),
            }


def _status_mb(key: str, pid: int | None = None) -> float:
    """The kernel's figure about a process, in 2**20 bytes; 0 if there is none."""
    path = f"/proc/{'self' if pid is None else pid}/status"
    with contextlib.suppress(OSError, ValueError, IndexError), open(path) as status:
        for line in status:
            if line.startswith(key):
                return int(line.split()[1]) / 1024
    return 0.0


def memory_mb(pid: int | None = None) -> float:
    """Physical memory that a process holds now, in 2**20 bytes; 0 if unknown.

    Args:
        pid: The process; None for this one.
    """
    return _status_mb("VmRSS:", pid)


def peak_memory_mb() -> float:
    """Most physical memory that this process has held, in 2**20 bytes; 0 where unknown."""
    # getrusage's figure also covers what the parent held before exec, so ask the kernel first.
    if peak := _status_mb("VmHWM:"):
        return peak
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
