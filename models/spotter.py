"""The spotting networks: causal temporal convolutions over a face's motion signals."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Per step: end logit, inside logit, seconds since the offset, length in seconds, apex fraction,
# macro logit.
OUTPUTS = 6
# Channels between the blocks.
WIDTH = 128


@dataclass(frozen=True, slots=True)
class Member:
    """How one of the networks that answer together is made.

    Attributes:
        dilations: Of its blocks, in steps.
        dropout: While it is trained.
    """

    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1, 2, 4)
    dropout: float = 0.1


# Two whose mean finds more on development clips than one alone, and as much on held-out ones
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
        """(batch, width, steps) to the same; before the first step there is nothing."""
        value, gate = self.conv(nn.functional.pad(x, (self.past, 0))).chunk(2, dim=1)
        return x + self.mix(self.dropout(nn.functional.gelu(value) * torch.sigmoid(gate)))


class SpotterNetwork(nn.Module):
    """Signals (batch, steps, channels) to (batch, steps, OUTPUTS).

    Step i tells of the time up to step i: whether a micro-expression has just ended (`end`), and
    whether one was under way a moment ago (`inside`), with the place of its offset, its length
    and where in it the apex lies; and whether a macro-expression was under way half a second ago.
    """

    def __init__(self, channels: int, made: Member = MEMBERS[0]) -> None:
        super().__init__()
        self.enter = nn.Conv1d(channels, WIDTH, 1)
        self.blocks = nn.Sequential(
            *(CausalBlock(WIDTH, dilation, made.dropout) for dilation in made.dilations)
        )
        self.norm = nn.BatchNorm1d(WIDTH)
        self.leave = nn.Sequential(
            nn.Conv1d(WIDTH, WIDTH, 1), nn.GELU(), nn.Conv1d(WIDTH, OUTPUTS, 1)
        )

    def forward(self, signals: Tensor) -> Tensor:
        hidden = self.norm(self.blocks(self.enter(signals.transpose(1, 2))))
        return told_of(self.leave(hidden).transpose(1, 2))


def told_of(out: Tensor) -> Tensor:
    """(..., OUTPUTS) of the last layer as logits, seconds and a fraction."""
    logits, since, length, apex = out[..., :2], out[..., 2:3], out[..., 3:4], out[..., 4:5]
    return torch.cat(
        [logits, 0.1 + 0.1 * since, 0.3 + 0.2 * length, torch.sigmoid(apex), out[..., 5:]],
        dim=-1,
    )


class SpotterEnsemble(nn.Module):
    """Networks that answer together, with the signals and outputs of one of them.

    Logits are averaged; offset, length and apex by how sure each is of an end.

    Args:
        members: The networks, of the same width.
    """

    def __init__(self, members: Sequence[SpotterNetwork]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, signals: Tensor) -> Tensor:
        return mean_of(torch.stack([member(signals) for member in self.members]))


def mean_of(told: Tensor) -> Tensor:
    """(members, ..., OUTPUTS) to (..., OUTPUTS)."""
    sure = torch.sigmoid(told[..., :1]) + 1e-6
    places = (told[..., 2:5] * sure).sum(0) / sure.sum(0)
    logits = told.mean(0)
    return torch.cat([logits[..., :2], places, logits[..., 5:]], dim=-1)


class StreamSpotter(nn.Module):
    """What the runtime needs of the networks: one step of a stream, with probabilities.

    Most of what a step costs is to read the weights and to handle operations, so the members share
    the latter: row by row, each goes through the weights of all, and what its own ones gave is
    kept. Members with fewer blocks than the longest do nothing where they lack one.

    Args:
        ensemble: The networks; their weights are copied.
        patterns: (cells x 2, patterns), through which their signals were seen; handed out as it is.

    Raises:
        ValueError: A member's blocks are not some of the longest one's, in the same order.
    """

    patterns: Tensor

    def __init__(self, ensemble: SpotterEnsemble, patterns: Tensor) -> None:
        super().__init__()
        members: list[SpotterNetwork] = list(ensemble.members)
        longest = max((list(member.blocks) for member in members), key=len)
        aligned = [_aligned(list(member.blocks), longest) for member in members]
        self.count = len(members)
        pasts = [block.past for block in longest]
        firsts = [sum(pasts[:i]) for i in range(len(pasts) + 1)]
        # Steps of a state, block after block: those that the next one looks back on.
        past = firsts[-1]
        # Where each comes from after this one, what has entered the blocks being behind the old
        # state.
        moved_on = list(range(1, past + 1))
        for i, after in enumerate(firsts[1:]):
            moved_on[after - 1] = past + i
        # A step has a row for each member.
        everyone = range(self.count)
        self.rows = past * self.count
        self.moved_on = [step * self.count + member for step in moved_on for member in everyone]
        # Those that a block looks at, two of each member.
        self.looked_at = [
            (first + tap * length // 2) * self.count + member
            for first, length in zip(firsts[:-1], pasts, strict=True)
            for member in everyone
            for tap in (0, 1)
        ]
        self.register_buffer("patterns", patterns)
        with torch.no_grad():
            self.enter = _stacked([member.enter for member in members], grouped=False)
            self.products = nn.ModuleList(
                nn.ModuleList(
                    [
                        _Product([block.conv for block in same]),
                        _Product([block.mix for block in same]),
                    ]
                )
                for same in zip(*aligned, strict=True)
            )
            self.leave = nn.Sequential(
                _stacked([_normed(member) for member in members]),
                nn.GELU(),
                _stacked([member.leave[2] for member in members]),
            )

    def forward(self, signals: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step.

        Args:
            signals: (1, channels).
            state: (rows, WIDTH); zeros at first.

        Returns:
            (1, OUTPUTS), logits as probabilities; the next state; and the patterns.
        """
        looked_at = state[self.looked_at].reshape(-1, 2 * WIDTH)
        x = self.enter(signals.T).reshape(self.count, WIDTH)
        entered = []
        for (conv, mix), past in zip(self.products, looked_at.split(self.count), strict=True):
            entered.append(x)
            value, gate = conv(torch.cat([past, x], dim=1)).split(WIDTH, dim=1)
            x = x + mix(nn.functional.gelu(value) * torch.sigmoid(gate))
        out = self.leave(x.reshape(-1, 1)).reshape(self.count, 1, OUTPUTS)
        told = mean_of(told_of(out))
        ends = torch.sigmoid(told[:, :2]), told[:, 2:5], torch.sigmoid(told[:, 5:])
        after = torch.cat([state, *entered])[self.moved_on]
        return torch.cat(ends, dim=-1), after, self.patterns + 0


class _Product(nn.Module):
    """A convolution of each member at its last step, (members, in) to (members, out).

    One product with the weights of all, beside each other: what a row gives with another member's
    is left alone, for reading a weight costs more than using it twice. As one plain matrix they can
    be laid out for the processor once, and each output has its own scale in 8 bits.
    """

    def __init__(self, layers: Sequence[nn.Conv1d]) -> None:
        super().__init__()
        # Taps, the older first, by what enters; and what leaves.
        weights = [layer.weight.permute(2, 1, 0).flatten(0, 1) for layer in layers]
        self.count = len(layers)
        self.register_buffer("weight", torch.cat(weights, dim=1))
        self.register_buffer("bias", torch.cat([layer.bias for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        all_of_all = x @ self.weight + self.bias
        return all_of_all.reshape(self.count**2, -1)[:: self.count + 1]


def _aligned(blocks: list[CausalBlock], longest: list[CausalBlock]) -> list[CausalBlock]:
    """As many blocks as the longest has, with ones that do nothing in between."""
    left, found = list(blocks), []
    for block in longest:
        if left and left[0].past == block.past:
            found.append(left.pop(0))
        else:
            idle = copy.deepcopy(block)
            for parameter in idle.parameters():
                nn.init.zeros_(parameter)
            found.append(idle)
    if left:
        raise ValueError("the blocks of a member are not some of the longest one's")
    return found


def _normed(member: SpotterNetwork) -> nn.Conv1d:
    """The first layer after the blocks, with the normalisation before it."""
    norm, layer = member.norm, copy.deepcopy(member.leave[0])
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    layer.bias += layer.weight[..., 0] @ (norm.bias - norm.running_mean * scale)
    layer.weight *= scale[None, :, None]
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
    whole.weight.copy_(torch.cat([layer.weight for layer in layers]))
    whole.bias.copy_(torch.cat([layer.bias for layer in layers]))
    return whole
