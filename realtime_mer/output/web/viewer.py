"""A browser that watches, over one WebSocket."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from realtime_mer.output.web.commands import (
    MAX_MESSAGE_BYTES,
    SHOWN,
    Command,
    Refused,
    command_of,
)
from realtime_mer.output.web.connections import HEADERS, Connection
from realtime_mer.output.web.feed import THUMBNAILS_KEPT, Feed
from realtime_mer.output.web.messages import with_last
from realtime_mer.output.web.places import Occupant

# A viewer that accepts nothing or does not answer for this long is gone. Chosen by judgement.
STUCK_S = 5.0
# Pictures sent to a viewer that it has not confirmed. With two, one travels while the other is
# drawn; more would wait in the network and be old when they are seen.
_MAX_UNCONFIRMED = 2
# Commands of one viewer that are obeyed in a second: a key that is held down repeats 30 times.
# Chosen by judgement.
_COMMANDS_A_SECOND = 10


def in_time() -> asyncio.Timeout:
    """The limit for something that takes a viewer's or a receiver's part: `STUCK_S`."""
    return asyncio.timeout(STUCK_S)


def new_socket() -> web.WebSocketResponse:
    """A WebSocket to a viewer."""
    # Pings are answered by the viewer, who sees the answers to ours. aiohttp waits half as long for
    # an answer as it waits before it asks.
    socket = web.WebSocketResponse(
        heartbeat=2 * STUCK_S,
        autoping=False,
        compress=False,
        max_msg_size=MAX_MESSAGE_BYTES,
        writer_limit=0,
    )
    socket.headers.update(HEADERS)
    return socket


class Viewer(Occupant):
    """At most one picture, one status and one set of values a camera wait; newer ones replace them.

    Args:
        feed: What it gets records from.
        answer: The WebSocket.
        connection: The connection below it.
        hello: The first message, without `last`.
        wants_pictures: Whether it gets pictures and thumbnails.
        has_changed: Called when it has more or less room for pictures than before.
        obey: Called with its commands; None if it may give none.
    """

    def __init__(
        self,
        feed: Feed,
        answer: web.WebSocketResponse,
        connection: Connection,
        *,
        hello: str,
        wants_pictures: bool,
        has_changed: Callable[[], None],
        obey: Callable[[Command], None] | None,
    ) -> None:
        super().__init__(connection)
        self._feed, self._answer = feed, answer
        self._hello, self._wants_pictures = hello, wants_pictures
        self._has_changed, self._obey = has_changed, obey
        self._seen = 0
        self._status: str | None = None
        self._values: dict[int, str] = {}
        self._told: deque[str] = deque(maxlen=_COMMANDS_A_SECOND)
        # Thumbnails to send; the newest first: they are looked at first.
        self._thumbnails: deque[int] = deque(maxlen=THUMBNAILS_KEPT)
        self._picture: bytes | None = None
        self._unconfirmed = 0
        self._farewell: str | None = None
        self._commanded: deque[float] = deque(maxlen=_COMMANDS_A_SECOND)

    @property
    def is_leaving(self) -> bool:
        return self._farewell is not None

    @property
    def has_room(self) -> bool:
        """Whether it could take a picture."""
        is_free = self._picture is None and self._unconfirmed < _MAX_UNCONFIRMED
        return self._wants_pictures and is_free

    def show(self, picture: bytes) -> None:
        if self._wants_pictures:
            self._picture = picture
            self._wake.set()

    def show_status(self, text: str) -> None:
        self._status = text
        self._wake.set()

    def show_values(self, camera: int, text: str) -> None:
        self._values[camera] = text
        self._wake.set()

    def show_thumbnail(self, n: int) -> None:
        if self._wants_pictures:
            self._thumbnails.appendleft(n)
            self._wake.set()

    def tell(self, text: str) -> None:
        """Sends what a command has changed."""
        self._told.append(text)
        self._wake.set()

    def bid_farewell(self, text: str) -> None:
        self._farewell = text
        self._wake.set()

    async def serve(self) -> None:
        """Sends everything until the end; cuts off a viewer that accepts nothing in STUCK_S."""
        try:
            async with in_time():
                await self._answer.ping()
            self._seen = self._feed.count
            await self._send(with_last(self._hello, self._seen))
            await self._send_backlog()
            while self._farewell is None:
                self._wake.clear()
                await self._send_news()
                await self._wake.wait()
            await self._send_news()
            await self._send(self._farewell)
            async with in_time():
                await self._answer.close(code=WSCloseCode.GOING_AWAY)
        except (OSError, TimeoutError):
            self.cut_off()

    async def listen(self, message: WSMessage) -> None:
        """Takes what the viewer says.

        Raises:
            Refused: It says what it may not.
        """
        match message.type:
            case WSMsgType.TEXT if message.data == SHOWN:
                self.is_proven = True
                self._unconfirmed = max(0, self._unconfirmed - 1)
                self._wake.set()
                self._has_changed()
            case WSMsgType.PONG:
                self.is_proven = True
            case WSMsgType.PING:
                async with in_time():
                    await self._answer.pong(message.data)
            case WSMsgType.TEXT:
                self._take(message.data)
            case WSMsgType.BINARY:
                raise Refused(WSCloseCode.UNSUPPORTED_DATA)

    def _take(self, text: str) -> None:
        if self._obey is None:
            raise Refused(WSCloseCode.POLICY_VIOLATION)
        command = command_of(text)
        now, sent = time.monotonic(), self._commanded
        if len(sent) < _COMMANDS_A_SECOND or now - sent[0] > 1:
            sent.append(now)
            self._obey(command)

    async def _send_backlog(self) -> None:
        past = [record for record in self._feed.backlog if record.n <= self._seen]
        if self._wants_pictures:
            self._thumbnails.extend(reversed(self._feed.thumbnails))
        for record in past:
            await self._send(record.message)

    async def _send_news(self) -> None:
        while (record := self._feed.next_after(self._seen)) is not None:
            await self._send(record.message)
            self._seen = record.n
        while self._told:
            await self._send(self._told.popleft())
        status, self._status = self._status, None
        if status is not None:
            await self._send(status)
        values, self._values = self._values, {}
        for text in values.values():
            await self._send(text)
        if self._picture is not None and self._unconfirmed < _MAX_UNCONFIRMED:
            picture, self._picture = self._picture, None
            self._unconfirmed += 1
            self._has_changed()
            await self._send(picture)
        if self._thumbnails:
            # One a time, so that pictures do not wait for many.
            thumbnail = self._feed.thumbnail(self._thumbnails.popleft())
            if thumbnail is not None:
                await self._send(thumbnail)
            self._wake.set()

    async def _send(self, message: str | bytes) -> None:
        async with in_time():
            if isinstance(message, str):
                await self._answer.send_str(message)
            else:
                await self._answer.send_bytes(message)
