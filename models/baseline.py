"""What the classical baselines have in common: each takes a network's place in training."""

from __future__ import annotations

import numpy as np
from torch import nn

from models.causalnet import CLASSES
from models.data import Clips
from realtime_mer.errors import InputError


class Baseline(nn.Module):
    """Takes a network's place in `models.training`, but learns all at once; nothing is random.

    Args:
        classes: How many there are.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.classes = classes

    def learn(self, clips: Clips) -> None:
        """Learns from clips.

        Raises:
            InputError: All of them are of one class, or scikit-learn is not installed.
        """
        raise NotImplementedError

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Logits (n, classes) of the inputs of n clips."""
        raise NotImplementedError


def check_classes(clips: Clips) -> None:
    """Raises InputError if all clips are of one class."""
    if len(set(clips.labels)) < 2:
        raise InputError(
            "the clips to train on are all of one class: take more sets, or fewer --folds"
        )


def missing_library() -> InputError:
    """To raise where scikit-learn is not installed."""
    return InputError("this baseline needs scikit-learn: pip install -r requirements-train.txt")
