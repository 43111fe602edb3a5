"""Comparison of the micro-expressions hidden in a demo clip with those found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from realtime_mer.demo.clip import DemoTruth, HiddenEvent
from realtime_mer.results import MicroExpression
from realtime_mer.spotting.matching import LEAST_OVERLAP, best_matches


@dataclass(frozen=True, slots=True)
class Comparison:
    """A pair of a hidden and a found event. One of them may be missing, never both.

    Attributes:
        hidden: None for a false report.
        found: None for a miss.
        overlap: Intersection over union of the two intervals; 0 where one is missing.
    """

    hidden: HiddenEvent | None
    found: MicroExpression | None
    overlap: float

    @property
    def label_is_right(self) -> bool:
        return (
            self.hidden is not None
            and self.found is not None
            and self.hidden.label == self.found.label
        )


def compare(
    truth: DemoTruth, events: Sequence[MicroExpression], least: float = LEAST_OVERLAP
) -> list[Comparison]:
    """Pairs hidden and found events one to one, the largest overlaps first.

    Args:
        truth: The hidden events.
        events: The found ones.
        least: Smallest overlap that makes a pair.

    Returns:
        Pairs, misses and false reports, in the order of time.
    """
    matches = best_matches(
        [hidden.interval for hidden in truth.events], [found.interval for found in events], least
    )
    missed = set(range(len(truth.events))) - {h for h, _, _ in matches}
    false = set(range(len(events))) - {f for _, f, _ in matches}
    # (onset, comparison)
    rows = [
        (truth.events[h].interval.onset_s, Comparison(truth.events[h], events[f], share))
        for h, f, share in matches
    ]
    rows += [
        (truth.events[h].interval.onset_s, Comparison(truth.events[h], None, 0.0))
        for h in sorted(missed)
    ]
    rows += [(events[f].interval.onset_s, Comparison(None, events[f], 0.0)) for f in sorted(false)]
    return [row for _, row in sorted(rows, key=lambda row: row[0])]
