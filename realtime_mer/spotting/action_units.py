"""Names of the facial action units (FACS) that moved, from how far each piece of skin came.

One logistic function a unit looks at the displacements from onset to apex of all of the face, in
blocks of 2 x 2 cells, relative to the largest. Units that one half of the face can show alone have
one function for both halves: for the image-left half it looks at the mirrored face.
`tools/spotting/action_unit_names.py` fits the functions and leaves out the units that they tell too
seldom or wrongly; see docs/spotting.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from realtime_mer.results import ActionUnit
from realtime_mer.spotting.cell_flow import CELLS
from realtime_mer.spotting.motion import FACE_CELLS

FUNCTIONS = Path(__file__).with_name("action_units.json")
"""The delivered functions."""

# Added to the largest displacement, by which all are divided: smaller ones are mostly noise. The
# least motion of a region that an event tells (`spotter.py`).
_NOISE_PX = 0.15
# Row and column of each of `FACE_CELLS`, and where its mirror image is among them: the face is
# symmetric about column 15.
_ROWS, _COLUMNS = np.divmod(FACE_CELLS, CELLS)
_MIRROR = np.searchsorted(FACE_CELLS, _ROWS * CELLS + 30 - _COLUMNS)
# Number of the block that each of `FACE_CELLS` is in.
_, _BLOCK, _SIZES = np.unique(
    _ROWS // 2 * CELLS + _COLUMNS // 2, return_inverse=True, return_counts=True
)
FEATURES = 2 * len(_SIZES)
"""Displacements (x, y) of all blocks."""


def features(cells: np.ndarray) -> np.ndarray:
    """What the functions look at: (2, FEATURES), the face and its mirror image.

    Args:
        cells: (FACE_CELLS, 2) displacement from onset to apex, pixels of the canonical face.
    """
    largest = float(np.percentile(np.linalg.norm(cells, axis=1), 99))
    scaled = cells / (largest + _NOISE_PX)
    means = np.zeros((2, len(_SIZES), 2))
    for mean, of in zip(means, (scaled, scaled[_MIRROR] * (-1, 1)), strict=True):
        np.add.at(mean, _BLOCK, of)
        mean /= _SIZES[:, None]
    return means.reshape(2, -1)


@dataclass(frozen=True, slots=True, eq=False)
class UnitFunction:
    """Tells one action unit.

    Attributes:
        name: Such as "AU12".
        sided: Whether one half of the face can show it alone.
        weights: (FEATURES,) of `features`; of a sided unit, for the image-right half.
        bias: Added to their sum.
        threshold: Probability from which on the unit is named.
        both: Of a sided unit that is named, the probability of the other half from which on both
            halves show it.
    """

    name: str
    sided: bool
    weights: np.ndarray
    bias: float
    threshold: float
    both: float = 0.0

    def probabilities(self, seen: np.ndarray) -> np.ndarray:
        """Probability of the unit on the image-right and on the image-left half, (..., 2).

        They are the same if the unit is not sided.

        Args:
            seen: (..., 2, FEATURES), as `features` gives it.
        """
        logits = seen @ self.weights + self.bias
        if not self.sided:
            logits = np.broadcast_to(logits.mean(-1, keepdims=True), logits.shape)
        return 1 / (1 + np.exp(-logits))

    def __call__(self, seen: np.ndarray) -> ActionUnit | None:
        """The unit, if it is there.

        Args:
            seen: (2, FEATURES), as `features` gives it.
        """
        right, left = map(float, self.probabilities(seen))
        if max(left, right) < self.threshold:
            return None
        both = not self.sided or min(left, right) >= self.both
        side = "both" if both else "left" if left > right else "right"
        return ActionUnit(self.name, side, max(left, right))

    def to_dict(self) -> dict[str, Any]:
        """The function as a file holds it."""
        return {
            "name": self.name,
            "sided": self.sided,
            "threshold": round(self.threshold, 3),
            "both": round(self.both, 3),
            "bias": round(self.bias, 3),
            "weights": self.weights.round(3).tolist(),
        }

    @staticmethod
    def from_dict(entry: Mapping[str, Any]) -> UnitFunction:
        """The function that a file holds."""
        return UnitFunction(
            str(entry["name"]),
            bool(entry["sided"]),
            np.array(entry["weights"], float),
            float(entry["bias"]),
            float(entry["threshold"]),
            float(entry["both"]),
        )


@cache
def delivered() -> tuple[UnitFunction, ...]:
    """The functions of the units that are told reliably enough to be named."""
    entries = json.loads(FUNCTIONS.read_text(encoding="utf-8"))["units"]
    return tuple(map(UnitFunction.from_dict, entries))


def action_units(
    cells: np.ndarray, functions: Sequence[UnitFunction] | None = None
) -> tuple[ActionUnit, ...]:
    """The action units that moved a face, the most probable first.

    Args:
        cells: (FACE_CELLS, 2) displacement from onset to apex, without the head's motion, pixels of
            the canonical face.
        functions: What tells them; None for the delivered ones.
    """
    seen = features(cells)
    units = (function(seen) for function in (delivered() if functions is None else functions))
    return tuple(sorted((u for u in units if u is not None), key=lambda unit: -unit.score))
