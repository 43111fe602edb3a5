"""The demo: a clip with known micro-expressions, and which of them were found."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from realtime_mer.command.recognize import Outputs, recognize
from realtime_mer.demo.clip import DemoTruth, make_demo_clip
from realtime_mer.demo.score import Comparison, compare
from realtime_mer.face.landmark_model import load_landmark_model
from realtime_mer.results import MicroExpression
from realtime_mer.session.run import Callbacks
from realtime_mer.source.opencv import quiet_opencv


def run_demo(options: argparse.Namespace) -> None:
    """Makes the clip, runs on it and prints the comparison.

    Raises:
        InputError: An output or a model cannot be used.
    """
    quiet_opencv()
    outputs = Outputs(options, [])
    console = Console()
    events: list[MicroExpression] = []
    with tempfile.TemporaryDirectory(prefix="realtime_mer-") as folder:
        clip = Path(folder) / "demo.avi"
        progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        with progress:
            task = progress.add_task("making a clip with known micro-expressions", total=1.0)
            truth = make_demo_clip(
                clip,
                landmark_model=load_landmark_model(options.landmarks),
                progress=lambda part: progress.update(task, completed=part),
            )
        summary = recognize(options, [str(clip)], outputs, [Callbacks(events.append, None)])
    # What the user stopped before was not missed.
    end_s = summary.duration_s + 1 / truth.fps
    reached = tuple(e for e in truth.events if e.interval.offset_s < end_s)
    truth = dataclasses.replace(truth, events=reached)
    console.print(demo_table(truth, compare(truth, events)))


def demo_table(truth: DemoTruth, rows: Sequence[Comparison]) -> Table:
    """The micro-expressions hidden in the clip beside those that were found."""
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
