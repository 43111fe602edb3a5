"""Carries landmarks from the frame in which the network saw them to the frames after it.

A head moves as a whole between two looks of the network: optical flow of points that expressions
hardly move tells how. That costs a tenth of a look.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np

from realtime_mer.face.landmark_network import SIDE_PX, FaceSquare
from realtime_mer.face.registration import transform

# Landmarks where the skin has texture and expressions move it little: corners of the eyes, nose,
# middle of the forehead, cheeks beside the nose.
_POINTS = [33, 133, 362, 263, 130, 359, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 122, 351, 193, 417]
_POINTS += [8, 9, 151, 36, 266, 50, 280]
# In pixels of the square, where a face is about 170 wide. Chosen by judgement: on four videos the
# points are a median of 0.01 to 0.1 px apart from a motion of the whole from frame to frame, and
# 0.06 to 0.8 px in the liveliest twentieth of the frames.
_MOST_APART_PX = 0.25
_MOST_MOVED_PX = 6.0
_LEAST_FOLLOWED = 0.75
# Smaller windows are as exact on photos, and faster, but with 17 px the people who talk in
# docs/spotting.md brought 9 false reports in place of 4. One level reaches far enough.
_FLOW: dict[str, Any] = {"winSize": (21, 21), "maxLevel": 1}
# What is looked at around the points: more than they move, and half a window of the flow.
_AROUND_PX = 24


class Carried(NamedTuple):
    """Landmarks that were carried to an image.

    Attributes:
        landmarks: (478, 3) in pixels of the image, the third coordinate is depth on about the same
            scale.
        moves_as_whole: Whether the points moved with the head, and not far.
    """

    landmarks: np.ndarray
    moves_as_whole: bool


class CarriedFace:
    """A face as the network saw it.

    Args:
        square: Where the network looked.
        seen: (256, 256, 3) uint8, RGB: what it saw there.
        points: (478, 3) the landmarks, in pixels of the square.
    """

    def __init__(self, square: FaceSquare, seen: np.ndarray, points: np.ndarray) -> None:
        self._square, self._points = square, points
        start = points[_POINTS, :2]
        low = np.clip(start.min(0) - _AROUND_PX, 0, SIDE_PX - 1).astype(int)
        high = np.clip(start.max(0) + _AROUND_PX, low + 1, SIDE_PX).astype(int)
        self._box: tuple[int, int, int, int] = (*low.tolist(), *high.tolist())
        (left, top), (right, bottom) = low, high
        self._grey = cv2.cvtColor(seen[top:bottom, left:right], cv2.COLOR_RGB2GRAY)
        # In pixels of the box.
        self._from = (start - low).astype(np.float32)

    def to(self, image: np.ndarray) -> Carried | None:
        """The landmarks in a later image, or None if the face is not there any more.

        Args:
            image: (height, width, 3) uint8, BGR.
        """
        grey = self._square.cut_grey(image, self._box)
        to, found, _ = cv2.calcOpticalFlowPyrLK(
            self._grey, grey, self._from, np.empty(0, np.float32), **_FLOW
        )
        followed = found.ravel() > 0
        if followed.mean() < _LEAST_FOLLOWED:
            return None
        start, end = self._from[followed], to[followed]
        motion, _ = cv2.estimateAffinePartial2D(start, end, method=cv2.LMEDS)
        if motion is None:  # which OpenCV's stub does not tell
            return None  # type: ignore[unreachable]
        apart, moved = _median_length(transform(start, motion) - end), _median_length(end - start)
        points = self._points.copy()
        corner = self._box[:2]
        points[:, :2] = transform(points[:, :2] - corner, motion) + corner
        moves_as_whole = apart <= _MOST_APART_PX and moved <= _MOST_MOVED_PX
        return Carried(self._square.placed(points, image), moves_as_whole)


def _median_length(vectors: np.ndarray) -> float:
    """The median length of some vectors (n, 2); `np.median` takes several times as long."""
    return float(np.sort(np.hypot(*vectors.T))[len(vectors) // 2])
