"""Tables over all inputs of a results folder, as CSV and as Parquet.

Rows are sorted by the input's key and written one by one, so that a table may be larger than the
memory. Each table appears whole, and is the same to the byte whenever it is made of the same
results (Parquet by the same version of pyarrow).
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from realtime_mer.archive.dictionary import (
    FRAME,
    REVIEWED,
    TABLES,
    Cell,
    Column,
    columns,
    entries,
    label_column,
    part_column,
    region_column,
)
from realtime_mer.archive.results_folder import (
    ResultsFolder,
    VideoResult,
    declared_s,
    sha256_of_text,
)
from realtime_mer.archive.reviews.found import labels_of
from realtime_mer.archive.reviews.verdicts import Reviews, Verdict
from realtime_mer.errors import InputError
from realtime_mer.output.log import MARK, csv_line
from realtime_mer.output.writable import replace_file, shown, why
from realtime_mer.records import plain, seconds
from realtime_mer.results import PARTS, ActionUnit, RegionMotion, action_units_text, regions_text

# Rows that wait to be written as Parquet: some 20 MB of the widest table. Chosen by judgement.
_GROUP_ROWS = 5000
# Bytes of a frames.csv that are read at once, and become a row group. Chosen by judgement.
_BLOCK_BYTES = 4 << 20
# Begins the name of a table that is being written.
_PART = ".table-"
# Digits of a hash that a column has: no two of a few settings or weights share them.
_HASH_DIGITS = 12
# All that numbers and the marks between them consist of: nothing in it is a formula or a quote.
_NUMBERS = b"0123456789.,+-eE\r\n"
# What an event's row has as its record has it.
_AS_LOGGED = (
    *("face", "onset_s", "apex_s", "offset_s", "onset_frame", "apex_frame", "offset_frame"),
    *("label", "confidence", "spotting_score", "least_sensitivity", "intensity_px", "limit_px"),
    *("from_neutral_px", "reported_s", "onset_at"),
)

Row = Mapping[str, Any]


def write_tables(
    folder: ResultsFolder,
    *,
    decimal_comma: bool | None = None,
    only: Collection[str] = TABLES,
    note: Callable[[str], None] | None = None,
) -> None:
    """Writes the tables of a results folder, and what their columns mean.

    The inputs that failed have a row in `videos`, and so have those whose results are damaged.
    The table `frames` is written if an input has kept its frames; else an older one is removed.

    Args:
        folder: The results.
        decimal_comma: Whether CSV has decimal commas, and semicolons between the cells; None for
            what those have that are there.
        only: The tables to write; the others stay what they are.
        note: Called with messages for the user; None for the logger "realtime_mer".

    Raises:
        InputError: There is no manifest, or tables cannot be written; it names them.
    """
    manifest = folder.manifest
    note = note or logging.getLogger("realtime_mer").warning
    videos = sorted(map(folder.video, manifest["videos"]), key=lambda video: video.key)
    labels = labels_of(filter(_is_done, videos))
    made_by = _made_by(manifest)
    reviews = Reviews.read(folder)
    if decimal_comma is None:
        decimal_comma = _has_decimal_comma(folder)
    tables = {name: columns(name, labels) for name in TABLES}
    if not any(map(_has_frames, videos)):
        del tables["frames"]
        for ending in (".csv", ".parquet"):
            folder.table("frames", ending).unlink(missing_ok=True)
    try:
        import pyarrow  # noqa: F401

        has_parquet = True
    except ImportError:
        has_parquet = False
        note("no Parquet tables were written: pip install realtime-mer[archive]")
    try:
        for part in folder.path.glob(f"{_PART}*.part"):
            part.unlink()  # of a run that was killed
        with contextlib.ExitStack() as stack:
            files = {
                name: stack.enter_context(
                    _Table(folder, name, its_columns, manifest, decimal_comma, has_parquet)
                )
                for name, its_columns in tables.items()
                if name in only
            }
            for video in videos:
                its_reviews = reviews.of(video.key)
                _add(files, folder, video, _made_by(video.made_by(manifest)), its_reviews, note)
            if "videos" in files:
                for row in sorted(map(_duplicate_row, manifest.get("duplicates", ())), key=str):
                    files["videos"].add(files["videos"].cells({**made_by, **row}))
        dictionary = json.dumps(entries(tables), indent=1, ensure_ascii=False)
        replace_file(folder.dictionary, dictionary.encode("utf-8", "backslashreplace") + b"\n")
    except OSError as error:
        raise InputError(
            f"the tables in {shown(folder.path)} cannot be written: {why(error)}. See to its "
            "disk and permissions, and run the archive again."
        ) from None


def _add(
    files: Mapping[str, _Table],
    folder: ResultsFolder,
    video: VideoResult,
    made_by: dict[str, Any],
    reviews: Sequence[Verdict],
    note: Callable[[str], None],
) -> None:
    """Adds an input's rows to all tables; of one whose results are damaged, only that it is."""
    origin: dict[str, Any] = {"video": video.key, "source": video.source}
    try:
        records = video.records() if _is_done(video) else []
        session = _first(records, "session")
        origin |= {**made_by, "model": session.get("model")}
        rows: dict[str, list[Row]] = {
            "videos": [_video_row(video, records)],
            "faces": list(_face_rows(folder, video, records)),
            "events": list(_event_rows(folder, video, records, reviews)),
        }
        cells = [
            (files[name], files[name].cells({**origin, **row}))
            for name in rows
            if name in files
            for row in rows[name]
        ]
        has_frames = "frames" in files and _has_frames(video)
        if has_frames:
            files["frames"].check_file(video.frames)
    except (InputError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = (
            f"its results are damaged ({why(error)}): delete {shown(video.folder)} and run the "
            "archive again"
        )
        note(f"{shown(video.source)} is left out of the tables: {reason}")
        row = {"video": video.key, "source": video.source, "state": "damaged", "reason": reason}
        if "videos" in files:
            files["videos"].add(files["videos"].cells(made_by | row))
        return
    for table, its_cells in cells:
        table.add(its_cells)
    if has_frames:
        files["frames"].add_file(video.frames, origin)


def _is_done(video: VideoResult) -> bool:
    return video.entry.get("state") == "done"


def _has_frames(video: VideoResult) -> bool:
    return _is_done(video) and video.frames.is_file()


def _first(records: Iterable[Row], kind: str) -> Row:
    """The first record of a type; an empty one if there is none."""
    return next((record for record in records if record.get("type") == kind), {})


def _has_decimal_comma(folder: ResultsFolder) -> bool:
    """Whether the table of events that is there has decimal commas."""
    try:
        with folder.table("events").open("rb") as file:
            return b";" in file.readline(_BLOCK_BYTES).partition(b"number")[0]
    except OSError:
        return False


def _made_by(manifest: Row) -> dict[str, Any]:
    """What made the rows, except the name of the weights, which the logs know."""
    settings = manifest.get("settings") or {}
    weights = settings.get("weights") or {}
    text = _settings_json(settings)
    return {
        "program": _program(manifest),
        "weights": _short(weights.get("classifier")),
        "spotter": _short(weights.get("spotter")),
        "sensitivity": _first_known(
            settings.get("sensitivity"), settings.get("expected_false_per_minute")
        ),
        "settings": _short(sha256_of_text(text)),
        "settings_json": text,
    }


def _program(manifest: Row) -> str:
    program = manifest.get("program") or {}
    return f"{program.get('name', 'realtime_mer')} {program.get('version', '')}".strip()


def _settings_json(settings: object) -> str:
    return json.dumps(plain(settings), sort_keys=True)


def _short(sha256: str | None) -> str | None:
    # With the prefix nothing reads it as a number: 12 digits may be decimal ones.
    return None if sha256 is None else f"sha256:{sha256[:_HASH_DIGITS]}"


def _video_row(video: VideoResult, records: Sequence[Row]) -> Row:
    entry = video.entry
    session, summary = _first(records, "session"), _first(reversed(records), "summary")
    analysed = summary.get("frames_analysed")
    row = {
        "state": entry.get("state"),
        "reason": entry.get("reason"),
        "notes": "; ".join(entry.get("notes") or ()) or None,
        "sha256": entry.get("sha256"),
        "size_bytes": entry.get("size"),
        "duration_s": _first_known(entry.get("duration_s"), summary.get("duration_s")),
        "declared_s": None if (length_s := declared_s(session)) is None else seconds(length_s),
        "width": session.get("width"),
        "height": session.get("height"),
        "fps": session.get("fps") or None,
        "frames": summary.get("frames_read"),
        "face_share": round(summary["frames_with_face"] / analysed, 4) if analysed else None,
        "watched_min": _minutes(summary.get("watched_s")),
        "readable_any_min": _minutes(summary.get("any_readable_s")),
        "events_per_readable_min": summary.get("events_per_readable_minute"),
    }
    readable_s = summary.get("readable_s") or {}
    for part in PARTS:
        row[part_column(part)] = _minutes(readable_s.get(part))
    if records:
        row["events"] = sum(record.get("type") == "micro_expression" for record in records)
        row["faces"] = len({record["face"] for record in records if "face" in record})
    return row


def _duplicate_row(entry: Row) -> Row:
    return {
        "source": entry["source"],
        "state": "duplicate",
        "reason": f"the same content as {entry['same_as']}",
        "sha256": entry.get("sha256"),
        "size_bytes": entry.get("size"),
    }


def _first_known(*values: Any) -> Any:  # noqa: ANN401
    return next((value for value in values if value is not None), None)


def _minutes(length_s: float | None) -> float | None:
    return None if length_s is None else round(length_s / 60, 4)


def _face_rows(folder: ResultsFolder, video: VideoResult, records: Sequence[Row]) -> Iterator[Row]:
    for face in sorted({record["face"] for record in records if "face" in record}):
        of_face = [record for record in records if record.get("face") == face]
        spans = [r for r in of_face if r["type"] == "visibility"]
        gaps = [r for r in of_face if r["type"] == "gap"]
        yield {
            "face": face,
            "events": sum(r["type"] == "micro_expression" for r in of_face),
            "watched_s": _total_s(spans) if spans else None,
            "first_s": min((span["start_s"] for span in spans), default=None),
            "last_s": max((span["end_s"] for span in spans), default=None),
            "lost_s": _total_s(gaps),
            "thumbnail": _inside(folder, video.thumbnail(face)),
        }


def _total_s(spans: Iterable[Row]) -> float:
    return round(math.fsum(span["end_s"] - span["start_s"] for span in spans), 3)


def _inside(folder: ResultsFolder, path: Path | None) -> str | None:
    """A path in the results folder, the same on every system."""
    return None if path is None else path.relative_to(folder.path).as_posix()


def _event_rows(
    folder: ResultsFolder, video: VideoResult, records: Sequence[Row], reviews: Sequence[Verdict]
) -> Iterator[Row]:
    said = {verdict.host.number: verdict for verdict in reviews if not verdict.added}
    events = [record for record in records if record.get("type") == "micro_expression"]
    for number, event in enumerate(events, 1):
        regions = event.get("regions", ())
        row = {name: event.get(name) for name in _AS_LOGGED}
        row |= {
            "number": number,
            "duration_s": round(event["offset_s"] - event["onset_s"], 3),
            "action_units": action_units_text(
                ActionUnit(unit["name"], unit["side"], unit["score"])
                for unit in event.get("action_units", ())
            )
            or None,
            "regions": regions_text(
                RegionMotion(r["name"], r["displacement_px"], r["direction_deg"]) for r in regions
            )
            or None,
            "clip": _inside(folder, video.clip(number)),
        }
        row |= {label_column(label): p for label, p in event["probabilities"].items()}
        # Every region is in the text; the table leaves out those that this version does not know.
        for region in regions:
            row[region_column(region["name"], "px")] = region["displacement_px"]
            row[region_column(region["name"], "deg")] = region["direction_deg"]
        if (verdict := said.get(number)) is not None:
            row |= review_row(verdict)
        yield row


def review_row(verdict: Verdict) -> Row:
    """What reviewers say about an event, as the columns `REVIEWED` have it; {} if nobody did."""
    said = verdict.said
    if not said.verdict:
        return {}
    times = (
        None if time_s is None else seconds(time_s) for time_s in (said.onset_s, said.offset_s)
    )
    cells = (said.verdict, ", ".join(verdict.reviewers), *said.votes, said.label or None, *times)
    return dict(zip((column.name for column in REVIEWED), cells, strict=True))


class _Table:
    """One table, as CSV and, if asked for, as Parquet. Both appear when the last row is written.

    Raises:
        OSError: It cannot be written; the tables are what they were.
    """

    def __init__(
        self,
        folder: ResultsFolder,
        name: str,
        its_columns: Sequence[Column],
        manifest: Row,
        decimal_comma: bool,
        has_parquet: bool,
    ) -> None:
        self._columns = {column.name: column for column in its_columns}
        self._marks = (";", ",") if decimal_comma else (",", ".")
        self._is_ascii = True
        self._places = [folder.table(name)]
        if has_parquet:
            self._places.append(folder.table(name, ".parquet"))
        self._parts = [_part_of(place) for place in self._places]
        try:
            self._csv: BinaryIO = self._parts[0].open("xb")
            self._parquet: _Parquet | None = None
            if has_parquet:
                self._parquet = _Parquet(self._parts[1], its_columns, manifest)
            self._write(csv_line(list(self._columns), self._marks[0]))
        except BaseException:
            self._remove()
            raise

    def __enter__(self) -> _Table:
        return self

    def cells(self, row: Row) -> dict[str, Cell]:
        """The cells of a row. Columns that it does not name are empty.

        Raises:
            ValueError: A value is not of its column's type.
        """
        return {name: column.cell(row.get(name)) for name, column in self._columns.items()}

    def add(self, cells: dict[str, Cell]) -> None:
        """Adds a row."""
        self._write(csv_line(list(cells.values()), *self._marks))
        if self._parquet is not None:
            self._parquet.add(cells)

    def check_file(self, path: Path) -> None:
        """
        Raises:
            ValueError: The file holds something else than the numbers of `FRAME`.
        """
        with path.open("rb") as file:
            if file.readline().rstrip(b"\r\n") != ",".join(c.name for c in FRAME).encode():
                raise ValueError(f"{path.name} has other columns")
            while lines := file.readlines(_BLOCK_BYTES):
                if b"".join(lines).translate(None, _NUMBERS):
                    raise ValueError(f"{path.name} holds more than numbers")
                if any(line.count(b",") != len(FRAME) - 1 for line in lines):
                    raise ValueError(f"{path.name} has a row of another length")

    def add_file(self, path: Path, row: Row) -> None:
        """Adds a video's frames, block by block.

        Args:
            path: The file, checked.
            row: What is the same for all of its frames.
        """
        same = {
            name: column.cell(row.get(name))
            for name, column in self._columns.items()
            if column not in FRAME
        }
        key, *made_by = same.values()
        delimiter, decimal = (mark.encode() for mark in self._marks)
        before = csv_line([key], *self._marks).removesuffix(b"\r\n") + delimiter
        after = delimiter + csv_line(made_by, *self._marks)
        marks = bytes.maketrans(b",.", delimiter + decimal)
        with path.open("rb") as file:
            file.readline()
            while lines := file.readlines(_BLOCK_BYTES):
                numbers = (line.rstrip(b"\r\n").translate(marks) for line in lines)
                self._write(b"".join(before + line + after for line in numbers))
                if self._parquet is not None:
                    self._parquet.add_lines(b"".join(lines), same)

    def _write(self, content: bytes) -> None:
        self._is_ascii &= content.isascii()
        self._csv.write(content)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._csv.close()
            if self._parquet is not None:
                self._parquet.close()
            if kind is None:
                if not self._is_ascii:
                    _begin_with(MARK, self._parts[0])
                for part, place in zip(self._parts, self._places, strict=True):
                    # Else a power cut could leave an empty table in the place of the old one.
                    with part.open("r+b") as file:
                        os.fsync(file.fileno())
                    os.replace(part, place)
        finally:
            self._remove()

    def _remove(self) -> None:
        """Removes what did not take its place."""
        for part in self._parts:
            with contextlib.suppress(OSError):
                part.unlink()


def _part_of(place: Path) -> Path:
    """Where a file is written before it takes its place."""
    return place.with_name(f"{_PART}{secrets.token_hex(8)}.part")


def _begin_with(mark: bytes, path: Path) -> None:
    """Puts bytes before a file's content."""
    copy = _part_of(path)
    try:
        with path.open("rb") as old, copy.open("xb") as new:
            new.write(mark)
            shutil.copyfileobj(old, new, _BLOCK_BYTES)
        os.replace(copy, path)
    finally:
        with contextlib.suppress(OSError):
            copy.unlink()


class _Parquet:
    """A table as Parquet. Its metadata tells what made it, and what each column means."""

    def __init__(self, path: Path, its_columns: Sequence[Column], manifest: Row) -> None:
        import pyarrow
        import pyarrow.parquet

        self._pa = pyarrow
        types = {
            "text": pyarrow.string(),
            "integer": pyarrow.int64(),
            "number": pyarrow.float64(),
            "time": pyarrow.timestamp("ms", "UTC"),
        }
        settings = _settings_json(manifest.get("settings"))
        self._schema = pyarrow.schema(
            [
                pyarrow.field(
                    column.name,
                    types[column.type],
                    metadata={"unit": column.unit, "meaning": column.meaning},
                )
                for column in its_columns
            ],
            metadata={"program": _program(manifest), "settings": settings},
        )
        self._times = [column.name for column in its_columns if column.type == "time"]
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, cells: dict[str, Cell]) -> None:
        row: dict[str, Any] = dict(cells)
        for name in self._times:
            row[name] = None if row[name] is None else datetime.fromisoformat(row[name])
        self._rows.append(row)
        if len(self._rows) == _GROUP_ROWS:
            self._write_rows()

    def add_lines(self, content: bytes, same: Row) -> None:
        """Adds lines of a frames.csv. `same` has the cells that are the same in all rows."""
        from pyarrow import csv

        self._write_rows()
        names = [column.name for column in FRAME]
        frames = csv.read_csv(
            self._pa.BufferReader(content),
            csv.ReadOptions(column_names=names, block_size=2 * len(content), use_threads=False),
            convert_options=csv.ConvertOptions(
                column_types={name: self._schema.field(name).type for name in names}
            ),
        )
        arrays = [
            self._pa.repeat(self._pa.scalar(same[field.name], field.type), len(frames))
            if field.name in same
            else frames.column(field.name)
            for field in self._schema
        ]
        self._writer.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))

    def _write_rows(self) -> None:
        if self._rows:
            self._writer.write_table(self._pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()

    def close(self) -> None:
        self._write_rows()
        self._writer.close()
