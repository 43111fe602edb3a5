"""The ring keeps the newest faces, and no more memory than at the start."""

import tracemalloc

import numpy as np
import pytest

from realtime_mer.registration import CanonicalFace
from realtime_mer.ring import RingBuffer


def numbered(number: int) -> CanonicalFace:
    """A face that can be told from others everywhere in it."""
    return CanonicalFace(
        np.full((224, 224), number % 256, np.uint8),
        np.full((478, 3), number, np.float32),
        np.full((2, 3), float(number)),
    )


def filled(capacity: int, count: int) -> RingBuffer:
    ring = RingBuffer(capacity)
    for i in range(count):
        ring.append(i / 30, numbered(i))
    return ring


def number_of(face: CanonicalFace) -> int:
    number = int(face.grey[0, 0])
    # Picture, landmarks and matrix of one moment stay together.
    assert (face.grey == number).all()
    assert (face.landmarks == number).all()
    assert (face.matrix == number).all()
    return number


@pytest.mark.parametrize(("capacity", "count"), [(2, 1), (2, 2), (2, 3), (8, 5), (8, 8), (8, 29)])
def test_only_the_newest_are_kept(capacity, count):
    ring = filled(capacity, count)
    kept = range(max(0, count - capacity), count)
    assert len(ring) == len(kept)
    assert ring.oldest_s == pytest.approx(kept[0] / 30)
    assert [number_of(ring.at(i / 30)) for i in kept] == list(kept)


@pytest.mark.parametrize(
    ("time_s", "expected"),
    [
        (-9.0, 5),  # before the oldest
        (5 / 30 - 0.001, 5),
        (5 / 30 + 0.016, 5),
        (5 / 30 + 0.018, 6),
        (12 / 30, 12),
        (99.0, 12),  # after the newest
    ],
)
def test_the_nearest_in_time_is_given(time_s, expected):
    assert number_of(filled(8, 13).at(time_s)) == expected


def test_a_cleared_ring_is_empty_and_can_be_used_again():
    ring = filled(4, 6)
    ring.clear()
    assert len(ring) == 0
    assert ring.oldest_s == np.inf
    with pytest.raises(ValueError, match="empty"):
        ring.at(0.1)
    ring.append(0.5, numbered(9))
    assert len(ring) == 1
    assert number_of(ring.at(0.0)) == 9


def test_what_was_taken_out_or_put_in_is_not_changed_by_others():
    ring, face = RingBuffer(2), numbered(1)
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


@pytest.mark.parametrize("capacity", [-1, 0, 1])
def test_a_ring_that_can_hold_no_motion_is_refused(capacity):
    with pytest.raises(ValueError, match="2 or more"):
        RingBuffer(capacity)


def test_memory_is_fixed_at_the_start():
    ring = filled(10, 10)
    tracemalloc.start()
    try:
        for i in range(10, 400):
            ring.append(i / 30, numbered(i))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Ten faces' landmarks took the place of ten others; a leak would be 20 MB.
    assert grown < 200_000
