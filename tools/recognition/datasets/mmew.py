"""MMEW: 90 frames a second, one folder a clip (Micro_Expression/anger/S03-01-002/1.jpg)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tools.recognition.datasets.clip import (
    Clip,
    Collection,
    Conventions,
    Reading,
    key_frames,
    make_clip,
)
from tools.recognition.datasets.table import Row, read_rows
from tools.recognition.datasets.tree import Tree

NAME, FPS = "mmew", 90.0
TABLES = (r"mmew",)
_COLUMNS = {
    "subject": ("subject",),
    "video": ("filename",),
    "onset": ("onsetframe", "onset"),
    "apex": ("apexframe", "apex"),
    "offset": ("offsetframe", "offset"),
    "units": ("actionunits",),
    "emotion": ("estimatedemotion", "emotion"),
}


def read(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The micro-expressions of MMEW. Its README tells of folders of subjects; both forms do.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    path = table or tree.table(*TABLES, what="MMEW_Micro_Exp.xlsx")
    clips = Collection((path.name,))
    for row in read_rows(path, _COLUMNS, ("video", "onset", "emotion")):
        name = row.text("video")
        # The name begins with the subject; the column may have become a number.
        subject = f"mmew-{name.split('-')[0].upper()}" if "-" in name else row.text("subject")

        def clip(row: Row = row, subject: str = subject, name: str = name) -> Iterable[Clip]:
            found = tree.find(name, within="micro")
            yield make_clip(
                NAME,
                subject,
                name,
                row,
                found,
                key_frames(row, found[0], Conventions(FPS)),
                fps or FPS,
                row.text("emotion"),
                row.text("units"),
            )

        clips.add(row, subject, name, clip)
    return clips.reading()
