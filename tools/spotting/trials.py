"""Trials: micro-expressions of known size, added to the signals of a clip, that are found or not.

What a face shows of a motion is added to its signals, and the runtime's spotter looks at them at
its own threshold. Just before each event, the features of visibility are noted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realtime_mer.recognition.flow_pair import DenseFlow
from realtime_mer.results import PARTS, Interval
from realtime_mer.spotting.motion import EXPRESSIVE, Motion, RigidMotion, face_mask, texture_trust
from realtime_mer.spotting.spotter import Proposal, Spotter, SpotterModel
from realtime_mer.spotting.visibility import FEATURES, PART_OF, VisibilityFeatures
from tools.spotting.clip_signals import hidden_intervals, motion_streams, person
from tools.spotting.face_response import FaceResponse
from tools.spotting.figures import matches
from tools.spotting.motions import MICRO_S, RiseAndFall, course

# Displacement at which a face's response to a motion is measured, pixels: in the middle of what
# events do. Their size is taken as proportional to it.
_PEAK_PX = 2.0
# Each clip gets so many motions of each part of the face, of so many that are tried.
_A_PART, _TRIED = 4, 30
# Pause after an event, seconds: long enough for the face's usual motion to show again.
_PAUSE_S = (1.5, 3.0)
# Before the first event the spotter warms up (1 s).
_START_S = (1.1, 2.5)
# An event ends so long before the clip does.
_AT_END_S = 0.4
# An event keeps this distance from others that the clip already has, seconds.
_APART_S = 0.4
# Below this share of its size a motion that fades is over.
_OVER = 0.02
# In a third of the rounds, frames are missing: holes of such lengths, and an event that would begin
# in one begins so long after it.
_HOLES, _HOLE_S, _AFTER_HOLE_S = 1 / 3, (0.3, 0.9), (0.12, 1.8)
# In a third of the rounds, a camera is slower: every second or third frame, but at least so many.
_SLOWER, _LEAST_FPS = 1 / 3, 9.5

Sizes = Callable[[np.ndarray, int], float | None]
"""Draws the size of the next event in px, from the features (3, `FEATURES`) just before it and the
index of the part of the face where it will be; None for no event."""


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """Events that were to be found, n of them.

    Attributes:
        people: (n,) str, who shows them (see `person`).
        parts: (n,) index into `PARTS` of the part of the face that moves most.
        sizes: (n,) the `intensity_px` that the event would be logged with on a face that does
            nothing else.
        found: (n,) bool, by the rule of `tools/spotting/figures.py`.
        features: (n, 3, FEATURES) just before the onset.
    """

    people: np.ndarray
    parts: np.ndarray
    sizes: np.ndarray
    found: np.ndarray
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, keep: np.ndarray) -> Trials:
        return Trials(*(getattr(self, name)[keep] for name in self.__slots__))

    @staticmethod
    def joined(several: Sequence[Trials]) -> Trials:
        """All of them."""
        return Trials(
            *(np.concatenate([getattr(t, name) for t in several]) for name in Trials.__slots__)
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """What a face shows of a motion, per pixel of `intensity_px`.

    Attributes:
        part: Index into `PARTS` of the part that moves most.
        regions, cells: Of the rise and of the fall, (2, 18, 2) and (2, FACE_CELLS, 2) float32.
    """

    part: int
    regions: np.ndarray
    cells: np.ndarray


def _shown(path: Path, motions: Sequence[RiseAndFall], rng: np.random.Generator) -> list[_Shown]:
    """What a clip's face shows of some motions, about as many of each part of the face."""
    with np.load(path, allow_pickle=False) as signals:
        clean, landmarks = signals["clean"], signals["landmarks"]
        face = FaceResponse(signals["face"], clean, landmarks)
    mask, dense = face_mask(landmarks), DenseFlow()
    shown: list[_Shown] = []
    for index in rng.permutation(len(motions))[:_TRIED]:
        rise, fall = motions[index]
        moved = face.moved(_PEAK_PX * rise)
        regions, cells = face.of(moved)
        part = int(PART_OF[np.linalg.norm(regions[:EXPRESSIVE], axis=1).argmax()])
        if sum(s.part == part for s in shown) == _A_PART:
            continue
        # As the runtime measures the intensity of an event (`realtime_mer/recognition/`).
        flow = RigidMotion(landmarks, texture_trust(moved)).remove_dense(dense(clean, moved))
        size = float(np.percentile(np.linalg.norm(flow, axis=-1)[mask], 99))
        if size < 0.25 * _PEAK_PX:
            continue  # hardly anything of it shows on this face
        down_regions, down_cells = face.of(face.moved(_PEAK_PX * fall))
        shown.append(
            _Shown(
                part,
                np.stack([regions, down_regions]) / np.float32(size),
                np.stack([cells, down_cells]) / np.float32(size),
            )
        )
        if len(shown) == _A_PART * len(PARTS):
            break
    return shown


@dataclass(slots=True, eq=False)
class _Event:
    """An event that is planned or under way."""

    shown: _Shown
    interval: Interval
    fade_s: float
    size: float = 0.0
    features: np.ndarray | None = None

    def at(self, time_s: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Displacement of regions (18, 2) and cells (FACE_CELLS, 2) at a time, None when over."""
        up, down, left = course(
            np.array([time_s]),
            self.interval.onset_s,
            self.interval.apex_s,
            self.interval.offset_s,
            1.0,
            self.fade_s,
        )[:, 0]
        if left < _OVER:
            return None
        strength = (self.size * left * np.array([up, down])).astype(np.float32)
        rise_and_fall = self.shown.regions, self.shown.cells
        regions, cells = (np.tensordot(strength, moved, 1) for moved in rise_and_fall)
        return regions, cells


class TrialClip:
    """A clip to which events are added, again and again.

    Args:
        path: Signals of `tools/spotting/synthesize.py`.
        motions: What the events are drawn from.
        rng: Draws which of them.
    """

    def __init__(
        self, path: Path, motions: Sequence[RiseAndFall], rng: np.random.Generator
    ) -> None:
        self.person = person(path)
        self._shown = _shown(path, motions, rng)
        self._streams = motion_streams(path)
        self._taken = [interval for kind in hidden_intervals(path) for interval in kind]

    def trials(self, model: SpotterModel, sizes: Sizes, rng: np.random.Generator) -> Trials:
        """Adds events to the clip, lets the spotter look, and notes what it found.

        Args:
            model: The spotter, at the threshold that counts.
            sizes: Draws the sizes of the events.
            rng: Draws all else, now and then a slower camera and holes in the frames.
        """
        events: list[_Event] = []
        found: list[bool] = []
        for stream in self._streams if self._shown else ():
            frames, holes = _as_seen(stream, rng)
            if len(frames) < 2:
                continue
            planned = _planned(frames, holes, self._shown, self._taken, rng)
            added, reported = _looked_at(frames, holes, planned, model, sizes)
            fps = 1 / float(np.median(np.diff([motion.time_s for motion in frames])))
            hits = {i for i, _ in matches([e.interval for e in added], reported, fps)}
            events += added
            found += [i in hits for i in range(len(added))]
        return Trials(
            np.full(len(events), self.person, object),
            np.array([event.shown.part for event in events], int),
            np.array([event.size for event in events]),
            np.array(found, bool),
            np.array([event.features for event in events]).reshape(-1, len(PARTS), len(FEATURES)),
        )


def _as_seen(
    stream: Sequence[Motion], rng: np.random.Generator
) -> tuple[list[Motion], list[tuple[float, float]]]:
    """The motions that a slower camera and one that loses frames leave, and (start, end) of holes.

    A hole ends at the first frame after it.
    """
    frames = list(stream)
    times = [motion.time_s for motion in frames]
    if rng.uniform() < _SLOWER and len(frames) > 1:
        usual = np.median(np.diff(times))
        strides = [stride for stride in (2, 3) if _LEAST_FPS * stride * usual <= 1]
        frames = frames[:: rng.choice(strides or [1])]
    holes = []
    if rng.uniform() < _HOLES:
        at = times[0] + rng.uniform(2, 6)
        while at < times[-1] - 2:
            end = at + rng.uniform(*_HOLE_S)
            kept = [m for m in frames if not at < m.time_s < end]
            after = next((m.time_s for m in kept if m.time_s > at), None)
            if after is not None and len(kept) < len(frames):
                frames = kept
                holes.append((at, after))
            at += rng.uniform(4, 8)
    return frames, holes


def _planned(
    frames: Sequence[Motion],
    holes: Sequence[tuple[float, float]],
    shown: Sequence[_Shown],
    taken: Sequence[Interval],
    rng: np.random.Generator,
) -> Iterator[_Event]:
    """Events in the order of time, without their sizes."""
    parts = sorted({s.part for s in shown})
    at = frames[0].time_s + rng.uniform(*_START_S)
    while True:
        length = rng.uniform(*MICRO_S)
        interval = Interval(
            at, at + length * float(np.clip(rng.normal(0.5, 0.1), 0.25, 0.75)), at + length
        )
        if interval.offset_s > frames[-1].time_s - _AT_END_S:
            return
        if hole := next((h for h in holes if h[0] < interval.offset_s and at < h[1]), None):
            at = hole[1] + rng.uniform(*_AFTER_HOLE_S)
        elif other := next((t for t in taken if _near(t, interval)), None):
            at = other.offset_s + _APART_S + rng.uniform(0.0, 1.0)
        else:
            part = rng.choice(parts)
            choices = [s for s in shown if s.part == part]
            yield _Event(choices[rng.integers(len(choices))], interval, rng.uniform(0.4, 1.2))
            at = interval.offset_s + rng.uniform(*_PAUSE_S)


def _near(first: Interval, second: Interval) -> bool:
    return first.onset_s - _APART_S < second.offset_s and second.onset_s < first.offset_s + _APART_S


def _looked_at(
    frames: Sequence[Motion],
    holes: Sequence[tuple[float, float]],
    planned: Iterator[_Event],
    model: SpotterModel,
    sizes: Sizes,
) -> tuple[list[_Event], list[Interval]]:
    """Adds the planned events to the motions; returns those that were added, and the reports."""
    spotter, visibility = Spotter(model), VisibilityFeatures()
    ends = [end for _, end in holes]
    added: list[_Event] = []
    under_way: list[_Event] = []
    reports: list[Proposal] = []
    following, features = next(planned, None), None
    for motion in frames:
        time_s = motion.time_s
        if ends and time_s >= ends[0]:
            ends.pop(0)
            reports += spotter.finish()
            spotter.resume()
            visibility.resume()
        while following is not None and time_s >= following.interval.onset_s:
            if features is not None:
                size = sizes(features, following.shown.part)
                if size is not None:
                    following.size, following.features = size, features
                    added.append(following)
                    under_way.append(following)
            following = next(planned, None)
        moved = {event: event.at(time_s) for event in under_way}
        under_way = [event for event, displacement in moved.items() if displacement is not None]
        for displacement in moved.values():
            if displacement is not None:
                regions, cells = displacement
                motion = dataclasses.replace(
                    motion, regions=motion.regions + regions, cells=motion.cells + cells
                )
        features = visibility(motion)
        reports += spotter(motion).found
    reports += spotter.finish()
    return added, [report.interval for report in reports]
