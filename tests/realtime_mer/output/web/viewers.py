"""Views to serve, and viewers of them, for the tests of the page."""

import asyncio
import base64
import contextlib
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request

import aiohttp
import numpy as np

from realtime_mer.output.overlay import Overlay
from realtime_mer.output.web import WebView
from realtime_mer.output.web.address import Guard
from realtime_mer.results import (
    Analysis,
    EventPicture,
    FaceState,
    Interval,
    MicroExpression,
    Session,
    Summary,
)
from realtime_mer.source.frame import Frame

SESSION = Session("<b>clip</b>.avi", True, (320, 240), 30, 0, "m", "CPU", ("negative", "surprise"))


SUMMARY = Summary("stopped by user", 9, 9, 0, 9, 1.0, 1.0, 1, {"peak_memory_mb": 1.0})


PATIENCE_S = 20
KEY = base64.b64encode(bytes(range(16)))


class Elsewhere(Guard):
    """A guard that behaves as on a host that others can reach, but stays on loopback."""

    def __init__(self, address, bound, **options):
        super().__init__(address, ("0.0.0.0", bound[1]), **options)
        self._host, self._any = "127.0.0.1", False


class Flat:
    """An overlay whose pictures differ from each other, and that counts them."""

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


def event(at_s=1.0, label="surprise", **values):
    sure = {"negative": 0.25, "surprise": 0.25} | {label: 0.75}
    when = Interval(at_s, at_s + 0.1, at_s + 0.3)
    return MicroExpression(0, when, sure, 1.7, at_s + 0.5, **values)


def picture():
    """What an event looked like: for its thumbnail."""
    grey = np.full((224, 224), 90, np.uint8)
    return EventPicture(grey, grey, np.ones((28, 28, 2), np.float32))


def analysis(k=0, events=(), gaps=(), level=90, **values):
    image = np.full((240, 320, 3), level, np.uint8)
    face = FaceState(0, np.full((478, 2), 100, np.float32), float("nan"), quality=0.5)
    frame = Frame(k, k / 30, image, 0.0)
    return Analysis(frame, (face,), tuple(events), tuple(gaps), 0.0123, 29.5, **values)


@contextlib.contextmanager
def serving(overlay=None, address="0", *, controls=None, session=SESSION, **options):
    view = WebView(address, overlay or Overlay(), may_control=controls is not None, **options)
    view.controls = controls
    try:
        view.begin(session)
        yield view
    finally:
        view.end(SUMMARY)


@contextlib.contextmanager
def feeding(view):
    """Updates the view from a thread, as a session does."""
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
async def looking(view, query="", **options):
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(view.url + "live" + query, max_msg_size=0, **options) as live,
    ):
        yield live


async def messages_until(live, wanted):
    """All messages up to the first for which `wanted` holds; confirms pictures."""
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


def port_of(view):
    return int(re.search(r":(\d+)/", view.url)[1])


def connect(view):
    raw = socket.socket()
    # Of what it does not read, little waits in the network.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(PATIENCE_S)
    raw.connect(("127.0.0.1", port_of(view)))
    return raw


def upgrade(key=KEY, *more):
    lines = [
        b"GET /live HTTP/1.1",
        b"Host: localhost",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        *([] if key is None else [b"Sec-WebSocket-Key: " + key]),
        *more,
    ]
    return b"\r\n".join([*lines, b"", b""])


def raw_viewer(view):
    """A viewer that reads nothing after the handshake."""
    raw = connect(view)
    raw.sendall(upgrade())
    assert raw.recv(12) == b"HTTP/1.1 101"
    return raw
