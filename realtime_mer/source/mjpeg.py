"""Motion JPEG over HTTP, as cameras send it, whatever they write between the pictures."""

from __future__ import annotations

import re
from collections.abc import Callable

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from realtime_mer.source.limits import MAX_PIXELS, check_size, encoded_size

# A picture of 67 Mpx in good quality. A sender that goes on without an end of picture for longer
# sends no pictures.
_MAX_BYTES = 32 << 20
# Cameras fill pictures up to a multiple of some bytes. Chosen by judgement.
_MAX_PADDING = 4096
JPEG_BEGIN = b"\xff\xd8"
"""What every JPEG picture begins with."""

_END = b"\xff\xd9"
_LENGTH = re.compile(rb"content-length:[ \t]*(\d{1,9})[ \t]*\r?\n", re.IGNORECASE)
# In the coded data a 0xFF is followed by 0x00 or a restart marker (0xD0 to 0xD7); anything else is
# the next marker.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_START_OF_SCAN = 0xDA
STRICT = {"err_detect": "explode"}
"""Options with which FFmpeg refuses a JPEG picture that is damaged, where it would guess else."""

INTERPOLATION = Interpolation.BICUBIC
"""With this filter, colours are converted bit for bit as OpenCV's own reader converts them."""


def looks_like_mjpeg(content_type: str, data: bytes, has_length: bool = False) -> bool:
    """Whether an answer is motion JPEG, by its type or, if that is missing or wrong, its beginning.

    Args:
        content_type: The answer's type, in lower case.
        data: Its first bytes.
        has_length: Whether the answer has an end: then one that begins with a picture is a picture.
    """
    if content_type.startswith("multipart/"):
        return True
    if data.startswith(JPEG_BEGIN) and not has_length:
        return True
    return re.search(rb"content-type:[ \t]*image/jpe?g", data, re.IGNORECASE) is not None


class JPEGSplitter:
    """Cuts a stream of bytes into JPEG pictures.

    Boundaries and part types are ignored: cameras leave them out or write them differently from
    what they announce. A picture ends where its length in the part's header says, and where its own
    markers say if there is no length or an end of picture is not there.

    Args:
        read: Returns the next bytes, at least one; none at the end.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._data = bytearray()
        self._ended = False

    def __call__(self) -> bytes | None:
        """The next picture; None at the end. It may be damaged."""
        if not self._fill_until(lambda: JPEG_BEGIN in self._data, keep=1024):
            return None
        begin = self._data.index(JPEG_BEGIN)
        lengths = _LENGTH.findall(self._data[:begin])
        del self._data[:begin]
        end = int(lengths[-1]) if lengths else 0
        if not (0 < end <= _MAX_BYTES and self._ends_at(end)):
            walk = _Walk()
            self._fill_until(lambda: walk.finished(self._data))
            end = walk.at
        picture = bytes(self._data[:end])
        del self._data[: max(end, len(JPEG_BEGIN))]
        return picture

    def _ends_at(self, end: int) -> bool:
        """Whether a picture ends at a place, padded or not; reads on up to there."""
        self._fill_until(lambda: len(self._data) >= end)
        return self._data[max(0, end - _MAX_PADDING) : end].rstrip(b"\0\r\n").endswith(_END)

    def _fill_until(self, satisfied: Callable[[], bool], keep: int = _MAX_BYTES) -> bool:
        """Reads on until a condition holds; returns False if it never does.

        Args:
            satisfied: The condition.
            keep: So many of the last bytes are kept while it does not hold.
        """
        while not satisfied():
            data = b"" if self._ended else self._read()
            if not data:
                self._ended = True
                return False
            if keep < _MAX_BYTES:
                del self._data[:-keep]
            elif len(self._data) > _MAX_BYTES:
                return False
            self._data += data
        return True


class _Walk:
    """Goes along the markers of one JPEG picture, as its data arrive.

    Attributes:
        at: How far it has come; once finished, the end of the picture.
    """

    def __init__(self) -> None:
        self.at = len(JPEG_BEGIN)
        self._in_scan = False

    def finished(self, data: bytearray) -> bool:
        """Whether the end of the picture has been found, or damage."""
        while True:
            if self._in_scan:
                match = _NEXT_MARKER.search(data, self.at)
                if match is None:
                    self.at = max(self.at, len(data) - 1)
                    return False
                self.at = match.start()
            if len(data) < self.at + 4 and data[self.at : self.at + 2] != _END:
                return False
            if data[self.at] != 0xFF:
                return True
            marker = data[self.at + 1]
            if marker == _END[1]:
                self.at += 2
                return True
            if marker == JPEG_BEGIN[1] or marker == 0:
                return True
            if marker == 0xFF:
                self.at += 1
                continue
            length = int.from_bytes(data[self.at + 2 : self.at + 4], "big")
            if length < 2:
                return True
            if len(data) < self.at + 2 + length:
                return False
            self.at += 2 + length
            self._in_scan = marker == _START_OF_SCAN


class JPEGDecoder:
    """Decodes JPEG pictures as FFmpeg does, so that a stream looks like a file.

    A picture that is damaged half-way is left out: what is missing would look like motion. Of a
    sender whose pictures all break the rules, they are taken as they are.

    Args:
        name: The source as it may be shown.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reformatter = VideoReformatter()
        # Whether a picture has kept the rules.
        self._is_strict = False

    def __call__(self, data: bytes) -> np.ndarray | None:
        """(height, width, 3) uint8, BGR; None if the picture is damaged.

        Raises:
            InputError: It is too large.
        """
        if size := encoded_size(data):
            check_size(self._name, *size)
        frame = _decoded(data, STRICT)
        if frame is not None:
            self._is_strict = True
        elif not self._is_strict:
            frame = _decoded(data, {})
        if frame is None:
            return None
        converted = self._reformatter.reformat(
            frame, format="bgr24", interpolation=INTERPOLATION, threads=1
        )
        return np.ascontiguousarray(converted.to_ndarray())


def _decoded(data: bytes, options: dict[str, str]) -> VideoFrame | None:
    # A new decoder for each: what a damaged picture leaves in one would spoil the next.
    decoder = VideoCodecContext.create("mjpeg", "r")
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(MAX_PIXELS), **options}
    try:
        frames = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
    except av.FFmpegError:
        return None
    return frames[0] if frames else None
