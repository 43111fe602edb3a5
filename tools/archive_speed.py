"""How fast an archive works: its own workers on one video, as many as there are cores.

The same video each time: an archive itself would do it once, which is why the workers are started
here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

from realtime_mer.archive.run import Settings
from realtime_mer.archive.worker import Job, Outcome, Worker, analyse
from realtime_mer.cores import cores
from realtime_mer.errors import InputError
from tools.station_times import StationTimes

_POLL_S = 0.02


def _job(video: str, folder: Path) -> Job:
    """What the archive asks of a worker by default."""
    return Settings().job(video, folder.name, folder)


def _duration_s(video: str, outcome: Outcome) -> float:
    """How long a video is that was analysed.

    Raises:
        InputError: It was not.
    """
    if outcome.reason is not None or not outcome.duration_s:
        raise InputError(f"{video} cannot be analysed: {outcome.reason or 'it has no length'}")
    return outcome.duration_s


def _children_s() -> float | None:
    """Processor time of the processes that were started and have ended; None if unknown."""
    with contextlib.suppress(ImportError):
        import resource

        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime
    return None


def archive_speed(video: str) -> dict[str, float | None]:
    """Lets as many workers as cores analyse the video at the same time.

    Returns:
        archive_workers: How many.
        archive_hours: Hours of video that each analyses an hour, its start included.
        archive_start_s: From the start of a worker until it tells that the video is open.
        archive_cpu_s: Processor time for a minute of video, the start included; None if unknown.

    Raises:
        InputError: The video cannot be analysed.
    """
    before_s = _children_s()
    with tempfile.TemporaryDirectory(prefix="archive-speed-") as folder:
        workers: list[Worker] = []
        outcomes: dict[int, Outcome] = {}
        spent_s: dict[int, float] = {}
        opened_s: dict[int, float] = {}
        try:
            workers += (Worker(_job(video, Path(folder) / str(k))) for k in range(cores()))
            while len(outcomes) < len(workers):
                time.sleep(_POLL_S)
                for k, worker in enumerate(workers):
                    if worker.time_s > 0:
                        opened_s.setdefault(k, worker.seconds)
                    if k not in outcomes and (outcome := worker.outcome()) is not None:
                        outcomes[k], spent_s[k] = outcome, worker.seconds
        finally:
            for k, worker in enumerate(workers):
                if k not in outcomes:
                    worker.kill("the measurement was stopped")
        lengths_s = [_duration_s(video, outcome) for outcome in outcomes.values()]
    after_s = _children_s()
    cpu_s = None
    if before_s is not None and after_s is not None:
        cpu_s = 60 * (after_s - before_s) / sum(lengths_s)
    return {
        "archive_workers": len(workers),
        "archive_hours": sum(lengths_s) / sum(spent_s.values()),
        "archive_start_s": max(opened_s.values(), default=None),
        "archive_cpu_s": cpu_s,
    }


def _profiled(job: Job) -> tuple[dict[str, Any], dict[str, float]]:
    """In a process of its own: what a worker does, and the processor time of each station."""
    with StationTimes() as times:
        outcome = analyse(job, lambda _: None)
    return dataclasses.asdict(outcome), dict(times.seconds)


def archive_profile(video: str) -> dict[str, float]:
    """Processor seconds of each of `STATIONS` for a minute of the video.

    Raises:
        InputError: The video cannot be analysed, or the system does not tell these times.
    """
    with (
        tempfile.TemporaryDirectory(prefix="archive-speed-") as folder,
        # A pool of one process for one task: a process of its own.
        multiprocessing.get_context("spawn").Pool(1) as pool,
    ):
        outcome, seconds = pool.apply(_profiled, (_job(video, Path(folder) / "profile"),))
    length_s = _duration_s(video, Outcome(**outcome))
    return {station: 60 * spent_s / length_s for station, spent_s in seconds.items()}
