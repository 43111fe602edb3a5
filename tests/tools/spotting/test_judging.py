"""How often a spotter is wrong on calm and on lively faces; what its probabilities are worth."""

import numpy as np
import pytest

from realtime_mer.model_file import SPOTTER
from realtime_mer.spotting.reliability import Evidence, Reliability
from tests.signals import write_signals
from tools.spotting.judging import LENIENT, Judged, judge


def judged(true_odds, false_odds, restlessness=0.0, minutes=10.0):
    """Reports of many people, all as restless."""
    odds = np.array([*true_odds, *false_odds], float)
    evidence = np.column_stack([odds, odds * 0 - 1, odds * 0 + 0.3, odds * 0 + restlessness])
    return Judged(
        np.array([f"person {i % 17}" for i in range(len(odds))]),
        evidence,
        np.arange(len(odds)) < len(true_odds),
        60 * minutes * (restlessness < 1.1),
        60 * minutes * (restlessness >= 1.1),
        len(true_odds),
    )


def test_false_reports_count_where_the_face_was_calm_or_lively():
    for restlessness, calm, lively in ((0.5, 0.4, 0.0), (2.0, 0.0, 0.4)):
        figures = judged([3.0], [0.0] * 4, restlessness).figures
        assert (figures["found"], figures["recall"]) == (1, 1.0)
        assert figures["false_per_minute"] == pytest.approx(0.4)
        assert figures["false_per_minute_calm"] == pytest.approx(calm)
        assert figures["false_per_minute_lively"] == pytest.approx(lively)


def test_probabilities_that_are_right_stay_and_others_are_mended():
    rng = np.random.default_rng(0)
    odds = rng.normal(1.0, 2.0, 3000)
    for worth in (1.0, 0.5):
        true = rng.uniform(size=3000) < 1 / (1 + np.exp(-worth * odds))
        found = judged(odds[true], odds[~true])
        reliability = found.reliability()
        assert reliability.weights[0] == pytest.approx(worth, abs=0.1)
        half = reliability.score(Evidence(0.0, -1.0, 0.3, 0.0))
        assert half == pytest.approx(0.5, abs=0.04)
        assert found.calibration_error() < 0.05


def test_what_a_restless_face_is_worth_is_measured():
    rng = np.random.default_rng(0)
    evidence = rng.normal(size=(3000, 4))
    odds = 0.5 * evidence[:, 0] + 0.8 * evidence[:, 1] - 1.2 * evidence[:, 3] - 0.3
    true = rng.uniform(size=3000) < 1 / (1 + np.exp(-odds))
    people = np.array([f"person {i % 17}" for i in range(3000)])
    found = Judged(people, evidence, true, 60.0, 60.0, int(true.sum()))
    assert found.reliability().weights == pytest.approx((0.5, 0.8, 0.0, -1.2, -0.3), abs=0.15)
    on_others = found.figures_on_others(0.5)
    assert found.figures["recall"] > on_others["recall"] > 0.5
    assert on_others["precision"] > 0.65 > true.mean()


@pytest.mark.parametrize("false", [[0.0] * 50, []])
def test_few_reports_tell_no_probability(false):
    found = judged([1.0] * 9, false)
    assert not found.reliability().is_measured
    assert found.calibration_error() is None
    assert found.figures_on_others(0.5) is None


def test_one_person_tells_nothing_of_others():
    found = judged([1.0] * 20, [0.0] * 20)
    alone = Judged(np.array(["someone"] * 40), found.evidence, found.true, 60.0, 0.0, 20)
    assert alone.reliability().is_measured
    assert alone.calibration_error() is None


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
    lenient, strict = judge([path, other], SPOTTER, [LENIENT, (1.0, Reliability())], jobs=2)
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
