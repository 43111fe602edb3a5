"""Background signals come from the runtime's own tracker, off real pictures."""

from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime_mer.demo.action_units import expression
from realtime_mer.face.registration import crop
from realtime_mer.face.tracker import FaceTracker
from realtime_mer.source.frame import Frame
from realtime_mer.spotting.motion import FACE_CELLS
from tests.tiny_release import write_release
from tools.spotting import synthesize
from tools.spotting.synthesize import (
    Hidden,
    depth_map,
    follow,
    main,
    plan,
    seen_by_a_camera,
    stretch,
    sway,
    warped,
    with_motions,
)
from tools.spotting.windows import MACRO_S, MICRO_S


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


def test_following_gives_signals_and_leaves_gaps_open(astronaut, landmark_model):
    black = np.zeros_like(astronaut)
    pictures = [astronaut] * 17 + [black] * 3 + [astronaut] * 12
    frames = (Frame(i, i / 30, np.array(p), 0.0) for i, p in enumerate(pictures))
    found = follow(frames, landmark_model)
    shapes = {
        "time_s": (32,), "regions": (32, 18, 2), "cells": (32, len(FACE_CELLS), 2),
        "trust": (32, 18), "head": (32, 3), "place": (32, 2), "blink": (32,), "jaw_open": (32,),
        "face": (224, 224), "clean": (224, 224), "landmarks": (478, 3),
    }  # fmt: skip
    assert {k: v.shape for k, v in found.items()} == shapes
    seen = np.isfinite(found["regions"]).all((1, 2))
    np.testing.assert_array_equal(seen, [True] * 17 + [False] * 3 + [True] * 12)
    assert np.isfinite(found["time_s"]).all()
    np.testing.assert_allclose(np.diff(found["time_s"]), 1 / 30, atol=1e-6)
    # A still picture holds still.
    assert np.abs(found["regions"][:17] - found["regions"][0]).max() < 0.3
    # The mean of several frames of it is the face.
    assert cv2.absdiff(found["face"], found["clean"]).mean() < 3


def test_following_nobody_gives_nothing(landmark_model):
    frames = (Frame(i, i / 30, np.zeros((60, 80, 3), np.uint8), 0.0) for i in range(20))
    assert follow(frames, landmark_model) == {}


def hidden(rise: np.ndarray, macro: bool = False) -> Hidden:
    return Hidden(0, 0.2, 0.4, 0.6, macro, rise, -rise, 1.0)


def test_a_hidden_motion_moves_the_face_at_its_time(astronaut, landmark_model):
    field = 6.0 * expression(("AU1", "AU2"))
    frames = [Frame(i, i / 15, np.array(astronaut), 0.0) for i in range(12)]
    moved = list(with_motions(frames, [hidden(field)], landmark_model))
    changed = [np.abs(m.image.astype(int) - astronaut).mean() for m in moved]
    assert changed[0] == changed[3] == 0  # before and at the onset
    assert np.argmax(changed) == 6  # the apex
    assert changed[6] > 0.05
    assert changed[9] < 0.2 * changed[6]  # over
    # Brows rise in the picture, as the landmarks see it.
    with FaceTracker(landmark_model) as tracker:
        before, apex = (tracker.track(moved[i])[0].landmarks for i in (3, 6))
    assert (apex[[66, 296], 1] - before[[66, 296], 1]).mean() < -0.3


def test_warping_moves_the_face_by_the_field(astronaut, astronaut_face):
    field = np.zeros((224, 224, 2), np.float32)
    field[..., 0] = 8.0
    out = warped(astronaut, astronaut_face.matrix, field)
    np.testing.assert_array_equal(out[-40:], astronaut[-40:])
    there = crop(out, astronaut_face.matrix).astype(int)
    inside = np.s_[60:160, 60:160]
    shifted = np.roll(astronaut_face.grey.astype(int), 8, axis=1)
    stayed = np.abs(there - astronaut_face.grey)[inside].mean()
    assert np.abs(there - shifted)[inside].mean() < 0.3 * stayed


def test_motions_are_planned_apart_and_within_the_clip():
    field = np.ones((224, 224, 2), np.float32)
    rng = np.random.default_rng(0)
    lengths = {True: [], False: []}
    for _ in range(20):
        found = plan([(field, -field)], 14.0, rng)
        for h in found:
            assert h.onset_s < h.apex_s < h.offset_s < 14
            lengths[h.macro].append(h.offset_s - h.onset_s)
            assert not h.rise[0].any()  # it fades at the edge
            assert np.abs(h.rise[100, 100]).max() > 0.5
        assert all(a.offset_s + 0.5 < b.onset_s for a, b in pairwise(found))
    assert MICRO_S[0] <= min(lengths[False]) < max(lengths[False]) <= MICRO_S[1]
    assert MACRO_S[0] <= min(lengths[True]) < max(lengths[True]) <= MACRO_S[1]


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


def test_the_command_writes_a_file_a_clip_and_goes_on_where_it_was_stopped(
    tmp_path, monkeypatch, capfd, astronaut
):
    media, out, data = tmp_path / "media", tmp_path / "out", write_release(tmp_path / "data")
    media.mkdir()
    cv2.imwrite(str(media / "someone.png"), astronaut)
    cv2.imwrite(str(media / "nobody.png"), np.zeros((90, 90, 3), np.uint8))
    (media / "broken.jpg").write_bytes(b"no picture")
    whole = synthesize.sway
    monkeypatch.setattr(synthesize, "sway", lambda *a: islice(whole(*a), 60))
    arguments = ["--media", str(media), "--data", str(data), "--out", str(out), "--takes", "2"]
    assert main(arguments) == 0
    said = capfd.readouterr().out
    assert "nobody.png, take 0: left out: no face" in said
    assert "broken.jpg, take 1: left out" in said
    assert sorted(p.name for p in out.iterdir()) == ["someone.0.npz", "someone.1.npz"]
    for take in (0, 1):
        with np.load(out / f"someone.{take}.npz") as signals:
            assert len(signals["time_s"]) == 60
            assert bool(signals["still"])
            assert signals["events"].shape[1] == 4
            assert take or not len(signals["events"])
    stamp = (out / "someone.0.npz").stat().st_mtime_ns
    assert main(arguments) == 0
    assert (out / "someone.0.npz").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_media_is_bad_usage(tmp_path, capsys, exists):
    media = tmp_path / "media"
    if exists:
        media.mkdir()
    data = write_release(tmp_path / "data")
    arguments = ["--media", str(media), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert str(media) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_codec_keeps_order_and_times_and_loses_detail(astronaut, landmark_model):
    frames = list(islice(sway(astronaut, landmark_model, np.random.default_rng(3), 30.0), 12))
    coded = list(synthesize.through_codec(iter(frames), 30.0, 32))
    assert [(f.index, f.time_s) for f in coded] == [(f.index, f.time_s) for f in frames]
    height, width = coded[5].image.shape[:2]
    lost = np.abs(coded[5].image.astype(int) - frames[5].image[:height, :width]).mean()
    assert 0.5 < lost < 20
