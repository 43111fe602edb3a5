"""Training windows for the spotter: measured background motion plus motions of known time.

A background is the motion signal of a face that shows no micro-expression, or some at known times
that were put into its pictures (`tools/spotting/synthesize.py`). Onto it are added micro-expressions, which
are to be found, macro-expressions, which are to be told apart, and steps. A motion is a
displacement field of the canonical face, measured (the released flow of CASME II, SMIC and SAMM) or
drawn (`realtime_mer.action_units`), as the runtime's flow finds it on the background's very face
(`tools/spotting/face_response.py`); adding signals instead of warping pictures makes windows in unlimited
number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.signal import lfilter

from realtime_mer.demo.action_units import EXPRESSIONS, expression
from realtime_mer.demo.photo import PhotoFace
from realtime_mer.errors import InputError
from realtime_mer.face.registration import FACE_SIZE, LAYOUT
from realtime_mer.spotting.motion import REGIONS
from realtime_mer.spotting.signals import PATTERNS, ROW, STEP_S, resample
from realtime_mer.spotting.spotter import MACRO_DELAY_S
from tools.spotting.face_response import FaceResponse
from tools.spotting.motion_patterns import PARITY

COUNT = len(REGIONS)
# The first columns of a row: how far regions and patterns have gone.
MOVED = 2 * COUNT + PATTERNS
# Where the others begin.
_HEAD = MOVED + COUNT
_BLINK = _HEAD + 5
STEPS = 160
# Where the picture's left and right regions change places in a mirrored face.
_NAMES = list(REGIONS)
_MIRROR = np.array(
    [
        _NAMES.index(n.replace("left", "?").replace("right", "left").replace("?", "right"))
        for n in _NAMES
    ]
)
# The network speaks of an offset when it lies this far back, in seconds, give or take.
DELAY_S = 0.10
DELAY_TOLERANCE_S = 0.05
# Lengths of micro- and macro-expressions, seconds.
MICRO_S = (0.1, 0.52)
MACRO_S = (0.6, 3.0)
# The time over which a face's own restlessness is measured, that of a micro-expression's rise; and
# the parts of it, and of what the face does in the very moment, below which a micro-expression
# cannot be told from it.
_RESTLESS_S = 0.25
_HIDDEN, _HIDDEN_NOW = 0.3, 0.5
# Restlessness of calm faces.
_CALM = 4.0
# How far lids have closed where their motion is measured, and blinks of either kind a face.
LID_LEVELS = np.array([0, 0.2, 0.4, 0.7, 1.0])
_SLIDING = 9
# Columns of the targets.
TARGETS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """One background clip.

    Attributes:
        name: File name without the take.
        still: Made from a photo.
        times: (n,) seconds.
        rows: (n, ROW) float32, NaN where no face was seen.
        rise, fall: (m, MOVED) float32, what m motions do to this face's regions and patterns.
        blinks: (k, levels, MOVED) float32, likewise of k blinks that close the eyes by and by, from
            open to as far as they close.
        events: (j, 5) onset, apex and offset in seconds of what the rows already hold, 1 for a
            macro-expression and 0 for a micro one, and how far the patterns went together.
        restlessness: How far the patterns of this face go together by themselves within a quarter
            of a second, at three moments out of four no farther.
    """

    name: str
    still: bool
    times: np.ndarray
    rows: np.ndarray
    rise: np.ndarray
    fall: np.ndarray
    blinks: np.ndarray
    events: np.ndarray
    restlessness: float


def _scaled(field: np.ndarray) -> np.ndarray:
    """A field without its median and with a 99th percentile displacement of 1."""
    field = field - np.median(field.reshape(-1, 2), 0)
    size = float(np.percentile(np.linalg.norm(field, axis=-1), 99))
    return (field / max(size, 1e-6)).astype(np.float32)


def measured_motions(pairs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rise, fall) fields (224, 224, 2) of flow pairs (m, 2, 28, 28, 3) uint8."""
    motions = []
    for pair in pairs:
        fields = [
            cv2.resize(
                _scaled(image[..., [2, 1]].astype(np.float32)),
                (FACE_SIZE, FACE_SIZE),
                interpolation=cv2.INTER_CUBIC,
            )
            for image in pair
        ]
        motions.append((fields[0], fields[1]))
    return motions


def drawn_motions(count: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rise, fall) fields of action units; the fall returns nearly all the way."""
    motions = []
    labels = list(EXPRESSIONS)
    for _ in range(count):
        choices = EXPRESSIONS[labels[rng.integers(len(labels))]]
        field = _scaled(expression(choices[rng.integers(len(choices))], rng, 1.0))
        motions.append((field, -field * rng.uniform(0.6, 1.0)))
    return motions


def lid_motions(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Fields of upper lids that come down, as in blinks and half blinks; peak 1."""
    rows, columns = np.mgrid[0:FACE_SIZE, 0:FACE_SIZE].astype(np.float32)
    fields = []
    for _ in range(count):
        field = np.zeros((FACE_SIZE, FACE_SIZE, 2), np.float32)
        wide, high, above = rng.uniform(16, 30), rng.uniform(6, 13), rng.uniform(0, 10)
        for x, y in LAYOUT[:2]:
            side = rng.uniform(0.7, 1.0)
            across, down = (columns - x) / wide, (rows - y + above) / high
            field[..., 1] += side * np.exp(-(across**2) - down**2)
        fields.append(field)
    return fields


def _blinks(
    face: FaceResponse, clean: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator
) -> Iterator[list[np.ndarray]]:
    """Pictures of a face's blinks, each from open to as far as it closes.

    Lids cover the eye, or their skin slides with the eye under it: half blinks and deep-set eyes
    look like the second.
    """
    photo = PhotoFace(clean, landmarks)
    for lid in lid_motions(_SLIDING, rng):
        peak = rng.uniform(2, 14)
        yield [face.moved(level * peak * lid) for level in LID_LEVELS]
    colours = cv2.cvtColor(clean, cv2.COLOR_GRAY2BGR)
    for closed in (0.35, 0.7, 1.0):
        yield [photo.blink(colours, level * closed)[..., 0] for level in LID_LEVELS]


def load_background(
    path: Path,
    motions: Sequence[tuple[np.ndarray, np.ndarray]],
    patterns: np.ndarray,
    rng: np.random.Generator,
) -> Background:
    """A background of `tools/spotting/synthesize.py`, with what its face shows of motions and blinks.

    Args:
        path: The signals.
        motions: (rise, fall) fields (224, 224, 2).
        patterns: `PATTERN_SHAPE`, through which the cells are seen.
        rng: Draws the blinks.
    """
    with np.load(path, allow_pickle=False) as d:
        times = d["time_s"]
        cells = d["cells"].astype(np.float32).reshape(len(times), -1)
        rows = np.concatenate(
            [
                d["regions"].reshape(len(times), -1),
                cells @ patterns,
                d["trust"],
                d["head"],
                d["place"],
                d["blink"][:, None],
                d["jaw_open"][:, None],
            ],
            axis=1,
            dtype=np.float32,
        )
        clean, landmarks = d["clean"], d["landmarks"]
        face = FaceResponse(d["face"], clean, landmarks)
        still, events = bool(d["still"]), d["events"]

    def row(found: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        regions, cells = found
        return np.concatenate([regions.ravel(), cells.ravel() @ patterns], dtype=np.float32)

    return Background(
        path.name.split(".")[0],
        still,
        times,
        rows,
        np.array([row(face(rise)) for rise, _ in motions]),
        np.array([row(face(fall)) for _, fall in motions]),
        np.array(
            [
                [row(face.of(picture)) for picture in blink]
                for blink in _blinks(face, clean, landmarks, rng)
            ]
        ),
        np.column_stack([events, [_goes(times, rows, *e[:2]) for e in events]])
        if len(events)
        else np.zeros((0, 5)),
        _restlessness(times, rows, events),
    )


def _how_far(moved: np.ndarray) -> float:
    """How far patterns go together in a motion (MOVED,) of regions and patterns."""
    return float(np.linalg.norm(moved[2 * COUNT : MOVED]))


def _goes(times: np.ndarray, moved: np.ndarray, start_s: float, end_s: float) -> float:
    """How far patterns go together from one time to another in (n, MOVED or more), or NaN."""
    start, end = moved[np.searchsorted(times, (start_s, end_s)).clip(0, len(times) - 1)]
    return _how_far(end - start)


def _restlessness(times: np.ndarray, rows: np.ndarray, events: np.ndarray) -> float:
    """See `Background`; the events are left out."""
    starts = np.arange(times[0], times[-1] - _RESTLESS_S, _RESTLESS_S)
    calm = [t for t in starts if all(t + _RESTLESS_S < e[0] or t > e[2] + 0.5 for e in events)]
    went = np.array([_goes(times, rows, t, t + _RESTLESS_S) for t in calm])
    went = went[np.isfinite(went)]
    return float(np.percentile(went, 75)) if went.size else math.inf


def _ramp(x: np.ndarray, power: float) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(np.pi * np.clip(x, 0, 1))) ** power


def course(
    times: np.ndarray, onset: float, apex: float, offset: float, bend: float, fade_s: float
) -> np.ndarray:
    """How a motion runs: (3, n) strength of its rise and of its fall, and what is left of both.

    Args:
        times: (n,) seconds, like onset, apex and offset.
        bend: Above 1 the rise begins slowly.
        fade_s: What rise and fall leave over goes back to nothing with this time constant.
    """
    up = _ramp((times - onset) / max(apex - onset, 1e-3), bend)
    down = _ramp((times - apex) / max(offset - apex, 1e-3), 1 / bend)
    return np.stack([up, down, np.exp(-np.maximum(times - offset, 0) / fade_s)])


class WindowMaker:
    """Draws training windows. Not to be shared between threads.

    Args:
        backgrounds: What to draw from; each as likely as the next, whatever its length.
        seed: The same seed gives the same windows.
        weights: Likelihood of each background, any scale.
    """

    def __init__(
        self,
        backgrounds: list[Background],
        seed: int | Sequence[int],
        weights: np.ndarray | None = None,
    ) -> None:
        self._backgrounds = [b for b in backgrounds if self._spans(b)]
        if not self._backgrounds:
            raise InputError(
                f"no background shows a face for {STEPS * STEP_S:.0f} s without a gap: "
                "give longer clips to tools/spotting/synthesize.py"
            )
        self._rng = np.random.default_rng(seed)
        if weights is None:
            weights = np.ones(len(backgrounds))
        weights = np.array(
            [w for b, w in zip(backgrounds, weights, strict=True) if self._spans(b)], float
        )
        self._weights = weights / weights.sum()
        # By how much each column changes from frame to frame of a usual face.
        self._usual = np.median(
            [np.nanstd(np.diff(b.rows[:, :MOVED], axis=0), axis=0) for b in self._backgrounds],
            axis=0,
        ).astype(np.float32)
        quiet = self._weights * [not len(b.events) for b in self._backgrounds]
        self._quiet = quiet / quiet.sum() if quiet.any() else None

    @staticmethod
    def _spans(background: Background) -> list[tuple[int, int]]:
        """(first, end) of stretches with a face that are long enough for a window."""
        seen = np.isfinite(background.rows).all(1)
        edges = np.flatnonzero(np.diff(np.r_[False, seen, False].astype(int)))
        needed = (STEPS + 3) * STEP_S * 0.55
        return [
            (a, b)
            for a, b in edges.reshape(-1, 2)
            if b - a > 10 and background.times[b - 1] - background.times[a] > needed
        ]

    def _stretch(
        self, quiet: bool = False
    ) -> tuple[Background, np.ndarray, np.ndarray, np.ndarray]:
        """A stretch of a background: frame times from 0 on, a copy of its rows, and its events.

        Args:
            quiet: Of one without events.
        """
        rng = self._rng
        weights = self._quiet if quiet else self._weights
        background = self._backgrounds[rng.choice(len(weights), p=weights)]
        spans = self._spans(background)
        first, end = spans[rng.integers(len(spans))]
        times, rows = background.times[first:end], background.rows[first:end]
        # Faster and slower versions of what the face does by itself; events remain what they are.
        speed = rng.uniform(0.9, 1.1) if len(background.events) else rng.uniform(0.75, 1.4)
        length = (STEPS + 2) * STEP_S
        available = (times[-1] - times[0]) / speed
        if available < length:
            speed = (times[-1] - times[0]) / length * 0.99
            available = length
        start = times[0] + speed * rng.uniform(0, max(available - length, 0))
        fps = rng.choice([0, 0, 0, 0, 15, 15, 20, 25, 60])
        if fps and fps < 0.9 / np.median(np.diff(times)) * speed:
            # A slower camera: pick frames.
            at = np.arange(start, start + speed * length + 0.2, speed / fps)
            keep = np.unique(np.clip(np.searchsorted(times, at), 0, len(times) - 1))
        else:
            keep = np.arange(*np.searchsorted(times, [start - 0.2, start + speed * length + 0.2]))
        events = background.events.copy()
        events[:, :3] = (events[:, :3] - start) / speed
        return background, (times[keep] - start) / speed, rows[keep].copy(), events

    def window(self) -> tuple[np.ndarray, np.ndarray]:
        """One window.

        Returns:
            Rows (STEPS, ROW) float32 and targets (STEPS, TARGETS) float32: end, inside, seconds
            since the offset, length, apex fraction, weight of the step, and whether a
            macro-expression was under way MACRO_DELAY_S ago, with the weight of that.
        """
        rng = self._rng
        grid = np.arange(STEPS) * STEP_S + STEP_S * (1 + rng.uniform())
        background, frame_times, frame_rows, events = self._stretch()
        moved = frame_rows[:, :MOVED]
        if rng.uniform() < 0.2:
            # Calmer or livelier by a factor.
            middle = moved.mean(0)
            moved[:] = middle + (moved - middle) * rng.uniform(0.5, 1.3)
        if self._quiet is not None and rng.uniform() < 0.4:
            # What another face did by itself, on top: more kinds of restlessness than clips.
            _, other_times, other_rows, _ = self._stretch(quiet=True)
            if rng.uniform() < 0.5:
                other_rows = mirrored(other_rows)
            share = rng.uniform(0.3, 1.0)
            at = np.searchsorted(other_times, frame_times).clip(0, len(other_times) - 1)
            moving = np.r_[0:MOVED, _HEAD:_BLINK]
            frame_rows[:, moving] += share * other_rows[at][:, moving]
            lids = slice(_BLINK, None)
            frame_rows[:, lids] = np.maximum(frame_rows[:, lids], share * other_rows[at][:, lids])
        targets = np.zeros((STEPS, TARGETS), np.float32)
        targets[:, 5] = 1
        # Nobody has said when the people of the videos smile and talk.
        targets[:, 7] = background.still
        for onset, apex, offset, macro, went in events:
            if macro:
                self._mark_macro(grid, targets, onset, offset)
            elif not went >= max(
                _HIDDEN * background.restlessness,
                _HIDDEN_NOW * _goes(frame_times, moved, onset - _RESTLESS_S, onset),
            ):
                self._pass_over(grid, targets, onset, offset)
            else:
                self._mark(grid, targets, onset, offset - onset, (apex - onset) / (offset - onset))
        self._add_motions(background, frame_times, moved, grid, targets, events)
        for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 4])):
            self._add_blink(background, frame_times, frame_rows, grid[-1])
        self._add_restlessness(frame_times, frame_rows)
        out = resample(frame_times, frame_rows, grid)
        if rng.uniform() < 0.5:
            out = mirrored(out)
        return out, targets

    def _add_motions(
        self,
        background: Background,
        times: np.ndarray,
        moved: np.ndarray,
        grid: np.ndarray,
        targets: np.ndarray,
        taken: np.ndarray,
    ) -> None:
        rng = self._rng
        at = rng.uniform(0.2, 1.0)
        while at < grid[-1] - 0.2:
            kind = rng.choice(["micro", "macro", "step", "none"], p=[0.47, 0.25, 0.12, 0.16])
            longest = {"micro": MICRO_S[1], "macro": MACRO_S[1], "step": 6.0, "none": 0.0}[kind]
            clash = (taken[:, 0] < at + longest + 0.5) & (taken[:, 2] > at - 0.5)
            if clash.any():
                # Something is there already: go on behind it.
                at = float(taken[clash, 2].max()) + rng.uniform(0.6, 2.6)
                continue
            index = rng.integers(len(background.rise))
            rise, fall = background.rise[index], background.fall[index]
            # Flow shrinks small motions, not the same every time.
            gain = _gain(rng.uniform(0.6, 1.1), rng)
            if rng.uniform() < 0.3:
                fall = -rise * rng.uniform(0.7, 1.0)
            if kind == "micro":
                length = rng.uniform(*MICRO_S)
                peak = np.exp(rng.uniform(np.log(0.8), np.log(4.0)))
                apex = np.clip(rng.normal(0.5, 0.1), 0.25, 0.75)
                by_itself = max(
                    _goes(times, moved, at, at + apex * length),
                    _goes(times, moved, at + apex * length, at + length),
                )
                if peak * _how_far(gain * rise) < max(
                    _HIDDEN * background.restlessness, _HIDDEN_NOW * by_itself
                ):
                    self._pass_over(grid, targets, at, at + length)
                else:
                    self._mark(grid, targets, at, length, apex)
            elif kind == "macro":
                length = rng.uniform(*MACRO_S)
                peak = np.exp(rng.uniform(np.log(1.5), np.log(9.0)))
                apex = rng.uniform(0.25, 0.75)
                self._mark_macro(grid, targets, at, at + length)
            elif kind == "step":
                length = rng.uniform(0.1, 1.0)
                peak = np.exp(rng.uniform(np.log(0.8), np.log(6.0)))
                apex = 1.0
            else:
                at += rng.uniform(0.5, 2.0)
                continue
            up, down, left = course(
                times,
                at,
                at + length * apex,
                at + length,
                np.exp(rng.normal(0, 0.1)),
                rng.uniform(0.4, 1.2),
            )[:, :, None]
            if kind == "step":
                hold = rng.uniform(0.8, 5.0)
                back = _ramp((times - at - length - hold) / rng.uniform(0.6, 2.0), 1)
                course_of = (up - back[:, None]) * rise
                # A short one may pass for a macro-expression.
                targets[(grid > at) & (grid < at + length + hold + 2.5), 7] = 0
            else:
                course_of = left * (up * rise + down * fall)
            moved += (gain * peak * course_of).astype(np.float32)
            at += length + rng.uniform(0.6, 2.6)

    def _add_restlessness(self, times: np.ndarray, rows: np.ndarray) -> None:
        """What cheap cameras and codecs do: noise, slow wander, repeated frames."""
        rng = self._rng
        moved = rows[:, :MOVED]
        size = self._usual * np.exp(rng.uniform(np.log(0.05), np.log(1.5)))
        moved += size * rng.normal(size=moved.shape).astype(np.float32)
        if rng.uniform() < 0.4:
            keep = np.exp(-np.median(np.diff(times)) / np.exp(rng.uniform(-3, 0)))
            drive = np.sqrt(1 - keep**2) * rng.normal(size=moved.shape)
            wander = lfilter([1], [1, -keep], drive, axis=0)
            size = self._usual * np.exp(
                rng.uniform(np.log(0.3), np.log(4.0)) + rng.normal(0, 0.4, MOVED)
            )
            moved += (size * wander).astype(np.float32)
        if rng.uniform() < 0.15:
            repeated = np.flatnonzero(rng.uniform(size=len(rows)) < rng.uniform(0.05, 0.3))
            for i in repeated[repeated > 0]:
                rows[i] = rows[i - 1]

    def _add_blink(
        self,
        background: Background,
        times: np.ndarray,
        rows: np.ndarray,
        end_s: float,
    ) -> None:
        """A blink or half a blink; the landmarks notice it more or less."""
        rng = self._rng
        blink_of = background.blinks[rng.integers(len(background.blinks))]
        start, length = rng.uniform(0.2, end_s - 0.3), rng.uniform(0.1, 0.45)
        closing = rng.uniform(0.3, 0.5)
        x = (times - start) / length
        closed = np.minimum(_ramp(x / closing, 1), 1 - _ramp((x - closing) / (1 - closing), 1))
        lid = make_interp_spline(LID_LEVELS, blink_of - blink_of[0], k=1)(closed)
        gain = _gain(rng.uniform(0.6, 1.1), rng)
        rows[:, :MOVED] += (gain * lid).astype(np.float32)
        blink = rows[:, _BLINK]
        seen = rng.uniform(0, 0.7) * rng.uniform()
        np.clip(blink + seen * closed, 0, 1, out=blink)

    @staticmethod
    def _mark(
        grid: np.ndarray, targets: np.ndarray, onset: float, length: float, apex: float
    ) -> None:
        since = grid - onset - length
        end = np.abs(since - DELAY_S) <= DELAY_TOLERANCE_S
        targets[end, 0] = 1
        # On either side of the moment of truth both answers are right.
        near = (np.abs(since - DELAY_S) <= DELAY_TOLERANCE_S + 0.034) & ~end
        targets[near, 5] = 0
        told = (since > -0.05) & (since < 0.3)
        targets[told, 2] = since[told]
        targets[told, 3] = length
        targets[told, 4] = apex
        targets[(grid - 0.1 > onset) & (since < 0.1), 1] = 1

    @staticmethod
    def _pass_over(grid: np.ndarray, targets: np.ndarray, onset: float, offset: float) -> None:
        """What drowns in the face's own restlessness is no reason to report or to be silent."""
        targets[(grid > onset) & (grid < offset + 0.3), 5] = 0

    @staticmethod
    def _mark_macro(grid: np.ndarray, targets: np.ndarray, onset: float, offset: float) -> None:
        then = grid - MACRO_DELAY_S
        inside = (then > onset) & (then < offset)
        targets[inside, 6:] = 1
        # Where exactly it begins and ends is nothing to be punished for.
        edge = np.minimum(np.abs(then - onset), np.abs(then - offset)) < 0.1
        targets[edge, 7] = 0

    def batch(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (size, STEPS, ROW) and targets (size, STEPS, TARGETS)."""
        rows, targets = zip(*(self.window() for _ in range(size)), strict=True)
        return np.stack(rows), np.stack(targets)


def _gain(typical: float, rng: np.random.Generator) -> np.ndarray:
    """(MOVED,) by how much regions and patterns are more or less moved than in proportion."""
    gain = typical * np.exp(rng.normal(0, 0.15, MOVED))
    # Both coordinates of a region alike.
    gain[1 : 2 * COUNT : 2] = gain[0 : 2 * COUNT : 2]
    return gain


def mirrored(rows: np.ndarray) -> np.ndarray:
    """Rows (..., ROW) of the mirrored face."""
    out = rows.copy()
    shape = rows.shape[:-1]
    regions = rows[..., : 2 * COUNT].reshape(*shape, COUNT, 2)[..., _MIRROR, :] * (-1, 1)
    out[..., : 2 * COUNT] = regions.reshape(*shape, -1)
    out[..., 2 * COUNT : MOVED] *= PARITY
    out[..., MOVED:_HEAD] = rows[..., MOVED:_HEAD][..., _MIRROR]
    # head x and turn, and the place's x.
    for column in (_HEAD, _HEAD + 2, _HEAD + 3):
        out[..., column] *= -1
    assert out.shape[-1] == ROW
    return out


def likelihoods(backgrounds: list[Background]) -> np.ndarray:
    """How often each background is drawn: by its length, and restless ones more seldom.

    Where nobody could tell a micro-expression, there is little to learn but silence.
    """
    return np.array(
        [
            np.clip(np.ptp(b.times) / 15, 0.3, 4) * min(1.0, _CALM / max(b.restlessness, 1e-6))
            for b in backgrounds
        ]
    )
