"""Signals of clips come from the runtime's own analyser, and go back into its spotter."""

import cv2
import numpy as np
import pytest

from realtime_mer.demo.action_units import expression
from realtime_mer.errors import InputError
from realtime_mer.results import Interval
from realtime_mer.source.frame import Frame
from realtime_mer.spotting.motion import FACE_CELLS
from tests.signals import write_signals
from tools.spotting.clip_signals import (
    clip_name,
    follow,
    hidden_intervals,
    motion_streams,
    signal_files,
)
from tools.spotting.hidden_motion import warped


def frames_of(pictures: list[np.ndarray]) -> list[Frame]:
    return [Frame(i, i / 30, np.array(picture), 0.0) for i, picture in enumerate(pictures)]


def test_following_gives_signals_and_leaves_gaps_open(astronaut, landmark_model):
    black = np.zeros_like(astronaut)
    pictures = [astronaut] * 17 + [black] * 8 + [astronaut] * 12
    found = follow(frames_of(pictures), landmark_model)
    shapes = {
        "time_s": (37,), "restarted": (37,), "regions": (37, 18, 2),
        "cells": (37, len(FACE_CELLS), 2), "trust": (37, 18), "head": (37, 3), "place": (37, 2),
        "blink": (37,), "jaw_open": (37,), "face": (224, 224), "clean": (224, 224),
        "landmarks": (478, 3),
    }  # fmt: skip
    assert {k: v.shape for k, v in found.items()} == shapes
    seen = np.isfinite(found["regions"]).all((1, 2))
    np.testing.assert_array_equal(seen, [True] * 17 + [False] * 8 + [True] * 12)
    np.testing.assert_array_equal(np.flatnonzero(found["restarted"]), [0, 25])
    assert np.isfinite(found["time_s"]).all()
    np.testing.assert_allclose(np.diff(found["time_s"]), 1 / 30, atol=1e-6)
    # A still picture holds still.
    assert np.abs(found["regions"][:17] - found["regions"][0]).max() < 0.3
    # The mean of several frames of it is the face.
    assert cv2.absdiff(found["face"], found["clean"]).mean() < 3


def test_a_short_loss_is_bridged_as_in_the_runtime(astronaut, astronaut_face, landmark_model):
    raised = warped(astronaut, astronaut_face.matrix, 4.0 * expression(("AU1", "AU2")))
    black = np.zeros_like(astronaut)
    pictures = [astronaut] * 12 + [raised] * 5 + [black] * 2 + [raised] * 7
    found = follow(frames_of(pictures), landmark_model)
    lost = np.isnan(found["blink"])
    np.testing.assert_array_equal(np.flatnonzero(lost), [17, 18])
    np.testing.assert_array_equal(np.flatnonzero(found["restarted"]), [0])
    # The brows are still up: of a face that starts afresh, the motion would be 0.
    before, after = found["cells"][16].astype(float), found["cells"][19].astype(float)
    assert np.abs(before).max() > 1
    assert np.abs(after - before).max() < 0.3 * np.abs(before).max()


def test_following_nobody_gives_nothing(landmark_model):
    frames = (Frame(i, i / 30, np.zeros((60, 80, 3), np.uint8), 0.0) for i in range(20))
    assert follow(frames, landmark_model) == {}


def test_a_stream_begins_where_the_face_starts_afresh(tmp_path, astronaut_face):
    file = write_signals(
        tmp_path / "one.0.npz",
        astronaut_face,
        noise_px=1.0,
        absent=(*range(20), 100, 101, *range(200, 250)),
        restarted=(20, 250, 300),
    )
    streams = motion_streams(file)
    assert [len(stream) for stream in streams] == [200 - 20 - 2, 50, 100]
    assert [stream[0].time_s for stream in streams] == pytest.approx([20 / 30, 250 / 30, 10.0])
    with np.load(file) as signals:
        motion = streams[1][3]
        np.testing.assert_array_equal(motion.regions, signals["regions"][253])
        np.testing.assert_array_equal(motion.cells, signals["cells"][253].astype(np.float32))
    assert motion.cells.dtype == np.float32


def test_hidden_motions_are_read_by_kind(tmp_path, astronaut_face):
    events = [(1.0, 1.2, 1.4, 0), (3.0, 4.0, 5.0, 1), (6.0, 6.1, 6.3, 0)]
    file = write_signals(tmp_path / "one.1.npz", astronaut_face, events=events)
    micros, macros = hidden_intervals(file)
    assert micros == [Interval(1.0, 1.2, 1.4), Interval(6.0, 6.1, 6.3)]
    assert macros == [Interval(3.0, 4.0, 5.0)]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("face_001.0.npz", "face_001"),
        ("Wan2.2_video.10.npz", "Wan2.2_video"),
        ("a.b.1.2.npz", "a.b.1"),
        ("plain.npz", "plain"),
    ],
)
def test_the_name_of_a_clip_is_the_one_of_its_video(tmp_path, file, name):
    assert clip_name(tmp_path / file) == name


def test_signals_are_found_but_not_half_written_ones(tmp_path, astronaut_face):
    whole = write_signals(tmp_path / "one.0.npz", astronaut_face)
    (tmp_path / "one.1.part.npz").write_bytes(b"half")
    assert signal_files(tmp_path) == [whole]


def test_a_folder_without_signals_is_named(tmp_path):
    with pytest.raises(InputError, match=f"no signals of clips in {tmp_path}"):
        signal_files(tmp_path)


def test_signals_of_another_version_are_named(tmp_path):
    old = tmp_path / "old.0.npz"
    np.savez(old, time_s=np.arange(9), regions=np.zeros((9, 18, 2)))
    with pytest.raises(InputError, match=f"{old} holds no blink, cells, clean.*make it anew"):
        signal_files(tmp_path)
