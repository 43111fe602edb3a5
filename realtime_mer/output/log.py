"""Event logs: JSON Lines for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from realtime_mer.errors import InputError
from realtime_mer.output.line_file import Contents, Continuation, LineFile
from realtime_mer.records import plain
from realtime_mer.results import (
    Analysis,
    Baseline,
    Gap,
    Mark,
    MicroExpression,
    Session,
    StatusChange,
    Summary,
    VisibilitySpan,
    action_units_text,
    regions_text,
)

# Spreadsheets take a text that begins so for a formula, and run it (OWASP, "CSV Injection").
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
MARK = b"\xef\xbb\xbf"
"""The byte order mark. Without it, Excel takes UTF-8 for the machine's old code page."""

# All logs begin so, and few other files do.
_FIRST_BYTES = b'{"type":'
# A line of a log is a thousand times shorter than this; so a file without a line's end is no log.
_MAX_LINE = 1 << 20


def schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a line of `JsonLinesLog`.

    Example:
        >>> sorted(schema()["$defs"])[:2]
        ['gap', 'macro_expression']
    """
    text = resources.files(__package__).joinpath("log.schema.json").read_text("utf-8")
    return json.loads(text)


class JsonLinesLog:
    """One JSON object a line: a session, what is found, seen and marked, a summary.

    A log that exists is continued: the next session follows the last one. `schema` describes the
    lines, and `LineFile` tells what happens if the disk is full or the log is moved or deleted.

    Example:
        log = JsonLinesLog("events.jsonl")
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        macros: bool = False,
        note: Callable[[str], None] | None = None,
    ) -> None:
        """
        Args:
            path: Where to write it.
            macros: Whether to write macro-expressions, too.
            note: Called with messages for the user; None for the logger "realtime_mer".

        Raises:
            InputError: Nothing can be written there, or another session writes into it.
        """
        self._file = LineFile(path, note)
        self._macros = macros

    def begin(self, session: Session) -> None:
        """
        Raises:
            InputError: The file cannot be written, or holds something else than a log.
        """
        first = _json_line(session.to_dict())
        self._file.open(lambda old: self._continued(old, first), lost=_lost_line)

    def update(self, analysis: Analysis) -> None:
        results: tuple[StatusChange | Gap | VisibilitySpan | Baseline | MicroExpression | Mark, ...]
        results = (*analysis.statuses, *analysis.gaps, *analysis.visibility, *analysis.baselines)
        results += (*analysis.events, *analysis.marks)
        lines = [_json_line(result.to_dict()) for result in results]
        if self._macros:
            lines += [_json_line(macro.to_dict()) for macro in analysis.macros]
        if lines:
            self._file.write(*lines)
        else:
            self._file.look()

    def end(self, summary: Summary) -> None:
        """
        Raises:
            InputError: Lines could not be written; notes have them.
        """
        if not self._file.is_open:
            return
        try:
            spans = [_json_line(span.to_dict()) for span in summary.visibility]
            self._file.write(*spans, _json_line(summary.to_dict()))
        finally:
            self._file.close()

    def _continued(self, old: Contents, first: bytes) -> Continuation:
        """How a log goes on with a session's first line."""
        start = old.read(0, len(MARK + _FIRST_BYTES)).removeprefix(MARK)[: len(_FIRST_BYTES)]
        last_at, last = _last_line(old)
        if not _FIRST_BYTES.startswith(start) or len(last) > _MAX_LINE:
            raise InputError(
                f"{self._file.name} exists and is no event log. Name another file, or move it away."
            )
        # A power cut may leave zeros where the last lines were.
        text = last.rstrip(b"\0").decode("utf-8-sig", "replace")
        if not last:
            return Continuation(old.size, [first])
        if _is_object(text):
            return Continuation(old.size, [b"\n", first])
        note = f"the last line of {self._file.name} was cut off; a record of type lost holds it"
        return Continuation(last_at, [_lost_line(1, text), first], note=note)


def _json_line(record: Mapping[str, Any]) -> bytes:
    # ASCII, so that any pipe and any file name leave the log whole.
    return json.dumps(plain(record), allow_nan=False).encode("ascii") + b"\n"


def _lost_line(records: int, text: str | None = None) -> bytes:
    record = {"type": "lost", "records": records}
    return _json_line(record if text is None else {**record, "text": text})


def _last_line(old: Contents) -> tuple[int, bytes]:
    """Where the last line begins, and the line if it does not end; at most 1 MB and a byte."""
    tail_at = max(0, old.size - _MAX_LINE - 1)
    tail = old.read(tail_at, old.size)
    end = tail.rfind(b"\n") + 1
    return tail_at + end, tail[end:]


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


class CsvLog:
    """One event a row, below a header that is written even if there are no events.

    The form is RFC 4180, in UTF-8. A file that holds other than ASCII begins with the byte order
    mark by which Excel knows UTF-8. A text that a spreadsheet would take for a formula is preceded
    by an apostrophe.

    A table that exists is continued if it has the same columns. `started_at` tells the sessions
    apart.

    Example:
        log = CsvLog("events.csv")
    """

    def __init__(
        self, path: str | os.PathLike[str], *, note: Callable[[str], None] | None = None
    ) -> None:
        """
        Args:
            path: Where to write it.
            note: Called with messages for the user; None for the logger "realtime_mer".

        Raises:
            InputError: Nothing can be written there, or another session writes into it.
        """
        self._file = LineFile(path, note)
        self._session: Session | None = None
        self._started_at = ""

    def begin(self, session: Session) -> None:
        """
        Raises:
            InputError: The file cannot be written, or holds something else than such a table.
        """
        self._session = session
        self._started_at = session.to_dict()["started_at"]
        header = [
            *("face", "onset_s", "apex_s", "offset_s", "label", "confidence"),
            *(f"p_{label}" for label in session.labels),
            *("intensity_px", "limit_px", "spotting_score", "regions", "action_units"),
            *("reported_s", "source", "model", "started_at"),
        ]
        texts = "".join((*header, *session.labels, session.source, session.model))
        self._file.open(lambda old: self._continued(old, header, texts.isascii()))

    def update(self, analysis: Analysis) -> None:
        rows = [self._row(event) for event in analysis.events]
        if rows:
            self._file.write(*rows)
        else:
            self._file.look()

    def end(self, summary: Summary) -> None:
        """
        Raises:
            InputError: Rows could not be written; notes have them.
        """
        self._file.close()

    def _row(self, event: MicroExpression) -> bytes:
        assert self._session is not None, "begin() comes first"
        record = event.to_dict()
        probabilities = record["probabilities"]
        return csv_line(
            [record[key] for key in ("face", "onset_s", "apex_s", "offset_s")]
            + [record["label"], record["confidence"]]
            + [probabilities.get(label) for label in self._session.labels]
            + [record.get(key) for key in ("intensity_px", "limit_px", "spotting_score")]
            + [regions_text(event.regions), action_units_text(event.action_units)]
            + [record[key] for key in ("reported_s", "source", "model")]
            + [self._started_at]
        )

    def _continued(self, old: Contents, header: Sequence[str], is_ascii: bool) -> Continuation:
        """How a table goes on with a session's rows."""
        first = csv_line(header)
        # A power cut may leave zeros where the last rows were.
        content = old.read(0, old.size).rstrip(b"\0")
        has_mark = content.startswith(MARK)
        keep = _whole_rows(content)
        if not keep and first.startswith(content.removeprefix(MARK)):
            # Nothing, or a header that was cut off.
            return Continuation(0, [first if is_ascii else MARK + first])
        if _cells(content.removeprefix(MARK)[: 2 * len(first)]) != _cells(first):
            raise InputError(
                f"{self._file.name} exists, and is no table of events with the columns of this "
                "session. Name another file, or move it away."
            )
        prefix = b"" if is_ascii or has_mark else MARK
        cut = content[keep:]
        if not cut:
            return Continuation(keep, prefix=prefix)
        cells = _cells(cut)
        if len(cells) == len(header) and len(cells[-1]) == len(self._started_at):
            return Continuation(len(content), [b"\r\n"], prefix)
        note = f"the last row of {self._file.name} was cut off, and is removed: " + ascii(
            cut.decode("utf-8", "backslashreplace")
        )
        return Continuation(keep, prefix=prefix, note=note)


def csv_line(row: Sequence[Any], delimiter: str = ",", decimal: str = ".") -> bytes:
    """A row by RFC 4180, in UTF-8; numbers stay numbers, and texts are texts to spreadsheets.

    Args:
        row: The cells; None is an empty one.
        delimiter: What stands between the cells.
        decimal: What stands before the decimals of a number.
    """
    cells = [
        as_text(cell)
        if isinstance(cell, str)
        else float.__repr__(cell).replace(".", decimal)
        if isinstance(cell, float)
        else cell
        for cell in row
    ]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace")


def as_text(cell: str) -> str:
    """The cell of a table, preceded by an apostrophe if a spreadsheet took it for a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _cells(line: bytes) -> list[str]:
    """The cells of the first row in a piece of CSV; none if it is something else."""
    try:
        return next(csv.reader(io.StringIO(line.decode("utf-8", "replace"), newline="")), [])
    except csv.Error:
        return []


def _whole_rows(content: bytes) -> int:
    """Where the last row ends that has its end."""
    # A line end in quotes does not end a row.
    quotes = content.count(b'"')
    end = len(content)
    while (end := content.rfind(b"\n", 0, end)) >= 0:
        if (quotes - content.count(b'"', end)) % 2 == 0:
            return end + 1
    return 0
