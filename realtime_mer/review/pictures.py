"""The pictures of clips, as the page shows them: one JPEG a frame, magnified on request.

A page that draws single pictures shows each frame for exactly its time, at any speed and in any
browser; players of videos do not stop at a given frame, and some know no H.264.
"""

from __future__ import annotations

import json
import struct
import threading
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np

from realtime_mer.archive.magnify import magnified
from realtime_mer.archive.reviews.found import Found
from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown
from realtime_mer.source.reader import DEFAULT_FPS
from realtime_mer.source.video_file import VideoFileReader

# Indistinguishable from the clip, at about 10 kB a picture. Chosen by looking.
_JPEG_QUALITY = 90
# Longer than any clip that an archive writes (2 s at 200 pictures a second), and what a small
# picture is at most: a strange file must not fill the memory.
_MAX_PICTURES = 600
_MAX_PIXELS = 256 * 256
# All clips that are kept in memory: some 100 of an archive. Chosen by judgement.
_MAX_CACHED_BYTES = 64_000_000


class Pictures:
    """Reads clips, and keeps what it made of the last ones within a bound of memory."""

    def __init__(self, max_bytes: int = _MAX_CACHED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, bool], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __call__(self, event: Found, *, magnify: bool) -> bytes:
        """The pictures around an event. It may be called from any thread, one at a time.

        Returns:
            Blocks, each a length of 4 bytes (big-endian) and so many bytes: first JSON with
            `times_s`, the time of each picture in seconds of the video's clock, then the JPEGs.

        Raises:
            InputError: There is no clip of it, or none that can be read.
        """
        wanted = event.id, magnify
        with self._lock:
            if wanted in self._kept:
                self._kept.move_to_end(wanted)
                return self._kept[wanted]
        made = _blocks(event, magnify)
        with self._lock:
            self._kept[wanted] = made
            self._bytes += len(made)
            while self._bytes > self._max_bytes and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._bytes -= len(old)
        return made

    @property
    def kept_bytes(self) -> int:
        """How many bytes are in memory."""
        return self._bytes


def _blocks(event: Found, magnify: bool) -> bytes:
    path = event.video.clip(event.number)
    if path is None:
        raise InputError(f"no clip of this event was kept in {shown(event.video.folder)}")
    frames, times_s = _read(path)
    info = event.video.clip_info(event.number) or {}
    told = info.get("times_s")
    if isinstance(told, list) and len(told) == len(frames):
        times_s = np.array(told, np.float64)
    else:
        start = info.get("start_s")
        times_s = times_s + (start if isinstance(start, int | float) else event.onset_s - 0.5)
    if magnify:
        try:
            frames = magnified(frames, times_s, onset_s=event.onset_s)
        except ValueError as error:
            raise InputError(f"{shown(path)} cannot be magnified: {error}") from None
    head = json.dumps({"times_s": [round(float(time_s), 4) for time_s in times_s]}).encode()
    blocks = [head, *map(_jpeg, frames)]
    return b"".join(struct.pack(">I", len(block)) + block for block in blocks)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(n, height, width, 3) uint8, BGR, and the time of each frame in the file, seconds."""
    reader = VideoFileReader(path, shown(path), None)
    images: list[np.ndarray] = []
    times: list[float] = []
    try:
        reader.open()
        while len(images) < _MAX_PICTURES and (grab := reader.read()) is not None:
            image = grab.image
            if image.shape[0] * image.shape[1] > _MAX_PIXELS:
                raise InputError(f"{shown(path)} is no clip of a face: its pictures are too large")
            if images and image.shape != images[0].shape:
                raise InputError(f"{shown(path)} is no clip of a face: its size changes")
            images.append(image)
            untimed = len(times) / (reader.fps or DEFAULT_FPS)
            times.append(untimed if grab.position_s is None else grab.position_s)
    finally:
        reader.close()
    if not images:
        raise InputError(f"{shown(path)} is damaged: no picture in it can be read")
    return np.stack(images), np.array(times)


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
