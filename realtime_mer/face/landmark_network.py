"""MediaPipe's networks for a face whose place is known, without MediaPipe's graph around them.

The graph takes about as long as the networks in it (9.5 and 5.6 ms on one core). So it only finds
faces (`finder.py`); while a face is followed, LiteRT runs the same networks, from the same file, on
the same square around the face. The landmarks are those of MediaPipe's VIDEO mode: of a face of
200 px that moves, .01 px apart in the mean, .1 px at the worst of all points
(tests/realtime_mer/face/test_landmark_network.py). What is repeated here of the graph is in
mediapipe/tasks/cc/vision/face_landmarker of MediaPipe's repository (Apache-2.0).
"""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from realtime_mer.face.landmark_model import LandmarkModel
from realtime_mer.face.mesh import corners
from realtime_mer.face.native import silenced_stderr
from realtime_mer.face.registration import transform

# The networks in the landmarker's file, which is a ZIP archive.
_LANDMARKS, _BLENDSHAPES = "face_landmarks_detector.tflite", "face_blendshapes.tflite"
SIDE_PX = 256
"""Side of the square as the network sees it."""

# Side of the square, in the longer side of the face's box: the face stays inside while it moves.
_MARGIN = 1.5
# Outer corners of the eyes: in the square they are level.
_RIGHT_EYE, _LEFT_EYE = 33, 263
# MediaPipe's least probability of a face, as a logit.
_LEAST_PRESENCE = 0.0
# The blendshapes' network looks at these landmarks.
# fmt: off
_SHAPING = [
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66,
    67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144,
    145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173,
    176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284,
    285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332,
    334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473,
    474, 475, 476, 477,
]
# fmt: on


@dataclass(frozen=True, slots=True)
class FaceSquare:
    """The rotated square of the picture that the network looks at.

    Attributes:
        x, y: Its centre, in pixels of the picture.
        side: Its side, in pixels.
        turn: By how much the face is turned in the picture, in radians, clockwise.
    """

    x: float
    y: float
    side: float
    turn: float

    @classmethod
    def around(cls, landmarks: np.ndarray) -> FaceSquare:
        """The square around the landmarks (478, 2 or more) of the frame before."""
        low, high = corners(landmarks)
        x, y = ((low + high) / 2).tolist()
        across, down = (landmarks[_LEFT_EYE, :2] - landmarks[_RIGHT_EYE, :2]).tolist()
        return cls(x, y, _MARGIN * float((high - low).max()), math.atan2(down, across))

    @property
    def can_be_seen(self) -> bool:
        """Whether it has pixels."""
        return math.isfinite(self.x + self.y + self.side + self.turn) and self.side >= 1

    def to_picture(self) -> np.ndarray:
        """(2, 3): from the pixels that the network sees to those of the picture."""
        scale, middle = self.side / SIDE_PX, SIDE_PX / 2
        along, aside = scale * math.cos(self.turn), scale * math.sin(self.turn)
        turned = np.array([[along, -aside], [aside, along]])
        return np.column_stack([turned, (self.x, self.y) - turned @ (middle, middle)])

    def cut(self, image: np.ndarray) -> np.ndarray:
        """What the network sees of an image: (256, 256, 3) uint8, RGB.

        Beyond the image its border goes on.

        Args:
            image: (height, width, 3) uint8, BGR.
        """
        # With four channels: more than twice as fast.
        seen = self._warped(image, (0, 0, SIDE_PX, SIDE_PX), cv2.COLOR_BGR2RGBA)
        return cv2.cvtColor(seen, cv2.COLOR_RGBA2RGB)

    def cut_grey(self, image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        """A part of what the network sees: (bottom - top, right - left) uint8, grey.

        Args:
            image: (height, width, 3) uint8, BGR.
            box: Left, top, right and bottom of the part, in pixels of the square.
        """
        return self._warped(image, box, cv2.COLOR_BGR2GRAY)

    def _warped(
        self, image: np.ndarray, box: tuple[int, int, int, int], colours: int
    ) -> np.ndarray:
        """A part of the square, in other colours."""
        x0, y0, x1, y1 = box
        to_picture = self.to_picture()
        to_picture[:, 2] += to_picture[:, :2] @ (x0, y0)
        ends = np.array([(0, x1 - x0, 0, x1 - x0), (0, 0, y1 - y0, y1 - y0), (1, 1, 1, 1)])
        places = to_picture @ ends
        # Only what is around it in the image changes its colours.
        size = image.shape[1::-1]
        left, top = np.clip(np.floor(places.min(1)).astype(int) - 1, 0, np.subtract(size, 1))
        right, bottom = np.clip(np.ceil(places.max(1)).astype(int) + 2, (left + 1, top + 1), size)
        to_picture[:, 2] -= left, top
        return cv2.warpAffine(
            cv2.cvtColor(image[top:bottom, left:right], colours),
            to_picture,
            (x1 - x0, y1 - y0),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def placed(self, points: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Points (n, 3) that the network sees, in pixels of the image that it was cut out of.

        The third coordinate is depth on about the same scale.
        """
        to_picture, (height, width) = self.to_picture(), image.shape[:2]
        # MediaPipe measures depth in widths of the picture along the square's upper edge.
        stretch = math.hypot(math.cos(self.turn), math.sin(self.turn) * width / height)
        depth = points[:, 2] * (self.side / SIDE_PX * stretch)
        return np.column_stack([transform(points[:, :2], to_picture), depth])


class _Network:
    """One network, with one input, run by LiteRT."""

    def __init__(self, content: bytes) -> None:
        with silenced_stderr():
            # One thread: on two cores, a second one makes the chain no faster, as the spotter works
            # there, and takes a fifth more processor time (measured once).
            self._runner = Interpreter(model_content=content, num_threads=1)
            self._runner.allocate_tensors()
        self._input = self._runner.get_input_details()[0]["index"]
        self._outputs = [output["index"] for output in self._runner.get_output_details()]

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        """The outputs for an input, which is float32."""
        self._runner.set_tensor(self._input, values)
        self._runner.invoke()
        return [self._runner.get_tensor(index) for index in self._outputs]


class LandmarkNetwork:
    """Finds the landmarks in a square of the picture. Not to be shared between threads.

    Args:
        model: The checked landmark model.

    Raises:
        RuntimeError, OSError, ValueError, KeyError, zipfile.BadZipFile: The model cannot be used.
    """

    def __init__(self, model: LandmarkModel) -> None:
        with zipfile.ZipFile(io.BytesIO(model.content)) as archive:
            self._landmarks = _Network(archive.read(_LANDMARKS))
            self._blendshapes = _Network(archive.read(_BLENDSHAPES))

    def landmarks(self, seen: np.ndarray) -> np.ndarray | None:
        """The landmarks of the face in a square, not smoothed.

        Args:
            seen: (256, 256, 3) uint8, RGB, from `FaceSquare.cut`.

        Returns:
            (478, 3) in pixels of the square, the third coordinate is depth on the same scale; None
            if there is no face.
        """
        raw, presence, *_ = self._landmarks(np.multiply(seen, np.float32(1 / 255))[None])
        if not float(presence.flat[0]) >= _LEAST_PRESENCE:
            return None
        return raw.reshape(-1, 3).astype(np.float64)

    def blendshapes(self, landmarks: np.ndarray) -> np.ndarray:
        """(52,) float32: scores of the blendshapes, 0 to 1, of landmarks in pixels."""
        seen = landmarks[_SHAPING, :2].astype(np.float32)
        return self._blendshapes(seen[None])[0]
