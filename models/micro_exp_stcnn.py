"""MicroExpSTCNN: a shallow convolution over the face and over time.

Reddy, Karri, Dubey, Mukherjee, "Spontaneous Facial Micro-Expression Recognition using 3D
Spatiotemporal Convolutional Neural Networks", IJCNN 2019, arXiv 1904.01390, as for SMIC: 18 grey
frames of 64 x 64.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.causalnet import CLASSES
from models.inputs import SEQUENCE


class MicroExpSTCNN(nn.Module):
    """1.64 million parameters with three classes. Sees the whole clip, from onset to offset.

    Args:
        classes: How many there are.
    """

    planes = SEQUENCE

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(1, 32, (15, 3, 3)),
            nn.ReLU(),
            nn.MaxPool3d(3),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(32 * 1 * 20 * 20, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
        )
        self.head = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of grey faces (b, 18, 64, 64), raw 0..255."""
        # A clip's own brightness and contrast say nothing of its motion.
        x = x.float() - x.float().mean((1, 2, 3), keepdim=True)
        x = x / (x.std((1, 2, 3), keepdim=True) + 1)
        return self.head(self.body(x[:, None]))
