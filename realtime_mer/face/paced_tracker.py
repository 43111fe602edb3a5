"""Tracking of fast sources: every k-th frame is tracked, the faces between are interpolated.

A head moves little within 1/60 s, and the landmarks only place the face: the motion that is looked
for is measured on the picture of every frame.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from realtime_mer.face.mesh import corners, has_jumped
from realtime_mer.face.tracker import TrackedFace, TrackedFrame
from realtime_mer.source.frame import Frame

TRACK_FPS = 60.0
"""Frames tracked a second, about, of a source that gives many more."""

# The usual distance of two frames is the median of so many; before the least of them are known,
# every frame is tracked.
_RATE_PERIODS = 31
_LEAST_PERIODS = 8
# Frames that wait for the next tracked one are kept in memory.
_MOST_WAITING = 15
# A frame that comes later than so many frame periods is another moment: nothing leads up to it.
_HOLE_FRAMES = 4


class Tracker(Protocol):
    """What finds the faces of a frame: `FaceTracker`."""

    def track(self, frame: Frame) -> tuple[TrackedFace, ...]: ...


class SourceRate:
    """Frames a second of a source by its frames' times; headers are often wrong.

    The median distance holds against dropped frames, which keep their numbers, and against holes.
    """

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self._periods: deque[float] = deque(maxlen=_RATE_PERIODS)

    def __call__(self, frame: Frame) -> float:
        """The rate with this frame; 0 before the second."""
        if self._last is not None:
            index, time_s = self._last
            self._periods.append((frame.time_s - time_s) / max(1, frame.index - index))
        self._last = frame.index, frame.time_s
        period = statistics.median(self._periods) if self._periods else 0.0
        return 1 / period if period > 0 else 0.0

    @property
    def is_settled(self) -> bool:
        return len(self._periods) >= _LEAST_PERIODS


def between(
    before: Sequence[TrackedFace], after: Sequence[TrackedFace], share: float
) -> tuple[TrackedFace, ...]:
    """The faces at a part `share` (0 to 1) of the way from `before` to `after`.

    A face that is not on both sides, or jumps, is not there.
    """
    later = {face.identity: face for face in after}
    faces = []
    for a in before:
        b = later.get(a.identity)
        if b is None or has_jumped(corners(a.landmarks), corners(b.landmarks)):
            continue
        faces.append(
            dataclasses.replace(
                b,
                landmarks=a.landmarks + np.float32(share) * (b.landmarks - a.landmarks),
                blink=a.blink + share * (b.blink - a.blink),
                jaw_open=a.jaw_open + share * (b.jaw_open - a.jaw_open),
            )
        )
    return tuple(faces)


class PacedTracker:
    """Tracks a source at a bounded rate; every frame comes out, in order, with its faces.

    Args:
        tracker: Finds the faces of a frame.
        track_fps: Frames to track a second, about. Slower sources have each frame tracked.
    """

    def __init__(self, tracker: Tracker, track_fps: float = TRACK_FPS) -> None:
        self._tracker, self._track_fps = tracker, track_fps
        self._rate = SourceRate()
        self._fps = 0.0
        self._last: TrackedFrame | None = None
        self._waiting: list[tuple[Frame, float]] = []

    @property
    def is_waiting(self) -> bool:
        """Frames wait for the next one that is tracked."""
        return bool(self._waiting)

    def __call__(self, frame: Frame, taken_at: float) -> list[TrackedFrame]:
        """The frames whose faces are known with this one, the next of the source."""
        self._fps = self._rate(frame)
        done = []
        if self._waiting:
            apart_s = frame.time_s - self._waiting[-1][0].time_s
            if apart_s * self._fps > _HOLE_FRAMES:
                done = self.flush()
        if self._last is not None and frame.index - self._last.frame.index < self._stride():
            self._waiting.append((frame, taken_at))
            return done
        return done + self._track(frame, taken_at)

    def follow(self, frames: Iterable[Frame]) -> Iterator[TrackedFrame]:
        """All frames of a recording, each with its faces, in order."""
        for frame in frames:
            yield from self(frame, time.monotonic())
        yield from self.flush()

    def flush(self) -> list[TrackedFrame]:
        """The frames that wait, for no other comes now: the last of them is tracked."""
        if not self._waiting:
            return []
        return self._track(*self._waiting.pop())

    def _stride(self) -> int:
        """Every how many frames one is tracked."""
        if not self._rate.is_settled:
            return 1
        return min(max(1, round(self._fps / self._track_fps)), _MOST_WAITING + 1)

    def _track(self, frame: Frame, taken_at: float) -> list[TrackedFrame]:
        faces = self._tracker.track(frame)
        done = []
        if self._waiting:
            assert self._last is not None  # the first frame never waits
            start_s = self._last.frame.time_s
            for earlier, at in self._waiting:
                share = (earlier.time_s - start_s) / (frame.time_s - start_s)
                known = between(self._last.faces, faces, share)
                done.append(TrackedFrame(earlier, known, at, self._fps))
            self._waiting.clear()
        self._last = TrackedFrame(frame, faces, taken_at, self._fps)
        return [*done, self._last]
