"""Background signals come from the runtime's own tracker, off real pictures."""

from itertools import islice

import cv2
import numpy as np
import pytest

from realtime_mer.frame import Frame
from realtime_mer.tracker import FaceTracker
from tools import synthesize
from tools.synthesize import depth_map, follow, main, sway


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
    assert 60 < width < 280


def test_frames_differ_by_noise_and_motion(swayed):
    for before, after in zip(swayed[::4], swayed[1::4], strict=False):
        difference = np.abs(before.image.astype(int) - after.image).mean()
        assert 0.3 < difference < 25


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


def test_following_gives_signals_and_leaves_gaps_open(astronaut, landmark_model):
    black = np.zeros_like(astronaut)
    pictures = [astronaut] * 17 + [black] * 3 + [astronaut] * 12
    frames = (Frame(i, i / 30, np.array(p), 0.0) for i, p in enumerate(pictures))
    found = follow(frames, landmark_model)
    shapes = {
        "time_s": (32,), "regions": (32, 18, 2), "trust": (32, 18), "head": (32, 3),
        "place": (32, 2), "blink": (32,), "jaw_open": (32,), "landmarks": (478, 3),
        "texture": (784,),
    }  # fmt: skip
    assert {k: v.shape for k, v in found.items()} == shapes
    seen = np.isfinite(found["regions"]).all((1, 2))
    np.testing.assert_array_equal(seen, [True] * 17 + [False] * 3 + [True] * 12)
    assert np.isfinite(found["time_s"]).all()
    np.testing.assert_allclose(np.diff(found["time_s"]), 1 / 30, atol=1e-6)
    # A still picture holds still.
    assert np.abs(found["regions"][:17] - found["regions"][0]).max() < 0.3


def test_following_nobody_gives_nothing(landmark_model):
    frames = (Frame(i, i / 30, np.zeros((60, 80, 3), np.uint8), 0.0) for i in range(20))
    assert follow(frames, landmark_model) == {}


def test_the_command_writes_a_file_a_clip_and_goes_on_where_it_was_stopped(
    tmp_path, monkeypatch, capsys, astronaut
):
    media, out = tmp_path / "media", tmp_path / "out"
    media.mkdir()
    cv2.imwrite(str(media / "someone.png"), astronaut)
    cv2.imwrite(str(media / "nobody.png"), np.zeros((90, 90, 3), np.uint8))
    (media / "broken.jpg").write_bytes(b"no picture")
    whole = synthesize.sway
    monkeypatch.setattr(synthesize, "sway", lambda *a: islice(whole(*a), 20))
    arguments = ["--media", str(media), "--out", str(out), "--stills", "1"]
    assert main(arguments) == 0
    said = capsys.readouterr().err
    assert "nobody.png left out: no face" in said
    assert [p.name for p in out.iterdir()] == ["someone.0.npz"]
    with np.load(out / "someone.0.npz") as signals:
        assert len(signals["time_s"]) == 20
        assert bool(signals["still"])
    stamp = (out / "someone.0.npz").stat().st_mtime_ns
    assert main(arguments) == 0
    assert (out / "someone.0.npz").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_media_is_bad_usage(tmp_path, capsys, exists):
    media = tmp_path / "media"
    if exists:
        media.mkdir()
    assert main(["--media", str(media), "--out", str(tmp_path / "out")]) == 2
    assert str(media) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_codec_keeps_order_and_times_and_loses_detail(astronaut, landmark_model):
    frames = list(islice(sway(astronaut, landmark_model, np.random.default_rng(3), 30.0), 12))
    coded = list(synthesize.through_codec(iter(frames), 30.0, 32))
    assert [(f.index, f.time_s) for f in coded] == [(f.index, f.time_s) for f in frames]
    height, width = coded[5].image.shape[:2]
    lost = np.abs(coded[5].image.astype(int) - frames[5].image[:height, :width]).mean()
    assert 0.5 < lost < 20
