"""The figures of spotting and naming, by our rule and by the one of the MEGC challenges.

By both rules a report finds a true micro-expression if their intervals overlap by at least half:
intersection over union of frames, both ends included. Events and reports are pooled over the
videos. Labels are judged on the pairs of event and report: the F1 of the analysis is that of mean
precision and mean recall over the classes, and STRS is the F1 of spotting times that.

Ours: one to one, best overlap first. Every video counts; in one without an event all reports are
false. The classes are those among the pairs.

MEGC (spot-then-recognize, 2023 and later): only videos with a micro-expression count. Reports are
taken in their order, and each takes every event that it overlaps and that no other has taken. The
classes are those of all true events.

Where it is known how far the face's own motion covers an event (`tools/spotting/masking.py`),
recall is also given class by class: nobody can find what is hidden under a larger motion. False
reports are also counted by what the face did meanwhile (`tools/spotting/actions.py`). Somebody has
to look at every report, true or false: the minutes of review that an hour of video costs are given
at `REVIEW_S` seconds a report.

Sources: Liong, See, Chan, "Spot-then-recognize: a micro-expression analysis network for seamless
evaluation of long videos", Signal Processing: Image Communication 110 (2023) 116875; its authors'
github.com/genbing99/STRS-Metric, strs_metric.py. That script drops subjects for whom nothing is
reported; here their events count as missed, like any other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from realtime_mer.results import Interval, MicroExpression
from realtime_mer.spotting.matching import LEAST_OVERLAP, best_matches, frame_overlap
from tools.spotting.actions import ACTIONS, NOTHING

MASKING = {"clear": 0.5, "partly": 1.5, "masked": math.inf}
"""Classes of masking, each with the largest ratio in it. Chosen by judgement: up to the first, the
face's own motion is at most half of the event's, above the second it is clearly larger."""

REVIEW_S = 10.0
"""Seconds to look at one report: chosen as the time to play it twice, slowed down, and decide."""

Figures = dict[str, float | int | None]
Pair = tuple["TrueEvent", MicroExpression]


@dataclass(frozen=True, slots=True)
class TrueEvent:
    """A known micro-expression; its label and its masking may be unknown."""

    interval: Interval
    label: str | None
    masking: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One video: what is there, what was reported, and how long the video is.

    Attributes:
        truth: Its micro-expressions.
        found: The reports.
        fps: Frames a second, by which overlaps are counted.
        seconds: Length of the video.
        macros: Longer expressions, which are no events: a report in one is false.
        found_at: What the spotter would have reported at other thresholds.
        actions: What the face did during each report; empty if that is not known.
    """

    name: str
    truth: tuple[TrueEvent, ...]
    found: tuple[MicroExpression, ...]
    fps: float
    seconds: float
    macros: tuple[Interval, ...] = ()
    found_at: Mapping[float, tuple[Interval, ...]] = field(default_factory=dict)
    actions: tuple[frozenset[str], ...] = ()


def matches(
    truth: Sequence[Interval], found: Sequence[Interval], fps: float
) -> list[tuple[int, int]]:
    """Pairs (index into `truth`, index into `found`) by our rule."""

    def in_frames(first: Interval, second: Interval) -> float:
        return frame_overlap(first, second, fps)

    return [(i, j) for i, j, _ in best_matches(truth, found, LEAST_OVERLAP, in_frames)]


def match(result: Result) -> list[Pair]:
    """Pairs of truth and report by our rule."""
    pairs = matches(
        [t.interval for t in result.truth], [f.interval for f in result.found], result.fps
    )
    return [(result.truth[i], result.found[j]) for i, j in pairs]


def megc_match(result: Result) -> list[Pair]:
    """Pairs of truth and report by the rule of MEGC."""
    free = list(result.truth)
    pairs = []
    for report in result.found:
        for event in tuple(free):
            if frame_overlap(event.interval, report.interval, result.fps) >= LEAST_OVERLAP:
                free.remove(event)
                pairs.append((event, report))
    return pairs


def rates(events: int, matched: int, false: int) -> Figures:
    """F1, recall and precision from counts; None where they are undefined."""
    return {
        "F1": _ratio(2 * matched, events + matched + false),
        "recall": _ratio(matched, events),
        "precision": _ratio(matched, matched + false),
    }


def figures(results: Sequence[Result]) -> Figures:
    """The figures of all results together; None where they are undefined."""
    matched = [match(result) for result in results]
    pairs = [pair for of_video in matched for pair in of_video]
    events = sum(len(r.truth) for r in results)
    reports = sum(len(r.found) for r in results)
    false = reports - len(pairs)
    minutes = sum(r.seconds for r in results) / 60
    labelled = [(t, f) for t, f in pairs if t.label is not None]
    delays = [f.reported_s - t.interval.offset_s for t, f in pairs]
    spotting = rates(events, len(pairs), false)
    has_labels = any(t.label is not None for r in results for t in r.truth)
    return {
        "videos": len(results),
        "minutes": round(minutes, 2),
        "events": events,
        "reports": reports,
        "matched": len(pairs),
        **spotting,
        "false_per_minute": round(false / minutes, 3) if minutes else None,
        "false_in_macro": sum(map(_false_in_macro, results, matched)),
        "review_minutes_per_hour": round(reports * REVIEW_S / minutes, 1) if minutes else None,
        "labels_right": _ratio(sum(t.label == f.label for t, f in labelled), len(labelled)),
        **_analysis(
            labelled, {str(t.label) for t, _ in labelled} if has_labels else None, spotting
        ),
        "onset_error_s": _median([abs(t.interval.onset_s - f.interval.onset_s) for t, f in pairs]),
        "offset_error_s": _median(
            [abs(t.interval.offset_s - f.interval.offset_s) for t, f in pairs]
        ),
        "report_delay_s": _median(delays),
        "report_delay_p95_s": round(float(np.percentile(delays, 95)), 4) if delays else None,
    }


def recall_by_masking(results: Sequence[Result]) -> dict[str, Figures]:
    """Of each class of masking, how many events there are and how many are found, by our rule.

    Classes without events are left out, and so are events whose masking is unknown.
    """
    events: Counter[str] = Counter()
    matched: Counter[str] = Counter()
    for result in results:
        events.update(_class(event) for event in result.truth)
        matched.update(_class(event) for event, _ in match(result))
    return {
        name: {
            "events": events[name],
            "matched": matched[name],
            "recall": _ratio(matched[name], events[name]),
        }
        for name in MASKING
        if events[name]
    }


def _class(event: TrueEvent) -> str:
    """The name in `MASKING`; empty if the masking is unknown."""
    ratio = event.masking
    return "" if ratio is None else next(n for n, most in MASKING.items() if ratio <= most)


def false_by_action(results: Sequence[Result]) -> dict[str, Figures]:
    """False reports by what the face did meanwhile: how many, and how many a minute.

    A report counts for each action, so the sum may be larger than the number of false reports.
    Empty if no result tells actions.
    """
    told = [result for result in results if len(result.actions) == len(result.found)]
    minutes = sum(r.seconds for r in told) / 60
    if not any(result.actions for result in told):
        return {}
    counts: Counter[str] = Counter()
    for result in told:
        right = {id(report) for _, report in match(result)}
        for report, actions in zip(result.found, result.actions, strict=True):
            if id(report) not in right:
                counts.update(actions)
    return {
        name: {
            "false": counts[name],
            "per_minute": round(counts[name] / minutes, 3) if minutes else None,
        }
        for name in (*ACTIONS, NOTHING)
    }


def megc_figures(results: Sequence[Result]) -> Figures:
    """The figures that MEGC defines, by its rule."""
    counted = [result for result in results if result.truth]
    matched = [megc_match(result) for result in counted]
    pairs = [pair for of_video in matched for pair in of_video]
    # A report that takes two events makes two pairs but is one report.
    false = sum(
        len(r.found) - len({id(f) for _, f in of_video})
        for r, of_video in zip(counted, matched, strict=True)
    )
    events = sum(len(r.truth) for r in counted)
    spotting = rates(events, len(pairs), false)
    labels = {t.label for r in counted for t in r.truth if t.label is not None}
    labelled = [(t, f) for t, f in pairs if t.label is not None]
    return {
        "videos": len(counted),
        "minutes": round(sum(r.seconds for r in counted) / 60, 2),
        "events": events,
        "reports": sum(len(r.found) for r in counted),
        "matched": len(pairs),
        **spotting,
        **_analysis(labelled, labels or None, spotting),
    }


def _analysis(pairs: Sequence[Pair], classes: set[str] | None, spotting: Figures) -> Figures:
    """F1 of the labels of pairs, from mean precision and mean recall, and STRS.

    Args:
        pairs: Pairs whose true label is known.
        classes: To average over; None if no true event has a label.
        spotting: Holds the F1 of the spotting.
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
