"""Streams: cameras and recordings behind a network address."""

from __future__ import annotations

import time

import cv2

from realtime_mer.errors import InputError
from realtime_mer.source.opencv import OpenCVReader
from realtime_mer.source.reader import OPEN_TIMEOUT_S

# While FFmpeg finds out what a stream contains, it buffers what arrives: measured, 0.7 s of H.264.
# A picture that arrives without a wait comes from that buffer, and its time of arrival means
# nothing. The limits end the search on a stream that sends faster than real time.
_WAIT_S = 0.01
_MAX_SKIP_S = 1.0
_MAX_SKIPPED_FRAMES = 100


class StreamReader(OpenCVReader):
    """An http(s) or rtsp address.

    It is live, unless the server delivers a recording: something with a known number of frames.

    Args:
        url: The address.
        name: The address as it may be shown.
        stall_timeout_s: A read ends after this long without data.
    """

    # A network camera or a router that restarts is away for about a minute. After twice that, take
    # the stream as ended: a stream that is over looks like one that is away.
    patience_s = 120.0

    def __init__(self, url: str, name: str, stall_timeout_s: float) -> None:
        super().__init__(name, live=True)
        self._url = url
        self._stall_timeout_s = stall_timeout_s
        self._was_open = False
        self._grabbed_at: float | None = None

    def open(self) -> None:
        """Opens the address.

        Raises:
            InputError: Nothing answers there, or it is no video stream.
        """
        parameters = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            int(OPEN_TIMEOUT_S * 1000),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            max(1, int(self._stall_timeout_s * 1000)),
            # Each further thread of the decoder delays by one picture (H.264 on 8 cores: 0.23 s).
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
            self._skip_buffered()

    def _forget_invented_rate(self) -> None:
        # Motion JPEG over HTTP declares no rate, and FFmpeg then reports 25.
        assert self._video is not None
        is_jpeg = int(self._video.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"MJPG")
        if is_jpeg and self._url.lower().startswith("http"):
            self.fps = 0.0

    def _skip_buffered(self) -> None:
        """Skips what FFmpeg has buffered, up to the first picture that has to be waited for."""
        started_at = time.monotonic()
        for _ in range(_MAX_SKIPPED_FRAMES):
            asked_at = time.monotonic()
            self._grabbed_at = super()._grab()
            waited = time.monotonic() - asked_at > _WAIT_S
            if self._grabbed_at is None or waited or asked_at - started_at > _MAX_SKIP_S:
                return

    def _grab(self) -> float | None:
        if self._grabbed_at is not None:
            grabbed_at, self._grabbed_at = self._grabbed_at, None
            return grabbed_at
        return super()._grab()

    def close(self) -> None:
        """Closes the connection."""
        self._grabbed_at = None
        super().close()

    def empty(self) -> InputError:
        """Returns the error for a stream that was opened but sent no picture."""
        return InputError(
            f"{self.name} was opened but sends no picture. Check that its sender runs."
        )
