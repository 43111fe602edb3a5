"""The strip of the last minute."""

import dataclasses

import numpy as np
import pytest

from realtime_mer.output.overlay import (
    BACKGROUND,
    BRIGHT,
    DIM,
    GREEN,
    GRID,
    LABEL_COLOURS,
    History,
    Layout,
)
from realtime_mer.results import Baseline, Mark
from tests.realtime_mer.output.overlay.drawing import analysis, drawn, event, face, session


def strip(*analyses, size=(640, 480), **more):
    """The strip of a history, without its title."""
    return Layout.of(*size).history.of(drawn(*analyses, elements=[History()], **more))[16:]


def test_events_of_the_last_minute_are_at_their_time_in_their_colour():
    frames = [analysis(30 * t, faces=[face()]) for t in range(100)]
    frames[55] = analysis(30 * 55, faces=[face()], events=[event(55.0, "negative")])
    frames[84] = analysis(30 * 84, faces=[face()], events=[event(84.0, "positive")])
    frames[20] = analysis(30 * 20, faces=[face()], events=[event(20.0, "surprise")])
    shown = strip(*[f for k, f in enumerate(frames) if k])
    for colour, at_s in zip(LABEL_COLOURS, (54.7, 83.7), strict=False):
        xs = np.nonzero((shown == colour).all(-1))[1]
        assert np.median(xs) == pytest.approx((at_s - 39) / 60 * 239, abs=2)
    assert not (shown == LABEL_COLOURS[2]).all(-1).any(), "older than a minute"


def test_badge_has_the_label_s_letter():
    names = ("negative", "positive", "surprise", "uncertain")
    badges = [strip(analysis(0), analysis(60, events=[event(2.0, n)]))[2:17, -14:] for n in names]
    ink = [(b == BACKGROUND).all(-1)[2:-2, 2:-2].tobytes() for b in badges]
    assert len(set(ink)) == 4


def test_labels_that_begin_alike_have_signs_of_two_letters():
    names = ("sadness", "surprise", "fear")
    of = dataclasses.replace(session(), labels=names)
    last = [strip(analysis(0), analysis(60, events=[event(2.0, n)]), of=of) for n in names]
    widths = [
        np.ptp(np.nonzero((shown == colour).all(-1))[1])
        for shown, colour in zip(last, LABEL_COLOURS, strict=False)
    ]
    assert min(widths[:2]) > widths[2]


def test_mark_is_a_bright_line_at_its_time_and_is_told_for_a_moment():
    frames = [analysis(30 * t, faces=[face()]) for t in range(100)]
    plain = strip(*frames)
    frames[70] = analysis(30 * 70, faces=[face()], marks=(Mark(69.5, text="smile"),))
    shown = strip(*frames)
    assert not (plain == BRIGHT).all(-1).any()
    xs = np.nonzero((shown == BRIGHT).all((0, 2)))[0]
    assert xs.mean() == pytest.approx((69.5 - 39) / 60 * 239, abs=2)

    def title(*analyses):
        return Layout.of(640, 480).history.of(drawn(*analyses, elements=[History()]))[:16]

    usual = title(*frames[:70])
    assert (title(*frames[:71]) != usual).any()
    assert (title(*frames[:73]) == usual).all()
    frames[70] = analysis(30 * 70, faces=[face()], baselines=(Baseline(0, 50.0, 70.0),))
    assert (title(*frames[:71]) != usual).any(), "a good baseline is told, too"
    assert (title(*frames[:73]) == usual).all()


def test_lines_show_when_each_part_could_be_read():
    def limits(k):
        if k < 300:
            return (0.8, 0.8, 3.0)
        return (3.0, 0.8, 3.0) if k < 600 else (3.0, 3.0, 3.0)

    frames = [analysis(k, (64, 48), [face(limits=limits(k))]) for k in range(0, 900, 10)]
    shown = strip(*frames, size=(64, 48))
    upper, middle, lower = ((shown[y] == GREEN).all(-1) for y in (-8, -5, -2))
    columns = [round((t - 29.7 + 60) / 60 * 239) for t in (0, 10, 20)]
    for line, end in ((upper, columns[1]), (middle, columns[2])):
        (xs,) = np.nonzero(line)
        assert [xs.min(), xs.max()] == pytest.approx([columns[0], end], abs=3)
    assert not lower.any()
    assert not (shown == DIM).all(-1).any()


def test_time_without_a_face_is_hatched_and_time_hard_to_read_underlined():
    frames = []
    for k in range(600):
        seen = [] if 100 <= k < 250 else [face(nuisances=["speech"] if 400 <= k < 500 else [])]
        frames.append(analysis(k, (64, 48), seen))
    shown = strip(*frames, size=(64, 48))
    columns = np.array([(k / 30 - 20 + 60) / 60 * 239 for k in (100, 250, 400, 500)])
    hatch = (shown == GRID).all(-1).mean(0)
    left, right, hard_left, hard_right = np.rint(columns).astype(int)
    assert (hatch[left + 2 : right - 2] > 0.1).all()
    line = (shown[-1] == DIM).all(-1)
    (xs,) = np.nonzero(line)
    assert [xs.min(), xs.max()] == pytest.approx([hard_left, hard_right], abs=2)
    assert (shown[4, hard_left + 3 : hard_right - 3] != DIM).any(-1).all()
