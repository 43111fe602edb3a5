"""4DME, its grey micro-expression videos: one folder a clip (gray_micro/SUBJECT/FOLDER)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tools.recognition.datasets.clip import (
    Collection,
    Conventions,
    Reading,
    key_frames,
    leaving_out,
    make_clip,
)
from tools.recognition.datasets.rules import Applied
from tools.recognition.datasets.table import Row, read_rows
from tools.recognition.datasets.tree import Tree

# Frames a second of the grey camera, as in print (Li et al., IEEE TAFFC 2022).
NAME, FPS = "4dme", 60.0
TABLES = (r"4dme.*label.*micro", r"4dme")
_FLAGS = ("positive", "negative", "surprise", "repression", "others")
_COLUMNS = {
    "subject": ("subid", "subject"),
    "video": ("foldname", "filename"),
    "onset": ("onset",),
    "apex": ("apex",),
    "offset": ("offset",),
    "units": ("aus", "au"),
    "emotion": ("emotion",),
    **{name: (name,) for name in _FLAGS},
}
# As public code that reads the table has it (github.com/tvaranka/meb): action units and all that
# follows are swapped between these rows below the header, from 0.
_SWAPPED = (144, 145)
_SWAPPED_COLUMNS = ("units", "emotion", *_FLAGS)


def read(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The micro-expressions of 4DME.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    path = table or tree.table(*TABLES, what="4DME_Labelling_Micro_release v1.xlsx")
    clips = Collection((path.name,))
    for row, applied in _swapped_back(
        read_rows(path, _COLUMNS, ("subject", "video", "onset", "offset"))
    ):
        subject, name = row.text("subject"), row.text("video")
        with leaving_out(clips.left_out, row, subject, name):
            found = tree.find(subject, name, within="gray", typed_number=row.is_number("subject"))
            frames = key_frames(row, found[0], Conventions(FPS))
            clip = make_clip(
                NAME, f"4dme-{subject}", name, row, found, frames, fps or FPS, _emotion(row)
            )
            clips.add(replace(clip, applied=(*applied, *clip.applied)))
    return clips.reading()


def _emotion(row: Row) -> str:
    """The emotions whose columns are marked; if none is, what the column of the emotion says."""
    marked = [name for name in _FLAGS if row.number_in(name) == 1]
    return "+".join(marked) or row.text("emotion").replace("/", "+").replace(" ", "")


def _swapped_back(rows: Sequence[Row]) -> list[tuple[Row, tuple[Applied, ...]]]:
    """The rows, the two that are swapped with each other's cells, and what was put right."""
    by_index = {row.index: row for row in rows}
    if any(index not in by_index for index in _SWAPPED):
        return [(row, ()) for row in rows]
    other = dict(zip(_SWAPPED, reversed(_SWAPPED), strict=True))
    result: list[tuple[Row, tuple[Applied, ...]]] = []
    for row in rows:
        if row.index not in other:
            result.append((row, ()))
            continue
        source = by_index[other[row.index]]
        cells = {**row.cells, **{c: source.cells.get(c) for c in _SWAPPED_COLUMNS}}
        right = replace(row, cells=cells)
        applied = Applied(
            "rows-swapped",
            f"{row.text('units')} {_emotion(row)}".strip(),
            f"{right.text('units')} {_emotion(right)}".strip(),
        )
        result.append((right, (applied,)))
    return result
