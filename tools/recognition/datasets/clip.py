"""An annotated clip: what a row of a data set's table says, checked against its frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from tools.recognition.datasets.labels import (
    action_units_of,
    composite_label,
    emotion_of,
    own_label,
)
from tools.recognition.datasets.rules import Applied, LeaveOut
from tools.recognition.datasets.table import Row
from tools.recognition.datasets.tree import FrameFolder, nearest

# Characters of a file's name: systems take 255, and a suffix is added.
_LONGEST_KEY = 200
ANNOTATED, MIDDLE, MOTION = "annotated", "middle", "largest motion"
"""Where an apex comes from."""

# A key frame without a picture may be replaced by one so far away, seconds: a third of the shortest
# micro-expression, 1/25 s, and at least the next frame. Chosen by judgement.
_NEAR_S = 0.015


class Correction(NamedTuple):
    """A number that is known to be typed wrong, and the right one.

    Attributes:
        row: Index of the row below the header, from 0.
        column: "onset", "apex" or "offset".
        right: The right number. It is taken only if the typed one is impossible and this is not.
    """

    row: int
    column: str
    right: int


@dataclass(frozen=True, slots=True)
class Clip:
    """A micro-expression of a data set, with its frames.

    Attributes:
        dataset: Name of the set.
        subject: Who shows it; no two sets share a name.
        name: Of the clip, as the set has it; unique for the subject.
        table, row: Where it stands; row 0 if it is in no table.
        folder: Its frames.
        onset, offset: Frame numbers.
        apex: Likewise; None where it is to be found in the frames.
        apex_from: `ANNOTATED`, `MIDDLE` or `MOTION`.
        fps: Frame rate; None if the set does not say.
        emotion: As `emotion_of` names it; empty if the set names none.
        composite: Its class among `COMPOSITE`; None if it has none.
        own_class: Its class among those of its set; None if it has none.
        action_units: Those that moved, such as AU4 or AU12R.
        possible_action_units: Those that may have.
        applied: What was put right.
        stills: Whether the frames are single pictures, and not neighbours in time.
    """

    dataset: str
    subject: str
    name: str
    table: str
    row: int
    folder: FrameFolder
    onset: int
    apex: int | None
    offset: int
    apex_from: str
    fps: float | None
    emotion: str = ""
    composite: str | None = None
    own_class: str | None = None
    action_units: tuple[str, ...] = ()
    possible_action_units: tuple[str, ...] = ()
    applied: tuple[Applied, ...] = ()
    stills: bool = False

    @property
    def key(self) -> str:
        """A file name of its own among the clips of its set."""
        return re.sub(r"[^A-Za-z0-9._-]+", "_", f"{self.subject}_{self.name}")[-_LONGEST_KEY:]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row, or a clip, that is not used.

    Attributes:
        table, row: Where it stands; row 0 if it is in no table.
        subject, name: As the table has them.
        reason: A key of `REASONS`.
        detail: What exactly.
    """

    table: str
    row: int
    subject: str
    name: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a data set.

    Attributes:
        clips: In the order of the table.
        left_out: Likewise.
        tables: Names of the tables that were read.
    """

    clips: tuple[Clip, ...]
    left_out: tuple[LeftOut, ...]
    tables: tuple[str, ...] = ()


class KeyFrames(NamedTuple):
    """Onset, apex and offset in frame numbers that have pictures; see `Clip`."""

    onset: int
    apex: int | None
    offset: int
    apex_from: str
    applied: tuple[Applied, ...]


@dataclass(frozen=True, slots=True)
class Conventions:
    """How a set marks key frames.

    Attributes:
        fps: Its frame rate.
        has_apex: Whether it marks an apex at all.
        own_frames: Whether a clip's folder holds this clip only, from onset to offset or a little
            more: then its last frame stands in for an offset that cannot be right.
        corrections: Numbers that are known to be wrong.
    """

    fps: float
    has_apex: bool = True
    own_frames: bool = True
    corrections: tuple[Correction, ...] = ()

    @property
    def near(self) -> int:
        """How many frames away a key frame may be replaced."""
        return max(1, round(_NEAR_S * self.fps))


def key_frames(
    row: Row,
    folder: FrameFolder,
    conventions: Conventions,
    columns: Mapping[str, str] = MappingProxyType({}),
    shift: int = 0,
) -> KeyFrames:
    """The key frames of a row, with what is wrong in them put right.

    Args:
        row: The row.
        folder: Its frames.
        conventions: Of the set.
        columns: Which columns hold onset, apex and offset, where they have other names.
        shift: Is added to the numbers of the table.

    Raises:
        LeaveOut: They cannot be put right.
    """
    names = {name: columns.get(name, name) for name in ("onset", "apex", "offset")}
    typed = {name: row.text(column) for name, column in names.items()}
    told = {name: row.number_in(column) for name, column in names.items()}
    value = {name: None if n is None else n + shift for name, n in told.items()}
    known = {c.column: c.right for c in conventions.corrections if c.row == row.index}
    pictures = list(folder.numbers())
    if not pictures:
        raise LeaveOut("no-pictures", "/".join(folder.parts))
    first, last = pictures[0], pictures[-1]
    near = conventions.near
    applied: list[Applied] = []

    def correct(name: str, possible: Callable[[int], bool]) -> bool:
        """Takes the number that is known to be right, if there is one and it is possible."""
        right = known.get(name)
        if right is None or not possible(right):
            return False
        applied.append(Applied(f"{name}-typed-wrong", typed[name], str(right)))
        value[name] = right
        return True

    def fits(number: int | None, low: int) -> bool:
        return number is not None and low <= number <= last + near

    onset, offset = value["onset"], value["offset"]
    low = first - near
    if onset is None or not fits(onset, low) or (offset is not None and onset > offset):
        end = last if offset is None else offset
        correct("onset", lambda n: low <= n <= end)
        onset = value["onset"]
    if onset is None:
        raise LeaveOut("no-onset", typed["onset"])
    if not fits(onset, low):
        raise LeaveOut(
            "no-pictures", f"onset {onset}, the pictures have the numbers {first} to {last}"
        )
    # An offset at the onset or before it, or beyond the pictures, cannot be right; where the row is
    # known to have a wrong one, neither can one before the apex.
    apex = value["apex"]
    is_wrong = not fits(offset, onset + 1) or (
        "offset" in known and apex is not None and offset is not None and offset < apex <= last
    )
    least = max(onset + 1, apex or 0)
    if is_wrong and not correct("offset", lambda n: least <= n <= last):
        if not conventions.own_frames or last <= onset:
            raise LeaveOut("no-interval", f"onset {typed['onset']}, offset {typed['offset']}")
        rule = "offset-missing" if offset is None else "offset-typed-wrong"
        applied.append(Applied(rule, typed["offset"], str(last)))
        value["offset"] = last
    offset = value["offset"]
    assert offset is not None
    apex_from = ANNOTATED
    if not conventions.has_apex:
        apex, apex_from = (onset + offset) // 2, MIDDLE
        applied.append(Applied("no-apex", "", str(apex)))
    elif apex is None or not onset <= apex <= offset:
        start, end = onset, offset
        is_known = correct("apex", lambda n: start <= n <= end)
        apex = value["apex"] if is_known else None
        if not is_known:
            rule = "apex-missing" if value["apex"] is None else "apex-outside"
            applied.append(Applied(rule, typed["apex"], MOTION))
            apex_from = MOTION

    def with_picture(name: str, number: int) -> int:
        there = nearest(pictures, number)
        if abs(there - number) > near:
            raise LeaveOut("no-pictures", f"{name} {number}; the nearest picture is {there}")
        if there != number:
            applied.append(Applied("frame-missing", f"{name} {number}", str(there)))
        return there

    onset, offset = with_picture("onset", onset), with_picture("offset", offset)
    if apex is not None:
        apex = with_picture("apex", apex)
    if onset >= offset:
        raise LeaveOut("no-interval", f"onset {onset}, offset {offset}")
    return KeyFrames(onset, apex, offset, apex_from, tuple(applied))


def make_clip(
    dataset: str,
    subject: str,
    name: str,
    row: Row,
    found: tuple[FrameFolder, tuple[Applied, ...]],
    frames: KeyFrames,
    fps: float | None,
    emotion: str | None = None,
) -> Clip:
    """A clip of a row, with its classes.

    Args:
        dataset, subject, name, fps: As for `Clip`.
        row: The row.
        found: Its folder, and what was wrong with the folder's name.
        frames: Its key frames.
        emotion: As the set has it; None for what the row says.
    """
    feeling = emotion_of(row.text("emotion") if emotion is None else emotion)
    sure, possible, rules = action_units_of(row.text("units"))
    folder, applied = found
    return Clip(
        dataset=dataset,
        subject=subject,
        name=name,
        table=row.table,
        row=row.number,
        folder=folder,
        onset=frames.onset,
        apex=frames.apex,
        offset=frames.offset,
        apex_from=frames.apex_from,
        fps=fps,
        emotion=feeling,
        composite=composite_label(dataset, feeling),
        own_class=own_label(dataset, feeling),
        action_units=sure,
        possible_action_units=possible,
        applied=(
            *applied,
            *frames.applied,
            *(Applied(rule, typed, " ".join(possible)) for rule, typed in rules),
        ),
    )


@contextmanager
def leaving_out(left_out: list[LeftOut], row: Row, subject: str, name: str) -> Iterator[None]:
    """Inside, a row that cannot be used goes to `left_out` with its reason, and that is all.

    Args:
        left_out: What is left out so far.
        row: The row.
        subject, name: For messages.
    """
    try:
        yield
    except LeaveOut as out:
        left_out.append(LeftOut(row.table, row.number, subject, name, out.reason, out.detail))


@dataclass(slots=True)
class Collection:
    """Collects the clips of a set; whatever cannot be used is kept with its reason.

    Attributes:
        tables: Names of the tables that are read.
        left_out: See `leaving_out`.
    """

    tables: tuple[str, ...] = ()
    left_out: list[LeftOut] = field(default_factory=list)
    _clips: dict[str, Clip] = field(default_factory=dict)
    _seen: set[tuple[str, int, int]] = field(default_factory=set)

    def add(self, clip: Clip) -> None:
        """Adds a clip, under another name if there is one of its name already.

        Raises:
            LeaveOut: The same frames are a clip already.
        """
        same = str(clip.folder.path), clip.onset, clip.offset
        if same in self._seen:
            raise LeaveOut("same-again", f"frames {clip.onset} to {clip.offset}")
        self._seen.add(same)
        base, number = clip.name, 1
        while clip.key.casefold() in self._clips:
            number += 1
            clip = replace(clip, name=f"{base}_{number}")
        if number > 1:
            clip = replace(
                clip, applied=(*clip.applied, Applied("several-events", base, clip.name))
            )
        self._clips[clip.key.casefold()] = clip

    def reading(self) -> Reading:
        """All that was added."""
        return Reading(tuple(self._clips.values()), tuple(self.left_out), self.tables)
