"""Which videos an archive is made of: files, folders, patterns and lists."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from realtime_mer.archive import storage
from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown, why
from realtime_mer.redaction import URL, redacted

ENDINGS = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov"),
        *(".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv"),
    )
)
"""What a video's name ends with in a folder. A file that is named itself may end otherwise."""

# A list of 100,000 long paths is smaller: what is larger is no list, such as a video.
_MAX_LIST_BYTES = 64 << 20


def find_inputs(
    sources: Sequence[str],
    lists: Sequence[str],
    results: str | os.PathLike[str],
    *,
    stored: bool = False,
) -> list[str]:
    """The videos that are named, each path once: files as named, folders in the order of names.

    Args:
        sources: Files, folders, patterns such as `talks/*.mp4`, and `@FILE` for a list.
        lists: Files with a path a line. Blank lines and lines that begin with "#" do not count.
        results: A folder in which nothing is looked for: the archive's own.
        stored: Whether addresses on shared storage are inputs, too.

    Raises:
        InputError: Something that was named does not exist, or nothing was found.
    """
    found: dict[str, str] = {}
    for source in _named(sources, lists):
        if stored and storage.has_scheme(source):
            found |= {path: path for path in storage.find(source, ENDINGS)}
            continue
        for path in _videos(source, results):
            found.setdefault(os.path.realpath(path), path)
    if not found:
        raise InputError(
            "no video was found: name files, folders that contain videos "
            f"({' '.join(sorted(ENDINGS))}), patterns or a list"
        )
    return list(found.values())


def _named(sources: Sequence[str], lists: Sequence[str]) -> Iterator[str]:
    """What is named, with the lines of lists in place of the lists."""
    for source in sources:
        if source.startswith("@") and not os.path.exists(source):
            yield from _lines(source[1:])
        else:
            yield source
    for path in lists:
        yield from _lines(path)


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_LIST_BYTES + 1)
        if len(content) > _MAX_LIST_BYTES:
            raise ValueError(f"it has more than {_MAX_LIST_BYTES >> 20} MiB")
        text = content.decode("utf-8-sig", "surrogateescape")
    except (OSError, ValueError) as error:
        raise InputError(
            f"the list {shown(path)} cannot be read ({why(error)}): name a text file with a path a "
            "line"
        ) from None
    # Not `splitlines`: names may have Unicode's line separators.
    for line in text.split("\n"):
        line = line.strip()
        if line and not line.startswith("#"):
            yield line


def _videos(source: str, results: str | os.PathLike[str]) -> Iterator[str]:
    """The videos that one word names.

    Raises:
        InputError: It names nothing.
    """
    if "\0" in source:
        raise InputError("a name with a null character is no file name: check the list")
    if os.path.isdir(source):
        yield from _in_folder(source, results)
    elif os.path.lexists(source):
        yield source
    elif storage.has_scheme(source):
        raise InputError(
            f"{redacted(source)} is on shared storage, which an archive reads with --ray alone: "
            "add that"
        )
    elif URL.match(source) or source.isdecimal():
        raise InputError(
            f"{redacted(source)} is no file: an archive is made of recordings. For a camera or a "
            "stream, leave out the word archive."
        )
    else:
        matches = sorted(glob.glob(source, recursive=True)) if glob.has_magic(source) else []
        matches = [match for match in matches if not _is_in_results(match, results)]
        if not matches:
            what = "matches nothing" if glob.has_magic(source) else "does not exist"
            raise InputError(f"{shown(source)} {what}. Check the name.")
        for match in matches:
            yield from _videos(match, results)


def _is_results(folder: str) -> bool:
    """Whether a folder is one of results, whose clips are no inputs."""
    return all(os.path.exists(os.path.join(folder, name)) for name in ("manifest.json", "videos"))


def _is_in_results(path: str, results: str | os.PathLike[str]) -> bool:
    """Whether a path lies in this archive's results or those of another."""
    own = os.path.realpath(results)
    folders = map(str, Path(os.path.realpath(path)).parents)
    return any(folder == own or _is_results(folder) for folder in folders)


def _in_folder(folder: str, results: str | os.PathLike[str]) -> Iterator[str]:
    """The videos in a folder and the folders in it, by name; hidden ones do not count, nor do
    results of archives.

    Links to folders are followed, each folder once: links may go round in circles.
    """
    own = os.path.realpath(results)
    seen = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        where = os.path.realpath(here)
        if where in seen or where == own or _is_results(here):
            continue
        seen.add(where)
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(
                f"{shown(here)} cannot be read: {error.strerror}. Check its permissions."
            ) from None
        folders = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path):  # no error for a link to itself
                folders.append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in ENDINGS:
                yield entry.path
        waiting += reversed(folders)
