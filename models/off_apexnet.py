"""Off-ApexNet (Gan et al., 2019): a stream for horizontal, a stream for vertical flow."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _stream() -> nn.Sequential:
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
            nn.Linear(1024, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        image = x[:, 0] / 127.5 - 1
        u, v = image[:, 2:3], image[:, 1:2]
        return self.head(torch.cat([self.horizontal(u), self.vertical(v)], dim=1))
