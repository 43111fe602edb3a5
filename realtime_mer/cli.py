"""The command line: `realtime-mer`, `python -m realtime_mer` and `python run.py`."""

from __future__ import annotations

import atexit
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from types import FrameType

from realtime_mer.command.options import USAGE_ERROR, parse
from realtime_mer.errors import CameraError, InputError


def main(arguments: Sequence[str] | None = None, prog: str = "realtime-mer") -> int:
    """Runs the program; returns its exit status.

    Args:
        arguments: None for those of the process.
        prog: The program's name in messages: how the user started it.
    """
    options = parse(arguments, prog)
    try:
        with _signals_like_ctrl_c():
            # Loading the libraries takes a second or two: --help need not wait for it, and Ctrl-C
            # ends it cleanly.
            if options.demo:
                from realtime_mer.command.demo import run_demo

                run_demo(options)
            else:
                from realtime_mer.command.recognize import recognize_source

                recognize_source(options)
    except InputError as error:
        hint = " The option --demo needs no camera." if isinstance(error, CameraError) else ""
        print(f"{prog}: {error}{hint}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        pass
    return 0


@contextlib.contextmanager
def _signals_like_ctrl_c() -> Iterator[None]:
    """`kill` and a closed terminal end a run as Ctrl-C does, with complete logs."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    count = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count == 1:
            # At its exit the interpreter restores the default handlers, and another signal would
            # kill the process: ignore them from then on.
            for other in numbers:
                atexit.register(signal.signal, other, signal.SIG_IGN)
        # Impatient users and supervisors send two signals: the second must not cut the ending
        # short. A third breaks off an ending that hangs.
        if count != 2:
            raise KeyboardInterrupt

    before = {n: signal.getsignal(n) for n in numbers}
    try:
        for number, handler in before.items():
            # `nohup` and background jobs ignore signals on purpose.
            if handler is not signal.SIG_IGN:
                signal.signal(number, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
