"""HTTP and WebSockets, through real sockets: who is let in, and what viewers cost."""

import asyncio
import contextlib
import dataclasses
import re
from pathlib import Path

import aiohttp
import cv2
import numpy as np
import pytest

from realtime_mer.output.overlay import Overlay
from realtime_mer.output.web import WebView, places, viewer
from tests.realtime_mer.output.web.viewers import (
    PATIENCE_S,
    SESSION,
    SUMMARY,
    Flat,
    Noise,
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
    raw_viewer,
    serving,
    wait_for,
)

FOLDER = Path(viewer.__file__).parent
KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


def test_page_and_its_files_have_strict_headers():
    with serving() as view:
        for name, kind in [
            ("", "text/html"),
            ("overlay", "text/html"),
            *((file.name, KINDS[file.suffix]) for file in FOLDER.iterdir() if file.suffix in KINDS),
        ]:
            if name.endswith(".html"):
                # Pages have an address of their own.
                assert get(view.url + name)[0] == 404
                continue
            status, headers, body = get(view.url + name)
            assert status == 200
            assert headers["Content-Type"].startswith(kind)
            assert headers["Content-Security-Policy"].startswith("default-src 'self'")
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert headers["Cache-Control"] == "no-store"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["X-Content-Type-Options"] == "nosniff"
            # Nothing from elsewhere, and nothing that the policy would block.
            assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)|style=|onclick=", body)
        assert get(view.url + "nothing")[0] == 404
        assert get(view.url + "../server.py")[0] == 404
        assert get(view.url + "nothing")[1]["Cache-Control"] == "no-store"


def test_other_names_of_this_computer_are_refused_on_loopback():
    with serving() as view:
        port = port_of(view)
        # The port of an ssh tunnel may be another.
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "LOCALHOST:9"):
            assert get(view.url, Host=host)[0] == 200
        for host in (f"evil.example:{port}", "localhost.evil.example", "", "127.0.0.1@evil"):
            status, headers, body = get(view.url, Host=host)
            assert status == 403
            assert b"localhost" in body
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_other_sites_cannot_open_the_socket():
    async def status(view, origin):
        try:
            async with looking(view, origin=origin):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status

    with serving() as view:
        assert asyncio.run(status(view, view.url[:-1])) == 101
        assert asyncio.run(status(view, None)) == 101
        for origin in ("http://evil.example", "null", "http://localhost:1"):
            assert asyncio.run(status(view, origin)) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_can_link_to_the_page_but_load_nothing_of_it(site):
    # As a browser asks for an image, a script or a frame: without an origin.
    embedded = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    frame = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    link = frame | {"Sec-Fetch-Dest": "document"}
    with serving() as view:
        for name in ("", "script.js", "api/v1/live", "api/v1/events", "log.jsonl"):
            assert get(view.url + name, **embedded)[0] == 403
            assert get(view.url + name, **frame)[0] == 403
        assert get(view.url, **link)[0] == 200
        assert get(view.url + "script.js", **{"Sec-Fetch-Site": "same-origin"})[0] == 200


def test_a_source_that_has_ended_does_not_make_the_others_old():
    async def look(view):
        async with looking(view, "?pictures=0") as live:
            return (await messages_until(live, is_type("status")))[-1]

    several = dataclasses.replace(
        SESSION, sources=tuple(dataclasses.replace(SESSION, source=name) for name in "ab")
    )
    with serving(Flat(), session=several) as view:
        view.update(analysis(1, source="a"))
        wait_for(lambda: view._server._newest)
        first, came_at = view._server._newest[0]
        view._server._newest[0] = (first, came_at - 60)
        view.update(analysis(2, source="b", camera=1))
        assert asyncio.run(look(view))["age_s"] < PATIENCE_S


def test_beyond_loopback_every_path_needs_the_token(elsewhere, caplog, capfd):
    notes = []
    view = WebView("0", Overlay(), note=notes.append)
    view.begin(SESSION)
    try:
        root, token = re.fullmatch(r"(http://.*:\d+/)([\w-]{32})/", view.url).groups()
        assert get(view.url)[0] == 200
        assert get(f"{root}{token}")[0] == 200  # without the last slash
        assert get(f"{view.url}style.css", Host="any.name")[0] == 200
        assert get(f"{view.url}nothing")[0] == 404
        # Another first character: a token may begin with any.
        wrong = ("y" if token[0] == "x" else "x") + token[1:]
        for path in ("", "style.css", "live", "nothing", f"{wrong}/", f"/{token}/"):
            status, _, body = get(root + path)
            assert status == 403
            assert token.encode() not in body
        assert len([n for n in notes if token in n]) == 1
        assert "not encrypted" in notes[0] or "nothing is encrypted" in notes[0]
    finally:
        view.end(SUMMARY)
    assert token not in caplog.text
    assert token not in "".join(capfd.readouterr())


def test_no_more_pictures_are_sent_than_are_shown():
    overlay = Flat()

    async def look(view):
        async with looking(view) as live:
            pictures, statuses = 0, 0
            with feeding(view):
                # It answers to none: as a hidden page does.
                while statuses < 3:
                    message = await live.receive(timeout=PATIENCE_S)
                    pictures += message.type is aiohttp.WSMsgType.BINARY
                    statuses += message.type is aiohttp.WSMsgType.TEXT and "fps" in message.data
                taken = overlay.taken
                await live.send_str("shown")
                await messages_until(live, is_picture)
            return pictures, taken

    with serving(overlay) as view:
        pictures, taken = asyncio.run(look(view))
    assert pictures == 2
    # One more waits, so that it is at hand.
    assert taken <= 3


def test_two_viewers_share_the_pictures():
    overlay = Flat()

    async def look(view):
        async with looking(view) as one, looking(view) as other:
            with feeding(view):
                for live in (one, other):
                    for _ in range(3):
                        await messages_until(live, is_picture)

    with serving(overlay) as view:
        asyncio.run(look(view))
        wait_for(lambda: not view._server._viewers)


def test_slow_viewer_delays_nobody_misses_pictures_and_is_dropped(monkeypatch):
    monkeypatch.setattr(viewer, "STUCK_S", 0.6)

    async def look(view):
        async with asyncio.timeout(PATIENCE_S), looking(view) as live:
            pictures = 0
            with feeding(view):
                while len(view._server._viewers) > 1 or pictures < 10:
                    await messages_until(live, is_picture)
                    pictures += 1
        return pictures

    with serving(Noise()) as view:
        slow = raw_viewer(view)
        wait_for(lambda: view._server._viewers)
        (watching,) = view._server._viewers
        assert asyncio.run(look(view)) >= 10
        # The fast one went on; of the slow one's, no more than one was waiting.
        assert watching._unconfirmed <= 2
        slow.close()
        wait_for(lambda: not view._server._viewers)


def test_newest_picture_replaces_the_waiting_one():
    overlay = Flat()

    def level(picture):
        return int(cv2.imdecode(np.frombuffer(picture, np.uint8), 1)[0, 0, 0])

    async def look(view):
        async with asyncio.timeout(PATIENCE_S), looking(view) as slow, looking(view) as fast:
            await slow.receive()
            shown = 0
            k = 0
            while shown < 20:
                # Flat pictures whose level is their number survive JPEG nearly unchanged.
                view.update(analysis(10 * k))
                k += 1
                with contextlib.suppress(TimeoutError):
                    message = await fast.receive(timeout=0.05)
                    if message.type is aiohttp.WSMsgType.BINARY:
                        await fast.send_str("shown")
                        shown += 1
                        newest = level(message.data)
            got = []
            while len(got) < 3:
                message = await slow.receive(timeout=PATIENCE_S)
                if message.type is aiohttp.WSMsgType.BINARY:
                    got.append(level(message.data))
                    await slow.send_str("shown")
        return newest, got

    with serving(overlay) as view:
        newest, got = asyncio.run(look(view))
    assert abs(got[2] - newest) <= 3


def test_viewers_over_the_limit_get_a_page_that_says_so(monkeypatch):
    monkeypatch.setattr(places, "MAX_VIEWERS", 1)

    async def look(view):
        async with looking(view) as first:
            await first.receive()
            status, headers, body = await asyncio.to_thread(get, view.url)
            async with looking(view) as second:
                assert (await second.receive()).type is aiohttp.WSMsgType.CLOSE
                assert second.close_code == aiohttp.WSCloseCode.TRY_AGAIN_LATER
        return status, headers, body

    with serving() as view:
        status, headers, body = asyncio.run(look(view))
        assert status == 503
        assert headers["Retry-After"]
        assert b"All places are taken" in body
        wait_for(lambda: get(view.url)[0] == 200)


def test_large_messages_end_the_connection():
    async def look(view):
        async with looking(view) as live:
            await live.receive()
            await live.send_str("x" * 10_000)
            async for _ in live:
                pass
            return live.close_code

    with serving() as view:
        assert asyncio.run(look(view)) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


def test_end_closes_stuck_and_idle_connections():
    view = WebView("0", Noise())
    view.begin(SESSION)
    port = port_of(view)
    slow, idle = raw_viewer(view), connect(view)
    thread = view._server._thread
    with feeding(view):
        wait_for(lambda: [v._unconfirmed for v in view._server._viewers] == [2])
    view.end(SUMMARY)
    assert not thread.is_alive()
    for raw in (slow, idle):
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(4096):
                pass
        raw.close()
    WebView(str(port), Overlay()).close()
    view.end(SUMMARY)  # once more does no harm
    view.update(analysis(1, [event()]))
