"""The table of what was reviewed: a row an event, with every reviewer's word and the consensus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realtime_mer.errors import InputError
from realtime_mer.output.log import MARK, csv_line
from realtime_mer.output.writable import replace_file, shown, why
from realtime_mer.records import plain, seconds
from realtime_mer.review.agreement import Consensus, consensus
from realtime_mer.review.decisions import Added, Decisions, Judgement
from realtime_mer.review.found import Found, Material

NAME = "reviewed_events.csv"

_EVENT = (
    *("video", "source", "event", "added_by", "face", "onset_s", "apex_s", "offset_s"),
    *("label", "confidence", "spotting_score"),
)
_OF_REVIEWER = ("verdict", "label", "onset_s", "offset_s")
_CONSENSUS = ("verdict", "label", "onset_s", "offset_s", "votes_true", "votes_false")


def write_table(path: Path, material: Material, reviewers: Sequence[Decisions]) -> None:
    """Writes the table, whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    header = [
        *_EVENT,
        *(f"{who.reviewer}_{column}" for who in reviewers for column in _OF_REVIEWER),
        *(f"consensus_{column}" for column in _CONSENSUS),
    ]
    content = b"".join(map(csv_line, [header, *_rows(material, reviewers)]))
    try:
        replace_file(path, content if content.isascii() else MARK + content)
    except OSError as error:
        raise InputError(
            f"{shown(path)} cannot be written ({why(error)}): close the program that has it open. "
            "The decisions are kept."
        ) from None


def _rows(material: Material, reviewers: Sequence[Decisions]) -> list[list[Any]]:
    found: list[tuple[Found | Added, str]] = [(event, "") for event in material.events]
    found += [(event, who.reviewer) for who in reviewers for event in who.added]
    return [_row(event, added_by, reviewers) for event, added_by in found]


def _row(event: Found | Added, added_by: str, reviewers: Sequence[Decisions]) -> list[Any]:
    # Numbers of added events are of their reviewer: nobody else's word is about this one.
    words = [who.of(event.id) if added_by in ("", who.reviewer) else None for who in reviewers]
    said = consensus([word for word in words if word is not None], _label(event))
    host = event.host
    row: list[Any] = [
        plain(host.video.key),
        plain(host.name),
        event.number if isinstance(event, Found) else f"added-{event.number}",
        added_by,
        host.face,
    ]
    if isinstance(event, Found):
        row += [seconds(event.onset_s), seconds(event.apex_s), seconds(event.offset_s)]
        row += [plain(event.label), event.confidence, event.score]
    else:
        row += [None] * 6
    for word in words:
        row += _cells(word, _label(event))
    return row + _consensus_cells(said)


def _label(event: Found | Added) -> str:
    return event.label if isinstance(event, Found) else ""


def _cells(word: Judgement | None, label: str) -> list[Any]:
    if word is None:
        return [None] * len(_OF_REVIEWER)
    named = plain(word.label or label) if word.verdict == "true" else None
    return [word.verdict, named or None, seconds(word.onset_s), seconds(word.offset_s)]


def _consensus_cells(said: Consensus) -> list[Any]:
    times = [None if t is None else seconds(t) for t in (said.onset_s, said.offset_s)]
    return [said.verdict or None, plain(said.label) or None, *times, *said.votes]
