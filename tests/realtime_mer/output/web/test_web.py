"""The browser view, through real sockets and a real browser."""

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import aiohttp
import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.output.overlay import Overlay
from realtime_mer.output.overlay.layout import Layout
from realtime_mer.output.web import WebView, server
from realtime_mer.output.web.address import Address, Guard
from realtime_mer.results import (
    Analysis,
    FaceState,
    Gap,
    GapReason,
    Interval,
    MicroExpression,
    Session,
    Summary,
)
from realtime_mer.source.frame import Frame

SESSION = Session("<b>clip</b>.avi", True, (320, 240), 30, 0, "m", "CPU", ("negative", "surprise"))
SUMMARY = Summary("stopped by user", 9, 9, 0, 9, 1.0, 1.0, 1, {"peak_memory_mb": 1.0})
PATIENCE_S = 20


class Elsewhere(Guard):
    """What a guard does where others can reach it, without opening anything to them."""

    def __init__(self, address, bound):
        super().__init__(address, ("0.0.0.0", bound[1]))
        self._host, self._any = "127.0.0.1", False


class Flat:
    """An overlay whose pictures can be told apart, and that counts what is asked of it."""

    def __init__(self):
        self.taken = 0
        self._canvas = np.zeros((240, 320, 3), np.uint8)

    def begin(self, session):
        pass

    def update(self, analysis):
        self._level = analysis.frame.index % 256

    def picture(self):
        self.taken += 1
        self._canvas[:] = self._level
        return self._canvas


class Noise(Flat):
    """An overlay whose pictures, of 1 MB as JPEG, fill the network's buffers."""

    noise = np.random.default_rng(0).integers(0, 255, (900, 1600, 3), np.uint8)

    def picture(self):
        self.taken += 1
        return self.noise


def event(at_s=1.0, label="surprise"):
    sure = {"negative": 0.25, "surprise": 0.25} | {label: 0.75}
    return MicroExpression(0, Interval(at_s, at_s + 0.1, at_s + 0.3), sure, 1.7, at_s + 0.5)


def analysis(k=0, events=(), gaps=(), level=90, **values):
    image = np.full((240, 320, 3), level, np.uint8)
    face = FaceState(0, np.full((478, 2), 100, np.float32), float("nan"), quality=0.5)
    frame = Frame(k, k / 30, image, 0.0)
    return Analysis(frame, (face,), tuple(events), tuple(gaps), 0.0123, 29.5, **values)


@contextlib.contextmanager
def serving(overlay=None, address="0"):
    view = WebView(address, overlay or Overlay())
    try:
        view.begin(SESSION)
        yield view
    finally:
        view.end(SUMMARY)


@pytest.fixture
def elsewhere(monkeypatch):
    monkeypatch.setattr("realtime_mer.output.web.view.Guard", Elsewhere)


@contextlib.contextmanager
def feeding(view):
    """Analyses that go on in a thread, as in a session."""
    stop = threading.Event()

    def feed():
        k = 0
        while not stop.wait(0.01):
            view.update(analysis(k))
            k += 1

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def get(url, **headers):
    """(status, headers, body) of a page."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=10
        ) as page:
            return page.status, page.headers, page.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def wait_for(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@contextlib.asynccontextmanager
async def looking(view, **options):
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(view.url + "live", max_msg_size=0, **options) as live,
    ):
        yield live


async def messages_until(live, wanted):
    """All messages up to the first for which `wanted` holds; pictures are answered."""
    got = []
    async with asyncio.timeout(PATIENCE_S):
        async for message in live:
            if message.type is aiohttp.WSMsgType.BINARY:
                await live.send_str("shown")
                got.append(message.data)
            else:
                got.append(json.loads(message.data))
            if wanted(got[-1]):
                return got
    raise AssertionError(f"closed after {got}")


def is_type(name):
    return lambda message: isinstance(message, dict) and message["type"] == name


def is_picture(message):
    return isinstance(message, bytes)


def raw_viewer(view):
    """A viewer that reads nothing after the handshake."""
    host, port = re.match(r"http://([^:/]+):(\d+)/", view.url).groups()
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect((host, int(port)))
    raw.sendall(
        f"GET /live HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\n\r\n".encode()
    )
    assert raw.recv(12) == b"HTTP/1.1 101"
    return raw


# Addresses


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8000", "127.0.0.1", 8000),
        ("0", "127.0.0.1", 0),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("localhost:8000", "localhost", 8000),
        ("[::1]:8000", "::1", 8000),
    ],
)
def test_address_is_a_port_with_or_without_a_host(text, host, port):
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("99999", "1 to 65535"),
        ("foo:bar", "1 to 65535"),
        ("", "1 to 65535"),
        ("localhost:", "1 to 65535"),
        (":8000", "HOST:PORT"),
        ("::1:8000", "[IPV6]"),
        ("http://localhost:8000", "HOST:PORT"),
        ("a\nb:8000", "HOST:PORT"),
        ("no-such-host.invalid:0", "not known"),
        ("x" * 80 + ":0", "not known"),
        # Set aside for documentation: nobody's.
        ("203.0.113.7:0", "no address of this computer"),
    ],
)
def test_address_that_cannot_be_served_is_told_before_anything_begins(text, told):
    with pytest.raises(InputError, match=re.escape(told)):
        WebView(text, Overlay())


def test_port_in_use_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} is in use"):
            WebView(str(port), Overlay())


def test_port_is_taken_by_the_constructor_and_freed_by_close():
    view = WebView("0", Overlay())
    port = re.search(r":(\d+)/", view.url)[1]
    with pytest.raises(InputError, match="in use"):
        WebView(port, Overlay())
    view.close()
    WebView(port, Overlay()).close()


# Who may look


def test_page_and_its_files_are_there_with_strict_headers():
    with serving() as view:
        for name, kind in [
            ("", "text/html"),
            ("style.css", "text/css"),
            ("script.js", "text/javascript"),
            ("icon.svg", "image/svg+xml"),
        ]:
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
        port = re.search(r":(\d+)/", view.url)[1]
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


def test_elsewhere_every_path_needs_the_token(elsewhere, caplog, capfd):
    notes = []
    view = WebView("0", Overlay(), note=notes.append)
    view.begin(SESSION)
    try:
        root, token = re.fullmatch(r"(http://.*:\d+/)([\w-]{32})/", view.url).groups()
        assert get(view.url)[0] == 200
        assert get(f"{root}{token}")[0] == 200  # without the last slash
        assert get(f"{view.url}style.css", Host="any.name")[0] == 200
        assert get(f"{view.url}nothing")[0] == 404
        for path in ("", "style.css", "live", "nothing", "x" + token[1:] + "/", "/" + token + "/"):
            status, _, body = get(root + path)
            assert status == 403
            assert token.encode() not in body
        assert len([n for n in notes if token in n]) == 1
        assert "not encrypted" in notes[0] or "nothing is encrypted" in notes[0]
    finally:
        view.end(SUMMARY)
    assert token not in caplog.text
    assert token not in "".join(capfd.readouterr())


def test_every_run_has_another_token(elsewhere):
    first, second = WebView("0", Overlay()), WebView("0", Overlay())
    assert first.url.split("/")[3] != second.url.split("/")[3]
    first.close()
    second.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.0.0.2"])
def test_loopback_needs_no_token(host):
    assert Guard(Address(host, 1), (host, 1)).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "fe80::1%eth0"])
def test_everything_else_does(host):
    assert len(Guard(Address(host, 1), (host, 1)).token) >= 32


def test_what_is_no_http_is_not_answered_in_the_terminal(capfd):
    with serving() as view:
        port = int(re.search(r":(\d+)/", view.url)[1])
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"\x16\x03\x01 secret\r\n\r\n")
            assert b"400" in raw.recv(100)
    assert capfd.readouterr() == ("", "")


# What viewers are told


def test_viewers_get_session_pictures_events_gaps_status_and_end():
    happened, gap = event(), Gap(0, 0.1, 0.9, GapReason.FACE_LOST)

    async def look(view):
        async with looking(view) as live:
            with feeding(view):
                got = await messages_until(live, is_picture)
                got += await messages_until(live, is_type("status"))
            view.update(analysis(7, [happened], [gap], alerts=("too dark",), sensitivity=0.5))
            ending = asyncio.create_task(asyncio.to_thread(view.end, SUMMARY))
            got += await messages_until(live, is_type("end"))
            assert (await live.receive()).type is aiohttp.WSMsgType.CLOSE
            await ending
        return got

    with serving() as view:
        got = asyncio.run(look(view))
    hello, end = got[0], got[-1]
    assert hello["type"] == "hello"
    assert hello["session"]["source"] == SESSION.source
    assert hello["session"]["labels"] == list(SESSION.labels)
    assert "this computer" in hello["audience"]
    picture = cv2.imdecode(np.frombuffer(next(filter(is_picture, got)), np.uint8), 1)
    assert picture.shape[1::-1] == Layout.of(*SESSION.size).size
    # As in the log, in its order.
    records = [m["record"] for m in got if is_type("record")(m)]
    assert records == [gap.to_dict(), happened.to_dict()]
    status = [m for m in got if is_type("status")(m)][-1]
    assert status["alerts"] == ["too dark"]
    assert status["sensitivity"] == 0.5
    assert status["fps"] == 29.5
    assert status["latency_ms"] == pytest.approx(12.3)
    assert status["faces"] == [{"face": 0, "quality": 0.5, "score": None, "nuisances": []}]
    assert status["events"] == 1
    assert end["summary"]["reason"] == "stopped by user"
    assert end["summary"]["events"] == 1


def test_who_comes_later_gets_the_last_events(monkeypatch):
    async def look(view):
        async with looking(view) as live:
            return await messages_until(live, lambda m: is_type("record")(m) and m["n"] == 250)

    with serving() as view:
        for k in range(250):
            view.update(analysis(k, [event(k)]))
        got = asyncio.run(look(view))
    onsets = [m["record"]["onset_s"] for m in got if is_type("record")(m)]
    assert onsets == list(range(50, 250))


def test_no_picture_is_made_while_no_one_looks():
    overlay = Flat()

    async def look(view):
        async with looking(view) as live:
            with feeding(view):
                await messages_until(live, is_picture)

    with serving(overlay) as view:
        for k in range(50):
            view.update(analysis(k))
        assert overlay.taken == 0
        asyncio.run(look(view))
        wait_for(lambda: not view._server.wants_picture)
        taken = overlay.taken
        assert taken >= 1
        for k in range(50):
            view.update(analysis(k))
        assert overlay.taken == taken


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


def test_slow_viewer_slows_nothing_misses_pictures_and_is_dropped(monkeypatch):
    monkeypatch.setattr(server, "STUCK_S", 0.6)

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
        (viewer,) = view._server._viewers
        assert asyncio.run(look(view)) >= 10
        # The fast one went on; of the slow one's, no more than one was waiting.
        assert viewer._on_the_way <= 2
        slow.close()
        wait_for(lambda: not view._server._viewers)


def test_newest_picture_takes_the_place_of_the_waiting_one():
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


def test_viewers_over_the_limit_are_told_so(monkeypatch):
    monkeypatch.setattr(server, "MOST_VIEWERS", 1)

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


def test_connections_are_bounded(monkeypatch):
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    with serving() as view, contextlib.ExitStack() as stack:
        port = int(re.search(r":(\d+)/", view.url)[1])
        for _ in range(3):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert raw.recv(12) == b"HTTP/1.1 200"
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as one_more:
            assert one_more.recv(1) == b""


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


# The end


def test_end_closes_everything_also_with_stuck_and_idle_connections():
    view = WebView("0", Noise())
    view.begin(SESSION)
    port = int(re.search(r":(\d+)/", view.url)[1])
    slow, idle = raw_viewer(view), socket.create_connection(("127.0.0.1", port))
    thread = view._server._thread
    with feeding(view):
        wait_for(lambda: [v._on_the_way for v in view._server._viewers] == [2])
    view.end(SUMMARY)
    assert not thread.is_alive()
    for raw in (slow, idle):
        raw.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(4096):
                pass
        raw.close()
    WebView(str(port), Overlay()).close()
    view.end(SUMMARY)  # once more does no harm
    view.update(analysis(1, [event()]))


def test_end_without_begin_does_no_harm():
    view = WebView("0", Overlay())
    view.end(SUMMARY)
    view.close()


def test_ctrl_c_ends_with_a_viewer_connected():
    program = textwrap.dedent(
        """
        import time
        import numpy as np
        from realtime_mer.event import Analysis, Session, Summary
        from realtime_mer.frame import Frame
        from realtime_mer.overlay import Overlay
        from realtime_mer.web import WebView

        view = WebView("0", Overlay(), note=lambda text: print(text, flush=True))
        view.begin(Session("x", True, (64, 64), 30, 0, "m", "CPU", ("negative",)))
        k = 0
        try:
            while True:
                image = np.zeros((64, 64, 3), np.uint8)
                view.update(Analysis(Frame(k, k / 30, image, 0.0)))
                k += 1
                time.sleep(0.02)
        except KeyboardInterrupt:
            view.end(Summary("stopped by user", k, k, 0, 0, 0.0, 0.0, 0))
            print("ended", flush=True)
        """
    )
    root = Path(__file__).resolve().parents[4]
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    async def look(url):
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(url + "live", max_msg_size=0) as live,
        ):
            await messages_until(live, is_picture)
            process.send_signal(signal.SIGINT)
            return (await messages_until(live, is_type("end")))[-1]

    try:
        url = re.search(r"http://\S+", process.stdout.readline())[0]
        end = asyncio.run(look(url))
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert end["summary"]["reason"] == "stopped by user"
    assert out == "ended\n"
    assert err == ""
    assert process.returncode == 0


# The page in a browser


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Browser:
    """A page of a headless Chromium, through its DevTools protocol."""

    def __init__(self, socket):
        self._socket = socket
        self._count = 0
        self.complaints = []

    async def __call__(self, method, **values):
        self._count += 1
        await self._socket.send_json({"id": self._count, "method": method, "params": values})
        while True:
            message = await self._socket.receive_json(timeout=PATIENCE_S)
            if message.get("id") == self._count:
                return message["result"]
            if message["method"] in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(message["params"])

    async def evaluate(self, expression):
        answer = await self("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    async def wait_for(self, expression):
        async with asyncio.timeout(3 * PATIENCE_S):
            while not await self.evaluate(expression):
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def browser(profile):
    process = subprocess.Popen(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        told = profile / "DevToolsActivePort"
        async with asyncio.timeout(3 * PATIENCE_S):
            while not told.exists() or len(told.read_text().split()) < 2:
                await asyncio.sleep(0.05)
        port = told.read_text().split()[0]
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port}/json") as answer:
                pages = [p for p in await answer.json() if p["type"] == "page"]
            address = pages[0]["webSocketDebuggerUrl"]
            async with http.ws_connect(address, max_msg_size=0) as live:
                yield Browser(live)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (apt-get install chromium)")
def test_browser_shows_picture_and_events_and_says_when_it_is_over(tmp_path, elsewhere):
    overlay = Flat()

    async def look(view):
        async with browser(tmp_path) as page:
            await page("Log.enable")
            await page("Runtime.enable")
            await page("Page.enable")
            await page("Page.navigate", url=view.url)
            text = "document.getElementById({!r}).textContent"
            with feeding(view):
                # The pictures' levels go up: their pixels change in the page.
                pixel = "document.getElementById('picture').getContext('2d')"
                pixel = f"{pixel}.getImageData(5, 5, 1, 1).data[0]"
                await page.wait_for(f"{pixel} > 0")
                first = await page.evaluate(pixel)
                await page.wait_for(f"{pixel} !== {first}")
                assert await page.evaluate("document.getElementById('picture').width") == 320
                await page.wait_for(f"{text.format('latency')} === '12'")
            view.update(analysis(300, [event(72.4, label="<i>odd</i>")], alerts=("too dark",)))
            await page.wait_for("document.querySelectorAll('#events li').length")
            row = await page.evaluate("document.querySelector('#events li').innerText")
            await page.wait_for("!document.getElementById('alert').hidden")
            alert = await page.evaluate(text.format("alert"))
            spoken = await page.evaluate(text.format("spoken"))
            source = await page.evaluate(text.format("source"))
            audience = await page.evaluate(text.format("audience"))
            # Except about this test, which reads the canvas often.
            complaints = [c for c in page.complaints if "getImageData" not in str(c)]
            await asyncio.to_thread(view.end, SUMMARY)
            await page.wait_for(f"{text.format('connection')} === 'session over'")
            return row, alert, spoken, source, audience, complaints

    view = WebView("0", overlay)
    view.begin(SESSION)
    try:
        row, alert, spoken, source, audience, complaints = asyncio.run(look(view))
    finally:
        view.end(SUMMARY)
    for part in ("<i>odd</i>", "75%", "1:12.400", "300 ms", "1.7 px"):
        assert part in row
    assert "too dark" in alert
    assert "75 percent" in spoken
    assert source == SESSION.source
    assert "Anyone who has this page's address" in audience
    assert complaints == []


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (apt-get install chromium)")
def test_browser_comes_back_after_the_connection_was_lost(tmp_path):
    async def look():
        view = WebView("0", Flat())
        view.begin(SESSION)
        port = re.search(r":(\d+)/", view.url)[1]
        text = "document.getElementById('connection').textContent"
        try:
            async with browser(tmp_path) as page:
                await page("Page.navigate", url=view.url)
                await page.wait_for(f"{text} === 'connected'")
                view.update(analysis(0, [event()]))
                await page.wait_for("document.querySelectorAll('#events li').length === 1")
                for viewer in list(view._server._viewers):
                    view._server._loop.call_soon_threadsafe(viewer.cut_off)
                await page.wait_for(f"{text} === 'connection lost, trying again'")
                await page.wait_for(f"{text} === 'connected'")
                # It is told again what it knows.
                assert await page.evaluate("document.querySelectorAll('#events li').length") == 1
                await asyncio.to_thread(view.end, SUMMARY)
                await page.wait_for(f"{text} === 'session over'")
                view = WebView(port, Flat())
                view.begin(SESSION)
                view.update(analysis(0, [event()]))
                await page.wait_for("document.querySelectorAll('#events li').length === 3")
        finally:
            view.end(SUMMARY)

    asyncio.run(look())
