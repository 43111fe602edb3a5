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
the left-out subject, and the best epoch counts. With --search it also chooses the configuration on
the test subjects, and prints three figures side by side: honest, best epoch on test, best epoch and
configuration on test. All but the first serve only to compare with print.

    python tools/recognition/evaluate.py --data DIR --out results/search --test-selected --search \\
        --subjects 12
    python tools/recognition/evaluate.py --data DIR --out results/cross --test-sets samm
    python tools/recognition/evaluate.py --read results

--pretrain trains first on macro-expressions of people who are not tested. --train-sets and
--test-sets train on some sets and answer others. --read trains nothing: it takes
the figures from answers in files, ours and those of the released code.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import LABELS, SETS, Clips, joined, sets_of
from models.metrics import (
    confusion,
    expected_calibration_error,
    fit_temperature,
    least_confidence,
    scores,
    softmax,
)
from models.training import Recipe
from models.zoo import CLASSICAL, NAMES, NETWORKS
from realtime_mer.errors import InputError
from tools.command import (
    command_parser,
    exit_status,
    make_folder,
    read_json,
)
from tools.recognition.drawn_clips import read_drawn_clips
from tools.recognition.export import write_card
from tools.recognition.inputs import with_inputs
from tools.recognition.prepared import FLOWS, read_clips
from tools.recognition.pretraining import (
    add_pretrain_argument,
    check_no_macros,
    name_of,
    read_macros,
)
from tools.recognition.protocol import (
    ALL_SUBJECTS,
    HONEST,
    SEARCHED,
    TEST_SELECTED,
    Plan,
    answer_all,
    answer_fold,
    answer_fold_with,
    cross_database,
    groups_of,
    mean_and_spread,
)
from tools.recognition.read_results import (
    read_results,
    show_results,
    summarize_results,
    table_of,
)
from tools.recognition.search import (
    CONFIGURATIONS,
    SAMPLE,
    configurations,
    show_search,
    summarize_search,
    ways_of,
)

_PLAN = "plan.json"
# Share of right answers that a default for `--least-confidence` shall bring: chosen by judgement.
_WANTED = 0.85


def cross_calibrated(logits: np.ndarray, clips: Clips) -> np.ndarray:
    """Probabilities; the temperature of each subject is fitted on all the others."""
    probabilities = np.empty_like(logits)
    for subject in np.unique(clips.subjects):
        own = clips.subjects == subject
        temperature = 1.0 if own.all() else fit_temperature(logits[~own], clips.labels[~own])
        probabilities[own] = softmax(logits[own] / temperature)
    return probabilities


def summarize(
    plan: Plan, clips: Clips, split: str, logits: dict[int, np.ndarray]
) -> dict[str, Any]:
    """Mean and spread over seeds.

    Args:
        plan: What was measured.
        clips: The clips that were answered.
        split: In words.
        logits: Of these clips, by seed.
    """
    groups = groups_of(clips)
    classes = len(plan.classes)
    summary: dict[str, Any] = {
        "model": plan.model,
        "protocol": plan.protocol,
        "split": split,
        "members": plan.members,
        "seeds": len(logits),
        "recipe": asdict(plan.recipe),
        **({"pretrained_on": plan.pretrained_on} if plan.pretrained_on else {}),
        **({"drawn": plan.drawn} if plan.drawn else {}),
        "sets": list(sets_of(clips)),
        "classes": list(plan.classes),
    }
    spread: dict[str, dict[str, float]] = {}
    for group, inside in groups.items():
        each = [scores(clips.labels[inside], z[inside].argmax(1), classes) for z in logits.values()]
        summary[group], spread[group] = mean_and_spread(each)
    summary["spread"] = spread
    errors = [
        expected_calibration_error(cross_calibrated(z, clips), clips.labels)
        for z in logits.values()
    ]
    summary["calibration_error"] = round(float(np.mean(errors)), 4)
    together = np.mean(list(logits.values()), axis=0)
    probabilities = cross_calibrated(together, clips)
    summary["least_confidence"] = unsure(probabilities, clips)
    if len(logits) > 1:
        error = expected_calibration_error(probabilities, clips.labels)
        summary["ensemble"] = {
            "members": len(logits) * plan.members,
            **{
                group: _figures(clips.labels[inside], together[inside])
                for group, inside in groups.items()
            },
            "calibration_error": round(error, 4),
        }
    return summary


def unsure(probabilities: np.ndarray, clips: Clips) -> dict[str, float]:
    """The least confidence with which answers are right as often as is wanted, and what it brings.

    Args:
        probabilities: (clips, classes) of held-out clips.
        clips: The clips.

    Returns:
        `value`, chosen on all clips; and what a value brings that is chosen on all other subjects:
        `named`, the share of clips that get a label, and how many of these are right.
    """
    named = np.zeros(len(clips), bool)
    for subject in np.unique(clips.subjects):
        own = clips.subjects == subject
        value = least_confidence(probabilities[~own], clips.labels[~own], _WANTED)
        named[own] = probabilities[own].max(1) >= value
    right = probabilities.argmax(1) == clips.labels
    return {
        "wanted": _WANTED,
        "value": round(least_confidence(probabilities, clips.labels, _WANTED), 4),
        "named": round(float(named.mean()), 4),
        "right": round(float(right[named].mean()) if named.any() else 0.0, 4),
    }


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
    if not re.fullmatch(rf"{ALL_SUBJECTS}|[0-9]+ folds of subjects", str(summary["split"])):
        raise InputError(f"a card takes figures on all subjects, these are: {summary['split']}")
    figures = {key: summary[key] for key in keys}
    for key in ("ensemble", "least_confidence", "pretrained_on"):
        if key in summary:
            figures[key] = summary[key]
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
    if _drawn_of(card) != summary.get("drawn", ""):
        raise InputError(
            f"{path} is the card of weights of other drawn clips: {remedy} with --drawn"
        )
    part = path.with_suffix(".part.json")
    try:
        write_card(part, {**card, "loso": figures_for_card(summary)})
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}): {remedy}") from error


def _drawn_of(card: dict[str, Any]) -> str:
    """The SHA-256 of the drawn clips that a card's weights were trained on besides, or ""."""
    for key in ("trained_on", "drawn"):
        card = card.get(key) or {}
        if not isinstance(card, dict):
            return ""
    return str(card.get("sha256", ""))


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
        text = f"{share:.0%}\n{matrix[row, column]:.0f}"
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
    sure = summary["least_confidence"]
    if sure["value"] < 1:
        console.print(
            f"with --least-confidence {sure['value']:.2f}, {sure['wanted']:.0%} of the labels are "
            f"right; chosen on the other subjects, it leaves {sure['named']:.0%} of the clips a "
            f"label, {sure['right']:.0%} of them right"
        )
    if summary["protocol"] == TEST_SELECTED:
        console.print("TEST-SELECTED: the epoch was chosen on the test subjects. No honest figure.")


def run(
    plan: Plan,
    clips: Clips,
    macros: Clips | None,
    seeds: list[int],
    jobs: int,
    out: Path,
    console: Console,
) -> dict[str, Any]:
    """Trains what is missing in `out`, then writes the results there; returns the summary.

    Args:
        plan: What is measured.
        clips: All clips.
        macros: To pretrain on; None for no pretraining.
        seeds: Of the trainings.
        jobs: Trainings at the same time.
        out: Folder of the results.
        console: Where progress is shown.

    Raises:
        InputError: `out` cannot be written, or holds a run under another plan.
    """
    parts = folder_of(plan, clips, out)
    fold = plan.fold_of(clips)
    tasks = {f"{s}-{k}": (plan, clips, k, s, macros) for s in seeds for k in _folds(fold)}
    made = answer_all(parts, tasks, answer_fold, jobs, plan.model, console)
    answered = clips[fold >= 0]
    logits = {seed: _pooled([made[f"{seed}-{k}"] for k in _folds(fold)], fold) for seed in seeds}
    summary = summarize(plan, answered, plan.describe_split(clips), logits)
    write_summary(out, summary)
    write_predictions(out / "predictions.csv", answered, logits)
    classes = len(plan.classes)
    matrix = np.mean(
        [confusion(answered.labels, z.argmax(1), classes) for z in logits.values()], axis=0
    )
    draw_confusion(out / "confusion.png", summary, matrix)
    return summary


def search(
    plan: Plan,
    clips: Clips,
    macros: Clips | None,
    count: int,
    seeds: list[int],
    jobs: int,
    out: Path,
    console: Console,
) -> dict[str, Any]:
    """Does the search of the released code with `count` configurations; returns its summary.

    A folder may be gone on with by more configurations or seeds.

    Raises:
        InputError: As `run`.
    """
    tried = configurations(plan.model, plan.recipe)[:count]
    parts = folder_of(plan, clips, out)
    fold = plan.fold_of(clips)
    tasks = {
        f"{c}-{s}-{k}": (plan, configuration, ways_of(c), clips, k, s, macros)
        for c, configuration in enumerate(tried)
        for s in seeds
        for k in _folds(fold)
    }
    made = answer_all(parts, tasks, answer_fold_with, jobs, plan.model, console)
    honest, best = {}, {}
    for c in range(len(tried)):
        for seed in seeds:
            answers = [made[f"{c}-{seed}-{k}"] for k in _folds(fold)]
            best[c, seed] = _pooled([answer[-1] for answer in answers], fold)
            if HONEST in ways_of(c):
                honest[seed] = _pooled([answer[0] for answer in answers], fold)
    answered = clips[fold >= 0]
    summary, lines = summarize_search(plan, answered, plan.describe_split(clips), honest, best)
    write_summary(out, summary)
    for line, logits in lines.items():
        write_predictions(out / table_of(line), answered, logits)
    return summary


def _folds(fold: np.ndarray) -> range:
    return range(fold.max() + 1)


def _pooled(answers: list[np.ndarray], fold: np.ndarray) -> np.ndarray:
    """The logits of all answered clips, in their order, from those of each fold."""
    logits = np.zeros((len(fold), answers[0].shape[-1]))
    for k, answer in enumerate(answers):
        logits[fold == k] = answer
    return logits[fold >= 0]


def folder_of(plan: Plan, clips: Clips, out: Path) -> Path:
    """The folder for the answers of each training of a plan, made if it is not there yet.

    Raises:
        InputError: `out` cannot be written, or holds a run under another plan.
    """
    parts = out / "folds"
    make_folder(parts, "--out")
    claim(out, {**asdict(plan), "clips": len(clips)})
    return parts


def claim(out: Path, settings: dict[str, Any]) -> None:
    """Keeps a run's settings in its folder, so that it continues only under the same ones.

    Raises:
        InputError: The folder holds a run under others.
    """
    text = json.dumps(settings, indent=2)
    plan_file = out / _PLAN
    if plan_file.exists() and plan_file.read_text(encoding="utf-8") != text:
        raise InputError(f"{out} holds a run with other settings: give another --out")
    plan_file.write_text(text, encoding="utf-8")


def write_summary(out: Path, summary: dict[str, Any]) -> None:
    """Writes the figures as JSON."""
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


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


def add_data_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Adds the options that say what `read_clips` reads; --data may be left out if not required."""
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=required,
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
    clips = read_clips(options.data, options.set, options.classes, options.flow)
    check_no_macros(clips)
    return clips


def add_recipe_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the option for `recipe_of`."""
    parser.add_argument(
        "--recipe",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="train with another recipe than that of the deployed weights: "
        + " ".join(f"{name}={value}" for name, value in asdict(Recipe()).items()),
    )


def add_drawn_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the option for `with_drawn`."""
    parser.add_argument(
        "--drawn",
        type=Path,
        metavar="FILE.npz",
        help="also train on these drawn clips, which tools/recognition/drawn_clips.py made",
    )


def with_drawn(clips: Clips, path: Path | None, model: str) -> tuple[Clips, str]:
    """The clips and then those of a file of drawn ones, if there is one; and its SHA-256, in short.

    Raises:
        InputError: It is no such file, or the network or the classes do not fit.
    """
    if path is None:
        return clips, ""
    drawn = read_drawn_clips(path).clips()
    if model not in NETWORKS or clips.classes != LABELS:
        raise InputError(
            f"--drawn holds flow pairs of {', '.join(LABELS)}: leave it out for {model} with "
            f"{', '.join(clips.classes)}"
        )
    return joined([clips, drawn]), drawn.digest


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    add_data_arguments(parser, required=False)
    add_pretrain_argument(parser)
    add_drawn_argument(parser)
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument(
        "--read",
        type=Path,
        metavar="RESULTS_DIR",
        help="train nothing: print the figures of the answers that lie there, ours or the text "
        "files of the released code; --out also keeps them as summary.json",
    )
    parser.add_argument(
        "--model",
        choices=sorted(NAMES),
        default="causalnet-compact",
        metavar="NAME",
        help=f"one of {', '.join(NAMES)}",
    )
    parser.add_argument("--folds", type=int, default=0, help="default: leave one subject out")
    parser.add_argument("--seeds", type=int, default=1, help="how many; mean and spread are shown")
    parser.add_argument("--members", type=int, default=1, help="networks averaged for an answer")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    add_recipe_argument(parser)
    parser.add_argument(
        "--action-units",
        type=float,
        metavar="WEIGHT",
        help="also learn the clips' action units by a second head, which is not kept: the weight "
        "of its loss; default: 0",
    )
    parser.add_argument("--card", type=Path, help="model card that gets the figures as `loso`")
    parser.add_argument(
        "--subjects",
        type=int,
        default=0,
        metavar="N",
        help="leave out so many subjects only, drawn from all sets alike; default: every one",
    )
    for option, what in (("--train-sets", "train on"), ("--test-sets", "answer")):
        parser.add_argument(
            option,
            nargs="+",
            default=[],
            metavar="NAME",
            help=f"cross-database: {what} these sets; the other option's default is all others",
        )
    parser.add_argument("--test-selected", action="store_true", help="the released code's protocol")
    parser.add_argument(
        "--search",
        type=int,
        nargs="?",
        const=SAMPLE,
        metavar="N",
        help=f"with --test-selected: also choose among N configurations on test, {SAMPLE} unless "
        "said otherwise, 36 for the whole search of the released code",
    )
    options = parser.parse_args(arguments)
    if options.read is None and not (options.data and options.out):
        parser.error("the following arguments are required: --data and --out, or --read")

    def work() -> None:
        console = Console()
        if options.read is not None:
            results = summarize_results(read_results(options.read))
            if options.out:
                make_folder(options.out, "--out")
                if (options.out / _PLAN).exists():
                    raise InputError(f"{options.out} holds a run: give another --out")
                write_summary(options.out, results)
            show_results(console, results)
            return
        recipe = recipe_of(options.recipe)
        if options.action_units is not None:
            recipe = replace(recipe, action_units=options.action_units)
        _check(options)
        clips = with_inputs(clips_of(options), options.data, options.model, options.flow)
        macros = read_macros(options)
        if recipe.action_units and clips.units is None:
            raise InputError("no set in the data tells action units: give no --action-units")
        if len(set(clips.subjects)) < 2:
            raise InputError("the clips are of one subject: nobody is left to train on")
        if options.subjects > len(set(clips.subjects)):
            raise InputError(
                f"--subjects is at most {len(set(clips.subjects))}, as many as are in the data"
            )
        train: tuple[str, ...] = ()
        test: tuple[str, ...] = ()
        if options.train_sets or options.test_sets:
            train, test = cross_database(clips, options.train_sets, options.test_sets)
        chosen = TEST_SELECTED if options.search is None else SEARCHED
        sets = sets_of(clips)
        clips, drawn = with_drawn(clips, options.drawn, options.model)
        plan = Plan(
            model=options.model,
            protocol=chosen if options.test_selected else HONEST,
            folds=options.folds,
            members=options.members,
            recipe=recipe,
            sets=sets,
            classes=clips.classes,
            flow=options.flow,
            subjects=options.subjects,
            train_sets=train,
            test_sets=test,
            pretrained_on=name_of(macros),
            drawn=drawn,
        )
        seeds = list(range(options.seeds))
        if plan.protocol == SEARCHED:
            found = search(
                plan, clips, macros, options.search, seeds, options.jobs, options.out, console
            )
            show_search(console, found)
            return
        summary = run(plan, clips, macros, seeds, options.jobs, options.out, console)
        if options.card:
            write_into_card(options.card, summary)
        show(console, summary)

    return exit_status(parser.prog, work, resumable=True)


def _check(options: argparse.Namespace) -> None:
    """Raises InputError if options do not go together."""
    crosses = bool(options.train_sets or options.test_sets)
    if options.folds == 1 or options.folds < 0:
        raise InputError("--folds is 2 or more; without it, every subject is left out alone")
    if min(options.seeds, options.members, options.jobs) < 1:
        raise InputError("--seeds, --members and --jobs are at least 1")
    if options.subjects < 0:
        raise InputError("--subjects is at least 1; without it, every subject is left out")
    if options.subjects and options.folds:
        raise InputError("--subjects leaves out subjects alone: give it without --folds")
    if crosses and (options.folds or options.subjects):
        raise InputError(
            "--train-sets and --test-sets answer whole sets: give them without --folds and "
            "--subjects"
        )
    if options.model in CLASSICAL and (options.test_selected or options.action_units):
        raise InputError(
            f"{options.model} has no epochs to choose from and no second head: leave out "
            "--test-selected and --action-units"
        )
    if options.search is not None:
        if not options.test_selected:
            raise InputError("--search chooses on test subjects: give it with --test-selected")
        if not 1 <= options.search <= CONFIGURATIONS:
            raise InputError(f"--search is 1 to {CONFIGURATIONS}")
        if options.model == "causalnet-released" and options.classes != len(LABELS):
            raise InputError(
                f"--search of causalnet-released has {len(LABELS)} classes: give no other --classes"
            )
    if options.action_units is not None and options.action_units < 0:
        raise InputError("--action-units is 0 or more")
    training = options.test_selected or options.recipe or options.action_units or options.pretrain
    if options.card and (training or options.folds or options.subjects or crosses):
        raise InputError(
            "--card takes honest figures of the deployed training, leaving one subject out: give "
            "it without --folds, --test-selected, --recipe, --action-units, --pretrain, "
            "--subjects, --train-sets and --test-sets"
        )


if __name__ == "__main__":
    raise SystemExit(main())
