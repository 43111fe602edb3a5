"""Looks for faces that are too small for the landmarker's detector in the whole picture.

The detector works on 128 x 128 pixels and sees a face only if it takes up 12 to 80 % of the
picture's longer side (measured on 18 portraits: 8 % finds 1 in 8, 10 % 4 in 5, 12 % all). Once a
face is found, the landmarker follows it at any size. So the picture is searched in overlapping
square tiles, and a small face is shown to the landmarker in a `View`, a part of the picture.
"""

from __future__ import annotations

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from realtime_mer.face.landmark_model import LandmarkModel, content_of
from realtime_mer.face.mediapipe_tasks import BaseOptions, Image, ImageFormat, vision

TILES_PER_FRAME = 3
"""Tiles that are searched in one frame: together they cost about as much as following a face."""

FRAMES_PER_TILE = (8, 32)
"""While a face is followed and more are wanted, one tile is searched in so many frames; twice as
many after each round in which nobody was found, up to the second value. In 8 frames a tile costs
2 % of the chain's processor time, in 32 frames 0.5 % (2.6 and 16 ms; measured)."""

FRAMES_PER_LOOK = 8
"""While a face is followed and more are wanted, the whole picture is looked at once in so many
frames: who sits down beside someone is seen within a third of a second."""

# The detector's network in the landmarker's file, which is a ZIP archive.
_NETWORK = "face_detector.tflite"
# A face of 90 px takes up 16 % of a tile, one of 67 px 12 %.
_TILE_PX = 560
# Neighbouring tiles share this part of their side: a face of 90 px lies whole in one of them.
_OVERLAP = 0.25
# Measured on tiles of 560 px: a face of 90 px scores 0.86 or more (18 portraits, 3 places each); of
# 545 tiles without a face, none scores more than 0.66.
_LEAST_SCORE = 0.75
# In the whole picture, every face counts that the landmarker's own detector would take for one
# (MediaPipe's default); the landmarker then looks more closely.
_LEAST_SCORE_IN_WHOLE = 0.5
# A narrower face cannot be read anyway. Chosen by judgement.
_LEAST_WIDTH_PX = 45.0
# Size of the picture with which the native graph starts; any will do.
_WAKE_UP_PX = 64
# The face takes up this part of its view, as it does of a tile.
_FACE_SHARE = 90 / _TILE_PX
# Height of a mesh, in widths of it.
_TALL = 1.3
_GREY = 128


@dataclass(frozen=True, slots=True)
class FaceBox:
    """Where a face is, in pixels of the picture.

    Attributes:
        x, y: Its centre.
        width: About the width of its mesh.
    """

    x: float
    y: float
    width: float

    @classmethod
    def of(cls, landmarks: np.ndarray) -> FaceBox:
        """The box of a mesh (478, 2 or more)."""
        low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
        x, y = ((low + high) / 2).tolist()
        return cls(x, y, float(high[0] - low[0]))

    def is_on(self, other: FaceBox) -> bool:
        """Whether both boxes lie on one face."""
        apart = max(abs(self.x - other.x), abs(self.y - other.y))
        return apart < 0.5 * max(self.width, other.width)

    def cover(self, image: np.ndarray) -> None:
        """Paints the face over, in an image: (height, width, 3)."""
        across, down = 0.5 * self.width, 0.5 * _TALL * self.width
        start = max(0, round(self.x - across)), max(0, round(self.y - down))
        end = max(0, round(self.x + across)), max(0, round(self.y + down))
        image[start[1] : end[1], start[0] : end[0]] = _GREY


@dataclass(frozen=True, slots=True)
class View:
    """A part of the picture, in pixels: its upper left corner and its size."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def around(cls, faces: Sequence[FaceBox], size: tuple[int, int]) -> View:
        """The view in which faces are found, also if they have moved by a width of their own.

        Args:
            faces: One or more.
            size: (width, height) of the picture.
        """
        low = np.min([(face.x - face.width, face.y - face.width) for face in faces], axis=0)
        high = np.max([(face.x + face.width, face.y + face.width) for face in faces], axis=0)
        x, y = ((low + high) / 2).tolist()
        widest = max(face.width for face in faces)
        side = max(1, round(max(widest / _FACE_SHARE, *(high - low).tolist())))
        width, height = min(side, size[0]), min(side, size[1])
        left = min(max(round(x - width / 2), 0), size[0] - width)
        top = min(max(round(y - height / 2), 0), size[1] - height)
        return cls(left, top, width, height)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """This part of an image: (height, width, 3), not a copy."""
        return image[self.y : self.y + self.height, self.x : self.x + self.width]


def _starts(length: int, side: int) -> list[int]:
    """Where tiles of a side begin along a length of the picture."""
    if length <= side:
        return [0]
    steps = math.ceil((length - side) / ((1 - _OVERLAP) * side))
    return [round(i * (length - side) / steps) for i in range(steps + 1)]


def tiles(size: tuple[int, int]) -> list[View]:
    """The tiles of a picture of (width, height), from large to small, each from the middle out.

    Each side is half of the one before. A picture that is no larger than the smallest tile has
    none: there the landmarker finds every face that is large enough to be read.
    """
    width, height = size
    found = []
    side = _TILE_PX
    while side < max(size):
        across, down = min(side, width), min(side, height)
        found += [
            View(x, y, across, down) for y in _starts(height, side) for x in _starts(width, side)
        ]
        side *= 2

    def order(tile: View) -> tuple[int, float]:
        x, y = tile.x + tile.width / 2 - width / 2, tile.y + tile.height / 2 - height / 2
        return -max(tile.width, tile.height), math.hypot(x, y)

    return sorted(found, key=order)


class FaceSearch:
    """Finds faces in tiles of the picture. It holds native threads and has to be closed.

    Args:
        model: The checked landmark model, whose detector is used.

    Raises:
        RuntimeError, OSError, KeyError, zipfile.BadZipFile: The file has no detector.
    """

    def __init__(self, model: Path | LandmarkModel) -> None:
        with zipfile.ZipFile(io.BytesIO(content_of(model))) as archive:
            network = archive.read(_NETWORK)
        self._detector: vision.FaceDetector | None = vision.FaceDetector.create_from_options(
            vision.FaceDetectorOptions(
                base_options=BaseOptions(model_asset_buffer=network),
                running_mode=vision.RunningMode.IMAGE,
                min_detection_confidence=_LEAST_SCORE_IN_WHOLE,
            )
        )
        self._size = (0, 0)
        self._tiles: list[View] = []
        self._next = 0
        self._last: FaceBox | None = None
        # Of the search for further faces: frames until the next tile, and from tile to tile.
        self._wait, self._pause = 0, FRAMES_PER_TILE[0]
        # Frames until the next look at the whole picture.
        self._wait_to_look = 0
        # In the first round, every other look is at the place where a face was lost.
        self._lost: FaceBox | None = None
        self._looks_back = False
        # Parts of the graph start, and log, only with the first picture.
        self.look(np.zeros((_WAKE_UP_PX, _WAKE_UP_PX, 3), np.uint8))

    def close(self) -> None:
        """Stops the native graph. May be called twice."""
        if self._detector is not None:
            detector, self._detector = self._detector, None
            with contextlib.suppress(RuntimeError, ValueError):
                detector.close()

    def begin_at(self, face: FaceBox) -> None:
        """Starts again, at the place where a face was lost."""
        self._last, self._lost, self._next = face, face, 0
        self._wait, self._pause = 0, FRAMES_PER_TILE[0]

    def step(self, image: np.ndarray) -> FaceBox | None:
        """Searches the next `TILES_PER_FRAME` tiles; returns the clearest face in the first of
        them that shows one, or None.

        Args:
            image: (height, width, 3) uint8, BGR.
        """
        self._wait, self._pause = 0, FRAMES_PER_TILE[0]
        for tile in self._next_tiles(image, TILES_PER_FRAME):
            if faces := self.look(image, tile):
                return faces[0]
        return None

    def further(self, image: np.ndarray, followed: Sequence[FaceBox]) -> FaceBox | None:
        """Looks at the whole picture (`FRAMES_PER_LOOK`) or at the next tile (`FRAMES_PER_TILE`),
        in few frames; returns the clearest face there that is not followed yet, or None.

        Args:
            image: (height, width, 3) uint8, BGR.
            followed: The faces that are followed.
        """
        self._wait, self._wait_to_look = self._wait - 1, self._wait_to_look - 1
        if self._wait_to_look < 0:
            self._wait_to_look = FRAMES_PER_LOOK - 1
            return _first_other(self.look(image, None, _LEAST_SCORE_IN_WHOLE), followed)
        if self._wait >= 0:
            return None
        before, self._looks_back = self._next, not self._looks_back
        if self._lost is not None and self._looks_back:
            where = [View.around([self._lost], (image.shape[1], image.shape[0]))]
        else:
            where = list(self._next_tiles(image, 1))
        faces = [face for tile in where for face in self.look(image, tile)]
        if before and not self._next:
            self._pause, self._lost = min(2 * self._pause, FRAMES_PER_TILE[1]), None
        self._wait = self._pause - 1
        return _first_other(faces, followed)

    def _next_tiles(self, image: np.ndarray, count: int) -> Iterator[View]:
        """The next tiles, at most so many; before the first, the view of the face lost last."""
        size = (image.shape[1], image.shape[0])
        if size != self._size:
            self._size, self._tiles, self._next = size, tiles(size), 0
            self._last = self._lost = None
        for _ in range(min(count, len(self._tiles))):
            if self._next == 0 and self._last is not None:
                last, self._last = self._last, None
                yield View.around([last], size)
            else:
                tile = self._tiles[self._next]
                self._next = (self._next + 1) % len(self._tiles)
                yield tile

    def look(
        self, image: np.ndarray, tile: View | None = None, least_score: float = _LEAST_SCORE
    ) -> list[FaceBox]:
        """The faces in a part of an image, the clearest first; in the whole image without one."""
        if tile is None:
            tile = View(0, 0, image.shape[1], image.shape[0])
        part = tile.cut(image)
        # The detector takes single pixels of a larger picture, and shrinking it costs less.
        shrink = max(1, max(part.shape[:2]) // _TILE_PX)
        if shrink > 1:
            shape = (max(1, part.shape[1] // shrink), max(1, part.shape[0] // shrink))
            part = cv2.resize(part, shape, interpolation=cv2.INTER_AREA)
        rgb = cv2.cvtColor(part, cv2.COLOR_BGR2RGB)
        assert self._detector is not None
        found = self._detector.detect(Image(image_format=ImageFormat.SRGB, data=rgb)).detections
        boxes = []
        scored = [(face.categories[0].score or 0, face.bounding_box) for face in found]
        for score, box in sorted(scored, key=lambda pair: -pair[0]):
            if score >= least_score and shrink * box.width >= _LEAST_WIDTH_PX:
                x, y = box.origin_x + box.width / 2, box.origin_y + box.height / 2
                boxes.append(FaceBox(tile.x + shrink * x, tile.y + shrink * y, shrink * box.width))
        return boxes


def _first_other(faces: Sequence[FaceBox], followed: Sequence[FaceBox]) -> FaceBox | None:
    """The first of the faces that is not among those followed; None if there is none."""
    return next((f for f in faces if not any(f.is_on(other) for other in followed)), None)
