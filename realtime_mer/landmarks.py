"""What the face landmarker found, as arrays.

MediaPipe makes a Python object of each of 478 points and 52 scores, one after the other and holding
the interpreter's lock: 0.7 ms a frame, in which no other stage runs. Here they are read where the
native library left them. That needs names that MediaPipe does not promise to keep; where they are
gone, its own way is taken.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np
from mediapipe import Image
from mediapipe.tasks.python.vision import FaceLandmarker, face_landmarker


class Found(NamedTuple):
    """One face.

    Attributes:
        points: (478, 3) float32, as MediaPipe gives them: parts of the picture's width, height
            and, for the depth, width.
        scores: (52,) float32, the blendshapes in MediaPipe's order.
    """

    points: np.ndarray
    scores: np.ndarray


def detect(landmarker: FaceLandmarker, image: Image, time_ms: int) -> list[Found]:
    """The faces in a picture, by a landmarker in VIDEO mode with blendshapes.

    Raises:
        ValueError: The time does not rise.
        RuntimeError: The landmarker failed.
    """
    try:
        library, handle, picture = landmarker._lib, landmarker._handle, image._image_ptr
        result = face_landmarker.MpFaceLandmarkerResultC()
        run, let_go = library.MpFaceLandmarkerDetectForVideo, library.MpFaceLandmarkerCloseResult
    except AttributeError:
        return _as_promised(landmarker, image, time_ms)
    run(handle, picture, None, time_ms, ctypes.byref(result))
    try:
        return [
            Found(
                _columns(result.face_landmarks[i].landmarks, 478, ("x", "y", "z")),
                _columns(result.face_blendshapes[i].categories, 52, ("score",))[:, 0],
            )
            for i in range(result.face_landmarks_count)
        ]
    finally:
        let_go(ctypes.byref(result))


def _columns(first: ctypes._Pointer, count: int, names: tuple[str, ...]) -> np.ndarray:
    """Float fields (count, names) float32 of `count` structures in a row, copied."""
    kind = first._type_
    size = ctypes.sizeof(kind)
    memory = np.frombuffer(ctypes.string_at(first, count * size), np.uint8).reshape(count, size)
    fields = [getattr(kind, name) for name in names]
    return np.hstack([memory[:, f.offset : f.offset + f.size] for f in fields]).view(np.float32)


def _as_promised(landmarker: FaceLandmarker, image: Image, time_ms: int) -> list[Found]:
    result = landmarker.detect_for_video(image, time_ms)
    return [
        Found(
            np.array([(p.x, p.y, p.z) for p in points], np.float32),
            np.array([shape.score for shape in shapes], np.float32),
        )
        for points, shapes in zip(result.face_landmarks, result.face_blendshapes, strict=True)
    ]
