"""DFME: 200 to 500 frames a second, one folder a clip (train_data/sub0003_01/00001.png)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown
from tools.recognition.datasets.clip import (
    Collection,
    Conventions,
    Reading,
    key_frames,
    leaving_out,
    make_clip,
)
from tools.recognition.datasets.rules import Applied
from tools.recognition.datasets.table import Row, columns_of, read_sheets, rows_of, text_of
from tools.recognition.datasets.tree import Tree

NAME = "dfme"
# The lowest of its frame rates.
_LEAST_FPS = 200.0
TABLES = r"(training|train|test).*\.xlsx?$"
_COLUMNS = {
    "subject": ("subject",),
    "video": ("filename",),
    "onset": ("onset",),
    "apex": ("apex",),
    "offset": ("offset",),
    "emotion": ("emotion",),
    "units": ("au", "aus", "actionunits"),
}
# The order in which the columns are published; offset is missing in some tables.
_ORDER = ("subject", "video", "onset", "apex", "offset", "emotion", "units")


def read(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The clips of DFME: training and both tests. Their frame rates are not in the tables.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    paths = [table] if table else [p for p in tree.tables if re.search(TABLES, p.name.casefold())]
    if not paths:
        raise InputError(
            f"{shown(tree.folder)} holds no table like training_full_with_AU.xlsx: put it there, "
            "or name it by --table"
        )
    rows_of_tables, fault = {}, None
    for path in paths:
        try:
            rows_of_tables[path] = _rows(path)
        except InputError as error:
            fault = error  # another table may lie in the folder as well
    if not rows_of_tables and fault is not None:
        raise fault
    clips = Collection(tuple(path.name for path in rows_of_tables))
    for rows in rows_of_tables.values():
        for row, applied in rows:
            name = row.text("video")
            subject = f"dfme-{name.split('_')[0]}"
            with leaving_out(clips.left_out, row, subject, name):
                found = tree.find(name)
                frames = key_frames(row, found[0], Conventions(_LEAST_FPS))
                clip = make_clip(NAME, subject, name, row, found, frames, fps)
                clips.add(replace(clip, applied=(*applied, *clip.applied)))
    return clips.reading()


def _rows(path: Path) -> list[tuple[Row, tuple[Applied, ...]]]:
    """The rows of a table, by the names of the columns or, where they are missing, by position."""
    sheet = read_sheets(path)[0]
    header = sheet[0] if sheet else ()
    named = columns_of(header, _COLUMNS)
    needed = [name for name in _ORDER if name != "offset"]
    if all(name in named for name in needed):
        return [(row, ()) for row in rows_of(path, sheet, 1, named)]
    width = len([cell for cell in header if text_of(cell)])
    order = [name for name in _ORDER if width >= len(_ORDER) or name != "offset"]
    if width < len(needed):
        raise InputError(
            f"{shown(path)} has {width} columns in its first row, a table of DFME has "
            f"{len(needed)} or {len(_ORDER)} ({', '.join(_ORDER)}): give it as it was published, "
            "by --table FILE"
        )
    # The first row may be a header whose names are others, or data already.
    places = {name: at for at, name in enumerate(order)}
    first = rows_of(path, sheet, 0, places)[0]
    start = 0 if first.number_in("onset") is not None else 1
    note = Applied("columns-by-position", ", ".join(map(text_of, header)), ", ".join(order))
    return [(row, (note,)) for row in rows_of(path, sheet, start, places)]
