"""What cameras show of a face: photos and videos as other cameras would have taken them.

`sway` puts a photo under a moving camera, `stretch` cuts a piece out of a video and changes its
size, and `seen_by_a_camera` adds what a sensor and a codec do to either.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np

from realtime_mer.demo.photo import PhotoFace
from realtime_mer.errors import InputError
from realtime_mer.face.tracker import detect_face_mesh
from realtime_mer.source.capture import Capture
from realtime_mer.source.frame import Frame
from tools.spotting.motions import lid_motions

PHOTOS = frozenset({".jpg", ".jpeg", ".png"})
VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg"})
# A photo is extended by reflection on each side, so that the camera can move; pixels.
_MARGIN = 24
# The longest piece of a video that is shown, and the length to which a shorter video is played
# there and back, seconds: a few training windows of 5 s.
_LONGEST_S = 14.0
_SHORTEST_S = 10.0
# Fewer frames with a face than this are no clip.
_LEAST_FRAMES = 10
# Widths of a face in pixels, chosen for 640 x 480: far away, at a desk, close to the camera.
_WIDTHS = ((70, 130), (100, 220), (140, 300))
# Enlarging a face by more than this would show invented pixels.
_MOST_ENLARGED = 1.3
# Share of cheap cameras; the others are good ones.
_CHEAP = 0.5


def media_files(folder: Path) -> list[Path]:
    """The photos and videos in a folder, by name.

    Raises:
        InputError: The folder cannot be read or has none.
    """
    try:
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in PHOTOS | VIDEOS)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    if not files:
        raise InputError(f"no photo or video in {folder}: put face photos and videos there")
    return files


def is_photo(file: Path) -> bool:
    return file.suffix.lower() in PHOTOS


def read_photo(file: Path) -> np.ndarray:
    """A photo (height, width, 3), BGR.

    Raises:
        InputError: It cannot be read.
    """
    photo = cv2.imread(str(file))
    if photo is None:
        raise InputError(f"{file} cannot be read as a picture: save it as JPEG or PNG")
    return photo


def depth_map(mesh: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Depth (height, width) float32 of a face mesh (478, 3) in pixels, level around the face.

    Args:
        mesh: Landmarks in pixels of the picture; depth on the same scale.
        size: (width, height) of the picture.
    """
    cell = max(4.0, float(np.ptp(mesh[:, 0])) / 28)
    shape = int(size[1] / cell) + 1, int(size[0] / cell) + 1
    row = np.clip(mesh[:468, 1] / cell, 0, shape[0] - 1).astype(int)
    column = np.clip(mesh[:468, 0] / cell, 0, shape[1] - 1).astype(int)
    total, count = np.zeros(shape, np.float32), np.full(shape, 1e-3, np.float32)
    np.add.at(total, (row, column), mesh[:468, 2])
    np.add.at(count, (row, column), 1)
    total += 1e-3 * float(np.percentile(mesh[:468, 2], 90))
    depth: np.ndarray = cv2.GaussianBlur(total, (0, 0), 1.5)
    depth = depth / cv2.GaussianBlur(count, (0, 0), 1.5)
    return cv2.resize(depth, size, interpolation=cv2.INTER_CUBIC)


def stretch(video: Path, model: Path, rng: np.random.Generator) -> tuple[list[Frame], float]:
    """A piece of a video with the face at some width, and its frame rate; empty without a face.

    Args:
        video: The file.
        model: The face landmarker's.
        rng: Draws the piece and the width.

    Raises:
        InputError: The video cannot be read.
    """
    width = rng.uniform(*_WIDTHS[rng.integers(len(_WIDTHS))])
    images: list[np.ndarray] = []
    times: list[float] = []
    scale = 0.0
    with Capture(str(video)) as capture:
        for frame in capture:
            if not scale:
                mesh = detect_face_mesh(frame.image, model)
                if mesh is None:
                    continue
                face_width = float(np.ptp(mesh[:, 0]))
                scale = min(width / face_width, _MOST_ENLARGED)
                # As much of the picture as the face needs to move a little.
                low = np.maximum(mesh[:, :2].min(0) - face_width, 0).astype(int)
                high = (mesh[:, :2].max(0) + face_width).astype(int)
            images.append(scaled(frame.image[low[1] : high[1], low[0] : high[0]], scale))
            times.append(frame.time_s)
    if len(images) < _LEAST_FRAMES:
        return [], 0.0
    fps = (len(times) - 1) / (times[-1] - times[0])
    most = int(_LONGEST_S * fps)
    first = int(rng.integers(max(len(images) - most, 0) + 1))
    images = images[first : first + most]
    there_and_back = itertools.cycle([*images, *images[-2:0:-1]])
    count = max(len(images), int(_SHORTEST_S * fps))
    return [
        Frame(i, i / fps, image, 0.0)
        for i, image in enumerate(itertools.islice(there_and_back, count))
    ], fps


def scaled(image: np.ndarray, scale: float) -> np.ndarray:
    """An image with sides `scale` times as long."""
    shrinks = scale < 1
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)


def sway(photo: np.ndarray, model: Path, rng: np.random.Generator, fps: float) -> Iterator[Frame]:
    """A photo (height, width, 3) under a swaying, turning camera, with blinks; 10 to 16 s.

    Without a face there are no frames.

    Args:
        photo: BGR, uint8.
        model: The face landmarker's.
        rng: Draws size, movement and blinks.
        fps: Frames a second.
    """
    mesh = detect_face_mesh(photo, model)
    if mesh is None:
        return
    width = float(np.ptp(mesh[:, 0]))
    scale = rng.uniform(*_WIDTHS[rng.integers(len(_WIDTHS))]) / width
    photo = scaled(photo, scale)
    mesh = mesh * scale
    # As much of the picture as the face needs: the signals see nothing else.
    low = np.maximum(mesh[:, :2].min(0) - 0.7 * width * scale, 0).astype(int)
    high = np.minimum(mesh[:, :2].max(0) + 0.7 * width * scale, photo.shape[1::-1]).astype(int)
    photo = np.ascontiguousarray(photo[low[1] : high[1], low[0] : high[0]])
    photo = cv2.copyMakeBorder(photo, _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_REFLECT)
    mesh[:, :2] += _MARGIN - low
    face = PhotoFace(photo, mesh)
    photo_height, photo_width = photo.shape[:2]
    depth = depth_map(mesh, (photo_width, photo_height))
    grid = np.dstack(
        np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (photo_width, photo_height)))
    )
    # Radians of turning and nodding; four heads in ten hold still.
    turning = np.deg2rad(rng.uniform(1, 8, 2)) if rng.uniform() < 0.6 else np.zeros(2)
    pace, start = rng.uniform(0.05, 0.6, (2, 2)), rng.uniform(0, 6.3, (2, 2))
    count = int(rng.uniform(12, 16) * fps) if fps < 50 else int(10 * fps)
    amplitude, frequency, phase = (
        rng.uniform(0.3, 4.0, 4) * rng.uniform(0.3, 1.3),
        rng.uniform(0.05, 0.4, 4),
        rng.uniform(0, 6.3, 4),
    )
    blinks = rng.uniform(0.5, count / fps - 0.5, rng.integers(2, 9))
    blink_s = rng.uniform(0.12, 0.4, len(blinks))
    # Some lids cover the eye, others slide with the eye under them, as half blinks and deep-set
    # eyes seem to do.
    covering = rng.uniform(size=len(blinks)) < 0.5
    lids = [face.field(rng.uniform(3, 13) * lid) for lid in lid_motions(len(blinks), rng)]
    for index in range(count):
        time_s = index / fps
        scene = photo
        for begin, length, covers, lid in zip(blinks, blink_s, covering, lids, strict=True):
            if 0 < (x := (time_s - begin) / length) < 1:
                closed = float(np.sin(np.pi * x))
                if covers:
                    scene = face.blink(photo, closed**0.7)
                else:
                    scene = _moved(photo, grid - closed * lid)
        across, along, turn, zoom = amplitude * np.sin(2 * np.pi * frequency * time_s + phase)
        centre = photo_width / 2, photo_height / 2
        matrix = cv2.getRotationMatrix2D(centre, 0.25 * turn, 1 + 0.002 * zoom)
        matrix[:, 2] += across, along
        # When a head turns, its nearer parts move farther; a sum of two sines turns unevenly.
        turned = turning * np.sin(2 * np.pi * pace * time_s + start).mean(1)
        where = grid @ matrix[:, :2].T.astype(np.float32) + matrix[:, 2].astype(np.float32)
        parallax = cv2.remap(  # type: ignore[call-overload]  # the second map is optional
            depth, where, None, cv2.INTER_LINEAR
        )
        where += parallax[..., None] * turned.astype(np.float32)
        yield Frame(index, time_s, _moved(scene, where, cv2.BORDER_REFLECT), 0.0)


def _moved(image: np.ndarray, where: np.ndarray, border: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    """The image whose pixels lie at `where` (height, width, 2) in another."""
    return cv2.remap(  # type: ignore[call-overload]  # the second map is optional
        image, where, None, cv2.INTER_CUBIC, borderMode=border
    )


def seen_by_a_camera(
    frames: Iterable[Frame], fps: float, rng: np.random.Generator
) -> Iterator[Frame]:
    """Frames with sensor noise, lamp flicker and the losses of one codec or two."""
    cheap = rng.uniform() < _CHEAP
    noise = rng.uniform(0.7, 3.5) if cheap else rng.uniform(0.4, 2.5)
    quality = int(rng.integers(60, 97) if cheap else rng.integers(85, 98))
    flicker = rng.choice([0.0, 0.0, 0.02, 0.04])
    gain = np.exp(rng.normal(0, 0.15))
    coded = cheap and rng.uniform() < 0.6
    crf, seed = int(rng.integers(20, 36)), int(rng.integers(2**31))

    def exposed() -> Iterator[Frame]:
        rng = np.random.default_rng(seed)
        for frame in frames:
            beat = 1 + flicker * np.sin(2 * np.pi * 7.3 * frame.time_s * 30 / fps)
            picture = frame.image.astype(np.float32) * np.float32(gain * beat)
            picture += rng.normal(0, noise, picture.shape).astype(np.float32)
            yield replace(frame, image=_through_jpeg(picture, quality))

    return through_codec(exposed(), fps, crf) if coded else exposed()


def _through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    image = np.clip(picture, 0, 255).astype(np.uint8)
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded a moment ago
    return decoded


def through_codec(frames: Iterator[Frame], fps: float, crf: int) -> Iterator[Frame]:
    """The frames after H.264 at a constant rate factor (18 fine, 34 poor)."""
    file = io.BytesIO()
    times: list[tuple[int, float]] = []
    with av.open(file, "w", format="mp4") as out:
        stream = None
        for frame in frames:
            # H.264 halves the colour's resolution: whole pairs of pixels only.
            height, width = (n // 2 * 2 for n in frame.image.shape[:2])
            if stream is None:
                stream = out.add_stream("libx264", rate=round(fps))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.options = {"crf": str(crf), "preset": "ultrafast"}
            picture = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(frame.image[:height, :width]), format="bgr24"
            )
            out.mux(stream.encode(picture))
            times.append((frame.index, frame.time_s))
        if stream is not None:
            out.mux(stream.encode())
    if not times:
        return
    file.seek(0)
    with av.open(file, "r") as video:
        for (index, time_s), picture in zip(times, video.decode(video=0), strict=False):
            yield Frame(index, time_s, picture.to_ndarray(format="bgr24"), 0.0)
