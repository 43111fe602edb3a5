"""Which kind of source a number, a path or an address names."""

import math
import os
from pathlib import Path

import pytest

from realtime_mer.errors import CameraError, InputError
from realtime_mer.source.camera import CameraReader
from realtime_mer.source.capture import Capture
from realtime_mer.source.image_folder import ImageFolderReader
from realtime_mer.source.kinds import reader_for
from realtime_mer.source.stream import StreamReader
from realtime_mer.source.video_file import VideoFileReader
from tests.realtime_mer.source.sources import picture, write_image, write_video


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (0, CameraReader),
        ("12", CameraReader),
        ("/dev/video99", CameraReader),
        ("/dev/null", CameraReader),  # a device, though no camera
        ("http://host/stream", StreamReader),
        ("HTTPS://host/stream", StreamReader),
        ("rtsp://user:password@host:554/", StreamReader),
        ("clip.avi", VideoFileReader),
        (Path("clip.avi"), VideoFileReader),
        (".", ImageFolderReader),
        (Path("0"), ImageFolderReader),  # a path object is a path
    ],
)
def test_kind_follows_from_number_path_or_address(tmp_path, monkeypatch, source, kind):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.avi")
    (tmp_path / "0").mkdir()
    assert type(reader_for(source)) is kind


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf])
def test_impossible_rates_are_refused(tmp_path, fps):
    with pytest.raises(InputError, match="no frame rate"):
        Capture(tmp_path, fps=fps)


@pytest.mark.parametrize("source", ["7", 7, "/dev/video7"])
def test_absent_camera_is_named_with_a_remedy(source):
    with pytest.raises(CameraError, match="name another source") as raised, Capture(source):
        pass
    assert "7" in str(raised.value)


@pytest.mark.parametrize(
    ("source", "what"),
    [("-1", "numbered from 0"), ("gopher://x/y", "not supported"), ("", "empty"), ("a\0b", "name")],
)
def test_sources_of_no_kind_are_refused(source, what):
    with pytest.raises(InputError, match=what):
        Capture(source)


def test_rate_is_for_recordings():
    with pytest.raises(InputError, match=r"frame rate \(fps\) is for recordings; camera 0 is live"):
        Capture("0", fps=30)


def test_file_named_like_a_number_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "plain.avi").rename(tmp_path / "0")
    assert not reader_for("./0").live
    assert reader_for("0").live


@pytest.mark.parametrize("name", ["006", "98"])
def test_folder_named_like_a_number_is_that_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    write_image(tmp_path / name / "1.png", picture(9))
    with Capture(name, fps=200) as capture:
        assert capture.read().time_s == 0
    assert type(reader_for(int(name))) is CameraReader


def test_camera_that_is_there_goes_before_a_folder_of_its_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("5", "005"):
        (tmp_path / name).mkdir()
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/dev/video5" or exists(path))
    assert type(reader_for("5")) is CameraReader
    assert type(reader_for("005")) is ImageFolderReader
