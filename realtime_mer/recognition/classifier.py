"""The classifier: CausalNet in ONNX Runtime, from flow pairs to probabilities."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort

from realtime_mer.cache import default_cache
from realtime_mer.errors import InputError
from realtime_mer.face.native import silenced_stderr
from realtime_mer.model_file import Weights, load_weights, open_session
from realtime_mer.recognition import gpu
from realtime_mer.recognition.flow_pair import FLOW_SIZE

# The backends to try for each choice, in this order.
_BACKENDS = {
    "auto": ("cuda", "cpu"),
    "cpu": ("cpu",),
    "cuda": ("cuda", "cpu"),
    "tensorrt": ("tensorrt", "cuda", "cpu"),
}
PROVIDERS = tuple(_BACKENDS)
_NAMES = {"cpu": "CPU", "cuda": "CUDA", "tensorrt": "TensorRT"}
_CPU = "CPUExecutionProvider"

PAIR_SHAPE = (2, FLOW_SIZE, FLOW_SIZE, 3)
# Sizes of a batch: usually one interval, a few if several faces move at once.
BATCH_SIZES = (1, 4)


class _Unavailable(Exception):
    """A backend cannot be used; the message is the reason."""


class Classifier:
    """Classifies micro-expressions by their flow pairs. May be shared between threads.

    Attributes:
        name: Name of the weights, from their card.
        labels: The classes in the order of the probabilities.
        provider: Where it runs: "CPU", "CUDA" or "TensorRT".
        note: Why it does not run where it was asked to, in a sentence; else empty.
        least_confidence: Below this, events are labelled "uncertain".

    Example:
        classifier = Classifier("models/weights/causalnet.onnx")
        probabilities = classifier.classify(pairs)
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        providers: str = "auto",
        least_confidence: float | None = None,
    ) -> None:
        """
        Args:
            weights: ONNX file with its model card (.json) beside it.
            providers: Where to run: "cpu", "cuda" or "tensorrt"; "auto" takes CUDA if there is a
                GPU. If one cannot be used, the next best is, and `note` says why. TensorRT builds
                its engines when it first loads a file, which takes a while, and keeps them in the
                user's cache.
            least_confidence: 0 to 1, as the attribute; None for what the card recommends.

        Raises:
            InputError: The weights are missing, damaged or not a classifier's.
            ValueError: `providers` is none of the four, or `least_confidence` is not from 0 to 1.
        """
        if providers not in PROVIDERS:
            raise ValueError(f"providers must be one of {', '.join(PROVIDERS)}, got {providers!r}")
        if least_confidence is not None and not 0 <= least_confidence <= 1:
            raise ValueError(f"least_confidence must be from 0 to 1, got {least_confidence}")
        loaded = load_weights(weights)
        try:
            self.labels = _labels(loaded.card["labels"])
            self.name = loaded.card["name"] or loaded.path.stem
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{loaded.path.with_suffix('.json')} is not the card of a classifier: "
                "restore it, or train with tools/recognition/train.py"
            ) from error
        if least_confidence is None:
            least_confidence = recommended_least_confidence(loaded)
        self.least_confidence = least_confidence
        reason = ""
        # ONNX Runtime, CUDA and TensorRT write to descriptor 2 at any log level.
        with silenced_stderr():
            for backend in _BACKENDS[providers]:
                try:
                    self._network = _open(loaded, backend, len(self.labels))
                    break
                except _Unavailable as error:
                    reason = reason or str(error)
        self.provider = _NAMES[backend]
        self.note = ""
        # With "auto", stay silent when there is no GPU.
        if reason and (providers != "auto" or gpu.has_gpu()):
            wanted = _NAMES[_BACKENDS[providers][0]]
            self.note = f"the classifier runs on {self.provider}, not on {wanted}: {reason}"

    def classify(self, pairs: np.ndarray) -> np.ndarray:
        """Probabilities (n, labels) float32 of flow pairs (n, 2, 28, 28, 3) uint8, for any n.

        Raises:
            ValueError: `pairs` has another shape or type.
        """
        if pairs.dtype != np.uint8 or pairs.shape[1:] != PAIR_SHAPE:
            expected = ("n", *PAIR_SHAPE)
            raise ValueError(
                f"pairs must be ({', '.join(map(str, expected))}) uint8, "
                f"got {pairs.shape} {pairs.dtype}"
            )
        return self._network(pairs)


class BoundNetwork:
    """A network with input and output buffers on its device, for a few batch sizes.

    A run allocates no buffers, and copies only flow pairs and probabilities. A batch of another
    size is cut into parts, and the last part padded to the next size.

    Args:
        sessions: Of a batch size n, the session that takes (n, 2, 28, 28, 3) uint8 and gives
            (n, classes) float32.
        device: The sessions' device, "cpu" or "cuda".
        classes: Number of classes.
        sizes: The batch sizes, rising. Each is run once here, because its first run is slow.
    """

    def __init__(
        self,
        sessions: Callable[[int], ort.InferenceSession],
        device: str,
        classes: int,
        sizes: tuple[int, ...] = BATCH_SIZES,
    ) -> None:
        self._classes, self._sizes = classes, sizes
        self._batches = {size: _Batch(sessions(size), device, size, classes) for size in sizes}
        self._lock = threading.Lock()
        for size in sizes:
            self(np.zeros((size, *PAIR_SHAPE), np.uint8))

    def __call__(self, pairs: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes) of flow pairs (n, 2, 28, 28, 3) uint8."""
        probabilities = np.empty((len(pairs), self._classes), np.float32)
        done = 0
        while done < len(pairs):
            left = len(pairs) - done
            size = next((size for size in self._sizes if size >= left), self._sizes[-1])
            part = slice(done, done + size)
            with self._lock:
                self._batches[size].run(pairs[part], probabilities[part])
            done += size
        return probabilities


class _Batch:
    """The buffers for one batch size, bound to the network."""

    def __init__(self, session: ort.InferenceSession, device: str, size: int, classes: int) -> None:
        (input_,), (output,) = session.get_inputs(), session.get_outputs()
        self._session = session
        # Copied to the device as a whole; unused rows keep their old content.
        self._host = np.zeros((size, *PAIR_SHAPE), np.uint8)
        allocate = ort.OrtValue.ortvalue_from_shape_and_type
        self._input = allocate(self._host.shape, np.uint8, device, 0)
        self._output = allocate((size, classes), np.float32, device, 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(input_.name, self._input)
        self._binding.bind_ortvalue_output(output.name, self._output)

    def run(self, pairs: np.ndarray, probabilities: np.ndarray) -> None:
        """Writes the `probabilities` (n, classes) of at most `size` pairs."""
        self._host[: len(pairs)] = pairs
        self._input.update_inplace(self._host)
        self._session.run_with_iobinding(self._binding)
        probabilities[:] = self._output.numpy()[: len(pairs)]


def _labels(labels: Any) -> tuple[str, ...]:  # noqa: ANN401
    """The labels of a card. If they are a list, `load_weights` has made them texts.

    Raises:
        TypeError, ValueError: They are no list, or do not differ.
    """
    if not isinstance(labels, list):
        raise TypeError("labels are a list")
    if not labels or len({label.strip() for label in labels} - {""}) < len(labels):
        raise ValueError("labels differ, and none is empty")
    return tuple(labels)


def recommended_least_confidence(weights: Weights) -> float:
    """The least confidence that a classifier's card recommends; 0 if it recommends none.

    `tools/recognition/evaluate.py --card` chooses it on subjects that were left out.

    Raises:
        InputError: The card's is no number from 0 to 1.
    """
    try:
        value = weights.card.get("loso", {}).get("least_confidence", {}).get("value", 0.0)
        if 0 <= value <= 1:
            return float(value)
    except (AttributeError, TypeError):
        pass  # as a number out of range
    raise InputError(
        f"{weights.path.with_suffix('.json')} recommends no least confidence from 0 to 1: "
        "write its figures with tools/recognition/evaluate.py --card"
    )


def _open(weights: Weights, backend: str, classes: int) -> BoundNetwork:
    """The network of checked weights on a backend, warmed up.

    Raises:
        InputError: The weights are not a classifier's.
        _Unavailable: The backend is not the CPU, and cannot be used.
    """

    # One for each size: ONNX Runtime runs the network in 0.9 of the time if it knows the size.
    @functools.cache
    def session(size: int) -> ort.InferenceSession:
        providers = [_CPU] if backend == "cpu" else _gpu_providers(weights, backend)
        return open_session(weights, providers, size)

    if backend == "cpu":
        _check(session(1), weights, classes)
        return BoundNetwork(session, "cpu", classes)
    if reason := gpu.obstacle(backend):
        raise _Unavailable(reason)
    try:
        if session(1).get_providers()[0] == gpu.PROVIDERS[backend]:
            return BoundNetwork(session, "cuda", classes)
    # Most exception types of ONNX Runtime are not public. If the weights are at fault, the CPU will
    # raise the error.
    except Exception as error:
        raise _Unavailable(f"it fails ({_first_line(error.__cause__ or error)})") from error
    raise _Unavailable("ONNX Runtime cannot start it: is the driver new enough?")


def _gpu_providers(weights: Weights, backend: str) -> list[str | tuple[str, dict[str, Any]]]:
    """ONNX Runtime's providers for a GPU backend, with their options, in order of preference."""
    cuda: dict[str, Any] = {
        # On networks this small, trying every algorithm takes longer than it saves.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The GPU may be shared: take only the memory that is needed, and never all of it.
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": 2**30 + 4 * len(weights.content),
        # Same results as on the CPU: TF32 has a mantissa of only 10 bits.
        "use_tf32": 0,
    }
    providers: list[str | tuple[str, dict[str, Any]]] = [(gpu.PROVIDERS["cuda"], cuda), _CPU]
    if backend == "cuda":
        return providers
    cache = default_cache()
    if cache is None:  # engines are built anew each time
        return [(gpu.PROVIDERS["tensorrt"], {}), *providers]
    # An engine only fits the weights and the ONNX Runtime that it was built with.
    engines = cache / "tensorrt" / f"{weights.card['sha256'][:16]}-{ort.__version__}"
    engines.mkdir(mode=0o700, parents=True, exist_ok=True)
    tensorrt: dict[str, Any] = {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(engines),
    }
    return [(gpu.PROVIDERS["tensorrt"], tensorrt), *providers]


def _check(session: ort.InferenceSession, weights: Weights, classes: int) -> None:
    """Raises InputError unless a session maps flow pairs to `classes` probabilities."""
    remedy = "give weights of tools/recognition/train.py or import_checkpoint.py"
    input_ = session.get_inputs()[0]
    if input_.type != "tensor(uint8)" or tuple(input_.shape[1:]) != PAIR_SHAPE:
        raise InputError(
            f"weights {weights.path} take an input of {input_.shape}, not flow pairs: {remedy}"
        )
    (output, *_) = session.run(None, {input_.name: np.zeros((1, *PAIR_SHAPE), np.uint8)})
    if output.shape != (1, classes):
        raise InputError(
            f"weights {weights.path} give {output.shape[-1]} probabilities, but their card names "
            f"{classes} labels: {remedy}"
        )


def _first_line(error: BaseException) -> str:
    lines = str(error).split("\n", 1)
    return lines[0][:200] or type(error).__name__
