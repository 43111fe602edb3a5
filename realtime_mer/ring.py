"""The last seconds of a face's registered pictures, in memory that is fixed at the start."""

from __future__ import annotations

import numpy as np

from realtime_mer.flow import FACE_SIZE
from realtime_mer.registration import CanonicalFace


class RingBuffer:
    """Canonical faces with their times; the oldest makes room for the newest.

    Args:
        capacity: How many faces are kept; 50 KB each.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 2:
            raise ValueError(f"a ring of {capacity} faces holds no motion; give 2 or more")
        self._grey = np.zeros((capacity, FACE_SIZE, FACE_SIZE), np.uint8)
        self._landmarks: list[np.ndarray | None] = [None] * capacity
        self._matrices = np.zeros((capacity, 2, 3))
        self._times = np.full(capacity, -np.inf)
        self._next = 0

    def __len__(self) -> int:
        return int(np.isfinite(self._times).sum())

    @property
    def oldest_s(self) -> float:
        """Time of the oldest face; infinite while the ring is empty."""
        return float(np.min(self._times, where=np.isfinite(self._times), initial=np.inf))

    def append(self, time_s: float, face: CanonicalFace) -> None:
        """Adds the face seen at `time_s`, later than all before it."""
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
        self._times[:] = -np.inf
        self._next = 0
