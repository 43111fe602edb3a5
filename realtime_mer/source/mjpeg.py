"""Motion JPEG over HTTP, as cameras send it, whatever they write between the pictures."""

from __future__ import annotations

import re
from collections.abc import Callable

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import Interpolation, VideoReformatter

from realtime_mer.source.limits import MAX_PIXELS, check_size, encoded_size

# A picture of 67 Mpx in good quality. A sender that goes on without an end of picture for longer
# sends no pictures.
_MAX_BYTES = 32 << 20
_BEGIN = b"\xff\xd8"
_END = b"\xff\xd9"
_LENGTH = re.compile(rb"content-length:[ \t]*(\d{1,9})[ \t]*\r?\n", re.IGNORECASE)
# In the coded data a 0xFF is followed by 0x00 or a restart marker (0xD0 to 0xD7); anything else is
# the next marker.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_START_OF_SCAN = 0xDA


def looks_like_mjpeg(content_type: str, data: bytes) -> bool:
    """Whether an answer is motion JPEG, by its type or, if that is missing or wrong, its beginning.

    Args:
        content_type: The answer's type, in lower case.
        data: Its first bytes.
    """
    if content_type.startswith("multipart/"):
        return True
    return re.search(rb"content-type:[ \t]*image/jpe?g", data, re.IGNORECASE) is not None


class JPEGSplitter:
    """Cuts a stream of bytes into JPEG pictures.

    Boundaries and part types are ignored: cameras leave them out or write them differently from
    what they announce. A picture ends where its length in the part's header says, and without one
    where its own markers say.

    Args:
        read: Returns the next bytes, at least one; none at the end.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._data = bytearray()
        self._ended = False

    def __call__(self) -> bytes | None:
        """The next picture; None at the end. It may be damaged."""
        if not self._fill_until(lambda: _BEGIN in self._data, keep=1024):
            return None
        begin = self._data.index(_BEGIN)
        lengths = _LENGTH.findall(self._data[:begin])
        del self._data[:begin]
        if lengths and 0 < int(lengths[-1]) <= _MAX_BYTES:
            end = int(lengths[-1])
            self._fill_until(lambda: len(self._data) >= end)
        else:
            walk = _Walk()
            self._fill_until(lambda: walk.finished(self._data))
            end = walk.at
        picture = bytes(self._data[:end])
        del self._data[: max(end, len(_BEGIN))]
        return picture

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
        self.at = len(_BEGIN)
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
            if marker == _BEGIN[1] or marker == 0:
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

    Args:
        name: The source as it may be shown.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reformatter = VideoReformatter()

    def __call__(self, data: bytes) -> np.ndarray | None:
        """(height, width, 3) uint8, BGR; None if the picture is damaged.

        Raises:
            InputError: It is too large.
        """
        if size := encoded_size(data):
            check_size(self._name, *size)
        # A new decoder for each: what a damaged picture leaves in one would spoil the next.
        decoder = VideoCodecContext.create("mjpeg", "r")
        decoder.thread_count = 1
        decoder.options = {"max_pixels": str(MAX_PIXELS)}
        try:
            frames = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
        except av.FFmpegError:
            return None
        if not frames:
            return None
        frame = self._reformatter.reformat(
            frames[0], format="bgr24", interpolation=Interpolation.BICUBIC, threads=1
        )
        return np.ascontiguousarray(frame.to_ndarray())
