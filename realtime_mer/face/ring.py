"""The last seconds of a face's registered pictures, in memory that is fixed at the start."""

from __future__ import annotations

import math

import numpy as np

from realtime_mer.face.registration import FACE_SIZE, CanonicalFace

# Times jitter: a frame counts as a new one from this part of the period on.
_LEAST_PERIODS = 0.9


class RingBuffer:
    """Canonical faces with their times; the oldest makes room for the newest.

    It reaches back `length_s`, however fast the source is: of frames that come faster than `fps`,
    only some are kept.

    Args:
        length_s: How far back it reaches, seconds.
        fps: Faces kept a second, at most; 50 KB each.

    Raises:
        ValueError: It would hold fewer than two faces, which show no motion.
    """

    def __init__(self, length_s: float, fps: float) -> None:
        self._least_s = _LEAST_PERIODS / fps
        capacity = math.ceil(length_s / self._least_s) + 1
        if capacity < 3:
            raise ValueError(
                f"a ring of {length_s} s at {fps} faces a second holds no motion; give more of one"
            )
        self._grey = np.zeros((capacity, FACE_SIZE, FACE_SIZE), np.uint8)
        self._landmarks: list[np.ndarray] = [np.empty((0, 3), np.float32)] * capacity
        self._matrices = np.zeros((capacity, 2, 3))
        self._times = np.full(capacity, -np.inf)
        self._next = 0
        self._newest_s = -math.inf

    def __len__(self) -> int:
        return int(np.isfinite(self._times).sum())

    def append(self, time_s: float, face: CanonicalFace) -> None:
        """Adds the face seen at `time_s`, later than all before it, unless one was just added."""
        if time_s - self._newest_s < self._least_s:
            return
        self._newest_s = time_s
        self._grey[self._next] = face.grey
        self._landmarks[self._next] = face.landmarks
        self._matrices[self._next] = face.matrix
        self._times[self._next] = time_s
        self._next = (self._next + 1) % len(self._times)

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

    def clear(self) -> None:
        """Forgets all faces."""
        self._times[:] = -np.inf
        self._next = 0
        self._newest_s = -math.inf
