"""The manifest: what was done with what settings, and what became of each input.

One process writes it, whole or not at all, and what changes in between into a journal beside it; so
whatever is killed whenever, they tell the truth or a little less: an input that is done but not yet
told so is done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from realtime_mer import __version__
from realtime_mer.archive import journal, storage
from realtime_mer.archive.results_folder import FORMAT, ResultsFolder, key_of, sha256_of_text
from realtime_mer.errors import InputError
from realtime_mer.output.writable import replace_file, shown, why

# At least so long between two writings. What a kill costs is this much work at most.
_LEAST_S = 0.5
# A journal that is larger than the manifest, and than this, is made one with it. Chosen by
# judgement: so much is read in some 20 ms.
_JOURNAL_BYTES = 1 << 20
_DIGITS = 16
_LIBRARIES = (
    *("numpy", "opencv-python", "opencv-contrib-python", "av", "mediapipe", "ai-edge-litert"),
    *("onnxruntime", "onnxruntime-gpu"),
)


def program() -> dict[str, Any]:
    """Name and versions of what analyses, as the manifest holds them."""
    libraries = {}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            libraries[name] = importlib.metadata.version(name)
    return {
        "name": "realtime_mer",
        "version": __version__,
        "python": platform.python_version(),
        "libraries": libraries,
    }


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
        # Lines of the journal that wait, entries of which only the last state counts among them.
        self._lines: list[bytes] = []
        self._changed: dict[str, dict[str, Any]] = {}
        # The number of the journal; None if all is to be written whole.
        self._number: str | None = None
        self._journal: IO[bytes] | None = None
        # The manifest as it was written last.
        self._ours: os.stat_result | None = None
        self._written_at = 0.0
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
        if self._duplicates.pop(place, None) is not None:
            self._note(journal.NO_DUPLICATE, place)
        self.change(entry, source=source, place=place, size=size, modified_ns=modified_ns)
        return entry

    def _come_again(self, sha256: str | None) -> dict[str, Any] | None:
        """The entry of a content that was replaced; it is so no longer."""
        for number, entry in enumerate(self._replaced):
            if sha256 and entry["sha256"] == sha256 and entry["key"] not in self._by_key:
                del self._replaced[number]
                self._note(journal.RESTORED, entry["key"])
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
        self._note(journal.REPLACED, entry)

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
        self._note(journal.DUPLICATE, self._duplicates[place])

    def change(self, entry: dict[str, Any], **values: Any) -> None:  # noqa: ANN401
        """Changes fields of an entry; `write` writes them."""
        entry.update(values)
        self._changed[entry["key"]] = entry

    def _note(self, kind: str, value: Any) -> None:  # noqa: ANN401
        """Adds a line to the journal, in the order in which things happened."""
        self._note_changed()
        self._lines.append(journal.line(kind, value))

    def _note_changed(self) -> None:
        for entry in self._changed.values():
            # One that was replaced is no entry any more.
            if self._by_key.get(entry["key"]) is entry:
                self._lines.append(journal.line(journal.ENTRY, entry))
        self._changed.clear()

    def write(self, *, now: bool = False) -> None:
        """Writes what has changed, if the last time is not just past, or `now`.

        Raises:
            InputError: It cannot be written. The old one is as it was.
        """
        if not now and time.monotonic() - self._written_at < _LEAST_S:
            return
        self._note_changed()
        if not self._lines and self._number is not None:
            return
        try:
            if self._number is None or not self._is_ours() or self._is_journal_large():
                self._write_whole(secrets.token_hex(8))
            else:
                self._append(self._number)
        except OSError as error:
            self._number = None
            raise _unwritable(self._folder, error) from None
        self._written_at = time.monotonic()

    def close(self) -> None:
        """Writes it whole; nothing is left of the journal.

        Raises:
            InputError: As `write`.
        """
        self._note_changed()
        try:
            self._write_whole(None)
        except OSError as error:
            raise _unwritable(self._folder, error) from None
        finally:
            self._close_journal()

    def _write_whole(self, number: str | None) -> None:
        """Writes all of it, and begins the journal with this number."""
        top = self._top | {"videos": self.entries, "duplicates": [*self._duplicates.values()]}
        top |= {"replaced": self._replaced}
        top.pop(journal.NUMBER, None)
        if number is not None:
            top[journal.NUMBER] = number
        replace_file(self._folder.manifest_path, _text(top).encode("ascii"))
        # From here on the journal of the manifest before does not count.
        self._lines.clear()
        self._number, self._ours = number, self._folder.manifest_path.stat()
        self._close_journal()
        if number is None:
            self._folder.journal_path.unlink(missing_ok=True)

    def _append(self, number: str) -> None:
        if self._journal is None:
            # A new file: who reads the old one meanwhile keeps it.
            self._folder.journal_path.unlink(missing_ok=True)
            self._journal = self._folder.journal_path.open("xb", buffering=0)
            self._lines.insert(0, journal.beginning(number))
        content = b"".join(self._lines)
        left = memoryview(content)
        while left:
            left = left[self._journal.write(left) :]
        os.fsync(self._journal.fileno())
        self._lines.clear()

    def _close_journal(self) -> None:
        if self._journal is not None:
            with contextlib.suppress(OSError):
                self._journal.close()
            self._journal = None

    def _is_journal_large(self) -> bool:
        if self._journal is None or self._ours is None:
            return False
        return self._journal.tell() > max(_JOURNAL_BYTES, self._ours.st_size)

    def _is_ours(self) -> bool:
        """Whether the manifest is the one that was written last: a session that began at the same
        time may have replaced it."""
        try:
            now = os.stat(self._folder.manifest_path)
        except FileNotFoundError:
            return False
        return self._ours is not None and _same(now, self._ours)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    # A file that replaces another one may get its number.
    is_like = (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
    return is_like and os.path.samestat(one, other)


def _unwritable(folder: ResultsFolder, error: OSError) -> InputError:
    return InputError(
        f"{shown(folder.manifest_path)} cannot be written: {why(error)}. Free the disk, then run "
        "the same command again: it goes on where it was."
    )


def _place(source: str) -> str:
    """Tells a file from one that has the same relative path in another folder.

    A hash: results are handed on, and need not tell how the folders of this computer are called.
    """
    name = source if storage.is_stored(source) else os.path.abspath(source)
    return sha256_of_text(name)[:_DIGITS]


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
        "in_part": False,
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
