"""Annotated videos, read back."""

import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.output.overlay import Overlay
from realtime_mer.output.video_output import VideoOutput
from realtime_mer.results import Analysis, Session, Summary
from realtime_mer.source.frame import Frame

SUMMARY = Summary("stopped by user", 1, 1, 0, 0, 1.0, 1.0, 0)
SIZE = (640, 480)


def session(fps=25.0, live=False):
    return Session("clip.avi", live, SIZE, fps, 0, "m", "CPU", ("negative", "positive"))


def write(path, times, fps=25.0, live=False, end=True):
    """A video of frames at these times, whose grey levels are 10, 20, 30, ..."""
    output = VideoOutput(path, Overlay([]))
    output.begin(session(fps, live))
    for k, t in enumerate(times):
        image = np.full((SIZE[1], SIZE[0], 3), 10 * (k + 1), np.uint8)
        output.update(Analysis(Frame(k, t, image, 0.0)))
    if end:
        output.end(SUMMARY)
    return output


def read(path):
    video = cv2.VideoCapture(str(path))
    levels = []
    while True:
        ok, image = video.read()
        if not ok:
            return video.get(cv2.CAP_PROP_FPS), levels
        levels.append(round(image[:, : SIZE[0]].mean() / 10))


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "A.MP4", "with space %03d ü.mp4"])
def test_video_has_the_sources_frames_and_rate(tmp_path, name):
    write(tmp_path / name, [k / 25 for k in range(10)])
    fps, levels = read_any(tmp_path, name)
    assert fps == pytest.approx(25)
    assert levels == list(range(1, 11))
    assert len(list(tmp_path.iterdir())) == 1


def read_any(folder, name):
    plain = folder / ("plain" + name[-4:])
    return read((folder / name).rename(plain))


def test_missing_frames_are_filled_by_repeats_and_surplus_ones_left_out(tmp_path):
    # At 25 fps a slot is 40 ms: a hole of 3 slots, then three frames within one slot.
    write(tmp_path / "a.mp4", [0, 0.04, 0.16, 0.17, 0.175, 0.20])
    assert read(tmp_path / "a.mp4")[1] == [1, 2, 2, 2, 3, 6]


def test_live_sources_get_30_fps_and_keep_their_duration(tmp_path):
    write(tmp_path / "a.mp4", [k / 12 for k in range(13)], fps=1000, live=True)
    fps, levels = read(tmp_path / "a.mp4")
    assert fps == 30
    assert len(levels) / fps == pytest.approx(1.0, abs=0.05)


def test_early_end_leaves_a_complete_video(tmp_path):
    write(tmp_path / "a.mp4", [0])
    assert read(tmp_path / "a.mp4")[1] == [1]


def test_older_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    output = write(path, [0, 0.04], end=False)
    assert path.read_bytes() == b"precious"
    output.end(SUMMARY)
    assert read(path)[1] == [1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_session_without_frames_writes_nothing(tmp_path):
    output = VideoOutput(tmp_path / "a.mp4", Overlay())
    output.begin(session())
    output.end(SUMMARY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "what"),
    [("a.txt", "ending"), ("a", "ending"), ("no/a.mp4", "does not exist"), ("dir.mp4", "folder")],
)
def test_unusable_paths_are_refused_by_the_constructor(tmp_path, name, what):
    (tmp_path / "dir.mp4").mkdir()
    with pytest.raises(InputError, match=what):
        VideoOutput(tmp_path / name, Overlay())


def test_missing_encoder_is_refused_by_the_constructor(tmp_path, monkeypatch):
    monkeypatch.setattr("realtime_mer.output.video_output.CODECS", {".mp4": "XXXX"})
    with pytest.raises(InputError, match="no XXXX encoder"):
        VideoOutput(tmp_path / "a.mp4", Overlay())
    assert list(tmp_path.iterdir()) == []
