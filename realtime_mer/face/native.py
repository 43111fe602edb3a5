"""Keeps log messages of native libraries off the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_STDERR = 2

# Descriptor 2 belongs to the whole process: the first block that is entered redirects it, the last
# one that is left restores it, whichever threads they run in.
_lock = threading.Lock()
_blocks = 0
_saved: int | None = None


def _flush() -> None:
    # sys.stderr can be None (a windowed program), closed, or a full pipe.
    with contextlib.suppress(AttributeError, ValueError, OSError):
        sys.stderr.flush()


def _redirect() -> int | None:
    """Points descriptor 2 at the null device and returns a copy of the original.

    Returns None if that fails because descriptor 2 is closed or descriptors have run out. The worst
    that follows is messages on the terminal, so it is no reason to fail.
    """
    _flush()
    try:
        saved = os.dup(_STDERR)
    except OSError:
        return None
    try:
        null = os.open(os.devnull, os.O_WRONLY)
    except OSError:
        os.close(saved)
        return None
    try:
        os.dup2(null, _STDERR)
    finally:
        os.close(null)
    return saved


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Discards all that the process writes to file descriptor 2 during the block.

    MediaPipe and its delegates log there from C++, which neither Python's `sys.stderr` nor an
    environment variable can change. Blocks may be nested and may overlap between threads. Keep the
    block short: messages of other threads are discarded too. An exception passes unchanged, and
    descriptor 2 is restored before it is printed.

    Example:
        with silenced_stderr():
            landmarker = vision.FaceLandmarker.create_from_options(options)
    """
    global _blocks, _saved
    with _lock:
        if _blocks == 0:
            _saved = _redirect()
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0 and _saved is not None:
                # What Python buffered in the block must not appear after it.
                _flush()
                saved, _saved = _saved, None
                os.dup2(saved, _STDERR)
                os.close(saved)
