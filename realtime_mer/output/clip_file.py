"""Clips on disk: pictures compressed without loss, each on its own, with their own times."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import unicodedata
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

# MagicYUV stores red, green and blue exactly. Milliseconds of one processor a frame, and bytes in
# percent, of JPEG pictures with noise (sigma 2) at 640 x 480, 1280 x 720 and 1920 x 1080:
# MagicYUV 3, 8, 14 ms, 26, 23, 21 %; HuffYUV 2, 6, 12 ms, 38, 34, 33 %; FFV1 11, 28, 66 ms, 18, 15,
# 13 %; x264 (lossless, ultrafast, each picture on its own) 7, 14, 31 ms, 49, 44, 42 %.
CODEC = "magicyuv"
"""FFmpeg's name of the codec."""
_PIXELS = "gbrp"
_OPTIONS = {"pred": "median", "slices": "1"}

SUFFIX = ".mov"
"""Unlike AVI, it gives every frame a time of its own. FFmpeg's Matroska does not take MagicYUV."""

_TIME_BASE = Fraction(1, 1_000_000)
_WRITE_BYTES = 1 << 20

# Chosen to leave room for a position, a label and a counter within the 143 bytes of the strictest
# file system (eCryptfs).
_MAX_NAME_BYTES = 64
_MAX_LABEL = 32

PART = re.compile(r"\.mer_[0-9a-f]{16}\.part" + re.escape(SUFFIX))
"""Names of files that are being written."""


class Encoder:
    """Compresses pictures; each can be decoded without the others. Not for several threads.

    Example:
        >>> packet = Encoder()(np.zeros((480, 640, 3), np.uint8))
        >>> len(packet) < 480 * 640
        True
    """

    def __init__(self) -> None:
        self._context: VideoCodecContext | None = None
        self._reformatter = VideoReformatter()

    def __call__(self, image: np.ndarray) -> bytes:
        """
        Args:
            image: (height, width, 3) uint8, BGR, C-contiguous.

        Raises:
            av.FFmpegError: It cannot be compressed.
            MemoryError: There is no memory for it.
        """
        height, width = image.shape[:2]
        context = self._context
        if context is None or (context.height, context.width) != (height, width):
            created = av.CodecContext.create(CODEC, "w")
            assert isinstance(created, VideoCodecContext)
            self._context = context = created
            context.width, context.height = width, height
            context.pix_fmt, context.time_base = _PIXELS, _TIME_BASE
            context.options, context.thread_count = _OPTIONS, 1
        # Without a copy: the frame lives shorter than the image.
        frame = self._reformatter.reformat(
            VideoFrame.from_numpy_buffer(image, format="bgr24"), format=_PIXELS, threads=1
        )
        (packet,) = context.encode(frame)
        return bytes(packet)


def most_bytes(image: np.ndarray) -> int:
    """Bytes that a compressed picture takes at most.

    Measured: pure noise takes 0.1 % more than the picture at 640 x 480 and 9 % more at 64 x 48, a
    single pixel takes 832 bytes.
    """
    return image.nbytes + image.nbytes // 8 + 1024


class ClipFile:
    """A clip that is being written: hidden until it is complete.

    Args:
        folder: It must exist.
        shape: Shape of the pictures, (height, width, 3).
        comment: Text that the file carries.

    Raises:
        OSError: It cannot be written there.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], comment: str) -> None:
        self.shape = shape
        self._folder = folder
        self._part = folder / f".mer_{secrets.token_hex(8)}.part{SUFFIX}"
        # Python opens it: FFmpeg would take some names for addresses, and hide why a write failed.
        self._file = self._part.open("xb", buffering=0)
        try:
            self._container = av.open(
                self._file, "w", format="mov", buffer_size=_WRITE_BYTES, metadata_errors="replace"
            )
            self._container.metadata["comment"] = comment
            stream = self._container.add_stream(CODEC, rate=30)
            assert isinstance(stream, VideoStream)
            stream.height, stream.width = shape[:2]
            stream.pix_fmt, stream.time_base = _PIXELS, _TIME_BASE
            self._stream = stream
        except BaseException:
            self._file.close()
            self._part.unlink(missing_ok=True)
            raise
        self._first_s: float | None = None
        self._last_pts = -1

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def write(self, packet: bytes, time_s: float, duration_s: float) -> None:
        """Adds what the encoder made of a picture.

        Raises:
            OSError: It cannot be written.
        """
        if self._first_s is None:
            self._first_s = time_s
        encoded = av.Packet(packet)
        encoded.stream = self._stream
        encoded.time_base = _TIME_BASE
        self._last_pts = max(self._last_pts + 1, round((time_s - self._first_s) / _TIME_BASE))
        encoded.pts = encoded.dts = self._last_pts
        # It counts for the last picture only; for the others, the next one's time does.
        encoded.duration = max(1, round(duration_s / _TIME_BASE))
        encoded.is_keyframe = True
        self._container.mux(encoded)

    def finish(self, stem: str, record: dict[str, Any]) -> Path:
        """Completes the clip under a free name, with its record beside it; returns its path.

        Args:
            stem: The name without ending. If it is taken, a number follows it.
            record: It is written as JSON, with the name of the clip in `video`.

        Raises:
            OSError: It is not complete or cannot be renamed. Nothing is left of it.
        """
        try:
            self._container.close()
            # What a full disk or a lost connection swallowed is reported here at the latest.
            os.fsync(self._file.fileno())
            self._file.close()
            return self._name(stem, record)
        except BaseException:
            self.discard()
            raise

    def _name(self, stem: str, record: dict[str, Any]) -> Path:
        for k in itertools.count(1):
            path = self._folder / (f"{stem}{SUFFIX}" if k == 1 else f"{stem}_{k}{SUFFIX}")
            if path.exists():
                continue
            beside = path.with_suffix(".json")
            try:
                # Creating the JSON file first reserves the name.
                file = beside.open("x", encoding="utf-8")
            except FileExistsError:
                continue
            try:
                with file:
                    file.write(json.dumps({"video": path.name, **record}, allow_nan=False) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(self._part, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    beside.unlink()
                raise
            return path
        raise AssertionError("numbers do not end")

    def discard(self) -> None:
        """Deletes what has been written."""
        with contextlib.suppress(Exception):
            self._container.close()
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink()


def clip_stem(
    source: str | None, position_s: float, wall_clock: str, label: str, camera: int | None = None
) -> str:
    """The name of a clip without its ending, safe on every file system.

    Args:
        source: The file or folder that it was cut from, as it may be shown; None if it is live.
        position_s: Where in it.
        wall_clock: The date and time of a live clip.
        label: The event's.
        camera: Which of several live sources it is.

    Example:
        >>> clip_stem("talks/interview.mp4", 8.29, "", "negative")
        'interview_00m08.29s_negative'
        >>> clip_stem(None, 8.29, "20260131-093015-250", "negative")
        'mer_20260131-093015-250_negative'
        >>> clip_stem(None, 8.29, "20260131-093015-250", "negative", camera=1)
        'mer_20260131-093015-250_camera1_negative'
    """
    # Labels come from the model's card and may hold any character.
    label = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:_MAX_LABEL] or "event"
    if source is None:
        which = "" if camera is None else f"_camera{camera}"
        return f"mer_{wall_clock}{which}_{label}"
    name = re.split(
        r"[/\\]", re.sub(r"[?#].*", "", source) if "://" in source else source.rstrip("/")
    )
    return f"{_safe_name(name[-1])}_{_position(position_s)}_{label}"


def _safe_name(name: str) -> str:
    """The name of a source, as far as it is letters and figures, without its ending."""
    stem = re.sub(r"(?<=.)\.[A-Za-z0-9]{1,5}$", "", name)
    stem = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", stem))
    # A leading dot would hide it, a leading minus look like an option.
    stem = stem.strip(".-_")
    return stem.encode()[:_MAX_NAME_BYTES].decode(errors="ignore").rstrip(".-_") or "source"


def _position(position_s: float) -> str:
    """A position to hundredths of a second: 00m08.29s, 1h02m03.50s."""
    minutes, hundredths = divmod(round(position_s * 100), 6000)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes:02d}m{hundredths // 100:02d}.{hundredths % 100:02d}s"
    return f"{hours}h{text}" if hours else text
