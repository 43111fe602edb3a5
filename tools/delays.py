"""How long it takes from the capture of a frame until another program has what it says.

    python tools/delays.py [VIDEO] [--seconds S] [--json]
    python tools/delays.py [VIDEO] --receivers 24 [--seconds S] [--json]

A camera without a lens shows a video at 30 fps: it notes when each frame was taken, on the clock
that all processes of the machine share, and draws the frame's number into its corner. A session as
the command line runs it analyses that, in a process of its own, and tells it in every way whose
library is installed; a broker for MQTT is started here if mosquitto is installed. Receivers in this
process note when each thing comes. Every 3 s the face is away for a third of a second: the first
frame that has it again ends a gap, and the gap's record is timed. The terminal's way is that of
lines in a pipe or file; the view on a screen is drawn ten times a second at most.

With --receivers N, so many of all kinds receive at once; before and after it, the same runs without
any. The table tells how many frames were lost, and what a frame cost.

VIDEO is the demo's clip if it is left out, which takes a while to make.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realtime_mer.command.options import parse
from realtime_mer.command.recognize import Outputs, recognize
from realtime_mer.demo.clip import make_demo_clip
from realtime_mer.errors import InputError
from realtime_mer.source.capture import Capture
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.source.reader import Grab
from tools.command import command_parser, exit_status

FPS = 30.0
SIZE = (640, 480)
# Pictures in memory, shown forwards and backwards: 5 s, which holds one event of the demo.
_PICTURES = 150
# The face is away for 10 frames of 90.
_AWAY = range(20, 30)
_AWAY_PERIOD = 90
# A frame's number in its lower left corner: squares that survive JPEG.
_BITS = 14
_SQUARE = 16
# A log is looked at so often, and whether the session or the user ends it.
_TAIL_S = 0.002
_LOOK_S = 0.2
# Receivers are all there before frames are timed, and the analysis has settled.
_SETTLE_S = 3.0
_START_S = 60.0

# Ways out, in the order of the table.
LOG, TERMINAL = "log file: record", "terminal: line"
PAGE_RECORD, PAGE_VALUES, PAGE_PICTURE = (
    f"page's WebSocket: {what}" for what in ("record", "values", "picture")
)
LIVE, FRAMES = "/api/v1/live: record", "/api/v1/frames: frame"
LSL, OSC, MQTT = "LSL: numbers", "OSC: frame", "MQTT: frame"
WAYS = (LOG, TERMINAL, PAGE_RECORD, PAGE_VALUES, PAGE_PICTURE, LIVE, FRAMES, LSL, OSC, MQTT)

# A gap's line in the terminal, and the clock at its end.
_GAP_LINE = re.compile(rb".* - (?:(\d+):)?(\d+):([\d.]+)  face \d+ not seen: face lost")

Kinds = Sequence[str]


def stamp(image: np.ndarray, number: int) -> None:
    """Draws a frame's number into its lower left corner."""
    for bit in range(_BITS):
        square = image[-_SQUARE:, bit * _SQUARE : (bit + 1) * _SQUARE]
        square[:] = 255 if number >> bit & 1 else 0


def number_of(picture: np.ndarray) -> int:
    """The number in a picture's corner, whatever the size at which the frame is shown."""
    unit = picture.shape[0] / SIZE[1] * _SQUARE
    row = picture[round(picture.shape[0] - unit / 2)]
    return sum(1 << bit for bit in range(_BITS) if row[round((bit + 0.5) * unit)].mean() > 127)


class Camera:
    """A live source that shows pictures at `FPS` and notes when each was taken.

    Args:
        pictures: They are shown forwards and backwards.
        frames: How many frames it gives.
        captured: Gets the time of each frame on `time.monotonic()`.
        is_away: Whether the face is away at times.
    """

    name, live, fps, frame_count = "camera", True, FPS, 0

    def __init__(
        self,
        pictures: Sequence[np.ndarray],
        frames: int,
        captured: MutableSequence[float],
        is_away: bool,
    ) -> None:
        self.notes: list[str] = []
        self.ended = False
        self._pictures = [*pictures, *pictures[-2:0:-1]]
        self._frames, self._captured, self._is_away = frames, captured, is_away
        rng = np.random.default_rng(0)
        noise = rng.normal(110, 2, (SIZE[1], SIZE[0], 3))
        self._empty = np.clip(noise, 0, 255).astype(np.uint8)
        self._number = 0
        self._started_at = 0.0

    def open(self) -> None:
        self._started_at = time.monotonic()

    def read(self) -> Grab | None:
        k = self._number
        if k == self._frames:
            self.ended = True
            return None
        self._number += 1
        is_empty = self._is_away and k % _AWAY_PERIOD in _AWAY
        image = (self._empty if is_empty else self._pictures[k % len(self._pictures)]).copy()
        stamp(image, k)
        due = self._started_at + k / FPS
        time.sleep(max(0.0, due - time.monotonic()))
        self._captured[k] = now = time.monotonic()
        return Grab(image, None, now)

    def empty(self) -> InputError:
        return InputError("the camera gave nothing")

    def close(self) -> None:
        pass


def session(
    video: str,
    frames: int,
    is_away: bool,
    arguments: list[str],
    terminal: Path,
    captured: MutableSequence[float],
    answer: Connection,
) -> None:
    """The session's process: answers the page's address, and at the end the statistics."""
    quiet_opencv()
    with (
        terminal.open("w", encoding="utf-8") as lines,
        contextlib.redirect_stdout(lines),
        contextlib.redirect_stderr(lines),
    ):
        try:
            with Capture(video) as capture:
                pictures = [
                    cv2.resize(frame.image, SIZE) for frame in itertools.islice(capture, _PICTURES)
                ]
            options = parse(["--headless", "--serve", "0", *arguments], "delays")
            outputs = Outputs(options, [])
            assert outputs.web is not None
            answer.send(outputs.web.url)
            # Everyone is to be there before the first frame that counts.
            camera = Camera(pictures, frames, captured, is_away)
            summary = recognize(options, [camera], outputs)
            answer.send(dataclasses.asdict(summary))
        except (InputError, SystemExit) as error:
            answer.send(InputError(str(error)))


class Receivers:
    """Receivers of all kinds. What comes is noted with the moment at which it came.

    Args:
        url: The page's address.
        log: The session's log.
        terminal: What the session writes to its terminal.
        osc: The port that OSC is sent to.
        mqtt: The broker's port; 0 for none.
        timed: Whether to look into what comes; otherwise it is only received.
    """

    def __init__(
        self, url: str, log: Path, terminal: Path, osc: int, mqtt: int, *, timed: bool
    ) -> None:
        self._url, self._log, self._terminal = url, log, terminal
        self._osc, self._mqtt = osc, mqtt
        self._timed = timed
        # (frame's number or None, time on the source's clock or None, arrival).
        self.came: dict[str, list[tuple[int | None, float | None, float]]] = defaultdict(list)
        # Those whose messages carry the moment of the capture: (capture, arrival).
        self.dated: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.counts: dict[str, int] = defaultdict(int)
        self.stop = threading.Event()

    async def run(self, kinds: Kinds) -> None:
        """Receives until the session ends."""
        makers: dict[str, Callable[[], Any]] = {
            "picture": lambda: self._page(pictures=True),
            "page": lambda: self._page(pictures=False),
            "live": lambda: self._lines("live"),
            "frames": lambda: self._lines("frames"),
            "log": lambda: self._tail(self._log, lambda line: self._record(LOG, json.loads(line))),
            "terminal": lambda: self._tail(self._terminal, self._line),
            "osc": self._receive_osc,
            "lsl": lambda: asyncio.to_thread(self._receive_lsl),
            "mqtt": lambda: asyncio.to_thread(self._receive_mqtt),
        }
        async with asyncio.TaskGroup() as group:
            for kind in kinds:
                group.create_task(makers[kind]())

    def _note(self, way: str, number: int | None, time_s: float | None) -> None:
        self.counts[way] += 1
        if self._timed:
            self.came[way].append((number, time_s, time.monotonic()))

    def _record(self, way: str, record: dict[str, Any]) -> None:
        if record["type"] == "gap" and record["reason"] == "face lost":
            self._note(way, None, record["end_s"])

    async def _page(self, *, pictures: bool) -> None:
        query = "" if pictures else "?pictures=0"
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{self._url}live{query}", max_msg_size=0) as live,
        ):
            async for message in live:
                if message.type is aiohttp.WSMsgType.BINARY:
                    self._picture(message.data)
                    await live.send_str("shown")
                    continue
                content = json.loads(message.data)
                if content["type"] == "values":
                    self._note(PAGE_VALUES, None, content["time_s"])
                elif content["type"] == "record":
                    self._record(PAGE_RECORD, content["record"])

    def _picture(self, jpeg: bytes) -> None:
        now = time.monotonic()
        self.counts[PAGE_PICTURE] += 1
        if self._timed:
            picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
            assert picture is not None, "the page's pictures are whole"
            self.came[PAGE_PICTURE].append((number_of(picture), None, now))

    async def _lines(self, name: str) -> None:
        forever = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(timeout=forever) as http,
            http.get(f"{self._url}api/v1/{name}") as answer,
        ):
            async for line in answer.content:
                content = json.loads(line)
                if name == "frames":
                    self._note(FRAMES, content["frame"], None)
                else:
                    self._record(LIVE, content)

    def _line(self, line: bytes) -> None:
        if found := _GAP_LINE.fullmatch(line):
            hours, minutes, seconds = found.groups()
            time_s = 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds)
            self._note(TERMINAL, None, time_s)

    async def _tail(self, path: Path, take: Callable[[bytes], None]) -> None:
        while not path.exists():
            await asyncio.sleep(0.1)
        rest = b""
        with path.open("rb") as file:
            is_over = False
            while not is_over:
                # First: what is written until then is read.
                is_over = self.stop.is_set()
                *lines, rest = (rest + file.read()).split(b"\n")
                for line in lines:
                    take(line)
                await asyncio.sleep(_TAIL_S)

    async def _receive_osc(self) -> None:
        from pythonosc.osc_packet import OscPacket

        loop = asyncio.get_running_loop()

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(_, data: bytes, address: Any) -> None:  # noqa: ANN401
                for timed in OscPacket(data).messages:
                    if timed.message.address == "/mer/frame":
                        self._note(OSC, timed.message.params[0], None)

        transport, _ = await loop.create_datagram_endpoint(
            Protocol, local_addr=("127.0.0.1", self._osc)
        )
        while not self.stop.is_set():
            await asyncio.sleep(0.1)
        transport.close()

    def _receive_lsl(self) -> None:
        import pylsl

        inlet = None
        while inlet is None and not self.stop.is_set():
            found = pylsl.resolve_byprop("name", "realtime_mer face 0", timeout=1)
            inlet = pylsl.StreamInlet(found[0], max_buflen=10) if found else None
        while inlet is not None and not self.stop.is_set():
            sample, stamp_s = inlet.pull_sample(timeout=0.2)
            if sample is not None:
                self.counts[LSL] += 1
                if self._timed:
                    self.dated[LSL].append((stamp_s, pylsl.local_clock()))

    def _receive_mqtt(self) -> None:
        from paho.mqtt import client as paho

        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.on_message = lambda _, data, message: self._note(
            MQTT, json.loads(message.payload)["frame"], None
        )
        client.connect("127.0.0.1", self._mqtt)
        client.subscribe("realtime_mer/frames")
        client.loop_start()
        self.stop.wait()
        client.disconnect()
        client.loop_stop()


def delays(
    receivers: Receivers, captured: Sequence[float], settle_s: float
) -> dict[str, list[float]]:
    """Seconds from capture to arrival of what came by each way, after the start."""
    first = captured[0]
    found: dict[str, list[float]] = {}
    for way, came in receivers.came.items():
        pairs = []
        for number, time_s, arrived in came:
            taken = captured[number] if number is not None else first + (time_s or 0.0)
            pairs.append((taken, arrived))
        found[way] = [b - a for a, b in pairs if a > first + settle_s]
    for way, dated in receivers.dated.items():
        found[way] = [b - a for a, b in dated][round(settle_s * FPS) :]
    return found


def _broker_program() -> str | None:
    """Mosquitto, if it is installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[int]:
    """A broker for MQTT on a loopback port.

    Raises:
        InputError: It does not start.
    """
    program = _broker_program()
    if program is None:
        raise InputError("there is no broker for MQTT: install mosquitto")
    port = _free_port(socket.SOCK_STREAM)
    settings = folder / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen([program, "-c", str(settings)], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > until or process.poll() is not None:
                    raise InputError("the broker does not start: is mosquitto whole?") from None
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(type=kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def kinds_of(count: int, has: Kinds) -> list[str]:
    """Receivers of all kinds, in turn: of pages, programs over HTTP, and what else there is."""
    # One port gets OSC.
    shared = ["picture", "frames", "page", "live", *(kind for kind in has if kind != "osc")]
    once = ["log", "terminal", *(kind for kind in has if kind == "osc")]
    return [*once, *itertools.islice(itertools.cycle(shared), count)][:count]


@dataclasses.dataclass(frozen=True)
class Run:
    """What one session was like.

    Attributes:
        kinds: Who received.
        summary: Its summary, with all statistics.
        delays: Seconds by way.
        counts: What came, by way.
    """

    kinds: Kinds
    summary: dict[str, Any]
    delays: dict[str, list[float]]
    counts: dict[str, int]


def run(video: str, seconds: float, folder: Path, kinds: Kinds, *, timed: bool) -> Run:
    """Runs a session with receivers.

    Raises:
        InputError: It could not be run.
    """
    frames = round((seconds + _SETTLE_S) * FPS)
    if frames >= 1 << _BITS:
        raise InputError(f"--seconds is at most {(1 << _BITS) / FPS - _SETTLE_S:.0f}")
    log = folder / f"{time.monotonic_ns()}.jsonl"
    terminal = log.with_suffix(".txt")
    osc = _free_port(socket.SOCK_DGRAM)
    arguments = ["--log", str(log)]
    with broker(folder) if "mqtt" in kinds else contextlib.nullcontext(0) as mqtt:
        if "lsl" in kinds:
            _configure_lsl()
            arguments += ["--lsl"]
        if "osc" in kinds:
            arguments += ["--osc", f"127.0.0.1:{osc}"]
        if "mqtt" in kinds:
            arguments += ["--mqtt", f"mqtt://127.0.0.1:{mqtt}"]
        context = multiprocessing.get_context("spawn")
        captured = context.Array("d", frames, lock=False)
        here, there = context.Pipe()
        process = context.Process(
            target=session,
            args=(video, frames, timed, arguments, terminal, captured, there),
            daemon=True,
        )
        process.start()
        there.close()
        try:
            url = _answer(here, threading.Event())
            receivers = Receivers(url, log, terminal, osc, mqtt, timed=timed)
            summary = asyncio.run(_receive(receivers, kinds, here))
        finally:
            process.terminate()
            process.join()
    taken = [time_s for time_s in captured if time_s]
    return Run(kinds, summary, delays(receivers, taken, _SETTLE_S), dict(receivers.counts))


async def _receive(receivers: Receivers, kinds: Kinds, here: Connection) -> Any:  # noqa: ANN401
    receiving = asyncio.create_task(receivers.run(kinds))
    try:
        answer = await asyncio.to_thread(_answer, here, receivers.stop)
    except BaseException:
        # Stopped: the session goes on, so most receivers would, too.
        receiving.cancel()
        raise
    finally:
        receivers.stop.set()
        await asyncio.wait([receiving])
    receiving.result()
    return answer


def _answer(here: Connection, stop: threading.Event) -> Any:  # noqa: ANN401
    while not here.poll(_LOOK_S):
        if stop.is_set():
            return None
    try:
        answer = here.recv()
    except EOFError:
        raise InputError("the session's process ended: see its traceback") from None
    if isinstance(answer, InputError):
        raise answer
    return answer


def _configure_lsl() -> None:
    import pylsl

    # The session offers its streams on this computer only. It must come before the first call.
    pylsl.set_config_content("[log]\nlevel = -3\n[multicast]\nResolveScope = machine\n")


def figures_of(values: Sequence[float]) -> dict[str, float]:
    """Milliseconds: median, 95th percentile, greatest; and how many."""
    ms = 1000 * np.array(values)
    return {
        "n": len(values),
        "median_ms": round(float(np.median(ms)), 1),
        "p95_ms": round(float(np.percentile(ms, 95)), 1),
        "max_ms": round(float(ms.max()), 1),
    }


def load_of(run: Run) -> dict[str, Any]:
    """What a session cost, and what it lost."""
    stats = run.summary["stats"]
    stages = stats["stages_ms"]
    chain = sum(stages[name]["mean"] for name in ("track", "register", "flow", "spot"))
    return {
        "receivers": len(run.kinds),
        "frames": run.summary["frames_read"],
        "lost": run.summary["frames_dropped"],
        "not_shown": stats["drops"].get("display too slow", 0),
        "chain_ms": round(chain, 2),
        "end_to_end_median_ms": stats["end_to_end_ms"]["median"],
        "end_to_end_p95_ms": stats["end_to_end_ms"]["p95"],
        "received": run.counts,
    }


def _delay_table(result: dict[str, dict[str, float]]) -> Table:
    table = Table(title="From the capture of a frame to the receiver")
    for name in ("way", "n", "median ms", "p95 ms", "max ms"):
        table.add_column(name, justify="left" if name == "way" else "right")
    for way, figures in result.items():
        table.add_row(way, *(f"{value:g}" for value in figures.values()))
    return table


def _load_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f"Receivers of all kinds at once, {FPS:.0f} fps")
    names = [name for name in rows[0] if name != "received"]
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{row[name]:g}" for name in names))
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    p = command_parser(__doc__, __file__)
    p.add_argument("video", nargs="?", metavar="VIDEO", help="what the camera shows: a face")
    p.add_argument("--seconds", type=float, default=60.0, metavar="S", help="default 60")
    p.add_argument("--receivers", type=int, metavar="N", help="load: so many at once")
    p.add_argument("--json", action="store_true", help="one JSON object in place of a table")
    options = p.parse_args(arguments)
    # As Ctrl-C: the broker and the session must not outlive this process.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return exit_status("delays.py", lambda: _main(options))
    finally:
        signal.signal(signal.SIGTERM, before)


def _main(options: argparse.Namespace) -> None:
    packages = {"lsl": "pylsl", "osc": "pythonosc", "mqtt": "paho"}
    has = [kind for kind, package in packages.items() if _is_installed(package)]
    if _broker_program() is None and "mqtt" in has:
        has.remove("mqtt")
    with tempfile.TemporaryDirectory(prefix="realtime_mer-") as name:
        folder = Path(name)
        video = options.video
        if video is None:
            video = os.path.join(name, "demo.avi")
            make_demo_clip(video)
        else:
            # Before processes are started for it.
            with Capture(video):
                pass
        if options.receivers is None:
            kinds = ["picture", "page", "live", "frames", "log", "terminal", *has]
            ran = run(video, options.seconds, folder, kinds, timed=True)
            found = {way: figures_of(ran.delays[way]) for way in WAYS if ran.delays.get(way)}
            result: Any = {"delays": found, "session": load_of(ran)}
            table = _delay_table(found)
        else:
            kinds = kinds_of(options.receivers, has)
            runs = [
                run(video, options.seconds, folder, each, timed=False) for each in ([], kinds, [])
            ]
            result = {"load": [load_of(ran) for ran in runs]}
            table = _load_table(result["load"])
    if options.json:
        print(json.dumps(result))
    else:
        Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
