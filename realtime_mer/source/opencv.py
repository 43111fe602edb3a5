"""What cameras, video files and streams have in common: `cv2.VideoCapture` reads them."""

from __future__ import annotations

import math
import os
import time

import cv2
import numpy as np

from realtime_mer.source.reader import Grab

# Limits to a plausible header: FFmpeg reports 90,000 fps (the tick of its clock) and negative or
# huge counts when it knows neither.
_MAX_FPS = 10_000
_MAX_FRAME_COUNT = 1e9


def quiet_opencv() -> None:
    """Keeps messages of OpenCV and FFmpeg off stderr; exceptions report what fails.

    Call it before OpenCV first opens a video, when FFmpeg reads its log level. If
    OPENCV_LOG_LEVEL or OPENCV_FFMPEG_LOGLEVEL is set, it stays as set.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class OpenCVReader:
    """A reader that gets its pictures from `cv2.VideoCapture`; subclasses say how to open it."""

    def __init__(self, name: str, live: bool) -> None:
        self.name = name
        self.live = live
        self.fps = 0.0
        self.frame_count = 0
        self.notes: list[str] = []
        self._video: cv2.VideoCapture | None = None

    def _open(self, target: str | int, backend: int, parameters: list[int]) -> bool:
        """Opens the target and reads its header; returns whether that worked."""
        quiet_opencv()
        video = cv2.VideoCapture()
        try:
            opened = video.open(target, backend, parameters)
        except cv2.error:
            opened = False
        if not opened:
            video.release()
            return False
        self._video = video
        self._read_header()
        return True

    def _read_header(self) -> None:
        assert self._video is not None
        fps = self._video.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= _MAX_FPS else 0.0
        count = self._video.get(cv2.CAP_PROP_FRAME_COUNT)
        plausible = math.isfinite(count) and 0 < count < _MAX_FRAME_COUNT
        self.frame_count = int(count) if plausible else 0

    def read(self) -> Grab | None:
        """Returns the next picture, or None if there is none."""
        captured_at = self._grab()
        if captured_at is None:
            return None
        assert self._video is not None
        try:
            ok, image = self._video.retrieve()
        except cv2.error:
            return None
        if not ok or image is None or image.size == 0:
            return None
        position_s = None if self.live else self._video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return Grab(_as_bgr(image), position_s, captured_at)

    def _grab(self) -> float | None:
        """Waits for the next picture; returns when it arrived, or None if there is none."""
        assert self._video is not None
        try:
            return time.monotonic() if self._video.grab() else None
        except cv2.error:
            return None

    def close(self) -> None:
        """Closes the source."""
        if self._video is not None:
            self._video.release()
            self._video = None


def _as_bgr(image: np.ndarray) -> np.ndarray:
    """Any picture that OpenCV delivers as (height, width, 3) uint8, BGR."""
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    return np.ascontiguousarray(image)
