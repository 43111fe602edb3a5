"""How far a probability of the network is to be trusted, given what the face does by itself.

The network is sure of itself too often where a face talks and moves: at the same threshold it is
wrong far more often there than on a calm face (docs/spotting.md, "Calm and lively faces"). So the
threshold rises with the restlessness of the face, and the rate of false reports stays about the
same. `tools/spotting/calibrate.py` measures by how much, and the probability that a report is true.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The face's usual displacement within 0.13 s, on the network's own scale (about ln(rms / 0.03 px),
# `signals.py`). Below the first it is calm, above the second lively: of four photos under a swaying
# camera nine of ten moments are below 0.94, of 68 videos of people, most of whom talk, nine of ten
# are above 1.6.
CALM, LIVELY = 0.9, 1.3
# A probability may be 0 or 1: clamp before its logarithm.
_LEAST = 1e-6
# Names of the calibration's weights on a card.
_WEIGHTS = ("log_odds", "liveliness", "constant")


def liveliness(restlessness: float) -> float:
    """0 for a calm face to 1 for a lively one.

    Args:
        restlessness: As `RunningFeatures.restlessness`.
    """
    return min(1.0, max(0.0, (restlessness - CALM) / (LIVELY - CALM)))


def log_odds(probability: float) -> float:
    """The logarithm of the odds of a probability, which may be 0 or 1."""
    probability = min(1 - _LEAST, max(_LEAST, probability))
    return math.log(probability / (1 - probability))


def _probability(odds: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, odds)))


@dataclass(frozen=True, slots=True)
class Reliability:
    """What was measured of a spotter's probabilities.

    Attributes:
        lively_rise: By how much the threshold's log odds rise from a calm to a lively face.
        calibration: Weights of the log odds of the network's probability and of the liveliness, and
            a constant: they sum to the log odds that a report is true. None if not measured.
    """

    lively_rise: float = 0.0
    calibration: tuple[float, float, float] | None = None

    @classmethod
    def from_card(cls, entry: Mapping[str, Any] | None) -> Reliability:
        """From the entry "reliability" of a spotter's card; nothing was measured if it has none.

        Raises:
            KeyError, TypeError, ValueError: The entry is nonsense.
        """
        if entry is None:
            return cls()
        rise = float(entry["lively_rise"])
        weights = entry["calibration"]
        calibration = None
        if weights is not None:
            of_end, of_liveliness, constant = (float(weights[name]) for name in _WEIGHTS)
            calibration = (of_end, of_liveliness, constant)
        if not all(map(math.isfinite, (rise, *(calibration or ())))) or rise < 0:
            raise ValueError("a reliability has finite numbers, and a rise of 0 or more")
        return cls(rise, calibration)

    def to_card(self) -> dict[str, Any]:
        """The entry for `from_card`, with rounded weights."""
        weights = self.calibration
        return {
            "lively_rise": self.lively_rise,
            "calibration": None
            if weights is None
            else {n: round(w, 4) for n, w in zip(_WEIGHTS, weights, strict=True)},
        }

    def threshold(self, calm: float, restlessness: float) -> float:
        """The threshold on a face that is as restless as this.

        Args:
            calm: The threshold on a calm face.
            restlessness: As `RunningFeatures.restlessness`.
        """
        rise = self.lively_rise * liveliness(restlessness)
        # Beyond 0 and 1, it is everything or nothing on all faces.
        return _probability(log_odds(calm) + rise) if rise and 0 < calm < 1 else calm

    def calm_threshold(self, probability: float, restlessness: float) -> float:
        """The inverse of `threshold`: the highest one on a calm face that lets a report pass.

        Args:
            probability: What the network says of the report.
            restlessness: As `RunningFeatures.restlessness`.
        """
        rise = self.lively_rise * liveliness(restlessness)
        return _probability(log_odds(probability) - rise) if rise else probability

    def score(self, probability: float, restlessness: float) -> float | None:
        """The probability that a report is true; None if that was not measured.

        Args:
            probability: What the network says.
            restlessness: As `RunningFeatures.restlessness`.
        """
        if self.calibration is None:
            return None
        of_end, of_liveliness, constant = self.calibration
        return _probability(
            of_end * log_odds(probability) + of_liveliness * liveliness(restlessness) + constant
        )
