import json

import cv2
import numpy as np
import pytest

from tools import delays
from tools.delays import Camera, kinds_of, number_of, stamp


@pytest.mark.parametrize("number", [0, 1, 5461, 10922, 16383])
@pytest.mark.parametrize("scale", [1.0, 0.75, 1.5])
def test_a_frames_number_survives_jpeg_and_another_size(number, scale):
    image = np.random.default_rng(number).integers(0, 255, (480, 640, 3), np.uint8)
    stamp(image, number)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    assert number_of(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)) == number


def test_the_camera_notes_when_it_took_each_frame_and_the_face_goes_away():
    pictures = [np.full((480, 640, 3), level, np.uint8) for level in (10, 20, 30)]
    captured = [0.0] * 3
    camera = Camera(pictures, 3, captured, is_away=True)
    camera.open()
    grabs = [camera.read() for _ in range(3)]
    assert camera.read() is None
    assert camera.ended
    assert [grab.captured_at for grab in grabs] == captured == sorted(captured)
    assert captured[2] - captured[0] >= 2 / delays.FPS - 0.001
    assert [number_of(grab.image) for grab in grabs] == [0, 1, 2]
    assert [int(grab.image[0, 0, 0]) for grab in grabs] == [10, 20, 30]


def test_receivers_are_of_all_kinds_and_those_of_one_port_are_there_once():
    kinds = kinds_of(24, ["lsl", "osc", "mqtt"])
    assert len(kinds) == 24
    assert set(kinds) == {*("log", "osc", "picture", "frames", "page", "live", "lsl", "mqtt")}
    assert (kinds.count("log"), kinds.count("osc")) == (1, 1)
    assert kinds_of(3, []) == ["log", "picture", "frames"]


def test_one_command_times_every_way(clip, capsys, monkeypatch):
    monkeypatch.setattr(delays, "_SETTLE_S", 1.0)
    assert delays.main([str(clip), "--seconds", "2.5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    times = result["delays"]
    assert {delays.PAGE_VALUES, delays.PAGE_PICTURE, delays.FRAMES} <= set(times)
    for figures in times.values():
        # Later than the capture, and within the run.
        assert 0 < figures["median_ms"] <= figures["p95_ms"] <= figures["max_ms"] < 60_000
    assert result["session"]["frames"] == round(3.5 * delays.FPS)


def test_a_video_that_cannot_be_read_is_named(tmp_path, capsys):
    (tmp_path / "no.avi").write_bytes(b"no video")
    assert delays.main([str(tmp_path / "no.avi"), "--seconds", "1"]) == 2
    assert "no.avi" in capsys.readouterr().err
