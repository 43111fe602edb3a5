"""The chain: real tracker, real weights, clips whose truth is known."""

import dataclasses
import doctest
import json
import math
import re
from itertools import pairwise

import cv2
import numpy as np
import pytest

from realtime_mer.analysis import analyser as analyser_module
from realtime_mer.analysis.analyser import Analyser
from realtime_mer.analysis.face_chain import FaceChain
from realtime_mer.face import landmarker
from realtime_mer.face.landmark_network import LandmarkNetwork
from realtime_mer.face.registration import crop
from realtime_mer.face.tracker import TrackedFrame
from realtime_mer.model_file import SPOTTER
from realtime_mer.results import Interval
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.source.frame import Frame
from realtime_mer.spotting.matching import overlap
from realtime_mer.spotting.spotter import SpotterModel
from realtime_mer.stats import Stats
from tests.sessions import (
    EVENTS,
    FPS,
    analyses_of,
    coming_and_going,
    events_of,
    frames_of,
    gaps_of,
    make_clip,
    write_video,
)
from tests.spotters import VISIBILITY, spotter_with


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
    shift = np.array([changes.pop("shift_px", 0.0), 0, 0], np.float32)
    chain = FaceChain(0, SpotterModel(SPOTTER), Stats())
    for index in range(4):
        landmarks = astronaut_tracked.landmarks + index * shift
        face = dataclasses.replace(astronaut_tracked, landmarks=landmarks, **changes)
        frame = Frame(index, index / FPS, astronaut, 0.0)
        step = chain.step(face, TrackedFrame(frame, (face,), 0.0, FPS), (index - 1) / FPS, 0.1)
    assert step.state.nuisances == nuisances


def test_limits_of_detection_are_told_and_unknown_again_after_a_gap(
    tmp_path, astronaut, astronaut_tracked
):
    def limits(index: int, chain: FaceChain):
        noise = np.random.default_rng(index).integers(0, 4, astronaut.shape, np.uint8)
        # Without noise, the picture would count as frozen.
        frame = Frame(index, index / FPS, cv2.add(astronaut, noise), 0.0)
        tracked = TrackedFrame(frame, (astronaut_tracked,), 0.0, FPS)
        return chain.step(astronaut_tracked, tracked, (index - 1) / FPS, 0.1).state.limits

    def model_with(visibility):
        return SpotterModel(spotter_with(tmp_path, visibility=visibility))

    model = model_with(VISIBILITY)
    chain = FaceChain(0, model, Stats())
    known = [limits(k, chain) for k in range(45)]
    # The spotter's warm-up is a second.
    assert known[:29] == [None] * 29
    upper, middle, lower = known[-1]
    assert 0.3 <= upper < middle < lower < 8
    # Where the threshold is higher than that of the measurement, the limits do not hold.
    model.threshold += 0.01
    assert limits(45, chain) is None
    model.threshold -= 0.02
    assert limits(46, chain) is not None
    assert limits(90, chain) is None
    without = FaceChain(0, model_with(None), Stats())
    assert [limits(k, without) for k in range(45)] == [None] * 45


def test_motion_of_the_last_fifth_of_a_second_is_told(eventful):
    assert all(a.faces[0].motion is None for a in eventful if a.frame.time_s < 0.19)
    later = [(a.frame.time_s, a.faces[0].motion) for a in eventful if a.frame.time_s > 0.21]
    assert all(m.shape == (16, 2) and m.dtype == np.float32 for _, m in later)
    largest = {t: float(np.linalg.norm(m, axis=1).max()) for t, m in later}
    # At the apex of the raised brows a region has moved; before them hardly any has.
    surprise = EVENTS[0].interval
    raised = max(s for t, s in largest.items() if abs(t - surprise.apex_s) < 0.1)
    calm = np.median([s for t, s in largest.items() if 1 < t < surprise.onset_s])
    assert raised > max(0.5, 3 * calm)
    brows = next(m for t, m in later if t > surprise.apex_s)[:4]
    assert (brows[:2, 1] < -0.3).all()  # upwards


def test_motion_is_unknown_again_after_a_gap(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "lost.avi", astronaut, [(12, 10), (12, 0)])
    analyses = analyses_of(path)
    (gap,) = gaps_of(analyses)
    known = {a.frame.time_s - gap.end_s: a.faces[0].motion for a in analyses if a.faces}
    assert all(motion is None for t, motion in known.items() if 0 <= t < 0.19)
    assert any(motion is not None for t, motion in known.items() if t > 0.21)


def test_event_carries_its_picture(eventful):
    for event in events_of(eventful):
        picture = event.picture
        assert picture.onset.shape == picture.apex.shape == (224, 224)
        assert picture.flow.shape == (28, 28, 2)
        assert picture.flow.dtype == np.float32
        assert not any(a.flags.writeable for a in (picture.onset, picture.apex, picture.flow))
        assert (picture.onset != picture.apex).any()
        size = np.linalg.norm(picture.flow[5:24, 5:24], axis=-1)
        assert event.intensity_px / 2 < size.max() < 1.5 * event.intensity_px


def test_state_of_face_and_source_is_told(eventful):
    last = eventful[-1]
    assert last.source_fps == pytest.approx(FPS, abs=0.2)
    assert last.faces[0].quality > 0.8
    assert last.alerts == ()
    card = json.loads(SPOTTER.with_suffix(".json").read_text())
    (recommended,) = [
        p["false_per_minute"]
        for p in card["operating_curve"]
        if p["threshold"] == card["threshold"]
    ]
    assert last.sensitivity == pytest.approx(recommended)


def test_face_that_is_too_small_is_told_without_flickering(astronaut, tmp_path):
    face_px = 204

    def of_width(width: float) -> np.ndarray:
        small = cv2.resize(
            astronaut, None, fx=width / face_px, fy=width / face_px, interpolation=cv2.INTER_AREA
        )
        frame = np.full((300, 300, 3), 90, np.uint8)
        frame[20 : 20 + small.shape[0], 20 : 20 + small.shape[1]] = small
        return frame

    widths = [80] * 5 + [50] * 5 + [62] * 5 + [78] * 5
    analyses = analyses_of(write_video(tmp_path / "far.avi", [of_width(w) for w in widths]))
    told = [a.alerts for a in analyses]
    assert told[4] == ()
    assert re.fullmatch(r"face too small: [45]\d px wide", *told[9])
    assert re.fullmatch(r"face too small: 6\d px wide", *told[14])
    assert told[19] == ()
    before = analyses_of(write_video(tmp_path / "first.avi", [of_width(63)] * 5))
    assert before[-1].alerts == ()


def test_source_of_200_fps_is_analysed_whole_with_few_looks_of_the_network(
    astronaut, tmp_path, monkeypatch
):
    looks = []
    look = LandmarkNetwork.landmarks
    monkeypatch.setattr(LandmarkNetwork, "landmarks", lambda *a: looks.append(1) or look(*a))
    count, fps = 60, 200
    frames = [
        np.roll(astronaut[:480, 60:640], (0, round(12 * math.sin(i / 12))), (0, 1))
        for i in range(count)
    ]
    path = write_video(tmp_path / "fast.avi", frames, fps)
    with Recognizer(path) as recognizer:
        found = list(recognizer.analyses())
        moved = recognizer.summary("").stats["stages_ms"]["flow"]["count"]
    sparse_looks = len(looks)
    monkeypatch.setattr(landmarker, "CARRIED_S", 0.0)
    every = analyses_of(path)
    assert [a.frame.index for a in found] == list(range(count))
    assert sparse_looks <= 8
    assert len(looks) - sparse_looks >= count - 2
    assert count / 2 <= moved <= count / 2 + 9
    assert found[-1].source_fps == pytest.approx(fps, rel=0.05)
    assert all(len(a.faces) == 1 for a in found)
    for sparse, dense in zip(found, every, strict=True):
        apart = sparse.faces[0].landmarks - dense.faces[0].landmarks
        assert np.abs(apart.mean(0)).max() < 1.5  # the face goes up to 1 px a frame
    assert gaps_of(found) == []


def test_what_moves_the_skin_too_far_is_not_reported(clip, eventful, monkeypatch):
    sizes = sorted(event.intensity_px for a in eventful for event in a.events)
    assert len(sizes) > 1
    assert sizes[-1] < analyser_module._MOST_INTENSITY_PX
    for most, count in ((sizes[0], 1), (sizes[-1], len(sizes)), (sizes[0] / 2, 0)):
        monkeypatch.setattr(analyser_module, "_MOST_INTENSITY_PX", most)
        found = [event.intensity_px for a in analyses_of(clip) for event in a.events]
        assert len(found) == count
        assert all(size <= most for size in found)


def test_sensitivity_moves_the_threshold_while_it_runs(clip):
    with Recognizer(clip, sensitivity=0.1) as recognizer:
        assert recognizer.sensitivity == pytest.approx(0.1)
        analyses = recognizer.analyses()
        strict = next(analyses)
        recognizer.sensitivity = 3.0
        for _ in range(8):  # those that were read ahead
            later = next(analyses)
    assert strict.sensitivity == pytest.approx(0.1)
    assert later.sensitivity == pytest.approx(3.0)


# Pictures of one's own, one by one


def test_pushed_pictures_give_the_events_of_the_file(clip, eventful):
    found = []
    with Analyser(source=str(clip)) as analyser:
        for index, image in enumerate(frames_of(clip)):
            found.append(analyser(image, eventful[index].frame.time_s))
    assert [e.to_dict() for e in events_of(found)] == [e.to_dict() for e in events_of(eventful)]
    assert [a.faces[0].score for a in found[60:]] == [a.faces[0].score for a in eventful[60:]]


def test_example_of_the_analyser_runs(clip):
    images = frames_of(clip)[: round(2.9 * FPS)]
    done = doctest.testmod(analyser_module, extraglobs={"images": images})
    assert (done.failed, done.attempted > 0) == (0, True)


def test_pushed_picture_stays_the_callers(astronaut):
    image = astronaut.copy()
    with Analyser() as analyser:
        analysis = analyser(image, 0.0)
    assert image.flags.writeable
    assert not analysis.frame.image.flags.writeable


@pytest.mark.parametrize("time_s", [0.1, 0.05, float("nan")])
def test_pushed_times_must_rise(astronaut, time_s):
    with Analyser() as analyser:
        analyser(astronaut, 0.1)
        with pytest.raises(ValueError, match="times rise"):
            analyser(astronaut, time_s)


def test_closed_analyser_takes_no_picture(astronaut):
    analyser = Analyser()
    analyser.close()
    analyser.close()
    with pytest.raises(ValueError, match="closed"):
        analyser(astronaut, 0.0)


@pytest.mark.parametrize("options", [{"faces": 0}, {"providers": "abacus"}, {"sensitivity": -1.0}])
def test_wrong_options_leave_opencvs_threads_alone(options):
    before = cv2.getNumThreads()
    with pytest.raises(ValueError, match=r"faces|providers|false reports"):
        Analyser(**options)
    assert cv2.getNumThreads() == before


def test_the_state_of_a_face_tells_its_place_depth_and_blendshapes(astronaut, astronaut_tracked):
    with Analyser() as analyser:
        (state,) = analyser(astronaut, 0.0).faces
        (step,) = analyser.steps
    np.testing.assert_array_equal(crop(astronaut, state.matrix), step.face.grey)
    np.testing.assert_array_equal(state.depth, astronaut_tracked.landmarks[:, 2])
    assert state.blendshapes.shape == (52,)
    assert state.blendshapes.max() <= 1
    # The lids and the jaw, in MediaPipe's order.
    assert state.blendshapes[9:11].max() == pytest.approx(astronaut_tracked.blink)
    assert state.blendshapes[25] == pytest.approx(astronaut_tracked.jaw_open)
    assert not any(a.flags.writeable for a in (state.matrix, state.depth, state.blendshapes))


def test_steps_of_a_face_give_its_registered_picture_and_motion(astronaut):
    with Analyser() as analyser:
        for index in range(3):
            frame = Frame(index, index / FPS, astronaut, 0.0)
            (step,) = analyser.follow(analyser.track(frame))
        assert step.face.grey.shape == (224, 224)
        assert step.motion.time_s == 2 / FPS
        assert step.gap is None
        pair = analyser.pair(0, Interval(0.0, 1 / FPS, 2 / FPS))
        assert pair.images.shape == (2, 28, 28, 3)
        with pytest.raises(KeyError):
            analyser.pair(1, Interval(0.0, 1 / FPS, 2 / FPS))
