"""How much recognition suffers when the key frames of a window are wrong.

    python tools/recognition/keyframe_errors.py --data DIR --out results/keyframes

It trains each network on folds of subjects with the fixed schedule of
tools/recognition/evaluate.py. The network then answers the left-out clips with key frames that are
late or early by 0 to 60 % of a half-window (0 to 30 % of the clip).

DIR is one or more sets that tools/recognition/prepare.py made. On their frames, the onset, the
apex, the offset, or all three (window) are wrong, and what the network sees is made anew from the
frames that lie there: flow pairs, or the colour, the flow or the frames that mmnet, srmcl and
others see (for mmnet, prepare with --colour). The apex that the runtime's spotter finds also takes
the place of the marked one.

DIR may also be the flow release, which has no frames. There are three ways then:

- mixed: the apex is wrong. `models.training.wrong_apex` mixes the two motions of a clip, as if rise
  and fall were equally strong, which the release does not say;
- chain, apex: the same, measured on pictures. The motions are put onto a photo under a swaying
  camera and go through the chain (`tools/recognition/rendered_pairs.py`);
- chain, window: on these pictures, onset, apex and offset are all late or early.

Into --out go `keyframes.json`, `keyframes.md` (the tables) and `keyframes.png`. A run that was
stopped continues where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import Clips, subject_folds
from models.metrics import scores
from models.training import Recipe, fit, predict, wrong_apex
from models.zoo import NAMES, make_network
from realtime_mer.errors import InputError
from realtime_mer.recognition.flow_pair import DenseFlow
from tools.command import command_parser, exit_status, make_folder, progress_bar, save_array
from tools.recognition import rendered_pairs as rendered
from tools.recognition import shifted_pairs as shifted
from tools.recognition.evaluate import (
    add_data_arguments,
    add_recipe_argument,
    clips_of,
    recipe_of,
)
from tools.recognition.inputs import SEEN, key_frames, with_inputs
from tools.recognition.prepared import is_prepared, paths_of_faces, read_faces
from tools.recognition.rendered_pairs import rendered_pairs
from tools.recognition.shifted_pairs import Shifted, shifted_pairs

ERRORS = tuple(i / 10 for i in range(7))  # of a half-window
SIGNS = (1, -1)  # late, early
RELEASE_WAYS = ("mixed", *(f"chain, {kind}" for kind in rendered.KINDS))
MODELS = ("causalnet-compact", "ststnet", "off-apexnet")
_MIDDLE = len(ERRORS) - 1
"""No error, among those from early to late."""


@dataclass(frozen=True, slots=True, eq=False)
class Wrong:
    """The clips with wrong key frames, as networks of flow pairs see them.

    Attributes:
        ways: What is wrong, a name each.
        pairs: (n, ways, errors from early to late, 2, 28, 28, 3) uint8.
        spotted: (n, 2, 28, 28, 3) uint8, with the spotter's apex in place of the marked one.
        files: Of clips with frames, their faces; else None.
        frames: Of clips with frames, which ones are the key frames then, and where the spotter sees
            the apex; None for the flow release.
    """

    ways: tuple[str, ...]
    pairs: np.ndarray
    spotted: np.ndarray
    files: Sequence[Path] | None = None
    frames: Shifted | None = None

    def questions(self, model: str, index: int) -> np.ndarray:
        """What a network sees of one clip.

        Args:
            model: A name in the zoo. One that sees no flow pairs needs clips with frames.
            index: Of the clip.

        Returns:
            (ways * errors + 1, ...): each error of each way, then the spotter's apex.

        Raises:
            InputError: The clip's faces cannot be read, or are not all kept in colour.
        """
        if model not in SEEN:
            pairs = self.pairs[index]
            return np.concatenate([pairs.reshape(-1, *pairs.shape[2:]), self.spotted[index, None]])
        assert self.files is not None
        assert self.frames is not None
        clip, flow = read_faces(self.files[index]), DenseFlow()
        keys = [*self.frames.keys[index].reshape(-1, 3), self.frames.spotted_keys[index]]
        seen: dict[tuple[int, ...], np.ndarray] = {}
        for key in map(tuple, keys):
            if key not in seen:
                seen[key] = SEEN[model][1](replace(clip, key=np.array(key)), flow)
        return np.stack([seen[tuple(key)] for key in keys])


def answer_fold(
    model: str, train: Clips, questions: Iterable[np.ndarray], ways: int, seed: int, recipe: Recipe
) -> np.ndarray:
    """Logits (ways + 1, errors, signs, clips, classes) of the left-out clips.

    The last way has no errors: it is the apex that the spotter sees.

    Args:
        model: A name in the zoo.
        train: Clips to train on.
        questions: What the network sees of each left-out clip, see `Wrong.questions`.
        ways: How many ways these have.
        seed: Of the training.
        recipe: Of the training.
    """
    torch.manual_seed(seed)
    network = fit(make_network(model, len(train.classes)), train, recipe, seed)
    answers = np.stack([_answers(network, seen) for seen in questions])
    clips, _, classes = answers.shape
    wrong = answers[:, :-1].reshape(clips, ways, 2 * _MIDDLE + 1, classes)
    places = _MIDDLE + np.outer(range(len(ERRORS)), SIGNS)
    wrong = np.moveaxis(wrong[:, :, places], 0, 3)  # (ways, errors, signs, clips, classes)
    spotted = np.broadcast_to(answers[:, -1], (1, *wrong.shape[1:]))
    return np.concatenate([wrong, spotted])


def _answers(network: nn.Module, seen: np.ndarray) -> np.ndarray:
    """Logits of inputs (m, ...), many of which are the same: each is answered once."""
    places: dict[bytes, int] = {}
    place = [places.setdefault(each.tobytes(), len(places)) for each in seen]
    first = [place.index(k) for k in range(len(places))]
    return predict(network, seen[first])[place]


def mixed_pairs(clips: Clips) -> np.ndarray:
    """(n, 1, errors from early to late, 2, 28, 28, 3): the apex wrong by the model of it."""
    errors = [sign * e for sign, part in ((-1, ERRORS[:0:-1]), (1, ERRORS)) for e in part]
    pairs = [wrong_apex(clips.pairs, e) if e else clips.pairs for e in errors]
    return np.stack(pairs, axis=1)[:, None]


def curve(clips: Clips, logits: np.ndarray) -> list[float]:
    """UF1 by error, the mean of late and early, of logits (errors, signs, clips, 3)."""
    return [
        float(np.mean([scores(clips.labels, z.argmax(1), z.shape[1])["UF1"] for z in at_error]))
        for at_error in logits
    ]


def table(curves: dict[str, np.ndarray]) -> str:
    """A Markdown table: UF1 by error, and what is lost at 30 %.

    Args:
        curves: (seeds, errors) UF1 by network.
    """
    head = ["network", *(f"{e:.0%}" for e in ERRORS), "lost at 30 %"]
    lines = [head, ["---"] * len(head)]
    for model, seeds in curves.items():
        mean, spread = seeds.mean(0), seeds.std(0)
        cells = [f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, spread, strict=True)]
        lines.append([model, *cells, f"{100 * (mean[0] - mean[ERRORS.index(0.3)]):.1f} points"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def draw(path: Path, curves: dict[str, dict[str, np.ndarray]], what: str) -> None:
    """Draws a plot for each way, with the spread over seeds as a band."""
    figure = Figure(figsize=(4 * len(curves), 4), layout="constrained")
    plots = figure.subplots(1, len(curves), sharey=True, squeeze=False)
    percent = 100 * np.array(ERRORS)
    for axes, (way, by_model) in zip(plots[0], curves.items(), strict=True):
        for (model, seeds), marker in zip(by_model.items(), "osD^vPX" * 2, strict=False):
            mean, spread = seeds.mean(0), seeds.std(0)
            axes.plot(percent, mean, marker=marker, label=model)
            axes.fill_between(percent, mean - spread, mean + spread, alpha=0.2)
        axes.set_xlabel("error, % of a half-window")
        axes.set_title(way, fontsize=10)
        axes.grid(alpha=0.3)
    plots[0, 0].set_ylabel("UF1, mean of late and early")
    plots[0, 0].legend()
    figure.suptitle(what, fontsize=10)
    figure.savefig(path, dpi=120)


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Trains what is missing in --out, then writes the results there; returns the figures.

    Raises:
        InputError: The data or --out cannot be used.
    """
    torch.set_num_threads(1)  # so that the answers do not depend on the number of cores
    clips = clips_of(options)
    has_frames = [is_prepared(folder) for folder in options.data]
    files = paths_of_faces(options.data, clips) if all(has_frames) else None
    if options.flow != "dis":
        raise InputError("wrong key frames are measured with the runtime's flow: leave out --flow")
    if any(has_frames) and files is None:
        raise InputError(
            "--data is the flow release, or sets that were prepared with their frames, not both"
        )
    recipe = recipe_of(options.recipe)
    if options.epochs is not None:
        recipe = replace(recipe, epochs=options.epochs)
    fold = subject_folds(clips, options.folds, seed=0)
    if min(len(set(fold)), len(set(clips.subjects))) < 2:
        raise InputError("the clips are of one subject: nobody is left to train on")
    _check_colours(options.models, clips, files)
    inputs = {m: with_inputs(clips, options.data, m) for m in options.models if m in SEEN}
    # Other clips, classes or trainings are another experiment.
    parts_of = [*clips.classes, *map(str, clips.names), *map(str, files or ()), str(recipe)]
    what = "\n".join(parts_of)
    digest = hashlib.sha256(what.encode()).hexdigest()[:8]
    parts = options.out / f"parts-{options.folds}-{recipe.epochs}-{digest}"
    make_folder(parts, "--out")
    with progress_bar(console) as progress:
        first = "wrong key frames" if files is not None else "clips through the chain"
        making = progress.add_task(first, total=len(clips))
        wrong = _wrong(clips, files, parts, lambda: progress.advance(making))
        progress.update(making, completed=len(clips))
        task = progress.add_task(
            "training", total=len(options.models) * options.seeds * options.folds
        )
        answers: dict[str, list[np.ndarray]] = {}
        for model in options.models:
            answers[model] = []
            for seed in range(options.seeds):
                shape = len(wrong.ways) + 1, len(ERRORS), len(SIGNS), len(clips)
                logits = np.zeros((*shape, len(clips.classes)))
                for k in range(options.folds):
                    part, test = parts / f"{model}-{seed}-{k}.npy", fold == k
                    if not part.exists() and test.any():
                        train = inputs.get(model, clips)[~test]
                        asked = (wrong.questions(model, int(i)) for i in np.flatnonzero(test))
                        ways = len(wrong.ways)
                        answer = answer_fold(model, train, asked, ways, seed * 1000 + k, recipe)
                        save_array(part, answer)
                    if test.any():
                        logits[..., test, :] = np.load(part)
                    progress.advance(task)
                answers[model].append(logits)
    what = f"honest, {options.folds} folds of subjects, {options.seeds} seed(s)"
    curves = {
        way: {
            model: np.array([curve(clips, logits[w]) for logits in seeds])
            for model, seeds in answers.items()
        }
        for w, way in enumerate(wrong.ways)
    }
    result: dict[str, Any] = {
        "protocol": what,
        "errors": list(ERRORS),
        "UF1": {
            way: {model: np.round(seeds, 4).tolist() for model, seeds in by_model.items()}
            for way, by_model in curves.items()
        },
    }
    tables = "\n".join(f"{way}:\n\n{table(by_model)}" for way, by_model in curves.items())
    if wrong.frames is not None:
        result["classes"], result["sets"] = list(clips.classes), sorted(set(map(str, clips.sets)))
        result["reached"] = _reached(wrong.frames)
        result["spotted"] = _spotted(clips, wrong.frames, answers)
        tables += f"\n{_frames_text(result)}"
    (options.out / "keyframes.md").write_text(tables, encoding="utf-8")
    draw(options.out / "keyframes.png", curves, what)
    (options.out / "keyframes.json").write_text(
        json.dumps(result, indent=2) + "\n", encoding="utf-8"
    )
    console.print(f"{what}\n{tables}", markup=False, soft_wrap=True)
    return result


def _check_colours(models: Sequence[str], clips: Clips, files: Sequence[Path] | None) -> None:
    """Raises InputError if a network sees colours that a set does not keep, before any work."""
    colourful = [m for m in models if m in SEEN and SEEN[m][1] is key_frames]
    if not colourful or files is None:
        return
    for first in np.unique(clips.sets, return_index=True)[1]:
        clip = read_faces(files[first])
        if len(clip.coloured) < len(clip.faces):
            raise InputError(
                f"{colourful[0]} sees colours, and {clips.sets[first]} keeps no more than the key "
                "frames in colour: prepare it again with --colour"
            )


def _wrong(
    clips: Clips, files: Sequence[Path] | None, parts: Path, advance: Callable[[], object]
) -> Wrong:
    """The clips with wrong key frames: from their frames, or as the flow release allows."""
    if files is None:
        chain = rendered_pairs(clips, parts / "rendered.npy", advance)
        pairs = np.concatenate([mixed_pairs(clips), chain], axis=1)
        return Wrong(RELEASE_WAYS, pairs, clips.pairs)
    made = shifted_pairs(files, parts, advance)
    return Wrong(shifted.KINDS, made.pairs, made.spotted, files, made)


def _reached(made: Shifted) -> dict[str, list[float]]:
    """By way and error: the mean error that the frames allowed, in parts of a half-window."""
    mean = 2 * np.abs(made.reached).mean(0)  # (kinds, errors from early to late)
    return {
        kind: [
            round(float(mean[k, [_MIDDLE - e, _MIDDLE + e]].mean()), 3) for e in range(len(ERRORS))
        ]
        for k, kind in enumerate(shifted.KINDS)
    }


def _spotted(clips: Clips, made: Shifted, answers: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """How well clips are recognised with the spotter's apex, and with the marked one."""
    found = np.isfinite(made.apexes)
    result: dict[str, Any] = {"found": int(found.sum()), "clips": len(clips)}
    if not found.any():
        return result
    error = np.abs(made.apexes[found])
    result["apex_error"] = {
        "median": round(2 * float(np.median(error)), 3),
        "90 %": round(2 * float(np.percentile(error, 90)), 3),
    }
    of_found = clips[found]
    for name, way in (("marked", 0), ("spotted", -1)):
        result[name] = {
            model: [round(curve(of_found, z[way, :1][:, :, found])[0], 4) for z in seeds]
            for model, seeds in answers.items()
        }
    return result


def _frames_text(result: dict[str, Any]) -> str:
    """What keyframes.md says of the frames and of the spotter."""
    lines = ["Error that the frames allowed, mean, in parts of a half-window:", ""]
    rows = [["", *(f"{e:.0%}" for e in ERRORS)], ["---"] * (1 + len(ERRORS))]
    rows += [[kind, *(f"{r:.0%}" for r in reached)] for kind, reached in result["reached"].items()]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    spotted = result["spotted"]
    lines += ["", f"The spotter sees an apex in {spotted['found']} of {spotted['clips']} clips."]
    if spotted["found"]:
        error = spotted["apex_error"]
        lines += [
            f"It is {error['median']:.0%} of a half-window from the marked one (median; nine of "
            f"ten within {error['90 %']:.0%}). UF1 of these clips, mean of the seeds:",
            "",
            "| network | marked apex | spotted apex |",
            "| --- | --- | --- |",
        ]
        lines += [
            f"| {model} | {np.mean(marked):.3f} | {np.mean(spotted['spotted'][model]):.3f} |"
            for model, marked in spotted["marked"].items()
        ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    add_data_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=sorted(NAMES),
        default=list(MODELS),
        metavar="NAME",
        help=f"of {', '.join(NAMES)}",
    )
    parser.add_argument("--folds", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1, help="how many; mean and spread are shown")
    parser.add_argument("--epochs", type=int, help=f"default {Recipe().epochs}")
    add_recipe_argument(parser)
    options = parser.parse_args(arguments)

    def work() -> None:
        epochs = Recipe().epochs if options.epochs is None else options.epochs
        if options.folds < 2 or min(options.seeds, epochs) < 1:
            raise InputError("--folds is at least 2, --seeds and --epochs at least 1")
        run(options, Console())

    return exit_status(parser.prog, work, resumable=True)


if __name__ == "__main__":
    raise SystemExit(main())
