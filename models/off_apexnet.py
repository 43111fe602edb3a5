"""Off-ApexNet: a stream of convolutions for horizontal flow, and one for vertical flow.

Gan, Liong, Yau, Huang, Tan, "OFF-ApexNet on micro-expression recognition system", Signal
Processing: Image Communication 74, 2019, arXiv 1805.08699.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.causalnet import CLASSES


def _stream() -> nn.Sequential:
    """A channel (b, 1, 28, 28) to features (b, 16 * 7 * 7)."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )


class OffApexNet(nn.Module):
    """2.66 million parameters at 28 x 28, as printed. Sees u and v of onset to apex."""

    composites = False

    def __init__(self) -> None:
        super().__init__()
        self.horizontal = _stream()
        self.vertical = _stream()
        self.head = nn.Sequential(
            nn.Linear(2 * 16 * 7 * 7, 1024),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(1024, 1024),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(1024, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, 3) of whole images (b, 4, 3, 28, 28), raw 0..255, BGR."""
        image = x[:, 0] / 127.5 - 1  # (b, 3, 28, 28)
        u, v = image[:, 2:3], image[:, 1:2]  # (b, 1, 28, 28) each
        return self.head(torch.cat([self.horizontal(u), self.vertical(v)], dim=1))
