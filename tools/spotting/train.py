"""Trains the spotter's networks and writes them as one ONNX file, with a card beside it.

    python tools/spotting/train.py --backgrounds DIR... --held-out DIR... --data DIR \\
        --out models/weights/spotter.onnx [--start-from FILE.onnx --rate R] [--checkpoints DIR]

Training starts from nothing, or goes on from weights that it wrote earlier. With --checkpoints, a
run that was stopped goes on where it was. With --member as well, only one of the networks is
trained, so that two processes can do the work side by side; a call without it writes the file.

The folders hold signals of `tools/spotting/synthesize.py`, --data is CausalNet's flow release. The
operating curve on the card, and with it the threshold, is that of the written file in the runtime's
own spotter, on the held-out clips (`tools/spotting/calibration.py`). For an honest curve they show
other faces, and motions of the excluded subjects.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import pickle
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import read_release
from models.spotter import MEMBERS, WIDTH, Member, SpotterEnsemble, SpotterNetwork, StreamSpotter
from models.spotter_weights import read_members, unfold
from realtime_mer.errors import InputError
from realtime_mer.model_file import load_weights
from realtime_mer.spotting.signals import CHANNELS, WARM_UP_STEPS, features
from realtime_mer.spotting.spotter import SpotterModel
from tools.command import command_parser, exit_status, make_folder
from tools.spotting.backgrounds import Background, likelihoods, load_backgrounds
from tools.spotting.calibration import FALSE_PER_MINUTE, calibrate, check_held_out, write_card
from tools.spotting.clip_signals import clip_name, signal_files
from tools.spotting.motion_patterns import find_patterns
from tools.spotting.motions import drawn_motions, measured_motions
from tools.spotting.targets import APEX, END, INSIDE, LENGTH, MACRO, MACRO_WEIGHT, SINCE, WEIGHT
from tools.spotting.windows import WindowMaker

RATE = 3e-3
"""Highest learning rate of a training from nothing: chosen in trials."""

# How often a checkpoint is written, in steps; and another at the end.
_CHECKPOINT_STEPS = 100
# Batches from which weights that training goes on from get their normalization's statistics back.
_UNFOLD_BATCHES = 8
# Drawn motions beside the measured ones.
_DRAWN = 200
# Weights of the losses beside that of the end, and the errors in seconds, seconds and parts of the
# length that cost 1: chosen in trials.
_INSIDE_LOSS, _MACRO_LOSS, _PLACE_LOSS = 0.3, 0.3, 0.1
_SINCE_ERROR, _LENGTH_ERROR, _APEX_ERROR = 0.05, 0.05, 0.2
# The threshold of a card without a curve.
_UNMEASURED_THRESHOLD = 0.5


def spotting_loss(out: Tensor, target: Tensor) -> Tensor:
    """Cross entropies of the three logits, and the errors of offset, length and apex.

    The first second of a window costs nothing: as in the runtime, the network has no baseline yet.

    Args:
        out: (batch, steps, OUTPUTS) of a network.
        target: (batch, steps, TARGETS).
    """
    out, target = out[:, WARM_UP_STEPS:], target[:, WARM_UP_STEPS:]
    cross_entropy = nn.functional.binary_cross_entropy_with_logits
    end = cross_entropy(
        out[..., 0], target[..., END], reduction="none", pos_weight=torch.tensor(2.0)
    )
    inside = cross_entropy(out[..., 1], target[..., INSIDE], reduction="none")
    macro = cross_entropy(out[..., 5], target[..., MACRO], reduction="none")
    # Steps whose offset, length and apex are known.
    placed = (target[..., LENGTH] > 0).float()
    place = (
        (out[..., 2] - target[..., SINCE]).abs() / _SINCE_ERROR
        + (out[..., 3] - target[..., LENGTH]).abs() / _LENGTH_ERROR
        + (out[..., 4] - target[..., APEX]).abs() / _APEX_ERROR
    )
    weight, macro_weight = target[..., WEIGHT], target[..., MACRO_WEIGHT]
    return (
        (end * weight).mean()
        + _INSIDE_LOSS * (inside * weight).mean()
        + _MACRO_LOSS * (macro * macro_weight).mean()
        + _PLACE_LOSS * (place * placed).sum() / placed.sum().clamp(min=1)
    )


class _Windows(IterableDataset):
    """Endless batches; each process that loads them draws its own.

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


def batches_of(backgrounds: list[Background], seed: int, batch: int, jobs: int) -> DataLoader:
    """Endless batches of rows and targets, drawn in `jobs` processes."""
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
    member: Member = MEMBERS[0],
    start: SpotterNetwork | None = None,
    rate: float = RATE,
    checkpoint: Path | None = None,
    half: bool = False,
) -> SpotterNetwork:
    """Trains a network, on CUDA if there is a device; the weights are an exponential mean.

    Args:
        backgrounds: What windows are drawn from.
        steps: Number of batches.
        batch: Windows a batch.
        seed: Of weights and windows.
        threads: Of PyTorch.
        jobs: Processes that draw windows.
        member: How the network is built, if it starts from nothing.
        start: A network of `read_members` to go on from.
        rate: The highest learning rate.
        checkpoint: A file that keeps how far the training is; if it exists, training goes on there.
        half: Whether networks compute in 16 bits (bfloat16); weights keep 32.

    Raises:
        InputError: The checkpoint is of another run.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if start is not None:
        batches = itertools.islice(batches_of(backgrounds, seed, batch, jobs), _UNFOLD_BATCHES)
        unfold(start, (features(rows, torch) for rows, _ in batches))
    network = (start or SpotterNetwork(CHANNELS, member)).to(device).train()
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, cycle_momentum=False
    )
    parts = {"network": network, "average": average, "optimizer": optimizer, "schedule": schedule}
    first = _resume(checkpoint, parts, steps) if checkpoint is not None else 0
    # Another seed than that of the windows already seen.
    drawn = batches_of(backgrounds, seed + 1000 * (first + 1), batch, jobs)
    started = time.monotonic()
    mean = 0.0
    for step, found in zip(range(first, steps), drawn, strict=False):
        rows, targets = (array.to(device, non_blocking=True) for array in found)
        signals = features(rows, torch)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            out = network(signals)
        loss = spotting_loss(out.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        if step % 10 == 9:  # reading the loss waits for the device
            mean += (loss.item() - mean) * max(0.1, 10 / (step - first + 1))
        if step % 100 == 99:
            spent = time.monotonic() - started
            print(f"step {step + 1}/{steps} loss {mean:.4f} {spent:.0f} s", flush=True)
        is_due = step % _CHECKPOINT_STEPS == _CHECKPOINT_STEPS - 1 or step == steps - 1
        if checkpoint is not None and is_due:
            _keep(checkpoint, parts, step + 1, steps)
    trained = average.module.cpu().eval()
    assert isinstance(trained, SpotterNetwork)
    return trained


def _keep(checkpoint: Path, parts: Mapping[str, Any], step: int, steps: int) -> None:
    """Writes how far a training is; the file appears whole."""
    part = checkpoint.with_suffix(".part")
    states = {name: thing.state_dict() for name, thing in parts.items()}
    torch.save({**states, "step": step, "steps": steps}, part)
    part.replace(checkpoint)


def _resume(checkpoint: Path, parts: Mapping[str, Any], steps: int) -> int:
    """Puts a training where its checkpoint is; returns the number of steps done, 0 if none.

    Raises:
        InputError: The checkpoint is of another run.
    """
    if not checkpoint.exists():
        return 0
    try:
        kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if kept["steps"] != steps:
            raise ValueError(f"it has {kept['steps']} steps")
        for name, thing in parts.items():
            thing.load_state_dict(kept[name])
    except (OSError, KeyError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(
            f"the checkpoint {checkpoint} is not of this run ({error}): give the same options as "
            "then, or another folder"
        ) from error
    return int(kept["step"])


def export(
    network: SpotterEnsemble, patterns: np.ndarray, out: Path, card: dict[str, object]
) -> None:
    """Writes the network and its patterns as ONNX, and the card beside it; both appear whole.

    The weights of the blocks are written in 8 bits: a third of the size, and faster.

    Args:
        network: The trained network.
        patterns: `PATTERN_SHAPE`, through which its signals were seen.
        out: The ONNX file.
        card: What goes on the card beside name, hash and number of parameters.
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
        # The first layer, whose inputs differ in size, and the last ones are convolutions and keep
        # their full precision.
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
    write_card(card, out)


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument(
        "--backgrounds",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="signals to train on",
    )
    parser.add_argument("--data", type=Path, required=True, help="the flow release")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.onnx")
    parser.add_argument(
        "--exclude-subjects", nargs="*", default=[], metavar="S", help="subjects of the data"
    )
    parser.add_argument(
        "--held-out",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="signals for the curve",
    )
    parser.add_argument(
        "--start-from", type=Path, metavar="FILE.onnx", help="weights to go on from"
    )
    parser.add_argument(
        "--rate", type=float, default=RATE, help=f"highest learning rate (default {RATE:g})"
    )
    parser.add_argument(
        "--checkpoints",
        type=Path,
        metavar="DIR",
        help="keep how far the training is; go on there if it was stopped",
    )
    parser.add_argument(
        "--member",
        type=int,
        choices=range(len(MEMBERS)),
        help="train only this network, into --checkpoints, and write no file",
    )
    parser.add_argument(
        "--half",
        action="store_true",
        help="compute in 16 bits: twice as fast, where the processor can (avx512_bf16, CUDA)",
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument(
        "--false-per-minute",
        type=float,
        default=FALSE_PER_MINUTE,
        metavar="N",
        help=f"limit by which the threshold is chosen (default {FALSE_PER_MINUTE:g})",
    )
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--jobs", type=int, default=1, help="processes that load and draw")
    options = parser.parse_args(arguments)
    if options.member is not None and options.checkpoints is None:
        parser.error("--member needs --checkpoints: give the folder that the other members use")
    return exit_status(parser.prog, lambda: _train_and_write(options))


def _train_and_write(options: argparse.Namespace) -> None:
    """All that the command does.

    Raises:
        InputError: A folder cannot be used.
    """
    clips = read_release(options.data).without(options.exclude_subjects)
    files, held_out = signal_files(*options.backgrounds), signal_files(*options.held_out)
    start = {} if options.start_from is None else load_weights(options.start_from).card
    known = start.get("trained_on", {}).get("backgrounds", ())
    check_held_out(held_out, {*map(clip_name, files), *known})
    rng = np.random.default_rng(options.seed)
    motions = measured_motions(clips.pairs) + drawn_motions(_DRAWN, rng)
    print(f"{len(files)} backgrounds, {len(motions)} motions", flush=True)
    starts: Sequence[SpotterNetwork | None] = [None] * len(MEMBERS)
    if options.start_from is None:
        patterns = find_patterns(files, [rise for rise, _ in motions], rng)
    else:
        starts = read_members(options.start_from)
        patterns = SpotterModel(options.start_from).patterns.copy()
    backgrounds = load_backgrounds(files, motions, patterns, options.seed, options.jobs)
    # Fails now, and not in a process of the first step, if no clip is long enough.
    WindowMaker(backgrounds, options.seed)
    make_folder(options.out.parent, "--out")
    if options.checkpoints is not None:
        make_folder(options.checkpoints, "--checkpoints")

    def member(index: int) -> SpotterNetwork:
        kept = options.checkpoints
        return train(
            backgrounds,
            options.steps,
            options.batch,
            options.seed + index,
            options.threads,
            options.jobs,
            MEMBERS[index],
            starts[index],
            options.rate,
            None if kept is None else kept / f"{index}.checkpoint",
            options.half,
        )

    if options.member is not None:
        member(options.member)
        return
    members = [member(index) for index in range(len(MEMBERS))]
    card: dict[str, object] = {
        "threshold": _UNMEASURED_THRESHOLD,
        "trained_on": {
            "motions": f"{len(clips)} pairs of CausalNet's flow release (CASME II, SMIC, "
            f"SAMM) and {_DRAWN} drawn action-unit motions",
            "backgrounds": sorted({b.name for b in backgrounds} | set(known)),
        },
        "excluded_subjects": sorted(options.exclude_subjects),
        "steps": options.steps,
        "batch": options.batch,
        "seed": options.seed,
        "rate": options.rate,
        "half": options.half,
        "started_from": start.get("sha256"),
        "licence": "The measured motions derive from CASME II, SMIC and SAMM, whose terms "
        "allow research use.",
    }
    export(SpotterEnsemble(members).eval(), patterns, options.out, card)
    for point in calibrate(options.out, held_out, options.false_per_minute, options.jobs):
        print(point)


if __name__ == "__main__":
    sys.exit(main())
