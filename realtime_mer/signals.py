"""Signals on an even clock: what the spotter looks at, whatever the camera's frame rate.

Frames come at 15 to 200 a second and not evenly. The motion between them is taken as linear and
averaged over each step of a 30 Hz grid: fast cameras lose noise, slow ones nothing, and the same
micro-expression looks the same.
"""

from __future__ import annotations

import functools
from collections import deque

import numpy as np

from realtime_mer.motion import REGIONS, Motion

STEP_S = 1 / 30
_COUNT = len(REGIONS)
# Columns of a row: regions x and y, trust, head, place, blink, jaw.
ROW = 2 * _COUNT + _COUNT + 3 + 2 + 1 + 1
# Channels that `features` makes of a row.
CHANNELS = 2 * _COUNT * 2 + _COUNT * 2 + 10 + 4
# Where the interpolated motion is sampled around a grid point, in steps: averaging over a step.
_WITHIN = (np.arange(4) - 1.5) / 4
_BASELINE_S = 3.0
_LAG = 4
# Motions below these are noise; asinh is linear below and logarithmic above.
_SPEED_PX = 0.05
_SHIFT_PX = 0.15


def as_row(motion: Motion) -> np.ndarray:
    """A motion as one row (ROW,) float32."""
    return np.concatenate(
        [
            motion.regions.ravel(),
            motion.trust,
            motion.head,
            motion.place,
            (motion.blink, motion.jaw_open),
        ],
        dtype=np.float32,
    )


def resample(times: np.ndarray, rows: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Rows (m, ROW) at the grid times (m,) of rows (n, ROW) at increasing `times` (n,), seconds."""
    at = (grid[:, None] + _WITHIN * STEP_S).ravel()
    right = np.clip(np.searchsorted(times, at), 1, len(times) - 1)
    left = right - 1
    share = np.clip((at - times[left]) / np.maximum(times[right] - times[left], 1e-9), 0, 1)
    share = share[:, None].astype(np.float32)
    between = rows[left] * (1 - share) + rows[right] * share
    return between.reshape(len(grid), len(_WITHIN), -1).mean(1)


class EvenClock:
    """Turns motions at any times into rows at even steps, as soon as they are known."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._rows: deque[np.ndarray] = deque()
        self._next_s: float | None = None

    def __call__(self, motion: Motion) -> list[tuple[float, np.ndarray]]:
        """The rows (time in seconds, (ROW,) float32) that this motion completes."""
        if self._times and motion.time_s <= self._times[-1]:
            return []  # a clock that stands still or steps back tells nothing new
        self._times.append(motion.time_s)
        self._rows.append(as_row(motion))
        if self._next_s is None:
            self._next_s = motion.time_s + STEP_S / 2
            return []
        last = motion.time_s - STEP_S / 2
        count = int(np.floor((last - self._next_s) / STEP_S + 1e-6)) + 1
        if count <= 0:
            return []
        grid = self._next_s + STEP_S * np.arange(count)
        rows = resample(np.array(self._times), np.array(self._rows), grid)
        self._next_s = float(grid[-1]) + STEP_S
        # The next step begins at next - STEP / 2: keep one sample before it.
        while len(self._times) > 2 and self._times[1] <= self._next_s - STEP_S / 2:
            self._times.popleft()
            self._rows.popleft()
        return list(zip(grid.tolist(), rows, strict=True))


@functools.lru_cache(maxsize=4)
def _baseline_weights(steps: int) -> np.ndarray:
    """(steps, steps): the causal exponential mean as a matrix, started at the first value."""
    keep = float(np.exp(-STEP_S / _BASELINE_S))
    age = np.subtract.outer(np.arange(steps), np.arange(steps))
    weights = np.where(age >= 0, (1 - keep) * keep ** np.maximum(age, 0), 0)
    weights[:, 0] = keep ** np.arange(steps)
    return weights.astype(np.float32)


def features(rows: np.ndarray) -> np.ndarray:
    """What the network sees, (..., n, CHANNELS) float32, of even rows (..., n, ROW).

    Causal: row i depends on rows up to i. The first second of a stream is warm-up.
    """
    regions, trust, head, place, blink, jaw = np.split(
        rows, np.cumsum([2 * _COUNT, _COUNT, 3, 2, 1]), axis=-1
    )

    def change(signal: np.ndarray, lag: int) -> np.ndarray:
        before = np.concatenate(
            [np.repeat(signal[..., :1, :], lag, -2), signal[..., :-lag, :]], axis=-2
        )
        return signal - before

    speed, shift = change(regions, 1), change(regions, _LAG)
    size = np.hypot(speed[..., 0::2], speed[..., 1::2])
    return np.concatenate(
        [
            np.arcsinh(speed / _SPEED_PX),
            np.arcsinh(shift / _SHIFT_PX),
            np.log(_baseline_weights(size.shape[-2]) @ size + 0.01) + 3,
            trust / 8,
            np.arcsinh(change(head, 1) / 0.1),
            np.arcsinh(change(place, 1) / 0.2),
            np.arcsinh(change(head, _LAG) / 0.3),
            np.arcsinh(change(place, _LAG) / 0.6),
            4 * blink,
            10 * change(blink, 1),
            4 * jaw,
            10 * change(jaw, 1),
        ],
        axis=-1,
        dtype=np.float32,
    )
