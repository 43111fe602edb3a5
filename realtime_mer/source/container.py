"""Video containers, decoded by FFmpeg's own libraries (PyAV)."""

from __future__ import annotations

import errno
import io
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple, Protocol, cast

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from realtime_mer.errors import InputError
from realtime_mer.source.limits import MAX_PIXELS, check_size, encoded_size
from realtime_mer.source.mjpeg import INTERPOLATION, STRICT

# A container is handed over as an open file, and what it refers to comes from a function of ours.
# FFmpeg's own protocols stay shut: a playlist or a description of a session could otherwise make
# it open any file or address. The name is that of no protocol.
_NO_PROTOCOL = "none"
PLAYLIST = {
    "allowed_extensions": "ALL",
    "allowed_segment_extensions": "ALL",
    "extension_picky": "0",
    # With these, FFmpeg would open addresses itself.
    "http_persistent": "0",
    "http_multiple": "0",
}
"""Options for a playlist: `open_referred` checks what it names, whatever that is called."""

# Nor is this the name of a decoder.
_NO_DECODER = "none"
# A video that begins long after its sound is still found; more is read only if it is. Chosen by
# judgement.
_PROBE_BYTES = 64 << 20
_PROBE_US = 60_000_000
# Pictures of an album or a chapter, not of a video.
_STILL = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
# Of MP4's relatives that hold pictures, animated or not.
_PICTURE_BRANDS = frozenset({"avif", "avis", "heic", "heix", "mif1"})
# Packets read to find out which of several video tracks has a second picture. Chosen by judgement.
_MAX_PROBE_PACKETS = 1000
# After this many errors in a row of the container itself, nothing more is expected from it.
_MAX_ERRORS = 16
# Limits to a plausible header: FFmpeg reports 90,000 fps (the tick of its clock) and negative or
# huge counts when it knows neither.
_MAX_FPS = 10_000
_MAX_FRAME_COUNT = 1e9
# Bare streams have no container. FFmpeg then invents times at 25 fps.
_BARE = frozenset(
    {
        "av1",
        "avs2",
        "avs3",
        "cavsvideo",
        "dirac",
        "evc",
        "h261",
        "h263",
        "h264",
        "hevc",
        "m4v",
        "mjpeg",
        "mpegvideo",
        "obu",
        "vc1",
        "vvc",
    }
)
# They would draw a text as a video.
_NO_VIDEO = frozenset({"adf", "ansi", "bin", "idf", "sdp", "tty", "xbin"})
# Pixels that are wider or higher than this come from a broken header. Anamorphic video has 1.8.
_MAX_ASPECT = 4.0
# A display matrix is 3 x 3 int32, its upper left part in 16.16 fixed point.
_MATRIX_BYTES = 36


class ByteSource(Protocol):
    """An open file, or what reads like one. It may also have a `name`."""

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes; none at the end."""

    def seekable(self) -> bool:
        """Whether `seek` works."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to a place, as files do."""


class _Tolerant:
    """A file in which a seek to nowhere fails in FFmpeg's own way.

    Broken indices ask for such places. If `seek` raised an error, PyAV would print its traceback,
    though FFmpeg goes on.
    """

    def __init__(self, file: ByteSource) -> None:
        self._file = file
        self.read, self.seekable = file.read, file.seekable
        for name in ("name", "tell", "readable"):
            if hasattr(file, name):
                setattr(self, name, getattr(file, name))

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to a place; below 0, it cannot."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -errno.EINVAL

    def close(self) -> None:
        """Closes the file."""
        close = getattr(self._file, "close", None)
        if close is not None:
            close()


class Picture(NamedTuple):
    """One decoded picture.

    Attributes:
        image: (height, width, 3) uint8, BGR, upright and with square pixels.
        position_s: Its presentation time in the container; None if it has none.
    """

    image: np.ndarray
    position_s: float | None


class NoVideoError(InputError):
    """The container can be read, but holds no video."""


class VideoContainer:
    """The video track of an open container.

    Of several, it is the first one that is a video and no picture; one that is marked as the
    default comes first, and in a stream of several sizes the largest.

    Args:
        file: A file object, or an address that FFmpeg itself opens.
        name: The source as it may be shown.
        container_format: FFmpeg's name of the format; None to find it out.
        open_referred: Opens a file that the container refers to, such as a segment of a playlist,
            from a byte on; None to refuse all.
        options: More options of FFmpeg.
        timeouts_s: How long opening and one read may take, of an address.
        threads: Whether to decode in several threads. Each further one delays by a picture.

    Attributes:
        fps: Declared frame rate; 0 if unknown.
        frame_count: Declared number of frames; 0 if unknown.
        duration_s: Declared length; None if unknown, as in live streams.
        bad_pictures: Pictures that could not be decoded and were skipped.

    Raises:
        NoVideoError: There is no video in it.
        InputError: Its pictures are too large.
        av.FFmpegError: It is no container that FFmpeg knows, or is damaged.
        OSError: It cannot be read.
    """

    def __init__(
        self,
        file: ByteSource | str,
        name: str,
        *,
        container_format: str | None = None,
        open_referred: Callable[[str, int], ByteSource] | None = None,
        options: dict[str, str] | None = None,
        timeouts_s: tuple[float, float] | None = None,
        threads: bool = True,
    ) -> None:
        self._name = name
        self._file = file
        self._format = container_format
        self._open_referred = open_referred or _refuse
        self._options = {
            "max_pixels": str(MAX_PIXELS),
            "probesize": str(_PROBE_BYTES),
            "analyzeduration": str(_PROBE_US),
            "protocol_whitelist": _NO_PROTOCOL,
            **(options or {}),
        }
        self._timeouts_s = timeouts_s
        self._threads = threads
        # Whether damaged pictures are taken as far as they can be decoded.
        self._is_lenient = False
        self._container = self._open()
        self._packets: Iterator[av.Packet] = iter(())
        try:
            self._stream = self._choose()
            self._start()
        except BaseException:
            self.close()
            raise

    def _open(self, **options: str) -> InputContainer:
        by_address = isinstance(self._file, str)
        return av.open(
            self._file if isinstance(self._file, str) else _Tolerant(self._file),
            mode="r",
            format=self._format,
            options=self._options | options,
            metadata_errors="replace",  # titles in any encoding
            buffer_size=1 << 16,
            timeout=self._timeouts_s,
            io_open=None if by_address else self._open_file,
        )

    def _open_file(self, url: str, flags: int, options: dict[str, str]) -> ByteSource:
        try:
            return _Tolerant(self._open_referred(url, int(options.get("offset", 0))))
        except OSError:
            # PyAV would print the traceback. What is refused or missing is an empty file.
            return io.BytesIO()

    def _choose(self) -> VideoStream:
        container = self._container
        if container.format.name in _NO_VIDEO:
            raise NoVideoError(self._no_video())
        self._check_declared_sizes()
        container = self._container
        tracks = [
            stream
            for stream in container.streams.video
            if stream.codec_context is not None and not stream.disposition & _STILL
        ]
        if not tracks:
            raise NoVideoError(self._no_video())
        if container.format.name == "hls":
            return max(tracks, key=lambda s: s.codec_context.width * s.codec_context.height)
        tracks.sort(key=lambda stream: not stream.disposition & Disposition.default)
        if len(tracks) == 1 or not self._can_begin_again:
            return tracks[0]
        first = tracks[0].index
        index = self._first_moving(tracks)
        # Reading has used up packets.
        return self._reopen(first if index is None else index)

    @property
    def _can_begin_again(self) -> bool:
        return not isinstance(self._file, str) and self._file.seekable()

    def _reopen(self, index: int) -> VideoStream:
        """Opens the file from its beginning again; returns the stream of that index."""
        assert not isinstance(self._file, str)
        self._container.close()
        self._file.seek(0)
        self._container = self._open()
        return next(s for s in self._container.streams.video if s.index == index)

    def _check_declared_sizes(self) -> None:
        """Refuses pictures whose size FFmpeg withholds because it is above its own limit."""
        videos = self._container.streams.video
        is_withheld = any(v.codec_context is not None and not v.codec_context.width for v in videos)
        if not is_withheld or not self._can_begin_again:
            return
        assert not isinstance(self._file, str)
        self._container.close()
        self._file.seek(0)
        # Without a decoder, the container's header alone tells; nothing large is decoded.
        with self._open(codec_whitelist=_NO_DECODER, max_pixels=str(2**31 - 1)) as undecoded:
            sizes = [
                (v.codec_context.width, v.codec_context.height)
                for v in undecoded.streams.video
                if v.codec_context is not None
            ]
            if not any(map(any, sizes)):
                # Motion JPEG without a container: the first picture tells.
                packet = next(undecoded.demux(video=0), None)
                size = encoded_size(bytes(packet)) if packet is not None else None
                sizes = [size] if size is not None else []
        for width, height in sizes:
            check_size(self._name, width, height)
        self._file.seek(0)
        self._container = self._open()

    def _first_moving(self, tracks: list[VideoStream]) -> int | None:
        """Index of the first track with more than one picture; None if all have one."""
        counts = dict.fromkeys((stream.index for stream in tracks), 0)
        try:
            for number, packet in enumerate(self._container.demux(tracks)):
                counts[packet.stream.index] += bool(packet.size)
                if number >= _MAX_PROBE_PACKETS or min(counts.values()) > 1:
                    break
        except av.FFmpegError:
            pass
        return next((index for index, count in counts.items() if count > 1), None)

    def _no_video(self) -> str:
        return f"{self._name} has no video in it. Name a video file or a folder of frames."

    def _start(self) -> None:
        stream = self._stream
        codec = stream.codec_context
        check_size(self._name, codec.width, codec.height)
        self._is_mjpeg = codec.codec.canonical_name == "mjpeg"
        self._is_strict = self._is_mjpeg and not self._is_lenient and self._can_begin_again
        strict = STRICT if self._is_strict else {}
        codec.options = {"max_pixels": str(MAX_PIXELS), **strict}
        codec.thread_type = "AUTO" if self._threads else "NONE"
        if not self._threads:
            codec.thread_count = 1
        for other in self._container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        self.is_bare = self._container.format.name in _BARE
        self.fps = _plausible_rate(
            codec.framerate if self.is_bare else stream.average_rate or stream.guessed_rate
        )
        duration = self._container.duration
        self.duration_s = duration / 1e6 if duration is not None and duration > 0 else None
        self.frame_count = self._declared_count()
        self.bad_pictures = 0
        self._packet_count = self._frame_count = 0
        self._aspect = _plausible_aspect(stream.sample_aspect_ratio)
        self._reformatter = VideoReformatter()
        self._frames: deque[VideoFrame] = deque()
        self._packets = self._container.demux(stream)
        self._errors = 0
        self._over = False

    @property
    def format_name(self) -> str:
        """FFmpeg's name of the container's format."""
        return self._container.format.name

    @property
    def start_s(self) -> float:
        """Time in the container at which the first of its tracks begins, sound included."""
        return (self._container.start_time or 0) / 1e6

    @property
    def is_picture(self) -> bool:
        """Whether the "container" is a single encoded picture."""
        if self._container.format.name.endswith("_pipe"):
            return True
        brand = self._container.metadata.get("major_brand", "")
        holds_pictures = self._container.format.name == "gif" or brand in _PICTURE_BRANDS
        duration_s = self.duration_s or 0.0
        return holds_pictures and self._stream.frames == 1 and duration_s * self.fps < 2

    def has_second_picture(self) -> bool:
        """Whether more than one picture follows; those that are read stay to be read again."""
        packets = []
        for packet in self._packets:
            packets.append(packet)
            if len(packets) > 1:
                break
        self._packets = itertools.chain(packets, self._packets)
        return sum(packet.size > 0 for packet in packets) > 1

    def _declared_count(self) -> int:
        stream = self._stream
        count = float(stream.frames)
        if count > 0:
            # MP4's edit list may leave out frames at the beginning, which the count includes.
            is_mov = self.format_name.startswith("mov")
            if is_mov and stream.duration and stream.time_base and self.fps:
                count = min(count, math.ceil(stream.duration * float(stream.time_base) * self.fps))
        elif self.format_name == "matroska,webm" and self.duration_s is not None:
            # Matroska has no count. In a transport stream a jump of the times lengthens the
            # duration.
            end_s = _tag_seconds(stream.metadata.get("DURATION", ""))
            if end_s is None:
                if len(self._container.streams) > 1:
                    return 0
                end_s = self.duration_s
            start_s = float((stream.start_time or 0) * (stream.time_base or 0))
            count = (end_s - start_s) * self.fps
        return round(count) if 0 < count < _MAX_FRAME_COUNT else 0

    def read(self) -> Picture | None:
        """Returns the next picture; None after the last one.

        Raises:
            av.FFmpegError: The source broke off.
            OSError: It cannot be read any more.
        """
        while not self._frames:
            if self._over:
                return None
            self._decode_next()
        frame = self._frames.popleft()
        # AVI stores pictures in the order of decoding and no presentation times. The decoder hands
        # pictures over in the order of presentation, at even distances of decoding time.
        ticks = frame.dts if self.format_name == "avi" else frame.pts
        position_s = None
        if ticks is not None and frame.time_base is not None:
            # By way of milliseconds, as OpenCV rounds: files keep their times to the last bit.
            position_s = float(frame.time_base) * ticks * 1000 / 1000
        return Picture(self._image(frame), position_s)

    def _decode_next(self) -> None:
        """Reads one packet and decodes it; at the end, what the decoder still holds."""
        try:
            packet = next(self._packets, None)
        except (av.error.InvalidDataError, av.error.PermissionError):
            # Damage between the pictures: there may be more behind it.
            self._errors += 1
            self._over = self._errors > _MAX_ERRORS
            self._packets = self._container.demux(self._stream)
            return
        if packet is None and self._is_strict and not self._frame_count:
            # None keeps the rules: take them as they are.
            self._is_lenient = True
            self._packets = iter(())
            self._stream = self._reopen(self._stream.index)
            self._start()
            return
        if packet is None:
            self._over = True
            if self._is_mjpeg:
                # Some damage makes the decoder give nothing, not an error.
                self.bad_pictures = max(self.bad_pictures, self._packet_count - self._frame_count)
            return
        self._errors = 0
        at_end = packet.size == 0 and packet.pts is None and packet.dts is None
        if not packet.size and not at_end:
            return  # says that nothing has changed since the picture before it
        self._packet_count += not at_end
        # Each error at the end stands for one of the pictures that other threads still decode.
        for _ in range(_MAX_ERRORS if at_end else 1):
            try:
                frames = packet.decode()
                self._frame_count += len(frames)
                self._frames.extend(frames)
                return
            except EOFError:
                return
            except av.FFmpegError:
                self.bad_pictures += 1

    def _image(self, frame: VideoFrame) -> np.ndarray:
        """(height, width, 3) uint8, BGR, C-contiguous."""
        width, height = frame.width, frame.height
        if self._aspect > 1:
            width = round(width * self._aspect)
        elif self._aspect < 1:
            height = round(height / self._aspect)
        check_size(self._name, width, height)
        converted = self._reformatter.reformat(
            frame, width, height, format="bgr24", interpolation=INTERPOLATION, threads=1
        )
        return _upright(converted.to_ndarray(), _display_matrix(frame))

    def close(self) -> None:
        """Frees the decoder. The file stays open."""
        self._packets = iter(())
        self._container.close()


def _refuse(url: str, start: int) -> ByteSource:
    raise PermissionError("a video may not open other files")


def _plausible_rate(rate: Fraction | None) -> float:
    fps = float(rate) if rate is not None and rate.denominator else 0.0
    return fps if 0 < fps <= _MAX_FPS else 0.0


def _plausible_aspect(aspect: Fraction | None) -> float:
    """Width of a pixel in units of its height; 1 if the container declares nothing sensible."""
    ratio = float(aspect) if aspect else 1.0
    return ratio if 1 / _MAX_ASPECT <= ratio <= _MAX_ASPECT else 1.0


def _tag_seconds(text: str) -> float | None:
    """The seconds of Matroska's "00:00:02.400000000"; None if it is something else."""
    try:
        hours, minutes, seconds = (float(part) for part in text.split(":"))
    except ValueError:
        return None
    total_s = 3600 * hours + 60 * minutes + seconds
    return total_s if math.isfinite(total_s) and total_s > 0 else None


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """How to show the frame: x' = a x + c y, y' = b x + d y, each of a to d -1, 0 or 1.

    Cameras write quarter turns and mirrorings only; anything else is shown as it is.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    values = np.frombuffer(bytes(cast(SideData, data)), np.int32)
    if values.size * 4 != _MATRIX_BYTES:
        return 1, 0, 0, 1
    a, b, c, d = (round(float(values[k]) / 65536) for k in (0, 1, 3, 4))
    is_turn = sorted(map(abs, (a, b, c, d))) == [0, 0, 1, 1] and abs(a * d - b * c) == 1
    return (a, b, c, d) if is_turn else (1, 0, 0, 1)


def _upright(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    a, b, c, d = matrix
    if a == 0:
        # Rows become columns; then b and c say which way they run.
        image, a, d = cv2.transpose(image), c, b
    if a < 0 and d < 0:
        image = cv2.flip(image, -1)
    elif a < 0:
        image = cv2.flip(image, 1)
    elif d < 0:
        image = cv2.flip(image, 0)
    return np.ascontiguousarray(image)
