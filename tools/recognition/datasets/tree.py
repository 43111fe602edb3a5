"""The folder of a data set: which folders hold frames, which files are tables, and their names."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown
from realtime_mer.source.image_folder import IMAGE_SUFFIXES
from tools.recognition.datasets.rules import Applied, LeaveOut
from tools.recognition.datasets.table import TABLE_SUFFIXES
from tools.spotting.annotations import VIDEO_SUFFIXES

# Frames may lie in a folder of their own below the clip's; depth pictures are not read.
_COLOUR, _DEPTH = "color", "depth"


@dataclass(frozen=True, slots=True)
class FrameFolder:
    """A folder of frames, or a video.

    Attributes:
        path: The folder.
        parts: Names of the folders from the data set's down to the clip's, without "color".
    """

    path: Path
    parts: tuple[str, ...]

    def numbers(self) -> dict[int, Path]:
        """The pictures by the numbers in which their names end, rising.

        Raises:
            LeaveOut: A picture has no number, or two have the same.
        """
        pictures = [
            entry
            for entry in os.listdir(self.path)
            if Path(entry).suffix.casefold() in IMAGE_SUFFIXES and not entry.startswith(".")
        ]
        found: dict[int, Path] = {}
        for name in pictures:
            digits = re.findall("[0-9]+", Path(name).stem)
            if not digits or int(digits[-1]) in found:
                raise LeaveOut("not-numbered", f"{name} in {'/'.join(self.parts)}")
            found[int(digits[-1])] = self.path / name
        return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class Pictures(FrameFolder):
    """Pictures that were chosen one by one.

    Attributes:
        chosen: The pictures; their numbers begin at 1.
    """

    chosen: tuple[Path, ...] = ()

    def numbers(self) -> dict[int, Path]:
        """The pictures by their numbers, rising."""
        return dict(enumerate(self.chosen, start=1))


class Tree:
    """What is under the folder of a data set.

    Args:
        folder: The folder.
        progress: Called for each folder that was listed.

    Raises:
        InputError: There is no such folder, or a part of it cannot be read.
    """

    def __init__(self, folder: Path, progress: Callable[[], object] = lambda: None) -> None:
        if not folder.is_dir():
            raise InputError(
                f"there is no folder {shown(folder)}: name the folder in which the data set was "
                "unpacked"
            )
        self.folder = folder
        self.tables: list[Path] = []
        self.frames: list[FrameFolder] = []
        self.videos: list[FrameFolder] = []

        def fail(error: OSError) -> None:
            raise InputError(f"{error.filename} cannot be read: {error.strerror}") from None

        for place, folders, files in os.walk(folder, onerror=fail):
            folders[:] = sorted(f for f in folders if f.casefold() != _DEPTH and f[0] != ".")
            path = Path(place)
            parts = path.relative_to(folder).parts
            has_pictures = False
            for name in sorted(files):
                suffix = Path(name).suffix.casefold()
                if name[0] in ".~":
                    continue  # Excel's locks, and what macOS leaves
                has_pictures |= suffix in IMAGE_SUFFIXES
                if suffix in TABLE_SUFFIXES:
                    self.tables.append(path / name)
                elif suffix in VIDEO_SUFFIXES:
                    self.videos.append(FrameFolder(path / name, (*parts, Path(name).stem)))
            if has_pictures:
                if parts and parts[-1].casefold() == _COLOUR:
                    parts = parts[:-1]
                self.frames.append(FrameFolder(path, parts))
            progress()

    def table(self, *patterns: str, what: str) -> Path:
        """The table whose name matches one of the patterns; of several, the last by name.

        Args:
            patterns: Regular expressions, in small letters; the first that fits counts.
            what: The table's name in print, for the message.

        Raises:
            InputError: There is none.
        """
        for pattern in patterns:
            found = [path for path in self.tables if re.search(pattern, path.name.casefold())]
            if found:
                return max(found, key=lambda path: path.name.casefold())
        raise InputError(
            f"{shown(self.folder)} holds no table like {what}: put it there, or name it by --table"
        )

    def find(
        self, *names: str, within: str = "", typed_number: bool = False
    ) -> tuple[FrameFolder, tuple[Applied, ...]]:
        """The folder of frames that the last of `names` means, below folders of the others.

        Capitals and leading zeros make no difference, if no folder is named exactly so. Of several
        copies, one that is not cropped counts: its frames show the whole face.

        Args:
            names: Names of folders that follow each other; empty ones are skipped.
            within: A word that the path contains, from the name of the set's folder on, in small
                letters.
            typed_number: Whether a spreadsheet took a name for a number.

        Returns:
            The folder, and what was wrong with its name.

        Raises:
            LeaveOut: There is no such folder, or several.
        """
        wanted = tuple(name for name in names if name)
        loose = tuple(map(_loosely, wanted))
        near = [
            folder
            for folder in self._by_name.get(loose[-1], ())
            if tuple(map(_loosely, folder.parts[-len(loose) :])) == loose
            and within in "/".join((self.folder.resolve().name, *folder.parts)).casefold()
        ]
        exact = [folder for folder in near if folder.parts[-len(wanted) :] == wanted]
        found = exact or near
        if len(found) > 1:
            found = [f for f in found if "crop" not in "/".join(f.parts).casefold()] or found
        if not found:
            raise LeaveOut("no-folder", "/".join(wanted))
        if len(found) > 1:
            names_of_both = " and ".join("/".join(f.parts) for f in found[:2])
            raise LeaveOut("ambiguous-folder", names_of_both)
        here = found[0].parts[-len(wanted) :]
        if exact:
            return found[0], ()
        rule = "number-for-name" if typed_number else "file-name-case"
        return found[0], (Applied(rule, "/".join(wanted), "/".join(here)),)

    @cached_property
    def _by_name(self) -> dict[str, list[FrameFolder]]:
        folders: dict[str, list[FrameFolder]] = defaultdict(list)
        for folder in self.frames:
            if folder.parts:
                folders[_loosely(folder.parts[-1])].append(folder)
        return folders


def _loosely(name: str) -> str:
    """A name without capitals, blanks at its ends and leading zeros of its numbers."""
    return re.sub(r"0*([0-9]+)", r"\1", name.strip().casefold())


def nearest(numbers: Sequence[int], wanted: int) -> int:
    """The number nearest to `wanted`, the earlier of two."""
    return min(numbers, key=lambda number: (abs(number - wanted), number))
