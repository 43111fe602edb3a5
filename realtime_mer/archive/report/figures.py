"""The numbers of a report: what was watched, what was found, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from realtime_mer.archive.results_folder import read_part
from realtime_mer.archive.reviews.verdicts import Verdict
from realtime_mer.redaction import printable
from realtime_mer.results import PARTS

# Confidence of all intervals.
_LEVEL = 0.95
# Times beyond this are no times, seconds: 30 years.
_LAST_S = 1e9
# With less readable time, no rate is told, like in the log (`results.Watched`).
_LEAST_S = 60.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and the 95 % interval around it."""

    value: float
    low: float
    high: float


def share(count: int, total: int) -> Estimate:
    """The share of `count` in `total` (1 or more), with Wilson's interval.

    Example:
        >>> share(3, 4)
        Estimate(value=0.75, low=0.3006..., high=0.9544...)
    """
    low, high = stats.binomtest(count, total).proportion_ci(_LEVEL, method="wilson")
    return Estimate(count / total, float(low), float(high))


def rate(count: int, minutes: float) -> Estimate:
    """Events a minute, with the exact interval of a Poisson count (Garwood, 1936).

    Args:
        count: Number of events.
        minutes: In how many minutes, above 0.
    """
    tail = (1 - _LEVEL) / 2
    low = stats.chi2.ppf(tail, 2 * count) / 2 if count else 0.0
    high = stats.chi2.ppf(1 - tail, 2 * count + 2) / 2
    return Estimate(count / minutes, float(low) / minutes, float(high) / minutes)


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How often a label was given.

    Attributes:
        share: Of all events; None if there are none.
    """

    label: str
    count: int
    share: Estimate | None


def label_counts(events: Sequence[Mapping[str, Any]], labels: Iterable[str]) -> list[LabelCount]:
    """Of each label how often it was given, those of the classifier first, in their order."""
    counts = Counter(str(event.get("label")) for event in events)
    names = [*dict.fromkeys([*labels, *sorted(counts)])]
    total = len(events)
    return [LabelCount(n, counts[n], share(counts[n], total) if total else None) for n in names]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What reviewers say about the reported events together.

    Attributes:
        counts: How many of them are "true", "false", "disputed" and "unsure".
        missed: How many events reviewers added.
        precision: The share of true ones among those called true or false; None without any.
    """

    counts: Mapping[str, int]
    missed: int
    precision: Estimate | None


def reviewed(verdicts: Iterable[Verdict]) -> Reviewed | None:
    """What reviewers say; None if nobody gave a verdict."""
    of_reported: Counter[str] = Counter()
    missed = 0
    for verdict in verdicts:
        if verdict.added:
            missed += verdict.said.verdict == "true"
        elif verdict.said.verdict:
            of_reported[verdict.said.verdict] += 1
    if not of_reported and not missed:
        return None
    true, decided = of_reported["true"], of_reported["true"] + of_reported["false"]
    return Reviewed(of_reported, missed, share(true, decided) if decided else None)


@dataclass(frozen=True, slots=True)
class Watched:
    """How long was looked, and how much of it could be read.

    Attributes:
        duration_s: Length of the source.
        frames: Analysed frames, and those of them with a face.
        watched_s: Time during which the limits of detection were known, summed over the faces.
        readable_s: Of it, of each of `PARTS`, the time during which it could be read.
        any_s: Of it, the time during which at least one part could be read.
    """

    duration_s: float = 0.0
    frames: tuple[int, int] = (0, 0)
    watched_s: float = 0.0
    readable_s: tuple[float, ...] = (0.0,) * len(PARTS)
    any_s: float = 0.0

    @property
    def face_share(self) -> float | None:
        """Share of the frames with a face."""
        return self.frames[1] / self.frames[0] if self.frames[0] else None

    def share_of(self, seconds: float) -> float | None:
        """Share of the watched time."""
        return seconds / self.watched_s if self.watched_s else None

    def rate(self, events: int) -> Estimate | None:
        """Events a readable minute; None if there was less than a minute."""
        return rate(events, self.any_s / 60) if self.any_s >= _LEAST_S else None

    def __add__(self, other: Watched) -> Watched:
        return Watched(
            self.duration_s + other.duration_s,
            (self.frames[0] + other.frames[0], self.frames[1] + other.frames[1]),
            self.watched_s + other.watched_s,
            tuple(a + b for a, b in zip(self.readable_s, other.readable_s, strict=True)),
            self.any_s + other.any_s,
        )


@dataclass(frozen=True, slots=True)
class Face:
    """What the log says about one face over time.

    Attributes:
        number: Number of the face.
        spans: `visibility` records.
        gaps: `gap` records.
        events: `micro_expression` records, with their numbers.
    """

    number: int
    spans: list[Mapping[str, Any]] = field(default_factory=list)
    gaps: list[Mapping[str, Any]] = field(default_factory=list)
    events: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def watched_s(self) -> float:
        return sum(span["end_s"] - span["start_s"] for span in self.spans)


@dataclass(frozen=True, slots=True)
class VideoFigures:
    """All numbers of one video.

    Attributes:
        session: Its last `session` record, or nothing.
        reason: How the session ended; None if the log has no summary.
        read_part: Seconds that could be read and seconds that the header declares; None where all
            could be read.
        watched: What was watched.
        faces: Its faces, by number.
        events: `micro_expression` records, each with its `number`, in the log's order.
        limits_px: Of each of `PARTS`, the median limit of detection over the watched time; None if
            it is not known.
        length_s: The last moment that the log tells of.
    """

    session: Mapping[str, Any]
    reason: str | None
    read_part: tuple[float, float] | None
    watched: Watched
    faces: list[Face]
    events: list[Mapping[str, Any]]
    limits_px: tuple[float | None, ...]
    length_s: float

    @property
    def labels(self) -> list[str]:
        return [printable(str(label)) for label in self.session.get("labels", ())]


def video_figures(records: Iterable[Mapping[str, Any]]) -> VideoFigures:
    """The numbers of one log. Records of unknown types are skipped.

    Raises:
        KeyError, TypeError, ValueError: A record lacks a field, or holds something else.
    """
    session: Mapping[str, Any] = {}
    reason, part = None, None
    watched = Watched()
    # Of the session that the records belong to: whether its summary is still to come, its
    # `visibility` records, and the last moment that it tells of.
    is_open, since, last_s = True, list[Mapping[str, Any]](), 0.0
    faces: dict[int, Face] = {}
    events: list[Mapping[str, Any]] = []
    length_s = 0.0
    for record in records:
        kind = record.get("type")
        for key in ("end_s", "offset_s", "duration_s"):
            if key in record:
                last_s = max(last_s, _number(record, key))
        length_s = max(length_s, last_s)
        if kind == "session":
            if is_open:
                watched += _from_spans(since, last_s)
            session, reason, part = record, None, None
            is_open, since, last_s = True, [], 0.0
        elif kind == "summary":
            is_open = False
            reason = printable(str(record["reason"]))
            watched += _summary(record)
            part = read_part(session, record)
        elif kind in ("visibility", "gap", "micro_expression"):
            number = int(record["face"])
            face = faces.setdefault(number, Face(number))
            if kind == "micro_expression":
                events.append(_event(record, len(events) + 1))
                face.events.append(events[-1])
            elif kind == "visibility":
                _number(record, "start_s")
                face.spans.append(record)
                since.append(record)
            else:
                face.gaps.append(
                    {key: _number(record, key) for key in ("start_s", "end_s")}
                    | {"reason": printable(str(record["reason"]))}
                )
    spans = [span for face in faces.values() for span in face.spans]
    if is_open:
        # Only a session that was killed has no summary.
        watched += _from_spans(since, last_s)
    return VideoFigures(
        session,
        reason,
        part,
        watched,
        [faces[number] for number in sorted(faces)],
        events,
        tuple(_median_limit(spans, part) for part in PARTS),
        length_s,
    )


def _event(record: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """An event as the pages show it: all fields are there, None is what is not known."""
    times = ("onset_s", "apex_s", "offset_s")
    return {
        "number": number,
        "face": int(record["face"]),
        "label": printable(str(record["label"])),
        **{key: _number(record, key) for key in (*times, "confidence", "intensity_px")},
        **{
            key: None if record.get(key) is None else _number(record, key)
            for key in ("spotting_score", "limit_px")
        },
        "regions": [printable(str(region["name"])) for region in record.get("regions", ())],
        "action_units": [
            printable(f"{unit['name']} {unit['side']}").removesuffix(" both")
            for unit in record.get("action_units", ())
        ],
    }


def _number(record: Mapping[str, Any], key: str) -> float:
    """A field that must be a number from 0 on.

    Raises:
        KeyError, TypeError, ValueError: It is none.
    """
    value = float(record[key])
    if not 0 <= value <= _LAST_S:
        raise ValueError(f"{key} is {value}")
    return value


def _summary(record: Mapping[str, Any]) -> Watched:
    readable = record.get("readable_s", {})
    return Watched(
        _number(record, "duration_s"),
        (int(record["frames_analysed"]), int(record["frames_with_face"])),
        float(record.get("watched_s", 0)),
        tuple(float(readable.get(part, 0)) for part in PARTS),
        float(record.get("any_readable_s", 0)),
    )


def _from_spans(spans: Iterable[Mapping[str, Any]], length_s: float) -> Watched:
    total = Watched(length_s)
    for span in spans:
        length = span["end_s"] - span["start_s"]
        readable = tuple(length * (part in span["readable"]) for part in PARTS)
        total += Watched(0.0, (0, 0), length, readable, max(readable))
    return total


def _median_limit(spans: Sequence[Mapping[str, Any]], part: str) -> float | None:
    """The limit that half of the watched time is at or below."""
    if not spans:
        return None
    limits = np.array([span["limits_px"][part] for span in spans])
    lengths = np.array([span["end_s"] - span["start_s"] for span in spans])
    order = limits.argsort()
    reached = lengths[order].cumsum()
    return float(limits[order][np.searchsorted(reached, reached[-1] / 2)])
