"""The ONNX file gives what the networks give in PyTorch, as one graph for all of them."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from models.causalnet import CausalNet, CompactCausalNet
from models.metrics import softmax
from models.training import predict
from models.views import Views, mirrored
from realtime_mer.errors import InputError
from realtime_mer.recognition.classifier import Classifier
from tools.recognition import export as command
from tools.recognition.export import export

CARD = {"name": "tested", "labels": ["negative", "positive", "surprise"]}
TEMPERATURE = 0.4  # makes probabilities sharp, so that small differences show


def random_network(seed: int) -> CompactCausalNet:
    torch.manual_seed(seed)
    network = CausalNet.compact().eval()
    for name, value in network.named_buffers():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.3)
    return network


@pytest.fixture(scope="module")
def networks() -> list[CompactCausalNet]:
    return [random_network(seed) for seed in range(10)]


@pytest.fixture(scope="module")
def pairs() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 2, 28, 28, 3), dtype=np.uint8)


@torch.no_grad()
def answer(networks: list[CompactCausalNet], pairs: np.ndarray, mirror: bool) -> np.ndarray:
    """One network after the other, one view after the other."""
    views = [torch.from_numpy(pairs)]
    if mirror:
        views.append(mirrored(views[0]))
    logits = [network(Views()(view)) for network in networks for view in views]
    return (torch.stack(logits).mean(0) / TEMPERATURE).softmax(-1).numpy()


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_onnx_gives_the_mean_of_the_logits(networks, pairs, tmp_path, members, mirror):
    out = tmp_path / "net.onnx"
    export(networks[:members], TEMPERATURE, out, CARD, mirror)
    classifier = Classifier(out, providers="cpu")
    expected = answer(networks[:members], pairs, mirror)
    np.testing.assert_allclose(classifier.classify(pairs), expected, atol=1e-4)
    np.testing.assert_allclose(classifier.classify(pairs[1:2]), expected[1:2], atol=1e-4)
    assert not np.allclose(expected, answer(networks[:members], pairs, not mirror), atol=1e-3)
    assert json.loads(out.with_suffix(".json").read_text())["mirrored_view"] is mirror


def test_ten_members_and_a_mirror_make_one_small_graph(networks, pairs, tmp_path):
    one, all_of_them = tmp_path / "one.onnx", tmp_path / "all.onnx"
    export(networks[:1], TEMPERATURE, one, CARD)
    export(networks, TEMPERATURE, all_of_them, CARD, mirror=True)
    answered = Classifier(all_of_them, providers="cpu").classify(pairs)
    np.testing.assert_allclose(answered, answer(networks, pairs, mirror=True), atol=1e-4)
    assert all_of_them.stat().st_size < 16e6
    # The members share their operations, and one table of directions, in bytes.
    few, many = (onnx.load(path).graph for path in (one, all_of_them))
    assert len(many.node) < 1.5 * len(few.node)
    weights = sum(p.numel() for network in networks for p in network.parameters())
    assert all_of_them.stat().st_size < 4 * weights + 3 * 256 * 256 + 300_000


def test_a_checkpoint_exports_to_what_training_deploys(networks, pairs, tmp_path):
    checkpoint, out = tmp_path / "net.pt", tmp_path / "net.onnx"
    states = [network.state_dict() for network in networks[:2]]
    torch.save({"states": states, "temperature": TEMPERATURE, "card": CARD}, checkpoint)
    assert command.main([str(checkpoint), "--out", str(out)]) == 0
    logits = np.mean([predict(network, pairs) for network in networks[:2]], axis=0)
    np.testing.assert_allclose(
        Classifier(out, providers="cpu").classify(pairs), softmax(logits / TEMPERATURE), atol=1e-4
    )


def test_a_failed_export_leaves_the_old_files(networks, tmp_path, monkeypatch):
    out = tmp_path / "net.onnx"
    out.write_bytes(b"old weights")
    out.with_suffix(".json").write_text(json.dumps(CARD))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(path: Path, card: dict) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "write_card", fail)
    with pytest.raises(InputError, match="No space left"):
        export(networks[1:2], TEMPERATURE, out, CARD)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
