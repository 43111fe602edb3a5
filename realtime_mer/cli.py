"""The command line: `python run.py [SOURCE] [options]`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from realtime_mer import __version__
from realtime_mer.capture import quiet_opencv
from realtime_mer.demo import Comparison, DemoTruth, compare, make_demo_clip
from realtime_mer.event import Analysis, InputError, MicroExpression, Session, Summary
from realtime_mer.landmark_model import find_landmark_model
from realtime_mer.log import CsvLog, JsonLinesLog
from realtime_mer.overlay import Overlay
from realtime_mer.pipeline import CLASSIFIER, SPOTTER, Recognizer, run
from realtime_mer.sink import Sink
from realtime_mer.stats import StatsFile
from realtime_mer.terminal import Terminal
from realtime_mer.video_output import VideoOutput
from realtime_mer.window import Window
from realtime_mer.writable import check_distinct

USAGE_ERROR = 2


def parser() -> argparse.ArgumentParser:
    """The options; a wrong one exits with status 2, as all bad input does."""
    p = argparse.ArgumentParser(
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
    p.add_argument("--csv", metavar="FILE.csv", help="write events as CSV")
    p.add_argument("--output", metavar="FILE.mp4", help="write the annotated video")
    p.add_argument("--stats", metavar="FILE.json", help="write rates, latencies and memory")
    p.add_argument(
        "--faces", type=_faces, default=1, metavar="N", help="faces to follow at most (default 1)"
    )
    p.add_argument(
        "--fps", type=_rate, default=None, help="frame rate of a folder of frames (default 30)"
    )
    p.add_argument(
        "--providers",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where the classifier runs (default auto: CUDA where there is one)",
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


def _faces(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of faces: give 1 to 16")
    return int(text)


def _rate(text: str) -> float:
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
        with _termination_is_ctrl_c():
            if options.demo:
                return _demo(options)
            return _recognize(options, 0 if options.source is None else options.source)
    except InputError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return 0


@contextlib.contextmanager
def _termination_is_ctrl_c() -> Iterator[None]:
    """A polite kill ends a run as Ctrl-C does: logs complete, resources closed."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _recognize(options: argparse.Namespace, source: str | int, extra: Sequence[Sink] = ()) -> int:
    # Outputs that cannot be written are told before anything is opened.
    given = source if isinstance(source, str) else None
    check_distinct(given, [options.log, options.csv, options.output, options.stats])
    overlay = Overlay()
    sinks: list[Sink] = []
    if options.log:
        sinks.append(JsonLinesLog(options.log))
    if options.csv:
        sinks.append(CsvLog(options.csv))
    if options.stats:
        sinks.append(StatsFile(options.stats))
    if options.output:
        sinks.append(VideoOutput(options.output, overlay))
    terminal = Terminal()
    with Recognizer(
        source,
        faces=options.faces,
        weights=options.weights,
        spotter=options.spotter,
        landmarks=options.landmarks,
        providers=options.providers,
        fps=options.fps,
    ) as recognizer:
        window = None if options.headless else Window(overlay, note=terminal.note)
        told = recognizer.notes
        for note in told:
            terminal.note(note)
        run(recognizer, [*sinks, *extra, terminal], window)
        for note in recognizer.notes[len(told) :]:
            terminal.note(note)
    return 0


def _demo(options: argparse.Namespace) -> int:
    if options.source is not None:
        raise InputError(f"--demo makes its own video: leave out {options.source!r}, or --demo")
    console = Console()
    collector = Collector()
    with tempfile.TemporaryDirectory(prefix="realtime_mer-") as folder:
        clip = Path(folder) / "demo.avi"
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("making a clip with known micro-expressions", total=1.0)
            truth = make_demo_clip(
                clip,
                landmark_model=find_landmark_model(options.landmarks),
                progress=lambda part: progress.update(task, completed=part),
            )
        status = _recognize(options, str(clip), [collector])
    console.print(demo_table(truth, compare(truth, collector.events)))
    return status


def demo_table(truth: DemoTruth, rows: Sequence[Comparison]) -> Table:
    """What was hidden in the demo's clip beside what was found."""
    named = sum(r.label_is_right for r in rows)
    spotted = sum(r.hidden is not None and r.found is not None for r in rows)
    false = sum(r.hidden is None for r in rows)
    table = Table(
        title="Hidden in the clip, and found",
        caption=f"{spotted} of {len(truth.events)} found, {named} of them named right, "
        f"{false} false reports; {len(truth.blinks)} blinks were there to be left alone",
    )
    for name in ("hidden", "action units", "from - to", "found", "from - to", "overlap"):
        table.add_column(name)
    for row in rows:
        hidden, found = row.hidden, row.found
        table.add_row(
            hidden.label if hidden else "-",
            "+".join(hidden.action_units) if hidden else "-",
            f"{hidden.interval.onset_s:.2f} - {hidden.interval.offset_s:.2f} s" if hidden else "-",
            f"{found.label} {found.confidence:.0%}" if found else "missed",
            f"{found.interval.onset_s:.2f} - {found.interval.offset_s:.2f} s" if found else "-",
            f"{row.overlap:.0%}" if hidden and found else "-",
        )
    return table
