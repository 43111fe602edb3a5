"""MMEW: 90 frames a second, one folder a clip (Micro_Expression/anger/S03-01-002/1.jpg).

Its macro-expressions are single pictures (Macro_Expression/S03/anger/S03-01-001.jpg).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown
from realtime_mer.source.image_folder import IMAGE_SUFFIXES
from tools.recognition.datasets.clip import (
    ANNOTATED,
    Collection,
    Conventions,
    KeyFrames,
    Reading,
    key_frames,
    leaving_out,
    make_clip,
)
from tools.recognition.datasets.rules import Applied, LeaveOut
from tools.recognition.datasets.table import COLUMNS, Row, read_rows
from tools.recognition.datasets.tree import Pictures, Tree

NAME, NAME_MACRO, FPS = "mmew", "mmew-macro", 90.0
TABLES = (r"mmew",)
# Single pictures have no times; they are taken as a second apart.
_STILLS_FPS = 1.0


def read(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The micro-expressions of MMEW. Its README tells of folders of subjects; both forms do.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    path = table or tree.table(*TABLES, what="MMEW_Micro_Exp.xlsx")
    clips = Collection((path.name,))
    for row in read_rows(path, COLUMNS, ("video", "onset", "emotion")):
        name = row.text("video")
        # The column may have become a number.
        subject = _subject_in(name) or row.text("subject")
        with leaving_out(clips.left_out, row, subject, name):
            found = tree.find(name, within="micro")
            frames = key_frames(row, found[0], Conventions(FPS))
            clips.add(make_clip(NAME, subject, name, row, found, frames, fps or FPS))
    return clips.reading()


def read_macro(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The macro-expressions of MMEW: single pictures, each measured from a still face.

    The still face is the onset of the person's first micro-expression, so the micro-expressions
    and their table are needed too.

    Raises:
        InputError: There are no such pictures, or the table is missing or cannot be read.
    """
    still: dict[str, Path] = {}
    micro = read(tree, table)
    for clip in micro.clips:
        still.setdefault(clip.subject, clip.folder.numbers()[clip.onset])
    clips = Collection(micro.tables)
    folders = [f for f in tree.frames if any(p.casefold().startswith("macro") for p in f.parts)]
    if not folders:
        raise InputError(
            f"{shown(tree.folder)} holds no pictures like Macro_Expression/S01/anger/"
            "S01-07-001.jpg: name the folder in which MMEW was unpacked"
        )
    for folder in folders:
        emotion = folder.path.name
        for path in sorted(folder.path.iterdir()):
            if path.name.startswith(".") or path.suffix.casefold() not in IMAGE_SUFFIXES:
                continue
            row = Row("", 0, 0, {"emotion": emotion})
            subject = _subject_in(path.stem) or f"mmew-{folder.parts[-2:][0].upper()}"
            with leaving_out(clips.left_out, row, subject, path.stem):
                if subject not in still:
                    raise LeaveOut("no-neutral", subject)
                chosen = (still[subject], path, still[subject])
                pictures = Pictures(path, (*folder.parts, path.name), chosen)
                note = Applied(
                    "neutral-from-micro", "", str(still[subject].relative_to(tree.folder))
                )
                frames = KeyFrames(1, 2, 3, ANNOTATED, (note,))
                clip = make_clip(
                    NAME_MACRO, subject, path.stem, row, (pictures, ()), frames, _STILLS_FPS
                )
                clips.add(replace(clip, stills=True))
    return clips.reading()


def _subject_in(name: str) -> str:
    """The subject with which the name of a clip begins (S03-01-002); empty if it names none."""
    return f"mmew-{name.split('-')[0].upper()}" if "-" in name else ""
