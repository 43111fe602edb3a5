"""What a session has told so far, in bounded memory: for those who watch, and who come later."""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from realtime_mer.output.web.messages import record_text, text_of

# Chosen by judgement. A record has about 1 kB: all are 10 MB.
RECORDS_KEPT = 10_000
# Of these, viewers who come later get so many events and marks, and so many others, such as gaps:
# a page has room for no more, and many gaps must not take the events' place.
BACKLOG = 200
# Thumbnails show faces: no more are kept than a page shows. One has about 20 kB.
THUMBNAILS_KEPT = 200
THUMBNAIL_BYTES_KEPT = 8 << 20
# A quarter of a second at 30 fps. Who is further behind gets the newest.
FRAMES_KEPT = 8

_FINDINGS = ("micro_expression", "mark")


class Record(NamedTuple):
    """A record of the log.

    Attributes:
        n: Its number, from 1.
        kind: Its type.
        text: Its JSON.
    """

    n: int
    kind: str
    text: str

    @property
    def message(self) -> str:
        """The message that brings it to viewers."""
        return record_text(self.n, self.text)


class Frame(NamedTuple):
    """A frame's line, without the count of those that a receiver missed.

    Attributes:
        n: Number of the analysed frame, from 1.
        text: Its JSON (`messages.frame_message`).
    """

    n: int
    text: str


class Feed:
    """The records of a session, the thumbnails of its events, and its last frames.

    Attributes:
        session: The session's record, JSON; "" before it began.
        summary: The summary's record, JSON; "" before it ended.
        count: Number of the newest record.
        events: Number of micro-expressions.
    """

    def __init__(self) -> None:
        self.session = self.summary = ""
        self.count = self.events = 0
        self._records: deque[Record] = deque(maxlen=RECORDS_KEPT)
        self._thumbnails: OrderedDict[int, str] = OrderedDict()
        self._thumbnail_bytes = 0
        self._frames: deque[Frame] = deque(maxlen=FRAMES_KEPT)

    def add(self, record: Mapping[str, Any]) -> int:
        """Adds a record; returns its number."""
        self.count += 1
        self.events += record["type"] == "micro_expression"
        self._records.append(Record(self.count, record["type"], text_of(record)))
        return self.count

    def after(self, n: int) -> Iterator[Record]:
        """The records after number `n` that are kept."""
        if n >= self.count or not self._records:
            return iter(())
        return itertools.islice(self._records, max(0, n + 1 - self._records[0].n), None)

    def next_after(self, n: int) -> Record | None:
        """The first record after number `n` that is kept; None if there is none yet."""
        return next(self.after(n), None)

    def missing_after(self, n: int) -> int:
        """How many records after number `n` are no longer kept."""
        first = self._records[0].n if self._records else 1
        return max(0, first - 1 - n)

    @property
    def backlog(self) -> list[Record]:
        """What viewers get who come now, oldest first."""
        found: list[Record] = []
        left = {True: BACKLOG, False: BACKLOG}
        for record in reversed(self._records):
            is_finding = record.kind in _FINDINGS
            if left[is_finding]:
                left[is_finding] -= 1
                found.append(record)
            elif not any(left.values()):
                break
        return found[::-1]

    def add_thumbnail(self, n: int, text: str) -> None:
        """Keeps the thumbnail of a record; the oldest go if there are too many."""
        self._thumbnails[n] = text
        self._thumbnail_bytes += len(text)
        while len(self._thumbnails) > THUMBNAILS_KEPT or (
            self._thumbnail_bytes > THUMBNAIL_BYTES_KEPT
        ):
            self._thumbnail_bytes -= len(self._thumbnails.popitem(last=False)[1])

    def thumbnail(self, n: int) -> str | None:
        """The message with the thumbnail of a record; None if it is not kept."""
        return self._thumbnails.get(n)

    @property
    def thumbnails(self) -> list[int]:
        """The numbers of the records whose thumbnails are kept, oldest first."""
        return list(self._thumbnails)

    def add_frame(self, frame: Frame) -> None:
        """Adds the line of a frame."""
        self._frames.append(frame)

    @property
    def newest_frame(self) -> int:
        """Number of the newest frame that is kept; 0 if there is none."""
        return self._frames[-1].n if self._frames else 0

    def frames_after(self, n: int) -> list[Frame]:
        """The frames after number `n` that are kept."""
        return [frame for frame in self._frames if frame.n > n]
