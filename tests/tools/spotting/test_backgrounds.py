"""Backgrounds hold what a face does in a clip, and what it would show of motions and blinks."""

import math

import numpy as np
import pytest

from realtime_mer.demo.action_units import expression
from realtime_mer.spotting.motion import REGIONS
from realtime_mer.spotting.signals import PATTERN_SHAPE, ROW
from tests.signals import quiet_background, write_signals
from tools.spotting.backgrounds import (
    LID_LEVELS,
    MOVED,
    REGION_COUNT,
    likelihoods,
    load_background,
    masking,
)
from tools.spotting.windows import WindowMaker

NO_PATTERNS = np.zeros(PATTERN_SHAPE, np.float32)


def test_restless_faces_are_drawn_more_seldom():
    times = np.arange(0, 15, 1 / 60)
    calm, restless = (quiet_background(times, restlessness=r) for r in (1.0, 40.0))
    weights = likelihoods([calm, restless])
    assert weights[0] == pytest.approx(math.sqrt(10) * weights[1])


def test_masking_counts_where_the_motion_moves_the_skin():
    brows, mouth = np.zeros(REGION_COUNT), np.zeros(REGION_COUNT)
    brows[:4], mouth[-7:] = 2.0, 6.0
    assert masking(brows, mouth) == 0
    assert masking(brows, mouth + 0.5 * brows) == pytest.approx(0.5)
    assert masking(mouth, brows + mouth) == pytest.approx(1.0)


def test_an_event_is_masked_by_what_its_part_of_the_face_does_before(tmp_path, astronaut_face):
    path = write_signals(
        tmp_path / "restless.0.npz", astronaut_face, noise_px=0.5, events=[(2.0, 2.2, 2.4, 0.0)]
    )
    found = load_background(path, [], NO_PATTERNS, np.random.default_rng(0))
    assert 0.3 < found.events[0, 4] < 3
    assert (found.usual > 0.1).all()


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
    # A face that does nothing masks nothing: the last column is 0.
    assert found.events.tolist() == [[2.0, 2.2, 2.4, 0.0, 0.0], [5.0, 6.0, 7.0, 1.0, 0.0]]
    assert found.restlessness == 0
    assert not found.usual.any()

    def regions(moved: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(REGIONS, moved[: 2 * REGION_COUNT].reshape(-1, 2), strict=True))

    raised, smiled = map(regions, found.rise)
    assert raised["inner brow left"][1] < -0.3
    assert abs(raised["lip corner left"][1]) < 0.1
    assert smiled["lip corner right"][0] > 0.2
    assert smiled["lip corner left"][0] < -0.2
    assert np.abs(smiled["outer brow left"]).max() < 0.1
    assert found.rise[0, 2 * REGION_COUNT] < -10
    assert not found.rise[:, 2 * REGION_COUNT + 1 :].any()
    # The fall is nearly the rise reversed: both are responses of one face.
    there, back = found.rise[:, : 2 * REGION_COUNT], found.fall[:, : 2 * REGION_COUNT]
    for rise, fall, share in zip(there, back, (1.0, 0.5), strict=True):
        assert rise @ fall / np.linalg.norm(rise) ** 2 == pytest.approx(-share, abs=0.25)
    # Blinks begin with an open eye and close it; the chin stays.
    assert found.blinks.shape == (12, len(LID_LEVELS), MOVED)
    assert np.abs(found.blinks[:, 0]).max() < 0.05
    for blink in found.blinks:
        eyes = [np.hypot(*regions(moved)["eye left"]) for moved in blink]
        assert eyes[1] < max(eyes[2:])
        assert max(eyes) > 3 * np.hypot(*regions(blink[-1])["chin"])
    assert max(regions(blink[-1])["eye right"][1] for blink in found.blinks) > 2
    window, _ = WindowMaker([found], seed=0).window()
    assert np.isfinite(window).all()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("someone.2.npz", "someone"),
        ("Wan2.2_video.10.npz", "Wan2.2_video"),
        ("bob.bio.video.0.npz", "bob.bio.video"),
        ("bob.io.video.0.npz", "bob.io.video"),
    ],
)
def test_a_background_has_the_name_of_its_video(tmp_path, astronaut_face, file, name):
    path = write_signals(tmp_path / file, astronaut_face)
    found = load_background(path, [], NO_PATTERNS, np.random.default_rng(0))
    assert found.name == name


def test_no_window_spans_the_moment_when_a_face_starts_afresh(tmp_path, astronaut_face):
    # At 200 the face jumps; at 300 it comes back after two frames without it.
    path = write_signals(
        tmp_path / "jumps.0.npz", astronaut_face, absent=(298, 299), restarted=(0, 200, 300)
    )
    found = load_background(path, [], NO_PATTERNS, np.random.default_rng(0))
    unseen = np.flatnonzero(np.isnan(found.rows).any(1))
    np.testing.assert_array_equal(unseen, [200, 298, 299])
