"""Baselines that are a descriptor of each clip and a linear support vector machine."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.baseline import Baseline, check_classes, missing_library
from models.causalnet import CLASSES
from models.data import Clips


class SupportVectors(Baseline):
    """A linear support vector machine on descriptors.

    It is scikit-learn's with its default C = 1. Classes weigh alike, and the descriptors
    are centred and have a mean square length of 1.

    Args:
        classes: How many there are.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__(classes)
        self._machine: Any = None
        self._centre = np.zeros(0)
        self._length = 1.0

    def describe(self, inputs: np.ndarray) -> np.ndarray:
        """Descriptors (n, features) of the inputs of n clips."""
        raise NotImplementedError

    def learn(self, clips: Clips) -> None:
        """Learns from clips.

        Raises:
            InputError: All of them are of one class, or scikit-learn is not installed.
        """
        try:
            from sklearn.svm import SVC
        except ImportError as error:
            raise missing_library() from error
        check_classes(clips)
        described = self.describe(clips.pairs)
        self._centre = described.mean(0)
        squares = ((described - self._centre) ** 2).sum(1)
        self._length = float(np.sqrt(squares.mean())) or 1.0
        self._machine = SVC(kernel="linear", class_weight="balanced")
        self._machine.fit(self._scaled(described), clips.labels)

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Decision values (n, classes); a class that was not learnt is the least likely."""
        values = self._machine.decision_function(self._scaled(self.describe(inputs)))
        if values.ndim == 1:  # of two classes
            values = np.stack([-values, values], axis=1)
        logits = np.repeat(values.min(1, keepdims=True) - 1, self.classes, axis=1)
        logits[:, self._machine.classes_] = values
        return logits

    def _scaled(self, described: np.ndarray) -> np.ndarray:
        return (described - self._centre) / self._length
