"""Video files."""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from realtime_mer.errors import InputError
from realtime_mer.source.image_folder import IMAGE_SUFFIXES
from realtime_mer.source.opencv import OpenCVReader
from realtime_mer.source.reader import Grab


class VideoFileReader(OpenCVReader):
    """A video file, read by FFmpeg alone: OpenCV's other back ends interpret some file names.

    Args:
        path: The file.
        name: The file as it may be shown.
        fps: True frame rate, which replaces the file's own times (for slow-motion recordings).
    """

    def __init__(self, path: Path, name: str, fps: float | None) -> None:
        super().__init__(name, live=False)
        self._path = path
        self._true_fps = fps

    def open(self) -> None:
        """Opens the file.

        Raises:
            InputError: It is a picture, unreadable, empty or no video.
        """
        if self._path.suffix.lower() in IMAGE_SUFFIXES:
            raise InputError(
                f"{self.name} is a single picture. Name a video, or the folder of the frames."
            )
        try:
            size = self._path.stat().st_size
            with self._path.open("rb"):
                pass
        except OSError as error:
            raise InputError(
                f"{self.name} cannot be read: {error.strerror}. Check its permissions and its disk."
            ) from None
        if size == 0:
            raise InputError(f"{self.name} is an empty file. Copy or record it again.")
        # FFmpeg takes no absolute path for an option or for an address.
        if not self._open(os.path.abspath(self._path), cv2.CAP_FFMPEG, []):
            raise InputError(
                f"{self.name} cannot be opened as a video: it is no video, is cut short before its "
                "index, or has a format that FFmpeg does not know. "
                "Check that a player shows it, or convert it to .mp4."
            )
        self.fps = self._true_fps or self.fps

    def read(self) -> Grab | None:
        """Returns the next picture, or None at the end."""
        grab = super().read()
        return grab if grab is None or self._true_fps is None else grab._replace(position_s=None)

    def empty(self) -> InputError:
        """Returns the error for a file without a single decodable frame."""
        return InputError(
            f"{self.name} holds no frame that can be decoded. Check that a player shows it."
        )
