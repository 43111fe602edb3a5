"""MMEW: 90 frames a second, one folder a clip (Micro_Expression/anger/S03-01-002/1.jpg)."""

from __future__ import annotations

from pathlib import Path

from tools.recognition.datasets.clip import (
    Collection,
    Conventions,
    Reading,
    key_frames,
    leaving_out,
    make_clip,
)
from tools.recognition.datasets.table import COLUMNS, read_rows
from tools.recognition.datasets.tree import Tree

NAME, FPS = "mmew", 90.0
TABLES = (r"mmew",)


def read(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The micro-expressions of MMEW. Its README tells of folders of subjects; both forms do.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    path = table or tree.table(*TABLES, what="MMEW_Micro_Exp.xlsx")
    clips = Collection((path.name,))
    for row in read_rows(path, COLUMNS, ("video", "onset", "emotion")):
        name = row.text("video")
        # The name begins with the subject; the column may have become a number.
        subject = f"mmew-{name.split('-')[0].upper()}" if "-" in name else row.text("subject")
        with leaving_out(clips.left_out, row, subject, name):
            found = tree.find(name, within="micro")
            frames = key_frames(row, found[0], Conventions(FPS))
            clips.add(make_clip(NAME, subject, name, row, found, frames, fps or FPS))
    return clips.reading()
