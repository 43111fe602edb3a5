"""Training windows hold what their targets say, and only from unbroken stretches of a face."""

import dataclasses

import numpy as np
import pytest

from realtime_mer.demo.action_units import expression
from realtime_mer.spotting.motion import REGIONS
from realtime_mer.spotting.signals import PATTERN_SHAPE, PATTERNS, ROW, STEP_S
from realtime_mer.spotting.spotter import MACRO_DELAY_S
from tests.signals import write_signals
from tools.spotting.windows import (
    DELAY_S,
    DELAY_TOLERANCE_S,
    LID_LEVELS,
    MOVED,
    STEPS,
    TARGETS,
    Background,
    WindowMaker,
    course,
    drawn_motions,
    likelihoods,
    load_background,
    measured_motions,
    mirrored,
)

NAMES = list(REGIONS)
COUNT = len(NAMES)
HEAD = MOVED + COUNT
PLACE_X = HEAD + 3


def background(
    times: np.ndarray | None = None,
    rows: np.ndarray | None = None,
    motion: float = 1.0,
    events: tuple[tuple[float, ...], ...] = (),
    restlessness: float = 0.0,
) -> Background:
    """A face that does nothing by itself, with one motion: all regions to the right and back.

    Of the patterns all are moved by it as well.
    """
    times = np.arange(0, 15, 1 / 60) if times is None else times
    rows = np.zeros((len(times), ROW), np.float32) if rows is None else rows
    rise = np.zeros((1, MOVED), np.float32)
    rise[:, : 2 * COUNT : 2] = rise[:, 2 * COUNT :] = motion
    events = np.array(events, float).reshape(-1, 5)
    blinks = np.zeros((1, len(LID_LEVELS), MOVED), np.float32)
    return Background("quiet", True, times, rows, rise, -rise, blinks, events, restlessness)


def events_of(targets: np.ndarray) -> list[tuple[float, float, float]]:
    """(onset, offset, apex), in steps of the window, of the micro-expressions marked in it."""
    found: list[tuple[float, float, float]] = []
    for i in np.flatnonzero(targets[:, 3] > 0):
        since, length, apex = targets[i, 2:5]
        offset = i - since / STEP_S
        onset = offset - length / STEP_S
        if not found or abs(found[-1][1] - offset) > 0.2:
            found.append((onset, offset, onset + apex * (offset - onset)))
    return found


def test_targets_lie_where_the_motion_was_put():
    # So strong that the noise which is added on purpose does not matter.
    maker = WindowMaker([background(motion=20.0)], seed=1)
    right = []
    for _ in range(60):
        rows, targets = maker.window()
        # All regions move alike but for their gains, and mirrored windows the other way.
        moved = np.abs(rows[:, : 2 * COUNT : 2].mean(1))
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
    maker = WindowMaker([background()], seed=2)
    marks = 0
    for _ in range(30):
        _, targets = maker.window()
        ends = targets[targets[:, 0] == 1]
        # Marked steps tell of their offset and length, and count in full.
        assert (np.abs(ends[:, 2] - DELAY_S) <= DELAY_TOLERANCE_S + 1e-6).all()
        assert (ends[:, 3] > 0).all()
        assert (ends[:, 5] == 1).all()
        # On either side of them a step counts for neither answer.
        marked = np.flatnonzero(targets[:, 0])
        for i in marked:
            for j in (i - 1, i + 1):
                if 0 <= j < STEPS:
                    assert targets[j, 0] == 1 or targets[j, 5] == 0
        marks += len(marked)
        # Whoever says "under way" has seen its beginning, and not its end long ago.
        for i in np.flatnonzero(targets[:, 1]):
            told = [(a, b) for a, b, _ in events_of(targets) if a - 1 < i < b + 0.15 / STEP_S + 1]
            assert told or i > STEPS - 20
    assert marks > 60


def with_one_event(onset: float, apex: float, offset: float, macro: bool) -> Background:
    """All regions go 20 px to the right and back: what the rows of the clip hold already."""
    times = np.arange(0, 8, 1 / 60)
    rows = np.zeros((len(times), ROW), np.float32)
    up, down, _ = course(times, onset, apex, offset, 1.0, 1.0)
    rows[:, : 2 * COUNT : 2] = 20 * (up - down)[:, None]
    return background(times, rows, 0.0, ((onset, apex, offset, macro, 20.0),))


def test_what_is_already_in_a_clip_is_marked_where_it_lies():
    maker = WindowMaker([with_one_event(4.0, 4.2, 4.4, macro=False)], seed=11)
    seen = 0
    for _ in range(20):
        rows, targets = maker.window()
        moved = np.abs(rows[:, : 2 * COUNT : 2].mean(1))
        for onset, offset, apex in events_of(targets):
            # The others, which are added, move nothing.
            if onset > 2 and offset < STEPS - 3 and moved[round(apex)] > 10:
                seen += 1
                assert abs(int(np.argmax(moved)) - apex) <= 1.5
                assert moved[int(onset) - 1] < 3
                assert moved[int(offset) + 2] < 3
    assert seen > 10


def test_what_drowns_in_restlessness_counts_for_nothing():
    calm = WindowMaker([background(motion=1.0)], seed=15)
    restless = WindowMaker([background(motion=1.0, restlessness=1000.0)], seed=15)
    for _ in range(10):
        rows, marked = calm.window()
        same, passed = restless.window()
        np.testing.assert_array_equal(rows, same)
        assert not passed[:, 0].any()
        # No answer is asked for where the other window asks for an end.
        assert not passed[marked[:, 0] == 1, 5].any()


@pytest.mark.parametrize("events", [(), ((2.5, 2.7, 2.9, 0, 1.0),)])
def test_what_drowns_in_what_the_face_does_right_then_counts_for_nothing(events):
    times = np.arange(0, 15, 1 / 60)
    rows = np.zeros((len(times), ROW), np.float32)
    calm = WindowMaker([background(times, rows, events=events)], seed=16)
    rows = rows.copy()
    rows[:, 2 * COUNT : MOVED] = 1e4 * times[:, None]
    moving = WindowMaker([background(times, rows, events=events)], seed=16)
    told = 0
    for _ in range(20):
        # The loss begins after a second, and what was before the window is not seen.
        marked, passed = calm.window()[1][30:], moving.window()[1][30:]
        told += marked[:, 0].sum()
        assert not passed[:, 0].any()
        assert not passed[marked[:, 0] == 1, 5].any()
    assert told > 20


def test_restless_faces_are_drawn_more_seldom():
    times = np.arange(0, 15, 1 / 60)
    calm, restless = (background(times, restlessness=r) for r in (1.0, 40.0))
    weights = likelihoods([calm, restless])
    assert weights[0] == pytest.approx(10 * weights[1])


def test_macro_expressions_are_marked_half_a_second_late():
    maker = WindowMaker([with_one_event(2.5, 3.5, 4.5, macro=True)], seed=12)
    delay, seen = MACRO_DELAY_S / STEP_S, 0
    for _ in range(20):
        rows, targets = maker.window()
        moved = np.abs(rows[:, : 2 * COUNT : 2].mean(1)) > 6
        under_way = np.flatnonzero(moved[: STEPS - 16])
        if len(under_way) < 20:
            continue
        seen += 1
        late = (under_way + delay).round().astype(int)
        assert targets[late, 6].all()
        # What is marked is a macro-expression's middle, and no micro-expression ends there.
        assert not targets[late, 0].any()
    assert seen > 10


def test_nobody_knows_when_people_in_videos_smile():
    real = dataclasses.replace(background(motion=0.0), still=False)
    for maker, weight in ((WindowMaker([real], 13), 0), (WindowMaker([background()], 13), 1)):
        quiet = [t for _, t in (maker.window() for _ in range(20))]
        told = np.concatenate([t[t[:, 6] == 0, 7] for t in quiet])
        assert np.mean(told == weight) > 0.7
        assert weight or not told.any()


def test_a_motion_runs_from_onset_over_apex_to_offset_and_fades():
    times = np.array([0.0, 1.0, 1.1, 1.2, 1.35, 1.5, 2.5])
    up, down, left = course(times, 1.0, 1.2, 1.5, 1.0, 0.5)
    np.testing.assert_allclose(up, [0, 0, 0.5, 1, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(down, [0, 0, 0, 0, 0.5, 1, 1], atol=1e-6)
    np.testing.assert_allclose(left, [1] * 6 + [np.exp(-2)], atol=1e-6)


@pytest.mark.parametrize("motion", [0.0, 20.0])
def test_a_window_shows_nothing_but_noise_and_the_motions_put_in(motion):
    maker = WindowMaker([background(motion=motion)], seed=3)
    largest = max(np.abs(maker.window()[0][:, : 2 * COUNT]).max() for _ in range(20))
    assert largest > 20 if motion else largest < 5


def test_the_same_seed_gives_the_same_windows():
    first, again, other = (WindowMaker([background()], seed) for seed in (5, 5, 6))
    for _ in range(3):
        one, two, three = first.window(), again.window(), other.window()
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])
        assert np.abs(one[0] - three[0]).max() > 0


def test_a_batch_is_so_many_windows():
    rows, targets = WindowMaker([background()], seed=7).batch(3)
    windows = WindowMaker([background()], seed=7)
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
    maker = WindowMaker([background(times, rows, motion=0.0)], seed=8)
    sides = set()
    for _ in range(60):
        window, _ = maker.window()
        assert np.isfinite(window).all()
        place = np.abs(window[:, PLACE_X])
        # Another stretch may be added on top, but no window jumps from one to the other.
        assert np.ptp(place) < 1
        sides.add(round(float(place[0]) / 5000))
    assert {0, 1} <= sides


@pytest.mark.parametrize("length_s", [0.2, 1.5])
def test_a_clip_too_short_for_a_window_is_left_out(length_s):
    short = background(np.arange(0, length_s, 1 / 30), motion=1000.0)
    maker = WindowMaker([short, background(motion=0.0)], seed=9)
    assert max(np.abs(maker.window()[0][:, : 2 * COUNT]).max() for _ in range(10)) < 5


@pytest.mark.parametrize("fps", [12, 15, 30, 60, 200])
def test_backgrounds_of_any_frame_rate_give_whole_windows(fps):
    times = np.arange(0, 13, 1 / fps)
    rows = np.zeros((len(times), ROW), np.float32)
    rows[:, PLACE_X + 1] = times
    maker = WindowMaker([background(times, rows)], seed=10)
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
    row[0, 2 * COUNT : MOVED] = 1
    row[0, MOVED + NAMES.index("lip corner left")] = 6  # its trust goes with it
    row[0, HEAD : HEAD + 5] = 1, 2, 3, 40, 50
    row[0, -2:] = 0.2, 0.3
    out = mirrored(row)[0]
    np.testing.assert_allclose(out[right : right + 2], (1.5, -0.8))
    assert not out[left : left + 2].any()
    assert out[MOVED + NAMES.index("lip corner right")] == 6
    # Half of the patterns are the same on both sides.
    np.testing.assert_array_equal(out[2 * COUNT : MOVED], np.repeat([1, -1], PATTERNS // 2))
    # Across and turn change sign, along does not; lids and jaw stay.
    np.testing.assert_allclose(out[HEAD : HEAD + 5], (-1, 2, -3, -40, 50))
    np.testing.assert_allclose(out[-2:], (0.2, 0.3))


def test_a_motion_is_seen_on_the_face_of_the_background(tmp_path, astronaut_face):
    brows, smile = expression(("AU1", "AU2")), expression(("AU12",))
    patterns = np.zeros(PATTERN_SHAPE, np.float32)
    patterns[1::2, 0] = 1  # all that goes down
    found = load_background(
        write_signals(
            tmp_path / "someone.2.npz",
            astronaut_face,
            events=[(2.0, 2.2, 2.4, 0.0), (5.0, 6.0, 7.0, 1.0)],
        ),
        [(brows, -brows), (smile, -0.5 * smile)],
        patterns,
        np.random.default_rng(0),
    )
    assert (found.name, found.still, found.rows.shape) == ("someone", True, (400, ROW))
    np.testing.assert_allclose(found.rows[:, -2:], [[0.1, 0.1]] * 400)
    # A face that does nothing: the last column tells that it went nowhere.
    assert found.events.tolist() == [[2.0, 2.2, 2.4, 0.0, 0.0], [5.0, 6.0, 7.0, 1.0, 0.0]]
    assert found.restlessness == 0

    def regions(moved: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(NAMES, moved[: 2 * COUNT].reshape(-1, 2), strict=True))

    raised, smiled = map(regions, found.rise)
    assert raised["inner brow left"][1] < -0.3
    assert abs(raised["lip corner left"][1]) < 0.1
    assert smiled["lip corner right"][0] > 0.2
    assert smiled["lip corner left"][0] < -0.2
    assert np.abs(smiled["outer brow left"]).max() < 0.1
    assert found.rise[0, 2 * COUNT] < -10
    assert not found.rise[:, 2 * COUNT + 1 :].any()
    # Back is nearly there and back, through one and the same face.
    there, back = found.rise[:, : 2 * COUNT], found.fall[:, : 2 * COUNT]
    for rise, fall, share in zip(there, back, (1.0, 0.5), strict=True):
        assert rise @ fall / np.linalg.norm(rise) ** 2 == pytest.approx(-share, abs=0.25)
    # Blinks begin with an open eye, and close it by and by; the chin knows nothing of them.
    assert found.blinks.shape == (12, len(LID_LEVELS), MOVED)
    assert np.abs(found.blinks[:, 0]).max() < 0.05
    for blink in found.blinks:
        eyes = [np.hypot(*regions(moved)["eye left"]) for moved in blink]
        assert eyes[1] < max(eyes[2:])
        assert max(eyes) > 3 * np.hypot(*regions(blink[-1])["chin"])
    assert max(regions(blink[-1])["eye right"][1] for blink in found.blinks) > 2
    window, _ = WindowMaker([found], seed=0).window()
    assert np.isfinite(window).all()


def test_motions_measured_from_flow_images_keep_their_directions():
    rng = np.random.default_rng(0)
    image = rng.integers(100, 120, (28, 28, 3)).astype(np.uint8)
    image[18:24, 4:9, 2] = 240  # to the right, lower left
    image[4:8, 16:22, 1] = 5  # upwards, upper right
    ((rise, fall),) = measured_motions(np.stack([image, image])[None])
    assert rise.shape == fall.shape == (224, 224, 2)
    assert rise[168, 52, 0] > 0.5
    assert rise[48, 152, 1] < -0.5
    # Where most of the face is, nothing moves: the median is the head's.
    assert np.abs(np.median(rise.reshape(-1, 2), 0)).max() < 0.05


def test_drawn_motions_have_size_one_and_return():
    for rise, fall in drawn_motions(6, np.random.default_rng(1)):
        assert np.percentile(np.linalg.norm(rise, axis=-1), 99) == pytest.approx(1, rel=0.05)
        cosine = (rise * fall).sum() / np.linalg.norm(rise) / np.linalg.norm(fall)
        assert cosine == pytest.approx(-1, abs=1e-3)
        assert 0.55 < np.linalg.norm(fall) / np.linalg.norm(rise) <= 1.001
