import numpy as np
import pytest

from models.metrics import (
    expected_calibration_error,
    fit_temperature,
    least_confidence,
    scores,
    softmax,
)


def test_scores_of_a_known_matrix():
    # Class 0: two of three right, one answered 2. Class 1: right. Class 2: one of two right, one
    # answered 0.
    truth = np.array([0, 0, 0, 1, 2, 2])
    answer = np.array([0, 0, 2, 1, 2, 0])
    got = scores(truth, answer)
    assert got["UF1"] == pytest.approx((4 / 6 + 1 + 2 / 4) / 3)
    assert got["UAR"] == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert got["ACC"] == pytest.approx(4 / 6)


def test_a_class_that_is_never_answered_costs_a_third():
    truth = np.array([0, 1, 2])
    assert scores(truth, np.array([0, 1, 1]))["UAR"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_temperature_undoes_a_scale(temperature):
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (4000, 3))
    labels = np.array([random.choice(3, p=p) for p in softmax(logits)])
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.12)


def test_calibration_error_is_the_gap_of_confidence_and_accuracy():
    sure = np.tile([0.95, 0.03, 0.02], (100, 1))
    labels = np.zeros(100, int)
    assert expected_calibration_error(sure, labels) == pytest.approx(0.05)
    labels[:50] = 1
    assert expected_calibration_error(sure, labels) == pytest.approx(0.45)


def test_the_least_confidence_leaves_out_answers_that_are_often_wrong():
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    probabilities = np.column_stack([confidence, 1 - confidence, np.zeros(5)])
    labels = np.array([0, 1, 0, 0, 1])
    # Right: yes, no, yes, yes, no; from 0.6 on, three of four.
    assert least_confidence(probabilities, labels, 0.75) == pytest.approx(0.6)
    assert least_confidence(probabilities, labels, 0.76) == pytest.approx(0.9)
    assert least_confidence(probabilities, labels, 0.6) == 0
    assert least_confidence(probabilities, np.full(5, 2), 0.6) == 1
