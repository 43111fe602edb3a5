"""The whole chain in one process: real tracker, real weights, clips whose truth is known."""

import dataclasses
import json
import math
import threading
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime_mer import demo
from realtime_mer.capture import Grab
from realtime_mer.classifier import Classifier
from realtime_mer.demo import DemoTruth, HiddenEvent, make_demo_clip, overlap
from realtime_mer.event import InputError, Interval
from realtime_mer.frame import Frame
from realtime_mer.log import CsvLog, JsonLinesLog
from realtime_mer.pipeline import CLASSIFIER, SPOTTER, FaceChain, Recognizer, run
from realtime_mer.spotter import SpotterModel
from realtime_mer.stats import Stats

FPS = 30
EVENTS = (
    HiddenEvent(Interval(1.80, 1.97, 2.17), "surprise", ("AU1", "AU2"), 2.6),
    HiddenEvent(Interval(3.55, 3.73, 3.90), "positive", ("AU6", "AU12"), 2.8),
)
BLINKS = ((2.7, 3.0),)


def make_clip(path: Path, *events: HiddenEvent, length_s: float) -> Path:
    truth = DemoTruth(events, BLINKS, FPS, round(length_s * FPS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_plan", lambda rng: truth)
        make_demo_clip(path)
    return path


def write_video(path: Path, frames, fps: float = FPS) -> Path:
    height, width = frames[0].shape[:2]
    codec = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, codec, fps, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    video.release()
    return frames


def analyses_of(source, **options) -> list:
    """What the chain says about each frame; the pictures are let go."""
    with Recognizer(source, **options) as recognizer:
        return list(recognizer.analyses())


def events_of(analyses) -> list:
    return [event for analysis in analyses for event in analysis.events]


def gaps_of(analyses) -> list:
    return [gap for analysis in analyses for gap in analysis.gaps]


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


# What is found, and what is not


def test_hidden_events_are_found_once_each_and_nothing_else(eventful):
    found = events_of(eventful)
    assert len(found) == len(EVENTS)
    for event, hidden in zip(found, EVENTS, strict=True):
        assert overlap(event.interval, hidden.interval) >= 0.5
        # Half to twice of what was put in: the measure is a percentile of another flow.
        assert hidden.peak_px / 2 < event.intensity_px < hidden.peak_px * 2
        assert sum(event.probabilities.values()) == pytest.approx(1, abs=1e-3)


def test_events_are_told_at_the_frame_that_completes_them(eventful):
    for analysis in eventful:
        for event in analysis.events:
            assert event.reported_s == analysis.frame.time_s
            assert event.interval.offset_s < event.reported_s < event.interval.offset_s + 0.5


def test_every_frame_is_analysed_in_the_order_of_time(eventful):
    assert [a.frame.index for a in eventful] == list(range(round(4.8 * FPS)))
    assert all(a.frame.time_s < b.frame.time_s for a, b in pairwise(eventful))
    assert all(len(a.faces) == 1 and a.faces[0].face == 0 for a in eventful)
    assert all(a.latency_s > 0 and a.dropped == 0 and a.gaps == () for a in eventful)


def test_score_is_unknown_in_the_first_second_and_passes_one_at_events_only(eventful):
    for analysis in eventful:
        (face,) = analysis.faces
        time_s = analysis.frame.time_s
        assert math.isnan(face.score) == (time_s < 1.0) or abs(time_s - 1.0) < 0.1
        if face.score >= 1:
            assert any(e.interval.onset_s < time_s < e.interval.offset_s + 0.5 for e in EVENTS)


def test_nothing_is_reported_without_the_events(tmp_path):
    analyses = analyses_of(make_clip(tmp_path / "calm.avi", length_s=3.6))
    assert events_of(analyses) == []
    assert gaps_of(analyses) == []
    assert sum(len(a.faces) for a in analyses) == len(analyses)
    scores = [a.faces[0].score for a in analyses]
    assert np.nanmax(scores) < 1


def test_two_faces_have_their_own_events(clip, tmp_path):
    """The same face twice, one 12 frames behind the other."""
    behind = 12
    frames = [f[40:440, 140:500] for f in frames_of(clip)[: round(2.9 * FPS)]]
    pairs = [np.hstack([frames[i], frames[max(0, i - behind)]]) for i in range(len(frames))]
    analyses = analyses_of(write_video(tmp_path / "two.avi", pairs), faces=2)
    places = {f.face: float(f.landmarks[:, 0].mean()) for f in analyses[-1].faces}
    assert len(places) == 2
    left, right = sorted(places, key=places.get)
    found = {event.face: event.interval for event in events_of(analyses)}
    assert len(events_of(analyses)) == 2
    hidden = EVENTS[0].interval
    assert overlap(found[left], hidden) >= 0.5
    delay = behind / FPS
    late = Interval(*(t + delay for t in (hidden.onset_s, hidden.apex_s, hidden.offset_s)))
    assert overlap(found[right], late) >= 0.5
    assert overlap(found[right], late) > overlap(found[right], hidden)


# Faces that come and go


def coming_and_going(path: Path, face: np.ndarray, spans, fps: float = FPS) -> Path:
    """A video of (frames with the face, frames without) in turn."""
    nothing = np.full_like(face, 90)
    frames = []
    for seen, away in spans:
        frames += [face] * seen + [nothing] * away
    return write_video(path, frames, fps)


def test_lost_face_leaves_a_gap_and_starts_afresh(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "lost.avi", astronaut, [(36, 15), (36, 0)])
    analyses = analyses_of(path)
    (gap,) = gaps_of(analyses)
    assert (gap.face, gap.reason) == (0, "face lost")
    # MediaPipe may need a frame to find the face again.
    assert gap.start_s == pytest.approx(35 / FPS, abs=0.001)
    assert gap.end_s == pytest.approx(51 / FPS, abs=0.07)
    assert analyses[round(gap.end_s * FPS)].gaps == (gap,)
    assert all(a.faces == () for a in analyses[36:51])
    score = {round(a.frame.time_s * FPS): a.faces[0].score for a in analyses if a.faces}
    assert math.isfinite(score[35])
    assert math.isnan(score[52 + 3])
    assert math.isfinite(score[86])


def test_tracker_that_goes_over_to_another_face_ends_the_window(astronaut, tmp_path):
    height, width = astronaut.shape[:2]
    left, right = (np.zeros((height, 2 * width, 3), np.uint8) for _ in range(2))
    left[:, :width], right[:, width:] = astronaut, astronaut
    path = write_video(tmp_path / "jump.avi", [left] * 20 + [right] * 30)
    analyses = analyses_of(path)
    jumps = [gap for gap in gaps_of(analyses) if gap.reason == "face jumped"]
    assert len(jumps) + sum(gap.reason == "face lost" for gap in gaps_of(analyses)) == 1
    after = [a.faces[0].score for a in analyses if a.faces and a.frame.index >= 22]
    assert np.isnan(after).all()  # warming up anew: what was seen of the other face is forgotten


def test_loss_shorter_than_100_ms_is_bridged(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "flicker.avi", astronaut, [(36, 1), (6, 2), (6, 0)])
    analyses = analyses_of(path)
    assert [len(a.faces) for a in analyses[34:46]] == [1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1]
    assert gaps_of(analyses) == []
    assert all(math.isfinite(a.faces[0].score) for a in analyses[36:] if a.faces)


def test_slow_source_is_no_series_of_gaps(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "slow.avi", astronaut, [(12, 3), (3, 0)], fps=5)
    (gap,) = gaps_of(analyses_of(path))
    assert (gap.start_s, gap.end_s) == pytest.approx((2.2, 3.0), abs=0.01)


def test_single_face_leaves_a_gap_however_long_it_was_away(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "long.avi", astronaut, [(12, 60), (5, 0)], fps=5)
    (gap,) = gaps_of(analyses_of(path))
    assert (gap.face, gap.start_s, gap.end_s) == pytest.approx((0, 2.2, 14.4), abs=0.01)


def test_one_of_several_faces_that_does_not_come_back_leaves_a_gap(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "gone.avi", astronaut, [(12, 25), (8, 0)], fps=10)
    analyses = analyses_of(path, faces=2)
    (gap,) = gaps_of(analyses)
    assert (gap.face, gap.start_s, gap.reason) == (0, pytest.approx(1.1, abs=0.01), "face lost")
    assert [f.face for f in analyses[-1].faces] == [1]


class Stuttering:
    """A live camera that shows a face, with a hole of half a second after the twelfth frame."""

    name, live, fps, frame_count = "stuttering camera", True, 30.0, 0

    def __init__(self, picture: np.ndarray) -> None:
        self.notes: list[str] = []
        self._picture, self._next, self._time_s = picture, 0, 100.0
        # Each frame is taken before the next one comes, so that none is dropped.
        self.taken = threading.Semaphore(1)

    def open(self) -> None: ...

    def close(self) -> None: ...

    def empty(self) -> InputError:
        return InputError("empty")

    def read(self) -> Grab | None:
        self.taken.acquire(timeout=10)
        self._next += 1
        if self._next > 20:
            return None
        self._time_s += 0.5 if self._next == 13 else 1 / 30
        return Grab(self._picture.copy(), None, self._time_s)


def test_hole_in_a_live_source_is_told_from_a_lost_face(astronaut):
    camera, gaps = Stuttering(astronaut), []
    with Recognizer(camera) as recognizer:
        for analysis in recognizer.analyses():
            gaps += analysis.gaps
            camera.taken.release()
    (gap,) = gaps
    assert gap.reason == "no frames"
    assert gap.end_s - gap.start_s == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "nuisances"),
    [
        ({}, ()),
        ({"blink": 0.7}, ("blink",)),
        ({"jaw_open": 0.3}, ("speech",)),
        ({"shift_px": 10.0}, ("head motion",)),  # 300 px a second
        ({"shift_px": 0.3}, ()),  # a head is never quite still
    ],
)
def test_what_makes_motion_hard_to_read_is_told(astronaut, astronaut_tracked, changes, nuisances):
    changes = dict(changes)
    step = np.array([changes.pop("shift_px", 0.0), 0, 0], np.float32)
    chain = FaceChain(0, SpotterModel(SPOTTER), Classifier(CLASSIFIER, "cpu"), Stats())
    for index in range(4):
        landmarks = astronaut_tracked.landmarks + index * step
        face = dataclasses.replace(astronaut_tracked, landmarks=landmarks, **changes)
        state, _ = chain.step(Frame(index, index / FPS, astronaut, 0.0), face)
    assert state.nuisances == nuisances


# The recognizer as an object


def test_iteration_gives_the_events(clip, eventful, monkeypatch):
    order = []
    with Recognizer(clip) as recognizer:
        classify, now_s = recognizer._classifier.classify, recognizer._now_s
        monkeypatch.setattr(
            recognizer._classifier, "classify", lambda p: (order.append("named"), classify(p))[1]
        )
        monkeypatch.setattr(
            recognizer, "_now_s", lambda frame: (order.append("dated"), now_s(frame))[1]
        )
        first = next(iter(recognizer))
        assert first.interval == events_of(eventful)[0].interval
        # A live source goes on while an event is named: it is dated after that.
        assert order == ["named", "dated"]
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
    assert "capture" not in {t.name for t in threading.enumerate()}


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


@pytest.mark.parametrize("option", [{"faces": 0}, {"providers": "abacus"}])
def test_wrong_arguments_are_the_callers_fault(faceless, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        Recognizer(faceless, **option)


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


# run: sinks are begun, fed and ended


class Recorder:
    """A sink that writes down what happens to it and fails where it is told to."""

    def __init__(self, name: str, diary: list[str], **failures: BaseException) -> None:
        self._name, self._diary, self._failures = name, diary, failures
        self.summary = None

    def _happens(self, what: str) -> None:
        if what != "update" or self._failures:
            self._diary.append(f"{self._name} {what}")
        if what in self._failures:
            raise self._failures[what]

    def begin(self, session) -> None:
        self._happens("begin")

    def update(self, analysis) -> None:
        self._happens("update")

    def end(self, summary) -> None:
        self.summary = summary
        self._happens("end")


def test_sinks_end_in_reverse_order_after_the_source_is_closed(faceless):
    diary = []
    recognizer = Recognizer(faceless)
    close = recognizer.close
    recognizer.close = lambda: (close(), diary.append("closed"))[0]
    summary = run(recognizer, [Recorder("a", diary), Recorder("b", diary)])
    assert diary == ["a begin", "b begin", "closed", "b end", "a end"]
    assert (summary.reason, summary.frames_analysed) == ("end of source", 30)


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_failing_sink_ends_all_others_with_whole_logs(faceless, tmp_path):
    log, table = JsonLinesLog(tmp_path / "log.jsonl"), CsvLog(tmp_path / "log.csv")
    diary = []
    failing = Recorder("failing", diary, update=RuntimeError("sink on fire"))
    after = Recorder("after", diary)
    with pytest.raises(RuntimeError, match="sink on fire"):
        run(Recognizer(faceless), [log, table, failing, after])
    assert diary == ["failing begin", "after begin", "failing update", "after end", "failing end"]
    assert [r["type"] for r in records(tmp_path / "log.jsonl")] == ["session", "summary"]
    assert records(tmp_path / "log.jsonl")[-1]["reason"] == "error: sink on fire"
    assert (tmp_path / "log.csv").read_text().count("\n") == 1
    assert "capture" not in {t.name for t in threading.enumerate()}


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
    assert diary[-3:] == ["c end", "b end", "a end"]


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


class Screen(Recorder):
    """A window whose user presses q at the third frame."""

    wants_quit = False
    shown = 0

    def update(self, analysis) -> None:
        self.shown += 1
        self.wants_quit = self.shown == 3

    def wait_while_paused(self) -> None: ...


def test_window_ends_the_run_and_is_ended_first(faceless):
    diary = []
    summary = run(Recognizer(faceless), [Recorder("sink", diary)], Screen("window", diary))
    assert diary == ["sink begin", "window begin", "window end", "sink end"]
    assert (summary.reason, summary.frames_analysed) == ("stopped by user", 3)
