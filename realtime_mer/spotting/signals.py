"""Signals on an even clock: what the spotter looks at, whatever the camera's frame rate.

Frames come at 15 to 200 a second and not evenly. The motion between them is taken as linear and
averaged over each step of a 30 Hz grid: fast cameras lose noise, slow ones nothing, and the same
micro-expression looks the same.
"""

from __future__ import annotations

import functools
from collections import deque
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

from realtime_mer.spotting.motion import EXPRESSIVE, FACE_CELLS, REGIONS, Motion

STEP_S = 1 / 30
# NumPy's at run time; PyTorch's in training, which spends much of its time here.
Array = Any
_COUNT = len(REGIONS)
# Patterns of motion over the cells of the face: each is a sum of all cells' displacements with
# weights that come with the spotter's network (tools/spotting/motion_patterns.py).
PATTERNS = 64
PATTERN_SHAPE = (2 * len(FACE_CELLS), PATTERNS)
# Columns of a row: regions x and y, patterns, trust, head, place, blink, jaw.
_COLUMNS = np.cumsum([0, 2 * _COUNT, PATTERNS, _COUNT, 3, 2, 1, 1]).tolist()
ROW = _COLUMNS[-1]
# Where patterns, head and place begin, and where the place ends.
_PATTERN, _HEAD, _PLACE, _BLINK = (_COLUMNS[i] for i in (1, 3, 4, 5))


def _regions_named(*words: str) -> list[int]:
    found = [i for i, name in enumerate(REGIONS) if any(word in name for word in words)]
    return [2 * i + axis for i in found for axis in (0, 1)]


def _first_patterns(count: int) -> list[int]:
    """Of those that are the same on a mirrored face, and of those that change their sign."""
    starts = _PATTERN, _PATTERN + PATTERNS // 2
    return [start + i for start in starts for i in range(count)]


# Columns that are looked at together, by how far they go, and the distance below which that is
# noise, in pixels or units of patterns.
_GROUPS: tuple[tuple[list[int], float], ...] = (
    (_regions_named("brow", "glabella"), 0.03),
    (_regions_named("eye"), 0.06),
    (_regions_named("lip", "chin", "cheek", "nose"), 0.03),
    (list(range(2 * EXPRESSIVE)), 0.03),
    (_first_patterns(8), 0.1),
    (_first_patterns(16), 0.1),
    (_first_patterns(PATTERNS // 2), 0.1),
    (list(range(_HEAD, _PLACE)), 0.03),
    (list(range(_PLACE, _BLINK)), 0.05),
)
# How far they went within so many steps, up to the length of a micro-expression.
_LAGS = (1, 2, 3, 4, 6, 8, 11, 15)
# The one within which regions, patterns and head are seen one by one, beside a single step, and
# within which groups usually go.
_LAG = 4
# Channels that `features` makes of a row.
CHANNELS = (
    2 * (2 * _COUNT + PATTERNS)
    + (_COUNT + PATTERNS)
    + _COUNT
    + 10
    + 4
    + len(_GROUPS) * (len(_LAGS) + 1)
)
# Where the interpolated motion is sampled around a grid point, in steps: averaging over a step.
_WITHIN = (np.arange(4) - 1.5) / 4
# Time constant of the baseline, and what a step leaves of it.
_BASELINE_S = 3.0
_KEEP = float(np.exp(-STEP_S / _BASELINE_S))
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
    right = np.searchsorted(times[1:-1], at) + 1
    left = right - 1
    before, after = times[left], times[right]
    # Of a handful of numbers, NumPy's clip and mean take longer than what they are made of.
    share = (at - before) / np.maximum(after - before, 1e-9)
    share = np.maximum(np.minimum(share, 1), 0).astype(np.float32)[:, None]
    between = rows.take(left, 0) * (1 - share) + rows.take(right, 0) * share
    whole = np.add.reduce(between.reshape(len(grid), len(_WITHIN), -1), 1)
    return whole * np.float32(1 / len(_WITHIN))


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
    """(steps, steps): the causal exponential mean of all that has been seen, as a matrix."""
    age = np.subtract.outer(np.arange(steps), np.arange(steps))
    weights = np.where(age >= 0, _KEEP ** np.maximum(age, 0), 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _change(rows: Array, lag: int, xp: ModuleType) -> Array:
    """Rows (..., n, ROW) less those `lag` before them; the first one stands for what is missing."""
    *shape, steps, columns = rows.shape
    first = xp.broadcast_to(rows[..., :1, :], (*shape, lag, columns))
    return rows - xp.concat([first, rows], axis=-2)[..., :steps, :]


def _size(step: Array, xp: ModuleType) -> Array:
    """(..., n, regions and patterns): how far each went in a step (..., n, ROW)."""
    regions = xp.hypot(step[..., 0 : 2 * _COUNT : 2], step[..., 1 : 2 * _COUNT : 2])
    # On a scale on which one logarithm suits both.
    patterns = xp.abs(step[..., 2 * _COUNT : 2 * _COUNT + PATTERNS])
    return xp.concat([regions, patterns * (_SPEED_PX / _PATTERN_SPEED)], axis=-1)


def _mean_of_groups() -> np.ndarray:
    """(ROW, groups): the means over each group's columns, in squares of its distance of noise."""
    weights = np.zeros((ROW, len(_GROUPS)), np.float32)
    for i, (columns, noise) in enumerate(_GROUPS):
        weights[columns, i] = 1 / (len(columns) * np.float32(noise) ** 2)
    return weights


_MEAN_OF_GROUPS = _mean_of_groups()


def _how_far(change: Array, xp: ModuleType) -> Array:
    """(..., groups): how far each of `_GROUPS` went in a change (..., ROW), on a log scale."""
    return 0.5 * xp.log1p(xp.square(change) @ xp.asarray(_MEAN_OF_GROUPS, device=change.device))


def _features(
    rows: Array,
    step: Array,
    lagged: Array,
    far: Array,
    usual: Array,
    usual_far: Array,
    xp: ModuleType,
) -> Array:
    """All features (..., CHANNELS).

    Args:
        rows: (..., ROW).
        step, lagged: Likewise, their changes within one step and within `_LAG`.
        far: (..., lags x groups) how far the groups went.
        usual: (..., regions and patterns) mean size of their steps.
        usual_far: (..., groups) mean of how far they went within `_LAG`.
    """
    regions, patterns, trust, head, place, blink, jaw = (
        slice(*ends) for ends in pairwise(_COLUMNS)
    )
    return xp.concat(
        [
            xp.asinh(step[..., regions] / _SPEED_PX),
            xp.asinh(lagged[..., regions] / _SHIFT_PX),
            xp.asinh(step[..., patterns] / _PATTERN_SPEED),
            xp.asinh(lagged[..., patterns] / _PATTERN_SHIFT),
            xp.log(usual + 0.01) + 3,
            rows[..., trust] / 8,
            xp.asinh(step[..., head] / 0.1),
            xp.asinh(step[..., place] / 0.2),
            xp.asinh(lagged[..., head] / 0.3),
            xp.asinh(lagged[..., place] / 0.6),
            4 * rows[..., blink],
            10 * step[..., blink],
            4 * rows[..., jaw],
            10 * step[..., jaw],
            far,
            usual_far,
        ],
        axis=-1,
    )


def features(rows: Array, xp: ModuleType = np) -> Array:
    """What the network sees, (..., n, CHANNELS) float32, of even rows (..., n, ROW) float32.

    Causal: row i depends on rows up to i. The first second of a stream is warm-up.

    Args:
        rows: NumPy's, or PyTorch's on any device.
        xp: Whose they are, `numpy` or `torch`.
    """
    changes = {lag: _change(rows, lag, xp) for lag in _LAGS}
    far = {lag: _how_far(change, xp) for lag, change in changes.items()}
    mean = xp.asarray(_baseline_weights(rows.shape[-2]), device=rows.device)
    return _features(
        rows,
        changes[1],
        changes[_LAG],
        xp.concat(list(far.values()), axis=-1),
        mean @ _size(changes[1], xp),
        mean @ far[_LAG],
        xp,
    )


class RunningFeatures:
    """`features` of a stream, row by row."""

    def __init__(self) -> None:
        self._rows: deque[np.ndarray] = deque(maxlen=max(_LAGS) + 1)
        # Running sums: of the weights, of sizes, of how far groups went.
        self._seen = 0.0
        self._usual = np.zeros(_COUNT + PATTERNS, np.float32)
        self._usual_far = np.zeros(len(_GROUPS), np.float32)

    def __call__(self, row: np.ndarray) -> np.ndarray:
        """(CHANNELS,) float32 of the next row (ROW,)."""
        self._rows.append(row)
        last = len(self._rows) - 1
        changes = row - np.array([self._rows[max(0, last - lag)] for lag in _LAGS])
        far = _how_far(changes, np)
        step, lagged = changes[_LAGS.index(1)], changes[_LAGS.index(_LAG)]
        self._seen = _KEEP * self._seen + 1
        self._usual = _KEEP * self._usual + _size(step, np)
        self._usual_far = _KEEP * self._usual_far + far[_LAGS.index(_LAG)]
        return _features(
            row,
            step,
            lagged,
            far.ravel(),
            self._usual / self._seen,
            self._usual_far / self._seen,
            np,
        )
