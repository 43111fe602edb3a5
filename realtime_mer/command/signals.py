"""What SIGINT (Ctrl-C), SIGTERM (`kill`) and SIGHUP (a closed terminal) do.

Imports nothing heavy: it has to be in force before the libraries load.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from realtime_mer.interrupts import checked_by, is_shielded

_NUMBERS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
# A closing terminal, `timeout` and supervisors send several signals at once: they mean one.
_SAME_S = 0.3
# The main thread reaches a checkpoint within a fraction of this, unless it waits for a file, a
# terminal or a network. Chosen by judgement: little enough for a user who waits.
_PATIENCE_S = 1.0
# After a second signal. Logs are completed in milliseconds; a video or clip may take longer.
_HURRY_S = 2.0


class Signals:
    """Ends the program on a signal, as a context manager around all of it.

    - While the libraries load, a signal ends the process at once: nothing is open yet.
    - Then the first one raises KeyboardInterrupt at the main thread's next checkpoint, or in a
      second wherever it waits; but not while the outputs are completed.
    - After a second one, completing them may take two seconds more.
    - A third one ends the process, whatever it does.

    Signals are noticed even while the main thread is in native code. Those that were ignored stay
    so: `nohup` and background jobs do that on purpose. Outside the main thread it does nothing.

    Args:
        owns_process: Whether the process runs nothing else, and may be ended.
        say: Called with the message for the user when outputs are left incomplete.
    """

    def __init__(self, *, owns_process: bool, say: Callable[[str], None]) -> None:
        self._owns_process, self._say = owns_process, say
        self._loading = owns_process
        self._before: dict[int, object] = {}
        self._received = threading.Event()
        self._ending = False
        self._over = threading.Event()
        self._is_forced = False
        # Signals of our own that wake up the main thread: they do not count.
        self._own = 0
        self._count, self._counted_at = 0, 0.0
        self._watching = False
        self._stack = contextlib.ExitStack()

    @property
    def came(self) -> bool:
        """Whether there was a signal."""
        return self._received.is_set()

    def __enter__(self) -> Signals:
        if threading.current_thread() is not threading.main_thread():
            self._loading = False
            return self
        for number in _NUMBERS:
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN:
                self._before[number] = handler
                signal.signal(number, self._handle)
        self._stack.enter_context(checked_by(self._check))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._stack.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def loaded(self) -> None:
        """The libraries are loaded: from now on, there is something to complete."""
        self._loading = False
        if self._before:
            self._watch()

    def _watch(self) -> None:
        """Lets a thread read the numbers of signals as they come."""
        try:
            inside, outside = socket.socketpair()
        except OSError:  # descriptors have run out: the handler alone has to do
            return
        inside.setblocking(False)
        thread = threading.Thread(
            target=self._read_signals, args=[outside], name="signals", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            inside.close()
            outside.close()
            return
        self._watching = True
        before = signal.set_wakeup_fd(inside.fileno(), warn_on_full_buffer=False)
        # Its other end tells the thread that it is over.
        self._stack.callback(inside.close)
        self._stack.callback(signal.set_wakeup_fd, before)

    # In the main thread

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Python calls this as soon as the main thread is not in native code."""
        if self._loading:
            os._exit(0)
        self._received.set()
        if self._watching:
            may_interrupt = self._is_forced
        else:
            self._count_signal(number)
            may_interrupt = True
        if may_interrupt and not self._ending and not is_shielded():
            self._interrupt()

    def _check(self) -> None:
        if self.came and not self._ending:
            self._interrupt()

    def _interrupt(self) -> NoReturn:
        self._ending = True
        raise KeyboardInterrupt

    # In the thread that reads signals

    def _read_signals(self, source: socket.socket) -> None:
        with source:
            while not self._over.is_set():
                try:
                    numbers = source.recv(1)
                except OSError:
                    return
                if not numbers:
                    return
                if numbers[0] not in self._before:
                    continue
                if self._own:
                    self._own -= 1
                    continue
                self._received.set()
                self._count_signal(numbers[0])

    def _count_signal(self, number: int) -> None:
        now = time.monotonic()
        if self._count and now - self._counted_at < _SAME_S:
            return
        self._count, self._counted_at = self._count + 1, now
        if self._count == 1 and self._watching:
            self._after(_PATIENCE_S, lambda: self._force(number))
        elif self._count == 2 and self._watching:
            self._after(_HURRY_S, lambda: self._leave(number))
        elif self._count > 2:
            self._leave(number)

    def _after(self, seconds: float, act: Callable[[], object]) -> None:
        def wait() -> None:
            if not self._over.wait(seconds):
                act()

        with contextlib.suppress(RuntimeError):
            threading.Thread(target=wait, name="signals", daemon=True).start()

    def _force(self, number: int) -> None:
        """Raises KeyboardInterrupt where the main thread is, and ends its system call."""
        if self._ending:
            return
        if is_shielded():
            self._after(_SAME_S, lambda: self._force(number))
            return
        self._is_forced = True
        self._own += 1
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        else:
            signal.raise_signal(number)

    def _leave(self, number: int) -> None:
        if not self._owns_process:
            return
        # What this says may block as well: a terminal that was stopped, a pipe that nobody reads.
        if self._count == 2:
            self._after(_SAME_S, lambda: os._exit(128 + number))
            self._say("ended before all outputs were complete: a video or clip may be missing")
        os._exit(128 + number)


def leave(status: int) -> NoReturn:
    """Ends the process without cleaning up the libraries, once all outputs are complete.

    A native thread that still waits for a source or a device would crash in their destructors.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
    os._exit(status)
