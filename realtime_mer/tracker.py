"""The face tracker: MediaPipe's face landmarker in VIDEO mode, with identities over time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions, vision

from realtime_mer.event import InputError
from realtime_mer.frame import Frame
from realtime_mer.identity import Identities
from realtime_mer.native import silenced_stderr

# Places of the wanted scores in MediaPipe's list of 52 blendshapes.
_BLINK = (9, 10)
_JAW_OPEN = 25
_SMALLEST_PX = 8


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFace:
    """One face in one frame.

    Attributes:
        identity: Number of the face, from 0; the only one is 0, of several see `identity`.
        landmarks: (478, 3) float32 in pixels of the frame, MediaPipe's face mesh order; the third
            coordinate is depth on the same scale, smaller is nearer.
        blink: Blendshape score of the more closed eye, 0 open to 1 closed.
        jaw_open: Blendshape score, 0 to 1.
    """

    identity: int
    landmarks: np.ndarray
    blink: float
    jaw_open: float


class FaceTracker:
    """Finds and follows up to `faces` faces. Use as a context manager: it holds native threads.

    Args:
        model: The checked `face_landmarker.task` file.
        faces: How many faces to follow at most.

    Raises:
        InputError: The model file cannot be used.
    """

    def __init__(self, model: Path, faces: int = 1) -> None:
        self._options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=faces,
            output_face_blendshapes=True,
        )
        self._last_ms = -1
        self._identities = Identities() if faces > 1 else None
        self._landmarker: vision.FaceLandmarker | None = None
        try:
            with silenced_stderr():
                self._landmarker = vision.FaceLandmarker.create_from_options(self._options)
                # The graph's late start chatters too; a black picture wakes all of it up.
                self._detect(np.zeros((64, 64, 3), np.uint8), 0.0)
        except (RuntimeError, FileNotFoundError) as error:
            self.close()
            raise InputError(
                f"face landmarker model {model} cannot be loaded: delete it, so that the packaged "
                "one is used, or give another with --landmarks"
            ) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FaceTracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops the native graph. A landmarker left to the garbage collector can hang the exit."""
        if self._landmarker is not None:
            landmarker, self._landmarker = self._landmarker, None
            with silenced_stderr(), contextlib.suppress(RuntimeError, ValueError):
                landmarker.close()

    def _detect(self, image: np.ndarray, time_s: float) -> vision.FaceLandmarkerResult:
        # Times are whole milliseconds that must increase, at 200 fps and after clock steps too.
        self._last_ms = max(self._last_ms + 1, round(time_s * 1000))
        # mp.Image ignores strides: this makes a contiguous copy, of any view.
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return self._landmarker.detect_for_video(
            Image(image_format=ImageFormat.SRGB, data=rgb), self._last_ms
        )

    def track(self, frame: Frame) -> tuple[TrackedFace, ...]:
        """The faces in a frame, in the order of their identities.

        Frames have to come in the order of their time. Of several faces, one is left out as
        long as it is not clear whose it is: for about a second at most.
        """
        if self._landmarker is None:
            raise ValueError("the tracker is closed")
        found = self._detect(frame.image, frame.time_s)
        height, width = frame.image.shape[:2]
        scale = np.array([width, height, width], np.float32)
        seen = []
        for points, shapes in zip(found.face_landmarks, found.face_blendshapes, strict=True):
            landmarks = np.array([(p.x, p.y, p.z) for p in points], np.float32) * scale
            # A face of a pixel or two, or none at all, cannot be registered.
            if np.isfinite(landmarks).all() and np.ptp(landmarks[:, 0]) >= _SMALLEST_PX:
                blink = max(shapes[i].score for i in _BLINK)
                seen.append((landmarks, blink, shapes[_JAW_OPEN].score))
        if self._identities is None:
            identities = [0] * len(seen)
        else:
            meshes = [landmarks for landmarks, _, _ in seen]
            identities = self._identities(frame.image, meshes, frame.time_s)
        faces = [
            TrackedFace(identity, *face)
            for identity, face in zip(identities, seen, strict=True)
            if identity is not None
        ]
        return tuple(sorted(faces, key=lambda f: f.identity))
