"""A clip that is planned or being written: which frames it takes, has and lacks."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from realtime_mer.output.clip_file import CODEC, ClipFile, clip_stem
from realtime_mer.output.frame_memory import KeptFrame
from realtime_mer.records import plain
from realtime_mer.results import MicroExpression, Session

_OTHER_SIZE = "another size than the first frame"


@dataclass(slots=True, eq=False)
class OpenClip:
    """A clip that is planned or being written.

    The recorder's lock guards what decides which frames it takes, and `cut_short`, until the
    recording thread takes the clip out of the recorder's list. What it has and lacks belongs to
    the recording thread alone.

    Attributes:
        start_s, end_s: The time that it should cover, in the source's seconds.
        begun_at: When its event was reported, by the wall clock.
        next_number: The first frame that has not been dealt with.
        last_number: It takes no frames after this one.
        begins_late: Why its first frame is later than `start_s`; None if it is not.
        cut_short: Why it ends before `end_s`; None if it does not.
        times_s, indices: Times and source indices of the written frames.
        missing: First and last index of frames that it lacks, and why.
        file: None before its first frame, and when it has got its name or is lost.
    """

    event: MicroExpression
    start_s: float
    end_s: float
    begun_at: datetime
    next_number: int
    last_number: float = math.inf
    begins_late: str | None = None
    cut_short: str | None = None
    times_s: list[float] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    missing: list[tuple[int, int, str]] = field(default_factory=list)
    file: ClipFile | None = None
    _index: int | None = None

    # With the recorder's lock held

    def spans(self, kept: KeptFrame) -> bool:
        """Whether the frame is not after the clip's end."""
        return kept.time_s <= self.end_s and kept.number <= self.last_number

    def wants(self, kept: KeptFrame) -> bool:
        """Whether the frame is still to be written."""
        return kept.number >= self.next_number and self.spans(kept)

    def ends_with(self, newest: KeptFrame) -> bool:
        """Whether no frame after the newest one belongs to the clip."""
        return newest.time_s > self.end_s or newest.number >= self.last_number

    def seal(self, newest: KeptFrame, reason: str) -> None:
        """Lets the clip end with the newest frame, if it does not end earlier."""
        if self.last_number == math.inf:
            self.last_number = newest.number
            if newest.time_s < self.end_s:
                self.cut_short = reason

    # In the recording thread

    def open(self, folder: Path, shape: tuple[int, ...]) -> ClipFile:
        """
        Raises:
            OSError: It cannot be written there.
        """
        self.file = ClipFile(folder, shape, json.dumps(plain(self.event.to_dict())))
        return self.file

    def write(self, file: ClipFile, kept: KeptFrame) -> None:
        """Adds a compressed frame to the file, if it has the size of the first one.

        Raises:
            OSError: It cannot be written.
        """
        if kept.shape != file.shape:
            self.lacks(kept, _OTHER_SIZE)
            return
        assert kept.packet is not None
        step_s = kept.time_s - self.times_s[-1] if self.times_s else 0.0
        file.write(kept.packet, kept.time_s, step_s)
        self._come_to(kept)
        self.times_s.append(kept.time_s)
        self.indices.append(kept.index)

    def lacks(self, kept: KeptFrame, reason: str) -> None:
        """Notes that a frame of its time is not there."""
        self._come_to(kept)
        self._lacks(kept.index, kept.index, reason)

    def _come_to(self, kept: KeptFrame) -> None:
        """Notes the indices between the last frame and this one: they were never handed over."""
        if self._index is not None and kept.index > self._index + 1:
            self._lacks(self._index + 1, kept.index - 1, kept.skipped)
        self._index = kept.index

    def _lacks(self, first: int, last: int, reason: str) -> None:
        if self.missing and self.missing[-1][1:] == (first - 1, reason):
            first = self.missing.pop()[0]
        self.missing.append((first, last, reason))

    def missing_by_reason(self) -> Counter[str]:
        """Number of frames that it lacks, for each reason."""
        counts: Counter[str] = Counter()
        for first, last, reason in self.missing:
            counts[reason] += last - first + 1
        return counts

    def finish(self, session: Session) -> None:
        """Gives the clip its name, and writes the JSON file beside it. It must have a file.

        Raises:
            OSError: It cannot be completed. Nothing is left of it.
        """
        file, self.file = self.file, None
        assert file is not None
        file.finish(self._stem(session), plain(self._record(session, file.shape)))

    def discard(self) -> None:
        """Deletes what has been written."""
        file, self.file = self.file, None
        if file is not None:
            file.discard()

    def _stem(self, session: Session) -> str:
        """Its name without the ending: where it is in a file, or when it was live."""
        started = self.event.onset_at
        when = started.astimezone() if started is not None else self.begun_at
        return clip_stem(
            None if session.live else session.source,
            self.event.interval.onset_s,
            f"{when:%Y%m%d-%H%M%S}-{when.microsecond // 1000:03d}",
            self.event.label,
            session.camera,
        )

    def _record(self, session: Session, shape: tuple[int, ...]) -> dict[str, Any]:
        """What the JSON file holds."""
        return {
            "type": "clip",
            "source": session.source,
            "model": session.model,
            "recorded_at": self.begun_at.isoformat(timespec="milliseconds"),
            "width": shape[1],
            "height": shape[0],
            "codec": CODEC,
            "lossless": True,
            "fps": _rate(self.times_s, session.fps),
            "frames": len(self.times_s),
            "start_s": round(self.times_s[0], 6),
            "end_s": round(self.times_s[-1], 6),
            "wanted_start_s": round(self.start_s, 6),
            "wanted_end_s": round(self.end_s, 6),
            "begins_late": self.begins_late,
            "cut_short": self.cut_short,
            "dropped": self.missing_by_reason().total(),
            "missing": [
                {"first_index": first, "last_index": last, "reason": reason}
                for first, last, reason in self.missing
            ],
            "frame_index": self.indices,
            "times_s": [round(time_s, 6) for time_s in self.times_s],
            "events": [self.event.to_dict()],
        }


def _rate(times: list[float], declared: float) -> float:
    """The usual frame rate, from the mean of the steps near the median: times may be rounded."""
    steps = np.diff(times)
    steps = steps[steps > 0]
    if steps.size:
        median = np.median(steps)
        near = steps[np.abs(steps - median) <= 0.25 * median]
        fps = float(1 / (near.mean() if near.size else median))
    else:
        fps = declared
    return round(fps, 2) if 1 <= fps <= 1000 else 30.0
