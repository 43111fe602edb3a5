"""The whole suite runs on several cores; a file, or a choice of tests, in one process.

`python -m pytest -n 0` runs the whole suite in one process, too.
"""

import os
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

from realtime_mer.cores import cores

# Chosen: with more, the tests that stay together take longest.
MOST_WORKERS = 4

# They stream as a camera does, kill processes, or wait for what must happen in time. One after the
# other, for two at once would take the time from each other that they have.
LIVE = (
    "tests/realtime_mer/analysis/test_gaps.py",
    "tests/realtime_mer/archive/test_ray.py",
    "tests/realtime_mer/archive/test_run.py",
    "tests/realtime_mer/archive/test_session_results.py",
    "tests/realtime_mer/archive/test_worker.py",
    "tests/realtime_mer/command/",
    "tests/realtime_mer/output/senders/",
    "tests/realtime_mer/output/test_recording.py",
    "tests/realtime_mer/output/test_window.py",
    "tests/realtime_mer/output/web/",
    "tests/realtime_mer/review/",
    "tests/realtime_mer/session/",
    "tests/realtime_mer/source/",
    "tests/test_examples.py",
    "tests/test_private.py",
    "tests/test_run.py",
    "tests/tools/test_delays.py",
    "tests/tools/test_live_camera.py",
)
# They share what takes long to make: made-up data sets, prepared.
SHARING = ("tests/tools/recognition/",)

# Of numpy, SciPy and PyTorch, for there is a worker a core: two threads that waited for each other
# took 25 times the processor to solve 261 equations on a busy machine with two cores.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# Added to the niceness of a process that runs other tests than the live ones, which come first.
NICENESS = 10


class Scheduling(LoadFileScheduling):
    """Gives a worker whole files, and all files that must not be apart."""

    def _split_scope(self, nodeid: str) -> str:
        for together in (LIVE, SHARING):
            if nodeid.startswith(together):
                return together[0]
        return super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> Scheduling:
    return Scheduling(config, log)


def pytest_xdist_setupnodes(specs) -> None:
    for spec in specs:
        spec.env.update(ONE_THREAD)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Lets the live tests, which another process runs, have the processor when they need it."""
    distributed = hasattr(item.config, "workerinput") and hasattr(os, "nice")
    if distributed and os.nice(0) < NICENESS and not item.nodeid.startswith(LIVE):
        os.nice(NICENESS)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes to start beside this one; 0 runs the tests in this one."""
    option = config.option
    chosen = option.keyword or option.markexpr or option.capture == "no"
    folders = all(Path(argument.split("::")[0]).is_dir() for argument in config.args)
    return min(cores(), MOST_WORKERS) if folders and not chosen and cores() > 1 else 0
