"""HTTP and WebSockets in a thread of their own, with viewers that can slow nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from aiohttp import WSCloseCode, WSMsgType, web

from realtime_mer.output.web.address import Guard
from realtime_mer.records import plain
from realtime_mer.results import Analysis, Session

MOST_VIEWERS = 8
# Of them all, with those that load the page.
MOST_CONNECTIONS = 64
# Events and gaps kept for who comes later.
RECORDS_KEPT = 200
# A viewer that takes nothing, or does not answer, for so long is gone.
STUCK_S = 5.0
STATUS_PERIOD_S = 0.5
# Pictures that a viewer has not said to have shown. With two, one travels while one is drawn; what
# waits in the network would only be old when it is seen.
_ON_THE_WAY = 2
_QUALITY = 80
# As large as a window is at most.
_LARGEST = (1600, 900)
# Time to tell the viewers that the session is over, and to close.
_FAREWELL_S = 0.5
_CLOSE_S = 0.1
# Without file handles no one can be let in; others may free some.
_NO_HANDLES_S = 0.5
_JOIN_S = 1.0
# A viewer only says that it has shown a picture.
_SHOWN = "shown"
_LARGEST_MESSAGE = 256

_FILES = {
    "": ("index.html", "text/html"),
    "style.css": ("style.css", "text/css"),
    "script.js": ("script.js", "text/javascript"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "object-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "realtime_mer",
}
_FULL = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>realtime_mer: all places taken</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="style.css"></head>
<body class="refused"><h1>All places are taken</h1>
<p>{MOST_VIEWERS} viewers are watching, and no more are let in. This page tries again every
10 seconds.</p></body></html>
"""

# What strangers send must not fill the terminal, and requests hold the token.
_silent = logging.getLogger("realtime_mer.web")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


def _json(message: Mapping[str, Any]) -> str:
    return json.dumps(plain(message), allow_nan=False)


def status_message(analysis: Analysis, events: int, age_s: float) -> dict[str, Any]:
    """What a viewer is told about the present, twice a second.

    Args:
        analysis: The newest.
        events: How many there have been.
        age_s: Seconds since the analysis.
    """
    return {
        "type": "status",
        "time_s": analysis.frame.time_s,
        "frame": analysis.frame.index,
        "fps": analysis.fps,
        "latency_ms": 1000 * analysis.latency_s,
        "dropped": analysis.dropped,
        "source_fps": analysis.source_fps,
        "sensitivity": analysis.sensitivity,
        "alerts": analysis.alerts,
        "faces": [
            {
                "face": face.face,
                "quality": float(face.quality),
                "score": float(face.score),
                "nuisances": face.nuisances,
            }
            for face in analysis.faces
        ],
        "events": events,
        "age_s": age_s,
    }


class _Viewer:
    """One browser that looks on. It holds one picture at most; a newer one takes its place."""

    def __init__(
        self, server: Server, answer: web.WebSocketResponse, transport: asyncio.Transport
    ) -> None:
        self._server, self._answer, self._transport = server, answer, transport
        self._wake = asyncio.Event()
        self._seen = 0
        self._status: str | None = None
        self._picture: bytes | None = None
        self._on_the_way = 0
        self._farewell: str | None = None

    @property
    def is_leaving(self) -> bool:
        return self._farewell is not None

    @property
    def has_room(self) -> bool:
        return self._picture is None and self._on_the_way < _ON_THE_WAY

    def wake(self) -> None:
        self._wake.set()

    def show(self, picture: bytes) -> None:
        self._picture = picture
        self._wake.set()

    def tell_status(self, text: str) -> None:
        self._status = text
        self._wake.set()

    def has_shown(self) -> None:
        self._on_the_way = max(0, self._on_the_way - 1)
        self._wake.set()

    def bid_farewell(self, text: str) -> None:
        self._farewell = text
        self._wake.set()

    async def serve(self) -> None:
        """Sends what there is, until the end. One that takes nothing in STUCK_S is cut off."""
        try:
            await self._send(self._server.hello)
            while self._farewell is None:
                self._wake.clear()
                await self._send_news()
                await self._wake.wait()
            await self._send_news()
            await self._send(self._farewell)
            async with asyncio.timeout(STUCK_S):
                await self._answer.close(code=WSCloseCode.GOING_AWAY)
        except (OSError, TimeoutError):
            self.cut_off()

    def cut_off(self) -> None:
        """Closes without waiting for what has not been taken."""
        self._transport.abort()

    async def _send_news(self) -> None:
        for number, text in self._server.records_after(self._seen):
            await self._send(text)
            self._seen = number
        status, self._status = self._status, None
        if status is not None:
            await self._send(status)
        if self._picture is not None and self._on_the_way < _ON_THE_WAY:
            picture, self._picture = self._picture, None
            self._on_the_way += 1
            self._server.consider_picture()
            await self._send(picture)

    async def _send(self, message: str | bytes) -> None:
        async with asyncio.timeout(STUCK_S):
            if isinstance(message, str):
                await self._answer.send_str(message)
            else:
                await self._answer.send_bytes(message)


class Server:
    """Serves the page and tells every viewer what happens.

    `start`, `stop`, `show`, `tell`, `look` and `wants_picture` belong to the thread that analyses,
    and return at once; everything else happens in the server's own thread.

    Pictures go through the WebSocket that also carries the events: a viewer answers when it has
    shown one, so nobody is sent more than it can show, nobody looks at the past, and of a page
    that is hidden nothing is asked. A multipart stream of JPEGs knows nothing of all that.
    """

    def __init__(self, listening: socket.socket, guard: Guard) -> None:
        """
        Args:
            listening: Closed by `stop`.
            guard: Decides who may see the page.
        """
        self._listening, self._guard = listening, guard
        self._run = secrets.token_hex(8)
        folder = Path(__file__).resolve().parent
        self._files = {
            name: ((folder / file).read_bytes(), kind) for name, (file, kind) in _FILES.items()
        }
        self.hello = ""
        self._records: deque[tuple[int, str]] = deque(maxlen=RECORDS_KEPT)
        self._record_count = 0
        self._event_count = 0
        self._newest: tuple[Analysis, float] | None = None
        self._has_room = False
        # Set by `show`, cleared in the server's thread: one picture crosses at a time.
        self._crossing = False
        self._viewers: dict[_Viewer, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._farewell = ""
        self.error: BaseException | None = None

    # From the thread that analyses

    def start(self, session: Session) -> None:
        """Begins to answer."""
        self.hello = _json(
            {
                "type": "hello",
                "run": self._run,
                "session": session.to_dict(),
                "audience": self._guard.audience,
            }
        )
        self._thread = threading.Thread(target=self._work, name="web", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self.error is not None:
            raise self.error

    @property
    def wants_picture(self) -> bool:
        """A viewer has room for a picture."""
        return self._has_room and not self._crossing

    def show(self, picture: np.ndarray) -> None:
        """Sends a picture to the viewers.

        Args:
            picture: (height, width, 3) uint8, BGR; nobody may change it any more.
        """
        self._crossing = True
        self._soon(self._show, picture)

    def tell(self, record: Mapping[str, Any], is_event: bool) -> None:
        """Tells the viewers, also those who come later, what the log is told."""
        self._soon(self._tell, record, is_event)

    def look(self, analysis: Analysis) -> None:
        """Hands over the newest analysis, from which the next status is made."""
        self._newest = (analysis, time.monotonic())

    def stop(self, summary: Mapping[str, Any]) -> None:
        """Says farewell and closes everything, within a second. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._farewell = _json({"type": "end", "summary": summary})
            self._soon(self._stopping.set)
            thread.join(_JOIN_S)
        elif not self._ready.is_set():
            self._loop.close()
        self._listening.close()

    def _soon(self, call: Any, *arguments: Any) -> None:  # noqa: ANN401
        # Where the server's thread has ended, nobody looks.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    # In the server's thread

    def records_after(self, number: int) -> list[tuple[int, str]]:
        return [(n, text) for n, text in self._records if n > number]

    def consider_picture(self) -> None:
        """Asks for a picture if anyone could show it."""
        self._has_room = any(viewer.has_room for viewer in self._viewers)

    def _work(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except BaseException as error:
            self.error = error
        finally:
            self._has_room = False
            self._ready.set()

    async def _main(self) -> None:
        app = web.Application(middlewares=[self._guarded])
        app.on_response_prepare.append(self._add_headers)
        for name in _FILES:
            app.router.add_get(self._guard.prefix + name, self._file)
        if self._guard.token is not None:
            app.router.add_get(self._guard.prefix[:-1], self._add_slash)
        app.router.add_get(self._guard.prefix + "live", self._live)
        runner = web.AppRunner(app, access_log=None, logger=_silent, shutdown_timeout=_CLOSE_S)
        await runner.setup()
        http = runner.server
        assert http is not None
        tasks = [
            asyncio.create_task(self._let_in(http)),
            asyncio.create_task(self._tell_status()),
        ]
        try:
            self._ready.set()
            await self._stopping.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._listening.close()
            serving = list(self._viewers.values())
            status = _json(self._status())
            for viewer in self._viewers:
                viewer.tell_status(status)
                viewer.bid_farewell(self._farewell)
            if serving:
                await asyncio.wait(serving, timeout=_FAREWELL_S)
            for connection in http.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await runner.cleanup()

    async def _let_in(self, http: web.Server) -> None:
        """Lets connections in one by one, so that they can be counted: `create_server` takes what
        comes, and loses what it has just taken when it is closed.
        """
        self._listening.setblocking(False)
        while True:
            try:
                connection, _ = await self._loop.sock_accept(self._listening)
                if len(http.connections) >= MOST_CONNECTIONS:
                    connection.close()
                    continue
                await self._loop.connect_accepted_socket(http, connection)
            except ConnectionError:
                continue  # gone already
            except OSError:
                await asyncio.sleep(_NO_HANDLES_S)

    def _show(self, picture: np.ndarray) -> None:
        jpeg = _jpeg(picture)
        for viewer in self._viewers:
            viewer.show(jpeg)
        self.consider_picture()
        self._crossing = False

    def _tell(self, record: Mapping[str, Any], is_event: bool) -> None:
        self._record_count += 1
        self._event_count += is_event
        message = {"type": "record", "n": self._record_count, "record": record}
        self._records.append((self._record_count, _json(message)))
        for viewer in self._viewers:
            viewer.wake()

    async def _tell_status(self) -> None:
        while True:
            if self._viewers:
                # Also without anything new: from silence a page concludes that we are gone.
                text = _json(self._status())
                for viewer in self._viewers:
                    viewer.tell_status(text)
            await asyncio.sleep(STATUS_PERIOD_S)

    def _status(self) -> dict[str, Any]:
        if self._newest is None:
            return {"type": "waiting"}
        analysis, taken_at = self._newest
        return status_message(analysis, self._event_count, time.monotonic() - taken_at)

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401
        refusal = self._guard.refusal(request.path, request.headers)
        if refusal is not None:
            return web.Response(status=403, text=refusal + "\n")
        return await handler(request)

    async def _add_headers(self, request: web.Request, answer: web.StreamResponse) -> None:
        answer.headers.update(_HEADERS)

    async def _file(self, request: web.Request) -> web.Response:
        name = request.path.removeprefix(self._guard.prefix)
        if not name and len(self._viewers) >= MOST_VIEWERS:
            again = {"Retry-After": "10", "Refresh": "10"}
            return web.Response(status=503, text=_FULL, content_type="text/html", headers=again)
        body, kind = self._files[name]
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def _add_slash(self, request: web.Request) -> web.Response:
        return web.Response(status=308, headers={"Location": self._guard.prefix})

    async def _live(self, request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse(
            heartbeat=STUCK_S, compress=False, max_msg_size=_LARGEST_MESSAGE, writer_limit=0
        )
        transport = request.transport
        await answer.prepare(request)
        if transport is None or len(self._viewers) >= MOST_VIEWERS:
            await answer.close(code=WSCloseCode.TRY_AGAIN_LATER)
            return answer
        viewer = _Viewer(self, answer, transport)
        serving = self._viewers[viewer] = asyncio.create_task(viewer.serve())
        self.consider_picture()
        try:
            async for message in answer:
                if message.type is WSMsgType.TEXT and message.data == _SHOWN:
                    viewer.has_shown()
                    self.consider_picture()
        finally:
            del self._viewers[viewer]
            self.consider_picture()
            if not viewer.is_leaving:
                serving.cancel()
            await asyncio.wait([serving])
            if answer.close_code == WSCloseCode.ABNORMAL_CLOSURE:
                viewer.cut_off()
        return answer


def _jpeg(picture: np.ndarray) -> bytes:
    height, width = picture.shape[:2]
    scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
