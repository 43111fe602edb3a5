"""Weights: an ONNX file and the model card beside it, checked against each other before use."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from realtime_mer.errors import InputError
from realtime_mer.redaction import printable

# Longest name and label in characters, for one line of a terminal. Chosen by judgement.
_MAX_NAME = 80
_MAX_LABEL = 32
# The delivered networks have up to 3 MB, their cards up to 6 kB. Chosen by judgement.
_MAX_NETWORK_BYTES = 1 << 30
_MAX_CARD_BYTES = 4 << 20
_REMEDY = "restore both files, or train and export the network again"


def _weights_folder(package: Path) -> Path:
    """The folder of the delivered weights.

    Args:
        package: Folder of `realtime_mer`. Installed from a wheel, it contains the weights; in a
            checkout they lie in `models/` beside it.
    """
    installed = package / "weights"
    return installed if installed.is_dir() else package.parent / "models" / "weights"


_DELIVERED = _weights_folder(Path(__file__).resolve().parent)
CLASSIFIER = _DELIVERED / "causalnet.onnx"
"""The delivered classifier."""
SPOTTER = _DELIVERED / "spotter.onnx"
"""The delivered spotter."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Checked weights.

    Attributes:
        path: The ONNX file.
        content: Its bytes; the card's SHA-256 matches them.
        card: The model card.
    """

    path: Path
    content: bytes
    card: dict[str, Any]


def load_weights(path: str | os.PathLike[str]) -> Weights:
    """Reads an ONNX file and its card (same name, .json) and checks that they belong together.

    Raises:
        InputError: A file is missing or cannot be read, or the card describes another file.
    """
    path = Path(path)
    if not path.name:
        raise InputError(f"weights {str(path)!r} is no file: name an ONNX file")
    card_path = path.with_suffix(".json")
    try:
        content = _read(path, _MAX_NETWORK_BYTES)
        card = json.loads(_read(card_path, _MAX_CARD_BYTES))
    except _TooLarge as error:
        raise InputError(f"weights {path}: {error}: {_REMEDY}") from None
    except FileNotFoundError as error:
        raise InputError(f"weights {path}: {error.filename} is missing: {_REMEDY}") from None
    except OSError as error:
        raise InputError(f"weights {path} cannot be read ({error.strerror}): {_REMEDY}") from None
    except (ValueError, RecursionError):
        raise InputError(f"weights {path}: the card {card_path} is not JSON: {_REMEDY}") from None
    digest = hashlib.sha256(content).hexdigest()
    if not isinstance(card, dict) or card.get("sha256") != digest:
        raise InputError(
            f"weights {path}: the file is not the one that {card_path.name} describes "
            f"(SHA-256 {digest[:12]}...): {_REMEDY}"
        )
    return Weights(path, content, _with_shown_names(card))


class _TooLarge(Exception):
    """A file is larger than it can be; the message names it."""


def _read(path: Path, limit: int) -> bytes:
    """The bytes of a file of at most `limit` bytes.

    Raises:
        _TooLarge: It has more.
        OSError: It cannot be read, or is no file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "no file")  # a pipe would be waited for, a device has no end
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise _TooLarge(f"{path.name} is larger than {limit >> 20} MiB")
    return content


def _with_shown_names(card: dict[str, Any]) -> dict[str, Any]:
    """The card with a name and labels that may be shown everywhere as they are."""
    shown = dict(card)
    if "name" in card:
        shown["name"] = printable(str(card["name"]), _MAX_NAME)
    if isinstance(card.get("labels"), list):
        shown["labels"] = [printable(str(label), _MAX_LABEL) for label in card["labels"]]
    return shown


def open_session(
    weights: Weights,
    providers: Sequence[str | tuple[str, dict[str, Any]]],
    batch: int | None = None,
) -> ort.InferenceSession:
    """An ONNX Runtime session of checked weights.

    ONNX Runtime skips some providers that it cannot load, without an error: ask the session which
    ones it got.

    Args:
        weights: The checked weights.
        providers: ONNX Runtime's providers, in order of preference.
        batch: The size of all batches, if the file leaves open a dimension named "batch". ONNX
            Runtime then computes shapes once and for all.

    Raises:
        InputError: ONNX Runtime cannot use the file, or the file refers to other files.
    """
    options = ort.SessionOptions()
    # One thread: on networks this small, more threads cost more than they gain, and they spin.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    if batch is not None:
        options.add_free_dimension_override_by_name("batch", batch)
    options.log_severity_level = 4
    # Read no other file: the card vouches for this one only. ONNX Runtime would look for external
    # tensors in the working folder; a path that is no folder contains none.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", os.devnull
    )
    try:
        return ort.InferenceSession(
            weights.content, options, providers=providers, enable_fallback=False
        )
    except Exception as error:  # most exception types of ONNX Runtime are not public
        if re.search("external data|in-memory address", str(error), re.IGNORECASE):
            raise InputError(
                f"weights {weights.path} keep tensors outside their file, which are not read: "
                "export the network again, into one file"
            ) from error
        raise InputError(
            f"weights {weights.path} cannot be used by ONNX Runtime: export the network again"
        ) from error
