"""HTTP and WebSockets in a separate thread, in which no viewer can slow the analysis."""

from __future__ import annotations

import asyncio
import contextlib
import json
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
from realtime_mer.output.web.connections import (
    HEADERS,
    Connection,
    Connections,
    malformed_upgrade,
    page_asked_for,
    refusal,
    silent,
)
from realtime_mer.records import plain
from realtime_mer.results import Analysis, Session, readable_parts

# Limits and times without another source were chosen by judgement.
MAX_VIEWERS = 32
# One computer leaves places to others.
MAX_VIEWERS_OF_ADDRESS = 24
# Records kept for viewers who come later.
RECORDS_KEPT = 200
# A viewer that accepts nothing or does not answer for this long is gone.
STUCK_S = 5.0
# Browsers answer a ping at once. When all places are taken, one that has not answered anything for
# this long gives its place away.
PROOF_S = 1.0
STATUS_PERIOD_S = 0.5
# Pictures sent to a viewer that it has not confirmed. With two, one travels while the other is
# drawn; more would wait in the network and be old when they are seen.
_MAX_UNCONFIRMED = 2
_JPEG_QUALITY = 80
# (width, height) in pixels, that of the largest window.
_MAX_SIZE = (1600, 900)
# Time to tell the viewers that the session is over, and to close.
_FAREWELL_S = 0.5
_CLOSE_S = 0.1
_JOIN_S = 1.0
# The only message of a viewer: it has shown a picture.
_SHOWN = "shown"
_MAX_MESSAGE_BYTES = 256

_FILES = {
    "": ("index.html", "text/html"),
    "style.css": ("style.css", "text/css"),
    "script.js": ("script.js", "text/javascript"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
_FULL = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>realtime_mer: all places taken</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="style.css"></head>
<body class="refused"><h1>All places are taken</h1>
<p>{MAX_VIEWERS} viewers are watching, or {MAX_VIEWERS_OF_ADDRESS} from your address: that is
the limit. This page tries again every
10 seconds.</p></body></html>
"""


def _json(message: Mapping[str, Any]) -> str:
    return json.dumps(plain(message), allow_nan=False)


def status_message(analysis: Analysis, events: int, age_s: float) -> dict[str, Any]:
    """The message about the present that each viewer gets twice a second.

    Args:
        analysis: The newest one.
        events: Number of events so far.
        age_s: Seconds since the analysis.
    """
    return {
        "type": "status",
        "time_s": analysis.frame.time_s,
        "frame": analysis.frame.index,
        "fps": analysis.fps,
        "latency_ms": None if analysis.is_away else 1000 * analysis.latency_s,
        "dropped": analysis.dropped,
        "source_fps": analysis.source_fps,
        "sensitivity": analysis.sensitivity,
        "alerts": analysis.alerts,
        "is_away": analysis.is_away,
        "faces": [
            {
                "face": face.face,
                "quality": float(face.quality),
                "score": float(face.score),
                "nuisances": face.nuisances,
                "limits": face.limits,
                "readable": None if face.limits is None else readable_parts(face.limits),
            }
            for face in analysis.faces
        ],
        "events": events,
        "age_s": age_s,
    }


class _Viewer:
    """A browser that watches. At most one picture waits for it; a newer one replaces it."""

    def __init__(
        self, server: Server, answer: web.WebSocketResponse, connection: Connection
    ) -> None:
        self._server, self._answer, self._connection = server, answer, connection
        self.joined_at = time.monotonic()
        # It has answered: somebody is there.
        self.is_proven = False
        self._wake = asyncio.Event()
        self._seen = 0
        self._status: str | None = None
        self._picture: bytes | None = None
        self._unconfirmed = 0
        self._farewell: str | None = None

    @property
    def address(self) -> str:
        return self._connection.address

    @property
    def is_gone(self) -> bool:
        return not self._connection.is_open

    @property
    def is_leaving(self) -> bool:
        return self._farewell is not None

    @property
    def has_room(self) -> bool:
        return self._picture is None and self._unconfirmed < _MAX_UNCONFIRMED

    def wake(self) -> None:
        self._wake.set()

    def show(self, picture: bytes) -> None:
        self._picture = picture
        self._wake.set()

    def show_status(self, text: str) -> None:
        self._status = text
        self._wake.set()

    def has_shown(self) -> None:
        self._unconfirmed = max(0, self._unconfirmed - 1)
        self._wake.set()

    def bid_farewell(self, text: str) -> None:
        self._farewell = text
        self._wake.set()

    async def serve(self) -> None:
        """Sends everything until the end; cuts off a viewer that accepts nothing in STUCK_S."""
        try:
            async with asyncio.timeout(STUCK_S):
                await self._answer.ping()
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
        """Closes the connection without waiting for data that has not been accepted."""
        self._connection.abort()

    async def _send_news(self) -> None:
        for number, text in self._server.records_after(self._seen):
            await self._send(text)
            self._seen = number
        status, self._status = self._status, None
        if status is not None:
            await self._send(status)
        if self._picture is not None and self._unconfirmed < _MAX_UNCONFIRMED:
            picture, self._picture = self._picture, None
            self._unconfirmed += 1
            self._server.update_room()
            await self._send(picture)

    async def _send(self, message: str | bytes) -> None:
        async with asyncio.timeout(STUCK_S):
            if isinstance(message, str):
                await self._answer.send_str(message)
            else:
                await self._answer.send_bytes(message)


class Server:
    """Serves the page and sends every viewer pictures, records and the status.

    The analysing thread calls `start`, `stop`, `show`, `add_record`, `set_newest` and
    `wants_picture`, which return at once; everything else happens in the server's own thread.

    Pictures share the WebSocket with the records, and a viewer confirms each one that it has shown.
    So it never gets more than it can show, sees nothing old, and gets none while its page is
    hidden. A multipart stream of JPEGs has no confirmation.
    """

    def __init__(self, listening: socket.socket, guard: Guard) -> None:
        """
        Args:
            listening: The listening socket; `stop` closes it.
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
        # Set by `show`, cleared in the server's thread: one picture at a time changes threads.
        self._crossing = False
        self._viewers: dict[_Viewer, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._farewell = ""
        self.error: BaseException | None = None

    # In the analysing thread

    def start(self, session: Session) -> None:
        """Starts to accept connections."""
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
        """Whether a viewer has room for a picture."""
        return self._has_room and not self._crossing

    def show(self, picture: np.ndarray) -> None:
        """Sends a picture to the viewers.

        Args:
            picture: (height, width, 3) uint8, BGR; must not be changed afterwards.
        """
        self._crossing = True
        self._soon(self._show, picture)

    def add_record(self, record: Mapping[str, Any], is_event: bool = False) -> None:
        """Sends a record of the log to the viewers, and to those who come later.

        Args:
            record: The record.
            is_event: Whether it counts as an event.
        """
        self._soon(self._add_record, record, is_event)

    def set_newest(self, analysis: Analysis) -> None:
        """Hands over the newest analysis, for the next status."""
        self._newest = (analysis, time.monotonic())

    def stop(self, summary: Mapping[str, Any]) -> None:
        """Sends the summary and closes everything within a second. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._farewell = _json({"type": "end", "summary": summary})
            self._soon(self._stopping.set)
            thread.join(_JOIN_S)
        elif not self._ready.is_set():
            self._loop.close()
        self._listening.close()

    def _soon(self, call: Any, *arguments: Any) -> None:  # noqa: ANN401
        # A RuntimeError means that the server's thread has ended.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    # In the server's thread

    def records_after(self, number: int) -> list[tuple[int, str]]:
        return [(n, text) for n, text in self._records if n > number]

    def update_room(self) -> None:
        """Notes whether any viewer has room for a picture."""
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
        # asyncio would log what strangers break.
        self._loop.set_exception_handler(lambda _, context: silent.error(context["message"]))
        connections = Connections(self._listening, self._answer)
        tasks = [
            asyncio.create_task(connections.serve()),
            asyncio.create_task(self._send_status()),
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
                viewer.show_status(status)
                viewer.bid_farewell(self._farewell)
            if serving:
                await asyncio.wait(serving, timeout=_FAREWELL_S)
            await connections.close(_CLOSE_S)

    def _show(self, picture: np.ndarray) -> None:
        jpeg = _jpeg(picture)
        for viewer in self._viewers:
            viewer.show(jpeg)
        self.update_room()
        self._crossing = False

    def _add_record(self, record: Mapping[str, Any], is_event: bool) -> None:
        self._record_count += 1
        self._event_count += is_event
        message = {"type": "record", "n": self._record_count, "record": record}
        self._records.append((self._record_count, _json(message)))
        for viewer in self._viewers:
            viewer.wake()

    async def _send_status(self) -> None:
        while True:
            if self._viewers:
                # Even if nothing is new: a page takes silence for a lost connection.
                text = _json(self._status())
                for viewer in self._viewers:
                    viewer.show_status(text)
            await asyncio.sleep(STATUS_PERIOD_S)

    def _status(self) -> dict[str, Any]:
        if self._newest is None:
            return {"type": "waiting"}
        analysis, taken_at = self._newest
        return status_message(analysis, self._event_count, time.monotonic() - taken_at)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        name = page_asked_for(request, self._guard)
        if isinstance(name, web.Response):
            return name
        connection = request.protocol
        assert isinstance(connection, Connection)
        if name == "live":
            return malformed_upgrade(request) or await self._live(request, connection)
        if name not in self._files:
            return refusal(404, "There is no such page.")
        if not name and not self._has_place(connection.address):
            again = {"Retry-After": "10", "Refresh": "10"}
            headers = {**HEADERS, **again}
            return web.Response(status=503, text=_FULL, content_type="text/html", headers=headers)
        body, kind = self._files[name]
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=HEADERS)

    def _has_place(self, address: str) -> bool:
        """Whether a viewer of an address may join, if need be in place of one that is gone."""
        here = [viewer for viewer in self._viewers if not viewer.is_gone]
        of_address = [viewer for viewer in here if viewer.address == address]
        if len(of_address) >= MAX_VIEWERS_OF_ADDRESS:
            here = of_address
        elif len(here) < MAX_VIEWERS:
            return True
        # The first that joined comes first.
        first = next((viewer for viewer in here if not viewer.is_proven), None)
        if first is None or time.monotonic() - first.joined_at < PROOF_S:
            return False
        first.cut_off()
        return True

    async def _live(
        self, request: web.BaseRequest, connection: Connection
    ) -> web.WebSocketResponse:
        # Pings are answered below, where one sees the answers to ours.
        answer = web.WebSocketResponse(
            heartbeat=STUCK_S,
            autoping=False,
            compress=False,
            max_msg_size=_MAX_MESSAGE_BYTES,
            writer_limit=0,
        )
        answer.headers.update(HEADERS)
        connection.expect_frames()
        await answer.prepare(request)
        if not connection.is_open or not self._has_place(connection.address):
            async with asyncio.timeout(STUCK_S):
                await answer.close(code=WSCloseCode.TRY_AGAIN_LATER)
            return answer
        connection.keep()
        viewer = _Viewer(self, answer, connection)
        serving = self._viewers[viewer] = asyncio.create_task(viewer.serve())
        self.update_room()
        try:
            async for message in answer:
                if message.type is WSMsgType.TEXT and message.data == _SHOWN:
                    viewer.is_proven = True
                    viewer.has_shown()
                    self.update_room()
                elif message.type is WSMsgType.PONG:
                    viewer.is_proven = True
                elif message.type is WSMsgType.PING:
                    async with asyncio.timeout(STUCK_S):
                        await answer.pong(message.data)
        finally:
            del self._viewers[viewer]
            self.update_room()
            if not viewer.is_leaving:
                serving.cancel()
            await asyncio.wait([serving])
            if answer.close_code == WSCloseCode.ABNORMAL_CLOSURE:
                viewer.cut_off()
        return answer


def _jpeg(picture: np.ndarray) -> bytes:
    height, width = picture.shape[:2]
    scale = min(1.0, _MAX_SIZE[0] / width, _MAX_SIZE[1] / height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
