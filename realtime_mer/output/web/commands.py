"""What viewers may say: that they have shown a picture and, if they may control, a command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import WSCloseCode

from realtime_mer.redaction import printable
from realtime_mer.results import LONGEST_MARK

SHOWN = "shown"
"""A viewer's message after each picture that it has shown."""

MAX_MESSAGE_BYTES = 1280
"""Of a viewer's message: a mark's text whose characters are all escaped, and 200 around it."""


@dataclass(frozen=True, slots=True)
class PageControls:
    """What viewers can change in the session. The message of an `InputError` is shown to them.

    Attributes:
        change_sensitivity: Called with 1 for a step more sensitive or -1 for less; returns the
            message to show.
        mark: Called with a text, which may be empty, to mark this moment; likewise.
    """

    change_sensitivity: Callable[[int], str]
    mark: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class ChangeSensitivity:
    """Work more (1) or less (-1) sensitively."""

    steps: int

    def __call__(self, controls: PageControls) -> str:
        return controls.change_sensitivity(self.steps)


@dataclass(frozen=True, slots=True)
class MakeMark:
    """Mark this moment."""

    text: str

    def __call__(self, controls: PageControls) -> str:
        return controls.mark(self.text)


Command = ChangeSensitivity | MakeMark


class Refused(Exception):
    """A message that ends its connection.

    Attributes:
        code: The WebSocket's close code.
    """

    def __init__(self, code: WSCloseCode) -> None:
        super().__init__(code.name)
        self.code = code


def command_of(text: str) -> Command:
    """Reads a command.

    Raises:
        Refused: It is none.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused(WSCloseCode.INVALID_TEXT) from None
    if isinstance(message, dict):
        match message:
            case {"command": "sensitivity", "steps": 1 | -1 as steps, **rest} if not rest:
                if type(steps) is int:
                    return ChangeSensitivity(steps)
            case {"command": "mark", "text": str(words), **rest} if not rest:
                if len(words) <= LONGEST_MARK:
                    return MakeMark(printable(words.strip(), LONGEST_MARK))
    raise Refused(WSCloseCode.POLICY_VIOLATION)
