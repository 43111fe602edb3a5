"""What many tests look at: a real photo of a face, and what the real tracker says about it."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from realtime_mer.demo import clip as demo
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.registration import CanonicalFace, Registration
from realtime_mer.face.tracker import FaceTracker, TrackedFace
from realtime_mer.source.frame import Frame
from tests.distribution import (
    pytest_runtest_setup,
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
    pytest_xdist_setupnodes,
)
from tests.sessions import EVENTS, CameraServer, analyses_of, make_clip, no_stage_runs, write_video

__all__ = [
    "pytest_runtest_setup",
    "pytest_xdist_auto_num_workers",
    "pytest_xdist_make_scheduler",
    "pytest_xdist_setupnodes",
]


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_a_terminal():
    """Whoever starts the tests in the background may ignore signals, which children inherit."""
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if hasattr(signal, "SIGHUP"):
        wanted[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def landmark_model() -> Path:
    return find_landmark_model(download=False)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """(544, 704, 3) BGR, a face of about 200 px in its middle; not writeable."""
    photo = demo.demo_photo()
    photo.setflags(write=False)
    return photo


@pytest.fixture(scope="session")
def astronaut_tracked(astronaut, landmark_model) -> TrackedFace:
    with FaceTracker(landmark_model) as tracker:
        (face,) = tracker.track(Frame(0, 0.0, astronaut, 0.0))
    return face


@pytest.fixture(scope="session")
def astronaut_face(astronaut, astronaut_tracked) -> CanonicalFace:
    return Registration()(astronaut, astronaut_tracked.landmarks, 0.0)


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("chain") / "eventful.avi"
    return make_clip(path, *EVENTS, length_s=4.8)


@pytest.fixture(scope="session")
def eventful(clip) -> list:
    return analyses_of(clip)


@pytest.fixture
def faceless(tmp_path) -> Path:
    """A second of noise that no one would take for a face, small and fast."""
    noise = np.random.default_rng(0).integers(0, 255, (30, 48, 64, 3), np.uint8)
    return write_video(tmp_path / "faceless.avi", noise)


@pytest.fixture
def camera_server(astronaut):
    servers = []

    def start(*args, **kwargs) -> CameraServer:
        servers.append(CameraServer(astronaut[:480, 60:640], *args, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
    # A read that waits for a silent server is not waited for.
    deadline = time.monotonic() + 10
    while not no_stage_runs() and time.monotonic() < deadline:
        time.sleep(0.01)
