"""Figures of networks of different kinds that answer together, by the mean of their logits.

    python tools/recognition/together.py runs/compact runs/kernel --shares 2 1

The folders are honest results of tools/recognition/evaluate.py for the same clips. Of each, the
mean over its seeds counts; evaluate.py has divided its logits by temperatures that were fitted on
the other subjects, so the scales agree. The shares are yours: nothing is chosen here.

It prints the figures of each folder alone, then of all together, and within which bounds the
difference to the first folder lies in 95 % of samples of the subjects, drawn anew within each set.
The loss, the mean negative logarithm of the probability of the true class, shows smaller
differences than UF1, which only counts clips.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.metrics import expected_calibration_error, scores, softmax
from realtime_mer.errors import InputError
from tools.command import command_parser, exit_status, read_json
from tools.recognition.protocol import HONEST

_SAMPLES = 2000
_REMEDY = "give folders that tools/recognition/evaluate.py wrote for the same clips"
_LEAST = 1e-4  # predictions.csv has four decimals


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a network answered to clips of people it did not know.

    Attributes:
        name: Of the network.
        clips: (set, subject, name, label) of each clip.
        labels: (n,) index into the classes.
        logits: (n, classes), calibrated; the mean over the seeds.
    """

    name: str
    clips: list[tuple[str, str, str, str]]
    labels: np.ndarray
    logits: np.ndarray


def read_answers(folder: Path) -> Answers:
    """Reads what tools/recognition/evaluate.py wrote.

    Raises:
        InputError: It is no such folder, or the run is not honest.
    """
    summary = read_json(folder / "summary.json", _REMEDY)
    if summary.get("protocol") != HONEST:
        raise InputError(f"{folder} holds no honest figures: {_REMEDY}, without --test-selected")
    path = folder / "predictions.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        classes = list(summary["classes"])
        seeds = sorted({row["seed"] for row in rows})
        by_seed = [[row for row in rows if row["seed"] == seed] for seed in seeds]
        keys = [[(r["set"], r["subject"], r["clip"], r["label"]) for r in own] for own in by_seed]
        chances = np.array([[[float(row[c]) for c in classes] for row in own] for own in by_seed])
        labels = np.array([classes.index(key[3]) for key in keys[0]])
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path} cannot be read: {_REMEDY}") from error
    if any(own != keys[0] for own in keys):
        raise InputError(f"{path} has other clips for each seed: {_REMEDY}")
    logits = np.log(np.maximum(chances, _LEAST)).mean(0)
    return Answers(str(summary["model"]), keys[0], labels, logits)


def together(members: list[Answers], shares: list[float]) -> Answers:
    """The answers of several, by the mean of their logits.

    Raises:
        InputError: They answered different clips.
    """
    first = members[0]
    _check_same_clips(members)
    logits = np.average([m.logits for m in members], axis=0, weights=shares)
    return Answers("together", first.clips, first.labels, logits)


def uf1(answers: Answers, chosen: np.ndarray) -> float:
    """UF1 of these clips."""
    labels, logits = answers.labels[chosen], answers.logits[chosen]
    return scores(labels, logits.argmax(1), logits.shape[1])["UF1"]


def loss(answers: Answers, chosen: np.ndarray) -> float:
    """Mean negative logarithm of the probability of the true class, of these clips."""
    chances = softmax(answers.logits[chosen])
    return float(-np.log(chances[np.arange(len(chosen)), answers.labels[chosen]]).mean())


def bounds(
    figure: Callable[[Answers, np.ndarray], float], first: Answers, second: Answers
) -> tuple[float, float]:
    """Within which 95 % of the differences of a figure lie, second less first, over samples of the
    subjects."""
    random = np.random.default_rng(0)
    of_set: dict[str, dict[str, list[int]]] = {}
    for place, (name, subject, *_) in enumerate(first.clips):
        of_set.setdefault(name, {}).setdefault(subject, []).append(place)
    differences = []
    for _ in range(_SAMPLES):
        chosen: list[list[int]] = []
        for subjects in of_set.values():
            clips = list(subjects.values())
            chosen += [clips[i] for i in random.integers(len(clips), size=len(clips))]
        sample = np.concatenate(chosen)
        differences.append(figure(second, sample) - figure(first, sample))
    low, high = np.quantile(differences, (0.025, 0.975))
    return float(low), float(high)


def difference(
    figure: Callable[[Answers, np.ndarray], float], first: Answers, second: Answers
) -> tuple[float, float, float]:
    """How far a figure differs, second less first, and its `bounds`.

    Raises:
        InputError: They answered different clips.
    """
    _check_same_clips([first, second])
    everything = np.arange(len(first.labels))
    value = figure(second, everything) - figure(first, everything)
    return (value, *bounds(figure, first, second))


def _check_same_clips(members: list[Answers]) -> None:
    if any(member.clips != members[0].clips for member in members):
        raise InputError(f"the folders hold answers to different clips: {_REMEDY}")


def _figures(answers: Answers, of_set: dict[str, np.ndarray]) -> dict[str, float]:
    """Of all clips, and the UF1 of each set."""
    return {
        **scores(answers.labels, answers.logits.argmax(1), answers.logits.shape[1]),
        **{f"UF1, {name}": uf1(answers, inside) for name, inside in of_set.items()},
        "calibration error": expected_calibration_error(softmax(answers.logits), answers.labels),
        "loss": loss(answers, np.arange(len(answers.labels))),
    }


def show(console: Console, members: list[Answers], all_of_them: Answers) -> None:
    """Prints the figures."""
    sets = list(dict.fromkeys(clip[0] for clip in all_of_them.clips))
    of_set = {
        name: np.flatnonzero([clip[0] == name for clip in all_of_them.clips]) for name in sets
    }
    table = Table()
    for name in ("", *(answers.name for answers in (*members, all_of_them))):
        table.add_column(name)
    columns = [_figures(answers, of_set) for answers in (*members, all_of_them)]
    for name in columns[0]:
        table.add_row(name, *(f"{column[name]:.3f}" for column in columns))
    console.print(table)
    for name, figure in (("UF1", uf1), ("loss", loss)):
        value, low, high = difference(figure, members[0], all_of_them)
        console.print(
            f"{name}, together less {members[0].name}: {value:+.3f} "
            f"({low:+.3f} to {high:+.3f} in 95 % of samples of the subjects)"
        )


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="RESULTS_DIR")
    parser.add_argument(
        "--shares",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="of each folder in the mean; default: all alike",
    )
    options = parser.parse_args(arguments)

    def work() -> None:
        shares = options.shares or [1.0] * len(options.folders)
        if len(shares) != len(options.folders) or not min(shares) > 0:
            raise InputError("--shares is a number above 0 for each folder")
        members = [read_answers(folder) for folder in options.folders]
        show(Console(), members, together(members, shares))

    return exit_status(parser.prog, work)


if __name__ == "__main__":
    raise SystemExit(main())
