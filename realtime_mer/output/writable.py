"""Checks of output files before a session begins. They create and change nothing."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from realtime_mer.errors import InputError


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Returns the path if a file can be written there.

    Raises:
        InputError: It cannot, with the reason and the remedy.
    """
    path = Path(path)
    if not path.name or "\0" in str(path):
        raise InputError(f"{str(path)!r} is no file name. Name a file to write to.")
    try:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            _check_folder(path)
            return path
        if stat.S_ISDIR(mode):
            raise InputError(f"{path} is a folder. Name a file to write to.")
        if stat.S_ISREG(mode):
            with path.open("r+b"):
                pass
        elif not os.access(path, os.W_OK):
            raise PermissionError(0, "Permission denied")
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}. Name a file that you may write."
        ) from None
    return path


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise InputError(
            f"{path} cannot be written: the folder {path.parent} does not exist. Make it first."
        )
    # Permission bits do not know of a full quota or a read-only mount: try it. On Linux this file
    # never has a name.
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def check_distinct(source: str | None, outputs: Iterable[str | os.PathLike[str] | None]) -> None:
    """Refuses outputs that would overwrite each other or the source.

    Raises:
        InputError: Two of them are the same file.
    """
    taken = {} if source is None else {os.path.realpath(source): "the source"}
    for output in outputs:
        if output is None or (os.path.exists(output) and not os.path.isfile(output)):
            continue
        where = os.path.realpath(output)
        if where in taken:
            raise InputError(
                f"{output} is also {taken[where]}, and would be overwritten. Name another file."
            )
        taken[where] = "another output"
