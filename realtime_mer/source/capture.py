"""Capture: a camera, a file, a folder of frames or a stream becomes a sequence of frames.

A thread reads the source, so that the analysis never waits for a disk, a network or a sensor while
it could compute. If the analysis is slower than the source:

- live (camera, stream): a few frames wait, so that a short delay loses none; if the analysis stays
  behind, the newest frame replaces those that wait, and the dropped ones are counted;
- recorded (file, folder, file behind a URL): the thread waits, and every frame is delivered; so it
  does with a stream that comes in pieces of seconds, unless the analysis falls seconds behind.

A live source that is lost is opened again, and its clock goes on.
"""

from __future__ import annotations

import contextlib
import enum
import math
import operator
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import SupportsIndex

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.interrupts import checkpoint
from realtime_mer.results import ClockOrigin, GapReason, SourceStatus, StatusChange
from realtime_mer.source.camera import CAMERA_FORMAT, CAMERA_RATE, CAMERA_SIZE, CameraRequest
from realtime_mer.source.clock import PresentationClock
from realtime_mer.source.frame import Frame, check_picture
from realtime_mer.source.health import Outage, Outages, SourceHealth
from realtime_mer.source.kinds import reader_for
from realtime_mer.source.reader import OPEN_TIMEOUT_S, STALL_TIMEOUT_S, Grab, Reader

# While one live frame is analysed for 130 ms, four more come at 30 fps and eight at 60: they wait,
# and an analysis that is faster than the source soon catches up. A waiting frame is at most 0.15 s
# old, which nobody notices; eight take 22 MB at 1280 x 720.
_LIVE_FRAMES = 8
_LIVE_AGE_S = 0.15
# A stream that comes in pieces of seconds is seconds old already, and its frames can wait where
# they are. Chosen by judgement.
_BUFFERED_AGE_S = 5.0
# Enough to decode ahead; at 4K a frame is 25 MB.
_RECORDED_FRAMES = 4
# `close` waits this long for the thread, which may be inside a native read. Chosen by judgement:
# longer than the period of any camera, and hardly noticed when a program ends.
_JOIN_TIMEOUT_S = 0.8
# Waits are cut into pieces of this length, so that Ctrl-C is noticed on every platform.
_WAIT_S = 0.2
# Pauses before a lost source is opened again: exponential back-off from the first to the second.
# A source that works for longer than the second starts again with the first.
_REOPEN_S = (0.5, 8.0)
# Beyond its timeout, a read gets this much longer to return before we call it hung. Chosen by
# judgement: FFmpeg checks its timeouts several times a second, and a machine may be busy.
_GRACE_S = 1.0
# A read that has used up this part of the stall timeout ended in silence, not at an end.
_STALLED_PART = 0.9
# Live frames are never closer in time: with two equal timestamps, the clock would stand still.
_TICK_S = 0.001
# A source that is silent for this long is worth an alert, and a gap, before it counts as lost.
# Chosen by judgement.
_SILENT_S = 1.0
# A source may come and go all night: this many losses get a note.
_MAX_NOTED_LOSSES = 5
# Status changes that wait to be taken; the oldest go first.
_MAX_STATUSES = 100
# Headers are often off by one or two frames, or 2 %, which is not worth a note.
_MISSING_FRAMES = 2
_MISSING_PART = 0.02
# What a reader may raise when its source is not there.
_LOST = (InputError, OSError, cv2.error)


class State(enum.Enum):
    """The state of a capture; the value is its wording for users."""

    NEW = "not opened"
    RUNNING = "running"
    RECONNECTING = "reconnecting"
    ENDED = "end of source"
    STALLED = "the stream stalled"
    FAILED = "failed"
    CLOSED = "stopped"


_RUNNING = (State.RUNNING, State.RECONNECTING)
_NO_PICTURE = "no picture"
AWAY = frozenset({State.RECONNECTING.value, _NO_PICTURE})
"""Alerts of a live source that gives no frames now."""


class Capture:
    """Frames of one source, read by a thread of its own.

    Iterate over it, or call `read` with a timeout. One thread uses it, except that any thread may
    call `close` and read the properties. After the source's end, the frames that still wait are
    delivered.

    A camera or stream that is lost after it gave frames is opened again, after pauses of 0.5 to
    8 s; `state` is RECONNECTING meanwhile. Its clock and frame count go on, so that the outage
    shows in the times.

    Example:
        with Capture("clip.mp4") as capture:
            for frame in capture:
                print(frame.index, frame.time_s)
    """

    def __init__(
        self,
        source: str | SupportsIndex | os.PathLike[str] | Reader,
        fps: float | None = None,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        *,
        size: tuple[int, int] | None = CAMERA_SIZE,
        rate: float | None = CAMERA_RATE,
        pixel_format: str | None = CAMERA_FORMAT,
        reconnect: bool = True,
        patience_s: float | None = None,
        clock: ClockOrigin | None = None,
    ) -> None:
        """
        Args:
            source: Camera number (NumPy's integers, too), path or address; or a reader of one's
                own.
            fps: As in `reader_for`.
            stall_timeout_s: A live source that sends nothing for this long is lost.
            size: (width, height) that a camera is asked for; None to take it as it comes.
            rate: Frames a second that a camera is asked for, likewise.
            pixel_format: Format that a camera is asked for, four characters as V4L2 names them,
                likewise.
            reconnect: Whether to open a lost live source again; otherwise it has ended.
            patience_s: For how long after its last frame a lost source is opened again and again;
                None for what suits the source: for ever with a camera, two minutes with a stream.
            clock: A clock that runs already, on which a live source's times are to be; None for one
                that begins with the first frame.

        Raises:
            InputError: The source is missing or of an unknown kind.
            TypeError: The source is none of the above.
        """
        if isinstance(source, SupportsIndex):
            source = operator.index(source)
        if isinstance(source, str | int | os.PathLike):
            request = CameraRequest(size, rate, pixel_format)
            source = reader_for(source, fps, stall_timeout_s, request)
        if not hasattr(source, "read"):
            raise TypeError(
                "a source is a camera number, a path, an address or a reader, "
                f"got {type(source).__name__}"
            )
        if patience_s is None:
            patience_s = getattr(source, "patience_s", 0.0)
        self._reader: Reader = source
        self._stall_timeout_s = stall_timeout_s
        self._patience_s = patience_s if reconnect else 0.0
        # The lock of all that follows: the thread writes it, others read it.
        self._changed = threading.Condition()
        self._frames: deque[Frame] = deque()
        self._thread: threading.Thread | None = None
        self._state = State.NEW
        self._error: BaseException | None = None
        self._stopping = False
        self._join_timeout_s = _JOIN_TIMEOUT_S
        self._behind = False
        self._size = (0, 0)
        self._read = 0
        self._dropped = 0
        self._losses = 0
        # On `time.monotonic()`: arrival of the last frame, last sign of life of the thread.
        self._arrived_at = 0.0
        self._alive_at = 0.0
        self._last_time_s = 0.0
        self._resized = False
        # True from when a lost source is to be opened again until its next frame.
        self._reopening = False
        self._origin: ClockOrigin | None = None
        self._clock = clock
        # RECOVERED stands for "all is well", which needs no record at the start.
        self._status = SourceStatus.RECOVERED
        self._statuses: deque[StatusChange] = deque(maxlen=_MAX_STATUSES)
        self._outages = Outages()
        self._health: SourceHealth | None = None

    @property
    def source(self) -> str:
        """The source as it may be shown, without credentials."""
        return self._reader.name

    @property
    def live(self) -> bool:
        """Whether frames that nobody takes are lost."""
        return self._reader.live

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the frames in pixels."""
        return self._size

    @property
    def fps(self) -> float:
        """Declared frame rate; 0 if unknown. Live sources often declare a wrong one."""
        return self._reader.fps

    @property
    def frame_count(self) -> int:
        """Declared number of frames; 0 if unknown. Headers can overstate it."""
        return self._reader.frame_count

    @property
    def frames_read(self) -> int:
        """Frames that the source gave: those delivered, dropped and still waiting."""
        with self._changed:
            return self._read

    @property
    def frames_dropped(self) -> int:
        """Frames of a live source that newer ones replaced before they were taken."""
        with self._changed:
            return self._dropped

    @property
    def origin(self) -> ClockOrigin | None:
        """When the first frame was captured (of a recording: read); None before that."""
        return self._origin

    @property
    def state(self) -> State:
        """The state now."""
        return self._state

    @property
    def over(self) -> bool:
        """True once `read` has nothing more to give, now or later."""
        with self._changed:
            return (
                not self._frames
                and self._error is None
                and self._state not in (State.NEW, *_RUNNING)
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the source, a sentence each. May grow until the end."""
        return tuple(self._reader.notes)

    @property
    def alerts(self) -> tuple[str, ...]:
        """What is wrong with the source now, a few words each; empty if all is well."""
        # Read once: the thread may change it.
        state = self._state
        if state is State.RECONNECTING:
            return (state.value,)
        if self._health is None or state is not State.RUNNING:
            return ()
        if self.live and time.monotonic() - self._arrived_at > _SILENT_S:
            return (_NO_PICTURE,)
        return self._health.alerts

    def take_outages(self) -> tuple[Outage, ...]:
        """The outages that have ended since the last call; an ongoing one ends with the source."""
        return self._outages.take()

    def take_statuses(self) -> tuple[StatusChange, ...]:
        """How the status of a live source has changed since the last call, oldest first.

        RECONNECTING has the time of the last frame, FROZEN that of the frame at which the frozen
        picture was noticed, RECOVERED that of the first good frame, LOST the time of giving up.
        """
        with self._changed:
            taken = tuple(self._statuses)
            self._statuses.clear()
            return taken

    def open(self) -> None:
        """Opens the source and waits for its first frame.

        Raises:
            InputError: The source cannot be opened or gives no frame.
        """
        if self._thread is not None:
            raise RuntimeError("a capture is opened once; make a new one")
        # A daemon: a native read that does not return must not keep the program alive.
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._alive_at = time.monotonic()
        self._thread.start()
        deadline = self._alive_at + OPEN_TIMEOUT_S + self._stall_timeout_s + _GRACE_S
        try:
            while self._state is State.NEW and time.monotonic() < deadline:
                checkpoint()
                with self._changed:
                    self._changed.wait_for(lambda: self._state is not State.NEW, _WAIT_S)
            with self._changed:
                # Good frames come before an error that followed them: `read` raises it in turn.
                if self._error is not None and not self._frames:
                    error, self._error = self._error, None
                    raise error
                if self._state is State.NEW:
                    raise self._reader.empty()
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float | None = None) -> Frame | None:
        """Returns the next frame; None after the last one or when the time is up.

        As long as there may be more, `state` is RUNNING or RECONNECTING, and `over` is False.

        Raises:
            InputError: The source broke in a way that the user has to fix.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            if not self._frames:
                self._behind = False  # the analysis waits for the source
            while not self._frames:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                if self._stopping or self._state not in _RUNNING:
                    return None
                now = time.monotonic()
                if self._give_up_if_hung(now) or now >= deadline:
                    return None
                self._changed.wait(min(_WAIT_S, deadline - now))
            frame = self._frames.popleft()
            self._changed.notify_all()
            return frame

    def _give_up_if_hung(self, now: float) -> bool:
        """Ends the capture if the thread hangs in a native call; returns whether it does.

        Readers have timeouts of their own; this one is for native calls that ignore theirs. Holds
        the lock.
        """
        if not self.live or now < self._alive_at + self._stall_timeout_s + _GRACE_S:
            return False
        self._lose()
        if now < self._hung_at():
            return False
        self._give_up(stalled=True)
        return True

    def _hung_at(self) -> float:
        """When to give up, if the thread shows no further sign of life. Holds the lock."""
        if self._reopening:
            # Opening the source, or its first frame, may take long: the patience alone decides.
            since, waiting_s = self._arrived_at, self._patience_s
        else:
            # A hung read gets more time to return, for only then can the source be opened again.
            since, waiting_s = self._alive_at, min(OPEN_TIMEOUT_S, self._patience_s)
        return since + waiting_s + self._stall_timeout_s + _GRACE_S

    def close(self) -> None:
        """Stops the thread and frees the source. Never waits long; may be called twice."""
        with self._changed:
            self._stopping = True
            self._finish(State.CLOSED)
            # Frames that still wait are never analysed: live, they are lost; those of a recording
            # were only read ahead and do not count as read.
            if self._reader.live:
                self._dropped += len(self._frames)
            else:
                self._read -= len(self._frames)
            self._frames.clear()
        # A reader that waits for the network can be told not to.
        abort = getattr(self._reader, "abort", None)
        if abort is not None:
            abort()
        if self._thread is not None and self._thread is not threading.current_thread():
            # Once is enough: who waits again waits for a native call that does not return.
            timeout_s, self._join_timeout_s = self._join_timeout_s, 0.0
            self._thread.join(timeout_s)

    def __enter__(self) -> Capture:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.read()) is not None:
            yield frame

    # The thread: everything below that touches the reader happens there.

    def _run(self) -> None:
        try:
            try:
                self._reader.open()
                note = self._reader.notes.append
                self._health = SourceHealth(self.source, self.live, note, self._outages)
                self._read_all(PresentationClock(self._reader.fps))
            finally:
                self._close_reader()
        except BaseException as error:
            with self._changed:
                self._error = None if self._stopping else error
                self._finish(State.FAILED)

    def _close_reader(self) -> None:
        with contextlib.suppress(cv2.error, OSError):
            self._reader.close()

    def _read_all(self, clock: PresentationClock) -> None:
        """Reads the source to its end; a live one that may come back, beyond."""
        assert self._health is not None
        stalled = self._read_on(clock)
        if self._origin is None and not self._stopping:
            raise self._reader.empty()
        pause_s = _REOPEN_S[0]
        while self._may_come_back() and not self._stopping:
            with self._changed:
                self._lose()
            self._health.restart()
            self._close_reader()
            if not self._pause_before_reopening(pause_s):
                break
            opened_at = time.monotonic()
            frames_before = self._read
            with contextlib.suppress(*_LOST):
                self._reader.open()
                self._alive_at = time.monotonic()
                stalled = self._read_on(clock)
            came_back = self._read > frames_before
            if came_back and time.monotonic() - opened_at > _REOPEN_S[1]:
                pause_s = _REOPEN_S[0]
            else:
                pause_s = min(2 * pause_s, _REOPEN_S[1])
        self._health.end(self._reader.fps)
        with self._changed:
            if not self._stopping:
                self._give_up(stalled)

    def _may_come_back(self) -> bool:
        return self.live and self._patience_s > 0 and not getattr(self._reader, "ended", False)

    def _pause_before_reopening(self, pause_s: float) -> bool:
        """Waits; returns False if the patience is over or the capture is closed."""
        with self._changed:
            self._alive_at = time.monotonic()
            self._reopening = True
            left_s = self._arrived_at + self._patience_s - self._alive_at
            if left_s <= 0:
                return False
            self._changed.wait_for(lambda: self._stopping, min(pause_s, left_s))
            self._alive_at = time.monotonic()
            return not self._stopping

    def _read_on(self, clock: PresentationClock) -> bool:
        """Delivers frames until the source gives none; returns whether it ended in silence."""
        asked_at = time.monotonic()
        while not self._stopping:
            asked_at = time.monotonic()
            try:
                grab = self._reader.read()
            except _LOST:
                # The last words of a source that may come back are no reason to give it up.
                if self._origin is None or not self.live or self._patience_s <= 0:
                    raise
                grab = None
            self._alive_at = time.monotonic()
            if grab is None or not self._put(self._frame(grab, clock)):
                break
        silent_s = time.monotonic() - asked_at
        return self.live and silent_s >= _STALLED_PART * self._stall_timeout_s

    def _frame(self, grab: Grab, clock: PresentationClock) -> Frame:
        captured_at = grab.captured_at
        check_picture(grab.image)
        if self._origin is None:
            self._size = (grab.image.shape[1], grab.image.shape[0])
            age_s = time.monotonic() - captured_at
            origin = ClockOrigin(captured_at, time.time() - age_s)
            if self.live:
                self._origin = self._clock or origin
                captured_at = max(captured_at, self._origin.monotonic_s)
                time_s = captured_at - self._origin.monotonic_s
            else:
                self._origin, time_s = origin, clock(grab.position_s)
        elif not self.live:
            time_s = clock(grab.position_s)
        else:
            zero_at = self._origin.monotonic_s
            captured_at = max(captured_at, zero_at + self._last_time_s + _TICK_S)
            time_s = captured_at - zero_at
        image = self._in_first_size(grab.image)
        return Frame(self._read, time_s, image, captured_at, grab.position_s)

    def _put(self, frame: Frame) -> bool:
        """Hands a frame over; returns False if the capture has been closed meanwhile."""
        assert self._health is not None
        if self._state is State.RECONNECTING:
            # The frames before the loss are not continued, even if a hung read has brought this
            # one and the source was never closed.
            self._health.restart()
        self._health.update(frame.image, frame.time_s, self._reader.fps)
        with self._changed:
            if self.live and not self._can_wait(frame):
                self._make_room(frame)
            else:
                while len(self._frames) >= _RECORDED_FRAMES and not self._stopping:
                    self._changed.wait()
            if self._stopping:
                return False
            if self._state is State.RECONNECTING:
                self._regain(frame)
            if self.live:
                is_frozen = self._health.is_frozen
                status = SourceStatus.FROZEN if is_frozen else SourceStatus.RECOVERED
                self._set_status(status, frame.time_s)
            self._frames.append(frame)
            self._read += 1
            self._arrived_at = time.monotonic()
            self._last_time_s = frame.time_s
            if self._state is State.NEW:
                self._state = State.RUNNING
            self._changed.notify_all()
            return True

    def _can_wait(self, frame: Frame) -> bool:
        """Whether the next frames wait in a live source while this one waits for room."""
        age_s = time.monotonic() - frame.captured_at
        return getattr(self._reader, "buffered", False) and age_s < _BUFFERED_AGE_S

    def _make_room(self, frame: Frame) -> None:
        """Drops the waiting frames if the analysis is behind, so that only `frame` waits.

        From then on the newest frame wins until the analysis is seen waiting. An analysis that is
        always too slow thus gets frames at even distances, not spells of all frames and of none.
        Holds the lock.
        """
        if not self._frames:
            return
        full = len(self._frames) >= _LIVE_FRAMES
        if self._behind or full or frame.time_s - self._frames[0].time_s > _LIVE_AGE_S:
            self._behind = True
            self._dropped += len(self._frames)
            self._frames.clear()

    def _in_first_size(self, image: np.ndarray) -> np.ndarray:
        """The image in the size of the first one: some streams change it on the way."""
        if (image.shape[1], image.shape[0]) == self._size:
            return image
        if not self._resized:
            self._resized = True
            self._reader.notes.append(
                f"{self.source} changed its picture from {self._size[0]} x {self._size[1]} to "
                f"{image.shape[1]} x {image.shape[0]} pixels; it is scaled back"
            )
        return cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)

    def _lose(self) -> None:
        """Marks a running source as lost, if it may come back. Holds the lock."""
        if self._state is not State.RUNNING or self._patience_s <= 0:
            return
        self._state = State.RECONNECTING
        self._losses += 1
        self._set_status(SourceStatus.RECONNECTING, self._last_time_s)
        self._note_loss(f"{self.source} is lost at {self._last_time_s:.1f} s: it is opened again")
        self._changed.notify_all()

    def _regain(self, frame: Frame) -> None:
        """Marks a lost source as back with this frame. Holds the lock."""
        self._state = State.RUNNING
        self._reopening = False
        away_s = frame.time_s - self._last_time_s
        self._outages.add(Outage(self._last_time_s, frame.time_s, GapReason.SOURCE_LOST))
        self._note_loss(f"{self.source} is back after {away_s:.1f} s")

    def _set_status(self, status: SourceStatus, time_s: float) -> None:
        """Records a change of status, if it is one. Holds the lock."""
        if status is not self._status:
            self._status = status
            self._statuses.append(StatusChange(status, time_s))

    def _note_loss(self, text: str) -> None:
        """Notes a loss or a return, unless there have been many. Holds the lock."""
        if self._losses <= _MAX_NOTED_LOSSES:
            self._reader.notes.append(text)
        elif self._losses == _MAX_NOTED_LOSSES + 1 and self._state is State.RECONNECTING:
            self._reader.notes.append(
                f"{self.source} comes and goes: further losses are not noted here"
            )

    def _give_up(self, stalled: bool) -> None:
        """Notes how the source ended, and ends the capture. Holds the lock."""
        declared = self.frame_count
        missing = declared - self._read
        is_lost = self._state is State.RECONNECTING
        silent_s = time.monotonic() - self._arrived_at
        note = ""
        if is_lost:
            note = f"did not come back within {silent_s:.3g} s: taken as its end"
        elif stalled:
            note = f"sent no picture for {self._stall_timeout_s:g} s: taken as its end"
        elif missing > max(_MISSING_FRAMES, _MISSING_PART * declared):
            note = (
                f"ended after {self._read} of {declared} declared frames: its header may overstate "
                "them, or the file is cut short"
            )
        if is_lost or stalled:
            self._set_status(SourceStatus.LOST, self._last_time_s + silent_s)
        if note:
            self._reader.notes.append(f"{self.source} {note}")
        self._stopping = True
        self._finish(State.STALLED if stalled else State.ENDED)

    def _finish(self, state: State) -> None:
        """Ends the capture, if it has not ended. Holds the lock."""
        if self._state in (State.NEW, *_RUNNING):
            self._outages.close(self._last_outage(state))
            self._state = state
        self._changed.notify_all()

    def _last_outage(self, state: State) -> Outage | None:
        """The outage that lasts until the capture ends in a state, if any. Holds the lock."""
        if not self.live or self._read == 0:
            return None
        silent_s = time.monotonic() - self._arrived_at
        is_lost = self._state is State.RECONNECTING
        if not is_lost and silent_s <= _SILENT_S:
            return None
        # When someone closes a silent source, it is not known whether it would have been lost.
        reason = (
            GapReason.SOURCE_LOST if is_lost or state is not State.CLOSED else GapReason.NO_FRAMES
        )
        return Outage(self._last_time_s, self._last_time_s + silent_s, reason)
