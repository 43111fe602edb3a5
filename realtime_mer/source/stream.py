"""Streams: cameras and recordings behind a network address."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import threading
import time
from typing import TYPE_CHECKING

import av
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.source.clock import PresentationClock
from realtime_mer.source.container import PLAYLIST, ByteSource, VideoContainer
from realtime_mer.source.limits import encoded_size
from realtime_mer.source.mjpeg import JPEG_BEGIN, JPEGDecoder, JPEGSplitter, looks_like_mjpeg
from realtime_mer.source.reader import DEFAULT_FPS, OPEN_TIMEOUT_S, Grab

if TYPE_CHECKING:
    from realtime_mer.source.web import Response, Web

# While FFmpeg finds out what a stream contains, it buffers what arrives: measured, 0.7 s of H.264.
# A picture that arrives without a wait comes from that buffer, and its time of arrival means
# nothing. The limits end the search on a stream that sends faster than real time.
_WAIT_S = 0.01
_MAX_SKIP_S = 1.0
_MAX_SKIPPED_FRAMES = 100
# What FFmpeg reads to find out what a live stream contains, at most: it delays the first picture.
_LIVE_PROBE = {"probesize": "5000000", "analyzeduration": "5000000"}
_RTSP = {
    **_LIVE_PROBE,
    # UDP loses packets, and a lost packet is a torn picture.
    "rtsp_transport": "tcp",
    "protocol_whitelist": "rtsp,rtsps,rtp,tcp,tls",
}
_HLS = _LIVE_PROBE | PLAYLIST
# Of a recording whose length the server does not say. Chosen by judgement: two hours of 1080p.
_MAX_STORED_BYTES = 8 << 30
# The first picture waits this long, so that a slow answer or a busy machine makes none late; pieces
# of such streams are seconds old anyway. Chosen by judgement.
_LEAD_S = 0.3
# A picture that is due this long ago, or in this long, comes from a jump of the stream's times or
# from a long silence: from it on, pictures are paced anew. Chosen by judgement.
_MAX_LATE_S = 10.0
_MAX_AHEAD_S = 30.0


class _Stored:
    """A temporary file as a `ByteSource`: its name would mislead FFmpeg."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self.read, self.write = self._file.read, self._file.write
        self.seek, self.tell, self.close = self._file.seek, self._file.tell, self._file.close

    def seekable(self) -> bool:
        """Always."""
        return True


class StreamReader:
    """An http(s) or rtsp address.

    It is live, unless the server delivers a recording: something of known length.

    Motion JPEG and RTSP come as they are taken, so the time of arrival is the time of a picture.
    Other streams come in pieces of seconds: their pictures are handed over at the pace of their
    presentation times, and count as taken when they are due.

    Args:
        url: The address.
        name: The address as it may be shown.
        stall_timeout_s: A read ends after this long without data.
    """

    # A network camera or a router that restarts is away for about a minute. After twice that, take
    # the stream as ended: a stream that is over looks like one that is away.
    patience_s = 120.0

    def __init__(self, url: str, name: str, stall_timeout_s: float) -> None:
        self.name = name
        self.live = True
        self.fps = 0.0
        self.frame_count = 0
        self.notes: list[str] = []
        # True once the source has nothing more to give, even if it were opened again.
        self.ended = False
        self._url = url
        self._is_rtsp = url.lower().startswith("rtsp")
        self._stall_timeout_s = max(stall_timeout_s, 1e-3)
        self._was_open = False
        self._waiting: Grab | None = None
        self._aborted = threading.Event()
        self._web: Web | None = None
        if not self._is_rtsp:
            # Python's HTTP and TLS take a while to load: only whoever needs them waits.
            from realtime_mer.source.web import Web

            self._web = Web(url, name, OPEN_TIMEOUT_S, self._stall_timeout_s)
            self.notes = self._web.notes
        self._response: Response | None = None
        self._stored: _Stored | None = None
        self._splitter: JPEGSplitter | None = None
        self._decode = JPEGDecoder(name)
        self._container: VideoContainer | None = None
        self._has_noted_damage = False
        self._is_encrypted = False
        # Pictures that have been taken, and whether their number is all that tells their time.
        self._number = 0
        self._is_timed_by_number = False
        # Whether pictures that nobody takes yet wait in the stream, as they do where pictures are
        # paced.
        self.buffered = False
        self._clock = PresentationClock(0)
        # `time.monotonic()` at which the stream's time was 0, while pictures are paced.
        self._pace_zero: float | None = None
        self._first_picture: np.ndarray | None = None

    def open(self) -> None:
        """Opens the address.

        Raises:
            InputError: Nothing answers there, or it is no video stream.
        """
        try:
            if self._web is None:
                self._open_rtsp()
            else:
                self._open_http(self._web)
        except av.FFmpegError:
            if self._aborted.is_set():
                raise InputError(f"{self.name} was closed. Open it again.") from None
            raise self._unusable() from None
        except OSError:
            raise self._unusable() from None
        if self._container is not None:
            self.fps = self.fps or self._container.fps
            self.frame_count = 0 if self.live else self._container.frame_count
        if self._is_rtsp:
            self._skip_buffered()
        if self._was_open and self.live and self._container is not None and not self._is_rtsp:
            self._check_for_replay()
        self._was_open = True

    def _unusable(self) -> InputError:
        if self._is_encrypted:
            return InputError(
                f"{self.name} is encrypted, and that cannot be read. Name a stream that is not."
            )
        return InputError(
            f"{self.name} cannot be opened: nobody answers there, access is refused, or it is "
            "no video stream. Check the address, the credentials and that the server runs."
        )

    def _open_rtsp(self) -> None:
        self._container = VideoContainer(
            self._url,
            self.name,
            options=_RTSP,
            timeouts_s=(OPEN_TIMEOUT_S, self._stall_timeout_s),
            threads=False,
        )

    def _open_http(self, web: Web) -> None:
        self._response = response = web.open()
        head = response.peek()
        if response.content_type.startswith("text/html"):
            raise InputError(
                f"{self.name} is a web page. Name the address of the video in it, or of the "
                "camera's stream."
            )
        if looks_like_mjpeg(response.content_type, head, response.length is not None):
            self._splitter = JPEGSplitter(lambda: response.read(1 << 16))
            return
        is_hls = head.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"#EXTM3U")
        is_recording = response.length is not None and not is_hls
        self._container = self._http_container(response, head, is_hls, is_recording)
        if not self._was_open:
            # A live playlist has no end, and therefore no duration.
            ends = self._container.duration_s is not None
            self.live = not (is_recording or (is_hls and ends))
        self.fps = self._container.fps
        self._is_timed_by_number = self._container.is_bare and not self.live
        if self._is_timed_by_number and not self.fps:
            self.fps = DEFAULT_FPS
            self.notes.append(
                f"{self.name} has neither times nor a frame rate: {DEFAULT_FPS:g} fps is assumed, "
                "and all times depend on it"
            )
        if not (self._was_open or is_hls or response.seekable()):
            self._waiting = self._next_of_container()
            size = response.size
            if size is None and self._container.format_name.startswith("mov"):
                size = _MAX_STORED_BYTES
            if self._waiting is None and size is not None:
                self._store(web, size)
        self.buffered = self.live
        self._clock = PresentationClock(self._container.fps)
        self._pace_zero = None

    def _http_container(
        self, response: ByteSource, head: bytes, is_hls: bool, is_recording: bool
    ) -> VideoContainer:
        """The container in an answer that begins with `head`."""
        is_jpeg = head.startswith(JPEG_BEGIN)
        if not is_jpeg and encoded_size(head) and b"acTL" not in head:
            raise self._single_picture()
        container = VideoContainer(
            response,
            self.name,
            container_format="hls" if is_hls else "mjpeg" if is_jpeg else None,
            open_referred=self._open_referred if is_hls else None,
            options=_HLS if is_hls else {} if is_recording else _LIVE_PROBE,
            timeouts_s=(OPEN_TIMEOUT_S, self._stall_timeout_s),
            threads=is_recording,
        )
        if is_jpeg and not container.has_second_picture():
            container.close()
            raise self._single_picture()
        return container

    def _single_picture(self) -> InputError:
        return InputError(
            f"{self.name} is a single picture. Name the address of a video, or of the camera's "
            "stream."
        )

    def _store(self, web: Web, size: int) -> None:
        """Stores a recording, up to `size` bytes, that cannot be read as it comes.

        Many MP4 files hold the index behind the pictures, and simple servers send a file only from
        its beginning. The temporary file has no name, and goes when it is closed.
        """
        assert self._container is not None
        self._container.close()
        self._container = None
        stored = _Stored()
        self._stored = stored
        response = web.open()
        head = response.peek()
        with contextlib.closing(response):
            while stored.tell() < size and (data := response.read(1 << 20)):
                stored.write(data)
        stored.seek(0)
        self._container = self._http_container(stored, head, False, True)
        self.live = False

    def _open_referred(self, url: str, start: int) -> ByteSource:
        assert self._web is not None
        self._is_encrypted = self._is_encrypted or url.startswith("crypto")
        # An exception would end the stream, and PyAV would print it; an empty piece is skipped.
        if self._aborted.is_set():
            return io.BytesIO()
        try:
            return self._web.open(url, start)
        except InputError:
            return io.BytesIO()

    def _check_for_replay(self) -> None:
        """Notices a server that sends one recording from its beginning whenever it is asked."""
        self._waiting = self._next_of_container()
        if (
            self._waiting is not None
            and self._first_picture is not None
            and np.array_equal(self._waiting.image, self._first_picture)
        ):
            self.ended = True

    def _skip_buffered(self) -> None:
        """Skips what FFmpeg has buffered, up to the first picture that has to be waited for."""
        started_at = time.monotonic()
        for _ in range(_MAX_SKIPPED_FRAMES):
            asked_at = time.monotonic()
            self._waiting = self._next_of_container()
            waited = time.monotonic() - asked_at > _WAIT_S
            if self._waiting is None or waited or asked_at - started_at > _MAX_SKIP_S:
                return

    def read(self) -> Grab | None:
        """Returns the next picture, or None if there is none."""
        if self.ended or self._aborted.is_set():
            return None
        grab = self._waiting or self._next()
        self._waiting = None
        if grab is None:
            return None
        if self._first_picture is None and self._container is not None and not self._is_rtsp:
            self._first_picture = grab.image
        return self._paced(grab) if self.buffered else grab

    def _next(self) -> Grab | None:
        return self._next_of_container() if self._splitter is None else self._next_of_mjpeg()

    def _next_of_mjpeg(self) -> Grab | None:
        assert self._splitter is not None
        while True:
            try:
                data = self._splitter()
            except OSError:
                return None
            if data is None:
                return None
            captured_at = time.monotonic()
            image = self._decode(data)
            if image is not None:
                return Grab(image, None, captured_at)
            self._note_damage()

    def _next_of_container(self) -> Grab | None:
        assert self._container is not None
        bad_before = self._container.bad_pictures
        try:
            picture = self._container.read()
        except (av.FFmpegError, OSError):
            return None
        if picture is None:
            return None
        position_s = picture.position_s
        if self._is_timed_by_number:
            position_s = (self._number + self._container.bad_pictures) / self.fps
        self._number += 1
        if bad_before and self._container.bad_pictures > bad_before:
            self._note_damage()
        return Grab(picture.image, position_s, time.monotonic())

    def _note_damage(self) -> None:
        if not self._has_noted_damage:
            self._has_noted_damage = True
            self.notes.append(
                f"{self.name} sends damaged pictures: those that cannot be decoded are skipped"
            )

    def _paced(self, grab: Grab) -> Grab | None:
        """Waits until a picture is due by its presentation time."""
        now = time.monotonic()
        time_s = self._clock(grab.position_s)
        due_at = -math.inf if self._pace_zero is None else self._pace_zero + time_s
        if not now - _MAX_LATE_S <= due_at <= now + _MAX_AHEAD_S:
            due_at = now + _LEAD_S
            self._pace_zero = due_at - time_s
        if self._aborted.wait(max(0.0, due_at - now)):
            return None
        return grab._replace(captured_at=due_at)

    def abort(self) -> None:
        """Ends a wait of the thread that reads; the reader is not used any more after this."""
        self._aborted.set()
        if self._web is not None:
            self._web.abort()

    def close(self) -> None:
        """Closes the connection."""
        self._waiting = None
        self._splitter = None
        if self._container is not None:
            self._container.close()
            self._container = None
        if self._response is not None:
            with contextlib.suppress(OSError):
                self._response.close()
            self._response = None
        if self._stored is not None:
            self._stored.close()
            self._stored = None

    def empty(self) -> InputError:
        """Returns the error for a stream that was opened but sent no picture."""
        return InputError(
            f"{self.name} was opened but sends no picture. Check that its sender runs."
        )
