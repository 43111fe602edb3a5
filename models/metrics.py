"""Figures of recognition: UF1, UAR, ACC, and the calibration of probabilities."""

from __future__ import annotations

import numpy as np

from models.data import LABELS


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (..., classes) of logits of the same shape."""
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def confusion(truth: np.ndarray, answer: np.ndarray, classes: int = len(LABELS)) -> np.ndarray:
    """Clips by true class (rows) and answered class (columns)."""
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (truth, answer), 1)
    return matrix


def scores(truth: np.ndarray, answer: np.ndarray, classes: int = len(LABELS)) -> dict[str, float]:
    """UF1 (mean of the classes' F1), UAR (mean of their recalls) and ACC, pooled over all clips.

    A class that is neither true nor answered anywhere counts as 0.

    >>> scores(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]))["ACC"]
    0.75
    """
    matrix = confusion(truth, answer, classes)
    hits, true, answered = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    return {
        "UF1": float((2 * hits / np.maximum(true + answered, 1)).mean()),
        "UAR": float((hits / np.maximum(true, 1)).mean()),
        "ACC": float(hits.sum() / max(matrix.sum(), 1)),
    }


def _likelihood_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    chosen = softmax(logits)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature by which to divide the logits so that their probabilities fit best.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """
    candidates = np.geomspace(0.2, 5, 200)
    losses = [_likelihood_loss(logits / t, labels) for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 10
) -> float:
    """Mean distance of confidence and accuracy over equal bins of confidence, weighted by clips."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for b in np.unique(bin_of):
        inside = bin_of == b
        error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return float(error)


def least_confidence(probabilities: np.ndarray, labels: np.ndarray, wanted: float) -> float:
    """The least confidence from which on answers are right often enough.

    Args:
        probabilities: (n, classes) of clips that were not trained on.
        labels: (n,) of the same.
        wanted: Share of right answers among those with this confidence or more.

    Returns:
        0 if all answers together are right so often, 1 if not even the surest are.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    order = np.argsort(-confidence)
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(shares >= wanted)
    if not len(enough):
        return 1.0
    return 0.0 if enough[-1] == len(order) - 1 else float(confidence[order[enough[-1]]])
