"""Training windows for the spotter: measured background motion plus motions at known times.

Onto a background (`tools/spotting/backgrounds.py`) are added micro-expressions, which are to be
found, macro-expressions, which are to be told apart, steps and blinks, which are to be left alone.
Each is what the background's own face shows of a motion; adding signals instead of warping
pictures makes windows in unlimited number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.signal import lfilter

from realtime_mer.errors import InputError
from realtime_mer.spotting.motion import REGIONS
from realtime_mer.spotting.signals import ROW, STEP_S, resample
from tools.spotting.backgrounds import (
    BLINK,
    HEAD,
    LID_LEVELS,
    MOVED,
    REGION_COUNT,
    USUAL_SHARE,
    Background,
    change_between,
    masking,
    region_lengths,
)
from tools.spotting.motion_patterns import PARITY
from tools.spotting.motions import MACRO_S, MICRO_S, course, ramp
from tools.spotting.targets import (
    MACRO_WEIGHT,
    TARGETS,
    WEIGHT,
    ignore,
    mark_macro,
    mark_micro,
)

# Steps of a window: the longer network sees 157 of them (`models/spotter.py`).
STEPS = 160
# Where the picture's left and right regions change places in a mirrored face.
_NAMES = list(REGIONS)
_MIRROR = np.array(
    [
        _NAMES.index(n.replace("left", "?").replace("right", "left").replace("?", "right"))
        for n in _NAMES
    ]
)
# A micro-expression that is masked by more than this (`masking`) counts for nothing: the face's own
# motion where it lies is half as large again.
_MASKED = 1.5


class WindowMaker:
    """Draws training windows. Not to be shared between threads.

    Args:
        backgrounds: What to draw from.
        seed: The same seed gives the same windows.
        weights: Likelihood of each background, any scale; None for equal ones.

    Raises:
        InputError: No background shows a face for long enough.
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
        # The usual change of each column from frame to frame.
        self._usual = np.median(
            [np.nanstd(np.diff(b.rows[:, :MOVED], axis=0), axis=0) for b in self._backgrounds],
            axis=0,
        ).astype(np.float32)
        # Weights of the backgrounds without events; None if all have some.
        self._quiet: np.ndarray | None = None
        quiet = self._weights * [not len(b.events) for b in self._backgrounds]
        if quiet.any():
            self._quiet = quiet / quiet.sum()

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
        self, weights: np.ndarray
    ) -> tuple[Background, np.ndarray, np.ndarray, np.ndarray]:
        """A stretch of a background: frame times from 0 on, a copy of its rows, and its events.

        Args:
            weights: Likelihood of each background; they sum to 1.
        """
        rng = self._rng
        background = self._backgrounds[rng.choice(len(weights), p=weights)]
        spans = self._spans(background)
        first, end = spans[rng.integers(len(spans))]
        times, rows = background.times[first:end], background.rows[first:end]
        # What a face does by itself may be faster or slower; events must keep their lengths.
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
            Rows (STEPS, ROW) float32 and targets (STEPS, TARGETS) float32.
        """
        rng = self._rng
        grid = np.arange(STEPS) * STEP_S + STEP_S * (1 + rng.uniform())
        background, frame_times, frame_rows, events = self._stretch(self._weights)
        moved = frame_rows[:, :MOVED]
        if rng.uniform() < 0.2:
            # Calmer or livelier by a factor.
            middle = moved.mean(0)
            moved[:] = middle + (moved - middle) * rng.uniform(0.5, 1.3)
        if self._quiet is not None and rng.uniform() < 0.4:
            # Add what another face did by itself: more kinds of restlessness than there are clips.
            _, other_times, other_rows, _ = self._stretch(self._quiet)
            if rng.uniform() < 0.5:
                other_rows = mirrored(other_rows)
            share = rng.uniform(0.3, 1.0)
            at = np.searchsorted(other_times, frame_times).clip(0, len(other_times) - 1)
            moving = np.r_[0:MOVED, HEAD:BLINK]
            frame_rows[:, moving] += share * other_rows[at][:, moving]
            lids = slice(BLINK, None)
            frame_rows[:, lids] = np.maximum(frame_rows[:, lids], share * other_rows[at][:, lids])
        targets = np.zeros((STEPS, TARGETS), np.float32)
        targets[:, WEIGHT] = 1
        # Nobody has marked when the people in videos smile and talk: only photos teach that.
        targets[:, MACRO_WEIGHT] = background.still
        for onset, apex, offset, macro, masked in events:
            if macro:
                mark_macro(targets, grid, onset, offset)
            elif not masked <= _MASKED:
                ignore(targets, grid, onset, offset)
            else:
                mark_micro(targets, grid, onset, offset - onset, (apex - onset) / (offset - onset))
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
        """Adds expressions and steps to `moved` (n, MOVED), and marks them in the targets.

        Args:
            background: Whose face it is.
            times: (n,) seconds.
            moved: Changed in place.
            grid: (STEPS,) times of the targets.
            targets: Changed in place.
            taken: (j, 5) events that are there already.
        """
        rng = self._rng
        at = rng.uniform(0.2, 1.0)
        while at < grid[-1] - 0.2:
            kind = rng.choice(["micro", "macro", "step", "none"], p=[0.47, 0.25, 0.12, 0.16])
            longest = {"micro": MICRO_S[1], "macro": MACRO_S[1], "step": 6.0, "none": 0.0}[kind]
            clash = (taken[:, 0] < at + longest + 0.5) & (taken[:, 2] > at - 0.5)
            if clash.any():
                # Something is there already: continue after it.
                at = float(taken[clash, 2].max()) + rng.uniform(0.6, 2.6)
                continue
            index = rng.integers(len(background.rise))
            rise, fall = background.rise[index], background.fall[index]
            # Flow shrinks small motions by a factor that varies.
            gain = _gain(rng.uniform(0.6, 1.1), rng)
            if rng.uniform() < 0.3:
                fall = -rise * rng.uniform(0.7, 1.0)
            if kind == "micro":
                length = rng.uniform(*MICRO_S)
                peak = np.exp(rng.uniform(np.log(0.8), np.log(4.0)))
                apex = np.clip(rng.normal(0.5, 0.1), 0.25, 0.75)
                # Both ways must be seen: to the apex, and back from it.
                apex_s, end_s = at + apex * length, at + length
                masked = max(
                    masking(
                        region_lengths(peak * gain * way),
                        np.maximum(
                            region_lengths(change_between(times, moved, start_s, stop_s)),
                            USUAL_SHARE * background.usual,
                        ),
                    )
                    for way, start_s, stop_s in ((rise, at, apex_s), (fall, apex_s, end_s))
                )
                if not masked <= _MASKED:
                    ignore(targets, grid, at, at + length)
                else:
                    mark_micro(targets, grid, at, length, apex)
            elif kind == "macro":
                length = rng.uniform(*MACRO_S)
                peak = np.exp(rng.uniform(np.log(1.5), np.log(9.0)))
                apex = rng.uniform(0.25, 0.75)
                mark_macro(targets, grid, at, at + length)
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
                back = ramp((times - at - length - hold) / rng.uniform(0.6, 2.0), 1)
                displacement = (up - back[:, None]) * rise
                # A short step looks like a macro-expression: ask for no answer.
                targets[(grid > at) & (grid < at + length + hold + 2.5), MACRO_WEIGHT] = 0
            else:
                displacement = left * (up * rise + down * fall)
            moved += (gain * peak * displacement).astype(np.float32)
            at += length + rng.uniform(0.6, 2.6)

    def _add_restlessness(self, times: np.ndarray, rows: np.ndarray) -> None:
        """Adds what cheap cameras and codecs do: noise, slow wander, repeated frames."""
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
        """Adds a blink or half a blink; the landmarks notice it more or less."""
        rng = self._rng
        response = background.blinks[rng.integers(len(background.blinks))]
        start, length = rng.uniform(0.2, end_s - 0.3), rng.uniform(0.1, 0.45)
        closing = rng.uniform(0.3, 0.5)
        x = (times - start) / length
        closed = np.minimum(ramp(x / closing, 1), 1 - ramp((x - closing) / (1 - closing), 1))
        lid = make_interp_spline(LID_LEVELS, response - response[0], k=1)(closed)
        gain = _gain(rng.uniform(0.6, 1.1), rng)
        rows[:, :MOVED] += (gain * lid).astype(np.float32)
        blink = rows[:, BLINK]
        seen = rng.uniform(0, 0.7) * rng.uniform()
        np.clip(blink + seen * closed, 0, 1, out=blink)

    def batch(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (size, STEPS, ROW) and targets (size, STEPS, TARGETS)."""
        rows, targets = zip(*(self.window() for _ in range(size)), strict=True)
        return np.stack(rows), np.stack(targets)


def _gain(typical: float, rng: np.random.Generator) -> np.ndarray:
    """(MOVED,) factors on the motion of regions and patterns, spread around a typical one."""
    gain = typical * np.exp(rng.normal(0, 0.15, MOVED))
    # Both coordinates of a region have the same.
    gain[1 : 2 * REGION_COUNT : 2] = gain[0 : 2 * REGION_COUNT : 2]
    return gain


def mirrored(rows: np.ndarray) -> np.ndarray:
    """Rows (..., ROW) of the mirrored face."""
    out = rows.copy()
    shape = rows.shape[:-1]
    regions = rows[..., : 2 * REGION_COUNT].reshape(*shape, REGION_COUNT, 2)
    out[..., : 2 * REGION_COUNT] = (regions[..., _MIRROR, :] * (-1, 1)).reshape(*shape, -1)
    out[..., 2 * REGION_COUNT : MOVED] *= PARITY
    out[..., MOVED:HEAD] = rows[..., MOVED:HEAD][..., _MIRROR]
    # x and turn of the head, x of its place.
    for column in (HEAD, HEAD + 2, HEAD + 3):
        out[..., column] *= -1
    assert out.shape[-1] == ROW
    return out
