"""The camera of the soak test: a real process, read by the program's own reader."""

import os
import signal
import time
import urllib.request

import cv2
import numpy as np
import pytest

from realtime_mer.source.capture import Capture
from tools.faults import Fault
from tools.live_camera import LiveCamera, there_and_back

FPS = 20.0


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """One second in which each picture is a little brighter than the one before."""
    path = tmp_path_factory.mktemp("camera") / "brighter.avi"
    codec = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, codec, FPS, (64, 48))
    for i in range(20):
        writer.write(np.full((48, 64, 3), 80 + 5 * i, np.uint8))
    writer.release()
    return str(path)


def test_video_is_played_forwards_then_backwards(video):
    jpegs = there_and_back(video, None)
    assert len(jpegs) == 20 + 18
    assert jpegs[20] == jpegs[18]
    assert jpegs[-1] == jpegs[1]


def test_pictures_of_another_size_are_sent(video):
    with LiveCamera(video, None, FPS, [Fault("other size", 0.0, 9.0)]) as camera:
        data = urllib.request.urlopen(camera.url, timeout=5).read(20_000)
    jpeg = data[data.index(b"\r\n\r\n") + 4 :]
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (360, 480, 3)


def test_faults_are_seen_at_their_times(video):
    faults = [
        Fault("freeze", 1.0, 1.8),
        Fault("black", 2.0, 2.8),
        Fault("other size", 3.0, 3.8),
        Fault("stall", 4.0, 4.8),
        Fault("damaged pictures", 5.0, 5.9),
    ]
    seen = []
    with LiveCamera(video, None, FPS, faults) as camera:
        began_s = time.time() - camera.started_unix_s
        with Capture(camera.url, reconnect=False) as capture:
            for frame in capture:
                seen.append((frame.time_s, frame.image))
                if frame.time_s > 6.0:
                    break
            notes = capture.notes
        assert began_s < 0.9, "the reader has to be there before the first fault"
        assert camera.frames >= len(seen)
        # The first frame came at the time of the connection.
        shift = camera.opened_s[0] - seen[0][0]

    def images(start_s, end_s):
        """The pictures of a span, without those that may belong to the time before or after.

        A busy machine brings a picture late, and none early.
        """
        return [image for t, image in seen if start_s + 0.4 < t + shift < end_s - 0.05]

    assert len(images(1, 1.8)) > 3
    assert all(np.array_equal(image, images(1, 1.8)[0]) for image in images(1, 1.8))
    assert max(image.mean() for image in images(2, 2.8)) < 10
    # The reader scales them back.
    assert len(images(3, 3.8)) > 3
    assert len(images(4, 4.8)) == 0
    assert any("damaged pictures" in note for note in notes)
    assert min(image.mean() for image in images(5, 5.9)) > 50


def test_nothing_listens_while_it_is_unplugged(video):
    with LiveCamera(video, None, FPS, [Fault("unplugged", 0.5, 1.5)]) as camera:
        answer = urllib.request.urlopen(camera.url, timeout=5)
        assert answer.read(10)
        while answer.read(4096):
            pass
        assert 0.4 < time.time() - camera.started_unix_s < 1.4
        time.sleep(0.3)  # the port closes after the connections
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(camera.url, timeout=5)
        time.sleep(max(0.0, camera.started_unix_s + 1.9 - time.time()))
        with urllib.request.urlopen(camera.url, timeout=5) as again:
            assert again.read(10)
        # It is told when the first picture has been sent.
        deadline = time.monotonic() + 30
        while len(camera.opened_s) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(camera.opened_s) == 2


def test_a_pause_in_which_it_could_not_send_is_told(video):
    with LiveCamera(video, None, FPS) as camera, urllib.request.urlopen(camera.url) as answer:
        assert answer.read(10)
        camera_pid = camera._process.pid
        deadline = time.monotonic() + 30
        # It may be stopped while it sends, and not while it sleeps: then it is stopped again.
        while not any(end - start > 0.3 for start, end in camera.pauses):
            assert time.monotonic() < deadline
            os.kill(camera_pid, signal.SIGSTOP)
            time.sleep(0.5)
            os.kill(camera_pid, signal.SIGCONT)
            assert answer.read(10)
            time.sleep(0.2)
