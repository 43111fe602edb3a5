"""How far reviewers agree, and what they say together."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from realtime_mer.archive.reviews.decisions import Decisions, Judgement
from realtime_mer.archive.reviews.found import Found

DISPUTED = "disputed"
"""The verdict or the label where reviewers are split."""


def cohens_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Cohen's kappa of two raters: 1 for full agreement, 0 for what chance would give.

    Args:
        first: What one of them said about each item.
        second: What the other said, in the same order.

    Returns:
        None where it is undefined: without items, and where both said the same of all.

    Raises:
        ValueError: The lengths differ.

    Example:
        >>> cohens_kappa(["yes", "yes", "no", "no"], ["yes", "no", "no", "no"])
        0.5
    """
    pairs = list(zip(first, second, strict=True))
    if not pairs:
        return None
    n = len(pairs)
    counts, others = Counter(first), Counter(second)
    # Whole numbers, so that full agreement by chance is seen for sure.
    by_chance = sum(counts[name] * others[name] for name in counts)
    if by_chance == n * n:
        return None
    agreed = sum(a == b for a, b in pairs)
    return (n * agreed - by_chance) / (n * n - by_chance)


@dataclass(frozen=True, slots=True)
class Consensus:
    """What the reviewers say together.

    Attributes:
        verdict: "true" or "false" as most of those say who decided; "disputed" if they are split;
            "unsure" if nobody decided; "" if nobody looked.
        label: What most of those call it who say true; "disputed" if they are split; "" without
            any.
        onset_s, offset_s: The medians of those who say true; None without any.
        votes: How many said true, and how many said false.
    """

    verdict: str = ""
    label: str = ""
    onset_s: float | None = None
    offset_s: float | None = None
    votes: tuple[int, int] = (0, 0)


def consensus(judgements: Iterable[Judgement], label: str) -> Consensus:
    """What reviewers say together about an event.

    Args:
        judgements: What each of them thinks.
        label: The program's.
    """
    given = [judgement for judgement in judgements if judgement.verdict is not None]
    if not given:
        return Consensus()
    believers = [judgement for judgement in given if judgement.verdict == "true"]
    true, false = len(believers), sum(judgement.verdict == "false" for judgement in given)
    if not true and not false:
        return Consensus("unsure")
    verdict = DISPUTED if true == false else "true" if true > false else "false"
    if verdict != "true":
        return Consensus(verdict, votes=(true, false))
    # Of a missed event, a reviewer may have given no label.
    labels = Counter(name for j in believers if (name := j.label or label))
    (best, count), *rest = labels.most_common() or [("", 0)]
    is_split = bool(rest) and rest[0][1] == count
    return Consensus(
        verdict,
        DISPUTED if is_split else best,
        statistics.median(judgement.onset_s for judgement in believers),
        statistics.median(judgement.offset_s for judgement in believers),
        (true, false),
    )


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two reviewers agree.

    Attributes:
        names: The two.
        events: How many events both called true or false.
        same: Of these, how many both called the same.
        kappa: Cohen's kappa of these verdicts; None where it is undefined.
        label_events: How many events both called true.
        label_kappa: Cohen's kappa of the labels they gave to those; None where it is undefined.
    """

    names: tuple[str, str]
    events: int
    same: int
    kappa: float | None
    label_events: int
    label_kappa: float | None


def agreements(reviewers: Sequence[Decisions], events: Sequence[Found]) -> list[Agreement]:
    """How far each two reviewers agree about what the program found."""
    return [_agreement(one, other, events) for one, other in itertools.combinations(reviewers, 2)]


def _agreement(one: Decisions, other: Decisions, events: Sequence[Found]) -> Agreement:
    verdicts: list[tuple[str, str]] = []
    labels: list[tuple[str, str]] = []
    for event in events:
        first, second = one.of(event.id), other.of(event.id)
        if first is None or second is None:
            continue
        both = (first.verdict or "", second.verdict or "")
        if not set(both) <= {"true", "false"}:
            continue
        verdicts.append(both)
        if both == ("true", "true"):
            labels.append((first.label or event.label, second.label or event.label))
    return Agreement(
        (one.reviewer, other.reviewer),
        len(verdicts),
        sum(a == b for a, b in verdicts),
        cohens_kappa([a for a, _ in verdicts], [b for _, b in verdicts]),
        len(labels),
        cohens_kappa([a for a, _ in labels], [b for _, b in labels]),
    )
