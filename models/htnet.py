"""HTNet: a nested transformer over the composite of four facial areas.

Wang, Zhang, Luo, Sankaranarayana, "HTNet for micro-expression recognition", Neurocomputing 2024,
arXiv 2307.14637. Its body is a NesT (see `models.causalnet`), which CausalNet took over as encoder.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.causalnet import CLASSES, ChannelNorm, PatchEmbedding, nested_levels


class HTNet(nn.Module):
    """Sees the onset-to-apex composite.

    Args:
        dim: Channels of the first level; they double with each. The paper's best is 256.
        block_repeats: Transformer layers of the three levels; the paper's best are 2, 2 and 10.
    """

    def __init__(self, dim: int = 256, block_repeats: tuple[int, int, int] = (2, 2, 10)) -> None:
        super().__init__()
        widths = (dim, 2 * dim, 4 * dim)
        self.to_patch_embedding = PatchEmbedding(7, dim)
        self.layers = nested_levels(widths, 1, block_repeats, heads=3)
        self.norm = ChannelNorm(widths[-1])
        self.head = nn.Linear(widths[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, 3) of composites (b, 4, 3, 28, 28), raw 0..255, BGR."""
        encoded = self.layers(self.to_patch_embedding(x[:, 0] / 127.5 - 1))  # (b, 4 dim, 1, 1)
        return self.head(self.norm(encoded).mean((-2, -1)))
