"""Finds a face in a picture of which nothing is known yet: MediaPipe's face landmarker."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from realtime_mer.face.landmark_model import LandmarkModel, content_of
from realtime_mer.face.mediapipe_tasks import BaseOptions, Image, ImageFormat, vision
from realtime_mer.face.native import silenced_stderr

# Size of the picture with which the native graph starts; any will do.
_WAKE_UP_PX = 64


class FoundFace(NamedTuple):
    """A face in one picture.

    Attributes:
        landmarks: (478, 3) in pixels of the picture; the third coordinate is depth on the same
            scale, smaller is nearer.
        blendshapes: (52,) float32, scores in MediaPipe's order, 0 to 1.
    """

    landmarks: np.ndarray
    blendshapes: np.ndarray


class FaceFinder:
    """Finds the clearest face. It holds native threads and has to be closed.

    Args:
        model: The checked landmark model; or a path, which is read once.

    Raises:
        RuntimeError, OSError, ValueError: The model cannot be used.
    """

    def __init__(self, model: Path | LandmarkModel) -> None:
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=content_of(model)),
            running_mode=vision.RunningMode.IMAGE,
            output_face_blendshapes=True,
        )
        self._native: vision.FaceLandmarker | None = None
        try:
            with silenced_stderr():
                self._native = vision.FaceLandmarker.create_from_options(options)
                # Parts of the graph start, and log, only with the first picture.
                self.find(np.zeros((_WAKE_UP_PX, _WAKE_UP_PX, 3), np.uint8))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the native graph, which can hang the exit if it is left to the garbage collector.

        May be called twice.
        """
        if self._native is not None:
            native, self._native = self._native, None
            with silenced_stderr(), contextlib.suppress(RuntimeError, ValueError):
                native.close()

    def find(self, image: np.ndarray) -> FoundFace | None:
        """The clearest face in an image, or None.

        Args:
            image: (height, width, 3) uint8, BGR.

        Raises:
            ValueError: The finder is closed.
        """
        if self._native is None:
            raise ValueError("the finder is closed")
        # MediaPipe's Image ignores strides; this conversion makes a contiguous copy of any view.
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        found = self._native.detect(Image(image_format=ImageFormat.SRGB, data=rgb))
        if not found.face_landmarks:
            return None
        height, width = image.shape[:2]
        return FoundFace(
            np.array([(p.x * width, p.y * height, p.z * width) for p in found.face_landmarks[0]]),
            np.array([shape.score for shape in found.face_blendshapes[0]], np.float32),
        )
