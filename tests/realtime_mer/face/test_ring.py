"""The ring keeps the newest faces, and no more memory than at the start."""

import tracemalloc

import numpy as np
import pytest

from realtime_mer.face.registration import CanonicalFace
from realtime_mer.face.ring import RingBuffer

FPS = 30.0


def numbered(number: int) -> CanonicalFace:
    """A face that differs from all others, everywhere in it."""
    return CanonicalFace(
        np.full((224, 224), number % 256, np.uint8),
        np.full((478, 3), number, np.float32),
        np.full((2, 3), float(number)),
    )


def filled(length_s: float, count: int) -> RingBuffer:
    ring = RingBuffer(length_s, FPS)
    for i in range(count):
        ring.append(i / FPS, numbered(i))
    return ring


def number_of(face: CanonicalFace) -> int:
    number = int(face.grey[0, 0])
    # Picture, landmarks and matrix of one moment stay together.
    assert (face.grey == number).all()
    assert (face.landmarks == number % 256).all()
    assert (face.matrix == number % 256).all()
    return number


@pytest.mark.parametrize("count", [1, 2, 8, 9, 29])
def test_the_last_moments_are_kept(count):
    length_s = 8 / FPS
    ring = filled(length_s, count)
    newest_s = (count - 1) / FPS
    kept = [i for i in range(count) if i / FPS >= newest_s - length_s - 1e-9]
    assert len(ring) >= len(kept)
    assert [number_of(ring.at(i / FPS)) for i in kept] == kept


@pytest.mark.parametrize("fps", [200, 480, 1000])
def test_a_fast_source_does_not_shorten_the_time_that_is_kept(fps):
    ring = RingBuffer(1.5, 200)
    for i in range(3 * fps):
        ring.append(i / fps, numbered(i))
    newest_s = (3 * fps - 1) / fps
    for ago_s in (0.1, 0.5, 1.0, 1.45, 1.5):
        at_s = float(ring.at(newest_s - ago_s).matrix[0, 0]) / fps
        # Half of the distance at which 200 faces a second lie, and a frame.
        assert at_s == pytest.approx(newest_s - ago_s, abs=0.0025 + 1 / fps)
    assert ring.at(newest_s).matrix[0, 0] == 3 * fps - 1


def test_of_frames_that_come_in_pairs_one_each_is_kept():
    ring = RingBuffer(1.0, 30.0)
    times = [k / 10 + late_s for k in range(10) for late_s in (0.0, 0.001)]
    for i, time_s in enumerate(times):
        ring.append(time_s, numbered(i))
    assert [number_of(ring.at(k / 10)) // 2 for k in range(10)] == list(range(10))
    assert number_of(ring.at(times[-1])) == len(times) - 1


@pytest.mark.parametrize(
    ("time_s", "expected"),
    [
        (5 / 30 - 0.001, 5),
        (5 / 30 + 0.016, 5),
        (5 / 30 + 0.018, 6),
        (12 / 30, 12),
        (99.0, 12),  # after the newest
    ],
)
def test_the_nearest_in_time_is_given(time_s, expected):
    assert number_of(filled(8 / FPS, 13).at(time_s)) == expected


def test_before_all_that_is_kept_the_oldest_is_given():
    ring = filled(8 / FPS, 13)
    oldest = number_of(ring.at(-9.0))
    assert oldest == 13 - len(ring)


def test_what_was_taken_out_or_put_in_is_not_changed_by_others():
    ring, face = RingBuffer(2 / FPS, FPS), numbered(1)
    ring.append(0.0, face)
    face.grey[:] = 77
    taken = ring.at(0.0)
    assert number_of(taken) == 1
    taken.grey[:] = 88
    taken.matrix[:] = 88
    assert number_of(ring.at(0.0)) == 1
    for i in range(2, 4):
        ring.append(float(i), numbered(i))
    assert (taken.grey == 88).all()


@pytest.mark.parametrize("length_s", [-1.0, 0.0, 0.5 / FPS])
def test_a_ring_that_can_hold_no_motion_is_refused(length_s):
    with pytest.raises(ValueError, match="holds no motion"):
        RingBuffer(length_s, FPS)


def test_memory_is_fixed_at_the_start():
    ring = filled(10 / FPS, 10)
    tracemalloc.start()
    try:
        for i in range(10, 400):
            ring.append(i / FPS, numbered(i))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Some faces' landmarks took the place of others; a leak would be 20 MB.
    assert grown < 200_000
