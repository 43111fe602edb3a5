"""How likely a report is true, given what the network says and what the face does by itself.

The network is sure of itself too often where a face talks and moves: at the same probability it is
wrong far more often there than on a calm face. And a single step that says "ended" is worth less
than one after a third of a second that said "under way" (docs/spotting.md, "What a report is
worth"). `tools/spotting/calibrate.py` measures both on faces that the network does not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

# A probability may be 0 or 1: clamp before its logarithm.
_LEAST = 1e-6


def log_odds(probability: float) -> float:
    """The logarithm of the odds of a probability, which may be 0 or 1."""
    probability = min(1 - _LEAST, max(_LEAST, probability))
    return math.log(probability / (1 - probability))


class Evidence(NamedTuple):
    """What is known when a micro-expression seems to have ended.

    Attributes:
        end: Log odds of the network's probability that one has ended.
        inside: Mean log odds, over the last steps, of its probability that one is under way.
        length_s: Of what seems to have ended, seconds.
        restlessness: Of the face (`Spotter.restlessness`).
    """

    end: float
    inside: float
    length_s: float
    restlessness: float


# Names of the weights on a card.
_WEIGHTS = (*Evidence._fields, "constant")


@dataclass(frozen=True, slots=True)
class Reliability:
    """What was measured of a spotter's reports; by default nothing.

    Attributes:
        weights: Of `Evidence` and a constant: their sum is the log odds that a report is true. None
            if not measured.
    """

    weights: tuple[float, ...] | None = None

    @property
    def is_measured(self) -> bool:
        """Whether a score is the probability that a report is true."""
        return self.weights is not None

    @classmethod
    def from_card(cls, entry: Mapping[str, Any] | None) -> Reliability:
        """From the entry "reliability" of a spotter's card; nothing was measured if it has none.

        Raises:
            KeyError, TypeError, ValueError: The entry is nonsense, or of an older version.
        """
        if entry is None:
            return cls()
        weights = tuple(float(entry[name]) for name in _WEIGHTS)
        if not all(map(math.isfinite, weights)):
            raise ValueError("a reliability has finite numbers")
        return cls(weights)

    def to_card(self) -> dict[str, float] | None:
        """The entry for `from_card`, with rounded weights."""
        if self.weights is None:
            return None
        return {name: round(w, 4) for name, w in zip(_WEIGHTS, self.weights, strict=True)}

    def score(self, evidence: Evidence) -> float:
        """The probability that a report is true; the network's own of an end, if not measured."""
        odds = evidence.end
        if self.weights is not None:
            *weights, odds = self.weights
            odds += sum(w * e for w, e in zip(weights, evidence, strict=True))
        return 1 / (1 + math.exp(-max(-700.0, odds)))
