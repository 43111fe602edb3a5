"""The review's page: HTTP on this computer only, for those who have the address with its token."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from realtime_mer.archive.results_folder import ResultsFolder
from realtime_mer.archive.reviews.agreement import agreements
from realtime_mer.archive.reviews.decisions import (
    Added,
    Decisions,
    DecisionsFile,
    Judgement,
    read_all,
)
from realtime_mer.archive.reviews.found import Found, material
from realtime_mer.archive.reviews.verdicts import verdicts
from realtime_mer.errors import InputError
from realtime_mer.interrupts import checkpoint
from realtime_mer.output.web.address import LOOPBACK, Address, Guard
from realtime_mer.output.web.connections import (
    HEADERS,
    Connection,
    Connections,
    page_asked_for,
    refusal,
    silent,
)
from realtime_mer.output.writable import replace_file, shown, why
from realtime_mer.records import is_number, plain, seconds
from realtime_mer.review.pictures import Pictures
from realtime_mer.review.table import NAME as TABLE
from realtime_mer.review.table import write_table
from realtime_mer.review.worth import seconds_per_event, worths

_FOLDER = Path(__file__).resolve().parent
_FILES = {
    "": (_FOLDER / "index.html", "text/html"),
    "style.css": (_FOLDER / "style.css", "text/css"),
    "script.js": (_FOLDER / "script.js", "text/javascript"),
    "icon.svg": (_FOLDER.parent / "output" / "web" / "icon.svg", "image/svg+xml"),
}
# What the page sends is a tenth of this.
_MAX_BODY_BYTES = 2048
# How often Ctrl-C is looked for, and how long closing waits for answers.
_LOOK_EVERY_S = 0.2
_CLOSE_S = 0.5
# The connection of an answer that takes long is kept alive this often.
_PATIENCE_S = 1.0
# The table follows the last decision after this long: not once for each.
_TABLE_AFTER_S = 1.0
# Length of an event that was added, until its ends are moved: about that of the median
# micro-expression of CASME II. Chosen by judgement.
_ADDED_S = 0.3
_EVENT_PATH = re.compile(r"(clip|magnified)/([^/]+/[0-9]{1,9})")


class _Refused(Exception):
    """A request that makes no sense; the message is for people."""


class Review:
    """A reviewer's work on a results folder, and the page for it.

    Args:
        path: The results folder.
        name: The reviewer.
        port: Where the page is; 0 for any free port.

    Attributes:
        url: The page's address, with its token.
        notes: What the user should know.

    Raises:
        InputError: It is no results folder or has no events, nothing can be written there, the same
            reviewer is at work already, or the port cannot be used.

    Example:
        with Review("results", "ana") as review:
            print(review.url)
            review.run()
    """

    def __init__(self, path: Path, name: str, port: int = 0) -> None:
        self._folder = ResultsFolder(path)
        self._material = material(self._folder)
        self.notes = list(self._material.notes)
        self._events = {event.id: event for event in self._material.events}
        self._file = DecisionsFile(self._folder.reviews, name, self._material)
        try:
            if lost := self._file.decisions.lost:
                lines = "1 line" if lost == 1 else f"{lost} lines"
                self.notes.append(
                    f"{lines} of {shown(self._file.path)} cannot be understood, or belong to "
                    "events that are no longer there: they do not count, and stay in the file"
                )
            address = Address(LOOPBACK, port)
            self._listening: socket.socket = address.listen()
        except BaseException:
            self._file.close()
            raise
        bound = self._listening.getsockname()[:2]
        self._guard = Guard(address, bound, always_token=True)
        self._pictures = Pictures()
        # One clip at a time: magnifying takes a second or two of a core.
        self._worker = ThreadPoolExecutor(1, "clips")
        self._pages = {name: (path.read_bytes(), kind) for name, (path, kind) in _FILES.items()}
        self._table_timer: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Event | None = None
        self._is_closed = False

    @property
    def url(self) -> str:
        return self._guard.url

    @property
    def table(self) -> Path:
        """The table of what was reviewed."""
        return self._folder.path / TABLE

    def __enter__(self) -> Review:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Writes the tables and frees the port. May be called twice.

        Raises:
            InputError: A table cannot be written.
        """
        self._listening.close()
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._file.close()
        if not self._is_closed:
            self._is_closed = True
            # Always, for others may have decided something meanwhile.
            if self._write_table():
                self._write_events()

    def run(self) -> None:
        """Serves the page until `stop` or Ctrl-C.

        Raises:
            KeyboardInterrupt: Ctrl-C, where that is held back until a checkpoint.
        """
        asyncio.run(self._serve())

    def stop(self) -> None:
        """Ends `run`, from any thread."""
        if (stopping := self._stopping) is not None:
            self._loop.call_soon_threadsafe(stopping.set)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        # asyncio would log what strangers break.
        self._loop.set_exception_handler(lambda _, context: silent.error(context["message"]))
        self._stopping = asyncio.Event()
        connections = Connections(self._listening, self._answer)
        serving = asyncio.create_task(connections.serve())
        try:
            while not self._stopping.is_set():
                checkpoint()
                try:
                    await asyncio.wait_for(self._stopping.wait(), _LOOK_EVERY_S)
                except TimeoutError:
                    continue
        finally:
            self._stopping = None
            serving.cancel()
            await asyncio.wait([serving])
            await connections.close(_CLOSE_S)

    # Requests

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        name = page_asked_for(request, self._guard, takes_data=True)
        if isinstance(name, web.Response):
            return name
        try:
            if request.method == "POST":
                return _json(self._change(name, await _body(request)))
            connection = request.protocol
            assert isinstance(connection, Connection)
            return await self._get(name, connection)
        except _Refused as error:
            return _json({"error": str(error)}, 400)
        except InputError as error:
            return _json({"error": str(error)}, 409)

    async def _get(self, name: str, connection: Connection) -> web.Response:
        if name in self._pages:
            body, kind = self._pages[name]
            return web.Response(body=body, content_type=kind, charset="utf-8", headers=HEADERS)
        if name == "events":
            return _json(self._state())
        if name == "summary":
            return _json(self._summary())
        # Only names of events that we gave out: no path of the request is ever opened.
        if (found := _EVENT_PATH.fullmatch(name)) and (event := self._events.get(found[2])):
            body = await self._clip(event, found[1] == "magnified", connection)
            kind = "application/octet-stream"
            return web.Response(body=body, content_type=kind, headers=HEADERS)
        return refusal(404, "There is no such page.")

    async def _clip(self, event: Found, magnify: bool, connection: Connection) -> bytes:
        work = self._worker.submit(self._pictures, event, magnify=magnify)
        making = asyncio.wrap_future(work)
        try:
            while not making.done():
                await asyncio.wait([making], timeout=_PATIENCE_S)
                connection.has_asked()
        finally:
            # Nobody waits for it any more: those in line are not made.
            work.cancel()
        return making.result()

    def _change(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        if name == "decide":
            event = self._event(values.get("event"))
            self._file.decide(event, self._judgement(self._thought(event) | values))
            changed = event.id
        elif name == "add":
            changed = self._add(values)
        elif name == "undo":
            undone = self._file.undo()
            if undone is None:
                raise _Refused("There is nothing to undo.")
            changed = undone
        elif name == "settings":
            return self._choose(values.get("sensitivity"))
        else:
            raise _Refused("There is no such command.")
        self._soon_write_table()
        return {"event": changed, "item": self._item(changed), "can_undo": self._can_undo}

    def _add(self, values: dict[str, Any]) -> str:
        host = self._event(values.get("event")).host
        onset_s = values.get("onset_s")
        offset_s = onset_s + _ADDED_S if is_number(onset_s) else None
        judgement = self._judgement({"verdict": "true", "onset_s": onset_s, "offset_s": offset_s})
        return self._file.add(host, judgement).id

    def _event(self, event_id: object) -> Found | Added:
        if isinstance(event_id, str):
            if event_id in self._events:
                return self._events[event_id]
            for added in self._file.decisions.added:
                if added.id == event_id:
                    return added
        raise _Refused("There is no such event.")

    def _thought(self, event: Found | Added) -> dict[str, Any]:
        """What holds where a decision says nothing: another window may have decided meanwhile."""
        own = self._file.decisions.of(event.id)
        if own is not None:
            return own.to_dict() | {"took_s": None}
        assert isinstance(event, Found)
        return {"onset_s": event.onset_s, "offset_s": event.offset_s}

    def _judgement(self, values: Mapping[str, Any]) -> Judgement:
        try:
            return Judgement.parse(values, self._material.labels)
        except ValueError as error:
            raise _Refused(f"This cannot be kept: {error}.") from None

    def _choose(self, sensitivity: object) -> dict[str, Any]:
        if not is_number(sensitivity) or not 0 < sensitivity < 1000:
            raise _Refused("A sensitivity is a number of false reports a minute.")
        path = self._folder.settings_path
        try:
            before = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            before = {}
        settings = (before if isinstance(before, dict) else {}) | {"sensitivity": sensitivity}
        try:
            replace_file(path, json.dumps(settings, indent=2).encode() + b"\n")
        except OSError as error:
            raise InputError(f"{shown(path)} cannot be written: {why(error)}") from None
        return {"sensitivity": sensitivity, "path": shown(path)}

    # Answers

    @property
    def _can_undo(self) -> bool:
        return self._file.decisions.last is not None

    def _state(self) -> dict[str, Any]:
        ids = [*self._events, *(added.id for added in self._file.decisions.added)]
        return {
            "reviewer": self._file.decisions.reviewer,
            "folder": shown(self._folder.path),
            "labels": self._material.labels,
            "notes": self.notes,
            "can_undo": self._can_undo,
            "events": [self._item(event_id) for event_id in ids],
        }

    def _item(self, event_id: str) -> dict[str, Any] | None:
        """An event as the page knows it; None if it is no longer there."""
        try:
            event = self._event(event_id)
        except _Refused:
            return None
        own = self._file.decisions.of(event_id)
        host = event.host
        item: dict[str, Any] = {
            "id": event.id,
            "clip": host.id,
            "has_clip": host.video.clip(host.number) is not None,
            "video": host.name,
            "number": event.number,
            "face": host.face,
            "added": isinstance(event, Added),
            "own": None if own is None else own.to_dict(),
        }
        if isinstance(event, Found):
            item |= {
                "onset_s": seconds(event.onset_s),
                "apex_s": seconds(event.apex_s),
                "offset_s": seconds(event.offset_s),
                "label": event.label,
                "confidence": event.confidence,
                "score": event.score,
            }
        return item

    def _reviewers(self) -> list[Decisions]:
        own = self._file.decisions
        others = read_all(self._folder.reviews, self._material, without=self._file.path)
        return sorted([own, *others], key=lambda decisions: decisions.reviewer)

    def _summary(self) -> dict[str, Any]:
        reviewers = self._reviewers()
        events = self._material.events
        found = verdicts(self._material, reviewers)
        said = {verdict.host.id: verdict.said for verdict in found if not verdict.added}
        looks = [took for who in reviewers for took in who.looks]
        look_s = seconds_per_event(looks)
        rows = worths(self._material, said, look_s)
        words = [word.verdict for word in said.values()]
        return {
            "events": len(events),
            "verdicts": {
                name: words.count(name) for name in ("true", "false", "disputed", "unsure")
            },
            "added": sum(v.said.verdict == "true" for v in found if v.added),
            "look_s": look_s,
            "rows": [row.to_dict() for row in rows],
            "tells_stricter": all(event.least_sensitivity is not None for event in events),
            "agreement": [asdict(pair) for pair in agreements(reviewers, events)],
        }

    # The table

    def _soon_write_table(self) -> None:
        if self._table_timer is not None:
            self._table_timer.cancel()
        self._table_timer = self._loop.call_later(_TABLE_AFTER_S, self._write_table_now)

    def _write_table_now(self) -> None:
        self._table_timer = None
        try:
            self._write_table()
        except InputError:
            # It is tried again until it succeeds, and at the end, which tells of it.
            self._soon_write_table()

    def _write_table(self) -> bool:
        """Writes the table; returns whether anything was reviewed."""
        reviewers = self._reviewers()
        is_reviewed = any(who.lines for who in reviewers)
        if is_reviewed:
            write_table(self.table, self._material, reviewers)
        return is_reviewed

    def _write_events(self) -> None:
        """Puts the verdicts into the archive's table of events, if there is one."""
        if not self._folder.table("events").exists():
            return
        # pyarrow takes a while to load.
        from realtime_mer.archive.run import FolderInUseError, locked_folder
        from realtime_mer.archive.tables import write_tables

        # An archive or a session that is at work writes the tables when it ends.
        with contextlib.suppress(FolderInUseError), locked_folder(self._folder):
            write_tables(self._folder, only=["events"])


async def _body(request: web.BaseRequest) -> dict[str, Any]:
    # Forms of other sites cannot have this type.
    if request.content_type != "application/json":
        raise _Refused("Commands are JSON.")
    if (size := request.content_length) is None or size > _MAX_BODY_BYTES:
        raise _Refused("This is too long.")
    try:
        values = json.loads(await request.read())
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise _Refused("Commands are JSON objects.")
    return values


def _json(message: Mapping[str, Any], status: int = 200) -> web.Response:
    text = json.dumps(plain(message), allow_nan=False)
    kind = "application/json"
    return web.Response(text=text, content_type=kind, status=status, headers=HEADERS)
