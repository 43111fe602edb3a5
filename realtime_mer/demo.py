"""A clip with micro-expressions whose truth is known, made without a camera and without a download.

The face is scikit-image's `astronaut` (Eileen Collins, NASA, public domain). It is enlarged, put
under a slowly swaying camera with sensor noise, and its skin is moved by the fields of
`action_units` at known times; blinks are there to be left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions, vision
from skimage import data

from realtime_mer.action_units import EXPRESSIONS, expression
from realtime_mer.event import InputError, Interval, MicroExpression
from realtime_mer.flow import FACE_SIZE
from realtime_mer.landmark_model import find_landmark_model
from realtime_mer.native import silenced_stderr
from realtime_mer.registration import LAYOUT, five_points, similarity, transform

SIZE = (640, 480)
FPS = 30.0
LENGTH_S = 20.0

# The face is 89 px wide in the photo and about 200 px in the clip.
_ENLARGE = 2.25
# Centre of the face in the photo, pixels.
_CENTRE = (226.0, 127.0)
# The enlarged photo is larger than the clip on all sides, so that the camera can sway.
_MARGIN = 32
_NOISE_SIGMA = 1.5
_JPEG_QUALITY = 95
_PEAK_PX = (2.0, 3.0)
_EVENT_S = (0.25, 0.45)
# An event in the middle of each of these, give or take _JITTER_S, and blinks in between; the quiet
# start lets a spotter learn what nothing looks like.
_EVENTS_AT_S = (4.0, 8.2, 12.4, 16.6)
_BLINKS_AT_S = (6.1, 10.3, 14.5)
_JITTER_S = 0.5
# The photo smiles and shows its teeth: units that part, press or push the lips would bend them.
_BENDS_TEETH = frozenset(("AU17", "AU24", "AU25", "AU26"))
# Closing, closed and opening, seconds: a blink falls fast and rises slowly.
_BLINK_S = (0.09, 0.04, 0.17)
# Height of the skin and lashes above the lid's edge that a blink moves, pixels of the canonical
# face: the skin unfolds, the lashes keep their form.
_LID_SKIN_PX = 17.0
_LASHES_PX = 6.0
# Face mesh indices of upper and lower lid from corner to corner, image-left and image-right eye.
_LIDS = (
    (
        (33, 246, 161, 160, 159, 158, 157, 173, 133),
        (33, 7, 163, 144, 145, 153, 154, 155, 133),
    ),
    (
        (362, 398, 384, 385, 386, 387, 388, 466, 263),
        (362, 382, 381, 380, 374, 373, 390, 249, 263),
    ),
)


@dataclass(frozen=True, slots=True)
class HiddenEvent:
    """A micro-expression that was put into the clip.

    Attributes:
        interval: Onset, apex and offset, in seconds of the clip.
        label: "negative", "positive" or "surprise".
        action_units: Their names.
        peak_px: 99th percentile displacement at the apex, pixels of the canonical face.
    """

    interval: Interval
    label: str
    action_units: tuple[str, ...]
    peak_px: float


@dataclass(frozen=True, slots=True)
class DemoTruth:
    """What is in a demo clip.

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


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of "hidden against found": one of the two may be missing, never both.

    Attributes:
        hidden: None for a false report.
        found: None for a miss.
        overlap: Intersection over union of the two intervals; 0 where one is missing.
    """

    hidden: HiddenEvent | None
    found: MicroExpression | None
    overlap: float

    @property
    def label_is_right(self) -> bool:
        return (
            self.hidden is not None
            and self.found is not None
            and self.hidden.label == self.found.label
        )


def overlap(first: Interval, second: Interval) -> float:
    """Intersection over union of two intervals in time, 0 to 1."""
    shared = min(first.offset_s, second.offset_s) - max(first.onset_s, second.onset_s)
    union = first.length_s + second.length_s - shared
    return max(0.0, shared / union) if union > 0 else 0.0


def compare(
    truth: DemoTruth, events: Sequence[MicroExpression], least: float = 0.5
) -> list[Comparison]:
    """Pairs what was hidden with what was found, one to one, best overlaps first.

    Args:
        truth: What was hidden.
        events: What was found.
        least: Overlap below which two intervals are no pair.

    Returns:
        Pairs, misses and false reports, in the order of time.
    """
    pairs = sorted(
        (
            (overlap(hidden.interval, found.interval), h, f)
            for h, hidden in enumerate(truth.events)
            for f, found in enumerate(events)
        ),
        key=lambda pair: -pair[0],
    )
    free_hidden, free_found = set(range(len(truth.events))), set(range(len(events)))
    rows = []
    for value, h, f in pairs:
        if value >= least and h in free_hidden and f in free_found:
            free_hidden.remove(h)
            free_found.remove(f)
            rows.append(Comparison(truth.events[h], events[f], value))
    rows += [Comparison(truth.events[h], None, 0.0) for h in free_hidden]
    rows += [Comparison(None, events[f], 0.0) for f in free_found]
    return sorted(rows, key=lambda row: (row.hidden or row.found).interval.onset_s)


def make_demo_clip(
    path: Path,
    seed: int = 7,
    *,
    landmark_model: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> DemoTruth:
    """Writes a clip of 20 s, 640 x 480 at 30 fps, with four micro-expressions and three blinks.

    Args:
        path: Where to write it; a motion JPEG, so the name ends in .avi. It appears once whole.
        seed: The same seed gives the same clip.
        landmark_model: The checked model file; None to look for it.
        progress: Called with the part that is done, 0 to 1.

    Raises:
        InputError: `path` cannot be written, or no landmark model is found.
        ValueError: `path` does not end in .avi.
    """
    if path.suffix.lower() != ".avi":
        raise ValueError(f"the demo clip is a motion JPEG in an .avi file, got {path.name}")
    rng = np.random.default_rng(seed)
    truth = _plan(rng)
    photo = demo_photo()
    face = PhotoFace(photo, detect_face_mesh(photo, landmark_model or find_landmark_model()))
    fields = [face.field(expression(e.action_units, rng, e.peak_px)) for e in truth.events]
    camera = SwayingCamera(rng)
    noise = rng.normal(0, _NOISE_SIGMA, (2 * SIZE[1], 2 * SIZE[0], 3)).round().astype(np.int16)

    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        writer = cv2.VideoWriter(
            str(part), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter_fourcc(*"MJPG"), FPS, SIZE
        )
        if not writer.isOpened():
            raise InputError(f"demo clip {path} cannot be written: give a writable folder")
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
        # The writer says nothing when the disk is full.
        if not _is_whole(part, truth.frames):
            raise InputError(f"demo clip {path} could not be written whole: is the disk full?")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return truth


def _is_whole(path: Path, frames: int) -> bool:
    with silenced_stderr():
        video = cv2.VideoCapture(str(path), cv2.CAP_OPENCV_MJPEG)
        video.set(cv2.CAP_PROP_POS_FRAMES, frames - 1)
        whole = video.read()[0]
        video.release()
    return whole


def _plan(rng: np.random.Generator) -> DemoTruth:
    """What is to be hidden: each label at least once, in any order."""
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


def demo_photo() -> np.ndarray:
    """The enlarged photo, BGR, the face in its middle and `_MARGIN` wider than the clip."""
    width, height = SIZE[0] + 2 * _MARGIN, SIZE[1] + 2 * _MARGIN
    place = np.array(
        [
            [_ENLARGE, 0, width / 2 - _ENLARGE * _CENTRE[0]],
            [0, _ENLARGE, height / 2 - _ENLARGE * _CENTRE[1]],
        ]
    )
    return cv2.warpAffine(
        np.ascontiguousarray(data.astronaut()[..., ::-1]),
        place,
        (width, height),
        flags=cv2.INTER_LANCZOS4,
        borderMode=cv2.BORDER_REFLECT,
    )


def detect_face_mesh(image: np.ndarray, model: Path) -> np.ndarray | None:
    """Landmarks (478, 3) in pixels of the clearest face in a BGR picture; None without a face.

    The third coordinate is depth on the same scale, smaller is nearer.
    """
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(model)),
        running_mode=vision.RunningMode.IMAGE,
    )
    rgb = np.ascontiguousarray(image[..., ::-1])
    with silenced_stderr(), vision.FaceLandmarker.create_from_options(options) as landmarker:
        found = landmarker.detect(Image(image_format=ImageFormat.SRGB, data=rgb))
    if not found.face_landmarks:
        return None
    height, width = image.shape[:2]
    return np.array([(p.x * width, p.y * height, p.z * width) for p in found.face_landmarks[0]])


class PhotoFace:
    """Brings motions of the canonical face onto the face of the photo."""

    def __init__(self, photo: np.ndarray, landmarks: np.ndarray) -> None:
        self._size = photo.shape[1::-1]
        canonical = similarity(five_points(landmarks).astype(float), LAYOUT.astype(float))
        self._to_photo = cv2.invertAffineTransform(canonical)
        rows, columns = np.mgrid[0 : self._size[1], 0 : self._size[0]].astype(np.float32)
        self._grid = np.dstack([columns, rows])
        mesh = transform(landmarks[:, :2], canonical)
        self._eyes = [(mesh[list(upper)], mesh[list(lower)]) for upper, lower in _LIDS]

    def field(self, canonical: np.ndarray) -> np.ndarray:
        """A canonical field (224, 224, 2) as one of the photo (height, width, 2), in its pixels."""
        turned = canonical @ self._to_photo[:, :2].T
        return cv2.warpAffine(
            turned.astype(np.float32), self._to_photo, self._size, flags=cv2.INTER_LINEAR
        )

    def backwards(self, field: np.ndarray) -> np.ndarray:
        """The motion that brought the skin to each pixel, where `field` says where it goes.

        Solves b(q) = field(q - b(q)); the fields are gentle, so that three rounds are plenty.
        """
        back = field
        for _ in range(3):
            back = cv2.remap(field, self._grid - back, None, cv2.INTER_LINEAR)
        return back

    def blink(self, photo: np.ndarray, closed: float) -> np.ndarray:
        """The photo with the upper lids `closed`, from 0 to 1.

        The lashes slide over the eye, which stays in place, and the skin above them unfolds. Lid
        and eye are blended, since a motion that jumps at the lid's edge cannot be interpolated.
        """
        rows, columns = np.mgrid[0:FACE_SIZE, 0:FACE_SIZE].astype(np.float32)
        fields = np.zeros((FACE_SIZE, FACE_SIZE, 2), np.float32)
        cover = np.zeros((FACE_SIZE, FACE_SIZE), np.float32)
        for upper, lower in self._eyes:
            # The lashes hang over the landmarks of the lid, and rest on the lower lid when closed.
            start = np.interp(columns[0], upper[:, 0], upper[:, 1]) + 1.5
            end = np.interp(columns[0], lower[:, 0], lower[:, 1]) + 1.5
            fall = closed * np.maximum(end - start, 0)
            fold, lashes = start - _LID_SKIN_PX, start + fall - _LASHES_PX
            unfolded = np.clip((rows - fold) / (lashes - fold), 0, 1)
            across = (columns > upper[0, 0]) & (columns < upper[-1, 0])
            fields[..., 1] += np.where(across, unfolded * fall, 0)
            # Half a pixel to either side of the edge the lid fades into the eye.
            cover += np.where(across, np.clip(start + fall + 0.5 - rows, 0, 1) * (rows > fold), 0)
        lids = cv2.remap(photo, self._grid - self.field(fields), None, cv2.INTER_CUBIC)
        share = cv2.warpAffine(cover, self._to_photo, self._size, flags=cv2.INTER_LINEAR)
        return np.rint(photo + share[..., None] * (lids.astype(np.float32) - photo)).astype(
            np.uint8
        )


def _ramp(x: float) -> float:
    """Raised cosine from 0 to 1."""
    return 0.5 - 0.5 * float(np.cos(np.pi * np.clip(x, 0, 1)))


def _strength(interval: Interval, time_s: float) -> float:
    """How far an expression has come at a time: 0, up to 1 at the apex, back to 0."""
    if time_s <= interval.apex_s:
        return _ramp((time_s - interval.onset_s) / (interval.apex_s - interval.onset_s))
    return 1 - _ramp((time_s - interval.apex_s) / (interval.offset_s - interval.apex_s))


def _closed(start_s: float, time_s: float) -> float:
    """How far a blink that starts at `start_s` has closed the eyes, 0 to 1."""
    closing, shut, opening = _BLINK_S
    since = time_s - start_s
    return min(_ramp(since / closing), 1 - _ramp((since - closing - shut) / opening))


class SwayingCamera:
    """A hand-held camera: it drifts by some pixels, tilts and zooms a little, slowly."""

    def __init__(self, rng: np.random.Generator) -> None:
        # Across and along in pixels, tilt in degrees, zoom as a fraction; two sines for each.
        largest = np.array([[3.0], [2.0], [0.5], [0.004]])
        self._amplitude = largest * rng.uniform(0.3, 1.0, (4, 2))
        self._frequency_hz = rng.uniform(0.05, 0.3, (4, 2))
        self._phase = rng.uniform(0, 2 * np.pi, (4, 2))
        rows, columns = np.mgrid[0 : SIZE[1], 0 : SIZE[0]].astype(np.float32)
        self._columns, self._rows = columns, rows

    def picture(self, photo: np.ndarray, motion: np.ndarray | None, time_s: float) -> np.ndarray:
        """The frame (480, 640, 3) uint8 at a time, in one interpolation of the photo."""
        sines = np.sin(2 * np.pi * self._frequency_hz * time_s + self._phase)
        across, along, tilt, zoom = (self._amplitude * sines).sum(1)
        centre = (SIZE[0] / 2, SIZE[1] / 2)
        to_photo = cv2.getRotationMatrix2D(centre, tilt, 1 + zoom)
        to_photo[:, 2] += across + _MARGIN, along + _MARGIN
        a = to_photo.astype(np.float32)
        where = np.dstack(
            [a[i, 0] * self._columns + a[i, 1] * self._rows + a[i, 2] for i in (0, 1)]
        )
        if motion is not None:
            where -= cv2.remap(motion, where, None, cv2.INTER_LINEAR)
        return cv2.remap(photo, where, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
