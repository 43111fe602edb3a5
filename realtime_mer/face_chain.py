"""One face over time: registered, its motion followed, micro-expressions proposed."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from realtime_mer.cell_flow import to_cells
from realtime_mer.event import EventPicture, FaceState, Gap, Interval
from realtime_mer.flow import DenseFlow, flow_pair
from realtime_mer.interpolation import TrackedFrame, corners, has_jumped
from realtime_mer.motion import (
    EXPRESSIVE,
    Motion,
    RegionalMotion,
    RigidMotion,
    face_mask,
    texture_trust,
)
from realtime_mer.quality import face_quality
from realtime_mer.registration import Registration
from realtime_mer.ring import RingBuffer
from realtime_mer.spotter import Spotter, SpotterModel, Spotting
from realtime_mer.stats import Stats
from realtime_mer.tracker import TrackedFace

# Pictures kept of each face: the longest micro-expression and the time until it is reported.
_RING_S = 1.5
_RING_FPS = 200
# Of several faces, one that was lost for so long has its memory freed; it may come back under its
# number, and starts afresh.
_FORGET_S = 1.5
# The spotter averages over steps of 1/30 s: four motions a step tell it all that more would.
_MOTION_FPS = 120.0
# The time over which a region's motion is shown: the rise of a micro-expression.
_SHOWN_S = 0.2
# Signs in the face or the head that make motion hard to read; shown to the operator.
_BLINK = 0.4
_TURN_PX_S = 60.0
_SPEECH = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class FlowPair:
    """What the classifier and people see of an interval.

    Attributes:
        images: (2, 28, 28, 3) uint8, onset to apex and apex to offset.
        intensity_px: 99th percentile of the displacement from onset to apex in the face, pixels of
            the canonical face.
        picture: For people.
    """

    images: np.ndarray
    intensity_px: float
    picture: EventPicture


class FacePair:
    """Makes the flow pair of an interval from the pictures of a ring."""

    def __init__(self) -> None:
        self._flow = DenseFlow()

    def __call__(self, ring: RingBuffer, interval: Interval) -> FlowPair:
        """The flow pair of an interval that lies in the ring."""
        onset, apex, offset = (
            ring.at(t) for t in (interval.onset_s, interval.apex_s, interval.offset_s)
        )
        rigid = RigidMotion(apex.landmarks, texture_trust(apex.grey))
        rise = rigid.remove_dense(self._flow(onset.grey, apex.grey))
        fall = rigid.remove_dense(self._flow(apex.grey, offset.grey))
        size = np.linalg.norm(rise, axis=-1)[face_mask(apex.landmarks)]
        intensity = float(np.percentile(size, 99)) if size.size else 0.0
        picture = EventPicture(onset.grey, apex.grey, to_cells(rise).astype(np.float32))
        for array in (picture.onset, picture.apex, picture.flow):
            array.setflags(write=False)
        return FlowPair(flow_pair(rise, fall), intensity, picture)


class _Recent:
    """The displacements of the expressive regions, as far back as they are shown."""

    def __init__(self) -> None:
        # A time for each motion within the span, at most; and the one before it.
        self._seen: deque[tuple[float, np.ndarray]] = deque(maxlen=256)

    def clear(self) -> None:
        self._seen.clear()

    def __call__(self, motion: Motion) -> np.ndarray | None:
        """(16, 2) float32, how far each region has come since `_SHOWN_S` ago; None if unknown."""
        now = motion.regions[:EXPRESSIVE]
        start_s = motion.time_s - _SHOWN_S
        self._seen.append((motion.time_s, now))
        while len(self._seen) > 1 and self._seen[1][0] <= start_s:
            self._seen.popleft()
        before_s, before = self._seen[0]
        # Frames' times are in whole milliseconds.
        if before_s > start_s + 0.001:
            return None
        if len(self._seen) > 1:
            after_s, after = self._seen[1]
            share = np.float32(max(0.0, (start_s - before_s) / (after_s - before_s)))
            before = before + share * (after - before)
        moved = now - before
        moved.setflags(write=False)
        return moved


class FaceChain:
    """Everything that is remembered about one face."""

    def __init__(self, identity: int, model: SpotterModel, stats: Stats) -> None:
        self._identity = identity
        self._model, self._stats = model, stats
        self._ring = RingBuffer(int(_RING_S * _RING_FPS))
        self._pair = FacePair()
        self._seen_s = -math.inf
        self._corners: np.ndarray | None = None
        self._places: deque[tuple[float, np.ndarray]] = deque(maxlen=_RING_FPS // 5)
        self._recent = _Recent()
        self.restart()

    def restart(self) -> None:
        """Forgets what was seen: what comes next does not go on from it."""
        self._registration = Registration()
        self._motion = RegionalMotion()
        self._spotter = Spotter(self._model)
        self._ring.clear()
        self._places.clear()
        self._recent.clear()
        self._last: tuple[Spotting, np.ndarray | None, float] | None = None
        self._since_motion = 0

    def gap(
        self, time_s: float, tracked: TrackedFace, frame_before_s: float, bridge_s: float
    ) -> Gap | None:
        """The gap that ends with a sighting at `time_s`, if one does; the face starts afresh.

        Args:
            time_s: Time of this frame.
            tracked: The face in it.
            frame_before_s: Time of the frame before it, with the face or without.
            bridge_s: How long the face may have been away without a gap.
        """
        before, self._seen_s = self._seen_s, time_s
        last, self._corners = self._corners, corners(tracked)
        if last is None:
            return None
        if time_s - before <= bridge_s:
            if not has_jumped(last, self._corners):
                return None
            # The tracker has gone over to someone else, or to something that looks like a face.
            reason = "face jumped"
        else:
            reason = "no frames" if before == frame_before_s else "face lost"
        self.restart()
        return Gap(self._identity, before, time_s, reason)

    def given_up(self, time_s: float) -> Gap | None:
        """The gap of a face that has been away for too long to go on; None while it may return."""
        return self.away(time_s, _FORGET_S)

    def away(self, time_s: float, bridge_s: float) -> Gap | None:
        """The gap that is open at `time_s`, if the face is away for longer than `bridge_s`."""
        if time_s - self._seen_s <= bridge_s:
            return None
        return Gap(self._identity, self._seen_s, time_s, "face lost")

    def step(self, tracked: TrackedFace, of: TrackedFrame) -> tuple[FaceState, Spotting]:
        """The state of the face in a frame, and what the spotter says.

        Of a source too fast for the spotter, only some frames' motion is measured; of the others
        the picture is kept.
        """
        frame = of.frame
        with self._stats.stage("register"):
            face = self._registration(frame.image, tracked.landmarks, frame.time_s)
            self._ring.append(frame.time_s, face)
        self._since_motion += 1
        if self._last is not None and self._since_motion < round(of.source_fps / _MOTION_FPS):
            spotting, moved, quality = self._last
            return self._state(tracked, spotting, moved, quality), spotting
        self._since_motion = 0
        with self._stats.stage("flow"):
            motion = self._motion(face, frame.time_s, tracked.blink, tracked.jaw_open)
        with self._stats.stage("spot"):
            spotting = self._spotter(motion)
        self._places.append((frame.time_s, motion.place))
        height, width = frame.image.shape[:2]
        quality = face_quality(corners(tracked), (width, height), face, motion)
        # What it found is told once.
        told = dataclasses.replace(spotting, found=(), macros=())
        self._last = told, self._recent(motion), quality
        return self._state(tracked, *self._last), spotting

    def _state(
        self, tracked: TrackedFace, spotting: Spotting, moved: np.ndarray | None, quality: float
    ) -> FaceState:
        nuisances = []
        if tracked.blink > _BLINK:
            nuisances.append("blink")
        (start_s, start), (end_s, end) = self._places[0], self._places[-1]
        for time_s, place in self._places:
            if end_s - time_s <= 0.15:
                start_s, start = time_s, place
                break
        if end_s > start_s and np.linalg.norm(end - start) / (end_s - start_s) > _TURN_PX_S:
            nuisances.append("head motion")
        if tracked.jaw_open > _SPEECH:
            nuisances.append("speech")
        return FaceState(
            self._identity,
            np.ascontiguousarray(tracked.landmarks[:, :2]),
            spotting.score,
            spotting.window,
            tuple(nuisances),
            moved,
            quality,
        )

    def pair(self, interval: Interval) -> FlowPair:
        """The flow pair of an interval that was just proposed."""
        return self._pair(self._ring, interval)
