"""Capture: a camera, a file, a folder of frames or a stream becomes a sequence of frames.

A thread reads the source, so that the chain never waits for a disk, a network or a sensor while
it could compute. What it does when the chain is slower than the source depends on the source:

- live (camera, stream): the newest frame wins; the older one is dropped and counted;
- recorded (file, folder, file behind a URL): the thread waits, and every frame is delivered.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
import re
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol
from urllib.parse import unquote

import cv2
import numpy as np

from realtime_mer.event import InputError
from realtime_mer.frame import Frame

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)

DEFAULT_FPS = 30.0
"""What a folder of frames is played at when nothing else is known."""

OPEN_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 5.0

# One frame waits while another is analysed: a hiccup of up to two frame periods costs nothing,
# and what is analysed is never older than that.
_LIVE_FRAMES = 1
# Enough to decode ahead; at 4K a frame is 25 MB.
_RECORDED_FRAMES = 4
# `close` waits this long for the thread, which may be inside a native read.
_JOIN_TIMEOUT_S = 1.0

_DEMO = "or try `python run.py --demo`, which needs no camera"


def quiet_opencv() -> None:
    """Keeps OpenCV's and FFmpeg's own messages off stderr; what fails is said by an exception.

    FFmpeg's level is read once, when OpenCV first opens a video: call this before. Whoever sets
    OPENCV_LOG_LEVEL or OPENCV_FFMPEG_LOGLEVEL to look for a fault keeps what was set.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_STREAM = re.compile(r"(https?|rtsps?)://", re.IGNORECASE)
_SECRET_KEY = re.compile(
    r"access|api|auth|cred|jwt|key|login|pass|pwd|secret|sess|sig|tok|user", re.IGNORECASE
)
_OPAQUE_VALUE = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9._~+/=-]{16,}")


def redacted(source: str) -> str:
    """Returns the source as it may be shown, logged and put into messages.

    Of an address, `user:password@` and the values of token-like query parameters are replaced.
    Characters that a terminal would obey are escaped in any source.

    Example:
        >>> redacted("rtsp://admin:1234@10.0.0.2/live?token=abc&profile=1")
        'rtsp://***@10.0.0.2/live?token=***&profile=1'
    """
    if _URL.match(source):
        source = _without_credentials(source)
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in source.encode("utf-8", "backslashreplace").decode()
    )


def _without_credentials(url: str) -> str:
    scheme, rest = url.split("://", 1)
    head = re.split(r"[?#]", rest, maxsplit=1)[0]
    host_and_port = head.split("/", 1)[0]
    # Passwords are not always percent-encoded as they should be. A port that is no number is a
    # piece of one that holds "/", "?" or "#": then everything up to the last "@" is in doubt.
    if "@" not in host_and_port and re.search(r":(?!\d*$|[0-9a-f:]*\]:?\d*$)", host_and_port):
        head = rest
    userinfo, at, _ = head.rpartition("@")
    if at:
        rest = "***@" + rest[len(userinfo) + 1 :]
    address, mark, query = rest.partition("?")
    if not mark:
        address, mark, query = rest.partition("#")
    return f"{scheme}://{address}{mark}" + re.sub(
        r"(?P<key>[^=&;?#]+)=(?P<value>[^&;#]*)", _redact_parameter, query
    )


def _redact_parameter(match: re.Match[str]) -> str:
    key, value = match["key"], match["value"]
    if _SECRET_KEY.search(unquote(key)) or _OPAQUE_VALUE.fullmatch(unquote(value)):
        value = "***"
    return f"{key}={value}"


class Grab(NamedTuple):
    """One picture as a reader hands it over.

    Attributes:
        image: (height, width, 3) uint8, BGR, not used by the reader any more.
        position_s: Presentation time as the source tells it; None where it tells none.
        captured_at: `time.monotonic()` when the picture was in hand.
    """

    image: np.ndarray
    position_s: float | None
    captured_at: float


class Reader(Protocol):
    """One kind of source. Opened, read and closed by one thread.

    Attributes:
        name: The source as it may be shown.
        live: True where frames that nobody takes are lost. Final after `open`.
        fps: Declared frame rate, 0 where unknown. Final after `open`.
        frame_count: Declared number of frames, 0 where unknown. Final after `open`.
        notes: What the user should know about the source, a sentence each.
    """

    name: str
    live: bool
    fps: float
    frame_count: int
    notes: list[str]

    def open(self) -> None:
        """Opens the source, or raises InputError."""

    def read(self) -> Grab | None:
        """Returns the next picture, or None at the end."""

    def empty(self) -> InputError:
        """Returns the error for a source that was opened and gave not a single picture."""

    def close(self) -> None: ...


class _VideoReader:
    """What cameras, files and streams have in common: an OpenCV capture."""

    def __init__(self, name: str, live: bool) -> None:
        self.name = name
        self.live = live
        self.fps = 0.0
        self.frame_count = 0
        self.notes: list[str] = []
        self._video: cv2.VideoCapture | None = None

    def _open(self, target: str | int, backend: int, parameters: list[int]) -> bool:
        quiet_opencv()
        video = cv2.VideoCapture()
        try:
            opened = video.open(target, backend, parameters)
        except cv2.error:
            opened = False
        if not opened:
            video.release()
            return False
        self._video = video
        fps = video.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= 10_000 else 0.0
        count = video.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if math.isfinite(count) and 0 < count < 1e9 else 0
        return True

    def read(self) -> Grab | None:
        assert self._video is not None
        try:
            if not self._video.grab():
                return None
            captured_at = time.monotonic()
            ok, image = self._video.retrieve()
        except cv2.error:
            return None
        if not ok or image is None or image.size == 0:
            return None
        position_s = None if self.live else self._video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return Grab(_as_bgr(image), position_s, captured_at)

    def close(self) -> None:
        if self._video is not None:
            self._video.release()
            self._video = None


class VideoFileReader(_VideoReader):
    """A video file, through FFmpeg only: other back ends give some file names a meaning.

    Args:
        fps: True frame rate, in place of the file's times (a slow-motion recording).
    """

    def __init__(self, path: Path, name: str, fps: float | None) -> None:
        super().__init__(name, live=False)
        self._path = path
        self._true_fps = fps

    def open(self) -> None:
        if self._path.suffix.lower() in IMAGE_SUFFIXES:
            raise InputError(
                f"{self.name} is a single picture. Hand over a video, or the folder of the frames."
            )
        try:
            size = self._path.stat().st_size
            with self._path.open("rb"):
                pass
        except OSError as error:
            raise InputError(f"{self.name} cannot be read: {error.strerror}.") from None
        if size == 0:
            raise InputError(f"{self.name} is an empty file. Copy or record it again.")
        # An absolute path starts with no dash and no "scheme:".
        if not self._open(os.path.abspath(self._path), cv2.CAP_FFMPEG, []):
            raise InputError(
                f"{self.name} cannot be opened as a video: it is no video, is cut short before "
                "its index, or has a format that FFmpeg does not know. "
                "Check that a player shows it, or convert it to .mp4."
            )
        self.fps = self._true_fps or self.fps

    def read(self) -> Grab | None:
        grab = super().read()
        return grab if grab is None or self._true_fps is None else grab._replace(position_s=None)

    def empty(self) -> InputError:
        return InputError(
            f"{self.name} holds no frame that can be decoded. Check that a player shows it."
        )


class CameraReader(_VideoReader):
    """A camera by its number or its device path."""

    def __init__(self, device: int | str, name: str, stall_timeout_s: float) -> None:
        super().__init__(name, live=True)
        self._device = device
        self._stall_timeout_s = stall_timeout_s

    def open(self) -> None:
        if not self._open(self._device, _camera_backend(), []):
            raise self._unusable()
        assert self._video is not None
        # Best effort: back ends that can't do this ignore it.
        self._video.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.frame_count = 0

    def read(self) -> Grab | None:
        # A camera may miss a picture (USB noise, a mode change) and go on.
        deadline = time.monotonic() + self._stall_timeout_s
        while (grab := super().read()) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return grab

    def empty(self) -> InputError:
        return InputError(
            f"{self.name} was opened but gives no picture. Plug it in again, close other programs "
            f"that use it, {_DEMO}."
        )

    def _unusable(self) -> InputError:
        path = self._device if isinstance(self._device, str) else f"/dev/video{self._device}"
        if sys.platform.startswith("linux"):
            if not os.path.exists(path):
                return InputError(
                    f"{self.name} is not there ({redacted(path)} does not exist). Connect a "
                    f"camera, name another source (a video file, a folder, a URL), {_DEMO}."
                )
            if not os.access(path, os.R_OK | os.W_OK):
                return InputError(
                    f"{self.name} may not be opened (no permission for {redacted(path)}). Add "
                    f"yourself to the group that owns it, usually `video`, {_DEMO}."
                )
        return InputError(
            f"{self.name} cannot be opened: it is absent, is no camera, or another program uses "
            f"it. Close that program, choose another camera, {_DEMO}."
        )


def _camera_backend() -> int:
    # CAP_ANY would also ask back ends that cannot know a camera, which takes a while and is noisy.
    return cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY


class StreamReader(_VideoReader):
    """An http(s) or rtsp address.

    Live, unless the server hands out a recording: something with a known number of frames.
    """

    def __init__(self, url: str, name: str, stall_timeout_s: float) -> None:
        super().__init__(name, live=True)
        self._url = url
        self._stall_timeout_s = stall_timeout_s

    def open(self) -> None:
        timeouts = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            int(OPEN_TIMEOUT_S * 1000),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            max(1, int(self._stall_timeout_s * 1000)),
        ]
        if not self._open(self._url, cv2.CAP_FFMPEG, timeouts):
            raise InputError(
                f"{self.name} cannot be opened: nobody answers there, access is refused, or it is "
                "no video stream. Check the address, the credentials and that the server runs."
            )
        self.live = self.frame_count == 0 or self._url.lower().startswith("rtsp")
        if self.live:
            self.frame_count = 0

    def empty(self) -> InputError:
        return InputError(
            f"{self.name} was opened but sends no picture. Check that its sender runs."
        )


class ImageFolderReader:
    """A folder of frames, in natural order: frame 2 comes before frame 10."""

    def __init__(self, path: Path, name: str, fps: float | None) -> None:
        self.name = name
        self.live = False
        self.fps = fps or DEFAULT_FPS
        self.frame_count = 0
        self.notes: list[str] = []
        self._path = path
        self._images: list[Path] = []
        self._next = 0
        self._shape: tuple[int, ...] | None = None
        if fps is None:
            self.notes.append(
                f"the frame rate of {name} is not known: {DEFAULT_FPS:g} fps is assumed; say "
                "--fps N if it is another, for all times depend on it"
            )

    def open(self) -> None:
        try:
            images = [
                p
                for p in self._path.iterdir()
                if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()
            ]
        except OSError as error:
            raise InputError(f"{self.name} cannot be read: {error.strerror}.") from None
        if not images:
            raise InputError(
                f"{self.name} is a folder without pictures. Hand over a folder of frames "
                f"({', '.join(sorted(s[1:] for s in IMAGE_SUFFIXES))}) or a video file."
            )
        self._images = sorted(images, key=_natural)
        self.frame_count = len(images)

    def read(self) -> Grab | None:
        if self._next >= len(self._images):
            return None
        path = self._images[self._next]
        image = _decode(path)
        if image is None:
            raise InputError(
                f"{redacted(path.name)} in {self.name} cannot be read as a picture. "
                "Replace it, or take it out of the folder."
            )
        if self._shape is None:
            self._shape = image.shape
        elif image.shape != self._shape:
            raise InputError(
                f"{redacted(path.name)} in {self.name} has {image.shape[1]} x {image.shape[0]} "
                f"pixels, the frames before it {self._shape[1]} x {self._shape[0]}. "
                "Keep one recording a folder, with frames of one size."
            )
        position_s = self._next / self.fps
        self._next += 1
        return Grab(image, position_s, time.monotonic())

    def empty(self) -> InputError:
        return InputError(f"{self.name} is a folder without pictures.")

    def close(self) -> None:
        self._images = []


def _natural(path: Path) -> tuple[list[tuple[int, int | str]], str]:
    pieces = re.split(r"([0-9]+)", path.name.casefold())
    return [(0, int(p)) if p.isdigit() and p.isascii() else (1, p) for p in pieces], path.name


def _decode(path: Path) -> np.ndarray | None:
    # Decoding from memory takes any file name on any system.
    quiet_opencv()
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR_BGR) if data.size else None
    except (OSError, cv2.error):
        return None


def _as_bgr(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    return np.ascontiguousarray(image)


def reader_for(
    source: str | int | os.PathLike[str],
    fps: float | None = None,
    stall_timeout_s: float = STALL_TIMEOUT_S,
) -> Reader:
    """Finds out what kind of source this is; opens nothing.

    A number or a device is a camera, an http(s) or rtsp address a stream, everything else a
    path. A path object is always a path. A file whose name is a number is `./0`.

    Args:
        fps: Frame rate of a folder of frames, or the true one of a video file whose own times
            are not to be believed.

    Raises:
        InputError: The source is missing or of no kind that is known.
    """
    text = os.fspath(source) if isinstance(source, os.PathLike) else str(source)
    name = redacted(text)
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise InputError(f"--fps {fps:g} is no frame rate. Name a number above 0.")
    reader = _reader_for(text, name, isinstance(source, os.PathLike), fps, stall_timeout_s)
    if fps is not None and reader.live:
        raise InputError(f"--fps is for recordings; {name} is live, and its frames are timed.")
    return reader


def _reader_for(
    text: str, name: str, is_path: bool, fps: float | None, stall_timeout_s: float
) -> Reader:
    if not is_path and re.fullmatch(r"-?[0-9]{1,9}", text):
        if int(text) < 0:
            raise InputError(f"{text} is no camera. Cameras are numbered from 0.")
        return CameraReader(int(text), f"camera {int(text)}", stall_timeout_s)
    if not is_path and _URL.match(text) and not os.path.exists(text):
        if _STREAM.match(text):
            return StreamReader(text, name, stall_timeout_s)
        raise InputError(
            f"{name} is an address of a kind that is not supported. "
            "Use http, https or rtsp, or the path of a file."
        )
    if not text or "\0" in text:
        raise InputError("The name of the source is empty or not a file name. Name a video file.")
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if text.startswith("/dev/"):
            return CameraReader(text, name, stall_timeout_s)
        raise InputError(
            f"{name} does not exist. Check the name; the working folder is {redacted(os.getcwd())}."
        ) from None
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.") from None
    if stat.S_ISDIR(mode):
        return ImageFolderReader(path, name, fps)
    if stat.S_ISCHR(mode):
        return CameraReader(os.path.abspath(text), name, stall_timeout_s)
    if stat.S_ISREG(mode):
        return VideoFileReader(path, name, fps)
    raise InputError(f"{name} is neither a file nor a folder. Name a video file.")


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
    ENDED = "end of source"
    STALLED = "the stream stalled"
    FAILED = "failed"
    CLOSED = "stopped"


class Capture:
    """Frames of one source, read by a thread of its own.

    Iterate over it, or call `read` with a timeout. It is used by one thread, except that `close`
    may be called by any. After the source's end the frames that still wait are delivered.

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
    ) -> None:
        """
        Args:
            source: Camera number, path or address; or a reader of one's own.
            fps: As in `reader_for`.
            stall_timeout_s: A live source that sends nothing for so long has ended.

        Raises:
            InputError: The source is missing or of no kind that is known.
        """
        if isinstance(source, str | int | os.PathLike):
            source = reader_for(source, fps, stall_timeout_s)
        self._reader: Reader = source
        self._stall_timeout_s = stall_timeout_s
        self._changed = threading.Condition()
        self._frames: deque[Frame] = deque()
        self._thread: threading.Thread | None = None
        self._state = State.NEW
        self._error: BaseException | None = None
        self._stopping = False
        self._size = (0, 0)
        self._read = 0
        self._dropped = 0
        self._last_arrival = 0.0
        self._last_time_s = 0.0
        self._resized = False

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
    def measured_fps(self) -> float:
        """Frames the source gave a second of its own clock; 0 before the second frame."""
        with self._changed:
            return (self._read - 1) / self._last_time_s if self._last_time_s > 0 else 0.0

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
        """Frames of a live source that a newer one replaced before they were taken."""
        with self._changed:
            return self._dropped

    @property
    def state(self) -> State:
        return self._state

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the source, a sentence each. May grow until the end."""
        return tuple(self._reader.notes)

    def open(self) -> None:
        """Opens the source and waits for its first frame.

        Raises:
            InputError: The source cannot be opened or gives no frame.
        """
        if self._thread is not None:
            raise RuntimeError("a capture is opened once; make a new one")
        # A daemon: a native read that does not return must not keep the program alive.
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._last_arrival = time.monotonic()
        self._thread.start()
        deadline = self._last_arrival + OPEN_TIMEOUT_S + self._stall_timeout_s + 1
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

        `state` is RUNNING as long as there may be more.

        Raises:
            InputError: The source broke in a way that the user has to mend.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not self._frames:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                if self._stopping or self._state is not State.RUNNING:
                    return None
                now = time.monotonic()
                # The reader has a timeout of its own; this one holds where it does not.
                if self.live and now - self._last_arrival > self._stall_timeout_s + 1:
                    self._stall()
                    return None
                if now >= deadline:
                    return None
                self._changed.wait(min(0.2, deadline - now))
            frame = self._frames.popleft()
            self._changed.notify_all()
            return frame

    def close(self) -> None:
        """Stops the thread and gives the source back. Never waits long, may be called twice."""
        with self._changed:
            self._stopping = True
            if self._state in (State.NEW, State.RUNNING):
                self._state = State.CLOSED
            # What waits here is never analysed: of a live source it is lost, of a recording
            # it was only read ahead.
            if self._reader.live:
                self._dropped += len(self._frames)
            else:
                self._read -= len(self._frames)
            self._frames.clear()
            self._changed.notify_all()
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
                self._pump()
            finally:
                with contextlib.suppress(cv2.error, OSError):
                    self._reader.close()
        except BaseException as error:
            with self._changed:
                self._error = None if self._stopping else error
                self._finish(State.FAILED)

    def _pump(self) -> None:
        clock = _Clock(self._reader.fps)
        first_at = None
        index = 0
        while not self._stopping:
            asked_at = time.monotonic()
            grab = self._reader.read()
            if grab is None:
                break
            if first_at is None:
                first_at = grab.captured_at
                self._size = (grab.image.shape[1], grab.image.shape[0])
            time_s = grab.captured_at - first_at if self.live else clock(grab.position_s)
            image = self._of_one_size(grab.image)
            if not self._put(Frame(index, time_s, image, grab.captured_at)):
                break
            index += 1
        else:
            return
        if index == 0 and not self._stopping:
            raise self._reader.empty()
        with self._changed:
            if self._stopping:
                return
            if self.live and time.monotonic() - asked_at >= 0.9 * self._stall_timeout_s:
                self._stall()
            else:
                self._note_missing(index)
                self._finish(State.ENDED)

    def _put(self, frame: Frame) -> bool:
        with self._changed:
            if self.live:
                while len(self._frames) >= _LIVE_FRAMES:
                    self._frames.popleft()
                    self._dropped += 1
            else:
                while len(self._frames) >= _RECORDED_FRAMES and not self._stopping:
                    self._changed.wait()
            if self._stopping:
                return False
            self._frames.append(frame)
            self._read += 1
            self._last_arrival = time.monotonic()
            self._last_time_s = frame.time_s
            if self._state is State.NEW:
                self._state = State.RUNNING
            self._changed.notify_all()
            return True

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

    def _note_missing(self, read: int) -> None:
        declared = self.frame_count
        # Headers are often one or two off, which is not worth a word.
        if declared - read > max(2, 0.02 * declared):
            self._reader.notes.append(
                f"{self.source} ended after {read} of {declared} declared frames: its header may "
                "overstate them, or the file is cut short"
            )

    def _stall(self) -> None:
        self._reader.notes.append(
            f"{self.source} sent no picture for {self._stall_timeout_s:g} s: taken as its end"
        )
        self._stopping = True
        self._finish(State.STALLED)

    def _finish(self, state: State) -> None:
        if self._state in (State.NEW, State.RUNNING):
            self._state = state
        self._changed.notify_all()
