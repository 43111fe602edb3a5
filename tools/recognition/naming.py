"""Tells how often a network names drawn expressions rightly.

    python tools/recognition/naming.py FILE.npz ... [--weights FILE.onnx] [--out FILE.json]

The files are clips of photos of people whom the network was not trained on, made with
tools/recognition/drawn_clips.py --further. A row of the table is a combination of action units;
below are the classes, and the clips by the turn of the head and by the size of the motion. Classes
have different numbers of combinations, so the figure that counts is the mean over the classes.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import LABELS
from realtime_mer.errors import InputError
from realtime_mer.model_file import CLASSIFIER
from realtime_mer.recognition.classifier import Classifier
from tools.command import command_parser, exit_status
from tools.recognition.drawn_clips import DrawnClips, read_drawn_clips

# Bounds of the groups that are shown: turn of the head, degrees, and size of the motion, pixels.
_TURNS = (0, 7, 14, 20)
_SIZES = (1.2, 1.8, 2.7, 4.0)


def groups(clips: DrawnClips) -> Iterator[tuple[str, str, np.ndarray]]:
    """Label ("" for several), name and members (n,) bool of each group of clips that is shown."""
    for number, label in enumerate(LABELS):
        of_label = clips.labels == number
        for units in sorted(set(map(str, clips.units[of_label])), key=_unit_numbers):
            yield label, units, of_label & (clips.units == units)
    for number, label in enumerate(LABELS):
        yield label, "all", clips.labels == number
    turns = np.abs(clips.turns)
    for values, bounds, unit in ((turns, _TURNS, "degrees"), (clips.peaks, _SIZES, "px")):
        for low, high in itertools.pairwise(bounds):
            yield "", f"{low} to {high} {unit}", (values >= low) & (values < high)


def _unit_numbers(units: str) -> list[int]:
    return [int(unit.removeprefix("AU")) for unit in units.split("+")]


def summarize(clips: DrawnClips, probabilities: np.ndarray) -> dict[str, Any]:
    """How often the clips are named rightly.

    Args:
        clips: The clips.
        probabilities: (n, labels) that a network gives them.

    Returns:
        `accuracy` is the mean over the classes (`classes`); `rows` has each of `groups` that has
        clips.
    """
    answers = probabilities.argmax(1)
    right = answers == clips.labels
    classes = {
        label: round(float(right[clips.labels == number].mean()), 4)
        for number, label in enumerate(LABELS)
        if (clips.labels == number).any()
    }
    rows = [
        {
            "label": label,
            "group": name,
            "clips": int(members.sum()),
            "accuracy": round(float(right[members].mean()), 4),
            **{label: int((answers[members] == n).sum()) for n, label in enumerate(LABELS)},
        }
        for label, name, members in groups(clips)
        if members.any()
    ]
    return {
        "clips": len(clips),
        "accuracy": round(float(np.mean(list(classes.values()))), 4),
        "accuracy_of_clips": round(float(right.mean()), 4),
        "classes": classes,
        "rows": rows,
    }


def show(console: Console, title: str, summary: dict[str, Any]) -> None:
    """Prints a summary."""
    table = Table("", "", "clips", "right", *LABELS, title=title)
    for row in summary["rows"]:
        cells = [row["label"], row["group"], row["clips"], f"{row['accuracy']:.2f}"]
        table.add_row(*map(str, cells), *(str(row[label]) for label in LABELS))
    console.print(table)
    console.print(
        f"right: {summary['accuracy']:.3f} (mean of the classes), "
        f"{summary['accuracy_of_clips']:.3f} of {summary['clips']} clips"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("clips", type=Path, nargs="+", metavar="FILE.npz")
    parser.add_argument(
        "--weights",
        type=Path,
        default=CLASSIFIER,
        metavar="FILE.onnx",
        help="default: those delivered",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the figures here")
    options = parser.parse_args(arguments)

    def work() -> None:
        files = [(path, read_drawn_clips(path)) for path in options.clips]
        classifier = Classifier(options.weights, providers="cpu")
        if classifier.labels != LABELS:
            raise InputError(
                f"{options.weights} names {', '.join(classifier.labels)}: give weights for "
                f"{', '.join(LABELS)}"
            )
        figures = {}
        for path, clips in files:
            figures[path.name] = summarize(clips, classifier.classify(clips.pairs))
            show(Console(), path.name, figures[path.name])
        if options.out:
            try:
                options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                raise InputError(
                    f"cannot write {options.out} ({error.strerror}): give another --out"
                ) from error

    return exit_status(parser.prog, work)


if __name__ == "__main__":
    raise SystemExit(main())
