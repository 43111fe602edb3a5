"""Marks on the faces."""

import itertools
import math

import numpy as np
import pytest

from realtime_mer.output.overlay import BACKGROUND, DIM, GREEN, OVAL, YELLOW, FaceMarks, Layout
from realtime_mer.results import FaceState, Interval
from tests.realtime_mer.output.overlay.drawing import SIZES, analysis, drawn, event, face


def test_marks_stay_near_the_face():
    plain = drawn(analysis(), elements=[FaceMarks()])
    marked = drawn(analysis(faces=[face()]), elements=[FaceMarks()])
    ys, xs = np.nonzero((plain != marked).any(-1))
    assert 235 < xs.min() < 245
    assert 395 < xs.max() < 405
    assert 130 < ys.min() < 140
    assert 340 < ys.max() < 350
    # And they are discreet: lines, not a mask.
    assert len(xs) < 0.15 * (xs.max() - xs.min()) * (ys.max() - ys.min())


@pytest.mark.parametrize(
    ("state", "colour"),
    [
        ({}, GREEN),
        ({"window": Interval(-0.1, 0.0, 0.0)}, YELLOW),
        ({"window": Interval(-0.1, 0.0, 0.0), "nuisances": ["blink"]}, DIM),
        # The limits of detection tell more than what hinders.
        ({"nuisances": ["speech"], "limits": (0.8, 2.0, 4.0)}, GREEN),
        ({"limits": (2.0, 2.0, 4.0)}, DIM),
    ],
)
def test_outline_shows_the_state(state, colour):
    picture = drawn(analysis(faces=[face(**state)], level=0), elements=[FaceMarks()])
    outline = picture[130:350, 236:244].reshape(-1, 3).max(0).astype(float)
    wanted = np.array(colour, float)
    assert outline / outline.max() == pytest.approx(wanted / wanted.max(), abs=0.12)


def test_fresh_event_is_written_beside_the_face_and_goes_away():
    fresh = drawn(analysis(0, faces=[face()], events=[event(0.0)]), elements=[FaceMarks()])
    ys, _ = np.nonzero((fresh[:, :640] == BACKGROUND).all(-1))
    assert len(ys) > 100, "no label"
    assert ys.max() < 136, "the label hides the face"
    frames = [analysis(k, faces=[face()], events=[event(0.0)] if k == 0 else []) for k in (0, 60)]
    later = drawn(*frames, elements=[FaceMarks()])
    assert not (later[:, :640] == BACKGROUND).all(-1).any()


@pytest.mark.parametrize("centre", [(0.0, 0.0), (1.0, 0.1), (0.5, 1.0), (-3.0, 0.5), (0.5, 0.1)])
def test_faces_beyond_the_edge_are_no_error(centre):
    drawn(analysis(faces=[face(centre=centre)], events=[event(0.0)]))


def test_face_without_finite_landmarks_is_left_out():
    broken = FaceState(0, np.full((478, 2), np.nan, np.float32), math.nan)
    assert (drawn(analysis(faces=[broken]), elements=[FaceMarks()])[:, :640] == 90).all()


def glass(limits, size=(640, 480), **state):
    """Where a face's glass is drawn, (y, x), and the picture."""
    with_limits = face(size, limits=limits, **state)
    picture = drawn(analysis(size=size, faces=[with_limits]), elements=[FaceMarks()])
    video = Layout.of(*size).video.of(picture)
    ys, xs = np.nonzero((video == BACKGROUND).all(-1))
    return video[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1], (xs.min(), xs.max())


def test_glass_beside_a_face_fills_where_the_face_can_be_read():
    for limits in ((0.8, 0.8, 0.8), (0.8, 3.0, 0.8), (3.0, 3.0, 3.0), (1.5, 1.51, 3.0)):
        image, (left, _) = glass(limits)
        assert left >= 400, "beside the outline, not on it"
        thirds = np.array_split(image, 3)
        filled = [(third == GREEN).all(-1).mean() > 0.3 for third in thirds]
        assert filled == [limit <= 1.5 for limit in limits]


def test_without_limits_there_is_no_glass():
    picture = drawn(analysis(faces=[face()]), elements=[FaceMarks()])
    assert not (picture[:, :640] == BACKGROUND).all(-1).any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("centre", [(0.0, 0.0), (1.0, 0.5), (0.5, 1.0), (1.4, 0.5)])
def test_glass_stays_in_the_picture(size, centre):
    limits = (0.8, 3.0, 0.8)
    drawn(analysis(size=size, faces=[face(size, limits=limits, centre=centre)]))


def test_glasses_of_neighbours_cover_no_face():
    left = face(identity=0, centre=(0.3, 0.5), limits=(0.8, 0.8, 0.8))
    right = face(identity=1, centre=(0.56, 0.5), limits=(0.8, 0.8, 0.8))
    picture = drawn(analysis(faces=[left, right], level=0), elements=[FaceMarks()])
    ys, xs = np.nonzero((picture[:, :640] == GREEN).all(-1))
    for seen in (left, right):
        oval = seen.landmarks[list(OVAL)]
        centre, radius = oval.mean(0), np.ptp(oval, axis=0) / 2
        inside = ((xs - centre[0]) / radius[0]) ** 2 + ((ys - centre[1]) / radius[1]) ** 2 < 0.9
        assert not inside.any()


def test_glass_changes_at_the_pace_of_reading():
    fast = [analysis(k, faces=[face(limits=(0.8, 0.8, 0.8 if k % 2 else 3.0))]) for k in range(20)]
    pictures = [drawn(*fast[: k + 1], elements=[FaceMarks()]).tobytes() for k in range(20)]
    changes = sum(a != b for a, b in itertools.pairwise(pictures))
    assert changes <= 20 / 30 / 0.25


def test_tags_avoid_every_face():
    # The second face is right above the first: no room for a tag between them.
    below, above = face(identity=0, centre=(0.5, 0.68)), face(identity=1, centre=(0.5, 0.22))
    picture = drawn(analysis(faces=[below, above]), elements=[FaceMarks()])
    tags = (Layout.of(640, 480).video.of(picture) == BACKGROUND).all(-1)
    assert tags.sum() > 1000
    ys, xs = np.nonzero(tags)
    for seen in (below, above):
        oval = seen.landmarks[list(OVAL)]
        (left, top), (right, bottom) = oval.min(0), oval.max(0)
        assert not ((left < xs) & (xs < right) & (top < ys) & (ys < bottom)).any()
