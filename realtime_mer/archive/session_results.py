"""A session in a results folder: what the archive keeps of a video, kept while it happens.

    the session's thread    writes the log, and hands over frames with faces and events; it waits
                            for room only if the source is a recording
          |                 frames in bounded memory
    thread "results"        registers the faces, and writes clips, thumbnails and the entry

A session has a folder of its own and its entry in it, and writes nothing that others write. So
several sessions and an archive can work in one results folder at a time. Only the tables are
shared: who writes them locks the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from realtime_mer.archive.clips import EventClips
from realtime_mer.archive.manifest import made_with, modified, program
from realtime_mer.archive.results_folder import (
    FORMAT,
    SESSION,
    ResultsFolder,
    VideoResult,
    session_key,
)
from realtime_mer.archive.run import FolderInUseError, Settings, locked_folder
from realtime_mer.errors import InputError
from realtime_mer.interrupts import checkpoint
from realtime_mer.output.line_file import locked
from realtime_mer.output.log import JsonLinesLog
from realtime_mer.output.writable import check_writable, replace_file, shown, why
from realtime_mer.records import seconds
from realtime_mer.results import Analysis, Session, Summary
from realtime_mer.source.frame import Frame

# Frames that wait for the thread. Chosen by judgement: 1.5 s at 1280 x 720 and 30 fps, and
# encoding a clip takes a tenth of that at most, measured once.
_WAITING_BYTES = 128_000_000
# Analyses that wait, with or without a picture: five minutes at 30 fps.
_MOST_WAITING = 10_000
# A disk that takes nothing for this long is not waited for any more.
_STALL_S = 30.0
# The hash of a recording is waited for at the end, but not longer.
_HASH_WAIT_S = 30.0
# Threads wait in pieces of this length, so that Ctrl-C is noticed.
_PIECE_S = 0.2
# How often the entry tells how far the session has come, for it may be killed.
_TELL_EVERY_S = 10.0
# A sensitivity that is changed more often is told so often.
_MOST_CHANGES = 20
_NO_PICTURE = np.zeros((1, 1, 3), np.uint8)


class SessionResults:
    """A sink that writes a session's log, event clips and thumbnails into a results folder.

    It never holds up a live source: pictures that do not fit into memory are left out of the
    clips, and counted. A disk that takes nothing more costs clips, and lines of the log wait in
    memory as those of `JsonLinesLog` do; `end` raises the error.

    The session's thread calls all methods.

    Example:
        results = SessionResults("results", Settings(), note=terminal.note)
        run(recognizer, [results])
        results.close()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: Settings,
        *,
        source: str | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """
        Args:
            path: The results folder; it is made if it is not there.
            settings: Those of the session.
            source: The recording, as it was named; it counts only if it is a file or folder.
            note: Called with messages for the user.

        Raises:
            InputError: Nothing can be written there, or the folder is something else.
        """
        self._folder = ResultsFolder(path)
        self._settings, self._source, self._note = settings, source, note
        self._described, self._program = settings.to_dict(), program()
        self._prepare()
        self._entry: dict[str, Any] = {}
        self._video: VideoResult | None = None
        self._log: JsonLinesLog | None = None
        self._lock = -1
        self._live = True
        self._began_at = 0.0
        self._newest: Frame | None = None
        self._sensitivity: float | None = None
        self._changes = 0
        self._threads: list[threading.Thread] = []
        # Read by the thread at any time.
        self._duration_s, self._events = 0.0, 0
        # Guards everything below, and is notified when any of it changes.
        self._changed = threading.Condition()
        self._waiting: deque[Analysis] = deque()
        self._bytes = 0
        # Counts what the thread has done.
        self._done = 0
        self._ending = self._is_stuck = False
        self._dropped = 0
        self._failures: Counter[str] = Counter()
        self._notes: deque[str] = deque(maxlen=16)

    @property
    def key(self) -> str | None:
        """The name of the session's folder; None before it begins."""
        return None if self._video is None else self._video.key

    def begin(self, session: Session) -> None:
        """
        Raises:
            InputError: Nothing can be written there.
        """
        started = session.origin.wall_clock(0.0) if session.origin else datetime.now(UTC)
        self._live, self._began_at = session.live, time.monotonic()
        try:
            video = self._video = self._new_video(session, started)
            self._lock = os.open(video.lock_path, os.O_RDWR | os.O_CREAT, 0o666)
            locked(self._lock)
            clips = EventClips(video, self._settings.faces, self._failed)
            clips.begin(session)
            self._log = JsonLinesLog(video.log, macros=True, note=self._note)
            self._log.begin(session)
            self._write_entry()
        except OSError as error:
            raise InputError(
                f"{shown(self._folder.path)} cannot be written: {why(error)}. Free the disk or "
                "name another folder."
            ) from None
        work = threading.Thread(target=self._work, args=[clips], name="results", daemon=True)
        self._threads.append(work)
        if not session.live and os.path.isfile(video.source):
            args = [video.source]
            self._threads.append(
                threading.Thread(target=self._hash, args=args, name="hash", daemon=True)
            )
        for thread in self._threads:
            thread.start()

    def update(self, analysis: Analysis) -> None:
        assert self._log is not None, "begin comes before update"
        self._log.update(analysis)
        self._events += len(analysis.events)
        self._duration_s = max(self._duration_s, analysis.frame.time_s)
        self._watch_sensitivity(analysis)
        # While a live source is away, its last frame comes again.
        if analysis.frame is not self._newest or analysis.events:
            self._newest = analysis.frame
            self._hand_over(analysis)
        self._send_notes()

    def end(self, summary: Summary) -> None:
        """
        Raises:
            InputError: Something is missing in the results.
        """
        errors: list[str] = []
        try:
            if self._log is not None:
                self._log.end(summary)
        except InputError as error:
            errors.append(str(error))
        if self._threads:
            self._finish(summary, errors)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
            if self._video is not None:
                with contextlib.suppress(OSError):
                    self._video.lock_path.unlink()
        if errors:
            raise InputError(" ".join(errors))

    def close(self) -> None:
        """Writes the tables over all that is in the folder, if a session has ended.

        What keeps it from doing so is a note: the results are there.
        """
        if self._entry.get("state") != "done":
            return
        self._entry = {}
        where = shown(self._folder.path)
        try:
            # pyarrow takes a while to load.
            from realtime_mer.archive.tables import write_tables

            with locked_folder(self._folder):
                write_tables(self._folder, note=self._note)
        except FolderInUseError:
            self._note(
                f"an archive or another session works in {where}: it writes the tables when it ends"
            )
        except InputError as error:
            self._note(str(error))
        else:
            self._note(f"results in {where}: {self.key}")

    # In the session's thread

    def _prepare(self) -> None:
        """Makes the folder, with a manifest that says what it is."""
        folder = self._folder
        try:
            folder.videos.mkdir(parents=True, exist_ok=True)
            check_writable(folder.videos / "session")
            if folder.manifest_path.exists():
                _ = folder.archived  # is it one?
                return
            top = {"format": FORMAT, "program": self._program, "settings": self._described}
            text = json.dumps(top | {"videos": [], "duplicates": []}, allow_nan=False, indent=1)
            # Whole or not at all: half a manifest would lock everybody out. An archive that begins
            # at the same time writes its own again with each of its results.
            replace_file(folder.manifest_path, text.encode("ascii") + b"\n")
        except OSError as error:
            raise InputError(
                f"{shown(folder.path)} cannot be written: {why(error)}. Name a folder for the "
                "results."
            ) from None

    def _new_video(self, session: Session, started: datetime) -> VideoResult:
        """Makes the session's folder.

        Raises:
            OSError: It cannot be made.
        """
        named = session_key(session.source, started, session.live)
        for number in itertools.count(1):
            key = named if number == 1 else f"{named}-{number}"
            try:
                (self._folder.videos / key).mkdir()
                break
            except FileExistsError:
                continue
        # An address may hold a password; a path of this computer must lead to the file.
        is_path = not session.live and self._source is not None and os.path.exists(self._source)
        source = str(self._source) if is_path else session.source
        is_file = not session.live and os.path.isfile(source)
        size, modified_ns = modified(source) if is_file else (None, None)
        self._entry = {
            "key": key,
            "kind": SESSION,
            "live": session.live,
            "source": source,
            "sha256": None,
            "size": size,
            "modified_ns": modified_ns,
            "state": "running",
            "reason": None,
            "attempts": 1,
            "started_at": started.isoformat(timespec="milliseconds"),
            "seconds": None,
            "duration_s": None,
            "events": None,
            "notes": [],
            "made_with": made_with(self._program, self._described),
            "program": self._program,
            "settings": self._described,
        }
        return self._folder.video(self._entry)

    def _watch_sensitivity(self, analysis: Analysis) -> None:
        before, self._sensitivity = self._sensitivity, analysis.sensitivity
        if before is None or analysis.sensitivity in (None, before):
            return
        self._changes += 1
        if self._changes <= _MOST_CHANGES:
            time_s = analysis.frame.time_s
            self._add_note(
                f"from {time_s:.1f} s on, the sensitivity was {analysis.sensitivity:.2g}"
            )

    def _add_note(self, text: str) -> None:
        # A new list: the thread may be writing the old one.
        self._entry["notes"] = [*self._entry["notes"], text]

    def _hand_over(self, analysis: Analysis) -> None:
        has_picture = bool(analysis.faces)
        size = analysis.frame.image.nbytes if has_picture else 0
        if has_picture and not self._live:
            self._wait_for_room(size)
        with self._changed:
            if has_picture and (self._is_stuck or self._is_full(size)):
                if not self._dropped:
                    self._notes.append(
                        "this computer or its disk is too slow for the clips: they lack pictures"
                    )
                self._dropped += 1
                has_picture, size = False, 0
            if len(self._waiting) >= _MOST_WAITING:
                # Numbers of clips are those of events: with an event left out they were wrong.
                self._is_stuck = True
            if self._is_stuck:
                return
            analysis = replace(analysis, unshown=())
            if not has_picture:
                frame = replace(analysis.frame, image=_NO_PICTURE)
                analysis = replace(analysis, frame=frame, faces=())
            self._waiting.append(analysis)
            self._bytes += size
            self._changed.notify_all()

    def _is_full(self, size: int) -> bool:
        """Whether there is no room for another picture; there always is for a single one."""
        return self._bytes > 0 and self._bytes + size > _WAITING_BYTES

    def _wait_for_room(self, size: int) -> None:
        idle_s = 0.0
        while idle_s < _STALL_S:
            with self._changed:
                before = self._done
                if self._is_stuck or not self._is_full(size):
                    return
                self._changed.wait(_PIECE_S)
                idle_s = 0.0 if self._done != before else idle_s + _PIECE_S
            checkpoint()
        self._is_stuck = True

    def _finish(self, summary: Summary, errors: list[str]) -> None:
        """Waits for the threads, and writes the last entry."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        work, *hashing = self._threads
        self._threads = []
        if not self._wait_for_end(work):
            self._failures["the disk does not answer"] += 1
        for thread in hashing:
            thread.join(_HASH_WAIT_S)
        self._send_notes()
        if summary.reason == "stopped by user" and not self._live:
            self._add_note(f"it was stopped by the user at {summary.duration_s:.1f} s")
        elif summary.reason not in ("end of source", "stopped by user"):
            self._add_note(f"it ended early: {summary.reason}")
        if self._changes > _MOST_CHANGES:
            self._add_note(f"the sensitivity was changed {self._changes} times")
        if self._dropped:
            lacking = f"the clips lack {self._dropped} pictures: no room in memory"
            self._note(lacking)
            self._add_note(lacking)
        if self._failures:
            count = self._failures.total()
            what = "1 clip or thumbnail" if count == 1 else f"{count} clips or thumbnails"
            lost = f"{what} could not be written: {'; '.join(self._failures)}"
            self._add_note(lost)
            errors.append(f"{shown(self._folder.path)}: {lost}.")
        self._entry |= {"state": "done"}
        self._duration_s, self._events = summary.duration_s, summary.events
        try:
            self._write_entry()
        except OSError as error:
            # Readers take it for a session that was killed, and show all that is there.
            errors.append(f"{shown(self._folder.path)} cannot be written: {why(error)}.")

    def _wait_for_end(self, thread: threading.Thread) -> bool:
        """Waits for the thread; False if it stops making progress."""
        before, until = -1, 0.0
        while thread.is_alive():
            if self._done != before:
                before, until = self._done, time.monotonic() + _STALL_S
            elif time.monotonic() > until:
                return False
            thread.join(_PIECE_S)
        return True

    def _send_notes(self) -> None:
        while self._notes:
            self._note(self._notes.popleft())

    # In the threads

    def _work(self, clips: EventClips) -> None:
        """The work of the thread "results"."""
        told_at, told = time.monotonic(), (0.0, 0)
        while True:
            with self._changed:
                if not self._waiting and not self._ending:
                    self._changed.wait(_TELL_EVERY_S)
                analysis = self._waiting.popleft() if self._waiting else None
                if analysis is None and self._ending:
                    break
                if analysis is not None and analysis.faces:
                    self._bytes -= analysis.frame.image.nbytes
            if analysis is not None:
                try:
                    clips.update(analysis)
                except Exception as error:
                    self._failed(error)
                with self._changed:
                    self._done += 1
                    self._changed.notify_all()
            now, state = time.monotonic(), (self._duration_s, self._events)
            if now - told_at >= _TELL_EVERY_S and state != told:
                told_at, told = now, state
                # What keeps it from that keeps the log from being written, too.
                with contextlib.suppress(OSError):
                    self._write_entry()
        try:
            clips.end(_NO_SUMMARY)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Counts what could not be written, and tells each reason once."""
        reason = why(error)
        with self._changed:
            if reason not in self._failures:
                self._notes.append(
                    f"a clip or thumbnail could not be written: {reason}. The analysis goes on."
                )
            self._failures[reason] += 1
            self._done += 1

    def _write_entry(self) -> None:
        """Writes what is known of the session by now.

        Raises:
            OSError: It cannot be written. The old entry is as it was.
        """
        assert self._video is not None
        worked_s = round(time.monotonic() - self._began_at, 1)
        known = {"seconds": worked_s, "events": self._events}
        entry = self._entry | known | {"duration_s": seconds(self._duration_s)}
        text = json.dumps(entry, allow_nan=False, indent=1)
        replace_file(self._video.session_path, text.encode("ascii") + b"\n")

    def _hash(self, path: str) -> None:
        """The work of the thread "hash": a recording is known by its content."""
        with contextlib.suppress(OSError), open(path, "rb", buffering=0) as file:
            self._entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()


_NO_SUMMARY = Summary("", 0, 0, 0, 0, 0.0, 0.0, 0)
