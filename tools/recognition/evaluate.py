"""Measures a network on subjects that it was not trained on.

    python tools/recognition/evaluate.py --data DIR --out results/compact \\
        --model causalnet-compact --seeds 3
    python tools/recognition/evaluate.py --data DIR --set casme2 --classes 5 --out results/five

DIR is the flow release, or a set that tools/recognition/prepare.py made; several are pooled. It
leaves out every subject once (or, with --folds K, the subjects in K groups), trains a network on
the others, and pools the answers to the left-out clips. Into --out go
`predictions.csv`, `summary.json` and `confusion.png`. A run that was stopped continues where it
was; the same seed gives the same answers, with one job or several.

With several seeds the summary also holds `ensemble`: the answers of the mean of their logits, which
tools/recognition/train.py deploys with as many --members. --card writes the figures into a model
card.

By default, figures are honest: the schedule is fixed, and nothing is chosen on the left-out
subjects. --test-selected is the protocol of the released code instead: after every epoch it answers
the left-out subject, and the best epoch counts. Such figures serve only to compare with print.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import sys
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import LABELS, SETS, Clips, sets_of, subject_folds
from models.metrics import (
    confusion,
    expected_calibration_error,
    fit_temperature,
    scores,
    softmax,
)
from models.training import Recipe, fit, predict
from models.zoo import NETWORKS, make_network
from realtime_mer.errors import InputError
from tools.command import (
    command_parser,
    exit_status,
    make_folder,
    progress_bar,
    read_json,
    save_array,
)
from tools.recognition.export import write_card
from tools.recognition.prepared import FLOWS, read_clips

HONEST, TEST_SELECTED = "honest", "test-selected"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run measures; a run continues only under the same plan.

    Attributes:
        model: A name in `NETWORKS`.
        protocol: `HONEST` or `TEST_SELECTED`.
        folds: Groups of subjects; 0 leaves out every subject alone.
        members: Networks whose logits are averaged for an answer.
        recipe: Of their training.
        sets: The data sets of the clips.
        classes: The classes.
        flow: Whose flow of prepared sets, a key of `FLOWS`.
    """

    model: str
    protocol: str
    folds: int
    members: int
    recipe: Recipe
    sets: tuple[str, ...] = SETS
    classes: tuple[str, ...] = LABELS
    flow: str = "dis"

    def fold_of(self, clips: Clips) -> np.ndarray:
        """(clips,) the number of each clip's fold."""
        if self.folds:
            return subject_folds(clips, self.folds, seed=0)
        return np.unique(clips.subjects, return_inverse=True)[1]


class _PerfectError(Exception):
    """Every left-out clip is answered rightly, so test-selected training ends."""


def answer_fold(plan: Plan, clips: Clips, fold: int, seed: int) -> np.ndarray:
    """Logits (left-out clips, classes) of one fold, from networks trained on the others."""
    torch.set_num_threads(1)  # so that the answers do not depend on the number of cores
    left_out = plan.fold_of(clips) == fold
    train, test = clips[~left_out], clips[left_out]
    answers = []
    for member in range(plan.members):
        member_seed = (seed * 1000 + fold) * 100 + member
        torch.manual_seed(member_seed)
        network = make_network(plan.model, len(plan.classes))
        if plan.protocol == HONEST:
            answers.append(predict(fit(network, train, plan.recipe, member_seed), test.pairs))
        else:
            answers.append(_best_epoch(network, train, test, plan.recipe, member_seed))
    return np.mean(answers, axis=0)


def _best_epoch(
    network: nn.Module, train: Clips, test: Clips, recipe: Recipe, seed: int
) -> np.ndarray:
    """Logits of the epoch that answers most of the left-out clips rightly."""
    best, best_right = np.empty(0), -1

    def keep_if_best(_: int, trained: nn.Module) -> None:
        nonlocal best, best_right
        logits = predict(trained, test.pairs)
        right = int((logits.argmax(1) == test.labels).sum())
        if right > best_right:
            best, best_right = logits, right
        if right == len(test):
            raise _PerfectError

    with contextlib.suppress(_PerfectError):
        fit(network, train, recipe, seed, keep_if_best)
    return best


def cross_calibrated(logits: np.ndarray, clips: Clips) -> np.ndarray:
    """Probabilities; the temperature of each subject is fitted on all the others."""
    probabilities = np.empty_like(logits)
    for subject in np.unique(clips.subjects):
        own = clips.subjects == subject
        temperature = fit_temperature(logits[~own], clips.labels[~own])
        probabilities[own] = softmax(logits[own] / temperature)
    return probabilities


def summarize(plan: Plan, clips: Clips, logits: dict[int, np.ndarray]) -> dict[str, Any]:
    """Mean and spread over seeds.

    Args:
        plan: What was measured.
        clips: The clips.
        logits: Of all clips, by seed.
    """
    groups = {"composite": np.ones(len(clips), bool), **{s: clips.sets == s for s in plan.sets}}
    classes = len(plan.classes)
    summary: dict[str, Any] = {
        "model": plan.model,
        "protocol": plan.protocol,
        "split": f"{plan.folds} folds of subjects" if plan.folds else "leave one subject out",
        "members": plan.members,
        "seeds": len(logits),
        "recipe": asdict(plan.recipe),
        "sets": list(plan.sets),
        "classes": list(plan.classes),
    }
    spread: dict[str, dict[str, float]] = {}
    for group, inside in groups.items():
        each = [scores(clips.labels[inside], z[inside].argmax(1), classes) for z in logits.values()]
        summary[group] = {k: round(float(np.mean([e[k] for e in each])), 4) for k in each[0]}
        spread[group] = {k: round(float(np.std([e[k] for e in each])), 4) for k in each[0]}
    summary["spread"] = spread
    errors = [
        expected_calibration_error(cross_calibrated(z, clips), clips.labels)
        for z in logits.values()
    ]
    summary["calibration_error"] = round(float(np.mean(errors)), 4)
    if len(logits) > 1:
        together = np.mean(list(logits.values()), axis=0)
        error = expected_calibration_error(cross_calibrated(together, clips), clips.labels)
        summary["ensemble"] = {
            "members": len(logits) * plan.members,
            **{
                group: _figures(clips.labels[inside], together[inside])
                for group, inside in groups.items()
            },
            "calibration_error": round(error, 4),
        }
    return summary


def _figures(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    figures = scores(labels, logits.argmax(1), logits.shape[1])
    return {k: round(v, 4) for k, v in figures.items()}


def figures_for_card(summary: dict[str, Any]) -> dict[str, Any]:
    """The part of a summary that goes into a model card.

    Raises:
        InputError: It is no honest measurement, or no summary.
    """
    sets = summary.get("sets", SETS)
    keys = ("protocol", "split", "seeds", "composite", *sets, "spread", "calibration_error")
    if missing := [key for key in keys if key not in summary]:
        raise InputError(
            f"a summary of tools/recognition/evaluate.py holds {', '.join(missing)}, this one does "
            "not: give its summary.json"
        )
    if summary["protocol"] != HONEST:
        raise InputError(f"a card takes honest figures only, these are {summary['protocol']}")
    figures = {key: summary[key] for key in keys}
    if "ensemble" in summary:
        figures["ensemble"] = summary["ensemble"]
    return figures


def write_into_card(path: Path, summary: dict[str, Any]) -> None:
    """Writes the figures into the card of weights of the same network.

    Raises:
        InputError: There is no such card, or it cannot be written.
    """
    remedy = "give the card of weights that tools/recognition/train.py made"
    card = read_json(path, remedy)
    name = card.get("name")
    if name != summary["model"]:
        raise InputError(f"{path} is the card of {name}, not of {summary['model']}: {remedy}")
    labels = card.get("labels", summary["classes"])
    if labels != summary["classes"]:
        raise InputError(
            f"{path} is the card of weights for {', '.join(map(str, labels))}, not for "
            f"{', '.join(summary['classes'])}: {remedy}"
        )
    part = path.with_suffix(".part.json")
    try:
        write_card(part, {**card, "loso": figures_for_card(summary)})
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}): {remedy}") from error


def write_predictions(path: Path, clips: Clips, logits: dict[int, np.ndarray]) -> None:
    """Writes a row for each seed and clip."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["seed", "set", "subject", "clip", "label", "answer", *clips.classes])
        for seed, z in logits.items():
            for i, p in enumerate(cross_calibrated(z, clips)):
                rows.writerow(
                    [seed, clips.sets[i], clips.subjects[i], clips.names[i]]
                    + [clips.classes[clips.labels[i]], clips.classes[z[i].argmax()]]
                    + [f"{value:.4f}" for value in p]
                )


def draw_confusion(path: Path, summary: dict[str, Any], matrix: np.ndarray) -> None:
    """Draws the confusion matrix: the shares of a row as colours, the clips as numbers."""
    names = summary["classes"]
    side = 2.2 + 0.8 * len(names)
    figure = Figure(figsize=(side, side - 0.2), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{share:.0%}\n{matrix[row, column]:.4g}"
        colour = "white" if share > 0.6 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    turn = 0 if len(names) == len(LABELS) else 45
    axes.set_xticks(range(len(names)), names, rotation=turn, ha="right" if turn else "center")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    axes.set_title(
        f"{summary['model']}, {summary['split']}\n{summary['protocol'].upper()} "
        f"UF1 {summary['composite']['UF1']:.3f} (mean of {summary['seeds']})",
        fontsize=10,
    )
    figure.savefig(path, dpi=120)


def show(console: Console, summary: dict[str, Any]) -> None:
    """Prints the figures for people."""
    title = f"{summary['model']}: {summary['protocol'].upper()}, {summary['split']}"
    table = Table("", "UF1", "UAR", "ACC", title=title)
    sets = summary["sets"]
    # Of one set, the composite is the set.
    for group in ("composite", *sets) if len(sets) > 1 else sets:
        cells = [
            f"{summary[group][k]:.3f} ± {summary['spread'][group][k]:.3f}"
            for k in ("UF1", "UAR", "ACC")
        ]
        table.add_row(group, *cells)
    console.print(table)
    console.print(
        f"mean ± spread of {summary['seeds']} seed(s); calibration error "
        f"{summary['calibration_error']:.3f}"
    )
    if "ensemble" in summary:
        together = summary["ensemble"]
        figures = ", ".join(f"{k} {v:.3f}" for k, v in together["composite"].items())
        console.print(
            f"mean of the {together['members']} networks' logits: {figures}; calibration error "
            f"{together['calibration_error']:.3f}"
        )
    if summary["protocol"] == TEST_SELECTED:
        console.print("TEST-SELECTED: the epoch was chosen on the test subjects. No honest figure.")


def run(
    plan: Plan, clips: Clips, seeds: list[int], jobs: int, out: Path, console: Console
) -> dict[str, Any]:
    """Trains what is missing in `out`, then writes the results there; returns the summary.

    Raises:
        InputError: `out` cannot be written, or holds a run under another plan.
    """
    parts = out / "folds"
    make_folder(parts, "--out")
    plan_text = json.dumps({**asdict(plan), "clips": len(clips)}, indent=2)
    plan_file = out / "plan.json"
    if plan_file.exists() and plan_file.read_text(encoding="utf-8") != plan_text:
        raise InputError(f"{out} holds a run with other settings: give another --out")
    plan_file.write_text(plan_text, encoding="utf-8")
    fold = plan.fold_of(clips)
    wanted = [(seed, k) for seed in seeds for k in range(fold.max() + 1)]
    missing = [(s, k) for s, k in wanted if not (parts / f"{s}-{k}.npy").exists()]
    with progress_bar(console) as progress:
        task = progress.add_task(
            plan.model, total=len(wanted), completed=len(wanted) - len(missing)
        )

        def keep(seed: int, k: int, answer: np.ndarray) -> None:
            save_array(parts / f"{seed}-{k}.npy", answer)
            progress.advance(task)

        if jobs == 1:
            for seed, k in missing:
                keep(seed, k, answer_fold(plan, clips, k, seed))
        elif missing:
            with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
                running: dict[Future[np.ndarray], tuple[int, int]] = {
                    pool.submit(answer_fold, plan, clips, k, seed): (seed, k) for seed, k in missing
                }
                for done in as_completed(running):
                    keep(*running[done], done.result())
    logits = {seed: np.zeros((len(clips), len(plan.classes))) for seed in seeds}
    for seed, k in wanted:
        logits[seed][fold == k] = np.load(parts / f"{seed}-{k}.npy")
    summary = summarize(plan, clips, logits)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    write_predictions(out / "predictions.csv", clips, logits)
    classes = len(plan.classes)
    matrix = np.mean(
        [confusion(clips.labels, z.argmax(1), classes) for z in logits.values()], axis=0
    )
    draw_confusion(out / "confusion.png", summary, matrix)
    return summary


def recipe_of(arguments: list[str]) -> Recipe:
    """The deployed recipe with the changes NAME=VALUE.

    Raises:
        InputError: One of them is no such change.
    """
    fields = asdict(Recipe())
    changes: dict[str, Any] = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        try:
            changes[name] = type(fields[name])(value)
        except (KeyError, ValueError) as error:
            raise InputError(
                f"--recipe {argument} is not NAME=VALUE with a number for one of "
                f"{', '.join(fields)}"
            ) from error
    return replace(Recipe(), **changes)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what `read_clips` reads."""
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="the flow release, or what tools/recognition/prepare.py made; several are pooled",
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME", help="sets to take; default: all in --data"
    )
    parser.add_argument(
        "--classes",
        type=int,
        default=len(LABELS),
        help=f"{len(LABELS)} (default): those of the composite; else the set's own, as many",
    )
    parser.add_argument(
        "--flow",
        choices=FLOWS,
        default="dis",
        help="flow of prepared sets: dis (default), the runtime's; tvl1, as in the release",
    )


def clips_of(options: argparse.Namespace) -> Clips:
    """The clips that the options of `add_data_arguments` name.

    Raises:
        InputError: There are none, or they cannot be read.
    """
    return read_clips(options.data, options.set, options.classes, options.flow)


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    add_data_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--model",
        choices=sorted(NETWORKS),
        default="causalnet-compact",
        metavar="NAME",
        help=f"one of {', '.join(NETWORKS)}",
    )
    parser.add_argument("--folds", type=int, default=0, help="default: leave one subject out")
    parser.add_argument("--seeds", type=int, default=1, help="how many; mean and spread are shown")
    parser.add_argument("--members", type=int, default=1, help="networks averaged for an answer")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    parser.add_argument(
        "--recipe",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="train with another recipe than that of the deployed weights: "
        + " ".join(f"{name}={value}" for name, value in asdict(Recipe()).items()),
    )
    parser.add_argument("--card", type=Path, help="model card that gets the figures as `loso`")
    parser.add_argument("--test-selected", action="store_true", help="the released code's protocol")
    options = parser.parse_args(arguments)

    def work() -> None:
        if options.folds == 1 or options.folds < 0:
            raise InputError("--folds is 2 or more; without it, every subject is left out alone")
        if min(options.seeds, options.members, options.jobs) < 1:
            raise InputError("--seeds, --members and --jobs are at least 1")
        recipe = recipe_of(options.recipe)
        if options.card and (options.folds or options.test_selected or options.recipe):
            raise InputError(
                "--card takes honest figures of the deployed training, leaving one subject out: "
                "give it without --folds, --test-selected and --recipe"
            )
        clips, console = clips_of(options), Console()
        if len(set(clips.subjects)) < 2:
            raise InputError("the clips are of one subject: nobody is left to train on")
        plan = Plan(
            model=options.model,
            protocol=TEST_SELECTED if options.test_selected else HONEST,
            folds=options.folds,
            members=options.members,
            recipe=recipe,
            sets=sets_of(clips),
            classes=clips.classes,
            flow=options.flow,
        )
        summary = run(plan, clips, list(range(options.seeds)), options.jobs, options.out, console)
        if options.card:
            write_into_card(options.card, summary)
        show(console, summary)

    return exit_status(parser.prog, work, resumable=True)


if __name__ == "__main__":
    raise SystemExit(main())
