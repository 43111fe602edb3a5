import numpy as np
import pytest
import torch

from models.causalnet import BlockAttention, CausalNet
from models.views import Views
from realtime_mer.recognition.classifier import Classifier
from tools.recognition import import_checkpoint


@pytest.fixture(scope="module")
def network() -> CausalNet:
    """The released network with few layers and random weights, for want of official ones."""
    torch.manual_seed(0)
    return CausalNet.released((1, 1, 1)).eval()


@pytest.fixture(scope="module")
def official(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "official.pth"
    torch.save(network.state_dict(), path)
    return path


def test_the_onnx_file_agrees_with_the_network(official, network, tmp_path):
    out = tmp_path / "imported.onnx"
    assert import_checkpoint.main([str(official), "--out", str(out)]) == 0
    assert out.stat().st_size < official.stat().st_size  # attention is folded
    pairs = np.random.default_rng(0).integers(0, 256, (3, 2, 28, 28, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network(Views()(torch.from_numpy(pairs))).softmax(-1)
    classifier = Classifier(out, providers="cpu")
    np.testing.assert_allclose(classifier.classify(pairs), expected, atol=1e-4)
    assert classifier.labels == ("negative", "positive", "surprise")
    assert "official" in classifier.name


def test_wrapped_and_parallel_checkpoints_load_too(network, tmp_path):
    path = tmp_path / "parallel.pth"
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 7}, path)
    x = torch.rand(1, 4, 3, 28, 28) * 255
    torch.testing.assert_close(import_checkpoint.load_official(path)(x), network(x))


def test_folding_keeps_what_attention_over_one_token_gives():
    attention = BlockAttention(32, heads=3).eval()  # 3 heads of 10 channels
    x = torch.randn(5, 32, 1, 1)
    torch.testing.assert_close(import_checkpoint._folded(attention)(x), attention(x))


@pytest.mark.parametrize("repeats", [(1, 1, 1), (2, 1, 3)])
def test_the_depth_is_read_from_the_names(repeats):
    with torch.device("meta"):
        state = CausalNet.released(repeats).state_dict()
    assert import_checkpoint.block_repeats(state) == repeats


class Hostile:
    def __reduce__(self):
        return (print, ("code ran",))


def _absent(path, state):
    path.unlink(missing_ok=True)


def _text(path, state):
    path.write_text("no checkpoint")


def _empty(path, state):
    path.write_bytes(b"")


def _truncated(path, state):
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])


def _code(path, state):
    torch.save({"a": Hostile()}, path)


def _a_list(path, state):
    torch.save([torch.zeros(1)], path)


def _another_network(path, state):
    torch.save(CausalNet.compact().state_dict(), path)


def _an_entry_missing(path, state):
    torch.save({n: v for n, v in state.items() if n != "mlp_head.1.bias"}, path)


def _another_shape(path, state):
    torch.save({**state, "mlp_head.1.bias": torch.zeros(5)}, path)


def _not_a_number(path, state):
    torch.save({**state, "mlp_head.1.bias": torch.full((3,), torch.nan)}, path)


@pytest.mark.parametrize(
    "spoil",
    [
        _absent,
        _text,
        _empty,
        _truncated,
        _code,
        _a_list,
        _another_network,
        _an_entry_missing,
        _another_shape,
        _not_a_number,
    ],
)
def test_a_bad_checkpoint_ends_with_a_message(spoil, network, tmp_path, capsys):
    path, out = tmp_path / "spoiled.pth", tmp_path / "out.onnx"
    spoil(path, network.state_dict())
    assert import_checkpoint.main([str(path), "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert "spoiled.pth" in printed.err
    assert "Traceback" not in printed.err
    assert "code ran" not in printed.out
    assert not out.exists()
