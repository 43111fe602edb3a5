"""The last seconds of a face's registered pictures, in memory that is fixed at the start."""

from __future__ import annotations

import math

import numpy as np

from realtime_mer.face.registration import FACE_SIZE, CanonicalFace

# Times jitter, and files round them to milliseconds: faces this part of the period apart are both
# kept. Chosen by judgement: at 200 fps, 0.5 ms.
_MIN_PERIODS = 0.9


class RingBuffer:
    """Canonical faces with their times; the oldest makes room for the newest.

    It reaches back `length_s`, however fast the source is: of frames that come faster than `fps`,
    it keeps some, and the newest one.

    Args:
        length_s: How far back it reaches, in seconds.
        fps: Faces kept a second, at most; 50 KB each.

    Raises:
        ValueError: It would hold fewer than two faces, which show no motion.
    """

    def __init__(self, length_s: float, fps: float) -> None:
        self._min_apart_s = _MIN_PERIODS / fps
        # The two ends of the span, and the newest face, which may give way to the next.
        capacity = math.ceil(length_s / self._min_apart_s) + 2
        if capacity < 4:
            raise ValueError(
                f"a ring of {length_s} s at {fps} faces a second holds no motion: give a longer "
                "time or more faces a second"
            )
        self._grey = np.zeros((capacity, FACE_SIZE, FACE_SIZE), np.uint8)
        self._landmarks: list[np.ndarray] = [np.empty((0, 3), np.float32)] * capacity
        self._matrices = np.zeros((capacity, 2, 3))
        self._times = np.full(capacity, -np.inf)
        self._newest = 0

    def __len__(self) -> int:
        return int(np.isfinite(self._times).sum())

    def append(self, time_s: float, face: CanonicalFace) -> None:
        """Adds the face seen at `time_s`, later than all before it.

        It replaces the newest face if that one came too soon after the one before it.
        """
        newest_s, before_s = self._times[self._newest], self._times[self._newest - 1]
        if math.isfinite(newest_s) and newest_s - before_s >= self._min_apart_s:
            self._newest = (self._newest + 1) % len(self._times)
        self._grey[self._newest] = face.grey
        self._landmarks[self._newest] = face.landmarks
        self._matrices[self._newest] = face.matrix
        self._times[self._newest] = time_s

    def at(self, time_s: float) -> CanonicalFace:
        """The face nearest in time to `time_s`.

        Raises:
            ValueError: The ring is empty.
        """
        if not len(self):
            raise ValueError("the ring is empty")
        index = int(np.argmin(np.abs(self._times - time_s)))
        return CanonicalFace(
            self._grey[index].copy(), self._landmarks[index], self._matrices[index].copy()
        )
