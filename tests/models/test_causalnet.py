import json
import os
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.causalnet import (
    CausalNet,
    MotionPositionLearning,
    PositionAttention,
    SpatialTemporalAttention,
    position_mask,
    position_penalty,
)
from realtime_mer.recognition.flow_pair import composite

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PARITY = SHARED / "reference/causalnet_parity.json"
IMAGES = SHARED / "data/causalnet_release/STSNet_whole_norm_u_v_os"


def drawn(name: str, shape: list[int]) -> torch.Tensor:
    """The weights of the parity file, by its rule."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    a = random.standard_normal(shape, dtype=np.float32)
    is_gain = name.endswith((".g", "norm.weight")) or (name.endswith(".weight") and len(shape) == 1)
    return torch.from_numpy(np.asarray(1 + 0.1 * a if is_gain else 0.02 * a))


@pytest.mark.skipif(not PARITY.exists(), reason="the parity figures are not part of the project")
@pytest.mark.parametrize(
    "size",
    [
        "small",
        # 276.6 million parameters: 1.1 GB and ten seconds, so on request.
        pytest.param(
            "released",
            marks=pytest.mark.skipif(
                "PARITY_RELEASED" not in os.environ, reason="set PARITY_RELEASED=1"
            ),
        ),
    ],
)
def test_released_network_is_the_official_one(size):
    parity = json.loads(PARITY.read_text())
    expected = parity[size]
    network = CausalNet.released(tuple(expected["block_repeats"])).eval()
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    assert shapes == expected["state"]
    assert sum(p.numel() for p in network.parameters()) == expected["parameters"]

    fixed = ("M_mask", "P_matrix")
    state = {n: drawn(n, s) for n, s in expected["state"].items() if not n.endswith(fixed)}
    network.load_state_dict(state, strict=False)
    clips = [
        [cv2.imread(str(IMAGES / f"{clip}{part} .png")) for part in ("", "_1", "_2", "_3")]
        for clip in parity["input_clip_ids"]
    ]
    x = np.array([[composite(image).transpose(2, 0, 1) for image in clip] for clip in clips])
    with torch.no_grad():
        logits = network(torch.from_numpy(x).float())
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4)


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


def test_compact_does_not_mind_the_scale_and_the_offset_of_the_flow():
    # A flow image is min-max scaled, so where its zero lies and what a pixel is are accidents.
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
    # The keys of the opposite corner count for nothing either: its score is masked.
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
