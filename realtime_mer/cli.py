"""The command line: `realtime-mer`, `python -m realtime_mer` and `python run.py`."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import functools
import importlib
import os
import sys
import threading
from collections.abc import Callable, Sequence

from realtime_mer.command import limits
from realtime_mer.command.heap import share_one_heap
from realtime_mer.command.options import USAGE_ERROR, parse, without_secrets
from realtime_mer.command.signals import Signals, leave
from realtime_mer.errors import CameraError, InputError

REFUSED = 1
"""Exit status if the system refuses memory, threads, open files or a library."""

COMMANDS = ("archive", "review", "export", "report")
"""Words that may stand first; each is a module of `command`.

Its `parse(arguments, prog)` is quick, and its `run(options)` returns the exit status.
"""

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended; a session has no other end."""

_NO_MORE = {
    errno.ENOMEM: "memory",
    errno.EAGAIN: "threads or processes",
    errno.EMFILE: "open files",
    errno.ENFILE: "open files",
}


def main(arguments: Sequence[str] | None = None, prog: str = "realtime-mer") -> int:
    """Runs the program; returns its exit status.

    Args:
        arguments: None for those of the process, which then belongs to the program: it may be
            ended without coming back here.
        prog: The program's name in messages: how the user started it.
    """
    owns_process = arguments is None
    if owns_process:
        _prepare_process()
    say = functools.partial(_say, prog)
    with Signals(owns_process=owns_process, say=say) as signals:
        status = _run(arguments, prog, signals, say)
        if owns_process and (signals.came or _native_thread_hangs()):
            leave(status)
    return status


def _run(
    arguments: Sequence[str] | None, prog: str, signals: Signals, say: Callable[[str], None]
) -> int:
    given = sys.argv[1:] if arguments is None else [*map(str, arguments)]
    command = None
    if given and given[0] in COMMANDS:
        command = importlib.import_module(f"realtime_mer.command.{given[0]}")
        options = command.parse(given[1:], f"{prog} {given[0]}")
    else:
        options = parse(given, prog)
    if (obstacle := limits.obstacle()) is not None:
        say(obstacle)
        return REFUSED
    try:
        # Loading the libraries takes a second or two, which --help need not wait for.
        if command is not None:
            signals.loaded()
            return command.run(options)
        if options.demo:
            from realtime_mer.command.demo import run_demo

            signals.loaded()
            run_demo(options)
        else:
            from realtime_mer.command.recognize import recognize_source

            signals.loaded()
            recognize_source(options)
    except InputError as error:
        hint = " The option --demo needs no camera." if isinstance(error, CameraError) else ""
        say(without_secrets(f"{error}{hint}", given))
        return USAGE_ERROR
    except KeyboardInterrupt:
        return 0 if command is None else INTERRUPTED
    except (MemoryError, ImportError, OSError, RuntimeError) as error:
        if (refused := _refused(error)) is None:
            raise
        say(refused)
        return REFUSED
    return 0


def _say(prog: str, text: str) -> None:
    """Prints a message for the user on standard error, under the program's name."""
    # It may be closed, or a pipe that nobody reads.
    with contextlib.suppress(OSError, ValueError):
        print(f"{prog}: {text}", file=sys.stderr, flush=True)


def _refused(error: BaseException) -> str | None:
    """What the system refuses and what helps, if that is what an error means."""
    what = None
    if isinstance(error, MemoryError):
        what = "memory"
    elif isinstance(error, OSError):
        what = _NO_MORE.get(error.errno or 0)
    elif "can't start new thread" in str(error):
        what = "threads or processes"
    elif isinstance(error, ImportError):
        return (
            f"a library cannot be loaded ({' '.join(str(error).split())}): install "
            "requirements.txt again, and see that memory and open files are not limited "
            "(`ulimit -a`)"
        )
    if what is None:
        return None
    return (
        f"the system gives no more {what} ({error or type(error).__name__}): end other programs, "
        "or raise the limit (`ulimit -a` shows all)"
    )


def _prepare_process() -> None:
    """Opens what is closed of the standard streams, lets crashes leave a word, spares memory."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Otherwise the next file opened gets its number, and all that is printed.
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    # A copy: native messages are redirected at times.
    faulthandler.enable(os.dup(2), all_threads=False)
    share_one_heap()


def _native_thread_hangs() -> bool:
    """Whether a thread has not ended: it waits in native code for a source or a device."""
    return any(t.daemon and t.name != "signals" for t in threading.enumerate())
