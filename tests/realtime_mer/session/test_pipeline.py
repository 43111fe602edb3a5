"""The threads: errors, closing, and callers that are slow."""

import contextlib
import functools
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.results import Analysis, VisibilitySpan
from realtime_mer.session.pipeline import merged
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.source.frame import Frame
from realtime_mer.spotting.matching import overlap
from tests.sessions import EVENTS, FPS, NOISE, Camera, Film, frames_of, no_stage_runs


def test_program_that_closes_nothing_ends_all_the_same(clip):
    code = (
        "import sys; from realtime_mer import Recognizer\n"
        "recognizer = Recognizer(sys.argv[1]); analyses = recognizer.analyses()\n"
        "finder = recognizer._analyser.tracker._finder; close = finder.close\n"
        "finder.close = lambda: (close(), print('closed'))\n"
        "print(next(analyses).frame.index)"
    )
    command = [sys.executable, "-c", code, str(clip)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\nclosed\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_child_ends_without_waiting_for_threads_that_it_does_not_have(clip):
    code = (
        "import os, sys; from realtime_mer import Recognizer\n"
        "recognizer = Recognizer(sys.argv[1]); analyses = recognizer.analyses()\n"
        "print(next(analyses).frame.index, flush=True)\n"
        "if (child := os.fork()) == 0:\n    sys.exit(5)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), next(analyses).frame.index)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(clip)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n5 1\n", "")


@pytest.mark.parametrize("held", [True, False], ids=["with", "without"])
def test_source_that_breaks_is_analysed_up_to_there(held):
    recognizer = Recognizer(Film(NOISE, InputError("frame 25 is torn")))
    seen = []
    with (
        pytest.raises(InputError, match="frame 25 is torn"),
        recognizer if held else contextlib.nullcontext(),
    ):
        seen.extend(a.frame.index for a in recognizer.analyses())
    assert seen == list(range(25))
    assert no_stage_runs()


@pytest.mark.parametrize("place", ["track", "spot"])
def test_error_in_a_thread_reaches_the_caller_after_what_was_analysed(place, monkeypatch):
    recognizer = Recognizer(Film(NOISE))
    owner, name = {
        "track": (recognizer._analyser.tracker, "track"),
        "spot": (recognizer._analyser, "analyse"),
    }[place]
    work, calls = getattr(owner, name), []

    def failing(item, *rest):
        calls.append(item)
        if len(calls) == 11:
            raise RuntimeError("out of order")
        return work(item, *rest)

    monkeypatch.setattr(owner, name, failing)
    seen = []
    with pytest.raises(RuntimeError, match="out of order"):
        seen.extend(a.frame.index for a in recognizer.analyses())
    assert no_stage_runs()
    # extend takes what came before the error
    assert seen == list(range(10))


@pytest.mark.parametrize("wait_s", [0.0, 0.02, 0.3])
def test_closing_from_another_thread_ends_the_iteration(clip, wait_s):
    recognizer = Recognizer(clip)
    closer = threading.Timer(wait_s, recognizer.close)
    closer.start()
    seen = [a.frame.index for a in recognizer.analyses()]
    closer.join(5)
    assert seen == list(range(len(seen)))
    assert len(seen) < round(4.8 * FPS)
    assert no_stage_runs()


def test_slow_caller_of_a_recording_gets_every_frame_and_little_is_read_ahead(faceless):
    with Recognizer(faceless) as recognizer:
        analyses = recognizer.analyses()
        seen = [next(analyses).frame.index]
        time.sleep(0.3)
        assert recognizer.summary("so far").frames_read < 20
        seen += [a.frame.index for a in analyses]
        summary = recognizer.summary("")
    assert seen == list(range(30))
    assert summary.stats["drops"] == {"analysis too slow": 0, "display too slow": 0}


def test_slow_caller_of_a_live_source_loses_pictures_and_no_event(clip):
    camera = Camera(frames_of(clip)[: round(2.9 * FPS)])
    with Recognizer(camera) as recognizer:
        camera.recognizer = recognizer
        analyses = recognizer.analyses()
        first = next(analyses)
        while recognizer.stats.frames_analysed < 87:  # nobody waits for the caller
            time.sleep(0.01)
        (last,) = analyses
        summary = recognizer.summary(recognizer.end_reason)
    assert (first.frame.index, last.frame.index) == (0, 86)
    # The last of those between can still be recorded.
    assert [frame.index for frame in last.unshown] == list(range(71, 86))
    (event,) = last.events
    assert overlap(event.interval, EVENTS[0].interval) > 0
    # It is dated when it is told.
    assert event.reported_s >= last.frame.time_s
    assert (summary.frames_analysed, summary.events, summary.frames_with_face) == (87, 1, 87)
    assert summary.stats["drops"] == {"analysis too slow": 0, "display too slow": 85}


@pytest.mark.parametrize(
    "broken",
    [
        lambda video: {"source": video.with_name("missing.avi")},
        lambda video: {"source": video.parent},  # without pictures: fails in the capture's thread
        lambda video: {"weights": SPOTTER},
        lambda video: {"spotter": CLASSIFIER},
        lambda video: {"landmarks": video},
    ],
    ids=["missing source", "empty folder", "weights", "spotter", "landmarks"],
)
def test_failing_constructor_leaves_no_thread_behind(faceless, broken):
    before = set(threading.enumerate())
    with pytest.raises(InputError):
        Recognizer(**{"source": faceless, **broken(faceless)})
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(("has_face", "alert"), [(True, "too dark"), (False, "black picture")])
def test_a_followed_face_in_the_dark_is_no_covered_lens(astronaut, monkeypatch, has_face, alert):
    monkeypatch.setattr(
        "realtime_mer.source.capture.Capture.alerts", property(lambda _: ("black picture",))
    )
    pictures = [astronaut if has_face else np.zeros_like(astronaut)] * 3
    with Recognizer(Film(pictures)) as recognizer:
        analyses = list(recognizer.analyses())
    assert all(alert in analysis.alerts for analysis in analyses)
    assert all(len(analysis.alerts) == 1 for analysis in analyses)


def test_only_the_newest_unshown_frames_are_kept():
    pictures = [Frame(i, i / FPS, NOISE[0], 0.0) for i in range(40)]
    analysis = functools.reduce(merged, [Analysis(frame) for frame in pictures])
    assert [frame.index for frame in analysis.unshown] == list(range(24, 39))
    # While the source is away, its last frame comes again.
    assert merged(Analysis(pictures[0]), Analysis(pictures[0])).unshown == ()


def test_nothing_that_logs_hold_is_lost_when_analyses_merge():
    frame = Frame(0, 0.0, NOISE[0], 0.0)
    ones = (1.0, 1.0, 1.0)
    spans = [VisibilitySpan(0, start_s, start_s + 1, ones, ones, 1.0) for start_s in (0.0, 1.0)]
    one, other = (Analysis(frame, visibility=(span,)) for span in spans)
    assert merged(one, other).visibility == tuple(spans)
    assert one.has_findings
    assert not one.without_findings().has_findings
