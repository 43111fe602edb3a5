"""A program that receives JSON lines over HTTP for as long as it likes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from realtime_mer.output.web.connections import HEADERS, Connection
from realtime_mer.output.web.feed import Feed
from realtime_mer.output.web.messages import lost_record, text_of, with_dropped
from realtime_mer.output.web.places import Occupant
from realtime_mer.output.web.viewer import in_time

JSON_LINES = "application/x-ndjson"


class Stream(Occupant):
    """One receiver. What it does not take waits in the feed, not here.

    Args:
        connection: Its connection.
        kind: "live", "frames" or "log", to count them.
    """

    # It cannot answer: where all places are taken, none of these gives its own away.
    is_proven = True

    def __init__(self, connection: Connection, kind: str) -> None:
        super().__init__(connection)
        self.kind = kind
        self._is_over = False
        connection.when_lost = self._wake.set

    def end(self) -> None:
        """Nothing more will come."""
        self._is_over = True
        self._wake.set()

    async def send(
        self, request: web.BaseRequest, lines: AsyncIterator[str | bytes], **headers: str
    ) -> web.StreamResponse:
        """Answers with lines, each as soon as it is there.

        A receiver that takes nothing for `STUCK_S` is cut off.
        """
        answer = web.StreamResponse(headers={**HEADERS, **headers})
        answer.content_type, answer.charset = JSON_LINES, "utf-8"
        answer.force_close()
        self._connection.keep()
        self._connection.hold_little()
        try:
            await answer.prepare(request)
            async for line in lines:
                async with in_time():
                    await answer.write(line.encode() if isinstance(line, str) else line)
                    await self._connection.drained()
            async with in_time():
                await answer.write_eof()
        except (OSError, TimeoutError):
            self.cut_off()
        return answer

    async def news(self) -> AsyncIterator[None]:
        """Returns whenever there may be something new, until the session or the connection ends."""
        while not self.is_gone:
            self._wake.clear()
            is_over = self._is_over
            yield
            if is_over:
                return
            await self._wake.wait()

    async def records(self, feed: Feed) -> AsyncIterator[str]:
        """The session's record, its records from now on, and its summary."""
        seen = feed.count
        yield feed.session + "\n"
        async for _ in self.news():
            while (record := feed.next_after(seen)) is not None:
                if missing := record.n - seen - 1:
                    yield text_of(lost_record(missing)) + "\n"
                yield record.text + "\n"
                seen = record.n
        if feed.summary:
            yield feed.summary + "\n"

    async def frames(self, feed: Feed) -> AsyncIterator[str]:
        """The frames from now on; a receiver that is too slow misses some, and learns how many."""
        seen, is_first = feed.newest_frame, True
        async for _ in self.news():
            while waiting := feed.frames_after(seen):
                frame = waiting[0]
                missed = 0 if is_first else frame.n - seen - 1
                yield with_dropped(frame.text, missed) + "\n"
                seen, is_first = frame.n, False
