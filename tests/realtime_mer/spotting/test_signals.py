"""Signals at even steps: independent of the frame rate, causal, the same in training."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
import torch

from realtime_mer.spotting.motion import FACE_CELLS, REGIONS, Motion
from realtime_mer.spotting.signals import (
    CHANNELS,
    PATTERN_SHAPE,
    PATTERNS,
    ROW,
    STEP_S,
    Resampler,
    RunningFeatures,
    as_row,
    features,
    resample,
)

COUNT = len(REGIONS)
_RNG = np.random.default_rng(0)
_SIZE, _PACE_HZ, _PHASE = (
    _RNG.uniform(0.2, 3.0, (COUNT, 2)),
    _RNG.uniform(0.1, 1.2, (COUNT, 2)),
    _RNG.uniform(0, 6.3, (COUNT, 2)),
)


_CELLS = _RNG.normal(size=len(FACE_CELLS))
_PATTERNS = (0.05 * _RNG.normal(size=PATTERN_SHAPE)).astype(np.float32)
# Where trust and head begin in a row.
TRUST = 2 * COUNT + PATTERNS
HEAD = TRUST + COUNT
# The last features: displacements of groups of columns within several lags.
GROUPS, LAGS = 9, 8


def smooth(time_s: float) -> Motion:
    """A motion defined at every time; no part of it has a period below 0.8 s."""
    waves = np.sin(2 * np.pi * _PACE_HZ * time_s + _PHASE)
    return Motion(
        time_s,
        (_SIZE * waves).astype(np.float32),
        np.outer(_CELLS, [np.sin(time_s), np.cos(0.7 * time_s)]).astype(np.float32),
        np.full(COUNT, 5 + np.sin(time_s), np.float32),
        np.array([np.sin(time_s), np.cos(time_s), 0.1 * time_s], np.float32),
        np.array([300 + 9 * np.sin(time_s), 200 + time_s], np.float32),
        0.5 + 0.4 * np.sin(3 * time_s),
        0.2,
    )


def even_times(fps: float, length_s: float = 4.0) -> np.ndarray:
    return np.arange(0, length_s, 1 / fps)


def jittered_times(fps: float, length_s: float = 4.0) -> np.ndarray:
    times = even_times(fps, length_s)
    times[1:] += np.random.default_rng(1).uniform(-0.4, 0.4, len(times) - 1) / fps
    return times


def rows_of(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(times, rows) of the steps for `smooth` seen at `times`."""
    resampler = Resampler(_PATTERNS)
    steps = [step for t in times for step in resampler(smooth(float(t)))]
    return np.array([t for t, _ in steps]), np.array([row for _, row in steps])


@pytest.mark.parametrize(
    ("times", "error_px"),
    [
        (even_times(15), 0.12),  # a line between two frames cuts the corners of a curve
        (even_times(25), 0.06),
        (even_times(30), 0.04),
        (even_times(60), 0.02),
        (even_times(120), 0.01),
        (even_times(200), 0.01),
        (jittered_times(30), 0.08),
        (jittered_times(120), 0.02),
        (np.delete(even_times(30), [31, 32, 64]), 0.25),  # dropped frames
        (np.r_[even_times(60)[:120], even_times(15)[30:]], 0.12),  # a rate that changes
    ],
    ids=[
        "15",
        "25",
        "30",
        "60",
        "120",
        "200",
        "jittered-30",
        "jittered-120",
        "dropped",
        "changing",
    ],
)
def test_rows_do_not_depend_on_the_frame_rate(times, error_px):
    grid, rows = rows_of(times)
    expected_grid, expected = rows_of(even_times(1000))
    count = min(len(grid), len(expected_grid))
    assert count > 3.7 / STEP_S
    np.testing.assert_allclose(grid[:count], expected_grid[:count], atol=1e-6)
    apart = np.abs(rows[:count] - expected[:count])
    assert apart[:, : 2 * COUNT].max() < error_px
    assert apart[:, 2 * COUNT :].max() < max(error_px, 0.05)
    # The network's input, after the warm-up.
    seen, wanted = features(rows[:count]), features(expected[:count])
    spread = wanted[30:].std()
    assert np.abs(seen - wanted)[30:].mean() < 0.1 * spread


def test_a_row_is_the_mean_motion_of_its_step():
    grid, rows = rows_of(even_times(120))
    for time_s, row in zip(grid[::17], rows[::17], strict=True):
        around = time_s + (np.arange(8) - 3.5) / 8 * STEP_S
        mean = np.mean([as_row(smooth(t), _PATTERNS) for t in around], 0)
        np.testing.assert_allclose(row, mean, atol=0.01)


@pytest.mark.parametrize("fps", [5, 15, 29.97, 30, 30.01, 60, 200])
def test_every_step_comes_once_in_order_and_as_soon_as_it_is_known(fps):
    resampler, steps = Resampler(_PATTERNS), []
    for i in range(int(6 * fps)):
        time_s = 7.0 + i / fps
        steps += [t for t, _ in resampler(smooth(time_s))]
        # A step is known once its second half has been seen.
        assert all(t + STEP_S / 2 <= time_s + 1e-6 for t in steps)
        assert not steps or steps[-1] + 1.5 * STEP_S > time_s - 1e-6
    np.testing.assert_allclose(np.diff(steps), STEP_S, atol=1e-9)
    assert steps[0] == pytest.approx(7.0 + STEP_S / 2)
    assert len(steps) == pytest.approx((6 - 1 / fps) / STEP_S, abs=1.01)


def test_later_motions_do_not_change_earlier_steps():
    for cut in (10, 47, 90):
        start = even_times(30)[:cut]
        short, long = rows_of(start)[1], rows_of(np.r_[start, start[-1] + [0.2, 0.21, 0.5]])[1]
        np.testing.assert_array_equal(long[: len(short)], short)


@pytest.mark.parametrize("times", [[0.0] * 3, [1.0, 0.5, 0.2], [1.0, 1.1, 1.05, 1.1, 1.2]])
def test_a_clock_that_stands_or_steps_back_gives_no_step_twice(times):
    resampler = Resampler(_PATTERNS)
    steps = [step for t in times for step in resampler(smooth(t))]
    grid = [t for t, _ in steps]
    assert grid == sorted(set(grid))
    assert len(grid) == int((max(times) - times[0]) / STEP_S + 1e-6)
    for time_s, row in steps:
        np.testing.assert_allclose(
            row[: 2 * COUNT], as_row(smooth(time_s), _PATTERNS)[: 2 * COUNT], atol=0.3
        )


@pytest.mark.parametrize("step_s", [1 / 200, 1 / 30, 1 / 7, 0.0], ids=["200", "30", "7", "stuck"])
def test_memory_is_bounded(step_s):
    resampler = Resampler(_PATTERNS)
    motion = smooth(0.0)

    def run(first: int, last: int) -> None:
        for i in range(first, last):
            resampler(dataclasses.replace(motion, time_s=i * step_s))

    run(0, 500)
    tracemalloc.start()
    try:
        run(500, 4000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000  # a leak of the rows would be above 800 000


def test_steps_are_even_after_a_million_seconds():
    resampler = Resampler(_PATTERNS)
    steps = [t for i in range(90) for t, _ in resampler(smooth(1e6 + i / 30))]
    np.testing.assert_allclose(np.diff(steps), STEP_S, atol=1e-6)


def test_a_row_has_regions_patterns_trust_head_place_blink_and_jaw():
    motion = smooth(1.0)
    row = as_row(motion, _PATTERNS)
    assert row.shape == (ROW,)
    assert row.dtype == np.float32
    np.testing.assert_array_equal(row[: 2 * COUNT].reshape(-1, 2), motion.regions)
    seen = np.einsum("ca,cap->p", motion.cells, _PATTERNS.reshape(-1, 2, PATTERNS))
    np.testing.assert_allclose(row[2 * COUNT : TRUST], seen, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(row[TRUST:HEAD], motion.trust)
    np.testing.assert_array_equal(row[HEAD:-4], motion.head)
    np.testing.assert_array_equal(row[-4:-2], motion.place)
    np.testing.assert_allclose(row[-2:], [motion.blink, motion.jaw_open])


def test_resampling_holds_the_first_and_last_row_beyond_the_ends():
    times = np.array([0.0, 1.0])
    rows = np.array([[0.0], [1.0]])
    grid = np.array([-5.0, 0.5, 9.0])
    np.testing.assert_allclose(resample(times, rows, grid)[:, 0], [0, 0.5, 1])


def random_rows(count: int, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 0.1, (count, ROW)).cumsum(0)
    rows[:, TRUST:HEAD] = rng.uniform(0, 10, (count, COUNT))
    rows[:, -2:] = rng.uniform(0, 1, (count, 2))
    return rows.astype(np.float32)


@pytest.mark.parametrize("cut", [5, 30, 100, 159])
def test_features_are_causal(cut):
    rows = random_rows(160)
    other = rows.copy()
    other[cut:] += 50 * random_rows(160 - cut, seed=4)
    seen, changed = features(rows), features(other)
    assert seen.shape == (160, CHANNELS)
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(changed[:cut], seen[:cut])
    assert np.abs(changed[cut] - seen[cut]).max() > 0.1


def test_features_of_a_batch_are_those_of_each():
    batch = np.stack([random_rows(40, s) for s in range(3)])
    np.testing.assert_allclose(
        features(batch), [features(rows) for rows in batch], rtol=1e-5, atol=1e-5
    )


def test_features_of_training_are_those_of_the_runtime():
    rows = np.stack([random_rows(160, s) for s in range(3)])
    seen = features(torch.from_numpy(rows), torch)
    assert seen.dtype == torch.float32
    np.testing.assert_allclose(seen.numpy(), features(rows), rtol=1e-4, atol=1e-5)


def test_features_do_not_depend_on_where_displacements_start():
    rows = random_rows(60)
    moved = rows.copy()
    moved[:, :TRUST] += 17
    moved[:, HEAD : HEAD + 5] -= 400
    np.testing.assert_allclose(features(moved), features(rows), atol=0.01)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_features_are_finite_and_of_moderate_size(scale):
    seen = features(scale * random_rows(200))
    assert np.isfinite(seen).all()
    quick = np.r_[0 : 2 * TRUST]
    assert np.abs(seen[:, quick]).max() < 15


def test_a_still_face_has_quiet_features():
    rows = np.repeat(random_rows(1), 90, 0)
    seen = features(rows)
    quiet = 2 * TRUST  # the baselines and the trust follow
    head = quiet + 2 * COUNT + PATTERNS
    lids = head + 10
    motion = np.r_[0:quiet, head:lids, lids + 4 : CHANNELS]
    assert not seen[:, motion].any()


def test_features_contain_the_displacement_of_groups():
    rows = np.zeros((90, ROW), np.float32)
    # All skin moves away in ten steps, and back in ten.
    away = np.clip(np.minimum(np.arange(90) - 40, 60 - np.arange(90)), 0, 10) / 10
    rows[:, :TRUST] = away[:, None]
    displacement = features(rows)[:, -GROUPS * (LAGS + 1) : -GROUPS].reshape(90, LAGS, GROUPS)
    assert not displacement[:40].any()
    brows, head = 0, 7
    within_eight, within_fifteen = displacement[:, 5], displacement[:, 7]
    assert within_eight[49, brows] > within_eight[43, brows] > 0
    # 15 steps around the apex end near where they began. The head never moved.
    assert within_fifteen[57, brows] < 0.6 * within_eight[49, brows]
    assert not displacement[..., head:].any()


def test_running_features_are_those_of_all_rows():
    rows = random_rows(90)
    running = RunningFeatures()
    seen = np.array([running(row) for row in rows])
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, features(rows), rtol=1e-5, atol=1e-5)


def test_after_a_hole_places_are_not_compared_with_those_before_it_and_what_is_usual_is_known():
    rows = random_rows(70)
    elsewhere = rows[60:].copy()
    elsewhere[:, : 2 * COUNT] += 5
    seen = []
    for after in (rows[60:], elsewhere):
        running = RunningFeatures()
        for row in rows[:60]:
            running(row)
        running.resume()
        seen.append(np.array([running(row) for row in after]))
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-4, atol=1e-4)
    assert np.abs(seen[0] - features(rows[60:])).max() > 0.1


@pytest.mark.parametrize("count", [1, 3, 14, 15, 16, 17])
def test_features_of_a_young_stream_are_those_of_its_rows(count):
    rows = random_rows(40)
    np.testing.assert_allclose(features(rows[:count]), features(rows)[:count], rtol=1e-5, atol=1e-5)
