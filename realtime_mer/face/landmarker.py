"""MediaPipe's face landmarker in VIDEO mode, which follows one face in a part of the pictures.

One face only, since MediaPipe smooths the landmarks over time only then. Without that they jitter
three to four times as much, and the same face would give other events. So each of several faces
has a landmarker of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from realtime_mer.face.landmark_model import LandmarkModel
from realtime_mer.face.mediapipe_tasks import BaseOptions, Image, ImageFormat, vision
from realtime_mer.face.native import silenced_stderr
from realtime_mer.face.search import View

# Indices in MediaPipe's list of 52 blendshapes: eyeBlinkLeft, eyeBlinkRight; jawOpen.
_BLINK = [9, 10]
_JAW_OPEN = 25
# Chosen by judgement: a narrower face has too few pixels to be registered.
_MIN_WIDTH_PX = 8
# Size of the picture in which the landmarker finds nothing; any will do.
_BLACK_PX = 64

# Of each face: landmarks (478, 3), 0 to 1 across the picture, and scores of blendshapes (52,).
_Detections = list[tuple[np.ndarray, np.ndarray]]
_Detect = Callable[[vision.FaceLandmarker, Image, int], _Detections]


def _detect_documented(
    landmarker: vision.FaceLandmarker, image: Image, time_ms: int
) -> _Detections:
    """The faces in an image, by MediaPipe's documented interface."""
    found = landmarker.detect_for_video(image, time_ms)
    return [
        (
            np.array([(p.x, p.y, p.z) for p in points], np.float32),
            np.array([shape.score for shape in shapes], np.float32),
        )
        for points, shapes in zip(found.face_landmarks, found.face_blendshapes, strict=True)
    ]


class _DirectDetection:
    """The same faces from MediaPipe's native result, without creating an object for each point.

    MediaPipe's own conversion takes more Python time than all the rest of tracking a frame. This
    class uses names inside MediaPipe; if one is missing, its constructor or its call raises one of
    `MISSING`.
    """

    MISSING = (AttributeError, KeyError, TypeError, ctypes.ArgumentError)

    def __init__(self) -> None:
        inside = vars(sys.modules[vision.FaceLandmarker.__module__])
        # The first name is that of MediaPipe 0.10.31, the second that of 1.2.2.
        names = ("FaceLandmarkerResultC", "MpFaceLandmarkerResultC")
        self._result: Any = inside[next((name for name in names if name in inside), names[0])]
        self._point = self._fields("face_landmarks", "landmarks", ("x", "y", "z"))
        self._shape = self._fields("face_blendshapes", "categories", ("score",))

    def _fields(self, faces: str, items: str, wanted: tuple[str, ...]) -> np.dtype:
        """The type with which NumPy reads the wanted numbers from an array of C structures."""
        face = self._types(self._result, faces)[faces]._type_
        item = self._types(face, items)[items]._type_
        types = dict(item._fields_)
        return np.dtype(
            {
                "names": wanted,
                "formats": [types[name] for name in wanted],
                "offsets": [getattr(item, name).offset for name in wanted],
                "itemsize": ctypes.sizeof(item),
            }
        )

    @staticmethod
    def _types(structure: Any, array: str) -> dict[str, Any]:  # noqa: ANN401
        """The types of a C structure's fields, among them an array and its count."""
        types = dict(structure._fields_)
        _ = types[f"{array}_count"]  # used in each call: fail now if it is missing
        return types

    def __call__(
        self, landmarker: vision.FaceLandmarker, image: Image, time_ms: int
    ) -> _Detections:
        library, result = landmarker._lib, self._result()
        library.MpFaceLandmarkerDetectForVideo(
            landmarker._handle, image._image_ptr, None, time_ms, ctypes.byref(result)
        )
        try:
            if result.face_blendshapes_count != result.face_landmarks_count:
                raise RuntimeError("MediaPipe gave blendshapes for only some of the faces")
            return [
                self._face(result.face_landmarks[i], result.face_blendshapes[i])
                for i in range(result.face_landmarks_count)
            ]
        finally:
            library.MpFaceLandmarkerCloseResult(ctypes.byref(result))

    def _face(
        self, mesh: ctypes.Structure, shapes: ctypes.Structure
    ) -> tuple[np.ndarray, np.ndarray]:
        points = self._read(mesh.landmarks, mesh.landmarks_count, self._point)
        scores = self._read(shapes.categories, shapes.categories_count, self._shape)
        return np.stack([points[name] for name in "xyz"], 1), scores["score"]

    @staticmethod
    def _read(items: ctypes._Pointer, count: int, fields: np.dtype) -> np.ndarray:
        # Copy: MediaPipe owns the memory and frees it with the result.
        return np.frombuffer(ctypes.string_at(items, count * fields.itemsize), fields)


class SeenFace(NamedTuple):
    """A face in one picture.

    Attributes:
        landmarks: (478, 3) float32 in pixels of the picture, not writeable; the third coordinate is
            depth on the same scale, smaller is nearer.
        blink: Blendshape score of the more closed eye, 0 open to 1 closed.
        jaw_open: Blendshape score, 0 to 1.
        blendshapes: (52,) float32, all scores in MediaPipe's order, not writeable.
    """

    landmarks: np.ndarray
    blink: float
    jaw_open: float
    blendshapes: np.ndarray


class Landmarker:
    """Follows a face in a view of the pictures. It holds native threads and has to be closed.

    Args:
        model: The checked landmark model.

    Raises:
        RuntimeError, OSError, ValueError: The model cannot be used.
    """

    def __init__(self, model: LandmarkModel) -> None:
        self.view: View | None = None
        """The part of the picture in which a face is followed; None for the whole."""
        self._last_ms = -1
        self._follows = False
        self._black = np.zeros((_BLACK_PX, _BLACK_PX, 3), np.uint8)
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=model.content),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=1,
            output_face_blendshapes=True,
        )
        self._native: vision.FaceLandmarker | None = None
        self._find: _Detect
        try:
            with silenced_stderr():
                self._native = vision.FaceLandmarker.create_from_options(options)
                # Parts of the graph start, and log, only with the first picture: give it one here.
                try:
                    self._find = _DirectDetection()
                    self.detect(self._black, 0.0)
                except _DirectDetection.MISSING:
                    self._find = _detect_documented
                    self.detect(self._black, 0.0)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stops the native graph, which can hang the exit if it is left to the garbage collector.

        May be called twice.
        """
        if self._native is not None:
            native, self._native = self._native, None
            with silenced_stderr(), contextlib.suppress(RuntimeError, ValueError):
                native.close()

    def look_at(self, view: View | None, time_s: float) -> None:
        """Looks for a face in another view from the next picture on."""
        if view != self.view:
            self.view = view
            self.let_go(time_s)

    def let_go(self, time_s: float) -> None:
        """Looks for a face anew from the next picture on."""
        if self._follows:
            # Without this, it would take one frame to notice that nothing is where it was.
            self.detect(self._black, time_s)
            self._follows = False

    def seen(self, image: np.ndarray, time_s: float) -> SeenFace | None:
        """The face in the view of a picture: the one that is followed, or else the clearest.

        Args:
            image: (height, width, 3) uint8, BGR.
            time_s: Time of the picture.
        """
        view = self.view
        part = image if view is None else view.cut(image)
        height, width = part.shape[:2]
        found = self.detect(part, time_s)
        self._follows = bool(found)
        if not found:
            return None
        ((points, scores),) = found
        landmarks = points * np.array([width, height, width], np.float32)
        if view is not None:
            landmarks += np.array([view.x, view.y, 0], np.float32)
        landmarks.setflags(write=False)
        if not (np.isfinite(landmarks).all() and np.ptp(landmarks[:, 0]) >= _MIN_WIDTH_PX):
            return None
        scores = np.ascontiguousarray(scores)
        scores.setflags(write=False)
        return SeenFace(landmarks, float(scores[_BLINK].max()), float(scores[_JAW_OPEN]), scores)

    def detect(self, image: np.ndarray, time_s: float) -> _Detections:
        """The faces in an image, as MediaPipe gives them."""
        # MediaPipe demands whole milliseconds that increase, even above 1000 fps and when a clock
        # steps back.
        self._last_ms = max(self._last_ms + 1, round(time_s * 1000))
        # MediaPipe's Image ignores strides; this conversion makes a contiguous copy of any view.
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return self._find(
            self._native, Image(image_format=ImageFormat.SRGB, data=rgb), self._last_ms
        )
