"""BIDS: events.tsv, and the JSON beside it that says what its columns mean."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from realtime_mer.archive.dictionary import REVIEWED, Column, columns, label_column
from realtime_mer.archive.exports.timeline import Span, Timeline, line
from realtime_mer.archive.results_folder import VideoResult
from realtime_mer.archive.reviews.verdicts import Verdict
from realtime_mer.archive.tables import review_row
from realtime_mer.output.log import as_text
from realtime_mer.output.writable import replace_file
from realtime_mer.records import plain
from realtime_mer.results import READABLE_PX

# What BIDS has in place of an empty cell.
_NOTHING = "n/a"
_TYPES = {
    "micro_expression": "A micro-expression was spotted and classified.",
    "missed_micro_expression": "Reviewers added it: the program missed it.",
    "macro_expression": "An expression of 0.5 to about 4 s. It has no label.",
    "gap": "The face was not followed: nothing could be found in this time.",
    "visibility": "The same parts of the face could be read in this time.",
}
# Columns of the table of events, which say what they mean.
_MEASURED = ("label", "confidence", "spotting_score", "intensity_px", "limit_px")


def write(
    video: VideoResult,
    media: Path,
    out: Path,
    verdicts: Sequence[Verdict] = (),
    agreed: bool = False,
) -> list[Path]:
    """Writes `KEY_events.tsv` and `KEY_events.json`.

    As BIDS wants it, onsets count from the first frame, not from the media's own zero.

    Args, Raises: As `exports.export`.
    """
    spans = Timeline(video, None, verdicts, agreed).all_spans()
    if not agreed:
        spans = sorted([*spans, *_missed(verdicts)], key=lambda span: (span.start_s, span.end_s))
    labels = list(
        dict.fromkeys(label for span in spans for label in span.record.get("probabilities", ()))
    )
    known = {column.name: column for column in columns("events", labels)}
    described = [known[name] for name in (*_MEASURED, *map(label_column, labels))]
    described += REVIEWED if verdicts else ()
    text = io.StringIO(newline="")
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    names = ["onset", "duration", "trial_type", "face", "apex", "what"]
    table.writerow([*names, *(column.name for column in described)])
    for span in spans:
        table.writerow([_cell(cell) for cell in _row(span, described)])
    paths = [out / f"{video.key}_events{ending}" for ending in (".tsv", ".json")]
    replace_file(paths[0], text.getvalue().encode())
    sidecar = json.dumps(plain(_sidecar(described)), indent=2, ensure_ascii=False)
    replace_file(paths[1], sidecar.encode() + b"\n")
    return paths


def _missed(verdicts: Sequence[Verdict]) -> Iterator[Span]:
    """The events that reviewers added, and did not take back by another verdict."""
    for verdict in verdicts:
        if verdict.added and verdict.said.verdict == "true":
            record = {"type": "missed_micro_expression", "face": verdict.host.face}
            onset_s, offset_s = (round(time_s, 3) for time_s in verdict.times)
            yield Span(onset_s, offset_s, "", record, verdict=verdict)


def _row(span: Span, described: list[Column]) -> list[Any]:
    record = span.record
    duration = round(span.end_s - span.start_s, 3)
    values = {label_column(name): p for name, p in record.get("probabilities", {}).items()}
    values |= {name: record.get(name) for name in _MEASURED}
    if span.verdict is not None:
        values |= review_row(span.verdict)
    what = span.text if record["type"] in ("gap", "visibility") else None
    row = [span.start_s, duration, record["type"], record["face"], span.apex_s, what]
    return row + [values.get(column.name) for column in described]


def _cell(value: Any) -> Any:  # noqa: ANN401
    if value is None:
        return _NOTHING
    return as_text(line(value)) if isinstance(value, str) else value


def _sidecar(described: list[Column]) -> dict[str, Any]:
    sidecar: dict[str, Any] = {
        "onset": {
            "Description": "When it began, from the video's first frame; of expressions, the "
            "onset of the motion.",
            "Units": "s",
        },
        "duration": {"Description": "From onset to end (offset).", "Units": "s"},
        "trial_type": {"Description": "What was found.", "Levels": _TYPES},
        "face": {"Description": "Number of the face in this video, from 0."},
        "apex": {
            "Description": "When a micro-expression was strongest, from the video's first frame.",
            "Units": "s",
        },
        "what": {
            "Description": "Of a gap, why the face was not followed; of visibility, the parts of "
            "the face that could be read, those whose limit of detection is at most "
            f"{READABLE_PX} px."
        },
    }
    for column in described:
        sidecar[column.name] = {"Description": column.meaning}
        if column.unit:
            sidecar[column.name]["Units"] = column.unit
    return sidecar
