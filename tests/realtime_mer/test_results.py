"""Intervals are in order, and the most probable label is the label."""

import numpy as np
import pytest

from realtime_mer.results import UNCERTAIN, Interval, MicroExpression


@pytest.mark.parametrize(
    ("onset", "apex", "offset"),
    [(1.0, 1.1, 1.3), (1.0, 1.0, 1.3), (1.0, 1.3, 1.3), (0.0, 0.0, 0.0), (-0.1, 0.0, 0.1)],
)
def test_an_interval_in_order_has_its_length(onset, apex, offset):
    assert Interval(onset, apex, offset).length_s == pytest.approx(offset - onset)


@pytest.mark.parametrize(
    ("onset", "apex", "offset"),
    [
        (1.0, 0.9, 1.3),
        (1.0, 1.4, 1.3),
        (1.3, 1.1, 1.0),
        (np.nan, 1.1, 1.3),
        (1.0, np.nan, 1.3),
        (1.0, 1.1, np.nan),
    ],
)
def test_an_interval_out_of_order_is_refused(onset, apex, offset):
    with pytest.raises(ValueError, match="onset <= apex <= offset"):
        Interval(onset, apex, offset)


@pytest.mark.parametrize("label", ["negative", "positive", "surprise"])
def test_label_and_confidence_are_those_of_the_greatest_probability(label):
    probabilities = dict.fromkeys(("negative", "positive", "surprise"), 0.2) | {label: 0.6}
    event = MicroExpression(0, Interval(1.0, 1.1, 1.2), probabilities, 2.0, 1.3)
    assert event.label == label
    assert event.confidence == 0.6


@pytest.mark.parametrize(
    ("least", "label"),
    [(0.0, "positive"), (0.6, "positive"), (0.61, UNCERTAIN), (1.0, UNCERTAIN)],
)
def test_less_confidence_than_wanted_makes_the_label_uncertain_and_no_more(least, label):
    probabilities = {"negative": 0.2, "positive": 0.6, "surprise": 0.2}
    interval = Interval(1.0, 1.1, 1.2)
    event = MicroExpression(0, interval, probabilities, 2.0, 1.3, least_confidence=least)
    assert event.label == label
    assert event.confidence == 0.6
    assert event.probabilities == probabilities


def test_what_is_known_of_an_event_cannot_be_changed():
    event = MicroExpression(0, Interval(1.0, 1.1, 1.2), {"negative": 1.0}, 2.0, 1.3)
    with pytest.raises(AttributeError):
        event.face = 1
    with pytest.raises(AttributeError):
        event.interval.onset_s = 0.0
