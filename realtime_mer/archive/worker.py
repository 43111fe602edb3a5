"""One video in a process of its own: a crash, a hang or a bomb costs that video and no other.

The process that starts it writes the job as a line of JSON to its standard input, and holds that
open: its end tells the worker that nobody waits for it any more. The worker answers with lines of
JSON: how long the video is, how far it has come, and at last what came of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from realtime_mer.archive.results_folder import VideoResult, read_part
from realtime_mer.output.writable import why
from realtime_mer.records import plain, seconds
from realtime_mer.redaction import printable
from realtime_mer.stats import memory_mb

if TYPE_CHECKING:
    from realtime_mer.results import Analysis, Session, Summary
    from realtime_mer.session.sink import Sink
    from realtime_mer.source.reader import Reader

# How often a worker tells how far it has come.
_TELL_EVERY_S = 0.5
_LINE_BYTES = 1 << 20
_TAIL_BYTES = 4096
_JOIN_S = 5.0
# What a disk says that takes nothing more.
_DISK = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))
# Of Linux: a process with this score ends first when memory runs out.
_FIRST_TO_GO = "1000"
# The package that runs here, wherever another one of that name is installed; but none of its
# neighbours in place of the standard library's modules.
_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); import realtime_mer; "
    "sys.path.append(sys.path.pop(0)); from realtime_mer.archive.worker import main; main()"
)


def command() -> list[str]:
    """The command that starts a worker."""
    # -P: nothing in the folder from which the user started it is a module.
    return [sys.executable, "-P", "-c", _CODE, str(Path(__file__).resolve().parents[2])]


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is asked to do.

    Attributes:
        source: Path of the video.
        shown: How the results call it; None for its path.
        key: Name of its folder in the results.
        folder: Where to write; it must not exist.
        faces: How many faces to follow at most.
        sensitivity: False reports a minute to expect; None for what the spotter's card recommends.
        least_confidence: As in `Analyser`.
        weights: The classifier.
        spotter: The spotter.
        landmarks: The landmark model; None to look for it.
        frames: Whether to write a table of all frames.
    """

    source: str
    key: str
    folder: str
    faces: int
    sensitivity: float | None
    least_confidence: float | None
    weights: str
    spotter: str
    landmarks: str | None
    frames: bool
    shown: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job.

    Attributes:
        reason: Why it failed, one sentence; None if it is done.
        is_disk: Whether it failed because nothing can be written any more.
        duration_s: Length of the video, if it is done.
        events: Number of its events.
        notes: What the user should know, a sentence each.
        in_part: Whether less could be read than the header declares, as `read_part` has it; then
            one of the notes says so.
    """

    reason: str | None
    is_disk: bool = False
    duration_s: float | None = None
    events: int = 0
    notes: tuple[str, ...] = ()
    in_part: bool = False


class Worker:
    """A process that works on one job, as the process that started it sees it.

    Args:
        job: What to do.
        keep_open: Descriptors that it holds while it lives: the lock of the archive.

    Attributes:
        started_at, heard_at: On `time.monotonic()`, when it was started and last told something.
        time_s: How far it has come in the video.
        duration_s: Length of the video by its header, or None.
        frames: Number of its frames by its header, or None.

    Raises:
        OSError: No process can be started.
    """

    def __init__(self, job: Job, keep_open: Sequence[int] = ()) -> None:
        self.job = job
        self.time_s = 0.0
        self.duration_s: float | None = None
        self.frames: int | None = None
        self._said: dict[str, Any] | None = None
        self._tail = b""
        self._killed: str | None = None
        options: dict[str, Any] = {}
        if os.name == "nt":
            options["creationflags"] = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        else:
            # Ctrl-C in the terminal is for the archive, which ends its workers itself.
            options |= {"start_new_session": True, "pass_fds": tuple(keep_open)}
        self._process = subprocess.Popen(
            command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        self.started_at = self.heard_at = time.monotonic()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it ended at once: that is found soon enough
            self._process.stdin.write(json.dumps(dataclasses.asdict(job)).encode() + b"\n")
            self._process.stdin.flush()
        self._readers = [
            threading.Thread(target=self._listen, args=[self._process.stdout], daemon=True),
            threading.Thread(target=self._overhear, args=[self._process.stderr], daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def memory_mb(self) -> float:
        """Physical memory that it holds now, in 2**20 bytes; 0 if unknown."""
        return memory_mb(self._process.pid)

    @property
    def seconds(self) -> float:
        """For how long it has worked."""
        return time.monotonic() - self.started_at

    def kill(self, reason: str) -> None:
        """Ends it by force; `outcome` gives the reason."""
        self._killed = self._killed or reason
        with contextlib.suppress(OSError):
            if os.name == "nt":
                self._process.kill()
            else:
                # With all that it has started.
                os.killpg(self._process.pid, signal.SIGKILL)

    def outcome(self) -> Outcome | None:
        """What came of the job; None while it is at work."""
        status = self._process.poll()
        if status is None:
            return None
        for reader in self._readers:
            reader.join(_JOIN_S)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        if self._said is not None:
            return Outcome(**{**self._said, "notes": tuple(self._said.get("notes", ()))})
        return Outcome(self._killed or self._how_it_ended(status))

    def _how_it_ended(self, status: int) -> str:
        where = f"{self.time_s:.1f} s into the video" if self.time_s else "while it was opened"
        if status < 0:
            try:
                name = signal.Signals(-status).name
            except ValueError:
                name = f"signal {-status}"
            hint = ": perhaps memory ran out" if -status == getattr(signal, "SIGKILL", 9) else ""
            return f"the analysis crashed {where} ({name}){hint}"
        lines = self._tail.decode("utf-8", "replace").strip().splitlines()
        last = f": {printable(lines[-1], 200)}" if lines else ""
        return f"the analysis ended {where} with status {status}{last}"

    def _listen(self, stream: IO[bytes]) -> None:
        """Thread: what the worker tells."""
        with contextlib.suppress(OSError, ValueError):
            while line := stream.readline(_LINE_BYTES):
                message = json.loads(line)
                self.heard_at = time.monotonic()
                if "outcome" in message:
                    self._said = message["outcome"]
                elif "opened" in message:
                    self.duration_s = message["opened"]["duration_s"]
                    self.frames = message["opened"]["frames"]
                else:
                    self.time_s = float(message["time_s"])

    def _overhear(self, stream: IO[bytes]) -> None:
        """Thread: the end of what its libraries complain about."""
        with contextlib.suppress(OSError, ValueError):
            while block := os.read(stream.fileno(), _TAIL_BYTES):
                self._tail = (self._tail + block)[-_TAIL_BYTES:]


# In the worker


def main() -> None:
    """Does the job that standard input names; ends the process."""
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(_FIRST_TO_GO)
    job = Job(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_leave_with_parent, daemon=True).start()

    def tell(message: dict[str, Any]) -> None:
        answers.write(json.dumps(plain(message), allow_nan=False) + "\n")
        answers.flush()

    tell({"outcome": dataclasses.asdict(_outcome(job, tell))})
    # A native thread that still waits for the video would hang in the libraries' destructors.
    os._exit(0)


def _leave_with_parent() -> None:
    """Thread: ends the process when nobody waits for it any more."""
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(1)


def _outcome(job: Job, tell: Callable[[dict[str, Any]], None]) -> Outcome:
    from realtime_mer.errors import InputError

    try:
        return analyse(job, tell)
    except InputError as error:
        return Outcome(str(error))
    except MemoryError:
        return Outcome("there was not enough memory for it")
    except OSError as error:
        if error.errno in _DISK:
            return Outcome(f"the results cannot be written: {why(error)}", is_disk=True)
        return Outcome(f"the system refused something: {why(error)}")
    except Exception as error:
        text = printable(" ".join(str(error).split()), 200)
        return Outcome(f"the program has a fault ({type(error).__name__}: {text}): report it")


def analyse(job: Job, tell: Callable[[dict[str, Any]], None]) -> Outcome:
    """Analyses a video and writes its results.

    Args:
        job: What to do.
        tell: Called with how far it has come.

    Raises:
        InputError: The video cannot be read, or something cannot be written.
        OSError: Something cannot be written.
    """
    # The libraries take a second to load; the process that starts workers does without them.
    from realtime_mer.archive.clips import EventClips
    from realtime_mer.output.log import JsonLinesLog
    from realtime_mer.session.recognizer import Recognizer
    from realtime_mer.session.run import run
    from realtime_mer.source.kinds import reader_for
    from realtime_mer.source.opencv import quiet_opencv

    quiet_opencv()
    video = VideoResult(job.key, Path(job.folder), {"source": job.shown or job.source})
    video.folder.mkdir(parents=True)
    notes: list[str] = []
    source: Path | Reader = Path(job.source)
    if job.shown is not None:
        source = reader_for(Path(job.source))
        source.name = job.shown
    recognizer = Recognizer(
        source,
        faces=job.faces,
        sensitivity=job.sensitivity,
        least_confidence=job.least_confidence,
        weights=job.weights,
        spotter=job.spotter,
        landmarks=job.landmarks,
        # The same results on every machine; and a process each on one GPU would be too many.
        providers="cpu",
    )
    progress = _Progress(tell)
    sinks: list[Sink] = [
        Timeless(JsonLinesLog(video.log, macros=True, note=notes.append)),
        EventClips(video, job.faces),
        progress,
    ]
    if job.frames:
        from realtime_mer.archive.frames import FramesTable

        sinks.insert(1, FramesTable(video.frames))
    summary = run(recognizer, sinks, note=notes.append)
    if summary.reason != "end of source":
        return Outcome(f"the video ended before its end: {summary.reason}")
    _keep(video.folder)
    return Outcome(
        None,
        duration_s=seconds(summary.duration_s),
        events=summary.events,
        notes=tuple(dict.fromkeys(notes)),
        in_part=progress.ended_in_part,
    )


def _keep(folder: Path) -> None:
    """Waits until all files of a folder are on the disk: a power cut takes what is not, and the
    manifest would tell of it.

    Raises:
        OSError: The disk takes them no more.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("r+b") as file:
                os.fsync(file.fileno())


class Timeless:
    """A sink whose log tells nothing of when and how fast it was written.

    So the same video gives the same bytes. The fields that a log must have are there: `started_at`
    is the beginning of 1970, `wall_s` is 0, and `latency_ms` is empty. The manifest tells when an
    input was analysed and for how long.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def begin(self, session: Session) -> None:
        from realtime_mer.results import ClockOrigin

        self._sink.begin(dataclasses.replace(session, origin=ClockOrigin(0.0, 0.0)))

    def update(self, analysis: Analysis) -> None:
        self._sink.update(analysis)

    def end(self, summary: Summary) -> None:
        self._sink.end(dataclasses.replace(summary, wall_s=0.0, stats={}))


class _Progress:
    """A sink that tells how far the analysis has come.

    Attributes:
        ended_in_part: Whether it ended before the end that the video's header declares.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell
        self._told_at = 0.0
        self._session: dict[str, Any] = {}
        self.ended_in_part = False

    def begin(self, session: Session) -> None:
        self._session = session.to_dict()
        known = session.fps > 0 and session.frame_count > 0
        duration_s = session.frame_count / session.fps if known else None
        self._tell({"opened": {"duration_s": duration_s, "frames": session.frame_count or None}})

    def update(self, analysis: Analysis) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            self._tell({"time_s": analysis.frame.time_s})

    def end(self, summary: Summary) -> None:
        self.ended_in_part = read_part(self._session, summary.to_dict()) is not None
