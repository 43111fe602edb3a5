"""Tiny valid inputs, made on the spot, from which hostile ones are bred."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np

from realtime_mer.model_file import CLASSIFIER, SPOTTER
from tests.realtime_mer.source.videos import encode

_SIZE = (32, 32)
# File name to codec and options of `encode`. All of them together are some 30 KB.
_VIDEOS: dict[str, tuple[str, dict]] = {
    "a.mp4": ("libx264", {"audio": "aac"}),
    "b.mkv": ("libx264", {}),
    "c.webm": ("libvpx", {}),
    "d.avi": ("mpeg4", {}),
    "e.ts": ("libx264", {}),
    "f.mpg": ("mpeg2video", {}),
    "g.gif": ("gif", {"pixel_format": "rgb8"}),
    "h.h264": ("libx264", {"file_format": "h264"}),
    "i.mjpeg": ("mjpeg", {"file_format": "mjpeg", "pixel_format": "yuvj420p"}),
    "j.avi": ("mjpeg", {"pixel_format": "yuvj420p"}),
    "k.mov": ("mpeg4", {}),
    "l.flv": ("flv", {}),
    "m.mxf": ("mpeg2video", {}),
    "n.wmv": ("wmv2", {"file_format": "asf"}),
    "o.y4m": ("wrapped_avframe", {"file_format": "yuv4mpegpipe"}),
    "p.ogv": ("libtheora", {"file_format": "ogg"}),
}
VIDEO_NAMES = tuple(_VIDEOS)


@functools.cache
def video(name: str) -> bytes:
    """A video of five grey pictures; empty where this build of FFmpeg has no such encoder."""
    codec, options = _VIDEOS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        try:
            encode(path, [20, 60, 100, 140, 180], codec, size=_SIZE, **options)
        except (av.FFmpegError, ValueError):
            return b""
        return path.read_bytes()


PICTURE_NAMES = ("a.png", "b.jpg", "c.bmp", "d.tif", "e.webp", "f.ppm", "g.pgm")


@functools.cache
def picture(name: str) -> bytes:
    """A picture of 16 x 12 pixels."""
    image = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)
    if name.endswith(".pgm"):
        image = image[:, :, 0].copy()
    return cv2.imencode(Path(name).suffix, image)[1].tobytes()


@functools.cache
def jpeg() -> bytes:
    return picture("b.jpg")


def multipart(boundary: bytes = b"frame", count: int = 3) -> bytes:
    """The body of an answer with motion JPEG."""
    head = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    return (head % (boundary, len(jpeg())) + jpeg() + b"\r\n") * count


def answer(kind: bytes, body: bytes, *lines: bytes) -> bytes:
    """An answer of a web server."""
    head = b"".join(line + b"\r\n" for line in (b"Content-Type: " + kind, *lines))
    return b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body


@functools.cache
def card(which: str) -> bytes:
    """The card of the delivered classifier or spotter; "@SHA@" stands for the file's SHA-256."""
    path = (CLASSIFIER if which == "classifier" else SPOTTER).with_suffix(".json")
    content = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps({**content, "sha256": "@SHA@"}, indent=1).encode()


@functools.cache
def network(which: str) -> bytes:
    """The delivered ONNX file of the classifier or the spotter."""
    return (CLASSIFIER if which == "classifier" else SPOTTER).read_bytes()


@functools.cache
def checkpoint(which: str) -> bytes:
    """A tiny file of PyTorch: a state dict, a training's checkpoint, or an older format."""
    import torch

    state = {"layers.0.0.layers.0.weight": torch.ones(2, 2), "x": torch.zeros(1)}
    content: object = state
    if which == "training":
        content = {"states": [state], "temperature": 1.0, "card": {"name": "x"}}
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=which != "old")
    return file.getvalue()


CHECKPOINTS = ("state", "training", "old")


@functools.cache
def flow() -> bytes:
    """A flow image of a release."""
    image = np.random.default_rng(0).integers(0, 255, (28, 28, 3), np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()
