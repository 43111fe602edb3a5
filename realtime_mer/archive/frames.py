"""The table of all frames of a video: who was where, how the head was turned, what the face did."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TextIO

from realtime_mer.archive.dictionary import BLENDSHAPES, FRAME
from realtime_mer.output.senders.values import pose_deg_of
from realtime_mer.results import Analysis, FaceState, Session, Summary


class FramesTable:
    """A sink that writes a row for each face in each frame, in the columns of `dictionary.FRAME`.

    Args:
        path: Where to write it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._last = -1

    def begin(self, session: Session) -> None:
        self._file = self._path.open("w", encoding="ascii", newline="")
        self._write([column.name for column in FRAME])

    def update(self, analysis: Analysis) -> None:
        frame = analysis.frame
        # At the end of a source its last frame comes again.
        if frame.index <= self._last:
            return
        self._last = frame.index
        for state in analysis.faces:
            self._write([f"{frame.time_s:.3f}", str(frame.index), str(state.face), *_cells(state)])

    def end(self, summary: Summary) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, cells: list[str]) -> None:
        assert self._file is not None, "begin() comes first"
        self._file.write(",".join(cells) + "\r\n")


def _cells(state: FaceState) -> list[str]:
    """The cells of a face from its box to its blendshapes."""
    (x, y), (right, lower) = state.landmarks.min(0), state.landmarks.max(0)
    pose = pose_deg_of(state) or (math.nan,) * 3
    shapes = [math.nan] * len(BLENDSHAPES)
    if state.blendshapes is not None:
        shapes = state.blendshapes.tolist()
    return [
        *(_cell(value, 1) for value in (x, y, right - x, lower - y, *pose)),
        *(_cell(value, 4) for value in (state.quality, state.score, *shapes)),
    ]


def _cell(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""
