"""Trains the spotter's network and writes it as ONNX, with a card beside it.

    python tools/train_spotter.py --backgrounds DIR --data DIR --out models/weights/spotter.onnx

DIR of backgrounds comes from `tools/synthesize.py`, DIR of data is CausalNet's flow release.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing as mp
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.spotter import LastStep, SpotterNetwork
from realtime_mer.signals import CHANNELS
from tools.spotting_data import (
    WindowMaker,
    drawn_motions,
    load_background,
    measured_motions,
)

_DRAWN = 200


def loss_of(out: Tensor, target: Tensor) -> Tensor:
    """Cross entropies of the two logits, and the errors of place, length and apex."""
    weight = target[..., 5]
    bce = nn.functional.binary_cross_entropy_with_logits
    end = bce(out[..., 0], target[..., 0], reduction="none", pos_weight=torch.tensor(2.0))
    inside = bce(out[..., 1], target[..., 1], reduction="none")
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
    return (
        (end * weight).mean()
        + 0.3 * inside.mean()
        + 0.1 * (place * told).sum() / told.sum().clamp(min=1)
    )


def _work(maker: WindowMaker, batch: int, queue: mp.Queue) -> None:
    while True:
        queue.put(maker.batch(batch))


def train(
    makers: list[WindowMaker], steps: int, batch: int, seed: int, threads: int = 1
) -> SpotterNetwork:
    """Trains on `steps` batches; the weights returned are an exponential mean."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    network = SpotterNetwork(CHANNELS)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    context = mp.get_context("fork")
    queue: mp.Queue = context.Queue(4)
    workers = [context.Process(target=_work, args=(m, batch, queue), daemon=True) for m in makers]
    for worker in workers:
        worker.start()
    started = time.monotonic()
    mean = 0.0
    try:
        for step in range(steps):
            x, y = queue.get()
            loss = loss_of(network(torch.from_numpy(x)), torch.from_numpy(y))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(network)
            mean += (loss.item() - mean) * max(0.01, 1 / (step + 1))
            if step % 100 == 99:
                spent = time.monotonic() - started
                print(f"step {step + 1}/{steps} loss {mean:.4f} {spent:.0f} s", flush=True)
    finally:
        for worker in workers:
            worker.terminate()
    return average.module.eval()


def export(network: SpotterNetwork, out: Path, card: dict[str, object]) -> None:
    """Writes the network as ONNX, and the card beside it; both appear whole."""
    steps = 77
    part = out.with_suffix(".part")
    torch.onnx.export(
        LastStep(network).eval(),
        (torch.zeros(1, steps, CHANNELS),),
        str(part),
        input_names=["signals"],
        output_names=["spotting"],
        dynamic_axes={"signals": {0: "batch"}, "spotting": {0: "batch"}},
        dynamo=False,
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
