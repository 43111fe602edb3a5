"""Streams over a real socket, and on a stand-in for FFmpeg that stores what comes."""

import itertools
import time

import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.source.capture import Capture
from realtime_mer.source.stream import StreamReader
from tests.realtime_mer.source.sources import SIZE, write_video


def test_stream_is_live_and_timed_by_its_frames(server):
    with Capture(f"{server.url}/live?token=abc") as capture:
        assert capture.live
        assert (capture.size, capture.frame_count) == (SIZE, 0)
        assert capture.source == f"http://***@127.0.0.1:{server.server_port}/live?token=***"
        times = [frame.time_s for frame in itertools.islice(capture, 30)]
    # FFmpeg says 25 fps of such a stream; 50 are sent.
    assert capture.fps == 0
    assert np.median(np.diff(times)) == pytest.approx(1 / 50, rel=0.3)


def test_recording_behind_an_address_loses_no_frame(server):
    write_video(server.file, frames=20)
    with Capture(f"{server.url}/file.avi") as capture:
        assert not capture.live
        assert len(list(capture)) == 20


def test_refused_address_is_named_without_its_credentials(server):
    url = server.url
    server.stop()
    with pytest.raises(InputError) as raised, Capture(f"{url}/live?token=s3cr3t"):
        pass
    message = str(raised.value)
    assert "127.0.0.1" in message
    for secret in ("hunter2", "admin", "s3cr3t"):
        assert secret not in message


class StoredStream:
    """FFmpeg with a stream: what came while it was examined is there at once, the rest is paced."""

    stored = 20

    def open(self, target, backend, parameters) -> bool:
        self.parameters = dict(zip(parameters[::2], parameters[1::2], strict=True))
        self.number = -1
        return True

    def get(self, name) -> float:
        return 0.0

    def grab(self) -> bool:
        self.number += 1
        if self.number >= self.stored:
            time.sleep(0.03)
        return True

    def retrieve(self):
        return True, np.full((48, 64, 3), self.number, np.uint8)

    def release(self) -> None:
        pass


def test_pictures_stored_while_a_stream_was_examined_are_skipped(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", StoredStream)
    stream = StreamReader("rtsp://camera/live", "rtsp://camera/live", 5.0)
    stream.open()
    numbers = [int(stream.read().image[0, 0, 0]) for _ in range(3)]
    assert numbers == [20, 21, 22]


def test_decoder_of_a_stream_holds_no_pictures_back(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", StoredStream)
    stream = StreamReader("rtsp://camera/live", "rtsp://camera/live", 5.0)
    stream.open()
    assert stream._video.parameters[cv2.CAP_PROP_N_THREADS] == 1
