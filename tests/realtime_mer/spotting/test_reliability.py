"""A probability is worth less where a face is lively."""

import json

import pytest

from realtime_mer.spotting.reliability import CALM, LIVELY, Reliability

MEASURED = Reliability(2.8, (0.5, -0.4, -1.5))


def test_the_threshold_rises_from_calm_to_lively_faces_and_not_further():
    at = [MEASURED.threshold(0.5, r) for r in (0.0, CALM, (CALM + LIVELY) / 2, LIVELY, 9.0)]
    assert at[0] == at[1] == pytest.approx(0.5)
    assert at[1] < at[2] < at[3] == at[4] == pytest.approx(1 / (1 + 2.718281828**-2.8))


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.99, 1.0])
def test_without_a_measurement_the_threshold_stays_and_there_is_no_score(threshold):
    nothing = Reliability.from_card(None)
    assert nothing.threshold(threshold, 9.0) == threshold
    assert nothing.score(0.9, 9.0) is None


def test_the_score_rises_with_the_probability_and_falls_with_liveliness():
    scores = [MEASURED.score(p, 0.0) for p in (0.0, 0.5, 0.9, 0.999, 1.0)]
    assert scores == sorted(scores)
    assert 0 < scores[0] < scores[-1] < 1
    assert MEASURED.score(0.9, 3.0) < MEASURED.score(0.9, 0.0)


@pytest.mark.parametrize("found", [MEASURED, Reliability(1.0, None)])
def test_what_goes_on_a_card_comes_back(found):
    assert Reliability.from_card(json.loads(json.dumps(found.to_card()))) == found


@pytest.mark.parametrize(
    "entry",
    [
        {},
        "sure",
        {"lively_rise": -1.0, "calibration": None},
        {"lively_rise": float("nan"), "calibration": None},
        {"lively_rise": 1.0, "calibration": {"log_odds": 1.0}},
        {"lively_rise": 1.0, "calibration": [1.0, 2.0, 3.0]},
    ],
)
def test_nonsense_on_a_card_is_refused(entry):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Reliability.from_card(entry)
