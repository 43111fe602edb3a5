"""Overlap of intervals in seconds and in frames, and one-to-one matching by overlap."""

import pytest

from realtime_mer.results import Interval
from realtime_mer.spotting.matching import LEAST_OVERLAP, best_matches, frame_overlap, overlap


def interval(onset_s: float, offset_s: float) -> Interval:
    return Interval(onset_s, (onset_s + offset_s) / 2, offset_s)


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ((0, 1), (0, 1), 1.0),
        ((0, 1), (0.5, 1.5), 1 / 3),
        ((0, 2), (0.5, 1.5), 0.5),  # one inside the other
        ((0, 1), (1, 2), 0.0),  # they touch
        ((0, 1), (5, 6), 0.0),
        ((1, 1), (1, 1), 0.0),  # two moments share no time
        ((1, 1), (0, 2), 0.0),
    ],
)
def test_overlap_is_intersection_over_union(first, second, value):
    a, b = interval(*first), interval(*second)
    assert overlap(a, b) == pytest.approx(value)
    assert overlap(b, a) == pytest.approx(value)


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ((10, 19), (10, 19), 1.0),
        ((10, 19), (15, 24), 5 / 15),
        ((10, 19), (19, 28), 1 / 19),  # both ends count: frame 19 is in both
        ((10, 19), (20, 29), 0.0),  # the next frame
        ((10, 10), (10, 10), 1.0),  # a single frame
        ((10, 19.4), (10, 18.6), 1.0),  # rounded to whole frames
    ],
)
def test_overlap_in_frames_includes_both_ends(first, second, value):
    a, b = (interval(start / 30, end / 30) for start, end in (first, second))
    assert frame_overlap(a, b, 30.0) == pytest.approx(value)
    assert frame_overlap(b, a, 30.0) == pytest.approx(value)


def test_overlap_in_frames_depends_on_the_frame_rate():
    a, b = interval(0.0, 0.1), interval(0.1, 0.2)
    assert frame_overlap(a, b, 10.0) == pytest.approx(1 / 3)  # frames 0, 1 and 1, 2
    assert frame_overlap(a, b, 100.0) == pytest.approx(1 / 21)


def test_the_largest_overlap_is_matched_first():
    truth = [interval(0, 10), interval(5, 15)]
    found = [interval(4, 14)]  # overlaps with both by more than a third, with the second by more
    assert best_matches(truth, found, least=0.3) == [(1, 0, pytest.approx(9 / 11))]


def test_each_interval_is_matched_once():
    truth = [interval(0, 10), interval(20, 30)]
    found = [interval(0, 9), interval(0, 10), interval(1, 10), interval(20, 30)]
    assert best_matches(truth, found) == [(0, 1, 1.0), (1, 3, 1.0)]


def test_what_is_left_over_is_matched_with_its_second_best():
    truth = [interval(0, 10), interval(2, 12)]
    found = [interval(1, 10), interval(0, 7)]  # both overlap most with the first
    assert best_matches(truth, found, least=0.4) == [
        (0, 0, pytest.approx(9 / 10)),
        (1, 1, pytest.approx(5 / 12)),
    ]


@pytest.mark.parametrize(
    ("truth", "found", "matches"),
    [
        ([(0, 10)], [(0, 8), (2, 10)], [(0, 0)]),  # the earlier report
        ([(0, 8), (2, 10)], [(0, 10)], [(0, 0)]),  # the earlier truth
        ([(0, 10), (0, 10)], [(0, 10), (0, 10)], [(0, 0), (1, 1)]),
    ],
)
def test_ties_go_to_the_lower_index(truth, found, matches):
    pairs = best_matches([interval(*t) for t in truth], [interval(*f) for f in found])
    assert [(i, j) for i, j, _ in pairs] == matches


@pytest.mark.parametrize(("end", "count"), [(5.0, 1), (4.99, 0)])
def test_the_smallest_overlap_counts_as_a_match(end, count):
    assert LEAST_OVERLAP == 0.5
    assert len(best_matches([interval(0, 10)], [interval(0, end)])) == count


@pytest.mark.parametrize(
    ("truth", "found", "count"),
    [
        # In floating point, these are half or a bit less.
        ((0.1, 0.1 + 0.2), (0.1, 0.2), 1),
        ((0.7, 1.0), (0.8, 0.95), 1),
        ((3600.1, 3600.3), (3600.1, 3600.2), 1),
        ((3600.1, 3600.3), (3600.101, 3600.2), 0),  # 1 ms is missing
    ],
)
def test_half_to_the_millisecond_is_half(truth, found, count):
    assert len(best_matches([interval(*truth)], [interval(*found)])) == count
    assert len(best_matches([interval(*found)], [interval(*truth)])) == count


def test_matches_go_by_the_measure_that_is_given():
    truth, found = [interval(0, 0.1)], [interval(0.1, 0.2)]

    def in_frames(a: Interval, b: Interval) -> float:
        return frame_overlap(a, b, 10.0)

    assert best_matches(truth, found, least=0.2) == []
    assert best_matches(truth, found, least=0.2, measure=in_frames) == [
        (0, 0, pytest.approx(1 / 3))
    ]


def test_nothing_matches_nothing():
    assert best_matches([], []) == []
    assert best_matches([interval(0, 1)], []) == []
    assert best_matches([], [interval(0, 1)]) == []
