"""How much recognition suffers when the key frames of a window are wrong.

    python tools/recognition/keyframe_errors.py --data DIR --out results/keyframes

It trains each network on folds of subjects with the fixed schedule of
tools/recognition/evaluate.py. The network then answers the left-out clips with key frames that are
late or early by 0 to 60 % of a half-window, in three ways:

- mixed: the apex is wrong. The release has no videos, so `models.training.wrong_apex` mixes the two
  motions of a clip, as if rise and fall were equally strong, which the release does not say;
- chain, apex: the same, measured on pictures. The motions are put onto a photo under a swaying
  camera and go through the chain (`tools/recognition/rendered_pairs.py`);
- chain, window: on these pictures, onset, apex and offset are all late or early.

Into --out go `keyframes.json`, `keyframes.md` (the tables) and `keyframes.png`. A run that was
stopped continues where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import LABELS, Clips, read_release, subject_folds
from models.metrics import scores
from models.training import Recipe, fit, predict, wrong_apex
from models.zoo import NETWORKS
from realtime_mer.errors import InputError
from tools.command import command_parser, exit_status, make_folder, progress_bar, save_array
from tools.recognition.rendered_pairs import KINDS, rendered_pairs

ERRORS = tuple(i / 10 for i in range(7))  # of a half-window
SIGNS = (1, -1)  # late, early
WAYS = ("mixed", *(f"chain, {kind}" for kind in KINDS))
MODELS = ("causalnet-compact", "ststnet", "off-apexnet")


def answer_fold(
    model: str, train: Clips, test: Clips, rendered: np.ndarray, seed: int, recipe: Recipe
) -> np.ndarray:
    """Logits (ways, errors, signs, clips, 3) of the left-out clips.

    Args:
        model: A name in `NETWORKS`.
        train: Clips to train on.
        test: The left-out clips.
        rendered: What `rendered_pairs` made of the left-out clips.
        seed: Of the training.
        recipe: Of the training.
    """
    torch.manual_seed(seed)
    network = fit(NETWORKS[model](), train, recipe, seed)
    middle = len(ERRORS) - 1  # no error, among those from early to late

    def pairs(way: int, error: int, sign: int) -> np.ndarray:
        if way:
            return rendered[:, way - 1, middle + sign * error]
        return wrong_apex(test.pairs, sign * ERRORS[error]) if error else test.pairs

    return np.array(
        [
            [[predict(network, pairs(way, e, sign)) for sign in SIGNS] for e in range(len(ERRORS))]
            for way in range(len(WAYS))
        ]
    )


def curve(clips: Clips, logits: np.ndarray) -> list[float]:
    """UF1 by error, the mean of late and early, of logits (errors, signs, clips, 3)."""
    return [
        float(np.mean([scores(clips.labels, z.argmax(1))["UF1"] for z in at_error]))
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
    plots[0, 0].set_ylabel("composite UF1, mean of late and early")
    plots[0, 0].legend()
    figure.suptitle(what, fontsize=10)
    figure.savefig(path, dpi=120)


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Trains what is missing in --out, then writes the results there; returns the figures.

    Raises:
        InputError: The release or --out cannot be used.
    """
    torch.set_num_threads(1)  # so that the answers do not depend on the number of cores
    clips = read_release(options.data)
    recipe = Recipe(epochs=options.epochs)
    fold = subject_folds(clips, options.folds, seed=0)
    parts = options.out / f"parts-{options.folds}-{options.epochs}-{len(clips)}"
    make_folder(parts, "--out")
    curves: dict[str, dict[str, np.ndarray]] = {way: {} for way in WAYS}
    with progress_bar(console) as progress:
        rendering = progress.add_task("clips through the chain", total=len(clips))
        rendered = rendered_pairs(
            clips, parts / "rendered.npy", lambda: progress.advance(rendering)
        )
        progress.update(rendering, completed=len(clips))
        task = progress.add_task(
            "training", total=len(options.models) * options.seeds * options.folds
        )
        for model in options.models:
            by_seed = []
            for seed in range(options.seeds):
                logits = np.zeros((len(WAYS), len(ERRORS), len(SIGNS), len(clips), len(LABELS)))
                for k in range(options.folds):
                    part, test = parts / f"{model}-{seed}-{k}.npy", fold == k
                    if not part.exists():
                        answer = answer_fold(
                            model,
                            clips[~test],
                            clips[test],
                            rendered[test],
                            seed * 1000 + k,
                            recipe,
                        )
                        save_array(part, answer)
                    logits[..., test, :] = np.load(part)
                    progress.advance(task)
                by_seed.append([curve(clips, of_way) for of_way in logits])
            for way, seeds in zip(WAYS, np.array(by_seed).transpose(1, 0, 2), strict=True):
                curves[way][model] = seeds
    what = f"honest, {options.folds} folds of subjects, {options.seeds} seed(s)"
    tables = "\n".join(f"{way}:\n\n{table(by_model)}" for way, by_model in curves.items())
    (options.out / "keyframes.md").write_text(tables, encoding="utf-8")
    draw(options.out / "keyframes.png", curves, what)
    result = {
        "protocol": what,
        "errors": list(ERRORS),
        "UF1": {
            way: {model: np.round(seeds, 4).tolist() for model, seeds in by_model.items()}
            for way, by_model in curves.items()
        },
    }
    (options.out / "keyframes.json").write_text(
        json.dumps(result, indent=2) + "\n", encoding="utf-8"
    )
    console.print(f"{what}\n{tables}", markup=False, soft_wrap=True)
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("--data", type=Path, required=True, help="the flow release")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=sorted(NETWORKS),
        default=list(MODELS),
        metavar="NAME",
        help=f"of {', '.join(NETWORKS)}",
    )
    parser.add_argument("--folds", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1, help="how many; mean and spread are shown")
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    options = parser.parse_args(arguments)

    def work() -> None:
        if options.folds < 2 or min(options.seeds, options.epochs) < 1:
            raise InputError("--folds is at least 2, --seeds and --epochs at least 1")
        run(options, Console())

    return exit_status(parser.prog, work, resumable=True)


if __name__ == "__main__":
    raise SystemExit(main())
