"""Landmarks read from native memory are those that MediaPipe's own objects hold."""

import contextlib

import cv2
import numpy as np
import pytest
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions, vision

from realtime_mer.landmarks import detect
from realtime_mer.native import silenced_stderr


@pytest.fixture
def new_landmarker(landmark_model):
    with contextlib.ExitStack() as stack:

        def make() -> vision.FaceLandmarker:
            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(landmark_model)),
                running_mode=vision.RunningMode.VIDEO,
                num_faces=2,
                output_face_blendshapes=True,
            )
            with silenced_stderr():
                made = vision.FaceLandmarker.create_from_options(options)
            stack.callback(made.close)
            return made

        yield make


class Renamed:
    """A landmarker of which nothing but what MediaPipe promises is known."""

    def __init__(self, landmarker: vision.FaceLandmarker) -> None:
        self.detect_for_video = landmarker.detect_for_video


def picture_of(bgr: np.ndarray) -> Image:
    return Image(image_format=ImageFormat.SRGB, data=cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


def test_both_ways_say_the_same_to_the_last_bit(new_landmarker, astronaut):
    two = np.hstack([astronaut[:480, 140:500], astronaut[:480, 100:460]])
    pictures = [picture_of(np.roll(two, i, axis=1)) for i in range(6)]
    direct, own = new_landmarker(), Renamed(new_landmarker())
    faces = 0
    for index, picture in enumerate(pictures):
        found = detect(direct, picture, 33 * index)
        promised = detect(own, picture, 33 * index)
        assert len(found) == len(promised)
        for face, same in zip(found, promised, strict=True):
            assert face.points.shape == (478, 3)
            assert face.scores.shape == (52,)
            assert face.points.dtype == face.scores.dtype == np.float32
            np.testing.assert_array_equal(face.points, same.points)
            np.testing.assert_array_equal(face.scores, same.scores)
        faces += len(found)
    assert faces >= 8


def test_picture_without_a_face_gives_none(new_landmarker):
    assert detect(new_landmarker(), picture_of(np.full((120, 160, 3), 60, np.uint8)), 0) == []


def test_what_was_found_outlives_the_next_frame(new_landmarker, astronaut):
    landmarker = new_landmarker()
    (first,) = detect(landmarker, picture_of(astronaut), 0)
    before = first.points.copy()
    detect(landmarker, picture_of(np.roll(astronaut, 40, axis=1)), 33)
    np.testing.assert_array_equal(first.points, before)


def test_time_that_does_not_rise_is_an_error_and_does_no_harm(new_landmarker, astronaut):
    landmarker, picture = new_landmarker(), picture_of(astronaut)
    detect(landmarker, picture, 50)
    with pytest.raises(ValueError, match="timestamp"):
        detect(landmarker, picture, 50)
    assert len(detect(landmarker, picture, 83)) == 1
