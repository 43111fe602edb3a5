"""The landmarks of one face, frame by frame: found once, then followed.

While a face is followed, the network looks where it was before: every few frames while it is calm,
at every frame while it stirs. Between, optical flow carries the landmarks with the head
(`carried_face.py`), and the blendshapes' scores stay.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from realtime_mer.face.carried_face import CarriedFace
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
"""At a calm face the network looks again after so long, and sooner if it does not move as a whole.

So it looks at every second frame of 20 to 30 a second, at every fourth of 60, and at every frame of
15. Chosen by judgement: a blink takes twice as long."""
# But not sooner than this. Chosen by judgement: from one look to the next at 60 a second, a face
# changes little.
_LEAST_CARRIED_S = 0.016
# A face of which a blendshape's score changes by this, within `CARRIED_S` or a little more, stirs:
# it speaks, blinks or makes an expression. For so long after that, the network looks at all frames.
# Chosen on 26 videos of people who talk (docs/spotting.md).
_STIRRED = 0.1
_STIRRED_S = 0.5


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
        # As the network saw it, and when.
        self._carried: CarriedFace | None = None
        self._looked_s = 0.0
        self._blendshapes = np.zeros(0, np.float32)
        # Scores to compare the next ones with, their time, and when the face last stirred.
        self._before, self._before_s = self._blendshapes, 0.0
        self._stirred_s = -math.inf
        self._smooth = OneEuroFilter()
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
        self._smooth = OneEuroFilter()
        self._last = landmarks
        self._before, self._before_s = face.blendshapes, time_s
        return self._smooth(landmarks, time_s), face.blendshapes

    def _followed(
        self, image: np.ndarray, time_s: float, network: LandmarkNetwork
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Landmarks and scores of the face that was in the picture before."""
        since_s = time_s - self._looked_s
        is_calm = time_s - self._stirred_s >= _STIRRED_S or since_s < _LEAST_CARRIED_S
        if self._carried is not None and is_calm and 0 <= since_s < CARRIED_S:
            carried = self._carried.to(image)
            if carried and (carried.moves_as_whole or since_s < _LEAST_CARRIED_S):
                self._last = carried.landmarks
                return self._smooth(carried.landmarks, time_s), self._blendshapes
        landmarks = self._looked_at(image, network)
        if landmarks is None:
            return None
        self._looked_s = time_s
        landmarks = self._smooth(landmarks, time_s)
        self._take(network.blendshapes(landmarks), time_s)
        return landmarks, self._blendshapes

    def _take(self, blendshapes: np.ndarray, time_s: float) -> None:
        """Takes the scores of a look, and whether the face stirs by them."""
        self._blendshapes = blendshapes
        if not 0 <= time_s - self._before_s < CARRIED_S:
            if np.abs(blendshapes - self._before).max() > _STIRRED:
                self._stirred_s = time_s
            self._before, self._before_s = blendshapes, time_s

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
        self._last = square.placed(points, image)
        return self._last


def _is_usable(landmarks: np.ndarray) -> bool:
    """Whether landmarks (478, 3) in pixels are those of a face that can be registered."""
    return bool(np.isfinite(landmarks).all() and np.ptp(landmarks[:, 0]) >= _MIN_WIDTH_PX)
