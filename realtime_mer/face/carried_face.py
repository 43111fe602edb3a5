"""Carries landmarks from the frame in which the network saw them to the frames after it.

A head moves as a whole between two looks of the network: optical flow of points that expressions
hardly move tells how. That costs a tenth of a look.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from realtime_mer.face.landmark_network import FaceSquare
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
        self._grey = cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY)
        self._from = points[_POINTS, :2].astype(np.float32)

    def to(self, image: np.ndarray) -> Carried | None:
        """The landmarks in a later image, or None if the face is not there any more.

        Args:
            image: (height, width, 3) uint8, BGR.
        """
        grey = cv2.cvtColor(self._square.cut(image), cv2.COLOR_RGB2GRAY)
        to, found, _ = cv2.calcOpticalFlowPyrLK(
            self._grey, grey, self._from, np.empty(0, np.float32), winSize=(21, 21), maxLevel=2
        )
        followed = found.ravel() > 0
        if followed.mean() < _LEAST_FOLLOWED:
            return None
        start, end = self._from[followed], to[followed]
        motion, _ = cv2.estimateAffinePartial2D(start, end, method=cv2.LMEDS)
        if motion is None:  # which OpenCV's stub does not tell
            return None  # type: ignore[unreachable]
        apart = float(np.median(np.linalg.norm(transform(start, motion) - end, axis=1)))
        moved = float(np.median(np.linalg.norm(end - start, axis=1)))
        points = self._points.copy()
        points[:, :2] = transform(points[:, :2], motion)
        moves_as_whole = apart <= _MOST_APART_PX and moved <= _MOST_MOVED_PX
        return Carried(self._square.placed(points, image), moves_as_whole)
