"""A file of lines that is appended to, and stays whole whatever happens to it or to the disk."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from realtime_mer.errors import InputError
from realtime_mer.output.writable import check_writable, replace_file, shown
from realtime_mer.redaction import printable

_logger = logging.getLogger("realtime_mer")

# Lines that wait in memory while the file cannot be written: about 4 MB. Chosen by judgement: at
# a gap and an event a minute they last for three days.
_MAX_WAITING = 10_000
# How often a file is looked after between two lines. Chosen by judgement: a deleted log is back
# before its user looks twice, and a look takes microseconds.
_LOOK_EVERY_S = 1.0
# Missing lines that are shown at the end.
_MAX_SHOWN = 100
# Attempts to open a file that others replace at the same moment.
_ATTEMPTS = 20
_COPY_BYTES = 1 << 20
# Windows denies others to read what is locked: lock a byte that no log will ever reach.
_LOCKED_BYTE = 1 << 40
_FLAGS = os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Continuation:
    """How a file is continued.

    Attributes:
        keep: So many bytes of it stay; the rest is a line that was cut off.
        lines: What is written first.
        prefix: What is put before all that is there.
        note: What the user should know about it.
    """

    keep: int = 0
    lines: Sequence[bytes] = ()
    prefix: bytes = b""
    note: str = ""


class Contents:
    """What a file holds when it is opened: nothing, if it is a pipe or a device."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self.size = 0 if fd is None else os.fstat(fd).st_size

    def read(self, start: int, end: int) -> bytes:
        """Bytes from `start` to before `end`; fewer where the file ends."""
        return b"".join(self.blocks(start, end))

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """The same in pieces."""
        if self._fd is None:
            return
        while start < end:
            os.lseek(self._fd, start, os.SEEK_SET)
            if not (block := os.read(self._fd, min(end - start, _COPY_BYTES))):
                return
            yield block
            start += len(block)


class _Place(NamedTuple):
    """An open file.

    Attributes:
        fd: Its descriptor.
        is_regular: Whether it is a file, and not a pipe or a device.
        body: Where this session's lines begin, after those that every session begins with.
        size: Where its last whole line ends.
    """

    fd: int
    is_regular: bool
    body: int
    size: int


class LineFile:
    """A file to which one session at a time appends whole lines.

    - It is locked while it is open, so that no other session writes into it under any of its
      names. The system frees the lock when the process ends, however it ends.
    - Each line is one call to the system, so nothing of others gets into it.
    - While it cannot be written, lines wait in memory, and follow in order when it can be. A line
      that a full disk cut off is taken back.
    - If it is deleted, it is written again; if it is moved or emptied, it is begun anew.

    What cannot be written is an error at the start (`open`) and at the end (`close`); in between,
    only a note: other outputs may be well.
    """

    def __init__(
        self, path: str | os.PathLike[str], note: Callable[[str], None] | None = None
    ) -> None:
        """
        Args:
            path: Where to write it. Nothing is made or changed before `open`.
            note: Called with messages for the user; None for the logger "realtime_mer".

        Raises:
            InputError: Nothing can be written there, or another session writes into it.
        """
        self.path = check_writable(path)
        self.name = shown(self.path)
        # The process may change its folder meanwhile.
        self._where = self.path.absolute()
        self._note = note or _logger.warning
        self._place: _Place | None = None
        self._waiting: deque[bytes] = deque()
        # Lines given up: they waited too long. Of so many, the file tells already.
        self._lost = self._told = 0
        self._trouble = ""
        self._looked_at = 0.0
        self._check_free()

    def open(
        self,
        resume: Callable[[Contents], Continuation],
        lost: Callable[[int], bytes | None] = lambda count: None,
    ) -> None:
        """Opens the file, or makes it.

        Args:
            resume: Called with what is in the file: tells how it goes on, or raises InputError if
                the file is something else. Also called later if the file is moved or emptied.
            lost: The line which tells that so many lines are missing, or None.

        Raises:
            InputError: It cannot be opened or written, or another session writes into it.
        """
        self._resume, self._lost_line = resume, lost
        try:
            self._place = self._start()
        except OSError as error:
            raise InputError(
                f"{self.name} cannot be written: {error.strerror}. "
                "Free the disk or name another file."
            ) from None

    @property
    def is_open(self) -> bool:
        return self._place is not None

    def write(self, *lines: bytes) -> None:
        """Appends lines, each with its end."""
        assert self._place is not None, "open() comes first"
        # All of them at once: Ctrl-C may come at any time, and they are written at the end then.
        self._waiting.extend(lines)
        self._settle()
        while len(self._waiting) > _MAX_WAITING:
            self._waiting.popleft()
            self._lost += 1

    def look(self) -> None:
        """Notices what happened to the file, and tries again what could not be written.

        It is cheap: call it often.
        """
        now = time.monotonic()
        if self._place is not None and now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            self._settle()

    def close(self) -> None:
        """Writes what waits, and closes the file. Does nothing if it is not open.

        Raises:
            InputError: Lines are missing; notes have them.
        """
        if self._place is None:
            return
        self._settle()
        place, self._place = self._place, None
        failed = self._missing(place)
        try:
            if place.is_regular:
                os.fsync(place.fd)
        except OSError as error:
            # Others mean that this kind of folder cannot do it.
            if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT) and not failed:
                failed = f"{self.name} may not be whole on the disk: {error.strerror}. Check it."
        finally:
            _closed(place.fd)
        if failed:
            raise InputError(failed)

    # Writing

    def _settle(self) -> None:
        """Writes what waits, or notes why that fails."""
        try:
            self._follow()
            self._write_waiting()
        except (OSError, InputError) as error:
            is_new = not self._trouble
            self._trouble = (
                f"{self.name} cannot be written: {error.strerror}."
                if isinstance(error, OSError)
                else str(error)
            )
            if is_new:
                self._note(
                    f"{self._trouble} The analysis goes on. What is found is kept in memory, and "
                    "written as soon as possible."
                )
        else:
            if self._trouble:
                self._trouble = ""
                ending = f"{self._lost} lines are missing." if self._lost else "Nothing is missing."
                self._note(f"{self.name} is written again. {ending}")

    def _write_waiting(self) -> None:
        assert self._place is not None
        if self._told < self._lost:
            if line := self._lost_line(self._lost - self._told):
                self._place = _appended(self._place, line)
            self._told = self._lost
        while self._waiting:
            self._place = _appended(self._place, self._waiting[0])
            self._waiting.popleft()

    def _missing(self, place: _Place) -> str:
        """Shows the lines that are missing at the end; returns what to tell about them."""
        lines = [*self._stranded(place), *self._waiting]
        for line in lines[:_MAX_SHOWN]:
            self._note(f"not in {self.name}: {_printable(line)}")
        told = [self._trouble] if self._trouble else []
        if self._lost:
            told.append(f"{self.name} could not be written for long: {self._lost} lines are lost.")
        if lines:
            these = "1 line is" if len(lines) == 1 else f"{len(lines)} lines are"
            told.append(f"{these} missing in it, but shown in the notes before this.")
        return " ".join(told)

    def _stranded(self, place: _Place) -> list[bytes]:
        """This session's lines in a file that was deleted and could not be written again."""
        with contextlib.suppress(OSError):
            if self._trouble and place.is_regular and not os.fstat(place.fd).st_nlink:
                return Contents(place.fd).read(place.body, place.size).splitlines()
        return []

    # Where the file is

    def _check_free(self) -> None:
        """Raises InputError if another session writes into the file."""
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(os.stat(self._where).st_mode):
                return
            fd = os.open(self._where, os.O_RDWR | _FLAGS)
            try:
                self._lock(fd)
            finally:
                os.close(fd)

    def _lock(self, fd: int) -> None:
        if not locked(fd):
            raise InputError(
                f"{self.name} is in use: another session writes into it. Name another file, or "
                "wait until that session has ended."
            )

    def _opened(self) -> tuple[int, bool]:
        """A descriptor of the file, locked, and whether it is a regular file."""
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(os.stat(self._where).st_mode):
                    return os.open(self._where, os.O_WRONLY | _FLAGS), False
            fd = os.open(self._where, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666)
            try:
                self._lock(fd)
                # Another session may have replaced it between these two lines.
                if os.name == "nt" or os.path.samestat(os.fstat(fd), os.stat(self._where)):
                    return fd, True
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        raise OSError(errno.EBUSY, "it is replaced over and over")

    def _start(self, left: _Place | None = None) -> _Place:
        """Opens the file and writes its first lines.

        Args:
            left: Where the session wrote before, if that was deleted: its lines are taken along.
        """
        fd, is_regular = self._opened()
        try:
            old = Contents(fd if is_regular else None)
            plan = self._resume(old)
            if plan.prefix:
                whole = plan.prefix + old.read(0, old.size)
                # Keep the lock until the new file is there; but Windows replaces no open file.
                if os.name == "nt":
                    fd = _closed(fd)
                replace_file(self._where, whole)
                fd = _closed(fd)
                fd, is_regular = self._opened()
                old = Contents(fd)
                plan = self._resume(old)
            return self._begun(fd, is_regular, plan, left)
        except BaseException:
            _closed(fd)
            raise

    def _begun(
        self, fd: int, is_regular: bool, plan: Continuation, left: _Place | None = None
    ) -> _Place:
        """Removes a line that was cut off, and writes the first lines."""
        old = Contents(fd if is_regular else None)
        cut = old.read(plan.keep, old.size)
        place = _Place(fd, is_regular, plan.keep, plan.keep)
        try:
            if cut:
                os.ftruncate(fd, plan.keep)
            if left is None or old.size:
                for line in plan.lines:
                    place = _appended(place, line)
                place = place._replace(body=place.size)
                start = 0 if left is None else left.body
            else:
                # An empty file takes the place of the deleted one: all of it is written again.
                assert left is not None
                start, place = 0, place._replace(body=left.body)
            if left is not None:
                for block in Contents(left.fd).blocks(start, left.size):
                    place = _appended(place, block)
        except BaseException:
            with contextlib.suppress(OSError):
                if is_regular:
                    os.ftruncate(fd, plan.keep)
                    if cut:
                        os.write(fd, cut)
            raise
        if plan.note:
            self._note(plan.note)
        return place

    def _follow(self) -> None:
        """Goes on in the right place if the file was deleted, moved or emptied."""
        place = self._place
        assert place is not None
        # Windows lets nobody delete or move an open file.
        if not place.is_regular or os.name == "nt":
            return
        try:
            mine: os.stat_result | None = os.fstat(place.fd)
        except OSError:
            # Its network drive has gone, and may be back.
            mine = None
        try:
            there: os.stat_result | None = os.stat(self._where)
        except (FileNotFoundError, NotADirectoryError):
            there = None
        if mine is None or there is None or not os.path.samestat(mine, there):
            is_deleted = mine is not None and not mine.st_nlink
            self._place = self._start(place if is_deleted else None)
            _closed(place.fd)
            if is_deleted:
                self._note(f"{self.name} was deleted while in use. All of it is written again.")
            else:
                self._note(f"{self.name} was moved while in use. A new file of that name goes on.")
        elif mine.st_size < place.size:
            plan = self._resume(Contents(place.fd))
            self._place = self._begun(place.fd, True, plan)
            self._note(f"{self.name} was emptied while in use. It goes on with what comes next.")


def _appended(place: _Place, line: bytes) -> _Place:
    """Appends a line whole or not at all; returns where the file ends then."""
    before = os.fstat(place.fd).st_size if place.is_regular else 0
    if place.is_regular and before > place.size:
        # Something was added. If it is a part of this line, an earlier attempt was broken off.
        added = Contents(place.fd).read(place.size, before)
        if line.startswith(added):
            os.ftruncate(place.fd, place.size)
            before = place.size
        elif not added.endswith(b"\n"):
            line = b"\n" + line
    try:
        left = memoryview(line)
        while left:
            # On a full disk the first call writes a part, and the second tells the reason.
            left = left[os.write(place.fd, left) :]
    except BaseException:
        if place.is_regular:
            with contextlib.suppress(OSError):
                os.ftruncate(place.fd, before)
        raise
    return place._replace(size=before + len(line))


def _closed(fd: int) -> int:
    """Closes a descriptor if it is one; returns what is none."""
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.close(fd)
    return -1


def _printable(line: bytes) -> str:
    """A line as a terminal may show it."""
    # Whole: it is nowhere else.
    return printable(line.decode("utf-8", "backslashreplace").rstrip("\r\n"), sys.maxsize)


if sys.platform == "win32":
    import msvcrt

    def locked(fd: int) -> bool:
        """Locks an open file until it is closed; False if someone else has."""
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def locked(fd: int) -> bool:
        """Locks an open file until it is closed; False if someone else has."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            # Some network folders have no locks. Lines stay whole there, too.
            pass
        return True
