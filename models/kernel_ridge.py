"""Kernel ridge regression on the motions of flow pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from models.baseline import Baseline, check_classes, missing_library
from models.causalnet import CLASSES, CompactCausalNet
from models.data import Clips
from models.training import class_weights
from models.views import mirrored

# No setting was searched for: the kernel's width is the median distance between clips, the ridge
# is as large as the kernel of a clip with itself, and classes weigh as they do for the networks.
_RIDGE = 1.0
_BALANCE = 0.5
_POOL = 2
"""Pixels of the flow image, across and down, whose mean is a feature."""
_SCALE = 8.0
"""Brings the regression's answers, of about 0 to 1, to the size of logits."""


def features(pairs: np.ndarray) -> np.ndarray:
    """Motions (n, 2 * 2 * 14 * 14), centred and scaled as the compact CausalNet sees them.

    Args:
        pairs: Flow pairs (n, 2, 28, 28, 3) uint8.
    """
    images = torch.from_numpy(pairs)[..., 1:].float().permute(0, 1, 4, 2, 3)
    motions = CompactCausalNet.centre(images).flatten(0, 1)  # (2 n, (v, u), 28, 28)
    return functional.avg_pool2d(motions, _POOL).reshape(len(pairs), -1).double().numpy()


def _squares(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared distances (n, m) of the rows (n, features) and (m, features)."""
    exact = "donot_use_mm_for_euclid_dist"
    rows = torch.from_numpy(first), torch.from_numpy(second)
    return (torch.cdist(*rows, compute_mode=exact) ** 2).numpy()


class KernelRidge(Baseline):
    """scikit-learn's kernel ridge regression of the classes, with Gaussian kernels.

    A clip and its mirror image have the same answer.
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__(classes)
        self._machine: Any = None
        self._learnt = np.zeros((0, 0))
        self._width = 1.0
        self._prior = np.zeros(classes)

    def learn(self, clips: Clips) -> None:
        try:
            from sklearn import kernel_ridge
        except ImportError as error:
            raise missing_library() from error
        check_classes(clips)
        self._learnt = features(clips.pairs)
        self._width = float(np.median(torch.pdist(torch.from_numpy(self._learnt)) ** 2)) or 1.0
        importance = class_weights(clips.labels, _BALANCE, self.classes).numpy()[clips.labels]
        targets = np.eye(self.classes)[clips.labels]
        self._prior = np.average(targets, axis=0, weights=importance)
        self._machine = kernel_ridge.KernelRidge(alpha=_RIDGE, kernel="precomputed")
        self._machine.fit(self._kernels(clips.pairs), targets - self._prior, importance)

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """Logits (n, classes) of flow pairs (n, 2, 28, 28, 3)."""
        return (self._machine.predict(self._kernels(inputs)) + self._prior) * _SCALE

    def _kernels(self, pairs: np.ndarray) -> np.ndarray:
        """(n, learnt) mean kernels of flow pairs and of their mirror images with those learnt."""
        views = pairs, mirrored(torch.from_numpy(pairs)).numpy()
        squares = [_squares(features(view), self._learnt) for view in views]
        return np.mean([np.exp(-d / self._width) for d in squares], axis=0)
