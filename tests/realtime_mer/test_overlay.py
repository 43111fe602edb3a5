"""The overlay, tested on its pictures."""

import itertools
import math
import statistics
import time

import cv2
import numpy as np
import pytest

from realtime_mer.event import Analysis, FaceState, Interval, MicroExpression, Session
from realtime_mer.frame import Frame
from realtime_mer.overlay import (
    BACKGROUND,
    BRIGHT,
    CARD_NEW,
    DIM,
    GREEN,
    LABEL_COLOURS,
    OVAL,
    YELLOW,
    EventCards,
    FaceMarks,
    Footer,
    Layout,
    Overlay,
    ScoreCurve,
    Status,
    shortened,
    text_width,
)

LABELS = ("negative", "positive", "surprise")
SIZES = [(640, 480), (854, 480), (1280, 720), (3840, 2160), (720, 1280), (160, 120), (100, 1000)]


def session(live=False, source="clip.avi"):
    return Session(source, live, (640, 480), 30, 100, "causalnet-x", "CPU", LABELS)


def face(size=(640, 480), identity=0, score=0.4, window=None, nuisances=(), centre=(0.5, 0.5)):
    """A face of 478 landmarks whose outline is an ellipse, a third of the frame high."""
    width, height = size
    points = np.tile(np.array([centre], np.float32) * (width, height), (478, 1))
    angles = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False)
    radius = min(width, height) / 6
    points[list(OVAL)] += np.stack([np.sin(angles), -1.3 * np.cos(angles)], 1) * radius
    return FaceState(identity, points.astype(np.float32), score, window, tuple(nuisances))


def event(at_s, label="surprise", face=0):
    rest = dict.fromkeys(LABELS, 0.1)
    return MicroExpression(
        face, Interval(at_s - 0.4, at_s - 0.3, at_s - 0.1), rest | {label: 0.8}, 1.7, at_s
    )


def analysis(k=0, size=(640, 480), faces=(), events=(), level=90, fps=30.0, dropped=0):
    image = np.full((size[1], size[0], 3), level, np.uint8)
    frame = Frame(k, k / 30, image, 0.0)
    return Analysis(frame, tuple(faces), tuple(events), (), 0.012, fps, dropped)


def drawn(*analyses, elements=None, of=None):
    overlay = Overlay(elements)
    overlay.begin(of or session())
    for a in analyses:
        overlay.update(a)
    return overlay.picture().copy()


def count(picture, colour, tolerance=12):
    return int((np.abs(picture.astype(int) - colour).max(-1) <= tolerance).sum())


@pytest.mark.parametrize("size", SIZES)
def test_picture_is_the_video_beside_a_panel(size):
    layout = Layout.of(*size)
    picture = drawn(analysis(size=size, level=200), elements=[])
    assert picture.shape[1::-1] == layout.size == Overlay.size_for(size)
    assert all(n % 2 == 0 for n in layout.size), "video codecs want even sizes"
    assert (layout.video.of(picture) == 200).all()
    assert (picture[:, layout.video.width :] == BACKGROUND).all()
    boxes = [layout.status, layout.curve, layout.events, layout.footer]
    for box in boxes:
        assert box.x >= layout.video.width
        assert box.x + box.width <= layout.size[0]
        assert box.y + box.height <= layout.size[1]
    for above, below in itertools.pairwise(boxes):
        assert above.y + above.height <= below.y
    # Text of 11 units is the smallest there is.
    assert 11 * layout.unit >= min(11, size[1] / 50)
    assert layout.video.width / layout.video.height == pytest.approx(size[0] / size[1], rel=0.02)


@pytest.mark.parametrize("size", SIZES)
def test_everything_is_drawn_at_every_size(size):
    seen = face(size, window=Interval(0.1, 0.2, 0.3), nuisances=["blink"])
    frames = [analysis(k, size, [seen], [event(k / 30)] if k == 20 else []) for k in range(25)]
    picture = drawn(*frames)
    layout = Layout.of(*size)
    for box in (layout.status, layout.curve, layout.events, layout.footer):
        assert (box.of(picture) != BACKGROUND).any()


def test_frame_itself_is_not_touched():
    a = analysis(faces=[face()])
    before = a.frame.image.copy()
    drawn(a)
    assert (a.frame.image == before).all()


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
def test_outline_tells_the_state(state, colour):
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
def test_faces_over_the_edge_are_no_error(centre):
    drawn(analysis(faces=[face(centre=centre)], events=[event(0.0)]))


def test_landmarks_that_are_not_known_are_left_out():
    broken = FaceState(0, np.full((478, 2), np.nan, np.float32), math.nan)
    assert (drawn(analysis(faces=[broken]), elements=[FaceMarks()])[:, :640] == 90).all()


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


SKY_LINE = LABEL_COLOURS[1]


@pytest.mark.parametrize(("score", "height"), [(0.5, 0.25), (1.0, 0.5), (2.0, 0.75), (5.0, 0.9)])
def test_score_of_one_lies_at_the_threshold_and_strong_ones_stay_inside(score, height):
    plot = curve([score] * 90)
    ys, _ = np.nonzero(np.abs(plot.astype(int) - SKY_LINE).max(-1) <= 8)
    assert 1 - ys.mean() / len(plot) == pytest.approx(height, abs=0.04)


def test_unknown_scores_and_lost_faces_leave_holes():
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


def test_cards_show_the_newest_first_and_as_many_as_fit():
    labels = ["negative", "positive", "surprise", "negative", "positive"]
    frames = [analysis(10 * k, events=[event(k / 3, label)]) for k, label in enumerate(labels)]
    picture = drawn(*frames, elements=[EventCards()])
    bar = Layout.of(640, 480).events.of(picture)[:, 1]
    colours = [LABEL_COLOURS[LABELS.index(label)] for label in reversed(labels)]
    rows = [np.flatnonzero((bar == c).all(-1)) for c in colours[:3]]
    assert all(len(r) > 30 for r in rows)
    assert rows[0].max() < rows[1].min() < rows[1].max() < rows[2].min()


def test_probability_is_the_length_of_its_bar():
    picture = drawn(analysis(events=[event(0.0, "surprise")]), elements=[EventCards()])
    card = Layout.of(640, 480).events.of(picture)[:80, 150:]
    longest = {
        name: int((card == colour).all(-1).sum(1).max())
        for name, colour in zip(LABELS, LABEL_COLOURS, strict=False)
    }
    assert longest["surprise"] == pytest.approx(8 * longest["negative"], rel=0.2)
    assert longest["negative"] == pytest.approx(longest["positive"], abs=1)


def test_drops_are_shown_and_stand_out():
    none = drawn(analysis(), elements=[Status()])
    some = drawn(analysis(dropped=3), elements=[Status()])
    assert count(none, YELLOW) == 0
    assert count(some, YELLOW) > 10


def test_figures_change_at_the_pace_of_reading():
    overlay = Overlay([Status()])
    overlay.begin(session())
    pictures = []
    for k in range(30):
        overlay.update(analysis(k, fps=30 + k))
        pictures.append(overlay.picture().tobytes())
    assert 2 <= len(set(pictures)) <= 6


def test_long_names_are_shortened_in_the_middle():
    name = "rtsp://***@a-very-long-host-name.example.org/and/an/even/longer/path/stream.sdp"
    short = shortened(name, 120, 12, 400)
    assert text_width(short, 12, 400) <= 120
    assert short.startswith("rtsp")
    assert short.endswith("sdp")
    picture = drawn(analysis(), elements=[Status(), Footer()], of=session(True, name))
    assert (picture[:, -4:] == BACKGROUND).all()


def luminance(colour):
    channels = [c / 255 for c in reversed(colour)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", [BRIGHT, DIM, YELLOW, *LABEL_COLOURS[:3]])
def test_text_is_legible_on_the_brightest_panel(colour):
    contrast = (luminance(colour) + 0.05) / (luminance(CARD_NEW) + 0.05)
    assert contrast > 3.5


def test_same_analysis_is_drawn_and_counted_once():
    overlay = Overlay()
    overlay.begin(session())
    a = analysis(faces=[face()], events=[event(0.0)])
    overlay.update(a)
    first = overlay.picture()
    first_bytes = first.tobytes()
    overlay.update(a)
    assert overlay.picture() is first
    assert first.tobytes() == first_bytes
    assert overlay._scene.event_count == 1


def test_memory_is_bounded():
    overlay = Overlay()
    overlay.begin(session())
    for k in range(3000):
        seen = [face(identity=k // 10)]  # a new face all the time
        overlay.update(analysis(k, (64, 48), seen, [event(k / 30, face=k // 10)]))
    scene = overlay._scene
    assert len(scene.scores) <= 6 * 30 / 10 + 2
    assert sum(map(len, scene.scores.values())) <= 6 * 30 + 1
    assert len(scene.events) <= 16
    assert scene.event_count == 3000


def test_drawing_costs_a_few_milliseconds():
    size = (1280, 720)
    overlay = Overlay()
    overlay.begin(session())
    times = []
    for k in range(200):
        seen = face(size, score=1 + math.sin(k / 9))
        overlay.update(analysis(k, size, [seen], [event(k / 30)] if k % 60 == 30 else []))
        started = time.thread_time()
        overlay.picture()
        times.append(time.thread_time() - started)
    # Measured: 1.7 ms. The room is for slow and busy machines.
    assert statistics.median(times) < 0.012


def test_picture_can_be_encoded():
    assert cv2.imencode(".png", drawn(analysis(faces=[face()])))[0]
