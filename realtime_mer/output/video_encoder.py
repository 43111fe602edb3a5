"""Pictures into a video file: H.264 in MP4, QuickTime or Matroska."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from fractions import Fraction
from heapq import merge
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from realtime_mer.output.sound import Sound

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Endings of file names, and FFmpeg's names of their formats."""

ENCODER = "libx264"

# 10.6 ms of processor time for the annotated picture of a 1280 x 720 video, 4.5 ms at 640 x 480
# (`ultrafast`: 7.5 and 3.1, and files larger by half; `veryfast`: 15 and 5.9, smaller by a fifth;
# OpenCV's MPEG-4: 6.2 and 2.3). "zerolatency" keeps no pictures back. With a quality of 20, noise
# of the camera is smoothed and nothing else is seen to change.
_OPTIONS = {
    "preset": "superfast",
    "tune": "zerolatency",
    "crf": "20",
    "forced-idr": "1",
    # Key pictures are set by time, below.
    "g": "100000",
    "sc_threshold": "0",
}
_THREADS = 2
# A player finds its way, and a crash leaves a file that plays, in steps of this length.
_KEY_S = 2.0
# 30, 29.97, 25 and 24 frames a second are whole numbers of ticks, and others are right to 17 us. At
# 90,000 ticks a second, the length of a picture would overflow after 6.6 h. Matroska's muxer knows
# milliseconds only.
_TICKS = {"mp4": 30_000, "mov": 30_000, "matroska": 1000}

MAX_HOLD_S = 18 * 3600.0
"""How long one picture can stay: 2^31 ticks are 19.9 h. Chromium plays and seeks in that."""

# In fragments, so that what has been written can be played whatever happens; the end makes an
# ordinary file of it.
_WHILE_WRITING = {"movflags": "hybrid_fragmented"}
# The index at the beginning, so that a player can start before it has the whole file.
_AT_THE_END = {"movflags": "faststart"}


class OutputFile:
    """The file that FFmpeg writes to: created new, and readable.

    FFmpeg gets no name, so none is taken for an address or a pattern. After an error, nothing more
    is written: FFmpeg would go on and spoil what is there.

    Attributes:
        error: The first error.

    Raises:
        FileExistsError: There is a file of that name.
        OSError: It cannot be created.
    """

    name = "video"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("x+b", buffering=0)
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        left = memoryview(data)
        try:
            # On a full disk the first call writes a part, and the second tells the reason.
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = error
            raise
        return len(data)

    def fail(self, error: OSError) -> None:
        """Lets the next write fail, in whatever thread."""
        self.error = self.error or error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def reader(self) -> io.FileIO:
        """Opens the file for reading."""
        return io.FileIO(self._path)

    def cut(self, size: int) -> None:
        """Shortens the file."""
        self._file.truncate(size)

    @property
    def is_closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        """Closes the file; all of it is on the disk then.

        Raises:
            OSError: It is not.
        """
        if self._file.closed:
            return
        try:
            if self.error is None:
                os.fsync(self._file.fileno())
        finally:
            self._file.close()


class VideoEncoder:
    """Writes pictures, each with its own time, to a new file.

    Args:
        path: The file; created here.
        container: One of the values of `FORMATS`.
        size: (width, height) of the pictures in pixels. H.264 wants even ones: what is missing
            repeats the last row or column.
        fps: About how many come a second.

    Attributes:
        file: The file.
        duration_s: Seconds from the beginning to the last picture.

    Raises:
        av.FFmpegError: The pictures cannot be encoded.
        OSError: The file cannot be created.
    """

    def __init__(self, path: Path, container: str, size: tuple[int, int], fps: float) -> None:
        self.duration_s = 0.0
        self._time_base = Fraction(1, _TICKS[container])
        self._reformatter = VideoReformatter()
        self._tick = self._key_tick = -1
        # The length of a picture is known when the next one comes.
        self._last: Packet | None = None
        # How far the file plays as it is.
        self._whole_bytes = 0
        self.file = OutputFile(path)
        try:
            self._container = av.open(
                self.file,
                "w",
                format=container,
                options=_WHILE_WRITING if container != "matroska" else {},
                container_options={"flush_packets": "1"},
            )
            rate = Fraction(min(max(fps, 1.0), 240.0)).limit_denominator(1001)
            stream = cast("VideoStream", self._container.add_stream(ENCODER, rate=rate))
            codec = stream.codec_context
            stream.width, stream.height = (side + side % 2 for side in size)
            stream.pix_fmt = "yuv420p"
            codec.time_base = self._time_base
            codec.options = dict(_OPTIONS)
            codec.thread_count = min(_THREADS, os.cpu_count() or 1)
            # What players assume for HD video; said, so that they don't guess from the size.
            codec.colorspace = codec.color_primaries = codec.color_trc = Colorspace.ITU709
            codec.color_range = ColorRange.MPEG
            self._stream = stream
            self._container.start_encoding()
        except BaseException:
            self.abandon()
            path.unlink(missing_ok=True)
            raise

    def write(self, picture: np.ndarray, time_s: float) -> None:
        """Writes a picture, unless one of the same or a later time has been written.

        Args:
            picture: (height, width, 3) uint8, BGR.
            time_s: Seconds from the beginning of the file, at most `MAX_HOLD_S` after the picture
                before.

        Raises:
            av.FFmpegError, OSError: It cannot be written.
        """
        tick = round(time_s / self._time_base)
        if tick <= self._tick:
            return
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = self._reformatter.reformat(
            VideoFrame.from_ndarray(picture, format="bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.pts, frame.time_base = tick, self._time_base
        if self._tick < 0 or (tick - self._key_tick) * self._time_base >= _KEY_S:
            frame.pict_type = PictureType.I
            self._key_tick = tick
        self._tick = tick
        self.duration_s = float(tick * self._time_base)
        self._take(self._stream.encode(frame))

    def _take(self, packets: list[Packet]) -> None:
        for packet in packets:
            assert packet.pts is not None
            if self._last is not None:
                assert self._last.pts is not None
                self._mux(self._last, packet.pts - self._last.pts)
            self._last = packet

    def _mux(self, packet: Packet, ticks: int) -> None:
        packet.duration = ticks
        self._container.mux(packet)
        self._whole_bytes = self.file.tell()

    def finish(self, end_s: float) -> None:
        """Completes the file and closes it.

        Args:
            end_s: Until when the last picture is shown, seconds from the beginning of the file.

        Raises:
            av.FFmpegError, OSError: It cannot be completed.
        """
        self._take(self._stream.encode(None))
        if self._last is not None:
            assert self._last.pts is not None
            end_tick = round(min(end_s, self.duration_s + MAX_HOLD_S) / self._time_base)
            self._mux(self._last, max(1, end_tick - self._last.pts))
        self._container.close()
        if self.file.error is not None:
            raise self.file.error
        self.file.close()

    def abandon(self) -> None:
        """Closes the file after an error; what remains of it can be played.

        Does nothing to a complete file.
        """
        if self.file.is_closed:
            return
        self.file.fail(OSError("given up"))
        with contextlib.suppress(av.FFmpegError, OSError, AttributeError):
            self._container.close()
        with contextlib.suppress(OSError):
            self.file.cut(self._whole_bytes)
        with contextlib.suppress(OSError):
            self.file.close()


def length_s(path: Path) -> float:
    """How many seconds of a file can be played; 0 if none."""
    end_s = 0.0
    with (
        contextlib.suppress(av.FFmpegError, OSError),
        io.FileIO(path) as file,
        av.open(file, "r") as container,
    ):
        for packet in container.demux(video=0):
            if packet.pts is not None and packet.time_base is not None:
                end = packet.pts + (packet.duration or 0)
                end_s = max(end_s, float(end * packet.time_base))
    return end_s


def rewrite(path: Path, target: OutputFile, container: str, sound: Sound | None) -> None:
    """Copies a video into a new file with its index first, and with sound.

    Args:
        path: The video.
        target: The new file; closed at the end, however it ends.
        container: One of the values of `FORMATS`.
        sound: The sound, if there is any.

    Raises:
        av.FFmpegError, OSError: It cannot be written, or the sound does not fit.
    """
    try:
        with io.FileIO(path) as file, av.open(file, "r") as source:
            _copy(source, target, container, sound)
        target.close()
    except BaseException:
        target.fail(OSError("given up"))
        target.close()
        raise


def _copy(source: InputContainer, target: OutputFile, container: str, sound: Sound | None) -> None:
    output = av.open(
        target,
        "w",
        format=container,
        options=_AT_THE_END if container != "matroska" else {},
        # To move the index, FFmpeg reads what it has written.
        io_open=lambda url, flags, options: target.reader(),
    )
    try:
        pictures = source.streams.video[0]
        tracks = [_pictures(source, pictures, output.add_stream_from_template(pictures))]
        if sound is not None:
            tracks.append(sound.add_to(output, container))
        for packet in merge(*tracks, key=_time_s):
            output.mux(packet)
    except BaseException as error:
        target.fail(OSError(f"given up: {error}"))
        with contextlib.suppress(av.FFmpegError, OSError):
            output.close()
        raise
    output.close()
    if target.error is not None:
        raise target.error


def _pictures(source: InputContainer, old: VideoStream, new: VideoStream) -> Iterator[Packet]:
    for packet in source.demux(old):
        if packet.size:
            packet.stream = new
            yield packet


def _time_s(packet: Packet) -> float:
    assert packet.dts is not None
    assert packet.time_base is not None
    return float(packet.dts * packet.time_base)
