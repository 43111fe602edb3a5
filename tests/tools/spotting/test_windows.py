"""Training windows hold what their targets say, and only from unbroken stretches of a face."""

import dataclasses

import numpy as np
import pytest

from realtime_mer.spotting.motion import REGIONS
from realtime_mer.spotting.signals import PATTERNS, ROW, STEP_S
from realtime_mer.spotting.spotter import MACRO_DELAY_S
from tests.signals import quiet_background
from tools.spotting.backgrounds import MOVED, REGION_COUNT, Background
from tools.spotting.motions import course
from tools.spotting.targets import (
    APEX,
    DELAY_S,
    DELAY_TOLERANCE_S,
    END,
    INSIDE,
    LENGTH,
    MACRO,
    MACRO_WEIGHT,
    SINCE,
    TARGETS,
    WEIGHT,
)
from tools.spotting.windows import STEPS, WindowMaker, mirrored

NAMES = list(REGIONS)
HEAD = MOVED + REGION_COUNT
PLACE_X = HEAD + 3


def events_of(targets: np.ndarray) -> list[tuple[float, float, float]]:
    """(onset, offset, apex), in steps of the window, of the micro-expressions marked in it."""
    found: list[tuple[float, float, float]] = []
    for i in np.flatnonzero(targets[:, LENGTH] > 0):
        since, length, apex = targets[i, [SINCE, LENGTH, APEX]]
        offset = i - since / STEP_S
        onset = offset - length / STEP_S
        if not found or abs(found[-1][1] - offset) > 0.2:
            found.append((onset, offset, onset + apex * (offset - onset)))
    return found


def test_targets_lie_where_the_motion_was_put():
    # So strong that the noise which is added on purpose does not matter.
    maker = WindowMaker([quiet_background(motion=20.0)], seed=1)
    right = []
    for _ in range(60):
        rows, targets = maker.window()
        # All regions move alike but for their gains, and mirrored windows the other way.
        moved = np.abs(rows[:, : 2 * REGION_COUNT : 2].mean(1))
        for onset, offset, apex in events_of(targets):
            if not (onset > 6 and offset < STEPS - 4):
                continue
            before, top = moved[int(onset) - 1], moved[round(apex)]
            after = moved[int(np.ceil(offset)) + 1]
            rise = top - before
            right.append(
                rise > 6  # a weak one of 0.8 px seen at half of its size
                and before - moved[int(onset) - 4] < 0.25 * rise
                and top - after > 0.3 * rise
            )
            assert 0.1 / STEP_S - 0.01 < offset - onset < 0.52 / STEP_S + 0.01
    assert len(right) > 40
    # Repeated frames may hold a short one back.
    assert np.mean(right) > 0.95


def test_ends_are_marked_a_moment_after_the_offset():
    maker = WindowMaker([quiet_background()], seed=2)
    marks = 0
    for _ in range(30):
        _, targets = maker.window()
        ends = targets[targets[:, END] == 1]
        # Marked steps have an offset and a length, and count in full.
        assert (np.abs(ends[:, SINCE] - DELAY_S) <= DELAY_TOLERANCE_S + 1e-6).all()
        assert (ends[:, LENGTH] > 0).all()
        assert (ends[:, WEIGHT] == 1).all()
        # A step on either side of them counts for neither answer.
        marked = np.flatnonzero(targets[:, END])
        for i in marked:
            for j in (i - 1, i + 1):
                if 0 <= j < STEPS:
                    assert targets[j, END] == 1 or targets[j, WEIGHT] == 0
        marks += len(marked)
        # "Under way" is asked for after the beginning, and not long after the end.
        for i in np.flatnonzero(targets[:, INSIDE]):
            near = [(a, b) for a, b, _ in events_of(targets) if a - 1 < i < b + 0.15 / STEP_S + 1]
            assert near or i > STEPS - 20
    assert marks > 60


def with_one_event(onset: float, apex: float, offset: float, macro: bool) -> Background:
    """All regions go 20 px to the right and back in the rows of the clip itself."""
    times = np.arange(0, 8, 1 / 60)
    rows = np.zeros((len(times), ROW), np.float32)
    up, down, _ = course(times, onset, apex, offset, 1.0, 1.0)
    rows[:, : 2 * REGION_COUNT : 2] = 20 * (up - down)[:, None]
    return quiet_background(times, rows, 0.0, ((onset, apex, offset, macro, 0.0),))


def test_what_is_already_in_a_clip_is_marked_where_it_lies():
    maker = WindowMaker([with_one_event(4.0, 4.2, 4.4, macro=False)], seed=11)
    seen = 0
    for _ in range(20):
        rows, targets = maker.window()
        moved = np.abs(rows[:, : 2 * REGION_COUNT : 2].mean(1))
        for onset, offset, apex in events_of(targets):
            # The others, which are added, move nothing.
            if onset > 2 and offset < STEPS - 3 and moved[round(apex)] > 10:
                seen += 1
                assert abs(int(np.argmax(moved)) - apex) <= 1.5
                assert moved[int(onset) - 1] < 3
                assert moved[int(offset) + 2] < 3
    assert seen > 10


def test_a_motion_much_smaller_than_what_the_face_usually_does_counts_for_nothing():
    calm = WindowMaker([quiet_background(motion=1.0)], seed=15)
    restless = WindowMaker([quiet_background(motion=1.0, usual=1000.0)], seed=15)
    for _ in range(10):
        rows, marked = calm.window()
        same, passed = restless.window()
        np.testing.assert_array_equal(rows, same)
        assert not passed[:, END].any()
        # Where the other window asks for an end, this one asks for nothing.
        assert not passed[marked[:, END] == 1, WEIGHT].any()


def test_a_motion_smaller_than_what_the_face_does_then_counts_for_nothing():
    times = np.arange(0, 15, 1 / 60)
    rows = np.zeros((len(times), ROW), np.float32)
    calm = WindowMaker([quiet_background(times, rows)], seed=16)
    rows = rows.copy()
    rows[:, : 2 * REGION_COUNT] = 1e4 * times[:, None]
    moving = WindowMaker([quiet_background(times, rows)], seed=16)
    ends = 0
    for _ in range(20):
        # The loss ignores the first second, where the time before the window is missing.
        marked, passed = calm.window()[1][30:], moving.window()[1][30:]
        ends += marked[:, END].sum()
        assert not passed[:, END].any()
        assert not passed[marked[:, END] == 1, WEIGHT].any()
    assert ends > 20


@pytest.mark.parametrize(("masked", "counts"), [(1.0, True), (2.0, False), (np.nan, False)])
def test_an_event_of_a_clip_counts_unless_it_is_masked(masked, counts):
    times = np.arange(0, 15, 1 / 60)
    # Of a face that usually does so much, those that are added count for nothing.
    event = (2.5, 2.7, 2.9, 0, masked)
    maker = WindowMaker([quiet_background(times, events=(event,), usual=1000.0)], seed=16)
    ends = sum(maker.window()[1][30:, END].sum() for _ in range(20))
    assert (ends > 5) == counts


def test_a_mouth_that_speaks_does_not_mask_a_raised_brow():
    mouth = np.array(["lip" in name or "chin" in name for name in REGIONS])
    times = np.arange(0, 15, 1 / 60)
    rows = np.zeros((len(times), ROW), np.float32)
    regions = rows[:, : 2 * REGION_COUNT].reshape(len(rows), REGION_COUNT, 2)
    regions[:, mouth] = 1e4 * times[:, None, None]
    face = quiet_background(times, rows)
    shape = face.rise[:, : 2 * REGION_COUNT].reshape(1, REGION_COUNT, 2)
    shape[:, mouth] = 0
    brows = dataclasses.replace(face, fall=-face.rise)
    ends = sum(WindowMaker([brows], seed=k).window()[1][30:, END].sum() for k in range(20))
    assert ends > 20


def test_macro_expressions_are_marked_half_a_second_late():
    maker = WindowMaker([with_one_event(2.5, 3.5, 4.5, macro=True)], seed=12)
    delay, seen = MACRO_DELAY_S / STEP_S, 0
    for _ in range(20):
        rows, targets = maker.window()
        moved = np.abs(rows[:, : 2 * REGION_COUNT : 2].mean(1)) > 6
        under_way = np.flatnonzero(moved[: STEPS - 16])
        if len(under_way) < 20:
            continue
        seen += 1
        late = (under_way + delay).round().astype(int)
        assert targets[late, MACRO].all()
        # The middle of the macro-expression is marked, and no micro-expression ends there.
        assert not targets[late, END].any()
    assert seen > 10


def test_videos_ask_for_no_answer_about_macro_expressions():
    real = dataclasses.replace(quiet_background(motion=0.0), still=False)
    for maker, weight in ((WindowMaker([real], 13), 0), (WindowMaker([quiet_background()], 13), 1)):
        quiet = [t for _, t in (maker.window() for _ in range(20))]
        weights = np.concatenate([t[t[:, MACRO] == 0, MACRO_WEIGHT] for t in quiet])
        assert np.mean(weights == weight) > 0.7
        assert weight or not weights.any()


@pytest.mark.parametrize("motion", [0.0, 20.0])
def test_a_window_shows_nothing_but_noise_and_the_motions_put_in(motion):
    maker = WindowMaker([quiet_background(motion=motion)], seed=3)
    largest = max(np.abs(maker.window()[0][:, : 2 * REGION_COUNT]).max() for _ in range(20))
    assert largest > 20 if motion else largest < 5


def test_the_same_seed_gives_the_same_windows():
    first, again, other = (WindowMaker([quiet_background()], seed) for seed in (5, 5, 6))
    for _ in range(3):
        one, two, three = first.window(), again.window(), other.window()
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])
        assert np.abs(one[0] - three[0]).max() > 0


def test_a_batch_is_so_many_windows():
    rows, targets = WindowMaker([quiet_background()], seed=7).batch(3)
    windows = WindowMaker([quiet_background()], seed=7)
    for got, wanted in zip(rows, targets, strict=True):
        row, target = windows.window()
        np.testing.assert_array_equal(got, row)
        np.testing.assert_array_equal(wanted, target)
    assert rows.dtype == targets.dtype == np.float32
    assert rows.shape == (3, STEPS, ROW)
    assert targets.shape == (3, STEPS, TARGETS)


def test_gaps_are_not_bridged():
    times = np.arange(0, 20, 1 / 30)
    rows = np.zeros((len(times), ROW), np.float32)
    gap = (times > 9.5) & (times < 10.0)
    # The face comes back elsewhere.
    rows[times >= 10, PLACE_X] = 5000
    rows[gap] = np.nan
    maker = WindowMaker([quiet_background(times, rows, motion=0.0)], seed=8)
    sides = set()
    for _ in range(60):
        window, _ = maker.window()
        assert np.isfinite(window).all()
        place = np.abs(window[:, PLACE_X])
        # Another stretch may be added, but no window jumps from one to the other.
        assert np.ptp(place) < 1
        sides.add(round(float(place[0]) / 5000))
    assert {0, 1} <= sides


@pytest.mark.parametrize("length_s", [0.2, 1.5])
def test_a_clip_too_short_for_a_window_is_left_out(length_s):
    short = quiet_background(np.arange(0, length_s, 1 / 30), motion=1000.0)
    maker = WindowMaker([short, quiet_background(motion=0.0)], seed=9)
    assert max(np.abs(maker.window()[0][:, : 2 * REGION_COUNT]).max() for _ in range(10)) < 5


@pytest.mark.parametrize("fps", [12, 15, 30, 60, 200])
def test_backgrounds_of_any_frame_rate_give_whole_windows(fps):
    times = np.arange(0, 13, 1 / fps)
    rows = np.zeros((len(times), ROW), np.float32)
    rows[:, PLACE_X + 1] = times
    maker = WindowMaker([quiet_background(times, rows)], seed=10)
    for _ in range(12):
        window, targets = maker.window()
        assert window.shape == (STEPS, ROW)
        assert targets.shape == (STEPS, TARGETS)
        # Time runs on to the end of the window; no more than single frames are repeated.
        steps = np.diff(window[:, PLACE_X + 1])
        assert (steps > 1e-3).mean() > 0.8
        assert steps[-9:].sum() > 0.1


def random_rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 7, ROW)).astype(np.float32)


def test_mirrored_twice_is_the_face_itself():
    rows = random_rows()
    once = mirrored(rows)
    np.testing.assert_array_equal(mirrored(once), rows)
    assert np.abs(once - rows).max() > 0.1


def test_a_smile_of_one_side_is_one_of_the_other_when_mirrored():
    row = np.zeros((1, ROW), np.float32)
    left, right = (2 * NAMES.index(f"lip corner {side}") for side in ("left", "right"))
    row[0, left : left + 2] = -1.5, -0.8
    row[0, 2 * REGION_COUNT : MOVED] = 1
    row[0, MOVED + NAMES.index("lip corner left")] = 6  # its trust goes with it
    row[0, HEAD : HEAD + 5] = 1, 2, 3, 40, 50
    row[0, -2:] = 0.2, 0.3
    out = mirrored(row)[0]
    np.testing.assert_allclose(out[right : right + 2], (1.5, -0.8))
    assert not out[left : left + 2].any()
    assert out[MOVED + NAMES.index("lip corner right")] == 6
    # Half of the patterns are the same on both sides.
    np.testing.assert_array_equal(out[2 * REGION_COUNT : MOVED], np.repeat([1, -1], PATTERNS // 2))
    # Across and turn change sign, along does not; lids and jaw stay.
    np.testing.assert_allclose(out[HEAD : HEAD + 5], (-1, 2, -3, -40, 50))
    np.testing.assert_allclose(out[-2:], (0.2, 0.3))
