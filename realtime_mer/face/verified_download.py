"""Downloads a file whose digest is known."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from realtime_mer.errors import InputError

# Bytes per read; small enough for the progress bar to move.
_CHUNK = 1 << 16


def download_verified(
    url: str,
    target: Path,
    sha256: str,
    size: int,
    what: str,
    remedy: str,
    timeout_s: float,
) -> bytes:
    """Downloads a file, which appears only once it is complete and verified.

    Args:
        url: Its address.
        target: Where to put it; the folder is made.
        sha256: The digest that it must have, in hexadecimal digits.
        size: Its size, bytes.
        what: What it is, for messages and the progress bar.
        remedy: What else the user can do, for the end of messages.
        timeout_s: How long the server may stay silent, in seconds.

    Returns:
        Its bytes.

    Raises:
        InputError: That fails.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=target.name, suffix=".part", dir=target.parent)
    except OSError as error:
        raise InputError(
            f"{what} cannot be stored in {target.parent} ({error.strerror}): make it "
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
                task = progress.add_task(what, total=size)
                # One byte too many is enough to see that it is another file.
                while chunk := response.read(min(_CHUNK, size + 1 - len(content))):
                    file.write(chunk)
                    content += chunk
                    progress.update(task, completed=len(content))
        if hashlib.sha256(content).hexdigest() != sha256:
            got = len(content)
            wrong = f"ended after {got} of {size} bytes" if got < size else "is another"
            raise InputError(
                f"{what}: the file at {url} {wrong} and was deleted: try again; {remedy}"
            )
        part.replace(target)
        return bytes(content)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise InputError(
            f"{what} cannot be downloaded from {url} ({reason}): check the network; {remedy}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
