import json
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from realtime_mer.classifier import Classifier
from realtime_mer.event import InputError

WEIGHTS = Path(__file__).resolve().parents[2] / "models/weights/causalnet.onnx"


@pytest.fixture
def copied(tmp_path) -> Path:
    """The deployed weights and their card, to be spoiled."""
    for path in (WEIGHTS, WEIGHTS.with_suffix(".json")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / WEIGHTS.name


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(WEIGHTS, providers="cpu")


def random_pairs(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 2, 28, 28, 3), dtype=np.uint8)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_probabilities_sum_to_one_and_do_not_depend_on_company(classifier, n):
    pairs = random_pairs(n)
    probabilities = classifier.classify(pairs)
    assert probabilities.shape == (n, len(classifier.labels))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    alone = np.concatenate([classifier.classify(pair[None]) for pair in pairs])
    np.testing.assert_allclose(probabilities, alone, atol=1e-5)


def test_the_card_is_told(classifier):
    card = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert classifier.labels == ("negative", "positive", "surprise")
    assert classifier.name == card["name"]
    assert classifier.provider == "CPU"
    assert classifier.note == ""


def test_deployed_weights_are_small_and_fast(classifier):
    assert WEIGHTS.stat().st_size <= 16e6
    pair = random_pairs(1)
    times = []
    for _ in range(50):
        begin = time.perf_counter()
        classifier.classify(pair)
        times.append(time.perf_counter() - begin)
    # The best of many: other programs may use the machine.
    assert min(times) <= 5e-3


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers() and Path("/dev/nvidia0").exists(),
    reason="this machine has a GPU",
)
def test_without_a_gpu_cuda_falls_back_and_says_so_quietly(capfd):
    classifier = Classifier(WEIGHTS, providers="cuda")
    assert classifier.provider == "CPU"
    assert "CUDA" in classifier.note
    assert Classifier(WEIGHTS).note == ""  # nobody asked for CUDA
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_unknown_providers_are_refused():
    with pytest.raises(ValueError, match="cpu"):
        Classifier(WEIGHTS, providers="tpu")


def _no_weights(path: Path) -> None:
    path.unlink()


def _no_card(path: Path) -> None:
    path.with_suffix(".json").unlink()


def _damaged_weights(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _truncated_weights(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def _card_of_other_weights(path: Path) -> None:
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "sha256": "0" * 64}))


def _card_without_labels(path: Path) -> None:
    card = json.loads(path.with_suffix(".json").read_text())
    del card["labels"]
    path.with_suffix(".json").write_text(json.dumps(card))


def _card_no_json(path: Path) -> None:
    path.with_suffix(".json").write_text("{")


@pytest.mark.parametrize(
    "spoil",
    [
        _no_weights,
        _no_card,
        _damaged_weights,
        _truncated_weights,
        _card_of_other_weights,
        _card_without_labels,
        _card_no_json,
    ],
)
def test_spoiled_weights_are_told_with_their_name(copied, spoil):
    spoil(copied)
    with pytest.raises(InputError, match="causalnet"):
        Classifier(copied)
