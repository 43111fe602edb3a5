"""How steady a face that does not move is registered: photos under a camera with sensor noise.

    python tools/registration_noise.py PHOTO [PHOTO ...] [--width N] [--json]

Each photo, its face made --width pixels wide, becomes a clip of 4 s with a noise of 2 grey levels:
before a fixed camera and before one that sways by 4 px, at 30 and 60 frames a second. Where nine
points of the photo lie in the canonical face, whose eye centres are 95 px apart, is known; they
should not move. The landmarks are taken in three ways:

    mediapipe   by MediaPipe's own landmarker in VIDEO mode, in every frame
    every_frame by the same networks in every frame
    as_in_use   as the program does it: carried between looks of the network

    step_px     from one frame to the next, the 95th percentile over points and frames
    drift_px    from the middle place, likewise
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realtime_mer.errors import InputError
from realtime_mer.face import landmarker
from realtime_mer.face.landmark_model import LandmarkModel, load_landmark_model
from realtime_mer.face.registration import FACE_SIZE, Registration, transform
from realtime_mer.face.tracker import FaceTracker, detect_face_mesh
from realtime_mer.source.frame import Frame
from realtime_mer.source.limits import MAX_PIXELS
from tools.benchmark import BareLandmarker
from tools.command import command_parser, exit_status, number_type

_SECONDS = 4
# The first second does not count: the smoothing settles.
_SETTLED_S = 1.0
_NOISE_LEVELS = 2.0
_SWAY_PX = (4.0, 2.0)
_SWAY_HZ = (0.4, 0.3)
_MARGIN_PX = 40
_RATES = (30, 60)
# Landmarks (478, 3) of the next frame.
_Look = Callable[[Frame], np.ndarray | None]


def _clip(photo: np.ndarray, fps: int, sways: bool) -> Iterator[tuple[Frame, np.ndarray]]:
    """Frames, each with the matrix (2, 3) from the photo to it."""
    rng = np.random.default_rng(0)
    for i in range(_SECONDS * fps):
        time_s = i / fps
        place = np.eye(2, 3)
        if sways:
            place[:, 2] = np.multiply(_SWAY_PX, np.sin(2 * np.pi * time_s * np.array(_SWAY_HZ)))
        size = photo.shape[1::-1]
        picture = cv2.warpAffine(photo, place, size, borderMode=cv2.BORDER_REFLECT)
        noisy = picture + rng.normal(0, _NOISE_LEVELS, picture.shape)
        # From 1 s on: MediaPipe's smoothing takes the time 0 for none.
        yield Frame(i, 1.0 + time_s, np.clip(noisy, 0, 255).astype(np.uint8), 0.0), place


@contextlib.contextmanager
def _mediapipe(model: LandmarkModel) -> Iterator[_Look]:
    with contextlib.closing(BareLandmarker(model.path)) as bare:

        def look(frame: Frame) -> np.ndarray | None:
            found = bare(frame).face_landmarks
            if not found:
                return None
            height, width = frame.image.shape[:2]
            return np.array([(p.x * width, p.y * height, p.z * width) for p in found[0]])

        yield look


@contextlib.contextmanager
def _tracker(model: LandmarkModel, carried_s: float) -> Iterator[_Look]:
    before, landmarker.CARRIED_S = landmarker.CARRIED_S, carried_s
    try:
        with FaceTracker(model) as tracker:

            def look(frame: Frame) -> np.ndarray | None:
                faces = tracker.track(frame)
                return faces[0].landmarks if faces else None

            yield look
    finally:
        landmarker.CARRIED_S = before


def _noise(look: _Look, photo: np.ndarray, fps: int, sways: bool) -> dict[str, float]:
    register = Registration()
    grid = np.array([(x, y) for x in (1, 4, 7) for y in (1, 4, 7)]) * (FACE_SIZE / 8)
    fixed: np.ndarray | None = None
    places = []
    for frame, place in _clip(photo, fps, sways):
        landmarks = look(frame)
        if landmarks is None:
            continue
        face = register(frame.image, landmarks, frame.time_s)
        matrix = face.matrix @ np.vstack([place, (0, 0, 1)])
        if frame.index >= _SETTLED_S * fps:
            if fixed is None:
                fixed = transform(grid, cv2.invertAffineTransform(matrix))
            places.append(transform(fixed, matrix))
    if len(places) < _SECONDS * fps / 2:
        raise InputError("the face is lost in half of the frames: give a photo of a frontal face")
    steps = np.linalg.norm(np.diff(places, axis=0), axis=2)
    drift = np.linalg.norm(places - np.median(places, axis=0), axis=2)
    return {
        "step_px": round(float(np.percentile(steps, 95)), 3),
        "drift_px": round(float(np.percentile(drift, 95)), 3),
    }


def measure(path: Path, width: float, model: LandmarkModel) -> list[dict[str, Any]]:
    """The objects that `--json` prints for a photo.

    Raises:
        InputError: It cannot be read, or shows no face.
    """
    photo = cv2.imread(str(path))
    if photo is None or photo.shape[0] * photo.shape[1] > MAX_PIXELS:
        raise InputError(f"{path} cannot be read as a picture: give a photo of a face")
    mesh = detect_face_mesh(photo, model)
    if mesh is None:
        raise InputError(f"{path} shows no face: give a photo of a frontal face")
    scale = width / float(np.ptp(mesh[:, 0]))
    photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    edge = _MARGIN_PX
    photo = cv2.copyMakeBorder(photo, edge, edge, edge, edge, cv2.BORDER_REFLECT)
    ways = {
        "mediapipe": lambda: _mediapipe(model),
        "every_frame": lambda: _tracker(model, 0.0),
        "as_in_use": lambda: _tracker(model, landmarker.CARRIED_S),
    }
    found = []
    for fps in _RATES:
        for sways in (False, True):
            noise = {}
            for name, way in ways.items():
                with way() as look:
                    noise[name] = _noise(look, photo, fps, sways)
            camera = "swaying" if sways else "fixed"
            found.append({"photo": path.name, "fps": fps, "camera": camera, **noise})
    return found


def show(found: list[dict[str, Any]], width: float) -> None:
    """Prints a table for people."""
    table = Table(title=f"Face of {width:g} px: step, drift in px of the canonical face")
    for column in ("photo", "fps", "camera", "mediapipe", "every_frame", "as_in_use"):
        table.add_column(column)
    for row in found:
        ways = [row[way] for way in ("mediapipe", "every_frame", "as_in_use")]
        cells = (f"{way['step_px']:.3f}, {way['drift_px']:.2f}" for way in ways)
        table.add_row(row["photo"], str(row["fps"]), row["camera"], *cells)
    Console().print(table)


def main(argv: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("photos", nargs="+", metavar="PHOTO", type=Path)
    parser.add_argument(
        "--width",
        type=number_type(float, lambda n: 40 <= n <= 1000, "a number from 40 to 1000"),
        default=200.0,
        metavar="N",
        help="width of the face in pixels, 40 to 1000 (default: 200)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    options = parser.parse_args(argv)

    def work() -> None:
        model = load_landmark_model()
        found = [row for path in options.photos for row in measure(path, options.width, model)]
        if options.json:
            print(json.dumps(found))
        else:
            show(found, options.width)

    return exit_status(parser.prog, work)


if __name__ == "__main__":
    sys.exit(main())
