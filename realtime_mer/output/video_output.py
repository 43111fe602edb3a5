"""The annotated video as a file."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from io import FileIO
from pathlib import Path
from typing import NamedTuple, TypeVar

import av
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.output.overlay import Overlay
from realtime_mer.output.sound import Sound
from realtime_mer.output.video_encoder import (
    ENCODER,
    FORMATS,
    MAX_HOLD_S,
    OutputFile,
    VideoEncoder,
    length_s,
    rewrite,
)
from realtime_mer.output.writable import check_writable, shown, why
from realtime_mer.results import Analysis, Session, Summary
from realtime_mer.session.channel import Channel
from realtime_mer.source.capture import State
from realtime_mer.source.reader import DEFAULT_FPS

# Pictures that wait for the encoder: a hiccup of the disk loses none of a camera's. Chosen by
# judgement; the picture of a 1280 x 720 video has 3.6 MB, that of a 3840 x 2160 one 33 MB.
_WAITING_BYTES = 32_000_000
_MIN_WAITING, _MAX_WAITING = 2, 8
# A source that shows nothing for longer is mentioned. Chosen by judgement.
_NOTED_HOLD_S = 60.0
# The first frames of a source may be lost before they are shown; if the first one comes later than
# this, its clock began elsewhere. Chosen by judgement.
_MAX_START_S = 10.0
# So far the source's times may leave those of its sound; repeated times are mended by less. Chosen
# by judgement: from about here on, people notice.
_MAX_SHIFT_S = 0.2
# Of several sources, a picture that follows the last one within this part of a frame's time is not
# worth its bytes. Chosen by judgement: less than 1, for cameras are not quite even.
_LEAST_PART = 0.75
# A live source's video gets its index at the end if it is larger: copying it would take minutes on
# a slow disk. Chosen by judgement.
_MAX_REWRITTEN_BYTES = 1_000_000_000
# A file name has up to 255 bytes, a character up to 4.
_MAX_STEM = 56
# After an interrupt, the encoder needs only milliseconds to end.
_INTERRUPTED_S = 5.0
# Threads are waited for in pieces of this length, so that Ctrl-C is noticed on every platform.
_WAIT_S = 0.2

_Created = TypeVar("_Created")


class _Picture(NamedTuple):
    """A picture for the encoder.

    Attributes:
        image: (height, width, 3) uint8, BGR. Nobody writes to it.
        time_s: Seconds from the beginning of the video.
    """

    image: np.ndarray
    time_s: float


class VideoOutput:
    """Writes the overlay's pictures as H.264 that browsers play, each with the source's own time.

    - A picture stays until the next one. While the source shows nothing, that is a single picture,
      however long: the times of the video are those of the log.
    - A recording keeps its sound, if the sound's file is named.
    - Encoding has a thread of its own. A recording waits for it; of a live source, the pictures for
      which it is too slow are left out, and counted in a note.
    - Of several sources, there are about as many pictures a second as the fastest one gives, of
      live ones 40 at most; what others show in them may be a frame older.
    - The file gets its name when it is complete, also after Ctrl-C or an error in the source.
      Before that it is called NAME.part.mp4, and can be played at any time. If it cannot be written
      any more, it keeps that name, a note says so, the session goes on, and `end` raises.

    Example:
        output = VideoOutput("annotated.mp4", Overlay(), sound="clip.mp4")
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        overlay: Overlay,
        *,
        sound: str | os.PathLike[str] | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """
        Args:
            path: .mp4, .mov or .mkv.
            overlay: It draws the pictures; a window may share it.
            sound: The source, if it is a video file; anything else has no sound that is kept.
            note: Called with messages for the user.

        Raises:
            InputError: Nothing can be written there, or not in this format.
        """
        self._path = Path(path)
        self.name = shown(path)
        suffix = self._path.suffix.lower()
        if suffix not in FORMATS:
            raise InputError(f"{self.name} {_why_not(suffix)}. End it with {_endings()}.")
        check_writable(self._path)
        if self._path.exists() and not self._path.is_file():
            raise InputError(f"{self.name} is no regular file. Name another file.")
        self._format = FORMATS[suffix]
        _check_encoder(self.name)
        self._sound_path = sound
        self._sound_file: FileIO | None = None
        self._overlay, self._note = overlay, note
        self._period_s = 1 / DEFAULT_FPS
        self._live = self._has_several = False
        # In the session's thread: the time of the last picture, in the video and in the source,
        # and how much shorter the video is.
        self._time_s: float | None = None
        self._cut_s = 0.0
        self._has_noted_hold = self._has_told = False
        # What a source that is away is said to do in the last picture; None of one that is there.
        self._away: tuple[str, ...] | None = None
        # Where the pictures begin in the source's container, and until when its times go on evenly.
        self._zero_s: float | None = None
        self._even_until_s: float | None = None
        # In both threads.
        self._channel: Channel[_Picture] | None = None
        self._thread: threading.Thread | None = None
        self._file: OutputFile | None = None
        self._end_s = 0.0
        self._wants_all_sound = False
        self._failure: str | None = None
        self._broken: BaseException | None = None
        self._notes: list[str] = []

    def begin(self, session: Session) -> None:
        self._overlay.begin(session)
        self._live, self._has_several = session.live, bool(session.sources)
        if session.live:
            return
        if 0 < session.fps < math.inf:
            self._period_s = 1 / session.fps
        # Opened now: the file may be moved or deleted while it is analysed.
        if self._sound_path is not None and os.path.isfile(self._sound_path):
            with contextlib.suppress(OSError):
                self._sound_file = FileIO(os.fspath(self._sound_path))

    def update(self, analysis: Analysis) -> None:
        self._overlay.update(analysis)
        if self._failure is not None:
            self._tell()
            return
        time_s = analysis.frame.time_s
        away = analysis.alerts if analysis.is_away else None
        if away is not None and away != self._away:
            # That the source is away, and why, is a picture of its own: the last frame is past.
            time_s += max(0.0, time.monotonic() - analysis.frame.captured_at)
        if self._has_several and self._comes_soon(time_s):
            return
        place_s = self._place(time_s)
        if place_s is None:
            return
        self._away = away
        self._follow_positions(analysis)
        image = self._overlay.picture().copy()
        image.setflags(write=False)
        if self._channel is None:
            self._start(image)
        assert self._channel is not None
        self._time_s = place_s
        self._channel.put(_Picture(image, place_s))

    def _comes_soon(self, time_s: float) -> bool:
        """Whether a time is so soon after the last picture that the next one will do."""
        if self._time_s is None:
            return False
        return 0 <= time_s - self._cut_s - self._time_s < _LEAST_PART * self._period_s

    def _place(self, time_s: float) -> float | None:
        """Where a picture goes in the video; None if its time is not after the last one's."""
        if not math.isfinite(time_s):
            return None
        if self._time_s is None:
            # The video begins with a picture.
            if not 0 <= time_s <= _MAX_START_S:
                self._cut_s = time_s
            return 0.0
        place_s = time_s - self._cut_s
        hold_s = place_s - self._time_s
        if hold_s <= 0:
            return None
        if hold_s > MAX_HOLD_S:
            self._cut_s += hold_s - MAX_HOLD_S
            place_s = self._time_s + MAX_HOLD_S
            self._end_sound(self._time_s)
            self._note(
                f"{self.name} holds one picture from {self._time_s:.1f} s on for "
                f"{_duration(MAX_HOLD_S)} in place of {_duration(hold_s)}, in which the source "
                f"showed nothing: all that follows comes {_duration(hold_s - MAX_HOLD_S)} early"
            )
        elif hold_s > _NOTED_HOLD_S and not self._has_noted_hold:
            self._has_noted_hold = True
            self._note(
                f"{self.name} holds one picture from {self._time_s:.1f} s on for "
                f"{_duration(hold_s)}, in which the source showed nothing; likewise if that comes "
                "again"
            )
        return place_s

    def _follow_positions(self, analysis: Analysis) -> None:
        """Finds out how the times of the source's container, which its sound has, go on."""
        position_s = analysis.frame.position_s
        if position_s is None or self._even_until_s is not None:
            return
        zero_s = position_s - analysis.frame.time_s + self._cut_s
        if self._zero_s is None:
            self._zero_s = zero_s
        elif abs(zero_s - self._zero_s) > _MAX_SHIFT_S:
            self._end_sound(self._time_s or 0.0)

    def _end_sound(self, time_s: float) -> None:
        if self._even_until_s is None:
            self._even_until_s = time_s

    def _start(self, image: np.ndarray) -> None:
        waiting = min(max(_WAITING_BYTES // image.nbytes, _MIN_WAITING), _MAX_WAITING)
        self._channel = Channel(
            waiting, merge=(lambda earlier, later: later) if self._live else None
        )
        self._thread = threading.Thread(
            target=self._run, args=[(image.shape[1], image.shape[0])], name="video", daemon=True
        )
        self._thread.start()

    def end(self, summary: Summary) -> None:
        """Completes the video.

        Raises:
            InputError: It could not be written; the message says what there is of it.
        """
        if self._thread is None:
            self._close_sound()
            return
        assert self._channel is not None
        assert self._time_s is not None
        self._wants_all_sound = summary.reason == State.ENDED.value
        self._end_s = self._time_s + self._period_s
        if self._live and self._away is not None:
            self._end_s = max(self._end_s, summary.duration_s - self._cut_s)
        self._channel.end()
        try:
            while self._thread.is_alive():
                self._thread.join(_WAIT_S)
        except BaseException:
            # What is complete stays, what is not is broken off.
            if (file := self._file) is not None:
                file.fail(OSError("interrupted"))
            self._thread.join(_INTERRUPTED_S)
            raise
        finally:
            self._thread = None
            self._close_sound()
        if missing := self._channel.merged:
            pictures = "1 picture is" if missing == 1 else f"{missing} pictures are"
            self._note(f"{pictures} not in {self.name}: encoding was too slow for this source")
        for text in self._notes:
            self._note(text)
        if self._broken is not None:
            raise self._broken
        if self._failure is not None:
            raise InputError(f"{self._failure}. Free the disk, or name a file on another one.")

    def _tell(self) -> None:
        if not self._has_told:
            self._has_told = True
            self._note(f"{self._failure}. The session goes on without it")

    def _close_sound(self) -> None:
        if self._sound_file is not None:
            self._sound_file.close()
            self._sound_file = None

    # The thread "video"

    def _run(self, size: tuple[int, int]) -> None:
        assert self._channel is not None
        try:
            self._write(self._channel, size)
        except (OSError, av.FFmpegError) as error:
            self._failure = f"{self.name} cannot be written: {why(error)}"
        except BaseException as error:
            self._failure, self._broken = f"{self.name} cannot be written: {error}", error
        finally:
            # Nothing more is taken, and nobody waits for that.
            self._channel.close()

    def _write(self, pictures: Iterable[_Picture], size: tuple[int, int]) -> None:
        target = Path(os.path.realpath(self._path))
        part, encoder = _new_beside(
            target, lambda path: VideoEncoder(path, self._format, size, 1 / self._period_s)
        )
        self._file = encoder.file
        try:
            for image, time_s in pictures:
                encoder.write(image, time_s)
            encoder.finish(self._end_s)
            _put_in_place(part, target)
        except BaseException as error:
            encoder.abandon()
            self._failure = (
                f"{self.name} cannot be written: {why(error)}. {self._what_remains(part)}"
            )
            if not isinstance(error, (OSError, av.FFmpegError)):
                self._broken = error
            return
        # From now on there is a complete video, whatever happens.
        with contextlib.ExitStack() as stack:
            sound = self._open_sound(stack)
            if sound is not None and self._rewrite(target, sound):
                self._note_end_of_sound(sound)
                return
        size_bytes = target.stat().st_size
        if self._format != "matroska" and not (self._live and size_bytes > _MAX_REWRITTEN_BYTES):
            self._rewrite(target, None)

    def _what_remains(self, part: Path) -> str:
        """What there is of a video that is incomplete; removes it if it cannot be played."""
        if (seconds := length_s(part)) > 0:
            # As the user wrote it, unless the name is a link to elsewhere.
            path = part if self._path.is_symlink() else self._path.with_name(part.name)
            return f"Its first {seconds:.1f} s are in {shown(path)}"
        with contextlib.suppress(OSError):
            part.unlink()
        return "Nothing of it could be kept"

    def _open_sound(self, stack: contextlib.ExitStack) -> Sound | None:
        if self._sound_file is None or self._zero_s is None:
            return None
        ends_s = [] if self._even_until_s is None else [self._even_until_s]
        if not self._wants_all_sound:
            ends_s.append(self._end_s)
        try:
            sound = Sound(self._sound_file, self._zero_s, min(ends_s, default=None))
        except (OSError, av.FFmpegError) as error:
            self._notes.append(f"{self.name} has no sound: {why(error)}")
            return None
        stack.callback(sound.close)
        return sound if sound.exists else None

    def _rewrite(self, target: Path, sound: Sound | None) -> bool:
        """Adds the sound, and moves the index to the beginning; returns whether that worked."""
        part: Path | None = None
        try:
            part, file = _new_beside(target, OutputFile)
            self._file = file
            rewrite(target, file, self._format, sound)
            _put_in_place(part, target)
        except Exception as error:
            # Whatever is wrong with the sound, the pictures are there.
            if sound is not None:
                self._notes.append(f"{self.name} has no sound: {why(error)}")
            return False
        finally:
            if part is not None:
                part.unlink(missing_ok=True)
        return True

    def _note_end_of_sound(self, sound: Sound) -> None:
        if sound.is_damaged:
            self._notes.append(f"the sound of {self.name} ends early: the source is damaged")
        elif self._even_until_s is not None:
            self._notes.append(
                f"the sound of {self.name} ends at {self._even_until_s:.1f} s, where the times of "
                "the source jump"
            )


def _endings() -> str:
    *most, last = FORMATS
    return f"{', '.join(most)} or {last}"


def _why_not(suffix: str) -> str:
    if suffix == ".avi":
        return "cannot be written: AVI has one frame rate and no times"
    return "has no ending that names a known video format"


def _check_encoder(name: str) -> None:
    try:
        av.Codec(ENCODER, "w")
    except ValueError:
        raise InputError(
            f"{name} cannot be written: this PyAV has no {ENCODER} encoder. Reinstall av."
        ) from None


def _new_beside(target: Path, create: Callable[[Path], _Created]) -> tuple[Path, _Created]:
    """Creates a file of a new name in the same folder, so that a rename completes it."""
    for number in itertools.count(1):
        suffix = f".part{f'-{number}' if number > 1 else ''}{target.suffix}"
        path = target.with_name(target.stem[:_MAX_STEM] + suffix)
        with contextlib.suppress(FileExistsError):
            return path, create(path)
    raise AssertionError("endless")


def _put_in_place(part: Path, target: Path) -> None:
    # Who could not read the older file cannot read this one.
    with contextlib.suppress(FileNotFoundError):
        shutil.copymode(target, part)
    os.replace(part, target)


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds as people write them: 3 h 0 min, 2 min 5 s."""
    minutes, whole_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {whole_s} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"
