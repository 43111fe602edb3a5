"""The folder of the clips: made when it is needed, and never filled up."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from realtime_mer.errors import InputError
from realtime_mer.output.clip_file import PART, SUFFIX
from realtime_mer.output.writable import check_writable, shown

LIMIT_BYTES = 20_000_000_000
"""Size of all clips in a folder at which no more are written, chosen by judgement: 250 clips of a
webcam at 1280 x 720."""

FREE_BYTES = 500_000_000
"""Free disk space at which no more clips are written, chosen by judgement."""

# A hidden file that has not grown for this long belongs to a session that was killed.
_STALE_S = 3600.0


class FolderFullError(Exception):
    """There is no room for more clips. The message gives the reason and the remedy."""


class ClipFolder:
    """The folder of the clips. One thread at a time uses it, but `allow_making` is for any.

    Args:
        path: Where it is or will be.
        limit_bytes: Size of all clips in it at which no more are written.
    """

    def __init__(self, path: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        self._is_made = False

    def allow_making(self) -> None:
        """Lets the next call of `make` make the folder again if it is gone."""
        self._is_made = False

    def make(self) -> None:
        """Makes the folder, for this user alone, and deletes what killed sessions left in it.

        Does so only once: a folder that vanishes later may be an unplugged disk, and clips in its
        place would be hidden.

        Raises:
            InputError: It cannot be made, or nothing can be written there.
        """
        if self._is_made:
            return
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{shown(self.path)} cannot be made: {error.strerror}. Name a folder for the clips."
            ) from None
        check_writable(self.path / f"mer_{SUFFIX}")
        self._is_made = True
        for entry in os.scandir(self.path):
            if PART.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > _STALE_S:
                        os.unlink(entry)

    def check_room(self, used: int) -> None:
        """
        Args:
            used: Size of the clip that is being written.

        Raises:
            FolderFullError: The clips have reached their limit, or the disk is nearly full.
            OSError: The folder is gone.
        """
        names = {entry.name: entry for entry in os.scandir(self.path)}
        for name, entry in names.items():
            if name.endswith(SUFFIX) and name.removesuffix(SUFFIX) + ".json" in names:
                with contextlib.suppress(FileNotFoundError):
                    used += entry.stat().st_size
        if used >= self._limit_bytes:
            limit = f"{self._limit_bytes / 1e9:.3g} GB"
            raise FolderFullError(
                f"the clips in {shown(self.path)} have reached {limit}; "
                "move them to another place, or name another folder"
            )
        if shutil.disk_usage(self.path).free < FREE_BYTES:
            raise FolderFullError(
                f"the disk of {shown(self.path)} has less than {FREE_BYTES / 1e6:.0f} MB left; "
                "make room, or name a folder on another disk"
            )
