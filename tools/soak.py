"""Watches a long live session: does it keep pace, stay small, lose nothing and end on Ctrl-C?

    python tools/soak.py VIDEO [--minutes N] [--fps N] [--size WxH] [--json] [-- OPTION ...]
    python tools/soak.py --faults [--seed N] [--minutes N] [--size WxH] [--json] [-- OPTION ...]

A process of its own plays the video as a network camera would: motion JPEG over HTTP on this
machine, in real time, forwards and backwards in turn so that the picture never jumps. `run.py`
watches it without a window, with a log and statistics, for so many minutes; its memory is read
every second. Then it gets a Ctrl-C. Options after `--` go to `run.py`.

With `--faults`, the camera plays the demo's clip, whose micro-expressions are known, and at random
times it stalls, freezes, goes black, loses the face, changes its size, is unplugged, damages
pictures or slows to 5 fps; or the log's disk is full for a while (a limit on the size of its file,
Linux only). The log is then compared with what was done.

    sent, skipped    frames that the camera sent; frames that it could not send in time
    read, analysed, dropped, drops    as `--stats` reports them
    latency_ms       from capture to the end of the analysis
    shown_ms         from capture to the end of all sinks
    memory           MB after the first minute (of a shorter run, after its first third) and at the
                     end, growth in percent, peak, and its course in ten steps
    cpus             processors that the run kept busy
    pauses           of the system: how often it let this process or the camera sleep beyond the
                     time that they had asked for, and the longest ones (start on the camera's
                     clock, length, s). They explain a gap or a loss only if this command has
                     real-time priority (`chrt -r 10 python tools/soak.py ...`): the session then
                     has one less and cannot have caused them
    exit_status, seconds_to_end    after the Ctrl-C
    broken_lines     lines of the log that are no JSON
    faults           with `--faults`: what `tools/faults.py` says of `check`

The exit status is 1 if the session failed, if a line of its log is broken, or if with `--faults` an
undisturbed micro-expression was lost, a gap has neither a fault nor such a pause that explains it,
or a fault left none.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realtime_mer.demo.clip import FPS, make_demo_clip
from realtime_mer.errors import InputError
from realtime_mer.results import Interval
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.stats import memory_mb
from tools.command import command_parser, exit_status, number_type, print_figures
from tools.faults import Fault, check, schedule, truth_of_loop
from tools.live_camera import LiveCamera

_RUN = Path(__file__).resolve().parent.parent / "run.py"
# Chosen by judgement. Loading takes seconds, and many more on a busy machine.
_START_S = 60.0
# Chosen by judgement. A run that takes longer to end after Ctrl-C hangs.
_END_S = 30.0
# Memory growth counts from here: by then, all buffers are allocated.
_FIRST_S = 60.0
_LAST_LINES = 8
# A process that sleeps for so long and wakes so much later was kept waiting by the system. A frame
# of a 30 fps camera comes every 33 ms, and a gap in a log is longer than a few frames.
_NAP_S = 0.01
_PAUSE_S = 0.03
# So many are printed.
_LONGEST = 20
# A full disk takes this much more of the log: less than a record, so that one breaks off.
_LEFT_BYTES = 40


def _put_below(pid: int) -> bool:
    """Takes priority from a process so that it can keep neither this one nor the camera waiting.

    Returns:
        Whether it cannot: of real-time priorities, a lower one always gives way.
    """
    if sys.platform != "linux":
        return False
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    if policy not in (os.SCHED_FIFO, os.SCHED_RR) or priority == os.sched_get_priority_min(policy):
        return False
    os.sched_setscheduler(pid, policy, os.sched_param(priority - 1))
    return True


class _Session:
    """`run.py` in a process of its own, its last words and the memory that it takes.

    Attributes:
        is_below: Whether it gives way to this process and the camera (`_put_below`).
    """

    def __init__(self, url: str, log: Path, stats: Path, options: Sequence[str]) -> None:
        command = [sys.executable, str(_RUN), url, "--headless"]
        command += ["--log", str(log), "--stats", str(stats), *options]
        # Processes that a shell starts in the background ignore Ctrl-C, and so would run.py.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._log = log
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
        )
        # Threads inherit it, so it comes before they start.
        self.is_below = _put_below(self._process.pid)
        self.began_at = time.monotonic()
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip():
                self.last_lines.append(line.rstrip())

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._listener.join()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def exit_status(self) -> int | None:
        return self._process.poll()

    def watch(self, seconds: float, full: Sequence[tuple[float, float]]) -> list[float]:
        """Waits for the session to begin, then reads its memory every second, for `seconds`.

        Args:
            seconds: For how long.
            full: When the log's disk is full (start, end), on `time.monotonic()`.

        Returns:
            The readings, MB.

        Raises:
            InputError: It did not begin in time.
        """
        deadline = time.monotonic() + _START_S
        while not self.has_ended and not self._has_begun:
            if time.monotonic() > deadline:
                raise InputError(
                    f"run.py did not begin within {_START_S:g} s: run it alone to see why"
                )
            time.sleep(0.05)
        sizes: list[float] = []
        is_full = False
        started_at = time.monotonic()
        while not self.has_ended and (spent := time.monotonic() - started_at) < seconds:
            if spent >= len(sizes):
                sizes.append(memory_mb(self._process.pid))
            if is_full != any(start <= time.monotonic() < end for start, end in full):
                is_full = not is_full
                self._limit_log(is_full)
            time.sleep(min(0.2, max(0.0, seconds - spent)))
        if not self.has_ended:
            sizes.append(memory_mb(self._process.pid))
            self._limit_log(False)
        return sizes

    @property
    def _has_begun(self) -> bool:
        return self._log.exists() and self._log.stat().st_size > 0

    def _limit_log(self, is_full: bool) -> None:
        if sys.platform != "linux":
            return
        soft = self._log.stat().st_size + _LEFT_BYTES if is_full else resource.RLIM_INFINITY
        _, hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (soft, hard))

    def end(self) -> float:
        """Sends a Ctrl-C and waits for the end; the seconds that it took, 0 if it had ended."""
        if self.has_ended:
            return 0.0
        started_at = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return time.monotonic() - started_at


class _Pauses:
    """Measures when the system lets this process sleep too long, as long as it is open.

    A thread sleeps for `_NAP_S` again and again.
    """

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] = []
        """(start, end) on `time.monotonic()`."""
        self._is_closed = False
        self._thread = threading.Thread(target=self._nap, daemon=True)

    def __enter__(self) -> _Pauses:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed = True
        self._thread.join()

    def _nap(self) -> None:
        before = time.monotonic()
        while not self._is_closed:
            time.sleep(_NAP_S)
            now = time.monotonic()
            if now - before > _NAP_S + _PAUSE_S:
                self.spans.append((before, now))
            before = now


def memory(sizes: list[float]) -> dict[str, Any]:
    """The figures of a series of one reading a second, in MB and percent."""
    if not sizes:
        return {"first": None, "end": None, "growth_percent": None, "most": None, "course": []}
    first = sizes[min(int(_FIRST_S), len(sizes) // 3)]
    return {
        "first": round(first, 1),
        "end": round(sizes[-1], 1),
        "growth_percent": round(100 * (sizes[-1] / first - 1), 2) if first else None,
        "most": round(max(sizes), 1),
        "course": [round(sizes[(len(sizes) - 1) * k // 10], 1) for k in range(11)],
    }


def soak(
    video: str,
    seconds: float,
    fps: float,
    size: tuple[int, int] | None = None,
    options: Sequence[str] = (),
    faults: Sequence[Fault] = (),
    truth: Sequence[Interval] = (),
) -> dict[str, Any]:
    """Runs the whole session; returns the object that `--json` prints.

    Args:
        video: Path of the video that the camera shows.
        seconds: How long the session is.
        fps: Frames a second of the camera.
        size: (width, height) of its pictures; None to leave them.
        options: Further options of `run.py`.
        faults: What goes wrong, in seconds of the camera's clock.
        truth: The micro-expressions that the camera shows, on the same clock.

    Raises:
        InputError: The video cannot be read, or the run never began.
    """
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        log, stats = Path(name) / "log.jsonl", Path(name) / "stats.json"
        with LiveCamera(video, size, fps, faults) as camera:
            to_monotonic = time.monotonic() - (time.time() - camera.started_unix_s)
            full = [
                (to_monotonic + f.start_s, to_monotonic + f.end_s)
                for f in faults
                if f.kind == "disk full"
            ]
            with _Pauses() as system, _Session(camera.url, log, stats, options) as session:
                sizes = session.watch(seconds, full)
                seconds_to_end = session.end()
                wall_s = time.monotonic() - session.began_at
            spent = resource.getrusage(resource.RUSAGE_CHILDREN)
            sent, skipped, opened_s = camera.frames, camera.skipped, camera.opened_s
            seen = [(start - to_monotonic, end - to_monotonic) for start, end in system.spans]
            pauses = sorted([*camera.pauses, *seen])
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        figures = _figures(stats)
    records = [record for line in lines if (record := _record(line)) is not None]
    kinds = [record["type"] for record in records]
    latency = figures.get("end_to_end_ms", {})
    shown = figures.get("stages_ms", {}).get("until_shown", {})
    quantiles = ("median", "p95", "p99", "max")
    result = {
        "video": Path(video).name,
        "fps": fps,
        "seconds": round(seconds, 1),
        "sent": sent,
        "skipped": skipped,
        "read": figures.get("frames_read"),
        "analysed": figures.get("frames_analysed"),
        "dropped": figures.get("frames_dropped"),
        "drops": figures.get("drops", {}),
        "events": kinds.count("micro_expression"),
        "gaps": kinds.count("gap"),
        "broken_lines": len(lines) - len(records),
        "latency_ms": {key: latency.get(key) for key in quantiles},
        "shown_ms": {key: shown.get(key) for key in quantiles},
        "memory": memory(sizes),
        "cpus": round((spent.ru_utime + spent.ru_stime) / wall_s, 2),
        "pauses": {
            "count": len(pauses),
            "explain": session.is_below,
            "longest": _longest(pauses),
        },
        "exit_status": session.exit_status,
        "seconds_to_end": round(seconds_to_end, 2),
        "said": [] if session.exit_status == 0 else list(session.last_lines),
    }
    if faults:
        known = pauses if session.is_below else []
        result["faults"] = check(records, faults, truth, opened_s, camera.started_unix_s, known)
    return result


def _longest(pauses: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The start and the length of the longest ones, s."""
    lengths = sorted(((end - start, start) for start, end in pauses), reverse=True)
    return [(round(start, 2), round(length, 3)) for length, start in lengths[:_LONGEST]]


def _figures(stats: Path) -> dict[str, Any]:
    """The statistics of the session; empty if it could not write them."""
    try:
        return json.loads(stats.read_text())
    except (OSError, ValueError):
        return {}


def _record(line: str) -> dict[str, Any] | None:
    """A line of the log; None if it is no record."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "type" in record else None


def is_good(result: dict[str, Any]) -> bool:
    """Whether nothing was lost: the condition for exit status 0."""
    faults = result.get("faults", {})
    is_lost = any(faults.get(key) for key in ("lost", "unexplained_gaps", "silent_faults"))
    return result["exit_status"] == 0 and not result["broken_lines"] and not is_lost


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
    longest = max((length for _, length in result["pauses"]["longest"]), default=0.0)
    yield "pauses of the system, longest, s", f"{result['pauses']['count']}, {longest:g}"
    yield "exit status", shown(result["exit_status"])
    yield "seconds from Ctrl-C to the end", shown(result["seconds_to_end"])
    yield "broken lines in the log", shown(result["broken_lines"])
    for line in result["said"]:
        yield "it said", line
    if faults := result.get("faults"):
        for kind, count in faults["faults"].items():
            yield f"fault: {kind}", shown(count)
        yield "hidden micro-expressions that the session could see", shown(faults["hidden"])
        yield "undisturbed by faults / found", f"{faults['undisturbed']} / {faults['found']}"
        yield "lost, at s", ", ".join(map(str, faults["lost"])) or "none"
        yield "disturbed, found all the same", shown(faults["found_in_faults"])
        explain = "yes" if result["pauses"]["explain"] else "no, without real-time priority"
        yield "pauses of the system explain gaps and losses", explain
        yield "disturbed by pauses of the system only", shown(faults["in_pauses"])
        yield "lost in them, at s", ", ".join(map(str, faults["lost_in_pauses"])) or "none"
        yield "false reports", shown(faults["false"])
        for reason, count in faults["gaps"].items():
            yield f"gap: {reason}", shown(count)
        yield "gaps in pauses of the system", _spans(faults["gaps_in_pauses"])
        yield "gaps that nothing explains", _spans(faults["unexplained_gaps"])
        yield "faults that left no gap", _spans(faults["silent_faults"])


def _spans(spans: Sequence[tuple[str, float, float]]) -> str:
    return ", ".join(f"{what} {start:g}-{end:g} s" for what, start, end in spans) or "none"


def _joined(values: dict[str, Any], keys: tuple[str, ...]) -> str:
    return " / ".join("?" if values[key] is None else f"{values[key]:.1f}" for key in keys)


def _size(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r"([1-9][0-9]{1,3})x([1-9][0-9]{1,3})", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give one such as 640x480")
    return int(match[1]), int(match[2])


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    positive = number_type(float, lambda value: 0 < value <= 100_000, "a number above 0")
    parser = command_parser(__doc__, __file__)
    parser.add_argument("video", nargs="?", help="video file or folder of frames")
    parser.add_argument("--faults", action="store_true", help="play a camera with faults instead")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the faults, default 0")
    parser.add_argument("--minutes", type=positive, default=10.0, metavar="N", help="default 10")
    parser.add_argument("--fps", type=positive, default=30.0, metavar="N", help="default 30")
    parser.add_argument("--size", type=_size, metavar="WxH", help="scale the pictures to this")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    options = parser.parse_args(arguments[:cut])
    if options.faults == bool(options.video):
        parser.error("give either a video or --faults")
    if options.faults and options.fps != FPS:
        parser.error(f"--faults plays the demo's clip at its own {FPS:g} fps")
    quiet_opencv()
    seconds = 60 * options.minutes
    run_options = arguments[cut + 1 :]

    def run() -> int:
        if options.faults:
            with tempfile.TemporaryDirectory(prefix="soak-") as folder:
                clip = Path(folder) / "demo.avi"
                # The camera is there before the session begins, and until it has ended.
                truth = truth_of_loop(make_demo_clip(clip), _START_S + seconds + _END_S)
                faults = schedule(seconds, options.seed)
                result = soak(str(clip), seconds, FPS, options.size, run_options, faults, truth)
        else:
            result = soak(options.video, seconds, options.fps, options.size, run_options)
        title = f"{result['video']}, live at {result['fps']:g} fps, {result['seconds']:g} s"
        print_figures(result, options.json, title, rows_of(result))
        return 0 if is_good(result) else 1

    return exit_status(parser.prog, run)


if __name__ == "__main__":
    sys.exit(main())
