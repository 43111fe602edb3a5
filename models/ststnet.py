"""STSTNet: three shallow streams of convolutions over one flow image.

Liong, Gan, See, Khor, Huang, "Shallow Triple Stream Three-dimensional CNN (STSTNet) for
Micro-expression Recognition", FG 2019, arXiv 1902.03634.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.causalnet import CLASSES


class STSTNet(nn.Module):
    """162,051 parameters at 28 x 28, as printed. Sees the onset-to-apex flow image."""

    composites = False

    def __init__(self) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 3, padding=1)
            )
            for channels in (3, 5, 8)
        )
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * 5 * 5, 400), nn.ReLU(), nn.Linear(400, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, 3) of whole images (b, 4, 3, 28, 28), raw 0..255, BGR."""
        image = x[:, 0] / 127.5 - 1  # (b, 3, 28, 28)
        maps = torch.cat([stream(image) for stream in self.streams], dim=1)  # (b, 16, 10, 10)
        return self.head(self.pool(maps))  # of (b, 16, 5, 5)
