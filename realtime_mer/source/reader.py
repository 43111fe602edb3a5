"""Readers: one class a kind of source, from a camera to a folder, and the rule which one it is."""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.source.redaction import URL, redacted

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)

DEFAULT_FPS = 30.0
"""What a folder of frames is played at when nothing else is known."""

OPEN_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 5.0

_DEMO = "or try `python run.py --demo`, which needs no camera"


def quiet_opencv() -> None:
    """Keeps OpenCV's and FFmpeg's own messages off stderr; what fails is said by an exception.

    FFmpeg's level is read once, when OpenCV first opens a video: call this before. Whoever sets
    OPENCV_LOG_LEVEL or OPENCV_FFMPEG_LOGLEVEL to look for a fault keeps what was set.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


_STREAM = re.compile(r"(https?|rtsps?)://", re.IGNORECASE)


class Grab(NamedTuple):
    """One picture as a reader hands it over.

    Attributes:
        image: (height, width, 3) uint8, BGR, not used by the reader any more.
        position_s: Presentation time as the source tells it; None where it tells none.
        captured_at: When the picture was taken, on the clock of `time.monotonic()`: the driver's
            stamp where there is one, else when the picture was in hand.
    """

    image: np.ndarray
    position_s: float | None
    captured_at: float


class Reader(Protocol):
    """One kind of source. Opened, read and closed by one thread.

    Attributes:
        name: The source as it may be shown.
        live: True where frames that nobody takes are lost. Final after the first `open`.
        fps: Declared frame rate, 0 where unknown. Final after `open`.
        frame_count: Declared number of frames, 0 where unknown. Final after `open`.
        notes: What the user should know about the source, a sentence each.

    A live reader whose source may come back also has `patience_s`: for so long, after it gave
    pictures and was lost, `close` and `open` are tried again. Without it, its end is final.
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
        self._read_header()
        return True

    def _read_header(self) -> None:
        assert self._video is not None
        fps = self._video.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= 10_000 else 0.0
        count = self._video.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if math.isfinite(count) and 0 < count < 1e9 else 0

    def read(self) -> Grab | None:
        captured_at = self._grab()
        if captured_at is None:
            return None
        assert self._video is not None
        try:
            ok, image = self._video.retrieve()
        except cv2.error:
            return None
        if not ok or image is None or image.size == 0:
            return None
        position_s = None if self.live else self._video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return Grab(_as_bgr(image), position_s, captured_at)

    def _grab(self) -> float | None:
        """Waits for the next picture; when it was in hand, or None where there is none."""
        assert self._video is not None
        try:
            return time.monotonic() if self._video.grab() else None
        except cv2.error:
            return None

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


CAMERA_SIZE = (1280, 720)
"""The face of someone before a webcam is then some 200 px wide, about the size that motion is
measured at; at 640 x 480 it is half of that."""

CAMERA_RATE = 30.0

CAMERA_FORMAT = "MJPG"
"""Uncompressed, 30 pictures of that size are 55 MB a second, more than USB 2 carries: many cameras
then give 10. MJPG makes it 4 MB, for 2 ms of decoding a picture in the thread of the capture."""


@dataclass(frozen=True, slots=True)
class CameraRequest:
    """What a camera is asked for. None leaves it to the camera; it may refuse or round anything.

    Attributes:
        size: (width, height) in pixels.
        rate: Frames a second.
        pixel_format: Four characters, as V4L2 and OpenCV name formats.
    """

    size: tuple[int, int] | None = CAMERA_SIZE
    rate: float | None = CAMERA_RATE
    pixel_format: str | None = CAMERA_FORMAT

    def __post_init__(self) -> None:
        if self.size is not None and not all(1 <= n <= 16384 for n in self.size):
            raise InputError(
                f"{self.size[0]} x {self.size[1]} is no picture size. Name one like 1280 x 720."
            )
        if self.rate is not None and not 1 <= self.rate <= 1000:
            raise InputError(f"{self.rate:g} is no frame rate. Name frames a second, 1 to 1000.")
        if self.pixel_format is not None and not re.fullmatch("[ -~]{4}", self.pixel_format):
            raise InputError(
                f"{redacted(self.pixel_format)} is no pixel format. Name one like MJPG or YUYV."
            )


_ANYTHING = CameraRequest(None, None, None)
# A camera may miss a picture (USB noise, a mode change) and go on. What lasts longer needs more
# than waiting: it is opened again.
_MISSES_S = 1.0
# The driver keeps 4 pictures. An older stamp is one of another clock.
_STAMP_AGE_S = 0.5
# V4L2_CID_EXPOSURE_ABSOLUTE counts in 100 us. It is the exposure in the modes manual (1) and
# shutter priority (2) of V4L2_CID_EXPOSURE_AUTO; in the others many cameras tell a default.
_EXPOSURE_UNIT_S = 1e-4
_EXPOSURE_IS_SET = (1, 2)
# The shortest micro-expressions last so long.
_LONGEST_EXPOSURE_S = 1 / 25


class CameraReader(_VideoReader):
    """A camera by its number or its device path.

    It is asked for a size, a rate and a format, in this order of what the others depend on: format,
    size, rate. One that gives no picture that way (USB bandwidth, a mode that it only claims) is
    opened as it comes. OpenCV's buffer stays at its four pictures: with one, the driver would have
    none to fill while we hold it. Reading never pauses, so four are not old either.
    """

    # Who unplugs a camera plugs it in again, sooner or later.
    patience_s = math.inf

    def __init__(
        self,
        device: int | str,
        name: str,
        stall_timeout_s: float,
        request: CameraRequest = CameraRequest(),
    ) -> None:
        super().__init__(name, live=True)
        self._device = device
        self._backend = _camera_backend()
        self._misses_s = min(_MISSES_S, stall_timeout_s)
        self._request = request
        self._asked = request
        self._first: Grab | None = None
        self._delivered = ""

    def open(self) -> None:
        self._start()
        if self._first is None and not self._delivered and self._asked != _ANYTHING:
            self.close()
            self._asked = _ANYTHING
            self._start()
        if self._first is not None:
            self._tell(self._first.image)

    def _start(self) -> None:
        """Opens the camera, asks it for what is wanted and takes its first picture."""
        if not self._open(self._device, self._backend, []):
            raise self._unusable()
        assert self._video is not None
        asked = self._asked
        with contextlib.suppress(cv2.error):
            if asked.pixel_format is not None:
                self._video.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*asked.pixel_format))
            if asked.size is not None:
                self._video.set(cv2.CAP_PROP_FRAME_WIDTH, asked.size[0])
                self._video.set(cv2.CAP_PROP_FRAME_HEIGHT, asked.size[1])
            if asked.rate is not None:
                self._video.set(cv2.CAP_PROP_FPS, asked.rate)
        self._read_header()
        self.frame_count = 0
        self._first = self._next()

    def read(self) -> Grab | None:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return self._next()

    def _next(self) -> Grab | None:
        deadline = time.monotonic() + self._misses_s
        while (grab := super().read()) is None:
            # A camera that is unplugged leaves at once, so that it finds its name free on return.
            if self._is_gone() or time.monotonic() >= deadline:
                return None
            time.sleep(0.01)
        return grab

    def _grab(self) -> float | None:
        in_hand = super()._grab()
        if in_hand is None or self._backend != cv2.CAP_V4L2:
            return in_hand
        # Drivers stamp pictures with the clock that `time.monotonic` reads on Linux.
        assert self._video is not None
        stamp = self._video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return stamp if 0 <= in_hand - stamp <= _STAMP_AGE_S else in_hand

    def close(self) -> None:
        self._first = None
        super().close()

    def _tell(self, image: np.ndarray) -> None:
        """Notes what the camera delivers, and an exposure that blurs what is looked for."""
        assert self._video is not None
        size = (image.shape[1], image.shape[0])
        fourcc = int(self._video.get(cv2.CAP_PROP_FOURCC))
        code = fourcc.to_bytes(4, "little") if 0 < fourcc < 1 << 32 else b""
        pixel_format = code.decode("ascii", "replace") if code.isascii() else ""
        wanted = self._request
        parts = [_asked(f"{size[0]} x {size[1]}", wanted.size and "{} x {}".format(*wanted.size))]
        if pixel_format.isprintable() and pixel_format:
            parts.append(_asked(pixel_format, wanted.pixel_format))
        rate = wanted.rate and f"{wanted.rate:g} fps"
        parts.append(_asked(f"{self.fps:.4g} fps", rate) if self.fps else "fps unknown")
        delivered = f"{self.name}: {', '.join(parts)} by its driver"
        if delivered != self._delivered:
            self._delivered = delivered
            self.notes.append(delivered)
            self._tell_exposure()

    def _tell_exposure(self) -> None:
        assert self._video is not None
        if self._backend != cv2.CAP_V4L2:
            return  # other back ends count in other units
        mode = self._video.get(cv2.CAP_PROP_AUTO_EXPOSURE)
        exposure_s = self._video.get(cv2.CAP_PROP_EXPOSURE) * _EXPOSURE_UNIT_S
        if mode in _EXPOSURE_IS_SET and _LONGEST_EXPOSURE_S < exposure_s <= 10:
            self.notes.append(
                f"{self.name} is set to expose for {exposure_s * 1000:.0f} ms, and motion of less "
                f"than that is blurred: set it below {_LONGEST_EXPOSURE_S * 1000:.0f} ms or to "
                "automatic (see `v4l2-ctl --list-ctrls`), and give the face more light"
            )

    def _path(self) -> str:
        return self._device if isinstance(self._device, str) else f"/dev/video{self._device}"

    def _is_gone(self) -> bool:
        return self._backend == cv2.CAP_V4L2 and not os.path.exists(self._path())

    def empty(self) -> InputError:
        return InputError(
            f"{self.name} was opened but gives no picture. Plug it in again, close other programs "
            f"that use it, {_DEMO}."
        )

    def _unusable(self) -> InputError:
        path = self._path()
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


def _asked(given: str, asked: str | None) -> str:
    return given if asked in (None, given) else f"{given} (asked for {asked})"


def _camera_backend() -> int:
    # CAP_ANY would also ask back ends that cannot know a camera, which takes a while and is noisy.
    return cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY


# While FFmpeg finds out what a stream holds it stores what comes: about 0.7 s of H.264. Pictures
# that need not be waited for are of that store, and their times of arrival mean nothing.
_WAITED_S = 0.01
_STORE_S = 1.0
_STORE_FRAMES = 100


class StreamReader(_VideoReader):
    """An http(s) or rtsp address.

    Live, unless the server hands out a recording: something with a known number of frames.
    """

    # A network camera or a router that restarts is away for a minute or so. What is away for longer
    # has ended, for nobody tells a stream that is over from one that is not there.
    patience_s = 120.0

    def __init__(self, url: str, name: str, stall_timeout_s: float) -> None:
        super().__init__(name, live=True)
        self._url = url
        self._stall_timeout_s = stall_timeout_s
        self._was_open = False
        self._in_hand_at: float | None = None

    def open(self) -> None:
        parameters = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            int(OPEN_TIMEOUT_S * 1000),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            max(1, int(self._stall_timeout_s * 1000)),
            # Each further thread of the decoder holds back a picture (H.264 on 8 cores: 0.23 s).
            cv2.CAP_PROP_N_THREADS,
            1,
        ]
        if not self._open(self._url, cv2.CAP_FFMPEG, parameters):
            raise InputError(
                f"{self.name} cannot be opened: nobody answers there, access is refused, or it is "
                "no video stream. Check the address, the credentials and that the server runs."
            )
        if not self._was_open:
            self._was_open = True
            self.live = self.frame_count == 0 or self._url.lower().startswith("rtsp")
        if self.live:
            self.frame_count = 0
            self._forget_invented_rate()
            self._skip_store()

    def _forget_invented_rate(self) -> None:
        # Motion JPEG over HTTP tells no rate, and FFmpeg says 25.
        assert self._video is not None
        is_jpeg = int(self._video.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"MJPG")
        if is_jpeg and self._url.lower().startswith("http"):
            self.fps = 0.0

    def _skip_store(self) -> None:
        """Skips what FFmpeg has stored, up to the first picture that is waited for."""
        started_at = time.monotonic()
        for _ in range(_STORE_FRAMES):
            asked_at = time.monotonic()
            self._in_hand_at = super()._grab()
            waited = time.monotonic() - asked_at > _WAITED_S
            if self._in_hand_at is None or waited or asked_at - started_at > _STORE_S:
                return

    def _grab(self) -> float | None:
        if self._in_hand_at is not None:
            in_hand_at, self._in_hand_at = self._in_hand_at, None
            return in_hand_at
        return super()._grab()

    def close(self) -> None:
        self._in_hand_at = None
        super().close()

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
    request: CameraRequest = CameraRequest(),
) -> Reader:
    """Finds out what kind of source this is; opens nothing.

    A number or a device is a camera, an http(s) or rtsp address a stream, everything else a
    path. A path object is always a path. A file whose name is a number is `./0`.

    Args:
        fps: Frame rate of a folder of frames, or the true one of a video file whose own times
            are not to be believed.
        request: What a camera is asked for; no other source is.

    Raises:
        InputError: The source is missing or of no kind that is known.
    """
    text = os.fspath(source) if isinstance(source, os.PathLike) else str(source)
    name = redacted(text)
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise InputError(f"--fps {fps:g} is no frame rate. Name a number above 0.")
    reader = _reader_for(text, name, isinstance(source, os.PathLike), fps, stall_timeout_s, request)
    if fps is not None and reader.live:
        raise InputError(f"--fps is for recordings; {name} is live, and its frames are timed.")
    return reader


def _reader_for(
    text: str,
    name: str,
    is_path: bool,
    fps: float | None,
    stall_timeout_s: float,
    request: CameraRequest,
) -> Reader:
    if not is_path and re.fullmatch(r"-?[0-9]{1,9}", text):
        if int(text) < 0:
            raise InputError(f"{text} is no camera. Cameras are numbered from 0.")
        return CameraReader(int(text), f"camera {int(text)}", stall_timeout_s, request)
    if not is_path and URL.match(text) and not os.path.exists(text):
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
            return CameraReader(text, name, stall_timeout_s, request)
        raise InputError(
            f"{name} does not exist. Check the name; the working folder is {redacted(os.getcwd())}."
        ) from None
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}.") from None
    if stat.S_ISDIR(mode):
        return ImageFolderReader(path, name, fps)
    if stat.S_ISCHR(mode):
        return CameraReader(os.path.abspath(text), name, stall_timeout_s, request)
    if stat.S_ISREG(mode):
        return VideoFileReader(path, name, fps)
    raise InputError(f"{name} is neither a file nor a folder. Name a video file.")
