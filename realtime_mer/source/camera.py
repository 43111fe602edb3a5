"""Cameras of this machine, and what they are asked for."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import time
from dataclasses import dataclass

import cv2
import numpy as np

from realtime_mer.errors import CameraError, InputError
from realtime_mer.redaction import printable
from realtime_mer.source.opencv import OpenCVReader
from realtime_mer.source.reader import Grab

CAMERA_SIZE = (1280, 720)
"""At this size the face of someone in front of a webcam is some 200 px wide, about the size at
which motion is measured; at 640 x 480 it is half of that."""

CAMERA_RATE = 30.0
"""What nearly every webcam offers at that size."""

CAMERA_FORMAT = "MJPG"
"""Uncompressed, 30 pictures of that size are 55 MB/s, more than USB 2 carries: many cameras then
deliver 10 a second. MJPG needs 4 MB/s, and 2 ms a picture for decoding in the capture thread."""

# Chosen by judgement: a camera may miss a picture (USB noise, a mode change) and go on by itself.
# After a longer silence, waiting does not help: it is opened again.
_MAX_SILENCE_S = 1.0
_RETRY_S = 0.01
# The driver keeps 4 pictures, 0.4 s at 10 fps. An older timestamp comes from another clock.
_MAX_STAMP_AGE_S = 0.5
# V4L2_CID_EXPOSURE_ABSOLUTE counts units of 100 us. It is the true exposure in the modes manual (1)
# and shutter priority (2) of V4L2_CID_EXPOSURE_AUTO; in the others many cameras report a default.
_EXPOSURE_UNIT_S = 1e-4
_FIXED_EXPOSURE_MODES = (1, 2)
# The shortest micro-expressions last this long; no camera exposes for longer than the second.
_LONG_EXPOSURE_S = 1 / 25
_MAX_EXPOSURE_S = 10.0


@dataclass(frozen=True, slots=True)
class CameraRequest:
    """What a camera is asked for. None leaves it to the camera; it may refuse or round anything.

    Attributes:
        size: (width, height) in pixels.
        rate: Frames a second.
        pixel_format: Four characters, as V4L2 and OpenCV name formats.

    Raises:
        InputError: A value that no camera can have.
    """

    size: tuple[int, int] | None = CAMERA_SIZE
    rate: float | None = CAMERA_RATE
    pixel_format: str | None = CAMERA_FORMAT

    def __post_init__(self) -> None:
        if self.size is not None and not all(1 <= n <= 16384 for n in self.size):
            raise InputError(
                f"{self.size[0]} x {self.size[1]} is no picture size. Name one like 1280 x 720."
            )
        if self.rate is not None and not 1 <= self.rate <= 1000:
            raise InputError(f"{self.rate:g} is no frame rate. Name frames a second, 1 to 1000.")
        if self.pixel_format is not None and not re.fullmatch("[ -~]{4}", self.pixel_format):
            raise InputError(
                f"{printable(self.pixel_format)} is no pixel format. Name one like MJPG or YUYV."
            )


_NO_REQUEST = CameraRequest(None, None, None)


class CameraReader(OpenCVReader):
    """A camera by its number or its device path.

    The camera is asked for a format, then a size, then a rate: each one limits the next. If it
    gives no picture that way (too little USB bandwidth, a mode that it only claims), it is opened
    as it comes. OpenCV's buffer keeps its four pictures: with one, the driver would have none to
    fill while we hold it. Reading never pauses, so the pictures are not old either.

    Args:
        device: Number or path.
        name: The camera as it may be shown.
        stall_timeout_s: The camera is lost if it is silent for this long, or for 1 s if that is
            shorter.
        request: What it is asked for.
    """

    # An unplugged camera is plugged in again sooner or later.
    patience_s = math.inf

    def __init__(
        self,
        device: int | str,
        name: str,
        stall_timeout_s: float,
        request: CameraRequest = CameraRequest(),
    ) -> None:
        super().__init__(name, live=True)
        self._device = device
        self._backend = _camera_backend()
        self._max_silence_s = min(_MAX_SILENCE_S, stall_timeout_s)
        self._request = request
        self._current_request = request
        self._first: Grab | None = None
        self._delivery_note = ""

    def open(self) -> None:
        """Opens the camera, as requested or as it comes.

        Raises:
            CameraError: It cannot be opened.
        """
        self._start()
        is_new = not self._delivery_note
        if self._first is None and is_new and self._current_request != _NO_REQUEST:
            self.close()
            self._current_request = _NO_REQUEST
            self._start()
        if self._first is not None:
            self._note_delivery(self._first.image)

    def _start(self) -> None:
        """Opens the camera, makes the request and takes the first picture, if one comes."""
        if not self._open(self._device, self._backend, []):
            raise self._unusable()
        assert self._video is not None
        request = self._current_request
        with contextlib.suppress(cv2.error):
            if request.pixel_format is not None:
                self._video.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*request.pixel_format))
            if request.size is not None:
                self._video.set(cv2.CAP_PROP_FRAME_WIDTH, request.size[0])
                self._video.set(cv2.CAP_PROP_FRAME_HEIGHT, request.size[1])
            if request.rate is not None:
                self._video.set(cv2.CAP_PROP_FPS, request.rate)
        self._read_header()
        self.frame_count = 0
        self._first = self._wait_for_picture()

    def read(self) -> Grab | None:
        """Returns the next picture, or None if the camera is gone or silent."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return self._wait_for_picture()

    def _wait_for_picture(self) -> Grab | None:
        deadline = time.monotonic() + self._max_silence_s
        while (grab := super().read()) is None:
            # Let go of an unplugged camera at once, or it gets another device name on its return.
            if self._is_gone() or time.monotonic() >= deadline:
                return None
            time.sleep(_RETRY_S)
        return grab

    def _grab(self) -> float | None:
        arrived_at = super()._grab()
        if arrived_at is None or self._backend != cv2.CAP_V4L2:
            return arrived_at
        # On Linux, drivers stamp pictures with the clock of `time.monotonic`.
        assert self._video is not None
        stamp = self._video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return stamp if 0 <= arrived_at - stamp <= _MAX_STAMP_AGE_S else arrived_at

    def close(self) -> None:
        """Frees the camera for other programs."""
        self._first = None
        super().close()

    def _note_delivery(self, image: np.ndarray) -> None:
        """Notes what the camera delivers, and an exposure so long that it blurs short motion."""
        assert self._video is not None
        size = (image.shape[1], image.shape[0])
        fourcc = int(self._video.get(cv2.CAP_PROP_FOURCC))
        code = fourcc.to_bytes(4, "little") if 0 < fourcc < 1 << 32 else b""
        pixel_format = code.decode("ascii", "replace") if code.isascii() else ""
        request = self._request
        wanted_size = None if request.size is None else "{} x {}".format(*request.size)
        parts = [_compared(f"{size[0]} x {size[1]}", wanted_size)]
        if pixel_format.isprintable() and pixel_format:
            parts.append(_compared(pixel_format, request.pixel_format))
        wanted_rate = None if request.rate is None else f"{request.rate:g} fps"
        parts.append(_compared(f"{self.fps:.4g} fps", wanted_rate) if self.fps else "fps unknown")
        note = f"{self.name}: {', '.join(parts)} by its driver"
        if note != self._delivery_note:
            self._delivery_note = note
            self.notes.append(note)
            self._note_exposure()

    def _note_exposure(self) -> None:
        assert self._video is not None
        if self._backend != cv2.CAP_V4L2:
            return  # other back ends use other units
        mode = self._video.get(cv2.CAP_PROP_AUTO_EXPOSURE)
        exposure_s = self._video.get(cv2.CAP_PROP_EXPOSURE) * _EXPOSURE_UNIT_S
        is_long = _LONG_EXPOSURE_S < exposure_s <= _MAX_EXPOSURE_S
        if mode in _FIXED_EXPOSURE_MODES and is_long:
            self.notes.append(
                f"{self.name} is set to expose for {exposure_s * 1000:.0f} ms, and shorter motion "
                f"is blurred: set it below {_LONG_EXPOSURE_S * 1000:.0f} ms or to automatic (see "
                "`v4l2-ctl --list-ctrls`), and give the face more light"
            )

    def _path(self) -> str:
        return self._device if isinstance(self._device, str) else f"/dev/video{self._device}"

    def _is_gone(self) -> bool:
        return self._backend == cv2.CAP_V4L2 and not os.path.exists(self._path())

    def empty(self) -> InputError:
        """Returns the error for a camera that was opened but gave no picture."""
        return CameraError(
            f"{self.name} was opened but gives no picture. Plug it in again, or close other "
            "programs that use it."
        )

    def _unusable(self) -> InputError:
        """The error for a camera that cannot be opened."""
        path = self._path()
        if sys.platform.startswith("linux"):
            if not os.path.exists(path):
                return CameraError(
                    f"{self.name} is not there ({printable(path)} does not exist). Connect a "
                    "camera, or name another source: a video file, a folder or an address."
                )
            if not os.access(path, os.R_OK | os.W_OK):
                return CameraError(
                    f"{self.name} may not be opened (no permission for {printable(path)}). Add "
                    "yourself to the group that owns it, usually `video`."
                )
        return CameraError(
            f"{self.name} cannot be opened: it is absent, is no camera, or another program uses "
            "it. Close that program, or name another source."
        )


def _compared(delivered: str, wanted: str | None) -> str:
    if wanted in (None, delivered):
        return delivered
    return f"{delivered} (asked for {wanted})"


def _camera_backend() -> int:
    # CAP_ANY would also try back ends for files and network cameras, slowly and noisily.
    return cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY
