"""The soak test's own short run: a real camera process, a real run.py, a real Ctrl-C."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from tools import soak as soak_module
from tools.faults import Fault
from tools.soak import is_good, main, memory, soak


@pytest.fixture(scope="module")
def video(tmp_path_factory, astronaut):
    """One second of a face that moves a little."""
    small = cv2.resize(astronaut, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    path = tmp_path_factory.mktemp("soak") / "face.avi"
    size = small.shape[1], small.shape[0]
    codec = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, codec, 30, size)
    for i in range(30):
        writer.write(np.roll(small, (i // 9, i // 5), axis=(0, 1)))
    writer.release()
    return path


@pytest.fixture
def ctrl_c_is_ignored():
    """As in the background of a shell script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_ignored")
def test_short_session_is_counted_and_ended(video, capsys):
    assert (
        main([str(video), "--minutes", "0.05", "--fps", "12", "--size", "320x240", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["exit_status"], found["said"]) == (0, [])
    assert found["sent"] >= found["read"] == found["analysed"] + found["dropped"]
    # A decoder may keep the first second to itself.
    assert found["analysed"] > 8
    assert set(found["drops"]) == {"analysis too slow", "display too slow", "stopped"}
    assert 0 < found["latency_ms"]["median"] <= found["latency_ms"]["p99"]
    assert found["latency_ms"]["median"] <= found["shown_ms"]["max"]
    assert 50 < found["memory"]["first"] < 1000
    assert found["memory"]["most"] >= found["memory"]["end"] > 50
    assert 0 < found["seconds_to_end"] < 10
    assert found["cpus"] > 0
    assert not multiprocessing.active_children()


def test_a_session_that_could_cause_pauses_is_not_excused_by_them(video, monkeypatch):
    told = []
    # Every nap is a pause.
    monkeypatch.setattr(soak_module, "_PAUSE_S", -soak_module._NAP_S)
    monkeypatch.setattr(soak_module, "check", lambda *given: told.append(given[-1]) or {})
    found = soak(str(video), 0.2, 12.0, (320, 240), faults=[Fault("stall", 900.0, 901.0)])
    assert found["pauses"]["count"] > 10
    assert bool(told[0]) == found["pauses"]["explain"] == may_go_below()


def may_go_below() -> bool:
    """Whether these tests have a real-time priority that is not the lowest."""
    return sys.platform == "linux" and os.sched_getparam(0).sched_priority > 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these priorities")
@pytest.mark.parametrize(("priority", "expected"), [(3, (True, 2)), (1, (False, 1))])
def test_session_gives_way_where_there_is_a_lower_real_time_priority(priority, expected):
    def put_below() -> tuple[bool, int]:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))  # of this thread only
        with subprocess.Popen(["sleep", "60"]) as session:
            is_below = soak_module._put_below(session.pid)
            found = os.sched_getparam(session.pid).sched_priority
            session.kill()
        return is_below, found

    with ThreadPoolExecutor(1) as pool:
        try:
            assert pool.submit(put_below).result() == expected
        except PermissionError:
            pytest.skip("real-time priorities are not permitted here")


def test_failed_run_is_reported_with_its_last_lines(video, capsys):
    assert main([str(video), "--minutes", "0.05", "--", "--landmarks", str(video)]) == 1
    said = capsys.readouterr().out
    assert "landmark" in said
    assert "exit status" in said
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("content", [None, b"no video"], ids=["gone", "text"])
def test_a_video_that_cannot_be_played_is_bad_usage(tmp_path, capsys, content):
    path = tmp_path / "clip.avi"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path), "--minutes", "0.01"]) == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert "clip.avi" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "option", [["--size", "big"], ["--fps", "0"], ["--minutes", "-1"], ["--faults"]]
)
def test_wrong_options_are_refused(video, option):
    with pytest.raises(SystemExit) as ended:
        main([str(video), *option])
    assert ended.value.code == 2


def test_one_of_a_video_and_faults_is_needed():
    with pytest.raises(SystemExit) as ended:
        main(["--minutes", "1"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("found", "good"),
    [
        ({}, True),
        ({"exit_status": 1}, False),
        ({"broken_lines": 1}, False),
        ({"faults": {"lost": [], "unexplained_gaps": [], "silent_faults": []}}, True),
        ({"faults": {"lost": [12.5], "unexplained_gaps": [], "silent_faults": []}}, False),
        ({"faults": {"unexplained_gaps": [("face lost", 1.0, 2.0)]}}, False),
        ({"faults": {"silent_faults": [("stall", 1.0, 9.0)]}}, False),
    ],
)
def test_anything_lost_is_a_failure(found, good):
    assert is_good({"exit_status": 0, "broken_lines": 0, **found}) == good


@pytest.mark.parametrize(
    ("sizes", "first", "growth"),
    [
        ([100.0, 200.0, 210.0, 220.0, 210.0, 231.0], 210.0, 10.0),
        ([100.0] * 30 + [200.0] * 200, 200.0, 0.0),
        ([], None, None),
    ],
)
def test_growth_counts_from_the_first_minute(sizes, first, growth):
    found = memory(sizes)
    assert (found["first"], found["growth_percent"]) == (first, growth)
