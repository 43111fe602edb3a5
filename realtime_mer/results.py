"""What the chain has to say: intervals, micro-expressions and what was seen in one frame."""

from __future__ import annotations

import enum
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from realtime_mer.records import number, plain, seconds
from realtime_mer.source.frame import Frame

if TYPE_CHECKING:
    import pandas

# The label of a micro-expression that no class is confident enough for.
UNCERTAIN = "uncertain"
# The parts of a face whose limits of detection are told, in this order everywhere.
PARTS = ("upper face", "middle face", "lower face")
# A part can be read while its limit of detection is at most this, in pixels of the canonical face.
# Chosen by judgement: micro-expressions reach 1 to 3 px.
READABLE_PX = 1.5
MARKED_BY = ("window", "page", "program")
"""Where a moment can be marked: by a key of the window, by a viewer of the page, or in code."""
# Characters of a mark's text. Chosen by judgement: a line of a terminal.
LONGEST_MARK = 80
# The columns of an event in tables, each label's probability apart.
_EVENT_COLUMNS = (
    *("face", "onset_s", "apex_s", "offset_s", "label", "confidence", "intensity_px", "limit_px"),
    *("spotting_score", "least_sensitivity", "regions", "action_units", "from_neutral_px"),
    *("reported_s", "source", "model", "onset_frame", "apex_frame", "offset_frame"),
)
# The figures of the end-to-end latency that go into the log's summary.
_LATENCIES = ("median", "p95", "p99", "max")


class GapReason(enum.StrEnum):
    """Why a face was not followed, or why a source showed nothing new."""

    FACE_LOST = "face lost"
    FACE_JUMPED = "face jumped"
    NO_FRAMES = "no frames"
    SOURCE_LOST = "source lost"
    PICTURE_FROZEN = "picture frozen"
    PAUSED = "paused"
    TOO_FEW_FRAMES = "too few frames"


class SourceStatus(enum.StrEnum):
    """What has become of a live source."""

    RECONNECTING = "reconnecting"
    FROZEN = "frozen"
    LOST = "lost"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class ClockOrigin:
    """The moment at which a live source's own clock stood at 0: the capture of its first frame.

    Attributes:
        monotonic_s: That moment on `time.monotonic()`, which other threads and processes of this
            machine share.
        unix_s: The same moment in seconds since 1970, by this machine's clock.
    """

    monotonic_s: float
    unix_s: float

    def wall_clock(self, time_s: float) -> datetime:
        """The date and time (UTC) at which the source's clock stood at `time_s`."""
        return datetime.fromtimestamp(self.unix_s + time_s, UTC)

    def monotonic(self, time_s: float) -> float:
        """The value of `time.monotonic()` at which the source's clock stood at `time_s`."""
        return self.monotonic_s + time_s


@dataclass(frozen=True, slots=True)
class Interval:
    """Onset, apex and offset of a motion, in seconds of the source's clock."""

    onset_s: float
    apex_s: float
    offset_s: float

    def __post_init__(self) -> None:
        if not self.onset_s <= self.apex_s <= self.offset_s:
            raise ValueError(f"onset <= apex <= offset is broken by {self}")

    @property
    def length_s(self) -> float:
        return self.offset_s - self.onset_s


@dataclass(frozen=True, slots=True, eq=False)
class EventPicture:
    """What a micro-expression looked like, for people. Nothing in it is ever changed.

    Attributes:
        onset: (224, 224) uint8, the canonical face at the onset.
        apex: The same at the apex.
        flow: (28, 28, 2) float32, displacement from onset to apex without the head's motion: means
            over cells of 8 x 8 pixels, in pixels of the canonical face.
    """

    onset: np.ndarray
    apex: np.ndarray
    flow: np.ndarray


@dataclass(frozen=True, slots=True)
class RegionMotion:
    """How far a region of the face came from an event's onset to its apex, without the head.

    Attributes:
        name: The region, as in `spotting.motion.REGIONS`; "left" and "right" are the picture's.
        displacement_px: Mean over the region, pixels of the canonical face. The region's mean is
            less than the motion at its middle: about 60 % on average.
        direction_deg: Where to, 0 to 360: 0 is to the right of the picture, 90 upwards, if the head
            is upright; of a tilted head, they are tilted as well.
    """

    name: str
    displacement_px: float
    direction_deg: float

    def to_dict(self) -> dict[str, Any]:
        """The region as an event's record holds it."""
        return {
            "name": self.name,
            "displacement_px": number(self.displacement_px, 2),
            "direction_deg": round(self.direction_deg) % 360,
        }


def regions_text(regions: Iterable[RegionMotion]) -> str:
    """Regions as a text for tables, the largest motion first.

    Example:
        >>> regions_text([RegionMotion("chin", 0.8, 270.0)])
        'chin 0.80 px at 270 deg'
    """
    return "; ".join(
        f"{r['name']} {r['displacement_px']:.2f} px at {r['direction_deg']} deg"
        for r in (region.to_dict() for region in regions)
    )


@dataclass(frozen=True, slots=True)
class ActionUnit:
    """A facial action unit (FACS) that was seen in an event.

    Attributes:
        name: Such as "AU12", the lip corner puller.
        side: "both", or the half of the picture that shows it: "left" or "right".
        score: 0 to 1, its probability among drawn motions.
    """

    name: str
    side: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """The unit as an event's record holds it."""
        return {"name": self.name, "side": self.side, "score": number(self.score, 2)}


def action_units_text(units: Iterable[ActionUnit]) -> str:
    """Action units as a text for tables.

    Example:
        >>> action_units_text([ActionUnit("AU12", "both", 0.93), ActionUnit("AU2", "left", 0.8)])
        'AU12; AU2 left'
    """
    return "; ".join(u.name if u.side == "both" else f"{u.name} {u.side}" for u in units)


@dataclass(frozen=True, slots=True)
class MicroExpression:
    """A spotted and classified micro-expression.

    Attributes:
        face: Identity of the face, from 0.
        interval: Onset, apex and offset.
        probabilities: Label to calibrated probability; they sum to 1.
        intensity_px: 99th percentile displacement from onset to apex, in pixels of the canonical
            224 x 224 face (eye centres 95 px apart).
        reported_s: Time of the newest frame that had been captured when the event was emitted.
        picture: Onset, apex and flow to show; None if there is none.
        least_confidence: With less confidence, the label is UNCERTAIN.
        source: The source as it may be shown: no credentials.
        model: Name of the classifier's weights.
        origin: Where the source's clock started, of a live source; None of a recording.
        limit_px: The limit of detection at the onset, as in `FaceState.limits`, of the part of the
            face that moved most; None if it is not known. Later the event itself raises it.
        spotting_score: 0 to 1, the probability that this is a micro-expression at all; None if the
            spotter's card has no calibration.
        least_sensitivity: Smallest sensitivity (false reports a minute) that would have reported
            this; None if the spotter's card has no curve of false reports.
        regions: The regions that moved, the largest motion first.
        action_units: The units among those that can be told, the most probable first.
        frames: Numbers of the source's frames nearest to onset, apex and offset; None if they are
            not known.
        from_neutral_px: 99th percentile displacement from the person's neutral face to the apex, in
            the pixels of `intensity_px`; None without a good baseline.

    Events are compared by their values and may be put into sets.
    """

    face: int
    interval: Interval
    probabilities: Mapping[str, float] = field(hash=False)
    intensity_px: float
    reported_s: float
    picture: EventPicture | None = field(default=None, compare=False, repr=False)
    least_confidence: float = 0.0
    source: str = ""
    model: str = ""
    origin: ClockOrigin | None = None
    limit_px: float | None = None
    spotting_score: float | None = None
    least_sensitivity: float | None = None
    regions: tuple[RegionMotion, ...] = ()
    action_units: tuple[ActionUnit, ...] = ()
    frames: tuple[int, int, int] | None = None
    from_neutral_px: float | None = None

    @property
    def label(self) -> str:
        """The most probable label, or UNCERTAIN."""
        return UNCERTAIN if self.confidence < self.least_confidence else self._most_probable

    @property
    def confidence(self) -> float:
        """The greatest of the probabilities, whatever the label."""
        return self.probabilities[self._most_probable]

    @property
    def _most_probable(self) -> str:
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def onset_at(self) -> datetime | None:
        """The date and time (UTC) of the onset, of a live source; None of a recording."""
        return None if self.origin is None else self.origin.wall_clock(self.interval.onset_s)

    @property
    def onset_monotonic_s(self) -> float | None:
        """The onset on `time.monotonic()`, of a live source; None of a recording."""
        return None if self.origin is None else self.origin.monotonic(self.interval.onset_s)

    def to_dict(self) -> dict[str, Any]:
        """The event's record, as the log writes it; it has no fields for what is not known."""
        record: dict[str, Any] = {
            "type": "micro_expression",
            "face": int(self.face),
            "onset_s": seconds(self.interval.onset_s),
            "apex_s": seconds(self.interval.apex_s),
            "offset_s": seconds(self.interval.offset_s),
            "label": self.label,
            "confidence": number(self.confidence, 4),
            "probabilities": {name: number(p, 4) for name, p in self.probabilities.items()},
            "intensity_px": number(self.intensity_px, 2),
        }
        if self.from_neutral_px is not None:
            record["from_neutral_px"] = number(self.from_neutral_px, 2)
        if self.frames is not None:
            record |= zip(("onset_frame", "apex_frame", "offset_frame"), self.frames, strict=True)
        if self.limit_px is not None:
            record["limit_px"] = number(self.limit_px, 2)
        if self.spotting_score is not None:
            record["spotting_score"] = number(self.spotting_score, 4)
        if self.least_sensitivity is not None:
            record["least_sensitivity"] = number(self.least_sensitivity, 4)
        record |= {
            "regions": [region.to_dict() for region in self.regions],
            "action_units": [unit.to_dict() for unit in self.action_units],
            "reported_s": seconds(self.reported_s),
            "source": self.source,
            "model": self.model,
        }
        if self.origin is not None:
            onset_s = self.interval.onset_s
            record["onset_at"] = self.origin.wall_clock(onset_s).isoformat(timespec="milliseconds")
            record["onset_monotonic_s"] = number(self.origin.monotonic(onset_s), 4)
        return record


@dataclass(frozen=True, slots=True)
class MacroExpression:
    """An expression too long for a micro one: 0.5 to about 4 s. It has no label.

    Attributes:
        face: Identity of the face, from 0.
        onset_s, offset_s: Seconds of the source's clock, to a tenth or two.
        reported_s: Time of the newest frame that had been captured when it was reported.
        source: The source as it may be shown: no credentials.
    """

    face: int
    onset_s: float
    offset_s: float
    reported_s: float
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The record that the log writes."""
        return {
            "type": "macro_expression",
            "face": int(self.face),
            "onset_s": seconds(self.onset_s),
            "offset_s": seconds(self.offset_s),
            "reported_s": seconds(self.reported_s),
            "source": self.source,
        }


def _named(source: str) -> dict[str, Any]:
    """The field of a record that names one of several sources; nothing if there is one."""
    return {"source": source} if source else {}


@dataclass(frozen=True, slots=True)
class Gap:
    """A face was not followed from `start_s` to `end_s` (lost, out of view, source stalled).

    `source` names the source in sessions of several; else it is empty.
    """

    face: int
    start_s: float
    end_s: float
    reason: GapReason
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The record that the log writes."""
        return {
            "type": "gap",
            "face": int(self.face),
            "start_s": seconds(self.start_s),
            "end_s": seconds(self.end_s),
            "reason": self.reason.value,
            **_named(self.source),
        }


@dataclass(frozen=True, slots=True)
class VisibilitySpan:
    """A time during which the same parts of a face could be read.

    Attributes:
        face: Identity of the face.
        start_s, end_s: Seconds of the source's clock.
        limits_px: Of each of `PARTS`, the median limit of detection (`FaceState.limits`).
        readable_s: For how many seconds each of `PARTS` could be read, taken ten times a second.
        any_s: For how many seconds at least one of them could.
        source: As in `Gap`.
    """

    face: int
    start_s: float
    end_s: float
    limits_px: tuple[float, float, float]
    readable_s: tuple[float, float, float]
    any_s: float
    source: str = ""

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def readable(self) -> tuple[str, ...]:
        """Those of `PARTS` whose limit is at most `READABLE_PX`."""
        return readable_parts(self.limits_px)

    def to_dict(self) -> dict[str, Any]:
        """The record that the log writes."""
        return {
            "type": "visibility",
            "face": int(self.face),
            "start_s": seconds(self.start_s),
            "end_s": seconds(self.end_s),
            "limits_px": {
                part: number(limit, 2) for part, limit in zip(PARTS, self.limits_px, strict=True)
            },
            "readable": list(self.readable),
            **_named(self.source),
        }


def readable_parts(limits: tuple[float, float, float]) -> tuple[str, ...]:
    """Those of `PARTS` that can be read with these limits of detection, in pixels."""
    return tuple(p for p, limit in zip(PARTS, limits, strict=True) if limit <= READABLE_PX)


@dataclass(frozen=True, slots=True)
class Watched:
    """How long faces could be read, summed over them: the totals of `VisibilitySpan`.

    Attributes:
        watched_s: Seconds during which the limits of detection were known.
        readable_s: Of these, during which each of `PARTS` could be read.
        any_s: During which at least one of them could be read.
    """

    watched_s: float = 0.0
    readable_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    any_s: float = 0.0

    def with_spans(self, spans: Iterable[VisibilitySpan]) -> Watched:
        """The totals with more spans."""
        watched_s, by_part, any_s = self.watched_s, list(self.readable_s), self.any_s
        for span in spans:
            watched_s += span.length_s
            any_s += span.any_s
            by_part = [a + b for a, b in zip(by_part, span.readable_s, strict=True)]
        upper, middle, lower = by_part
        return Watched(watched_s, (upper, middle, lower), any_s)

    def __add__(self, other: Watched) -> Watched:
        upper, middle, lower = map(operator.add, self.readable_s, other.readable_s)
        return Watched(
            self.watched_s + other.watched_s, (upper, middle, lower), self.any_s + other.any_s
        )

    def events_per_minute(self, events: int) -> float | None:
        """Events a minute during which a part could be read; None if there was less than one."""
        return events / (self.any_s / 60) if self.any_s >= 60 else None

    def to_dict(self) -> dict[str, Any]:
        """The figures as records hold them."""
        return {
            "watched_s": seconds(self.watched_s),
            "readable_s": {
                part: seconds(total) for part, total in zip(PARTS, self.readable_s, strict=True)
            },
            "any_readable_s": seconds(self.any_s),
        }


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A live source has changed its status.

    Attributes:
        status: What it is from now on.
        time_s: When, in seconds of the source's clock.
        source: As in `Gap`.
    """

    status: SourceStatus
    time_s: float
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The record that the log writes."""
        record = {"type": "status", "status": self.status.value, "time_s": seconds(self.time_s)}
        return record | _named(self.source)


class BaselineFlaw(enum.StrEnum):
    """Why a baseline is poor."""

    TOO_SHORT = "too short"
    FACE_AWAY = "face away"
    FACE_JUMPED = "face jumped"
    TOO_FEW_FRAMES = "too few frames"
    HARD_TO_READ = "hard to read"
    HEAD_MOVED = "head moved"
    MOUTH_OPEN = "mouth open"
    SMILE = "smile"
    FACE_MOVED = "face moved"


@dataclass(frozen=True, slots=True)
class Baseline:
    """A time in which a person was asked to keep a neutral face, and what it is worth.

    Attributes:
        face: Identity of the face.
        start_s, end_s: Seconds of the source's clock.
        flaws: Why it is poor, the gravest first; empty if it is good.
        limits_px: Of each of `PARTS`, the median limit of detection (`FaceState.limits`) in it;
            None if they were not known.
        withheld: Micro-expressions that were found in it, and not reported.
        source: As in `Gap`.
    """

    face: int
    start_s: float
    end_s: float
    flaws: tuple[BaselineFlaw, ...] = ()
    limits_px: tuple[float, float, float] | None = None
    withheld: int = 0
    source: str = ""

    @property
    def is_good(self) -> bool:
        return not self.flaws

    def to_dict(self) -> dict[str, Any]:
        """The record that the log writes."""
        record = {
            "type": "baseline",
            "face": int(self.face),
            "start_s": seconds(self.start_s),
            "end_s": seconds(self.end_s),
            "quality": "good" if self.is_good else "poor",
            "reason": ", ".join(self.flaws),
            "withheld": int(self.withheld),
        }
        if self.limits_px is not None:
            limits = zip(PARTS, self.limits_px, strict=True)
            record["limits_px"] = {part: number(limit, 2) for part, limit in limits}
        return record | _named(self.source)


@dataclass(frozen=True, slots=True)
class Mark:
    """Someone, or a program, has marked a moment: "something happened now".

    Attributes:
        time_s: The moment, in seconds of the source's clock.
        by: Where it was marked: one of `MARKED_BY`.
        text: What it is about: one line, at most `LONGEST_MARK` characters; may be empty.
        source: As in `Gap`.

    Raises:
        ValueError: `by` is none of `MARKED_BY`.
    """

    time_s: float
    by: str = "program"
    text: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.by not in MARKED_BY:
            raise ValueError(f"a mark is made by one of {', '.join(MARKED_BY)}, got {self.by!r}")

    def to_dict(self) -> dict[str, Any]:
        """The record that the log writes."""
        return {
            "type": "mark",
            "time_s": seconds(self.time_s),
            "by": self.by,
            "text": self.text,
            **_named(self.source),
        }


@dataclass(frozen=True, slots=True, eq=False)
class FaceState:
    """What one frame says about one face.

    Attributes:
        face: Identity, from 0.
        landmarks: (478, 2) float32, pixels of the frame, MediaPipe's face mesh order.
        score: The spotter's score; 1 is the threshold. NaN while it warms up, and while too few
            frames are analysed for it to mean something.
        window: The motion that is under way or was last proposed, if any.
        nuisances: What makes motion hard to read now ("blink", "head motion", "speech", "too few
            frames").
        motion: (16, 2) float32, displacement of each expressive region (the first 16 of
            `spotting.motion.REGIONS`) within the last 0.2 s, without the head's motion, in pixels
            of the canonical face; None while it is not known.
        quality: How well the face can be read, 0 to 1: size, pose, sharpness, light, nearness to
            the picture's edge, and whether enough frames are analysed. 1 is as good as it gets.
        limits: Of each of `PARTS`, the limit of detection: the smallest peak motion, measured as
            `MicroExpression.intensity_px`, that would be found now with a probability of 80 %.
            None during warm-up and just after a hole, while the picture is frozen or too few
            frames are analysed, at a threshold above the card's, and if the spotter's card does
            not tell it.
        matrix: (2, 3) float64, frame to canonical face, as `face.registration.crop` takes it; None
            if it is not known.
        depth: (478,) float32, depth of the landmarks on their scale, smaller is nearer; None if it
            is not known.
        blendshapes: (52,) float32, 0 to 1, in MediaPipe's order; None if they are not known.
    """

    face: int
    landmarks: np.ndarray
    score: float
    window: Interval | None = None
    nuisances: tuple[str, ...] = ()
    motion: np.ndarray | None = None
    quality: float = 1.0
    limits: tuple[float, float, float] | None = None
    matrix: np.ndarray | None = None
    depth: np.ndarray | None = None
    blendshapes: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """What has become of a source's frames so far.

    Attributes:
        read: Those that the source gave.
        analysed: Those of them that were analysed.
        drops: Those that were not analysed or not shown, by cause, as in `Stats.as_dict`.
    """

    read: int = 0
    analysed: int = 0
    drops: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Everything that is known once one frame has gone through the chain.

    Attributes:
        frame: The frame.
        faces: The faces in it.
        events: Micro-expressions emitted at this frame.
        gaps: Gaps that ended at this frame.
        latency_s: Seconds to the end of the analysis, from the capture of a live source's frame;
            of a recording, which is read ahead, from the start of its tracking.
        fps: Frames analysed a second of wall clock, over the last second or so.
        dropped: Frames of the source that were not analysed, so far.
        source_fps: Frames a second that the source gives, measured from their times; 0 until known.
        sensitivity: Expected false reports a minute at which the spotter works now; None where
            its card tells no curve.
        alerts: What is wrong with the source or the analysis now, or asked of the person, a few
            words each ("picture frozen", "too dark", "18 fps: below 25", "no reports below 8 fps",
            "baseline: keep a neutral face, 12 s"); empty when all is well.
        macros: Macro-expressions that were seen to be over at this frame.
        statuses: How the status of a live source has changed since the analysis before.
        visibility: Spans of the same visibility that ended at this frame.
        baselines: Baselines that ended at this frame.
        marks: The moments that were marked since the analysis before.
        is_away: The source gives no frames now; this is its last frame again, without faces.
        unshown: Frames of a live source that were analysed before this one but came too fast to be
            handed over; what was found in them is here. The newest 15 are kept, the oldest first.
        camera: Which of several sources it is about, from 0 in their order.
        counts: What has become of the source's frames so far.
        source: The name of that source; empty if there is one.
    """

    frame: Frame
    faces: tuple[FaceState, ...] = ()
    events: tuple[MicroExpression, ...] = ()
    gaps: tuple[Gap, ...] = ()
    latency_s: float = 0.0
    fps: float = 0.0
    dropped: int = 0
    source_fps: float = 0.0
    sensitivity: float | None = None
    alerts: tuple[str, ...] = ()
    macros: tuple[MacroExpression, ...] = ()
    statuses: tuple[StatusChange, ...] = ()
    visibility: tuple[VisibilitySpan, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    marks: tuple[Mark, ...] = ()
    is_away: bool = False
    unshown: tuple[Frame, ...] = field(default=(), repr=False)
    camera: int = 0
    counts: FrameCounts = FrameCounts()
    source: str = ""

    @property
    def has_findings(self) -> bool:
        """Whether something was found or ended at this frame: something that logs hold."""
        return any(getattr(self, name) for name in FINDINGS)

    def without_findings(self) -> Analysis:
        """The same moment as it is shown once more: what was found is told once."""
        nothing: dict[str, Any] = dict.fromkeys(FINDINGS, ())
        return replace(self, unshown=(), **nothing)


FINDINGS = ("events", "gaps", "macros", "visibility", "statuses", "baselines", "marks")
"""The fields of an `Analysis` that tell each thing once."""


@dataclass(frozen=True, slots=True)
class Session:
    """What is known before the first frame.

    Attributes:
        source: The source as it may be shown: no credentials.
        live: True for cameras and streams.
        size: (width, height) of the frames in pixels.
        fps: Declared frame rate; 0 where unknown.
        frame_count: Declared number of frames; 0 where unknown (headers can overstate it).
        model: Name of the classifier's weights, as the model card gives it.
        provider: Where the classifier runs ("CPU", "CUDA").
        labels: The labels in the order of the model card.
        origin: When the source's clock stood at 0: the capture of its first frame; of a recording,
            when that frame was read. None where no frame has been read.
        camera: Which of several sources it is, from 0; None if there is one.
        sources: Of several sources, what is known about each, in their order. `source` then names
            all of them, `size` is the first one's, `fps` the highest, `frame_count` the sum and
            `origin` the first one's: several live sources have one clock.
    """

    source: str
    live: bool
    size: tuple[int, int]
    fps: float
    frame_count: int
    model: str
    provider: str
    labels: tuple[str, ...]
    origin: ClockOrigin | None = None
    camera: int | None = None
    sources: tuple[Session, ...] = ()

    @property
    def each(self) -> tuple[Session, ...]:
        """The sessions of the single sources: `sources`, or this one."""
        return self.sources or (self,)

    def to_dict(self) -> dict[str, Any]:
        """The record with which a log begins."""
        started = self.origin.wall_clock(0.0) if self.origin else datetime.now(UTC)
        record: dict[str, Any] = {
            "type": "session",
            "source": self.source,
            "live": self.live,
            "width": int(self.size[0]),
            "height": int(self.size[1]),
            "fps": number(self.fps, 3),
            "frame_count": int(self.frame_count),
            "model": self.model,
            "provider": self.provider,
            "labels": list(self.labels),
            "started_at": started.isoformat(timespec="milliseconds"),
        }
        if self.sources:
            own = ("source", "width", "height", "fps", "frame_count", "started_at")
            records = [source.to_dict() for source in self.sources]
            record["sources"] = [{name: r[name] for name in own} for r in records]
        return record


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a session, however it ended.

    Attributes:
        reason: "end of source", "stopped by user" or "error: ...".
        frames_read: Frames that the source gave.
        frames_analysed: Those that went through the chain.
        frames_dropped: Those of a live source that did not.
        frames_with_face: Analysed frames with at least one face.
        duration_s: How far the source came, seconds of its own clock.
        wall_s: Seconds that it took.
        events: Micro-expressions found.
        stats: Rates, latencies and memory (`Stats.as_dict`).
        watched: How long faces could be read; nothing if no limits were known.
        visibility: The spans that ended with the session, and so came with no analysis.
        source: The source, if it is one of several.
        sources: Of several sources, the figures of each; the others are their sums, `duration_s`
            and `wall_s` the greatest.
    """

    reason: str
    frames_read: int
    frames_analysed: int
    frames_dropped: int
    frames_with_face: int
    duration_s: float
    wall_s: float
    events: int
    stats: Mapping[str, Any] = field(default_factory=dict)
    watched: Watched = Watched()
    visibility: tuple[VisibilitySpan, ...] = ()
    source: str = ""
    sources: tuple[Summary, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The record with which a log ends; all statistics are in `stats`."""
        latency = self.stats.get("end_to_end_ms", {})
        record: dict[str, Any] = {
            "type": "summary",
            "reason": self.reason,
            "events": int(self.events),
            "duration_s": seconds(self.duration_s),
            "wall_s": seconds(self.wall_s),
            "frames_read": int(self.frames_read),
            "frames_analysed": int(self.frames_analysed),
            "frames_dropped": int(self.frames_dropped),
            "frames_with_face": int(self.frames_with_face),
            "latency_ms": plain({name: latency[name] for name in _LATENCIES if name in latency}),
        }
        if self.watched.watched_s:
            record |= self.watched.to_dict()
            rate = self.watched.events_per_minute(self.events)
            if rate is not None:
                record["events_per_readable_minute"] = number(rate, 3)
        if self.sources:
            figures = [{"source": s.source} | s.to_dict() for s in self.sources]
            record["sources"] = [{k: v for k, v in f.items() if k != "type"} for f in figures]
        return record


def to_dataframe(events: Iterable[MicroExpression]) -> pandas.DataFrame:
    """A table of events, a row each, in the columns of the log's records.

    Each label's probability has a column: `p_negative`, `p_positive`, ... Without events the table
    has no rows, and no such columns.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("a table of events needs pandas: pip install pandas") from error
    rows = []
    for event in events:
        record = event.to_dict()
        probabilities = {f"p_{label}": p for label, p in record.pop("probabilities").items()}
        # What is known of some events only has its column in every table.
        texts = {
            "regions": regions_text(event.regions),
            "action_units": action_units_text(event.action_units),
        }
        rows.append(dict.fromkeys(_EVENT_COLUMNS) | record | texts | probabilities)
    columns = None if rows else list(_EVENT_COLUMNS)
    table = pandas.DataFrame(rows, columns=columns)
    return table.drop(columns="type") if rows else table
