"""A clip of a data set, registered: its canonical faces, and the motion between any two of them.

Dense flow and head removal are the runtime's own, so that a network sees in training what it sees
later. The flow of the release (TV-L1) can be made as well, to compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.face.registration import CanonicalFace
from realtime_mer.recognition.flow_pair import flow_pair
from realtime_mer.spotting.motion import RigidMotion, texture_trust
from tools.recognition.datasets.rules import Applied

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Displacement (224, 224, 2) in pixels from one grey face (224, 224) to another."""


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredClip:
    """The faces of a clip, f of them, rising in time.

    Attributes:
        numbers: (f,) frame numbers.
        times: (f,) seconds from the first.
        faces: (f, 224, 224) uint8.
        landmarks: (f, 478, 3) float32, in pixels of the canonical face.
        matrices: (f, 2, 3) float64, picture to canonical face.
        blinks, jaws: (f,) float32, scores of the tracker, 0 to 1.
        key: (3,) indices of onset, apex and offset.
        apex_from: Where the apex comes from (see `Clip`).
        applied: What was put right on the way.
        coloured: (c,) indices of the faces that are kept in colour as well: the key frames, or all.
        colours: (c, 224, 224, 3) uint8, BGR: those.
    """

    numbers: np.ndarray
    times: np.ndarray
    faces: np.ndarray
    landmarks: np.ndarray
    matrices: np.ndarray
    blinks: np.ndarray
    jaws: np.ndarray
    key: np.ndarray
    apex_from: str
    applied: tuple[Applied, ...]
    coloured: np.ndarray
    colours: np.ndarray

    def face(self, index: int) -> CanonicalFace:
        """One of its faces."""
        return CanonicalFace(self.faces[index], self.landmarks[index], self.matrices[index])

    def colour(self, index: int) -> np.ndarray:
        """One of its faces in colour, (224, 224, 3) uint8, BGR.

        Raises:
            InputError: It was not kept.
        """
        places = np.flatnonzero(self.coloured == index)
        if not len(places):
            raise InputError(
                "the set keeps no more than the key frames in colour: prepare it again with "
                "--colour"
            )
        return self.colours[places[0]]

    def motion(self, key: Sequence[int] | np.ndarray, flow: Flow) -> tuple[np.ndarray, np.ndarray]:
        """Displacement from onset to apex and from apex to offset, without the head's motion.

        Args:
            key: Indices of the three.
            flow: What measures it.

        Returns:
            Two fields (224, 224, 2) float32, pixels of the canonical face.
        """
        onset, apex, offset = (self.face(index) for index in key)
        # As the runtime does (`realtime_mer/recognition/face_pair.py`).
        rigid = RigidMotion(apex.landmarks, texture_trust(apex.grey))
        rise = rigid.remove_dense(flow(onset.grey, apex.grey))
        fall = rigid.remove_dense(flow(apex.grey, offset.grey))
        return rise, fall

    def pair(self, key: Sequence[int] | np.ndarray, flow: Flow) -> np.ndarray:
        """The flow pair (2, 28, 28, 3) uint8 of three of its frames."""
        return flow_pair(*self.motion(key, flow))


def tv_l1() -> Flow | None:
    """TV-L1 flow, with which the flow release was made; None where OpenCV has none.

    Zach, Pock, Bischof, "A duality based approach for realtime TV-L1 optical flow", DAGM 2007.
    """
    module = getattr(cv2, "optflow", None)
    create = getattr(module, "DualTVL1OpticalFlow_create", None) or getattr(
        module, "createOptFlow_DualTVL1", None
    )
    if create is None:
        return None
    method = create()

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return method.calc(first, second, None)

    return flow
