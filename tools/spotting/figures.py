"""The figures of spotting and naming, by our rule and by the one of the MEGC challenges.

In both, a report finds a true micro-expression where their intervals overlap by at least half:
intersection over union of frames, both ends included. Events and reports are pooled over the
videos, and what is named is judged on the pairs: F1 of the analysis is that of precision and recall
averaged over the classes, and STRS is F1 of spotting times F1 of the analysis.

Ours: one to one, best overlap first. Every video counts, also those without an event, where all
reports are false. The classes are those among the pairs.

MEGC (spot-then-recognize, 2023 and later): only videos that have a micro-expression count. Reports
are taken in their order, and each takes every event it overlaps that no other has taken. The
classes are those of all true events.

Sources: Liong, See, Chan, "Spot-then-recognize: a micro-expression analysis network for seamless
evaluation of long videos", Signal Processing: Image Communication 110 (2023) 116875; its authors'
github.com/genbing99/STRS-Metric, strs_metric.py. That script drops subjects of whom nothing at all
is reported; here their events are missed like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from realtime_mer.results import Interval, MicroExpression

LEAST_OVERLAP = 0.5

Figures = dict[str, float | int | None]
Pair = tuple["TrueEvent", MicroExpression]


@dataclass(frozen=True, slots=True)
class TrueEvent:
    """A micro-expression that is known to be there; the label may be unknown."""

    interval: Interval
    label: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """One video: what was there, what was reported, and for how long one looked.

    Attributes:
        fps: Frames a second, by which overlaps are counted.
        seconds: Length of the video.
        macros: Longer expressions, which are no events: a report in one is false.
        found_at: What other thresholds of the spotter would have reported.
    """

    name: str
    truth: tuple[TrueEvent, ...]
    found: tuple[MicroExpression, ...]
    fps: float
    seconds: float
    macros: tuple[Interval, ...] = ()
    found_at: Mapping[float, tuple[Interval, ...]] = field(default_factory=dict)


def overlap(first: Interval, second: Interval, fps: float) -> float:
    """Intersection over union of two intervals in frames, both ends included, 0 to 1."""
    a, b, c, d = (
        round(t * fps) for t in (first.onset_s, first.offset_s, second.onset_s, second.offset_s)
    )
    shared = max(0, min(b, d) - max(a, c) + 1)
    return shared / (max(b, d) - min(a, c) + 1) if shared else 0.0


def best_matches(
    truth: Sequence[Interval], found: Sequence[Interval], fps: float
) -> list[tuple[int, int]]:
    """Numbers of what overlaps by half, one to one, best overlap first."""
    pairs = sorted(
        ((overlap(t, f, fps), i, j) for i, t in enumerate(truth) for j, f in enumerate(found)),
        reverse=True,
    )
    taken_truth: set[int] = set()
    taken_found: set[int] = set()
    out = []
    for share, i, j in pairs:
        if share >= LEAST_OVERLAP and i not in taken_truth and j not in taken_found:
            taken_truth.add(i)
            taken_found.add(j)
            out.append((i, j))
    return out


def match(result: Result) -> list[Pair]:
    """Pairs of truth and report by our rule."""
    numbers = best_matches(
        [t.interval for t in result.truth], [f.interval for f in result.found], result.fps
    )
    return [(result.truth[i], result.found[j]) for i, j in numbers]


def megc_match(result: Result) -> list[Pair]:
    """Pairs of truth and report by the rule of MEGC."""
    free = list(result.truth)
    pairs = []
    for report in result.found:
        for event in tuple(free):
            if overlap(event.interval, report.interval, result.fps) >= LEAST_OVERLAP:
                free.remove(event)
                pairs.append((event, report))
    return pairs


def rates(events: int, matched: int, false: int) -> Figures:
    """F1, recall and precision of counts; those that nothing speaks for are None."""
    return {
        "F1": _ratio(2 * matched, events + matched + false),
        "recall": _ratio(matched, events),
        "precision": _ratio(matched, matched + false),
    }


def figures(results: Sequence[Result]) -> Figures:
    """The figures of all results together; those that nothing speaks for are None."""
    matched = [match(result) for result in results]
    pairs = [pair for some in matched for pair in some]
    there, reported = (sum(len(getattr(r, k)) for r in results) for k in ("truth", "found"))
    false = reported - len(pairs)
    minutes = sum(r.seconds for r in results) / 60
    labelled = [(t, f) for t, f in pairs if t.label is not None]
    delays = [f.reported_s - t.interval.offset_s for t, f in pairs]
    spotting = rates(there, len(pairs), false)
    named = any(t.label is not None for r in results for t in r.truth)
    return {
        "videos": len(results),
        "minutes": round(minutes, 2),
        "events": there,
        "reports": reported,
        "matched": len(pairs),
        **spotting,
        "false_per_minute": round(false / minutes, 3) if minutes else None,
        "false_in_macro": sum(map(_false_in_macro, results, matched)),
        "labels_right": _ratio(sum(t.label == f.label for t, f in labelled), len(labelled)),
        **_analysis(labelled, {str(t.label) for t, _ in labelled} if named else None, spotting),
        "onset_error_s": _median([abs(t.interval.onset_s - f.interval.onset_s) for t, f in pairs]),
        "offset_error_s": _median(
            [abs(t.interval.offset_s - f.interval.offset_s) for t, f in pairs]
        ),
        "report_delay_s": _median(delays),
        "report_delay_p95_s": round(float(np.percentile(delays, 95)), 4) if delays else None,
    }


def megc_figures(results: Sequence[Result]) -> Figures:
    """Those of the figures that MEGC knows, by its rule."""
    counted = [result for result in results if result.truth]
    matched = [megc_match(result) for result in counted]
    pairs = [pair for some in matched for pair in some]
    # A report that takes two events is no false one, and is counted twice.
    false = sum(
        len(r.found) - len({id(f) for _, f in some})
        for r, some in zip(counted, matched, strict=True)
    )
    there = sum(len(r.truth) for r in counted)
    spotting = rates(there, len(pairs), false)
    labels = {t.label for r in counted for t in r.truth if t.label is not None}
    labelled = [(t, f) for t, f in pairs if t.label is not None]
    return {
        "videos": len(counted),
        "minutes": round(sum(r.seconds for r in counted) / 60, 2),
        "events": there,
        "reports": sum(len(r.found) for r in counted),
        "matched": len(pairs),
        **spotting,
        **_analysis(labelled, labels or None, spotting),
    }


def _analysis(pairs: Sequence[Pair], classes: set[str] | None, spotting: Figures) -> Figures:
    """F1 of the names of pairs, from mean precision and mean recall, and STRS.

    Args:
        pairs: Those whose true label is known.
        classes: To average over; None where no true event has a label.
        spotting: F1 of the spotting is in it.
    """
    if classes is None:
        return {"analysis_F1": None, "STRS": None}
    precision, recall = [], []
    for label in classes:
        right = sum(t.label == f.label == label for t, f in pairs)
        precision.append(right / max(1, sum(f.label == label for _, f in pairs)))
        recall.append(right / max(1, sum(t.label == label for t, _ in pairs)))
    p, r = (sum(values) / max(1, len(classes)) for values in (precision, recall))
    f1 = 2 * p * r / (p + r) if p + r else 0.0
    return {"analysis_F1": round(f1, 4), "STRS": round(f1 * (spotting["F1"] or 0.0), 4)}


def _false_in_macro(result: Result, pairs: Sequence[Pair]) -> int:
    """False reports whose apex lies in a macro-expression."""
    right = {id(report) for _, report in pairs}
    apexes = [f.interval.apex_s for f in result.found if id(f) not in right]
    return sum(any(m.onset_s <= apex <= m.offset_s for m in result.macros) for apex in apexes)


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _median(values: Sequence[float]) -> float | None:
    return round(float(np.median(values)), 4) if values else None
