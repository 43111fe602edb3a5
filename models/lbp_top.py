"""LBP-TOP: which small patterns of light and dark the clip shows, in space and over time.

Zhao, Pietikäinen, "Dynamic Texture Recognition Using Local Binary Patterns with an Application to
Facial Expressions", IEEE TPAMI 2007. Blocks, radii and neighbours are those of CASME II's baseline
(Yan et al., "CASME II", PLoS ONE 2014): 5 x 5 blocks, 1 pixel and 4 frames, 4 neighbours.
"""

from __future__ import annotations

import numpy as np

from models.support_vectors import SupportVectors

_BLOCKS = 5
_RADII = (4, 1, 1)
"""Of time, rows and columns: frames and pixels."""
_PLANES = ((1, 2), (0, 2), (0, 1))
"""The axes of the three planes: rows and columns, time and columns, time and rows."""
_PATTERNS = 2**4
FRAMES, SIDE = 20, 112
"""The clip that is described: grey faces at equal times, and their height and width, pixels."""


def lbp_top(faces: np.ndarray) -> np.ndarray:
    """(5 * 5 * 3 * 16,) shares of the patterns in each block and plane.

    A pattern says which of a pixel's four neighbours in the plane are at least as bright as it.

    Args:
        faces: (frames, height, width) uint8, more than 8 frames.
    """
    inner = tuple(slice(r, -r) for r in _RADII)
    middle = faces[inner]
    # Blocks of pixels: the number of each pixel's block.
    row, column = (np.arange(size) * _BLOCKS // size for size in middle.shape[1:])
    block = row[:, None] * _BLOCKS + column  # (height, width)
    count = np.bincount(block.ravel(), minlength=_BLOCKS**2) * len(middle)
    shares = []
    for axes in _PLANES:
        pattern = np.zeros(middle.shape, np.int64)
        for bit, (axis, step) in enumerate((axis, step) for axis in axes for step in (-1, 1)):
            beside = list(inner)
            radius = _RADII[axis]
            first = radius + step * radius
            beside[axis] = slice(first, first + middle.shape[axis])
            pattern |= (faces[tuple(beside)] >= middle).astype(np.int64) << bit
        found = np.bincount((block * _PATTERNS + pattern).ravel(), minlength=_BLOCKS**2 * _PATTERNS)
        shares.append(found.reshape(-1, _PATTERNS) / count[:, None])
    return np.stack(shares, axis=1).ravel().astype(np.float32)  # of (25, 3, 16)


class LbpTop(SupportVectors):
    """LBP-TOP with a linear support vector machine. Sees what `lbp_top` gives for each clip."""

    def describe(self, inputs: np.ndarray) -> np.ndarray:
        """The inputs (n, 1200), which are the descriptors."""
        return inputs
