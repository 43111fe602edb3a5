"""An archive: all videos, a process each, in a folder that a later run continues."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import shutil
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from realtime_mer import __version__
from realtime_mer.archive.display import Display, Progress, Running, summary_lines
from realtime_mer.archive.manifest import Manifest, modified
from realtime_mer.archive.results_folder import PART, ResultsFolder
from realtime_mer.archive.worker import Job, Outcome, Worker
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import SHA256 as LANDMARKS
from realtime_mer.face.landmark_model import load_landmark_model
from realtime_mer.interrupts import checkpoint, shielded
from realtime_mer.model_file import CLASSIFIER, SPOTTER, load_weights
from realtime_mer.output.line_file import locked
from realtime_mer.output.writable import shown, why
from realtime_mer.redaction import redacted
from realtime_mer.spotting.spotter import SpotterModel

SILENT_S = 120.0
"""A worker that tells no progress for so long hangs. Chosen by judgement: a frame takes 15 to 100
ms, and loading the libraries some seconds."""

# Time that a video may take at most. Chosen by judgement: 20 times what a frame usually takes, and
# a start for short ones. Headers lie: no codec makes frames of fewer bytes than the first number,
# and where a header tells nothing, a video has at least the second number of bytes a frame, that is
# 20 kB a second.
_START_S = 300.0
_FRAME_S = 0.5
_LEAST_FRAME_BYTES = 64
_USUAL_FRAME_BYTES = 640
# What a worker may hold: its part of this part of the memory, or at least that many bytes. Chosen
# by judgement: measured once, a worker takes 0.4 GB at 1280 x 720, and 1.4 GB at 3840 x 2160.
_MEMORY_PART = 0.8
_LEAST_MEMORY_BYTES = 2 << 30
# With less free disk space no video is begun. Chosen by judgement: its clips take some MB.
_FREE_BYTES = 200_000_000
# The hash of a file that gives no bytes for so long is given up: its drive is gone.
_READ_SILENT_S = 60.0
_READ_BYTES = 1 << 20
# For each worker, videos whose hashes are known ahead.
_AHEAD = 2
# How often workers are looked after.
_POLL_S = 0.1
# The workers of an archive that was killed end within moments; until then they hold its lock.
_LOCK_WAIT_S = 5.0
_LIBRARIES = (
    *("numpy", "opencv-python", "opencv-contrib-python", "av", "mediapipe"),
    *("onnxruntime", "onnxruntime-gpu"),
)


class FolderInUseError(InputError):
    """Another archive works in the folder."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an archive does with each video.

    Attributes:
        faces: How many faces to follow at most.
        sensitivity: False reports a minute to expect; None for what the spotter's card recommends.
        least_confidence: As in `Analyser`.
        weights: The classifier.
        spotter: The spotter.
        landmarks: The landmark model; None to look for it.
        frames: Whether to write a table of all frames.
    """

    faces: int = 1
    sensitivity: float | None = None
    least_confidence: float = 0.0
    weights: Path = CLASSIFIER
    spotter: Path = SPOTTER
    landmarks: Path | None = None
    frames: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The settings as the manifest holds them, with the hashes of all weights.

        Raises:
            InputError: Weights cannot be used, or the spotter knows no sensitivity.
        """
        classifier, spotter = load_weights(self.weights), SpotterModel(self.spotter)
        load_landmark_model(self.landmarks)  # at most one download, and not one for each worker
        if not spotter.has_curve and self.sensitivity is not None:
            raise InputError(
                f"the card of {shown(self.spotter)} tells no curve of false reports, which a "
                "sensitivity needs: leave the sensitivity out, or use another spotter"
            )
        expected = None
        if spotter.has_curve:
            if self.sensitivity is not None:
                spotter.threshold = spotter.threshold_at(self.sensitivity)
            expected = round(spotter.expected_false_per_minute(spotter.threshold), 4)
        return {
            "sensitivity": self.sensitivity,
            "expected_false_per_minute": expected,
            "faces": self.faces,
            "least_confidence": self.least_confidence,
            "frames": self.frames,
            "model": str(classifier.card.get("name", self.weights.stem)),
            "weights": {
                "classifier": classifier.card["sha256"],
                "spotter": load_weights(self.spotter).card["sha256"],
                "landmarks": LANDMARKS,
            },
        }


def program() -> dict[str, Any]:
    """Name and versions of what analyses, as the manifest holds them."""
    libraries = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            libraries[name] = importlib.metadata.version(name)
    return {
        "name": "realtime_mer",
        "version": __version__,
        "python": platform.python_version(),
        "libraries": libraries,
    }


def archive(
    inputs: Sequence[str],
    results: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    jobs: int | None = None,
    retry_failed: bool = False,
    decimal_comma: bool = False,
    console: Console | None = None,
) -> Progress:
    """Analyses all videos that need it, each in a process of its own, and writes the tables.

    Args:
        inputs: Paths, as `inputs.find_inputs` gives them.
        results: The results folder; made if it is not there, else continued.
        settings: What to do with each.
        jobs: How many at a time; None for one a core.
        retry_failed: Whether to do those again that failed before.
        decimal_comma: Whether tables have decimal commas.
        console: Where to show the progress; None for standard output.

    Returns:
        The figures of the run.

    Raises:
        InputError: The folder or the weights cannot be used, another archive works there, or the
            disk is full. What was done is kept.
        KeyboardInterrupt: The user stopped it. What was done is kept.
    """
    settings = settings or Settings()
    folder = ResultsFolder(results)
    described = settings.to_dict()
    with locked_folder(folder) as lock:
        manifest = Manifest(folder, program(), described)
        display = Display(console)
        run = _Run(
            inputs, folder, settings, manifest, display, jobs or cores(), retry_failed, [lock]
        )
        try:
            run.work()
            _write_overview(folder, decimal_comma, display)
        finally:
            for line in summary_lines(run.progress, shown(folder.path)):
                display.line(line, style="red" if line.startswith("failed") else "bold")
    return run.progress


def _write_overview(folder: ResultsFolder, decimal_comma: bool, display: Display) -> None:
    """Writes the tables and the report of the archive; each video's own is for `report`."""
    # pyarrow and Matplotlib take a while to load.
    from realtime_mer.archive.report import write_report
    from realtime_mer.archive.tables import write_tables

    write_tables(folder, decimal_comma=decimal_comma)
    try:
        write_report(folder)
    except InputError as error:
        # The tables have it all.
        display.line(f"no report: {error}")


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def locked_folder(folder: ResultsFolder) -> Iterator[int]:
    """Makes the folder and locks it; gives the lock's descriptor, which workers hold as well.

    Raises:
        FolderInUseError: Another archive works there, or tables are being written.
        InputError: It cannot be made.
    """
    name = shown(folder.path)
    try:
        folder.videos.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"{name} cannot be written: {why(error)}. Name a folder for the results."
        ) from None
    try:
        until = time.monotonic() + _LOCK_WAIT_S
        while not locked(descriptor):
            if time.monotonic() > until:
                raise FolderInUseError(
                    f"another archive works in {name}: wait until it has ended, or name another "
                    "folder"
                )
            checkpoint()
            time.sleep(_POLL_S)
        # What a killed run left. Its workers have ended, for they held the lock.
        for part in folder.videos.glob(f"*{PART}"):
            shutil.rmtree(part, ignore_errors=True)
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class _Hash:
    """A file that is being read by a thread of its own, for a drive that is gone blocks it.

    Attributes:
        source: The file.
        size, modified_ns: As it was when the reading began.
        sha256: The hash, when it is known.
        error: Why it cannot be read, one sentence.
        heard_at: On `time.monotonic()`, when it last gave something.
        over: Set at the end.
    """

    source: str
    size: int = 0
    modified_ns: int = 0
    sha256: str | None = None
    error: str | None = None
    heard_at: float = field(default_factory=time.monotonic)
    over: threading.Event = field(default_factory=threading.Event)

    def start(self, manifest: Manifest) -> None:
        threading.Thread(target=self._read, args=[manifest], name="hash", daemon=True).start()

    def _read(self, manifest: Manifest) -> None:
        try:
            found = os.stat(self.source)
            self.size, self.modified_ns = found.st_size, found.st_mtime_ns
            if not stat.S_ISREG(found.st_mode):
                # A pipe would be waited for, and a device has no end.
                self.error = "it is no regular file"
                return
            known = manifest.known(self.source, self.size, self.modified_ns)
            self.sha256 = known or self._digest()
        except OSError as error:
            self.error = f"it cannot be read: {why(error)}"
        finally:
            self.over.set()

    def _digest(self) -> str:
        digest = hashlib.sha256()
        with open(self.source, "rb", buffering=0) as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
                self.heard_at = time.monotonic()
        return digest.hexdigest()


class _Run:
    """One run of an archive."""

    def __init__(
        self,
        inputs: Sequence[str],
        folder: ResultsFolder,
        settings: Settings,
        manifest: Manifest,
        display: Display,
        jobs: int,
        retry_failed: bool,
        keep_open: Sequence[int],
    ) -> None:
        self._inputs = deque(inputs)
        self._folder, self._settings, self._manifest = folder, settings, manifest
        self._display, self._jobs, self._retry_failed = display, jobs, retry_failed
        self._keep_open = keep_open
        self._hashing: _Hash | None = None
        self._ready: deque[dict[str, Any]] = deque()
        self._running: dict[str, tuple[Worker, dict[str, Any]]] = {}
        # Keys of the inputs of this run.
        self._taken: set[str] = set()
        self._memory_bytes = _most_memory(jobs)
        self.progress = Progress(len(inputs), sum(map(_size, inputs)))

    def work(self) -> None:
        """Works until nothing is left.

        Raises:
            InputError: The disk is full, or the manifest cannot be written.
            KeyboardInterrupt: The user stopped it.
        """
        try:
            with self._display:
                while self._inputs or self._hashing or self._ready or self._running:
                    checkpoint()
                    self._prepare()
                    self._start()
                    self._look_after()
                    self._manifest.write()
                    self._show()
        finally:
            with shielded():
                self._stop()
                self._manifest.write(now=True)

    # Which inputs need work

    def _prepare(self) -> None:
        """Reads ahead, for as long as a look at the workers can wait."""
        until = time.monotonic() + _POLL_S
        while (left_s := until - time.monotonic()) > 0:
            if self._hashing is None and (
                not self._inputs or len(self._ready) >= _AHEAD * self._jobs
            ):
                time.sleep(left_s)
                return
            if self._hashing is None:
                self._hashing = _Hash(self._inputs.popleft())
                self._hashing.start(self._manifest)
            hashing = self._hashing
            if hashing.over.wait(left_s):
                self._hashing = None
                self._take(hashing)
            elif time.monotonic() - hashing.heard_at > _READ_SILENT_S:
                # Its thread is left behind.
                self._hashing = None
                hashing.error = f"it gave no bytes for {_READ_SILENT_S:.0f} s: is its drive there?"
                self._take(hashing)

    def _take(self, file: _Hash) -> None:
        """Decides what becomes of an input."""
        source, manifest = file.source, self._manifest
        if file.error is not None or file.sha256 is None:
            entry = manifest.add(source, None, file.size, file.modified_ns)
            self._fail(entry, file.error or "it cannot be read")
            return
        same = manifest.of_content(file.sha256)
        if same is not None and same["key"] in self._taken:
            manifest.add_duplicate(source, file.sha256, file.size, file.modified_ns, same)
            self.progress.duplicates += 1
            self._settle(file.size)
            self._display.line(
                f"{redacted(source)} has the content of {redacted(same['source'])}: done once"
            )
            return
        self._decide(manifest.add(source, file.sha256, file.size, file.modified_ns))

    def _decide(self, entry: dict[str, Any]) -> None:
        self._taken.add(entry["key"])
        if self._manifest.is_done(entry):
            self.progress.unchanged += 1
            self._settle(entry["size"])
        elif self._manifest.has_failed(entry) and not self._retry_failed:
            self._note_failure(entry, f"{entry['reason']} (in an earlier run)")
        else:
            self._manifest.change(entry, state="waiting")
            self._ready.append(entry)

    # Workers

    def _start(self) -> None:
        while self._ready and len(self._running) < self._jobs:
            self._check_disk()
            entry = self._ready.popleft()
            part = self._part(entry)
            shutil.rmtree(part, ignore_errors=True)
            s = self._settings
            job = Job(
                source=entry["source"],
                key=entry["key"],
                folder=str(part),
                faces=s.faces,
                sensitivity=s.sensitivity,
                least_confidence=s.least_confidence,
                weights=str(s.weights),
                spotter=str(s.spotter),
                landmarks=None if s.landmarks is None else str(s.landmarks),
                frames=s.frames,
            )
            self._running[entry["key"]] = Worker(job, self._keep_open), entry
            # Until it is done again, nothing that was done before counts.
            self._manifest.change(
                entry,
                state="running",
                started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                **dict.fromkeys(("reason", "events", "duration_s", "seconds", "made_with")),
            )

    def _part(self, entry: dict[str, Any]) -> Path:
        return self._folder.videos / f"{entry['key']}{PART}"

    def _look_after(self) -> None:
        for key, (worker, entry) in list(self._running.items()):
            outcome = worker.outcome()
            if outcome is None:
                self._watch(worker, entry)
                continue
            del self._running[key]
            self._manifest.change(entry, seconds=round(worker.seconds, 1))
            self._finish(entry, outcome)

    def _watch(self, worker: Worker, entry: dict[str, Any]) -> None:
        """Ends a worker that hangs, takes too long or takes too much memory."""
        where = f"{worker.time_s:.1f} s into the video"
        limit_s = time_limit_s(entry["size"], worker.frames)
        if time.monotonic() - worker.heard_at > SILENT_S:
            worker.kill(f"nothing happened for {SILENT_S:.0f} s, {where}")
        elif worker.seconds > limit_s:
            worker.kill(f"it took longer than {limit_s / 60:.0f} min and had come {where}")
        elif self._memory_bytes and worker.memory_mb * (1 << 20) > self._memory_bytes:
            limit_gb = self._memory_bytes / (1 << 30)
            worker.kill(f"it took more than {limit_gb:.1f} GiB of memory, {where}")

    def _finish(self, entry: dict[str, Any], outcome: Outcome) -> None:
        part = self._part(entry)
        reason = outcome.reason
        if reason is None:
            reason = self._changed(entry)
        if reason is not None:
            shutil.rmtree(part, ignore_errors=True)
            if outcome.is_disk:
                self._manifest.change(entry, state="waiting")
                raise _disk_error(self._folder, reason)
            self._check_disk(entry)
            self._fail(entry, reason)
            return
        place = self._folder.video(entry).folder
        try:
            if place.exists():
                # A kill from here on must not find the old results' settings with the new ones.
                self._manifest.write(now=True)
                shutil.rmtree(place)
            part.rename(place)
        except OSError as error:
            self._manifest.change(entry, state="waiting")
            raise _disk_error(self._folder, why(error)) from None
        self._manifest.change(
            entry,
            state="done",
            attempts=entry["attempts"] + 1,
            duration_s=outcome.duration_s,
            events=outcome.events,
            notes=list(outcome.notes),
            made_with=self._manifest.made_with,
        )
        self.progress.done += 1
        self.progress.events += outcome.events
        self.progress.analysed_s += outcome.duration_s or 0.0
        self.progress.analysed_bytes += entry["size"]
        self._settle(entry["size"])
        source = redacted(entry["source"])
        self._tell(f"done: {source} ({outcome.events} events, {entry['seconds']:.0f} s)")

    def _changed(self, entry: dict[str, Any]) -> str | None:
        """Why the results are of no use: the file is another one by now."""
        try:
            if modified(entry["source"]) == (entry["size"], entry["modified_ns"]):
                return None
        except OSError:
            return None  # what has been read has been read
        return "it was changed while it was read: run the archive again with --retry-failed"

    def _fail(self, entry: dict[str, Any], reason: str) -> None:
        reason = " ".join(reason.split())
        self._taken.add(entry["key"])
        self._manifest.change(
            entry,
            state="failed",
            # Those that were stopped do not count.
            attempts=entry["attempts"] + 1,
            reason=reason,
            made_with=self._manifest.made_with,
        )
        self._note_failure(entry, reason)
        self._tell(f"failed: {redacted(entry['source'])}: {reason}")

    def _tell(self, what: str) -> None:
        """Tells what became of an input, where no table shows it."""
        if not self._display.console.is_terminal:
            count = self.progress.inputs - self.progress.left
            self._display.line(f"{count}/{self.progress.inputs} {what}")

    def _note_failure(self, entry: dict[str, Any], reason: str) -> None:
        self.progress.failed += 1
        self.progress.failures.append((redacted(entry["source"]), reason))
        self._settle(entry["size"])

    def _settle(self, size: int) -> None:
        self.progress.settled_bytes += size

    def _check_disk(self, entry: dict[str, Any] | None = None) -> None:
        """
        Args:
            entry: An input that failed, perhaps for that; it will be done again.

        Raises:
            InputError: The disk is nearly full.
        """
        if shutil.disk_usage(self._folder.path).free < _FREE_BYTES:
            if entry is not None:
                self._manifest.change(entry, state="waiting")
            raise _disk_error(self._folder, f"less than {_FREE_BYTES // 10**6} MB are left")

    def _stop(self) -> None:
        """Ends all workers; what they were at waits for the next run."""
        for worker, _ in self._running.values():
            worker.kill("the archive was stopped")
        until = time.monotonic() + _LOCK_WAIT_S
        for worker, entry in self._running.values():
            while worker.outcome() is None and time.monotonic() < until:
                time.sleep(0.01)
            shutil.rmtree(self._part(entry), ignore_errors=True)
            self._manifest.change(entry, state="waiting")
        self._running.clear()

    def _show(self) -> None:
        workers = [worker for worker, _ in self._running.values()]
        self.progress.running = tuple(
            Running(w.job.source, w.time_s, w.duration_s, w.seconds) for w in workers
        )
        parts = zip(self._running.values(), self.progress.running, strict=True)
        running_bytes = sum((running.part or 0.0) * e["size"] for (_, e), running in parts)
        self._display.update(self.progress, self.progress.left_s(running_bytes))


def time_limit_s(size: int, frames: int | None) -> float:
    """How long the analysis of a video may take.

    Args:
        size: Bytes of the file.
        frames: How many frames its header tells; None if it does not.
    """
    most = size / _LEAST_FRAME_BYTES
    count = min(frames, most) if frames else size / _USUAL_FRAME_BYTES
    return _START_S + _FRAME_S * count


def _most_memory(jobs: int) -> int | None:
    """Bytes that one of so many workers may hold; None where the memory's size is not known."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return max(_LEAST_MEMORY_BYTES, int(_MEMORY_PART * total / jobs))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _disk_error(folder: ResultsFolder, reason: str) -> InputError:
    return InputError(
        f"{shown(folder.path)} takes no more results: {reason}. Make room, then run the same "
        "command again: it goes on where it was."
    )
