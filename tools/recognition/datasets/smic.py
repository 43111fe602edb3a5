"""SMIC-HS and its long videos, SMIC-HS-E: 100 frames a second.

SMIC-HS has a folder a clip (HS/s1/micro/negative/s1_ne_01/reg_image034110.bmp) that begins at the
onset and ends at the offset. SMIC-HS-E has a folder a video (SMIC-HS-E/s01/s1_ne_01/
image000001.jpg) with up to three events.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown
from tools.recognition.datasets.clip import (
    MIDDLE,
    Clip,
    Collection,
    Conventions,
    KeyFrames,
    LeftOut,
    Reading,
    key_frames,
    leaving_out,
    make_clip,
)
from tools.recognition.datasets.rules import Applied, LeaveOut
from tools.recognition.datasets.table import Row, read_rows
from tools.recognition.datasets.tree import FrameFolder, Tree

NAME, NAME_LONG, FPS = "smic", "smic-e", 100.0
TABLES = (r"smic-hs-e.*annotation", r"smic(?!.*(nir|vis)).*annotation")
WHAT = "SMIC-HS-E_annotation_2019.xlsx"
COLUMNS = {
    "subject": ("subject",),
    "video": ("filename",),
    "first": ("firstf",),
    "last": ("lastf",),
    "emotion": ("emotion",),
    **{f"onset{k}": (f"onset{k}f", f"onsetf{k}") for k in (2, 3)},
    **{f"offset{k}": (f"offset{k}f", f"offsetf{k}") for k in (2, 3)},
    **{f"total{k}": (f"totalmf{k}",) for k in (1, 2, 3)},
    "onset1": ("onsetf", "onset1f", "onsetf1"),
    "offset1": ("offsetf", "offset1f", "offsetf1"),
}
# The folders of clips that show micro-expressions, by what they show.
_EMOTIONS = ("negative", "positive", "surprise")
# Other cameras that filmed some of the same events.
_OTHER_CAMERAS = frozenset({"nir", "vis"})
_CONVENTIONS = Conventions(FPS, has_apex=False, own_frames=False)


def read(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The clips of SMIC-HS. The folders say what they are; the table, if there is one, is checked.

    Raises:
        InputError: There are no such folders, or the table cannot be read.
    """
    path = table or next((t for t in tree.tables if re.search(TABLES[1], t.name.casefold())), None)
    rows = (
        {} if path is None else {row.text("video").casefold(): row for row in rows_of_events(path)}
    )
    clips = Collection(() if path is None else (path.name,))
    seen = set()
    for folder in tree.frames:
        place = [part.casefold() for part in folder.parts]
        if len(place) < 4 or place[-3] != "micro" or place[-2] not in _EMOTIONS:
            continue
        if _OTHER_CAMERAS.intersection(place[:-4]):
            continue
        name = folder.parts[-1]
        row = rows.get(name.casefold(), Row("", 0, 0, {}))
        seen.add(name.casefold())
        with leaving_out(clips.left_out, row, folder.parts[-4], name):
            clips.add(_whole_folder(folder, row, place[-2], fps or FPS))
    if not seen:
        raise InputError(
            f"{shown(tree.folder)} holds no folders like HS/s1/micro/negative/s1_ne_01: name the "
            "folder in which SMIC-HS was unpacked"
        )
    for name, row in rows.items():
        if name not in seen:
            video = row.text("video")
            clips.left_out.append(
                LeftOut(row.table, row.number, row.text("subject"), video, "no-folder", video)
            )
    return clips.reading()


def _whole_folder(folder: FrameFolder, row: Row, emotion: str, fps: float) -> Clip:
    """The clip of a folder that holds the frames from onset to offset, and nothing else."""
    numbers = list(folder.numbers())
    if len(numbers) < 3:
        raise LeaveOut("no-pictures", f"{len(numbers)} pictures in {'/'.join(folder.parts)}")
    apex = numbers[(len(numbers) - 1) // 2]
    applied = [Applied("no-apex", "", str(apex))]
    total = row.number_in("total1")
    if not row.cells:
        applied.append(Applied("not-in-table", folder.parts[-1]))
    elif total is not None and total != len(numbers):
        applied.append(Applied("length-differs", str(total), str(len(numbers))))
    frames = KeyFrames(numbers[0], apex, numbers[-1], MIDDLE, tuple(applied))
    subject = padded_subject(folder.parts[-4])
    return make_clip(NAME, subject, folder.parts[-1], row, (folder, ()), frames, fps, emotion)


def read_long(tree: Tree, table: Path | None = None, fps: float | None = None) -> Reading:
    """The events of SMIC-HS-E, cut out of the long videos: frames before and after are there.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    path = table or tree.table(*TABLES, what=WHAT)
    clips = Collection((path.name,))
    for row in rows_of_events(path):
        name, subject = row.text("video"), padded_subject(row.text("subject"))
        for event in events_of(row):
            with leaving_out(clips.left_out, row, subject, name):
                found = tree.find(subject, name)
                made = make_clip(
                    NAME_LONG,
                    subject,
                    name if event == 1 else f"{name}_{event}",
                    row,
                    found,
                    event_frames(row, event, found[0]),
                    fps or FPS,
                    emotion_in(row),
                )
                if event > 1:
                    note = Applied("several-events", name, made.name)
                    made = replace(made, applied=(*made.applied, note))
                clips.add(made)
    return clips.reading()


def events_of(row: Row) -> list[int]:
    """The numbers of the events in a video's row; the first is always there."""
    return [1, *(k for k in (2, 3) if row.number_in(f"onset{k}") is not None)]


def event_frames(row: Row, event: int, folder: FrameFolder) -> KeyFrames:
    """Key frames of an event, in the numbers of the folder's pictures.

    Raises:
        LeaveOut: They cannot be.
    """
    shift = shift_of(row, folder)
    frames = key_frames(
        row,
        folder,
        _CONVENTIONS,
        {"onset": f"onset{event}", "offset": f"offset{event}"},
        shift,
    )
    if not shift:
        return frames
    first = row.text("first")
    note = Applied("numbers-from-first", first, str(int(first) + shift))
    return frames._replace(applied=(note, *frames.applied))


def shift_of(row: Row, folder: FrameFolder) -> int:
    """What is added to the table's numbers: files may be numbered from the video's first frame."""
    first, numbers = row.number_in("first"), list(folder.numbers())
    if first is None or not numbers:
        return 0
    return numbers[0] - first


def emotion_in(row: Row) -> str:
    """The emotion of a row; without one, that of the file's name (s1_ne_01)."""
    return row.text("emotion") or (row.text("video").split("_") + [""])[1]


def padded_subject(text: str) -> str:
    """A subject as in s01: the table has numbers, folders of SMIC-HS have s1."""
    digits = re.sub("[^0-9]", "", text)
    return f"s{int(digits):02d}" if digits else text


def rows_of_events(path: Path) -> list[Row]:
    """The rows of the table of SMIC-HS-E; below its data there are notes.

    Raises:
        InputError: It cannot be read.
    """
    rows = read_rows(path, COLUMNS, ("subject", "video", "onset1", "offset1"))
    return [row for row in rows if "_" in row.text("video")]
