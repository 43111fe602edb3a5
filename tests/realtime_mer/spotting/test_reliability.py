"""What a report is worth: the network's word, how long it said so, and how restless the face is."""

import json

import pytest

from realtime_mer.model_file import SPOTTER
from realtime_mer.spotting.reliability import Evidence, Reliability, log_odds
from realtime_mer.spotting.spotter import SpotterModel

MEASURED = Reliability((0.3, 0.5, 1.1, -0.7, 0.5))
USUAL = Evidence(end=2.0, inside=-1.0, length_s=0.3, restlessness=1.0)


def test_the_score_is_a_logistic_function_of_the_evidence():
    odds = 0.3 * 2.0 - 0.5 * 1.0 + 1.1 * 0.3 - 0.7 * 1.0 + 0.5
    assert log_odds(MEASURED.score(USUAL)) == pytest.approx(odds)


def test_the_delivered_spotter_believes_what_lasts_and_doubts_restless_faces():
    reliability = SpotterModel(SPOTTER).reliability
    assert reliability.is_measured
    usual = reliability.score(USUAL)
    assert 0 < usual < 1
    for better in ({"end": 4.0}, {"inside": 1.0}, {"restlessness": 0.3}):
        assert reliability.score(USUAL._replace(**better)) > usual


def test_without_a_measurement_the_score_is_what_the_network_says():
    nothing = Reliability.from_card(None)
    assert not nothing.is_measured
    for probability in (0.2, 0.5, 0.99):
        evidence = USUAL._replace(end=log_odds(probability), restlessness=9.0)
        assert nothing.score(evidence) == pytest.approx(probability)


@pytest.mark.parametrize("end", [-1e9, 1e9])
def test_a_score_is_a_probability_whatever_the_evidence(end):
    assert 0 <= MEASURED.score(USUAL._replace(end=end)) <= 1


@pytest.mark.parametrize("found", [MEASURED, Reliability()])
def test_what_goes_on_a_card_comes_back(found):
    assert Reliability.from_card(json.loads(json.dumps(found.to_card()))) == found


WEIGHTS = dict.fromkeys((*Evidence._fields, "constant"), 1.0)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        "sure",
        [1.0, 2.0, 3.0, 4.0, 5.0],
        {**WEIGHTS, "end": float("nan")},
        {**WEIGHTS, "inside": None},
        {name: weight for name, weight in WEIGHTS.items() if name != "constant"},
        # of an earlier revision
        {
            "lively_rise": 2.6,
            "calibration": {"log_odds": 0.57, "liveliness": -0.5, "constant": -1.5},
        },
    ],
)
def test_nonsense_on_a_card_is_refused(entry):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Reliability.from_card(entry)
