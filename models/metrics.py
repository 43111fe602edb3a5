"""Figures of recognition: UF1, UAR, ACC, and how far probabilities can be believed."""

from __future__ import annotations

import numpy as np

from models.data import LABELS


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def confusion(truth: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Clips by true class (rows) and answered class (columns)."""
    matrix = np.zeros((len(LABELS), len(LABELS)), int)
    np.add.at(matrix, (truth, answer), 1)
    return matrix


def scores(truth: np.ndarray, answer: np.ndarray) -> dict[str, float]:
    """UF1 (mean of the classes' F1), UAR (mean of their recalls) and ACC, pooled over all clips.

    A class that is neither there nor answered counts as 0.

    >>> scores(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]))["ACC"]
    0.75
    """
    matrix = confusion(truth, answer)
    hits, there, answered = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    return {
        "UF1": float((2 * hits / np.maximum(there + answered, 1)).mean()),
        "UAR": float((hits / np.maximum(there, 1)).mean()),
        "ACC": float(hits.sum() / max(matrix.sum(), 1)),
    }


def _likelihood_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    chosen = softmax(logits)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature by which `logits` are divided to give the likeliest probabilities."""
    candidates = np.geomspace(0.2, 5, 200)
    losses = [_likelihood_loss(logits / t, labels) for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10
) -> float:
    """Mean distance of confidence and accuracy over equal bins of confidence, weighted by clips."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for b in np.unique(place):
        inside = place == b
        error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return float(error)
