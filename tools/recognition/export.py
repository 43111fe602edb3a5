"""Writes trained networks as one ONNX file, flow pair in, calibrated probabilities out.

    python tools/recognition/export.py causalnet.pt --out models/weights/causalnet.onnx

The checkpoint is what `tools/recognition/train.py --checkpoint` wrote. Several networks become one:
it averages their logits, over each flow pair and its mirror image, as `models.training.predict`
does. The model card goes beside the file, under the same name with .json.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.ensemble import Ensemble
from models.views import Views, mirrored
from models.zoo import NETWORKS, make_network
from realtime_mer.errors import InputError
from realtime_mer.recognition.flow_pair import FLOW_SIZE
from tools.command import command_parser, exit_status

NETWORK = "causalnet-compact"
"""The network that is deployed."""
INPUT, OUTPUT = "flow_pair", "probabilities"
OPSET = 18


class Deployed(nn.Module):
    """The deployed form of networks: flow pairs (n, 2, 28, 28, 3) uint8 to probabilities
    (n, classes).

    Args:
        networks: One network of any kind, or several compact ones of one configuration.
        temperature: Divides the mean of the logits.
        mirror: Average over each flow pair and its mirror image.

    Raises:
        ValueError: The networks cannot be one ensemble.
    """

    def __init__(
        self, networks: Sequence[nn.Module], temperature: float, mirror: bool = False
    ) -> None:
        super().__init__()
        self.views = Views(composites=getattr(networks[0], "composites", True))
        self.network = networks[0] if len(networks) == 1 else Ensemble(networks)
        self.temperature = temperature
        self.mirror = mirror

    def forward(self, pairs: Tensor) -> Tensor:
        pairs = pairs.float()
        if self.mirror:
            pairs = torch.cat([pairs, mirrored(pairs)])  # (2 n, 2, 28, 28, 3)
        logits = self.network(self.views(pairs))
        if self.mirror:
            logits = logits.reshape(2, -1, logits.shape[-1]).mean(0)  # of (2, n, 3)
        return (logits / self.temperature).softmax(-1)


def export(
    networks: Sequence[nn.Module],
    temperature: float,
    out: Path,
    card: dict[str, Any],
    mirror: bool = False,
) -> None:
    """Writes an ONNX file and its card; the files appear whole or not at all.

    Args:
        networks: As for `Deployed`.
        temperature: Likewise.
        out: The ONNX file.
        card: What is known of the networks; size and SHA-256 are added.
        mirror: As for `Deployed`.

    Raises:
        InputError: The files cannot be written.
    """
    deployed = Deployed(networks, temperature, mirror).eval()
    example = torch.zeros(2, 2, FLOW_SIZE, FLOW_SIZE, 3, dtype=torch.uint8)
    card_path = out.with_suffix(".json")
    part, part_card = out.with_suffix(".part.onnx"), out.with_suffix(".part.json")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(), torch.no_grad():
            # The newer exporter needs one more package and writes the same graph.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                deployed,
                (example,),
                str(part),
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
            "sha256": hashlib.sha256(part.read_bytes()).hexdigest(),
        }
        write_card(part_card, card)
        # Someone may be using the files that are there: replace them at the last moment.
        os.replace(part, out)
        os.replace(part_card, card_path)
    except OSError as error:
        raise InputError(f"cannot write {out} ({error.strerror}): give another --out") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
            part_card.unlink(missing_ok=True)


def write_card(path: Path, card: dict[str, Any]) -> None:
    """Writes a model card as JSON."""
    text = json.dumps(card, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `tools/recognition/train.py --checkpoint` wrote: states, temperature, card.

    Raises:
        InputError: The file is something else.
    """
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


def networks_of(checkpoint: dict[str, Any]) -> list[nn.Module]:
    """The networks in what `load_checkpoint` gives."""
    card = checkpoint["card"]
    networks = []
    for state in checkpoint["states"]:
        network = make_network(card.get("network", NETWORK), len(card["labels"]))
        network.load_state_dict(state)
        networks.append(network)
    return networks


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument(
        "checkpoint", type=Path, help="written by tools/recognition/train.py --checkpoint"
    )
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    options = parser.parse_args(arguments)

    def work() -> None:
        checkpoint = load_checkpoint(options.checkpoint)
        model = checkpoint["card"].get("network", NETWORK)
        if model not in NETWORKS:
            raise InputError(
                f"{options.checkpoint} holds {model}, and the program feeds flow pairs only: such "
                "a network has no ONNX file"
            )
        networks = networks_of(checkpoint)
        temperature, card = checkpoint["temperature"], checkpoint["card"]
        export(networks, temperature, options.out, card, mirror=True)
        print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")

    return exit_status(parser.prog, work)


if __name__ == "__main__":
    raise SystemExit(main())
