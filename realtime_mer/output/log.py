"""Event logs: JSON Lines for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, TextIO

from realtime_mer.errors import InputError
from realtime_mer.output.writable import check_writable
from realtime_mer.results import Analysis, Gap, MicroExpression, Session, StatusChange, Summary


def schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a line of `JsonLinesLog`.

    Example:
        >>> sorted(schema()["$defs"])[:2]
        ['gap', 'macro_expression']
    """
    text = resources.files(__package__).joinpath("log.schema.json").read_text("utf-8")
    return json.loads(text)


class _LineFile:
    """A text file that is complete after every line. `open` creates it, not the constructor."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = check_writable(path)
        self._file: TextIO | None = None

    def open(self) -> None:
        try:
            self._file = self.path.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise self._failed(error) from None

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def write(self, text: str) -> int:
        assert self._file is not None, "begin() comes first"
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from None
        return len(text)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> InputError:
        return InputError(
            f"{self.path} cannot be written: {error.strerror}. "
            "What was written before is complete; free the disk or name another file."
        )


class JsonLinesLog:
    """One JSON object a line: a session, its events and gaps as they come, a summary.

    Each line is flushed when it is written: another program can follow the log, and an early end
    leaves whole lines. `schema` describes them.

    Example:
        log = JsonLinesLog("events.jsonl")
    """

    def __init__(self, path: str | os.PathLike[str], *, macros: bool = False) -> None:
        """
        Args:
            path: Where to write it.
            macros: Whether to write macro-expressions, too.

        Raises:
            InputError: Nothing can be written there.
        """
        self._file = _LineFile(path)
        self._macros = macros

    def begin(self, session: Session) -> None:
        self._file.open()
        self._write(session.to_dict())

    def update(self, analysis: Analysis) -> None:
        results: tuple[StatusChange | Gap | MicroExpression, ...]
        results = (*analysis.statuses, *analysis.gaps, *analysis.events)
        for result in results:
            self._write(result.to_dict())
        for macro in analysis.macros if self._macros else ():
            self._write(macro.to_dict())

    def end(self, summary: Summary) -> None:
        if not self._file.is_open:
            return
        try:
            self._write(summary.to_dict())
        finally:
            self._file.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        # ASCII, so that any pipe and any file name leave the log whole.
        self._file.write(json.dumps(record, allow_nan=False) + "\n")


class CsvLog:
    """One event a row, below a header that is written even if there are no events.

    Example:
        log = CsvLog("events.csv")
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """
        Raises:
            InputError: Nothing can be written there.
        """
        self._file = _LineFile(path)
        self._session: Session | None = None

    def begin(self, session: Session) -> None:
        self._session = session
        self._file.open()
        self._write(
            ["face", "onset_s", "apex_s", "offset_s", "label", "confidence"]
            + [f"p_{label}" for label in session.labels]
            + ["intensity_px", "reported_s", "source", "model"]
        )

    def update(self, analysis: Analysis) -> None:
        assert self._session is not None, "begin() comes first"
        for event in analysis.events:
            record = event.to_dict()
            probabilities = record["probabilities"]
            self._write(
                [record[key] for key in ("face", "onset_s", "apex_s", "offset_s")]
                + [record["label"], record["confidence"]]
                + [probabilities.get(label) for label in self._session.labels]
                + [record[key] for key in ("intensity_px", "reported_s", "source", "model")]
            )

    def end(self, summary: Summary) -> None:
        self._file.close()

    def _write(self, row: Sequence[Any]) -> None:
        csv.writer(self._file, lineterminator="\n").writerow(row)
