"""Videos on shared storage: addresses such as s3://interviews/monday, which fsspec reads.

A shared folder, such as one on NFS, is a path like any other and needs none of this.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any

from realtime_mer.errors import InputError
from realtime_mer.output.writable import why
from realtime_mer.redaction import printable, redacted

PACKAGES: Mapping[str, str | None] = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "hdfs": "pyarrow",
    "file": None,
}
"""The schemes that are read, and the package that fsspec needs for each."""

# No "@": keys and passwords belong where the storage's package looks for them. No "?" either:
# signed addresses are keys, too; and as a pattern it would be taken for a query.
_ADDRESS = re.compile(rf"({'|'.join(PACKAGES)})://[^@?#\\]+", re.IGNORECASE)
_CHANGED = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated")


def is_stored(source: str) -> bool:
    """Whether a source is an address on shared storage, and holds no credentials."""
    return bool(_ADDRESS.fullmatch(source)) and "::" not in source


def has_scheme(source: str) -> bool:
    """Whether a source begins like an address on shared storage, whatever follows."""
    return source.partition("://")[0].lower() in PACKAGES and "://" in source


def find(source: str, endings: frozenset[str]) -> list[str]:
    """The videos that an address names: a file, a folder with all in it, or a pattern with "*".

    Args:
        source: The address.
        endings: What the names of videos end with, in lower case. A file that is named itself may
            end otherwise.

    Raises:
        InputError: It names nothing, or the storage cannot be asked.
    """
    if not is_stored(source):
        raise InputError(
            f"{redacted(source)} cannot be used: leave user names, keys and signatures out of the "
            "address, and give them to the storage's package in its own way, such as AWS_PROFILE"
        )
    fs, path = _opened(source)
    with _errors_of(source):
        if "*" in source or "[" in source:
            found = fs.glob(path)
        elif fs.isfile(path):
            return [source]
        else:
            found = fs.find(path)
    scheme = source.partition("://")[0]
    videos = sorted(
        name
        for name in map(str, found)
        if posixpath.splitext(name)[1].lower() in endings
        and not any(p.startswith(".") for p in name.split("/"))
    )
    if not videos:
        raise InputError(f"{redacted(source)} names no video. Check the address.")
    return [f"{scheme}://{name.removeprefix(f'{scheme}://')}" for name in videos]


def look(source: str) -> tuple[int, int]:
    """Size in bytes, and a number that is another one if the content was changed.

    Raises:
        OSError: It is not there, or cannot be asked.
        InputError: The storage's package is missing, or it is no file.
    """
    fs, path = _opened(source)
    with _errors_of(source):
        info = fs.info(path)
    if info.get("type") != "file" or not isinstance(info.get("size"), int):
        raise InputError("it is no file of known size")
    marks = [f"{name}={info[name]}" for name in _CHANGED if info.get(name) is not None]
    digest = hashlib.sha256("\n".join(marks).encode()).digest()
    return info["size"], int.from_bytes(digest[:6], "big")


@contextlib.contextmanager
def opened(source: str) -> Iterator[IO[bytes]]:
    """Opens a path or an address to be read once from its beginning.

    Raises:
        OSError: It cannot be read.
        InputError: The storage's package is missing, or the storage refuses.
    """
    if not is_stored(source):
        with open(source, "rb", buffering=0) as file:
            yield file
        return
    fs, path = _opened(source)
    with _errors_of(source), fs.open(path, "rb", cache_type="readahead") as file:
        yield file


def _opened(source: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Raises:
        InputError: A package is missing, or the storage cannot be reached.
    """
    scheme = source.partition("://")[0].lower()
    package = PACKAGES[scheme]
    try:
        import fsspec
    except ImportError:
        raise InputError(
            f"{redacted(source)} needs the package fsspec: pip install realtime-mer[ray]"
        ) from None
    try:
        with _errors_of(source):
            fs, path = fsspec.core.url_to_fs(source)
    except ImportError:
        raise InputError(
            f"{redacted(source)} needs the package {package} on every machine: "
            f"pip install {package}"
        ) from None
    return fs, path


@contextlib.contextmanager
def _errors_of(source: str) -> Iterator[None]:
    """Errors of the storage's package, of whatever kind, become those that are told to users."""
    try:
        yield
    except (OSError, InputError, ImportError):
        raise
    except Exception as error:
        text = printable(" ".join(str(why(error)).split()), 200)
        raise InputError(f"{redacted(source)} cannot be read: {text}") from None
