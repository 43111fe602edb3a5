"""The networks that follow a face, beside MediaPipe's own graph on the same moving photo."""

import cv2
import numpy as np
import pytest
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions, vision

from realtime_mer.face import landmarker
from realtime_mer.face.landmark_model import LandmarkModel
from realtime_mer.face.landmark_network import FaceSquare, LandmarkNetwork
from realtime_mer.face.tracker import FaceTracker
from realtime_mer.source.frame import Frame


@pytest.fixture(scope="module")
def model(landmark_model) -> LandmarkModel:
    return LandmarkModel(landmark_model, landmark_model.read_bytes())


@pytest.fixture(scope="module")
def network(model) -> LandmarkNetwork:
    return LandmarkNetwork(model)


def swaying(picture: np.ndarray, count: int, turn: float) -> list[np.ndarray]:
    """The picture moving under a camera that also turns, in degrees, with sensor noise."""
    height, width = picture.shape[:2]
    noise = np.random.default_rng(0).integers(0, 8, picture.shape, np.uint8)
    pictures = []
    for i in range(count):
        angle, scale = turn * np.sin(i / 9), 1 + 0.05 * np.sin(i / 13)
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
        matrix[:, 2] += 3 * np.sin(i / 4), 2 * np.cos(i / 5)
        moved = cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
        pictures.append(cv2.add(moved, np.roll(noise, 31 * i)))
    return pictures


def by_mediapipe(model: LandmarkModel, pictures: list[np.ndarray]) -> list[tuple]:
    """Landmarks in pixels and blendshapes, as MediaPipe's VIDEO mode gives them at 40 fps."""
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=model.content),
        running_mode=vision.RunningMode.VIDEO,
        output_face_blendshapes=True,
    )
    height, width = pictures[0].shape[:2]
    seen = []
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for i, picture in enumerate(pictures):
            rgb = np.ascontiguousarray(picture[..., ::-1])
            image = Image(image_format=ImageFormat.SRGB, data=rgb)
            found = landmarker.detect_for_video(image, 1000 + 25 * i)
            (points,), (shapes,) = found.face_landmarks, found.face_blendshapes
            landmarks = [(p.x * width, p.y * height, p.z * width) for p in points]
            seen.append((np.array(landmarks), np.array([shape.score for shape in shapes])))
    return seen


@pytest.mark.parametrize("turn", [0.0, 12.0], ids=["upright", "turning"])
@pytest.mark.parametrize(
    ("crop", "mean_px", "worst_px"),
    [
        (np.s_[:, :], 0.015, 0.2),
        # What the network sees reaches beyond the picture on both sides.
        (np.s_[60:460, 280:470], 0.03, 0.8),
    ],
    ids=["whole", "at edges"],
)
def test_a_face_has_the_landmarks_and_scores_that_mediapipe_gives(
    model, astronaut, crop, mean_px, worst_px, turn, monkeypatch
):
    # The network looks at every frame, as MediaPipe's does.
    monkeypatch.setattr(landmarker, "CARRIED_S", 0.0)
    pictures = swaying(np.ascontiguousarray(astronaut[crop]), 40, turn)
    with FaceTracker(model) as tracker:
        seen = [tracker.track(Frame(i, 1 + i / 40, p, 0.0)) for i, p in enumerate(pictures)]
    apart = []
    for (face,), (landmarks, blendshapes) in zip(seen, by_mediapipe(model, pictures), strict=True):
        apart.append(np.abs(face.landmarks - landmarks))
        np.testing.assert_allclose(face.blendshapes, blendshapes, atol=0.02)
    assert np.mean(apart) < mean_px  # of a face of 200 px
    assert np.max(apart) < worst_px


@pytest.mark.parametrize("turn", [-3.0, -0.4, 0.0, 1.2])
def test_a_square_lies_around_the_face_and_turns_with_it(astronaut_tracked, turn):
    landmarks = astronaut_tracked.landmarks[:, :2].astype(float)
    middle = landmarks.mean(0)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    before = FaceSquare.around(landmarks)
    square = FaceSquare.around((landmarks - middle) @ rotation.T + middle)
    np.testing.assert_allclose((square.turn - before.turn - turn) % (2 * np.pi), 0, atol=1e-6)
    to_picture = square.to_picture()
    np.testing.assert_allclose(to_picture @ (128, 128, 1), (square.x, square.y), atol=1e-6)
    eyes = (landmarks[[33, 263]] - middle) @ rotation.T + middle
    seen = np.linalg.solve(to_picture[:, :2], (eyes - to_picture[:, 2]).T).T
    assert seen[0, 1] == pytest.approx(seen[1, 1], abs=1e-6)
    assert seen[0, 0] < seen[1, 0]


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((240, 320, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8),
        np.zeros((1, 1, 3), np.uint8),
    ],
    ids=["black", "noise", "one pixel"],
)
@pytest.mark.parametrize(
    "square", [FaceSquare(160, 120, 200, 0), FaceSquare(-900, 1e6, 50, 1), FaceSquare(5, 5, 1e7, 2)]
)
def test_where_no_face_is_none_is_seen(network, picture, square):
    assert network.landmarks(square.cut(picture)) is None


@pytest.mark.parametrize(
    ("square", "can"),
    [
        (FaceSquare(1, 2, 3, 4), True),
        (FaceSquare(1, 2, 0.5, 0), False),
        (FaceSquare(np.nan, 2, 30, 0), False),
        (FaceSquare(1, 2, np.inf, 0), False),
    ],
)
def test_a_square_without_pixels_cannot_be_seen(square, can):
    assert square.can_be_seen is can
