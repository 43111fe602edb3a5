"""Watches a long live session: does it keep pace, stay small, and end on Ctrl-C?

    python tools/soak.py VIDEO [--minutes N] [--fps N] [--size WxH] [--json] [-- OPTION ...]

A process of its own plays the video as a network camera would: motion JPEG over HTTP on this
machine, in real time, forwards and backwards in turn so that the picture never jumps. `run.py`
watches it without a window, with a log and statistics, for so many minutes; its memory is read
every second. Then it gets a Ctrl-C. Options after `--` go to `run.py`.

    sent, skipped    frames that the camera sent; frames that it could not send in time
    read, analysed, dropped, drops    as `--stats` reports them
    latency_ms       from capture to the end of the analysis
    shown_ms         from capture to the end of all sinks
    memory           MB after the first minute (of a shorter run, after its first third) and at the
                     end, growth in percent, peak
    cpus             processors that the run kept busy
    exit_status, seconds_to_end    after the Ctrl-C
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import multiprocessing
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realtime_mer.errors import InputError
from realtime_mer.source.capture import Capture
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.stats import memory_mb
from tools.command import command_parser, exit_status, print_figures

_RUN = Path(__file__).resolve().parent.parent / "run.py"
# The camera's pictures stay in memory as JPEGs: 600 of 640 x 480 are 40 MB.
_MOST_FRAMES = 600
_JPEG_QUALITY = 90
# Chosen by judgement. Loading takes seconds, and many more on a busy machine.
_START_S = 60.0
# Chosen by judgement. A run that takes longer to end after Ctrl-C hangs.
_END_S = 30.0
# Memory growth counts from here: by then, all buffers are allocated.
_FIRST_S = 60.0


def pictures_of(video: str, size: tuple[int, int] | None) -> list[bytes]:
    """The first frames of a video as JPEGs, forwards and then backwards.

    Raises:
        InputError: The video cannot be read.
    """
    jpegs: list[bytes] = []
    with Capture(video) as capture:
        for frame in capture:
            image = frame.image
            if size is not None:
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            jpegs.append(_jpeg(image))
            if len(jpegs) == _MOST_FRAMES:
                break
    return jpegs + jpegs[-2:0:-1]


def _jpeg(image: cv2.typing.MatLike) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


class _Camera(http.server.BaseHTTPRequestHandler):
    """Motion JPEG in real time; pictures that would be late are skipped."""

    jpegs: list[bytes]
    fps: float
    sent: Synchronized[int]
    skipped: Synchronized[int]

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        started_at, number = time.monotonic(), 0
        with contextlib.suppress(OSError):
            while True:
                data = self.jpegs[number % len(self.jpegs)]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                self.sent.value += 1
                due = int((time.monotonic() - started_at) * self.fps)
                self.skipped.value += max(0, due - number - 1)
                number = max(number + 1, due)
                time.sleep(max(0.0, started_at + number / self.fps - time.monotonic()))


def serve(
    video: str,
    size: tuple[int, int] | None,
    fps: float,
    sent: Synchronized[int],
    skipped: Synchronized[int],
    answer: Connection,
) -> None:
    """The camera's process: sends its port, or what is wrong, and serves until it is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for run.py
    quiet_opencv()
    try:
        jpegs = pictures_of(video, size)
    except InputError as error:
        answer.send(str(error))
        return
    parts = {"jpegs": jpegs, "fps": fps, "sent": sent, "skipped": skipped}
    handler = type("Camera", (_Camera,), parts)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        answer.send(server.server_port)
        server.serve_forever()


def watch(run: subprocess.Popen[bytes], log: Path, seconds: float) -> list[float]:
    """Waits for the session to begin, then reads its memory every second, for `seconds`.

    Raises:
        InputError: It did not begin in time.
    """
    deadline = time.monotonic() + _START_S
    while run.poll() is None and not (log.exists() and log.stat().st_size):
        if time.monotonic() > deadline:
            raise InputError(f"run.py did not begin within {_START_S:g} s: run it alone to see why")
        time.sleep(0.05)
    sizes: list[float] = []
    started_at = time.monotonic()
    while run.poll() is None and (spent := time.monotonic() - started_at) < seconds:
        if spent >= len(sizes):
            sizes.append(memory_mb(run.pid))
        time.sleep(min(0.2, max(0.0, seconds - spent)))
    if run.poll() is None:
        sizes.append(memory_mb(run.pid))
    return sizes


def end(run: subprocess.Popen[bytes]) -> float:
    """Sends a Ctrl-C and waits for the end; the seconds that it took."""
    started_at = time.monotonic()
    run.send_signal(signal.SIGINT)
    try:
        run.wait(_END_S)
    except subprocess.TimeoutExpired:
        run.kill()
        run.wait()
    return time.monotonic() - started_at


def memory(sizes: list[float]) -> dict[str, float | None]:
    """The figures of a series of one reading a second, in MB and percent."""
    if not sizes:
        return {"first": None, "end": None, "growth_percent": None, "most": None}
    first = sizes[min(int(_FIRST_S), len(sizes) // 3)]
    return {
        "first": round(first, 1),
        "end": round(sizes[-1], 1),
        "growth_percent": round(100 * (sizes[-1] / first - 1), 2) if first else None,
        "most": round(max(sizes), 1),
    }


def soak(
    video: str,
    seconds: float,
    fps: float,
    size: tuple[int, int] | None = None,
    options: list[str] | None = None,
) -> dict[str, Any]:
    """Runs the whole session; returns the object that `--json` prints.

    Raises:
        InputError: The video cannot be read, or the run never began.
    """
    context = multiprocessing.get_context("spawn")
    sent, skipped = context.Value("q", 0), context.Value("q", 0)
    here, there = context.Pipe()
    arguments = (video, size, fps, sent, skipped, there)
    camera = context.Process(target=serve, args=arguments, name="camera", daemon=True)
    camera.start()
    run: subprocess.Popen[bytes] | None = None
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        log, stats, said = folder / "log.jsonl", folder / "stats.json", folder / "said.txt"
        try:
            there.close()
            try:
                port = here.recv()
            except EOFError:
                port = "the camera's process ended: see its traceback"
            if isinstance(port, str):
                raise InputError(port)
            command = [sys.executable, str(_RUN), f"http://127.0.0.1:{port}/live"]
            command += ["--headless", "--log", str(log), "--stats", str(stats), *(options or [])]
            # Processes that a shell starts in the background ignore Ctrl-C, and so would run.py.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with said.open("wb") as output:
                run = subprocess.Popen(command, stdout=output, stderr=output)
            began_at = time.monotonic()
            sizes = watch(run, log, seconds)
            seconds_to_end = end(run) if run.poll() is None else 0.0
            wall_s = time.monotonic() - began_at
            spent = resource.getrusage(resource.RUSAGE_CHILDREN)
            lines = log.read_text().splitlines() if log.exists() else []
            figures = json.loads(stats.read_text()) if stats.exists() else {}
            tail = said.read_text(errors="replace").strip().splitlines()[-8:]
        finally:
            if run is not None and run.poll() is None:
                run.kill()
                run.wait()
            camera.terminate()
            camera.join()
    latency = figures.get("end_to_end_ms", {})
    shown = figures.get("stages_ms", {}).get("until_shown", {})
    quantiles = ("median", "p95", "p99", "max")
    kinds = [json.loads(line)["type"] for line in lines]
    return {
        "video": Path(video).name,
        "fps": fps,
        "seconds": round(seconds, 1),
        "sent": sent.value,
        "skipped": skipped.value,
        "read": figures.get("frames_read"),
        "analysed": figures.get("frames_analysed"),
        "dropped": figures.get("frames_dropped"),
        "drops": figures.get("drops", {}),
        "events": kinds.count("micro_expression"),
        "gaps": kinds.count("gap"),
        "latency_ms": {key: latency.get(key) for key in quantiles},
        "shown_ms": {key: shown.get(key) for key in quantiles},
        "memory": memory(sizes),
        "cpus": round((spent.ru_utime + spent.ru_stime) / wall_s, 2),
        "exit_status": run.returncode,
        "seconds_to_end": round(seconds_to_end, 2),
        "said": [] if run.returncode == 0 else tail,
    }


def rows_of(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures for people."""

    def shown(value: object) -> str:
        return "?" if value is None else str(value)

    yield "frames sent", shown(result["sent"])
    yield "not sent in time", shown(result["skipped"])
    yield "read", shown(result["read"])
    yield "analysed", shown(result["analysed"])
    for cause, count in result["drops"].items():
        yield f"lost: {cause}", shown(count)
    yield "micro-expressions", shown(result["events"])
    yield "gaps", shown(result["gaps"])
    for name, key in (("capture to analysis", "latency_ms"), ("capture to sinks", "shown_ms")):
        quantiles = _joined(result[key], ("median", "p95", "p99"))
        yield f"{name}, median / p95 / p99, ms", quantiles
    yield "memory first / end / most, MB", _joined(result["memory"], ("first", "end", "most"))
    yield "memory growth, %", shown(result["memory"]["growth_percent"])
    yield "processors in use", shown(result["cpus"])
    yield "exit status", shown(result["exit_status"])
    yield "seconds from Ctrl-C to the end", shown(result["seconds_to_end"])
    for line in result["said"]:
        yield "it said", line


def _joined(values: dict[str, float | None], keys: tuple[str, ...]) -> str:
    return " / ".join("?" if values[key] is None else f"{values[key]:.1f}" for key in keys)


def _size(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r"([1-9][0-9]{1,3})x([1-9][0-9]{1,3})", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give one such as 640x480")
    return int(match[1]), int(match[2])


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0")
    return value


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = command_parser(__doc__, __file__)
    parser.add_argument("video", help="video file or folder of frames")
    parser.add_argument("--minutes", type=_positive, default=10.0, metavar="N", help="default 10")
    parser.add_argument("--fps", type=_positive, default=30.0, metavar="N", help="default 30")
    parser.add_argument("--size", type=_size, metavar="WxH", help="scale the pictures to this")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    options = parser.parse_args(arguments[:cut])
    quiet_opencv()

    def run() -> int:
        result = soak(
            options.video,
            60 * options.minutes,
            options.fps,
            options.size,
            arguments[cut + 1 :],
        )
        title = f"{result['video']}, live at {result['fps']:g} fps, {result['seconds']:g} s"
        print_figures(result, options.json, title, rows_of(result))
        return 0 if result["exit_status"] == 0 else 1

    return exit_status(parser.prog, run)


if __name__ == "__main__":
    sys.exit(main())
