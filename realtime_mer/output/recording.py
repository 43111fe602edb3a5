"""Clips of events: the frames around each micro-expression, lossless, with a JSON file beside.

The frames of the last seconds wait in bounded memory. A separate thread does all encoding and disk
work; the session only hands frames over. While recording is off, nothing is kept.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.output.writable import check_writable
from realtime_mer.results import Analysis, MicroExpression, Session, Summary
from realtime_mer.source.frame import Frame
from realtime_mer.source.opencv import quiet_opencv

BEFORE_S = 2.0
AFTER_S = 2.0
"""Chosen by judgement: enough to see the face at rest before and after the motion."""

LIMIT_BYTES = 2_000_000_000
"""Size of all clips in a folder at which recording stops, chosen by judgement."""

FREE_BYTES = 500_000_000
"""Free disk space at which recording stops, chosen by judgement."""

# HuffYUV is lossless and takes 1.7 ms of processor time a frame at 640 x 480 (5.5 at 1280 x 720).
# FFV1 takes 17 (46), more than the analysis itself; its files are smaller by a fifth with a
# sensor's noise and by two thirds without.
_CODEC = "HFYU"
_SUFFIX = ".avi"

# An event is reported at most this long after its onset.
_MAX_REPORT_DELAY_S = 1.5
# At 640 x 480 and 30 fps, nine seconds of raw frames.
_MEMORY_BYTES = 256_000_000
# Frames beyond this become JPEG: 1 ms a frame at 640 x 360, mean error below 1 grey level. At
# 640 x 480 and 30 fps all stay raw.
_RAW_BYTES = 192_000_000
_JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)
# Clips that may wait while the disk hangs.
_MAX_CLIPS = 8
# Frames between two looks at the free disk space.
_CHECK_FRAMES = 16
# Time at the end of a session to write what is still in memory.
_JOIN_S = 30.0
# A hidden file that has not grown for this long belongs to a session that was killed.
_STALE_S = 3600.0

_OWN_NAME = re.compile(r"mer_\d{8}-\d{6}-\d{3}_[a-z0-9-]+(_\d+)?\.(avi|json)")
_OWN_PART = re.compile(r"\.mer_\d+_\d+\.part\.avi")


@dataclass(slots=True)
class _Kept:
    """A frame in memory: its picture, or that as JPEG."""

    number: int
    index: int
    time_s: float
    image: np.ndarray | None
    jpeg: np.ndarray | None = None

    @property
    def size(self) -> int:
        data = self.image if self.image is not None else self.jpeg
        assert data is not None
        return data.nbytes

    def picture(self) -> np.ndarray:
        if self.image is not None:
            return self.image
        assert self.jpeg is not None
        image = cv2.imdecode(self.jpeg, cv2.IMREAD_COLOR)
        assert image is not None
        return image


@dataclass(slots=True)
class _Clip:
    """A clip that is planned or being written.

    Attributes:
        start_s, end_s: The time that it should cover, in the source's seconds.
        begun_at: When its first event was reported, by the wall clock.
        next_number: The first frame that has not been written.
        sealed: It takes no more events, and no frames that are not in memory yet.
        cut_short: Why it ends before `end_s`; None if it does not.
        times_s, indices: Times and source indices of the written frames.
        compressed: Which of them, from 0, were JPEG in memory.
        mismatched: Number of frames left out because their size differs from the first one's.
    """

    start_s: float
    end_s: float
    events: list[MicroExpression]
    begun_at: datetime
    next_number: int = 0
    sealed: bool = False
    cut_short: str | None = None
    times_s: list[float] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    compressed: list[int] = field(default_factory=list)
    mismatched: int = 0
    file: _ClipFile | None = None

    def wants(self, kept: _Kept) -> bool:
        return kept.number >= self.next_number and self.start_s <= kept.time_s <= self.end_s


class _Full(Exception):
    """There is no room for more clips. The message gives the reason and the remedy."""


class EventRecorder:
    """Records a clip of each event, from 2 s before its onset to 2 s after its offset.

    An event that is reported while a clip is open joins that clip. A clip gets its name when it is
    complete, and is never overwritten or deleted: at the limit, recording stops. The JSON file
    beside it holds the events' log records, the time of every frame, and what is missing.

    A disk error ends the recording, not the session.

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
    ) -> None:
        """
        Args:
            folder: Where the clips go. If it does not exist, it is made for this user alone: at
                once if recording is on, else for the first clip.
            on: Whether to record from the start.
            note: Called with messages for the user, in the thread that calls the recorder.
            limit_bytes: Size of all clips in the folder at which recording stops.

        Raises:
            InputError: `on`, and nothing can be written there.
        """
        self._folder = Path(folder)
        self._note = note
        self._limit_bytes = limit_bytes
        self._session: Session | None = None
        # Guards everything below.
        self._changed = threading.Condition()
        self._is_on = on
        self._ending = False
        self._kept: deque[_Kept] = deque()
        self._bytes = self._raw_bytes = 0
        self._numbers = itertools.count()
        self._now_s = 0.0
        self._newest: Frame | None = None
        # Times of frames that did not fit into memory.
        self._refused: deque[float] = deque(maxlen=4096)
        self._clips: deque[_Clip] = deque()
        self._notes: deque[str] = deque(maxlen=16)
        self._dropped = 0
        self._recorded = 0
        self._missed = 0
        self._thread: threading.Thread | None = None
        self._parts = itertools.count()
        if on:
            self._check_folder()

    @property
    def is_on(self) -> bool:
        """Whether events are recorded. Off after a failure; `toggle` tries again."""
        return self._is_on

    @property
    def dropped(self) -> int:
        """Number of frames missing in the finished clips because writing was too slow."""
        return self._dropped

    @property
    def folder(self) -> Path:
        """Where the clips go."""
        return self._folder

    def toggle(self) -> None:
        """Switches recording on or off, from any thread. Off completes the open clip."""
        with self._changed:
            self._is_on = not self._is_on
            if not self._is_on:
                self._seal("recording was switched off")
            self._changed.notify()

    def begin(self, session: Session) -> None:
        self._session = session

    def update(self, analysis: Analysis) -> None:
        with self._changed:
            if self._is_on:
                self._start()
                self._now_s = analysis.frame.time_s
                # While a live source is away, its last frame is shown again: keep it once.
                if analysis.frame is not self._newest:
                    self._newest = analysis.frame
                    self._keep(analysis.frame)
                for event in analysis.events:
                    self._plan(event)
                self._changed.notify()
        self._send_notes()

    def end(self, summary: Summary) -> None:
        with self._changed:
            self._seal("the session ended")
            self._ending = True
            self._is_on = False
            self._changed.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_JOIN_S)
            if thread.is_alive():
                self._say(f"{self._folder}: writing the last clip takes too long; it is lost")
        if self._recorded:
            clips = "1 clip" if self._recorded == 1 else f"{self._recorded} clips"
            self._say(f"{clips} recorded in {self._folder}")
        if self._dropped:
            self._say(f"the clips lack {self._dropped} frames: writing them was too slow")
        if self._missed:
            self._say(f"{self._missed} events have no clip: writing was too slow")
        self._send_notes()

    # In the session's thread, with the lock held

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="recording", daemon=True)
            self._thread.start()

    def _keep(self, frame: Frame) -> None:
        """Takes a frame into memory, but never at the cost of one that a clip needs."""
        since_s = frame.time_s - BEFORE_S - _MAX_REPORT_DELAY_S
        size = frame.image.nbytes
        while self._kept and not self._is_wanted(self._kept[0]):
            if self._kept[0].time_s >= since_s and self._bytes + size <= _MEMORY_BYTES:
                break
            self._forget(self._kept.popleft())
        if self._bytes + size > _MEMORY_BYTES:
            # Leave out the newest: the clip keeps the event itself and loses frames at its end.
            self._refused.append(frame.time_s)
            return
        self._kept.append(_Kept(next(self._numbers), frame.index, frame.time_s, frame.image))
        self._bytes += size
        self._raw_bytes += size

    def _is_wanted(self, kept: _Kept) -> bool:
        return any(clip.wants(kept) for clip in self._clips)

    def _forget(self, kept: _Kept) -> None:
        self._bytes -= kept.size
        self._raw_bytes -= kept.size if kept.image is not None else 0

    def _plan(self, event: MicroExpression) -> None:
        start_s = max(0.0, event.interval.onset_s - BEFORE_S)
        end_s = event.interval.offset_s + AFTER_S
        last = self._clips[-1] if self._clips else None
        if last is not None and not last.sealed and start_s <= last.end_s:
            last.events.append(event)
            last.end_s = max(last.end_s, end_s)
        elif len(self._clips) < _MAX_CLIPS:
            self._clips.append(_Clip(start_s, end_s, [event], datetime.now().astimezone()))
        else:
            self._missed += 1

    def _seal(self, reason: str) -> None:
        """Lets the clips end with the frames in memory, and drops all frames they do not need."""
        for clip in self._clips:
            clip.sealed = True
            if self._now_s < clip.end_s:
                clip.cut_short = clip.cut_short or reason
        kept = [k for k in self._kept if self._is_wanted(k)]
        self._kept.clear()
        self._kept.extend(kept)
        self._bytes = sum(k.size for k in kept)
        self._raw_bytes = sum(k.size for k in kept if k.image is not None)

    def _say(self, text: str) -> None:
        self._notes.append(text)

    def _send_notes(self) -> None:
        while self._notes:
            self._note(self._notes.popleft())

    # In the writer's thread, without the lock unless taken here

    def _work(self) -> None:
        quiet_opencv()
        while (job := self._next_job()) is not None:
            try:
                job()
            except _Full as full:
                self._stop(str(full), keep=True)
            except InputError as error:
                self._stop(str(error), keep=False)
            except Exception as error:
                reason = getattr(error, "strerror", None) or str(error)
                self._stop(f"{self._folder} cannot be written: {reason}", keep=False)

    def _next_job(self) -> Callable[[], None] | None:
        """Waits for the next thing to do; returns None at the end."""
        with self._changed:
            while True:
                clip = self._clips[0] if self._clips else None
                if self._raw_bytes > _RAW_BYTES:
                    # Before any writing: it is faster, and new frames need the room.
                    raw = self._least_needed()
                    return lambda: self._compress(raw)
                if clip is not None:
                    kept = next((k for k in self._kept if clip.wants(k)), None)
                    if kept is not None:
                        # It stays in memory while there is room: a later clip may need it.
                        clip.next_number = kept.number + 1
                        return lambda: self._write(clip, kept)
                    if clip.sealed or self._now_s > clip.end_s:
                        self._clips.popleft()
                        return lambda: self._finish(clip)
                elif self._ending:
                    return None
                self._changed.wait()

    def _least_needed(self) -> _Kept:
        """The raw frame to compress: the oldest that no clip needs, else the newest of all.

        The newest are after the event, which should stay lossless.
        """
        raw = [kept for kept in self._kept if kept.image is not None]
        return next((kept for kept in raw if not self._is_wanted(kept)), raw[-1])

    def _write(self, clip: _Clip, kept: _Kept) -> None:
        picture = kept.picture()
        if clip.file is None:
            self._check_folder()
            self._check_room(None)
            with self._changed:
                times = [kept.time_s] + [k.time_s for k in self._kept if clip.wants(k)]
            assert self._session is not None
            part = self._folder / f".mer_{os.getpid()}_{next(self._parts)}.part{_SUFFIX}"
            clip.file = _ClipFile(part, picture.shape, _rate(times, self._session.fps))
        elif len(clip.times_s) % _CHECK_FRAMES == 0:
            self._check_room(clip.file.part)
        if picture.shape != clip.file.shape:
            clip.mismatched += 1
            return
        clip.file.write(picture)
        if kept.image is None:
            clip.compressed.append(len(clip.times_s))
        clip.times_s.append(kept.time_s)
        clip.indices.append(kept.index)

    def _finish(self, clip: _Clip) -> None:
        """Gives a clip its name, and writes the JSON file beside it."""
        with self._changed:
            dropped = clip.mismatched
            dropped += sum(clip.start_s <= t <= clip.end_s for t in self._refused)
            self._dropped += dropped
        if clip.file is None:
            return
        file, clip.file = clip.file, None
        file.finish(self._folder, _stem(clip), self._record(clip, file, dropped))
        self._recorded += 1

    def _record(self, clip: _Clip, file: _ClipFile, dropped: int) -> dict[str, Any]:
        assert self._session is not None
        return {
            "type": "clip",
            "source": self._session.source,
            "model": self._session.model,
            "recorded_at": clip.begun_at.isoformat(timespec="milliseconds"),
            "width": file.shape[1],
            "height": file.shape[0],
            "fps": file.fps,
            "frames": len(clip.times_s),
            "start_s": round(clip.times_s[0], 6),
            "end_s": round(clip.times_s[-1], 6),
            "wanted_start_s": round(clip.start_s, 6),
            "wanted_end_s": round(clip.end_s, 6),
            "cut_short": clip.cut_short,
            "dropped": dropped,
            "compressed": clip.compressed,
            "frame_index": clip.indices,
            "times_s": [round(time_s, 6) for time_s in clip.times_s],
            "events": [event.to_dict() for event in clip.events],
        }

    def _compress(self, kept: _Kept) -> None:
        image = kept.image
        assert image is not None
        jpeg = cv2.imencode(".jpg", image, _JPEG)[1]
        with self._changed:
            if any(k is kept for k in self._kept):
                self._forget(kept)
                kept.jpeg, kept.image = jpeg, None
                self._bytes += kept.size

    def _stop(self, reason: str, keep: bool) -> None:
        """Ends the recording, and completes the open clip (`keep`) or discards it."""
        with self._changed:
            clips = list(self._clips)
            self._clips.clear()
            self._is_on = False
            self._seal(reason)
        for clip in clips:
            clip.cut_short = reason
            if keep and clip.file is not None:
                try:
                    self._finish(clip)
                except (OSError, cv2.error):
                    self._discard(clip)
            else:
                self._discard(clip)
        self._say(f"recording stopped: {reason}")

    @staticmethod
    def _discard(clip: _Clip) -> None:
        file, clip.file = clip.file, None
        if file is not None:
            file.discard()

    def _check_folder(self) -> None:
        """Makes the folder, and deletes what killed sessions left in it."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self._folder} cannot be made: {error.strerror}. Name a folder for the clips."
            ) from None
        check_writable(self._folder / "mer_.avi")
        for entry in os.scandir(self._folder):
            if _OWN_PART.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > _STALE_S:
                        os.unlink(entry)

    def _check_room(self, part: Path | None) -> None:
        """
        Raises:
            _Full: The clips have reached their limit, or the disk is nearly full.
        """
        used = part.stat().st_size if part is not None else 0
        for entry in os.scandir(self._folder):
            if _OWN_NAME.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError):
                    used += entry.stat().st_size
        if used >= self._limit_bytes:
            raise _Full(
                f"the clips in {self._folder} have reached {self._limit_bytes / 1e9:.3g} GB; "
                "move them to another place, or name another folder"
            )
        if shutil.disk_usage(self._folder).free < FREE_BYTES:
            raise _Full(
                f"the disk of {self._folder} has less than {FREE_BYTES / 1e6:.0f} MB left; "
                "make room, or name a folder on another disk"
            )


class _ClipFile:
    """A clip on disk: hidden until it is complete.

    Attributes:
        part: Its hidden file.
        shape: Shape of its frames, (height, width, 3).
        fps: Frame rate of the file.
    """

    def __init__(self, part: Path, shape: tuple[int, ...], fps: float) -> None:
        """
        Raises:
            OSError: It cannot be written.
        """
        self.part, self.shape, self.fps = part, shape, fps
        self._count = 0
        # OpenCV would cut odd sizes: repeat a row or column to make them even.
        self._pad = (shape[0] % 2, shape[1] % 2)
        size = (shape[1] + self._pad[1], shape[0] + self._pad[0])
        self._writer = cv2.VideoWriter(
            os.path.abspath(part), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*_CODEC), fps, size
        )
        if not self._writer.isOpened():
            self.discard()
            raise OSError(0, f"no {_CODEC} video of {size[0]} x {size[1]} can be opened there")

    def write(self, image: np.ndarray) -> None:
        if any(self._pad):
            below, right = self._pad
            image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
        self._writer.write(image)
        self._count += 1

    def finish(self, folder: Path, stem: str, record: dict[str, Any]) -> None:
        """Closes the clip and gives it a free name in the folder.

        Raises:
            OSError: It is not complete, or cannot be renamed. Its file is deleted.
        """
        try:
            self._writer.release()
            # OpenCV's writer does not report a full disk.
            if _frame_count(self.part) != self._count:
                raise OSError(0, "the clip was not written completely")
            self._name(folder, stem, record)
        except OSError:
            self.discard()
            raise

    def _name(self, folder: Path, stem: str, record: dict[str, Any]) -> None:
        for k in itertools.count(1):
            path = folder / (f"{stem}{_SUFFIX}" if k == 1 else f"{stem}_{k}{_SUFFIX}")
            beside = path.with_suffix(".json")
            if path.exists():
                continue
            try:
                # Creating the JSON file first reserves the name.
                file = beside.open("x", encoding="utf-8")
            except FileExistsError:
                continue
            try:
                with file:
                    file.write(json.dumps({"video": path.name, **record}, allow_nan=False) + "\n")
                os.replace(self.part, path)
            except OSError:
                beside.unlink(missing_ok=True)
                raise
            return

    def discard(self) -> None:
        self._writer.release()
        with contextlib.suppress(OSError):
            self.part.unlink()


def _frame_count(path: Path) -> int:
    video = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    try:
        return int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    finally:
        video.release()


def _stem(clip: _Clip) -> str:
    when = clip.begun_at
    # Labels come from the model's card and may hold any character.
    label = re.sub(r"[^a-z0-9]+", "-", clip.events[0].label.lower()).strip("-")[:32] or "event"
    return f"mer_{when:%Y%m%d-%H%M%S}-{when.microsecond // 1000:03d}_{label}"


def _rate(times: list[float], declared: float) -> float:
    """The usual frame rate, from the mean of the steps near the median: times may be rounded."""
    steps = np.diff(times)
    steps = steps[steps > 0]
    if steps.size:
        median = np.median(steps)
        fps = float(1 / steps[np.abs(steps - median) <= 0.25 * median].mean())
    else:
        fps = declared
    return round(fps, 2) if 1 <= fps <= 1000 else 30.0
