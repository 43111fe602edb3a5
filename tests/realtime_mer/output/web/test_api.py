"""The API for programs, through real sockets: what is told, and what slow receivers cost."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import re
import socket
import threading
import time

import aiohttp
import jsonschema
import pytest

from realtime_mer.output.log import JsonLinesLog, schema
from realtime_mer.output.web import api, connections, feed, places, viewer
from realtime_mer.results import Gap, GapReason, Mark, VisibilitySpan
from tests.realtime_mer.output.web.viewers import (
    PATIENCE_S,
    SESSION,
    SUMMARY,
    Flat,
    analysis,
    connect,
    event,
    feeding,
    get,
    is_picture,
    is_type,
    looking,
    messages_until,
    port_of,
    serving,
    wait_for,
)

GAP = Gap(0, 0.1, 0.9, GapReason.FACE_LOST)
STREAMS = ("api/v1/live", "api/v1/frames")


def answer_of(view, name):
    status, _, body = get(view.url + name)
    assert status == 200, body
    return json.loads(body)


def lines_of(body):
    return [json.loads(line) for line in body.splitlines()]


@contextlib.asynccontextmanager
async def receiving(view, name):
    """The lines of a stream, each as an object, once the server has accepted the receiver."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(view.url + name) as answer,
        asyncio.timeout(PATIENCE_S),
    ):
        assert answer.status == 200
        assert answer.content_type == "application/x-ndjson"

        async def lines():
            async for line in answer.content:
                yield json.loads(line)

        yield lines()


def test_every_page_for_programs_has_the_strict_headers():
    with serving() as view:
        view.update(analysis())
        for name in sorted(api.PAGES - {"api/v1/live", "api/v1/frames"}):
            status, headers, _ = get(view.url + name)
            assert status == 200, name
            for header, value in connections.HEADERS.items():
                assert headers[header] == value, name
            assert get(view.url + name, Origin="http://evil.example")[0] == 403


def test_descriptions_are_served_as_they_are():
    with serving() as view:
        assert answer_of(view, "api/v1/schema.json") == schema()
        assert answer_of(view, "api/v1/openapi.json")["openapi"] == "3.1.0"
        assert answer_of(view, "api/v1/asyncapi.json")["asyncapi"] == "3.0.0"


def test_events_are_told_from_the_number_that_is_known():
    with serving() as view:
        view.update(analysis(1, [event(1.0)], [GAP]))
        view.update(analysis(2, [event(2.0)]))
        wait_for(lambda: answer_of(view, "api/v1/events")["last"] == 3)
        everything = answer_of(view, "api/v1/events")
        assert [r["record"]["type"] for r in everything["records"]] == [
            *("gap", "micro_expression", "micro_expression")
        ]
        assert [r["n"] for r in everything["records"]] == [1, 2, 3]
        assert (everything["more"], everything["missing"]) == (False, 0)
        (newest,) = answer_of(view, "api/v1/events?after=2")["records"]
        assert newest["record"]["onset_s"] == 2.0
        found = answer_of(view, "api/v1/events?type=micro_expression")["records"]
        assert [r["n"] for r in found] == [2, 3]
        assert answer_of(view, "api/v1/events?after=3")["records"] == []
        for bad in ("-1", "x", "1" * 99, "1e3", ""):
            assert get(f"{view.url}api/v1/events?after={bad}")[0] == 400


def test_many_events_come_in_several_answers_none_twice(monkeypatch):
    monkeypatch.setattr(api, "EVENTS_AT_ONCE", 2)
    monkeypatch.setattr(feed, "RECORDS_KEPT", 5)
    with serving() as view:
        for k in range(7):
            view.update(analysis(k, [event(k)]))
        wait_for(lambda: answer_of(view, "api/v1/events?after=6")["last"] == 7)
        onsets, after, missing, more = [], 0, 0, True
        while more:
            answer = answer_of(view, f"api/v1/events?after={after}")
            onsets += [r["record"]["onset_s"] for r in answer["records"]]
            missing += answer["missing"]
            after, more = answer["last"], answer["more"]
        assert onsets == [2, 3, 4, 5, 6]
        assert missing == 2


def test_a_live_stream_is_a_log_from_now_on_with_its_summary():
    span = VisibilitySpan(0, 0.0, 1.0, (1.0, 1.0, 2.0), (1.0, 1.0, 0.0), 1.0)
    mark = Mark(0.5, "page", "now")

    async def look(view):
        async with receiving(view, "api/v1/live") as lines:
            got = [await anext(lines)]
            view.update(analysis(2, [event()], [GAP], marks=(mark,), visibility=(span,)))
            got += [await anext(lines) for _ in range(4)]
            await asyncio.to_thread(view.end, SUMMARY)
            return got + [line async for line in lines]

    with serving() as view:
        view.update(analysis(1, [event(0.5)]))
        wait_for(lambda: view._server._feed.count == 1)
        got = asyncio.run(look(view))
    assert got[0] == SESSION.to_dict() | {"started_at": got[0]["started_at"]}
    assert got[1:] == [
        *(GAP.to_dict(), span.to_dict(), event().to_dict(), mark.to_dict(), SUMMARY.to_dict())
    ]
    for record in got:
        jsonschema.validate(record, schema())


def test_a_live_stream_says_how_many_records_it_lost(monkeypatch):
    monkeypatch.setattr(feed, "RECORDS_KEPT", 2)

    async def look(view):
        async with receiving(view, "api/v1/live") as lines:
            await anext(lines)
            # All at once, before the receiver can take one.
            add = view._server._add
            at_once = [event(k) for k in range(5)]
            view._server._loop.call_soon_threadsafe(lambda: [add(each) for each in at_once])
            return [await anext(lines) for _ in range(3)]

    with serving() as view:
        lost, *rest = asyncio.run(look(view))
    assert lost == {"type": "lost", "records": 3}
    jsonschema.validate(lost, schema())
    assert [record["onset_s"] for record in rest] == [3, 4]


def test_frames_come_one_a_line_in_order():
    async def look(view):
        async with receiving(view, "api/v1/frames") as lines:
            with feeding(view):
                return [await anext(lines) for _ in range(5)]

    with serving() as view:
        got = asyncio.run(look(view))
        # Nobody listens any more: no frame crosses to the server's thread.
        wait_for(lambda: not view._server._wants_frames)
    numbers = [line["frame"] for line in got]
    assert numbers == sorted(set(numbers))
    assert got[0]["dropped"] == 0
    missed = [b - a - 1 for a, b in itertools.pairwise(numbers)]
    assert [line["dropped"] for line in got[1:]] == missed
    assert got[0]["captured_monotonic_s"] == 0.0
    assert got[0]["faces"][0]["face"] == 0


def large(k):
    """An analysis whose line does not fit into the network's buffers many times."""
    one = analysis(k)
    faces = tuple(dataclasses.replace(f, nuisances=("x" * 200_000,)) for f in one.faces)
    return dataclasses.replace(one, faces=faces)


@pytest.mark.parametrize("name", STREAMS)
def test_a_receiver_that_reads_nothing_is_cut_off_and_delays_nobody(name, monkeypatch):
    monkeypatch.setattr(viewer, "STUCK_S", 0.6)

    async def look(view):
        async with looking(view) as live:
            with feeding(view):
                await messages_until(live, is_picture)

    with serving(Flat()) as view, connect(view) as deaf:
        deaf.sendall(f"GET /{name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_for(lambda: view._server._api._streams)
        found = event(1.0, label="l" * 100_000)
        end = time.monotonic() + PATIENCE_S
        k = 0
        while view._server._api._streams:
            assert time.monotonic() < end, "it was never cut off"
            view.update(large(k) if "frames" in name else analysis(k, [found]))
            k += 1
            time.sleep(0.01)
        asyncio.run(look(view))


def test_a_receiver_of_frames_that_is_slow_gets_the_newest_and_learns_what_it_missed():
    place = "127.0.0.1"
    with serving() as view, socket.create_connection((place, port_of(view))) as slow:
        slow.settimeout(PATIENCE_S)
        # Without chunks, the answer ends with the connection.
        slow.sendall(b"GET /api/v1/frames HTTP/1.0\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: view._server._wants_frames)
        # 16 MB, more than the system's buffers hold.
        for k in range(80):
            view.update(large(k))
            time.sleep(0.002)
        ending = threading.Thread(target=view.end, args=(SUMMARY,))
        ending.start()
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := slow.recv(1 << 20):
                data += piece
        ending.join()
    numbers = [int(n) for n in re.findall(rb'"frame": (\d+)', data)]
    dropped = [int(n) for n in re.findall(rb'"dropped": (\d+)\}', data)]
    missed = [b - a - 1 for a, b in itertools.pairwise(numbers)]
    assert max(dropped) > 10
    assert dropped[: len(missed) + 1] == [0, *missed][: len(dropped)]
    assert max(numbers) > 70


def test_receivers_have_places_apart_from_viewers(monkeypatch):
    monkeypatch.setattr(places, "MAX_VIEWERS_OF_ADDRESS", 1)

    async def look(view):
        async with receiving(view, "api/v1/live") as lines:
            await anext(lines)
            status, headers, _ = await asyncio.to_thread(get, view.url + "api/v1/frames")
            assert status == 503
            assert headers["Retry-After"]
            async with looking(view) as live:
                await messages_until(live, is_type("hello"))
        await asyncio.to_thread(wait_for, lambda: not view._server._api._streams)
        async with receiving(view, "api/v1/live") as lines:
            await anext(lines)

    with serving() as view:
        asyncio.run(look(view))


def test_a_receiver_that_leaves_frees_its_place():
    with serving() as view:
        with connect(view) as raw:
            raw.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_for(lambda: view._server._api._streams)
        wait_for(lambda: not view._server._api._streams)
        with connect(view) as raw:
            raw.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_for(lambda: view._server._api._streams)
            raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_for(lambda: not view._server._api._streams)


def test_head_of_a_stream_ends_at_once():
    with serving() as view, connect(view) as raw:
        raw.sendall(b"HEAD /api/v1/live HTTP/1.0\r\nHost: localhost\r\n\r\n")
        head = b""
        while piece := raw.recv(4096):
            head += piece
    assert head.startswith(b"HTTP/1.0 200")


def test_the_log_can_be_downloaded_as_far_as_it_is_written(tmp_path):
    path = tmp_path / "a.jsonl"
    log = JsonLinesLog(path)
    log.begin(SESSION)
    log.end(SUMMARY)
    log = JsonLinesLog(path, macros=True)
    session = SESSION
    log.begin(session)
    written = path.read_bytes().splitlines()
    # What the log wrote: a session without an origin has another time each time.
    started = json.loads(written[-1])
    with serving(log=path, session=Fixed(started)) as view:
        found = analysis(1, [event()], [GAP])
        log.update(found)
        with path.open("ab") as file:
            file.write(b'{"type": "ga')
        _, headers, body = get(view.url + "log.jsonl")
    log.end(SUMMARY)
    assert headers["Content-Disposition"].startswith("attachment;")
    assert lines_of(body) == [started, GAP.to_dict(), event().to_dict()]


class Fixed:
    """A session that says the same each time."""

    def __init__(self, record):
        self._record = record
        self.each = (SESSION,)

    def __getattr__(self, name):
        return getattr(SESSION, name)

    def to_dict(self):
        return self._record


def test_without_a_log_the_records_in_memory_can_be_downloaded(monkeypatch):
    monkeypatch.setattr(feed, "RECORDS_KEPT", 2)
    with serving() as view:
        for k in range(3):
            view.update(analysis(k, [event(k)]))
        wait_for(lambda: view._server._feed.count == 3)
        lines = lines_of(get(view.url + "log.jsonl")[2])
    assert [line["type"] for line in lines] == [
        *("session", "lost", "micro_expression", "micro_expression")
    ]
    assert lines[1]["records"] == 1
    for line in lines:
        jsonschema.validate(line, schema())


def test_beyond_loopback_programs_need_the_token(elsewhere):
    with serving() as view:
        root = view.url.rsplit("/", 2)[0]
        for name in api.PAGES:
            status, _, body = get(f"{root}/{name}")
            assert status == 403
            assert view.url.split("/")[3].encode() not in body
        assert get(view.url + "api/v1/events")[0] == 200
