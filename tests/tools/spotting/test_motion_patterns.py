"""Patterns stand out against what a face does by itself, and know left from right."""

import numpy as np
import pytest

from realtime_mer.demo.action_units import expression
from realtime_mer.errors import InputError
from realtime_mer.spotting.motion import FACE_CELLS
from realtime_mer.spotting.signals import PATTERN_SHAPE, PATTERNS
from tests.signals import write_signals
from tools.spotting.motion_patterns import (
    PARITY,
    find_patterns,
    mirrored_cells,
    natural_motions,
    patterns_between,
)

COUNT = len(FACE_CELLS)


@pytest.fixture(scope="module")
def motions() -> tuple[np.ndarray, np.ndarray]:
    """(n, cells, 2) natural motions along ten directions, and responses that share three."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(13, 2 * COUNT)) / np.sqrt(2 * COUNT)
    natural = 3 * rng.normal(size=(600, 10)) @ directions[:10] + 0.02 * rng.normal(
        size=(600, 2 * COUNT)
    )
    events = rng.normal(size=(300, 6)) @ directions[7:]
    return natural.reshape(-1, COUNT, 2), events.reshape(-1, COUNT, 2)


def test_patterns_see_responses_more_than_natural_motion(motions):
    natural, responses = motions
    patterns = patterns_between(natural, responses)
    assert patterns.shape == PATTERN_SHAPE
    assert patterns.dtype == np.float32
    natural_seen, seen = (m.reshape(len(m), -1) @ patterns for m in (natural, responses))
    # Variance 1 or less, since some was added for motions that are not in the data.
    assert natural_seen.std(0).max() < 1.01
    raw = np.linalg.norm(responses.reshape(300, -1)) / np.linalg.norm(natural.reshape(600, -1))
    best = seen.std(0)[[0, PATTERNS // 2]] / natural_seen.std(0)[[0, PATTERNS // 2]]
    assert best.min() > 5 * raw


def test_on_a_mirrored_face_half_of_them_change_their_sign(motions):
    natural, responses = motions
    patterns = patterns_between(natural, responses)
    seen = responses.reshape(300, -1) @ patterns
    mirrored = mirrored_cells(responses).reshape(300, -1) @ patterns
    np.testing.assert_allclose(mirrored, PARITY * seen, atol=1e-4 * np.abs(seen).max())


def test_cells_mirrored_twice_are_the_same():
    cells = np.random.default_rng(1).normal(size=(4, COUNT, 2)).astype(np.float32)
    np.testing.assert_array_equal(mirrored_cells(mirrored_cells(cells)), cells)


def test_patterns_are_found_in_files(tmp_path, astronaut_face):
    files = [
        write_signals(tmp_path / f"one.{i}.npz", astronaut_face, noise_px=0.05, seed=i)
        for i in range(2)
    ]
    rng = np.random.default_rng(0)
    assert natural_motions(files[0], rng).shape[1:] == (COUNT, 2)
    assert find_patterns(files, [expression(("AU12",))], rng).shape == PATTERN_SHAPE
    hidden = [write_signals(tmp_path / "two.1.npz", astronaut_face, events=[(1, 1.2, 1.4, 0)])]
    with pytest.raises(InputError, match="even takes"):
        find_patterns(hidden, [expression(("AU12",))], rng)


def test_natural_motion_is_not_taken_across_the_moment_when_a_face_starts_afresh(
    tmp_path, astronaut_face
):
    whole = write_signals(tmp_path / "one.0.npz", astronaut_face, noise_px=0.05)
    parts = write_signals(
        tmp_path / "two.0.npz", astronaut_face, noise_px=0.05, restarted=range(0, 400, 3)
    )
    moved = (natural_motions(path, np.random.default_rng(0)) for path in (whole, parts))
    # A part lasts 0.1 s, less than the time over which natural motion is taken.
    assert [len(m) > 0 for m in moved] == [True, False]
