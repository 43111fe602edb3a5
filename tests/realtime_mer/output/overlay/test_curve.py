"""The curve of the spotter's score."""

import math

import numpy as np
import pytest

from realtime_mer.output.overlay import LABEL_COLOURS, Layout, ScoreCurve
from realtime_mer.results import Analysis, Interval
from realtime_mer.source.frame import Frame
from tests.realtime_mer.output.overlay.drawing import drawn, face

SKY_LINE = LABEL_COLOURS[1]


def curve(scores, dt=1 / 30, **state):
    """The plot of a history of scores."""
    frames = []
    for k, s in enumerate(scores):
        faces = [] if s is None else [face(score=s, **state)]
        image = np.zeros((480, 640, 3), np.uint8)
        frames.append(Analysis(Frame(k, k * dt, image, 0.0), tuple(faces)))
    layout = Layout.of(640, 480)
    picture = layout.curve.of(drawn(*frames, elements=[ScoreCurve()]))
    return picture[20:-20]


@pytest.mark.parametrize(("score", "height"), [(0.5, 0.25), (1.0, 0.5), (2.0, 0.75), (5.0, 0.9)])
def test_score_of_one_is_at_half_height_and_strong_ones_stay_inside(score, height):
    plot = curve([score] * 90)
    ys, _ = np.nonzero(np.abs(plot.astype(int) - SKY_LINE).max(-1) <= 8)
    assert 1 - ys.mean() / len(plot) == pytest.approx(height, abs=0.04)


def test_unknown_scores_and_lost_faces_interrupt_the_curve():
    plot = curve([0.5] * 60 + [math.nan] * 30 + [0.5] * 40 + [None] * 30 + [0.5] * 20)
    columns = (np.abs(plot.astype(int) - SKY_LINE).max(-1) <= 40).any(0)
    starts = np.flatnonzero(np.diff(columns.astype(int)) == 1)
    assert len(starts) + columns[0] == 3


def test_window_and_event_are_marked_on_the_curve():
    plain = curve([0.2] * 90)
    window = curve([0.2] * 90, window=Interval(1.0, 1.5, 2.0))
    columns = np.flatnonzero((plain != window).any((0, 2)))
    # Frame 89 is at the right edge, 2.97 s; the plot is 6 s wide.
    expected = [(t - 89 / 30 + 6) / 6 * plain.shape[1] for t in (1.0, 2.0)]
    assert [columns.min(), columns.max()] == pytest.approx(expected, abs=7)
