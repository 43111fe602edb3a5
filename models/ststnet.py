"""STSTNet (Liong et al., FG 2019): three shallow streams of convolutions over one flow image."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
            nn.Flatten(), nn.Linear(16 * 5 * 5, 400), nn.ReLU(), nn.Linear(400, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        image = x[:, 0] / 127.5 - 1
        return self.head(self.pool(torch.cat([stream(image) for stream in self.streams], dim=1)))
