"""CausalNet (arXiv 2508.06640): micro-expressions from the cause and effect of two motions.

Four 28 x 28 composites go in (see `realtime_mer.flow`): the flow images onset to apex and apex to
offset, and the direction images of the two. Each shows four positions of the face. Top to bottom,
in the order of the paper:

1. two encoders, one for the flow images and one for the direction images, give four tokens each;
2. the Causal Motion Position Learning Module (CMPLM) lets the two direction images attend to each
   other over the four positions, with the mask M and the penalty P, and adds what it found to the
   flow features;
3. the Causal Attention Block (CAB) attends in space, then in time, forward (onset to offset) and
   backward, and Causal Relation Mining (CRM) compares the two ways;
4. a head reads [long, forward, backward].

>>> network = CausalNet.compact()
>>> network(torch.zeros(2, 4, 3, 28, 28)).shape
torch.Size([2, 3])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 3
POSITIONS = 4


def position_mask() -> Tensor:
    """M: 1 where two positions of the 2 x 2 grid are the same or share a side, else 0."""
    return 1 - torch.eye(POSITIONS).flip(0)


def position_penalty(gamma: float) -> Tensor:
    """P: -(j + 1) gamma where M is 0, else 0."""
    steps = torch.arange(1, POSITIONS + 1, dtype=torch.float32)
    return (1 - position_mask()) * -gamma * steps


def feed_forward(dim: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dim, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, dim),
        nn.Dropout(dropout),
    )


# --- Encoders ------------------------------------------------------------------------------------


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * self.g + self.b


class PreNorm(nn.Module):
    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = ChannelNorm(dim)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class BlockFeedForward(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
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
    """Attention inside a block of patches."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.width = dim // heads
        self.to_qkv = nn.Conv2d(dim, 3 * heads * self.width, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(heads * self.width, dim, 1), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        if h * w == 1:
            # A token that is alone attends to itself, whatever query and key say.
            return self.to_out(nn.functional.conv2d(x, self.to_qkv.weight.chunk(3)[2]))
        q, k, v = self.to_qkv(x).reshape(n, 3, self.heads, self.width, h * w).unbind(1)
        score = q.transpose(-1, -2) @ k * self.width**-0.5
        out = v @ score.softmax(-1).transpose(-1, -2)
        return self.to_out(out.reshape(n, -1, h, w))


class BlockTransformer(nn.Module):
    def __init__(self, dim: int, tokens: int, depth: int, heads: int) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.randn(tokens))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [PreNorm(dim, BlockAttention(dim, heads)), PreNorm(dim, BlockFeedForward(dim))]
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_emb.reshape(1, 1, *x.shape[-2:])
        for attention, forward in self.layers:
            x = attention(x) + x
            x = forward(x) + x
        return x


class PatchEmbedding(nn.Sequential):
    """Cuts an image into patches and embeds each; a patch is flattened rows, columns, channels."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__(nn.Identity(), nn.Conv2d(3 * patch * patch, dim, 1))
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        p = self.patch
        x = x.reshape(n, c, h // p, p, w // p, p).permute(0, 3, 5, 1, 2, 4)
        return self[1](x.reshape(n, p * p * c, h // p, w // p))


def nested_levels(
    dims: tuple[int, ...], tokens: int, repeats: tuple[int, ...], heads: int
) -> nn.ModuleList:
    """Levels of a nested transformer: each merges 2 x 2 blocks of the level before."""
    levels = nn.ModuleList()
    for level, (dim, depth) in enumerate(zip(dims, repeats, strict=True)):
        merge: nn.Module = nn.Identity()
        if level + 1 < len(dims):
            wider = dims[level + 1]
            merge = nn.Sequential(
                nn.Conv2d(dim, wider, 3, padding=1), ChannelNorm(wider), nn.MaxPool2d(3, 2, 1)
            )
        levels.append(nn.ModuleList([BlockTransformer(dim, tokens, depth, heads << level), merge]))
    return levels


def run_levels(levels: nn.ModuleList, x: Tensor) -> Tensor:
    for level, (transformer, merge) in enumerate(levels):
        n, c, h, w = x.shape
        b = 2 ** (len(levels) - 1 - level)  # blocks a side
        x = x.reshape(n, c, b, h // b, b, w // b).permute(0, 2, 4, 1, 3, 5)
        x = transformer(x.reshape(n * b * b, c, h // b, w // b))
        x = x.reshape(n, b, b, c, h // b, w // b).permute(0, 3, 1, 4, 2, 5)
        x = merge(x.reshape(n, c, h, w))
    return x


# --- Attention over the four positions -----------------------------------------------------------


class PositionAttention(nn.Module):
    """Multi-head attention over the four positions: near ones by the mask M, far ones penalized."""

    def __init__(
        self, dim: int, heads: int, scale: float, gamma: float = 0.5, dropout: float = 0.0
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
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def over_positions(self, x: Tensor, context: Tensor) -> Tensor:
        q = self.split(self.to_q(x))
        k, v = (self.split(t) for t in self.to_kv(context).chunk(2, dim=-1))
        score = q @ k.transpose(-1, -2) * self.scale
        weight = (score * self.M_mask + self.P_matrix).softmax(-1) * self.M_mask
        return self.to_out((weight @ v).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.over_positions(x, context)


class MotionPositionLearning(nn.Module):
    """CMPLM: the direction images of rise and fall tell each other where muscles move."""

    def __init__(self, dim: int, depth: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.LayerNorm(dim),
                    PositionAttention(dim, heads, scale=dim**-0.5, dropout=dropout),
                    feed_forward(dim, expansion * dim, dropout),
                ]
            )
            for _ in range(depth)
        )

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        for norm, attention, forward in self.layers:
            normed = norm(second)
            first = first + attention(norm(first), second)
            second = second + attention(normed, first)
            first = first + forward(first)
            second = second + forward(second)
        return first, second


class SpatialTemporalAttention(PositionAttention):
    """Attention in space inside each motion, then of the second motion onto both, in time."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__(dim, heads, scale=(dim // heads) ** -0.5, dropout=dropout)
        self.temp_to_q = nn.Linear(dim, dim)
        self.temp_to_kv = nn.Linear(dim, 2 * dim)
        self.temp_to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(dropout))

    def over_time(self, first: Tensor, second: Tensor) -> Tensor:
        """Position by position, the second motion attends to {first, second}."""
        q = self.split(self.temp_to_q(second))
        k1, v1 = (self.split(t) for t in self.temp_to_kv(first).chunk(2, dim=-1))
        k2, v2 = (self.split(t) for t in self.temp_to_kv(second).chunk(2, dim=-1))
        score = torch.stack([(q * k1).sum(-1), (q * k2).sum(-1)], dim=-1) * self.scale
        weight = score.softmax(-1)
        out = weight[..., :1] * v1 + weight[..., 1:] * v2
        return self.temp_to_out(out.transpose(1, 2).flatten(2))

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
        both = forward + backward
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for t in (self.to_q(forward), self.to_k(backward), self.to_v(both))
        )
        weight = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)
        return self.to_out((weight @ v).transpose(1, 2).flatten(2) + both)


class CausalAttentionBlock(nn.Module):
    """CAB: rise then fall (forward), fall then rise (backward), and their relation (CRM)."""

    def __init__(self, dim: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        layer = nn.ModuleList(
            [
                nn.LayerNorm(dim),
                SpatialTemporalAttention(dim, heads, dropout),
                feed_forward(dim, expansion * dim, dropout),
                CausalRelationMining(dim, heads, dropout),
            ]
        )
        self.layers = nn.ModuleList([layer])

    def one_way(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        norm, attention, forward, _ = self.layers[0]
        first, second = attention(norm(first), norm(second))
        return first + forward(first), second + forward(second)

    def forward(self, rise: Tensor, fall: Tensor) -> Tensor:
        """(batch, 3 x positions, dim): long, first of forward, first of backward."""
        first, second = self.one_way(rise, fall)
        first_back, second_back = self.one_way(fall, rise)
        relation = self.layers[0][3](second, second_back)
        return torch.cat([relation, first, first_back], dim=1)


# --- The network ---------------------------------------------------------------------------------


class CausalNet(nn.Module):
    """What both configurations share: CMPLM, CAB and the head; `encode` is theirs."""

    @staticmethod
    def released(block_repeats: tuple[int, int, int] = (3, 3, 9)) -> ReleasedCausalNet:
        """The released network (276.6 million parameters); official checkpoints load into it."""
        return ReleasedCausalNet(block_repeats)

    @staticmethod
    def compact() -> CompactCausalNet:
        """A network for 442 clips and for real time; the default."""
        return CompactCausalNet()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens (batch, positions, dim) of both flow and both direction images."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, 3) of composites (batch, 4, 3, 28, 28), raw 0..255, BGR."""
        rise, fall, rise_direction, fall_direction = self.encode(x)
        rise_found, fall_found = self.CrossAttention(rise_direction, fall_direction)
        seen = self.cab(rise + rise_found, fall + fall_found)
        return self.mlp_head(seen.flatten(1))


class ReleasedCausalNet(CausalNet):
    """As released: nested transformers over 7 x 7 patches, whose blocks hold one token each."""

    def __init__(self, block_repeats: tuple[int, int, int]) -> None:
        super().__init__()
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
        flows = [run_levels(self.layers, self.to_patch_embedding(x[:, i])) for i in (0, 1)]
        directions = [run_levels(self.layers1, self.to_patch_embedding1(x[:, i])) for i in (2, 3)]
        # 1024 channels become 256 in four positions, the channels of a position four apart.
        rise, fall, rise_direction, fall_direction = (
            t.reshape(x.shape[0], -1, POSITIONS).transpose(1, 2) for t in (*flows, *directions)
        )
        return rise, fall, rise_direction, fall_direction


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
        # Each position reads its own map: an eye corner isn't a mouth corner.
        inputs = width * 4 * 4
        self.weight = nn.Parameter(torch.empty(POSITIONS, inputs, dim))
        self.bias = nn.Parameter(torch.zeros(POSITIONS, 1, dim))
        nn.init.trunc_normal_(self.weight, std=inputs**-0.5)
        self.dropout = nn.Dropout1d(dropout)  # of whole maps: their pixels know each other

    def forward(self, image: Tensor) -> Tensor:
        n, c = image.shape[:2]
        crops = image.reshape(n, c, 2, 14, 2, 14).permute(0, 2, 4, 1, 3, 5)
        maps = self.stem(crops.reshape(n * POSITIONS, c, 14, 14))
        maps = self.dropout(maps.flatten(2)).reshape(n, POSITIONS, -1)
        tokens = maps.transpose(0, 1) @ self.weight + self.bias
        return tokens.transpose(0, 1)


class CompactCausalNet(CausalNet):
    """The paper's modules behind encoders that see more than one token and know zero motion.

    The optical strain of the flow images is not looked at: it is the derivative of a motion of a
    pixel or two, so noise, registration and the flow method change it most, and leaving it out
    recognizes more (docs/recognition.md).
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
        """Flow images about zero motion, taken as the mean, in units of their spread."""
        mean = images.mean((-2, -1), keepdim=True)
        spread = (images - mean).square().mean((-2, -1), keepdim=True)
        return (images - mean) / (spread + 1).sqrt()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        motions = self.centre(x[:, :2, self.first_channel :])
        flows = self.flow_encoder(motions.flatten(0, 1)).unflatten(0, (-1, 2))
        directions = self.direction_encoder(x[:, 2:].flatten(0, 1) / 255 - 0.5)
        directions = directions.unflatten(0, (-1, 2))
        return flows[:, 0], flows[:, 1], directions[:, 0], directions[:, 1]
