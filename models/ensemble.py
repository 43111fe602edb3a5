"""Compact networks that answer together, as one network that is hardly slower than one of them.

What a small network costs is mostly the handling of its many small operations, so members that run
one after the other cost that many times as much. Here they share every operation: their weights are
stacked, and for n clips it computes (members x n) rows, of which the first n are those of the first
member. Only the layers that hold weights know of the members; all else is a single network's code.

>>> ensemble = Ensemble([CausalNet.compact() for _ in range(10)])
>>> ensemble(torch.zeros(2, 4, 3, 28, 28)).shape
torch.Size([2, 3])
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.causalnet import CLASSES, POSITIONS, CompactCausalNet, CropEncoder


class Ensemble(nn.Module):
    """The mean of the logits of compact networks, in evaluation.

    Args:
        members: Networks of one configuration; their weights are copied.

    Raises:
        ValueError: They cannot share their operations.
    """

    def __init__(self, members: Sequence[CompactCausalNet]) -> None:
        super().__init__()
        self.count = len(members)
        self.network = copy.deepcopy(members[0])
        _stack([self.network, *members[1:]])
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 3) of composites (n, 4, 3, 28, 28)."""
        return self.network(x).reshape(self.count, -1, CLASSES).mean(0)


def _stack(modules: Sequence[nn.Module]) -> None:
    """Replaces the layers of the first module by layers with the weights of all of them."""
    first = modules[0]
    if any(_kind(module) != _kind(first) for module in modules):
        raise ValueError("the members of an ensemble are networks of one configuration")
    for name, layer in list(first.named_children()):
        layers = [module.get_submodule(name) for module in modules]
        if type(layer) in _STACKED:
            setattr(first, name, _STACKED[type(layer)](layers))
        elif next(layer.parameters(recurse=False), None) is not None:
            raise ValueError(f"an ensemble's members cannot share a {type(layer).__name__}")
        else:
            _stack(layers)


def _kind(module: nn.Module) -> tuple[Any, ...]:
    """What modules must have in common: all but the values of their weights."""
    if isinstance(module, nn.Dropout):
        return (nn.Dropout,)  # of training; what was dropped then does not matter now
    settings = {k: v for k, v in vars(module).items() if k[0] != "_" and k != "training"}
    masks = [(name, buffer.tolist()) for name, buffer in module.named_buffers(recurse=False)]
    shapes = [(name, weight.shape) for name, weight in module.named_parameters()]
    return type(module), settings, masks, shapes


def _weights(layers: Sequence[nn.Module], name: str) -> Tensor:
    """(members, ...): one parameter of every member."""
    return torch.stack([layer.get_parameter(name).detach() for layer in layers])


class StackedLinear(nn.Module):
    """A linear layer for each member, on rows (members x n, ..., inputs)."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(_weights(layers, "weight").transpose(1, 2).contiguous())
        self.bias = nn.Parameter(_weights(layers, "bias").unsqueeze(1))

    def forward(self, x: Tensor) -> Tensor:
        members, inputs, outputs = self.weight.shape
        y = x.reshape(members, -1, inputs) @ self.weight + self.bias
        return y.reshape(-1, *x.shape[1:-1], outputs)


class StackedLayerNorm(nn.Module):
    """A layer norm for each member, on rows (members x n, ..., width)."""

    def __init__(self, layers: Sequence[nn.LayerNorm]) -> None:
        super().__init__()
        self.eps = layers[0].eps
        self.weight = nn.Parameter(_weights(layers, "weight").unsqueeze(1))
        self.bias = nn.Parameter(_weights(layers, "bias").unsqueeze(1))

    def forward(self, x: Tensor) -> Tensor:
        members, _, width = self.weight.shape
        normed = functional.layer_norm(x.reshape(members, -1, width), (width,), eps=self.eps)
        return (normed * self.weight + self.bias).reshape(-1, *x.shape[1:])


class StackedCropEncoder(nn.Module):
    """An encoder for each member, all on the same images (n, c, 28, 28).

    This is where n become members x n: it gives tokens (members x n, positions, dim).
    """

    def __init__(self, encoders: Sequence[CropEncoder]) -> None:
        super().__init__()
        stems = [encoder.stem for encoder in encoders]
        self.convolution = copy.deepcopy(stems[0][0])
        self.pool, self.activation = stems[0][1], stems[0][3]
        # The image is one, so the members' kernels are channels of one convolution.
        for name in ("weight", "bias"):
            kernels = _weights([stem[0] for stem in stems], name).flatten(0, 1)
            setattr(self.convolution, name, nn.Parameter(kernels))
        # In evaluation, a batch norm is a factor and a summand for each channel.
        norms = [stem[2] for stem in stems]
        factors = [norm.weight * (norm.running_var + norm.eps).rsqrt() for norm in norms]
        summands = [n.bias - n.running_mean * f for n, f in zip(norms, factors, strict=True)]
        self.factor, self.summand = (
            nn.Parameter(torch.cat(values).detach().reshape(-1, 1, 1))
            for values in (factors, summands)
        )
        self.weight = nn.Parameter(_weights(encoders, "weight"))
        self.bias = nn.Parameter(_weights(encoders, "bias"))

    def forward(self, image: Tensor) -> Tensor:
        members, _, inputs, dim = self.weight.shape
        c = image.shape[1]
        crops = image.reshape(-1, c, 2, 14, 2, 14).permute(0, 2, 4, 1, 3, 5)
        maps = self.pool(self.convolution(crops.reshape(-1, c, 14, 14)))
        maps = self.activation(maps * self.factor + self.summand)
        maps = maps.reshape(-1, POSITIONS, members, inputs).permute(2, 1, 0, 3)
        tokens = maps @ self.weight + self.bias
        return tokens.transpose(1, 2).reshape(-1, POSITIONS, dim)


_STACKED = {
    nn.Linear: StackedLinear,
    nn.LayerNorm: StackedLayerNorm,
    CropEncoder: StackedCropEncoder,
}
