"""Tracking of fast sources: track every k-th frame and interpolate the faces between.

A head moves little within 1/60 s, and landmarks only locate the face: the motion of the skin is
measured in the picture of every frame.
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
"""About this many frames a second are tracked if a source gives many more."""

# The source's period is the median of this many (half a second at 60 fps); until the smaller number
# is known, every frame is tracked. Chosen by judgement.
_RATE_PERIODS = 31
_MIN_PERIODS = 8
# Frames that wait for the next tracked one stay in memory: at 1000 fps, every 16th is tracked.
_MAX_WAITING = 15
# After a hole of this many frame periods, faces are not interpolated across it. Chosen by
# judgement: single dropped frames are no hole.
_HOLE_FRAMES = 4


class Tracker(Protocol):
    """Finds the faces in a frame; `FaceTracker` is one."""

    def track(self, frame: Frame) -> tuple[TrackedFace, ...]:
        """The faces in a frame."""


class SourceRate:
    """Measures the frame rate of a source by its frames' times, since headers are often wrong.

    The median period is robust against holes; dropped frames do not count, as frames keep their
    numbers.
    """

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None
        self._periods: deque[float] = deque(maxlen=_RATE_PERIODS)

    def __call__(self, frame: Frame) -> float:
        """Frames a second up to this frame; 0 before the second one."""
        if self._last is not None:
            index, time_s = self._last
            self._periods.append((frame.time_s - time_s) / max(1, frame.index - index))
        self._last = frame.index, frame.time_s
        period = statistics.median(self._periods) if self._periods else 0.0
        return 1 / period if period > 0 else 0.0

    @property
    def is_settled(self) -> bool:
        """Whether enough frames have come to rely on the rate."""
        return len(self._periods) >= _MIN_PERIODS


def interpolated(
    before: Sequence[TrackedFace], after: Sequence[TrackedFace], share: float
) -> tuple[TrackedFace, ...]:
    """The faces at the fraction `share` (0 to 1) of the way from `before` to `after`.

    A face that is missing on one side, or jumps, is left out.
    """
    later = {face.identity: face for face in after}
    faces = []
    for a in before:
        b = later.get(a.identity)
        if b is None or has_jumped(corners(a.landmarks), corners(b.landmarks)):
            continue
        shapes = b.blendshapes
        if a.blendshapes is not None and shapes is not None:
            shapes = a.blendshapes + np.float32(share) * (shapes - a.blendshapes)
        faces.append(
            dataclasses.replace(
                b,
                landmarks=a.landmarks + np.float32(share) * (b.landmarks - a.landmarks),
                blink=a.blink + share * (b.blink - a.blink),
                jaw_open=a.jaw_open + share * (b.jaw_open - a.jaw_open),
                blendshapes=shapes,
            )
        )
    return tuple(faces)


class PacedTracker:
    """Tracks a source at a bounded rate; every frame comes out, in order, with its faces.

    Args:
        tracker: Finds the faces in a frame.
        track_fps: About how many frames to track a second. Of slower sources, every frame is.
    """

    def __init__(self, tracker: Tracker, track_fps: float = TRACK_FPS) -> None:
        self._tracker, self._track_fps = tracker, track_fps
        self._rate = SourceRate()
        self._fps = 0.0
        self._last: TrackedFrame | None = None
        self._waiting: list[tuple[Frame, float]] = []

    @property
    def is_waiting(self) -> bool:
        """Whether frames wait for the next tracked one."""
        return bool(self._waiting)

    def __call__(self, frame: Frame, taken_at: float) -> list[TrackedFrame]:
        """The frames whose faces are known once the source's next frame has come, in order.

        Args:
            frame: The next frame.
            taken_at: `time.monotonic()` when work on it began.
        """
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
        """Every frame of a recording with its faces, in order."""
        for frame in frames:
            yield from self(frame, time.monotonic())
        yield from self.flush()

    def flush(self) -> list[TrackedFrame]:
        """The waiting frames, when no other comes soon: the last of them is tracked."""
        if not self._waiting:
            return []
        return self._track(*self._waiting.pop())

    def _stride(self) -> int:
        """Tracks one frame in this many."""
        if not self._rate.is_settled:
            return 1
        return min(max(1, round(self._fps / self._track_fps)), _MAX_WAITING + 1)

    def _track(self, frame: Frame, taken_at: float) -> list[TrackedFrame]:
        faces = self._tracker.track(frame)
        done = []
        if self._waiting:
            assert self._last is not None  # the first frame never waits
            start_s = self._last.frame.time_s
            for earlier, at in self._waiting:
                share = (earlier.time_s - start_s) / (frame.time_s - start_s)
                faces_between = interpolated(self._last.faces, faces, share)
                done.append(TrackedFrame(earlier, faces_between, at, self._fps))
            self._waiting.clear()
        self._last = TrackedFrame(frame, faces, taken_at, self._fps)
        return [*done, self._last]
