"""The virtual camera. No test machine has one: the driver is a stand-in, the rest is real."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.output.overlay import TiledOverlay, VideoOverlay
from realtime_mer.results import Analysis
from realtime_mer.source.frame import Frame
from tests.realtime_mer.output.senders.conftest import SUMMARY, session, wait_until

pyvirtualcam = pytest.importorskip("pyvirtualcam")
virtual_camera = pytest.importorskip("realtime_mer.output.virtual_camera")


class Driver:
    """What stands behind pyvirtualcam; `made` are all that were opened."""

    made: list["Driver"] = []  # noqa: RUF012 - each test gets its own
    may_send = threading.Event()
    breaks = False

    def __init__(self, width, height, fps, fourcc, device, **more) -> None:
        self.size, self.fps, self.pictures, self.is_open = (width, height), fps, [], True
        self.made.append(self)

    def close(self) -> None:
        self.is_open = False

    def device(self) -> str:
        return "stand-in"

    def native_fourcc(self) -> None:
        return None

    def send(self, picture: np.ndarray) -> None:
        assert self.may_send.wait(60)
        if self.breaks:
            raise RuntimeError("the device is gone")
        self.pictures.append(picture.copy())


@pytest.fixture
def driver(monkeypatch):
    camera = pytest.importorskip("pyvirtualcam.camera")
    monkeypatch.setattr(Driver, "made", [])
    monkeypatch.setattr(Driver, "may_send", threading.Event())
    monkeypatch.setattr(camera, "BACKENDS", {"stand-in": Driver})
    Driver.may_send.set()
    yield Driver
    Driver.may_send.set()


def played(eventful, notes: list[str], pause_s: float = 0.0):
    sink = virtual_camera.VirtualCamera(VideoOverlay(), notes.append)
    sink.begin(session())
    for analysis in eventful[:40]:
        sink.update(analysis)
        time.sleep(pause_s)
    sink.end(SUMMARY)
    return sink


def test_other_programs_see_the_video_with_the_marks_in_its_own_size(driver, eventful):
    notes: list[str] = []
    played(eventful, notes, 0.01)
    tried, camera = driver.made
    assert not tried.is_open
    assert not camera.is_open
    height, width = eventful[0].frame.image.shape[:2]
    assert camera.size == (width, height)
    assert camera.fps == 30
    last = camera.pictures[-1].reshape(height, width, 3)
    differs = (last != eventful[39].frame.image).any(-1)
    # The outline of the face, and little else.
    assert 0.001 < differs.mean() < 0.2
    assert notes == []


def test_a_driver_that_is_slow_does_not_hold_the_session(driver, eventful, monkeypatch):
    monkeypatch.setattr(virtual_camera, "_END_S", 0.2)
    driver.may_send.clear()
    began_at = time.monotonic()
    played(eventful, [])
    assert time.monotonic() - began_at < 5


def test_a_driver_that_fails_is_told_once_and_the_session_goes_on(driver, eventful, monkeypatch):
    monkeypatch.setattr(driver, "breaks", True)
    notes: list[str] = []
    played(eventful, notes, 0.01)
    assert notes == [
        "the virtual camera failed: the device is gone. The session goes on without it"
    ]


def test_odd_and_small_sources_have_an_even_size(driver):
    sink = virtual_camera.VirtualCamera(VideoOverlay())
    sink.begin(session())
    picture = np.zeros((47, 63, 3), np.uint8)
    sink.update(Analysis(Frame(0, 0.0, picture, time.monotonic())))
    wait_until(lambda: len(driver.made) > 1 and driver.made[1].pictures)
    sink.end(SUMMARY)
    assert driver.made[1].size == (62, 46)


def test_several_sources_are_tiles(driver, eventful):
    names = ["a.avi", "b.avi"]
    each = tuple(session(source=name) for name in names)
    sink = virtual_camera.VirtualCamera(TiledOverlay(VideoOverlay))
    sink.begin(dataclasses.replace(each[0], source=" + ".join(names), sources=each))
    for camera, name in enumerate(names):
        sink.update(dataclasses.replace(eventful[20], camera=camera, source=name))
    (width, height), *others = (d.size for d in driver.made[1:])
    assert others == []
    wait_until(lambda: driver.made[1].pictures)
    sink.end(SUMMARY)
    picture = driver.made[1].pictures[-1].reshape(height, width, 3)
    # Both have the same content, so both halves are alike but for the names.
    alike = (picture[:, : width // 2 - 2] == picture[:, width // 2 + 2 :]).all(-1)
    assert 0.9 < alike.mean() < 1
    assert picture.std() > 20


def test_without_a_virtual_camera_the_remedy_is_told(monkeypatch):
    camera = pytest.importorskip("pyvirtualcam.camera")

    def nothing(**_) -> None:
        raise RuntimeError("No v4l2 loopback device found at /dev/video[0-99]. Did you run?")

    monkeypatch.setattr(camera, "BACKENDS", {"v4l2loopback": nothing})
    with pytest.raises(InputError, match=r"^there is no virtual camera here .*modprobe"):
        virtual_camera.VirtualCamera(VideoOverlay())
