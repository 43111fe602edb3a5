"""What strangers may send to the port: it is refused cleanly, and keeps no viewer out."""

import asyncio
import base64
import contextlib
import re
import time

import aiohttp
import pytest

from realtime_mer.output.overlay import Overlay
from realtime_mer.output.web import WebView, connections, places
from tests.realtime_mer.output.web.viewers import (
    KEY,
    SESSION,
    SUMMARY,
    Flat,
    connect,
    feeding,
    get,
    is_picture,
    is_type,
    looking,
    messages_until,
    raw_viewer,
    serving,
    upgrade,
    wait_for,
)

HEADERS = {name.lower(): value for name, value in connections.HEADERS.items()}


def said(raw):
    """All that the server sends until it closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := raw.recv(65536):
            data += piece
    return data


def asked(view, request):
    """(status, headers in lower case) of the answer to a raw request; (0, {}) if there is none."""
    with connect(view) as raw:
        raw.sendall(request)
        head = said(raw).split(b"\r\n\r\n")[0].decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]) if first else 0, headers


def page(*lines, method=b"GET", target=b"/", host=b"localhost"):
    first = method + b" " + target + b" HTTP/1.1"
    return b"\r\n".join([first, b"Host: " + host, *lines, b"", b""])


MALFORMED = {
    "no HTTP": (b"\x16\x03\x01 secret\r\n\r\n", 400),
    "a long path": (page(target=b"/" + b"a" * 10_000), 400),
    "a long field": (page(b"X: " + b"a" * 10_000), 400),
    "many fields": (page(*[b"X: a"] * 1000), 400),
    "a NUL": (page(b"X: \0"), 400),
    "a folded field": (page(b"X: a", b" b"), 400),
    "another method": (page(method=b"DELETE"), 405),
    "an odd method": (page(method=b"BREW"), 400),
    "a tunnel": (page(method=b"CONNECT", target=b"localhost:22"), 405),
    "options of all": (page(method=b"OPTIONS", target=b"*"), 405),
    "another server": (page(target=b"http://localhost/"), 400),
    "an unknown page": (page(target=b"/nothing"), 404),
    "the folder above": (page(target=b"/%2e%2e/server.py"), 404),
    "bytes that are no text": (page(target=b"/%ff%00"), 404),
    "two hosts": (page(b"Host: evil.example"), 400),
    "a strange host": (page(host=b"\xff@[:"), 403),
    "a host that was bound again": (page(host=b"evil.example"), 403),
    "a body": (page(b"Content-Length: 5") + b"hello", 413),
    "two lengths": (page(b"Content-Length: 5", b"Content-Length: 6") + b"hello", 400),
    "a negative length": (page(b"Content-Length: -1"), 400),
    "a length and chunks": (
        page(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        400,
    ),
    "chunks": (page(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n", 413),
    "no upgrade": (page(target=b"/live"), 400),
    "no key": (upgrade(None), 400),
    "a short key": (upgrade(base64.b64encode(bytes(15))), 400),
    "a long key": (upgrade(base64.b64encode(bytes(17))), 400),
    "a key above 127": (upgrade(b"\xff" * 22 + b"=="), 400),
    "a key in UTF-8": (upgrade("ä".encode() * 11 + b"=="), 400),
    "an empty key": (upgrade(b""), 400),
    "an old version": (upgrade().replace(b"Version: 13", b"Version: 7"), 400),
    "another protocol": (upgrade(KEY, b"Sec-WebSocket-Protocol: \x1b[2J"), 400),
    "another site's script": (upgrade(KEY, b"Origin: http://evil.example"), 403),
}


def test_every_refusal_has_the_strict_headers_and_prints_nothing(capfd, caplog):
    with serving() as view:
        for what, (request, status) in MALFORMED.items():
            got, headers = asked(view, request)
            assert got == status, what
            assert {name: headers.get(name) for name in HEADERS} == {
                name: value.lower() for name, value in HEADERS.items()
            }, what
        assert get(view.url)[0] == 200
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


def test_an_error_of_ours_has_the_strict_headers_and_tells_nothing(monkeypatch, capfd):
    def fail(*_):
        raise RuntimeError("token")

    with serving() as view:
        monkeypatch.setattr(view._guard, "refusal", fail)
        status, headers, body = get(view.url)
        assert status == 500
        assert headers["Content-Security-Policy"] == connections.HEADERS["Content-Security-Policy"]
        assert b"token" not in body
    assert capfd.readouterr() == ("", "")


def frame(opcode, payload, masked=True, fin=True):
    head = bytes([opcode | (0x80 if fin else 0)])
    size, mask = len(payload), 0x80 if masked else 0
    head += bytes([mask | size]) if size < 126 else bytes([mask | 126]) + size.to_bytes(2, "big")
    return head + (bytes(4) if masked else b"") + payload


@pytest.mark.parametrize(
    "sent",
    [
        frame(1, b"shown", masked=False),
        frame(1, b"x" * 10_000),
        frame(3, b""),
        frame(11, b""),
        frame(0, b"rest of nothing"),
        frame(1, b"a", fin=False) + frame(1, b"b"),
        frame(1, b"x" * 200, fin=False) + frame(0, b"x" * 200),
        frame(9, b"x" * 126),
        frame(1, b"\xff\xfe"),
        frame(8, b"\x00"),
        b"\xff" * 100,
        b"\x81\xff" + b"\xff" * 12,
    ],
    ids=lambda sent: sent[:4].hex(),
)
def test_bad_frames_end_their_connection_alone(sent, capfd, caplog):
    async def look(view):
        async with looking(view) as other:
            with raw_viewer(view) as raw:
                raw.sendall(sent)
                await asyncio.to_thread(said, raw)
            with feeding(view):
                await messages_until(other, is_picture)

    with serving(Flat()) as view:
        asyncio.run(look(view))
        wait_for(lambda: not view._server._viewers)
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


def test_token_is_in_no_log_whatever_is_sent(elsewhere, caplog, capfd, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_S", 0.2)
    view = WebView("0", Overlay(), note=lambda text: None)
    view.begin(SESSION)
    token = view.url.split("/")[3].encode()
    try:
        for request, status in MALFORMED.values():
            target = b"/" + token + (b"/live" if b"Upgrade" in request else b"/")
            with_token = re.sub(rb" /[^ ]* ", b" " + target + b" ", request, count=1)
            assert asked(view, with_token)[0] in (status, 200)
    finally:
        view.end(SUMMARY)
    assert token.decode() not in caplog.text + "".join(capfd.readouterr())


def idle(view, raw):
    """Sends nothing."""


def half_a_request(view, raw):
    raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")


def answers_not_read(view, raw):
    raw.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        raw.send(page(target=b"/script.js") * 32)


def viewer_that_is_deaf(view, raw):
    raw.sendall(upgrade())


async def open_tab(view):
    """Loads the page as a browser does, and waits for a picture."""
    async with aiohttp.ClientSession() as http:
        for name in ("", "style.css", "script.js", "icon.svg"):
            async with http.get(view.url + name) as answer:
                assert answer.status == 200
                await answer.read()
        async with http.ws_connect(view.url + "live", max_msg_size=0) as live:
            await messages_until(live, is_picture)


def make_old(view):
    """Lets what all have done so far be a minute ago, however long this test has taken."""
    for connection in view._server._connections.open:
        connection.asked_at -= 60
    for viewer in view._server._viewers:
        viewer.joined_at -= 60


@pytest.mark.parametrize(
    "occupy",
    [idle, half_a_request, answers_not_read, viewer_that_is_deaf],
    ids=lambda f: f.__name__,
)
def test_eighty_connections_of_one_who_does_not_watch_keep_nobody_out(occupy, monkeypatch):
    # None is closed for idling, and on a busy machine, too, what has just come is new.
    monkeypatch.setattr(connections, "REQUEST_S", 1000)
    monkeypatch.setattr(connections, "FRESH_S", 30)

    async def open_tabs(view):
        await asyncio.gather(*[open_tab(view) for _ in range(4)])

    with serving(Flat()) as view, contextlib.ExitStack() as stack:
        for _ in range(80):
            raw = stack.enter_context(contextlib.closing(connect(view)))
            with contextlib.suppress(ConnectionError):
                occupy(view, raw)
            # When more wait to be accepted than can, the system lets them wait for a second.
            time.sleep(0.005)
        # Connections are accepted in turn: by its answer, all are there.
        assert get(view.url)[0] in (200, 503)
        view._server._loop.call_soon_threadsafe(make_old, view)
        with feeding(view):
            # Until they are suspicious: then there are places.
            wait_for(lambda: get(view.url)[0] == 200)
            asyncio.run(open_tabs(view))


def test_twenty_four_tabs_of_one_browser_are_served():
    async def open_tabs(view):
        async with contextlib.AsyncExitStack() as stack:
            tabs = [await stack.enter_async_context(looking(view)) for _ in range(24)]
            assert get(view.url + "script.js")[0] == 200
            with feeding(view):
                for tab in tabs:
                    await messages_until(tab, is_picture)

    with serving(Flat()) as view:
        asyncio.run(open_tabs(view))


def test_whoever_sends_no_request_is_disconnected(monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_S", 0.3)
    with serving() as view, connect(view) as silent, connect(view) as slow, connect(view) as done:
        done.sendall(page())
        slow.settimeout(0.05)
        with contextlib.suppress(ConnectionError):
            is_open = True
            while is_open:
                slow.sendall(b"G")
                with contextlib.suppress(TimeoutError):
                    is_open = slow.recv(1) != b""
        assert said(silent) == b""
        assert said(done).startswith(b"HTTP/1.1 200")


def test_connections_are_bounded_and_the_newest_is_served(monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    with serving() as view, contextlib.ExitStack() as stack:
        raws = [stack.enter_context(connect(view)) for _ in range(4)]
        raws[-1].sendall(page())
        assert raws[-1].recv(12) == b"HTTP/1.1 200"
        assert said(raws[0]) == b""
        assert len(get(view.url)[2]) > 0


def test_viewers_keep_their_places_whoever_knocks(monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS_OF_ADDRESS", 4)

    async def look(view):
        async with looking(view) as one, looking(view) as other:
            for _ in range(20):
                with connect(view) as raw:
                    raw.sendall(b"GET")
            with feeding(view):
                for live in (one, other):
                    await messages_until(live, is_picture)

    with serving(Flat()) as view:
        asyncio.run(look(view))


def test_an_address_leaves_places_to_others(monkeypatch):
    monkeypatch.setattr(places, "MAX_VIEWERS_OF_ADDRESS", 1)

    async def look(view):
        async with looking(view) as first:
            await messages_until(first, is_type("hello"))
            assert (await asyncio.to_thread(get, view.url))[0] == 503
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
            ) as http:
                async with http.get(view.url) as answer:
                    assert answer.status == 200
                async with http.ws_connect(view.url + "live") as second:
                    await messages_until(second, is_type("hello"))

    with serving() as view:
        asyncio.run(look(view))
