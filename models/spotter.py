"""The spotting network: a small causal temporal convolution over a face's motion signals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Per step: end logit, inside logit, seconds since the offset, length in seconds, apex fraction,
# macro logit.
OUTPUTS = 6
_DILATIONS = (1, 2, 4, 8, 16, 1, 2, 4)
# Steps on which the last output depends.
RECEPTIVE_STEPS = 1 + 2 * sum(_DILATIONS)


class CausalBlock(nn.Module):
    """Dilated causal convolution with a residual; looks back `2 * dilation` steps."""

    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
        self.conv = nn.Conv1d(width, 2 * width, 3, dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.conv(self.pad(x)).chunk(2, dim=1)
        return x + self.mix(self.dropout(torch.nn.functional.gelu(value) * torch.sigmoid(gate)))


class SpotterNetwork(nn.Module):
    """Signals (batch, steps, channels) to (batch, steps, OUTPUTS).

    Step i tells of the time up to step i: whether a micro-expression has just ended (`end`), and
    whether one was under way a moment ago (`inside`), with the place of its offset, its length
    and where in it the apex lies; and whether a macro-expression was under way half a second ago.
    """

    def __init__(self, channels: int, width: int = 36, dropout: float = 0.1) -> None:
        super().__init__()
        self.enter = nn.Conv1d(channels, width, 1)
        self.blocks = nn.Sequential(
            *(CausalBlock(width, dilation, dropout) for dilation in _DILATIONS)
        )
        self.norm = nn.BatchNorm1d(width)
        self.leave = nn.Sequential(
            nn.Conv1d(width, width, 1), nn.GELU(), nn.Conv1d(width, OUTPUTS, 1)
        )

    def forward(self, signals: Tensor) -> Tensor:
        hidden = self.norm(self.blocks(self.enter(signals.transpose(1, 2))))
        out = self.leave(hidden).transpose(1, 2)
        logits, since, length, apex = out[..., :2], out[..., 2:3], out[..., 3:4], out[..., 4:5]
        return torch.cat(
            [logits, 0.1 + 0.1 * since, 0.3 + 0.2 * length, torch.sigmoid(apex), out[..., 5:]],
            dim=-1,
        )


class LastStep(nn.Module):
    """What the runtime needs of the network: probabilities and numbers of the last step.

    Args:
        network: The network.
        patterns: (cells x 2, patterns), through which its signals were seen; handed out as it is.
    """

    patterns: Tensor

    def __init__(self, network: SpotterNetwork, patterns: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("patterns", patterns)

    def forward(self, signals: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, steps, channels) to (batch, OUTPUTS), logits as probabilities; and patterns."""
        last = self.network(signals)[:, -1]
        ends = torch.sigmoid(last[:, :2]), last[:, 2:5], torch.sigmoid(last[:, 5:])
        return torch.cat(ends, dim=-1), self.patterns + 0
