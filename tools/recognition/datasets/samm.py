"""SAMM: 200 frames a second, grey, one folder a clip (006/006_1_2/006_05562.jpg)."""

from __future__ import annotations

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
from tools.recognition.datasets.table import COLUMNS, read_rows
from tools.recognition.datasets.tree import Tree

NAME, FPS = "samm", 200.0
TABLES = (r"samm.*micro.*facs", r"samm(?!.*long)")
# As public code that reads the table has it (github.com/tvaranka/meb).
_CONVENTIONS = Conventions(FPS, corrections=(Correction(56, "offset", 5739),))


def read(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The clips of SAMM. Notes stand above the table's header.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    path = table or tree.table(*TABLES, what="SAMM_Micro_FACS_Codes_v2.xlsx")
    clips = Collection((path.name,))
    for row in read_rows(path, COLUMNS, ("subject", "video", "onset", "offset")):
        subject, name = padded_subject(row.text("subject")), row.text("video")
        with leaving_out(clips.left_out, row, subject, name):
            found = tree.find(row.text("subject"), name, typed_number=True)
            frames = key_frames(row, found[0], _CONVENTIONS)
            clips.add(make_clip(NAME, subject, name, row, found, frames, fps or FPS))
    return clips.reading()


def padded_subject(text: str) -> str:
    """A subject with the three digits that folders have: a spreadsheet may have made 6 of 006."""
    return text.zfill(3) if text.isdigit() else text
