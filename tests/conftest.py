"""What many tests look at: a real photo of a face, and what the real tracker says about it."""

import signal
from pathlib import Path

import numpy as np
import pytest

from realtime_mer.demo import clip as demo
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.registration import CanonicalFace, Registration
from realtime_mer.face.tracker import FaceTracker, TrackedFace
from realtime_mer.source.frame import Frame


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
