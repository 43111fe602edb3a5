"""Faces, events and analyses for the tests of the overlay, and the pictures drawn of them."""

import numpy as np

from realtime_mer.output.overlay import OVAL, HeatMap, Overlay
from realtime_mer.results import Analysis, FaceState, Interval, MicroExpression, Session
from realtime_mer.source.frame import Frame
from realtime_mer.spotting.motion import EXPRESSIVE, REGIONS

LABELS = ("negative", "positive", "surprise")
SIZES = [(640, 480), (854, 480), (1280, 720), (3840, 2160), (720, 1280), (160, 120), (100, 1000)]
# The panel's boxes from top to bottom.
ROWS = ("status", "tracking", "curve", "history", "events", "footer")


def session(live=False, source="clip.avi"):
    return Session(source, live, (640, 480), 30, 100, "causalnet-x", "CPU", LABELS)


def face(
    size=(640, 480),
    identity=0,
    score=0.4,
    window=None,
    nuisances=(),
    centre=(0.5, 0.5),
    quality=1.0,
    limits=None,
):
    """A face of 478 landmarks whose outline is an ellipse, a third of the frame high."""
    width, height = size
    points = np.tile(np.array([centre], np.float32) * (width, height), (478, 1))
    angles = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False)
    radius = min(width, height) / 6
    points[list(OVAL)] += np.stack([np.sin(angles), -1.3 * np.cos(angles)], 1) * radius
    points = points.astype(np.float32)
    return FaceState(identity, points, score, window, tuple(nuisances), None, quality, limits)


def event(at_s, label="surprise", face=0):
    rest = dict.fromkeys(LABELS, 0.1)
    return MicroExpression(
        face, Interval(at_s - 0.4, at_s - 0.3, at_s - 0.1), rest | {label: 0.8}, 1.7, at_s
    )


def with_picture(picture, at_s=0.0, label="positive"):
    rest = dict.fromkeys(LABELS, 0.1)
    interval = Interval(at_s - 0.4, at_s - 0.3, at_s - 0.1)
    return MicroExpression(0, interval, rest | {label: 0.8}, 3.0, at_s, picture)


def analysis(
    k=0,
    size=(640, 480),
    faces=(),
    events=(),
    level=90,
    fps=30.0,
    dropped=0,
    image=None,
    latency_s=0.012,
    **more,
):
    if image is None:
        image = np.full((size[1], size[0], 3), level, np.uint8)
    frame = Frame(k, k / 30, image, 0.0)
    return Analysis(frame, tuple(faces), tuple(events), (), latency_s, fps, dropped, **more)


def drawn(*analyses, elements=None, of=None, mirrored=False, details=True):
    overlay = Overlay(elements)
    overlay.view.mirrored, overlay.view.details = mirrored, details
    overlay.begin(of or session())
    for a in analyses:
        overlay.update(a)
    return overlay.picture().copy()


def count(picture, colour, tolerance=12):
    return int((np.abs(picture.astype(int) - colour).max(-1) <= tolerance).sum())


def moving(tracked, **pixels):
    """The state of a real face whose regions move; write blanks in their names as underscores."""
    motion = np.zeros((EXPRESSIVE, 2), np.float32)
    for name, size in pixels.items():
        motion[list(REGIONS).index(name.replace("_", " "))] = (0.6 * size, -0.8 * size)
    points = np.ascontiguousarray(tracked.landmarks[:, :2])
    return FaceState(0, points, 0.4, None, (), motion)


def centre_of(tracked, region):
    return tracked.landmarks[list(REGIONS[region]), :2].mean(0).astype(float)


def heat_of(astronaut, state, **view):
    """Where the heat map changes a photo: (height, width), and its picture."""
    plain = drawn(analysis(image=astronaut), elements=[], **view)
    picture = drawn(analysis(image=astronaut, faces=[state]), elements=[HeatMap()], **view)
    return np.abs(picture.astype(int) - plain).sum(-1), picture
