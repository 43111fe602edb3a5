"""Reads a file for its hash, in a thread of its own: a drive that is gone blocks who reads it."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from realtime_mer.archive import storage
from realtime_mer.errors import InputError
from realtime_mer.output.writable import why

# The hash of a file that gives no bytes for so long is given up: its drive is gone.
_SILENT_S = 60.0
_BLOCK_BYTES = 1 << 20
# A copy leaves so much of the disk free. Chosen by judgement, as for results.
_FREE_BYTES = 200_000_000


class Content:
    """The content of a file or of an address on shared storage, while it is read.

    Args:
        source: A path, or an address.
        known: Tells the hash of a file with this path, size and time of change, if it is known;
            then nothing is read.
        copy: Where to write what is read, a path that does not exist; None for nowhere.

    Attributes:
        source: As given.
        size, modified_ns: As it was when the reading began.
        sha256: The hash, when it is known.
        error: Why it cannot be read, one sentence.
        is_missing: Whether it is not there, or not to be read by this user on this machine.
        over: Set at the end.
    """

    def __init__(
        self,
        source: str,
        known: Callable[[str, int, int], str | None] = lambda source, size, modified_ns: None,
        copy: Path | None = None,
    ) -> None:
        self.source = source
        self._known, self._copy = known, copy
        self.size, self.modified_ns = 0, 0
        self.sha256: str | None = None
        self.error: str | None = None
        self.is_missing = False
        self._heard_at = time.monotonic()
        self.over = threading.Event()

    def start(self) -> None:
        """Begins to read."""
        threading.Thread(target=self._read, name="hash", daemon=True).start()

    def wait(self, timeout_s: float) -> bool:
        """Whether it is over after so long at most; a drive that gives nothing is given up."""
        if self.over.wait(timeout_s):
            return True
        if time.monotonic() - self._heard_at <= _SILENT_S:
            return False
        # Its thread is left behind.
        self.error = f"it gave no bytes for {_SILENT_S:.0f} s: is its drive there?"
        return True

    def look(self) -> None:
        """Finds size and time of change, or the error; and the hash if it is known."""
        try:
            if storage.is_stored(self.source):
                self.size, self.modified_ns = storage.look(self.source)
            else:
                found = os.stat(self.source)
                self.size, self.modified_ns = found.st_size, found.st_mtime_ns
                if not stat.S_ISREG(found.st_mode):
                    # A pipe would be waited for, and a device has no end.
                    self.error = "it is no regular file"
                    return
            self.sha256 = self._known(self.source, self.size, self.modified_ns)
        except (OSError, InputError) as error:
            self._refused(error)

    def _read(self) -> None:
        try:
            self.look()
            if self.error is None and self.sha256 is None:
                with storage.opened(self.source) as file:
                    self.sha256 = self._digest(file)
        except (OSError, InputError) as error:
            self._refused(error)
        finally:
            self.over.set()

    def _refused(self, error: Exception) -> None:
        self.is_missing = isinstance(error, FileNotFoundError | PermissionError)
        is_told = isinstance(error, InputError)
        self.error = str(error) if is_told else f"it cannot be read: {why(error)}"

    def _digest(self, file: IO[bytes]) -> str:
        digest = hashlib.sha256()
        count = 0
        copy = None if self._copy is None else self._copy.open("xb", buffering=0)
        try:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                self._heard_at = time.monotonic()
                count += len(block)
                if copy is not None:
                    self._keep(copy, block, count)
        finally:
            if copy is not None:
                copy.close()
        if copy is not None and count != self.size:
            raise InputError(f"it has {self.size} bytes, but {count} came: it was changed")
        return digest.hexdigest()

    def _keep(self, copy: IO[bytes], block: bytes, count: int) -> None:
        """Writes a block, unless the storage sends more than it promised or the disk is full."""
        if count > self.size:
            raise InputError(f"it sends more than its {self.size} bytes")
        left = os.statvfs(copy.fileno()) if hasattr(os, "statvfs") else None
        if left is not None and left.f_bavail * left.f_frsize < _FREE_BYTES:
            raise InputError(
                f"it has {self.size / 1e9:.1f} GB, and the temporary folder of the machine that "
                "fetched it has no room for it: make room, or set TMPDIR to a larger one"
            )
        view = memoryview(block)
        while view:
            view = view[copy.write(view) :]
