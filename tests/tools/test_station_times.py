"""Processor time by station: what stacks show, and a process that is really at work."""

import threading
import time

import pytest

from realtime_mer.spotting.motion import texture_trust
from tools.station_times import _PACKAGE, _PLACES, StationTimes, station_of


@pytest.mark.parametrize(
    ("places", "station"),
    [
        (["session/stage.py:_run", "source/container.py:_decode_next"], "decode"),
        (["source/video_file.py:read", "source/container.py:_image"], "convert"),
        (["session/pipeline.py:_track", "face/landmarker.py:detect"], "landmarker"),
        (["analysis/face_chain.py:step", "face/registration.py:__call__"], "register"),
        (["analysis/face_chain.py:step", "spotting/motion.py:__call__"], "flow"),
        (["analysis/face_chain.py:step", "spotting/spotter.py:__call__"], "spot"),
        # The head's motion is the spotter's code, but the name needs it.
        (["recognition/face_pair.py:__call__", "spotting/motion.py:fit"], "name"),
        # Likewise the pictures of clips.
        (["archive/clips.py:_add", "face/registration.py:crop"], "write"),
        (["archive/worker.py:analyse", "output/log.py:update"], "write"),
        (["session/recognizer.py:__init__", "recognition/classifier.py:__init__"], "start"),
        (["importlib._bootstrap:_load", "spotting/motion.py:<module>"], "start"),
        (["analysis/analyser.py:analyse"], "other"),
        ([], "other"),
    ],
)
def test_a_stack_tells_its_station(places, station):
    assert station_of(places) == station


@pytest.mark.parametrize("place", [place for place, _ in _PLACES])
def test_every_place_that_tells_a_station_is_there(place):
    name, _, function = place.partition(":")
    file = _PACKAGE / name
    assert file.is_dir() if name.endswith("/") else file.is_file()
    assert not function or f"def {function}(" in file.read_text(encoding="utf-8")


def test_time_is_given_to_the_station_at_work_and_not_to_those_that_wait(astronaut_face):
    ended = threading.Event()
    waiting = threading.Thread(target=ended.wait)
    waiting.start()
    try:
        with StationTimes() as times:
            started_s = time.thread_time()
            while time.thread_time() - started_s < 0.4:
                texture_trust(astronaut_face.grey)
    finally:
        ended.set()
        waiting.join()
    assert times.seconds["flow"] == pytest.approx(0.4, rel=0.2)
    assert sum(times.seconds.values()) == pytest.approx(0.4, rel=0.2)
