"""Keeps log messages of native libraries off the terminal, unless they are last words."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from realtime_mer.errors import InputError
from realtime_mer.interrupts import shielded

_STDERR = 2
# What a library said before it crashed, or failed. Chosen by judgement: its message and a few
# lines around it.
_LAST_LINES = 20
# After a failure, for its last lines to be printed; it takes milliseconds.
_PRINT_S = 2.0

# Descriptor 2 belongs to the whole process: the first block that is entered redirects it, the last
# one that is left restores it, whichever threads they run in.
_lock = threading.Lock()
_blocks = 0
_has_failed = False
_redirected: _Redirected | None = None


@dataclass(frozen=True, slots=True)
class _Redirected:
    """Descriptor 2 while messages are held back.

    Attributes:
        original: A copy of what it was.
        keeper: The process that keeps the last lines; None if they are discarded.
    """

    original: int
    keeper: subprocess.Popen[bytes] | None


def _flush() -> None:
    # sys.stderr can be None (a windowed program), closed, or a full pipe.
    with contextlib.suppress(AttributeError, ValueError, OSError):
        sys.stderr.flush()


def _redirect() -> _Redirected | None:
    """Points descriptor 2 at a process that keeps the last lines, or else at the null device.

    Returns None if that fails because descriptor 2 is closed or descriptors have run out. The worst
    that follows is messages on the terminal, so it is no reason to fail.
    """
    _flush()
    try:
        original = os.dup(_STDERR)
    except OSError:
        return None
    keeper = None
    try:
        keeper = _start_keeper(original)
        if keeper is not None and keeper.stdin is not None:
            with keeper.stdin as pipe:
                os.dup2(pipe.fileno(), _STDERR)
        else:
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, _STDERR)
            finally:
                os.close(null)
    except OSError:
        os.close(original)
        return None
    return _Redirected(original, keeper)


def _start_keeper(output: int) -> subprocess.Popen[bytes] | None:
    """Starts `tail`, which prints the last lines once nobody can write to its input any more.

    That is after a crash: a process that dies by a signal can no longer print them itself.
    """
    program = shutil.which("tail")
    if program is None:
        return None
    try:
        return subprocess.Popen(
            [program, "-n", str(_LAST_LINES)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            start_new_session=True,  # Ctrl-C must not reach it
        )
    except OSError:
        return None


def _restore(redirected: _Redirected, show: bool) -> None:
    """Makes descriptor 2 what it was; prints the last lines that were held back, or discards them.

    Without another process that has inherited descriptor 2, all lines are there by now.
    """
    # What Python buffered in the block must not appear after it.
    _flush()
    keeper = redirected.keeper
    if keeper is not None and not show:
        keeper.kill()
    os.dup2(redirected.original, _STDERR)
    os.close(redirected.original)
    if keeper is None:
        return
    try:
        keeper.wait(_PRINT_S)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Holds back all that the process writes to file descriptor 2 during the block.

    MediaPipe and its delegates log there from C++, which neither Python's `sys.stderr` nor an
    environment variable can change. At the end of the block these messages are discarded. If the
    process dies in the block, or an exception leaves it that is not meant for the user, the last
    lines are printed after all: they tell why.

    Blocks may be nested and may overlap between threads. Keep the block short: messages of other
    threads are held back too. An exception passes unchanged, and descriptor 2 is restored before it
    is printed.

    Example:
        with silenced_stderr():
            landmarker = vision.FaceLandmarker.create_from_options(options)
    """
    global _blocks, _has_failed, _redirected
    # Ctrl-C waits for the end of the block: cut off half-way, descriptor 2 would stay redirected.
    with shielded():
        with _lock:
            if _blocks == 0:
                _redirected, _has_failed = _redirect(), False
            _blocks += 1
        failed = False
        try:
            yield
        except InputError:
            raise
        except Exception:
            failed = True
            raise
        finally:
            with _lock:
                _blocks -= 1
                _has_failed = _has_failed or failed
                if _blocks == 0 and _redirected is not None:
                    redirected, _redirected = _redirected, None
                    _restore(redirected, _has_failed)
