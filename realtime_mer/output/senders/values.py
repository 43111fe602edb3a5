"""What is sent of a frame: plain numbers with names and units, and nothing that is a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from realtime_mer.face.quality import head_pose_deg
from realtime_mer.results import (
    PARTS,
    Analysis,
    FaceState,
    Mark,
    MicroExpression,
    Session,
    readable_parts,
)
from realtime_mer.spotting.motion import EXPRESSIVE, REGIONS

Finding = MicroExpression | Mark
"""What happened at a moment. It is sent once, and never dropped before values are."""

# Where MediaPipe's order of blendshapes has the two eyes' blinks.
_BLINKS = slice(9, 11)
_NOTHING = (math.nan,)


class Channel(NamedTuple):
    """A number that is sent of each face in each frame.

    Attributes:
        name: Such as "head yaw".
        unit: As texts hold it; "1" for what has none.
        kind: What it is about, in the words of LSL's headers.
    """

    name: str
    unit: str
    kind: str


MOTIONS = tuple(REGIONS)[:EXPRESSIVE]
"""The regions of `FaceState.motion`, in its order."""

CHANNELS = (
    Channel("face", "1", "Identity"),
    Channel("score", "threshold", "Score"),
    *(Channel(f"limit {part}", "px", "Limit") for part in PARTS),
    Channel("quality", "1", "Quality"),
    *(Channel(f"head {name}", "deg", "Orientation") for name in ("yaw", "pitch", "roll")),
    Channel("blink", "1", "Expression"),
    *(Channel(f"{region} {axis}", "px", "Motion") for region in MOTIONS for axis in "xy"),
)
"""What each number of `FaceValues.numbers` is. Pixels are those of the canonical face."""


def pose_deg_of(state: FaceState) -> tuple[float, float, float] | None:
    """Yaw, pitch and roll of a head, as `head_pose_deg` gives them; None if they are not known."""
    if state.depth is None:
        return None
    points = np.column_stack([state.landmarks[:, :2], state.depth])
    return head_pose_deg(points.astype(np.float64))


def blink_of(state: FaceState) -> float | None:
    """How closed the more closed eye is, 0 to 1; None if it is not known."""
    return None if state.blendshapes is None else float(state.blendshapes[_BLINKS].max())


@dataclass(frozen=True, slots=True)
class FaceValues:
    """What one frame says about one face, in numbers; NaN where something is not known.

    Attributes:
        face: Identity, from 0.
        score: The spotter's score; 1 is the threshold.
        limits: The limit of detection of each of `PARTS`, pixels of the canonical face.
        quality: How well the face can be read, 0 to 1.
        pose_deg: Yaw, pitch and roll of the head, as `head_pose_deg` gives them.
        blink: How closed the more closed eye is, 0 to 1.
        motion: x and y of each of `MOTIONS` within the last 0.2 s, without the head's motion,
            pixels of the canonical face: to the picture's right, and down.
    """

    face: int
    score: float
    limits: tuple[float, ...]
    quality: float
    pose_deg: tuple[float, ...]
    blink: float
    motion: tuple[float, ...]

    @classmethod
    def of(cls, state: FaceState) -> FaceValues:
        """The values of a face."""
        pose, blink = pose_deg_of(state), blink_of(state)
        motion = _NOTHING * (2 * EXPRESSIVE)
        if state.motion is not None:
            motion = tuple(state.motion.ravel().tolist())
        limits = _NOTHING * len(PARTS) if state.limits is None else state.limits
        return cls(
            face=int(state.face),
            score=float(state.score),
            limits=tuple(map(float, limits)),
            quality=float(state.quality),
            pose_deg=_NOTHING * 3 if pose is None else pose,
            blink=math.nan if blink is None else blink,
            motion=motion,
        )

    @property
    def numbers(self) -> tuple[float, ...]:
        """All of it, in the order of `CHANNELS`."""
        return (
            *(float(self.face), self.score, *self.limits, self.quality),
            *(*self.pose_deg, self.blink, *self.motion),
        )

    @property
    def readable(self) -> tuple[str, ...] | None:
        """Those of `PARTS` that can be read; None if that is not known."""
        if any(map(math.isnan, self.limits)):
            return None
        upper, middle, lower = self.limits
        return readable_parts((upper, middle, lower))


@dataclass(frozen=True, slots=True)
class FrameValues:
    """What is sent of one frame.

    Attributes:
        camera, source: As in `Analysis`.
        frame, time_s, captured_at: As in `Frame`.
        fps, dropped, alerts, is_away: As in `Analysis`.
        latency_s: As in `Analysis`.
        events: Micro-expressions of this camera so far, this frame's included.
        faces: The faces in it.
    """

    camera: int
    source: str
    frame: int
    time_s: float
    captured_at: float
    fps: float
    dropped: int
    latency_s: float
    alerts: tuple[str, ...]
    is_away: bool
    events: int
    faces: tuple[FaceValues, ...]


def findings_of(analysis: Analysis) -> tuple[Finding, ...]:
    """What an analysis found, without pictures."""
    events = (replace(event, picture=None) for event in analysis.events)
    return (*events, *analysis.marks)


def values_of(analysis: Analysis, events: int) -> FrameValues:
    """The values of an analysis.

    Args:
        analysis: What is known of a frame.
        events: Micro-expressions of its camera so far.
    """
    frame = analysis.frame
    return FrameValues(
        camera=analysis.camera,
        source=analysis.source,
        frame=frame.index,
        time_s=frame.time_s,
        captured_at=frame.captured_at,
        fps=analysis.fps,
        dropped=analysis.dropped,
        latency_s=analysis.latency_s,
        alerts=analysis.alerts,
        is_away=analysis.is_away,
        events=events,
        faces=tuple(map(FaceValues.of, analysis.faces)),
    )


def moment_s(finding: Finding) -> float:
    """When a finding began, in seconds of the source's clock."""
    return finding.interval.onset_s if isinstance(finding, MicroExpression) else finding.time_s


def camera_of(session: Session, finding: Finding) -> int:
    """Which of several sources a finding is about, from 0; 0 if there is one."""
    names = [source.source for source in session.sources]
    return names.index(finding.source) if finding.source in names else 0


def captured_at(session: Session, time_s: float) -> float | None:
    """The moment on `time.monotonic()` at which a live source's clock stood at `time_s`.

    None of a recording: when its frames were filmed is not known.
    """
    if not session.live or session.origin is None:
        return None
    return session.origin.monotonic(time_s)
