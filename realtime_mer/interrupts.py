"""Ctrl-C where it can do no harm.

Python raises KeyboardInterrupt wherever the main thread happens to be: between taking a lock and
the block that frees it, or while a native library starts. The command line holds it back until the
main thread comes to a `checkpoint`. Where nobody does so, as in other programs, this does nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_check: Callable[[], None] | None = None
# Blocks of the main thread in which nothing may be raised by force.
_shields = 0


def checkpoint() -> None:
    """Long waits of the main thread call this, with no lock held.

    Raises:
        KeyboardInterrupt: One was held back.
    """
    if _check is not None and threading.current_thread() is threading.main_thread():
        _check()


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """In this block, KeyboardInterrupt is held back however long it takes: logs are completed."""
    global _shields
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _shields += 1
    try:
        yield
    finally:
        _shields -= 1


def is_shielded() -> bool:
    """Whether the main thread is in such a block."""
    return _shields > 0


@contextlib.contextmanager
def checked_by(check: Callable[[], None]) -> Iterator[None]:
    """In this block, `check` is called at every checkpoint."""
    global _check
    before, _check = _check, check
    try:
        yield
    finally:
        _check = before
