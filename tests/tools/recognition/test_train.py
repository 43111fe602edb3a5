import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.causalnet import CausalNet
from models.data import read_release
from models.metrics import softmax
from realtime_mer.recognition.classifier import Classifier
from tests.tiny_release import write_release
from tools.recognition import export, train
from tools.recognition.export import load_checkpoint


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), subjects=7, clips=2)


@pytest.fixture(scope="module")
def trained(release, tmp_path_factory) -> Path:
    """An ONNX file of two networks, trained for an epoch without subject p3."""
    out = tmp_path_factory.mktemp("weights") / "new" / "tiny.onnx"
    fast = ["--epochs", "1", "--folds", "2", "--members", "2", "--exclude-subjects", "p3"]
    kept = ["--checkpoint", str(out.parent.parent / "tiny.pt")]
    assert train.main(["--data", str(release), "--out", str(out), *fast, *kept]) == 0
    return out


def test_the_card_describes_the_weights(trained):
    card = json.loads(trained.with_suffix(".json").read_text())
    assert card["labels"] == ["negative", "positive", "surprise"]
    assert card["sha256"] == hashlib.sha256(trained.read_bytes()).hexdigest()
    assert card["excluded_subjects"] == ["p3"]
    assert card["trained_on"]["clips"] == 12
    assert card["trained_on"]["subjects"] == 6
    assert card["temperature"] > 0
    assert "research" in card["licence"]
    assert "loso" not in card  # these weights are not measured
    assert card["parameters"] == 2 * sum(p.numel() for p in CausalNet.compact().parameters())


def test_onnx_agrees_with_pytorch(trained, release):
    checkpoint = load_checkpoint(trained.parent.parent / "tiny.pt")
    networks = []
    for state in checkpoint["states"]:
        network = CausalNet.compact()
        network.load_state_dict(state)
        networks.append(network)
    pairs = read_release(release).pairs
    expected = softmax(train.mean_logits(networks, pairs) / checkpoint["temperature"])
    classifier = Classifier(trained, providers="cpu")
    np.testing.assert_allclose(classifier.classify(pairs), expected, atol=1e-4)
    np.testing.assert_allclose(classifier.classify(pairs[:1]), expected[:1], atol=1e-4)
    assert not np.allclose(expected[0], expected[1], atol=1e-3)


def test_onnx_is_one_file_with_a_free_batch(trained):
    model = onnx.load(str(trained), load_external_data=False)
    onnx.checker.check_model(model)
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert shape[0].dim_param == "batch"
    assert [d.dim_value for d in shape[1:]] == [2, 28, 28, 3]


def test_export_of_the_checkpoint_gives_the_same_answers(trained, tmp_path, release):
    out = tmp_path / "again.onnx"
    assert export.main([str(trained.parent.parent / "tiny.pt"), "--out", str(out)]) == 0
    pairs = read_release(release).pairs
    again, before = (Classifier(path, "cpu").classify(pairs) for path in (out, trained))
    np.testing.assert_allclose(again, before, atol=1e-6)


def test_figures_go_into_the_card_if_they_are_honest(release, tmp_path):
    group = {"UF1": 0.7, "UAR": 0.7, "ACC": 0.7}
    summary = {
        "model": "causalnet-compact",
        "protocol": "honest",
        "split": "leave one subject out",
        "members": 1,
        "seeds": 3,
        **dict.fromkeys(("composite", "casme2", "smic", "samm"), group),
        "spread": {},
        "calibration_error": 0.05,
    }
    figures, out = tmp_path / "summary.json", tmp_path / "w.onnx"
    fast = ["--epochs", "1", "--folds", "2", "--members", "1", "--figures", str(figures)]
    figures.write_text(json.dumps({**summary, "protocol": "test-selected"}))
    assert train.main(["--data", str(release), "--out", str(out), *fast]) == 2
    figures.write_text(json.dumps(summary))
    assert train.main(["--data", str(release), "--out", str(out), *fast]) == 0
    loso = json.loads(out.with_suffix(".json").read_text())["loso"]
    assert loso["protocol"] == "honest"
    assert loso["composite"] == group


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--data", "absent"], "absent"),
        (["--exclude-subjects", "nobody"], "nobody"),
        (["--members", "0"], "--members"),
        (["--figures", "absent.json"], "absent.json"),
    ],
)
def test_bad_input_ends_with_a_message(release, tmp_path, capsys, change, named):
    arguments = ["--data", str(release), "--out", str(tmp_path / "w.onnx"), *change]
    assert train.main(arguments) == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_a_bad_checkpoint_ends_with_a_message(tmp_path, capsys, content):
    path = tmp_path / "w.pt"
    if content is not None:
        path.write_bytes(content)
    assert export.main([str(path), "--out", str(tmp_path / "w.onnx")]) == 2
    assert "w.pt" in capsys.readouterr().err


def test_another_network_of_flow_pairs_becomes_a_file_too(release, tmp_path):
    out, again, kept = (tmp_path / name for name in ("st.onnx", "again.onnx", "st.pt"))
    once = ["--model", "ststnet", "--recipe", "epochs=1", "--folds", "2"]
    files = ["--out", str(out), "--checkpoint", str(kept)]
    assert train.main(["--data", str(release), *once, *files]) == 0
    card = json.loads(out.with_suffix(".json").read_text())
    assert (card["name"], card["network"], card["members"]) == ("ststnet", "ststnet", 1)
    assert export.main([str(kept), "--out", str(again)]) == 0
    pairs = read_release(release).pairs
    first, second = (Classifier(path, "cpu").classify(pairs) for path in (out, again))
    np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--model", "mmnet", "--out", "x.onnx"], "--checkpoint"),
        (["--model", "mmnet", "--checkpoint", "x.pt"], "prepare.py"),
        (["--model", "ststnet", "--out", "x.onnx", "--members", "2"], "--members"),
        ([], "--out"),
    ],
)
def test_what_a_network_cannot_have_is_named(release, capsys, change, named):
    assert train.main(["--data", str(release), *change]) == 2
    assert named in capsys.readouterr().err
