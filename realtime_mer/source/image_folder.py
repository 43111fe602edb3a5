"""Folders of frames."""

from __future__ import annotations

import re
import time
from pathlib import Path

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.source.reader import DEFAULT_FPS, Grab
from realtime_mer.source.redaction import redacted

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)


class ImageFolderReader:
    """A folder of frames, in natural order: frame 2 comes before frame 10.

    Args:
        path: The folder.
        name: The folder as it may be shown.
        fps: Frame rate; None to assume `DEFAULT_FPS` and say so.
    """

    def __init__(self, path: Path, name: str, fps: float | None) -> None:
        self.name = name
        self.live = False
        self.fps = fps or DEFAULT_FPS
        self.frame_count = 0
        self.notes: list[str] = []
        self._path = path
        self._images: list[Path] = []
        self._next = 0
        self._shape: tuple[int, ...] | None = None
        if fps is None:
            self.notes.append(
                f"the frame rate of {name} is not known: {DEFAULT_FPS:g} fps is assumed. If it is "
                "another, name it (fps): all times depend on it"
            )

    def open(self) -> None:
        """Lists the folder.

        Raises:
            InputError: It cannot be read or holds no pictures.
        """
        try:
            images = [
                p
                for p in self._path.iterdir()
                if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
            ]
        except OSError as error:
            raise InputError(
                f"{self.name} cannot be read: {error.strerror}. Check its permissions."
            ) from None
        if not images:
            raise self.empty()
        self._images = sorted(images, key=_natural)
        self.frame_count = len(images)

    def read(self) -> Grab | None:
        """Returns the next picture, or None at the end.

        Raises:
            InputError: A file is no picture, or has another size than those before it.
        """
        if self._next >= len(self._images):
            return None
        path = self._images[self._next]
        image = decode(path)
        if image is None:
            raise InputError(
                f"{redacted(path.name)} in {self.name} cannot be read as a picture. "
                "Replace it, or take it out of the folder."
            )
        if self._shape is None:
            self._shape = image.shape
        elif image.shape != self._shape:
            raise InputError(
                f"{redacted(path.name)} in {self.name} has {image.shape[1]} x {image.shape[0]} "
                f"pixels, the frames before it {self._shape[1]} x {self._shape[0]}. "
                "Keep one recording per folder, with frames of one size."
            )
        position_s = self._next / self.fps
        self._next += 1
        return Grab(image, position_s, time.monotonic())

    def empty(self) -> InputError:
        """Returns the error for a folder without pictures."""
        return InputError(
            f"{self.name} is a folder without pictures. Name a folder of frames "
            f"({', '.join(sorted(s[1:] for s in IMAGE_SUFFIXES))}) or a video file."
        )

    def close(self) -> None:
        """Forgets the list of pictures."""
        self._images = []


def decode(path: Path) -> np.ndarray | None:
    """The picture in a file, (height, width, 3) uint8, BGR; None if it cannot be read as one."""
    # cv2.imread fails on some file names on some systems; decoding from memory never sees the name.
    quiet_opencv()
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR_BGR) if data.size else None
    except (OSError, cv2.error):
        return None


def _natural(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    """Sorting key that compares numbers in file names by value."""
    pieces = re.split(r"([0-9]+)", path.name.casefold())
    return [(0, int(p)) if p.isdigit() and p.isascii() else (1, p) for p in pieces], path.name
