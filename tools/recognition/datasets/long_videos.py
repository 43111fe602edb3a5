"""Long videos for spotting: the tables of four sets in the one form that the spotting tools read.

`tools/spotting/annotations.py` describes that form, and how it finds the video of a row. Here a row
without a video is left out with its reason, where that module would refuse the whole table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tools.recognition.datasets import casme3, samm, smic
from tools.recognition.datasets.clip import LeftOut, leaving_out
from tools.recognition.datasets.labels import emotion_of
from tools.recognition.datasets.rules import Applied, LeaveOut
from tools.recognition.datasets.table import COLUMNS as USUAL_COLUMNS
from tools.recognition.datasets.table import Row, read_rows, read_sheets, rows_of, text_of
from tools.recognition.datasets.tree import FrameFolder, Tree

COLUMNS = ("subject", "video", "onset", "apex", "offset", "type", "emotion", "action_units")
"""Of the table for the spotting tools."""

_CASME_SQUARED = ("subject", "video", "onset", "apex", "offset", "units", "emotion", "type")
_SAMM_LONG = {
    "subject": ("subject",),
    "video": ("filename",),
    "onset": ("onset", "onsetframe"),
    "apex": ("apex", "apexframe"),
    "offset": ("offset", "offsetframe"),
    "type": ("type",),
    "units": ("actionunits",),
}
_SAMM_ORDER = (
    *("subject", "video", "inducement", "onset", "apex", "offset", "duration", "type", "units"),
)
_CASME3_ALL = {**casme3.COLUMNS_A, "type": ("expressiontype", "type")}


@dataclass(frozen=True, slots=True)
class Annotated:
    """A row of the table for the spotting tools: cells in the order of `COLUMNS`."""

    row: Row
    cells: tuple[str | int, ...]
    applied: tuple[Applied, ...]


@dataclass(slots=True)
class LongReading:
    """What was read of a set of long videos.

    Attributes:
        rows: The expressions whose videos are there.
        left_out: The others.
        tables: Names of the tables that were read.
        fps: Frame rate of folders of frames.
    """

    fps: float
    rows: list[Annotated] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)

    def leaving_out(self, row: Row) -> AbstractContextManager[None]:
        """Inside, a row that cannot be used is left out with its reason."""
        return leaving_out(self.left_out, row, row.text("subject"), row.text("video"))


def _annotated(
    row: Row,
    video: FrameFolder,
    subject: str,
    kind: str,
    emotion: str,
    applied: tuple[Applied, ...] = (),
    columns: tuple[str, str, str] = ("onset", "apex", "offset"),
    shift: int = 0,
) -> Annotated:
    """A row for the spotting tools.

    Args:
        row: The row.
        video: Its video.
        subject: As a folder above the video, or the video's name, ends.
        kind: What the table says of its type.
        emotion: As the table has it.
        applied: What was put right.
        columns: Where onset, apex and offset stand.
        shift: Is added to the numbers.

    Raises:
        LeaveOut: It is no expression.
    """
    word = kind.strip().casefold()
    if not word.startswith(("micro", "macro", "me", "mae")):
        raise LeaveOut("no-type", kind)
    name = "macro" if word.startswith(("macro", "mae")) else "micro"
    onset, apex, offset = (row.number_in(column) for column in columns)
    if onset is None:
        raise LeaveOut("no-onset", row.text(columns[0]))
    rules = list(applied)
    if not apex:
        rules.append(Applied("apex-missing" if row.text(columns[1]) else "no-apex", "", "middle"))
    if not offset:
        if not apex:
            raise LeaveOut("no-interval", f"onset {onset}, no offset and no apex")
        rules.append(Applied("offset-missing", row.text(columns[2]), "apex"))
    end = offset or apex
    if end is None or end <= onset:
        raise LeaveOut("no-interval", f"onset {onset}, offset {row.text(columns[2])}")
    cells = (
        subject,
        video.parts[-1],
        onset + shift,
        apex + shift if apex else "",
        offset + shift if offset else "",
        name,
        emotion_of(emotion),
        row.text("units"),
    )
    return Annotated(row, cells, tuple(rules))


def _named_videos(tree: Tree) -> Iterator[tuple[str, FrameFolder]]:
    """All videos, each with its name in small letters."""
    for video in (*tree.frames, *tree.videos):
        if video.parts:
            yield video.parts[-1].casefold(), video


def _only(found: Sequence[FrameFolder], what: str) -> FrameFolder:
    if not found:
        raise LeaveOut("no-folder", what)
    if len(found) > 1:
        raise LeaveOut("ambiguous-folder", " and ".join("/".join(f.parts) for f in found[:2]))
    return found[0]


def read_casme_squared(
    tree: Tree, table: Path | None = None, fps: float | None = None
) -> LongReading:
    """CAS(ME)^2: the table has no header; its other sheets give the numbers of the folders.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    path = table or tree.table(r"code_?final", what="code_final.xlsx")
    sheets = read_sheets(path)
    reading = LongReading(fps or 30.0, tables=[path.name])
    # Participant of the table to the number in the folder's name, and video (anger1) to its code.
    subjects = {text_of(c[2]): text_of(c[1]) for c in _wide(sheets, 1, 3)}
    codes = {text_of(c[1]).casefold(): text_of(c[0]).zfill(4) for c in _wide(sheets, 2, 2)}
    places = {name: at for at, name in enumerate(_CASME_SQUARED)}
    for row in rows_of(path, sheets[0], 0, places):
        if row.number_in("onset") is None and row.number == 1:
            continue  # some copies have a header
        with reading.leaving_out(row):
            subject = re.sub("[^0-9]", "", subjects.get(row.text("subject"), row.text("subject")))
            name = row.text("video").rsplit("_", 1)[0].casefold()
            code = codes.get(name)
            if not name or code is None:
                raise LeaveOut("no-name" if not name else "no-folder", row.text("video"))
            start = f"{int(subject or 0)}_{code}"
            named = _named_videos(tree)
            video = _only([v for n, v in named if n.lstrip("s0").startswith(start)], start)
            note = Applied("several-events", row.text("video"), video.parts[-1])
            kind, emotion = row.text("type"), row.text("emotion")
            reading.rows.append(_annotated(row, video, subject, kind, emotion, (note,)))
    return reading


def _wide(sheets: list[list[tuple[object, ...]]], index: int, width: int) -> Iterator[tuple]:
    """The rows of a sheet that have so many cells."""
    for cells in sheets[index] if index < len(sheets) else ():
        if len(cells) >= width and text_of(cells[width - 1]):
            yield cells


def read_samm_long(tree: Tree, table: Path | None = None, fps: float | None = None) -> LongReading:
    """SAMM Long Videos: 006_1_2 is the second expression of the video 006_1.

    The emotions are in SAMM's own table, which is read if it lies in the folder as well.

    Raises:
        InputError: There is no such table, or one cannot be read.
    """
    path = table or tree.table(r"longvideos", what="SAMM_LongVideos_V3_Release.xlsx")
    emotions = {}
    own = [p for p in tree.tables if re.search(samm.TABLES[0], p.name.casefold())]
    if own:
        for row in read_rows(own[-1], USUAL_COLUMNS, ("video", "onset", "emotion")):
            emotions[row.text("video")] = row.text("emotion")
    reading = LongReading(fps or 200.0, tables=[path.name, *(p.name for p in own[-1:])])
    for row in _samm_rows(path):
        with reading.leaving_out(row):
            name = row.text("video")
            video_name, _, number = name.rpartition("_")
            if not video_name:
                raise LeaveOut("no-name" if not name else "no-folder", name)
            found = [v for n, v in _named_videos(tree) if n == video_name.casefold()]
            video = _only(found, video_name)
            notes = []
            if number != "1":
                notes.append(Applied("several-events", name, video.parts[-1]))
            subject = samm.padded_subject(row.text("subject"))
            if row.is_number("subject"):
                notes.append(Applied("number-for-name", row.text("subject"), subject))
            kind, emotion = row.text("type"), emotions.get(name, "")
            reading.rows.append(_annotated(row, video, subject, kind, emotion, tuple(notes)))
    return reading


def _samm_rows(path: Path) -> list[Row]:
    """The rows of SAMM-LV: under its header or, in copies without one, under ten rows of notes."""
    sheet = read_sheets(path)[0]
    for start, cells in enumerate(sheet):
        if cells and re.match("[0-9]{3}_[0-9]+_[0-9]+$", text_of(cells[1] if cells[1:] else "")):
            return rows_of(path, sheet, start, {n: at for at, n in enumerate(_SAMM_ORDER)})
    return read_rows(path, _SAMM_LONG, ("subject", "video", "onset", "offset", "type"))


def read_casme3_long(
    tree: Tree, table: Path | None = None, fps: float | None = None
) -> LongReading:
    """CAS(ME)^3, part A: all expressions, and the emotions of the micro-expressions.

    Raises:
        InputError: There is no such table, or one cannot be read.
    """
    path = table or tree.table(
        r"part_a_v[0-9]+\.xlsx?$", r"part_a\.xlsx?$", what="CAS(ME)3_part_A_v2.xls"
    )
    needed = ("subject", "video", "onset", "apex", "offset", "type")
    labels = [t for t in tree.tables if re.search(casme3.TABLES_A[1], t.name.casefold())]
    emotions = {}
    for row in read_rows(labels[-1], casme3.COLUMNS_A, needed[:-1]) if labels else ():
        emotions[_event(row)] = row.text("emotion")
    reading = LongReading(fps or 30.0, tables=[path.name, *(p.name for p in labels[-1:])])
    for row in read_rows(path, _CASME3_ALL, needed):
        with reading.leaving_out(row):
            folder, applied = tree.find(row.text("subject"), row.text("video"))
            emotion = row.text("emotion") or emotions.get(_event(row), "")
            kind, subject = row.text("type"), folder.parts[-2]
            reading.rows.append(_annotated(row, folder, subject, kind, emotion, applied))
    return reading


def _event(row: Row) -> tuple[str, str, int | None]:
    """What an expression has in both tables of CAS(ME)^3."""
    return row.text("subject").casefold(), row.text("video").casefold(), row.number_in("onset")


def read_smic_long(tree: Tree, table: Path | None = None, fps: float | None = None) -> LongReading:
    """SMIC-HS-E: one to three micro-expressions a video; no apex is marked.

    Raises:
        InputError: There is no such table, or it cannot be read.
    """
    path = table or tree.table(*smic.TABLES, what=smic.WHAT)
    reading = LongReading(fps or smic.FPS, tables=[path.name])
    for row in smic.rows_of_events(path):
        subject = smic.padded_subject(row.text("subject"))
        for event in smic.events_of(row):
            with reading.leaving_out(row):
                folder, applied = tree.find(subject, row.text("video"))
                notes = list(applied)
                shift = smic.shift_of(row, folder)
                if shift:
                    first = row.number_in("first") or 0
                    notes.append(Applied("numbers-from-first", str(first), str(first + shift)))
                if event > 1:
                    notes.append(Applied("several-events", row.text("video"), f"event {event}"))
                columns = f"onset{event}", "apex", f"offset{event}"
                emotion = smic.emotion_in(row)
                reading.rows.append(
                    _annotated(row, folder, subject, "micro", emotion, tuple(notes), columns, shift)
                )
    return reading
