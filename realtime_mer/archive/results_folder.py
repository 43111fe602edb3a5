"""The results folder: where an archive keeps what it found, and how other programs read it.

manifest.json            what was done, with what settings, and what became of each input
manifest.journal         what has changed since, while an archive is at work
videos/KEY/log.jsonl     the log of one input, as `--log` writes it
videos/KEY/events/       a clip of each micro-expression, and where its moments lie in it
videos/KEY/faces/        a thumbnail of each face
videos/KEY/session.json  of a session: what manifest.json says of an input of the archive
*.csv, *.parquet         tables over all inputs
report.html, reviews/    for people
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from realtime_mer.archive import journal
from realtime_mer.errors import InputError
from realtime_mer.output.line_file import locked
from realtime_mer.output.writable import why
from realtime_mer.redaction import redacted

FORMAT = 1
"""The format of the manifest."""

PART = ".part"
"""Ends the name of a video's folder that is being made."""

SESSION = "session"
"""The `kind` of a session's entry; those of the archive have none."""

ENDED_EARLY = "it ended early: the program was killed, or the power failed"
"""A note of a session that has no end."""

# Less than this may be missing at a file's end: headers count a little differently. As the notes of
# a source have it.
_MISSING_FRAMES = 2
_MISSING_PART = 0.02

# The key of a session ends with its start. So an archive of thousands of videos is searched quickly
# for sessions, and no key of the archive, which ends with hexadecimal digits, is one of theirs.
_SESSION_KEY = re.compile(r"-[0-9]{8}T[0-9]{6}Z(-[0-9]+)?$")
_MADE_BY = ("program", "settings")
# Leaves room for the hash and for endings within the 143 bytes of the strictest file system
# (eCryptfs).
_MAX_STEM_BYTES = 64
_HASH_DIGITS = 8


def key_of(source: str | os.PathLike[str], sha256: str) -> str:
    """The name of an input's folder, harmless on every file system.

    Args:
        source: The input's path.
        sha256: The hash of its content, hexadecimal.

    Example:
        >>> key_of("talks/Interview 3.mp4", "0123456789abcdef")
        'Interview-3-01234567'
    """
    return f"{_harmless(Path(source).stem) or 'video'}-{sha256[:_HASH_DIGITS]}"


def session_key(source: str, started: datetime, live: bool) -> str:
    """The name of a session's folder, harmless on every file system; it may be taken.

    Args:
        source: The source, as it may be shown.
        started: When the session began.
        live: Whether the source is a camera or a stream.

    Example:
        >>> session_key("camera 0", datetime(2026, 1, 31, 9, 30, 15, tzinfo=UTC), True)
        'camera-0-20260131T093015Z'
    """
    name = _harmless(source if live else Path(source).stem) or "session"
    return f"{name}-{started.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _harmless(name: str) -> str:
    name = os.fsencode(name).decode(errors="replace")
    name = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", name)).strip(".-_")
    return name.encode()[:_MAX_STEM_BYTES].decode(errors="ignore").rstrip(".-_")


class VideoResult:
    """What was found in one input.

    Args:
        key: Name of its folder.
        folder: Its folder.
        entry: What the manifest says about it.
    """

    def __init__(self, key: str, folder: Path, entry: dict[str, Any]) -> None:
        self.key, self.folder, self.entry = key, folder, entry

    @property
    def source(self) -> str:
        """The input's path, as it was given."""
        return str(self.entry["source"])

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    @property
    def frames(self) -> Path:
        """The table of its frames; it exists only if it was asked for."""
        return self.folder / "frames.csv"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def is_session(self) -> bool:
        """Whether this is a session, which cannot be done again, and no input of the archive."""
        return self.entry.get("kind") == SESSION

    @property
    def session_path(self) -> Path:
        """The entry of a session."""
        return self.folder / "session.json"

    @property
    def lock_path(self) -> Path:
        """A file that is locked for as long as a session goes on."""
        return self.folder / ".lock"

    def made_by(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """The `program` and the `settings` that made it: its own or those of the manifest."""
        return {name: self.entry.get(name) or manifest.get(name) for name in _MADE_BY}

    def records(self) -> list[dict[str, Any]]:
        """The records of its log, in their order.

        Raises:
            InputError: The log is missing or is no log.
        """
        try:
            content = self.log.read_bytes()
            if self.is_session:
                # Power cuts cut lines off.
                content = content[: content.rfind(b"\n") + 1]
            records = [json.loads(line) for line in content.splitlines() if line.strip()]
            if not records and not self.is_session:
                raise ValueError("it is empty")  # after a power cut
        except (OSError, ValueError, RecursionError) as error:
            again = "" if self.is_session else " and run the archive again"
            raise InputError(
                f"{redacted(str(self.log))} cannot be read ({why(error)}): delete its folder{again}"
            ) from None
        return [record for record in records if isinstance(record, dict)]

    def events(self) -> list[dict[str, Any]]:
        """The records of its micro-expressions, each with its `number`, from 1.

        Raises:
            InputError: As `records`.
        """
        found = [r for r in self.records() if r.get("type") == "micro_expression"]
        return [{"number": number, **record} for number, record in enumerate(found, 1)]

    def clip(self, number: int) -> Path | None:
        """The clip of a micro-expression; None if there is none."""
        return _existing(self.clip_path(number))

    def clip_path(self, number: int) -> Path:
        """Where the clip of a micro-expression is, or would be."""
        return self.folder / "events" / f"{number:04d}.mp4"

    def clip_info(self, number: int) -> dict[str, Any] | None:
        """Where the moments of a micro-expression lie in its clip; None if that is not known."""
        try:
            info = json.loads(self.clip_path(number).with_suffix(".json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return info if isinstance(info, dict) else None

    def thumbnail(self, face: int) -> Path | None:
        """The picture of a face; None if there is none."""
        name = f"{face}.jpg"
        # The log of someone else may say anything.
        return _existing(self.folder / "faces" / name) if Path(name).name == name else None


def declared_s(session: Mapping[str, Any]) -> float | None:
    """The length of a video by its header, in seconds; None if it declares none.

    Args:
        session: Its `session` record.
    """
    count, fps = session.get("frame_count"), session.get("fps")
    return count / fps if count and fps else None


def read_part(session: Mapping[str, Any], summary: Mapping[str, Any]) -> tuple[float, float] | None:
    """The seconds that could be read of a video, and those that its header declares.

    Args:
        session: Its `session` record.
        summary: Its `summary` record.

    Returns:
        None where all could be read, where the user stopped it, or where that is not known.
    """
    length_s = declared_s(session)
    if length_s is None or session.get("live") or summary.get("reason") != "end of source":
        return None
    declared, read = session["frame_count"], summary["frames_read"]
    if declared - read <= max(_MISSING_FRAMES, _MISSING_PART * declared):
        return None
    return read / session["fps"], length_s


class ResultsFolder:
    """A folder of results. Nothing is made before something is written.

    Args:
        path: Where it is, or will be.

    Example:
        >>> for video in ResultsFolder("results").done():
        ...     print(video.source, len(video.events()))
        interview.mp4 3
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def journal_path(self) -> Path:
        """What has changed since the manifest was written."""
        return self.path / "manifest.journal"

    @property
    def videos(self) -> Path:
        """The folder of the inputs' folders."""
        return self.path / "videos"

    @property
    def reviews(self) -> Path:
        """The folder of the reviewers' decisions."""
        return self.path / "reviews"

    @property
    def settings_path(self) -> Path:
        """What the review chose."""
        return self.path / "settings.json"

    @property
    def dictionary(self) -> Path:
        """What the columns of the tables mean."""
        return self.path / "data_dictionary.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def table(self, name: str, ending: str = ".csv") -> Path:
        """A table over all inputs.

        Args:
            name: "events", "videos", "faces" or "frames".
            ending: ".csv" or ".parquet".
        """
        return self.path / f"{name}{ending}"

    @property
    def manifest(self) -> dict[str, Any]:
        """What the manifest says, with the sessions' entries after those of the archive.

        It is read anew each time, for an archive or a session may be at work.

        Raises:
            InputError: There is none, or it is of another kind or a newer version.
        """
        manifest = self.archived
        return {**manifest, "videos": [*manifest["videos"], *self._sessions()]}

    @property
    def archived(self) -> dict[str, Any]:
        """What manifest.json and its journal say: the inputs of the archive alone.

        Raises:
            InputError: As `manifest`.
        """
        name = redacted(str(self.path))
        manifest = self._whole()
        damaged = InputError(
            f"the journal of {name} is damaged: delete its manifest.journal; what it tells is "
            "done again"
        )
        try:
            current = journal.replay(manifest, self.journal_path)
            if current is None:
                # An archive wrote both anew between these two lines, or was killed before the
                # second one; then the manifest has it all.
                manifest = self._whole()
                current = journal.replay(manifest, self.journal_path) or manifest
        except OSError as error:
            raise InputError(
                f"the journal of {name} cannot be read ({why(error)}): see to its permissions"
            ) from None
        except (AttributeError, LookupError, TypeError):
            raise damaged from None
        if not _is_sound(current):
            raise damaged
        return current

    def _whole(self) -> dict[str, Any]:
        """What manifest.json says.

        Raises:
            InputError: As `manifest`.
        """
        name = redacted(str(self.path))
        try:
            manifest = json.loads(self.manifest_path.read_bytes())
        except FileNotFoundError:
            raise InputError(
                f"{name} is no results folder: it has no manifest.json. Name the folder that "
                "`archive --results` wrote."
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"the manifest of {name} cannot be read ({why(error)}): restore it, or name "
                "another folder"
            ) from None
        if not isinstance(manifest, dict) or not isinstance(manifest.get("videos"), list):
            raise InputError(
                f"{name} is no results folder: its manifest.json is something else. Name another."
            )
        if manifest.get("format") != FORMAT:
            raise InputError(
                f"{name} was written in format {manifest.get('format')!r}, and this version reads "
                f"format {FORMAT}: use the version that wrote it, or name another folder"
            )
        if not _is_sound(manifest):
            raise InputError(
                f"the manifest of {name} is damaged: restore it, or name another folder"
            )
        return manifest

    def _sessions(self) -> Iterator[dict[str, Any]]:
        """The entries of the sessions, by their keys. One that was killed is done."""
        try:
            names = [name for name in os.listdir(self.videos) if _SESSION_KEY.search(name)]
        except OSError:
            return
        for name in sorted(names):
            video = VideoResult(name, self.videos / name, {})
            try:
                entry = json.loads(video.session_path.read_bytes())
                if not isinstance(entry, dict) or not isinstance(entry.get("source"), str):
                    raise ValueError("something else")
            except FileNotFoundError:
                continue  # it is about to begin
            except (OSError, ValueError, RecursionError) as error:
                reason = f"its session.json cannot be read: {why(error)}"
                entry = {"source": name, "state": "failed", "reason": reason}
            entry |= {"key": name, "kind": SESSION}
            if entry.get("state") == "running" and not _is_locked(video.lock_path):
                entry |= {"state": "done", "notes": [*(entry.get("notes") or ()), ENDED_EARLY]}
            yield entry

    def video(self, entry: dict[str, Any]) -> VideoResult:
        """The results of one entry of the manifest, whatever its state."""
        key = str(entry["key"])
        if Path(key).name != key or key in ("", ".", ".."):
            raise InputError(
                f"the manifest of {redacted(str(self.path))} names a folder outside it: restore it"
            )
        return VideoResult(key, self.videos / key, entry)

    def done(self) -> Iterator[VideoResult]:
        """The inputs that are done, in the manifest's order.

        Raises:
            InputError: As `manifest`.
        """
        for entry in self.manifest["videos"]:
            if entry.get("state") == "done":
                yield self.video(entry)


def _is_sound(manifest: dict[str, Any]) -> bool:
    """Whether a manifest has what all that read it rely on."""
    dicts = [manifest.get(name, {}) for name in ("program", "settings")]
    lists = [manifest.get(name, []) for name in ("videos", "replaced", "duplicates")]
    if not all(isinstance(of, dict) for of in dicts):
        return False
    if not all(isinstance(of, list) for of in lists):
        return False
    videos, replaced, duplicates = lists
    return all(_has_texts(entry, "key", "source", "state") for entry in [*videos, *replaced]) and (
        all(_has_texts(entry, "source", "same_as") for entry in duplicates)
    )


def _has_texts(entry: object, *names: str) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str | None):
        return False
    return all(isinstance(entry.get(name), str) for name in names)


def sha256_of_text(text: str) -> str:
    """The SHA-256 of a text, hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        # Windows lets nobody delete it while it is open; and who may not write there waits.
        return path.exists()
    try:
        return not locked(descriptor)
    finally:
        os.close(descriptor)


def _existing(path: Path) -> Path | None:
    # Path.is_file() raises an error where a name is too long or a folder is closed.
    return path if os.path.isfile(path) else None
