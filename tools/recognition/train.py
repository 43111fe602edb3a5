"""Trains the deployed CausalNet, exports it and writes its model card.

    python tools/recognition/train.py --data DIR --out models/weights/causalnet.onnx

DIR is the flow release (its folder, or a clone of the official CausalNet repository), or a set that
tools/recognition/prepare.py made; several are pooled. Several networks from
several seeds become one ONNX file. A temperature, fitted on subjects held out in turn, calibrates
the probabilities; nothing else is chosen on these subjects.

--model trains another network of the zoo. The program feeds flow pairs, so a network that sees
something else (mmnet, srmcl, micro-exp-stcnn) has no ONNX file: give --checkpoint, not --out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, TaskID
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import LABELS, SETS, Clips, sets_of, subject_folds
from models.metrics import expected_calibration_error, fit_temperature, softmax
from models.training import Recipe, fit, predict
from models.zoo import NETWORKS, OTHER_INPUTS, make_network
from realtime_mer.errors import InputError
from tools.command import command_parser, exit_status, progress_bar, read_json
from tools.recognition.evaluate import (
    add_data_arguments,
    add_drawn_argument,
    add_recipe_argument,
    clips_of,
    figures_for_card,
    recipe_of,
    with_drawn,
)
from tools.recognition.export import NETWORK, export
from tools.recognition.inputs import SEEN, with_inputs
from tools.recognition.prepared import is_prepared
from tools.recognition.pretraining import (
    add_pretrain_argument,
    name_of,
    pretrained,
    read_macros,
)

RELEASE_TERMS = (
    "Trained on the flow release of the official CausalNet repository (MIT), which derives from "
    "CASME II, SMIC-HS and SAMM, whose terms allow research use: treat these weights likewise."
)
TERMS = (
    "Trained on {}, which are given out under agreements that allow research use: treat these "
    "weights likewise."
)


def train_members(
    clips: Clips,
    recipe: Recipe,
    seeds: list[int],
    progress: Progress,
    task: TaskID,
    model: str = NETWORK,
    macros: Clips | None = None,
    tested: Iterable[str] = (),
) -> list[nn.Module]:
    """A network for each seed; the task advances by an epoch at a time.

    They are pretrained on macro-expressions, if there are any, but on none of the tested subjects.
    """
    members = []
    for seed in seeds:
        torch.manual_seed(seed)
        network = make_network(model, len(clips.classes))
        network = pretrained(
            network, macros, tested, recipe, seed, lambda *_: progress.advance(task)
        )
        members.append(fit(network, clips, recipe, seed, lambda *_: progress.advance(task)))
    return members


def mean_logits(members: Sequence[nn.Module], pairs: np.ndarray) -> np.ndarray:
    """Logits (n, classes) of flow pairs (n, 2, 28, 28, 3), or of what the networks see in their
    place: the mean over the networks."""
    return np.mean([predict(member, pairs) for member in members], axis=0)


def figures_of(
    path: Path, model: str, classes: Sequence[str] = LABELS, drawn: str = ""
) -> dict[str, Any]:
    """The honest figures for the card, from a summary of tools/recognition/evaluate.py.

    Raises:
        InputError: It is no such summary, or one of another network, of other classes or of other
            drawn clips.
    """
    remedy = f"give the summary.json that tools/recognition/evaluate.py wrote for {model}"
    summary = read_json(path, remedy)
    if summary.get("model") != model:
        raise InputError(f"{path} holds figures of {summary.get('model')}: {remedy}")
    if tuple(summary.get("classes", LABELS)) != tuple(classes):
        raise InputError(f"{path} holds figures of other classes: {remedy} with the same --classes")
    if summary.get("drawn", "") != drawn:
        raise InputError(
            f"{path} holds figures of other drawn clips: {remedy} with the same --drawn"
        )
    return figures_for_card(summary)


def data_of(clips: Clips, folders: Sequence[Path]) -> tuple[str, str]:
    """What the card says of the data, and its terms."""
    if sets_of(clips) == SETS and not any(map(is_prepared, folders)):
        return "CausalNet flow release: CASME II, SMIC-HS, SAMM", RELEASE_TERMS
    names = ", ".join(sets_of(clips))
    return names, TERMS.format(names)


def _about_drawn(clips: Clips, digest: str) -> dict[str, Any]:
    """What the card says of the drawn clips that trained besides; empty if there are none."""
    drawn = clips[clips.drawn]
    if not len(drawn):
        return {}
    photos = len(set(drawn.subjects))
    return {"drawn": {"clips": len(drawn), "photos": photos, "sha256": digest}}


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    add_data_arguments(parser)
    add_pretrain_argument(parser)
    add_drawn_argument(parser)
    parser.add_argument("--out", type=Path, help="ONNX file to write")
    parser.add_argument(
        "--model",
        choices=sorted((*NETWORKS, *OTHER_INPUTS)),
        default=NETWORK,
        metavar="NAME",
        help=f"{NETWORK} (default), or one of {', '.join((*NETWORKS, *OTHER_INPUTS))}",
    )
    add_recipe_argument(parser)
    parser.add_argument("--exclude-subjects", nargs="+", default=[], metavar="S")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--members",
        type=int,
        help=f"networks averaged in the file; default 3 of {NETWORK}, which alone can be several",
    )
    parser.add_argument("--epochs", type=int, help=f"default {Recipe().epochs}")
    parser.add_argument(
        "--folds", type=int, default=4, help="groups of subjects, for the temperature"
    )
    parser.add_argument(
        "--figures", type=Path, help="summary of tools/recognition/evaluate.py, for the card"
    )
    parser.add_argument("--checkpoint", type=Path, help="also keep the PyTorch weights here")
    parser.add_argument("--name", help="in the card; default: that of the network")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the operations are small: threads would wait for each other

    def work() -> None:
        model, name = options.model, options.name or options.model
        recipe = recipe_of(options.recipe)
        if options.epochs is not None:
            recipe = replace(recipe, epochs=options.epochs)
        count = (3 if model == NETWORK else 1) if options.members is None else options.members
        if count < 1 or options.folds < 2 or recipe.epochs < 1:
            raise InputError("--members and --epochs are at least 1, --folds at least 2")
        if count > 1 and model != NETWORK:
            raise InputError(f"only {NETWORK} can be several networks in one: leave out --members")
        if model in OTHER_INPUTS and (options.out or not options.checkpoint):
            raise InputError(
                f"the program feeds flow pairs, and {model} sees {SEEN[model][0]}: give "
                "--checkpoint FILE, which keeps the PyTorch weights, in place of --out"
            )
        if not (options.out or options.checkpoint):
            raise InputError("give --out FILE, the ONNX file to write")
        console = Console(stderr=True)
        clips = clips_of(options).without(options.exclude_subjects)
        clips = with_inputs(clips, options.data, model, options.flow)
        if len(set(clips.subjects)) < 2:
            raise InputError(
                "the clips are of one subject: nobody is left to fit the temperature on"
            )
        macros, away = read_macros(options), options.exclude_subjects
        data, terms = data_of(clips, options.data)
        real = clips
        clips, drawn = with_drawn(clips, options.drawn, model)
        loso = figures_of(options.figures, name, real.classes, drawn) if options.figures else None
        seeds = [options.seed * 1000 + i for i in range(count)]
        with progress_bar(console) as progress:
            epochs = recipe.epochs * count * (1 if macros is None else 2)
            task = progress.add_task("training", total=epochs * (1 + options.folds))
            fold = subject_folds(real, options.folds, options.seed)
            held_out = np.zeros((len(real), len(real.classes)))
            for k in range(options.folds):
                trains = np.append(fold != k, np.ones(len(clips) - len(real), bool))
                tested = {*away, *real.subjects[fold == k]}
                members = train_members(
                    clips[trains], recipe, seeds, progress, task, model, macros, tested
                )
                held_out[fold == k] = mean_logits(members, real.pairs[fold == k])
            members = train_members(clips, recipe, seeds, progress, task, model, macros, away)
        temperature = fit_temperature(held_out, real.labels)
        error = expected_calibration_error(softmax(held_out / temperature), real.labels)
        if macros is not None:
            terms += f" They were pretrained on {', '.join(sets_of(macros))}, of the same kind."
        card = {
            "name": name,
            "labels": list(clips.classes),
            "trained_on": {
                "data": data,
                "clips": len(real),
                "subjects": len(set(real.subjects)),
                **({"pretrained_on": name_of(macros)} if macros is not None else {}),
                **_about_drawn(clips, drawn),
            },
            "excluded_subjects": sorted(options.exclude_subjects),
            "members": count,
            "seed": options.seed,
            "calibration_error": round(error, 4),
            "licence": terms,
        }
        if model != NETWORK:
            card["network"] = model
        if loso:
            card["loso"] = loso
        if options.out:
            export(members, temperature, options.out, card, mirror=True)
        if options.checkpoint:
            states = [member.state_dict() for member in members]
            kept = {"states": states, "temperature": temperature, "card": card}
            torch.save(kept, options.checkpoint)
        console.print(
            f"{options.out or options.checkpoint}: {len(real)} clips, temperature "
            f"{temperature:.2f}, calibration error {error:.3f} on held-out subjects"
        )

    return exit_status(parser.prog, work)


if __name__ == "__main__":
    raise SystemExit(main())
