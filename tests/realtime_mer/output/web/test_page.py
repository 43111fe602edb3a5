"""The page in a real browser."""

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess

import aiohttp
import pytest

from realtime_mer.results import SourceStatus, StatusChange
from tests.realtime_mer.output.web.viewers import (
    PATIENCE_S,
    SESSION,
    SUMMARY,
    Flat,
    analysis,
    event,
    feeding,
    port_of,
    serving,
)

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


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (apt-get install chromium)")
def test_browser_shows_picture_and_events_and_the_end(tmp_path, elsewhere):
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


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (apt-get install chromium)")
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
                for viewer in list(view._server._viewers):
                    view._server._loop.call_soon_threadsafe(viewer.cut_off)
                await page.wait_for(f"{text} === 'connection lost, trying again'")
                await page.wait_for(f"{text} === 'connected'")
                # The server sends the event again; the page shows it once.
                assert await page.evaluate("document.querySelectorAll('#events li').length") == 1
                await asyncio.to_thread(view.end, SUMMARY)
                await page.wait_for(f"{text} === 'session over'")
            with serving(Flat(), str(port)) as view:
                view.update(analysis(0, [event()]))
                await page.wait_for("document.querySelectorAll('#events li').length === 3")

    asyncio.run(look())
