"""Smooths landmarks over time: the less, the faster they move.

The 1-euro filter (Casiez, Roussel and Vogel, CHI 2012), as MediaPipe sets it for faces in videos.
Without it landmarks jitter three to four times as much.
"""

from __future__ import annotations

import math

import numpy as np

# MediaPipe's settings (face_landmarks_detector_graph.cc). Cut-off frequencies in Hz, of a point at
# rest and of its speed; and by how many Hz the first rises for a speed of one face a second.
_REST_HZ = 0.05
_SPEED_HZ = 1.0
_HZ_PER_SPEED = 80.0
# MediaPipe takes whole milliseconds that increase: of frames that come closer together, or back in
# time, the later one counts as one millisecond later.
_LEAST_S = 1e-3


class OneEuroFilter:
    """Smooths the points of one face. Give it a new one for another face."""

    def __init__(self) -> None:
        self._time_s = 0.0
        # Of the last frame: points as they came and smoothed, and their speed in faces a second.
        self._raw: np.ndarray | None = None
        self._smooth = self._speed = np.zeros(0)

    def __call__(self, points: np.ndarray, time_s: float) -> np.ndarray:
        """The smoothed points of the next frame.

        Args:
            points: (n, 3) in pixels; their scale follows from the face's width and height.
            time_s: Time of the frame.
        """
        if self._raw is None:
            self._smooth, self._speed = points, np.zeros_like(points)
        else:
            apart_s = max(time_s - self._time_s, _LEAST_S)
            face_px = float(np.ptp(points[:, :2], axis=0).mean())
            speed = (points - self._raw) / (face_px * apart_s)
            self._speed = self._speed + _share(_SPEED_HZ, apart_s) * (speed - self._speed)
            share = _share(_REST_HZ + _HZ_PER_SPEED * np.abs(self._speed), apart_s)
            self._smooth = self._smooth + share * (points - self._smooth)
        self._raw, self._time_s = points, time_s
        return self._smooth


def _share(cutoff_hz: np.ndarray | float, apart_s: float) -> np.ndarray | float:
    """How much a new value counts in a low-pass filter, beside all before it."""
    return 1 - 1 / (1 + 2 * math.pi * apart_s * cutoff_hz)
