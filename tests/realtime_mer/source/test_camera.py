"""Cameras, on a stand-in for OpenCV's capture that behaves as V4L2 does."""

import math
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime_mer.errors import CameraError, InputError
from realtime_mer.source import camera as camera_module
from realtime_mer.source.camera import CameraReader, CameraRequest
from realtime_mer.source.capture import Capture, State
from tests.realtime_mer.source.sources import wait_for

CONTROLS = {
    cv2.CAP_PROP_EXPOSURE: "exposure",
    cv2.CAP_PROP_AUTO_EXPOSURE: "auto_exposure",
}


def code(text: str) -> int:
    return cv2.VideoWriter.fourcc(*text)


class Device:
    """A webcam on its bus: modes by format and size, with the highest rate of each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.modes = {
            "YUYV": {(640, 480): 30, (1280, 720): 10},
            "MJPG": {(640, 480): 60, (1280, 720): 30, (1920, 1080): 30},
        }
        self.default = ("YUYV", (640, 480))
        self.controls: dict[str, float] = {}
        self.silent_formats: set[str] = set()
        self.misses = 0
        self.stamp_age_s = 0.01
        self.delivers: tuple[int, int] | None = None
        self.calls: list[tuple[int, float]] = []
        self.opened = 0
        self.released = 0
        self.plug()

    def plug(self) -> None:
        self.path.touch()

    def unplug(self) -> None:
        self.path.unlink()


class FakeV4L2:
    """What `cv2.VideoCapture` is with the V4L2 back end: it refuses, rounds and changes."""

    device: Device

    def open(self, target, backend, parameters) -> bool:
        assert backend == cv2.CAP_V4L2
        if not self.device.path.exists():
            return False
        self.device.opened += 1
        self.format, self.size = self.device.default
        self.rate = 30.0
        self.width = 0
        self.stamp = 0.0
        self._settle()
        return True

    def _settle(self) -> None:
        # A change of the format or the size may lower the rate, and never raises it again.
        sizes = self.device.modes[self.format]
        self.size = min(sizes, key=lambda s: abs(s[0] * s[1] - self.size[0] * self.size[1]))
        self.rate = min(self.rate, sizes[self.size])

    def set(self, name, value) -> bool:
        self.device.calls.append((name, value))
        if name == cv2.CAP_PROP_FOURCC:
            known = {code(f): f for f in self.device.modes}
            if value not in known:
                return False
            self.format = known[value]
        elif name == cv2.CAP_PROP_FRAME_WIDTH:
            self.width = value
            return True
        elif name == cv2.CAP_PROP_FRAME_HEIGHT:
            self.size = (int(self.width), int(value))
        elif name == cv2.CAP_PROP_FPS:
            self.rate = value
        else:
            return False
        self._settle()
        return True

    def get(self, name) -> float:
        if name == cv2.CAP_PROP_FOURCC:
            return code(self.format)
        if name == cv2.CAP_PROP_FPS:
            return self.rate
        if name == cv2.CAP_PROP_POS_MSEC:
            return self.stamp * 1000
        return self.device.controls.get(CONTROLS.get(name, ""), -1.0)

    def grab(self) -> bool:
        if not self.device.path.exists() or self.format in self.device.silent_formats:
            return False
        if self.device.misses > 0:
            self.device.misses -= 1
            return False
        time.sleep(0.005)
        self.stamp = time.monotonic() - self.device.stamp_age_s
        return True

    def retrieve(self):
        width, height = self.device.delivers or self.size
        return True, np.random.default_rng().integers(60, 180, (height, width, 3), np.uint8)

    def release(self) -> None:
        self.device.released += 1


@pytest.fixture
def device(tmp_path, monkeypatch):
    device = Device(tmp_path / "video0")
    monkeypatch.setattr(FakeV4L2, "device", device, raising=False)
    monkeypatch.setattr(cv2, "VideoCapture", FakeV4L2)
    monkeypatch.setattr(camera_module, "_camera_backend", lambda: cv2.CAP_V4L2)
    return device


def camera(device: Device, request: CameraRequest | None = None) -> CameraReader:
    return CameraReader(str(device.path), "camera 0", 5.0, request or CameraRequest())


# Requests


def test_camera_is_asked_for_a_fast_large_format(device):
    with Capture(camera(device)) as capture:
        frame = capture.read()
        assert frame.image.shape == (720, 1280, 3)
        assert (capture.size, capture.fps) == ((1280, 720), 30)
        assert capture.notes == ("camera 0: 1280 x 720, MJPG, 30 fps by its driver",)
    names = [name for name, _ in device.calls]
    # In any other order the rate stays at what the slow format of the size allows.
    assert names == [
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
    ]


def test_what_a_camera_refuses_is_noted(device):
    device.modes = {"YUYV": {(640, 480): 30}}
    request = CameraRequest((1920, 1080), 60, "MJPG")
    with Capture(camera(device, request)) as capture:
        assert capture.size == (640, 480)
        assert capture.notes == (
            "camera 0: 640 x 480 (asked for 1920 x 1080), YUYV (asked for MJPG), "
            "30 fps (asked for 60 fps) by its driver",
        )


def test_note_names_the_real_picture_and_not_what_the_driver_claims(device):
    device.delivers = (800, 600)
    with Capture(camera(device)) as capture:
        assert capture.size == (800, 600)
        assert "800 x 600 (asked for 1280 x 720)" in capture.notes[0]


def test_camera_that_gives_nothing_as_asked_is_taken_as_it_comes(device):
    device.silent_formats = {"MJPG"}
    with Capture(camera(device)) as capture:
        assert capture.size == (640, 480)
        assert "YUYV (asked for MJPG)" in capture.notes[0]


def test_empty_request_changes_no_setting(device):
    with Capture(camera(device, CameraRequest(None, None, None))) as capture:
        assert capture.notes == ("camera 0: 640 x 480, YUYV, 30 fps by its driver",)
    assert device.calls == []


def test_silent_camera_is_an_error(device):
    device.silent_formats = {"MJPG", "YUYV"}
    with pytest.raises(CameraError, match="gives no picture"), Capture(camera(device)):
        pass


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"size": (0, 480)}, "picture size"),
        ({"rate": math.nan}, "frame rate"),
        ({"rate": 0}, "frame rate"),
        ({"pixel_format": "MJ\x1b"}, "pixel format"),
    ],
)
def test_impossible_requests_are_refused(asked, what):
    with pytest.raises(InputError, match=what):
        Capture("0", **asked)


# Exposure


@pytest.mark.parametrize(
    ("controls", "noted"),
    [
        ({"auto_exposure": 1, "exposure": 1000}, True),  # manual, 100 ms
        ({"auto_exposure": 1, "exposure": 300}, False),  # manual, 30 ms
        ({"auto_exposure": 3, "exposure": 1000}, False),  # automatic: often a mere default
        ({"auto_exposure": 0.75, "exposure": 0.9}, False),  # normalized: of unknown units
        ({"exposure": 1000}, False),
        ({"auto_exposure": 1}, False),
        ({"auto_exposure": 1, "exposure": 4e9}, False),
    ],
)
def test_long_exposure_is_noted_where_it_is_known(device, controls, noted):
    device.controls = controls
    with Capture(camera(device)) as capture:
        notes = capture.notes
    assert any("100 ms" in note for note in notes) == noted
    assert len(notes) == 1 + noted


# Times


def test_frames_have_the_timestamps_of_the_driver(device):
    device.stamp_age_s = 0.2
    with Capture(camera(device)) as capture:
        frame = capture.read()
        assert time.monotonic() - frame.captured_at >= 0.2


@pytest.mark.parametrize("age_s", [-5.0, 1e6])
def test_timestamps_of_another_clock_are_ignored(device, age_s):
    device.stamp_age_s = age_s
    with Capture(camera(device)) as capture:
        frames = [capture.read() for _ in range(5)]
        assert 0 <= time.monotonic() - frames[-1].captured_at < 5
    assert np.diff([f.time_s for f in frames]).min() > 0


# Unplugged, and back


def test_unplugged_camera_goes_on_when_it_is_back(device):
    with Capture(camera(device)) as capture:
        before = [capture.read() for _ in range(3)]
        device.unplug()
        wait_for(lambda: capture.state is State.RECONNECTING)
        # Only now has its last picture come, if it was under way.
        while (frame := capture.read(timeout_s=0.05)) is not None:
            before.append(frame)
        # The device file is free, so that the camera finds its name again.
        wait_for(lambda: device.released == device.opened)
        assert capture.alerts == ("reconnecting",)
        assert not capture.over
        device.plug()
        after = [capture.read() for _ in range(3)]
        assert capture.state is State.RUNNING
    assert after[0].index == before[-1].index + 1
    away_s = after[0].time_s - before[-1].time_s
    assert away_s == pytest.approx(after[0].captured_at - before[-1].captured_at)
    (outage,) = capture.take_outages()
    assert (outage.start_s, outage.end_s) == (before[-1].time_s, after[0].time_s)
    assert outage.reason == "source lost"
    _, lost, back = capture.notes
    assert lost.startswith("camera 0 is lost at ")
    assert back.startswith("camera 0 is back after ")


def test_camera_that_misses_a_few_pictures_is_not_lost(device):
    with Capture(camera(device)) as capture:
        capture.read()
        device.misses = 5
        read = capture.frames_read
        wait_for(lambda: device.misses == 0 and capture.frames_read > read + 1)
        assert device.opened == 1
        assert len(capture.notes) == 1


def test_camera_that_comes_back_smaller_is_scaled(device):
    with Capture(camera(device)) as capture:
        capture.read()
        device.unplug()
        wait_for(lambda: capture.state is State.RECONNECTING)
        device.modes = {"YUYV": {(640, 480): 30}}
        device.plug()
        wait_for(lambda: capture.state is State.RUNNING)
        capture.read(), capture.read()
        assert capture.read().image.shape == (720, 1280, 3)
        assert any("scaled back" in note for note in capture.notes)
        assert any("camera 0: 640 x 480 (asked" in note for note in capture.notes)


def test_unplugged_camera_ends_without_reconnecting_if_so_wished(device):
    with Capture(camera(device), reconnect=False) as capture:
        capture.read()
        device.unplug()
        for _ in capture:
            pass
        assert capture.state is State.ENDED
    assert device.opened == 1
