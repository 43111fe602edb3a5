"""A person's baseline: how it is judged, what it withholds, and what events tell after it."""

import dataclasses
import threading

import numpy as np
import pytest

from realtime_mer.analysis import baseline as module
from realtime_mer.analysis.baseline import BASELINE_S, Baselines, Taking
from realtime_mer.analysis.face_chain import FaceStep
from realtime_mer.results import BaselineFlaw, FaceState, Gap, GapReason
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.spotting.spotter import Spotting
from tests.sessions import EVENTS, FPS, analyses_of, events_of, frames_of, write_video

CALM = (0.6, 0.8, 0.9)


@pytest.fixture
def step(astronaut_face):
    """A maker of what a frame tells of a face that keeps still and neutral."""

    def make(face=0, gap=None, restlessness=0.5, smile=0.0, limits=CALM, seen=None, **state):
        shapes = np.zeros(52, np.float32)
        shapes[[44, 45]] = smile
        points = np.zeros((478, 2), np.float32)
        of_face = FaceState(face, points, 0.1, limits=limits, blendshapes=shapes, **state)
        return FaceStep(seen or astronaut_face, None, Spotting(0.1), of_face, gap, restlessness)

    return make


def taken(step, seconds=6.0, length_s=6.0, spoilt=0.0, is_sparse=False, **how):
    """The baseline of a face of which a share of the time is spoilt."""
    taking = Taking(0, 10.0, length_s)
    frames = round(seconds * FPS)
    for k in range(frames):
        frame = step(**how) if k < spoilt * frames else step()
        taking.add(frame, 10.0 + k / FPS, is_sparse)
    return taking.ended(10.0 + seconds)


def test_still_neutral_face_gives_a_good_baseline_with_its_limits(step):
    baseline = taken(step)
    assert baseline.is_good
    assert (baseline.start_s, baseline.end_s, baseline.limits_px) == (10.0, 16.0, CALM)


@pytest.mark.parametrize(
    ("how", "flaw"),
    [
        ({"nuisances": ("head motion",)}, BaselineFlaw.HEAD_MOVED),
        ({"nuisances": ("speech",)}, BaselineFlaw.MOUTH_OPEN),
        ({"restlessness": 2.5}, BaselineFlaw.FACE_MOVED),
        ({"limits": (2.0, 2.4, 2.4)}, BaselineFlaw.HARD_TO_READ),
    ],
)
def test_what_spoils_a_quarter_of_a_baseline_makes_it_poor(step, how, flaw):
    assert taken(step, spoilt=0.2, **how).is_good
    assert taken(step, spoilt=0.4, **how).flaws == (flaw,)


def test_person_who_smiles_for_most_of_it_has_no_neutral_face(step):
    assert taken(step, spoilt=0.4, smile=0.9).is_good
    assert taken(step, spoilt=0.6, smile=0.9).flaws == (BaselineFlaw.SMILE,)


def test_baseline_that_was_cut_short_or_saw_too_little_is_poor(step):
    assert taken(step, seconds=4.0).flaws == (BaselineFlaw.TOO_SHORT,)
    taking = Taking(0, 0.0, 10.0)
    for k in range(8 * FPS):
        taking.add(step(), k / FPS, False)
    assert taking.ended(10.0).flaws == (BaselineFlaw.FACE_AWAY,)
    assert taken(step, is_sparse=True).flaws == (BaselineFlaw.TOO_FEW_FRAMES,)
    gap = Gap(0, 10.0, 10.1, GapReason.FACE_JUMPED)
    assert taken(step, spoilt=0.01, gap=gap).flaws == (BaselineFlaw.FACE_JUMPED,)


def test_narrow_eyes_that_score_as_a_blink_are_no_flaw(step):
    assert taken(step, spoilt=1.0, nuisances=("blink",)).is_good


def test_neutral_face_is_the_usual_one(step, astronaut_face):
    raised = dataclasses.replace(astronaut_face, landmarks=astronaut_face.landmarks + 5)
    taking = Taking(0, 0.0, 6.0)
    for k in range(6 * FPS):
        taking.add(step(seen=raised if k < 2 * FPS else None), k / FPS, False)
    assert taking.neutral is astronaut_face


def run(baselines, step, start_s, end_s, **how):
    """The baselines that end in a stretch of frames; an exact number of them."""
    done = []
    for k in range(round(start_s * FPS), round(end_s * FPS)):
        done += baselines.update(k / FPS, [step(**how)], False)
    return done


def test_baseline_ends_by_itself_even_if_the_face_has_left(step):
    baselines = Baselines(6.0)
    assert run(baselines, step, 0, 4) == []
    assert baselines.alerts(4.0) == ("baseline: keep a neutral face, 2 s",)
    assert baselines.update(5.9, [], False) == ()
    (baseline,) = baselines.update(6.0, [], False)
    assert baseline.flaws == (BaselineFlaw.FACE_AWAY,)
    assert baselines.alerts(6.1) == ("poor baseline: face away",)
    assert baselines.alerts(30.0) == ()
    assert run(baselines, step, 30, 40) == [], "it is taken once"


def test_poor_baseline_leaves_the_one_before_it(step, astronaut_face):
    baselines = Baselines(6.0)
    assert run(baselines, step, 0, 7)[0].is_good
    before = baselines.from_neutral_px(0, astronaut_face)
    assert before < 0.1
    baselines.ask(5.0)
    (poor,) = run(baselines, step, 7, 13, smile=0.9)
    assert not poor.is_good
    assert baselines.from_neutral_px(0, astronaut_face) == before


def test_asked_for_baseline_waits_for_a_face_and_is_taken_of_all_in_view(step):
    baselines = Baselines()
    baselines.ask()
    assert baselines.update(0.0, [], False) == ()
    assert not baselines.is_taking
    baselines.update(1.0, [step(0), step(1)], False)
    assert baselines.alerts(1.0) == (f"baseline: keep a neutral face, {BASELINE_S:.0f} s",)
    ended = baselines.finish(3.0)
    assert [(b.face, b.flaws[0]) for b in ended] == [
        (0, BaselineFlaw.TOO_SHORT),
        (1, BaselineFlaw.TOO_SHORT),
    ]


def test_only_what_begins_in_a_baseline_is_withheld_and_it_is_counted(step):
    baselines = Baselines()
    assert not baselines.withholds(0, 1.0)
    run(baselines, step, 0, 2)
    baselines.ask(6.0)
    run(baselines, step, 2, 4)
    assert not baselines.withholds(0, 1.9), "it began before"
    assert baselines.withholds(0, 3.0)
    assert not baselines.withholds(1, 3.0), "of another face"
    (baseline,) = run(baselines, step, 4, 9)
    assert baseline.withheld == 1
    assert not baselines.withholds(0, 3.0)


def test_face_that_is_gone_for_good_takes_its_baseline_with_it(step):
    baselines = Baselines(6.0)
    assert run(baselines, step, 0, 7)[0].is_good
    assert baselines.forget(0, 40.0) == ()
    assert not baselines.has_neutral(0)
    run(baselines, step, 40, 41)
    (cut,) = baselines.forget(0, 41.0)
    assert cut.flaws[0] == BaselineFlaw.TOO_SHORT


@pytest.mark.parametrize("length_s", [0.0, 4.9, 301.0, float("nan")])
def test_length_that_makes_no_sense_is_refused(length_s):
    for refuse in (Baselines, Baselines().ask):
        with pytest.raises(ValueError, match="5 to 300"):
            refuse(length_s)


# With the real chain. The astronaut smiles; here, that is her neutral face.


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(module, "BASELINE_RANGE_S", (1.0, 300.0))
    monkeypatch.setattr(module, "_SMILE", 1.0)


def test_events_after_a_baseline_tell_how_far_they_are_from_the_neutral_face(clip, eventful, short):
    analyses = analyses_of(clip, baseline_s=1.5)
    (baseline,) = (b for a in analyses for b in a.baselines)
    assert (baseline.start_s, baseline.end_s, baseline.flaws) == (0.0, 1.5, ())
    assert "baseline" in analyses[30].alerts[0]
    assert analyses[60].alerts == ()
    found = events_of(analyses)
    assert len(found) == len(EVENTS)
    for event, usual in zip(found, events_of(eventful), strict=True):
        # The onset of these is neutral, too.
        assert event.from_neutral_px == pytest.approx(event.intensity_px, rel=0.35)
        assert usual.from_neutral_px is None
        without = dataclasses.replace(event, from_neutral_px=None, picture=None)
        assert without.to_dict() == usual.to_dict(), "the rest is the same"


def test_nothing_is_reported_while_a_baseline_is_taken_anew(clip, tmp_path, short):
    with Recognizer(write_video(tmp_path / "one.avi", frames_of(clip)[: 3 * FPS])) as recognizer:
        analyses = recognizer.analyses()
        told = [next(analyses) for _ in range(20)]
        asking = threading.Thread(target=recognizer.take_baseline, args=[2.0])
        asking.start()
        asking.join()
        told += list(analyses)
    assert events_of(told) == []
    (baseline,) = (b for a in told for b in a.baselines)
    assert 0.5 < baseline.start_s < 1.5 < EVENTS[0].interval.onset_s
    assert baseline.withheld == 1


def test_smiling_person_gets_a_poor_baseline_when_the_video_ends_in_it(clip, tmp_path):
    path = write_video(tmp_path / "short.avi", frames_of(clip)[:20])
    (baseline,) = (b for a in analyses_of(path, baseline_s=6.0) for b in a.baselines)
    assert baseline.flaws == (BaselineFlaw.TOO_SHORT, BaselineFlaw.SMILE)
    assert baseline.end_s == pytest.approx(19 / FPS, abs=0.01)
