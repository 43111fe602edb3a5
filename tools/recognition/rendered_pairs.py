"""Flow pairs that the chain makes of clips whose true key frames are known, with wrong windows.

Every motion of the flow release is put onto the demo's photo, under a swaying camera with sensor
noise, and goes through the runtime's tracker, registration, dense flow and head removal. Then its
window is taken with the apex, or all three key frames, late or early. So this measures key-frame
errors on pictures, where `models.training.wrong_apex` only models them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.data import Clips
from realtime_mer.analysis.analyser import Analyser
from realtime_mer.demo.photo import PhotoFace, SwayingCamera, demo_photo
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.tracker import detect_face_mesh
from realtime_mer.recognition.flow_pair import FLOW_SIZE
from realtime_mer.results import Interval
from realtime_mer.source.frame import Frame
from tools.command import save_array
from tools.spotting.motions import measured_motions

KINDS = ("apex", "window")
# Pictures in a half-window, so that errors are whole tenths of one.
_STEPS = 10
# The largest error, in these steps.
_MARGIN_STEPS = 6
# Length of a half-window, seconds: a micro-expression lasts half a second at most.
_HALF_S = (0.12, 0.22)
# Peak displacement, pixels of the canonical face. Chosen by judgement.
_PEAK_PX = (1.5, 3.0)
# Sensor noise, grey levels, as in the demo.
_NOISE_SIGMA = 1.5
# The tracker settles on the still face before the clip begins.
_SETTLE_FRAMES = 5
# Between two clips, seconds: a gap, after which the analyser starts afresh.
_PAUSE_S = 10.0


def _position(step: int, rise: np.ndarray, fall: np.ndarray) -> np.ndarray | None:
    """Displacement of the canonical face, `step` tenths of a half-window after the onset."""

    def ramp(x: float) -> float:
        return 0.5 - 0.5 * float(np.cos(np.pi * x))

    if step <= 0:
        return None
    if step <= _STEPS:
        return ramp(step / _STEPS) * rise
    return rise + ramp(min(step / _STEPS - 1, 1)) * fall


def wrong_window(kind: str, tenths: int) -> tuple[int, int, int]:
    """Onset, apex and offset of a wrong window, in steps after the true onset.

    Args:
        kind: "apex": only the apex is wrong; "window": all three, by the same time.
        tenths: Tenths of a half-window; late above 0, early below.
    """
    if kind == "apex":
        return 0, _STEPS + tenths, 2 * _STEPS
    return tenths, _STEPS + tenths, 2 * _STEPS + tenths


class Renderer:
    """Renders motions onto the demo's photo and analyses them. Use as a context manager."""

    def __init__(self) -> None:
        model = find_landmark_model()
        self._photo = demo_photo()
        mesh = detect_face_mesh(self._photo, model)
        if mesh is None:
            raise RuntimeError("the landmarker finds no face in the demo's photo")
        self._face = PhotoFace(self._photo, mesh)
        self._analyser = Analyser(landmarks=model, providers="cpu")
        self._frames = 0
        self._time_s = 0.0

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        self._analyser.close()

    def __call__(
        self, motion: tuple[np.ndarray, np.ndarray], rng: np.random.Generator, tenths: range
    ) -> np.ndarray:
        """Flow pairs (kinds, errors, 2, 28, 28, 3) uint8 of one motion (rise, fall), peak 1."""
        peak, half_s = rng.uniform(*_PEAK_PX), rng.uniform(*_HALF_S)
        rise, fall = (self._face.field(peak * field) for field in motion)
        camera = SwayingCamera(rng)
        onset_s, step_s = self._time_s + _PAUSE_S, half_s / _STEPS
        for step in range(-_MARGIN_STEPS - _SETTLE_FRAMES, 2 * _STEPS + _MARGIN_STEPS + 1):
            field = _position(step, rise, fall)
            backwards = None if field is None else self._face.backwards(field)
            picture = camera.picture(self._photo, backwards, step * step_s)
            noisy = picture + rng.normal(0, _NOISE_SIGMA, picture.shape).astype(np.float32)
            self._analyse(np.clip(noisy, 0, 255).astype(np.uint8), onset_s + step * step_s)
        return np.array(
            [
                [self._pair(onset_s, step_s, wrong_window(kind, tenth)) for tenth in tenths]
                for kind in KINDS
            ]
        )

    def _analyse(self, image: np.ndarray, time_s: float) -> None:
        self._analyser.follow(self._analyser.track(Frame(self._frames, time_s, image, 0.0)))
        self._frames += 1
        self._time_s = time_s

    def _pair(self, onset_s: float, step_s: float, window: tuple[int, int, int]) -> np.ndarray:
        interval = Interval(*(onset_s + step * step_s for step in window))
        # A single face has number 0.
        return self._analyser.pair(0, interval).images


def rendered_pairs(
    clips: Clips, path: Path, advance: Callable[[], object] = lambda: None
) -> np.ndarray:
    """Flow pairs (clips, kinds, errors, 2, 28, 28, 3) uint8, errors from -6 to 6 tenths.

    Args:
        clips: The motions.
        path: Array (.npy) that keeps the pairs for a later call.
        advance: Called after each clip.
    """
    tenths = range(-_MARGIN_STEPS, _MARGIN_STEPS + 1)
    shape = len(clips), len(KINDS), len(tenths), 2, FLOW_SIZE, FLOW_SIZE, 3
    if path.exists():
        kept = np.load(path, allow_pickle=False)
        if kept.shape == shape:
            return kept
    pairs = np.zeros(shape, np.uint8)
    with Renderer() as render:
        for i, motion in enumerate(measured_motions(clips.pairs)):
            pairs[i] = render(motion, np.random.default_rng(i), tenths)
            advance()
    save_array(path, pairs)
    return pairs
