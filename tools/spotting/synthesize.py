"""Motion signals of faces: what `tools/spotting/train.py` trains upon.

    python tools/spotting/synthesize.py --media DIR --data DIR --out DIR [--takes N] [--jobs N] [--seed N]

Every video and every photo of the media folder becomes N clips, each of which goes through the
runtime's own tracker, registration and regional motion. What comes out is not pictures but
signals, one .npz a clip.

- Take 0 of a video is the video as it is. The other takes are a stretch of it, short ones played
  there and back, made smaller or larger and seen through a camera, a cheap one or a good one:
  sensor noise, lamp flicker, the losses of a codec.
- A photo is put under a swaying, turning camera, with blinks, and then seen through one likewise.
- Odd takes carry micro- and macro-expressions at known times: fields of CausalNet's flow release
  (--data) and drawn action units warp the face before the camera sees it.

More motions are added to the signals while training (`tools/spotting/windows.py`).
"""

from __future__ import annotations

import argparse
import io
import itertools
import multiprocessing
import sys
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import read_release
from realtime_mer.demo.photo import PhotoFace
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.registration import FACE_SIZE, CanonicalFace, Registration
from realtime_mer.face.tracker import FaceTracker, detect_face_mesh
from realtime_mer.source.capture import Capture
from realtime_mer.source.frame import Frame
from realtime_mer.spotting.motion import FACE_CELLS, REGIONS, RegionalMotion
from tools.spotting.windows import (
    MACRO_S,
    MICRO_S,
    course,
    drawn_motions,
    lid_motions,
    measured_motions,
)

PHOTOS = frozenset({".jpg", ".jpeg", ".png"})
VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg"})
# What `follow` keeps of a motion, and the shapes.
_MOTION: dict[str, tuple[int, ...]] = {
    "regions": (len(REGIONS), 2),
    "cells": (len(FACE_CELLS), 2),
    "trust": (len(REGIONS),),
    "head": (3,),
    "place": (2,),
    "blink": (),
    "jaw_open": (),
}
# Frames whose mean is a face without its sensor noise.
_MEAN_FRAMES = 5
_MARGIN = 24
# Stretch of a video that a take shows, and the length to which a short one is played there and
# back, seconds.
_LONGEST_S = 14.0
_SHORTEST_S = 10.0
# Widths of the face that cameras show, pixels: far away, at a desk, close by.
_WIDTHS = ((70, 130), (100, 220), (140, 300))
# Share of cheap cameras; the others are good ones.
_CHEAP = 0.5
_DRAWN = 60
# Within this of the canonical face's edge a motion fades, pixels.
_FADE_PX = 24


def follow(frames: Iterator[Frame], model: Path) -> dict[str, np.ndarray]:
    """The motion signals of the first face in `frames`, as arrays over time.

    Keys: time_s (n,), regions (n, 18, 2), cells (n, FACE_CELLS, 2), trust (n, 18), head (n, 3),
    place (n, 2), blink (n,), jaw_open (n,), NaN where no face was seen; of the moment at which the
    face is calmest the canonical face (224, 224) uint8, clean, likewise but the mean of the frames
    around it, and its landmarks (478, 3). Empty where a face was hardly seen.
    """
    found: dict[str, list[object]] = {key: [] for key in _MOTION}
    times: list[float] = []
    recent: deque[CanonicalFace] = deque(maxlen=_MEAN_FRAMES)
    calmest, least = None, np.inf
    registration, motion, lost = Registration(), RegionalMotion(), True
    with FaceTracker(model) as tracker:
        for frame in frames:
            faces = tracker.track(frame)
            times.append(frame.time_s)
            if not faces:
                lost = True
                for key, shape in _MOTION.items():
                    found[key].append(np.full(shape, np.nan))
                continue
            if lost:
                registration, motion, lost = Registration(), RegionalMotion(), False
                recent.clear()
            face = registration(frame.image, faces[0].landmarks, frame.time_s)
            m = motion(face, frame.time_s, faces[0].blink, faces[0].jaw_open)
            for key in _MOTION:
                found[key].append(getattr(m, key))
            recent.append(face)
            if len(recent) == _MEAN_FRAMES and frame.index % _MEAN_FRAMES == 0:
                changed = float(cv2.absdiff(recent[0].grey, recent[-1].grey).mean())
                if changed < least:
                    calmest, least = tuple(recent), changed
    if calmest is None:
        return {}
    middle = calmest[_MEAN_FRAMES // 2]
    signals = {key: np.array(values, np.float32) for key, values in found.items()}
    # Half precision: a hundredth of a pixel, a few where a long clip has gone far from its start.
    signals["cells"] = signals["cells"].astype(np.float16)
    return {
        **signals,
        "time_s": np.array(times),
        "face": middle.grey,
        "clean": np.mean([f.grey for f in calmest], 0).round().astype(np.uint8),
        "landmarks": middle.landmarks,
    }


def depth_map(mesh: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Depth (height, width) float32 of a face mesh (478, 3) in pixels, level around the face."""
    cell = max(4.0, float(np.ptp(mesh[:, 0])) / 28)
    shape = int(size[1] / cell) + 1, int(size[0] / cell) + 1
    row = np.clip(mesh[:468, 1] / cell, 0, shape[0] - 1).astype(int)
    column = np.clip(mesh[:468, 0] / cell, 0, shape[1] - 1).astype(int)
    total, count = np.zeros(shape, np.float32), np.full(shape, 1e-3, np.float32)
    np.add.at(total, (row, column), mesh[:468, 2])
    np.add.at(count, (row, column), 1)
    total += 1e-3 * float(np.percentile(mesh[:468, 2], 90))
    depth = cv2.GaussianBlur(total, (0, 0), 1.5) / cv2.GaussianBlur(count, (0, 0), 1.5)
    return cv2.resize(depth, size, interpolation=cv2.INTER_CUBIC)


def through_codec(frames: Iterator[Frame], fps: float, crf: int) -> Iterator[Frame]:
    """What H.264 leaves of the frames at a constant rate factor (18 fine, 34 poor)."""
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
    with av.open(file) as video:
        for (index, time_s), picture in zip(times, video.decode(video=0), strict=False):
            yield Frame(index, time_s, picture.to_ndarray(format="bgr24"), 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """A motion that is put into a clip.

    Attributes:
        motion: Which of the motions that were handed to `plan`.
        onset_s, apex_s, offset_s: Seconds of the clip.
        macro: Too long for a micro-expression.
        rise, fall: (224, 224, 2) float32 displacement onset to apex and apex to offset, pixels of
            the canonical face.
        fade_s: Time constant with which what the two leave over fades.
    """

    motion: int
    onset_s: float
    apex_s: float
    offset_s: float
    macro: bool
    rise: np.ndarray
    fall: np.ndarray
    fade_s: float

    def at(self, time_s: float) -> np.ndarray | None:
        """(224, 224, 2) displacement at a time, None where there is none."""
        up, down, left = course(
            np.array([time_s]), self.onset_s, self.apex_s, self.offset_s, 1.0, self.fade_s
        )[:, 0]
        if up <= 0 or left < 0.02:
            return None
        return left * (up * self.rise + down * self.fall)


@dataclass(frozen=True, slots=True)
class Mixture:
    """What `plan` draws from.

    Attributes:
        macros: Share of macro-expressions.
        micro_px, macro_px: 99th percentile displacement at the apex, pixels of the canonical face.
        pause_s: Between two motions.
        start_s: Before the first.
    """

    macros: float = 0.3
    micro_px: tuple[float, float] = (0.8, 4.0)
    macro_px: tuple[float, float] = (2.0, 9.0)
    pause_s: tuple[float, float] = (0.9, 3.0)
    start_s: tuple[float, float] = (1.0, 2.5)


def plan(
    motions: Sequence[tuple[np.ndarray, np.ndarray]],
    length_s: float,
    rng: np.random.Generator,
    mixture: Mixture = Mixture(),
) -> list[Hidden]:
    """Motions to hide in a clip of `length_s` seconds, in the order of time."""
    across = np.minimum(np.arange(FACE_SIZE), np.arange(FACE_SIZE)[::-1]) / _FADE_PX
    fade = np.minimum(np.minimum.outer(across, across), 1)[..., None].astype(np.float32)
    found: list[Hidden] = []
    at = rng.uniform(*mixture.start_s)
    while True:
        macro = rng.uniform() < mixture.macros
        length = rng.uniform(*(MACRO_S if macro else MICRO_S))
        if at + length > length_s - 0.5:
            return found
        peak = np.exp(rng.uniform(*np.log(mixture.macro_px if macro else mixture.micro_px)))
        motion = int(rng.integers(len(motions)))
        rise, fall = motions[motion]
        if rng.uniform() < 0.5:
            fall = -rise * rng.uniform(0.8, 1.0)
        if rng.uniform() < 0.5:
            rise, fall = (f[:, ::-1] * np.float32([-1, 1]) for f in (rise, fall))
        apex = at + length * np.clip(rng.normal(0.5, 0.1), 0.25, 0.75)
        found.append(
            Hidden(
                motion,
                at,
                apex,
                at + length,
                macro,
                np.float32(peak) * rise * fade,
                np.float32(peak) * fall * fade,
                rng.uniform(0.4, 1.2),
            )
        )
        at += length + rng.uniform(*mixture.pause_s)


def with_motions(frames: Iterable[Frame], hidden: Sequence[Hidden], model: Path) -> Iterator[Frame]:
    """The frames with the face moved by what is hidden in them."""
    registration = Registration()
    with FaceTracker(model) as tracker:
        for frame in frames:
            faces = tracker.track(frame)
            if not faces:
                registration = Registration()
                yield frame
                continue
            matrix = registration(frame.image, faces[0].landmarks, frame.time_s).matrix
            moved = [d for h in hidden if (d := h.at(frame.time_s)) is not None]
            if not moved:
                yield frame
                continue
            yield replace(frame, image=warped(frame.image, matrix, sum(moved)))


def warped(image: np.ndarray, matrix: np.ndarray, field: np.ndarray) -> np.ndarray:
    """An image (height, width, 3) with its face moved.

    Args:
        image: uint8.
        matrix: (2, 3), image to canonical face.
        field: (224, 224, 2) displacement in pixels of the canonical face.
    """
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]]) * (FACE_SIZE, FACE_SIZE, 1)
    corners = corners @ inverse.T
    low = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, image.shape[1::-1])
    if (high <= low).any():
        return image
    wide, tall = (high - low).tolist()
    place = inverse.copy()
    place[:, 2] -= low
    in_image = (field @ inverse[:, :2].T).astype(np.float32)
    moved = cv2.warpAffine(in_image, place, (wide, tall), flags=cv2.INTER_LINEAR)
    x, y = np.meshgrid(*(np.arange(a, b, dtype=np.float32) for a, b in zip(low, high, strict=True)))
    out = image.copy()
    out[low[1] : high[1], low[0] : high[0]] = cv2.remap(
        image, x - moved[..., 0], y - moved[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return out


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
            jpeg = cv2.imencode(
                ".jpg",
                np.clip(picture, 0, 255).astype(np.uint8),
                [cv2.IMWRITE_JPEG_QUALITY, quality],
            )[1]
            yield replace(frame, image=cv2.imdecode(jpeg, cv2.IMREAD_COLOR))

    return through_codec(exposed(), fps, crf) if coded else exposed()


def stretch(video: Path, model: Path, rng: np.random.Generator) -> tuple[list[Frame], float]:
    """A stretch of a video with the face at some width, and its frame rate.

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
                # Hardly larger than it is: there is nothing to see in invented pixels.
                wide = float(np.ptp(mesh[:, 0]))
                scale = min(width / wide, 1.3)
                # No more of the picture than a face needs that moves a little.
                low = np.maximum(mesh[:, :2].min(0) - wide, 0).astype(int)
                high = (mesh[:, :2].max(0) + wide).astype(int)
            images.append(
                cv2.resize(
                    frame.image[low[1] : high[1], low[0] : high[0]],
                    None,
                    fx=scale,
                    fy=scale,
                    interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
                )
            )
            times.append(frame.time_s)
    if len(images) < 10:
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


def sway(photo: np.ndarray, model: Path, rng: np.random.Generator, fps: float) -> Iterator[Frame]:
    """A photo (height, width, 3) under a swaying, turning camera, with blinks."""
    mesh = detect_face_mesh(photo, model)
    if mesh is None:
        return
    width = float(np.ptp(mesh[:, 0]))
    scale = rng.uniform(*_WIDTHS[rng.integers(len(_WIDTHS))]) / width
    photo = cv2.resize(
        photo,
        None,
        fx=scale,
        fy=scale,
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
    )
    mesh = mesh * scale
    # No more of the picture than a face needs: the signals see nothing else.
    low = np.maximum(mesh[:, :2].min(0) - 0.7 * width * scale, 0).astype(int)
    high = np.minimum(mesh[:, :2].max(0) + 0.7 * width * scale, photo.shape[1::-1]).astype(int)
    photo = np.ascontiguousarray(photo[low[1] : high[1], low[0] : high[0]])
    photo = cv2.copyMakeBorder(photo, *[_MARGIN] * 4, cv2.BORDER_REFLECT)
    mesh[:, :2] += _MARGIN - low
    face = PhotoFace(photo, mesh)
    depth = depth_map(mesh, photo.shape[1::-1])
    grid = np.dstack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in photo.shape[1::-1])))
    # Radians of turning and nodding; half of the heads hold still.
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
    # Lids that cover the eye, and lids whose skin slides with the eye under it: half blinks and
    # deep-set eyes look like the second.
    covering = rng.uniform(size=len(blinks)) < 0.5
    lids = [face.field(rng.uniform(3, 13) * lid) for lid in lid_motions(len(blinks), rng)]
    height, wide = photo.shape[:2]
    for index in range(count):
        time_s = index / fps
        scene = photo
        for begin, length, covers, lid in zip(blinks, blink_s, covering, lids, strict=True):
            if 0 < (x := (time_s - begin) / length) < 1:
                closed = float(np.sin(np.pi * x))
                if covers:
                    scene = face.blink(photo, closed**0.7)
                else:
                    scene = cv2.remap(photo, grid - closed * lid, None, cv2.INTER_CUBIC)
        across, along, turn, zoom = amplitude * np.sin(2 * np.pi * frequency * time_s + phase)
        matrix = cv2.getRotationMatrix2D((wide / 2, height / 2), 0.25 * turn, 1 + 0.002 * zoom)
        matrix[:, 2] += across, along
        # Nearer parts of a turning head go farther; the sum of two sines turns unevenly.
        turned = turning * np.sin(2 * np.pi * pace * time_s + start).mean(1)
        where = grid @ matrix[:, :2].T.astype(np.float32) + matrix[:, 2].astype(np.float32)
        where += cv2.remap(depth, where, None, cv2.INTER_LINEAR)[..., None] * np.float32(turned)
        picture = cv2.remap(scene, where, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        yield Frame(index, time_s, picture, 0.0)


def read_photo(file: Path) -> np.ndarray:
    photo = cv2.imread(str(file))
    if photo is None:
        raise InputError(f"{file} is no picture that can be read")
    return photo


def make(
    file: Path,
    take: int,
    model: Path,
    motions: Sequence[tuple[np.ndarray, np.ndarray]],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """The signals of one take of a photo or video, empty where there is no face.

    Beside those of `follow`: `still`, made from a photo; events (k, 4), onset, apex and offset in
    seconds and 1 for a macro-expression, 0 for a micro one.

    Raises:
        InputError: The file cannot be read.
    """
    still = file.suffix.lower() in PHOTOS
    hidden: list[Hidden] = []
    if not still and take == 0:
        with Capture(str(file)) as capture:
            signals = follow(iter(capture), model)
    else:
        if still:
            fps = float(rng.choice([15, 24, 25, 30, 30, 30, 60]))
            frames = list(sway(read_photo(file), model, rng, fps))
        else:
            frames, fps = stretch(file, model, rng)
        if not frames:
            return {}
        if take % 2:
            hidden = plan(motions, frames[-1].time_s, rng)
            frames = with_motions(frames, hidden, model)
        signals = follow(seen_by_a_camera(frames, fps, rng), model)
    if not signals:
        return {}
    events = [(h.onset_s, h.apex_s, h.offset_s, float(h.macro)) for h in hidden]
    return {**signals, "still": np.array(still), "events": np.array(events).reshape(-1, 4)}


@dataclass(frozen=True, slots=True)
class _Job:
    """One take, and where its signals go."""

    file: Path
    take: int
    out: Path
    seed: tuple[int, int, int]


_motions: list[tuple[np.ndarray, np.ndarray]] = []


def _run(job: _Job) -> tuple[_Job, str]:
    """Does a job; says how it went."""
    try:
        rng = np.random.default_rng(job.seed)
        signals = make(job.file, job.take, find_landmark_model(), _motions, rng)
    except InputError as error:
        return job, f"left out: {error}"
    if not signals:
        return job, "left out: no face"
    part = job.out.with_suffix(".part.npz")
    np.savez_compressed(part, **signals)
    part.replace(job.out)
    return job, f"{len(signals['time_s'])} frames"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--media", type=Path, required=True, help="folder of face videos and photos"
    )
    parser.add_argument("--data", type=Path, required=True, help="the flow release")
    parser.add_argument("--out", type=Path, required=True, help="folder for the signals")
    parser.add_argument(
        "--exclude-subjects", nargs="*", default=[], metavar="S", help="subjects of the data"
    )
    parser.add_argument("--subjects", nargs="*", metavar="S", help="these subjects alone")
    parser.add_argument("--takes", type=int, default=6, help="clips a file (default 6)")
    parser.add_argument("--jobs", type=int, default=1, help="clips at a time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        files = sorted(p for p in options.media.iterdir() if p.suffix.lower() in PHOTOS | VIDEOS)
        find_landmark_model()
        clips = read_release(options.data).without(options.exclude_subjects)
        if options.subjects:
            clips = clips.only(options.subjects)
    except (OSError, InputError) as error:
        print(f"synthesize: {error}", file=sys.stderr)
        return 2
    if not files:
        print(f"synthesize: no photo or video in {options.media}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(options.seed)
    # Processes that are forked find them here.
    _motions[:] = measured_motions(clips.pairs) + drawn_motions(_DRAWN, rng)
    # Every file's first take before any other's: a run that is stopped has something of each.
    jobs = [
        _Job(
            file,
            take,
            options.out / f"{file.stem}.{take}.npz",
            # By its name, so that another file beside it changes nothing.
            (options.seed, take, zlib.crc32(file.stem.encode())),
        )
        for take in range(options.takes)
        for file in files
    ]
    left = [job for job in jobs if not job.out.exists()]
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for number, (job, said) in enumerate(pool.imap_unordered(_run, left), 1):
            print(f"{job.file.name}, take {job.take}: {said} ({number}/{len(left)})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
