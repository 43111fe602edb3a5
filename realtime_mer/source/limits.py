"""The largest picture that is read, and the size of a picture before it is decoded."""

from __future__ import annotations

import re
import struct

from realtime_mer.errors import InputError

MAX_SIDE = 8192
"""Pixels. Chosen by judgement: holds 8K video (7680 x 4320); at 8192 x 8192 a decoded picture takes
201 MB, and several are in memory at once."""

MAX_PIXELS = MAX_SIDE * MAX_SIDE

MAX_TIME_S = 1e12
"""Some 30,000 years. MediaPipe counts microseconds in 63 bits, which end at 9e12 s."""

MIN_FPS = 1e-6
"""One picture in eleven days. Chosen by judgement: a year of them stays far below `MAX_TIME_S`."""

_PNM = re.compile(rb"P[1-6](?:\s+#[^\n]*)*\s+(\d{1,9})(?:\s+#[^\n]*)*\s+(\d{1,9})\s")
_JPEG_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257


def check_size(name: str, width: int, height: int) -> None:
    """Refuses pictures that are too large to decode.

    Raises:
        InputError: A side is longer than `MAX_SIDE`.
    """
    if max(width, height) > MAX_SIDE:
        raise InputError(
            f"{name} has {width} x {height} pixels, more than the limit of {MAX_SIDE} x {MAX_SIDE}."
            " Scale it down, or cut out the part with the face."
        )


def encoded_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) that the header of an encoded picture declares; None if it is not found.

    Knows PNG, JPEG, BMP, WebP, TIFF and PNM.
    """
    try:
        return _encoded_size(data)
    except (struct.error, IndexError):
        return None


def _encoded_size(data: bytes) -> tuple[int, int] | None:
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    if data[:2] == b"BM":
        width, height = struct.unpack_from("<ii", data, 18)
        return abs(width), abs(height)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff_size(data, "<" if data[:1] == b"I" else ">")
    if match := _PNM.match(data):
        return int(match[1]), int(match[2])
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker in _JPEG_SOF:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        return width, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff_size(data: bytes, order: str) -> tuple[int, int] | None:
    at = struct.unpack_from(order + "I", data, 4)[0]
    found = {}
    for k in range(struct.unpack_from(order + "H", data, at)[0]):
        tag, kind = struct.unpack_from(order + "HH", data, at + 2 + 12 * k)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT):
            short = order + ("H" if kind == 3 else "I")
            found[tag] = struct.unpack_from(short, data, at + 10 + 12 * k)[0]
    size = found.get(_TIFF_WIDTH, 0), found.get(_TIFF_HEIGHT, 0)
    return size if all(size) else None
