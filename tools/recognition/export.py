"""Writes trained networks as one ONNX file, flow pair in, calibrated probabilities out.

    python tools/recognition/export.py models/weights/causalnet.pt --out models/weights/causalnet.onnx

The checkpoint is what `tools/recognition/train.py --checkpoint` keeps. Several networks become one: their
logits are averaged, over each flow pair and its mirror image, as `models.training.predict` does.
Beside the file goes the model card, the same name with .json.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.causalnet import CausalNet
from models.ensemble import Ensemble
from models.views import Views, mirrored
from realtime_mer.errors import InputError
from realtime_mer.recognition.flow_pair import FLOW_SIZE

INPUT, OUTPUT = "flow_pair", "probabilities"
OPSET = 18


class Deployed(nn.Module):
    """Networks as they are deployed: flow pairs (n, 2, 28, 28, 3) uint8 to probabilities (n, 3).

    Args:
        networks: One network of any kind, or compact ones of one configuration.
        temperature: By which the mean of the logits is divided.
        mirror: Average over each flow pair and its mirror image.

    Raises:
        ValueError: The networks cannot be one ensemble.
    """

    def __init__(self, networks: list[nn.Module], temperature: float, mirror: bool = False) -> None:
        super().__init__()
        self.views = Views(composites=getattr(networks[0], "composites", True))
        self.network = networks[0] if len(networks) == 1 else Ensemble(networks)
        self.temperature = temperature
        self.mirror = mirror

    def forward(self, pairs: Tensor) -> Tensor:
        pairs = pairs.float()
        if self.mirror:
            pairs = torch.cat([pairs, mirrored(pairs)])
        logits = self.network(self.views(pairs))
        if self.mirror:
            logits = logits.reshape(2, -1, logits.shape[-1]).mean(0)
        return (logits / self.temperature).softmax(-1)


def export(
    networks: list[nn.Module],
    temperature: float,
    out: Path,
    card: dict[str, Any],
    mirror: bool = False,
) -> None:
    """Write `out` and its card, which gets what is known only now, such as the SHA-256."""
    deployed = Deployed(networks, temperature, mirror).eval()
    example = torch.zeros(2, 2, FLOW_SIZE, FLOW_SIZE, 3, dtype=torch.uint8)
    card_path = out.with_suffix(".json")
    half, half_card = out.with_suffix(".part.onnx"), out.with_suffix(".part.json")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(), torch.no_grad():
            # The newer exporter wants one more package and writes the same graph.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                deployed,
                (example,),
                str(half),
                dynamo=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
                opset_version=OPSET,
            )
        card = {
            **card,
            "parameters": sum(p.numel() for p in deployed.parameters()),
            "temperature": round(temperature, 4),
            "mirrored_view": mirror,
            "sha256": hashlib.sha256(half.read_bytes()).hexdigest(),
        }
        write_card(half_card, card)
        # Someone may be using the files that were there: they change at the last moment.
        os.replace(half, out)
        os.replace(half_card, card_path)
    except OSError as error:
        raise InputError(f"cannot write {out} ({error.strerror}): give another --out") from error
    finally:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)
            half_card.unlink(missing_ok=True)


def write_card(path: Path, card: dict[str, Any]) -> None:
    text = json.dumps(card, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `tools/recognition/train.py --checkpoint` kept: states, temperature, card."""
    remedy = "give a file that tools/recognition/train.py --checkpoint wrote"
    try:
        checkpoint = torch.load(path, weights_only=True)
    except FileNotFoundError:
        raise InputError(f"there is no checkpoint {path}: {remedy}") from None
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise InputError(f"{path} is not a checkpoint: {remedy}") from error
    if not isinstance(checkpoint, dict) or {"states", "temperature", "card"} - set(checkpoint):
        raise InputError(f"{path} is not a checkpoint of this project: {remedy}")
    return checkpoint


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoint", type=Path, help="kept by tools/recognition/train.py --checkpoint"
    )
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    options = parser.parse_args(arguments)
    try:
        checkpoint = load_checkpoint(options.checkpoint)
        networks = []
        for state in checkpoint["states"]:
            network = CausalNet.compact()
            network.load_state_dict(state)
            networks.append(network)
        temperature, card = checkpoint["temperature"], checkpoint["card"]
        export(networks, temperature, options.out, card, mirror=True)
    except InputError as error:
        print(f"export_onnx: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
