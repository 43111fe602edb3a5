"""The classifier: probabilities, backends and their fallbacks, checks of the weights."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from realtime_mer.errors import InputError
from realtime_mer.model_file import load_weights
from realtime_mer.recognition import gpu
from realtime_mer.recognition.classifier import BoundNetwork, Classifier, _gpu_providers

WEIGHTS = Path(__file__).resolve().parents[3] / "models/weights/causalnet.onnx"


@pytest.fixture
def copied(tmp_path) -> Path:
    """A copy of the delivered weights and their card, to be damaged."""
    for path in (WEIGHTS, WEIGHTS.with_suffix(".json")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / WEIGHTS.name


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(WEIGHTS, providers="cpu")


def random_pairs(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 2, 28, 28, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    return ort.InferenceSession(WEIGHTS.read_bytes(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("n", [1, 2, 7])
def test_probabilities_sum_to_one_and_do_not_depend_on_the_batch(classifier, n):
    pairs = random_pairs(n)
    probabilities = classifier.classify(pairs)
    assert probabilities.shape == (n, len(classifier.labels))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    alone = np.concatenate([classifier.classify(pair[None]) for pair in pairs])
    np.testing.assert_allclose(probabilities, alone, atol=1e-5)


def test_weights_may_be_given_as_text(classifier):
    pairs = random_pairs(1)
    from_text = Classifier(str(WEIGHTS), providers="cpu")
    np.testing.assert_array_equal(from_text.classify(pairs), classifier.classify(pairs))
    with pytest.raises(InputError, match=r"spotter\.json is not the card of a classifier"):
        Classifier(str(WEIGHTS.parent / "spotter.onnx"), providers="cpu")


def test_an_empty_batch_gives_no_probabilities(classifier):
    probabilities = classifier.classify(random_pairs(0))
    assert probabilities.shape == (0, len(classifier.labels))
    assert probabilities.dtype == np.float32


@pytest.mark.parametrize(
    "pairs",
    [
        np.zeros((1, 2, 28, 28, 3), np.float32),
        np.zeros((2, 28, 28, 3), np.uint8),
        np.zeros((1, 2, 28, 28), np.uint8),
    ],
)
def test_arrays_other_than_flow_pairs_are_refused(classifier, pairs):
    with pytest.raises(ValueError, match="uint8"):
        classifier.classify(pairs)


@pytest.mark.parametrize("sizes", [(1,), (1, 4), (2, 5)])
def test_bound_buffers_give_the_results_of_a_plain_run(session, sizes):
    network = BoundNetwork(lambda _: session, "cpu", 3, sizes)
    # Falling sizes: a smaller batch must not contain rests of a larger one.
    for n in (12, 6, 5, 3, 2, 1):
        pairs = random_pairs(n)
        (plain,) = session.run(None, {"flow_pair": pairs})
        np.testing.assert_allclose(network(pairs), plain, atol=1e-6)


def test_bound_buffers_take_pairs_that_are_not_contiguous(session):
    pairs = random_pairs(6)
    network = BoundNetwork(lambda _: session, "cpu", 3)
    np.testing.assert_array_equal(network(pairs[::2]), network(pairs[::2].copy()))


def test_threads_that_share_a_classifier_get_their_own_results(classifier):
    pairs = random_pairs(4)
    expected = classifier.classify(pairs)
    wrong = []

    def ask(i: int) -> None:
        for _ in range(50):
            probabilities = classifier.classify(pairs[i : i + 1])[0]
            if np.abs(probabilities - expected[i]).max() > 1e-5:
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_name_and_labels_are_the_cards(classifier):
    card = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert classifier.labels == ("negative", "positive", "surprise")
    assert classifier.name == card["name"]
    assert classifier.provider == "CPU"
    assert classifier.note == ""


def test_delivered_weights_are_small():
    assert WEIGHTS.stat().st_size <= 16e6


without_gpu = pytest.mark.skipif(gpu.has_gpu(), reason="this machine has a GPU")


@without_gpu
@pytest.mark.parametrize(("asked", "name"), [("cuda", "CUDA"), ("tensorrt", "TensorRT")])
def test_without_a_gpu_the_cpu_is_used_and_a_note_says_why(capfd, asked, name):
    classifier = Classifier(WEIGHTS, providers=asked)
    assert classifier.provider == "CPU"
    assert classifier.note.startswith(f"the classifier runs on CPU, not on {name}: no NVIDIA GPU")
    assert "\n" not in classifier.note
    assert Classifier(WEIGHTS).note == ""  # "auto" did not ask for CUDA
    assert capfd.readouterr() == ("", "")


@without_gpu
def test_a_gpu_without_cuda_is_noted_with_auto(monkeypatch):
    monkeypatch.setattr(gpu, "has_gpu", lambda: True)
    monkeypatch.setattr(gpu, "missing_cuda", lambda: "libcublas.so.13")
    classifier = Classifier(WEIGHTS)
    assert classifier.provider == "CPU"
    assert "libcublas.so.13 is missing (pip install" in classifier.note
    assert Classifier(WEIGHTS, providers="cpu").note == ""


@without_gpu
@pytest.mark.parametrize(
    ("asked", "reason"), [("cuda", "cannot start it"), ("tensorrt", "it fails (")]
)
def test_a_backend_that_fails_to_start_falls_back(monkeypatch, tmp_path, capfd, asked, reason):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(gpu, "obstacle", lambda backend: "")
    classifier = Classifier(WEIGHTS, providers=asked)
    assert classifier.provider == "CPU"
    assert reason in classifier.note
    assert "\n" not in classifier.note
    assert classifier.classify(random_pairs(1)).shape == (1, 3)
    assert capfd.readouterr() == ("", "")


@without_gpu
@pytest.mark.filterwarnings("ignore:Duplicate provider")
def test_a_backend_without_memory_falls_back(monkeypatch):
    # The session starts, on the CPU; allocating memory on a GPU fails.
    monkeypatch.setattr(gpu, "obstacle", lambda backend: "")
    monkeypatch.setitem(gpu.PROVIDERS, "cuda", "CPUExecutionProvider")
    classifier = Classifier(WEIGHTS, providers="cuda")
    assert classifier.provider == "CPU"
    assert "it fails (" in classifier.note


@pytest.mark.skipif(not gpu.has_gpu(), reason="this machine has no GPU")
@pytest.mark.parametrize("asked", ["cuda", "tensorrt"])
def test_a_gpu_gives_the_probabilities_of_the_cpu(classifier, asked):
    on_gpu = Classifier(WEIGHTS, providers=asked)
    if on_gpu.note:
        pytest.skip(on_gpu.note)
    for n in (1, 3, 9):
        pairs = random_pairs(n)
        np.testing.assert_allclose(on_gpu.classify(pairs), classifier.classify(pairs), atol=1e-3)


def test_tensorrts_engines_are_cached_by_weights_in_a_private_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loaded = load_weights(WEIGHTS)
    assert not list(tmp_path.iterdir())
    (name, options), (cuda, _), cpu = _gpu_providers(loaded, "tensorrt")
    assert (name, cuda) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert cpu == "CPUExecutionProvider"
    engines = Path(options["trt_engine_cache_path"])
    assert engines.is_relative_to(tmp_path / "realtime_mer")
    assert engines.name.startswith(loaded.card["sha256"][:16])
    assert engines.stat().st_mode & 0o077 == 0  # engines are code: nobody else may write there


def test_unknown_providers_are_refused():
    with pytest.raises(ValueError, match="cpu"):
        Classifier(WEIGHTS, providers="tpu")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_least_confidence_outside_0_to_1_is_refused(value):
    with pytest.raises(ValueError, match="from 0 to 1"):
        Classifier(WEIGHTS, providers="cpu", least_confidence=value)


def test_the_least_confidence_is_kept_and_changes_no_probability(classifier):
    careful = Classifier(WEIGHTS, providers="cpu", least_confidence=0.6)
    assert careful.least_confidence == 0.6
    pairs = random_pairs(2)
    np.testing.assert_array_equal(careful.classify(pairs), classifier.classify(pairs))


def _write_figures(path: Path, figures: object) -> None:
    card = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**card, "loso": figures}), encoding="utf-8")


@pytest.mark.parametrize(
    ("figures", "expected"), [({"least_confidence": {"value": 0.7}}, 0.7), ({}, 0.0)]
)
def test_the_card_recommends_a_least_confidence(copied, figures, expected):
    _write_figures(copied.with_suffix(".json"), figures)
    assert Classifier(copied, providers="cpu").least_confidence == expected
    assert Classifier(copied, providers="cpu", least_confidence=0.2).least_confidence == 0.2


@pytest.mark.parametrize("figures", ["none", {"least_confidence": {"value": 7}}])
def test_a_card_that_recommends_nonsense_is_named(copied, figures):
    _write_figures(copied.with_suffix(".json"), figures)
    with pytest.raises(InputError, match=r"causalnet\.json .*least confidence"):
        Classifier(copied, providers="cpu")


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


def _labels(labels: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        card = json.loads(path.with_suffix(".json").read_text())
        path.with_suffix(".json").write_text(json.dumps({**card, "labels": labels}))

    return write


def _another_network(path: Path) -> None:
    for suffix in (".onnx", ".json"):
        path.with_suffix(suffix).write_bytes((WEIGHTS.parent / f"spotter{suffix}").read_bytes())
    card = json.loads(path.with_suffix(".json").read_text())
    named = {**card, "name": "spotter", "labels": ["a", "b", "c"]}
    path.with_suffix(".json").write_text(json.dumps(named))


def _card_is_not_json(path: Path) -> None:
    path.with_suffix(".json").write_text("{")


@pytest.mark.parametrize(
    "damage",
    [
        _no_weights,
        _no_card,
        _damaged_weights,
        _truncated_weights,
        _card_of_other_weights,
        _card_without_labels,
        _labels(["negative", "positive", "surprise", "x"]),
        _labels(["negative", "positive", "negative "]),
        _labels(["negative", "positive", " "]),
        _labels([]),
        _labels("abc"),
        _another_network,
        _card_is_not_json,
    ],
)
def test_damaged_weights_are_refused_by_name(copied, damage):
    damage(copied)
    with pytest.raises(InputError, match="causalnet"):
        Classifier(copied)
