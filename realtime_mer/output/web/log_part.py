"""The part of a log file that belongs to a session that goes on."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# A session's first line is looked for in the last so many bytes of a log that was there before.
_FIRST_LINE_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 14


class LogPart:
    """The lines of a session in a file that may hold earlier ones, and to which others append.

    Args:
        path: The log.
        first: The session's first line, which the log has by now.
    """

    def __init__(self, path: Path, first: bytes) -> None:
        self._path, self._first = path, first
        self._start = 0
        file = self._opened()
        if file is not None:
            with file:
                size = file.seek(0, os.SEEK_END)
                tail_at = max(0, size - _FIRST_LINE_BYTES)
                file.seek(tail_at)
                self._start = tail_at + max(0, file.read().rfind(first))

    def blocks(self) -> Iterator[bytes] | None:
        """The session's whole lines so far, in pieces; None if the file does not have them."""
        file = self._opened()
        if file is None:
            return None
        # A log that was moved or emptied begins anew with the session's first line.
        for start in (self._start, 0):
            file.seek(start)
            if file.read(len(self._first)) == self._first:
                return _blocks(file, start, _whole_lines(file, start))
        file.close()
        return None

    def _opened(self) -> BinaryIO | None:
        try:
            # Not to wait for the writer of a pipe.
            fd = os.open(self._path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return os.fdopen(fd, "rb")


def _whole_lines(file: BinaryIO, start: int) -> int:
    """Where the last whole line ends that begins at `start` or later."""
    end = file.seek(0, os.SEEK_END)
    while end > start:
        at = max(start, end - _BLOCK_BYTES)
        file.seek(at)
        newline = file.read(end - at).rfind(b"\n")
        if newline >= 0:
            return at + newline + 1
        end = at
    return start


def _blocks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < end and (block := file.read(min(_BLOCK_BYTES, end - start))):
            start += len(block)
            yield block
