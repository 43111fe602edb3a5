"""CAS(ME)^3, parts A and C: 30 frames a second, one folder a video (spNO.1/a/color/123.jpg)."""

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
from tools.recognition.datasets.table import read_rows
from tools.recognition.datasets.tree import Tree

NAME_A, NAME_A_MACRO, NAME_C, FPS = "casme3-a", "casme3-a-macro", "casme3-c", 30.0
TABLES_A = (r"part_a.*me_label.*jpgindex", r"part_a.*me_label")
TABLES_A_MACRO = (r"part_a.*mae_label.*emotion", r"part_a.*mae_label")
TABLES_C = (r"part_c.*me",)
COLUMNS_A = {
    "subject": ("subject", "sub"),
    "video": ("filename", "seq"),
    "onset": ("onset", "onsetframe"),
    "apex": ("apex", "apexframe"),
    "offset": ("offset", "offsetframe"),
    "units": ("au", "actionunits"),
    "emotion": ("emotion", "estimatedemotion"),
}
_COLUMNS_C = {
    "subject": ("sub", "subject"),
    "video": ("count", "filename"),
    "onset": ("onset",),
    "offset": ("offset",),
    "units": ("au",),
    "emotion": ("emotion",),
}
# As public code that reads the table has it (github.com/tvaranka/meb).
_CONVENTIONS_A = Conventions(
    FPS,
    own_frames=False,
    corrections=(
        Correction(128, "apex", 160),
        Correction(749, "onset", 2647),
        Correction(708, "offset", 34),
        Correction(796, "offset", 1845),
        Correction(798, "offset", 2403),
        Correction(750, "onset", 1),
        Correction(750, "apex", 1),
    ),
)
_CONVENTIONS_C = Conventions(FPS, has_apex=False, own_frames=False)


def read_part_a(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The micro-expressions of part A. A video holds several; its frames may have holes.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    path = table or tree.table(*TABLES_A, what="cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx")
    return _read_a(NAME_A, tree, path, _CONVENTIONS_A, fps)


def read_part_a_macro(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The macro-expressions of part A, which have a table of their own.

    Public code names its columns sub, seq, onset, apex, offset and emotion.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    name = "cas(me)3_part_A_MaE_label_JpgIndex_v2_emotion.xlsx"
    path = table or tree.table(*TABLES_A_MACRO, what=name)
    return _read_a(NAME_A_MACRO, tree, path, Conventions(FPS, own_frames=False), fps)


def _read_a(
    dataset: str, tree: Tree, path: Path, conventions: Conventions, fps: float | None
) -> Reading:
    clips = Collection((path.name,))
    for row in read_rows(path, COLUMNS_A, ("subject", "video", "onset", "apex", "offset")):
        subject, name = row.text("subject"), row.text("video")
        with leaving_out(clips.left_out, row, subject, name):
            found = tree.find(subject, name)
            frames = key_frames(row, found[0], conventions)
            person, video = found[0].parts[-2:]
            clips.add(make_clip(dataset, person, video, row, found, frames, fps or FPS))
    return clips.reading()


def read_part_c(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The micro-expressions of part C, which have action units but neither apex nor emotion.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    path = table or tree.table(*TABLES_C, what="CAS(ME)3_part_C_ME.xlsx")
    clips = Collection((path.name,))
    for row in read_rows(path, _COLUMNS_C, ("subject", "video", "onset", "offset")):
        subject, name = row.text("subject"), row.text("video")
        with leaving_out(clips.left_out, row, subject, name):
            found = tree.find(subject, name, typed_number=row.is_number("subject"))
            frames = key_frames(row, found[0], _CONVENTIONS_C)
            person, video = found[0].parts[-2:]
            clips.add(make_clip(NAME_C, f"casme3c-{person}", video, row, found, frames, fps or FPS))
    return clips.reading()
