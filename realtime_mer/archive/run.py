"""An archive: all videos, a process each, in a folder that a later run continues."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from realtime_mer.archive import limits, storage
from realtime_mer.archive.content import Content
from realtime_mer.archive.display import Display, Progress, Running, summary_lines
from realtime_mer.archive.manifest import Manifest, modified, program
from realtime_mer.archive.results_folder import PART, ResultsFolder
from realtime_mer.archive.worker import Job, Outcome, Worker
from realtime_mer.cores import cores
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import SHA256 as LANDMARKS
from realtime_mer.face.landmark_model import load_landmark_model
from realtime_mer.interrupts import checkpoint, shielded
from realtime_mer.model_file import CLASSIFIER, SPOTTER, load_weights
from realtime_mer.output.line_file import locked
from realtime_mer.output.writable import shown, why
from realtime_mer.recognition.classifier import recommended_least_confidence
from realtime_mer.redaction import redacted
from realtime_mer.spotting.spotter import SpotterModel

# With less free disk space no video is begun. Chosen by judgement: its clips take some MB.
_FREE_BYTES = 200_000_000
# For each worker, videos whose hashes are known ahead.
_AHEAD = 2
# How often workers are looked after.
_POLL_S = 0.1
# The workers of an archive that was killed end within moments; until then they hold its lock.
_LOCK_WAIT_S = 5.0

CHANGED = "it was changed while it was read: run the archive again with --retry-failed"
"""Why the results of an input are of no use that is another one by now."""


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
    least_confidence: float | None = None
    weights: Path = CLASSIFIER
    spotter: Path = SPOTTER
    landmarks: Path | None = None
    frames: bool = False

    def job(self, source: str, key: str, folder: Path) -> Job:
        """What a worker is asked to do with a video; see `Job`."""
        return Job(
            source=source,
            key=key,
            folder=str(folder),
            faces=self.faces,
            sensitivity=self.sensitivity,
            least_confidence=self.least_confidence,
            weights=str(self.weights),
            spotter=str(self.spotter),
            landmarks=None if self.landmarks is None else str(self.landmarks),
            frames=self.frames,
        )

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
            "least_confidence": (
                recommended_least_confidence(classifier)
                if self.least_confidence is None
                else self.least_confidence
            ),
            "frames": self.frames,
            "model": str(classifier.card.get("name", self.weights.stem)),
            "weights": {
                "classifier": classifier.card["sha256"],
                "spotter": load_weights(self.spotter).card["sha256"],
                "landmarks": LANDMARKS,
            },
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
    make_run: Callable[..., Run] | None = None,
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
        make_run: Makes the run, with the arguments of `Run`; None for `Run`.

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
        run = (make_run or Run)(
            inputs, folder, settings, manifest, display, jobs, retry_failed, [lock]
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


class Run:
    """One run of an archive, with workers on this machine.

    Args:
        inputs: Paths.
        folder: The results folder.
        settings: What to do with each.
        manifest: That of the folder.
        display: Where to show the progress.
        jobs: How many at a time; None for what the machine can do.
        retry_failed: Whether to do those again that failed before.
        keep_open: Descriptors that workers hold while they live.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        folder: ResultsFolder,
        settings: Settings,
        manifest: Manifest,
        display: Display,
        jobs: int | None,
        retry_failed: bool,
        keep_open: Sequence[int],
    ) -> None:
        self._inputs = deque(inputs)
        self._folder, self._settings, self._manifest = folder, settings, manifest
        self._display, self._retry_failed = display, retry_failed
        self._asked_jobs, self._jobs = jobs, jobs or cores()
        self._keep_open = keep_open
        self._hashing: Content | None = None
        self._ready: deque[dict[str, Any]] = deque()
        self._running: dict[str, tuple[Worker, dict[str, Any]]] = {}
        # Keys of the inputs of this run.
        self._taken: set[str] = set()
        self._memory_bytes = limits.most_memory(self._jobs)
        self.progress = Progress(len(inputs), sum(map(_size, inputs)))

    def work(self) -> None:
        """Works until nothing is left.

        Raises:
            InputError: The disk is full, or the manifest cannot be written.
            KeyboardInterrupt: The user stopped it.
        """
        try:
            with self._display:
                while self._has_work():
                    checkpoint()
                    self._prepare()
                    self._start()
                    self._look_after()
                    self._manifest.write()
                    self._show()
        finally:
            with shielded():
                self._stop()
                self._manifest.close()

    def _has_work(self) -> bool:
        return bool(self._inputs or self._hashing or self._ready or self._running)

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
                self._hashing = Content(self._inputs.popleft(), self._manifest.known)
                self._hashing.start()
            content = self._hashing
            if content.wait(left_s):
                self._hashing = None
                if (entry := self._take(content)) is not None:
                    self._ready.append(entry)

    def _take(self, file: Content) -> dict[str, Any] | None:
        """Decides what becomes of an input; returns its entry if it is to be analysed."""
        source, manifest = file.source, self._manifest
        if file.error is not None or file.sha256 is None:
            entry = manifest.add(source, None, file.size, file.modified_ns)
            self._fail(entry, file.error or "it cannot be read")
            return None
        same = manifest.of_content(file.sha256)
        if same is not None and same["key"] in self._taken:
            manifest.add_duplicate(source, file.sha256, file.size, file.modified_ns, same)
            self.progress.duplicates += 1
            self._settle(file.size)
            self._display.line(
                f"{redacted(source)} has the content of {redacted(same['source'])}: done once"
            )
            return None
        return self._decide(manifest.add(source, file.sha256, file.size, file.modified_ns))

    def _decide(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        self._taken.add(entry["key"])
        if self._manifest.is_done(entry):
            self.progress.unchanged += 1
            self.progress.in_part += bool(entry["in_part"])
            self._settle(entry["size"])
        elif self._manifest.has_failed(entry) and not self._retry_failed:
            self._note_failure(entry, f"{entry['reason']} (in an earlier run)")
        else:
            self._manifest.change(entry, state="waiting")
            return entry
        return None

    # Workers

    def _start(self) -> None:
        while self._ready and len(self._running) < self._jobs:
            self._check_disk()
            entry = self._ready.popleft()
            part = self._part(entry)
            shutil.rmtree(part, ignore_errors=True)
            job = self._settings.job(entry["source"], entry["key"], part)
            self._running[entry["key"]] = Worker(job, self._keep_open), entry
            self._begin(entry)

    def _begin(self, entry: dict[str, Any]) -> None:
        """Notes that an input is at work."""
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
                limits.enforce(worker, entry["size"], self._memory_bytes)
                continue
            del self._running[key]
            self._manifest.change(entry, seconds=round(worker.seconds, 1))
            self._finish(entry, outcome)

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
            in_part=outcome.in_part,
            made_with=self._manifest.made_with,
        )
        self.progress.done += 1
        self.progress.in_part += outcome.in_part
        self.progress.events += outcome.events
        self.progress.analysed_s += outcome.duration_s or 0.0
        self.progress.analysed_bytes += entry["size"]
        self._settle(entry["size"])
        source = redacted(entry["source"])
        self._tell(f"done: {source} ({outcome.events} events, {entry['seconds']:.0f} s)")

    def _changed(self, entry: dict[str, Any]) -> str | None:
        """Why the results are of no use: the file is another one by now."""
        if storage.is_stored(entry["source"]):
            return None  # a copy was analysed
        try:
            if modified(entry["source"]) == (entry["size"], entry["modified_ns"]):
                return None
        except OSError:
            return None  # what has been read has been read
        return CHANGED

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
