"""Off-TANet: a light residual network with triple attention over one flow image.

Zhang, Liu, Zhou, "Off-TANet: A Lightweight Neural Micro-expression Recognizer with Optical Flow
Features and Integrated Attention Mechanism", PRICAI 2021. Channel, spatial and self attention sit
in its last residual block.

Shapes in comments: b clips, c channels, h x w pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.causalnet import CLASSES


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, then half the size: to (b, outputs, h / 2, w / 2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolution(inputs, outputs), _convolution(outputs, outputs))
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(self.body(x) + self.shortcut(x), 2)


class ChannelAttention(nn.Module):
    """Which channels matter: mean and maximum of each, through one small perceptron."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.perceptron = nn.Sequential(
            nn.Conv2d(channels, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(1, channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        # (b, c, 1, 1) each
        mean, top = x.mean((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
        return x * (self.perceptron(mean) + self.perceptron(top)).sigmoid()


class SpatialAttention(nn.Module):
    """Which places matter: mean and maximum over the channels, through one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)  # (b, 2, h, w)
        return x * self.look(seen).sigmoid()


class SelfAttention(nn.Module):
    """Rows attend to rows, channel by channel, with a fixed code of their places.

    As published, the weights are a softmax over the whole map and gate the values place by place.
    Each channel has weights of its own, so all that the number of heads does is to round the
    number of channels down to a multiple.

    Args:
        channels: Channels of the map.
        size: Its height and width.
        heads: Heads, as published.
    """

    places: Tensor

    def __init__(self, channels: int, size: int, heads: int = 4) -> None:
        super().__init__()
        width = channels // heads * heads
        self.to_q = nn.Conv2d(channels, width, 1)
        self.to_k = nn.Conv2d(channels, width, 1)
        self.to_v = nn.Conv2d(channels, width, 1)
        step = torch.arange(size)
        angle = 10000.0 ** -(step.div(2, rounding_mode="floor") / size)
        code = torch.where(step % 2 == 0, angle.sin(), angle.cos())
        self.register_buffer("places", code[None] + code[:, None])  # (size, size)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_q(x), self.to_k(x), self.to_v(x)
        score = q @ (k + self.places).transpose(-1, -2)  # (b, c, h, h), and h = w
        return score.flatten(2).softmax(-1).reshape(score.shape) * v  # (b, c, h, w)


class TripleAttentionBlock(nn.Module):
    """A residual block with the three attentions between its convolutions."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(inputs, inputs),
            ChannelAttention(inputs),
            SpatialAttention(),
            SelfAttention(inputs, size),
            _convolution(inputs, outputs),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(self.body(x) + self.shortcut(x), 2)


class OffTANet(nn.Module):
    """59,403 parameters, as printed. Sees the onset-to-apex flow image, enlarged to 112 x 112."""

    composites = False

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 7, stride=2, padding=3),
            nn.ReLU(),
            nn.BatchNorm2d(8),
            ResidualBlock(8, 18),
            ResidualBlock(18, 28),
            TripleAttentionBlock(28, 8, size=14),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(8 * 7 * 7, 64),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(64, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, 3) of whole images (b, 4, 3, 28, 28), raw 0..255, BGR."""
        image = functional.interpolate(
            x[:, 0] / 127.5 - 1, size=(112, 112), mode="bilinear", align_corners=False
        )
        return self.head(self.body(image))  # of (b, 8 * 7 * 7)
