"""Signals at 30 steps a second: the spotter's input, independent of the camera's frame rate.

Frames come at 15 to 200 a second, unevenly. Their motion is interpolated linearly and averaged over
each step of a 30 Hz grid. This reduces the noise of fast cameras, keeps what slow ones show, and
makes the same micro-expression look the same.
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
WARM_UP_STEPS = 30
"""Steps before a stream has a baseline, and with it proposals and limits. Chosen by judgement."""

# NumPy's at run time; PyTorch's in training, where features take much of the time.
Array = Any
_COUNT = len(REGIONS)
# Patterns of motion over the cells of the face: each is a weighted sum of all cells' displacements.
# The weights come with the spotter's network (tools/spotting/motion_patterns.py).
PATTERNS = 64
PATTERN_SHAPE = (2 * len(FACE_CELLS), PATTERNS)
# Where the columns of a row begin: regions (x and y), patterns, trust, head, place, blink, jaw.
_COLUMNS = np.cumsum([0, 2 * _COUNT, PATTERNS, _COUNT, 3, 2, 1, 1]).tolist()
ROW = _COLUMNS[-1]
_PATTERN, _HEAD, _PLACE, _BLINK = (_COLUMNS[i] for i in (1, 3, 4, 5))


def _regions_named(*words: str) -> list[int]:
    """The columns of the regions whose names contain one of the words."""
    regions = [i for i, name in enumerate(REGIONS) if any(word in name for word in words)]
    return [2 * i + axis for i in regions for axis in (0, 1)]


def _first_patterns(count: int) -> list[int]:
    """The columns of the first patterns that are symmetric, and of the first antisymmetric ones."""
    starts = _PATTERN, _PATTERN + PATTERNS // 2
    return [start + i for start in starts for i in range(count)]


# The scales here and below were chosen by judgement, and measured later: see "Constants, measured"
# in docs/spotting.md.
# Groups of columns whose displacement is measured together, and the root mean square over their
# columns that counts as noise, in pixels or units of the patterns. On still faces under a swaying
# camera, its median within `_LAG` is 0.01 to 0.03 px in the regions, 0.08 to 0.13 in the patterns,
# 0.07 to 0.09 px in the head and 0.4 to 0.5 px in its place.
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
# The groups' displacements within these numbers of steps, up to the length of a micro-expression.
_LAGS = (1, 2, 3, 4, 6, 8, 11, 15)
# The lag at which regions, patterns, head and place are seen one by one (beside a single step), and
# at which the baseline of the groups is taken.
_LAG = 4
# The group of all skin.
_ALL_SKIN = 3
# Number of features of a row.
CHANNELS = (
    2 * (2 * _COUNT + PATTERNS)
    + (_COUNT + PATTERNS)
    + _COUNT
    + 10
    + 4
    + len(_GROUPS) * (len(_LAGS) + 1)
)
# A grid point's row is the mean of these samples of the interpolated motion, in steps from it.
_SAMPLES = (np.arange(4) - 1.5) / 4
# Time constant of the baseline, and its decay in a step. Chosen by judgement: six times the longest
# micro-expression.
_BASELINE_S = 3.0
_DECAY = float(np.exp(-STEP_S / _BASELINE_S))
# Scales of the features, in pixels or units of the patterns: asinh is linear below and logarithmic
# above. In a step (_SPEED) and within `_LAG` (_SHIFT), the 90th percentile of regions is 0.03 and
# 0.05 px at most on still faces, 0.10 to 0.20 and 0.27 to 0.65 px on restless ones; of patterns
# 0.14 and 0.25, and 0.37 to 0.50 and 0.9 to 1.4.
_SPEED_PX = 0.05
_SHIFT_PX = 0.15
_PATTERN_SPEED = 0.2
_PATTERN_SHIFT = 0.5
# Of the head 0.08 and 0.23 px, and 0.26 to 0.45 and 0.8 to 1.5 px; of its place, under a swaying
# camera, 0.28 and 1.1 px, and 0.6 to 2.6 and 2 to 11 px.
_HEAD_SPEED_PX = 0.1
_HEAD_SHIFT_PX = 0.3
_PLACE_SPEED_PX = 0.2
_PLACE_SHIFT_PX = 0.6
# Added to the mean step before its logarithm: the median step of a region on still faces, 0.01 px.
_MIN_SPEED_PX = 0.01
# Brings that logarithm to 0 at 0.04 px a step.
_LOG_OFFSET = 3
# Divides the trust: its 95th percentile is 5 to 9.
_TRUST_SCALE = 8
# Multiply blink and jaw (0 to 1), and their change in a step, to the range of the other features.
_LEVEL_GAIN = 4
_CHANGE_GAIN = 10


def as_row(motion: Motion, patterns: np.ndarray) -> np.ndarray:
    """A motion as a row (ROW,) float32, its cells projected onto `PATTERN_SHAPE` patterns."""
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
    """Interpolates rows and averages them over steps.

    Args:
        times: (n,) increasing, seconds.
        rows: (n, ROW) float32.
        grid: (m,) the middles of the steps, seconds.

    Returns:
        (m, ROW) float32. Beyond the ends, the first and the last row hold.
    """
    samples = (grid[:, None] + _SAMPLES * STEP_S).ravel()
    right = np.searchsorted(times[1:-1], samples) + 1
    left = right - 1
    before, after = times[left], times[right]
    # minimum, maximum and add: on arrays this small, np.clip and np.mean take longer.
    share = (samples - before) / np.maximum(after - before, 1e-9)
    share = np.maximum(np.minimum(share, 1), 0).astype(np.float32)[:, None]
    between = rows.take(left, 0) * (1 - share) + rows.take(right, 0) * share
    total = np.add.reduce(between.reshape(len(grid), len(_SAMPLES), -1), 1)
    return total * np.float32(1 / len(_SAMPLES))


class Resampler:
    """Turns motions at uneven times into rows at even steps, each as soon as it is known.

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
            return []  # the clock stands still or steps back
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
        # Keep one row before the start of the next step.
        while len(self._times) > 2 and self._times[1] <= self._next_s - STEP_S / 2:
            self._times.popleft()
            self._rows.popleft()
        return list(zip(grid.tolist(), rows, strict=True))


@functools.lru_cache(maxsize=4)
def _baseline_weights(steps: int) -> np.ndarray:
    """(steps, steps) float32: the causal exponential mean of all rows so far, as a matrix."""
    age = np.subtract.outer(np.arange(steps), np.arange(steps))
    weights = np.where(age >= 0, _DECAY ** np.maximum(age, 0), 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _change(rows: Array, lag: int, xp: ModuleType) -> Array:
    """(..., n, ROW): rows minus those `lag` rows earlier; before the start, the first row holds."""
    *shape, steps, columns = rows.shape
    first = xp.broadcast_to(rows[..., :1, :], (*shape, lag, columns))
    return rows - xp.concat([first, rows], axis=-2)[..., :steps, :]


def _step_lengths(step: Array, xp: ModuleType) -> Array:
    """(..., n, regions and patterns): length of each displacement in a step (..., n, ROW)."""
    regions = xp.hypot(step[..., 0 : 2 * _COUNT : 2], step[..., 1 : 2 * _COUNT : 2])
    # Scale patterns to pixels, so that one logarithm suits both.
    patterns = xp.abs(step[..., 2 * _COUNT : 2 * _COUNT + PATTERNS])
    return xp.concat([regions, patterns * (_SPEED_PX / _PATTERN_SPEED)], axis=-1)


def _group_weights() -> np.ndarray:
    """(ROW, groups) float32: the mean over each group's columns, divided by its squared noise."""
    weights = np.zeros((ROW, len(_GROUPS)), np.float32)
    for i, (columns, noise) in enumerate(_GROUPS):
        weights[columns, i] = 1 / (len(columns) * np.float32(noise) ** 2)
    return weights


_GROUP_WEIGHTS = _group_weights()


def _group_displacement(change: Array, xp: ModuleType) -> Array:
    """(..., groups): displacement of each of `_GROUPS` in a change (..., ROW), on a log scale.

    About ln(rms / noise) for large displacements, 0 for none.
    """
    return 0.5 * xp.log1p(xp.square(change) @ xp.asarray(_GROUP_WEIGHTS, device=change.device))


def _features(
    rows: Array,
    step: Array,
    lagged: Array,
    displacement: Array,
    mean_step: Array,
    mean_displacement: Array,
    xp: ModuleType,
) -> Array:
    """All features (..., CHANNELS).

    Args:
        rows: (..., ROW).
        step: (..., ROW), their change within one step.
        lagged: (..., ROW), their change within `_LAG` steps.
        displacement: (..., lags x groups), the groups' displacements.
        mean_step: (..., regions and patterns), mean length of their steps.
        mean_displacement: (..., groups), mean of the groups' displacements within `_LAG` steps.
        xp: `numpy` or `torch`.
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
            xp.log(mean_step + _MIN_SPEED_PX) + _LOG_OFFSET,
            rows[..., trust] / _TRUST_SCALE,
            xp.asinh(step[..., head] / _HEAD_SPEED_PX),
            xp.asinh(step[..., place] / _PLACE_SPEED_PX),
            xp.asinh(lagged[..., head] / _HEAD_SHIFT_PX),
            xp.asinh(lagged[..., place] / _PLACE_SHIFT_PX),
            _LEVEL_GAIN * rows[..., blink],
            _CHANGE_GAIN * step[..., blink],
            _LEVEL_GAIN * rows[..., jaw],
            _CHANGE_GAIN * step[..., jaw],
            displacement,
            mean_displacement,
        ],
        axis=-1,
    )


def features(rows: Array, xp: ModuleType = np) -> Array:
    """The network's input (..., n, CHANNELS) float32 for resampled rows (..., n, ROW) float32.

    Causal: row i depends on rows up to i. The first second of a stream is warm-up.

    Args:
        rows: A NumPy array, or a PyTorch tensor on any device.
        xp: The library of `rows`, `numpy` or `torch`.
    """
    changes = {lag: _change(rows, lag, xp) for lag in _LAGS}
    displacements = {lag: _group_displacement(change, xp) for lag, change in changes.items()}
    mean = xp.asarray(_baseline_weights(rows.shape[-2]), device=rows.device)
    return _features(
        rows,
        changes[1],
        changes[_LAG],
        xp.concat(list(displacements.values()), axis=-1),
        mean @ _step_lengths(changes[1], xp),
        mean @ displacements[_LAG],
        xp,
    )


class RunningFeatures:
    """`features` of a stream, row by row."""

    def __init__(self) -> None:
        self._rows: deque[np.ndarray] = deque(maxlen=max(_LAGS) + 1)
        # Decaying sums: of the weights, of the steps' lengths, of the groups' displacements.
        self._weight = 0.0
        self._step_sum = np.zeros(_COUNT + PATTERNS, np.float32)
        self._displacement_sum = np.zeros(len(_GROUPS), np.float32)

    @property
    def restlessness(self) -> float:
        """How far all skin usually moves within `_LAG` steps: a mean of some seconds.

        About ln(rms / noise); 0 for none. On still faces it is below 1, of people who talk 2 to 3.
        """
        return float(self._displacement_sum[_ALL_SKIN]) / self._weight if self._weight else 0.0

    def resume(self) -> None:
        """Goes on after a hole: the next row is not compared with those before it."""
        self._rows.clear()

    def __call__(self, row: np.ndarray) -> np.ndarray:
        """(CHANNELS,) float32 of the next row (ROW,)."""
        self._rows.append(row)
        last = len(self._rows) - 1
        changes = row - np.array([self._rows[max(0, last - lag)] for lag in _LAGS])  # (lags, ROW)
        displacements = _group_displacement(changes, np)  # (lags, groups)
        step, lagged = changes[_LAGS.index(1)], changes[_LAGS.index(_LAG)]
        self._weight = _DECAY * self._weight + 1
        self._step_sum = _DECAY * self._step_sum + _step_lengths(step, np)
        self._displacement_sum = _DECAY * self._displacement_sum + displacements[_LAGS.index(_LAG)]
        return _features(
            row,
            step,
            lagged,
            displacements.ravel(),
            self._step_sum / self._weight,
            self._displacement_sum / self._weight,
            np,
        )
