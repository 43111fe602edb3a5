"""The face tracker: MediaPipe's face landmarker in VIDEO mode, with identities over time.

The landmarker is given the whole picture first, in every frame. Only if it finds no face there is
the picture searched for smaller ones (`search.py`), a few tiles a frame; what is found is followed
in a view around it.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.face.identity import Identities
from realtime_mer.face.landmark_model import LandmarkModel, content_of
from realtime_mer.face.mediapipe_tasks import BaseOptions, Image, ImageFormat, vision
from realtime_mer.face.native import silenced_stderr
from realtime_mer.face.search import FaceBox, FaceSearch, View
from realtime_mer.source.frame import Frame

# Indices in MediaPipe's list of 52 blendshapes: eyeBlinkLeft, eyeBlinkRight; jawOpen.
_BLINK = [9, 10]
_JAW_OPEN = 25
# Chosen by judgement: a narrower face has too few pixels to be registered.
_MIN_WIDTH_PX = 8
# Size of the picture in which the landmarker finds nothing; any will do.
_BLACK_PX = 64
# While a face is followed in a view, the whole picture is looked at this often: the person in front
# of the camera comes before a small face in the background. If what was seen there turns out to be
# no face, the next look comes after twice the time, up to the second value. Chosen by judgement.
_LOOK_AROUND_S = (0.5, 60.0)

# Of each face: landmarks (478, 3), 0 to 1 across the picture, and scores of blendshapes (52,).
_Detections = list[tuple[np.ndarray, np.ndarray]]
# Of each face: landmarks in pixels of the frame, and as in `TrackedFace` blink and jaw_open.
_Seen = tuple[np.ndarray, float, float]
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


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFace:
    """One face in one frame.

    Attributes:
        identity: Number of the face, from 0. If only one face is followed it is always 0; else
            see `identity.py`.
        landmarks: (478, 3) float32 in pixels of the frame, in the order of MediaPipe's face mesh,
            not writeable; the third coordinate is depth on the same scale, smaller is nearer.
        blink: Blendshape score of the more closed eye, 0 open to 1 closed.
        jaw_open: Blendshape score, 0 to 1.
    """

    identity: int
    landmarks: np.ndarray
    blink: float
    jaw_open: float


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """A frame with the faces in it.

    Attributes:
        frame: The frame.
        faces: The faces, in the order of their identities.
        taken_at: `time.monotonic()` when work on it began.
        source_fps: Frame rate of the source as measured so far; 0 until known.
    """

    frame: Frame
    faces: tuple[TrackedFace, ...]
    taken_at: float
    source_fps: float


class FaceTracker:
    """Finds and follows up to `faces` faces. It holds native threads: use it as a context manager.

    Args:
        model: The checked landmark model; or a path, which is read once.
        faces: How many faces to follow at most.

    Raises:
        InputError: The model file cannot be used.
    """

    def __init__(self, model: Path | LandmarkModel, faces: int = 1) -> None:
        path = model.path if isinstance(model, LandmarkModel) else model
        self._last_ms = -1
        self._identities = Identities() if faces > 1 else None
        self._faces = faces
        self._black = np.zeros((_BLACK_PX, _BLACK_PX, 3), np.uint8)
        self._landmarker: vision.FaceLandmarker | None = None
        self._find: _Detect
        # The part of the picture in which faces are followed; None for the whole.
        self._view: View | None = None
        self._size = (0, 0)
        # The faces seen in the last frame.
        self._boxes: list[FaceBox] = []
        self._look_around_s, self._looked_s = _LOOK_AROUND_S[0], 0.0
        try:
            model = LandmarkModel(path, content_of(model))
            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=model.content),
                running_mode=vision.RunningMode.VIDEO,
                num_faces=faces,
                output_face_blendshapes=True,
            )
            with silenced_stderr():
                self._landmarker = vision.FaceLandmarker.create_from_options(options)
                # Parts of the graph start, and log, only with the first picture: give it one here.
                try:
                    self._find = _DirectDetection()
                    self._detect(self._black, 0.0)
                except _DirectDetection.MISSING:
                    self._find = _detect_documented
                    self._detect(self._black, 0.0)
                self._search = FaceSearch(model)
        except (RuntimeError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            self.close()
            raise InputError(
                f"face landmark model {path} cannot be loaded: delete it, so that the packaged "
                "one is used, or name the published file"
            ) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FaceTracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the native graphs. A landmarker left to the garbage collector can hang the exit."""
        if self._landmarker is not None:
            landmarker, self._landmarker = self._landmarker, None
            with silenced_stderr(), contextlib.suppress(RuntimeError, ValueError):
                landmarker.close()
        if hasattr(self, "_search"):
            with silenced_stderr():
                self._search.close()

    def _detect(self, image: np.ndarray, time_s: float) -> _Detections:
        # MediaPipe demands whole milliseconds that increase, even above 1000 fps and when a clock
        # steps back.
        self._last_ms = max(self._last_ms + 1, round(time_s * 1000))
        # MediaPipe's Image ignores strides; this conversion makes a contiguous copy of any view.
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return self._find(
            self._landmarker, Image(image_format=ImageFormat.SRGB, data=rgb), self._last_ms
        )

    def _seen_in(self, view: View | None, image: np.ndarray, time_s: float) -> list[_Seen]:
        """The faces in a view of a picture, in the whole of it if the view is None."""
        part = image if view is None else view.cut(image)
        height, width = part.shape[:2]
        scale = np.array([width, height, width], np.float32)
        seen = []
        for points, scores in self._detect(part, time_s):
            landmarks = points * scale
            if view is not None:
                landmarks += np.array([view.x, view.y, 0], np.float32)
            landmarks.setflags(write=False)
            if np.isfinite(landmarks).all() and np.ptp(landmarks[:, 0]) >= _MIN_WIDTH_PX:
                seen.append((landmarks, float(scores[_BLINK].max()), float(scores[_JAW_OPEN])))
        return seen

    def _seen(self, image: np.ndarray, time_s: float) -> list[_Seen]:
        """The faces in a picture: those in the whole of it or, without any, those in a view."""
        size = (image.shape[1], image.shape[0])
        if size != self._size:
            self._size, self._view, self._boxes = size, None, []
        was_whole = self._view is None
        seen = self._seen_in(self._view, image, time_s)
        if not seen and was_whole and (box := self._search.step(image)):
            self._view, self._looked_s = View.around([box], size), time_s
            seen = self._seen_in(self._view, image, time_s)
        if not seen:
            if self._boxes:
                self._search.begin_at(self._boxes[0])
            self._view, self._boxes = None, []
            return []
        self._boxes = [FaceBox.of(landmarks) for landmarks, _, _ in seen]
        if self._view is None:
            self._look_around_s = _LOOK_AROUND_S[0]
            return seen
        view = self._next_view(self._view, seen, image, time_s)
        if view != self._view:
            self._view = view
            # Without this, it would take one frame to notice that nothing is where it was.
            self._detect(self._black, time_s)
        return seen

    def _next_view(
        self, view: View, seen: Sequence[_Seen], image: np.ndarray, time_s: float
    ) -> View | None:
        """The view for the next frame; None for the whole picture."""
        ours, size = self._boxes, self._size
        if not 0 <= time_s - self._looked_s < self._look_around_s:
            self._looked_s = time_s
            there = self._search.look(image)
            known = sum(any(box.is_on(face) for face in ours) for box in there)
            count = min(len(there), self._faces)
            if count > len(ours) or (count == len(ours) and not known):
                self._look_around_s = min(2 * self._look_around_s, _LOOK_AROUND_S[1])
                return None
        if len(ours) < self._faces and (other := self._search.step(image)):
            wider = View.around([*ours, other], size)
            if not any(other.is_on(face) for face in ours) and wider.shows([*ours, other]):
                return wider
        if all(view.holds(landmarks, size) for landmarks, _, _ in seen):
            return view
        return View.around(ours, size)

    def track(self, frame: Frame) -> tuple[TrackedFace, ...]:
        """The faces in a frame, in the order of their identities.

        Frames have to come in the order of their times. If several faces are followed, a face is
        left out while it is unclear whose it is: for about a second at most.

        Raises:
            ValueError: The tracker is closed.
        """
        if self._landmarker is None:
            raise ValueError("the tracker is closed")
        seen = self._seen(frame.image, frame.time_s)
        identities: Sequence[int | None]
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


def detect_face_mesh(image: np.ndarray, model: Path | LandmarkModel) -> np.ndarray | None:
    """The landmarks of the clearest face in one picture.

    Args:
        image: (height, width, 3) uint8, BGR.
        model: The checked landmark model; or a path, which is read once.

    Returns:
        (478, 3) in pixels of the picture; the third coordinate is depth on the same scale, smaller
        is nearer. None if there is no face.
    """
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=content_of(model)),
        running_mode=vision.RunningMode.IMAGE,
    )
    rgb = np.ascontiguousarray(image[..., ::-1])
    with silenced_stderr(), vision.FaceLandmarker.create_from_options(options) as landmarker:
        found = landmarker.detect(Image(image_format=ImageFormat.SRGB, data=rgb))
    if not found.face_landmarks:
        return None
    height, width = image.shape[:2]
    return np.array([(p.x * width, p.y * height, p.z * width) for p in found.face_landmarks[0]])
