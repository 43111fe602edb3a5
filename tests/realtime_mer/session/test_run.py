"""A run and its sinks: all end, in order, whatever happens."""

import json
import time
from itertools import pairwise

import pytest

from realtime_mer.errors import InputError
from realtime_mer.model_file import CLASSIFIER
from realtime_mer.output.log import CsvLog, JsonLinesLog
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.session.run import Callbacks, run
from realtime_mer.source.reader import Grab
from tests.sessions import (
    NOISE,
    Film,
    Interrupted,
    Recorder,
    Screen,
    Stopping,
    events_of,
    frames_of,
    no_stage_runs,
    records,
)


def test_functions_are_called_and_the_summary_comes_back(faceless):
    seen = []
    summary = Recognizer(faceless).run(on_analysis=lambda a: seen.append(a.frame.index))
    assert seen == list(range(30))
    assert (summary.reason, summary.frames_analysed) == ("end of source", 30)
    assert no_stage_runs()


def test_event_found_but_not_shown_before_ctrl_c_is_told(clip, eventful):
    told_at = next(a.frame.index for a in eventful if a.events)

    class Pressing(Recorder):
        pressed = False
        events = ()

        def update(self, analysis) -> None:
            self.events += analysis.events
            if analysis.frame.index == told_at - 1 and not self.pressed:
                self.pressed = True
                time.sleep(0.5)  # what comes next is analysed meanwhile
                raise KeyboardInterrupt

    sink = Pressing("a", [])
    summary = run(Recognizer(clip), [sink])
    assert [e.interval for e in sink.events] == [e.interval for e in events_of(eventful)[:1]]
    assert (summary.reason, summary.events) == ("stopped by user", 1)
    assert summary.frames_read == summary.frames_analysed


def test_event_that_is_found_before_the_source_breaks_is_told_at_ctrl_c(clip, eventful):
    told_at = next(a.frame.index for a in eventful if a.events)

    class Pressing(Recorder):
        events = ()

        def update(self, analysis) -> None:
            self.events += analysis.events
            if analysis.frame.index == told_at - 1 and not self.events:
                time.sleep(0.5)  # what comes next is analysed meanwhile, up to where it breaks
                raise KeyboardInterrupt

    sink = Pressing("a", [])
    film = Film(frames_of(clip)[: told_at + 1], InputError("torn"))
    with pytest.raises(InputError, match="torn"):
        run(Recognizer(film), [sink])
    assert len(sink.events) == 1
    assert sink.summary.events == 1


def test_ctrl_c_in_one_sink_does_not_keep_an_event_from_the_next(clip):
    stopping = Stopping(lambda analysis: analysis.events, KeyboardInterrupt())
    events = []
    run(Recognizer(clip), [stopping, Callbacks(events.append, None)])
    assert len(events) == 1


def test_video_without_a_face_has_a_session_and_a_summary(faceless):
    with Recognizer(faceless) as recognizer:
        session = recognizer.session
        assert list(recognizer) == []
        summary = recognizer.summary(recognizer.end_reason)
    card = json.loads(CLASSIFIER.with_suffix(".json").read_text())
    assert (session.source, session.live, session.size) == (str(faceless), False, (64, 48))
    assert (session.fps, session.frame_count, session.model) == (30.0, 30, card["name"])
    assert session.labels == ("negative", "positive", "surprise")
    assert (summary.reason, summary.events, summary.frames_with_face) == ("end of source", 0, 0)
    assert (summary.frames_read, summary.frames_analysed, summary.frames_dropped) == (30, 30, 0)
    assert summary.duration_s == pytest.approx(29 / 30, abs=0.001)
    assert summary.stats["stages_ms"]["track"]["count"] == 30


def test_sinks_end_in_their_order_after_the_source_is_closed(faceless):
    diary = []
    recognizer = Recognizer(faceless)
    close = recognizer.close
    recognizer.close = lambda: (close(), diary.append("closed"))[0]
    summary = run(recognizer, [Recorder("a", diary), Recorder("b", diary)])
    assert diary == ["a begin", "b begin", "closed", "a end", "b end"]
    assert (summary.reason, summary.frames_analysed) == ("end of source", 30)


def test_failing_sink_ends_all_others_with_whole_logs(faceless, tmp_path):
    log, table = JsonLinesLog(tmp_path / "log.jsonl"), CsvLog(tmp_path / "log.csv")
    diary = []
    failing = Recorder("failing", diary, update=RuntimeError("sink on fire"))
    after = Recorder("after", diary)
    with pytest.raises(RuntimeError, match="sink on fire"):
        run(Recognizer(faceless), [log, table, failing, after])
    assert diary == ["failing begin", "after begin", "failing update", "failing end", "after end"]
    assert [r["type"] for r in records(tmp_path / "log.jsonl")] == ["session", "summary"]
    assert records(tmp_path / "log.jsonl")[-1]["reason"] == "error: sink on fire"
    assert (tmp_path / "log.csv").read_text().count("\n") == 1
    assert no_stage_runs()


def test_all_outputs_that_fail_at_the_end_are_told(faceless):
    sinks = [Recorder(name, [], end=InputError(f"{name} is full.")) for name in ("first", "second")]
    with pytest.raises(InputError, match=r"^first is full. second is full.$"):
        run(Recognizer(faceless), sinks)
    # So is the error that ended the run.
    lost = Recorder("source", [], update=InputError("The source is lost."))
    with pytest.raises(InputError, match=r"^The source is lost. .*first is full. second is full.$"):
        run(Recognizer(faceless), [lost, *sinks])


def test_sinks_after_one_that_cannot_begin_are_left_alone(faceless, tmp_path):
    diary = []
    log = JsonLinesLog(tmp_path / "log.jsonl")
    failing = Recorder("failing", diary, begin=InputError("disk full"))
    with pytest.raises(InputError, match="disk full"):
        run(Recognizer(faceless), [log, failing, Recorder("never", diary)])
    assert diary == ["failing begin", "failing end"]
    assert records(tmp_path / "log.jsonl")[-1]["reason"] == "error: disk full"


@pytest.mark.parametrize("error", [OSError("tape torn"), KeyboardInterrupt()])
def test_sink_that_fails_at_the_end_keeps_none_from_ending(faceless, error):
    diary = []
    sinks = [Recorder("a", diary), Recorder("b", diary, end=error), Recorder("c", diary)]
    with pytest.raises(type(error)):
        run(Recognizer(faceless), sinks)
    assert diary[-3:] == ["a end", "b end", "c end"]


def test_failure_at_the_end_does_not_hide_the_one_before(faceless):
    failing = Recorder("a", [], update=RuntimeError("first"), end=OSError("second"))
    with pytest.raises(RuntimeError, match="first"):
        run(Recognizer(faceless), [failing])


def test_ctrl_c_is_a_normal_end(faceless):
    diary = []
    pressing = Recorder("a", diary, update=KeyboardInterrupt())
    summary = run(Recognizer(faceless), [pressing])
    assert diary == ["a begin", "a update", "a end"]
    assert (summary.reason, summary.frames_analysed) == ("stopped by user", 1)


def test_window_ends_the_run_and_is_ended_first(faceless):
    diary = []
    summary = run(Recognizer(faceless), [Recorder("sink", diary)], Screen("window", diary))
    assert diary == ["sink begin", "window begin", "window end", "sink end"]
    assert (summary.reason, summary.frames_analysed) == ("stopped by user", 3)


def test_a_live_source_that_is_away_is_shown_with_what_is_wrong(astronaut):
    with Recognizer(Interrupted(astronaut)) as recognizer:
        analyses = list(recognizer.analyses(idle_s=0.1))
    frames = [analysis.frame.index for analysis in analyses]
    assert frames == sorted(frames)
    again = [a for a, b in zip(analyses[1:], analyses, strict=False) if a.frame is b.frame]
    assert len(again) >= 3
    assert not any(a.events for a in again)
    summary = recognizer.summary("")
    merged = summary.stats["drops"]["display too slow"]
    assert summary.frames_analysed == len(set(frames)) + merged
    # The silence is a gap once a frame has come after it.
    gap = max((g for a in analyses for g in a.gaps), key=lambda g: g.end_s - g.start_s)
    assert (gap.reason, gap.end_s - gap.start_s > 0.9) == ("no frames", True)


def test_while_the_source_is_away_nothing_looks_live(astronaut, monkeypatch):
    monkeypatch.setattr("realtime_mer.source.capture._SILENT_S", 0.3)
    with Recognizer(Interrupted(astronaut)) as recognizer:
        analyses = list(recognizer.analyses(idle_s=0.1))
    away = [analysis for analysis in analyses if "no picture" in analysis.alerts]
    assert away
    assert all(a.is_away and not a.faces and a.fps == 0 for a in away)
    assert all(a.faces and not a.is_away for a in (analyses[0], analyses[-1]))


def test_between_the_frames_of_a_slow_source_the_alert_stays(astronaut):
    class Slow(Interrupted):
        def read(self) -> Grab | None:
            grab = super().read() if self._given < 10 else None
            return grab and grab._replace(captured_at=grab.captured_at + 0.2 * self._given)

    with Recognizer(Slow(astronaut)) as recognizer:
        analyses = list(recognizer.analyses(idle_s=0.01))
    again = [b for a, b in pairwise(analyses) if a.frame is b.frame]
    late = [analysis for analysis in again if analysis.frame.index >= 6]
    assert late
    assert all("no reports below 8 fps" in analysis.alerts for analysis in late)


def test_frame_that_is_shown_again_is_no_slower_for_that():
    shown = []
    summary = Recognizer(Interrupted(NOISE[0])).run(on_analysis=lambda a: shown.append(a.frame))
    assert len(shown) >= len(set(shown)) + 3
    assert summary.stats["stages_ms"]["until_shown"]["count"] == len(set(shown))
