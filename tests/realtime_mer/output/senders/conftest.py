"""Real analyses as a live source gives them, without running the chain again."""

import contextlib
import dataclasses
import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from realtime_mer.results import Analysis, ClockOrigin, Session, Summary
from realtime_mer.source.frame import Frame

HERE = Path(__file__).resolve().parent
LABELS = ("negative", "positive", "surprise")
BLACK = np.zeros((48, 64, 3), np.uint8)
SUMMARY = Summary("end of source", 0, 0, 0, 0, 0.0, 0.0, 0)
# A busy machine takes its time.
PATIENCE_S = 40.0


def session(live: bool = True, source: str = "camera 0", start_s: float | None = None) -> Session:
    origin = ClockOrigin(time.monotonic() if start_s is None else start_s, time.time())
    return Session(source, live, (640, 480), 30.0, 0, "causalnet", "CPU", LABELS, origin)


def as_live(analyses, origin: ClockOrigin) -> list:
    """The analyses of a recording as those of a camera that started then."""
    found = []
    for a in analyses:
        captured_at = origin.monotonic(a.frame.time_s)
        frame = dataclasses.replace(a.frame, captured_at=captured_at)
        events = tuple(dataclasses.replace(event, origin=origin) for event in a.events)
        found.append(dataclasses.replace(a, frame=frame, events=events))
    return found


def moment(number: int = 0, **found) -> Analysis:
    """An analysis of nothing in particular."""
    return Analysis(Frame(number, number / 30, BLACK, time.monotonic()), **found)


def wait_until(condition, timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


class Heard:
    """What comes from another program, in the order in which it comes.

    Attributes:
        seen: What has been read.
    """

    def __init__(self) -> None:
        self.seen: list[dict] = []
        self._coming: queue.Queue[dict] = queue.Queue()

    def until(self, condition) -> dict:
        """Reads on until something fulfils the condition, and returns it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.seen.append(self._coming.get(timeout=max(0.0, deadline - time.monotonic())))
            if condition(self.seen[-1]):
                return self.seen[-1]

    def new(self) -> list[dict]:
        """What came since it was read last."""
        found = [self._coming.get() for _ in range(self._coming.qsize())]
        self.seen += found
        return found


class Lines(Heard):
    """What a Python script of this folder prints: JSON objects, one a line."""

    def __init__(self, script: str, *arguments: str) -> None:
        super().__init__()
        self._process = subprocess.Popen(
            [sys.executable, HERE / script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._coming.put(json.loads(line))

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
