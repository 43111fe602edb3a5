"""Which reported interval finds which true one: intersection over union, one to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from realtime_mer.results import Interval

LEAST_OVERLAP = 0.5
"""Intersection over union from which a report counts as found, as in the MEGC challenges."""


def overlap(first: Interval, second: Interval) -> float:
    """Intersection over union of two intervals in time, 0 to 1."""
    shared = min(first.offset_s, second.offset_s) - max(first.onset_s, second.onset_s)
    union = first.length_s + second.length_s - shared
    return max(0.0, shared / union) if union > 0 else 0.0


def frame_overlap(first: Interval, second: Interval, fps: float) -> float:
    """Intersection over union of two intervals in frames, both ends included, 0 to 1."""
    a, b, c, d = (
        round(t * fps) for t in (first.onset_s, first.offset_s, second.onset_s, second.offset_s)
    )
    shared = max(0, min(b, d) - max(a, c) + 1)
    return shared / (max(b, d) - min(a, c) + 1) if shared else 0.0


def best_matches(
    truth: Sequence[Interval],
    found: Sequence[Interval],
    least: float = LEAST_OVERLAP,
    measure: Callable[[Interval, Interval], float] = overlap,
) -> list[tuple[int, int, float]]:
    """Pairs true and reported intervals one to one, best overlaps first.

    Args:
        truth: The true intervals.
        found: The reported ones.
        least: Overlap below which two intervals are no pair.
        measure: The overlap of two intervals, 0 to 1.

    Returns:
        (index into `truth`, index into `found`, overlap) of each pair.
    """
    pairs = sorted(
        ((measure(t, f), i, j) for i, t in enumerate(truth) for j, f in enumerate(found)),
        key=lambda pair: -pair[0],
    )
    taken_truth: set[int] = set()
    taken_found: set[int] = set()
    matches = []
    for share, i, j in pairs:
        if share >= least and i not in taken_truth and j not in taken_found:
            taken_truth.add(i)
            taken_found.add(j)
            matches.append((i, j, share))
    return matches
