"""Annotations: what people marked in videos, and where the videos are.

There are two forms. A truth is a CSV for one video: a row a micro-expression, with the columns
onset, apex, offset in frames from 0 and, if known, label and masking. A data set is a CSV for many
videos, like those of the MEGC challenges: a row an expression. Any form in which Excel saves a
table as text will do: with commas, semicolons or tabs, with decimal commas, in UTF-8, UTF-16 or
Windows' code page. Capitals, spaces and underscores in the names of columns make no difference, and
other columns are ignored. The columns of a data set are:

    subject         or subject code, participant, sub; may be empty or missing
    video           or video code, video name, filename, seq
    onset, offset   or onset frame, offset frame; without an offset, or at 0, the apex is taken
    apex            or apex frame; without one, at 0 or outside of both, the middle is taken
    type            or expression type: micro..., ME, macro... or MaE
    emotion         or estimated emotion, label; may be missing. Named as in `EMOTIONS`
    masking         how far the face's own motion covers it (`tools/spotting/masking.py`); may be
                    empty or missing

Three data sets come as Excel tables: `tools/recognition/prepare.py` makes such a CSV of them, or
save them as CSV with such a header. Their contents, according to public code that reads them:

- CAS(ME)^2: code_final.xlsx has no header. Its columns are subject, video (as in anger1_1), onset,
  apex, offset, AUs, emotion, type ("micro-expression"), self-report; its second and third sheet
  give the folders' numbers of subject and video (anger1 is 0101), which belong in the table
  (github.com/genbing99/MEAN_Spot-then-recognize, load_excel.py).
- SAMM Long Videos: SAMM_LongVideos_V2_Release.xlsx has ten rows above its data with columns
  Subject, Filename (006_1_2 is the second expression of the video 006_1), Inducement Code, Onset,
  Apex, Offset, Duration, Type ("Micro - 1/2", "Macro"), Action Units, Notes. The emotions are in
  SAMM's own table, by Filename (the same reader).
- CAS(ME)^3, part A: CAS(ME)3_part_A_v2.xls has Subject (spNO.1), Filename (a), Onset, Apex, Offset,
  AU, Expression type ("Micro-expression", "Macro-expression"), Objective class, and
  cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx has the emotion of the micro-expressions, but no type
  (github.com/genbing99/SFAMNet, load_data.py; github.com/tvaranka/meb,
  tools/extract_casme3_part_a.py, also for the folders, spNO.1/a/color/123.jpg).

A video is a file or a folder of frames, anywhere under the data set's folder. It belongs to a row
if a folder above it, or a part of its name before the last underscore, ends in the subject's
number, and its name matches the row's: the row's 006_1 and 006_1_2 both mean the video 006_1, and
0101 of subject 15 means 15_0101disgustingteeth. Leading zeros and capitals make no difference.
Frames may lie in a folder of their own named `color`; folders named `depth` are ignored. A video
without rows counts too: it shows no expression.

The numbers in the names of a folder's frames are the frame numbers, as in all three data sets; for
a number without a picture the next one with a picture is taken. The frames of a file are numbered
from 1, or from what the caller says.
"""

from __future__ import annotations

import bisect
import codecs
import csv
import io
import math
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from realtime_mer.errors import InputError
from realtime_mer.results import Interval
from realtime_mer.source.image_folder import IMAGE_SUFFIXES
from tools.spotting.figures import TrueEvent

# Emotion to label; all others (others, confused, helpless, ...) have no label.
EMOTIONS = {
    "positive": "positive",
    "happiness": "positive",
    "happy": "positive",
    "surprise": "surprise",
    "negative": "negative",
    "anger": "negative",
    "contempt": "negative",
    "disgust": "negative",
    "fear": "negative",
    "repression": "negative",
    "sad": "negative",
    "sadness": "negative",
}

VIDEO_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
)
_NAMES = {
    "subject": ("subject", "subjectcode", "participant", "sub"),
    "video": ("video", "videocode", "videoname", "filename", "seq"),
    "onset": ("onset", "onsetframe"),
    "apex": ("apex", "apexframe"),
    "offset": ("offset", "offsetframe"),
    "type": ("type", "expressiontype"),
    "emotion": ("emotion", "estimatedemotion", "label"),
    "masking": ("masking",),
}
# The byte order marks with which spreadsheets save; "Unicode text" is UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SEPARATORS = (",", ";", "\t")
_COLOUR, _DEPTH = "color", "depth"


@dataclass(frozen=True, slots=True)
class Annotation:
    """An expression, in frames of its video from 0; label and masking may be unknown."""

    onset: float
    apex: float
    offset: float
    label: str | None = None
    masking: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.onset <= self.apex <= self.offset:
            raise ValueError(f"0 <= onset <= apex <= offset is broken by {self}")

    def at(self, fps: float) -> TrueEvent:
        """The same in seconds, at `fps` frames a second."""
        interval = Interval(self.onset / fps, self.apex / fps, self.offset / fps)
        return TrueEvent(interval, self.label, self.masking)


@dataclass(frozen=True, slots=True)
class Recording:
    """A video and the expressions in it.

    Attributes:
        name: For people.
        path: The file or the folder of frames.
        fps: Frame rate of a folder of frames; None for a file, which states its own.
        micros: Its micro-expressions.
        macros: Its longer expressions.
    """

    name: str
    path: Path
    fps: float | None = None
    micros: tuple[Annotation, ...] = ()
    macros: tuple[Annotation, ...] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a table.

    Attributes:
        place: Where the row is, for messages.
        cells: Column, by our names, to text.
        has_decimal_commas: Whether a comma in a number is a decimal point. It may be where commas
            do not separate cells.
    """

    place: str
    cells: dict[str, str]
    has_decimal_commas: bool = False

    def number(self, column: str) -> float:
        """A number, finite.

        Raises:
            ValueError: The cell holds something else.
        """
        text = self.cells[column]
        value = float(text.replace(",", ".", 1) if self.has_decimal_commas else text)
        if not math.isfinite(value):
            raise ValueError(f"{column} is {text}")
        return value

    @property
    def masking(self) -> float | None:
        """The number in that column, 0 or more; None if it is empty or missing.

        Raises:
            ValueError: It holds something else.
        """
        if not self.cells.get("masking"):
            return None
        ratio = self.number("masking")
        if ratio < 0:
            raise ValueError(f"masking is {ratio:g}, less than 0")
        return ratio


@dataclass(frozen=True, slots=True)
class _Video:
    """A video under the folder of a data set.

    Attributes:
        name: Its path from there.
        tokens: Words and numbers of its own name.
        owners: Words and numbers that may be the subject's.
    """

    name: str
    path: Path
    tokens: tuple[str, ...]
    owners: frozenset[str]


def read_truth(path: Path) -> tuple[Annotation, ...]:
    """The micro-expressions of one video.

    Raises:
        InputError: The file cannot be read, lacks a column or has a row that is no interval.
    """
    events = []
    for row in _table(path, ("onset", "apex", "offset")):
        try:
            onset, apex, offset = (row.number(key) for key in ("onset", "apex", "offset"))
            label = row.cells.get("emotion") or None
            events.append(Annotation(onset, apex, offset, label, row.masking))
        except ValueError as error:
            raise InputError(f"{row.place} is no interval: {error}") from None
    return tuple(events)


def read_data_set(
    table: Path, folder: Path, fps: float | None = None, first_frame: int = 1
) -> list[Recording]:
    """All videos of a data set, in the order of their names, with the expressions in them.

    Args:
        table: The CSV.
        folder: Where the videos are.
        fps: Frame rate of folders of frames.
        first_frame: The number of a file's first frame in the table.

    Raises:
        InputError: The table or the folder cannot be read, a row makes no sense or has no video,
            or a folder of frames has no frame rate.
    """
    videos = list(_videos(folder))
    if not videos:
        raise InputError(f"{folder} contains no video and no folder of frames")
    rows: dict[Path, list[_Row]] = defaultdict(list)
    for row in _table(table, ("video", "onset", "apex", "offset", "type")):
        rows[_video_of(row, videos, folder).path].append(row)
    return [_recording(video, rows[video.path], fps, first_frame) for video in videos]


def _recording(
    video: _Video, rows: Sequence[_Row], fps: float | None, first_frame: int
) -> Recording:
    is_folder = video.path.is_dir()
    if is_folder and fps is None:
        raise InputError(f"{video.path} is a folder of frames: give their frame rate (--fps N)")
    numbers = _frame_numbers(video.path) if is_folder and rows else None
    micros: list[Annotation] = []
    macros: list[Annotation] = []
    for row in rows:
        (micros if _is_micro(row) else macros).append(_annotation(row, numbers, first_frame))
    rate = fps if is_folder else None
    return Recording(video.name, video.path, rate, tuple(micros), tuple(macros))


# The table


def _table(path: Path, needed: Iterable[str]) -> list[_Row]:
    """The rows of a CSV that are not empty.

    Raises:
        InputError: It cannot be read or lacks a column of `needed`.
    """
    text = _text_of(path)
    separator, skipped = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows = []
    try:
        # Empty rows count nowhere.
        cells_of_rows = (cells for cells in reader if any(map(str.strip, cells)))
        for _ in range(skipped):
            next(cells_of_rows)
        columns = _columns(next(cells_of_rows, []))
        if missing := [name for name in needed if name not in columns]:
            raise InputError(
                f"{path} lacks the column {', '.join(missing)}: its first row names them, with "
                "commas, semicolons or tabs between"
            )
        for cells in cells_of_rows:
            found = {
                name: cells[at].strip() if at < len(cells) else "" for name, at in columns.items()
            }
            place = f"row {reader.line_num} of {path}"
            rows.append(_Row(place, found, has_decimal_commas=separator != ","))
    except csv.Error as error:
        raise InputError(
            f"row {reader.line_num} of {path} is no CSV ({error}): save the table as CSV in UTF-8"
        ) from None
    return rows


def _text_of(path: Path) -> str:
    """The text of a table as spreadsheets save it.

    Raises:
        InputError: It cannot be read, or is no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    # Excel's plain CSV is in the code page of the machine. Where that is another one, only letters
    # outside of ASCII are wrong.
    for name in (encoding,) if encoding else ("utf-8", "cp1252"):
        try:
            text = content.decode(name)
        except UnicodeDecodeError:
            continue
        # Tables of spreadsheets (.xlsx) and UTF-16 without a mark have zeros.
        if "\0" not in text:
            return text
    raise InputError(f"{path} is no CSV: save the table as CSV in UTF-8")


def _separator(text: str) -> tuple[str, int]:
    """What separates the cells, and how many rows precede the header.

    Spreadsheets take what the country uses. The right one lets the header name the most columns.
    """
    lines = io.StringIO(text, newline="")
    first = next(filter(str.strip, lines), "").strip("\r\n")
    # Excel's own way to name it.
    if told := re.fullmatch('"?sep=(.)"?', first, re.IGNORECASE):
        return told[1], 1
    counts = {}
    for separator in _SEPARATORS:
        try:
            counts[separator] = len(_columns(next(csv.reader([first], delimiter=separator), [])))
        except csv.Error:
            counts[separator] = 0
    return max(counts, key=counts.__getitem__), 0


def _columns(header: Iterable[str]) -> dict[str, int]:
    """Where the columns are, by our names."""
    names = ["".join(filter(str.isalnum, cell.casefold())) for cell in header]
    return {
        name: names.index(alias)
        for name, aliases in _NAMES.items()
        for alias in aliases[::-1]
        if alias in names
    }


def _is_micro(row: _Row) -> bool:
    kind = row.cells["type"].casefold()
    if kind.startswith("micro") or kind == "me":
        return True
    if kind.startswith("macro") or kind == "mae":
        return False
    raise InputError(f"{row.place} has the type {row.cells['type']!r}: write micro or macro")


def _annotation(row: _Row, numbers: Sequence[int] | None, first_frame: int) -> Annotation:
    """The expression of a row.

    Args:
        row: The row.
        numbers: The frame numbers of a folder; None for a file.
        first_frame: The number of a file's first frame.

    Raises:
        InputError: The row is no interval of frames.
    """
    onset, apex, offset = (_frame_number(row, key) for key in ("onset", "apex", "offset"))
    offset = offset or apex
    if onset is None or not offset:
        raise InputError(f"{row.place} has no onset, or neither offset nor apex")
    if not (apex and onset <= apex <= offset):
        apex = (onset + offset) // 2
    if numbers is not None and onset > numbers[-1]:
        raise InputError(f"{row.place} begins at frame {onset}; the last is {numbers[-1]}")

    def index(number: int) -> int:
        return number - first_frame if numbers is None else bisect.bisect_left(numbers, number)

    label = EMOTIONS.get(row.cells.get("emotion", "").casefold())
    try:
        masking = row.masking
    except ValueError as error:
        raise InputError(f"{row.place} has no masking: {error}; leave it empty") from None
    try:
        return Annotation(index(onset), index(apex), index(offset), label, masking)
    except ValueError as error:
        raise InputError(
            f"{row.place} is no interval: {error}. The first frame has the number "
            f"{first_frame if numbers is None else numbers[0]} (for files, see --first-frame)"
        ) from None


def _frame_number(row: _Row, column: str) -> int | None:
    """A frame's number, which spreadsheets may write as 12.0; None for anything else."""
    # In int and float, many other things are numbers: 1_0, 1e3, inf.
    form = r"[0-9]{1,15}([.,]0*)?" if row.has_decimal_commas else r"[0-9]{1,15}(\.0*)?"
    return int(row.number(column)) if re.fullmatch(form, row.cells[column]) else None


# The videos


def _videos(folder: Path) -> Iterator[_Video]:
    """All videos under a folder, in the order of names."""

    def fail(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from None

    for place, folders, files in os.walk(folder, onerror=fail):
        folders[:] = sorted(f for f in folders if f.casefold() != _DEPTH and f[0] != ".")
        kinds = {f: Path(f).suffix.casefold() for f in sorted(files) if f[0] != "."}
        films = [f for f, suffix in kinds.items() if suffix in VIDEO_SUFFIXES]
        for film in films:
            yield _video(Path(place, film), folder)
        if not films and any(suffix in IMAGE_SUFFIXES for suffix in kinds.values()):
            yield _video(Path(place), folder)


def _video(path: Path, folder: Path) -> _Video:
    named = path.parent if path.name.casefold() == _COLOUR else path
    *above, _ = ("", *named.relative_to(folder).parts)
    # The suffix of a file; a folder's name may have dots.
    name = named.stem if path.is_file() else named.name
    ends = (_tokens(part)[-1:] for part in (*above, *name.split("_")[:-1]))
    owners = frozenset(token for end in ends for token in end)
    return _Video(path.relative_to(folder).as_posix(), path, _tokens(name), owners)


def _tokens(text: str) -> tuple[str, ...]:
    """Words and numbers of a name: s15_0101a is s, 15, 101, a."""
    # macOS names files with letters and accents apart.
    text = unicodedata.normalize("NFC", text.casefold())
    found = re.findall(r"[0-9]+|[^\W\d_]+", text)
    return tuple(token.lstrip("0") or "0" if token.isdigit() else token for token in found)


def _video_of(row: _Row, videos: Sequence[_Video], folder: Path) -> _Video:
    """The video of a row.

    Raises:
        InputError: There is none, or more than one.
    """
    subject, name = row.cells.get("subject", ""), row.cells["video"]
    wanted, owner = _tokens(name), _tokens(subject)[-1:]
    near = [video for video in videos if not owner or owner[0] in video.owners]
    whole = wanted if wanted[:1] == owner else (*owner, *wanted)
    rules = (
        lambda tokens: tokens == wanted,
        # The video's name is followed by the number of the expression in it.
        lambda tokens: tokens == wanted[:-1] and wanted[-1].isdigit(),
        # The video's name is preceded by the subject and followed by what the subject watched.
        lambda tokens: bool(owner) and tokens[: len(whole)] == whole,
    )
    choices = ([video for video in near if fits(video.tokens)] for fits in rules)
    found = next(filter(None, choices), []) if wanted else []
    title = f"video {name!r}" + (f" of subject {subject!r}" if subject else "")
    if not found:
        raise InputError(f"{row.place}: {title} is not in {folder}")
    if len(found) > 1:
        raise InputError(
            f"{row.place}: {title} may be {found[0].name} or {found[1].name} in {folder}: "
            "name the subject, or take one out of the folder"
        )
    return found[0]


def _frame_numbers(folder: Path) -> list[int]:
    """The numbers of a folder's frames, rising.

    Raises:
        InputError: A frame has no number, or two have the same.
    """
    frames = [
        p
        for p in folder.iterdir()
        if p.suffix.casefold() in IMAGE_SUFFIXES and not p.name.startswith(".")
    ]
    numbers = sorted(int(found[-1]) for p in frames if (found := re.findall("[0-9]+", p.stem)))
    if len(set(numbers)) < len(frames):
        raise InputError(f"{folder}: frames need names that end in a number, each in its own")
    return numbers
