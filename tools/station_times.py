"""Where a process spends its processor time: by station of the chain, found by sampling.

Linux tells how much processor time each thread of a process took. Every 10 ms, a thread looks which
station the stacks of the others show, unless they wait; the time of each thread is divided as often
as its stations were seen. Native threads are known by their names: MediaPipe's belong to the
landmarker, FFmpeg's to the decoder.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import thread as pool_threads
from pathlib import Path
from types import FrameType

import realtime_mer
from realtime_mer.errors import InputError

STATIONS = (
    *("decode", "convert", "landmarker", "register", "flow", "spot", "name", "write"),
    *("start", "other"),
)
"""In the order of the data. Convert: a decoded picture to BGR. Start: imports and weights. Other:
what passes pictures on, and threads that are not known."""

# Chosen by judgement: a hundred samples a second cost about 1 % of the time.
_EVERY_S = 0.01
_PACKAGE = Path(realtime_mer.__file__).parent
_TASKS = Path("/proc/self/task")
# Python's files in which threads wait.
_WAITING = {threading.__file__, pool_threads.__file__}
_IMPORT = "importlib._bootstrap"
_NATIVE = {"mediapipe": "landmarker", "av:": "decode"}
# The first that a stack comes to on its way from its thread's beginning decides.
_PLACES = (
    ("session/recognizer.py:__init__", "start"),
    ("analysis/analyser.py:_classifier", "start"),
    ("source/container.py:_image", "convert"),
    ("source/", "decode"),
    ("face/registration.py", "register"),
    ("face/ring.py", "register"),
    ("face/quality.py", "register"),
    ("face/", "landmarker"),
    ("spotting/motion.py", "flow"),
    ("spotting/", "spot"),
    ("recognition/", "name"),
    ("archive/worker.py", ""),
    ("archive/", "write"),
    ("output/", "write"),
)
# Within a place, one that is more precise.
_WITHIN = {"decode": {"convert"}}


def station_of(places: list[str]) -> str:
    """The station at work in a stack.

    Args:
        places: Files of the package with functions, as in "face/ring.py:append", the outermost
            first; and the import system.
    """
    found = ""
    for place in places:
        if place.startswith(_IMPORT):
            return "start"
        station = next((name for start, name in _PLACES if place.startswith(start)), "")
        if not found or station in _WITHIN.get(found, ()):
            found = station or found
    return found or "other"


def _places(frame: FrameType | None) -> list[str]:
    places: list[str] = []
    while frame is not None:
        if file := _file(frame.f_code.co_filename):
            places.append(f"{file}:{frame.f_code.co_name}")
        frame = frame.f_back
    return places[::-1]


@functools.cache
def _file(path: str) -> str:
    """A file as `station_of` wants it; empty for one that tells no station."""
    if path == f"<frozen {_IMPORT}>":
        return _IMPORT
    with contextlib.suppress(ValueError):
        return Path(path).relative_to(_PACKAGE).as_posix()
    return ""


class StationTimes:
    """Measures while it is entered.

    Attributes:
        seconds: Processor time of each station that took some; known afterwards.

    Raises:
        InputError: The system does not tell the processor time of threads.

    Example:
        with StationTimes() as times:
            work()
        times.seconds["landmarker"]
    """

    def __init__(self) -> None:
        if not (_TASKS / f"{threading.get_native_id()}" / "schedstat").exists():
            raise InputError("this system does not tell the processor time of threads: use Linux")
        self.seconds: dict[str, float] = {}
        # By the number of a thread: its processor time before and now, and its stations.
        self._before_s: dict[str, float] = {}
        self._now_s: dict[str, float] = {}
        self._seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="station times", daemon=True)

    def __enter__(self) -> StationTimes:
        self._process_s = time.process_time()
        self._before_s = dict(_thread_times())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        all_s = time.process_time() - self._process_s - self._own_s
        totals: defaultdict[str, float] = defaultdict(float)
        for task, now_s in self._now_s.items():
            spent_s, seen = now_s - self._before_s.get(task, 0.0), self._seen[task]
            for station, times in seen.items():
                totals[station] += spent_s * times / seen.total()
        # Threads that were never seen at work, and those that ended between two looks.
        totals["other"] += max(0.0, all_s - sum(totals.values()))
        self.seconds = dict(totals)

    def _sample(self) -> None:
        mine = threading.get_native_id()
        while not self._ended.wait(_EVERY_S):
            stacks = sys._current_frames()
            frames = {str(t.native_id): stacks.get(t.ident or 0) for t in threading.enumerate()}
            for task, taken_s in _thread_times():
                if task == str(mine):
                    continue
                self._now_s[task] = taken_s
                if station := _station(task, frames.get(task)):
                    self._seen[task][station] += 1
        self._own_s = time.thread_time()


def _thread_times() -> Iterator[tuple[str, float]]:
    """The number of each thread of this process, and its processor time in seconds."""
    for task in _TASKS.iterdir():
        # It may have ended by now.
        with contextlib.suppress(OSError):
            yield task.name, int((task / "schedstat").read_text().split()[0]) / 1e9


def _station(task: str, frame: FrameType | None) -> str | None:
    """Where a thread is at work; None if it waits."""
    if frame is not None:
        return None if frame.f_code.co_filename in _WAITING else station_of(_places(frame))
    with contextlib.suppress(OSError):
        name = (_TASKS / task / "comm").read_text()
        return next((s for start, s in _NATIVE.items() if name.startswith(start)), "other")
    return None
