"""Motion of faces that show no micro-expression: what `tools/train_spotter.py` trains upon.

    python tools/synthesize.py --media DIR --out DIR [--stills N] [--seed N]

Every video of the media folder goes through the runtime's own tracker, registration and regional
motion. Every photo becomes N clips under a slowly swaying camera with sensor noise, a codec's loss,
lamp flicker and blinks, at changing frame rates and sizes, and goes the same way. What comes out is
not pictures but signals, one .npz a clip; micro-expressions, and motions that are none, are added
to the signals while training (`tools/spotting_data.py`).
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realtime_mer.capture import Capture
from realtime_mer.demo import PhotoFace, detect_face_mesh
from realtime_mer.event import InputError
from realtime_mer.frame import Frame
from realtime_mer.landmark_model import find_landmark_model
from realtime_mer.motion import RegionalMotion, texture_trust
from realtime_mer.registration import Registration
from realtime_mer.tracker import FaceTracker
from tools.spotting_data import lid_motions

PHOTOS = frozenset({".jpg", ".jpeg", ".png"})
VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})
_MARGIN = 24


def follow(frames: Iterator[Frame], model: Path) -> dict[str, np.ndarray]:
    """The motion signals of the first face in `frames`, as arrays over time.

    Keys: time_s (n,), regions (n, 18, 2), trust (n, 18), head (n, 3), place (n, 2), blink (n,),
    jaw_open (n,), NaN where no face was seen; landmarks (478, 3) and texture (784,), their medians.
    """
    rows, landmarks, textures = [], [], []
    registration, motion, lost = Registration(), RegionalMotion(), True
    with FaceTracker(model) as tracker:
        for frame in frames:
            faces = tracker.track(frame)
            if not faces:
                lost = True
                rows.append(np.r_[frame.time_s, np.full(61, np.nan)])
                continue
            if lost:
                registration, motion, lost = Registration(), RegionalMotion(), False
            face = registration(frame.image, faces[0].landmarks, frame.time_s)
            m = motion(face, frame.time_s, faces[0].blink, faces[0].jaw_open)
            rows.append(
                np.r_[m.time_s, m.regions.ravel(), m.trust, m.head, m.place, m.blink, m.jaw_open]
            )
            if frame.index % 15 == 0:
                landmarks.append(face.landmarks)
                textures.append(texture_trust(face.grey))
    if not landmarks:
        return {}
    table = np.array(rows, np.float32)
    times = np.array([r[0] for r in rows])
    return {
        "time_s": times,
        "regions": table[:, 1:37].reshape(-1, 18, 2),
        "trust": table[:, 37:55],
        "head": table[:, 55:58],
        "place": table[:, 58:60],
        "blink": table[:, 60],
        "jaw_open": table[:, 61],
        "landmarks": np.median(landmarks, 0),
        "texture": np.median(textures, 0),
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


def sway(photo: np.ndarray, model: Path, rng: np.random.Generator, fps: float) -> Iterator[Frame]:
    """A photo (height, width, 3) under a swaying camera, with everything a cheap camera adds."""
    mesh = detect_face_mesh(photo, model)
    if mesh is None:
        return
    width = float(np.ptp(mesh[:, 0]))
    scale = rng.choice([rng.uniform(70, 130), rng.uniform(90, 260)]) / width
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
    noise, quality = rng.uniform(0.7, 3.5), int(rng.integers(60, 97))
    flicker = rng.choice([0.0, 0.0, 0.02, 0.04])
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
        picture = cv2.remap(
            scene, where, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        ).astype(np.float32)
        picture *= 1 + flicker * np.sin(2 * np.pi * 7.3 * time_s * 30 / fps)
        picture += rng.normal(0, noise, picture.shape).astype(np.float32)
        coded = cv2.imencode(
            ".jpg", np.clip(picture, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
        )[1]
        yield Frame(index, time_s, cv2.imdecode(coded, cv2.IMREAD_COLOR), 0.0)


def _read(file: Path) -> np.ndarray:
    photo = cv2.imread(str(file))
    if photo is None:
        raise InputError(f"{file} is no picture that can be read")
    return photo


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--media", type=Path, required=True, help="folder of face videos and photos"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the signals")
    parser.add_argument("--stills", type=int, default=3, help="clips a photo (default 3)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        files = sorted(p for p in options.media.iterdir() if p.suffix.lower() in PHOTOS | VIDEOS)
        model = find_landmark_model()
    except (OSError, InputError) as error:
        print(f"synthesize: {error}", file=sys.stderr)
        return 2
    if not files:
        print(f"synthesize: no photo or video in {options.media}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    jobs = [(f, 0) for f in files if f.suffix.lower() in VIDEOS]
    jobs += [(f, i) for i in range(options.stills) for f in files if f.suffix.lower() in PHOTOS]
    for number, (file, take) in enumerate(jobs):
        out = options.out / f"{file.stem}.{take}.npz"
        if out.exists():
            continue
        try:
            if file.suffix.lower() in VIDEOS:
                with Capture(str(file)) as capture:
                    signals = follow(iter(capture), model)
            else:
                rng = np.random.default_rng([options.seed, number])
                fps = float(rng.choice([15, 24, 25, 30, 30, 30, 60]))
                frames = sway(_read(file), model, rng, fps)
                if rng.uniform() < 0.5:
                    frames = through_codec(frames, fps, int(rng.integers(20, 34)))
                signals = follow(frames, model)
        except InputError as error:
            print(f"{file.name} left out: {error}", file=sys.stderr, flush=True)
            continue
        if not signals:
            print(f"{file.name} left out: no face", file=sys.stderr, flush=True)
            continue
        part = out.with_suffix(".part.npz")
        np.savez_compressed(part, **signals, still=file.suffix.lower() in PHOTOS)
        part.replace(out)
        print(f"{out.name}: {len(signals['time_s'])} frames ({number + 1}/{len(jobs)})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
