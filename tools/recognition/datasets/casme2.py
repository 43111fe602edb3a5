"""CASME II: 200 frames a second, one folder a clip (sub01/EP02_01f/img46.jpg)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tools.recognition.datasets.clip import (
    Clip,
    Collection,
    Conventions,
    Correction,
    Reading,
    key_frames,
    make_clip,
)
from tools.recognition.datasets.rules import Applied
from tools.recognition.datasets.table import Row, read_rows
from tools.recognition.datasets.tree import Tree

NAME, FPS = "casme2", 200.0
TABLES = (r"casme2.*coding", r"casme2")
_COLUMNS = {
    "subject": ("subject",),
    "video": ("filename",),
    "onset": ("onsetframe", "onset"),
    "apex": ("apexframe", "apex"),
    "offset": ("offsetframe", "offset"),
    "units": ("actionunits",),
    "emotion": ("estimatedemotion", "emotion"),
}
# As public code that reads the table has it (github.com/tvaranka/meb).
_CONVENTIONS = Conventions(FPS, corrections=(Correction(60, "offset", 91),))
# The composite of MEGC 2019 has 145 clips of this set and leaves these out.
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
    for row in read_rows(path, _COLUMNS, ("subject", "video", "onset", "offset")):
        number = row.number_in("subject")
        subject = row.text("subject") if number is None else f"sub{number:02d}"
        name = row.text("video")

        def clip(row: Row = row, subject: str = subject, name: str = name) -> Iterable[Clip]:
            found = tree.find(subject, name)
            made = make_clip(
                NAME,
                subject,
                name,
                row,
                found,
                key_frames(row, found[0], _CONVENTIONS),
                fps or FPS,
                row.text("emotion"),
                row.text("units"),
            )
            if (subject, name.casefold()) in _LEFT_OUT_OF_COMPOSITE and made.composite:
                note = Applied("not-in-composite", made.composite)
                made = replace(made, composite=None, applied=(*made.applied, note))
            yield made

        clips.add(row, subject, name, clip)
    return clips.reading()
