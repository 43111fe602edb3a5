"""A layer of a vision transformer, as MMNet and SRMCL use it.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
ICLR 2021. Shapes in comments: b clips, t tokens, d wide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """Every token looks at all: (b, t, d) to (b, t, d)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        # (b, heads, t, d / heads) each
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v)
        return self.out(seen.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Self-attention and a perceptron, each after a norm and beside a shortcut.

    Args:
        dim: Width of the tokens.
        heads: Of the attention.
        ratio: Width of the perceptron, in widths of the tokens.
        skipped: Probability that training leaves a branch out for a clip (stochastic depth: Huang
            et al., "Deep Networks with Stochastic Depth", ECCV 2016).
    """

    def __init__(self, dim: int, heads: int, ratio: int = 2, skipped: float = 0.0) -> None:
        super().__init__()
        self.skipped = skipped
        self.before_attention = nn.LayerNorm(dim, eps=1e-6)
        self.attention = SelfAttention(dim, heads)
        self.before_perceptron = nn.LayerNorm(dim, eps=1e-6)
        self.perceptron = nn.Sequential(
            nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim)
        )

    def _branch(self, x: Tensor) -> Tensor:
        if not self.training or not self.skipped:
            return x
        kept = torch.rand(len(x), 1, 1, device=x.device) >= self.skipped
        return x * kept / (1 - self.skipped)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._branch(self.attention(self.before_attention(x)))
        return x + self._branch(self.perceptron(self.before_perceptron(x)))
