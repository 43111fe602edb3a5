"""What an archive on a cluster of many nodes needs, and what breaks first: a simulation.

    python tools/cluster_simulation.py --nodes 10 100 1000
    python tools/cluster_simulation.py --measure

It simulates the nodes' cores, the one process that hands out the videos and writes the manifest,
the shared storage, and nodes that go away. What that process needs for a video is measured with
--measure, on a small cluster of this machine whose tasks do nothing. The same seed gives the same
figures.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tools.command import command_parser, exit_status, print_figures

# As in realtime_mer.archive.cluster, which loads much.
_MOST_LOST = 4
_WAITING_PART = 0.25
_PROGRESS_A_SECOND = 200.0
_MOST_MESSAGES = 2000
# Messages of a video besides those: it began, it was read, what came of it, and the task's end.
_MESSAGES = 4
# Tasks under way when it is measured what it takes to ask for news: those of 800 nodes.
_WAITING = 16_000


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is simulated.

    Attributes:
        nodes, cores: Nodes, and cores of each.
        speed: Seconds of video that a core analyses in a second.
        video_s: Length of a video in seconds: the median; they have half to twice of it.
        video_mbit: Megabits of a second of video.
        storage_gbit: Gigabits a second that the shared storage gives to all nodes together.
        node_gbit: Gigabits a second that a node reads at most.
        days_between_deaths: Days until a node goes away, on average. Another one replaces it.
        videos_a_core: How many videos there are for each core.
        process_s: Seconds of the handing process for a video: task, messages, manifest.
        wait_s: Seconds of it for each task under way, each time it asks what is new.
        entry_s: Seconds of it for each video of the manifest, each time that is written whole.
    """

    nodes: int
    cores: int = 16
    speed: float = 1.0
    video_s: float = 600.0
    video_mbit: float = 8.0
    storage_gbit: float = 100.0
    node_gbit: float = 10.0
    days_between_deaths: float = 30.0
    videos_a_core: int = 10
    process_s: float = 0.0037
    wait_s: float = 2.9e-6
    entry_s: float = 6e-6

    @property
    def handing_s(self) -> float:
        """Seconds of the handing process for a video, with its part of what is done for all."""
        message_s = self.process_s / _MESSAGES
        asking_s = self.wait_s * self.nodes * self.cores * (1 + _WAITING_PART) / _MOST_MESSAGES
        free_part = max(0.05, 1 - _PROGRESS_A_SECOND * (message_s + asking_s))
        return (self.process_s + _MESSAGES * asking_s) / free_part


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it.

    Attributes:
        nodes: How many there were.
        hours: Hours until all videos were done.
        video_hours_an_hour: Hours of video that were analysed in an hour.
        cores_busy: Part of the cores' time in which they analysed what counts.
        process_busy: Part of the time in which the handing process was at work.
        storage_busy: Part of what the storage could give that was read.
        lost_tasks: Tasks that went with their nodes.
        given_up: Videos given up for that.
        next_limit: Besides the cores, what is nearest to its limit.
    """

    nodes: int
    hours: float
    video_hours_an_hour: float
    cores_busy: float
    process_busy: float
    storage_busy: float
    lost_tasks: int
    given_up: int
    next_limit: str


class _Server:
    """What does one thing after the other: the process, or the storage."""

    def __init__(self) -> None:
        self.free_at = self.used_s = 0.0

    def serve(self, now: float, cost_s: float) -> float:
        """When it has done this, too."""
        self.free_at = max(self.free_at, now) + cost_s
        self.used_s += cost_s
        return self.free_at


@dataclass(slots=True)
class _Video:
    length_s: float
    lost: int = 0


def simulate(cluster: Cluster, seed: int = 0) -> Figures:
    """Simulates an archive from its first video to its last."""
    c, chance = cluster, random.Random(seed)
    cores = c.nodes * c.cores
    waiting = deque(
        _Video(c.video_s * 2 ** chance.uniform(-1, 1)) for _ in range(c.videos_a_core * cores)
    )
    left = len(waiting)
    free = deque(node for _ in range(c.cores) for node in range(c.nodes))
    # What a core did in a life of its node that has ended is lost.
    lives = [0] * c.nodes
    process, storage = _Server(), _Server()
    now = analysed_s = 0.0
    lost = given_up = written = done = 0
    # (when, a number that makes them comparable, node, its life, video); a death has no video.
    events: list[tuple[float, int, int, int, _Video | None]] = []
    number = 0

    def after(when: float, node: int, video: _Video | None) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, node, lives[node], video))

    def start() -> None:
        while waiting and free:
            node, video = free.popleft(), waiting.popleft()
            # Tasks that wait at the nodes hide it if the process is late, but not for longer than
            # they last.
            hidden_s = _WAITING_PART * c.video_s / c.speed
            begins = max(now, process.serve(now, c.handing_s) - hidden_s)
            bits = video.length_s * c.video_mbit * 1e6
            # It is read once, for its hash: then it is in the node's memory or in its copy.
            read = max(
                storage.serve(begins, bits / (c.storage_gbit * 1e9)),
                begins + bits / (c.node_gbit * 1e9),
            )
            after(read + video.length_s / c.speed, node, video)

    def death(node: int) -> None:
        after(now + chance.expovariate(1 / (c.days_between_deaths * 86400)), node, None)

    for node in range(c.nodes):
        death(node)
    start()
    while left:
        now, _, node, life, ended = heapq.heappop(events)
        if ended is None:
            lives[node] += 1
            death(node)
            continue
        free.append(node)
        if life == lives[node]:
            left -= 1
            done += 1
            analysed_s += ended.length_s
            if done > 2 * max(1000, written):
                # The journal is larger than the manifest: they are made one.
                written = done
                process.serve(now, c.entry_s * done)
        else:
            # A little late: it is told here when it would have ended.
            lost += 1
            ended.lost += 1
            if ended.lost < _MOST_LOST:
                waiting.append(ended)
            else:
                given_up += 1
                left -= 1
        start()
    end = process.serve(now, c.entry_s * done)
    busy = {"process": process.used_s / end, "storage": storage.used_s / end}
    return Figures(
        nodes=c.nodes,
        hours=round(end / 3600, 2),
        video_hours_an_hour=round(analysed_s / end, 1),
        cores_busy=round(analysed_s / c.speed / (end * cores), 3),
        process_busy=round(busy["process"], 3),
        storage_busy=round(busy["storage"], 3),
        lost_tasks=lost,
        given_up=given_up,
        next_limit=max(busy, key=lambda name: busy[name]),
    )


def _told_at_once(task: Any, models: list[Any]) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    """Tells what the task of a short video tells, without an analysis."""
    import hashlib
    import json

    import ray

    yield {"began": ray.get_runtime_context().get_node_id(), "host": "here"}
    sha256 = hashlib.sha256(task.source.encode()).hexdigest()
    found = os.stat(task.source)
    size, modified_ns = found.st_size, found.st_mtime_ns
    yield {
        "read": {
            **{"sha256": sha256, "size": size, "modified_ns": modified_ns},
            **{"error": None, "is_missing": False},
        }
    }
    os.mkdir(task.folder)
    with open(f"{task.folder}/log.jsonl", "w", encoding="ascii") as log:
        json.dump({"type": "session"}, log)
    outcome = {"reason": None, "is_disk": False, "duration_s": 1.0, "events": 0, "notes": ()}
    yield {"outcome": outcome, "seconds": 1.0}


def measure(videos: int) -> dict[str, float]:
    """Costs of the handing process, in seconds of its processor time.

    Args:
        videos: How many tasks to hand out.

    Returns:
        `process_s`, `wait_s` and `entry_s` as in `Cluster`.

    Raises:
        InputError: Ray is missing, or does not start.
    """
    from realtime_mer.archive import cluster, run
    from realtime_mer.archive.manifest import Manifest
    from realtime_mer.archive.results_folder import ResultsFolder

    used: dict[str, float] = {}

    class Measured(cluster.ClusterRun):
        def work(self) -> None:
            began = time.process_time()
            super().work()
            used["process_s"] = (time.process_time() - began) / videos
            used["wait_s"] = self.one_wait() / _WAITING

        def one_wait(self) -> float:
            """Seconds to ask for news of as many tasks, of which none can begin."""
            never: Any = self._remote.options(num_cpus=1 << 20)
            busy = [never.remote(None, []) for _ in range(_WAITING)]
            self._ray.wait(busy, timeout=0)
            began = time.process_time()
            self._ray.wait(busy, num_returns=_MOST_MESSAGES, timeout=0, fetch_local=False)
            passed_s = time.process_time() - began
            for task in busy:
                self._ray.cancel(task)
            return passed_s

    with tempfile.TemporaryDirectory() as place:
        inputs = [f"{place}/{number}.mp4" for number in range(videos)]
        for path in inputs:
            Path(path).touch()
        analyse, make, overview = cluster.node.analyse, cluster.ClusterRun, run._write_overview
        cluster.node.analyse = _told_at_once
        cluster.ClusterRun = Measured  # type: ignore[misc]
        run._write_overview = lambda *arguments: None
        try:
            with open(os.devnull, "w") as nothing:
                cluster.archive(inputs, f"{place}/results", console=Console(file=nothing))
        finally:
            cluster.node.analyse, cluster.ClusterRun = analyse, make  # type: ignore[misc]
            run._write_overview = overview
        folder = ResultsFolder(f"{place}/results")
        top = folder.archived
        manifest = Manifest(folder, top["program"], top["settings"])
        began = time.process_time()
        manifest.write(now=True)
        used["entry_s"] = (time.process_time() - began) / videos
        manifest.close()
    return {name: float(f"{value:.3g}") for name, value in used.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    p = command_parser(__doc__, __file__)
    p.add_argument("--nodes", type=int, nargs="+", default=[1, 10, 100, 1000], metavar="N")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--json", action="store_true", help="an object a line in place of a table")
    p.add_argument("--measure", action="store_true", help="measure the handing process and end")
    p.add_argument("--videos", type=int, default=2000, help="with --measure (default: 2000)")
    figures = p.add_argument_group("what is simulated")
    defaults = {name: f.default for name, f in Cluster.__dataclass_fields__.items()}
    for name, default in defaults.items():
        if name != "nodes":
            option = f"--{name.replace('_', '-')}"
            figures.add_argument(option, type=type(default), default=default, help="(%(default)s)")
    options = p.parse_args(arguments)
    return exit_status(p.prog, lambda: _work(options))


def _work(options: argparse.Namespace) -> None:
    if options.measure:
        result = measure(options.videos)
        rows = [(name, f"{value:.2g} s") for name, value in result.items()]
        print_figures(result, options.json, "the handing process, for a video", rows)
        return
    names = Cluster.__dataclass_fields__.keys() - {"nodes"}
    chosen = {name: getattr(options, name) for name in names}
    all_figures = [simulate(Cluster(n, **chosen), options.seed) for n in options.nodes]
    if options.json:
        for figures in all_figures:
            print_figures(asdict(figures), True, "", ())
        return
    table = Table()
    for name in asdict(all_figures[0]):
        table.add_column(name.replace("_", " "), justify="right")
    for figures in all_figures:
        table.add_row(*map(str, asdict(figures).values()))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
