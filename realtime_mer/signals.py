"""Signals on an even clock: what the spotter looks at, whatever the camera's frame rate.

Frames come at 15 to 200 a second and not evenly. The motion between them is taken as linear and
averaged over each step of a 30 Hz grid: fast cameras lose noise, slow ones nothing, and the same
micro-expression looks the same.
"""

from __future__ import annotations

import functools
from collections import deque
from itertools import pairwise

import numpy as np

from realtime_mer.motion import FACE_CELLS, REGIONS, Motion

STEP_S = 1 / 30
_COUNT = len(REGIONS)
# Patterns of motion over the cells of the face: each is a sum of all cells' displacements with
# weights that come with the spotter's network (tools/motion_patterns.py).
PATTERNS = 64
PATTERN_SHAPE = (2 * len(FACE_CELLS), PATTERNS)
# Columns of a row: regions x and y, patterns, trust, head, place, blink, jaw.
_COLUMNS = np.cumsum([0, 2 * _COUNT, PATTERNS, _COUNT, 3, 2, 1, 1]).tolist()
ROW = _COLUMNS[-1]
# Channels that `features` makes of a row.
CHANNELS = 2 * (2 * _COUNT + PATTERNS) + (_COUNT + PATTERNS) + _COUNT + 10 + 4
# Where the interpolated motion is sampled around a grid point, in steps: averaging over a step.
_WITHIN = (np.arange(4) - 1.5) / 4
# Time constant of the baseline, and what a step leaves of it.
_BASELINE_S = 3.0
_KEEP = float(np.exp(-STEP_S / _BASELINE_S))
_LAG = 4
# Motions below these are noise; asinh is linear below and logarithmic above.
_SPEED_PX = 0.05
_SHIFT_PX = 0.15
# Likewise of patterns, which are scaled so that what a face does by itself moves them by about 1
# within 0.2 s.
_PATTERN_SPEED = 0.2
_PATTERN_SHIFT = 0.5


def as_row(motion: Motion, patterns: np.ndarray) -> np.ndarray:
    """A motion as one row (ROW,) float32, with its cells seen through `PATTERN_SHAPE` patterns."""
    return np.concatenate(
        [
            motion.regions.ravel(),
            motion.cells.ravel() @ patterns,
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
    """Turns motions at any times into rows at even steps, as soon as they are known.

    Args:
        patterns: `PATTERN_SHAPE` float32.
    """

    def __init__(self, patterns: np.ndarray) -> None:
        self._patterns = patterns
        self._times: deque[float] = deque()
        self._rows: deque[np.ndarray] = deque()
        self._next_s: float | None = None

    def __call__(self, motion: Motion) -> list[tuple[float, np.ndarray]]:
        """The rows (time in seconds, (ROW,) float32) that this motion completes."""
        if self._times and motion.time_s <= self._times[-1]:
            return []  # a clock that stands still or steps back tells nothing new
        self._times.append(motion.time_s)
        self._rows.append(as_row(motion, self._patterns))
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
    age = np.subtract.outer(np.arange(steps), np.arange(steps))
    weights = np.where(age >= 0, (1 - _KEEP) * _KEEP ** np.maximum(age, 0), 0)
    weights[:, 0] = _KEEP ** np.arange(steps)
    return weights.astype(np.float32)


def _change(rows: np.ndarray, lag: int) -> np.ndarray:
    """Rows (..., n, ROW) less those `lag` before them; the first one stands for what is missing."""
    before = np.concatenate([np.repeat(rows[..., :1, :], lag, -2), rows], axis=-2)
    return rows - before[..., : rows.shape[-2], :]


def _size(step: np.ndarray) -> np.ndarray:
    """(..., n, regions and patterns): how far each went in a step (..., n, ROW)."""
    regions = np.hypot(step[..., 0 : 2 * _COUNT : 2], step[..., 1 : 2 * _COUNT : 2])
    # On a scale on which one logarithm suits both.
    patterns = np.abs(step[..., 2 * _COUNT : 2 * _COUNT + PATTERNS])
    return np.concatenate([regions, patterns * (_SPEED_PX / _PATTERN_SPEED)], axis=-1)


def _features(
    rows: np.ndarray, step: np.ndarray, lagged: np.ndarray, baseline: np.ndarray
) -> np.ndarray:
    """All features (..., CHANNELS) of rows (..., ROW), by their changes and the means of these."""
    regions, patterns, trust, head, place, blink, jaw = (
        slice(*ends) for ends in pairwise(_COLUMNS)
    )
    return np.concatenate(
        [
            np.arcsinh(step[..., regions] / _SPEED_PX),
            np.arcsinh(lagged[..., regions] / _SHIFT_PX),
            np.arcsinh(step[..., patterns] / _PATTERN_SPEED),
            np.arcsinh(lagged[..., patterns] / _PATTERN_SHIFT),
            np.log(baseline + 0.01) + 3,
            rows[..., trust] / 8,
            np.arcsinh(step[..., head] / 0.1),
            np.arcsinh(step[..., place] / 0.2),
            np.arcsinh(lagged[..., head] / 0.3),
            np.arcsinh(lagged[..., place] / 0.6),
            4 * rows[..., blink],
            10 * step[..., blink],
            4 * rows[..., jaw],
            10 * step[..., jaw],
        ],
        axis=-1,
        dtype=np.float32,
    )


def features(rows: np.ndarray) -> np.ndarray:
    """What the network sees, (..., n, CHANNELS) float32, of even rows (..., n, ROW).

    Causal: row i depends on rows up to i. The first second of a stream is warm-up.
    """
    step = _change(rows, 1)
    size = _size(step)
    baseline = _baseline_weights(size.shape[-2]) @ size
    return _features(rows, step, _change(rows, _LAG), baseline)


class RunningFeatures:
    """`features` of a stream, row by row."""

    def __init__(self) -> None:
        self._rows: deque[np.ndarray] = deque(maxlen=_LAG + 1)
        self._baseline = np.zeros(_COUNT + PATTERNS, np.float32)

    def __call__(self, row: np.ndarray) -> np.ndarray:
        """(CHANNELS,) float32 of the next row (ROW,)."""
        self._rows.append(row)
        step = row - self._rows[max(0, len(self._rows) - 2)]
        self._baseline = self._baseline + (1 - _KEEP) * (_size(step) - self._baseline)
        return _features(row, step, row - self._rows[0], self._baseline)
