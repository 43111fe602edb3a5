"""What a session shows to its viewers, through real sockets."""

import asyncio
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import aiohttp
import cv2
import numpy as np
import pytest

from realtime_mer.output.overlay import Overlay, VideoOverlay
from realtime_mer.output.overlay.layout import Layout
from realtime_mer.output.web import WebView
from realtime_mer.results import Gap, GapReason, SourceStatus, StatusChange
from tests.realtime_mer.output.web.viewers import (
    PATIENCE_S,
    SESSION,
    SUMMARY,
    Flat,
    analysis,
    event,
    feeding,
    is_picture,
    is_type,
    looking,
    messages_until,
    picture,
    serving,
    wait_for,
)


def test_viewers_get_session_pictures_records_status_and_end():
    found, gap = event(), Gap(0, 0.1, 0.9, GapReason.FACE_LOST)
    change = StatusChange(SourceStatus.RECOVERED, 0.8)

    async def look(view):
        async with looking(view) as live:
            with feeding(view):
                got = await messages_until(live, is_picture)
                got += await messages_until(live, is_type("status"))
            values = {"alerts": ("too dark",), "sensitivity": 0.5, "statuses": (change,)}
            view.update(analysis(7, [found], [gap], **values))
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
    shown = cv2.imdecode(np.frombuffer(next(filter(is_picture, got)), np.uint8), 1)
    assert shown.shape[1::-1] == Layout.of(*SESSION.size).size
    # The log's records, in its order.
    records = [m["record"] for m in got if is_type("record")(m)]
    assert records == [change.to_dict(), gap.to_dict(), found.to_dict()]
    status = [m for m in got if is_type("status")(m)][-1]
    assert status["alerts"] == ["too dark"]
    assert status["sensitivity"] == 0.5
    assert status["fps"] == 29.5
    assert status["latency_ms"] == pytest.approx(12.3)
    limits = {"limits": None, "readable": None}
    facts = {"face": 0, "quality": 0.5, "score": None, "nuisances": []}
    assert status["faces"] == [facts | limits]
    assert status["events"] == 1
    assert end["summary"]["reason"] == "stopped by user"
    assert end["summary"]["events"] == 1


def test_pictures_have_no_panel():
    async def look(view):
        async with looking(view) as live:
            with feeding(view):
                return (await messages_until(live, is_picture))[-1]

    with serving(VideoOverlay()) as view:
        jpeg = asyncio.run(look(view))
    shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1)
    video = Layout.of(*SESSION.size).video
    assert shown.shape[:2] == (video.height, video.width)
    # The source's own grey, up to the edges.
    assert np.abs(shown[:, -4:].astype(int) - 90).max() < 10


def test_values_come_without_pictures_for_those_who_want_none():
    overlay = Flat()

    async def look(view):
        async with looking(view, "?pictures=0") as live:
            with feeding(view):
                got = await messages_until(live, is_type("values"))
                got += await messages_until(live, is_type("values"))
            view.update(analysis(7, [event(picture=picture())]))
            got += await messages_until(live, is_type("record"))
            got += await messages_until(live, is_type("status"))
            return got + await messages_until(live, is_type("status"))

    with serving(overlay) as view:
        got = asyncio.run(look(view))
    assert overlay.taken == 0
    assert not any(is_picture(message) or is_type("thumbnail")(message) for message in got)
    values = [message for message in got if is_type("values")(message)]
    (face,) = values[0]["faces"]
    assert (face["face"], face["quality"], face["score"]) == (0, 0.5, None)
    # They are never older than those before.
    assert values[0]["time_s"] < values[1]["time_s"]


def test_the_last_values_arrive_though_they_came_too_soon_after_others():
    async def look(view):
        async with looking(view, "?pictures=0") as live:
            await messages_until(live, is_type("hello"))
            for k in range(4):
                view.update(analysis(k))
            last = 3 / 30
            return await messages_until(
                live, lambda m: is_type("values")(m) and m["time_s"] == pytest.approx(last)
            )

    with serving(Flat()) as view:
        got = asyncio.run(look(view))
    # Ten a second at most.
    assert len([m for m in got if is_type("values")(m)]) <= 3


def test_thumbnails_follow_their_records_also_for_those_who_come_later():
    async def look(view):
        async with looking(view) as live:
            view.update(analysis(1, [event(1.0), event(2.0, picture=picture())]))
            got = await messages_until(live, is_type("thumbnail"))
        async with looking(view) as late:
            return got, await messages_until(late, is_type("thumbnail"))

    with serving() as view:
        for got in asyncio.run(look(view)):
            records = [m["record"]["onset_s"] for m in got if is_type("record")(m)]
            assert records == [1.0, 2.0]
            assert got[-1]["n"] == 2


def test_no_latency_is_shown_while_the_source_is_away():
    async def look(view):
        async with looking(view) as live:
            return (await messages_until(live, is_type("status")))[-1]

    with serving() as view:
        view.update(analysis(is_away=True))
        status = asyncio.run(look(view))
    assert (status["is_away"], status["latency_ms"]) == (True, None)


def test_viewers_learn_which_records_are_past():
    async def look(view):
        async with looking(view, "?pictures=0") as live:
            return (await messages_until(live, is_type("record")))[0]

    with serving(Flat()) as view:
        view.update(analysis(1, [event(), event(3.0)]))
        wait_for(lambda: view._server._feed.count == 2)
        hello = asyncio.run(look(view))
    assert (hello["type"], hello["last"]) == ("hello", 2)


def test_later_viewers_get_the_last_events():
    async def look(view):
        async with looking(view) as live:
            return await messages_until(live, lambda m: is_type("record")(m) and m["n"] == 250)

    with serving() as view:
        for k in range(250):
            view.update(analysis(k, [event(k)]))
        got = asyncio.run(look(view))
    onsets = [m["record"]["onset_s"] for m in got if is_type("record")(m)]
    assert onsets == list(range(50, 250))


def test_no_picture_is_drawn_while_nobody_watches():
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


def test_end_without_begin_does_no_harm():
    view = WebView("0", Overlay())
    view.end(SUMMARY)
    view.close()


def test_ctrl_c_ends_with_a_viewer_connected():
    program = textwrap.dedent(
        """
        import time
        import numpy as np
        from realtime_mer.output.overlay import Overlay
        from realtime_mer.output.web import WebView
        from realtime_mer.results import Analysis, Session, Summary
        from realtime_mer.source.frame import Frame

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
