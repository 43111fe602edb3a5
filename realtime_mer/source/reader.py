"""What every reader of a source promises, and the picture that it hands over."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from realtime_mer.errors import InputError

DEFAULT_FPS = 30.0
"""Frame rate assumed for a recording that declares none: what most cameras record at."""

OPEN_TIMEOUT_S = 10.0
"""Chosen by judgement: a slow name server or a camera that wakes up takes a few seconds."""

STALL_TIMEOUT_S = 5.0
"""A live source that sends nothing for this long is lost. Chosen by judgement: longer than a
wireless network's drop-outs, and short enough to still notice what a person did."""


class Grab(NamedTuple):
    """One picture as a reader hands it over.

    Attributes:
        image: (height, width, 3) uint8, BGR; the reader does not touch it again.
        position_s: Presentation time that the source declares; None if it declares none.
        captured_at: When the picture was taken, on the clock of `time.monotonic()`: the driver's
            timestamp if there is one, else when the picture arrived.
    """

    image: np.ndarray
    position_s: float | None
    captured_at: float


class Reader(Protocol):
    """One kind of source. One thread opens, reads and closes it.

    Attributes:
        name: The source as it may be shown, without credentials.
        live: True if frames that nobody takes are lost. Final after the first `open`.
        fps: Declared frame rate; 0 if unknown. Final after `open`.
        frame_count: Declared number of frames; 0 if unknown. Final after `open`.
        notes: What the user should know about the source, a sentence each.

    A live reader whose source may come back also has `patience_s`: for this long after the last
    frame, a source that was lost is closed and opened again. Without it, the end is final; so it is
    once the reader's `ended`, if it has that, is True.

    A live reader whose pictures wait in the source until they are read has `buffered` True: they
    are dropped only if the analysis is seconds behind.

    A reader with a method `abort` ends its waits at once when another thread calls it.
    """

    name: str
    live: bool
    fps: float
    frame_count: int
    notes: list[str]

    def open(self) -> None:
        """Opens the source.

        Raises:
            InputError: It cannot be opened.
        """

    def read(self) -> Grab | None:
        """Returns the next picture, or None at the end."""

    def empty(self) -> InputError:
        """Returns the error for a source that opened but gave no picture at all."""

    def close(self) -> None:
        """Closes the source. It may be opened again, or closed twice."""
