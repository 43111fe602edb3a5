"""Marks on the faces."""

import math

import numpy as np
import pytest

from realtime_mer.output.overlay import BACKGROUND, DIM, GREEN, OVAL, YELLOW, FaceMarks, Layout
from realtime_mer.results import FaceState, Interval
from tests.realtime_mer.output.overlay.drawing import analysis, drawn, event, face


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
