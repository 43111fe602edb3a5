"""The spotting networks: causal temporal convolutions over a face's motion signals.

A residual stack of gated, dilated causal convolutions: the gate as in van den Oord et al.,
"WaveNet", 2016, arXiv 1609.03499; the stack as in Bai, Kolter, Koltun, "An Empirical Evaluation of
Generic Convolutional and Recurrent Networks for Sequence Modeling", 2018, arXiv 1803.01271.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

# Per step: end logit, inside logit, seconds since the offset, length in seconds, apex fraction,
# macro logit.
OUTPUTS = 6
# Channels between the blocks.
WIDTH = 128


@dataclass(frozen=True, slots=True)
class Member:
    """Configuration of one of the networks that answer together.

    Attributes:
        dilations: Of its blocks, in steps.
        dropout: In training.
    """

    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1, 2, 4)
    dropout: float = 0.1


# The mean of these two finds more on development clips than one alone, and as much on held-out ones
# (docs/spotting.md).
MEMBERS = (
    Member(),
    Member(dilations=(1, 2, 4, 8, 16, 32, 1, 2, 4, 8)),
)


class CausalBlock(nn.Module):
    """Dilated causal convolution with a residual; looks back `2 * dilation` steps."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.past = 2 * dilation
        self.conv = nn.Conv1d(width, 2 * width, 3, dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, steps) to the same; zeros stand before the first step."""
        padded = nn.functional.pad(x, (self.past, 0))  # (batch, width, past + steps)
        value, gate = self.conv(padded).chunk(2, dim=1)  # (batch, width, steps) each
        return x + self.mix(self.dropout(nn.functional.gelu(value) * torch.sigmoid(gate)))


class SpotterNetwork(nn.Module):
    """Signals (batch, steps, channels) to (batch, steps, OUTPUTS).

    Step i speaks of the time up to step i: whether a micro-expression has just ended (`end`);
    whether one was under way a moment ago (`inside`), when it ended, how long it was and where in
    it the apex lies; and whether a macro-expression was under way half a second ago.
    """

    def __init__(self, channels: int, config: Member = MEMBERS[0]) -> None:
        super().__init__()
        self.enter = nn.Conv1d(channels, WIDTH, 1)
        self.blocks = nn.Sequential(
            *(CausalBlock(WIDTH, dilation, config.dropout) for dilation in config.dilations)
        )
        self.norm = nn.BatchNorm1d(WIDTH)
        self.leave = nn.Sequential(
            nn.Conv1d(WIDTH, WIDTH, 1), nn.GELU(), nn.Conv1d(WIDTH, OUTPUTS, 1)
        )

    def forward(self, signals: Tensor) -> Tensor:
        entered = self.enter(signals.transpose(1, 2))  # (batch, WIDTH, steps)
        hidden = self.norm(self.blocks(entered))
        return decode_outputs(self.leave(hidden).transpose(1, 2))  # (batch, steps, OUTPUTS)


def decode_outputs(raw: Tensor) -> Tensor:
    """The last layer's (..., OUTPUTS) as logits, seconds and a fraction."""
    logits, since, length, apex = raw[..., :2], raw[..., 2:3], raw[..., 3:4], raw[..., 4:5]
    return torch.cat(
        [logits, 0.1 + 0.1 * since, 0.3 + 0.2 * length, torch.sigmoid(apex), raw[..., 5:]],
        dim=-1,
    )


class SpotterEnsemble(nn.Module):
    """Networks that answer together, with the signals and outputs of one of them.

    Logits are averaged. Offset, length and apex are averaged too, weighted by each network's
    probability of an end.

    Args:
        members: The networks, of the same width.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, signals: Tensor) -> Tensor:
        return mean_outputs(torch.stack([member(signals) for member in self.members]))


def mean_outputs(outputs: Tensor) -> Tensor:
    """(members, ..., OUTPUTS) to (..., OUTPUTS)."""
    weight = torch.sigmoid(outputs[..., :1]) + 1e-6
    places = (outputs[..., 2:5] * weight).sum(0) / weight.sum(0)
    logits = outputs.mean(0)
    return torch.cat([logits[..., :2], places, logits[..., 5:]], dim=-1)


class StreamSpotter(nn.Module):
    """The networks as the runtime calls them: one step of a stream, with probabilities.

    Most of a step's cost is to read the weights and to dispatch operations. So the members share
    operations: each member's row is multiplied with the weights of all members, and only the
    product with its own is kept. A member with fewer blocks than the longest gets blocks that do
    nothing in their places.

    The state holds the inputs of every block, as far back as that block looks: block after block,
    the oldest first, and a row for each member.

    Args:
        ensemble: The networks; their weights are copied.
        patterns: (cells x 2, patterns), the motion patterns behind the signals; handed out as is.

    Raises:
        ValueError: A member's blocks are not some of the longest one's, in the same order.
    """

    patterns: Tensor

    def __init__(self, ensemble: SpotterEnsemble, patterns: Tensor) -> None:
        super().__init__()
        members = cast(list[SpotterNetwork], list(ensemble.members))
        stacks = [cast(list[CausalBlock], list(member.blocks)) for member in members]
        longest = max(stacks, key=len)
        aligned = [_aligned(stack, longest) for stack in stacks]
        self.count = len(members)
        pasts = [block.past for block in longest]
        starts = [sum(pasts[:i]) for i in range(len(pasts) + 1)]  # of each block in the state
        steps = starts[-1]
        # Each step of the next state, by its place in this state with the blocks' new inputs after
        # it: the step behind it, and at the end of a block that block's new input.
        sources = list(range(1, steps + 1))
        for i, end in enumerate(starts[1:]):
            sources[end - 1] = steps + i
        everyone = range(self.count)
        self.rows = steps * self.count
        self.next_rows = [step * self.count + member for step in sources for member in everyone]
        # The two past steps that each block's convolution reads.
        self.tap_rows = [
            (start + tap * past // 2) * self.count + member
            for start, past in zip(starts[:-1], pasts, strict=True)
            for member in everyone
            for tap in (0, 1)
        ]
        self.register_buffer("patterns", patterns)
        with torch.no_grad():
            self.enter = _stacked([member.enter for member in members], grouped=False)
            self.blocks = nn.ModuleList(
                _StreamBlock(blocks) for blocks in zip(*aligned, strict=True)
            )
            self.leave = nn.Sequential(
                _stacked([_normed(member) for member in members]),
                nn.GELU(),
                _stacked([cast(nn.Conv1d, member.leave[2]) for member in members]),
            )

    def forward(self, signals: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step.

        Args:
            signals: (1, channels).
            state: (rows, WIDTH); zeros at first.

        Returns:
            (1, OUTPUTS), logits as probabilities; the next state; and the patterns.
        """
        taps = state[self.tap_rows].reshape(-1, 2 * WIDTH)  # (blocks x members, 2 WIDTH)
        x = self.enter(signals.T).reshape(self.count, WIDTH)  # (members, WIDTH)
        inputs = []
        for block, past in zip(self.blocks, taps.split(self.count), strict=True):
            inputs.append(x)
            x = block(past, x)
        raw = self.leave(x.reshape(-1, 1))  # (members x OUTPUTS, 1)
        outputs = mean_outputs(decode_outputs(raw.reshape(self.count, 1, OUTPUTS)))
        probabilities = torch.cat(
            [torch.sigmoid(outputs[:, :2]), outputs[:, 2:5], torch.sigmoid(outputs[:, 5:])], dim=-1
        )
        next_state = torch.cat([state, *inputs])[self.next_rows]
        return probabilities, next_state, self.patterns + 0


class _StreamBlock(nn.Module):
    """The same block of every member, at its last step."""

    def __init__(self, blocks: Sequence[CausalBlock]) -> None:
        super().__init__()
        self.conv = _Product([block.conv for block in blocks])
        self.mix = _Product([block.mix for block in blocks])

    def forward(self, past: Tensor, x: Tensor) -> Tensor:
        """Two past steps (members, 2 WIDTH) and this one (members, WIDTH) to (members, WIDTH)."""
        value, gate = self.conv(torch.cat([past, x], dim=1)).split(WIDTH, dim=1)
        return x + self.mix(nn.functional.gelu(value) * torch.sigmoid(gate))


class _Product(nn.Module):
    """A convolution of each member at its last step, (members, in) to (members, out).

    One product with the weights of all members, side by side; a row's products with the weights of
    other members are dropped, for reading a weight costs more than using it twice. The weights are
    one plain matrix, so that the runtime can lay them out for the processor once, and in 8 bits
    each output has its own scale.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, layers: Sequence[nn.Conv1d]) -> None:
        super().__init__()
        # (out, in, taps) to (taps x in, out), the oldest tap first
        weights = [layer.weight.permute(2, 1, 0).flatten(0, 1) for layer in layers]
        self.count = len(layers)
        self.register_buffer("weight", torch.cat(weights, dim=1))
        self.register_buffer("bias", torch.cat([layer.get_parameter("bias") for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        products = x @ self.weight + self.bias  # (members, members x out)
        return products.reshape(self.count**2, -1)[:: self.count + 1]  # the diagonal


def _aligned(blocks: list[CausalBlock], longest: list[CausalBlock]) -> list[CausalBlock]:
    """As many blocks as the longest has, with ones that do nothing in between."""
    left, aligned = list(blocks), []
    for block in longest:
        if left and left[0].past == block.past:
            aligned.append(left.pop(0))
        else:
            idle = copy.deepcopy(block)
            for parameter in idle.parameters():
                nn.init.zeros_(parameter)
            aligned.append(idle)
    if left:
        raise ValueError("the blocks of a member are not some of the longest one's")
    return aligned


def _normed(member: SpotterNetwork) -> nn.Conv1d:
    """The first layer after the blocks, with the normalization before it folded in."""
    norm, layer = member.norm, cast(nn.Conv1d, copy.deepcopy(member.leave[0]))
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = norm.weight / torch.sqrt(variance + norm.eps)  # (WIDTH,)
    layer.get_parameter("bias").add_(layer.weight[..., 0] @ (norm.bias - mean * scale))
    layer.get_parameter("weight").mul_(scale[None, :, None])
    return layer


def _stacked(layers: Sequence[nn.Conv1d], grouped: bool = True) -> nn.Conv1d:
    """One layer whose outputs are those of all; grouped, each has inputs of its own."""
    first, count = layers[0], len(layers)
    whole = nn.Conv1d(
        first.in_channels * (count if grouped else 1),
        first.out_channels * count,
        1,
        groups=count if grouped else 1,
    )
    for name in ("weight", "bias"):
        parts: list[Tensor] = [layer.get_parameter(name) for layer in layers]
        whole.get_parameter(name).copy_(torch.cat(parts))
    return whole
