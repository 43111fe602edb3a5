"""Reads the spotter's networks back from their ONNX file, so that training can go on from it.

The file holds what a step of a stream needs (`StreamSpotter`): weights of 8 bits with a scale for
each output, and the normalization folded into the layer after it. Both are undone here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from models.spotter import MEMBERS, WIDTH, SpotterNetwork
from realtime_mer.errors import InputError
from realtime_mer.model_file import load_weights


def read_members(weights: Path) -> list[SpotterNetwork]:
    """The networks of a file that `tools/spotting/train.py` wrote, in the order of `MEMBERS`.

    Their normalization does nothing yet: `unfold` it before they are trained.

    Raises:
        InputError: The file is missing, damaged, or holds other networks than `MEMBERS`.
    """
    graph = onnx.load_from_string(load_weights(weights).content).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    try:
        return [_member(arrays, index) for index in range(len(MEMBERS))]
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{weights} does not hold the networks of this version's training: train from nothing"
        ) from error


def _member(arrays: dict[str, np.ndarray], index: int) -> SpotterNetwork:
    """One of the networks; KeyError, ValueError or RuntimeError if the arrays are not theirs."""
    config = MEMBERS[index]
    count = len(MEMBERS)

    def part(name: str) -> Tensor:
        """The share of this member in an array of all members, side by side."""
        array = arrays[name]
        return torch.from_numpy(np.split(array, count, axis=0)[index].copy())

    network = SpotterNetwork(arrays["enter.weight"].shape[1], config)
    longest = max((member.dilations for member in MEMBERS), key=len)
    state = {
        "enter.weight": part("enter.weight"),
        "enter.bias": part("enter.bias"),
        "leave.0.weight": part("leave.0.weight"),
        "leave.0.bias": part("leave.0.bias"),
        "leave.2.weight": part("leave.2.weight"),
        "leave.2.bias": part("leave.2.bias"),
    }
    for own, place in enumerate(_places(config.dilations, longest)):
        for layer, name in enumerate(("conv", "mix")):
            product = f"blocks.{place}.{name}"
            if f"{product}.bias" not in arrays:  # the first version's name
                product = f"products.{place}.{layer}"
            # (taps x in, out of all members) to (out, in, taps)
            matrix = np.split(_whole(arrays, product), count, axis=1)[index]
            taps = len(matrix) // WIDTH
            weight = matrix.reshape(taps, WIDTH, -1).transpose(2, 1, 0)
            state[f"blocks.{own}.{name}.weight"] = torch.from_numpy(weight.copy())
            state[f"blocks.{own}.{name}.bias"] = part(f"{product}.bias")
    state |= {name: value for name, value in network.state_dict().items() if "norm" in name}
    network.load_state_dict(state)
    return network.eval()


def _whole(arrays: dict[str, np.ndarray], product: str) -> np.ndarray:
    """A matrix of 8 bits as numbers, float32."""
    quantized, zero, scale = (
        arrays[f"{product}.weight_{part}"] for part in ("quantized", "zero_point", "scale")
    )
    return (quantized.astype(np.float32) - zero.astype(np.float32)) * scale


def _places(own: tuple[int, ...], longest: tuple[int, ...]) -> list[int]:
    """Where a member's blocks stand among those of the longest one."""
    places, at = [], 0
    for dilation in own:
        at = longest.index(dilation, at)
        places.append(at)
        at += 1
    return places


def unfold(network: SpotterNetwork, signals: Iterable[Tensor]) -> None:
    """Gives a network the statistics of its normalization, without changing its answers.

    Args:
        network: As `read_members` gives it; changed in place.
        signals: Batches (batch, steps, channels) like those of the training.
    """
    norm: nn.BatchNorm1d = network.norm
    hidden = []
    with torch.no_grad():
        for batch in signals:
            seen = network.blocks(network.enter(batch.transpose(1, 2)))
            hidden.append(seen.transpose(1, 2).reshape(-1, WIDTH))
        values = torch.cat(hidden)
        mean, variance = values.mean(0), values.var(0)
        norm.get_buffer("running_mean").copy_(mean)
        norm.get_buffer("running_var").copy_(variance)
        norm.weight.copy_(torch.sqrt(variance + norm.eps))
        norm.bias.copy_(mean)
