"""Event logs: JSON Lines for programs, CSV for spreadsheets."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from realtime_mer.event import (
    Analysis,
    Gap,
    InputError,
    MacroExpression,
    MicroExpression,
    Session,
    Summary,
)
from realtime_mer.writable import check_writable

# Of the end-to-end latency, what a summary tells.
_LATENCIES = ("median", "p95", "p99", "max")


def _seconds(value: float) -> float | None:
    """Milliseconds are finer than any camera's clock; JSON and CSV have no NaN."""
    return round(float(value), 3) if math.isfinite(value) else None


def _number(value: float, digits: int) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None


def event_record(event: MicroExpression, session: Session) -> dict[str, Any]:
    """The one JSON object that stands for an event."""
    return {
        "type": "micro_expression",
        "face": int(event.face),
        "onset_s": _seconds(event.interval.onset_s),
        "apex_s": _seconds(event.interval.apex_s),
        "offset_s": _seconds(event.interval.offset_s),
        "label": event.label,
        "confidence": _number(event.confidence, 4),
        "probabilities": {name: _number(p, 4) for name, p in event.probabilities.items()},
        "intensity_px": _number(event.intensity_px, 2),
        "reported_s": _seconds(event.reported_s),
        "source": session.source,
        "model": session.model,
    }


def macro_record(macro: MacroExpression, session: Session) -> dict[str, Any]:
    return {
        "type": "macro_expression",
        "face": int(macro.face),
        "onset_s": _seconds(macro.onset_s),
        "offset_s": _seconds(macro.offset_s),
        "reported_s": _seconds(macro.reported_s),
        "source": session.source,
    }


def gap_record(gap: Gap) -> dict[str, Any]:
    return {
        "type": "gap",
        "face": int(gap.face),
        "start_s": _seconds(gap.start_s),
        "end_s": _seconds(gap.end_s),
        "reason": gap.reason,
    }


def session_record(session: Session) -> dict[str, Any]:
    return {
        "type": "session",
        "source": session.source,
        "live": session.live,
        "width": int(session.size[0]),
        "height": int(session.size[1]),
        "fps": _number(session.fps, 3),
        "frame_count": int(session.frame_count),
        "model": session.model,
        "provider": session.provider,
        "labels": list(session.labels),
        "started_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def summary_record(summary: Summary) -> dict[str, Any]:
    """How a session ended, in short; all its statistics are `StatsFile`'s."""
    latency = summary.stats.get("end_to_end_ms", {})
    return {
        "type": "summary",
        "reason": summary.reason,
        "events": int(summary.events),
        "duration_s": _seconds(summary.duration_s),
        "wall_s": _seconds(summary.wall_s),
        "frames_read": int(summary.frames_read),
        "frames_analysed": int(summary.frames_analysed),
        "frames_dropped": int(summary.frames_dropped),
        "frames_with_face": int(summary.frames_with_face),
        "latency_ms": plain({name: latency[name] for name in _LATENCIES if name in latency}),
    }


def plain(value: Any) -> Any:  # noqa: ANN401
    """Returns the value as JSON can hold it: NumPy's numbers as Python's, NaN as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return value


class _LineFile:
    """A text file that is complete after every line, and that begins to exist at `open`."""

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

    Every line is on its way to the disk when `update` returns, so that a reader can follow and an
    early end leaves whole lines.

    Example:
        log = JsonLinesLog("events.jsonl")
    """

    def __init__(self, path: str | os.PathLike[str], *, macros: bool = False) -> None:
        """
        Args:
            path: Where to write it.
            macros: Macro-expressions are written, too.

        Raises:
            InputError: Nothing can be written there.
        """
        self._file = _LineFile(path)
        self._macros = macros
        self._session: Session | None = None

    def begin(self, session: Session) -> None:
        self._session = session
        self._file.open()
        self._write(session_record(session))

    def update(self, analysis: Analysis) -> None:
        assert self._session is not None, "begin() comes first"
        for gap in analysis.gaps:
            self._write(gap_record(gap))
        for event in analysis.events:
            self._write(event_record(event, self._session))
        for macro in analysis.macros if self._macros else ():
            self._write(macro_record(macro, self._session))

    def end(self, summary: Summary) -> None:
        if not self._file.is_open:
            return
        try:
            self._write(summary_record(summary))
        finally:
            self._file.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        # ASCII, so that the log survives any pipe and any file name.
        self._file.write(json.dumps(record, allow_nan=False) + "\n")


class CsvLog:
    """Events only, a row each, under a header that is there even without events.

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
            record = event_record(event, self._session)
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
