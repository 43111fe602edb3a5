"""How often a spotter is wrong on calm and on lively faces; what its probabilities are worth."""

import numpy as np
import pytest

from realtime_mer.model_file import SPOTTER
from realtime_mer.spotting.reliability import Reliability
from realtime_mer.spotting.spotter import SpotterModel
from tests.signals import write_signals
from tools.spotting.judging import LENIENT, Judged, judge


def judged(true_odds, false_odds, liveliness, minutes=10.0):
    """Reports of many people, all as lively."""
    count = len(true_odds) + len(false_odds)
    return Judged(
        np.array([f"person {i % 17}" for i in range(count)]),
        np.array([*true_odds, *false_odds], float),
        np.full(count, liveliness),
        np.arange(count) < len(true_odds),
        60 * minutes * (liveliness < 0.5),
        60 * minutes * (liveliness >= 0.5),
        len(true_odds),
    )


def test_the_rise_leaves_so_many_false_reports_on_lively_faces():
    found = judged([], [0.55, 1.05, 1.55, 2.05], liveliness=1.0)
    assert found.false_per_minute(0.5, 0.0) == (0.0, pytest.approx(0.4))
    for allowed, rise in ((0.4, 0.0), (0.2, 1.1), (0.1, 1.6), (0.05, 2.1)):
        assert found.lively_rise(0.5, allowed) == rise
        assert found.false_per_minute(0.5, rise)[1] <= allowed


def test_the_threshold_on_calm_faces_is_the_lowest_from_which_on_all_are_right_often_enough():
    found = judged([], [-0.5, 0.1, 1.0], liveliness=0.0)  # 0.38, 0.52, 0.73
    thresholds = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    at = [found.calm_threshold(thresholds, allowed) for allowed in (0.3, 0.2, 0.1, 0.0)]
    assert at == [0.3, 0.4, 0.6, 0.8]


def test_probabilities_that_are_right_stay_and_others_are_mended():
    rng = np.random.default_rng(0)
    odds = rng.normal(1.0, 2.0, 3000)
    for worth in (1.0, 0.5):
        true = rng.uniform(size=3000) < 1 / (1 + np.exp(-worth * odds))
        found = judged(odds[true], odds[~true], liveliness=0.0)
        of_end, _, constant = found.calibration()
        assert of_end == pytest.approx(worth, abs=0.1)
        assert constant == pytest.approx(0.0, abs=0.15)
        assert found.calibration_error() < 0.05


def test_few_reports_tell_no_probability():
    found = judged([1.0] * 9, [0.0] * 50, liveliness=0.0)
    assert found.calibration() is None
    assert found.calibration_error() is None


def test_reports_on_clips_are_true_where_something_is_hidden(tmp_path, astronaut_face):
    events = [(3.0, 3.17, 3.36, 0.0), (6.0, 6.2, 6.4, 0.0), (9.0, 9.15, 9.3, 0.0)]
    path = write_signals(
        tmp_path / "someone.0.npz", astronaut_face, events=events[:2], noise_px=0.03, raise_px=2.5
    )
    other = write_signals(
        tmp_path / "other.0.npz", astronaut_face, events=events, noise_px=0.03, raise_px=2.5
    )
    # The third motion is there, but nobody has said so.
    with np.load(other) as signals:
        kept = dict(signals)
    np.savez(other, **{**kept, "events": kept["events"][:2]})
    model = SpotterModel(SPOTTER, threshold=0.99)
    model.reliability = Reliability(6.0)  # is not used
    lenient, strict = judge([path, other], model, [LENIENT, (1.0, Reliability())])
    assert len(strict.true) == 0
    found = lenient
    assert found.events == 4
    assert found.people[found.true].tolist() == ["someone"] * 2 + ["other"] * 2
    assert found.people[~found.true].tolist() == ["other"]
    assert found.calm_s + found.lively_s == pytest.approx(2 * 399 / 30)
    assert found.calm_s > 10
    figures = found.figures
    assert (figures["found"], figures["recall"]) == (4, 1.0)
    assert figures["false_per_minute_calm"] == pytest.approx(60 / found.calm_s)
