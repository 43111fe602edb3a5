"""The pages for programs: what has been found, what is found, figures and descriptions."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aiohttp import web

from realtime_mer.output.log import schema
from realtime_mer.output.web.connections import HEADERS, Connection, refusal
from realtime_mer.output.web.description import EVENTS_AT_ONCE, asyncapi, openapi
from realtime_mer.output.web.feed import Feed, Record
from realtime_mer.output.web.log_part import LogPart
from realtime_mer.output.web.messages import lost_record, text_of
from realtime_mer.output.web.metrics import INSTALL, Metrics
from realtime_mer.output.web.places import has_place
from realtime_mer.output.web.stream import JSON_LINES, Stream

_STREAMS = {"api/v1/live": "live", "api/v1/frames": "frames", "log.jsonl": "log"}
_TEXTS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "api/v1/openapi.json": (openapi, "application/json"),
    "api/v1/asyncapi.json": (asyncapi, "application/json"),
    "api/v1/schema.json": (schema, "application/schema+json"),
}
PAGES = frozenset({*_STREAMS, *_TEXTS, "api/v1/events", "metrics"})
"""Their paths, without the token."""


class Api:
    """Answers what programs ask for. All of it runs in the server's thread.

    Args:
        feed: What has been told so far.
        run: Tells this session from others.
        has_changed: Called when somebody begins or ceases to receive lines.

    Attributes:
        log: The session's log, if it has one.
        figures: What `/metrics` tells; None before the session began.
    """

    def __init__(self, feed: Feed, run: str, has_changed: Callable[[], None]) -> None:
        self._feed, self._run, self._has_changed = feed, run, has_changed
        self.log: LogPart | None = None
        self.figures: Metrics | None = None
        self._streams: dict[Stream, asyncio.Task[web.StreamResponse]] = {}

    def counts(self) -> dict[str, int]:
        """How many programs receive lines, by kind."""
        kinds = [stream.kind for stream in self._streams]
        return {kind: kinds.count(kind) for kind in ("live", "frames")}

    @property
    def wants_frames(self) -> bool:
        """Whether somebody receives the lines of frames."""
        return any(stream.kind == "frames" for stream in self._streams)

    def wake(self) -> None:
        """There are new records or frames."""
        for stream in self._streams:
            stream.wake()

    def end(self) -> list[asyncio.Task[web.StreamResponse]]:
        """Ends all streams; returns those that still send."""
        for stream in self._streams:
            stream.end()
        return list(self._streams.values())

    async def answer(self, name: str, request: web.BaseRequest, viewers: int) -> web.StreamResponse:
        """Answers a request.

        Args:
            name: One of `PAGES`.
            request: The request.
            viewers: How many pages watch.
        """
        if name in _TEXTS:
            return _whole(_text(name), _TEXTS[name][1])
        if name == "metrics":
            return self._metrics(request, viewers)
        if name == "api/v1/events":
            return self._events(request.query)
        return await self._stream(name, request)

    def _metrics(self, request: web.BaseRequest, viewers: int) -> web.Response:
        assert self.figures is not None, "the session has begun"
        counts = {"page": viewers} | self.counts()
        try:
            body, kind = self.figures.exposition(counts, request.headers.get("Accept", ""))
        except ImportError:
            return refusal(501, INSTALL)
        return web.Response(body=body, headers={**HEADERS, "Content-Type": kind})

    def _events(self, query: Mapping[str, str]) -> web.Response:
        after, kind = query.get("after", "0"), query.get("type")
        # More digits than any count of records has.
        if not re.fullmatch("[0-9]{1,15}", after):
            return refusal(400, "after is the number of a record, 0 for all.")
        first = int(after)
        found: list[Record] = []
        last, more = max(first, self._feed.count), False
        for record in self._feed.after(first):
            if kind is not None and record.kind != kind:
                continue
            if len(found) == EVENTS_AT_ONCE:
                last, more = found[-1].n, True
                break
            found.append(record)
        head = text_of(
            {
                "run": self._run,
                "missing": self._feed.missing_after(first),
                "last": last,
                "more": more,
            }
        )
        records = ", ".join(f'{{"n": {r.n}, "record": {r.text}}}' for r in found)
        return _whole(f'{head[:-1]}, "records": [{records}]}}', "application/json")

    async def _stream(self, name: str, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        headers = {}
        if name == "log.jsonl":
            headers["Content-Disposition"] = 'attachment; filename="realtime_mer.jsonl"'
        if request.method == "HEAD":
            return web.Response(content_type=JSON_LINES, headers={**HEADERS, **headers})
        if not has_place(self._streams, connection.address):
            return refusal(503, "All places are taken.", **{"Retry-After": "10"})
        stream = Stream(connection, _STREAMS[name])
        lines: AsyncIterator[str | bytes]
        if stream.kind == "live":
            lines = stream.records(self._feed)
        elif stream.kind == "frames":
            lines = stream.frames(self._feed)
        else:
            lines = self._log_lines()
        task = asyncio.create_task(stream.send(request, lines, **headers))
        self._streams[stream] = task
        self._has_changed()
        try:
            return await task
        finally:
            del self._streams[stream]
            self._has_changed()

    async def _log_lines(self) -> AsyncIterator[str | bytes]:
        """The log's file as far as it is written; without one, the records that are kept."""
        blocks = None if self.log is None else self.log.blocks()
        if blocks is not None:
            for block in blocks:
                yield block
            return
        yield self._feed.session + "\n"
        if missing := self._feed.missing_after(0):
            yield text_of(lost_record(missing)) + "\n"
        for record in list(self._feed.after(0)):
            yield record.text + "\n"


@functools.cache
def _text(name: str) -> str:
    # Made once: it takes some milliseconds, in which the analysis may have to wait.
    return json.dumps(_TEXTS[name][0](), indent=1)


def _whole(text: str, kind: str) -> web.Response:
    return web.Response(text=text, content_type=kind, charset="utf-8", headers=HEADERS)
