"""How well the whole chain finds and names micro-expressions in videos whose truth is known.

    python tools/spotting/evaluate.py --demo-clips 10
    python tools/spotting/evaluate.py VIDEO=TRUTH.csv [VIDEO=TRUTH.csv ...]
    python tools/spotting/evaluate.py --annotations FILE.csv --videos DIR [--fps N]

A demo clip is what `run.py --demo` makes, with another seed each: 20 s of a face under a swaying
camera with sensor noise, four micro-expressions and three blinks. TRUTH.csv has a row an event and
the columns onset, apex and offset, in frames from 0, and may have label; a video without events has
a file with the header alone. FILE.csv is the table of a data set of long videos, such as CAS(ME)^2,
SAMM Long Videos and CAS(ME)^3, which tools/spotting/annotations.py describes; its macro-expressions are no
events, and reports in them are false.

What counts as found is told in tools/spotting/figures.py, by our rule and by that of MEGC.

With --curve or --plot the same videos also tell what other thresholds of the spotter would find and
how often they would be wrong; tracking and motion are not done again for them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from realtime_mer.cli import frame_rate
from realtime_mer.demo.clip import make_demo_clip
from realtime_mer.errors import InputError
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.output.writable import check_distinct, check_writable
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.spotting.spotter import SpotterModel
from tools.spotting.annotations import Annotation, Recording, read_data_set, read_truth
from tools.spotting.figures import Figures, Result, figures, match, megc_figures
from tools.spotting.operating_curve import (
    OperatingPoints,
    curve,
    curve_table,
    eager_spotters,
    plot_curve,
    proposed,
    write_curve,
)


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
        """What is there and what the chain reports."""
        eager = eager_spotters() if self._thresholds else contextlib.nullcontext([])
        with (
            eager as motions,
            Recognizer(
                recording.path, weights=self._weights, spotter=self._spotter, fps=recording.fps
            ) as recognizer,
        ):
            found = tuple(recognizer)
            fps = recognizer.session.fps or 30.0
            seconds = recognizer.summary("").duration_s + 1 / fps
        found_at = {}
        if self._thresholds:
            found_at = proposed(motions, self._model, self._thresholds)
            reported = set(found_at[self.points.delivered])
            found = tuple(event for event in found if event.interval in reported)
        return Result(
            recording.name,
            tuple(event.at(fps) for event in recording.micros),
            found,
            fps,
            seconds,
            tuple(event.at(fps).interval for event in recording.macros),
            found_at,
        )


def demo_recordings(count: int, first_seed: int) -> Iterator[Recording]:
    """Demo clips of these seeds, each of which is there until the next is asked for."""
    with tempfile.TemporaryDirectory(prefix="realtime_mer-") as folder:
        clip = Path(folder) / "demo.avi"
        for seed in range(first_seed, first_seed + count):
            hidden = make_demo_clip(clip, seed)
            events = (
                ((e.interval.onset_s, e.interval.apex_s, e.interval.offset_s), e.label)
                for e in hidden.events
            )
            micros = tuple(
                Annotation(*(t * hidden.fps for t in times), label) for times, label in events
            )
            yield Recording(f"demo clip {seed}", clip, micros=micros)


def with_truth(item: str, fps: float | None) -> Recording:
    """The recording of VIDEO=TRUTH.csv."""
    video, equals, truth = item.rpartition("=")
    if not equals:
        raise InputError(f"{item!r} names no truth: write VIDEO=TRUTH.csv")
    path = Path(video)
    return Recording(path.name, path, fps if path.is_dir() else None, read_truth(Path(truth)))


def recordings(options: argparse.Namespace) -> Iterator[Recording]:
    """All that is to be watched. What is wrong with annotations is told before the first."""
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
        with_curve = _check_outputs(options)
        watch = Watcher(options.weights, options.spotter, with_curve)
        for recording in recordings(options):
            results.append(watch(recording))
            console.print(_line(results[-1]))
    except InputError as error:
        stopped = str(error)
    except KeyboardInterrupt:
        stopped = "stopped by user"
    if stopped:
        print(f"evaluate_spotting: {stopped}", file=sys.stderr)
    # Hours may have gone into what was watched before.
    if results:
        _tell(results, watch.points, options, console, stopped)
    return 2 if stopped else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
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


def _check_outputs(options: argparse.Namespace) -> bool:
    """Whether a curve is asked for; what cannot be written is told before all else."""
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


def _tell(
    results: Sequence[Result],
    at: OperatingPoints,
    options: argparse.Namespace,
    console: Console,
    stopped: str,
) -> None:
    """Prints the figures and writes the curve."""
    ours, megc = figures(results), megc_figures(results)
    points = curve(results, at.thresholds) if options.curve or options.plot else []
    if options.curve:
        write_curve(points, options.curve)
    if options.plot:
        plot_curve(points, results, at, options.plot)
    if options.json:
        told = {**ours, "megc": megc}
        told |= {"curve": points} if points else {}
        told |= {"stopped": stopped} if stopped else {}
        print(json.dumps(told))
        return
    tables = [_figures_table(ours, megc)] + ([curve_table(points, at)] if points else [])
    console.print(Columns(tables, padding=(1, 4)))


def _figures_table(ours: Figures, megc: Figures) -> Table:
    table = Table(title="Spotting and naming")
    table.add_column("figure")
    for name in ("ours", "MEGC rule"):
        table.add_column(name, justify="right")
    for name, value in ours.items():
        table.add_row(
            name.replace("_", " "),
            *("-" if v is None else f"{v:g}" for v in (value, megc.get(name))),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
