"""The classifier: CausalNet in ONNX Runtime, from flow pairs to probabilities."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from realtime_mer.cache import default_cache
from realtime_mer.errors import InputError
from realtime_mer.face.native import silenced_stderr
from realtime_mer.model_file import Weights, load_weights, open_session
from realtime_mer.recognition import gpu
from realtime_mer.recognition.flow_pair import FLOW_SIZE

# What is tried, in this order.
_PLACES = {
    "auto": ("cuda", "cpu"),
    "cpu": ("cpu",),
    "cuda": ("cuda", "cpu"),
    "tensorrt": ("tensorrt", "cuda", "cpu"),
}
PROVIDERS = tuple(_PLACES)
_NAMES = {"cpu": "CPU", "cuda": "CUDA", "tensorrt": "TensorRT"}
_CPU = "CPUExecutionProvider"

PAIR = (2, FLOW_SIZE, FLOW_SIZE, 3)
# Windows that run at once: one, as a rule; a few where several faces move together.
BATCHES = (1, 4)


class _Unavailable(Exception):
    """A place where the classifier cannot run, for the reason that this tells."""


class Classifier:
    """Names the micro-expressions of flow pairs. May be shared between threads.

    Attributes:
        name: Name of the weights, as their card gives it.
        labels: The classes in the order of the probabilities.
        provider: "CPU", "CUDA" or "TensorRT".
        note: Why it does not run where it was asked to, in a sentence; else empty.
        least_confidence: Below this, the operator wants the label to be "uncertain".

    Example:
        classifier = Classifier(Path("models/weights/causalnet.onnx"))
        probabilities = classifier.classify(pairs)
    """

    def __init__(
        self, weights: Path, providers: str = "auto", least_confidence: float = 0.0
    ) -> None:
        """
        Args:
            weights: ONNX file with its model card (.json) beside it.
            providers: "cpu", "cuda" or "tensorrt" say where to run; "auto" takes CUDA where there
                is a GPU. What cannot be used is replaced by the next best, and `note` says why.
                TensorRT builds its engines when it first sees some weights, which takes a while,
                and keeps them in the user's cache.
            least_confidence: 0 to 1; kept for those who make events.

        Raises:
            InputError: The weights are missing, damaged or not a classifier's.
            ValueError: `providers` is none of the four, or `least_confidence` not from 0 to 1.
        """
        if providers not in PROVIDERS:
            raise ValueError(f"providers is one of {', '.join(PROVIDERS)}, got {providers!r}")
        if not 0 <= least_confidence <= 1:
            raise ValueError(f"least_confidence is from 0 to 1, got {least_confidence}")
        self.least_confidence = least_confidence
        loaded = load_weights(weights)
        try:
            self.labels = tuple(str(label) for label in loaded.card["labels"])
            self.name = str(loaded.card["name"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{weights.with_suffix('.json')} is not the card of a classifier: "
                "restore it, or train with tools/recognition/train.py"
            ) from error
        reason = ""
        # What ONNX Runtime, CUDA and TensorRT have to say goes to descriptor 2 at any log level.
        with silenced_stderr():
            for place in _PLACES[providers]:
                try:
                    self._network = _open(loaded, place, len(self.labels))
                    break
                except _Unavailable as error:
                    reason = reason or str(error)
        self.provider = _NAMES[place]
        self.note = ""
        # Who left the choice to us is not bothered with a GPU that is not there.
        if reason and (providers != "auto" or gpu.has_gpu()):
            wanted = _NAMES[_PLACES[providers][0]]
            self.note = f"the classifier runs on {self.provider}, not on {wanted}: {reason}"

    def classify(self, pairs: np.ndarray) -> np.ndarray:
        """Probabilities (n, labels) float32 of flow pairs (n, 2, 28, 28, 3) uint8, for any n.

        Raises:
            ValueError: `pairs` are of another shape or type.
        """
        if pairs.dtype != np.uint8 or pairs.shape[1:] != PAIR:
            raise ValueError(f"pairs are (n, *{PAIR}) uint8, got {pairs.shape} {pairs.dtype}")
        return self._network(pairs)


class BoundNetwork:
    """A network whose input and output lie in buffers of its device, for a few sizes of batch.

    Nothing is allocated while it runs, and nothing but flow pairs and probabilities is copied. A
    batch of another size is cut, and filled up to the next size.

    Args:
        session: Takes (n, 2, 28, 28, 3) uint8 and gives (n, classes) float32.
        device: Where the session keeps what it computes with, "cpu" or "cuda".
        classes: Number of classes.
        sizes: Sizes of a batch that get buffers, rising. All are run once here, as the first run of
            each is slow.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        device: str,
        classes: int,
        sizes: tuple[int, ...] = BATCHES,
    ) -> None:
        self._classes, self._sizes = classes, sizes
        self._batches = {size: _Batch(session, device, size, classes) for size in sizes}
        self._lock = threading.Lock()
        for size in sizes:
            self(np.zeros((size, *PAIR), np.uint8))

    def __call__(self, pairs: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes) of flow pairs (n, 2, 28, 28, 3) uint8."""
        answers = np.empty((len(pairs), self._classes), np.float32)
        done = 0
        while done < len(pairs):
            left = len(pairs) - done
            size = next((size for size in self._sizes if size >= left), self._sizes[-1])
            part = slice(done, done + size)
            with self._lock:
                self._batches[size].run(pairs[part], answers[part])
            done += size
        return answers


class _Batch:
    """The buffers of one size of batch, and their binding to the network."""

    def __init__(self, session: ort.InferenceSession, device: str, size: int, classes: int) -> None:
        (given,), (answer,) = session.get_inputs(), session.get_outputs()
        self._session = session
        # What is copied to the device in one go; rows that are not used keep what was there.
        self._host = np.zeros((size, *PAIR), np.uint8)
        allocate = ort.OrtValue.ortvalue_from_shape_and_type
        self._input = allocate(self._host.shape, np.uint8, device, 0)
        self._output = allocate((size, classes), np.float32, device, 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(given.name, self._input)
        self._binding.bind_ortvalue_output(answer.name, self._output)

    def run(self, pairs: np.ndarray, answers: np.ndarray) -> None:
        self._host[: len(pairs)] = pairs
        self._input.update_inplace(self._host)
        self._session.run_with_iobinding(self._binding)
        answers[:] = self._output.numpy()[: len(pairs)]


def _open(weights: Weights, place: str, classes: int) -> BoundNetwork:
    """The network of checked weights at a place, after its first runs.

    Raises:
        InputError: The weights are no classifier's.
        _Unavailable: The place is not the CPU, and cannot be used.
    """
    if place == "cpu":
        session = open_session(weights, [_CPU])
        _check(session, weights, classes)
        return BoundNetwork(session, "cpu", classes)
    if reason := gpu.obstacle(place):
        raise _Unavailable(reason)
    try:
        session = open_session(weights, _gpu_providers(weights, place))
        if session.get_providers()[0] == gpu.PROVIDERS[place]:
            return BoundNetwork(session, "cuda", classes)
    # ONNX Runtime raises many kinds, few of them public. Where the weights are to blame, the CPU is
    # next to find it out.
    except Exception as error:
        raise _Unavailable(f"it fails ({_first_line(error.__cause__ or error)})") from error
    raise _Unavailable("ONNX Runtime cannot start it: is the driver new enough?")


def _gpu_providers(weights: Weights, place: str) -> list[str | tuple[str, dict[str, Any]]]:
    cuda = {
        # The networks are small: to try every algorithm takes longer than it will ever bring.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The GPU may be shared: no more than is needed, and never all of it.
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": 2**30 + 4 * len(weights.content),
        # Answers as on the CPU: TF32 has 10 bits of mantissa.
        "use_tf32": 0,
    }
    providers = [(gpu.PROVIDERS["cuda"], cuda), _CPU]
    if place == "cuda":
        return providers
    # Engines are of no use to other weights or another ONNX Runtime.
    engines = default_cache() / "tensorrt" / f"{weights.card['sha256'][:16]}-{ort.__version__}"
    engines.mkdir(mode=0o700, parents=True, exist_ok=True)
    tensorrt = {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(engines),
    }
    return [(gpu.PROVIDERS["tensorrt"], tensorrt), *providers]


def _check(session: ort.InferenceSession, weights: Weights, classes: int) -> None:
    """Raises InputError unless a session takes flow pairs and gives so many probabilities."""
    remedy = "give weights that tools/recognition/train.py or import_checkpoint.py made"
    given = session.get_inputs()[0]
    if given.type != "tensor(uint8)" or tuple(given.shape[1:]) != PAIR:
        raise InputError(
            f"weights {weights.path} take an input of {given.shape}, not flow pairs: {remedy}"
        )
    (answer, *_) = session.run(None, {given.name: np.zeros((1, *PAIR), np.uint8)})
    if answer.shape != (1, classes):
        raise InputError(
            f"weights {weights.path} give {answer.shape[-1]} probabilities, but their card names "
            f"{classes} labels: {remedy}"
        )


def _first_line(error: BaseException) -> str:
    lines = str(error).split("\n", 1)
    return lines[0][:200] or type(error).__name__
