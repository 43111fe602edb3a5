"""What a node of a cluster does with one video; the nodes' part of `cluster`.

A task reads the video for its hash, from shared storage or into a copy of its own, and then has a
worker analyse it in a process of its own, as on a single machine. It tells how far it has come with
messages, each a dict with one of these fields first:

- `began`: the node's id, and its name as `host`
- `unfit`: why this node can analyse nothing; the last message
- `read`: the file's `size` and `modified_ns`, with `sha256`, or the `error` that makes it the last
- `time_s`: how far the analysis has come, of `duration_s`
- `outcome`: the fields of an `Outcome`, and the `seconds` that it took; the last message
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realtime_mer.archive import limits, storage
from realtime_mer.archive.content import Content
from realtime_mer.archive.manifest import program
from realtime_mer.archive.worker import Job, Worker
from realtime_mer.cores import cores
from realtime_mer.errors import InputError
from realtime_mer.output.line_file import locked
from realtime_mer.output.writable import why

# How often a worker is looked after.
_POLL_S = 0.1
_END_S = 5.0


@dataclass(frozen=True, slots=True)
class Task:
    """What a node is asked to do.

    Attributes:
        source: Path or address of the video, the same on every node.
        shown: How the results call it: as the user named it.
        folder: Where to write, on shared storage; the folder around it exists.
        faces, sensitivity, least_confidence, frames: As in `Job`.
        models: A mark of the models' files, which are the same on every node.
        classifier, spotter, landmarks: Their names among the files.
        program: Name and versions of what analyses.
        tell_every_s: How often to tell how far it has come.
    """

    source: str
    shown: str
    folder: str
    faces: int
    sensitivity: float | None
    least_confidence: float | None
    frames: bool
    models: str
    classifier: str
    spotter: str
    landmarks: str
    program: Mapping[str, Any]
    tell_every_s: float


def analyse(task: Task, models: list[Any]) -> Iterator[dict[str, Any]]:
    """Does a task; yields messages.

    Args:
        task: What to do.
        models: A reference to the models' files, a dict of names and bytes. It is in a list, for
            most tasks find the files on their node and need not get it.
    """
    import ray

    host = platform.node()
    yield {"began": ray.get_runtime_context().get_node_id(), "host": host}
    with contextlib.ExitStack() as stack:
        try:
            _check(task)
            folder = _models(task, models)
            copy, keep_open = None, []
            if storage.is_stored(task.source):
                copy, lock = stack.enter_context(_place_for_copy(task.source))
                keep_open.append(lock)
        except (InputError, OSError) as error:
            yield {"unfit": f"the node {host} cannot take part: {_text(error)}"}
            return
        content = Content(task.source, copy=copy)
        content.start()
        told_at = time.monotonic()
        while not content.wait(_POLL_S):
            if time.monotonic() - told_at >= task.tell_every_s:
                told_at = time.monotonic()
                yield {"time_s": 0.0, "duration_s": None}
        fields = ("sha256", "size", "modified_ns", "error", "is_missing")
        yield {"read": {name: getattr(content, name) for name in fields}}
        if content.error is not None:
            return
        job = Job(
            source=str(copy or task.source),
            shown=task.shown,
            key=Path(task.folder).name,
            folder=task.folder,
            faces=task.faces,
            sensitivity=task.sensitivity,
            least_confidence=task.least_confidence,
            weights=str(folder / task.classifier),
            spotter=str(folder / task.spotter),
            landmarks=str(folder / task.landmarks),
            frames=task.frames,
        )
        try:
            worker = Worker(job, keep_open)
        except OSError as error:
            yield {"unfit": f"the node {host} starts no process: {why(error)}"}
            return
        try:
            yield from _watched(worker, content.size, task.tell_every_s)
        finally:
            # Whoever cancels the task ends this thread with an error.
            worker.kill("the archive was stopped")
            until = time.monotonic() + _END_S
            while worker.outcome() is None and time.monotonic() < until:
                time.sleep(0.01)


def _watched(worker: Worker, size: int, tell_every_s: float) -> Iterator[dict[str, Any]]:
    """Looks after a worker until it ends."""
    memory_bytes = limits.most_memory(cores())
    told_at = time.monotonic()
    while (outcome := worker.outcome()) is None:
        time.sleep(_POLL_S)
        limits.enforce(worker, size, memory_bytes)
        if time.monotonic() - told_at >= tell_every_s:
            told_at = time.monotonic()
            yield {"time_s": worker.time_s, "duration_s": worker.duration_s}
    fields = dataclasses.asdict(outcome)
    if worker.job.shown is not None and outcome.reason is not None:
        fields["reason"] = outcome.reason.replace(worker.job.source, worker.job.shown)
    yield {"outcome": fields, "seconds": worker.seconds}


def _check(task: Task) -> None:
    """
    Raises:
        InputError: Results of this node would differ, or nobody would see them.
    """
    ours = program()
    if ours != task.program:
        theirs = {**task.program, **task.program["libraries"]}
        mine = {**ours, **ours["libraries"]}
        differ = [
            f"{name} {mine.get(name, 'missing')} instead of {theirs.get(name, 'none')}"
            for name in sorted({*mine, *theirs} - {"libraries"})
            if mine.get(name) != theirs.get(name)
        ]
        raise InputError(
            f"it has {', '.join(differ)}, and results would differ: install the same on all nodes"
        )
    if not Path(task.folder).parent.is_dir():
        raise InputError(
            "it does not see the results folder: name a folder that all nodes see under the same "
            "path"
        )


def _models(task: Task, models: list[Any]) -> Path:
    """The folder with the models' files; they are written there unless another task has done so.

    Raises:
        OSError: They cannot be written.
        InputError: The folder is another user's.
    """
    import ray

    folder = _own_folder() / f"models-{task.models}"
    if not folder.is_dir():
        part = Path(tempfile.mkdtemp(dir=_own_folder(), prefix=".models-"))
        try:
            for name, content in ray.get(models[0]).items():
                (part / name).parent.mkdir(exist_ok=True)
                (part / name).write_bytes(content)
            with contextlib.suppress(OSError):
                part.rename(folder)  # if it fails, another task was quicker
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _own_folder() -> Path:
    """This user's temporary folder on this node; it stays, for the next task needs it.

    Raises:
        OSError: It cannot be made.
        InputError: It is another user's.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"realtime-mer-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != user):
        raise InputError(f"{folder} is not this user's: delete it, or set TMPDIR")
    return folder


@contextlib.contextmanager
def _place_for_copy(source: str) -> Iterator[tuple[Path, int]]:
    """Where to copy a video to, and the descriptor of a lock that says that it is in use.

    Copies of tasks that were killed are deleted first.
    """
    for folder in _own_folder().glob("copy-*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder / ".lock", os.O_RDWR)
            try:
                if locked(lock):
                    shutil.rmtree(folder)
            finally:
                os.close(lock)
    folder = Path(tempfile.mkdtemp(dir=_own_folder(), prefix=".copy-"))
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    locked(lock)
    # Only now it is one that others may find.
    folder = folder.rename(folder.with_name(folder.name[1:]))
    try:
        # Some readers go by the ending.
        yield folder / f"video{Path(source).suffix}", lock
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else why(error)
