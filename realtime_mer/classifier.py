"""The classifier: CausalNet in ONNX Runtime, from flow pairs to probabilities."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import onnxruntime as ort

from realtime_mer.event import InputError
from realtime_mer.flow import FLOW_SIZE
from realtime_mer.native import silenced_stderr
from realtime_mer.weights import load_weights, open_session

PROVIDERS = ("auto", "cpu", "cuda")
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Classifier:
    """Names the micro-expression of a flow pair.

    Attributes:
        name: Name of the weights, as their card gives it.
        labels: The classes in the order of the probabilities.
        provider: "CPU" or "CUDA".
        note: Why it does not run where it was asked to, in a sentence; else empty.

    Example:
        classifier = Classifier(Path("models/weights/causalnet.onnx"))
        probabilities = classifier.classify(pairs)
    """

    def __init__(self, weights: Path, providers: str = "auto") -> None:
        """
        Args:
            weights: ONNX file with its model card (.json) beside it.
            providers: "auto" takes CUDA where it works, "cpu" and "cuda" say which.

        Raises:
            InputError: The weights are missing, damaged or not a classifier's.
            ValueError: `providers` is none of the three.
        """
        if providers not in PROVIDERS:
            raise ValueError(f"providers is one of {', '.join(PROVIDERS)}, got {providers!r}")
        loaded = load_weights(weights)
        try:
            self.labels = tuple(str(label) for label in loaded.card["labels"])
            self.name = str(loaded.card["name"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{weights.with_suffix('.json')} is not the card of a classifier: "
                "restore it, or train with tools/train.py"
            ) from error
        wanted = [_CPU]
        if providers != "cpu" and _CUDA in ort.get_available_providers():
            wanted = [_CUDA, _CPU]
        # On a machine without a GPU the CUDA provider complains on stderr, then the CPU serves.
        with silenced_stderr():
            if wanted[0] == _CUDA:
                # It prints what it misses, and misses everything where CUDA is not installed.
                with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
                    ort.preload_dlls()
            self._session = open_session(loaded, wanted)
        on_cuda = self._session.get_providers()[0] == _CUDA
        self.provider = "CUDA" if on_cuda else "CPU"
        self.note = (
            "CUDA was asked for but cannot be used here: the classifier runs on the CPU"
            if providers == "cuda" and not on_cuda
            else ""
        )
        shape = self._session.get_inputs()[0].shape
        if list(shape[1:]) != [2, FLOW_SIZE, FLOW_SIZE, 3]:
            raise InputError(
                f"weights {weights} take an input of {shape}, not flow pairs: "
                "give weights that tools/train.py or tools/import_checkpoint.py made"
            )
        self._input = self._session.get_inputs()[0].name
        # The first run allocates; better now than at the first event.
        self.classify(np.zeros((1, 2, FLOW_SIZE, FLOW_SIZE, 3), np.uint8))

    def classify(self, pairs: np.ndarray) -> np.ndarray:
        """Probabilities (n, labels) float32 of flow pairs (n, 2, 28, 28, 3) uint8."""
        return self._session.run(None, {self._input: pairs})[0]
