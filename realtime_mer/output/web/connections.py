"""Connections to the page: how many there may be and for how long, and how each is answered."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable

from aiohttp import web

from realtime_mer.output.web.address import Guard

# Limits and times without another source were chosen by judgement.
MAX_CONNECTIONS = 128
# A browser with 24 tabs has one connection a tab for the pictures, and some more to load pages.
MAX_CONNECTIONS_OF_ADDRESS = 64
# A connection that asks for nothing, or has not taken the answer, is closed after this long. Other
# than for a viewer, there is nothing here that takes longer.
REQUEST_S = 5.0
_WATCH_PERIOD_S = 0.25
# Others go first at the limit than one that was opened or has asked within this time: it is not
# to lose its place before it is served.
FRESH_S = 1.0
# Pause before the next `accept` when the process has no file handles left.
_NO_HANDLES_S = 0.5
# Browsers send some 600 bytes in 15 fields.
_MAX_LINE_BYTES = 4096
_MAX_FIELDS = 64
_METHODS = ("GET", "HEAD")
# A WebSocket's frame that closes it, with the code 1002.
_PROTOCOL_ERROR = b"\x88\x02\x03\xea"

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "object-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "realtime_mer",
}
"""Every answer has them, whatever was asked."""

# Strangers' requests must not fill the terminal, and requests contain the token.
silent = logging.getLogger("realtime_mer.web")
silent.addHandler(logging.NullHandler())
silent.propagate = False


def refusal(status: int, text: str, **headers: str) -> web.Response:
    """An answer that says in one line why there is no other. It ends the connection."""
    answer = web.Response(status=status, text=text + "\n", headers={**HEADERS, **headers})
    answer.force_close()
    return answer


def malformed(request: web.BaseRequest, *, takes_data: bool = False) -> web.Response | None:
    """The refusal of a request that no browser would make; None if it is none.

    Args:
        request: The request.
        takes_data: Whether POST is allowed; the caller looks at what it brings.
    """
    if takes_data and request.method == "POST":
        pass
    elif request.method not in _METHODS:
        return refusal(405, "This page can only be read.", Allow=", ".join(_METHODS))
    elif request.can_read_body:
        return refusal(413, "This page takes no data.")
    if not request.raw_path.startswith("/"):
        return refusal(400, "The path does not begin with a slash.")
    if any(len(request.headers.getall(name, ())) > 1 for name in ("Host", "Origin")):
        return refusal(400, "A header is given twice.")
    return None


def malformed_upgrade(request: web.BaseRequest) -> web.Response | None:
    """The refusal of a request that cannot become a WebSocket; None if it can."""
    headers = request.headers
    is_upgrade = headers.get("Upgrade", "").strip().lower() == "websocket"
    asks = [part.strip().lower() for part in headers.get("Connection", "").split(",")]
    key = headers.get("Sec-WebSocket-Key", "")
    if request.method != "GET" or not is_upgrade or "upgrade" not in asks:
        return refusal(400, "This is for WebSockets only.")
    # 16 bytes in base 64.
    if not re.fullmatch("[A-Za-z0-9+/]{22}==", key):
        return refusal(400, "The WebSocket's key is none.")
    if headers.get("Sec-WebSocket-Version") != "13" or "Sec-WebSocket-Protocol" in headers:
        return refusal(400, "Such WebSockets are not spoken here.")
    return None


class _MaskCheck:
    """Sees whether the frames of a WebSocket are masked, as those of a browser are.

    aiohttp takes others, too (RFC 6455, 5.1, demands to refuse them).
    """

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def passes(self, data: bytes) -> bool:
        """Looks at the next piece of the stream."""
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            self._head += data[at : at + 1]
            at += 1
            if len(self._head) < 2:
                continue
            size = self._head[1] & 0x7F
            if size == self._head[1]:
                return False
            more = {126: 2, 127: 8}.get(size, 0)
            if len(self._head) == 2 + more:
                length = int.from_bytes(self._head[2:], "big") if more else size
                self._left, self._head = 4 + length, b""
        return True


class Connection(web.RequestHandler):
    """One connection.

    Attributes:
        address: The other side's IP address.
        asked_at: When it asked last, or was opened, on the loop's clock.
        is_kept: It is a viewer's.
        is_known: It has asked for something that it may see.
        when_lost: Called once it is closed, if there is someone to call.
    """

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            logger=silent,
            # Not to wait for a body that is refused.
            lingering_time=0,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
            max_headers=_MAX_FIELDS,
        )
        self.address = ""
        self.asked_at = loop.time()
        self.is_kept = False
        self.is_known = False
        self.when_lost: Callable[[], None] | None = None
        self._masks: _MaskCheck | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self.when_lost is not None:
            self.when_lost()

    def has_asked(self) -> None:
        """Notes that a request has come: its answer has to be taken in time."""
        self.asked_at = self._loop.time()

    def expect_frames(self) -> None:
        """Notes that what comes from now on are a WebSocket's frames."""
        self._masks = _MaskCheck()

    def data_received(self, data: bytes) -> None:
        if self._masks is None and self.is_kept:
            # It is being answered without end: nothing more can be asked here.
            self.abort()
        elif self._masks is None or self._masks.passes(data):
            super().data_received(data)
        elif self.transport is not None:
            self.transport.write(_PROTOCOL_ERROR)
            self.transport.close()

    def keep(self) -> None:
        """Leaves it open, as a viewer's; who answers it watches it from now on."""
        self.is_kept = True

    def hold_little(self) -> None:
        """From now on, `drained` waits until the system has taken all that was written."""
        if self.transport is not None:
            self.transport.set_write_buffer_limits(high=0)

    async def drained(self) -> None:
        """Waits until the system has taken what was written.

        Raises:
            ConnectionError: The connection is closed.
        """
        await self._drain_helper()

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def abort(self) -> None:
        """Closes it without waiting for data that has not been taken."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what cannot be understood or has failed, and tells nothing about it."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another answer has been sent")
        if exc is not None and status >= 500:
            silent.error("the answer failed: %s", type(exc).__name__)
        return refusal(status, "Bad request." if status < 500 else "This failed.")


def page_asked_for(
    request: web.BaseRequest, guard: Guard, *, takes_data: bool = False
) -> str | web.Response:
    """The path that a request asks for, without the token; or its answer if it may not have it.

    Args:
        request: The request, on a `Connection`, which learns of it.
        guard: Decides who may see the page.
        takes_data: As `malformed`.
    """
    connection = request.protocol
    assert isinstance(connection, Connection)
    connection.has_asked()
    if (refused := malformed(request, takes_data=takes_data)) is not None:
        return refused
    if (reason := guard.refusal(request.path, request.headers)) is not None:
        return refusal(403, reason)
    connection.is_known = True
    if request.path == guard.prefix[:-1]:
        return refusal(308, "The page is here.", Location=guard.prefix)
    return request.path.removeprefix(guard.prefix)


class Connections:
    """Accepts connections, bounded in number, and closes those that idle.

    At the limit, a new connection takes the place of one that no viewer has: of one that did
    nothing lately rather than one that did, then of one that has not asked for anything that it may
    see, then of one of the address that has most, then of the oldest. So whoever only occupies
    connections keeps nobody out.

    Args:
        listening: The listening socket.
        answer: Answers a request.
    """

    def __init__(
        self,
        listening: socket.socket,
        answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> None:
        self._listening = listening
        self._loop = asyncio.get_running_loop()
        self._http = web.Server(answer)

    @property
    def open(self) -> list[Connection]:
        """All that are open."""
        return [c for c in self._http.connections if isinstance(c, Connection) and c.is_open]

    async def serve(self) -> None:
        """Accepts and watches until it is cancelled.

        asyncio's `create_server` accepts without limit, and leaks a connection that it accepts
        while it is closed.
        """
        watching = asyncio.create_task(self._watch())
        self._listening.setblocking(False)
        try:
            while True:
                try:
                    connection, address = await self._loop.sock_accept(self._listening)
                    if self._make_room(str(address[0])):
                        await self._loop.connect_accepted_socket(self._new, connection)
                    else:
                        connection.close()
                except ConnectionError:
                    continue  # it was closed before we accepted it
                except OSError:
                    await asyncio.sleep(_NO_HANDLES_S)
        finally:
            watching.cancel()

    def _new(self) -> Connection:
        return Connection(self._http, self._loop)

    async def _watch(self) -> None:
        while True:
            now = self._loop.time()
            for connection in self.open:
                if not connection.is_kept and now - connection.asked_at > REQUEST_S:
                    connection.abort()
            await asyncio.sleep(_WATCH_PERIOD_S)

    def _make_room(self, address: str) -> bool:
        """Closes a connection if there are too many; returns False if all are viewers."""
        here = self.open
        counts = Counter(connection.address for connection in here)
        if counts[address] >= MAX_CONNECTIONS_OF_ADDRESS:
            here = [connection for connection in here if connection.address == address]
        elif len(here) < MAX_CONNECTIONS:
            return True
        idle = [connection for connection in here if not connection.is_kept]
        if not idle:
            return False
        now = self._loop.time()

        def worth(connection: Connection) -> tuple[bool, bool, int, float]:
            is_fresh = now - connection.asked_at < FRESH_S
            count = counts[connection.address]
            return is_fresh, connection.is_known, -count, connection.asked_at

        min(idle, key=worth).abort()
        return True

    async def close(self, timeout_s: float) -> None:
        """Closes all connections.

        Args:
            timeout_s: How long to wait for the answers that are under way.
        """
        for connection in self.open:
            connection.abort()
        await self._http.shutdown(timeout_s)
