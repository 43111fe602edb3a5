import asyncio
import contextlib
import json
import multiprocessing
import socket
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.realtime_mer.output.senders.servers import needs_broker
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


def test_the_camera_notes_when_it_took_each_frame_and_the_face_goes_away(monkeypatch):
    monkeypatch.setattr(delays, "_AWAY", range(1, 2))
    pictures = [np.full((480, 640, 3), level, np.uint8) for level in (10, 20, 30)]
    captured = [0.0] * 3
    camera = Camera(pictures, 3, captured, is_away=True)
    began_at = time.monotonic()
    camera.open()
    grabs = [camera.read() for _ in range(3)]
    assert camera.read() is None
    assert camera.ended
    assert [grab.captured_at for grab in grabs] == captured == sorted(captured)
    for k, taken_at in enumerate(captured):
        assert taken_at >= began_at + k / delays.FPS - 0.001
    assert [number_of(grab.image) for grab in grabs] == [0, 1, 2]
    assert [int(grabs[k].image[0, 0, 0]) for k in (0, 2)] == [10, 30]
    assert 100 < grabs[1].image[:400].mean() < 120


def test_receivers_are_of_all_kinds_and_those_of_one_port_are_there_once():
    kinds = kinds_of(24, ["lsl", "osc", "mqtt"])
    assert len(kinds) == 24
    shared = {*("picture", "frames", "page", "live", "lsl", "mqtt")}
    assert set(kinds) == shared | {"log", "terminal", "osc"}
    assert [kinds.count(once) for once in ("log", "terminal", "osc")] == [1, 1, 1]
    assert kinds_of(4, []) == ["log", "terminal", "picture", "frames"]


def test_one_command_times_every_way(clip, capsys, monkeypatch):
    # The face is away after 0.7 s, and its return after 1 s is timed.
    monkeypatch.setattr(delays, "_SETTLE_S", 0.4)
    assert delays.main([str(clip), "--seconds", "1.6", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    times = result["delays"]
    assert {delays.PAGE_VALUES, delays.PAGE_PICTURE, delays.FRAMES} <= set(times)
    for figures in times.values():
        # Later than the capture, and within the run.
        assert 0 < figures["median_ms"] <= figures["p95_ms"] <= figures["max_ms"] < 60_000
    assert result["session"]["frames"] == round(2.0 * delays.FPS)
    received = result["session"]["received"]
    # Each tells the same gaps.
    assert received.get(delays.TERMINAL) == received.get(delays.LOG)


class Deaf:
    """Receivers of a session that does not end."""

    def __init__(self):
        self.stop = threading.Event()

    async def run(self, kinds):
        await asyncio.Event().wait()


def test_whoever_stops_the_command_does_not_wait_for_the_session():
    here, there = multiprocessing.Pipe()

    async def stopped():
        receiving = asyncio.create_task(delays._receive(Deaf(), [], here))
        await asyncio.sleep(0.1)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving

    with contextlib.closing(here), contextlib.closing(there):
        # It ends with the thread that waits for the session's answer.
        asyncio.run(asyncio.wait_for(stopped(), 60))


@needs_broker
def test_no_broker_is_left_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt), delays.broker(tmp_path) as port:
        raise KeyboardInterrupt
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_without_a_broker_it_is_not_asked_for(clip, capsys, monkeypatch):
    monkeypatch.setattr(delays, "_broker_program", lambda: None)
    monkeypatch.setattr(delays, "_SETTLE_S", 0.2)
    assert delays.main([str(clip), "--seconds", "0.5", "--json"]) == 0
    assert not any("mqtt" in way.lower() for way in json.loads(capsys.readouterr().out)["delays"])


def test_a_gaps_line_tells_when_it_ended():
    receivers = delays.Receivers("", Path("log"), Path("terminal"), 0, 0, timed=True)
    for line in (b"note: x", b"0:01.000 - 1:02:03.500  face 0 not seen: face lost"):
        receivers._line(line)
    ((_, time_s, _),) = receivers.came[delays.TERMINAL]
    assert time_s == 3723.5


def test_a_video_that_cannot_be_read_is_named(tmp_path, capsys):
    (tmp_path / "no.avi").write_bytes(b"no video")
    assert delays.main([str(tmp_path / "no.avi"), "--seconds", "1"]) == 2
    assert "no.avi" in capsys.readouterr().err
