"""Measures a network whose recipe is chosen without the subjects that it is tested on.

    python tools/recognition/nested.py --data DIR --drawn learn.npz --out runs/nested --seeds 3

tools/recognition/evaluate.py leaves out every subject, but its recipe was chosen on all of them.
Here the choice is made anew for each of --blocks groups of subjects, on the others only:

1. For each recipe of `RECIPES` and each two blocks, one network is trained on all other blocks.
   It answers both. Its answers to one count in the choice for the other.
2. A block gets the recipe with the highest composite UF1 over the answers to all other blocks;
   of equal ones, the first. No network behind these answers has seen the block.
3. Every subject is left out, and networks with the recipe of its block are trained on the rest,
   one for each seed, as in evaluate.py.

Into --out go `predictions.csv` and `summary.json` in the form of evaluate.py, and a folder for each
recipe. A run that was stopped continues where it was; the same seed gives the same answers, with
one job or several.

Beside the figures stands that of one recipe for all subjects, if --beside names results of
evaluate.py for it. Without --beside it is the first recipe, if evaluate.py has left out everybody
in its folder:

    python tools/recognition/evaluate.py --data DIR --drawn learn.npz --seeds 3 \\
        --out runs/nested/as-delivered/loso
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import Clips, sets_of
from models.metrics import scores
from models.training import Recipe
from realtime_mer.errors import InputError
from tools.command import command_parser, exit_status, make_folder, number_type
from tools.recognition import evaluate
from tools.recognition.protocol import ALL_SUBJECTS, HONEST, Plan, answer_all, answer_fold
from tools.recognition.together import difference, read_answers, uf1

_PROTOCOL = "choice of the recipe, two blocks left out"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recipe to choose from.

    Attributes:
        name: Says what differs from the delivered one; also the name of its folder.
        model: A name in `models.zoo.NAMES`.
        recipe: Of the training.
        drawn: Whether drawn clips train besides.
    """

    name: str
    model: str = "causalnet-compact"
    recipe: Recipe = field(default_factory=Recipe)
    drawn: bool = True


RECIPES = (
    Candidate("as-delivered"),
    Candidate("no-drawn-clips", drawn=False),
    Candidate("with-strain", "compact-with-strain"),
    Candidate("no-cmplm", "compact-without-cmplm"),
    Candidate("time-reversal", recipe=Recipe(reverse=0.5)),
    Candidate("80-epochs", recipe=Recipe(epochs=80)),
    Candidate("batches-of-32", recipe=Recipe(batch=32)),
    Candidate("ststnet", "ststnet", drawn=False),
    Candidate("off-apexnet", "off-apexnet", drawn=False),
    Candidate("kernel-ridge", "kernel-ridge", drawn=False),
)
"""What the project compared (docs/recognition.md) and this code still trains."""


@dataclass(frozen=True, slots=True)
class Pairs(Plan):
    """A plan that leaves out two of its folds at a time; a fold's number is that of the pair."""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of folds."""
        return list(combinations(range(self.folds), 2))

    def split(self, clips: Clips, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """The clips (clips,) bool that train, and those of the pair."""
        test = np.isin(self.fold_of(clips), self.pairs[fold])
        return ~np.isin(clips.subjects, clips.subjects[test]), test


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A candidate with what it is measured on.

    Attributes:
        candidate: The recipe.
        clips: All clips, then the drawn ones, if it learns any.
        inner: The plan of the choice.
        outer: That of the figures, as evaluate.py has it.
        folder: Of its answers.
    """

    candidate: Candidate
    clips: Clips
    inner: Pairs
    outer: Plan
    folder: Path

    @property
    def loso(self) -> Path:
        """Folder of the answers to subjects that were left out alone."""
        return self.folder / "loso"

    def answers_for_choice(self, jobs: int, console: Console) -> np.ndarray:
        """Logits (blocks, clips, classes): for each block, the answers to all clips outside it.

        They are of networks that saw neither the block nor the clip's own; inside the block they
        are NaN.
        """
        plan = self.inner
        folder = evaluate.folder_of(plan, self.clips, self.folder / "pairs")
        tasks = {
            f"{first}-{second}": (plan, self.clips, number, 0)
            for number, (first, second) in enumerate(plan.pairs)
        }
        made = answer_all(folder, tasks, answer_fold, jobs, self.candidate.name, console)
        block = plan.fold_of(self.clips)
        logits = np.full((plan.folds, len(block), len(plan.classes)), np.nan)
        for first, second in plan.pairs:
            answers, of = made[f"{first}-{second}"], block[np.isin(block, (first, second))]
            logits[first, block == second] = answers[of == second]
            logits[second, block == first] = answers[of == first]
        return logits[:, block >= 0]

    def answers(
        self, blocks: Sequence[int], seeds: Sequence[int], jobs: int, console: Console
    ) -> dict[int, np.ndarray]:
        """Logits (clips, classes) by seed, each subject left out; zero outside these blocks."""
        folder = evaluate.folder_of(self.outer, self.clips, self.loso)
        block, fold = self.inner.fold_of(self.clips), self.outer.fold_of(self.clips)
        wanted = np.unique(fold[np.isin(block, blocks)]).tolist()
        tasks = {f"{s}-{k}": (self.outer, self.clips, k, s) for s in seeds for k in wanted}
        made = answer_all(folder, tasks, answer_fold, jobs, self.candidate.name, console)
        logits = {s: np.zeros((len(fold), len(self.outer.classes))) for s in seeds}
        for seed in seeds:
            for k in wanted:
                logits[seed][fold == k] = made[f"{seed}-{k}"]
        return {seed: z[fold >= 0] for seed, z in logits.items()}

    def answered_all(self, seeds: Sequence[int]) -> bool:
        """Whether every subject was left out already, with these seeds."""
        folds = range(self.outer.fold_of(self.clips).max() + 1)
        return all((self.loso / f"folds/{s}-{k}.npy").exists() for s in seeds for k in folds)


def trials_of(
    candidates: Sequence[Candidate],
    clips: Clips,
    drawn: Path | None,
    blocks: int,
    out: Path,
    flow: str = "dis",
) -> list[Trial]:
    """Each candidate with its clips, plans and folder.

    Args:
        candidates: The recipes.
        clips: All clips but drawn ones.
        drawn: The file of these.
        blocks: Groups of subjects.
        out: Folder of the results.
        flow: As in `Plan`.

    Raises:
        InputError: One needs drawn clips and there are none, or they do not fit.
    """
    trials = []
    for candidate in candidates:
        if candidate.drawn and drawn is None:
            raise InputError(
                f"{candidate.name} learns drawn clips: give --drawn, or leave it out of --recipes"
            )
        all_clips, digest = evaluate.with_drawn(
            clips, drawn if candidate.drawn else None, candidate.model
        )
        shared: dict[str, Any] = {
            "model": candidate.model,
            "members": 1,
            "recipe": candidate.recipe,
            "sets": sets_of(clips),
            "classes": clips.classes,
            "flow": flow,
            "drawn": digest,
        }
        inner = Pairs(protocol=_PROTOCOL, folds=blocks, **shared)
        outer = Plan(protocol=HONEST, folds=0, **shared)
        trials.append(Trial(candidate, all_clips, inner, outer, out / candidate.name))
    return trials


def figures_for_choice(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    """Composite UF1 for the choice of each block.

    Args:
        logits: Of `Trial.answers_for_choice`.
        labels: (clips,).
    """
    figures = []
    for of_block in logits:
        outside = ~np.isnan(of_block[:, 0])
        answers = of_block[outside].argmax(1)
        figures.append(scores(labels[outside], answers, logits.shape[2])["UF1"])
    return figures


def choose(inner: Mapping[str, Sequence[float]]) -> list[str]:
    """The recipe of each block: that with the highest figure; of equal ones, the first.

    Args:
        inner: The figure of each recipe for each block.
    """
    names = list(inner)
    return [names[int(np.argmax(figures))] for figures in zip(*inner.values(), strict=True)]


def run(
    trials: Sequence[Trial], clips: Clips, seeds: list[int], jobs: int, out: Path, console: Console
) -> dict[str, Any]:
    """Chooses, trains what is missing in `out`, writes the results there; returns the summary.

    Raises:
        InputError: `out` cannot be written, or holds a run under another plan.
    """
    blocks = trials[0].inner.folds
    make_folder(out, "--out")
    settings = {"protocol": "nested", "blocks": blocks, "sets": sets_of(clips)}
    evaluate.claim(out, {**settings, "classes": clips.classes, "clips": len(clips)})
    inner = {
        trial.candidate.name: figures_for_choice(
            trial.answers_for_choice(jobs, console), clips.labels
        )
        for trial in trials
    }
    chosen = choose(inner)
    logits = {seed: np.zeros((len(clips), len(clips.classes))) for seed in seeds}
    for trial in trials:
        own = [block for block, name in enumerate(chosen) if name == trial.candidate.name]
        if own:
            for seed, answers in trial.answers(own, seeds, jobs, console).items():
                logits[seed] += answers
    summary = evaluate.summarize(trials[0].outer, clips, ALL_SUBJECTS, logits)
    for key in ("recipe", "drawn"):
        summary.pop(key, None)
    summary |= {
        "model": "recipe chosen for each block",
        "blocks": blocks,
        "recipes": [asdict(trial.candidate) for trial in trials],
        "inner": {name: [round(f, 4) for f in figures] for name, figures in inner.items()},
        "chosen": chosen,
    }
    evaluate.write_summary(out, summary)
    evaluate.write_predictions(out / "predictions.csv", clips, logits)
    return summary


def show(console: Console, summary: dict[str, Any]) -> None:
    """Prints the choice and the figures."""
    table = Table("UF1 for the choice of block", title="The recipe chosen inside")
    for block in range(summary["blocks"]):
        table.add_column(str(block + 1))
    for name, figures in summary["inner"].items():
        cells = zip(figures, summary["chosen"], strict=True)
        table.add_row(name, *(f"{f:.3f}{'*' if name == best else ''}" for f, best in cells))
    console.print(table)
    console.print("* chosen")
    evaluate.show(console, summary)
    if "ensemble" in summary:
        table = Table("", "UF1", "UAR", "ACC", title="the networks' logits together")
        for group in ("composite", *summary["sets"]):
            figures = summary["ensemble"][group]
            table.add_row(group, *(f"{figures[k]:.3f}" for k in ("UF1", "UAR", "ACC")))
        console.print(table)


def show_beside(console: Console, out: Path, beside: Path) -> None:
    """Prints the figure of one recipe for all, and how far the nested one differs.

    Raises:
        InputError: `beside` holds no honest answers to the same clips.
    """
    one, nested = read_answers(beside), read_answers(out)
    everything = np.arange(len(one.labels))
    value, low, high = difference(uf1, one, nested)
    console.print(
        f"{beside}, one recipe for all, its seeds together: UF1 {uf1(one, everything):.3f}; chosen "
        f"for each block less this: {value:+.3f} ({low:+.3f} to {high:+.3f} in 95 % of samples of "
        "the subjects)"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    evaluate.add_data_arguments(parser)
    evaluate.add_drawn_argument(parser)
    names = [candidate.name for candidate in RECIPES]
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--recipes",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"to choose from; default: all of {', '.join(names)}",
    )
    blocks = number_type(int, lambda n: n >= 3, "a whole number of 3 or more")
    parser.add_argument(
        "--blocks", type=blocks, default=8, help="groups of subjects that share a choice; default 8"
    )
    whole = number_type(int, lambda n: n >= 1, "a whole number above 0")
    parser.add_argument(
        "--seeds", type=whole, default=3, help="of the networks that are measured; default 3"
    )
    parser.add_argument("--jobs", type=whole, default=1, help="trainings at the same time")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="RESULTS_DIR",
        help="of evaluate.py: one recipe for all, to compare with",
    )
    options = parser.parse_args(arguments)

    def work() -> None:
        _measure(options, Console())

    return exit_status(parser.prog, work, resumable=True)


def _measure(options: argparse.Namespace, console: Console) -> None:
    clips = evaluate.clips_of(options)
    subjects = len(set(clips.subjects))
    if options.blocks > subjects:
        raise InputError(f"--blocks is at most {subjects}, the number of subjects in the data")
    candidates = [candidate for candidate in RECIPES if candidate.name in options.recipes]
    trials = trials_of(candidates, clips, options.drawn, options.blocks, options.out, options.flow)
    seeds = list(range(options.seeds))
    summary = run(trials, clips, seeds, options.jobs, options.out, console)
    show(console, summary)
    beside, first = options.beside, trials[0]
    if beside is None and first.answered_all(seeds):
        evaluate.run(first.outer, first.clips, None, seeds, options.jobs, first.loso, console)
        beside = first.loso
    if beside is not None:
        show_beside(console, options.out, beside)


if __name__ == "__main__":
    raise SystemExit(main())
