"""Capture: a camera, a file, a folder of frames or a stream becomes a sequence of frames.

A thread reads the source, so that the chain never waits for a disk, a network or a sensor while
it could compute. What it does when the chain is slower than the source depends on the source:

- live (camera, stream): a few frames wait, so that a hiccup of the chain loses none; when it stays
  behind, the newest frame wins. What is dropped is counted;
- recorded (file, folder, file behind a URL): the thread waits, and every frame is delivered.

A live source that is lost is opened again, and its frames go on in the same clock.
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
from types import TracebackType

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.results import ClockOrigin, GapReason, SourceStatus, StatusChange
from realtime_mer.source.frame import Frame
from realtime_mer.source.health import Outage, Outages, SourceHealth
from realtime_mer.source.reader import (
    CAMERA_FORMAT,
    CAMERA_RATE,
    CAMERA_SIZE,
    DEFAULT_FPS,
    OPEN_TIMEOUT_S,
    STALL_TIMEOUT_S,
    CameraRequest,
    Grab,
    Reader,
    reader_for,
)

# While one live frame is analysed for 130 ms, four more come at 30 fps and eight at 60: they wait,
# and a chain that is faster than the source has soon caught up. What waits is at most 0.15 s old,
# which nobody notices, and 22 MB at 1280 x 720.
_LIVE_FRAMES = 8
_LIVE_AGE_S = 0.15
# Enough to decode ahead; at 4K a frame is 25 MB.
_RECORDED_FRAMES = 4
# `close` waits this long for the thread, which may be inside a native read.
_JOIN_TIMEOUT_S = 0.8
# A lost source is opened again after the first of these, then after twice as long each time, up to
# the second; one that comes and goes is not hammered either.
_REOPEN_S = (0.5, 8.0)
# Live frames are never closer in time: a driver that stamps two alike would stop the clock.
_TICK_S = 0.001
# A source that is silent for so long is worth an alert, and a gap, before it counts as lost.
_SILENT_S = 1.0
# Of a source that comes and goes all night, so many losses are told.
_MOST_TOLD = 5
# Changes of status that wait to be taken.
_MOST_STATUSES = 100
# What a reader may raise when its source is not there.
_LOST = (InputError, OSError, cv2.error)


class _Clock:
    """Turns positions of a recording into seconds from its first frame that always rise.

    A position that is missing or does not rise is replaced by the previous time and a nominal
    frame period, and the positions after it count from there. So a container that tells no times
    at all plays at its declared rate.
    """

    def __init__(self, fps: float) -> None:
        self._period_s = 1 / (fps or DEFAULT_FPS)
        self._time_s: float | None = None
        self._zero_s: float | None = None

    def __call__(self, position_s: float | None) -> float:
        known = position_s is not None and math.isfinite(position_s)
        if self._time_s is None:
            self._time_s = 0.0
        else:
            rising = known and self._zero_s is not None
            if rising and position_s - self._zero_s > self._time_s:
                self._time_s = position_s - self._zero_s
                return self._time_s
            self._time_s += self._period_s
        self._zero_s = position_s - self._time_s if known else self._zero_s
        return self._time_s


class State(enum.Enum):
    """Where a capture stands; the value is how it may be told to a user."""

    NEW = "not opened"
    RUNNING = "running"
    RECONNECTING = "reconnecting"
    ENDED = "end of source"
    STALLED = "the stream stalled"
    FAILED = "failed"
    CLOSED = "stopped"


_RUNNING = (State.RUNNING, State.RECONNECTING)


class Capture:
    """Frames of one source, read by a thread of its own.

    Iterate over it, or call `read` with a timeout. It is used by one thread, except that `close`
    may be called by any. After the source's end the frames that still wait are delivered.

    A camera or stream that is lost after it gave frames is opened again, after pauses of 0.5 to
    8 s. `state` is RECONNECTING meanwhile. Its frames go on in the same clock and count,
    so that the time it was away shows.

    Example:
        with Capture("clip.mp4") as capture:
            for frame in capture:
                print(frame.index, frame.time_s)
    """

    def __init__(
        self,
        source: str | int | os.PathLike[str] | Reader,
        fps: float | None = None,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        *,
        size: tuple[int, int] | None = CAMERA_SIZE,
        rate: float | None = CAMERA_RATE,
        pixel_format: str | None = CAMERA_FORMAT,
        reconnect: bool = True,
        patience_s: float | None = None,
    ) -> None:
        """
        Args:
            source: Camera number, path or address; or a reader of one's own.
            fps: As in `reader_for`.
            stall_timeout_s: A live source that sends nothing for so long is lost.
            size: (width, height) that a camera is asked for; None to take it as it comes.
            rate: Frames a second, likewise.
            pixel_format: Its format, four characters as V4L2 names them, likewise.
            reconnect: Whether a live source that is lost is opened again; else it has ended.
            patience_s: For how long; None for what suits the source: for ever with a camera, two
                minutes with a stream.

        Raises:
            InputError: The source is missing or of no kind that is known.
        """
        if not isinstance(source, str | os.PathLike) and hasattr(source, "__index__"):
            source = operator.index(source)  # NumPy's integers, too
        if isinstance(source, str | int | os.PathLike):
            request = CameraRequest(size, rate, pixel_format)
            source = reader_for(source, fps, stall_timeout_s, request)
        if patience_s is None:
            patience_s = getattr(source, "patience_s", 0.0)
        self._reader: Reader = source
        self._stall_timeout_s = stall_timeout_s
        self._patience_s = patience_s if reconnect else 0.0
        self._changed = threading.Condition()
        self._frames: deque[Frame] = deque()
        self._thread: threading.Thread | None = None
        self._state = State.NEW
        self._error: BaseException | None = None
        self._stopping = False
        self._behind = False
        self._size = (0, 0)
        self._read = 0
        self._dropped = 0
        self._losses = 0
        # Times of `time.monotonic`: the first frame, the last one, the last sign of the thread.
        self._first_at = 0.0
        self._arrived_at = 0.0
        self._alive_at = 0.0
        self._last_time_s = 0.0
        self._resized = False
        # A source that was lost is being opened again, or has not given a frame since.
        self._reopening = False
        self._origin: ClockOrigin | None = None
        self._statuses: deque[StatusChange] = deque(maxlen=_MOST_STATUSES)
        self._outages = Outages()
        self._health: SourceHealth | None = None

    @property
    def source(self) -> str:
        """The source as it may be shown: no credentials."""
        return self._reader.name

    @property
    def live(self) -> bool:
        return self._reader.live

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the frames in pixels."""
        return self._size

    @property
    def fps(self) -> float:
        """Declared frame rate; 0 where unknown. Live sources often declare a wrong one."""
        return self._reader.fps

    @property
    def frame_count(self) -> int:
        """Declared number of frames; 0 where unknown. Headers can overstate it."""
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
        """When the first frame was captured or, of a recording, read; None before that."""
        return self._origin

    @property
    def state(self) -> State:
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
        """What is wrong with the source now, a few words each; empty when all is well."""
        state = self._state
        if state is State.RECONNECTING:
            return (state.value,)
        if self._health is None or state is not State.RUNNING:
            return ()
        if self.live and time.monotonic() - self._arrived_at > _SILENT_S:
            return ("no picture",)
        return self._health.alerts

    def take_outages(self) -> tuple[Outage, ...]:
        """The outages that have ended since the last call; what goes on ends with the source."""
        return self._outages.take()

    def take_statuses(self) -> tuple[StatusChange, ...]:
        """How the status of a live source has changed since the last call, the oldest first."""
        taken = []
        while self._statuses:
            taken.append(self._statuses.popleft())
        return tuple(taken)

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
        deadline = self._alive_at + OPEN_TIMEOUT_S + self._stall_timeout_s + 1
        try:
            with self._changed:
                while self._state is State.NEW and time.monotonic() < deadline:
                    # Short waits, so that Ctrl-C is noticed on every platform.
                    self._changed.wait(0.2)
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

        `state` is RUNNING or RECONNECTING, and `over` False, as long as there may be more.

        Raises:
            InputError: The source broke in a way that the user has to mend.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            if not self._frames:
                self._behind = False  # the chain waits for the source
            while not self._frames:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                if self._stopping or self._state not in _RUNNING:
                    return None
                now = time.monotonic()
                if self._has_gone_silent(now):
                    return None
                if now >= deadline:
                    return None
                self._changed.wait(min(0.2, deadline - now))
            frame = self._frames.popleft()
            self._changed.notify_all()
            return frame

    def _has_gone_silent(self, now: float) -> bool:
        """The reader has timeouts of its own; this one holds where a native call keeps them not."""
        silent_s = now - self._alive_at - self._stall_timeout_s - 1
        if not self.live or silent_s < 0:
            return False
        self._lose()
        if self._reopening:
            # Opening it, or its first picture, may take long: the patience alone decides.
            silent_s = now - self._arrived_at - self._patience_s - self._stall_timeout_s - 1
            if silent_s < 0:
                return False
        # Before it is opened again, a native read that hangs is given some more time to return.
        elif silent_s < (OPEN_TIMEOUT_S if self._patience_s > 0 else 0):
            return False
        self._give_up(stalled=True)
        return True

    def close(self) -> None:
        """Stops the thread and gives the source back. Never waits long, may be called twice."""
        with self._changed:
            self._stopping = True
            self._finish(State.CLOSED)
            # What waits here is never analysed: of a live source it is lost, of a recording
            # it was only read ahead.
            if self._reader.live:
                self._dropped += len(self._frames)
            else:
                self._read -= len(self._frames)
            self._frames.clear()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_TIMEOUT_S)

    def __enter__(self) -> Capture:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.read()) is not None:
            yield frame

    def _run(self) -> None:
        """The thread: everything that touches the reader happens here."""
        try:
            try:
                self._reader.open()
                self._health = SourceHealth(
                    self.source,
                    self.live,
                    self._reader.notes.append,
                    self._outages,
                    self._has_become,
                )
                self._follow(_Clock(self._reader.fps))
            finally:
                self._close_reader()
        except BaseException as error:
            with self._changed:
                self._error = None if self._stopping else error
                self._finish(State.FAILED)

    def _close_reader(self) -> None:
        with contextlib.suppress(cv2.error, OSError):
            self._reader.close()

    def _follow(self, clock: _Clock) -> None:
        """Reads the source to its end; a live one that may come back, beyond."""
        assert self._health is not None
        stalled = self._pump(clock)
        if self._read == 0 and not self._stopping:
            raise self._reader.empty()
        pause_s, _ = _REOPEN_S
        while self.live and self._patience_s > 0 and not self._stopping:
            with self._changed:
                self._lose()
            self._health.lost()
            self._close_reader()
            left_s = self._arrived_at + self._patience_s - time.monotonic()
            if left_s <= 0:
                break
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, min(pause_s, left_s))
            self._alive_at = opened_at = time.monotonic()
            self._reopening = True
            read = self._read
            with contextlib.suppress(*_LOST):
                self._reader.open()
                self._alive_at = time.monotonic()
                stalled = self._pump(clock)
            worked_s = time.monotonic() - opened_at if self._read > read else 0.0
            pause_s = _REOPEN_S[0] if worked_s > _REOPEN_S[1] else min(2 * pause_s, _REOPEN_S[1])
        self._health.ended(self._reader.fps)
        with self._changed:
            if not self._stopping:
                self._give_up(stalled)

    def _pump(self, clock: _Clock) -> bool:
        """Hands over frames until the source gives none; whether it ended in a long silence."""
        asked_at = time.monotonic()
        while not self._stopping:
            asked_at = time.monotonic()
            try:
                grab = self._reader.read()
            except _LOST:
                # What may come back is not given up for what it says when it goes.
                if self._read == 0 or not self.live or self._patience_s <= 0:
                    raise
                grab = None
            self._alive_at = time.monotonic()
            if grab is None or not self._put(self._frame(grab, clock)):
                break
        return self.live and time.monotonic() - asked_at >= 0.9 * self._stall_timeout_s

    def _frame(self, grab: Grab, clock: _Clock) -> Frame:
        captured_at = grab.captured_at
        if self._read == 0:
            self._first_at = captured_at
            self._size = (grab.image.shape[1], grab.image.shape[0])
            ago_s = time.monotonic() - captured_at
            self._origin = ClockOrigin(captured_at, time.time() - ago_s)
        if not self.live:
            time_s = clock(grab.position_s)
        else:
            if self._read > 0:
                captured_at = max(captured_at, self._first_at + self._last_time_s + _TICK_S)
            time_s = captured_at - self._first_at
        return Frame(self._read, time_s, self._of_one_size(grab.image), captured_at)

    def _put(self, frame: Frame) -> bool:
        assert self._health is not None
        self._health.see(frame.image, frame.time_s, self._reader.fps)
        with self._changed:
            if self.live:
                self._make_room(frame)
            else:
                while len(self._frames) >= _RECORDED_FRAMES and not self._stopping:
                    self._changed.wait()
            if self._stopping:
                return False
            if self._state is State.RECONNECTING:
                self._regain(frame)
            self._frames.append(frame)
            self._read += 1
            self._arrived_at = time.monotonic()
            self._last_time_s = frame.time_s
            if self._state is State.NEW:
                self._state = State.RUNNING
            self._changed.notify_all()
            return True

    def _make_room(self, frame: Frame) -> None:
        """Drops what waits when the chain is behind: then `frame` is the newest and only one.

        From then on the newest frame wins until the chain is seen waiting. A chain that is always
        too slow so gets frames at even distances, not spells of all frames and of none.
        """
        if not self._frames:
            return
        full = len(self._frames) >= _LIVE_FRAMES
        if self._behind or full or frame.time_s - self._frames[0].time_s > _LIVE_AGE_S:
            self._behind = True
            self._dropped += len(self._frames)
            self._frames.clear()

    def _of_one_size(self, image: np.ndarray) -> np.ndarray:
        # Some streams change their resolution on the way; all that follows counts on one.
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
        """The source is away from now on, if it was not. Holds the lock."""
        if self._state is not State.RUNNING or self._patience_s <= 0:
            return
        self._state = State.RECONNECTING
        self._losses += 1
        self._has_become(SourceStatus.RECONNECTING, self._last_time_s)
        self._tell_loss(f"{self.source} is lost at {self._last_time_s:.1f} s: it is opened again")
        self._changed.notify_all()

    def _regain(self, frame: Frame) -> None:
        """The source is back with this frame. Holds the lock."""
        self._state = State.RUNNING
        self._reopening = False
        self._has_become(SourceStatus.RECOVERED, frame.time_s)
        away_s = frame.time_s - self._last_time_s
        self._outages.add(Outage(self._last_time_s, frame.time_s, GapReason.SOURCE_LOST))
        self._tell_loss(f"{self.source} is back after {away_s:.1f} s")

    def _has_become(self, status: SourceStatus, time_s: float) -> None:
        self._statuses.append(StatusChange(status, time_s))

    def _tell_loss(self, text: str) -> None:
        if self._losses <= _MOST_TOLD:
            self._reader.notes.append(text)
        elif self._losses == _MOST_TOLD + 1 and self._state is State.RECONNECTING:
            self._reader.notes.append(f"{self.source} comes and goes: no more is said of it")

    def _give_up(self, stalled: bool) -> None:
        """Says how the source ended, and ends the capture. Holds the lock."""
        declared = self.frame_count
        note = ""
        if self._state is State.RECONNECTING:
            away_s = time.monotonic() - self._arrived_at
            self._has_become(SourceStatus.LOST, self._last_time_s + away_s)
            note = f"did not come back within {away_s:.3g} s: taken as its end"
        elif stalled:
            self._has_become(SourceStatus.LOST, self._last_time_s)
            note = f"sent no picture for {self._stall_timeout_s:g} s: taken as its end"
        # Headers are often one or two off, which is not worth a word.
        elif declared - self._read > max(2, 0.02 * declared):
            note = (
                f"ended after {self._read} of {declared} declared frames: its header may overstate "
                "them, or the file is cut short"
            )
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
        """The outage in which the source is when it ends in a state. Holds the lock."""
        if not self.live or self._read == 0:
            return None
        silent_s = time.monotonic() - self._arrived_at
        is_lost = self._state is State.RECONNECTING
        if not is_lost and silent_s <= _SILENT_S:
            return None
        # Whoever closes it does not wait for what it would have come to.
        reason = (
            GapReason.SOURCE_LOST if is_lost or state is not State.CLOSED else GapReason.NO_FRAMES
        )
        return Outage(self._last_time_s, self._last_time_s + silent_s, reason)
