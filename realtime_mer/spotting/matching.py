"""Matching of reported intervals to true ones: intersection over union, one to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from realtime_mer.results import Interval

LEAST_OVERLAP = 0.5
"""A report counts as found from this intersection over union on, as in the MEGC challenges."""


def overlap(first: Interval, second: Interval) -> float:
    """Intersection over union of two intervals in time, 0 to 1.

    It is rounded to nine digits: what is half to the millisecond is half, not a bit less.
    """
    shared = min(first.offset_s, second.offset_s) - max(first.onset_s, second.onset_s)
    union = first.length_s + second.length_s - shared
    return max(0.0, round(shared / union, 9)) if union > 0 else 0.0


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
    """Pairs true and reported intervals one to one, greedily, the largest overlap first.

    Of equal overlaps the one with the lower index into `truth`, then into `found`, comes first.

    Args:
        truth: The true intervals.
        found: The reported ones.
        least: Smallest overlap that makes a pair.
        measure: The overlap of two intervals, 0 to 1.

    Returns:
        (index into `truth`, index into `found`, overlap) of each pair, the largest overlap first.
    """
    pairs = sorted(
        ((measure(t, f), i, j) for i, t in enumerate(truth) for j, f in enumerate(found)),
        key=lambda pair: -pair[0],
    )
    matched_truth: set[int] = set()
    matched_found: set[int] = set()
    matches = []
    for share, i, j in pairs:
        if share >= least and i not in matched_truth and j not in matched_found:
            matched_truth.add(i)
            matched_found.add(j)
            matches.append((i, j, share))
    return matches
