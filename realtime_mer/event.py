"""What the chain has to say: intervals, micro-expressions and what was seen in one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from realtime_mer.frame import Frame

# The label of a micro-expression that no class is confident enough for.
UNCERTAIN = "uncertain"


class InputError(Exception):
    """Something that was handed to us cannot be used. The message names it and the remedy.

    The command line prints the message without a traceback and exits with status 2.
    """


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
        flow: (28, 28, 2) float32, displacement from onset to apex, freed of the head's motion:
            means over cells of 8 x 8 pixels, in pixels of the canonical face.
    """

    onset: np.ndarray
    apex: np.ndarray
    flow: np.ndarray


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
        picture: Onset, apex and flow to show; None where nobody made one.
        least_confidence: With less, the label is UNCERTAIN.
    """

    face: int
    interval: Interval
    probabilities: Mapping[str, float]
    intensity_px: float
    reported_s: float
    picture: EventPicture | None = field(default=None, compare=False, repr=False)
    least_confidence: float = 0.0

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


@dataclass(frozen=True, slots=True)
class MacroExpression:
    """An expression too long for a micro one: 0.5 to about 4 s. It has no label.

    Attributes:
        face: Identity of the face, from 0.
        onset_s, offset_s: Seconds of the source's clock, to a tenth or two.
        reported_s: Time of the newest frame that had been captured when it was told.
    """

    face: int
    onset_s: float
    offset_s: float
    reported_s: float


@dataclass(frozen=True, slots=True)
class Gap:
    """A face was not followed from `start_s` to `end_s` (lost, out of view, source stalled)."""

    face: int
    start_s: float
    end_s: float
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class FaceState:
    """What one frame told about one face.

    Attributes:
        face: Identity, from 0.
        landmarks: (478, 2) float32, pixels of the frame, MediaPipe's face mesh order.
        score: The spotter's score; 1 is the threshold. NaN while it warms up.
        window: The motion that is under way or was last proposed, if any.
        nuisances: What makes motion hard to read now ("blink", "head motion", "speech").
        motion: (16, 2) float32, how far each expressive region (the first 16 of
            `motion.REGIONS`) has moved within the last 0.2 s, freed of the head's motion, in
            pixels of the canonical face; None while that is not known.
        quality: How well the face can be read, 0 to 1: size, pose, sharpness, light, nearness to
            the picture's edge. 1 is as good as it gets.
    """

    face: int
    landmarks: np.ndarray
    score: float
    window: Interval | None = None
    nuisances: tuple[str, ...] = ()
    motion: np.ndarray | None = None
    quality: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """Everything that is known once one frame has gone through the chain.

    Attributes:
        frame: The frame.
        faces: The faces in it.
        events: Micro-expressions emitted at this frame.
        gaps: Gaps that ended at this frame.
        latency_s: Seconds to the end of the analysis, from the capture of a live source's frame;
            of a recording, which is read ahead, from when the frame was taken up.
        fps: Frames analysed a second of wall clock, over the last second or so.
        dropped: Frames of the source that were not analysed, so far.
        source_fps: Frames a second that the source gives, measured from their times; 0 until known.
        sensitivity: Expected false reports a minute at which the spotter works now; None where
            its card tells no curve.
        alerts: What is wrong with the source now, a few words each ("picture frozen", "too dark",
            "18 fps: below 25"); empty when all is well.
        macros: Macro-expressions that were seen to be over at this frame.
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
    """

    source: str
    live: bool
    size: tuple[int, int]
    fps: float
    frame_count: int
    model: str
    provider: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known at the end, however the end came about.

    Attributes:
        reason: "end of source", "stopped by user" or "error: ...".
        stats: The object that `--stats` writes.
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
