"""Small videos for tests, written with FFmpeg's libraries: each picture of one grey level."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT = 64, 48
TIME_BASE = Fraction(1, 1000)


def levels(count=20):
    """Grey levels that rise from picture to picture."""
    return [20 + 10 * k for k in range(count)]


@contextlib.contextmanager
def usual_priority() -> Iterator[None]:
    """SVT-AV1 gives root's thread the highest real-time priority, which would outlive the block."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def encode(
    path,
    pictures: Iterable[int | np.ndarray],
    codec="libx264",
    *,
    fps=25,
    times_ms: list[int] | None = None,
    file_format: str | None = None,
    pixel_format="yuv420p",
    size=(WIDTH, HEIGHT),
    options: dict[str, str] | None = None,
    prepare: Callable[[object], None] = lambda stream: None,
    audio: str | None = None,
):
    """Writes a video; `times_ms` are the presentation times of its packets, in their order."""
    with usual_priority(), av.open(str(path), "w", format=file_format) as output:
        sound = output.add_stream(audio, rate=16000) if audio else None
        stream = output.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        # No pictures in another order, so that times can be given by packet.
        stream.codec_context.max_b_frames = 0
        prepare(stream)
        if sound:
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 16000), np.float32), format="fltp", layout="mono"
            )
            silence.sample_rate = 16000
            for packet in [*sound.encode(silence), *sound.encode()]:
                output.mux(packet)
        frames = []
        for k, picture in enumerate(pictures):
            image = picture
            if not isinstance(picture, np.ndarray):
                image = np.full((size[1], size[0], 3), picture, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=pixel_format)
            frame.pts = k
            frames.append(frame)
        packets = [packet for frame in [*frames, None] for packet in stream.encode(frame)]
        for k, packet in enumerate(packets):
            if times_ms is not None:
                packet.time_base = TIME_BASE
                packet.pts = packet.dts = times_ms[k]
            output.mux(packet)
    return path


def quadrants() -> np.ndarray:
    """A picture whose corners differ: 40 and 90 above, 140 and 190 below."""
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[: HEIGHT // 2, : WIDTH // 2] = 40
    image[: HEIGHT // 2, WIDTH // 2 :] = 90
    image[HEIGHT // 2 :, : WIDTH // 2] = 140
    image[HEIGHT // 2 :, WIDTH // 2 :] = 190
    return image


def corners(image: np.ndarray) -> list[int]:
    """Grey levels near the corners, from the upper left one along the rows."""
    y, x = image.shape[0] // 8, image.shape[1] // 8
    return [int(image[a, b].mean()) for a in (y, -y) for b in (x, -x)]
