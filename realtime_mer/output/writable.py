"""Output files: what can be said before a session begins, and how a file is replaced."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from realtime_mer.errors import InputError
from realtime_mer.redaction import redacted


def shown(path: str | os.PathLike[str]) -> str:
    """Returns a path as messages may show it."""
    return redacted(os.fspath(path))


def why(error: BaseException) -> str:
    """Returns what went wrong, as messages put it after the name of the file."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Returns the path if a file can be written there.

    Raises:
        InputError: It cannot, with the reason and the remedy.
    """
    path = Path(path)
    if not path.name or not _is_encodable(str(path)):
        raise InputError(f"{str(path)!r} is no file name. Name a file to write to.")
    try:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            _check_folder(path)
            return path
        if stat.S_ISDIR(mode):
            raise InputError(f"{shown(path)} is a folder. Name a file to write to.")
        if stat.S_ISREG(mode):
            with path.open("r+b"):
                pass
        elif not os.access(path, os.W_OK):
            raise PermissionError(0, "Permission denied")
    except OSError as error:
        raise InputError(
            f"{shown(path)} cannot be written: {error.strerror}. Name a file that you may write."
        ) from None
    return path


def _is_encodable(name: str) -> bool:
    """Whether the system can have files of this name."""
    try:
        return "\0" not in name and bool(os.fsencode(name))
    except UnicodeEncodeError:
        return False


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise InputError(
            f"{shown(path)} cannot be written: the folder {shown(path.parent)} does not exist. "
            "Make it first."
        )
    # Permission bits do not know of a full quota or a read-only mount: try it. On Linux this file
    # never has a name.
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file whole or not at all: whoever reads it sees the old content or the new.

    Links and permissions stay as they are. What is no regular file is written to.

    Raises:
        OSError: It cannot be written. The old content is still there.
    """
    is_new = not os.path.exists(path)
    if not is_new and not os.path.isfile(path):
        Path(path).write_bytes(content)
        return
    place = Path(os.path.realpath(path))
    part = place.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if not is_new:
            shutil.copymode(place, part)
        os.replace(part, place)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def check_distinct(source: str | None, outputs: Iterable[str | os.PathLike[str] | None]) -> None:
    """Refuses outputs that would overwrite each other or the source.

    Raises:
        InputError: Two of them are the same file.
    """
    taken = {} if source is None else {_identity(source): "the source"}
    for output in outputs:
        if output is None or (os.path.exists(output) and not os.path.isfile(output)):
            continue
        where = _identity(output)
        if where in taken:
            raise InputError(
                f"{shown(output)} is also {taken[where]}, and would be overwritten. "
                "Name another file."
            )
        taken[where] = "another output"


def _identity(path: str | os.PathLike[str]) -> str | tuple[int, int]:
    """What all names of a file have in common."""
    try:
        where = os.path.realpath(path)
    except ValueError:  # no file can have this name
        return os.fspath(path)
    try:
        found = os.stat(where)
    except (OSError, ValueError):
        return where
    return found.st_dev, found.st_ino
