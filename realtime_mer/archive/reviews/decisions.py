"""What reviewers decided: a file a reviewer, to which lines are appended and nothing else.

Each line of DIR/reviews/NAME.jsonl is a JSON object with `n` (its number, from 1), `at` (date and
time, UTC) and a `type`:

decision   what the reviewer thinks of an event from now on; it replaces what they thought before:
           `video` (key), `face` and `found_s` (the onset as the program reported it) tell which
           event; `verdict` ("true", "false", "unsure" or null), `label` (null: the program's),
           `onset_s` and `offset_s`, `took_s` (seconds that the reviewer looked; null for a change
           that is no verdict)
added      an event that the program missed: `video`, `face`, `added` (its number in the file) and
           `seen_in` (the event in whose clip it was seen, by its `found_s`); the rest as above.
           Decisions about it have `added` in place of `found_s`
undo       takes line `undoes` back, the last one that counted
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from realtime_mer.archive.reviews.found import Found, Material
from realtime_mer.errors import InputError
from realtime_mer.output.line_file import locked
from realtime_mer.output.writable import shown, why
from realtime_mer.records import is_number, seconds

VERDICTS = ("true", "false", "unsure")

ENDING = ".jsonl"

_NAME = re.compile(r"\w[\w.-]{0,39}")
# What columns of the table that are about all reviewers begin with.
_RESERVED = "consensus"
# Bounds of what a reviewer can say, seconds: longer than any macro-expression and any video.
_LONGEST_S = 10.0
_LATEST_S = 1e7
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a reviewer thinks of an event.

    Attributes:
        verdict: One of `VERDICTS`; None while only times or label were changed.
        label: What it is called; None for the program's label.
        onset_s, offset_s: When it began and was over, seconds of the video's clock.
        took_s: Seconds that the reviewer looked before the verdict; None if not known.
    """

    verdict: str | None
    label: str | None
    onset_s: float
    offset_s: float
    took_s: float | None = None

    @classmethod
    def parse(cls, values: Mapping[str, Any], labels: tuple[str, ...]) -> Judgement:
        """Reads one from a line or a request.

        Raises:
            ValueError: It is none; the message says why, for people.
        """
        verdict, label = values.get("verdict"), values.get("label")
        if verdict is not None and verdict not in VERDICTS:
            raise ValueError(f"a verdict is one of {', '.join(VERDICTS)}")
        if label is not None and label not in labels:
            raise ValueError(f"a label is one of {', '.join(labels)}")
        onset_s, offset_s = (_time(values.get(name)) for name in ("onset_s", "offset_s"))
        if not 0 < offset_s - onset_s <= _LONGEST_S:
            raise ValueError("an event ends after it begins, and lasts 10 s at most")
        took = values.get("took_s")
        return cls(verdict, label, onset_s, offset_s, None if took is None else _time(took))

    def to_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "label": self.label,
            "onset_s": seconds(self.onset_s),
            "offset_s": seconds(self.offset_s),
            "took_s": None if self.took_s is None else round(self.took_s, 1),
        }


def _time(value: object) -> float:
    if not is_number(value) or not 0 <= value <= _LATEST_S:
        raise ValueError("times are seconds from the beginning of the video")
    # As the file has it: what differs by less is the same.
    return round(float(value), 3)


@dataclass(frozen=True, slots=True)
class Added:
    """An event that a reviewer added.

    Attributes:
        host: The event in whose clip it was seen.
        number: Of those that this reviewer added, from 1.
        judgement: What the reviewer thinks of it now.
    """

    host: Found
    number: int
    judgement: Judgement

    @property
    def id(self) -> str:
        """Its name in the review."""
        return f"{self.host.video.key}/added-{self.number}"


class Decisions:
    """What one reviewer thinks now: the lines of a file, applied one after the other.

    Attributes:
        reviewer: Their name.
        lost: How many lines belong to events that are no longer there, or cannot be understood.
        lines: How many lines there are.
        added_count: The largest number that an added event was given.
        looks: Seconds of each verdict that counts and was timed, in their order.
    """

    def __init__(self, reviewer: str, material: Material) -> None:
        self.reviewer = reviewer
        self.lost = 0
        self._material = material
        # Of each event, what was thought of it, oldest first; an added one begins with its host.
        self._stacks: dict[str, list[Judgement]] = {}
        self._hosts: dict[str, tuple[Found, int]] = {}
        # The lines that count, in their order: number and event.
        self._history: list[tuple[int, str]] = []
        self.lines = 0
        self.added_count = 0
        self.looks: list[float] = []

    def of(self, event_id: str) -> Judgement | None:
        """What the reviewer thinks of an event; None if they have said nothing."""
        stack = self._stacks.get(event_id)
        return stack[-1] if stack else None

    @property
    def added(self) -> list[Added]:
        """The events that the reviewer added, in their order."""
        return [
            Added(host, number, self._stacks[event_id][-1])
            for event_id, (host, number) in self._hosts.items()
            if self._stacks.get(event_id)
        ]

    @property
    def last(self) -> tuple[int, str] | None:
        """Number and event of the line that an undo would take back."""
        return self._history[-1] if self._history else None

    def apply(self, line: Mapping[str, Any]) -> None:
        """Applies the next line of the file. What cannot be understood is counted in `lost`."""
        self.lines += 1
        try:
            kind = line["type"]
            if kind == "undo":
                self._undo(line["undoes"])
            elif kind in ("decision", "added"):
                self._decide(line, is_new=kind == "added")
            else:
                self.lost += 1
        except (KeyError, TypeError, ValueError, OverflowError):
            self.lost += 1

    def _decide(self, line: Mapping[str, Any], is_new: bool) -> None:
        judgement = Judgement.parse(line, self._material.labels)
        key, face, n = str(line["video"]), int(line["face"]), int(line["n"])
        if (number := line.get("added")) is not None:
            event_id = f"{key}/added-{int(number)}"
            self.added_count = max(self.added_count, int(number))
            if is_new:
                host = self._material.find(key, face, float(line["seen_in"]))
                if host is not None:
                    self._hosts[event_id] = host, int(number)
            is_known = event_id in self._hosts
        else:
            found = self._material.find(key, face, float(line["found_s"]))
            is_known, event_id = found is not None, "" if found is None else found.id
        if not is_known:
            # It still is a line, and an undo of it must not take back another.
            self.lost += 1
            event_id = f"lost line {n}"
        self._stacks.setdefault(event_id, []).append(judgement)
        self._history.append((n, event_id))
        if judgement.verdict is not None and judgement.took_s is not None:
            self.looks.append(judgement.took_s)

    def _undo(self, number: int) -> None:
        if not self._history or self._history[-1][0] != number:
            raise ValueError("only the last line that counts can be taken back")
        _, event_id = self._history.pop()
        undone = self._stacks[event_id].pop()
        if undone.verdict is not None and undone.took_s is not None:
            self.looks.pop()
        if not self._stacks[event_id]:
            self._hosts.pop(event_id, None)


class DecisionsFile:
    """The file of the reviewer who is at work: locked, and on the disk line by line.

    Args:
        folder: The folder of all reviews; made if need be.
        name: The reviewer.
        material: What there is to review.

    Raises:
        InputError: The name cannot be a file's, the file cannot be written, or the same reviewer
            has another page open.

    Example:
        with DecisionsFile(folder.reviews, "ana", material) as file:
            file.decide(event, judgement)
            file.undo()
    """

    def __init__(self, folder: Path, name: str, material: Material) -> None:
        self.path = folder / f"{checked_name(name)}{ENDING}"
        self.decisions = Decisions(name, material)
        try:
            folder.mkdir(exist_ok=True)
            self._fd = os.open(self.path, _FLAGS, 0o666)
        except OSError as error:
            raise InputError(
                f"{shown(self.path)} cannot be written ({why(error)}): review a folder that you "
                "may write to"
            ) from None
        try:
            if not locked(self._fd):
                raise InputError(
                    f"{name} is reviewing this folder already: go on in that page, end it first, "
                    "or give another --name"
                )
            self._resume()
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> DecisionsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; all of it is on the disk already."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _resume(self) -> None:
        """Reads what is there, and takes off a line that was cut short."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(self._fd, whole)
        for line in _lines(content[:whole]):
            self.decisions.apply(line)

    def decide(self, event: Found | Added, judgement: Judgement) -> None:
        """Writes what the reviewer thinks of an event.

        Raises:
            InputError: It cannot be written, and does not count.
        """
        if isinstance(event, Found):
            which: dict[str, Any] = {"found_s": seconds(event.onset_s)}
        else:
            which = {"added": event.number}
        host = {"video": event.host.video.key, "face": event.host.face}
        self._append({"type": "decision"} | host | which | judgement.to_dict())

    def add(self, host: Found, judgement: Judgement) -> Added:
        """Writes an event that the program missed.

        Args:
            host: The event in whose clip it was seen.
            judgement: What the reviewer thinks of it.

        Raises:
            InputError: As `decide`.
        """
        number = self.decisions.added_count + 1
        self._append(
            {
                "type": "added",
                "video": host.video.key,
                "face": host.face,
                "added": number,
                "seen_in": seconds(host.onset_s),
            }
            | judgement.to_dict()
        )
        return Added(host, number, judgement)

    def undo(self) -> str | None:
        """Takes the last change back; returns the event that it was about, None if there is none.

        Raises:
            InputError: As `decide`.
        """
        last = self.decisions.last
        if last is None:
            return None
        self._append({"type": "undo", "undoes": last[0]})
        return last[1]

    def _append(self, values: dict[str, Any]) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"type": values["type"], "n": self.decisions.lines + 1, "at": at} | values
        data = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        before = os.fstat(self._fd).st_size
        try:
            left = memoryview(data)
            while left:
                # On a full disk the first call writes a part, and the second tells the reason.
                left = left[os.write(self._fd, left) :]
            _sync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, before)
            raise InputError(
                f"{shown(self.path)} cannot be written ({why(error)}): this decision was not "
                "kept. Free the disk, and decide again."
            ) from None
        self.decisions.apply(line)


def checked_name(name: str) -> str:
    """Returns a reviewer's name that can be a file's.

    Raises:
        InputError: It cannot.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be a reviewer's name: give letters, digits, '.', '_' and '-', 40 at "
            "most (--name)"
        )
    if name.lower() == _RESERVED:
        raise InputError(
            f"{name!r} cannot be a reviewer's name: the table has columns of that name for what "
            "all say together. Give another --name."
        )
    return name


def read_all(folder: Path, material: Material, *, without: Path | None = None) -> list[Decisions]:
    """What the reviewers think now, by name. One who is at work may be in the middle.

    Args:
        folder: The folder of all reviews.
        material: What there is to review.
        without: The file of a reviewer who is left out; None for all of them.
    """
    reviewers = []
    for path in review_files(folder):
        name = path.name.removesuffix(ENDING)
        # By name, a file may be listed in other letters than it was opened with: Ana, ana.
        if without is not None and _is_same(path, without):
            continue
        decisions = Decisions(name, material)
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            for line in _lines(content[: content.rfind(b"\n") + 1]):
                decisions.apply(line)
        reviewers.append(decisions)
    return reviewers


def review_files(folder: Path) -> list[Path]:
    """The files of all reviewers, by name."""
    names = {path: path.name.removesuffix(ENDING) for path in sorted(folder.glob(f"*{ENDING}"))}
    return [p for p, name in names.items() if _NAME.fullmatch(name) and name.lower() != _RESERVED]


def reviewed_videos(folder: Path) -> frozenset[str]:
    """The keys of all videos about which somebody has decided something."""
    keys: set[str] = set()
    for path in review_files(folder):
        with contextlib.suppress(OSError), path.open("rb") as file:
            for line in file:
                keys |= {str(value["video"]) for value in _lines(line) if "video" in value}
    return frozenset(keys)


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def _lines(content: bytes) -> Iterator[Mapping[str, Any]]:
    """The lines of a file; one that is no JSON object is an empty one."""
    for line in content.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        yield value if isinstance(value, dict) else {}


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        # Others mean that this kind of folder cannot do it.
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise
