"""Several sources in one session: what each gives alone, in one log, on one clock."""

import shutil
import threading
import time

import jsonschema
import pytest

from realtime_mer.errors import InputError
from realtime_mer.output.log import JsonLinesLog, schema
from realtime_mer.session import group as module
from realtime_mer.session.group import RecognizerGroup
from realtime_mer.session.run import run
from realtime_mer.source import capture
from tests.sessions import (
    EVENTS,
    FPS,
    NOISE,
    Camera,
    Film,
    Recorder,
    Stopping,
    events_of,
    frames_of,
    logged,
    no_stage_runs,
    records,
    write_video,
)

LOG = jsonschema.Draft202012Validator(schema())


def one_and_its_beginning(clip, folder):
    """The clip with all events, and one that has only its first, under another name."""
    end_s = EVENTS[0].interval.offset_s + 0.4
    return [clip, write_video(folder / "beginning.avi", frames_of(clip)[: round(end_s * FPS)])]


def test_recordings_give_together_what_each_gives_alone(clip, eventful, tmp_path):
    sources = one_and_its_beginning(clip, tmp_path)
    analyses = []
    with RecognizerGroup(sources) as group:
        log = JsonLinesLog(tmp_path / "log.jsonl")
        recorder = Recorder("sink", [])
        recorder.update = analyses.append
        summary = run(group, [log, recorder])
        session = group.session
    first, second = ([a for a in analyses if a.camera == k] for k in (0, 1))
    alone = events_of(eventful)
    assert [e.interval for e in events_of(first)] == [e.interval for e in alone]
    assert [e.confidence for e in events_of(first)] == [e.confidence for e in alone]
    (beginning,) = events_of(second)
    assert beginning.interval.onset_s == pytest.approx(EVENTS[0].interval.onset_s, abs=0.1)
    # The recordings advance together, each on its own clock.
    times = [a.frame.time_s for a in analyses if a.alerts != ("end of source",)]
    assert times == sorted(times)
    assert [a.frame.time_s for a in second][:3] == [a.frame.time_s for a in first][:3]
    # The shorter one does not end the other, and says that it has ended.
    assert second[-1].alerts == ("end of source",)
    assert summary.reason == "end of source"
    assert summary.frames_read == len(eventful) + len({a.frame.index for a in second})
    assert [s.events for s in summary.sources] == [len(alone), 1]
    names = [str(source) for source in sources]
    assert [s.source for s in session.sources] == names
    begin, *told, end = records(tmp_path / "log.jsonl")
    assert [s["source"] for s in begin["sources"]] == [s["source"] for s in end["sources"]] == names
    assert {r["source"] for r in told} == set(names)
    for record in (begin, *told, end):
        LOG.validate(record)
    assert [s["frames_read"] for s in summary.stats["sources"]] == [
        s.frames_read for s in summary.sources
    ]
    assert summary.stats["end_to_end_ms"]["count"] == summary.frames_analysed
    assert no_stage_runs()


def test_what_waits_is_told_when_the_session_is_stopped(clip, tmp_path):
    """The same event is found in both sources at once; the session breaks at the first one."""
    _, beginning = one_and_its_beginning(clip, tmp_path)
    other = shutil.copy(beginning, tmp_path / "other.avi")
    breaking = Stopping(lambda analysis: analysis.events, InputError("enough"))
    told = logged(tmp_path / "log.jsonl", RecognizerGroup([beginning, other]), breaking)
    events = [r for r in told if r["type"] == "micro_expression"]
    assert [e["source"] for e in events] == [str(beginning), str(other)]
    assert told[-1]["events"] == 2
    assert told[-1]["reason"] == "error: enough"


def test_a_camera_that_dies_does_not_end_the_other(camera_server, tmp_path):
    dying, living = camera_server(10), camera_server(60)
    clocks, seen = {}, {0: 0, 1: 0}

    def note(analysis):
        frame = analysis.frame
        clocks.setdefault(analysis.camera, frame.captured_at - frame.time_s)
        if not analysis.is_away:
            seen[analysis.camera] += 1

    recorder = Recorder("sink", [])
    recorder.update = note
    with RecognizerGroup([dying.url, living.url], reconnect=False) as group:
        summary = run(group, [JsonLinesLog(tmp_path / "log.jsonl"), recorder])
    assert seen[1] > seen[0] > 0
    # One clock: the first frame of the first camera is its zero.
    assert clocks[0] == pytest.approx(clocks[1], abs=1e-6)
    first, second = summary.sources
    assert second.duration_s > first.duration_s
    assert (first.reason, second.reason) == ("end of source", "end of source")
    assert first.frames_read <= 10 < second.frames_read
    for record in records(tmp_path / "log.jsonl"):
        LOG.validate(record)
    assert no_stage_runs()


def test_a_recording_that_breaks_does_not_end_the_other(tmp_path):
    broken, whole = Film(NOISE[:5], InputError("the film tore.")), Film(NOISE)
    broken.name = "broken film"
    with pytest.raises(InputError, match=r"^the film tore\.$"):
        run(group := RecognizerGroup([broken, whole]), [JsonLinesLog(tmp_path / "log.jsonl")])
    assert "the film tore. The others go on." in group.notes
    *_, summary = records(tmp_path / "log.jsonl")
    assert summary["reason"] == "error: the film tore."
    torn, complete = summary["sources"]
    assert (torn["reason"], torn["frames_read"]) == ("error: the film tore.", 5)
    assert (complete["reason"], complete["frames_read"]) == ("end of source", len(NOISE))


def test_of_two_recordings_that_break_only_the_first_leaves_others():
    films = [Film(NOISE[: 5 * k], InputError(f"film {k} tore.")) for k in (1, 2)]
    with pytest.raises(InputError, match=r"^film 1 tore\. film 2 tore\.$"):
        run(group := RecognizerGroup(films), [])
    assert group.notes == ("film 1 tore. The others go on.",)


def test_a_camera_that_is_slow_to_let_go_does_not_hold_up_the_others(monkeypatch):
    monkeypatch.setattr(capture, "_JOIN_TIMEOUT_S", 20.0)
    let_go, waited = threading.Event(), []

    class Lingering(Film):
        def close(self):
            waited.append(let_go.wait(20))

    with RecognizerGroup([Lingering(NOISE[:3]), Film(NOISE)]) as group:
        for analysis in group.analyses():
            if analysis.camera == 1 and analysis.frame.index == len(NOISE) - 1:
                let_go.set()
    assert waited == [True]
    assert no_stage_runs()


def test_what_holds_for_all_is_noted_once(monkeypatch):
    class Elsewhere(module.Classifier):
        def __init__(self, *args):
            super().__init__(*args)
            self.note = "the classifier runs on CPU"

    monkeypatch.setattr(module, "Classifier", Elsewhere)
    with RecognizerGroup([Film(NOISE), Film(NOISE)]) as group:
        assert group.notes == ("the classifier runs on CPU",)


def test_it_may_be_left_in_the_middle():
    group = RecognizerGroup([Film(NOISE), Film(NOISE)])
    for analysis in group.analyses():
        assert analysis.source in ("film", "film (2)")
        if analysis.frame.index == 3:
            break
    deadline = time.monotonic() + 10
    while not no_stage_runs() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert no_stage_runs()
    # Left, it is over.
    assert list(group.analyses()) == []


def test_sensitivity_and_marks_are_those_of_all(tmp_path):
    with RecognizerGroup([Film(NOISE), Film(NOISE)]) as group:
        group.sensitivity = 2.0
        analyses = group.analyses()
        first, second = next(analyses), next(analyses)
        assert first.sensitivity == second.sensitivity == pytest.approx(2.0)
        assert group.mark("now").source == "film"
        marks = [mark for analysis in analyses for mark in analysis.marks]
    assert sorted((mark.source, mark.text) for mark in marks) == [
        ("film", "now"),
        ("film (2)", "now"),
    ]


def test_a_source_that_has_just_ended_keeps_no_mark_from_the_others():
    with RecognizerGroup([Film(NOISE), Film(NOISE)]) as group:
        group._members[0].recognizer.close()
        assert group.mark("now").source == "film (2)"
        group._members[1].recognizer.close()
        with pytest.raises(InputError, match="the session has ended"):
            group.mark()


def test_sources_that_cannot_go_together_are_refused(faceless, tmp_path):
    link = tmp_path / "link.avi"
    link.symlink_to(faceless)
    for sources, words in (
        ([faceless, faceless], "is named twice: leave one out"),
        ([faceless, link], rf"link\.avi is named twice \({faceless} is the same\)"),
        (["1", "/dev/video1"], r"/dev/video1 is named twice \(camera 1 is the same\)"),
        ([faceless, tmp_path / "no.avi"], r"no\.avi does not exist"),
        ([faceless, "http://127.0.0.1:9/x"], "is live and .* is a recording.*two sessions"),
    ):
        with pytest.raises(InputError, match=words):
            RecognizerGroup(sources)
    with pytest.raises(ValueError, match="no sources"):
        RecognizerGroup([])


def test_a_source_that_cannot_be_opened_closes_those_before_it(faceless, tmp_path):
    (tmp_path / "none.avi").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"none\.avi cannot be opened as a video"):
        RecognizerGroup([faceless, tmp_path / "none.avi"])
    assert no_stage_runs()


def test_addresses_that_differ_in_what_is_hidden_have_names_that_differ():
    addresses = ["http://u:a@10.0.0.2/live", "http://u:b@10.0.0.2/live"]
    first, second = (reader.name for reader in module._readers(addresses, None))
    assert second == f"{first} (2)"


def test_a_silent_camera_is_shown_again_while_another_goes_on():
    silent, lively = Camera(NOISE[:3]), Camera(NOISE[:3])
    shown = {0: [], 1: []}
    with RecognizerGroup([silent, lively]) as group:
        first, lively.recognizer = (member.recognizer for member in group._members)
        # In vain, if it is never shown again.
        late = threading.Timer(20, setattr, [silent, "recognizer", first])
        late.start()
        for analysis in group.analyses(idle_s=0.02):
            shown[analysis.camera].append(analysis.frame.index)
            if shown[0].count(0) == 3:
                silent.recognizer = first
        late.cancel()
    assert [indices[-1] for indices in shown.values()] == [2, 2]
    assert shown[0].count(0) >= 3
