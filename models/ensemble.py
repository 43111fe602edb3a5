"""Compact networks that answer together, as one network that is hardly slower than one of them.

A small network spends most of its time on the handling of its many small operations, so members
that ran one after the other would cost that many times as much. Here they share every operation:
their weights are stacked, and n clips become (members x n) rows, of which the first n belong to the
first member. Only the layers with weights know of the members; all else is the code of a single
network.

Shapes in comments: m members, b clips, n = 4 positions, c channels, d channels of a token.

>>> ensemble = Ensemble([CausalNet.compact() for _ in range(10)])
>>> ensemble(torch.zeros(2, 4, 3, 28, 28)).shape
torch.Size([2, 3])
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.causalnet import POSITIONS, CropEncoder, cut_crops


class Ensemble(nn.Module):
    """The mean of the logits of compact networks, in evaluation.

    Args:
        members: `CompactCausalNet`s of one configuration; their weights are copied.

    Raises:
        ValueError: They cannot share their operations.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.count = len(members)
        self.network = copy.deepcopy(members[0])
        _stack([self.network, *members[1:]])
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of composites (b, 4, 3, 28, 28)."""
        logits = self.network(x)
        return logits.reshape(self.count, -1, logits.shape[-1]).mean(0)  # of (m, b, classes)


def _stack(modules: Sequence[nn.Module]) -> None:
    """Replaces the layers of the first module by layers with the weights of all of them."""
    first = modules[0]
    if any(_configuration(module) != _configuration(first) for module in modules):
        raise ValueError("the members of an ensemble are networks of one configuration")
    for name, layer in list(first.named_children()):
        layers = [module.get_submodule(name) for module in modules]
        if type(layer) in _STACKED:
            setattr(first, name, _STACKED[type(layer)](layers))
        elif next(layer.parameters(recurse=False), None) is not None:
            raise ValueError(f"an ensemble's members cannot share a {type(layer).__name__}")
        else:
            _stack(layers)


def _configuration(module: nn.Module) -> tuple[Any, ...]:
    """What modules must have in common: all but the values of their weights."""
    if isinstance(module, nn.Dropout):
        return (nn.Dropout,)  # only training drops anything
    settings = {k: v for k, v in vars(module).items() if k[0] != "_" and k != "training"}
    masks = [(name, buffer.tolist()) for name, buffer in module.named_buffers(recurse=False)]
    shapes = [(name, weight.shape) for name, weight in module.named_parameters()]
    return type(module), settings, masks, shapes


def _weights(layers: Sequence[nn.Module], name: str) -> Tensor:
    """(m, ...): one parameter of every member."""
    return torch.stack([layer.get_parameter(name).detach() for layer in layers])


class StackedLinear(nn.Module):
    """A linear layer for each member, on rows (m b, ..., inputs)."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        weights = _weights(layers, "weight").transpose(1, 2)  # (m, inputs, outputs)
        self.weight = nn.Parameter(weights.contiguous())
        self.bias = nn.Parameter(_weights(layers, "bias").unsqueeze(1))  # (m, 1, outputs)

    def forward(self, x: Tensor) -> Tensor:
        members, inputs, outputs = self.weight.shape
        y = x.reshape(members, -1, inputs) @ self.weight + self.bias  # (m, rows, outputs)
        return y.reshape(-1, *x.shape[1:-1], outputs)  # (m b, ..., outputs)


class StackedLayerNorm(nn.Module):
    """A layer norm for each member, on rows (m b, ..., d)."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.eps = cast(nn.LayerNorm, layers[0]).eps
        self.weight = nn.Parameter(_weights(layers, "weight").unsqueeze(1))  # (m, 1, d)
        self.bias = nn.Parameter(_weights(layers, "bias").unsqueeze(1))  # (m, 1, d)

    def forward(self, x: Tensor) -> Tensor:
        members, _, width = self.weight.shape
        rows = x.reshape(members, -1, width)  # (m, rows, d)
        normed = functional.layer_norm(rows, (width,), eps=self.eps)
        return (normed * self.weight + self.bias).reshape(-1, *x.shape[1:])  # (m b, ..., d)


class StackedCropEncoder(nn.Module):
    """An encoder for each member, all on the same images (b, c, 28, 28).

    Here b clips become m x b rows: it gives tokens (m b, n, d).
    """

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        stems = [cast(CropEncoder, encoder).stem for encoder in encoders]
        self.convolution = copy.deepcopy(stems[0][0])
        self.pool, self.activation = stems[0][1], stems[0][3]
        # All see the same image, so the members' kernels are channels of one convolution.
        for name in ("weight", "bias"):
            kernels = _weights([stem[0] for stem in stems], name).flatten(0, 1)  # (m width, ...)
            setattr(self.convolution, name, nn.Parameter(kernels))
        factors, summands = zip(*(_factor_and_summand(stem[2]) for stem in stems), strict=True)
        self.factor, self.summand = (
            nn.Parameter(torch.cat(values).detach().reshape(-1, 1, 1))  # (m width, 1, 1)
            for values in (factors, summands)
        )
        self.weight = nn.Parameter(_weights(encoders, "weight"))  # (m, n, width * 4 * 4, d)
        self.bias = nn.Parameter(_weights(encoders, "bias"))  # (m, n, 1, d)

    def forward(self, image: Tensor) -> Tensor:
        members, _, inputs, dim = self.weight.shape
        crops = cut_crops(image).reshape(-1, image.shape[1], 14, 14)  # (b n, c, 14, 14)
        maps = self.pool(self.convolution(crops))  # (b n, m width, 4, 4)
        maps = self.activation(maps * self.factor + self.summand)
        maps = maps.reshape(-1, POSITIONS, members, inputs)  # (b, n, m, width * 4 * 4)
        maps = maps.permute(2, 1, 0, 3)  # (m, n, b, width * 4 * 4)
        tokens = maps @ self.weight + self.bias  # (m, n, b, d)
        return tokens.transpose(1, 2).reshape(-1, POSITIONS, dim)  # (m b, n, d)


def _factor_and_summand(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What a batch norm multiplies and adds in evaluation, for each channel."""
    variance = norm.get_buffer("running_var") + cast(nn.BatchNorm2d, norm).eps
    factor = norm.get_parameter("weight") * variance.rsqrt()
    return factor, norm.get_parameter("bias") - norm.get_buffer("running_mean") * factor


_STACKED = {
    nn.Linear: StackedLinear,
    nn.LayerNorm: StackedLayerNorm,
    CropEncoder: StackedCropEncoder,
}
