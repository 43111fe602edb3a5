"""The sound of a video file, for a copy of its pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from io import FileIO
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Discard

# What browsers play (MP4), QuickTime plays, and Matroska takes. Other sound becomes AAC.
_COPIED = {
    "mp4": frozenset({"aac", "flac", "mp3", "opus"}),
    # Of PCM, QuickTime keeps no times: after a gap it would be out of step.
    "mov": frozenset({"aac", "alac", "mp3"}),
    "matroska": frozenset(
        {"aac", "ac3", "eac3", "flac", "mp2", "mp3", "opus", "pcm_s16le", "pcm_s24le", "vorbis"}
    ),
}
# Those of AAC.
_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_DEFAULT_RATE = 48_000
_BITS_PER_CHANNEL = 96_000
# Samples in a packet of AAC.
_BLOCK = 1024
# Times of blocks are rounded, to 1 ms in Matroska; beyond this they show a gap or an overlap.
# Chosen by judgement: nobody sees so little between lips and sound.
_TOLERANCE_S = 0.04
# As the pictures' reader: sound that begins late is still found.
_OPTIONS = {
    "probesize": str(64 << 20),
    "analyzeduration": "60000000",
    "protocol_whitelist": "none",
}


class Sound:
    """The sound of a video file, of several tracks the one that a player would choose.

    Args:
        file: The open file; the caller closes it.
        zero_s: Time in the file at which the pictures begin. Sound before that is left out.
        end_s: Where the sound ends at the latest, seconds from there; None for its own end.

    Attributes:
        exists: Whether there is any that can be decoded.
        is_damaged: Whether reading it broke off.

    Raises:
        av.FFmpegError: The file is no container that FFmpeg knows.
        OSError: It cannot be read.
    """

    def __init__(self, file: FileIO, zero_s: float, end_s: float | None) -> None:
        self._zero_s, self._end_s = zero_s, end_s
        self.is_damaged = False
        file.seek(0)
        self._container = av.open(
            file, "r", options=_OPTIONS, metadata_errors="replace", io_open=_refuse
        )
        self._stream = cast("AudioStream | None", self._container.streams.best("audio"))
        self.exists = self._stream is not None and self._stream.codec_context is not None
        for other in self._container.streams:
            if self._stream is None or other.index != self._stream.index:
                other.discard = Discard.all

    def add_to(self, output: OutputContainer, container: str) -> Iterator[Packet]:
        """Adds a track to a container that has not begun, and returns the packets for it.

        Its title, its language and the like stay behind.

        Args:
            output: The container.
            container: FFmpeg's name of its format.
        """
        assert self._stream is not None
        codec = self._stream.codec_context
        if codec.codec.canonical_name in _COPIED[container]:
            return self._copied(output.add_stream_from_template(self._stream))
        rate = codec.sample_rate if codec.sample_rate in _RATES else _DEFAULT_RATE
        channels = 1 if codec.channels == 1 else 2
        track = output.add_stream("aac", rate=rate)
        track.codec_context.layout = "mono" if channels == 1 else "stereo"
        track.codec_context.bit_rate = channels * _BITS_PER_CHANNEL
        return self._encoded(track)

    def _packets(self) -> Iterator[Packet]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                self.is_damaged = True
                return
            if packet is None:
                return
            yield packet

    def _copied(self, track: AudioStream) -> Iterator[Packet]:
        before: int | None = None
        for packet in self._packets():
            if not packet.size or packet.pts is None or packet.time_base is None:
                continue
            zero = round(self._zero_s / packet.time_base)
            pts = packet.pts - zero
            if self._end_s is not None and pts * packet.time_base >= self._end_s:
                return
            # What begins before the pictures is left out as a whole: it lasts some 20 ms.
            if pts < 0 or (before is not None and pts <= before):
                continue
            before = packet.pts = packet.dts = pts
            packet.stream = track
            yield packet

    def _encoded(self, track: AudioStream) -> Iterator[Packet]:
        for block, place in self._blocks(track):
            frame = AudioFrame.from_ndarray(block, format="fltp", layout=track.layout.name)
            frame.sample_rate, frame.pts = track.rate, place
            yield from _from_zero(track.encode(frame))
        yield from _from_zero(track.encode(None))

    def _blocks(self, track: AudioStream) -> Iterator[tuple[np.ndarray, int]]:
        """(channels, `_BLOCK`) float32 samples, the last fewer, and the number of the first."""
        waiting = np.empty((track.channels, 0), np.float32)
        # Number of the sample after those that wait.
        end: int | None = None
        for samples, place in self._samples(track):
            late = 0 if end is None else place - end
            if end is None:
                end = place
            elif late > _TOLERANCE_S * track.rate:
                if waiting.shape[1]:
                    silence = np.zeros((track.channels, _BLOCK - waiting.shape[1]), np.float32)
                    yield np.hstack([waiting, silence]), end - waiting.shape[1]
                waiting, end = waiting[:, :0], max(place, end + _BLOCK)
                place = end
            elif -late > _TOLERANCE_S * track.rate:
                samples = samples[:, -late:]
            waiting = np.hstack([waiting, samples])
            end += samples.shape[1]
            while waiting.shape[1] >= _BLOCK:
                yield np.ascontiguousarray(waiting[:, :_BLOCK]), end - waiting.shape[1]
                waiting = waiting[:, _BLOCK:]
        if end is not None and waiting.shape[1]:
            yield np.ascontiguousarray(waiting), end - waiting.shape[1]

    def _samples(self, track: AudioStream) -> Iterator[tuple[np.ndarray, int]]:
        """(channels, n) float32 samples, and the number of the first, from 0 at `zero_s`."""
        end = None if self._end_s is None else round(self._end_s * track.rate)
        resampler = AudioResampler(format="fltp", layout=track.layout, rate=track.rate)
        for decoded in self._decoded():
            for frame in resampler.resample(decoded):
                if frame.pts is None or frame.time_base is None:
                    continue
                samples = frame.to_ndarray()
                place = round((float(frame.pts * frame.time_base) - self._zero_s) * track.rate)
                if end is not None:
                    if place >= end:
                        return
                    samples = samples[:, : end - place]
                if place < 0:
                    samples, place = samples[:, -place:], 0
                if samples.shape[1]:
                    yield samples, place

    def _decoded(self) -> Iterator[AudioFrame | None]:
        """The decoded sound, and None at the end. What is damaged is skipped."""
        for packet in self._packets():
            with contextlib.suppress(av.FFmpegError):
                yield from cast("list[AudioFrame]", packet.decode())
        yield None

    def close(self) -> None:
        """Frees the decoder. The file stays open."""
        self._container.close()


def _from_zero(packets: list[Packet]) -> Iterator[Packet]:
    """Without the encoder's run-up, for which a container would have to shift the pictures."""
    return (packet for packet in packets if packet.pts is not None and packet.pts >= 0)


def _refuse(url: str, flags: int, options: dict[str, str]) -> FileIO:
    raise PermissionError("a video may not open other files")
