"""Weights: an ONNX file with its card beside it, checked before it is used."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from realtime_mer.errors import InputError


def _weights_folder() -> Path:
    """Where the networks lie: in the installed package, or in the checkout's `models/`."""
    package = Path(__file__).resolve().parent
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "models" / "weights"


CLASSIFIER = _weights_folder() / "causalnet.onnx"
"""The delivered classifier."""
SPOTTER = _weights_folder() / "spotter.onnx"
"""The delivered spotter."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Checked weights.

    Attributes:
        path: The ONNX file.
        content: Its bytes, of which the card's SHA-256 is true.
        card: The model card.
    """

    path: Path
    content: bytes
    card: dict[str, Any]


def load_weights(path: Path) -> Weights:
    """Reads an ONNX file and its card (the same name with .json), and checks the one by the other.

    Raises:
        InputError: A file is missing, or they do not belong together.
    """
    remedy = "restore both files, or make them anew with the tools that train"
    if not path.name:
        raise InputError(f"weights {str(path)!r} is no file: name an ONNX file")
    card_path = path.with_suffix(".json")
    try:
        content = path.read_bytes()
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"weights {path}: {error.filename} is missing: {remedy}") from None
    except OSError as error:
        raise InputError(f"weights {path} cannot be read ({error.strerror}): {remedy}") from None
    except ValueError:
        raise InputError(f"weights {path}: the card {card_path} is no JSON: {remedy}") from None
    digest = hashlib.sha256(content).hexdigest()
    if not isinstance(card, dict) or card.get("sha256") != digest:
        raise InputError(
            f"weights {path}: the file is not the one that {card_path.name} describes "
            f"(SHA-256 {digest[:12]}...): {remedy}"
        )
    return Weights(path, content, card)


def open_session(
    weights: Weights, providers: Sequence[str | tuple[str, dict[str, Any]]]
) -> ort.InferenceSession:
    """An ONNX Runtime session of checked weights.

    A provider that cannot be loaded is left out, or ends in an error: see what the session got.

    Raises:
        InputError: ONNX Runtime cannot use the file, or the file wants others to be read.
    """
    options = ort.SessionOptions()
    # The networks are small: more threads cost more than they bring, and they would spin.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # The card vouches for one file. Tensors in other files would be looked for in the folder that
    # the program was started in; below something that is no folder, there are none.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", os.devnull
    )
    try:
        return ort.InferenceSession(
            weights.content, options, providers=providers, enable_fallback=False
        )
    except Exception as error:  # ONNX Runtime raises many kinds, few of them public
        if re.search("external data|in-memory address", str(error), re.IGNORECASE):
            raise InputError(
                f"weights {weights.path} keep tensors outside their file, which are not read: "
                "make them anew with the tools that train"
            ) from error
        raise InputError(
            f"weights {weights.path} cannot be used by ONNX Runtime: make them anew with the tools "
            "that train"
        ) from error
