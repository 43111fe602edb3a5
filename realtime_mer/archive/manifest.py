"""The manifest: what was done with what settings, and what became of each input.

One process writes it, whole or not at all; so whatever is killed whenever, it tells the truth or
a little less: an input that is done but not yet told so is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from realtime_mer.archive.results_folder import FORMAT, ResultsFolder, key_of, sha256_of_text
from realtime_mer.errors import InputError
from realtime_mer.output.writable import replace_file, shown, why

# At least so long between two writings, and so many times as long as one takes: with 10,000 inputs
# some 0.1 s, measured once. What a kill costs is this much work at most.
_LEAST_S = 0.5
_PART_OF_TIME = 20.0
_DIGITS = 16


def made_with(program: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """A hash of all that results depend on besides the input."""
    text = json.dumps([program["version"], settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


class Manifest:
    """The manifest of a results folder, in memory and on disk.

    Entries keep their order: that in which their inputs were first named.

    Args:
        folder: The results folder; it must exist.
        program: Name and versions.
        settings: All that results depend on.

    Raises:
        InputError: There is a manifest, but not one of this format.
    """

    def __init__(
        self, folder: ResultsFolder, program: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        self._folder = folder
        self._top = folder.archived if folder.manifest_path.exists() else {}
        self.made_with = made_with(program, settings)
        self.entries: list[dict[str, Any]] = [*map(_completed, self._top.get("videos", ()))]
        self._by_key = {entry["key"]: entry for entry in self.entries}
        self._by_hash = {e["sha256"]: e for e in self.entries if e["sha256"]}
        self._by_place = {entry["place"]: entry for entry in self.entries}
        self._duplicates = {d["place"]: d for d in map(_completed, self._top.get("duplicates", ()))}
        # Contents that files had before.
        self._replaced: list[dict[str, Any]] = [*map(_completed, self._top.get("replaced", ()))]
        self._top |= {"format": FORMAT, "program": dict(program), "settings": dict(settings)}
        self._is_dirty = True
        self._written_at, self._cost_s = 0.0, 0.0
        for entry in self.entries:
            self._judge(entry)

    def _judge(self, entry: dict[str, Any]) -> None:
        """Sets the state of an entry of an earlier run to what it is worth now."""
        if entry["state"] == "running":
            self.change(entry, state="waiting")
        elif entry["state"] == "done" and entry["made_with"] != self.made_with:
            # Tables must not mix what other settings found.
            reason = "it was done with other settings: name it again to do it again"
            self.change(entry, state="waiting", reason=reason)
        elif entry["state"] == "waiting" and self._is_whole(entry):
            # The settings are again as they were.
            self.change(entry, state="done", reason=None)

    def _is_whole(self, entry: Mapping[str, Any]) -> bool:
        """Whether an entry's results are there, made with these settings."""
        is_ours = entry["made_with"] == self.made_with and entry["events"] is not None
        return is_ours and self._folder.video(dict(entry)).log.is_file()

    def is_done(self, entry: Mapping[str, Any]) -> bool:
        """Whether an input needs nothing more."""
        return entry["state"] == "done" and self._is_whole(entry)

    def has_failed(self, entry: Mapping[str, Any]) -> bool:
        """Whether an input failed with these settings."""
        return entry["state"] == "failed" and entry["made_with"] == self.made_with

    def known(self, source: str, size: int, modified_ns: int) -> str | None:
        """The hash of a file that has not been touched since it was read; None of others."""
        place = _place(source)
        entry = self._by_place.get(place) or self._duplicates.get(place)
        if entry is None or (entry["size"], entry["modified_ns"]) != (size, modified_ns):
            return None
        return str(entry["sha256"]) if entry["sha256"] else None

    def of_content(self, sha256: str) -> dict[str, Any] | None:
        """The entry of an input with this content, under whatever name."""
        return self._by_hash.get(sha256)

    def add(self, source: str, sha256: str | None, size: int, modified_ns: int) -> dict[str, Any]:
        """The entry of an input, a new one unless it has one. It is waiting.

        If the file had another content before, that content's entry moves to "replaced", and back
        if the content comes again; its folder stays.

        Args:
            source: The path, as it was given.
            sha256: The hash of its content; None if it could not be read.
            size: Bytes.
            modified_ns: When it was changed last.
        """
        place = _place(source)
        before = self._by_place.get(place)
        if sha256:
            entry = self._by_hash.get(sha256)
        else:
            # If it could not be read the last time either, that is its entry.
            entry = before if before is not None and not before["sha256"] else None
        if before is not None and before is not entry:
            self._replace(before)
        if entry is None:
            entry = self._come_again(sha256) or _completed(
                {"key": self._free_key(source, sha256), "source": source, "sha256": sha256}
            )
            self.entries.append(entry)
            self._by_key[entry["key"]] = entry
            if sha256:
                self._by_hash[sha256] = entry
        # It may have been moved, or touched.
        self._by_place.pop(entry["place"], None)
        self._by_place[place] = entry
        self._duplicates.pop(place, None)
        self.change(entry, source=source, place=place, size=size, modified_ns=modified_ns)
        return entry

    def _come_again(self, sha256: str | None) -> dict[str, Any] | None:
        """The entry of a content that was replaced; it is so no longer."""
        for number, entry in enumerate(self._replaced):
            if sha256 and entry["sha256"] == sha256 and entry["key"] not in self._by_key:
                del self._replaced[number]
                self._judge(entry)
                return entry
        return None

    def _free_key(self, source: str, sha256: str | None) -> str:
        # What cannot be read has no content to be called by.
        digits = sha256 or sha256_of_text(source)
        key = key_of(source, digits)
        return key if key not in self._by_key else f"{key}{digits[8:]}"

    def _replace(self, entry: dict[str, Any]) -> None:
        self.entries.remove(entry)
        self._by_key.pop(entry["key"], None)
        self._by_place.pop(entry["place"], None)
        self._by_hash.pop(entry["sha256"], None)
        if entry["sha256"]:
            self._replaced.append(entry)
        self._is_dirty = True

    def add_duplicate(
        self, source: str, sha256: str, size: int, modified_ns: int, same_as: Mapping[str, Any]
    ) -> None:
        """Notes that a file has the content of another input."""
        place = _place(source)
        before = self._by_place.get(place)
        if before is not None:
            self._replace(before)
        self._duplicates[place] = {
            "source": source,
            "place": place,
            "sha256": sha256,
            "size": size,
            "modified_ns": modified_ns,
            "same_as": same_as["key"],
        }
        self._is_dirty = True

    def change(self, entry: dict[str, Any], **values: Any) -> None:  # noqa: ANN401
        """Changes fields of an entry; `write` writes them."""
        entry.update(values)
        self._is_dirty = True

    def write(self, *, now: bool = False) -> None:
        """Writes it if it has changed and the last time is not just past, or `now`.

        Raises:
            InputError: It cannot be written. The old one is as it was.
        """
        pause_s = max(_LEAST_S, _PART_OF_TIME * self._cost_s)
        started = time.monotonic()
        if not self._is_dirty or (not now and started - self._written_at < pause_s):
            return
        top = self._top | {"videos": self.entries, "duplicates": [*self._duplicates.values()]}
        top |= {"replaced": self._replaced}
        try:
            replace_file(self._folder.manifest_path, _text(top).encode("ascii"))
        except OSError as error:
            raise InputError(
                f"{shown(self._folder.manifest_path)} cannot be written: {why(error)}. Free the "
                "disk, then run the same command again: it goes on where it was."
            ) from None
        self._is_dirty = False
        self._written_at = time.monotonic()
        self._cost_s = self._written_at - started


def _place(source: str) -> str:
    """Tells a file from one that has the same relative path in another folder.

    A hash: results are handed on, and need not tell how the folders of this computer are called.
    """
    return sha256_of_text(os.path.abspath(source))[:_DIGITS]


def _completed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with all fields, whoever wrote it."""
    return {
        "key": "",
        "source": "",
        "place": _place(str(entry["source"])),
        "sha256": None,
        "size": 0,
        "modified_ns": 0,
        "state": "waiting",
        "reason": None,
        "attempts": 0,
        "started_at": None,
        "seconds": None,
        "duration_s": None,
        "events": None,
        "notes": [],
        "made_with": None,
        **entry,
    }


def _text(top: Mapping[str, Any]) -> str:
    """JSON with a line for each entry: as quick as without lines, and people can read it.

    Names that are not UTF-8 stay as Python has them, so that they still name their files.
    """
    parts = []
    for name, value in top.items():
        if isinstance(value, list) and value:
            rows = ",\n  ".join(json.dumps(row, allow_nan=False) for row in value)
            text = f"[\n  {rows}\n ]"
        else:
            text = json.dumps(value, allow_nan=False)
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def modified(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Size in bytes, and when a file was changed last, in nanoseconds.

    Raises:
        OSError: It cannot be asked.
    """
    found = Path(path).stat()
    return found.st_size, found.st_mtime_ns
