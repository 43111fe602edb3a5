"""The command line: `python run.py [SOURCE] [options]`."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import dataclasses
import functools
import math
import re
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from realtime_mer import __version__
from realtime_mer.demo.clip import DemoTruth, make_demo_clip
from realtime_mer.demo.score import Comparison, compare
from realtime_mer.errors import CameraError, InputError
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.output.log import CsvLog, JsonLinesLog
from realtime_mer.output.overlay import Overlay
from realtime_mer.output.recording import EventRecorder
from realtime_mer.output.stats_file import StatsFile
from realtime_mer.output.terminal import Terminal
from realtime_mer.output.video_output import VideoOutput
from realtime_mer.output.window import Controls, Window
from realtime_mer.output.writable import check_distinct
from realtime_mer.recognition.classifier import PROVIDERS
from realtime_mer.results import Analysis, MicroExpression, Session, Summary
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.session.run import run
from realtime_mer.session.sink import Sink
from realtime_mer.source.camera import CAMERA_RATE, CAMERA_SIZE, CameraRequest
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.source.redaction import redacted

if TYPE_CHECKING:
    from realtime_mer.output.web import WebView

USAGE_ERROR = 2
# Where the key r keeps clips of events if no folder was named.
RECORDINGS = "recordings"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all bad input is answered, and shows no credentials."""

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s']+", lambda m: redacted(m[0]), message)
        self.exit(USAGE_ERROR, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The options; a wrong one exits with status 2, as all bad input does."""
    p = _Parser(
        prog="run.py",
        description="Spots and names facial micro-expressions in a camera, a video or a stream, "
        "while they happen.",
    )
    p.add_argument(
        "source",
        nargs="?",
        default=None,
        help="camera number or /dev path, video file, folder of frames, http(s) or rtsp address; "
        "default: camera 0",
    )
    p.add_argument("--demo", action="store_true", help="run on a clip made on the spot, no camera")
    p.add_argument("--headless", action="store_true", help="no window")
    p.add_argument("--log", metavar="FILE.jsonl", help="write events as JSON Lines")
    p.add_argument(
        "--log-macros", action="store_true", help="macro-expressions (0.5 to 4 s) in --log, too"
    )
    p.add_argument("--csv", metavar="FILE.csv", help="write events as CSV")
    p.add_argument("--output", metavar="FILE.mp4", help="write the annotated video")
    p.add_argument("--stats", metavar="FILE.json", help="write rates, latencies and memory")
    p.add_argument(
        "--serve",
        metavar="[HOST:]PORT",
        help="show overlay and events as a page; without a host, on this computer only",
    )
    p.add_argument(
        "--record-events", metavar="DIR", help="keep a lossless clip of each event in DIR"
    )
    p.add_argument(
        "--sensitivity",
        type=_rate_of_false_reports,
        default=None,
        metavar="N",
        help="false reports a minute to be expected of a restless head, such as 0.2, 1 or 3; more "
        "find more (default: what the spotter's card recommends)",
    )
    p.add_argument(
        "--faces", type=_faces, default=1, metavar="N", help="faces to follow at most (default 1)"
    )
    p.add_argument(
        "--fps", type=frame_rate, default=None, help="frame rate of a folder of frames (default 30)"
    )
    p.add_argument(
        "--camera-size",
        type=_size,
        default=CAMERA_SIZE,
        metavar="WxH",
        help="picture size that a camera is asked for (default 1280x720)",
    )
    p.add_argument(
        "--camera-fps",
        type=frame_rate,
        default=CAMERA_RATE,
        metavar="N",
        help="frame rate that a camera is asked for (default 30)",
    )
    p.add_argument(
        "--no-reconnect",
        action="store_true",
        help="end when a camera or stream is lost, in place of opening it again",
    )
    p.add_argument(
        "--providers",
        choices=PROVIDERS,
        default="auto",
        help="where the classifier runs (default auto: CUDA where there is a GPU)",
    )
    p.add_argument(
        "--least-confidence",
        type=_probability,
        default=0.0,
        metavar="P",
        help='label events with less "uncertain"; they keep their probabilities (default 0)',
    )
    p.add_argument(
        "--weights", type=Path, default=CLASSIFIER, metavar="FILE.onnx", help="the classifier"
    )
    p.add_argument("--spotter", type=Path, default=SPOTTER, metavar="FILE.onnx", help="the spotter")
    p.add_argument(
        "--landmarks",
        type=Path,
        default=None,
        metavar="FILE.task",
        help="MediaPipe's face landmarker (default: models/, else the installed package)",
    )
    p.add_argument("--version", action="version", version=f"realtime_mer {__version__}")
    return p


def _rate_of_false_reports(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of false reports a minute: give 0.2, 1 or 3"
        )
    return value


def _size(text: str) -> tuple[int, int]:
    if not (found := re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no picture size: give one like 1280x720")
    return int(found[1]), int(found[2])


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability: give 0 to 1")
    return value


def _faces(text: str) -> int:
    if not re.fullmatch("[0-9]{1,2}", text) or not 1 <= int(text) <= 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of faces: give 1 to 16")
    return int(text)


def frame_rate(text: str) -> float:
    """An option's frame rate; an `ArgumentTypeError` if it is none."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no frame rate: give frames a second")
    return rate


class Collector:
    """Keeps the events of a short run, for the demo."""

    def __init__(self) -> None:
        self.events: list[MicroExpression] = []

    def begin(self, session: Session) -> None:
        pass

    def update(self, analysis: Analysis) -> None:
        self.events += analysis.events

    def end(self, summary: Summary) -> None:
        pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status."""
    options = parser().parse_args(arguments)
    quiet_opencv()
    try:
        with _signals_are_ctrl_c():
            if options.demo:
                _demo(options)
            else:
                source = 0 if options.source is None else options.source
                _recognize(options, source, _Outputs(options, options.source))
    except InputError as error:
        is_camera = isinstance(error, CameraError)
        hint = " Or try `python run.py --demo`, which needs no camera." if is_camera else ""
        print(f"run.py: {error}{hint}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        pass
    return 0


@contextlib.contextmanager
def _signals_are_ctrl_c() -> Iterator[None]:
    """A polite kill and a closed terminal end a run as Ctrl-C does: logs complete, all closed."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    count = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count == 1:
            # While the interpreter ends, Python would let a further one kill the process.
            for other in numbers:
                atexit.register(signal.signal, other, signal.SIG_IGN)
        # Nervous fingers and supervisors send two, and the second would cut the ending short; a
        # third breaks off an ending that hangs.
        if count != 2:
            raise KeyboardInterrupt

    before = {n: signal.getsignal(n) for n in numbers}
    try:
        for number, handler in before.items():
            # Whoever started us with `nohup` or in the background wants it ignored.
            if handler is not signal.SIG_IGN:
                signal.signal(number, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Outputs:
    """What the options ask to be shown and written. What cannot be is told before all else."""

    def __init__(self, options: argparse.Namespace, source: str | None) -> None:
        check_distinct(source, [options.log, options.csv, options.output, options.stats])
        self.terminal = Terminal()
        note = self.terminal.note
        self.overlay = Overlay()
        self.sinks: list[Sink] = []
        if options.log:
            self.sinks.append(JsonLinesLog(options.log, macros=options.log_macros))
        if options.csv:
            self.sinks.append(CsvLog(options.csv))
        if options.stats:
            self.sinks.append(StatsFile(options.stats))
        if options.output:
            # The view of its own: what the keys hide and mirror is not what is kept.
            self.sinks.append(VideoOutput(options.output, Overlay()))
        self.recorder = EventRecorder(
            options.record_events or RECORDINGS, on=options.record_events is not None, note=note
        )
        self.sinks.append(self.recorder)
        self.web: WebView | None = None
        if options.serve:
            # aiohttp takes a third of a second to load.
            from realtime_mer.output.web import WebView

            self.web = WebView(options.serve, Overlay(), note=note)
            self.sinks.append(self.web)

    def close(self) -> None:
        """Frees what was taken for a session that never began. May be called after one, too."""
        if self.web is not None:
            self.web.close()


# False reports a minute that the keys + and - go through.
_SENSITIVITIES = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0)


def _changed_sensitivity(recognizer: Recognizer, steps: int) -> str:
    """Makes it more or less sensitive by a step; what to tell of it."""
    now = recognizer.sensitivity
    if now is None:
        return "this spotter's card tells no curve"
    # The card's curve is coarse: a step is one that is a step away from what is set, too.
    others = [s for s in _SENSITIVITIES if (s > 1.05 * now if steps > 0 else s < now / 1.05)]
    if others:
        recognizer.sensitivity = min(others) if steps > 0 else max(others)
    return f"sensitivity: {recognizer.sensitivity:.2g} false reports a minute"


def _controls(recognizer: Recognizer, recorder: EventRecorder) -> Controls:
    def toggle() -> str | None:
        recorder.toggle()
        return f"each event in {RECORDINGS}/" if recorder.is_on else None

    return Controls(
        change_sensitivity=functools.partial(_changed_sensitivity, recognizer),
        toggle_recording=toggle,
        is_recording=lambda: recorder.is_on,
    )


def _recognize(
    options: argparse.Namespace,
    source: str | int,
    outputs: _Outputs,
    extra: Sequence[Sink] = (),
) -> Summary:
    try:
        with Recognizer(
            source,
            faces=options.faces,
            weights=options.weights,
            spotter=options.spotter,
            landmarks=options.landmarks,
            providers=options.providers,
            least_confidence=options.least_confidence,
            fps=options.fps,
            sensitivity=options.sensitivity,
            reconnect=not options.no_reconnect,
            camera=CameraRequest(options.camera_size, options.camera_fps),
        ) as recognizer:
            window = None
            if not options.headless:
                controls = _controls(recognizer, outputs.recorder)
                window = Window(outputs.overlay, note=outputs.terminal.note, controls=controls)
            sinks = [*outputs.sinks, *extra, outputs.terminal]
            return run(recognizer, sinks, window, note=outputs.terminal.note)
    finally:
        outputs.close()


def _demo(options: argparse.Namespace) -> None:
    if options.source is not None:
        given = redacted(options.source)
        raise InputError(f"--demo makes its own video: leave out {given!r}, or --demo")
    if options.fps is not None:
        raise InputError("--demo makes its own video, whose frame rate is known: leave out --fps")
    outputs = _Outputs(options, None)
    console = Console()
    collector = Collector()
    with tempfile.TemporaryDirectory(prefix="realtime_mer-") as folder:
        clip = Path(folder) / "demo.avi"
        progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        with progress:
            task = progress.add_task("making a clip with known micro-expressions", total=1.0)
            truth = make_demo_clip(
                clip,
                landmark_model=find_landmark_model(options.landmarks),
                progress=lambda part: progress.update(task, completed=part),
            )
        summary = _recognize(options, str(clip), outputs, [collector])
    # What a stopped run did not get to was not missed.
    end_s = summary.duration_s + 1 / truth.fps
    reached = tuple(e for e in truth.events if e.interval.offset_s < end_s)
    truth = dataclasses.replace(truth, events=reached)
    console.print(demo_table(truth, compare(truth, collector.events)))


def demo_table(truth: DemoTruth, rows: Sequence[Comparison]) -> Table:
    """What was hidden in the demo's clip beside what was found."""
    named = sum(r.label_is_right for r in rows)
    spotted = sum(r.hidden is not None and r.found is not None for r in rows)
    false = sum(r.hidden is None for r in rows)
    table = Table(
        title="Hidden in the clip, and found",
        caption=f"{spotted} of {len(truth.events)} found, {named} named right, {false} false, "
        f"{len(truth.blinks)} blinks to be left alone",
    )
    for name in ("hidden", "units", "at, s", "found", "at, s", "overlap"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        hidden, found = row.hidden, row.found
        table.add_row(
            hidden.label if hidden else "-",
            "+".join(hidden.action_units) if hidden else "-",
            f"{hidden.interval.onset_s:.2f}-{hidden.interval.offset_s:.2f}" if hidden else "-",
            f"{found.label} {found.confidence:.0%}" if found else "missed",
            f"{found.interval.onset_s:.2f}-{found.interval.offset_s:.2f}" if found else "-",
            f"{row.overlap:.0%}" if hidden and found else "-",
        )
    return table
