"""MMNet: the change from onset to apex beside the places of the face.

Li, Sui, Zhu, Zhao, "MMNet: Muscle motion-guided network for micro-expression recognition", IJCAI
2022, arXiv 2201.05297. The main branch sees only the difference of the key frames, so little of who
it is. A small vision transformer over the onset tells it where on the face a motion lies.

Shapes in comments: b clips, c channels, h x w pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.causalnet import CLASSES
from models.inputs import KEY_FRAMES
from models.vit import Layer

# Of ImageNet's images, RGB, 0 to 1.
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STRIDE = 16
"""The main branch halves the image four times."""
_WIDTH = 512
"""Of the position module's tokens, and of the main branch's last block."""


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class ContinuousAttention(nn.Module):
    """A residual block whose attention goes on from that of the block before.

    From (b, inputs, h, w) to (b, outputs, h / stride, w / stride).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(inputs, outputs, 3, stride), nn.ReLU(), _convolution(outputs, outputs, 1)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(inputs, outputs, 1, stride)
        self.look = _convolution(2, 1, 1)

    def forward(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """The block's output and its attention (b, 1, h, w), from those of the block before."""
        out = functional.relu(self.body(x) + self.shortcut(x))
        seen = torch.cat([out.mean(1, keepdim=True), out.amax(1, keepdim=True)], dim=1)
        attention = self.look(seen).sigmoid()
        if before is not None:
            attention = attention * functional.max_pool2d(before, 3, stride=2, padding=1)
        return out * attention, attention


class PositionCalibration(nn.Module):
    """Where things are on the face: the onset, (b, 3, h, w), to (b, 512, places, places).

    A token is a pixel of the onset reduced to places x places.
    """

    def __init__(self, places: int, depth: int = 3, heads: int = 4, skipped: float = 0.3) -> None:
        super().__init__()
        self.places = places
        self.embed = nn.Linear(3, _WIDTH)
        self.position = nn.Parameter(0.02 * torch.randn(1, places**2, _WIDTH))
        self.layers = nn.Sequential(
            *(Layer(_WIDTH, heads, skipped=skipped * i / (depth - 1)) for i in range(depth))
        )
        self.norm = nn.LayerNorm(_WIDTH, eps=1e-6)

    def forward(self, onset: Tensor) -> Tensor:
        small = functional.interpolate(
            onset, size=(self.places, self.places), mode="bilinear", antialias=True
        )
        tokens = self.embed(small.flatten(2).transpose(1, 2)) + self.position  # (b, places^2, 512)
        seen = self.norm(self.layers(tokens))
        return seen.transpose(1, 2).unflatten(-1, (self.places, self.places))


class MMNet(nn.Module):
    """9.24 million parameters with three classes, as printed. Sees onset and apex in colour.

    Args:
        classes: How many there are.
        side: Height and width of the frames, a multiple of 16.
    """

    planes = KEY_FRAMES

    def __init__(self, classes: int = CLASSES, side: int = KEY_FRAMES.shape[-1]) -> None:
        super().__init__()
        places = side // _STRIDE
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("spread", torch.tensor(_SPREAD)[:, None, None], persistent=False)
        self.stem = nn.Sequential(
            _convolution(3, 180, 3, stride=2), nn.ReLU(), _convolution(180, 128, 3), nn.ReLU()
        )
        self.blocks = nn.ModuleList(
            [
                ContinuousAttention(128, 128),
                ContinuousAttention(128, 128, stride=2),
                ContinuousAttention(128, 256, stride=2),
                ContinuousAttention(256, _WIDTH, stride=2),
            ]
        )
        self.position = PositionCalibration(places)
        self.head = nn.Linear(_WIDTH * places**2, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of key frames (b, 6, h, w), raw 0..255, BGR: onset, apex."""
        # (b, 3, h, w) each, RGB
        onset, apex = (
            (frame.float().flip(1) / 255 - self.mean) / self.spread for frame in x.split(3, dim=1)
        )
        motion, attention = self.stem(apex - onset), None
        for block in self.blocks:
            motion, attention = block(motion, attention)
        return self.head((motion + self.position(onset)).flatten(1))  # (b, 512, h / 16, w / 16)
