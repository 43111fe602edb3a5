"""Folders of frames."""

from __future__ import annotations

import re
import time
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.redaction import printable
from realtime_mer.source.limits import check_size, encoded_size
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.source.reader import DEFAULT_FPS, Grab

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)


# At least this part of the steps between the numbers of the frames must be the usual one; otherwise
# the numbers count something else. Chosen by judgement.
_USUAL_PART = 0.5
# At 30 frames a second, a year. Numbers that lead further count something else.
_MAX_PLACE = 10**9
_DECIMAL = re.compile(r"([0-9]+(?:\.[0-9]+)?)")
_INTEGER = re.compile(r"([0-9]+)")


class ImageFolderReader:
    """A folder of frames, in natural order: frame 2 comes before frame 10, and 0.033 before 0.1.

    Frames are one period apart. Where their numbers skip some, the times skip as many periods.

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
        self._places: list[int] = []
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
        names = [p.name for p in images]
        pattern = _DECIMAL if _has_decimals(names) else _INTEGER
        self._images = sorted(images, key=lambda p: (_natural(p.name, pattern), p.name))
        self._places = _places([p.name for p in self._images], pattern)
        self.frame_count = len(images)
        if missing := self._places[-1] + 1 - len(images):
            self.notes.append(
                f"{missing} of {self._places[-1] + 1} numbers are missing in {self.name}: their "
                "time passes without a picture"
            )

    def read(self) -> Grab | None:
        """Returns the next picture, or None at the end.

        Raises:
            InputError: A file is no picture, is too large, or has another size than those before
                it.
        """
        if self._next >= len(self._images):
            return None
        path = self._images[self._next]
        name = f"{printable(path.name)} in {self.name}"
        image = decode(path, name)
        if image is None:
            raise InputError(
                f"{name} cannot be read as a picture. Replace it, or take it out of the folder."
            )
        if self._shape is None:
            self._shape = image.shape
        elif image.shape != self._shape:
            raise InputError(
                f"{name} has {image.shape[1]} x {image.shape[0]} pixels, "
                f"the frames before it {self._shape[1]} x {self._shape[0]}. "
                "Keep one recording per folder, with frames of one size."
            )
        position_s = self._places[self._next] / self.fps
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


def decode(path: Path, name: str | None = None) -> np.ndarray | None:
    """The picture in a file, (height, width, 3) uint8, BGR; None if it cannot be read as one.

    Args:
        path: The file.
        name: The file as it may be shown; None for the last part of its path.

    Raises:
        InputError: The picture is too large.
    """
    # cv2.imread fails on some file names on some systems; decoding from memory never sees the name.
    quiet_opencv()
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if size := encoded_size(data):
        check_size(name or printable(path.name), *size)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_BGR) if data else None
    except cv2.error:
        return None


def _has_decimals(names: list[str]) -> bool:
    """Whether "0.033" and "0.1" in the names are decimal numbers, not pairs of counters.

    Counters have no leading zeros, or all have at least as many digits as those with leading zeros.
    """
    fractions = [f for name in names for f in re.findall(r"[0-9]\.([0-9]+)", name)]
    shortest = min(map(len, fractions), default=0)
    return any(f[0] == "0" and len(f) > shortest for f in fractions)


def _natural(name: str, pattern: re.Pattern[str]) -> list[tuple[int, Decimal | str]]:
    """Sorting key that compares the numbers in a file name by value."""
    # Every second piece of a split by a group is what the group matched.
    return [
        (0, Decimal(piece)) if k % 2 else (1, piece)
        for k, piece in enumerate(pattern.split(name.casefold()))
    ]


def _places(names: list[str], pattern: re.Pattern[str]) -> list[int]:
    """The places of sorted frames in time, from 0, in periods: missing numbers leave a hole.

    The numbers count if the names differ in one number alone and its steps are multiples of the
    most frequent step; otherwise the places are 0, 1, 2, ...
    """
    one_by_one = list(range(len(names)))
    pieces = [pattern.split(Path(name).stem.casefold()) for name in names]
    if len({(len(p), *p[::2]) for p in pieces}) != 1:
        return one_by_one
    # Fractions are exact, however many digits a number has.
    columns = [[Fraction(n) for n in column] for column in list(zip(*pieces, strict=True))[1::2]]
    varying = [column for column in columns if len(set(column)) > 1]
    if len(varying) != 1:
        return one_by_one
    steps = [later - earlier for earlier, later in pairwise(varying[0])]
    usual, count = Counter(steps).most_common(1)[0]
    if usual <= 0 or count < _USUAL_PART * len(steps) or any(step % usual for step in steps):
        return one_by_one
    first, last = varying[0][0], varying[0][-1]
    if (last - first) / usual > _MAX_PLACE:
        return one_by_one
    return [int((number - first) / usual) for number in varying[0]]
