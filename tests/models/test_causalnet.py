import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from models.causalnet import (
    CausalNet,
    MotionPositionLearning,
    PositionAttention,
    ReleasedCausalNet,
    SpatialTemporalAttention,
    position_mask,
    position_penalty,
)
from realtime_mer.recognition.flow_pair import composite
from tests.release import needs_release, release_image

PARITY = json.loads((Path(__file__).parents[1] / "fixtures/causalnet_parity.json").read_text())

# 276.6 million parameters: 1.1 GB and ten seconds, so on request.
LARGE = pytest.mark.skipif("PARITY_RELEASED" not in os.environ, reason="set PARITY_RELEASED=1")
SIZES = pytest.mark.parametrize("size", ["small", pytest.param("released", marks=LARGE)])


def random_tensor(name: str, shape: list[int]) -> torch.Tensor:
    """A weight by the rule of the parity file: seeded by its name, gains about 1, else about 0."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    a = random.standard_normal(shape, dtype=np.float32)
    is_gain = name.endswith((".g", "norm.weight")) or (name.endswith(".weight") and len(shape) == 1)
    return torch.from_numpy(np.asarray(1 + 0.1 * a if is_gain else 0.02 * a))


def network_of(size: str) -> ReleasedCausalNet:
    network = CausalNet.released(tuple(PARITY[size]["block_repeats"])).eval()
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    fixed = ("M_mask", "P_matrix")
    state = {n: random_tensor(n, s) for n, s in shapes.items() if not n.endswith(fixed)}
    network.load_state_dict(state, strict=False)
    return network


def test_released_network_has_the_names_and_shapes_of_the_official_one():
    with torch.device("meta"):
        network = CausalNet.released(tuple(PARITY["small"]["block_repeats"]))
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    assert shapes == PARITY["small"]["state"]


@pytest.mark.parametrize("size", ["small", "released"])
def test_released_network_has_the_size_of_the_official_one(size):
    with torch.device("meta"):
        network = CausalNet.released(tuple(PARITY[size]["block_repeats"]))
    assert sum(p.numel() for p in network.parameters()) == PARITY[size]["parameters"]


@SIZES
def test_released_network_answers_as_the_official_one(size):
    random = np.random.Generator(np.random.PCG64(0))
    x = random.integers(0, 256, (4, 4, 3, 28, 28), dtype=np.uint8)
    with torch.no_grad():
        logits = network_of(size)(torch.from_numpy(x).float())
    np.testing.assert_allclose(logits, PARITY[size]["logits"], atol=1e-4)


@needs_release
@SIZES
def test_released_network_answers_as_the_official_one_on_released_clips(size):
    clips = [
        [release_image(clip + part) for part in ("", "_1", "_2", "_3")] for clip in PARITY["clips"]
    ]
    x = np.array([[composite(image).transpose(2, 0, 1) for image in clip] for clip in clips])
    with torch.no_grad():
        logits = network_of(size)(torch.from_numpy(x).float())
    np.testing.assert_allclose(logits, PARITY[size]["clip_logits"], atol=1e-4)


def test_compact_is_compact():
    assert sum(p.numel() for p in CausalNet.compact().parameters()) < 4e6


@pytest.mark.parametrize("batch", [1, 3])
def test_compact_answers_each_clip_for_itself(batch):
    network = CausalNet.compact().eval()
    x = torch.rand(batch, 4, 3, 28, 28) * 255
    together = network(x)
    assert together.shape == (batch, 3)
    alone = torch.cat([network(clip[None]) for clip in x])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_compact_uses_all_four_images_and_all_four_positions():
    network = CausalNet.compact().eval()
    x = (torch.rand(1, 4, 3, 28, 28) * 255).requires_grad_()
    network(x)[0, 0].backward()
    blocks = x.grad.abs().reshape(4, 3, 2, 14, 2, 14).amax((1, 3, 5))
    assert (blocks > 0).all()


def test_compact_is_invariant_to_scale_and_offset_of_the_flow():
    # Min-max scaling hides the zero and the unit of a flow image.
    network = CausalNet.compact().eval()
    x = torch.rand(1, 4, 3, 28, 28) * 100
    other = x.clone()
    other[:, :2] = other[:, :2] * 1.5 + 60
    torch.testing.assert_close(network(x), network(other), atol=2e-2, rtol=0)


def test_mask_and_penalty_keep_diagonal_corners_apart():
    mask, penalty = position_mask(), position_penalty(0.5)
    assert mask.tolist() == [[1, 1, 1, 0], [1, 1, 0, 1], [1, 0, 1, 1], [0, 1, 1, 1]]
    assert penalty[0, 3] == -2.0
    assert penalty[3, 0] == -0.5
    assert (penalty[mask == 1] == 0).all()


@pytest.mark.parametrize("position", range(4))
def test_position_attention_never_reads_the_opposite_corner(position):
    attention = PositionAttention(16, heads=2, scale=0.25).eval()
    x, context = torch.randn(1, 4, 16), torch.randn(1, 4, 16, requires_grad=True)
    # Neither the value nor the key of the opposite corner counts: its score is masked.
    attention(x, context)[0, position].sum().backward()
    read = context.grad[0].abs().sum(-1) > 0
    assert read.tolist() == position_mask()[position].bool().tolist()


def test_the_second_direction_attends_to_the_updated_first():
    learning = MotionPositionLearning(16, depth=1, heads=2, expansion=2, dropout=0).eval()
    first, second = torch.randn(1, 4, 16), torch.randn(1, 4, 16)
    a, b = learning(first, second)
    c, d = learning(second, first)
    assert not torch.allclose(a, d, atol=1e-3)
    assert not torch.allclose(b, c, atol=1e-3)


def test_temporal_attention_changes_the_second_motion_position_by_position():
    attention = SpatialTemporalAttention(16, heads=2).eval()
    first, second = torch.randn(1, 4, 16), torch.randn(1, 4, 16)
    out = attention.over_time(first, second)
    moved = first.clone()
    moved[:, 2] += 1
    changed = (attention.over_time(moved, second) - out).abs().sum(-1)[0] > 1e-6
    assert changed.tolist() == [False, False, True, False]
