"""Bi-WOOF: where the face moves in which direction, weighted by how much and by the strain.

Liong, See, Wong, Phan, "Less is More: Micro-expression Recognition from Video using Apex Frame",
Signal Processing: Image Communication 62, 2018, arXiv 1606.01721.
"""

from __future__ import annotations

import numpy as np
import torch

from models.support_vectors import SupportVectors
from models.training import motions_of

_BLOCKS = 7
"""In each direction. The paper has 5 to 8; with 7, a block is 4 x 4 pixels of the flow image."""
_DIRECTIONS = 8


def bi_woof(pairs: np.ndarray) -> np.ndarray:
    """(n, 7 * 7 * 8) Bi-WOOF of the motion from onset to apex.

    In each block, a histogram of the directions, each cell weighted by its speed; the histogram is
    weighted by the block's mean strain. The flow images hide the zero and the scale of a clip's
    motion, so its median stands for the zero, and all histograms of a clip together have length 1.

    Args:
        pairs: Flow pairs (n, 2, 28, 28, 3) uint8.
    """
    motions, strains = motions_of(torch.from_numpy(pairs))
    v, u = motions[:, 0].numpy().swapaxes(0, 1)  # (n, 28, 28) each
    strain = strains[:, 0, 0].numpy()
    turns = np.arctan2(v, u) / (2 * np.pi)  # -.5 to .5
    direction = np.floor(turns * _DIRECTIONS).astype(int) % _DIRECTIONS
    weighted = np.eye(_DIRECTIONS)[direction] * np.hypot(u, v)[..., None]  # (n, 28, 28, 8)
    histograms = _block_means(weighted) * _block_means(strain[..., None])  # (n, 7, 7, 8)
    flat = histograms.reshape(len(pairs), -1)
    return flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9)


def _block_means(x: np.ndarray) -> np.ndarray:
    """Means (n, 7, 7, k) over the blocks of (n, 28, 28, k)."""
    n, side, _, k = x.shape
    size = side // _BLOCKS
    return x.reshape(n, _BLOCKS, size, _BLOCKS, size, k).mean((2, 4))


class BiWoof(SupportVectors):
    """Bi-WOOF with a linear support vector machine."""

    def describe(self, inputs: np.ndarray) -> np.ndarray:
        """Bi-WOOF of flow pairs (n, 2, 28, 28, 3)."""
        return bi_woof(inputs)
