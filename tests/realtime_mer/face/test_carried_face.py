"""Landmarks that are carried from one look of the network to the next, on the real photo."""

import cv2
import numpy as np
import pytest

from realtime_mer.face import carried_face, landmarker
from realtime_mer.face.carried_face import Carried, CarriedFace
from realtime_mer.face.landmark_model import LandmarkModel
from realtime_mer.face.landmark_network import FaceSquare, LandmarkNetwork
from realtime_mer.face.landmarker import CARRIED_S
from realtime_mer.face.tracker import FaceTracker
from realtime_mer.source.frame import Frame


def moved(image: np.ndarray, x: float, y: float, degrees: float = 0.0, scale: float = 1.0):
    """The image under another camera, and the matrix (2, 3) that moves its points."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    matrix[:, 2] += x, y
    reflect = cv2.BORDER_REFLECT
    return cv2.warpAffine(image, matrix, (width, height), borderMode=reflect), matrix


@pytest.fixture(scope="module")
def network(landmark_model) -> LandmarkNetwork:
    return LandmarkNetwork(LandmarkModel(landmark_model, landmark_model.read_bytes()))


@pytest.fixture(scope="module")
def seen(astronaut, astronaut_tracked, network) -> tuple[CarriedFace, np.ndarray]:
    """The face as the network saw it, and its landmarks in the photo."""
    square = FaceSquare.around(astronaut_tracked.landmarks)
    picture = square.cut(astronaut)
    points = network.landmarks(picture)
    return CarriedFace(square, picture, points), square.placed(points, astronaut)


@pytest.mark.parametrize(
    "motion",
    [(0, 0), (0.3, -0.2), (4, 3), (-2, 1, 1.5), (1, 0, 0, 1.02), (0.5, 1, -1, 0.99)],
    ids=str,
)
def test_landmarks_are_carried_with_the_head(astronaut, seen, motion):
    face, landmarks = seen
    image, matrix = moved(astronaut, *motion)
    noise = np.random.default_rng(0).normal(0, 2, image.shape)
    image = np.clip(image + noise, 0, 255).astype(np.uint8)
    carried, moves_as_whole = face.to(image)
    assert moves_as_whole
    expected = landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(carried[:, :2] - expected).max() < 0.25  # of a face of 200 px
    assert np.abs(carried[:, :2] - expected).mean() < 0.1
    np.testing.assert_allclose(carried[:, 2], landmarks[:, 2])


def covered(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The image with a hand, that is a flat patch, before the middle of the face."""
    (left, top), (right, bottom) = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    hidden = image.copy()
    across, down = int((right - left) / 6), int((bottom - top) / 6)
    hidden[int(top) + down : int(bottom) - down, int(left) + across : int(right) - across] = 120
    return hidden


def test_the_network_looks_again_where_the_face_does_not_move_as_a_whole(astronaut, seen):
    face, landmarks = seen
    noise = np.random.default_rng(0).integers(0, 256, astronaut.shape, np.uint8)
    bent = cv2.remap(
        astronaut,
        *np.meshgrid(
            np.arange(astronaut.shape[1], dtype=np.float32),
            np.arange(astronaut.shape[0], dtype=np.float32),
        )[:1],
        np.add.outer(
            np.arange(astronaut.shape[0], dtype=np.float32),
            2 * np.sin(np.arange(astronaut.shape[1], dtype=np.float32) / 8),
        ).astype(np.float32),
        cv2.INTER_LINEAR,
    )
    for image in (
        moved(astronaut, 25, 0)[0],  # too far
        np.zeros_like(astronaut),
        noise,
        astronaut[:, ::-1].copy(),  # somebody else
        covered(astronaut, landmarks),
        bent,
    ):
        carried = face.to(image)
        assert carried is None or not carried.moves_as_whole


def test_a_smaller_image_is_looked_at_anew(astronaut, seen):
    carried = seen[0].to(astronaut[:40, :30].copy())
    assert carried is None or not carried.moves_as_whole


def test_at_a_face_that_does_not_move_as_a_whole_it_looks_at_most_sixty_times_a_second(
    landmark_model, astronaut, monkeypatch
):
    looks = []
    look = LandmarkNetwork.landmarks
    monkeypatch.setattr(LandmarkNetwork, "landmarks", lambda *a: looks.append(1) or look(*a))
    monkeypatch.setattr(carried_face, "_MOST_APART_PX", -1.0)
    for fps, most in ((30, 30), (200, 50)):
        looks.clear()
        with FaceTracker(landmark_model) as tracker:
            for i in range(fps // 2):
                image, _ = moved(astronaut, i % 2, 0)
                assert tracker.track(Frame(i, i / fps, image, 0.0))
        assert len(looks) == pytest.approx(most / 2, rel=0.2)


class Unsmoothed:
    """In place of the filter, so that a test sees each step."""

    def __call__(self, points: np.ndarray, time_s: float) -> np.ndarray:
        return points


@pytest.mark.parametrize(
    ("fps", "shown"), [(10, [4]), (15, [4]), (25, [2, 4]), (30, [2, 4]), (60, [1, 2, 3, 4])]
)
def test_what_a_look_corrects_is_shown_bit_by_bit_until_the_next(
    landmark_model, astronaut, monkeypatch, fps, shown
):
    look, opened, chin = LandmarkNetwork.landmarks, 0.0, 152

    def looked(*arguments):
        points = look(*arguments).copy()
        points[chin, 1] += opened
        return points

    monkeypatch.setattr(LandmarkNetwork, "landmarks", looked)
    monkeypatch.setattr(landmarker, "OneEuroFilter", Unsmoothed)
    places = []
    with FaceTracker(landmark_model) as tracker:
        for i in range(2 * fps):
            opened = 6.0 if i >= fps else 0.0
            (face,) = tracker.track(Frame(i, i / fps, astronaut, 0.0))
            places.append(face.landmarks[chin, 1])
    down = np.array(places) - np.median(places[:fps])
    start = np.flatnonzero(down > 0.5)[0]
    assert start in range(fps, fps + len(shown))
    steps = down[start : start + len(shown)]
    np.testing.assert_allclose(steps / steps[-1], np.array(shown) / 4, atol=0.03)


@pytest.mark.parametrize(("off_px", "shown_off_px"), [(3.0, 1.5), (40.0, 0.0)])
def test_where_flow_has_lost_the_face_a_look_is_shown_at_once(
    landmark_model, astronaut, monkeypatch, off_px, shown_off_px
):
    monkeypatch.setattr(landmarker, "OneEuroFilter", Unsmoothed)
    carry = CarriedFace.to
    off = 0.0

    def carried(face, image):
        landmarks, moves_as_whole = carry(face, image)
        return Carried(landmarks + (off, 0.0, 0.0), moves_as_whole and not off)

    monkeypatch.setattr(CarriedFace, "to", carried)
    places = []
    with FaceTracker(landmark_model) as tracker:
        for i in range(20):
            off = off_px if i == 19 else 0.0
            (face,) = tracker.track(Frame(i, i / 30, astronaut, 0.0))
            places.append(face.landmarks[:, 0])
    assert (places[-1] - places[-2]).mean() == pytest.approx(shown_off_px, abs=0.2)


@pytest.mark.parametrize("fps", [10, 25, 30, 60])
def test_the_network_looks_now_and_then_and_at_once_when_the_face_is_gone(
    landmark_model, astronaut, fps, monkeypatch
):
    looks = []
    look = LandmarkNetwork.landmarks
    monkeypatch.setattr(LandmarkNetwork, "landmarks", lambda *a: looks.append(1) or look(*a))
    with FaceTracker(landmark_model) as tracker:
        for i in range(2 * fps):
            image, _ = moved(astronaut, 2 * np.sin(3 * i / fps), np.cos(4 * i / fps))
            assert tracker.track(Frame(i, i / fps, image, 0.0))
        every = int(CARRIED_S * fps) + 1  # frames from look to look
        assert len(looks) == pytest.approx(2 * fps / every, abs=2)
        assert tracker.track(Frame(2 * fps, 2.0, np.zeros_like(astronaut), 0.0)) == ()


def test_a_still_face_stays_where_it_is(landmark_model, astronaut):
    """The registration noise on a still face with sensor noise: carrying adds none."""
    rng = np.random.default_rng(0)
    places = []
    with FaceTracker(landmark_model) as tracker:
        for i in range(60):
            image = np.clip(astronaut + rng.normal(0, 3, astronaut.shape), 0, 255).astype(np.uint8)
            (face,) = tracker.track(Frame(i, i / 30, image, 0.0))
            places.append(face.landmarks[:, :2])
    steps = np.abs(np.diff(places[10:], axis=0)).max(2)
    assert np.percentile(steps, 95) < 0.1
