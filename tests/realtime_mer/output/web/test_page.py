"""The page in a real browser."""

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess

import aiohttp
import pytest

from realtime_mer.output.label_colours import sign_of
from realtime_mer.output.size import size_of
from realtime_mer.output.web import PageControls
from realtime_mer.results import Gap, GapReason, Interval, Mark, SourceStatus, StatusChange
from tests.realtime_mer.output.web.viewers import (
    PATIENCE_S,
    SESSION,
    SUMMARY,
    Flat,
    analysis,
    event,
    feeding,
    picture,
    port_of,
    serving,
)

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


# Windows' key codes, which tell Chromium what else a key does.
KEY_CODES = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowUp": 38}
KEY_CODES |= {"ArrowRight": 39, "ArrowDown": 40}

needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium is installed (apt-get install chromium)"
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
        values = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = await self("Runtime.evaluate", **values)
        return answer["result"].get("value")

    async def open(self, url):
        for domain in ("Log", "Runtime", "Page"):
            await self(f"{domain}.enable")
        await self("Page.navigate", url=url)

    async def resize(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self("Emulation.setDeviceMetricsOverride", **size)

    async def press(self, *keys):
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            code = KEY_CODES.get(key) or ord(key.upper())
            common = {"key": key, "windowsVirtualKeyCode": code}
            await self("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
            await self("Input.dispatchKeyEvent", type="keyUp", **common)

    async def wait_for(self, expression):
        async with asyncio.timeout(3 * PATIENCE_S):
            while not await self.evaluate(expression):
                await asyncio.sleep(0.05)


STALE = "document.body.classList.contains('stale')"
# What the page looks like in the moment in which it says that the connection is lost.
WATCH_FOR_STALE = f"""
var staleWhenLost = null;
new MutationObserver(() => {{
  if (!document.getElementById('connection').textContent.startsWith('connection lost')) return;
  const style = getComputedStyle(document.getElementById('picture'));
  staleWhenLost = {STALE} && style.filter !== 'none';
}}).observe(document.body, {{subtree: true, childList: true, attributes: true}});
"""


def with_limits(analysis, limits):
    faces = tuple(dataclasses.replace(face, limits=limits) for face in analysis.faces)
    return dataclasses.replace(analysis, faces=faces)


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
        port_file = profile / "DevToolsActivePort"
        async with asyncio.timeout(3 * PATIENCE_S):
            while not port_file.exists() or len(port_file.read_text().split()) < 2:
                await asyncio.sleep(0.05)
        port = port_file.read_text().split()[0]
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


@needs_browser
def test_browser_shows_picture_and_events_and_the_end(tmp_path, elsewhere):
    sized = [
        dataclasses.replace(event(), interval=Interval(1.0004, 1.1, end_s), intensity_px=px)
        for end_s, px in ((1.3018, 1.848), (1.3, 1.25), (1.2999, 1.15), (1.25, 0.049))
    ]

    async def look(view):
        async with browser(tmp_path) as page:
            await page.open(view.url)
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
            lost = StatusChange(SourceStatus.RECONNECTING, 60.5)
            view.update(analysis(290, statuses=(lost,)))
            glasses = "document.querySelectorAll('#readable svg')"
            assert await page.evaluate(f"{glasses}.length") == 0
            view.update(with_limits(analysis(295), (0.8, 1.25, 3.0)))
            await page.wait_for(f"{glasses}.length === 1")
            glass = await page.evaluate(f"{glasses}[0].getAttribute('aria-label')")
            full = await page.evaluate("document.querySelectorAll('#readable .full').length")
            assert (glass, full) == (
                "brows yes (0.8 px), middle yes (1.3 px), mouth no (3.0 px)",
                2,
            )
            view.update(analysis(300, [event(72.4, label="<i>odd</i>")], alerts=("too dark",)))
            await page.wait_for("document.querySelectorAll('#events li').length === 2")
            row = await page.evaluate("document.querySelector('#events li').innerText")
            change = await page.evaluate("document.querySelector('#events li.gap').innerText")
            await page.wait_for("!document.getElementById('alert').hidden")
            alert = await page.evaluate(text.format("alert"))
            spoken = await page.evaluate(text.format("spoken"))
            source = await page.evaluate(text.format("source"))
            # As the terminal and the picture show them.
            words = "import('./words.js').then((words) => {}.map(words.sizeOf))"
            sizes = await page.evaluate(words.format(json.dumps([e.to_dict() for e in sized])))
            assert sizes == ["{} ms · {} px".format(*size_of(e)) for e in sized]
            labels = ("sadness", "surprise", "fear", "anger")
            words = "import('./words.js').then((words) => {0}.map((one) => words.signOf(one, {0})))"
            signs = await page.evaluate(words.format(json.dumps(labels)))
            assert signs == [sign_of(label, labels) for label in labels] == ["Sa", "Su", "F", "A"]
            audience = await page.evaluate(text.format("audience"))
            # Chromium complains that this test reads the canvas often.
            complaints = [c for c in page.complaints if "getImageData" not in str(c)]
            await asyncio.to_thread(view.end, SUMMARY)
            await page.wait_for(f"{text.format('connection')} === 'session over'")
            return row, change, alert, spoken, source, audience, complaints

    with serving(Flat()) as view:
        row, change, alert, spoken, source, audience, complaints = asyncio.run(look(view))
    for part in ("<i>odd</i>", "75%", "1:12.400", "300 ms", "1.7 px"):
        assert part in row
    assert change == "1:00.500 · source reconnecting"
    assert "too dark" in alert
    assert "75 percent" in spoken
    assert source == SESSION.source
    assert "Anyone who has this page's address" in audience
    assert complaints == []


@needs_browser
def test_browser_reconnects_after_the_connection_was_lost(tmp_path):
    async def look():
        text = "document.getElementById('connection').textContent"
        async with browser(tmp_path) as page:
            with serving(Flat()) as view:
                port = port_of(view)
                await page("Page.navigate", url=view.url)
                await page.wait_for(f"{text} === 'connected'")
                view.update(analysis(0, [event()]))
                await page.wait_for("document.querySelectorAll('#events li').length === 1")
                # Note whether the picture was ever shown as if it were the present.
                await page.evaluate(WATCH_FOR_STALE)
                for viewer in list(view._server._viewers):
                    view._server._loop.call_soon_threadsafe(viewer.cut_off)
                await page.wait_for(f"{text} === 'connection lost, trying again'")
                await page.wait_for(f"{text} === 'connected'")
                assert await page.evaluate("staleWhenLost") is True
                # The server sends the event again; the page shows it once.
                assert await page.evaluate("document.querySelectorAll('#events li').length") == 1
                await asyncio.to_thread(view.end, SUMMARY)
                await page.wait_for(f"{text} === 'session over'")
                assert await page.evaluate(STALE)
            with serving(Flat(), str(port)) as view:
                await page.wait_for(f"{text} === 'connected'")
                # What is still shown is of the session before: it is not the present.
                veil = "document.getElementById('veil')"
                assert await page.evaluate(STALE)
                assert await page.evaluate(f"{veil}.textContent") == "waiting for a picture"
                with feeding(view):
                    await page.wait_for(f"!({STALE})")
                assert await page.evaluate(f"{veil}.hidden")
                view.update(analysis(0, [event()]))
                await page.wait_for("document.querySelectorAll('#events li').length === 3")

    asyncio.run(look())


def text_of(name):
    return f"document.getElementById('{name}').textContent"


CONNECTED = f"{text_of('connection')} === 'connected'"
ROWS = "[...document.querySelectorAll('#events li')]"
FOCUS = "document.activeElement"


@needs_browser
def test_an_event_shows_its_faces_and_probabilities_and_gaps_do_not_hide_it(tmp_path):
    async def look(view):
        async with browser(tmp_path) as page:
            await page.open(view.url)
            await page.wait_for(f"{text_of('connection')} === 'connected'")
            view.update(analysis(60, [event(1.0, picture=picture())]))
            await page.wait_for("document.querySelectorAll('#events canvas').length === 2")
            # The arrows stand out on the darkened face.
            pixels = "[...document.querySelectorAll('#events canvas')[{}].getContext('2d')"
            pixels += ".getImageData(0, 0, 224, 224).data].filter((v, k) => k % 4 === 2)"
            onset = await page.evaluate(pixels.format(0))
            apex = await page.evaluate(pixels.format(1))
            assert max(onset) < 100
            assert min(apex) < 60
            assert max(apex) > 150
            row = await page.evaluate(f"{ROWS}[0].innerText")
            assert "negative" in row
            assert "25%" in row
            for k in range(30):
                gap = Gap(0, 3 + k, 3.5 + k, GapReason.TOO_FEW_FRAMES)
                view.update(analysis(100 + 30 * k, gaps=[gap]))
            await page.wait_for(f"{ROWS}[0].innerText.includes('×30')")
            assert await page.evaluate(f"{ROWS}.length") == 2
            assert "15 s in all" in await page.evaluate(f"{ROWS}[0].innerText")
            # Without --control there is nothing to control: a command would end the connection.
            await page.press("k", "+")
            shown = "[...document.querySelectorAll('#marking, #steps, .controlling')]"
            assert await page.evaluate(f"{shown}.every((element) => element.hidden)")
            # On a phone nothing is cut off at the side.
            await page.resize(390, 844)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
            assert await page.evaluate(text_of("connection")) == "connected"
            assert [c for c in page.complaints if "getImageData" not in str(c)] == []

    with serving(Flat()) as view:
        asyncio.run(look(view))


@needs_browser
def test_the_page_by_keyboard_alone(tmp_path):
    asked = []
    controls = PageControls(
        change_sensitivity=lambda steps: asked.append(steps) or "sensitivity: 2",
        mark=lambda text: asked.append(text) or "marked",
    )

    async def look(view):
        async with browser(tmp_path) as page:
            await page.open(view.url)
            await page.wait_for("!document.getElementById('marking').hidden")
            view.update(
                analysis(300, [event(2.0), event(8.0)], marks=(Mark(9.0, "window", "odd"),))
            )
            await page.wait_for(f"{ROWS}.length === 3")
            with feeding(view):
                await page.wait_for("document.querySelectorAll('#moments button').length === 3")
            await page.press("e")
            assert await page.evaluate(f"{FOCUS} === {ROWS}[0]")
            await page.press("ArrowDown", "ArrowDown", "ArrowUp")
            assert await page.evaluate(f"{FOCUS} === {ROWS}[1]")
            # On the timeline, the earliest is to the left; it leads to its row.
            await page.press("t", "ArrowLeft", "ArrowLeft", "ArrowLeft")
            assert "0:02.0" in await page.evaluate(f"{FOCUS}.getAttribute('aria-label')")
            await page.press("Enter")
            assert await page.evaluate(f"{FOCUS} === {ROWS}[2]")
            await page.press("d")
            hidden = "getComputedStyle(document.querySelector('.events')).display === 'none'"
            assert await page.evaluate(hidden)
            await page.press("Escape")
            assert not await page.evaluate(hidden)
            # The help is open: keys do nothing else.
            await page.press("?", "k")
            assert await page.evaluate("document.getElementById('help').open")
            await page.press("Escape")
            await page.wait_for("!document.getElementById('help').open")
            await page.wait_for(CONNECTED)
            await page.press("+", "-", "k")
            with feeding(view):
                await page.wait_for(f"{text_of('toast')} === 'marked'")
            assert asked == [1, -1, ""]
            await page.evaluate("document.getElementById('mark-text').focus()")
            await page.press("k", "d", "Enter")
            with feeding(view):
                await page.wait_for("document.getElementById('mark-text').value === ''")
                async with asyncio.timeout(PATIENCE_S):
                    while len(asked) < 4:
                        await asyncio.sleep(0.01)
            assert asked[3] == "kd"
            # What has the focus is always marked.
            for _ in range(12):
                await page.press("Tab")
                outline = f"{FOCUS} === document.body || "
                outline += f"getComputedStyle({FOCUS}).outlineStyle !== 'none'"
                assert await page.evaluate(outline)
            assert page.complaints == []
            # A note that cannot be sent is not lost.
            await asyncio.to_thread(view.end, SUMMARY)
            await page.wait_for(f"{text_of('connection')} === 'session over'")
            await page.evaluate("document.getElementById('mark-text').focus()")
            await page.press("x", "Enter")
            await page.wait_for(f"{text_of('toast')}.startsWith('not sent')")
            assert await page.evaluate("document.getElementById('mark-text').value") == "x"

    with serving(Flat(), controls=controls) as view:
        asyncio.run(look(view))


def of_several(*names):
    each = tuple(dataclasses.replace(SESSION, source=name) for name in names)
    return dataclasses.replace(each[0], source=" + ".join(names), sources=each)


@needs_browser
def test_of_several_sources_a_long_name_breaks_no_label_and_the_others_go_on(tmp_path):
    names = [f"rtsp://***@10.0.0.2/Streaming/Channels/{k}01" for k in (1, 2)]

    async def look(view):
        async with browser(tmp_path) as page:
            await page.resize(1440, 900)
            await page.open(view.url)
            await page.wait_for(CONNECTED)
            view.update(analysis(60, [event(1.0, source=names[0])], source=names[0]))
            await page.wait_for(f"{ROWS}.length === 1")
            head = f"{ROWS}[0].querySelector('.head')"
            assert await page.evaluate(f"{head}.querySelector('.whose').textContent") == (
                "***@10.0.0.2/Streaming/Channels/101"
            )
            assert (
                await page.evaluate(f"{head}.querySelector('.label').getClientRects().length") == 1
            )
            for part in ("sure", "when"):
                assert await page.evaluate(
                    f"{head}.querySelector('.{part}').getBoundingClientRect().right"
                    f" <= {head}.getBoundingClientRect().right"
                )
            # The first one has ended; the other one's time is the page's.
            ended = analysis(60, source=names[0], is_away=True)
            view.update(dataclasses.replace(ended, faces=(), fps=0.0))
            later = dataclasses.replace(analysis(3600, source=names[1]), camera=1)
            view.update(later)
            await page.wait_for(f"{text_of('timeline-name')} === 'Last 2 minutes'")
            await page.wait_for(f"{text_of('time')} === '2:00.0'")
            assert page.complaints == []

    with serving(Flat(), session=of_several(*names)) as view:
        asyncio.run(look(view))


# A connection over a socket that the test holds in its hands.
HELD = """(async () => {
  class Held {
    constructor() { Held.all = [...(Held.all ?? []), this]; this.readyState = 1; }
    send() {}
    close() { this.isClosed = true; }
    get(message) { this.onmessage({data: JSON.stringify(message)}); }
  }
  window.WebSocket = Object.assign(Held, {OPEN: 1});
  const { Live } = await import('./live.js');
  window.heard = [];
  window.states = [];
  new Live({
    message: (message, isPast) => message.type === 'record' && heard.push([message.n, isPast]),
    state: (state) => states.push(state),
  });
  window.held = Held.all.at(-1);
  window.shift = 0;
  const now = performance.now.bind(performance);
  performance.now = () => now() + shift;
})()"""


@needs_browser
def test_the_page_knows_the_past_and_waits_for_what_it_could_not_read(tmp_path):
    async def look(view):
        async with browser(tmp_path) as page:
            await page.open(view.url + "overlay")
            await page.wait_for("document.readyState === 'complete'")
            await page.evaluate(HELD)
            await page.evaluate("held.get({type: 'hello', last: 2})")
            # Before any status.
            await page.evaluate("[1, 2, 3].forEach((n) => held.get({type: 'record', n}))")
            assert await page.evaluate("heard") == [[1, True], [2, True], [3, False]]
            # The page itself stood still for 6 s: messages may wait.
            await page.evaluate("shift += 6000")
            await page.wait_for("states.includes('silent')")
            assert not await page.evaluate("held.isClosed")
            await page.evaluate("held.get({type: 'status'})")
            assert await page.evaluate("states.at(-1)") == "open"
            # The server is silent for 6 s, as the page sees every second.
            await page.evaluate("looks = 0, setInterval(() => looks++, 250)")
            for _ in range(5):
                await page.evaluate("looks = 0, shift += 1000")
                await page.wait_for("looks > 0")
            await page.wait_for("held.isClosed")

    with serving() as view:
        asyncio.run(look(view))


KEEP_CARDS = """
var told = '';
new MutationObserver(() => (told += document.getElementById('cards').innerText))
  .observe(document.getElementById('cards'), {childList: true});
"""


@needs_browser
def test_the_overlay_shows_what_happens_on_no_background(tmp_path):
    async def look(view):
        async with browser(tmp_path) as page:
            await page.resize(480, 360)
            view.update(analysis(0, [event(0.5)]))
            await page.open(view.url + "overlay?show=events,score&scale=1.5&seconds=1")
            absent = "document.body.classList.contains('absent')"
            await page.wait_for(f"!{absent}")
            assert view._server.wants_picture is False
            cards = "document.querySelectorAll('#cards li')"
            # The score's curve has been drawn: the canvas no longer has its first width.
            with feeding(view):
                await page.wait_for("document.getElementById('curve').width !== 300")
            # What happened before is not shown.
            assert await page.evaluate(f"{cards}.length") == 0
            # A card that has gone again before we look was shown, too.
            await page.evaluate(KEEP_CARDS)
            view.update(analysis(60, [event(1.8, "<i>odd</i>", picture=picture())]))
            await page.wait_for("told.includes('<i>odd</i>')")
            await page.wait_for(f"{cards}.length === 0")
            assert await page.evaluate("document.getElementById('face').hidden")
            shown = "getComputedStyle(document.getElementById('now')).visibility"
            with feeding(view):
                await page.wait_for(f"{shown} === 'visible'")
            # Nothing of a source that is away is the present.
            view.update(analysis(90, is_away=True))
            await page.wait_for(f"{shown} === 'hidden'")
            assert not await page.evaluate(absent)
            for element in ("document.documentElement", "document.body"):
                ground = await page.evaluate(f"getComputedStyle({element}).backgroundColor")
                assert ground == "rgba(0, 0, 0, 0)"
            sides = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
            assert await page.evaluate(sides) == [480, 360]
            assert page.complaints == []
            await asyncio.to_thread(view.end, SUMMARY)
            await page.wait_for(absent)

    with serving(Flat()) as view:
        asyncio.run(look(view))
