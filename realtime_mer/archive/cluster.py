"""An archive on a cluster: a Ray task for each video, and the same manifest and results.

This process alone writes the manifest, and takes inputs in the order in which they were named,
whatever ends first. So the results are those of a single machine, byte for byte, and either goes on
with what the other has begun. What a node does is in `node`.

Every task writes into a folder of its own; this process moves it to its place when the task has
ended. So a node that was given up and still works does no harm.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import random
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from realtime_mer.archive import node, storage
from realtime_mer.archive.content import Content
from realtime_mer.archive.display import Progress, Running
from realtime_mer.archive.manifest import program
from realtime_mer.archive.results_folder import PART
from realtime_mer.archive.run import CHANGED, Run, Settings
from realtime_mer.archive.run import archive as archive_here
from realtime_mer.archive.worker import Outcome
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import load_landmark_model
from realtime_mer.model_file import load_weights
from realtime_mer.redaction import redacted

MOST_LOST = 4
"""So often a task may be lost with its node or its process until its video is given up. Chosen by
judgement: a video that takes its node down does so each time; a node that is taken away for other
reasons takes the same video with it rarely."""

# Tasks that wait on the cluster for a free core, as a part of its cores, and at least so many: a
# core that has become free need not wait for this process.
_WAITING_PART = 0.25
_LEAST_WAITING = 2
# Inputs that are done or at work while an earlier one is still being read. Each takes some kB here.
_MOST_AHEAD = 20_000
# All tasks together tell so often a second how far they have come.
_MESSAGES_A_SECOND = 200.0
_LEAST_TELL_S = 1.0
# A task that tells nothing for so long, besides the time between two messages, is given up: its
# node is cut off. Chosen by judgement: Ray takes some 30 s to notice a node that is gone.
_SILENT_S = 180.0
# How often the cluster is asked for its cores, and how long a wait for messages may be.
_LOOK_S = 5.0
_WAIT_S = 0.1
# Messages that are taken at once, so that Ctrl-C and the display need not wait for them all.
_MOST_MESSAGES = 2000
_STOP_S = 5.0
_CONNECT_S = 5.0
# Memory of a cluster of this machine for what tasks tell: little. The least that Ray takes.
_STORE_BYTES = 80_000_000
# Ray makes sockets in its folder, and their paths may have 107 characters.
_LONGEST_FOLDER = 40


def archive(
    inputs: Sequence[str],
    results: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    address: str | None = None,
    jobs: int | None = None,
    retry_failed: bool = False,
    decimal_comma: bool = False,
    console: Console | None = None,
) -> Progress:
    """Analyses all videos that need it on a Ray cluster, and writes the tables.

    Where this process is connected to a cluster already, that is used.

    Args:
        inputs: Paths that all nodes see, and addresses on shared storage.
        results: The results folder; all nodes see it under the same path.
        settings: As in `run.archive`.
        address: HOST:PORT of the cluster's head, or "auto" for the one of this machine; None to
            start one on this machine alone.
        jobs: How many tasks at a time; None for what the cluster can do.
        retry_failed, decimal_comma, console: As in `run.archive`.

    Returns:
        The figures of the run.

    Raises:
        InputError: As `run.archive`; Ray is missing, the cluster cannot be reached, or one of its
            nodes cannot take part. What was done is kept.
        KeyboardInterrupt: The user stopped it. What was done is kept.
    """
    with _connected(address, jobs):
        return archive_here(
            inputs,
            results,
            settings,
            jobs=jobs,
            retry_failed=retry_failed,
            decimal_comma=decimal_comma,
            console=console,
            make_run=ClusterRun,
        )


@contextlib.contextmanager
def _connected(address: str | None, jobs: int | None) -> Iterator[None]:
    """A connection to a cluster.

    Raises:
        InputError: Ray is missing, or the cluster cannot be reached.
    """
    # Before Ray is loaded: it would send figures of its use to its makers.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError:
        raise InputError(
            "--ray needs the package ray: pip install realtime-mer[ray], on every node"
        ) from None
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"include_dashboard": False} if address is None else {}
    quiet |= {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    folder = None
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            folder = _ray_folder()
            os.environ.setdefault("RAY_AUTH_TOKEN", _token())
            with _silent(ray), _private(ray, folder):
                ray.init(
                    address="local",
                    num_cpus=jobs,
                    object_store_memory=_STORE_BYTES,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=folder,
                    **quiet,
                )
        else:
            _check_reachable(address)
            with _silent(ray):
                ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        _remove(folder)
        text = " ".join(str(error).split())[:300]
        what = "no Ray cluster can be started here" if address is None else f"no cluster {address}"
        raise InputError(f"{what}: {text}") from None
    finally:
        # Ray puts its own in place, which would end this process at once.
        with contextlib.suppress(ValueError, TypeError):  # not in the main thread
            signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()
        _remove(folder)


@contextlib.contextmanager
def _silent(ray: Any) -> Iterator[None]:  # noqa: ANN401
    """In this block, Ray starts no thread that prints pages about each node that goes away."""
    # It has no switch for that. Without this name, it prints them.
    name = "listen_error_messages"
    worker = ray._private.worker
    before = getattr(worker, name, None)
    setattr(worker, name, lambda *arguments: None)
    try:
        yield
    finally:
        setattr(worker, name, before)


@contextlib.contextmanager
def _private(ray: Any, folder: str) -> Iterator[None]:  # noqa: ANN401
    """In this block, a cluster that starts listens on the loopback device alone, and asks nobody.

    Ray would listen on the address of the machine, and its server for figures of use asks for the
    kind of cloud it is in even if it may tell nobody. Temporary files of its processes go into
    `folder`.
    """
    constants, services = ray._private.ray_constants, ray._private.services
    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    before = constants.ENABLE_RAY_CLUSTER, services.start_api_server
    variables = {variable: os.environ.get(variable) for variable in (name, "TMPDIR")}
    os.environ["TMPDIR"] = folder
    # As Ray does where it knows no clusters of several machines.
    constants.ENABLE_RAY_CLUSTER = False
    os.environ[name] = "0"
    services.start_api_server = lambda *arguments, **named: ("", None)
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER, services.start_api_server = before
        for variable, value in variables.items():
            if value is None:
                del os.environ[variable]
            else:
                os.environ[variable] = value


@functools.cache
def _token() -> str:
    """What a process has to know to use a cluster of this machine.

    Without one, Ray would leave one in the user's home. It reads it once in each process.
    """
    return secrets.token_hex(32)


def _ray_folder() -> str:
    """A new folder for the sockets and logs of a cluster of this machine."""
    place = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="mer-", dir=place if len(place) < _LONGEST_FOLDER else "/tmp")


def _remove(folder: str | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _check_reachable(address: str) -> None:
    """Ray itself would try for long.

    Raises:
        OSError: Nobody answers there.
    """
    if address != "auto":
        host, _, port = address.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S):
            pass


@dataclass(slots=True, eq=False)
class _Item:
    """An input of this run, until something has come of it.

    Attributes:
        content: What is known of the file; over when it has been read.
        is_read: Whether its hash or its error is known.
        entry: Its entry in the manifest, once it is taken.
        folder: Where the task writes.
        messages: What its task tells; None if it has none.
        lost: Why tasks were lost, one reason for each.
        outcome: What came of it, with the seconds that it took.
        node, host: Where its task runs; empty until it has begun.
        time_s, duration_s: As in `Worker`.
        began_at, heard_at: On `time.monotonic()`; 0 until it has begun.
    """

    content: Content
    is_read: bool = False
    entry: dict[str, Any] | None = None
    folder: str = ""
    messages: Any = None
    lost: list[str] = field(default_factory=list)
    outcome: tuple[Outcome, float] | None = None
    node: str = ""
    host: str = ""
    time_s: float = 0.0
    duration_s: float | None = None
    began_at: float = 0.0
    heard_at: float = 0.0

    @property
    def source(self) -> str:
        return self.content.source


class ClusterRun(Run):
    """One run of an archive on the cluster that this process is connected to."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **named)
        import ray

        self._ray = ray
        # By their numbers, in the order of the inputs: those that are not taken yet, and those that
        # are taken and at work.
        self._untaken: dict[int, _Item] = {}
        self._at_work: dict[str, _Item] = {}
        self._by_messages: dict[Any, _Item] = {}
        self._count = self._attempts = 0
        self._looked_at = -_LOOK_S
        self._shown_at = 0.0
        self._models, self._task = self._shared()
        self._remote = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(node.analyse)
        # All that its tasks write is in here, so that it is easily removed.
        part = self._folder.videos / f"{secrets.token_hex(8)}{PART}"
        self._part_folder = Path(os.path.abspath(part))
        self._part_folder.mkdir()

    def _shared(self) -> tuple[list[Any], dict[str, Any]]:
        """The models' files, for all nodes, and what all tasks have in common."""
        s = self._settings
        files, names = {}, {}
        for name, path in (("classifier", s.weights), ("spotter", s.spotter)):
            weights = load_weights(path)
            names[name] = f"{name}/{Path(path).name}"
            files[names[name]] = weights.content
            card = Path(path).with_suffix(".json")
            files[f"{name}/{card.name}"] = card.read_bytes()
        names["landmarks"] = "landmarks/face_landmarker.task"
        files[names["landmarks"]] = load_landmark_model(s.landmarks).content
        digest = hashlib.sha256()
        for name, content in files.items():
            digest.update(f"{name} {len(content)}\n".encode() + content)
        common = {
            **names,
            "faces": s.faces,
            "sensitivity": s.sensitivity,
            "least_confidence": s.least_confidence,
            "frames": s.frames,
            "models": digest.hexdigest()[:16],
            "program": program(),
        }
        return [self._ray.put(files)], common

    def _has_work(self) -> bool:
        return bool(self._inputs or self._untaken or self._at_work)

    # Which inputs need work

    def _prepare(self) -> None:
        """Gives the cluster as many inputs as it can work at, and takes those that are read."""
        self._look_at_cluster()
        until = time.monotonic() + _WAIT_S
        while self._inputs and self._has_room() and time.monotonic() < until:
            item = _Item(Content(self._inputs.popleft(), self._manifest.known))
            self._untaken[self._count] = item
            self._count += 1
            item.content.look()
            self.progress.bytes += item.content.size if storage.is_stored(item.source) else 0
            item.is_read = item.content.error is not None or self._needs_nothing(item)
            if not item.is_read:
                self._submit(item)
        self._take_in_order()

    def _has_room(self) -> bool:
        return len(self._by_messages) < self._jobs and len(self._untaken) < _MOST_AHEAD

    def _look_at_cluster(self) -> None:
        """Finds out how many tasks may be under way."""
        if time.monotonic() - self._looked_at < _LOOK_S:
            return
        self._looked_at = time.monotonic()
        cores = int(self._ray.cluster_resources().get("CPU", 0))
        ahead = max(_LEAST_WAITING, int(_WAITING_PART * cores))
        self._jobs = self._asked_jobs or cores + ahead

    def _needs_nothing(self, item: _Item) -> bool:
        """Whether an input is known and nothing is to be done; if so, nobody reads it."""
        if item.content.sha256 is None:
            return False
        entry = self._manifest.of_content(item.content.sha256)
        if entry is None:
            return False
        is_failed = self._manifest.has_failed(entry) and not self._retry_failed
        return self._manifest.is_done(entry) or is_failed or entry["key"] in self._taken

    def _take_in_order(self) -> None:
        """Takes the inputs that are read, up to the first that is not."""
        for number, item in list(self._untaken.items()):
            if not item.is_read:
                return
            del self._untaken[number]
            entry = self._take(item.content)
            if entry is None:
                self._cancel(item)
                self._discard(item)
                continue
            item.entry = entry
            self._at_work[entry["key"]] = item
            self._begin(entry)
            if item.outcome is not None:
                self._settle_outcome(item)
            elif item.messages is None:
                self._submit(item)

    # Tasks

    def _submit(self, item: _Item) -> None:
        """Gives an input to the cluster."""
        self._check_disk()
        self._attempts += 1
        item.folder = str(self._part_folder / f"{self._attempts}")
        item.began_at = item.heard_at = 0.0
        task = node.Task(
            source=_everywhere(item.source),
            shown=redacted(item.source),
            folder=item.folder,
            tell_every_s=max(_LEAST_TELL_S, self._jobs / _MESSAGES_A_SECOND),
            **self._task,
        )
        item.messages = self._elsewhere(item).remote(task, self._models)
        self._by_messages[item.messages] = item
        item.node = item.host = ""

    def _elsewhere(self, item: _Item) -> Any:  # noqa: ANN401
        """The remote function, on another node if a task for this input was lost on one."""
        if not item.node:
            return self._remote
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        others = [
            found["NodeID"]
            for found in self._ray.nodes()
            if found["Alive"] and found["NodeID"] != item.node and found["Resources"].get("CPU")
        ]
        if not others:
            return self._remote
        # Soft: if that one goes, too, any other will do.
        strategy = NodeAffinitySchedulingStrategy(random.choice(others), soft=True)
        return self._remote.options(scheduling_strategy=strategy)

    def _start(self) -> None:
        """Tasks are started by the cluster."""

    def _look_after(self) -> None:
        """Takes what tasks tell."""
        until = time.monotonic() + _WAIT_S
        if not self._by_messages:
            time.sleep(_WAIT_S if self._has_work() and not self._untaken else 0)
            return
        count = min(len(self._by_messages), _MOST_MESSAGES)
        ready, _ = self._ray.wait(
            [*self._by_messages], num_returns=count, timeout=_WAIT_S, fetch_local=False
        )
        for messages in ready:
            self._hear(self._by_messages[messages])
            if time.monotonic() > until + _WAIT_S:
                break
        self._give_up_silent()
        self._take_in_order()

    def _hear(self, item: _Item) -> None:
        """Takes one message of an input's task."""
        errors = self._ray.exceptions
        try:
            message = self._ray.get(next(item.messages))
        except StopIteration:
            self._end(item)
            if item.outcome is None and item.content.error is None:
                self._lose(item, "its task ended without a word")
            return
        except errors.RayTaskError as error:
            self._end(item)
            text = " ".join(str(error.cause).split())[:300]
            raise self._unfit(
                f"a node cannot run the analysis ({type(error.cause).__name__}: {text}): install "
                "the same version of this program on all nodes"
            ) from None
        except errors.RayError as error:
            self._end(item)
            self._lose(item, _why_lost(error, item.host))
            return
        item.heard_at = time.monotonic()
        if "began" in message:
            item.node, item.host = message["began"], message["host"]
            item.began_at = item.heard_at
        elif "unfit" in message:
            raise self._unfit(message["unfit"])
        elif "read" in message:
            self._read(item, message["read"])
        elif "time_s" in message:
            item.time_s, item.duration_s = message["time_s"], message["duration_s"]
        else:
            said = message["outcome"]
            outcome = Outcome(**{**said, "notes": tuple(said["notes"])})
            self._end(item)
            item.outcome = outcome, message["seconds"]
            if item.entry is not None:
                self._settle_outcome(item)

    def _read(self, item: _Item, read: dict[str, Any]) -> None:
        if read["is_missing"]:
            again = Content(item.source)
            again.look()
            if again.error is None:
                raise self._unfit(
                    f"the node {item.host} cannot read {redacted(item.source)}, which is there: "
                    f"{read['error']}. Name folders that all nodes see under the same path"
                )
        content = item.content
        if item.entry is not None and (read["error"] or read["sha256"] != content.sha256):
            # It was read before, by a task that was lost.
            self._cancel(item)
            item.outcome = Outcome(read["error"] or CHANGED), 0.0
            self._settle_outcome(item)
            return
        content.sha256, content.error = read["sha256"], read["error"]
        content.size, content.modified_ns = read["size"], read["modified_ns"]
        item.is_read = True

    def _settle_outcome(self, item: _Item) -> None:
        """Writes down what came of an input that is taken."""
        assert item.entry is not None
        assert item.outcome is not None
        outcome, seconds = item.outcome
        self._manifest.change(item.entry, seconds=round(seconds, 1))
        try:
            self._finish(item.entry, outcome)
        finally:
            del self._at_work[item.entry["key"]]

    def _part(self, entry: dict[str, Any]) -> Path:
        return Path(self._at_work[entry["key"]].folder)

    def _lose(self, item: _Item, reason: str) -> None:
        """Does an input again whose task was lost, unless that has happened too often."""
        self._discard(item)
        item.lost.append(reason)
        item.time_s, item.duration_s = 0.0, None
        if len(item.lost) < MOST_LOST:
            self._submit(item)
            return
        told = f"its task was lost {len(item.lost)} times, at last because {reason}"
        if item.entry is not None:
            item.outcome = Outcome(told), 0.0
            self._settle_outcome(item)
        elif item.is_read:
            item.outcome = Outcome(told), 0.0
        else:
            item.content.error, item.is_read = told, True

    def _give_up_silent(self) -> None:
        """Gives up tasks of nodes that are cut off."""
        limit_s = _SILENT_S + 2 * self._jobs / _MESSAGES_A_SECOND
        now = time.monotonic()
        for item in [*self._by_messages.values()]:
            if item.heard_at and now - item.heard_at > limit_s:
                self._cancel(item, force=True)
                self._lose(item, f"{item.host} told nothing for {limit_s:.0f} s")

    def _end(self, item: _Item) -> None:
        """Notes that an input's task has ended, or counts as ended."""
        self._by_messages.pop(item.messages, None)
        item.messages = None

    def _cancel(self, item: _Item, force: bool = False) -> None:
        """Ends the task of an input, if it has one."""
        if item.messages is not None:
            with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(item.messages, force=force)
            self._end(item)

    def _discard(self, item: _Item) -> None:
        if item.folder:
            shutil.rmtree(item.folder, ignore_errors=True)

    def _unfit(self, reason: str) -> InputError:
        return InputError(
            f"{reason}. What was done is kept; the same command goes on where it was."
        )

    def _stop(self) -> None:
        """Ends all tasks; what they were at waits for the next run."""
        running = [*self._by_messages]
        for item in [*self._by_messages.values()]:
            self._cancel(item)
        until = time.monotonic() + _STOP_S
        with contextlib.suppress(self._ray.exceptions.RayError):
            while running and time.monotonic() < until:
                running = [messages for messages in running if not self._has_ended(messages)]
        for item in self._at_work.values():
            assert item.entry is not None
            self._manifest.change(item.entry, state="waiting")
        self._at_work.clear()
        self._untaken.clear()
        shutil.rmtree(self._part_folder, ignore_errors=True)

    def _has_ended(self, messages: Any) -> bool:  # noqa: ANN401
        """Whether a task that was cancelled has ended; what it still tells does not count."""
        ready, _ = self._ray.wait([messages], timeout=0.01, fetch_local=False)
        if ready:
            try:
                self._ray.get(next(messages))
            except (StopIteration, self._ray.exceptions.RayError):
                return True
        return False

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown_at < 1.0:
            return
        self._shown_at = now
        begun = [item for item in self._by_messages.values() if item.began_at]
        self.progress.running = tuple(
            Running(item.source, item.time_s, item.duration_s, now - item.began_at)
            for item in begun
        )
        running_bytes = sum(
            (running.part or 0.0) * item.content.size
            for item, running in zip(begun, self.progress.running, strict=True)
        )
        self._display.update(self.progress, self.progress.left_s(running_bytes))


def _everywhere(source: str) -> str:
    """A path that means the same on all nodes."""
    return source if storage.is_stored(source) else os.path.abspath(source)


def _why_lost(error: Exception, host: str) -> str:
    import ray

    where = f"on {host}" if host else "before it began"
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return f"the memory of its node ran out ({where})"
    if isinstance(error, ray.exceptions.NodeDiedError):
        return f"its node went away ({where})"
    return f"its process ended ({where})"
