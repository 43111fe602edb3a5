"""CASME II: 200 frames a second, one folder a clip (sub01/EP02_01f/img46.jpg)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tools.recognition.datasets.clip import (
    Collection,
    Conventions,
    Correction,
    Reading,
    key_frames,
    leaving_out,
    make_clip,
)
from tools.recognition.datasets.rules import Applied
from tools.recognition.datasets.table import COLUMNS, read_rows
from tools.recognition.datasets.tree import Tree

NAME, FPS = "casme2", 200.0
TABLES = (r"casme2.*coding", r"casme2")
# As public code that reads the table has it (github.com/tvaranka/meb).
_CONVENTIONS = Conventions(FPS, corrections=(Correction(60, "offset", 91),))
# The same code leaves these out of the composite of MEGC 2019. Of the three, the flow release has
# the second.
_LEFT_OUT_OF_COMPOSITE = frozenset(
    {("sub04", "ep12_01f"), ("sub05", "ep12_03f"), ("sub24", "ep02_07")}
)


def read(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The clips of CASME II.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    path = table or tree.table(*TABLES, what="CASME2-coding-20190701.xlsx")
    clips = Collection((path.name,))
    for row in read_rows(path, COLUMNS, ("subject", "video", "onset", "offset")):
        number = row.number_in("subject")
        subject = row.text("subject") if number is None else f"sub{number:02d}"
        name = row.text("video")
        with leaving_out(clips.left_out, row, subject, name):
            found = tree.find(subject, name)
            frames = key_frames(row, found[0], _CONVENTIONS)
            clip = make_clip(NAME, subject, name, row, found, frames, fps or FPS)
            if (subject, name.casefold()) in _LEFT_OUT_OF_COMPOSITE and clip.composite:
                note = Applied("not-in-composite", clip.composite)
                clip = replace(clip, composite=None, applied=(*clip.applied, note))
            clips.add(clip)
    return clips.reading()
