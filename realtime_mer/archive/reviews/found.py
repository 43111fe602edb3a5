"""What there is to review: the events of a results folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from realtime_mer.archive.results_folder import ResultsFolder, VideoResult
from realtime_mer.errors import InputError
from realtime_mer.model_file import SPOTTER
from realtime_mer.redaction import printable
from realtime_mer.results import Interval
from realtime_mer.spotting.spotter import SpotterModel

# A reviewer's decision belongs to the event of the same face whose onset is nearest, and no
# further than this: an archive that was run again may number its events otherwise. Distinct events
# of a face are further apart. Chosen by judgement.
_SAME_S = 0.05
# A longer first line is no log's.
_LINE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """An event that the program reported.

    Attributes:
        video: What was found in its video.
        number: Of the event in its video, from 1.
        face: Number of the face.
        onset_s, apex_s, offset_s: Seconds of the video's clock.
        label: The classifier's.
        confidence: Of the label.
        score: Probability that it is a micro-expression at all; None if not known.
        least_sensitivity: The smallest sensitivity that reports it; None if not known.
    """

    video: VideoResult = field(compare=False, repr=False)
    number: int
    face: int
    onset_s: float
    apex_s: float
    offset_s: float
    label: str
    confidence: float
    score: float | None
    least_sensitivity: float | None

    @property
    def id(self) -> str:
        """Its name in the review: the video's key and the number."""
        return f"{self.video.key}/{self.number}"

    @property
    def host(self) -> Found:
        """The event in whose clip it is seen: itself."""
        return self

    @property
    def name(self) -> str:
        """The video's name as it may be shown."""
        return printable(Path(self.video.source).name) or self.video.key


@dataclass(frozen=True)
class Material:
    """All that can be reviewed in a results folder.

    Attributes:
        events: Those of all videos, in the order of the manifest and of time.
        labels: What an event can be called.
        hours: Length of all videos together.
        sensitivity: False reports a minute that the events were found with; None if not known.
        notes: What the user should know.
    """

    events: tuple[Found, ...]
    labels: tuple[str, ...]
    hours: float
    sensitivity: float | None
    notes: tuple[str, ...] = ()

    def find(self, key: str, face: int, onset_s: float) -> Found | None:
        """The event of a video that began then, whatever its number is now."""
        near = [e for e in self.by_face.get((key, face), ()) if abs(e.onset_s - onset_s) <= _SAME_S]
        return min(near, key=lambda event: abs(event.onset_s - onset_s), default=None)

    @cached_property
    def by_face(self) -> dict[tuple[str, int], list[Found]]:
        # The files of other reviewers are read after each decision, and each line is looked up.
        found = defaultdict(list)
        for event in self.events:
            found[event.video.key, event.face].append(event)
        return found


def material(folder: ResultsFolder) -> Material:
    """Reads what there is to review.

    Raises:
        InputError: It is no results folder, or holds no event.
    """
    videos = list(folder.done())
    found = _read(folder, videos)
    if not found.events:
        what = "no video that is done" if not videos else "no events in its videos"
        raise InputError(
            f"{printable(str(folder.path))} holds {what}: there is nothing to review. "
            + "".join(f"({note}) " for note in found.notes[:3])
            + "Run the archive first, or with a higher --sensitivity."
        )
    return found


def material_of(folder: ResultsFolder, keys: Container[str]) -> Material:
    """Reads what there is to review in some videos; it may be nothing.

    Args:
        folder: The results.
        keys: The videos' keys. Others are named by nobody, and need no memory.

    Raises:
        InputError: It is no results folder.
    """
    videos = list(folder.done())
    return _read(folder, [video for video in videos if video.key in keys], labels_of(videos))


def labels_of(videos: Iterable[VideoResult]) -> tuple[str, ...]:
    """What events of videos that are done can be called, in the order of the first that say it."""
    labels: dict[str, None] = {}
    for video in videos:
        with contextlib.suppress(OSError, ValueError), video.log.open(encoding="utf-8") as log:
            session = json.loads(log.readline(_LINE_BYTES))
            if isinstance(session, dict) and isinstance(session.get("labels"), list):
                labels |= dict.fromkeys(map(str, session["labels"]))
    return tuple(labels)


def _read(
    folder: ResultsFolder, videos: list[VideoResult], labels: tuple[str, ...] | None = None
) -> Material:
    events: list[Found] = []
    seconds = 0.0
    notes: list[str] = []
    manifest = folder.manifest
    for video in videos:
        try:
            records = video.records()
            reported = [r for r in records if r.get("type") == "micro_expression"]
            found = [_found(video, number, record) for number, record in enumerate(reported, 1)]
            length_s = _duration_s(video, records)
        except InputError as error:
            notes.append(str(error))
            continue
        except (KeyError, TypeError, ValueError, OverflowError):
            notes.append(f"{printable(video.key)} has a log that cannot be understood: left out")
            continue
        events += found
        seconds += length_s
    return Material(
        tuple(events),
        (labels or labels_of(videos)) or tuple(dict.fromkeys(event.label for event in events)),
        seconds / 3600,
        _least_sensitivity([video.made_by(manifest)["settings"] for video in videos], events),
        tuple(notes),
    )


def _found(video: VideoResult, number: int, record: dict[str, Any]) -> Found:
    """
    Raises:
        KeyError, TypeError, ValueError, OverflowError: The record is damaged.
    """
    score, least = record.get("spotting_score"), record.get("least_sensitivity")
    # It checks their order.
    when = Interval(*(float(record[name]) for name in ("onset_s", "apex_s", "offset_s")))
    return Found(
        video=video,
        number=number,
        face=int(record["face"]),
        onset_s=when.onset_s,
        apex_s=when.apex_s,
        offset_s=when.offset_s,
        label=str(record["label"]),
        confidence=float(record["confidence"]),
        score=None if score is None else float(score),
        least_sensitivity=None if least is None else float(least),
    )


def _duration_s(video: VideoResult, records: list[dict[str, Any]]) -> float:
    declared = video.entry.get("duration_s")
    if isinstance(declared, int | float):
        return float(declared)
    lengths = [r["duration_s"] for r in records if r.get("type") == "summary"]
    return float(sum(lengths))


def _least_sensitivity(settings: list[object], events: list[Found]) -> float | None:
    """The sensitivity that all events of at most that one were found with."""
    # Sessions have settings of their own.
    distinct = {json.dumps(its, sort_keys=True): its for its in settings}
    known = [_sensitivity(its, events) for its in distinct.values()]
    return min((value for value in known if value is not None), default=None)


def _sensitivity(settings: object, events: list[Found]) -> float | None:
    """The sensitivity that the events were found with."""
    if not isinstance(settings, dict):
        return None
    given = settings.get("sensitivity")
    if isinstance(given, int | float):
        return float(given)
    # It was left to the spotter's card: take it from there, if this is the card.
    weights = settings.get("weights")
    used = weights.get("spotter") if isinstance(weights, dict) else None
    if used == hashlib.sha256(SPOTTER.read_bytes()).hexdigest():
        spotter = SpotterModel(SPOTTER)
        return spotter.expected_false_per_minute(spotter.threshold) if spotter.has_curve else None
    # With less than this, one of them would be missing.
    known = [e.least_sensitivity for e in events if e.least_sensitivity is not None]
    return max(known) if len(known) == len(events) else None
