"""The process's memory, where the C library is glibc."""

from __future__ import annotations

import contextlib
import ctypes

# Of mallopt(3).
_M_ARENA_MAX = -8


def share_one_heap() -> None:
    """Lets all threads take memory from one heap.

    With a heap for each of the first threads, what a thread takes and another returns leaves holes
    in several: after 140 reconnections the process had grown by 9 MB and went on, with one heap by
    2 MB (measured once). It does not help against all growth (docs/figures.md). Nor does returning
    free pages to the system: they are taken again at once.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, 1)
