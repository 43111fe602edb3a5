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
from realtime_mer.native import silenced_stderr

# Places of the wanted scores in MediaPipe's list of 52 blendshapes.
_BLINK = (9, 10)
_JAW_OPEN = 25
# A face that was out of sight for longer than this comes back as a new one.
_FORGET_S = 1.0
_SMALLEST_PX = 8


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFace:
    """One face in one frame.

    Attributes:
        identity: Number of the face, from 0, kept while it is followed.
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
        self._faces = faces
        self._options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=faces,
            output_face_blendshapes=True,
        )
        self._last_ms = -1
        self._known: dict[int, tuple[np.ndarray, float]] = {}
        self._next_identity = 0
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

        Frames have to come in the order of their time.
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
        identities = self._identify([landmarks for landmarks, _, _ in seen], frame.time_s)
        faces = [TrackedFace(i, *face) for i, face in zip(identities, seen, strict=True)]
        return tuple(sorted(faces, key=lambda f: f.identity))

    def _identify(self, faces: list[np.ndarray], time_s: float) -> list[int]:
        """The identity of each face: that of the known one nearest to it, all distances summed.

        A face farther than its own width from every known one is new.
        """
        if self._faces == 1:
            return [0] * len(faces)
        # Half a second to import, which a single face need not wait for.
        from scipy.optimize import linear_sum_assignment

        for identity in [i for i, (_, seen) in self._known.items() if time_s - seen > _FORGET_S]:
            del self._known[identity]
        known = list(self._known)
        centres = [landmarks[:, :2].mean(0) for landmarks in faces]
        apart = np.array(
            [
                [np.linalg.norm(c - self._known[k][0]) / np.ptp(f[:, 0]) for k in known]
                for c, f in zip(centres, faces, strict=True)
            ]
        ).reshape(len(faces), len(known))
        # Beyond a face width all are equally far, so that one lost face cannot shift the others.
        pairs = zip(*linear_sum_assignment(np.minimum(apart, 1.0)), strict=True)
        taken = {face: known[k] for face, k in pairs if apart[face, k] < 1}
        identities = []
        for face, centre in enumerate(centres):
            identity = taken.get(face)
            if identity is None:
                identity = self._next_identity
                self._next_identity += 1
            self._known[identity] = (centre, time_s)
            identities.append(identity)
        return identities
