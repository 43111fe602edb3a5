"""What cameras show: of a photo, of a piece of a video, and what a sensor and a codec add."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime_mer.face.tracker import FaceTracker
from realtime_mer.source.frame import Frame
from tools.spotting.camera import depth_map, seen_by_a_camera, stretch, sway, through_codec


@pytest.fixture(scope="module")
def swayed(astronaut, landmark_model) -> list[Frame]:
    """The first frames under the camera of one seed."""
    return list(islice(sway(astronaut, landmark_model, np.random.default_rng(3), 30.0), 24))


def test_a_photo_under_a_swaying_camera_is_a_video_of_a_face(swayed, landmark_model):
    times = np.array([f.time_s for f in swayed])
    assert times[0] == 0
    assert np.ptp(np.diff(times)) < 1e-9
    assert round(1 / times[1]) in (15, 24, 25, 30, 60)
    assert [f.index for f in swayed] == list(range(24))
    assert len({f.image.shape for f in swayed}) == 1
    with FaceTracker(landmark_model) as tracker:
        faces = [tracker.track(f) for f in swayed[:10]]
    assert all(len(f) == 1 for f in faces)
    width = np.ptp(faces[0][0].landmarks[:, 0])
    assert 60 < width < 320


def test_a_camera_adds_noise_and_nothing_else(swayed):
    seen = list(seen_by_a_camera(swayed, 30.0, np.random.default_rng(1)))
    assert [(f.index, f.time_s) for f in seen] == [(f.index, f.time_s) for f in swayed]
    for before, after in zip(swayed[::6], seen[::6], strict=True):
        height, width = after.image.shape[:2]
        clean = before.image[:height, :width].astype(float)
        gain = after.image.mean() / clean.mean()
        assert 0.6 < gain < 1.6
        assert 0.3 < np.abs(gain * clean - after.image).mean() < 15
    again = seen_by_a_camera(swayed, 30.0, np.random.default_rng(1))
    np.testing.assert_array_equal(next(iter(again)).image, seen[0].image)


def test_the_same_seed_gives_the_same_frames(astronaut, landmark_model, swayed):
    again = next(iter(sway(astronaut, landmark_model, np.random.default_rng(3), 30.0)))
    other = next(iter(sway(astronaut, landmark_model, np.random.default_rng(4), 30.0)))
    np.testing.assert_array_equal(again.image, swayed[0].image)
    assert other.image.shape != again.image.shape or (other.image != again.image).any()


def test_a_photo_without_a_face_gives_no_frames(landmark_model):
    empty = np.full((200, 200, 3), 90, np.uint8)
    assert list(sway(empty, landmark_model, np.random.default_rng(0), 30.0)) == []


def test_depth_is_nearest_at_the_nose(astronaut, astronaut_tracked):
    mesh = astronaut_tracked.landmarks
    depth = depth_map(mesh, astronaut.shape[1::-1])
    assert depth.shape == astronaut.shape[:2]
    tip = depth[round(mesh[1, 1]), round(mesh[1, 0])]
    ears = [depth[round(y), round(x)] for x, y in mesh[[234, 454], :2]]
    assert tip < min(ears) - 0.2 * np.ptp(mesh[:, 0])
    assert np.ptp([depth[0, 0], depth[-1, -1], depth[0, -1]]) < 0.05 * np.ptp(mesh[:, 0])


def write_video(path: Path, image: np.ndarray, count: int, fps: float) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, image.shape[1::-1])
    for i in range(count):
        writer.write(np.roll(image, i // 3, axis=1))
    writer.release()


def test_a_short_video_is_played_there_and_back(tmp_path, astronaut, landmark_model):
    write_video(tmp_path / "short.avi", astronaut, 20, 25.0)
    frames, fps = stretch(tmp_path / "short.avi", landmark_model, np.random.default_rng(2))
    assert fps == pytest.approx(25, rel=0.01)
    assert len(frames) == 250
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(250) / fps)
    for there, back in ((18, 20), (0, 38), (5, 43)):
        np.testing.assert_array_equal(frames[there].image, frames[back].image)
    with FaceTracker(landmark_model) as tracker:
        (face,) = tracker.track(frames[0])
    assert 60 < np.ptp(face.landmarks[:, 0]) < 320


def test_a_video_of_nobody_gives_no_frames(tmp_path, landmark_model):
    write_video(tmp_path / "empty.avi", np.zeros((90, 120, 3), np.uint8), 12, 25.0)
    assert stretch(tmp_path / "empty.avi", landmark_model, np.random.default_rng(0))[0] == []


def test_a_codec_keeps_order_and_times_and_loses_detail(astronaut, landmark_model):
    frames = list(islice(sway(astronaut, landmark_model, np.random.default_rng(3), 30.0), 12))
    coded = list(through_codec(iter(frames), 30.0, 32))
    assert [(f.index, f.time_s) for f in coded] == [(f.index, f.time_s) for f in frames]
    height, width = coded[5].image.shape[:2]
    lost = np.abs(coded[5].image.astype(int) - frames[5].image[:height, :width]).mean()
    assert 0.5 < lost < 20
