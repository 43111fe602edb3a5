"""The spotting network: a small causal temporal convolution over a face's motion signals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Per step: end logit, inside logit, seconds since the offset, length in seconds, apex fraction,
# macro logit.
OUTPUTS = 6
_DILATIONS = (1, 2, 4, 8, 16, 1, 2, 4)
# Steps that the blocks together look back on, and those on which the last output depends.
PAST_STEPS = 2 * sum(_DILATIONS)
RECEPTIVE_STEPS = 1 + PAST_STEPS
# Channels between the blocks.
WIDTH = 36


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
        return self.go_on(nn.functional.pad(x, (self.past, 0)))

    def go_on(self, x: Tensor) -> Tensor:
        """(batch, width, past + steps) to (batch, width, steps)."""
        value, gate = self.conv(x).chunk(2, dim=1)
        new = self.mix(self.dropout(nn.functional.gelu(value) * torch.sigmoid(gate)))
        return x[..., self.past :] + new


class SpotterNetwork(nn.Module):
    """Signals (batch, steps, channels) to (batch, steps, OUTPUTS).

    Step i tells of the time up to step i: whether a micro-expression has just ended (`end`), and
    whether one was under way a moment ago (`inside`), with the place of its offset, its length
    and where in it the apex lies; and whether a macro-expression was under way half a second ago.
    """

    def __init__(self, channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.enter = nn.Conv1d(channels, WIDTH, 1)
        self.blocks = nn.Sequential(
            *(CausalBlock(WIDTH, dilation, dropout) for dilation in _DILATIONS)
        )
        self.norm = nn.BatchNorm1d(WIDTH)
        self.leave = nn.Sequential(
            nn.Conv1d(WIDTH, WIDTH, 1), nn.GELU(), nn.Conv1d(WIDTH, OUTPUTS, 1)
        )

    def forward(self, signals: Tensor) -> Tensor:
        return self._told(self.blocks(self.enter(signals.transpose(1, 2))))

    def step(self, signals: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of a stream.

        Args:
            signals: (batch, 1, channels).
            state: (batch, WIDTH, PAST_STEPS) what the blocks still look back on; zeros at first.

        Returns:
            (batch, 1, OUTPUTS) and the state for the next step.
        """
        x = self.enter(signals.transpose(1, 2))
        kept, first = [], 0
        for block in self.blocks:
            seen = torch.cat([state[..., first : first + block.past], x], dim=-1)
            kept.append(seen[..., 1:])
            first += block.past
            x = block.go_on(seen)
        return self._told(x), torch.cat(kept, dim=-1)

    def _told(self, hidden: Tensor) -> Tensor:
        out = self.leave(self.norm(hidden)).transpose(1, 2)
        logits, since, length, apex = out[..., :2], out[..., 2:3], out[..., 3:4], out[..., 4:5]
        return torch.cat(
            [logits, 0.1 + 0.1 * since, 0.3 + 0.2 * length, torch.sigmoid(apex), out[..., 5:]],
            dim=-1,
        )


class StreamSpotter(nn.Module):
    """What the runtime needs of the network: one step of a stream, with probabilities.

    Args:
        network: The network.
        patterns: (cells x 2, patterns), through which its signals were seen; handed out as it is.
    """

    patterns: Tensor

    def __init__(self, network: SpotterNetwork, patterns: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("patterns", patterns)

    def forward(self, signals: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(1, channels) and a state to (1, OUTPUTS), logits as probabilities; the next state; and
        the patterns.
        """
        told, state = self.network.step(signals[:, None], state)
        told = told[:, 0]
        ends = torch.sigmoid(told[:, :2]), told[:, 2:5], torch.sigmoid(told[:, 5:])
        return torch.cat(ends, dim=-1), state, self.patterns + 0
