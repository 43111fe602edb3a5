"""The landmarks of one face, frame by frame: found once, then followed.

While a face is followed, the network looks every few frames where it was before. Between, optical
flow carries the landmarks with the head (`carried_face.py`), and the blendshapes' scores stay. What
a look corrects is not shown at once but bit by bit until the next one. Else the landmarks of a face
that speaks would go in steps, which look like micro-expressions (docs/spotting.md).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from realtime_mer.face.carried_face import Carried, CarriedFace
from realtime_mer.face.finder import FaceFinder
from realtime_mer.face.landmark_network import FaceSquare, LandmarkNetwork
from realtime_mer.face.one_euro import OneEuroFilter
from realtime_mer.face.search import View

# Indices in MediaPipe's list of 52 blendshapes: eyeBlinkLeft, eyeBlinkRight; jawOpen.
_BLINK = [9, 10]
_JAW_OPEN = 25
# Chosen by judgement: a narrower face has too few pixels to be registered.
_MIN_WIDTH_PX = 8

CARRIED_S = 0.06
"""The network looks again after so long, and sooner at a face that does not move as a whole.

So it looks at every second frame of 20 to 30 a second, at every fourth of 60, and at every frame of
15. Chosen by judgement: a blink takes twice as long."""
# But not sooner than this. Chosen by judgement: from one look to the next at 60 a second, a face
# changes little.
_LEAST_CARRIED_S = 0.016
# If a look moves the landmarks by more than this on average, in widths of the face, flow has lost
# the face, and the landmarks are shown at once. On 16 videos of people who talk or act, 99 % of the
# corrections are below 0.01 to 0.02 (measured once).
_MOST_CORRECTED = 0.03


class SeenFace(NamedTuple):
    """A face in one picture.

    Attributes:
        landmarks: (478, 3) float32 in pixels of the picture, not writeable; the third coordinate is
            depth on the same scale, smaller is nearer.
        blink: Blendshape score of the more closed eye, 0 open to 1 closed.
        jaw_open: Blendshape score, 0 to 1.
        blendshapes: (52,) float32, all scores in MediaPipe's order, not writeable.
    """

    landmarks: np.ndarray
    blink: float
    jaw_open: float
    blendshapes: np.ndarray


class Landmarker:
    """Finds a face in a view of the pictures, then follows it wherever it goes.

    Args:
        finder: Finds a face while none is followed. It may serve several landmarkers.
    """

    def __init__(self, finder: FaceFinder) -> None:
        self.view: View | None = None
        """The part of the picture in which a face is looked for; None for the whole."""
        self._finder = finder
        # Landmarks, not smoothed, of the face that is followed, in the picture before.
        self._last: np.ndarray | None = None
        self._last_s = 0.0
        # As the network saw it, when, and what that corrected.
        self._carried: CarriedFace | None = None
        self._looked_s = 0.0
        self._corrected: np.ndarray | float = 0.0
        # The landmarks that are shown, and those that were looked at, for the scores.
        self._smooth, self._smooth_looks = OneEuroFilter(), OneEuroFilter()
        self._blendshapes = np.zeros(0, np.float32)
        # What `follow` saw, and in which picture.
        self._ahead: tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None] | None = None

    @property
    def is_following(self) -> bool:
        """Whether there was a face in the picture before."""
        return self._last is not None

    def look_at(self, view: View | None) -> None:
        """Looks for a face in another view from the next picture on."""
        if view != self.view:
            self.view = view
            self.let_go()

    def let_go(self) -> None:
        """Looks for a face anew from the next picture on."""
        self._last = self._carried = self._ahead = None

    def follow(self, image: np.ndarray, time_s: float, network: LandmarkNetwork) -> None:
        """Follows the face that was in the picture before to the next one, where it is then `seen`.

        Several landmarkers may do so at the same time.

        Args:
            image: (height, width, 3) uint8, BGR.
            time_s: Time of the picture.
            network: Looks where the face was. Nobody else uses it meanwhile.
        """
        if self.is_following:
            self._ahead = image, self._followed(image, time_s, network)

    def seen(self, image: np.ndarray, time_s: float) -> SeenFace | None:
        """The face that was followed to a picture, or else the clearest in the view of it.

        Args:
            image: (height, width, 3) uint8, BGR.
            time_s: Time of the picture.
        """
        ahead, self._ahead = self._ahead, None
        found = ahead[1] if ahead and ahead[0] is image else self._found(image, time_s)
        if found is None or not _is_usable(found[0]):
            self.let_go()
            return None
        landmarks, scores = found[0].astype(np.float32), found[1]
        landmarks.setflags(write=False)
        scores.setflags(write=False)
        return SeenFace(landmarks, float(scores[_BLINK].max()), float(scores[_JAW_OPEN]), scores)

    def _found(self, image: np.ndarray, time_s: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Landmarks and scores of the clearest face in the view of a picture."""
        face = self._finder.find(image if self.view is None else self.view.cut(image))
        if face is None:
            return None
        landmarks = face.landmarks
        if self.view is not None:
            landmarks = landmarks + (self.view.x, self.view.y, 0)
        self._smooth, self._smooth_looks = OneEuroFilter(), OneEuroFilter()
        self._last, self._last_s = landmarks, time_s
        self._smooth_looks(landmarks, time_s)
        return self._smooth(landmarks, time_s), face.blendshapes

    def _followed(
        self, image: np.ndarray, time_s: float, network: LandmarkNetwork
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Landmarks and scores of the face that was in the picture before."""
        since_s, frame_s = time_s - self._looked_s, time_s - self._last_s
        carried = None
        if self._carried is not None and 0 < frame_s < CARRIED_S:
            carried = self._carried.to(image)
        if carried and since_s < (CARRIED_S if carried.moves_as_whole else _LEAST_CARRIED_S):
            landmarks = carried.landmarks
        else:
            looked = self._looked_at(image, network)
            if looked is None:
                return None
            landmarks, since_s, self._looked_s = looked, 0.0, time_s
            self._corrected = _correction(landmarks, carried)
            self._blendshapes = network.blendshapes(self._smooth_looks(landmarks, time_s))
        self._last, self._last_s = landmarks, time_s
        left = 1 - _share_shown(since_s, frame_s) if carried else 0.0
        return self._smooth(landmarks - left * self._corrected, time_s), self._blendshapes

    def _looked_at(self, image: np.ndarray, network: LandmarkNetwork) -> np.ndarray | None:
        """Landmarks of the face that was in the picture before, by the network."""
        assert self._last is not None
        square = FaceSquare.around(self._last)
        if not square.can_be_seen:
            return None
        seen = square.cut(image)
        points = network.landmarks(seen)
        if points is None:
            return None
        self._carried = CarriedFace(square, seen, points)
        return square.placed(points, image)


def _correction(looked: np.ndarray, carried: Carried | None) -> np.ndarray | float:
    """What a look corrects of the landmarks that were carried; 0 if those had lost the face."""
    if carried is None:
        return 0.0
    correction = looked - carried.landmarks
    apart = float(np.linalg.norm(correction[:, :2], axis=1).mean())
    return correction if apart <= _MOST_CORRECTED * float(np.ptp(looked[:, 0])) else 0.0


def _share_shown(since_s: float, frame_s: float) -> float:
    """How much of what a look corrected is shown so long after it, at so long a frame: in equal
    parts until the last frame before the next look.
    """
    frames = math.ceil(CARRIED_S / frame_s)
    return min(1.0, (round(since_s / frame_s) + 1) / frames)


def _is_usable(landmarks: np.ndarray) -> bool:
    """Whether landmarks (478, 3) in pixels are those of a face that can be registered."""
    return bool(np.isfinite(landmarks).all() and np.ptp(landmarks[:, 0]) >= _MIN_WIDTH_PX)
