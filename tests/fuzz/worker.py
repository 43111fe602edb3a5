"""A process that takes inputs, one after the other, and whose end is noticed.

Native code that meets hostile bytes may crash, hang or take all memory. So inputs are tried in a
process of their own, in folders of its own; the next input after such an end gets a new process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from realtime_mer.stats import memory_mb

# Chosen: three hundred times what the slowest input takes, and still noticed in a run in CI.
LIMIT_S = 30.0
# Above what the process has held before, 2**20 bytes. Two pictures of the largest size that is
# read (8192 x 8192) on their way through decoder and conversion take 1 GB.
LIMIT_MB = 2048
_POLL_S = 0.05
# Importing all libraries on a busy machine.
_START_S = 120.0
# What a library or an interpreter prints when something went wrong that nobody handled.
_ALARM = re.compile(r"Traceback|Exception ignored|Fatal|Segmentation|AddressSanitizer|panicked")
_LOOPBACK = ("127.0.0.1", "localhost", "::1", None, "")
# Devices that are opened for writing, and that keep nothing.
_NOWHERE = (os.devnull, "/dev/tty")


class Finding(AssertionError):
    """An input did what no input may do.

    Attributes:
        signature: A line that is the same for inputs that fail in the same place.
        is_slow: Whether it takes long to see it again: a hang.
    """

    def __init__(self, signature: str, details: str = "", is_slow: bool = False) -> None:
        super().__init__(f"{signature}\n{details}".strip())
        self.signature = signature
        self.is_slow = is_slow


class Worker:
    """Tries inputs in a process that is started when it is needed.

    Example:
        with Worker() as worker:
            outcome = worker.attempt("video", ("a.mp4", b"no video"))
    """

    def __init__(self, limit_s: float = LIMIT_S, limit_mb: float = LIMIT_MB) -> None:
        self._limit_s, self._limit_mb = limit_s, limit_mb
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._size_mb = 0.0
        self.most_mb = 0.0
        """Memory that the processes have held at most."""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def attempt(self, target: str, value: Any) -> str:
        """Tries one input; returns what became of it in a word or two.

        Raises:
            Finding: It crashed, hung, left a traceback, or did something else that is not allowed.
        """
        if self._connection is None:
            self._start()
        assert self._connection is not None
        assert self._process is not None
        try:
            self._connection.send((target, value))
            outcome, signature, details = self._answer(target)
        except (EOFError, OSError):
            raise self._dead(target) from None
        if not self._size_mb:
            self._size_mb = memory_mb(self._process.pid)  # all libraries are loaded
        if signature:
            raise Finding(f"{target}: {signature}", details)
        return outcome

    def _answer(self, target: str) -> tuple[str, str, str]:
        assert self._connection is not None
        assert self._process is not None
        deadline = time.monotonic() + self._limit_s
        while not self._connection.poll(_POLL_S):
            now_mb = memory_mb(self._process.pid)
            self.most_mb = max(self.most_mb, now_mb)
            if self._size_mb and now_mb > self._size_mb + self._limit_mb:
                self._end()
                raise Finding(f"{target}: took {now_mb:.0f} MB")
            if time.monotonic() > deadline:
                stack = self._printed()
                self._end()
                raise Finding(f"{target}: hung for {self._limit_s:g} s", stack, is_slow=True)
        return self._connection.recv()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(
            target=_work, args=(there, self._folder, self._limit_s), daemon=True
        )
        self._process.start()
        there.close()
        if not self._connection.poll(_START_S):
            raise RuntimeError("the process that tries inputs does not start")
        self._connection.recv()
        self._size_mb = 0.0

    def _dead(self, target: str) -> Finding:
        assert self._process is not None
        self._process.join(5)
        code = self._process.exitcode
        printed = self._printed()
        self._end()
        return Finding(f"{target}: the process ended with {code}", printed)

    def _printed(self) -> str:
        try:
            text = (self._folder / "printed").read_text("utf-8", "replace")
        except OSError:
            return ""
        return text[-6000:]

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


class _Watch:
    """Notes what Python code opens, writes or asks outside of its own folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.realpath(folder)
        self.is_on = False
        self.may_resolve = False
        self.seen: list[str] = []
        sys.addaudithook(self._notice)

    def _notice(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = any(c in mode for c in "wax+") if mode else flags & (os.O_WRONLY | os.O_RDWR)
            if writes and not isinstance(path, int):
                self._check("writes", path)
        elif event in ("os.remove", "os.rmdir", "os.mkdir", "os.truncate"):
            self._check(event, arguments[0])
        elif event in ("os.rename", "os.link", "os.symlink"):
            self._check(event, arguments[1])
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pty.spawn"):
            # `tail` shows what native code said in a process that has crashed.
            if Path(str(arguments[0])).stem != "tail":
                self.seen.append(f"starts {str(arguments[0])[:80]!r}")
        elif event == "socket.getaddrinfo" and not self.may_resolve:
            if arguments[0] not in _LOOPBACK:
                self.seen.append(f"looks up {str(arguments[0])[:80]!r}")
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            host = arguments[1][0]
            if host not in _LOOPBACK:
                self.seen.append(f"connects to {str(host)[:80]!r}")

    def _check(self, what: str, path: Any) -> None:
        where = os.path.realpath(os.fsdecode(path))
        inside = os.path.commonpath([where, self._folder]) == self._folder
        if not inside and where not in _NOWHERE:
            self.seen.append(f"{what} {where!r}")


def _work(connection: Connection, folder: Path, limit_s: float) -> None:
    """The process: tries inputs until its parent ends it."""
    home, place = folder / "home", folder / "place"
    temporary = folder / "tmp"
    for each in (home, place, temporary):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    printed = (folder / "printed").open("wb")
    for descriptor in (1, 2):
        os.dup2(printed.fileno(), descriptor)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(
        2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1
    )
    for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        os.environ[name] = str(home)
    for name in ("TMPDIR", "TEMP", "TMP"):
        os.environ[name] = str(temporary)
    tempfile.tempdir = None
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        del os.environ[name]
    sys.dont_write_bytecode = True
    os.chdir(place)
    faulthandler.enable(sys.stderr)
    watch = _Watch(folder)
    connection.send("ready")
    while True:
        try:
            name, value = connection.recv()
        except EOFError:
            return
        target = _misbehave if name == MISBEHAVE else _targets()[name]
        begin = os.fstat(2).st_size
        faulthandler.dump_traceback_later(0.8 * limit_s, file=sys.stderr)
        watch.seen.clear()
        watch.may_resolve = name in ("command", "address")
        watch.is_on = True
        outcome = signature = details = ""
        try:
            outcome = target(value, place)
        except BaseException as error:
            details = traceback.format_exc()[-6000:]
            signature = _signature(error)
        finally:
            watch.is_on = False
            faulthandler.cancel_dump_traceback_later()
        sys.stdout.flush()
        with (folder / "printed").open("rb") as file:
            file.seek(begin)
            said = file.read().decode("utf-8", "replace")
        if not signature and _ALARM.search(said):
            errors = re.findall(
                r"^([A-Za-z_.]+(?:Error|Exception|Interrupt))\b", said, re.MULTILINE
            )
            signature = f"printed a traceback: {', '.join(dict.fromkeys(errors))}"
            details = said[-6000:]
        if not signature and watch.seen:
            signature = watch.seen[0]
        if not signature:
            left = [*home.rglob("*"), *temporary.rglob("*")]
            if left:
                signature = f"left {left[0].relative_to(folder)}"
        os.chdir(place)
        for each in (place, home, temporary):
            for path in each.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        connection.send((outcome, signature, details))


def _targets() -> dict[str, Callable[[Any, Path], str]]:
    # Imported late: that takes seconds, which a process that only misbehaves does not need.
    from tests.fuzz.targets import TARGETS

    return TARGETS


MISBEHAVE = "misbehave"
"""A target that does what it is told to, to show that it is noticed."""


def _misbehave(value: str, place: Path) -> str:
    match value:
        case "crash":
            os.abort()
        case "hang":
            time.sleep(3600)
        case "take memory":
            taken = bytearray(b"x") * (300 << 20)
            time.sleep(3600)
            return str(len(taken))
        case "fail in a thread":
            thread = threading.Thread(target=lambda: 1 / 0)
            thread.start()
            thread.join()
        case "write elsewhere":
            with contextlib.suppress(OSError):
                (place.parent.parent / "elsewhere").open("w").close()
                (place.parent.parent / "elsewhere").unlink()
        case "ask elsewhere":
            with contextlib.suppress(OSError):
                socket.getaddrinfo("elsewhere.invalid", 80)
        case "raise":
            raise KeyError("nobody expects it")
    return "done"


def _signature(error: BaseException) -> str:
    """The kind of an error and the line of the project that it came from."""
    if isinstance(error, AssertionError) and error.args:
        return str(error).splitlines()[0][:200]
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if "realtime_mer/" in frame.filename or "/tools/" in frame.filename or not place:
            place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__} at {place}"
