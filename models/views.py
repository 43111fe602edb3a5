"""Flow pairs as the networks see them, in PyTorch.

The twin of `realtime_mer.recognition.flow_pair.composites`. It works on whole batches, so that
training can call it after augmentation, and exports to ONNX, so that the runtime passes nothing but
the flow pair.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from realtime_mer.recognition.flow_pair import CROPS, direction_image


def _direction_table() -> Tensor:
    """(65536, 3) uint8, BGR of the direction image at row 256 * v + u."""
    v, u = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    image = np.dstack([np.zeros_like(v), v, u]).astype(np.uint8)  # (256, 256, 3)
    return torch.from_numpy(direction_image(image).reshape(-1, 3))


def mirrored(pairs: Tensor) -> Tensor:
    """Flow pairs (..., 28, 28, 3), 0..255, of the same motions in a mirror.

    Left and right change places and u, channel 2, changes its sign. The channel is min-max scaled
    to bytes, so -u becomes 255 - u.
    """
    flipped = pairs.flip(-2)
    return torch.cat([flipped[..., :2], 255 - flipped[..., 2:]], dim=-1)


def crop(images: Tensor) -> Tensor:
    """Composites (..., 28, 28) of the four crops of images (..., 28, 28)."""
    a, b, c, d = (images[..., r : r + 14, k : k + 14] for r, k in CROPS)
    return torch.cat([torch.cat([a, b], dim=-1), torch.cat([c, d], dim=-1)], dim=-2)


class Views(nn.Module):
    """Flow pairs (n, 2, 28, 28, 3), 0..255, to flow and direction images (n, 4, 3, 28, 28).

    Args:
        composites: Compose each image of the four crops that CausalNet sees; else keep it whole.
    """

    directions: Tensor

    def __init__(self, composites: bool = True) -> None:
        super().__init__()
        self.composites = composites
        self.register_buffer("directions", _direction_table(), persistent=False)

    def forward(self, pairs: Tensor) -> Tensor:
        v, u = pairs[..., 1].long(), pairs[..., 2].long()  # (n, 2, 28, 28) each
        directions = self.directions[v * 256 + u].float()  # (n, 2, 28, 28, 3)
        images = torch.cat([pairs.float(), directions], dim=1)  # (n, 4, 28, 28, 3)
        images = images.permute(0, 1, 4, 2, 3)  # (n, 4, 3, 28, 28)
        return crop(images) if self.composites else images
