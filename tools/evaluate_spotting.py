"""How well the whole chain finds and names micro-expressions on clips whose truth is known.

    python tools/evaluate_spotting.py --demo-clips 10
    python tools/evaluate_spotting.py VIDEO=TRUTH.csv [VIDEO=TRUTH.csv ...]

A demo clip is what `run.py --demo` makes, with another seed each: 20 s of a face under a swaying
camera with sensor noise, four micro-expressions and three blinks. TRUTH.csv has a row an event and
the columns onset, apex and offset, in frames from 0 as the data sets give them, and may have label;
a video without events has a file with the header alone.

A report counts where its interval overlaps a true one by at least half (intersection over union of
frames, both ends included), one to one, best overlap first; videos without events count too.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realtime_mer.capture import quiet_opencv
from realtime_mer.demo import make_demo_clip
from realtime_mer.event import InputError, Interval, MicroExpression
from realtime_mer.pipeline import CLASSIFIER, SPOTTER, Recognizer

LEAST_OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class TrueEvent:
    """A micro-expression that is known to be there; the label may be unknown."""

    interval: Interval
    label: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """One video: what was there, what was reported, and for how long one looked.

    Attributes:
        fps: Frames a second, by which overlaps are counted.
        seconds: Length of the video.
    """

    name: str
    truth: tuple[TrueEvent, ...]
    found: tuple[MicroExpression, ...]
    fps: float
    seconds: float


def overlap(first: Interval, second: Interval, fps: float) -> float:
    """Intersection over union of two intervals in frames, both ends included, 0 to 1."""
    a, b, c, d = (
        round(t * fps) for t in (first.onset_s, first.offset_s, second.onset_s, second.offset_s)
    )
    shared = max(0, min(b, d) - max(a, c) + 1)
    return shared / (max(b, d) - min(a, c) + 1) if shared else 0.0


def match(result: Result) -> list[tuple[TrueEvent, MicroExpression]]:
    """Pairs of truth and report that overlap by half, one to one, best overlap first."""
    pairs = sorted(
        (
            (overlap(t.interval, f.interval, result.fps), i, j)
            for i, t in enumerate(result.truth)
            for j, f in enumerate(result.found)
        ),
        reverse=True,
    )
    taken_truth: set[int] = set()
    taken_found: set[int] = set()
    out = []
    for share, i, j in pairs:
        if share >= LEAST_OVERLAP and i not in taken_truth and j not in taken_found:
            taken_truth.add(i)
            taken_found.add(j)
            out.append((result.truth[i], result.found[j]))
    return out


def figures(results: Sequence[Result]) -> dict[str, float | int | None]:
    """The figures of all results together; those that nothing speaks for are None."""
    pairs = [pair for result in results for pair in match(result)]
    there, reported = (sum(len(getattr(r, k)) for r in results) for k in ("truth", "found"))
    minutes = sum(r.seconds for r in results) / 60
    labelled = [(t, f) for t, f in pairs if t.label is not None]
    delays = [f.reported_s - t.interval.offset_s for t, f in pairs]

    def median(values: list[float]) -> float | None:
        return round(float(np.median(values)), 4) if values else None

    return {
        "videos": len(results),
        "minutes": round(minutes, 2),
        "events": there,
        "reports": reported,
        "matched": len(pairs),
        "F1": round(2 * len(pairs) / (there + reported), 4) if there + reported else None,
        "recall": round(len(pairs) / there, 4) if there else None,
        "precision": round(len(pairs) / reported, 4) if reported else None,
        "false_per_minute": round((reported - len(pairs)) / minutes, 3) if minutes else None,
        "labels_right": (
            round(sum(t.label == f.label for t, f in labelled) / len(labelled), 4)
            if labelled
            else None
        ),
        "onset_error_s": median([abs(t.interval.onset_s - f.interval.onset_s) for t, f in pairs]),
        "offset_error_s": median(
            [abs(t.interval.offset_s - f.interval.offset_s) for t, f in pairs]
        ),
        "report_delay_s": median(delays),
        "report_delay_p95_s": round(float(np.percentile(delays, 95)), 4) if delays else None,
    }


def read_truth(path: Path, fps: float) -> tuple[TrueEvent, ...]:
    """True events of a CSV with onset, apex, offset in frames and, if known, label.

    Raises:
        InputError: The file cannot be read or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = {"onset", "apex", "offset"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(f"{path} lacks the column {', '.join(sorted(missing))}")
            return tuple(
                TrueEvent(
                    Interval(*(float(row[k]) / fps for k in ("onset", "apex", "offset"))),
                    row.get("label") or None,
                )
                for row in reader
            )
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} has a row that is no interval: {error}") from None


def watch(
    video: Path, options: argparse.Namespace
) -> tuple[tuple[MicroExpression, ...], float, float]:
    """What the chain reports on a video, its frame rate and its length in seconds."""
    with Recognizer(video, weights=options.weights, spotter=options.spotter) as recognizer:
        events = tuple(recognizer)
        summary = recognizer.summary("")
        fps = recognizer.session.fps or 30.0
    return events, fps, summary.duration_s + 1 / fps


def demo_results(options: argparse.Namespace, console: Console) -> list[Result]:
    """The chain on demo clips, seeds `--first-seed` and on."""
    results = []
    with tempfile.TemporaryDirectory(prefix="realtime_mer-") as folder:
        clip = Path(folder) / "demo.avi"
        for seed in range(options.first_seed, options.first_seed + options.demo_clips):
            hidden = make_demo_clip(clip, seed)
            found, fps, seconds = watch(clip, options)
            truth = tuple(TrueEvent(e.interval, e.label) for e in hidden.events)
            results.append(Result(f"demo clip {seed}", truth, found, fps, seconds))
            console.print(_line(results[-1]))
    return results


def _line(result: Result) -> str:
    hits = len(match(result))
    return (
        f"{result.name}: {hits} of {len(result.truth)} found, {len(result.found) - hits} false, "
        f"{result.seconds:.0f} s"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("videos", nargs="*", metavar="VIDEO=TRUTH.csv")
    parser.add_argument("--demo-clips", type=int, default=0, metavar="N")
    parser.add_argument(
        "--first-seed", type=int, default=100, help="of the demo clips (default 100)"
    )
    parser.add_argument("--weights", type=Path, default=CLASSIFIER)
    parser.add_argument("--spotter", type=Path, default=SPOTTER)
    parser.add_argument("--json", action="store_true", help="print one object")
    options = parser.parse_args(arguments)
    if not options.videos and options.demo_clips < 1:
        parser.error("give videos with their truth, or --demo-clips N")
    quiet_opencv()
    console = Console(stderr=options.json)
    try:
        results = demo_results(options, console) if options.demo_clips else []
        for item in options.videos:
            video, equals, truth = item.rpartition("=")
            if not equals:
                raise InputError(f"{item!r} names no truth: write VIDEO=TRUTH.csv")
            found, fps, seconds = watch(Path(video), options)
            results.append(
                Result(Path(video).name, read_truth(Path(truth), fps), found, fps, seconds)
            )
            console.print(_line(results[-1]))
    except InputError as error:
        print(f"evaluate_spotting: {error}", file=sys.stderr)
        return 2
    table = figures(results)
    if options.json:
        print(json.dumps(table))
        return 0
    shown = Table(title="Spotting and naming")
    shown.add_column("figure")
    shown.add_column("value", justify="right")
    for name, value in table.items():
        shown.add_row(name, "-" if value is None else f"{value:g}")
    console.print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
