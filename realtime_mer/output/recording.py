"""Clips of events: the frames around each micro-expression, lossless, with a JSON file beside.

    the session's thread    hands over frames and events; for files it waits when memory is full
          |                 the frames of the last seconds, in bounded memory
    thread "compressing"    pictures become lossless packets, at a third of the bytes or so
          |
    thread "recording"      packets of events become files

Nothing reaches the disk before an event is found. While recording is off, nothing is kept.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from realtime_mer.errors import InputError
from realtime_mer.interrupts import checkpoint
from realtime_mer.output.clip_folder import LIMIT_BYTES, ClipFolder, FolderFullError
from realtime_mer.output.frame_memory import MEMORY_BYTES, FrameMemory, KeptFrame
from realtime_mer.output.open_clip import OpenClip
from realtime_mer.output.writable import shown, why
from realtime_mer.results import Analysis, MicroExpression, Session, Summary
from realtime_mer.source.frame import Frame

BEFORE_S = 2.0
AFTER_S = 2.0
"""Chosen by judgement: enough to see the face at rest before and after the motion."""

# An event is reported at most this long after its onset.
_MAX_REPORT_DELAY_S = 1.5
# A live source that is away for this long does not complete the clip that waits for it.
_AWAY_S = 5.0
# Clips that may wait while the disk hangs: at a time, 16 faces have 16 events.
_MAX_CLIPS = 64
# Frames between two looks at the free disk space.
_CHECK_FRAMES = 16
# A disk that takes nothing for this long is not waited for any more.
_STALL_S = 30.0
# The user is told why the end takes longer than this.
_PATIENCE_S = 2.0
# Threads wait in pieces of this length, so that Ctrl-C is noticed.
_PIECE_S = 0.2

# Why a clip lacks frames.
_OFF = "recording was off"
_SWITCHED_ON = "recording was switched on later"


class EventRecorder:
    """Records a clip of each event, from 2 s before its onset to 2 s after its offset.

    Every picture in a clip is, bit for bit, the one that was analysed, with its own time. A clip
    gets its name when it is complete, and is never overwritten or deleted. The JSON file beside it
    holds the event's log record, the time of every frame, and which frames it lacks and why.

    Of a file nothing is lost: the session waits while memory is full. A live source is never held
    up: its frames are lost if disk or processor are too slow for the memory. A clip that cannot be
    written is lost; the recording goes on, and `end` raises the error.

    The session's thread calls `begin`, `update` and `end`; any thread may call the rest.

    Example:
        recorder = EventRecorder("recordings", note=terminal.note)
        recorder.toggle()  # from any thread
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        on: bool = True,
        note: Callable[[str], None] = lambda text: None,
        limit_bytes: int = LIMIT_BYTES,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """
        Args:
            folder: Where the clips go. If it does not exist, it is made for this user alone: at
                once if recording is on, else for the first clip.
            on: Whether to record from the start.
            note: Called with messages for the user, in the thread that calls the recorder.
            limit_bytes: Size of all clips in the folder at which no more are written.
            memory_bytes: Memory for frames, at most; never more than a quarter of the machine's.

        Raises:
            InputError: `on`, and nothing can be written there.
        """
        # From now on only the recording thread writes there.
        self._folder = ClipFolder(Path(folder), limit_bytes)
        if on:
            self._folder.make()
        self._note = note
        # Of the session's thread alone; the recording thread reads the session.
        self._session: Session | None = None
        self._threads: tuple[threading.Thread, ...] = ()
        self._newest: Frame | None = None
        self._newest_at = 0.0
        self._stalled_at = -1
        # Guards everything below, and is notified when any of it changes.
        self._changed = threading.Condition()
        self._is_on = on
        self._was_off = False
        self._ending = False
        waiting_s = BEFORE_S + _MAX_REPORT_DELAY_S
        self._memory = FrameMemory(self._changed, self._is_wanted, waiting_s, memory_bytes)
        self._clips: list[OpenClip] = []
        # Counts what the recording thread has done.
        self._done = 0
        self._recorded = 0
        self._lacking: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._notes: deque[str] = deque(maxlen=16)

    @property
    def is_on(self) -> bool:
        """Whether events are recorded."""
        return self._is_on

    @property
    def dropped(self) -> int:
        """Number of frames that the finished clips lack."""
        return self._lacking.total()

    @property
    def folder(self) -> Path:
        """Where the clips go."""
        return self._folder.path

    def toggle(self) -> None:
        """Switches recording on or off, from any thread. Off completes the open clips."""
        with self._changed:
            self._is_on = not self._is_on
            if self._is_on:
                self._was_off = True
                # A folder that is gone is made again when the user asks for it.
                self._folder.allow_making()
            else:
                self._seal("recording was switched off")
                self._memory.forget_unwanted(_OFF)
            self._changed.notify_all()

    def begin(self, session: Session) -> None:
        self._session = session

    def update(self, analysis: Analysis) -> None:
        with self._changed:
            if self._is_on:
                self._start()
                # While a live source is away, its last frame is shown again: keep it once.
                if analysis.frame is not self._newest:
                    self._keep(analysis)
                elif self._is_live and time.monotonic() - self._newest_at > _AWAY_S:
                    self._seal("the source gave no frames")
                for event in analysis.events:
                    self._plan(event)
                self._changed.notify_all()
        if not self._is_live:
            self._wait_for_room()
        self._send_notes()

    def end(self, summary: Summary) -> None:
        """
        Raises:
            InputError: Clips could not be written, or not completely.
        """
        with self._changed:
            self._seal("the session ended")
            self._memory.forget_unwanted(_OFF)
            self._memory.stop()
            self._ending = True
            self._is_on = False
            self._changed.notify_all()
        has_ended = self._wait_for_end()
        with self._changed:
            if not has_ended:
                reason = f"the disk of {shown(self.folder)} does not answer"
                self._failures[reason] += max(1, len(self._clips))
            recorded, lacking, failures = self._recorded, self._lacking, self._failures
            self._recorded, self._lacking, self._failures = 0, Counter(), Counter()
        self._send_notes()
        if recorded:
            clips = "1 clip" if recorded == 1 else f"{recorded} clips"
            self._note(f"{clips} recorded in {shown(self.folder)}")
        if lacking:
            self._note(
                f"the clips lack {lacking.total()} frames ({_listed(lacking)}): "
                "the .json beside a clip names them"
            )
        if failures:
            count = failures.total()
            clips = "1 clip is" if count == 1 else f"{count} clips are"
            raise InputError(f"{clips} lost or cut short: {_listed(failures)}.")

    # In the session's thread, with the lock held

    @property
    def _is_live(self) -> bool:
        return self._session is None or self._session.live

    def _start(self) -> None:
        if not self._threads:
            self._ending = False
            recording = threading.Thread(target=self._record, name="recording", daemon=True)
            self._threads = (self._memory.start(), recording)
            recording.start()

    def _keep(self, analysis: Analysis) -> None:
        self._newest, self._newest_at = analysis.frame, time.monotonic()
        if self._was_off:
            # Those that were not shown may be from before recording was switched on.
            self._memory.add(analysis.frame, skipped=_OFF)
            self._was_off = False
        else:
            for frame in (*analysis.unshown, analysis.frame):
                self._memory.add(frame)

    def _plan(self, event: MicroExpression) -> None:
        if len(self._clips) >= _MAX_CLIPS:
            self._failed(f"too many events wait for the disk of {shown(self.folder)}")
            return
        start_s = max(0.0, event.interval.onset_s - BEFORE_S)
        end_s = event.interval.offset_s + AFTER_S
        first = self._memory.since(start_s)
        assert first is not None, "the frame of the report is there"
        clip = OpenClip(event, start_s, end_s, datetime.now().astimezone(), first.number)
        if first.skipped == _OFF and first.time_s > start_s:
            clip.begins_late = _SWITCHED_ON
        self._clips.append(clip)

    # In any thread, with the lock held

    def _is_wanted(self, kept: KeptFrame) -> bool:
        return any(clip.wants(kept) for clip in self._clips)

    def _seal(self, reason: str) -> None:
        """Lets the clips end with the frames that have been handed over."""
        newest = self._memory.newest
        if newest is not None:
            for clip in self._clips:
                clip.seal(newest, reason)

    def _failed(self, reason: str) -> None:
        """Counts a clip that is lost or cut short, and tells each reason once."""
        if reason not in self._failures:
            self._notes.append(f"a clip is lost or cut short: {reason}")
        self._failures[reason] += 1

    @property
    def _progress(self) -> int:
        """Grows as long as the threads get on. Also without the lock."""
        return self._memory.compressed + self._done

    # In the session's thread, without the lock unless taken here

    def _wait_for_room(self) -> None:
        """Holds a file's analysis until the threads have made room for another frame."""
        idle_s = 0.0
        while idle_s < _STALL_S:
            with self._changed:
                before = self._progress
                if not self._memory.is_crowded or self._stalled_at == before:
                    return
                self._changed.wait(_PIECE_S)
                idle_s = 0.0 if self._progress != before else idle_s + _PIECE_S
            checkpoint()
        self._stalled_at = self._progress

    def _wait_for_end(self) -> bool:
        """Waits for the threads; False if they stop making progress."""
        threads, self._threads = self._threads, ()
        until, told, before = time.monotonic() + _STALL_S, False, -1
        tell_at = time.monotonic() + _PATIENCE_S
        for thread in threads:
            while thread.is_alive():
                thread.join(_PIECE_S)
                now = time.monotonic()
                if self._progress != before:
                    before, until = self._progress, now + _STALL_S
                if now > until:
                    return False
                if now > tell_at and not told:
                    told = True
                    self._note(f"writing the last clips to {shown(self.folder)} ...")
        return True

    def _send_notes(self) -> None:
        while self._notes:
            self._note(self._notes.popleft())

    # In the recording thread, without the lock unless taken here

    def _record(self) -> None:
        """The work of the thread."""
        while (job := self._next_job()) is not None:
            clip, kept = job
            try:
                if kept is not None:
                    self._write(clip, kept)
                else:
                    self._finish(clip)
            except FolderFullError as full:
                self._cut(clip, str(full))
            except Exception as error:
                self._lose(
                    clip,
                    f"{shown(self.folder)} cannot be written: {why(error)}; "
                    "check the folder and its disk",
                )
            del job, kept
            with self._changed:
                self._done += 1
                self._changed.notify_all()

    def _next_job(self) -> tuple[OpenClip, KeptFrame | None] | None:
        """Waits for a frame to write, or a clip to finish (no frame); returns None at the end."""
        with self._changed:
            while True:
                for clip in self._clips:
                    kept = self._next_of(clip)
                    if kept is None:
                        newest = self._memory.newest
                        if newest is not None and clip.ends_with(newest):
                            self._clips.remove(clip)
                            return clip, None
                    elif kept.packet is not None:
                        clip.next_number += 1
                        # A copy: memory may let go of the packet while it is written.
                        return clip, replace(kept)
                if self._ending and not self._clips:
                    return None
                self._changed.wait()

    def _next_of(self, clip: OpenClip) -> KeptFrame | None:
        """The next frame of a clip that is not lost; None if there is none yet or any more.

        With the lock held.
        """
        kept = self._memory.from_number(clip.next_number)
        while kept is not None and clip.spans(kept):
            clip.next_number = kept.number
            if kept.lost is None:
                return kept
            clip.lacks(kept, kept.lost)
            clip.next_number += 1
            kept = self._memory.from_number(clip.next_number)
        return None

    def _write(self, clip: OpenClip, kept: KeptFrame) -> None:
        file = clip.file
        if file is None:
            self._folder.make()
            self._folder.check_room(0)
            file = clip.open(self.folder, kept.shape)
        elif len(clip.times_s) % _CHECK_FRAMES == 0:
            self._folder.check_room(file.size)
        clip.write(file, kept)

    def _finish(self, clip: OpenClip) -> None:
        if clip.file is None:
            reasons = " and ".join(clip.missing_by_reason()) or "no frames"
            with self._changed:
                self._failed(f"not one of its frames is there ({reasons})")
            return
        assert self._session is not None, "begin comes before update"
        clip.finish(self._session)
        with self._changed:
            self._recorded += 1
            self._lacking += clip.missing_by_reason()

    def _cut(self, clip: OpenClip, reason: str) -> None:
        """Ends a clip where it is; without frames, it is lost."""
        self._give_up(clip, reason)
        if clip.times_s:
            clip.cut_short = reason
            # If that fails nothing is left of it, and the reason is the same.
            with contextlib.suppress(Exception):
                self._finish(clip)
        clip.discard()

    def _lose(self, clip: OpenClip, reason: str) -> None:
        self._give_up(clip, reason)
        clip.discard()

    def _give_up(self, clip: OpenClip, reason: str) -> None:
        with self._changed:
            if clip in self._clips:
                self._clips.remove(clip)
            self._failed(reason)


def _listed(reasons: Counter[str]) -> str:
    """Each reason, with its count if there are several."""
    if len(reasons) == 1:
        return next(iter(reasons))
    return "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common())
