"""The annotated video as a file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.output.overlay import Overlay
from realtime_mer.output.writable import check_writable
from realtime_mer.results import Analysis, Session, Summary
from realtime_mer.source.opencv import quiet_opencv

# Both encode fast, and every OpenCV wheel has them.
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}

DEFAULT_FPS = 30.0
"""Frame rate of the file for live sources, which often declare a wrong one."""


class VideoOutput:
    """Writes the overlay's pictures at a constant rate that keeps the source's time.

    A picture is repeated until the next one's time, and left out if the file's rate has no room
    for it. The file gets its name when it is complete; an early end completes it, too.

    Example:
        output = VideoOutput("annotated.mp4", Overlay())
    """

    def __init__(self, path: str | os.PathLike[str], overlay: Overlay) -> None:
        """
        Args:
            path: .mp4 or .avi.
            overlay: It draws the pictures; a window may share it.

        Raises:
            InputError: Nothing can be written there, or not in this format.
        """
        self._path = Path(path)
        codec = CODECS.get(self._path.suffix.lower())
        if codec is None:
            raise InputError(
                f"{path} has no ending that names a known video format. "
                f"End it with {' or '.join(CODECS)}."
            )
        check_writable(self._path)
        self._codec = cv2.VideoWriter.fourcc(*codec)
        self._fps = DEFAULT_FPS
        self._check_codec(codec)
        # Hidden, and in the same folder, so that a rename completes it.
        self._part = self._path.with_name(f".{self._path.stem}.part{self._path.suffix}")
        self._overlay = overlay
        self._writer: cv2.VideoWriter | None = None
        self._pending: np.ndarray | None = None
        self._slot = 0

    def begin(self, session: Session) -> None:
        self._overlay.begin(session)
        if not session.live and 1 <= session.fps <= 240:
            self._fps = session.fps

    def update(self, analysis: Analysis) -> None:
        self._overlay.update(analysis)
        slot = round(analysis.frame.time_s * self._fps)
        if self._pending is not None and slot <= self._slot:
            return
        picture = self._overlay.picture()
        if self._pending is None:
            self._open(picture)
            self._pending = np.empty_like(picture)
        else:
            self._write(slot - self._slot)
        np.copyto(self._pending, picture)
        self._slot = slot

    def end(self, summary: Summary) -> None:
        if self._writer is None:
            return
        try:
            self._write(1)
            self._writer.release()
            os.replace(self._part, self._path)
        except OSError as error:
            raise self._failed(error.strerror) from None
        finally:
            self._writer = self._pending = None
            with contextlib.suppress(OSError):
                self._part.unlink()

    def _open(self, picture: np.ndarray) -> None:
        size = (picture.shape[1], picture.shape[0])
        self._writer = self._writer_to(self._part, size)
        if not self._writer.isOpened():
            self._writer = None
            raise self._failed(f"the format does not take {size[0]} x {size[1]} pixels")

    def _write(self, times: int) -> None:
        assert self._writer is not None
        assert self._pending is not None
        for _ in range(times):
            self._writer.write(self._pending)

    def _writer_to(self, path: Path, size: tuple[int, int]) -> cv2.VideoWriter:
        quiet_opencv()
        return cv2.VideoWriter(os.path.abspath(path), cv2.CAP_FFMPEG, self._codec, self._fps, size)

    def _check_codec(self, codec: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            writer = self._writer_to(Path(folder) / f"probe{self._path.suffix}", (64, 64))
            works = writer.isOpened()
            writer.release()
        if not works:
            raise InputError(
                f"{self._path} cannot be written: this OpenCV has no {codec} encoder. "
                f"Try another ending ({', '.join(CODECS)}), or reinstall opencv-python."
            )

    def _failed(self, reason: str | None) -> InputError:
        return InputError(f"{self._path} cannot be written: {reason}. Name another file.")
