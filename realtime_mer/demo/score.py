"""What was hidden in a demo clip, beside what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from realtime_mer.demo.clip import DemoTruth, HiddenEvent
from realtime_mer.results import MicroExpression
from realtime_mer.spotting.matching import LEAST_OVERLAP, best_matches


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of "hidden against found": one of the two may be missing, never both.

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
    """Pairs what was hidden with what was found, one to one, best overlaps first.

    Args:
        truth: What was hidden.
        events: What was found.
        least: Overlap below which two intervals are no pair.

    Returns:
        Pairs, misses and false reports, in the order of time.
    """
    matches = best_matches(
        [hidden.interval for hidden in truth.events], [found.interval for found in events], least
    )
    rows = [Comparison(truth.events[h], events[f], share) for h, f, share in matches]
    missed = set(range(len(truth.events))) - {h for h, _, _ in matches}
    false = set(range(len(events))) - {f for _, f, _ in matches}
    rows += [Comparison(truth.events[h], None, 0.0) for h in sorted(missed)]
    rows += [Comparison(None, events[f], 0.0) for f in sorted(false)]
    return sorted(rows, key=lambda row: (row.hidden or row.found).interval.onset_s)
