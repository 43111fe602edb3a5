"""HTTP and WebSockets in a separate thread, in which no viewer can slow the analysis."""

from __future__ import annotations

import asyncio
import contextlib
import functools
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
from aiohttp import WSCloseCode, web

from realtime_mer.output.per_source import short_names
from realtime_mer.output.web.address import Guard
from realtime_mer.output.web.api import PAGES, Api
from realtime_mer.output.web.commands import Command, Refused
from realtime_mer.output.web.connections import (
    HEADERS,
    Connection,
    Connections,
    malformed_upgrade,
    page_asked_for,
    refusal,
    silent,
)
from realtime_mer.output.web.feed import Feed, Frame
from realtime_mer.output.web.log_part import LogPart
from realtime_mer.output.web.messages import (
    Result,
    controlled_message,
    end_message,
    frame_message,
    hello_message,
    status_message,
    text_of,
    thumbnail_message,
    values_message,
)
from realtime_mer.output.web.metrics import Metrics, prepare
from realtime_mer.output.web.places import MAX_VIEWERS, MAX_VIEWERS_OF_ADDRESS, has_place
from realtime_mer.output.web.viewer import Viewer, in_time, new_socket
from realtime_mer.results import Analysis, MicroExpression, Session
from realtime_mer.source.frame import Frame as SourceFrame

# Times without another source were chosen by judgement.
STATUS_PERIOD_S = 0.5
_VALUES_PERIOD_S = 0.1
_JPEG_QUALITY = 80
# (width, height) in pixels, that of the largest window.
_MAX_SIZE = (1600, 900)
# Time to tell the viewers that the session is over, and to close.
_FAREWELL_S = 0.5
_CLOSE_S = 0.1
_JOIN_S = 1.0
# Frames and commands that cross from one thread to the other and have not been taken.
_FRAMES_CROSSING = 8
_COMMANDS_WAITING = 32

_KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
# Paths of pages that people open; all other files have their names.
_PAGES = {"": "index.html", "overlay": "overlay.html"}
_FULL = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>realtime_mer: all places taken</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="style.css"></head>
<body class="refused"><h1>All places are taken</h1>
<p>{MAX_VIEWERS} viewers are watching, or {MAX_VIEWERS_OF_ADDRESS} from your address: that is
the limit. This page tries again every
10 seconds.</p></body></html>
"""


class Server:
    """Serves the page and the API, and sends every viewer pictures, values, records and the status.

    The analysing thread calls the methods of the first part, which return at once; everything else
    happens in the server's own thread.

    Pictures share the WebSocket with the records, and a viewer confirms each one that it has shown.
    So it never gets more than it can show, sees nothing old, and gets none while its page is
    hidden. A multipart stream of JPEGs has no confirmation.
    """

    def __init__(
        self, listening: socket.socket, guard: Guard, *, may_control: bool = False
    ) -> None:
        """
        Args:
            listening: The listening socket; `stop` closes it.
            guard: Decides who may see the page.
            may_control: Whether viewers may give commands.
        """
        self._listening, self._guard = listening, guard
        self._may_control = may_control
        self._run = secrets.token_hex(8)
        self._files = _read_files()
        self._hello = ""
        self._feed = Feed()
        self._api = Api(self._feed, self._run, self._streams_have_changed)
        # The newest of each source, and when it came.
        self._newest: dict[int, tuple[Analysis, float]] = {}
        # Cameras whose values are on the way to the server's thread; when the next ones are due.
        self._values_crossing: set[int] = set()
        self._values_due_s: dict[int, float] = {}
        self._values_shown: dict[int, SourceFrame] = {}
        self._has_room = self._has_viewers = False
        # Set by `show`, cleared in the server's thread: one picture at a time changes threads.
        self._crossing = False
        self._wants_frames = self._is_taking_frames = False
        self._frame_count = 0
        self._frames: deque[tuple[int, Analysis]] = deque(maxlen=_FRAMES_CROSSING)
        self._commands: deque[Command] = deque(maxlen=_COMMANDS_WAITING)
        self._viewers: dict[Viewer, asyncio.Task[None]] = {}
        self._connections: Connections | None = None
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._farewell = ""
        self.error: BaseException | None = None

    # In the analysing thread

    def start(self, session: Session, log: Path | None = None) -> None:
        """Starts to accept connections.

        Args:
            session: What is known before the first frame.
            log: The file that the session's records are written into, by now the first one.
        """
        record = session.to_dict()
        self._feed.session = text_of(record)
        self._hello = text_of(
            hello_message(
                self._run,
                record,
                self._guard.audience,
                names=list(short_names(session).values()),
                may_control=self._may_control,
            )
        )
        if log is not None:
            self._api.log = LogPart(log, self._feed.session.encode("ascii") + b"\n")
        prepare()
        self._api.figures = Metrics(session)
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

    def add(self, result: Result) -> None:
        """Sends a record of the log to the viewers, and to those who come later."""
        self._soon(self._add, result)

    def set_newest(self, analysis: Analysis) -> None:
        """Hands over the newest analysis, for status, values, figures and the lines of frames."""
        camera = analysis.camera
        is_new = camera not in self._newest or (analysis.frame is not self._newest[camera][0].frame)
        now = time.monotonic()
        self._newest[camera] = (analysis, now)
        if self._api.figures is not None:
            self._api.figures.add(analysis)
        if is_new:
            self._send_values(analysis, now)
            self._frame_count += 1 + len(analysis.unshown)
            if self._wants_frames:
                self._frames.append((self._frame_count, analysis))
                if not self._is_taking_frames:
                    self._is_taking_frames = True
                    self._soon(self._take_frames)

    def _send_values(self, analysis: Analysis, now: float) -> None:
        camera = analysis.camera
        due = self._values_due_s.get(camera, 0.0)
        if self._has_viewers and now >= due and camera not in self._values_crossing:
            # Allow half a period, as of pictures: a camera's jitter must not cost every second one.
            self._values_due_s[camera] = max(due, now - _VALUES_PERIOD_S / 2) + _VALUES_PERIOD_S
            self._values_crossing.add(camera)
            self._soon(self._show_values, analysis)

    def take_command(self) -> Command | None:
        """A viewer's next command; None if none waits."""
        return self._commands.popleft() if self._commands else None

    def tell(self, text: str) -> None:
        """Tells all viewers what a command has changed."""
        self._soon(self._tell, text)

    def stop(self, summary: Mapping[str, Any]) -> None:
        """Sends the summary and closes everything within a second. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._farewell = text_of(end_message(summary))
            self._soon(self._end, text_of(summary))
            thread.join(_JOIN_S)
        elif not self._ready.is_set():
            self._loop.close()
        self._listening.close()

    def _soon(self, call: Any, *arguments: Any) -> None:  # noqa: ANN401
        # A RuntimeError means that the server's thread has ended.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    # In the server's thread

    def _work(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except BaseException as error:
            self.error = error
        finally:
            self._has_room = self._has_viewers = self._wants_frames = False
            self._ready.set()

    async def _main(self) -> None:
        # asyncio would log what strangers break.
        self._loop.set_exception_handler(lambda _, context: silent.error(context["message"]))
        self._connections = connections = Connections(self._listening, self._answer)
        tasks = [
            asyncio.create_task(connections.serve()),
            asyncio.create_task(self._send_status()),
            asyncio.create_task(self._send_last_values()),
        ]
        try:
            self._ready.set()
            await self._stopping.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._listening.close()
            sending: list[asyncio.Task[Any]] = [*self._viewers.values(), *self._api.end()]
            status = text_of(self._status())
            for watching in self._viewers:
                watching.show_status(status)
                watching.bid_farewell(self._farewell)
            if sending:
                await asyncio.wait(sending, timeout=_FAREWELL_S)
            await connections.close(_CLOSE_S)

    def _end(self, summary: str) -> None:
        self._feed.summary = summary
        self._stopping.set()

    def _update_room(self) -> None:
        """Notes whether any viewer has room for a picture."""
        self._has_room = any(watching.has_room for watching in self._viewers)
        self._has_viewers = bool(self._viewers)

    def _show(self, picture: np.ndarray) -> None:
        jpeg = _jpeg(picture)
        for watching in self._viewers:
            watching.show(jpeg)
        self._update_room()
        self._crossing = False

    def _add(self, result: Result) -> None:
        n = self._feed.add(result.to_dict())
        for watching in self._viewers:
            watching.wake()
        self._api.wake()
        if isinstance(result, MicroExpression) and result.picture is not None:
            self._feed.add_thumbnail(n, text_of(thumbnail_message(n, result.picture)))
            for watching in self._viewers:
                watching.show_thumbnail(n)

    def _streams_have_changed(self) -> None:
        self._wants_frames = self._api.wants_frames

    def _take_frames(self) -> None:
        # First: what comes from now on is announced again.
        self._is_taking_frames = False
        with contextlib.suppress(IndexError):
            while True:
                n, analysis = self._frames.popleft()
                self._feed.add_frame(Frame(n, text_of(frame_message(analysis))))
        self._api.wake()

    def _tell(self, text: str) -> None:
        message = text_of(controlled_message(text))
        for watching in self._viewers:
            watching.tell(message)

    async def _send_status(self) -> None:
        while True:
            if self._viewers:
                # Even if nothing is new: a page takes silence for a lost connection.
                text = text_of(self._status())
                for watching in self._viewers:
                    watching.show_status(text)
            await asyncio.sleep(STATUS_PERIOD_S)

    async def _send_last_values(self) -> None:
        """Sends what came too soon after other values, if nothing newer comes after it."""
        while True:
            await asyncio.sleep(_VALUES_PERIOD_S)
            for camera, (analysis, taken_at) in list(self._newest.items()):
                is_last = time.monotonic() - taken_at > _VALUES_PERIOD_S
                if is_last and self._values_shown.get(camera) is not analysis.frame:
                    self._show_values(analysis)

    def _show_values(self, analysis: Analysis) -> None:
        self._values_crossing.discard(analysis.camera)
        self._values_shown[analysis.camera] = analysis.frame
        if self._viewers:
            text = text_of(values_message(analysis))
            for watching in self._viewers:
                watching.show_values(analysis.camera, text)

    def _status(self) -> dict[str, Any]:
        newest = [self._newest[camera] for camera in sorted(self._newest)]
        if not newest:
            return {"type": "waiting"}
        now = time.monotonic()
        return status_message(
            [analysis for analysis, _ in newest],
            self._feed.events,
            min(now - taken_at for _, taken_at in newest),
        )

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        name = page_asked_for(request, self._guard)
        if isinstance(name, web.Response):
            return name
        connection = request.protocol
        assert isinstance(connection, Connection)
        if name == "live":
            return malformed_upgrade(request) or await self._live(request, connection)
        if name in PAGES:
            return await self._api.answer(name, request, len(self._viewers))
        if name not in self._files:
            return refusal(404, "There is no such page.")
        if name in _PAGES and not has_place(self._viewers, connection.address):
            again = {"Retry-After": "10", "Refresh": "10"}
            headers = {**HEADERS, **again}
            return web.Response(status=503, text=_FULL, content_type="text/html", headers=headers)
        body, kind = self._files[name]
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=HEADERS)

    async def _live(
        self, request: web.BaseRequest, connection: Connection
    ) -> web.WebSocketResponse:
        answer = new_socket()
        connection.expect_frames()
        await answer.prepare(request)
        if not connection.is_open or not has_place(self._viewers, connection.address):
            async with in_time():
                await answer.close(code=WSCloseCode.TRY_AGAIN_LATER)
            return answer
        connection.keep()
        watching = Viewer(
            self._feed,
            answer,
            connection,
            hello=self._hello,
            wants_pictures=request.query.get("pictures") != "0",
            has_changed=self._update_room,
            obey=self._commands.append if self._may_control else None,
        )
        serving = self._viewers[watching] = asyncio.create_task(watching.serve())
        self._update_room()
        is_refused = False
        try:
            async for message in answer:
                await watching.listen(message)
        except Refused as refused:
            is_refused = True
            serving.cancel()
            with contextlib.suppress(OSError):
                async with asyncio.timeout(_CLOSE_S):
                    await answer.close(code=refused.code)
        finally:
            del self._viewers[watching]
            self._update_room()
            if not watching.is_leaving:
                serving.cancel()
            await asyncio.wait([serving])
            # The code of a refusal is to arrive.
            if answer.close_code == WSCloseCode.ABNORMAL_CLOSURE and not is_refused:
                watching.cut_off()
        return answer


@functools.cache
def _read_files() -> dict[str, tuple[bytes, str]]:
    """The pages and what belongs to them: (bytes, type) by path."""
    folder = Path(__file__).resolve().parent
    files = {
        file.name: (file.read_bytes(), _KINDS[file.suffix])
        for file in folder.iterdir()
        if file.suffix in _KINDS
    }
    return files | {path: files.pop(name) for path, name in _PAGES.items() if name in files}


def _jpeg(picture: np.ndarray) -> bytes:
    height, width = picture.shape[:2]
    scale = min(1.0, _MAX_SIZE[0] / width, _MAX_SIZE[1] / height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
