"""The table of what was reviewed: a row an event, with every reviewer's word and the consensus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realtime_mer.archive.reviews.agreement import Consensus
from realtime_mer.archive.reviews.decisions import Decisions, Judgement
from realtime_mer.archive.reviews.found import Material
from realtime_mer.archive.reviews.verdicts import Verdict, verdicts
from realtime_mer.errors import InputError
from realtime_mer.output.log import MARK, csv_line
from realtime_mer.output.writable import replace_file, shown, why
from realtime_mer.records import plain, seconds

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
    names = [who.reviewer for who in reviewers]
    return [_row(verdict, names) for verdict in verdicts(material, reviewers)]


def _row(verdict: Verdict, names: Sequence[str]) -> list[Any]:
    host = verdict.host
    row: list[Any] = [
        plain(host.video.key),
        plain(host.name),
        f"added-{verdict.added}" if verdict.added else host.number,
        ", ".join(verdict.added_by),
        host.face,
    ]
    if verdict.added:
        row += [None] * 6
    else:
        row += [seconds(host.onset_s), seconds(host.apex_s), seconds(host.offset_s)]
        row += [plain(host.label), host.confidence, host.score]
    for name in names:
        row += _cells(verdict.words.get(name), verdict.label)
    return row + _consensus_cells(verdict.said)


def _cells(word: Judgement | None, label: str) -> list[Any]:
    if word is None:
        return [None] * len(_OF_REVIEWER)
    named = plain(word.label or label) if word.verdict == "true" else None
    return [word.verdict, named or None, seconds(word.onset_s), seconds(word.offset_s)]


def _consensus_cells(said: Consensus) -> list[Any]:
    times = [None if t is None else seconds(t) for t in (said.onset_s, said.offset_s)]
    return [said.verdict or None, plain(said.label) or None, *times, *said.votes]
