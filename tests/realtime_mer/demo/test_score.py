"""Found events are compared with hidden ones: pairs, misses and false reports."""

import pytest

from realtime_mer.demo.clip import DemoTruth, HiddenEvent
from realtime_mer.demo.score import compare
from realtime_mer.results import Interval, MicroExpression


def hidden(onset: float, offset: float, label: str = "positive") -> HiddenEvent:
    return HiddenEvent(Interval(onset, (onset + offset) / 2, offset), label, ("AU12",), 2.0)


def found(onset: float, offset: float, label: str = "positive") -> MicroExpression:
    probabilities = {"negative": 0.1, "positive": 0.1, "surprise": 0.1} | {label: 0.8}
    return MicroExpression(
        0, Interval(onset, (onset + offset) / 2, offset), probabilities, 2.0, offset
    )


def test_compare_pairs_one_to_one_and_shows_misses_and_false_reports():
    truth = DemoTruth((hidden(1, 2), hidden(4, 5, "negative"), hidden(7, 8)), (), 30.0, 300)
    close, better = found(1.2, 2.2), found(1.1, 2.0)
    wrong = found(4, 5)
    far = found(7.6, 8.6)  # overlaps by a quarter
    rows = compare(truth, [close, wrong, far, better])
    assert [(r.hidden, r.found) for r in rows] == [
        (truth.events[0], better),
        (None, close),
        (truth.events[1], wrong),
        (truth.events[2], None),
        (None, far),
    ]
    assert [r.label_is_right for r in rows] == [True, False, False, False, False]
    assert rows[0].overlap == pytest.approx(0.9)


def test_compare_with_nothing_found_and_nothing_hidden():
    truth = DemoTruth((hidden(1, 2),), (), 30.0, 300)
    assert [r.found for r in compare(truth, [])] == [None]
    assert compare(DemoTruth((), (), 30.0, 300), []) == []
