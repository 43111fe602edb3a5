"""The operating curve: the runtime's spotter at other thresholds, on motions that were kept."""

import csv
import dataclasses
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from realtime_mer.analysis.analyser import Analyser
from realtime_mer.model_file import SPOTTER
from realtime_mer.results import Interval
from realtime_mer.source.capture import Capture
from realtime_mer.spotting.spotter import Spotter, SpotterModel
from tools.spotting.figures import Result, TrueEvent
from tools.spotting.operating_curve import (
    SENSITIVITIES,
    MotionStreams,
    OperatingPoints,
    curve,
    curve_table,
    plot_curve,
    proposed,
    write_curve,
)


@pytest.fixture(scope="module")
def model():
    return SpotterModel(SPOTTER)


@pytest.fixture(scope="module")
def watched(short_demo_clip):
    """The intervals that the analyser reports on a clip, and the motions in it."""
    motions, reported = MotionStreams(), []
    with Analyser() as analyser, Capture(short_demo_clip[0]) as capture:
        for tracked in map(analyser.track, capture):
            reported += [e.interval for e in analyser.analyse(tracked).events]
            motions.add(analyser.steps)
    return tuple(reported), motions.streams


def test_at_the_threshold_in_use_it_proposes_what_is_reported(watched, model):
    reported, streams = watched
    assert len(reported) >= 1
    found = proposed(streams, model, [1e-6, model.threshold, 1.1])
    assert found[model.threshold] == reported
    assert found[1e-6]
    assert found[1.1] == ()


def test_on_restless_skin_a_lower_threshold_proposes_more_and_earlier(watched, model):
    _, streams = watched
    rng, away, restless = np.random.default_rng(0), 0.0, []
    for motion in streams[0]:
        away = 0.9 * away + rng.normal(0, 0.1)
        down = np.array([0, away], np.float32)
        restless.append(
            dataclasses.replace(motion, cells=motion.cells + down, regions=motion.regions + down)
        )
    found = proposed([restless], model, [1e-6, model.threshold])
    # At 1e-6 any peak is proposed.
    assert len(found[1e-6]) > len(found[model.threshold]) >= 1
    assert found[1e-6][0].offset_s < found[model.threshold][0].offset_s


def test_other_thresholds_propose_what_a_spotter_of_that_threshold_does(watched):
    _, streams = watched
    thresholds = (0.6, 1e-6, 0.2)
    found = proposed(streams, SpotterModel(SPOTTER), thresholds)
    for threshold in thresholds:
        alone = SpotterModel(SPOTTER, threshold)
        spotters = [(Spotter(alone), stream) for stream in streams]
        expected = [
            proposal.interval
            for spotter, stream in spotters
            for proposal in (*(p for m in stream for p in spotter(m).found), *spotter.finish())
        ]
        assert found[threshold] == tuple(expected)


def step(face: int, motion: str | None, gap: str | None = None) -> SimpleNamespace:
    """What a frame told about a face, with words in place of a motion and a gap."""
    return SimpleNamespace(state=SimpleNamespace(face=face), motion=motion, gap=gap)


def test_every_face_and_every_new_start_has_a_stream_of_its_own():
    motions = MotionStreams()
    motions.add([step(0, "a")])
    motions.add([step(0, "b"), step(1, "x")])
    motions.add([])  # lost for a moment: the motion continues
    motions.add([step(1, "y"), step(0, None)])  # of a fast source, not every frame is measured
    motions.add([step(0, "c", gap="face lost"), step(1, "z")])
    motions.add([step(0, "d")])
    assert motions.streams == [["a", "b"], ["x", "y", "z"], ["c", "d"]]


@pytest.fixture
def points_and_results(model):
    """A minute with two events: a strict spotter finds one, an eager one both and something else.

    The usual one finds one, and so do all up to its threshold.
    """
    at = OperatingPoints(model)
    one, two, none = (Interval(t, t, t + 0.4) for t in (1.0, 5.0, 9.0))

    def found(threshold):
        return (one, two, none) if threshold < min(at.of_sensitivity.values()) else (one,)

    truth = (TrueEvent(one, None), TrueEvent(two, None))
    found_at = {threshold: found(threshold) for threshold in at.thresholds}
    results = [Result("clip", truth, (), 30.0, 60.0, (), found_at)]
    return at, curve(results, at.thresholds), results


def test_the_curve_counts_at_every_threshold(points_and_results):
    at, points, _ = points_and_results
    assert [p["threshold"] for p in points] == [round(t, 4) for t in at.thresholds]
    eager, strict = points[0], points[-1]
    assert (eager["recall"], eager["F1"], eager["false_per_minute"]) == (1.0, 0.8, 1.0)
    assert (strict["recall"], strict["precision"], strict["false_per_minute"]) == (0.5, 1.0, 0.0)


def test_the_sensitivities_of_the_command_line_are_on_the_curve(points_and_results, model):
    at, points, _ = points_and_results
    assert tuple(at.of_sensitivity) == SENSITIVITIES
    for sensitivity, threshold in at.of_sensitivity.items():
        assert threshold == model.threshold_at(sensitivity)
        assert round(threshold, 4) in [p["threshold"] for p in points]
    table = curve_table(points, at)
    assert list(table.columns[0].cells) == ["0.2", "1", "3", "not set"]


def test_the_curve_is_written_and_drawn(points_and_results, tmp_path):
    at, points, results = points_and_results
    write_curve(points, tmp_path / "curve.csv")
    with (tmp_path / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["recall"]) for row in rows] == [p["recall"] for p in points]
    plot_curve(points, results, at, tmp_path / "curve.png")
    image = cv2.imread(str(tmp_path / "curve.png"))
    assert image.shape[1] > image.shape[0] > 500
    assert image.std() > 10  # something is drawn


def test_a_curve_without_events_or_false_reports_is_drawn(points_and_results, tmp_path):
    at, *_ = points_and_results
    results = [Result("clip", (), (), 30.0, 60.0, (), dict.fromkeys(at.thresholds, ()))]
    points = curve(results, at.thresholds)
    assert points[0]["recall"] is None
    plot_curve(points, results, at, tmp_path / "curve.png")
    assert cv2.imread(str(tmp_path / "curve.png")) is not None


def test_a_spotter_without_a_curve_on_its_card_has_no_sensitivities(model, monkeypatch):
    monkeypatch.setattr(model, "_curve", None)
    at = OperatingPoints(model)
    assert at.of_sensitivity == {}
    assert model.threshold in at.thresholds
