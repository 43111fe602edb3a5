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
import pytest

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


class Lines:
    """What a process prints: JSON objects, one a line."""

    def __init__(self, *command) -> None:
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.seen: list[dict] = []
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    @classmethod
    def of(cls, script: str, *arguments) -> "Lines":
        """A Python script of this folder."""
        return cls(sys.executable, HERE / script, *arguments)

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)

    def until(self, condition) -> dict:
        """Reads on until a line fulfils the condition, and returns it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            self.seen.append(json.loads(line))
            if condition(self.seen[-1]):
                return self.seen[-1]

    def new(self) -> list[dict]:
        """What came since it was read last."""
        found = [json.loads(self._lines.get()) for _ in range(self._lines.qsize())]
        self.seen += found
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


@pytest.fixture
def lines():
    """Starts Python scripts of this folder that print JSON."""
    started: list[Lines] = []

    def start(script: str, *arguments) -> Lines:
        started.append(Lines.of(script, *arguments))
        return started[-1]

    yield start
    for process in started:
        process.end()
