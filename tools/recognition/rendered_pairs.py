"""Flow pairs that the chain itself makes of clips whose truth is known, with windows that are off.

Every motion of the flow release is put onto the demo's photo, under a swaying camera with sensor
noise, and goes through the runtime's tracker, registration, dense flow and head removal. Its
window is then taken with the apex, or all three key frames, late or early. So key-frame errors are
measured on pictures, where `models.training.wrong_apex` has only a model of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from models.data import Clips
from realtime_mer.demo.photo import PhotoFace, SwayingCamera, demo_photo
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.registration import Registration
from realtime_mer.face.ring import RingBuffer
from realtime_mer.face.tracker import FaceTracker, detect_face_mesh
from realtime_mer.recognition.face_pair import FacePair
from realtime_mer.recognition.flow_pair import FLOW_SIZE
from realtime_mer.results import Interval
from realtime_mer.source.frame import Frame
from tools.spotting.windows import measured_motions

KINDS = ("apex", "window")
# Pictures a half-window: errors are whole tenths of one.
_STEPS = 10
_MARGIN_STEPS = 6
_HALF_S = (0.12, 0.22)
_PEAK_PX = (1.5, 3.0)
_NOISE_SIGMA = 1.5
# The tracker settles on the still face before the clip begins.
_SETTLE_FRAMES = 5


def _position(step: int, rise: np.ndarray, fall: np.ndarray) -> np.ndarray | None:
    """Displacement of the canonical face, `step` tenths of a half-window after the onset."""

    def ramp(x: float) -> float:
        return 0.5 - 0.5 * float(np.cos(np.pi * x))

    if step <= 0:
        return None
    if step <= _STEPS:
        return ramp(step / _STEPS) * rise
    return rise + ramp(min(step / _STEPS - 1, 1)) * fall


def window_off_by(kind: str, tenths: int) -> tuple[int, int, int]:
    """Onset, apex and offset, in steps after the true onset, of a window that is off.

    Args:
        kind: "apex": only the apex is wrong; "window": all three, by the same time.
        tenths: Tenths of a half-window; late above 0, early below.
    """
    if kind == "apex":
        return 0, _STEPS + tenths, 2 * _STEPS
    return tenths, _STEPS + tenths, 2 * _STEPS + tenths


class Renderer:
    """Renders motions onto the demo's photo and follows them. Use as a context manager."""

    def __init__(self) -> None:
        model = find_landmark_model()
        self._photo = demo_photo()
        self._face = PhotoFace(self._photo, detect_face_mesh(self._photo, model))
        self._tracker = FaceTracker(model)
        self._pair = FacePair()
        self._time_s = 0.0

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        self._tracker.close()

    def __call__(
        self, motion: tuple[np.ndarray, np.ndarray], rng: np.random.Generator, tenths: range
    ) -> np.ndarray:
        """Flow pairs (kinds, errors, 2, 28, 28, 3) uint8 of one motion (rise, fall), peak 1."""
        peak, half_s = rng.uniform(*_PEAK_PX), rng.uniform(*_HALF_S)
        rise, fall = (self._face.field(peak * field) for field in motion)
        camera = SwayingCamera(rng)
        # Far from the clip before, so that nothing is carried over.
        start_s = self._time_s + 10.0
        registration, ring = Registration(), RingBuffer(2 * _STEPS + 2 * _MARGIN_STEPS + 8)
        step_s = half_s / _STEPS
        first = -_MARGIN_STEPS - _SETTLE_FRAMES
        for index, step in enumerate(range(first, 2 * _STEPS + _MARGIN_STEPS + 1)):
            field = _position(step, rise, fall)
            backwards = None if field is None else self._face.backwards(field)
            picture = camera.picture(self._photo, backwards, step * step_s)
            noisy = picture + rng.normal(0, _NOISE_SIGMA, picture.shape).astype(np.float32)
            self._time_s = start_s + step * step_s
            image = np.clip(noisy, 0, 255).astype(np.uint8)
            faces = self._tracker.track(Frame(index, self._time_s, image, 0.0))
            if faces:
                face = registration(image, faces[0].landmarks, self._time_s)
                ring.append(self._time_s, face)
        return np.array(
            [
                [
                    self._pair(
                        ring,
                        Interval(*(start_s + s * step_s for s in window_off_by(kind, tenth))),
                    ).images
                    for tenth in tenths
                ]
                for kind in KINDS
            ]
        )


def rendered_pairs(
    clips: Clips, path: Path, advance: Callable[[], object] = lambda: None
) -> np.ndarray:
    """Flow pairs (clips, kinds, errors, 2, 28, 28, 3) uint8, errors from -6 to 6 tenths.

    They are kept in `path` (.npy), which a later call reads.
    """
    tenths = range(-_MARGIN_STEPS, _MARGIN_STEPS + 1)
    shape = len(clips), len(KINDS), len(tenths), 2, FLOW_SIZE, FLOW_SIZE, 3
    if path.exists():
        kept = np.load(path, allow_pickle=False)
        if kept.shape == shape:
            return kept
    pairs = np.zeros(shape, np.uint8)
    cv2.setNumThreads(1)
    with Renderer() as render:
        for i, motion in enumerate(measured_motions(clips.pairs)):
            pairs[i] = render(motion, np.random.default_rng(i), tenths)
            advance()
    half = path.with_suffix(".part.npy")
    np.save(half, pairs)
    os.replace(half, path)
    return pairs
