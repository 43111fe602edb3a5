"""HTNet (Wang et al., 2023): a nested transformer over the composite of four facial areas."""

from __future__ import annotations

from torch import Tensor, nn

from models.causalnet import ChannelNorm, PatchEmbedding, nested_levels, run_levels


class HTNet(nn.Module):
    """Sees the onset-to-apex composite. CausalNet's released encoder is this network's body.

    Args:
        dim: Width of the first level; it doubles with each. The paper's best is 256.
        block_repeats: Transformer layers of the three levels; the paper's best are 2, 2 and 10.
    """

    def __init__(self, dim: int = 256, block_repeats: tuple[int, int, int] = (2, 2, 10)) -> None:
        super().__init__()
        widths = (dim, 2 * dim, 4 * dim)
        self.to_patch_embedding = PatchEmbedding(7, dim)
        self.layers = nested_levels(widths, 1, block_repeats, heads=3)
        self.norm = ChannelNorm(widths[-1])
        self.head = nn.Linear(widths[-1], 3)

    def forward(self, x: Tensor) -> Tensor:
        encoded = run_levels(self.layers, self.to_patch_embedding(x[:, 0] / 127.5 - 1))
        return self.head(self.norm(encoded).mean((-2, -1)))
