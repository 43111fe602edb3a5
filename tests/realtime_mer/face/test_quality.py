"""Quality falls with everything that makes a face hard to read, and with nothing else."""

import cv2
import numpy as np
import pytest

from realtime_mer.face.mesh import corners
from realtime_mer.face.quality import face_quality, turned_deg
from realtime_mer.face.registration import CanonicalFace, Registration
from realtime_mer.face.tracker import FaceTracker
from realtime_mer.source.frame import Frame
from realtime_mer.spotting.motion import EXPRESSIVE, RegionalMotion


def trust_in(face: CanonicalFace, blink: float = 0.0, jaw_open: float = 0.0) -> float:
    motion = RegionalMotion()(face, 0.0, blink, jaw_open)
    return float(motion.trust[:EXPRESSIVE].mean())


@pytest.fixture(scope="module")
def quality_of(landmark_model):
    def quality(picture: np.ndarray) -> float:
        with FaceTracker(landmark_model) as tracker:
            (tracked,) = tracker.track(Frame(0, 0.0, np.ascontiguousarray(picture), 0.0))
        face = Registration()(picture, tracked.landmarks, 0.0)
        trust = trust_in(face, tracked.blink, tracked.jaw_open)
        size = picture.shape[1], picture.shape[0]
        return face_quality(corners(tracked.landmarks), size, face, trust)

    return quality


def scaled(picture: np.ndarray, scale: float) -> np.ndarray:
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def test_sharp_bright_large_frontal_face_is_as_good_as_it_gets(quality_of, astronaut):
    assert quality_of(astronaut) == 1


@pytest.mark.parametrize(
    ("spoil", "lowest", "highest"),
    [
        (lambda p: scaled(p, 0.25), 0.45, 0.6),  # 52 px wide
        (lambda p: cv2.GaussianBlur(p, (0, 0), 8), 0.05, 0.35),
        (lambda p: (p * 0.15).astype(np.uint8), 0.0, 0.4),
        (lambda p: np.clip(p * 2.0, 0, 255).astype(np.uint8), 0.0, 0.4),
        (lambda p: p[:, 280:], 0.0, 0.7),  # the left edge cuts the face
    ],
    ids=["small", "blurred", "dark", "burnt out", "cut off"],
)
def test_what_spoils_a_face_lowers_it(quality_of, astronaut, spoil, lowest, highest):
    assert lowest <= quality_of(spoil(astronaut)) <= highest


@pytest.mark.parametrize("axis", [1, 0], ids=["sideways", "nodding"])
def test_turned_head_lowers_it(astronaut_face, astronaut_tracked, astronaut, axis):
    trust = trust_in(astronaut_face)
    size = astronaut.shape[1], astronaut.shape[0]

    def turned(degrees: float) -> CanonicalFace:
        angle = np.zeros(3)
        angle[axis] = np.radians(degrees)
        middle = astronaut_face.landmarks.mean(0)
        points = (astronaut_face.landmarks - middle) @ cv2.Rodrigues(angle)[0].T + middle
        return CanonicalFace(astronaut_face.grey, points, astronaut_face.matrix)

    def quality(degrees: float) -> float:
        return face_quality(corners(astronaut_tracked.landmarks), size, turned(degrees), trust)

    assert turned_deg(turned(0).landmarks) < 10
    assert quality(0) == 1
    assert 0.2 < quality(30) < 0.9
    assert 0.2 < quality(-30) < 0.9
    assert quality(60) == 0
