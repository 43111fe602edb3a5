"""The process's memory, where the C library is glibc: what is freed goes back to the system.

Pictures of changing sizes and the decoders of a source that is opened again leave holes between
what stays. Without this, a camera session with a fault twice a minute grows by 12 MB in 40 minutes;
10 of them are holes.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `--help` needs no NumPy
    from realtime_mer.results import Analysis, Session, Summary

# Of mallopt(3).
_M_ARENA_MAX = -8
# Returning memory takes 7 to 14 ms on 2 cores: seldom enough to delay hardly any frame.
_EVERY_S = 300.0


def share_one_heap() -> None:
    """Lets all threads take memory from one heap.

    With a heap for each of the first threads, what a thread takes and another returns leaves holes
    in several: after 140 reconnections the process has grown by 9 MB and goes on, with one heap by
    2 MB.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, 1)


def return_free_memory() -> None:
    """Gives the pages of the heap that nothing lies in back to the system."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class FreeMemory:
    """A sink that returns free memory to the system every few minutes."""

    def __init__(self) -> None:
        self._returned_at = 0.0

    def begin(self, session: Session) -> None:
        self._returned_at = time.monotonic()

    def update(self, analysis: Analysis) -> None:
        now = time.monotonic()
        if now - self._returned_at >= _EVERY_S:
            self._returned_at = now
            return_free_memory()

    def end(self, summary: Summary) -> None:
        pass
