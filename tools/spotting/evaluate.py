"""How well the whole chain finds and names micro-expressions in videos whose truth is known.

    python tools/spotting/evaluate.py --demo-clips 10
    python tools/spotting/evaluate.py VIDEO=TRUTH.csv [VIDEO=TRUTH.csv ...]
    python tools/spotting/evaluate.py --annotations FILE.csv --videos DIR [--fps N]

A demo clip is what `run.py --demo` makes, each with another seed: 20 s of a face under a swaying
camera with sensor noise, four micro-expressions and three blinks. TRUTH.csv has a row an event and
the columns onset, apex and offset, in frames from 0, and may have label; for a video without events
it has the header alone. FILE.csv is the table of a data set of long videos, such as CAS(ME)^2, SAMM
Long Videos and CAS(ME)^3, which tools/spotting/annotations.py describes; its macro-expressions are
no events, and reports in them are false.

tools/spotting/figures.py says what counts as found, by our rule and by that of MEGC. Recall is also
given by masking, where the table has it (the column masking, which tools/spotting/render_clips.py
writes), and false reports by what the face did meanwhile.

With --curve or --plot the same videos also show what other thresholds of the spotter would find and
how often they would be wrong; tracking and motion are not repeated for that.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from realtime_mer.analysis.analyser import Analyser
from realtime_mer.command.options import frame_rate
from realtime_mer.demo.clip import make_demo_clip
from realtime_mer.errors import InputError
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.output.writable import check_distinct, check_writable
from realtime_mer.results import MicroExpression
from realtime_mer.source.capture import Capture
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.source.reader import DEFAULT_FPS
from realtime_mer.spotting.spotter import SpotterModel
from tools.command import command_parser
from tools.spotting.actions import Actions
from tools.spotting.annotations import Annotation, Recording, read_data_set, read_truth
from tools.spotting.figures import (
    MASKING,
    REVIEW_S,
    Figures,
    Result,
    false_by_action,
    figures,
    match,
    megc_figures,
    recall_by_masking,
)
from tools.spotting.operating_curve import (
    MotionStreams,
    OperatingPoints,
    curve,
    curve_table,
    plot_curve,
    proposed,
    write_curve,
)

_PROG = Path(__file__).name


class Watcher:
    """Runs the chain on videos.

    Args:
        weights: The classifier.
        spotter: The spotter.
        with_curve: Whether the results say what other thresholds would have reported.
    """

    def __init__(self, weights: Path, spotter: Path, with_curve: bool) -> None:
        self._weights, self._spotter = weights, spotter
        self._model = SpotterModel(spotter)
        self.points = OperatingPoints(self._model)
        self._thresholds = self.points.thresholds if with_curve else ()

    def __call__(self, recording: Recording) -> Result:
        """What is there and what the chain reports.

        Raises:
            InputError: The recording cannot be read.
        """
        found: list[MicroExpression] = []
        actions: list[frozenset[str]] = []
        doing = Actions()

        def take(events: Sequence[MicroExpression]) -> None:
            found.extend(events)
            actions.extend(doing.during(event.face, event.interval) for event in events)

        motions = MotionStreams()
        last_s = 0.0
        with (
            Analyser(weights=self._weights, spotter=self._spotter) as analyser,
            Capture(recording.path, recording.fps) as capture,
        ):
            for tracked in map(analyser.track, capture):
                for face in tracked.faces:
                    doing.add(tracked.frame.time_s, face)
                take(analyser.analyse(tracked).events)
                if self._thresholds:
                    motions.add(analyser.steps)
                last_s = tracked.frame.time_s
            take(analyser.finish())
            fps = capture.fps or DEFAULT_FPS
        return Result(
            recording.name,
            tuple(event.at(fps) for event in recording.micros),
            tuple(found),
            fps,
            last_s + 1 / fps,
            tuple(event.at(fps).interval for event in recording.macros),
            proposed(motions.streams, self._model, self._thresholds),
            tuple(actions),
        )


def demo_recordings(count: int, first_seed: int) -> Iterator[Recording]:
    """Demo clips of consecutive seeds; each is deleted when the next is made."""
    with tempfile.TemporaryDirectory(prefix="realtime_mer-") as folder:
        clip = Path(folder) / "demo.avi"
        for seed in range(first_seed, first_seed + count):
            hidden = make_demo_clip(clip, seed)
            micros = tuple(
                Annotation(
                    event.interval.onset_s * hidden.fps,
                    event.interval.apex_s * hidden.fps,
                    event.interval.offset_s * hidden.fps,
                    event.label,
                )
                for event in hidden.events
            )
            yield Recording(f"demo clip {seed}", clip, micros=micros)


def with_truth(item: str, fps: float | None) -> Recording:
    """The recording of VIDEO=TRUTH.csv.

    Args:
        item: The video and its truth.
        fps: Frame rate of a folder of frames.

    Raises:
        InputError: There is no `=`, or the truth cannot be read.
    """
    video, equals, truth = item.rpartition("=")
    if not equals:
        raise InputError(f"{item!r} does not name a truth: write VIDEO=TRUTH.csv")
    path = Path(video)
    return Recording(path.name, path, fps if path.is_dir() else None, read_truth(Path(truth)))


def recordings(options: argparse.Namespace) -> Iterator[Recording]:
    """All recordings. Errors in annotations are raised before the first."""
    given = [with_truth(item, options.fps) for item in options.pairs]
    if options.annotations:
        given += read_data_set(
            options.annotations, options.videos, options.fps, options.first_frame
        )
    yield from demo_recordings(options.demo_clips, options.first_seed)
    yield from given


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    quiet_opencv()
    console = Console(stderr=options.json)
    results: list[Result] = []
    stopped = ""
    try:
        with_curve = _is_curve_wanted(options)
        watch = Watcher(options.weights, options.spotter, with_curve)
        for recording in recordings(options):
            results.append(watch(recording))
            console.print(_line(results[-1]))
    except InputError as error:
        stopped = str(error)
    except KeyboardInterrupt:
        stopped = "stopped by user"
    if stopped:
        print(f"{_PROG}: {stopped}", file=sys.stderr)
    # Hours may have gone into the videos before.
    if results:
        _report(results, watch.points, options, console, stopped)
    return 2 if stopped else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("pairs", nargs="*", metavar="VIDEO=TRUTH.csv")
    parser.add_argument("--demo-clips", type=int, default=0, metavar="N")
    parser.add_argument(
        "--first-seed", type=int, default=100, help="of the demo clips (default 100)"
    )
    parser.add_argument("--annotations", type=Path, metavar="FILE.csv", help="of a data set")
    parser.add_argument("--videos", type=Path, metavar="DIR", help="where its videos are")
    parser.add_argument(
        "--first-frame",
        type=int,
        choices=(0, 1),
        default=1,
        help="its number for the first frame of a video file (default 1)",
    )
    parser.add_argument("--fps", type=frame_rate, metavar="N", help="of folders of frames")
    parser.add_argument("--curve", type=Path, metavar="FILE.csv", help="write the operating curve")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the operating curve")
    parser.add_argument("--weights", type=Path, default=CLASSIFIER)
    parser.add_argument("--spotter", type=Path, default=SPOTTER)
    parser.add_argument("--json", action="store_true", help="print one object")
    options = parser.parse_args(arguments)
    if (options.annotations is None) != (options.videos is None):
        parser.error("--annotations FILE.csv and --videos DIR go together")
    if not options.pairs and options.annotations is None and options.demo_clips < 1:
        parser.error("give videos with their truth, --annotations with --videos, or --demo-clips N")
    return options


def _is_curve_wanted(options: argparse.Namespace) -> bool:
    """Whether a curve is to be measured.

    Raises:
        InputError: One of its files cannot be written.
    """
    outputs = [path for path in (options.curve, options.plot) if path is not None]
    for path in outputs:
        check_writable(path)
    check_distinct(None, outputs)
    if options.plot is not None and options.plot.suffix.lower() != ".png":
        raise InputError(f"--plot {options.plot} is no PNG: name a file that ends in .png")
    return bool(outputs)


def _line(result: Result) -> str:
    hits = len(match(result))
    return (
        f"{result.name}: {hits} of {len(result.truth)} found, {len(result.found) - hits} false, "
        f"{result.seconds:.0f} s"
    )


def _report(
    results: Sequence[Result],
    at: OperatingPoints,
    options: argparse.Namespace,
    console: Console,
    stopped: str,
) -> None:
    """Prints the figures and writes the curve."""
    ours, megc = figures(results), megc_figures(results)
    by_masking, by_action = recall_by_masking(results), false_by_action(results)
    points = curve(results, at.thresholds) if options.curve or options.plot else []
    if options.curve:
        write_curve(points, options.curve)
    if options.plot:
        plot_curve(points, results, at, options.plot)
    if options.json:
        report: dict[str, object] = {**ours, "megc": megc}
        report |= {"by_masking": by_masking, "false_by_action": by_action}
        if points:
            report["curve"] = points
        if stopped:
            report["stopped"] = stopped
        print(json.dumps(report))
        return
    tables = [_figures_table(ours, megc)]
    if by_masking:
        limits = (f"{name} up to {most:g}" for name, most in MASKING.items() if most < math.inf)
        caption = f"own motion / event: {', '.join(limits)}"
        tables.append(_grouped_table("Recall by masking", "masking", by_masking, caption))
    if by_action:
        caption = "a report may count several times"
        tables.append(_grouped_table("False reports", "what the face did", by_action, caption))
    if points:
        tables.append(curve_table(points, at))
    console.print(Columns(tables, padding=(1, 4)))


def _figures_table(ours: Figures, megc: Figures) -> Table:
    table = Table(
        title="Spotting and naming",
        caption=f"review: {REVIEW_S:g} s a report, true or false",
    )
    table.add_column("figure")
    for name in ("ours", "MEGC rule"):
        table.add_column(name, justify="right")
    for name, value in ours.items():
        table.add_row(name.replace("_", " "), *map(_shown, (value, megc.get(name))))
    return table


def _grouped_table(title: str, of: str, groups: Mapping[str, Figures], caption: str) -> Table:
    """Figures of several groups, a row each."""
    table = Table(title=title, caption=caption)
    table.add_column(of)
    for name in next(iter(groups.values())):
        table.add_column(name.replace("_", " "), justify="right")
    for group, values in groups.items():
        table.add_row(group, *map(_shown, values.values()))
    return table


def _shown(value: float | int | None) -> str:
    return "-" if value is None else f"{value:g}"


if __name__ == "__main__":
    sys.exit(main())
