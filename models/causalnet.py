"""CausalNet: micro-expressions from the cause and effect of two motions.

Zhang, Tang, Chen, "Rethinking Key-frame-based Micro-expression Recognition: A Robust and Accurate
Framework Against Key-frame Errors", ICCV 2025, arXiv 2508.06640.

The input is four 28 x 28 composites (see `realtime_mer.recognition.flow_pair`): the flow images
onset to apex (rise) and apex to offset (fall), and the direction images of both. Each shows four
positions of the face. In the order of the paper, and of this file:

1. Two encoders, one for the flow images and one for the direction images, give four tokens each.
2. In the Causal Motion Position Learning Module (CMPLM) the two direction images attend to each
   other over the four positions, with the mask M and the penalty P. The result is added to the
   flow tokens.
3. The Causal Attention Block (CAB) attends in space, then in time, forward (rise to fall) and
   backward, and Causal Relation Mining (CRM) compares the two ways.
4. A head reads [relation, forward, backward].

Shapes in comments: b clips, c channels, h x w pixels or patches, n = 4 positions, d channels of a
token.

>>> network = CausalNet.compact()
>>> network(torch.zeros(2, 4, 3, 28, 28)).shape
torch.Size([2, 3])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 3
POSITIONS = 4
GAMMA = 0.5
"""Strength of the penalty P, as in the released training."""


def position_mask() -> Tensor:
    """M: 1 where two positions of the 2 x 2 grid are the same or share a side, else 0."""
    return 1 - torch.eye(POSITIONS).flip(0)


def position_penalty(gamma: float) -> Tensor:
    """P: -(j + 1) gamma in column j where M is 0, else 0."""
    steps = torch.arange(1, POSITIONS + 1, dtype=torch.float32)
    return (1 - position_mask()) * -gamma * steps


def feed_forward(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    """The perceptron after an attention, token by token."""
    return nn.Sequential(
        nn.Linear(dim, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, dim),
        nn.Dropout(dropout),
    )


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(b, n, d) to (b, heads, n, d / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)  # (b, n, heads, d / heads), then swapped


def join_heads(x: Tensor) -> Tensor:
    """(b, heads, n, d / heads) to (b, n, d)."""
    return x.transpose(1, 2).flatten(2)  # (b, n, heads, d / heads), then (b, n, d)


# --- Encoders ------------------------------------------------------------------------------------
#
# The released encoders, like HTNet's, are nested transformers: Zhang, Zhang, Zhao, Chen, Arik,
# Pfister, "Nested Hierarchical Transformer: Towards Accurate, Data-Efficient and Interpretable
# Visual Understanding" (NesT), AAAI 2022, arXiv 2105.12723. Attention stays inside blocks of
# patches; between the levels a convolution and a max pooling over the whole map merge 2 x 2 blocks
# (NesT's block aggregation). The names of the parts are those of lucidrains' vit-pytorch
# (nest.py), on which the released code builds: official checkpoints load by them. Hence lists
# whose parts have numbers for names.


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a map (b, c, h, w)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * self.g + self.b


class PreNorm(nn.Module):
    """A layer with a norm before it."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = ChannelNorm(dim)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class BlockFeedForward(nn.Module):
    """The perceptron of a block, patch by patch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # The identities stand where the released code has a dropout of 0.
        self.net = nn.Sequential(
            nn.Conv2d(dim, 4 * dim, 1),
            nn.GELU(),
            nn.Identity(),
            nn.Conv2d(4 * dim, dim, 1),
            nn.Identity(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class BlockAttention(nn.Module):
    """Attention between the patches of a block."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.width = dim // heads
        self.to_qkv = nn.Conv2d(dim, 3 * heads * self.width, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(heads * self.width, dim, 1), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        if h * w == 1:
            # A single patch attends to itself, whatever query and key are.
            return self.to_out(nn.functional.conv2d(x, self.to_qkv.weight.chunk(3)[2]))
        qkv = self.to_qkv(x).reshape(b, 3, self.heads, self.width, h * w)
        q, k, v = qkv.unbind(1)  # each (b, heads, width, h * w)
        score = q.transpose(-1, -2) @ k * self.width**-0.5  # (b, heads, h * w, h * w)
        out = v @ score.softmax(-1).transpose(-1, -2)  # (b, heads, width, h * w)
        return self.to_out(out.reshape(b, -1, h, w))  # (b, heads * width, h, w)


class BlockLayer(nn.ModuleList):
    """A layer of a block's transformer: attention, then perceptron."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(
            [PreNorm(dim, BlockAttention(dim, heads)), PreNorm(dim, BlockFeedForward(dim))]
        )

    def forward(self, x: Tensor) -> Tensor:
        attention, perceptron = self
        x = attention(x) + x
        return perceptron(x) + x


class BlockTransformer(nn.Module):
    """The transformer of a level, which every block goes through: (blocks, c, h, w) to the same."""

    def __init__(self, dim: int, tokens: int, depth: int, heads: int) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.randn(tokens))  # a number a patch, for all channels
        self.layers = nn.ModuleList(BlockLayer(dim, heads) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_emb.reshape(1, 1, *x.shape[-2:])  # (1, 1, h, w)
        for layer in self.layers:
            x = layer(x)
        return x


class PatchEmbedding(nn.Sequential):
    """Cuts an image into patches and embeds each; a patch is flattened rows, columns, channels."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__(nn.Identity(), nn.Conv2d(3 * patch * patch, dim, 1))
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        p = self.patch
        x = x.reshape(b, c, h // p, p, w // p, p)
        x = x.permute(0, 3, 5, 1, 2, 4)  # (b, p, p, c, h / p, w / p)
        return self[1](x.reshape(b, p * p * c, h // p, w // p))


class NestedLevel(nn.ModuleList):
    """A level of a nested transformer: attention in each block, then 2 x 2 blocks become one.

    Args:
        dim: Channels.
        wider: Channels of the next level; None for the last, which merges nothing.
        side: Blocks along each side of the map.
        tokens: Patches of a block.
        depth: Layers of the transformer.
        heads: Heads of its attention.
    """

    def __init__(
        self, dim: int, wider: int | None, side: int, tokens: int, depth: int, heads: int
    ) -> None:
        merge: nn.Module = nn.Identity()
        if wider is not None:
            merge = nn.Sequential(
                nn.Conv2d(dim, wider, 3, padding=1), ChannelNorm(wider), nn.MaxPool2d(3, 2, 1)
            )
        super().__init__([BlockTransformer(dim, tokens, depth, heads), merge])
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        transformer, merge = self
        b, c, h, w = x.shape
        s = self.side
        x = x.reshape(b, c, s, h // s, s, w // s)
        x = x.permute(0, 2, 4, 1, 3, 5)  # (b, s, s, c, h / s, w / s)
        x = transformer(x.reshape(b * s * s, c, h // s, w // s))  # each block alone
        x = x.reshape(b, s, s, c, h // s, w // s)
        x = x.permute(0, 3, 1, 4, 2, 5)  # (b, c, s, h / s, s, w / s)
        return merge(x.reshape(b, c, h, w))  # (b, wider, h / 2, w / 2)


def nested_levels(
    dims: tuple[int, ...], tokens: int, repeats: tuple[int, ...], heads: int
) -> nn.Sequential:
    """The levels of a nested transformer; from level to level the heads double.

    Args:
        dims: Channels of each level.
        tokens: Patches of a block, the same on all levels.
        repeats: Transformer layers of each level.
        heads: Heads of the first level.
    """
    levels = []
    for i, (dim, depth) in enumerate(zip(dims, repeats, strict=True)):
        left = len(dims) - 1 - i  # levels after this one, each of which halves the map
        wider = dims[i + 1] if left else None
        levels.append(NestedLevel(dim, wider, 2**left, tokens, depth, heads << i))
    return nn.Sequential(*levels)


# --- CMPLM: attention over the four positions ----------------------------------------------------


class MaskedAttention(nn.Module):
    """Multi-head attention over the four positions, with the mask M and the penalty P."""

    M_mask: Tensor
    P_matrix: Tensor

    def __init__(
        self, dim: int, heads: int, scale: float, gamma: float = GAMMA, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads = heads
        self.scale = scale
        self.register_buffer("M_mask", position_mask())
        self.register_buffer("P_matrix", position_penalty(gamma))
        self.to_q = nn.Linear(dim, dim)
        self.to_kv = nn.Linear(dim, 2 * dim)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))

    def split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.heads)

    def over_positions(self, x: Tensor, context: Tensor) -> Tensor:
        """The tokens x (b, n, d) attend to those of the context."""
        q = self.split(self.to_q(x))  # (b, heads, n, d / heads)
        k, v = (self.split(t) for t in self.to_kv(context).chunk(2, dim=-1))
        score = q @ k.transpose(-1, -2) * self.scale  # (b, heads, n, n)
        weight = (score * self.M_mask + self.P_matrix).softmax(-1) * self.M_mask
        return self.to_out(join_heads(weight @ v))


class PositionAttention(MaskedAttention):
    """Attention of one image's tokens to another's."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.over_positions(x, context)


class MotionPositionLayer(nn.ModuleList):
    """A layer of CMPLM; the fall attends to the rise that this layer has already changed."""

    def __init__(self, dim: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__(
            [
                nn.LayerNorm(dim),
                PositionAttention(dim, heads, scale=dim**-0.5, dropout=dropout),
                feed_forward(dim, expansion * dim, dropout),
            ]
        )

    def forward(self, rise: Tensor, fall: Tensor) -> tuple[Tensor, Tensor]:
        norm, attention, perceptron = self
        normed = norm(fall)
        rise = rise + attention(norm(rise), fall)
        fall = fall + attention(normed, rise)
        return rise + perceptron(rise), fall + perceptron(fall)


class MotionPositionLearning(nn.Module):
    """CMPLM: from each other, the direction images of rise and fall learn where muscles move."""

    def __init__(self, dim: int, depth: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MotionPositionLayer(dim, heads, expansion, dropout) for _ in range(depth)
        )

    def forward(self, rise: Tensor, fall: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (b, n, d) of the two direction images to the same."""
        for layer in self.layers:
            rise, fall = layer(rise, fall)
        return rise, fall


# --- CAB: attention in space and time, forward and backward --------------------------------------


class SpatialTemporalAttention(MaskedAttention):
    """Attention in space inside each motion, then of the second motion to both, in time."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__(dim, heads, scale=(dim // heads) ** -0.5, dropout=dropout)
        self.temp_to_q = nn.Linear(dim, dim)
        self.temp_to_kv = nn.Linear(dim, 2 * dim)
        self.temp_to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))

    def over_time(self, first: Tensor, second: Tensor) -> Tensor:
        """Position by position, the second motion attends to {first, second}."""
        q = self.split(self.temp_to_q(second))  # (b, heads, n, d / heads)
        k1, v1 = (self.split(t) for t in self.temp_to_kv(first).chunk(2, dim=-1))
        k2, v2 = (self.split(t) for t in self.temp_to_kv(second).chunk(2, dim=-1))
        score = torch.stack([(q * k1).sum(-1), (q * k2).sum(-1)], dim=-1) * self.scale
        weight = score.softmax(-1)  # (b, heads, n, 2)
        out = weight[..., :1] * v1 + weight[..., 1:] * v2  # (b, heads, n, d / heads)
        return self.temp_to_out(join_heads(out))

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        first = first + self.over_positions(first, first)
        second = second + self.over_positions(second, second)
        return first, second + self.over_time(first, second)


class CausalRelationMining(nn.Module):
    """CRM: what forward and backward in time have in common, the long-range relation."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(dim, dim)
        self.to_v = nn.Linear(dim, dim)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))

    def forward(self, forward: Tensor, backward: Tensor) -> Tensor:
        both = forward + backward  # (b, n, d)
        queries, keys, values = self.to_q(forward), self.to_k(backward), self.to_v(both)
        q, k, v = (split_heads(t, self.heads) for t in (queries, keys, values))
        weight = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)  # (b, heads, n, n)
        return self.to_out(join_heads(weight @ v) + both)


class CausalAttentionLayer(nn.ModuleList):
    """Rise then fall (forward), fall then rise (backward), and their relation (CRM)."""

    def __init__(self, dim: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__(
            [
                nn.LayerNorm(dim),
                SpatialTemporalAttention(dim, heads, dropout),
                feed_forward(dim, expansion * dim, dropout),
                CausalRelationMining(dim, heads, dropout),
            ]
        )

    def one_way(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        norm, attention, perceptron, _ = self
        first, second = attention(norm(first), norm(second))
        return first + perceptron(first), second + perceptron(second)

    def forward(self, rise: Tensor, fall: Tensor) -> Tensor:
        first, second = self.one_way(rise, fall)
        first_back, second_back = self.one_way(fall, rise)
        relation = self[3](second, second_back)
        return torch.cat([relation, first, first_back], dim=1)  # (b, 3 n, d)


class CausalAttentionBlock(nn.Module):
    """CAB, with one layer as released."""

    def __init__(self, dim: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList([CausalAttentionLayer(dim, heads, expansion, dropout)])

    def forward(self, rise: Tensor, fall: Tensor) -> Tensor:
        """Tokens (b, n, d) of both motions to (b, 3 n, d): relation, forward, backward.

        Of forward and backward, the motion that comes first.
        """
        return self.layers[0](rise, fall)


# --- The network ---------------------------------------------------------------------------------


class CausalNet(nn.Module):
    """What both configurations share: CMPLM, CAB and the head. Each has its own `encode`."""

    CrossAttention: nn.Module
    cab: nn.Module
    mlp_head: nn.Module

    @staticmethod
    def released(block_repeats: tuple[int, ...] = (3, 3, 9)) -> ReleasedCausalNet:
        """The released network (276.6 million parameters); official checkpoints load into it."""
        return ReleasedCausalNet(block_repeats)

    @staticmethod
    def compact() -> CompactCausalNet:
        """A network for 442 clips and for real time; the default."""
        return CompactCausalNet()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens (b, n, d) of rise and fall, then of their direction images."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, 3) of composites (b, 4, 3, 28, 28), raw 0..255, BGR."""
        rise, fall, rise_direction, fall_direction = self.encode(x)
        rise_found, fall_found = self.CrossAttention(rise_direction, fall_direction)
        seen = self.cab(rise + rise_found, fall + fall_found)  # (b, 3 n, d)
        return self.mlp_head(seen.flatten(1))  # of (b, 3 n d)


class ReleasedCausalNet(CausalNet):
    """As released: nested transformers over 7 x 7 patches, with one patch in a block.

    Args:
        block_repeats: Transformer layers of the encoders' three levels; CMPLM has as many as the
            last.
    """

    def __init__(self, block_repeats: tuple[int, ...]) -> None:
        super().__init__()
        self.block_repeats = block_repeats
        dim, heads, widths = 256, 3, (256, 512, 1024)
        self.to_patch_embedding = PatchEmbedding(7, dim)
        self.to_patch_embedding1 = PatchEmbedding(7, dim)
        self.layers = nested_levels(widths, 1, block_repeats, heads)
        self.layers1 = nested_levels(widths, 1, block_repeats, heads)
        self.CrossAttention = MotionPositionLearning(
            dim, depth=block_repeats[-1], heads=8, expansion=4, dropout=0.0
        )
        self.cab = CausalAttentionBlock(dim, heads=8, expansion=4, dropout=0.0)
        self.mlp_head = nn.Sequential(
            nn.Linear(3 * POSITIONS * dim, 2048), nn.Linear(2048, CLASSES)
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        flows = [self.layers(self.to_patch_embedding(x[:, i])) for i in (0, 1)]
        directions = [self.layers1(self.to_patch_embedding1(x[:, i])) for i in (2, 3)]
        # (b, 1024, 1, 1) each. A position gets every fourth channel: (b, 256, 4), then (b, 4, 256).
        rise, fall, rise_direction, fall_direction = (
            t.reshape(x.shape[0], -1, POSITIONS).transpose(1, 2) for t in (*flows, *directions)
        )
        return rise, fall, rise_direction, fall_direction


def cut_crops(image: Tensor) -> Tensor:
    """The crops (b, 2, 2, c, 14, 14) of composites (b, c, 28, 28)."""
    rows_and_columns = image.reshape(-1, image.shape[1], 2, 14, 2, 14)
    return rows_and_columns.permute(0, 2, 4, 1, 3, 5)  # (b, 2, 2, c, 14, 14)


class CropEncoder(nn.Module):
    """One token for each of the four positions, from convolutions over its 14 x 14 crop."""

    def __init__(self, channels: int, width: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 5, stride=2, padding=2),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.BatchNorm2d(width),
            nn.GELU(),
        )
        # A linear map for each position: the corner of an eye is not that of a mouth.
        inputs = width * 4 * 4
        self.weight = nn.Parameter(torch.empty(POSITIONS, inputs, dim))
        self.bias = nn.Parameter(torch.zeros(POSITIONS, 1, dim))
        nn.init.trunc_normal_(self.weight, std=inputs**-0.5)
        self.dropout = nn.Dropout1d(dropout)  # drops whole maps: pixels of a map are alike

    def forward(self, image: Tensor) -> Tensor:
        """Composites (b, c, 28, 28) to tokens (b, n, d)."""
        b, c = image.shape[:2]
        crops = cut_crops(image).reshape(b * POSITIONS, c, 14, 14)
        maps = self.stem(crops).flatten(2)  # (b n, width, 4 * 4)
        maps = self.dropout(maps).reshape(b, POSITIONS, -1)  # (b, n, width * 4 * 4)
        tokens = maps.transpose(0, 1) @ self.weight + self.bias  # (n, b, d)
        return tokens.transpose(0, 1)  # (b, n, d)


class CompactCausalNet(CausalNet):
    """The paper's modules behind encoders that see the pixels of each crop.

    It leaves out the optical strain: the strain is the derivative of a motion of a pixel or two, so
    noise, registration and the flow method change it most, and the network recognizes no less
    without it (docs/recognition.md).
    """

    def __init__(
        self,
        dim: int = 32,
        width: int = 16,
        heads: int = 4,
        depth: int = 1,
        dropout: float = 0.1,
        encoder_dropout: float = 0.3,
        strain: bool = False,
    ) -> None:
        super().__init__()
        self.first_channel = 0 if strain else 1
        self.flow_encoder = CropEncoder(3 - self.first_channel, width, dim, encoder_dropout)
        self.direction_encoder = CropEncoder(3, width // 2, dim, encoder_dropout)
        self.CrossAttention = MotionPositionLearning(
            dim, depth, heads, expansion=2, dropout=dropout
        )
        self.cab = CausalAttentionBlock(dim, heads, expansion=2, dropout=dropout)
        self.mlp_head = nn.Sequential(
            nn.LayerNorm(3 * POSITIONS * dim),
            nn.Dropout(dropout),
            nn.Linear(3 * POSITIONS * dim, CLASSES),
        )

    @staticmethod
    def centre(images: Tensor) -> Tensor:
        """Flow images with zero mean, which stands for zero motion, and about unit spread."""
        mean = images.mean((-2, -1), keepdim=True)
        spread = (images - mean).square().mean((-2, -1), keepdim=True)
        return (images - mean) / (spread + 1).sqrt()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        motions = self.centre(x[:, :2, self.first_channel :]).flatten(0, 1)  # (b 2, c, 28, 28)
        flows = self.flow_encoder(motions).unflatten(0, (-1, 2))  # (b, 2, n, d)
        directions = x[:, 2:].flatten(0, 1) / 255 - 0.5  # (b 2, 3, 28, 28)
        directions = self.direction_encoder(directions).unflatten(0, (-1, 2))  # (b, 2, n, d)
        return flows[:, 0], flows[:, 1], directions[:, 0], directions[:, 1]
