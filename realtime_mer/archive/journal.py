"""The journal beside the manifest: what has changed since the manifest was last written whole.

With 100,000 inputs, writing the manifest takes a second; a line takes some microseconds. The
manifest names its journal by a number, and the journal begins with the same number: one of an
older manifest, whose changes are in the newer one, does not count. A line that a kill or a power
cut broke off does not count either.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NUMBER = "journal"
"""The field of the manifest that has the number."""

ENTRY, REPLACED, RESTORED, DUPLICATE, NO_DUPLICATE = (
    *("entry", "replaced", "restored", "duplicate", "no_duplicate"),
)
"""What a line can say, by its only field: an entry as it is now (a new one comes last), one that
was replaced, the key of one that is no longer, a duplicate as it is now, the place of one that is
none any more."""

# More are no journal of this program.
_MOST_BYTES = 4 << 30
_MOST_BEGINNING = 1000


def line(kind: str, value: Any) -> bytes:  # noqa: ANN401
    """A line of a journal."""
    return json.dumps({kind: value}, allow_nan=False).encode("ascii") + b"\n"


def beginning(number: str) -> bytes:
    """The first line of a journal."""
    return line(NUMBER, number)


def replay(manifest: Mapping[str, Any], path: Path) -> dict[str, Any] | None:
    """The manifest with the changes that its journal tells; as it is if it names none.

    Args:
        manifest: As it was read.
        path: The journal.

    Returns:
        None if the journal is missing or another manifest's: it may just have been replaced.

    Raises:
        OSError: The journal is there and cannot be read.
    """
    number = manifest.get(NUMBER)
    if not isinstance(number, str):
        return dict(manifest)
    try:
        with path.open("rb") as file:
            if file.readline(_MOST_BEGINNING) != beginning(number):
                return None
            content = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    return _changed(manifest, _changes(content[: content.rfind(b"\n") + 1]))


def _changes(content: bytes) -> Iterable[tuple[str, Any]]:
    """What the lines say, up to the first that is none: only the end can be damaged."""
    for text in content.splitlines():
        try:
            ((kind, value),) = json.loads(text).items()
        except (ValueError, AttributeError, RecursionError):
            return
        yield kind, value


def _changed(manifest: Mapping[str, Any], changes: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    entries = {_text(entry, "key"): entry for entry in manifest["videos"]}
    duplicates = {_text(d, "place"): d for d in manifest.get("duplicates", ())}
    replaced = [*manifest.get("replaced", ())]
    for kind, value in changes:
        if kind == ENTRY:
            entries[_text(value, "key")] = value
        elif kind == REPLACED:
            entries.pop(_text(value, "key"), None)
            if value["sha256"]:
                replaced.append(value)
        elif kind == RESTORED:
            replaced = [entry for entry in replaced if entry.get("key") != value]
        elif kind == DUPLICATE:
            duplicates[_text(value, "place")] = value
        elif kind == NO_DUPLICATE:
            duplicates.pop(value, None)
    return {
        **manifest,
        "videos": [*entries.values()],
        "duplicates": [*duplicates.values()],
        "replaced": replaced,
    }


def _text(entry: Mapping[str, Any], name: str) -> str:
    return str(entry.get(name))
