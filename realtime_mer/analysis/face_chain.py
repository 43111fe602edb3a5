"""One face over time: registered, its motion followed, micro-expressions proposed."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from realtime_mer.face.mesh import corners, has_jumped
from realtime_mer.face.quality import face_quality
from realtime_mer.face.registration import CanonicalFace, Registration
from realtime_mer.face.ring import RingBuffer
from realtime_mer.face.tracker import TrackedFace, TrackedFrame
from realtime_mer.recognition.face_pair import FacePair, FlowPair
from realtime_mer.results import FaceState, Gap, GapReason, Interval
from realtime_mer.spotting.motion import EXPRESSIVE, REGIONS, Motion, RegionalMotion
from realtime_mer.spotting.spotter import Proposal, Spotter, SpotterModel, Spotting
from realtime_mer.spotting.visibility import PART_OF, Visibility
from realtime_mer.stats import Stats

# Pictures kept of each face: the longest micro-expression and the time until it is reported.
_RING_S = 1.5
_RING_FPS = 200
# A hole of the source's frames after which the same face goes on. Chosen by judgement: in a longer
# one, someone else may have sat down.
_MAX_HOLE_S = 1.0
# Of several faces, one that was lost for so long has its memory freed; it may come back under its
# number, and starts afresh.
_FORGET_S = 1.5
# The limit at an onset may have been known so much earlier. Chosen by judgement: two frames of the
# slowest sources.
_LIMIT_WITHIN_S = 0.25
_PART_OF = dict(zip(REGIONS, PART_OF.tolist(), strict=True))
# Places of the head that are remembered, and the time over which its speed is taken.
_PLACES = 40
_SPEED_S = 0.15
# The spotter averages over steps of 1/30 s: four motions a step tell it all that more would.
_MOTION_FPS = 120.0
# The time over which a region's motion is shown: the rise of a micro-expression.
_SHOWN_S = 0.2
# Signs that motion is hard to read; shown to the operator. Chosen by judgement, and measured later:
# see "Constants, measured" in docs/spotting.md.
# Blink score: nine blinks of three people peak at 0.41 to 0.71; on a man before his webcam, 99 % of
# the frames are below 0.3.
_BLINK = 0.4
# Speed of the head, canonical pixels a second: there the rest of its motion that is left in the
# cells, 2.5 px in 0.2 s, is as large as a micro-expression, and 3 times that of a calm head.
_TURN_PX_S = 60.0
# Jaw score: below 0.02 for a closed mouth, to 0.15 for parted lips, 0.2 to 0.7 for a mouth that
# opens and closes as in speech; a smile stays below 0.1.
_SPEECH = 0.2


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


class _Limits:
    """The limits of detection of one face, now and as far back as an event's onset may lie."""

    def __init__(self, model: SpotterModel) -> None:
        self._model = model
        # As many as the pictures that are kept: an onset lies in one of them.
        self._known: deque[tuple[float, tuple[float, float, float]]] = deque(
            maxlen=round(_RING_S * _RING_FPS)
        )
        self.restart()

    def restart(self) -> None:
        """Starts afresh; what was known stays for events that are yet to be told."""
        visibility = self._model.visibility
        self._visibility = None if visibility is None else Visibility(visibility)

    def __call__(self, motion: Motion) -> tuple[float, float, float] | None:
        limits = None if self._visibility is None else self._visibility(motion)
        if not self._model.states_limits:
            return None
        if limits is not None:
            self._known.append((motion.time_s, limits))
        return limits

    def resume(self) -> None:
        """Goes on after a hole in the frames."""
        if self._visibility is not None:
            self._visibility.resume()

    def of(self, proposal: Proposal) -> float | None:
        """The limit, at the onset, of the part of the face that moved most; None if not known.

        Later limits count the event itself among the motion that hides events.
        """
        onset_s = proposal.interval.onset_s
        if not proposal.regions:
            return None
        part = _PART_OF[proposal.regions[0].name]
        at_onset = (
            limits[part]
            for time_s, limits in reversed(self._known)
            if -_LIMIT_WITHIN_S <= time_s - onset_s <= 0
        )
        return next(at_onset, None)


@dataclass(frozen=True, slots=True, eq=False)
class FaceStep:
    """What one frame told about one face.

    Attributes:
        face: The registered face.
        motion: Its motion; None in a frame of a fast source whose motion was not measured.
        spotting: What the spotter says.
        state: For people and outputs.
        gap: The gap that ended with this frame, if one did; the face has started afresh.
        restlessness: As `Spotter.restlessness`.
    """

    face: CanonicalFace
    motion: Motion | None
    spotting: Spotting
    state: FaceState
    gap: Gap | None
    restlessness: float


class _Last(NamedTuple):
    """What the last motion told.

    Attributes:
        spotting: What the spotter says; what was found is reported once, and not in here.
        moved: As `FaceState.motion`.
        quality: As `FaceState.quality`.
        limits: As `FaceState.limits`.
    """

    spotting: Spotting
    moved: np.ndarray | None
    quality: float
    limits: tuple[float, float, float] | None


class FaceChain:
    """Everything that is remembered about one face.

    Args:
        identity: Number of the face.
        model: The spotter's network.
        stats: Where the time spent in each station is recorded.
    """

    def __init__(self, identity: int, model: SpotterModel, stats: Stats) -> None:
        self._identity = identity
        self._model, self._stats = model, stats
        self._ring = RingBuffer(_RING_S, _RING_FPS)
        self._seen_s = -math.inf
        self._corners: np.ndarray | None = None
        self._places: deque[tuple[float, np.ndarray]] = deque(maxlen=_PLACES)
        self._recent = _Recent()
        self._limits = _Limits(model)
        self.restart()

    def restart(self) -> None:
        """Forgets what was seen: what comes next does not continue it."""
        self._spotter = Spotter(self._model)
        self._limits.restart()
        self._restart_motion()

    def _restart_motion(self) -> None:
        """Measures motion from the next frame on, not from those before it."""
        self._registration = Registration()
        self._motion = RegionalMotion()
        self._places.clear()
        self._recent.clear()
        self._last: _Last | None = None
        self._since_motion = 0

    def step(
        self, tracked: TrackedFace, of: TrackedFrame, before_s: float, bridge_s: float
    ) -> FaceStep:
        """What the next frame with this face tells.

        After a gap the face starts afresh, except after a short hole in the source's frames: the
        face is the same, and what is usual for it is known. Of a source too fast for the spotter,
        only some frames' motion is measured; of the others the picture is kept.

        Args:
            tracked: The face.
            of: The frame with the faces in it.
            before_s: Time of the source's frame before this one, with this face or without.
            bridge_s: How long the face may have been away without a gap.
        """
        frame = of.frame
        place = corners(tracked.landmarks)
        gap = self._gap(frame.time_s, place, before_s, bridge_s)
        # The pictures before the gap are still in the ring.
        found_before = () if gap is None else self._end_stretch(gap)
        with self._stats.stage("register"):
            face = self._registration(frame.image, tracked.landmarks, frame.time_s)
            self._ring.append(frame.time_s, face)
        self._since_motion += 1
        if self._last is not None and self._since_motion < round(of.source_fps / _MOTION_FPS):
            state = self._state(tracked, self._last, face.matrix)
            return FaceStep(face, None, self._last.spotting, state, gap, self._spotter.restlessness)
        self._since_motion = 0
        with self._stats.stage("flow"):
            motion = self._motion(face, frame.time_s, tracked.blink, tracked.jaw_open)
        with self._stats.stage("spot"):
            spotting = self._spotter(motion)
            limits = self._limits(motion)
        self._places.append((frame.time_s, motion.place))
        height, width = frame.image.shape[:2]
        trust = float(motion.trust[:EXPRESSIVE].mean())
        quality = face_quality(place, (width, height), face, trust)
        repeated = dataclasses.replace(spotting, found=(), macros=())
        self._last = _Last(repeated, self._recent(motion), quality, limits)
        spotting = dataclasses.replace(spotting, found=found_before + spotting.found)
        state = self._state(tracked, self._last, face.matrix)
        return FaceStep(face, motion, spotting, state, gap, self._spotter.restlessness)

    def _end_stretch(self, gap: Gap) -> tuple[Proposal, ...]:
        """Ends what was seen before a gap; returns what was found in it and not yet told."""
        found = self.finish()
        if gap.reason == GapReason.NO_FRAMES and gap.end_s - gap.start_s <= _MAX_HOLE_S:
            self._spotter.resume()
            self._limits.resume()
            self._restart_motion()
        else:
            self.restart()
        return found

    def finish(self) -> tuple[Proposal, ...]:
        """What was found and not yet told, when the face is seen no more. Then nothing is."""
        return tuple(self._spotter.finish())

    def _gap(
        self, time_s: float, place: np.ndarray, before_s: float, bridge_s: float
    ) -> Gap | None:
        """The gap that ends with a sighting at `time_s`, at a place (`corners`), if one does."""
        seen_s, self._seen_s = self._seen_s, time_s
        last, self._corners = self._corners, place
        if last is None:
            return None
        if time_s - seen_s > bridge_s:
            reason = GapReason.NO_FRAMES if seen_s == before_s else GapReason.FACE_LOST
        elif has_jumped(last, place):
            # The tracker has gone over to someone else, or to something that looks like a face.
            reason = GapReason.FACE_JUMPED
        else:
            return None
        return Gap(self._identity, seen_s, time_s, reason)

    def given_up(self, time_s: float) -> Gap | None:
        """The gap of a face that has been away too long to be continued; None before that."""
        return self.away(time_s, _FORGET_S)

    def away(self, time_s: float, bridge_s: float) -> Gap | None:
        """The gap that is open at `time_s`, if the face is away for longer than `bridge_s`."""
        if time_s - self._seen_s <= bridge_s:
            return None
        return Gap(self._identity, self._seen_s, time_s, GapReason.FACE_LOST)

    def pair(self, interval: Interval, make: FacePair) -> FlowPair:
        """The flow pair of an interval that was just proposed, as `make` makes it."""
        return make(self._ring, interval)

    def face_at(self, time_s: float) -> CanonicalFace:
        """The registered face nearest to a moment of the last 1.5 s."""
        return self._ring.at(time_s)

    def limit_px(self, proposal: Proposal) -> float | None:
        """The limit of detection for what was just proposed: see `MicroExpression.limit_px`."""
        return self._limits.of(proposal)

    def _state(self, tracked: TrackedFace, last: _Last, matrix: np.ndarray) -> FaceState:
        nuisances = []
        if tracked.blink > _BLINK:
            nuisances.append("blink")
        if self._head_speed_px_s() > _TURN_PX_S:
            nuisances.append("head motion")
        if tracked.jaw_open > _SPEECH:
            nuisances.append("speech")
        return FaceState(
            self._identity,
            np.ascontiguousarray(tracked.landmarks[:, :2]),
            last.spotting.score,
            last.spotting.window,
            tuple(nuisances),
            last.moved,
            last.quality,
            last.limits,
            matrix,
            tracked.landmarks[:, 2],
            tracked.blendshapes,
        )

    def _head_speed_px_s(self) -> float:
        """Speed of the face's centre over the last moment, canonical pixels a second."""
        (start_s, start), (end_s, end) = self._places[0], self._places[-1]
        for time_s, place in self._places:
            if end_s - time_s <= _SPEED_S:
                start_s, start = time_s, place
                break
        if end_s <= start_s:
            return 0.0
        return float(np.linalg.norm(end - start)) / (end_s - start_s)
