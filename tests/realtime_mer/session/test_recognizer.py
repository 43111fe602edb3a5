"""What a caller holds: iteration, closing, sensitivity, names."""

import asyncio
import dataclasses
import doctest
import gc
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest

import realtime_mer
from realtime_mer.errors import InputError
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.results import (
    LONGEST_MARK,
    GapReason,
    Interval,
    MicroExpression,
    SourceStatus,
)
from realtime_mer.session import channel, recognizer
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.source import capture
from realtime_mer.source.reader import Grab
from tests.sessions import (
    FPS,
    NOISE,
    Camera,
    Film,
    Stuttering,
    Unsteady,
    events_of,
    frames_of,
    moving,
    no_stage_runs,
    write_video,
)


def test_iteration_gives_the_events(clip, eventful):
    with Recognizer(clip) as recognizer:
        first = next(iter(recognizer))
        assert first.interval == events_of(eventful)[0].interval
        # It stops where the event was told, and can be taken up there.
        assert recognizer.summary("so far").events == 1
        assert next(recognizer.analyses()).frame.time_s > first.reported_s


def test_recognizer_may_be_closed_twice_and_gives_nothing_after(faceless):
    recognizer = Recognizer(faceless)
    with recognizer as entered:
        assert entered is recognizer
        assert next(recognizer.analyses()).faces == ()
    recognizer.close()
    assert list(recognizer) == []
    assert no_stage_runs()


def test_iteration_without_a_block_closes_at_the_end(faceless):
    recognizer = Recognizer(faceless)
    assert list(recognizer) == []
    assert no_stage_runs()
    assert list(recognizer.analyses()) == []


def test_iteration_without_a_block_closes_when_it_is_given_up(clip):
    for _ in Recognizer(clip):
        break
    assert no_stage_runs()


@pytest.mark.parametrize("module", [realtime_mer, recognizer, channel])
def test_examples_in_docstrings_run(module, clip, tmp_path, monkeypatch):
    write_video(tmp_path / "clip.avi", frames_of(clip)[: round(2.9 * FPS)])
    monkeypatch.chdir(tmp_path)
    done = doctest.testmod(module)
    assert done.failed == 0
    assert done.attempted > 0


def test_package_gives_its_names_without_loading_before_they_are_asked_for():
    code = (
        "import sys, realtime_mer; before = set(sys.modules)\n"
        "assert not {'cv2', 'mediapipe', 'numpy'} & before, before\n"
        "assert set(realtime_mer.__all__) <= set(dir(realtime_mer))\n"
        "from realtime_mer import InputError, Interval, MicroExpression, Recognizer, run\n"
        "assert Recognizer.__module__ == 'realtime_mer.session.recognizer'\n"
        "assert 'torch' not in sys.modules\n"
        "realtime_mer.nothing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "has no attribute 'nothing'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "option",
    [{"faces": 0}, {"providers": "abacus"}, {"sensitivity": -1.0}],
)
def test_wrong_arguments_are_the_callers_fault(faceless, option):
    about = {"sensitivity": "false reports"}.get(name := next(iter(option)), name)
    with pytest.raises(ValueError, match=about):
        Recognizer(faceless, **option)
    assert no_stage_runs()


def event(face: int, onset_s: float = 0.1) -> MicroExpression:
    interval = Interval(onset_s, onset_s + 0.1, onset_s + 0.3)
    return MicroExpression(face, interval, {"negative": 0.8, "positive": 0.2}, 1.5, 0.5)


def with_events(recognizer: Recognizer, frame: int, *events: MicroExpression) -> Recognizer:
    """The recognizer, made to report some events at a frame."""
    analyse = recognizer._analyser.analyse

    def analyse_and_report(tracked, outages=()):
        analysis = analyse(tracked, outages)
        return dataclasses.replace(analysis, events=events if tracked.frame.index == frame else ())

    recognizer._analyser.analyse = analyse_and_report
    return recognizer


def test_second_event_of_a_frame_is_not_lost_when_the_loop_stops_at_the_first():
    recognizer = with_events(Recognizer(Film(NOISE)), 5, event(0), event(1))
    with recognizer:
        first = next(iter(recognizer))
        rest = list(recognizer)
    assert [e.face for e in (first, *rest)] == [0, 1]


def test_second_event_of_a_frame_is_in_the_leftover_of_a_closed_recognizer():
    recognizer = with_events(Recognizer(Film(NOISE)), 5, event(0), event(1))
    taken = []
    for first in recognizer:
        taken.append(first.face)
        break
    assert taken == [0]
    assert [e.face for e in recognizer.leftover().events] == [1]
    assert list(recognizer) == []


def test_mark_of_a_recording_has_the_time_of_the_frame_that_was_shown():
    with Recognizer(Film(NOISE)) as recognizer:
        assert recognizer.mark("before the first frame").time_s == 0.0
        analyses = recognizer.analyses()
        first = next(analyses)
        assert [m.text for m in first.marks] == ["before the first frame"]
        second = next(analyses)
        assert second.marks == ()
        mark = recognizer.mark(" two\nlines, and " + 100 * "x", by="window")
        assert mark.time_s == second.frame.time_s > 0
        assert mark.by == "window"
        assert mark.text.startswith("two\\nlines")
        assert len(mark.text) == LONGEST_MARK
        assert next(analyses).marks == (mark,)
        with pytest.raises(ValueError, match="nobody"):
            recognizer.mark(by="nobody")


def test_mark_of_a_live_source_is_the_moment_itself_also_while_no_frame_comes():
    camera = Endless()
    with Recognizer(camera) as recognizer:
        analyses = recognizer.analyses(idle_s=0.05)
        next(analyses)
        before = time.monotonic()
        mark = recognizer.mark()
        after = time.monotonic()
        zero_at = recognizer.session.origin.monotonic_s
        assert before <= zero_at + mark.time_s <= after
        recognizer.pause()
        marked = [
            m for _, analysis in zip(range(50), analyses, strict=False) for m in analysis.marks
        ]
        assert marked == [mark]
        paused = recognizer.mark("while paused")
        assert paused.time_s > mark.time_s
        marked = [
            m for _, analysis in zip(range(3), analyses, strict=False) for m in analysis.marks
        ]
        assert marked == [paused]


def test_mark_that_nobody_took_is_in_the_leftover_and_after_the_end_it_is_refused():
    with Recognizer(Film(NOISE)) as recognizer:
        next(recognizer.analyses())
        mark = recognizer.mark("last")
    assert recognizer.leftover().marks == (mark,)
    assert recognizer.leftover() is None
    with pytest.raises(InputError, match="ended"):
        recognizer.mark()


def test_marks_from_many_threads_are_all_told_and_a_flood_of_them_is_refused():
    with Recognizer(Film(NOISE)) as recognizer:
        analyses = recognizer.analyses()
        next(analyses)

        def mark():
            for _ in range(100):
                recognizer.mark()

        threads = [threading.Thread(target=mark) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(next(analyses).marks) == 800
        for _ in range(1000):
            recognizer.mark()
        with pytest.raises(InputError, match="wait to be written"):
            recognizer.mark()


class Endless:
    """A live camera that never ends by itself."""

    name, live, fps, frame_count = "endless camera", True, 100.0, 0

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.is_open = False

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def empty(self) -> InputError:
        return InputError("empty")

    def read(self) -> Grab | None:
        time.sleep(0.01)
        return Grab(NOISE[0].copy(), None, time.monotonic())


def test_dropped_recognizer_is_freed_and_gives_its_source_back():
    camera = Endless()
    recognizer = Recognizer(camera)
    recognizer._pipeline.start()
    assert camera.is_open
    gone = weakref.ref(recognizer)
    del recognizer
    gc.collect()
    assert gone() is None
    deadline = time.monotonic() + 10
    while (camera.is_open or not no_stage_runs()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not camera.is_open
    assert no_stage_runs()


def test_clock_stands_still_after_the_end(faceless):
    recognizer = Recognizer(faceless)
    assert list(recognizer) == []
    before = recognizer.summary("end of source")
    time.sleep(0.2)
    after = recognizer.summary("end of source")
    assert after.wall_s == before.wall_s
    assert after.stats["fps"] == before.stats["fps"]


def test_opencv_has_its_threads_back_once_the_last_recognizer_is_closed(faceless):
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        first, second = Recognizer(faceless), Recognizer(faceless)
        assert cv2.getNumThreads() == 1
        first.close()
        assert cv2.getNumThreads() == 1
        second.close()
        second.close()
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_several_recognizers_of_one_process_do_not_disturb_each_other(clip, eventful):
    with Recognizer(clip) as first, Recognizer(clip) as second:
        pairs = list(zip(first.analyses(), second.analyses(), strict=True))
    for found in map(list, zip(*pairs, strict=True)):
        assert [e.to_dict() for e in events_of(found)] == [e.to_dict() for e in events_of(eventful)]


@pytest.mark.parametrize("convert", [str, Path], ids=["str", "Path"])
def test_paths_may_be_str_or_path(faceless, landmark_model, convert):
    recognizer = Recognizer(
        convert(faceless),
        weights=convert(CLASSIFIER),
        spotter=convert(SPOTTER),
        landmarks=convert(landmark_model),
    )
    assert sum(1 for _ in recognizer.analyses()) == 30


def test_number_of_a_camera_may_be_numpys():
    # There is no camera: the message says so, in place of an AttributeError.
    with pytest.raises(InputError, match="camera 63"):
        Recognizer(np.int64(63))


# asyncio


def test_async_iteration_gives_the_events_and_leaves_the_loop_free(clip, eventful):
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    async def main() -> list[MicroExpression]:
        ticking = asyncio.create_task(tick())
        found = [event async for event in Recognizer(clip)]
        ticking.cancel()
        return found

    found = asyncio.run(main())
    assert [e.to_dict() for e in found] == [e.to_dict() for e in events_of(eventful)]
    assert ticks > 20
    assert no_stage_runs()


def test_cancelled_async_iteration_closes_the_recognizer(clip):
    async def watch(seen: list) -> None:
        async for analysis in Recognizer(clip).analyses_async():
            seen.append(analysis.frame.index)

    async def main() -> list:
        seen = []
        watching = asyncio.create_task(watch(seen))
        while len(seen) < 5:
            await asyncio.sleep(0.01)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        return seen

    assert len(asyncio.run(main())) < 100
    assert no_stage_runs()


def test_async_iteration_of_a_held_recognizer_can_be_continued():
    recognizer = with_events(Recognizer(Film(NOISE)), 5, event(0), event(1))

    async def main() -> list[int]:
        faces = []
        async for found in recognizer:
            faces.append(found.face)
            break
        async for found in recognizer:
            faces.append(found.face)
        return faces

    with recognizer:
        assert asyncio.run(main()) == [0, 1]


def test_event_that_a_cancelled_task_was_waiting_for_is_not_lost():
    recognizer = with_events(Recognizer(Film(NOISE)), 5, event(0))
    waiting, go_on = threading.Event(), threading.Event()
    take_next = recognizer.take

    def slow_next(*arguments, **options):
        analysis = take_next(*arguments, **options)
        if analysis is not None and analysis.events:
            waiting.set()
            go_on.wait(10)
        return analysis

    recognizer.take = slow_next

    async def watch() -> list[int]:
        return [found.face async for found in recognizer]

    async def main() -> list[int]:
        watching = asyncio.create_task(watch())
        await asyncio.to_thread(waiting.wait, 10)
        watching.cancel()
        threading.Timer(0.1, go_on.set).start()
        with pytest.raises(asyncio.CancelledError):
            await watching
        return await watch()

    with recognizer:
        assert asyncio.run(main()) == [0]


def test_error_of_the_source_reaches_the_async_caller():
    async def main() -> None:
        async for _ in Recognizer(Film(NOISE, InputError("frame 25 is torn"))):
            pass

    with pytest.raises(InputError, match="frame 25 is torn"):
        asyncio.run(main())
    assert no_stage_runs()


# Pause and resume


def test_paused_recording_waits_and_loses_nothing(faceless):
    with Recognizer(faceless) as recognizer:
        analyses = recognizer.analyses()
        seen = [next(analyses).frame.index]
        recognizer.pause()
        assert recognizer.is_paused
        threading.Timer(0.3, recognizer.resume).start()
        seen += [a.frame.index for a in analyses]
    assert seen == list(range(30))


def test_paused_live_source_leaves_a_gap_and_counts_what_was_thrown_away(astronaut):
    camera = Stuttering(astronaut)
    gaps, was_paused = [], False
    with Recognizer(camera) as recognizer:
        for analysis in recognizer.analyses():
            gaps += analysis.gaps
            if analysis.frame.index >= 3 and not was_paused:
                was_paused = True
                recognizer.pause()
                for _ in range(6):
                    camera.taken.release()
                    time.sleep(0.05)
                recognizer.resume()
            camera.taken.release()
    summary = recognizer.summary("end of source")
    paused = [gap for gap in gaps if gap.reason == GapReason.PAUSED]
    assert len(paused) == 1
    assert summary.stats["drops"]["paused"] >= 3
    assert summary.frames_analysed + summary.frames_dropped == summary.frames_read


def test_closing_a_paused_recognizer_ends_it(faceless):
    recognizer = Recognizer(faceless)
    analyses = recognizer.analyses()
    next(analyses)
    recognizer.pause()
    recognizer.close()
    list(analyses)
    assert no_stage_runs()


# Live sources: clock and status


def test_live_events_carry_wall_clock_and_monotonic_time():
    started = time.time(), time.monotonic()
    camera = Camera(list(NOISE))
    recognizer = Recognizer(camera)
    camera.recognizer = recognizer
    origin = recognizer.session.origin
    # The camera stamps its frames 100 s ago.
    assert origin.unix_s - started[0] == pytest.approx(origin.monotonic_s - started[1], abs=0.05)
    assert recognizer._analyser.origin == origin
    recognizer.close()
    live = dataclasses.replace(event(0, onset_s=2.0), origin=origin)
    assert live.onset_monotonic_s == origin.monotonic_s + 2.0
    assert live.onset_at.timestamp() == pytest.approx(origin.unix_s + 2.0, abs=1e-3)
    assert live.to_dict()["onset_at"].startswith(live.onset_at.isoformat()[:19])


def test_status_of_a_source_that_is_lost_and_comes_back_is_reported(astronaut):
    camera = Unsteady([*moving(astronaut, 5), None, *moving(astronaut, 60)])
    statuses = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "_REOPEN_S", (0.01, 0.02))
        with Recognizer(camera) as recognizer:
            camera.recognizer = recognizer
            for analysis in recognizer.analyses():
                statuses += analysis.statuses
                if analysis.frame.index >= 9:
                    break
    assert [change.status for change in statuses] == [
        SourceStatus.RECONNECTING,
        SourceStatus.RECOVERED,
    ]
    lost, back = statuses
    assert lost.time_s == pytest.approx(4 / FPS, abs=0.02)
    assert back.time_s == pytest.approx(1 + 5 / FPS, abs=0.05)


def test_notes_of_the_source_go_to_the_logger(astronaut, caplog):
    camera = Unsteady([*moving(astronaut, 5), None, *moving(astronaut, 5)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "_REOPEN_S", (0.01, 0.02))
        with Recognizer(camera) as recognizer:
            camera.recognizer = recognizer
            for analysis in recognizer.analyses():
                if analysis.frame.index == 9:
                    break
    assert any("lost" in record.getMessage() for record in caplog.records)
    assert {record.name for record in caplog.records} == {"realtime_mer"}
