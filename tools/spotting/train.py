"""Trains the spotter's networks and writes them as one ONNX file, with a card beside it.

    python tools/spotting/train.py --backgrounds DIR --held-out DIR --data DIR \\
        --out models/weights/spotter.onnx

Backgrounds come from `tools/spotting/synthesize.py`, DIR of data is CausalNet's flow release. The operating
curve on the card, and with it the threshold, is measured on the backgrounds that are held out,
with motions of the excluded subjects.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import multiprocessing as mp
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import read_release
from models.spotter import MEMBERS, WIDTH, Member, SpotterEnsemble, SpotterNetwork, StreamSpotter
from realtime_mer.errors import InputError
from realtime_mer.results import Interval
from realtime_mer.spotting.matching import overlap
from realtime_mer.spotting.signals import CHANNELS, STEP_S, features
from realtime_mer.spotting.spotter import LENGTH_S, STILL_UNDER_WAY
from tools.spotting.figures import LEAST_OVERLAP
from tools.spotting.motion_patterns import find_patterns
from tools.spotting.windows import (
    DELAY_S,
    STEPS,
    Background,
    WindowMaker,
    drawn_motions,
    likelihoods,
    load_background,
    measured_motions,
)

THRESHOLDS = (*(round(0.05 * i, 2) for i in range(4, 20)), 0.97, 0.98, 0.99)
_DRAWN = 200
_CURVE_WINDOWS = 2560
# Steps at the beginning of a window: what the shorter member sees. The other looks back on nearly
# a whole window, of which nothing would be left to count.
_NOT_COUNTED = 1 + 2 * sum(MEMBERS[0].dilations)
# What is read of each background.
_SIGNALS = {
    *("time_s", "regions", "cells", "trust", "head", "place", "blink", "jaw_open"),
    *("face", "clean", "landmarks", "still", "events"),
}
# What a face shows of a motion takes two milliseconds to find out.
_MOTIONS_A_FACE = 100


def loss_of(out: Tensor, target: Tensor) -> Tensor:
    """Cross entropies of the three logits, and the errors of place, length and apex."""
    weight, macro_weight = target[..., 5], target[..., 7]
    bce = nn.functional.binary_cross_entropy_with_logits
    end = bce(out[..., 0], target[..., 0], reduction="none", pos_weight=torch.tensor(2.0))
    inside = bce(out[..., 1], target[..., 1], reduction="none")
    macro = bce(out[..., 5], target[..., 6], reduction="none")
    told = (target[..., 3] > 0).float()
    place = (
        (out[..., 2] - target[..., 2]).abs() / 0.05
        + (out[..., 3] - target[..., 3]).abs() / 0.05
        + (out[..., 4] - target[..., 4]).abs() / 0.2
    )
    # The first second is warm-up: the baseline is not there yet.
    start = 30
    end, inside, weight = end[:, start:], inside[:, start:], weight[:, start:]
    place, told = place[:, start:], told[:, start:]
    macro, macro_weight = macro[:, start:], macro_weight[:, start:]
    return (
        (end * weight).mean()
        + 0.3 * (inside * weight).mean()
        + 0.3 * (macro * macro_weight).mean()
        + 0.1 * (place * told).sum() / told.sum().clamp(min=1)
    )


class _Windows(IterableDataset):
    """Batches drawn for ever; each process that loads them draws its own.

    Args:
        backgrounds: What to draw from.
        seed: The same seed and number of processes give the same batches.
        size: Windows a batch.
    """

    def __init__(self, backgrounds: list[Background], seed: int, size: int) -> None:
        self._backgrounds, self._seed, self._size = backgrounds, seed, size

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        worker = get_worker_info()
        maker = WindowMaker(
            self._backgrounds,
            (self._seed, worker.id if worker else 0),
            likelihoods(self._backgrounds),
        )
        while True:
            yield maker.batch(self._size)


def loader_of(backgrounds: list[Background], seed: int, batch: int, jobs: int) -> DataLoader:
    """Batches of rows and targets without end, drawn in `jobs` processes."""
    return DataLoader(
        _Windows(backgrounds, seed, batch),
        batch_size=None,
        num_workers=jobs,
        multiprocessing_context="fork",
        pin_memory=torch.cuda.is_available(),
    )


def train(
    backgrounds: list[Background],
    steps: int,
    batch: int,
    seed: int,
    threads: int = 1,
    jobs: int = 1,
    made: Member = MEMBERS[0],
) -> SpotterNetwork:
    """Trains on `steps` batches, where CUDA is, there; the weights are an exponential mean.

    Args:
        backgrounds: What windows are drawn from.
        steps: How many batches.
        batch: Windows a batch.
        seed: Of weights and windows.
        threads: Of PyTorch.
        jobs: Processes that draw windows.
        made: How the network is made.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = SpotterNetwork(CHANNELS, made).to(device)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-3, total_steps=steps, cycle_momentum=False
    )
    batches = loader_of(backgrounds, seed, batch, jobs)
    started = time.monotonic()
    mean = 0.0
    for step, found in enumerate(itertools.islice(batches, steps)):
        rows, targets = (array.to(device, non_blocking=True) for array in found)
        loss = loss_of(network(features(rows, torch)), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        if step % 10 == 9:  # a look at the loss waits for the device
            mean += (loss.item() - mean) * max(0.1, 10 / (step + 1))
        if step % 100 == 99:
            spent = time.monotonic() - started
            print(f"step {step + 1}/{steps} loss {mean:.4f} {spent:.0f} s", flush=True)
    return average.module.cpu().eval()


def pick(outputs: np.ndarray, grid: np.ndarray, threshold: float) -> list[tuple[float, float]]:
    """Intervals (onset, offset) that the runtime would propose from a window's outputs.

    Args:
        outputs: (steps, OUTPUTS), logits first.
        grid: (steps,) times in seconds.
        threshold: Probability of an end that is believed.
    """
    end, inside = 1 / (1 + np.exp(-outputs[:, :2].T))
    found, until = [], -np.inf
    for i in range(1, len(end) - 1):
        is_peak = end[i] >= threshold and end[i] >= end[i - 1] and end[i + 1] < end[i]
        if is_peak and inside[i + 1] < STILL_UNDER_WAY:
            offset = grid[i] - outputs[i, 2]
            length = max(outputs[i, 3], LENGTH_S[0])
            if length <= LENGTH_S[1] and offset - length > until - STEP_S:
                found.append((offset - length, offset))
                until = offset
    return found


def operating_curve(network: nn.Module, maker: WindowMaker, windows: int) -> list[dict[str, float]]:
    """Recall and false reports a minute over thresholds, on windows drawn afresh.

    The first steps of a window only fill the networks' view and are not counted. A report of
    what is passed over in training, since it drowns in what the face does, is neither right nor
    false.
    """
    start = _NOT_COUNTED
    cases = []
    for _ in range(windows // 64):
        rows, targets = maker.batch(64)
        with torch.no_grad():
            outputs = network(features(torch.from_numpy(rows), torch)).numpy()
        cases += list(zip(outputs, targets, strict=True))
    grid = STEP_S * np.arange(STEPS)
    minutes = len(cases) * (STEPS - start) * STEP_S / 60
    curve = []
    for threshold in THRESHOLDS:
        hits = wanted = false = 0
        for output, target in cases:
            told = _truth(target, grid)
            truth = [t for t in told if grid[start] < t[1] + DELAY_S < grid[-2]]
            found = pick(output[start:], grid[start:], threshold)
            matched = {i for f in found for i, t in enumerate(truth) if _fits(f, t)}
            # At the window's ends it is chance whether a true one is seen.
            neither = [
                f
                for f in found
                if not any(_fits(f, t) for t in truth)
                and (_is_passed_over(target, grid, f) or any(_fits(f, t) for t in told))
            ]
            hits += len(matched)
            wanted += len(truth)
            false += len(found) - len(matched) - len(neither)
        curve.append(
            {
                "threshold": threshold,
                "recall": round(hits / max(wanted, 1), 4),
                "false_per_minute": round(false / minutes, 3),
                "F1": round(2 * hits / max(hits + false + wanted, 1), 4),
            }
        )
    return curve


def _fits(found: tuple[float, float], truth: tuple[float, float]) -> bool:
    """They overlap by half."""
    # The apex is of no account.
    first, second = (Interval(onset, onset, offset) for onset, offset in (found, truth))
    return overlap(first, second) >= LEAST_OVERLAP


def _is_passed_over(target: np.ndarray, grid: np.ndarray, found: tuple[float, float]) -> bool:
    """Most of an interval counts for nothing in training."""
    inside = (grid > found[0]) & (grid < found[1])
    return bool(inside.any()) and float(np.mean(target[inside, 5] == 0)) > 0.5


def _truth(target: np.ndarray, grid: np.ndarray) -> list[tuple[float, float]]:
    """Intervals (onset, offset) that a window's targets mark."""
    marked = np.flatnonzero(target[:, 3] > 0)
    found: list[tuple[float, float]] = []
    for i in marked:
        offset = grid[i] - target[i, 2]
        if not found or abs(found[-1][1] - offset) > 0.01:
            found.append((offset - target[i, 3], offset))
    return found


def export(
    network: SpotterEnsemble, patterns: np.ndarray, out: Path, card: dict[str, object]
) -> None:
    """Writes the network and its patterns as ONNX, and the card beside it; both appear whole.

    The weights of the blocks are written in 8 bits: a third of the size, and less time.
    """
    part = out.with_suffix(".part")
    with tempfile.TemporaryDirectory() as folder:
        whole, folded = Path(folder, "whole.onnx"), Path(folder, "folded.onnx")
        stream = StreamSpotter(network, torch.from_numpy(patterns)).eval()
        torch.onnx.export(
            stream,
            (torch.zeros(1, CHANNELS), torch.zeros(stream.rows, WIDTH)),
            str(whole),
            input_names=["signals", "state"],
            output_names=["spotting", "next_state", "patterns"],
            dynamo=False,
        )
        quant_pre_process(str(whole), str(folded), skip_symbolic_shape=True)
        # What takes in the signals, which are of all sizes, and what gives the answers are
        # convolutions and stay as they are.
        quantize_dynamic(
            folded,
            part,
            op_types_to_quantize=["MatMul", "Gemm"],
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    content = part.read_bytes()
    card = {
        "name": out.stem,
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": sum(p.numel() for p in network.parameters()),
        **card,
    }
    part.replace(out)
    out.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def background_files(folder: Path) -> list[Path]:
    """The whole signals in a folder.

    Raises:
        InputError: There are none, or some lack what is needed.
    """
    files = [f for f in sorted(folder.glob("*.npz")) if not f.stem.endswith(".part")]
    if not files:
        raise InputError(f"no backgrounds in {folder}: make them with tools/spotting/synthesize.py")
    for file in files:
        with np.load(file, allow_pickle=False) as signals:
            if missing := _SIGNALS - set(signals.files):
                raise InputError(
                    f"{file} holds no {', '.join(sorted(missing))}: "
                    "make it anew with this version's tools/spotting/synthesize.py"
                )
    return files


# What `_load` shares, in processes that are forked.
_given: dict[str, Any] = {}


def _load(file: Path) -> Background:
    motions = _given["motions"]
    rng = np.random.default_rng((_given["seed"], crc32(file.name.encode())))
    count = min(len(motions), _MOTIONS_A_FACE)
    chosen = [motions[i] for i in rng.choice(len(motions), count, replace=False)]
    return load_background(file, chosen, _given["patterns"], rng)


def load(
    files: list[Path],
    motions: list[tuple[np.ndarray, np.ndarray]],
    patterns: np.ndarray,
    seed: int,
    jobs: int,
) -> list[Background]:
    """Backgrounds, each with some of the motions: together they see them all."""
    _given.update(motions=motions, patterns=patterns, seed=seed)
    with mp.get_context("fork").Pool(jobs) as pool:
        return pool.map(_load, files, chunksize=1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--backgrounds", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--exclude-subjects", nargs="*", default=[], metavar="S", help="subjects of the data"
    )
    parser.add_argument(
        "--held-out",
        type=Path,
        help="backgrounds for the curve (default: the ones trained upon, drawn anew)",
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument(
        "--false-per-minute", type=float, default=2.0, help="by which the threshold is chosen"
    )
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--jobs", type=int, default=1, help="processes that load and draw")
    options = parser.parse_args(arguments)
    try:
        release = read_release(options.data)
        clips = release.without(options.exclude_subjects)
        files = background_files(options.backgrounds)
        held = background_files(options.held_out or options.backgrounds)
        rng = np.random.default_rng(options.seed)
        motions = measured_motions(clips.pairs) + drawn_motions(_DRAWN, rng)
        print(f"{len(files)} backgrounds, {len(motions)} motions", flush=True)
        patterns = find_patterns(files, [rise for rise, _ in motions], rng)
        backgrounds = load(files, motions, patterns, options.seed, options.jobs)
        # Long before the first step, should no clip be long enough.
        WindowMaker(backgrounds, options.seed)
    except InputError as error:
        print(f"train_spotter: {error}", file=sys.stderr)
        return 2
    network = SpotterEnsemble(
        [
            train(
                backgrounds,
                options.steps,
                options.batch,
                options.seed + i,
                options.threads,
                options.jobs,
                made,
            )
            for i, made in enumerate(MEMBERS)
        ]
    ).eval()
    if options.held_out:
        if options.exclude_subjects:
            others = release.only(options.exclude_subjects)
            motions = measured_motions(others.pairs)
        unseen = load(held, motions, patterns, options.seed, options.jobs)
    else:
        unseen = backgrounds
    curve = operating_curve(
        network, WindowMaker(unseen, options.seed + 1000, likelihoods(unseen)), _CURVE_WINDOWS
    )
    for point in curve:
        print(point)
    quiet = [p for p in curve if p["false_per_minute"] <= options.false_per_minute] or curve[-1:]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    export(
        network,
        patterns,
        options.out,
        {
            "threshold": quiet[0]["threshold"],
            "threshold_chosen": f"the lowest with at most {options.false_per_minute:g} false "
            "reports a minute on windows drawn as in training, of "
            + ("faces and motions that were held out" if options.held_out else "the same faces"),
            "operating_curve": curve,
            "trained_on": {
                "motions": f"{len(clips)} pairs of CausalNet's flow release (CASME II, SMIC, "
                f"SAMM) and {_DRAWN} drawn action-unit motions",
                "backgrounds": sorted({b.name for b in backgrounds}),
            },
            "excluded_subjects": sorted(options.exclude_subjects),
            "held_out": sorted({b.name for b in unseen} - {b.name for b in backgrounds}),
            "steps": options.steps,
            "batch": options.batch,
            "seed": options.seed,
            "licence": "The measured motions derive from CASME II, SMIC and SAMM, whose terms "
            "allow research use.",
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
