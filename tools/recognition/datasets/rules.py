"""What is wrong with the tables of data sets, each by a name: what is put right, and what is not.

A rule says how a row was read that does not mean what it says. A reason says why a row is left out.
`tools/recognition/prepare.py` writes both down, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

RULES = MappingProxyType(
    {
        "apex-missing": "The apex is empty or no number (as in '/'): it is the frame of the "
        "largest motion between onset and offset.",
        "apex-outside": "The apex does not lie between onset and offset: it is the frame of the "
        "largest motion between them.",
        "no-apex": "The set marks no apex: it is the middle of onset and offset, by custom.",
        "offset-missing": "The offset is empty or no number: it is the last frame of the clip.",
        "offset-typed-wrong": "The offset lies before the onset, or the clip has no such frame: "
        "it is the one that is known to be right, or else the last frame of the clip.",
        "onset-typed-wrong": "The onset cannot be right: it is the one that is known to be.",
        "apex-typed-wrong": "The apex cannot be right: it is the one that is known to be.",
        "frame-missing": "A key frame has no picture: the next frame that has one is taken.",
        "file-name-case": "The folder has other capitals than the table says.",
        "number-for-name": "A spreadsheet took a name for a number (6 for 006): leading zeros make "
        "no difference.",
        "rows-swapped": "Action units and emotion of this row and its neighbour are swapped in the "
        "table: they are swapped back.",
        "several-events": "A video has more than one event: those after the first are named "
        "VIDEO_2, VIDEO_3.",
        "numbers-from-first": "The table counts frames of the recording, the files from its first "
        "frame on: the difference is subtracted.",
        "length-differs": "The table names another number of frames than the folder has: the "
        "folder counts.",
        "not-in-table": "A folder has no row in the table: it is taken as it is.",
        "au-alternatives": "Action units are joined by 'or': none of them is sure, they count as "
        "possible.",
        "au-not-sure": "An action unit is marked as not sure ('(k)'): it counts as possible.",
        "full-width-mark": "A mark is of the full width of Asian letters: it is read as the usual "
        "one.",
        "columns-by-position": "The header does not name all columns: they are taken in the order "
        "in which the set is published.",
        "not-in-composite": "Public code leaves this clip out of the composite of three sets, so "
        "it has no composite label.",
        "neutral-from-micro": "A single picture shows the expression: its motion is measured from "
        "the onset of a micro-expression of the same person, and back.",
        "padded": "The face fills the picture too far to be found: the picture is given a border.",
    }
)

REASONS = MappingProxyType(
    {
        "no-name": "The row names no video.",
        "no-folder": "There is no folder of this name.",
        "ambiguous-folder": "Several folders have this name.",
        "no-onset": "The onset is empty or no number.",
        "no-interval": "Onset and offset are no interval, and the right ones are not known.",
        "no-pictures": "The frames of the interval have no pictures.",
        "not-numbered": "The frames in the folder have no numbers of their own.",
        "same-again": "An earlier row has the same video and the same frames.",
        "no-type": "The row says neither micro nor macro.",
        "no-neutral": "The set shows no still face of this person to measure the motion from.",
        "unreadable-picture": "A picture cannot be read.",
        "no-face": "No face is found at a key frame.",
        "failed": "The work on the clip ended with an error.",
    }
)


@dataclass(frozen=True, slots=True)
class Applied:
    """A rule that a row needed.

    Attributes:
        rule: A key of `RULES`.
        typed: What the table says.
        taken: What is taken for it.
    """

    rule: str
    typed: str = ""
    taken: str = ""


class LeaveOut(Exception):
    """A row cannot be used.

    Args:
        reason: A key of `REASONS`.
        detail: What exactly, for people.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail
