"""SAMM: 200 frames a second, grey, one folder a clip (006/006_1_2/006_05562.jpg)."""

from __future__ import annotations

from collections.abc import Iterable
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
from tools.recognition.datasets.table import Row, read_rows
from tools.recognition.datasets.tree import Tree

NAME, FPS = "samm", 200.0
TABLES = (r"samm.*micro.*facs", r"samm(?!.*long)")
COLUMNS = {
    "subject": ("subject",),
    "video": ("filename",),
    "onset": ("onsetframe", "onset"),
    "apex": ("apexframe", "apex"),
    "offset": ("offsetframe", "offset"),
    "units": ("actionunits",),
    "emotion": ("estimatedemotion", "emotion"),
}
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
        name = row.text("video")
        subject = padded_subject(row.text("subject"))

        def clip(row: Row = row, subject: str = subject, name: str = name) -> Iterable[Clip]:
            (folder, applied) = tree.find(row.text("subject"), name, typed_number=True)
            yield make_clip(
                NAME,
                subject,
                name,
                row,
                (folder, applied),
                key_frames(row, folder, _CONVENTIONS),
                fps or FPS,
                row.text("emotion"),
                row.text("units"),
            )

        clips.add(row, subject, name, clip)
    return clips.reading()


def padded_subject(text: str) -> str:
    """A subject with the three digits that folders have: a spreadsheet may have made 6 of 006."""
    return text.zfill(3) if text.isdigit() else text
