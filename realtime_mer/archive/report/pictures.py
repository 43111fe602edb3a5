"""The pictures of an event: onset, apex with arrows, and a loop in real speed and slowed."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, features

from realtime_mer.archive.magnify import FACTOR, magnified
from realtime_mer.archive.results_folder import VideoResult
from realtime_mer.face.registration import FACE_SIZE

SLOWED = 5
"""How many times as long the second half of a loop takes."""

ARROW_GAIN = 8
"""How many times as long as the motion the arrows are. Chosen by looking."""

# Arrows shorter than this part of the longest are left out: most are noise. Chosen by looking.
_LEAST_ARROW = 0.3

# Width and height of the pictures, and of each half of a loop, pixels.
_STILL_PX = 176
_LOOP_PX = 176
# A loop shows this much before the onset and after the offset, seconds.
_AROUND_S = 0.3
# Frames of a loop, at most: more are thinned out. 40 are 1.1 s at 36 frames a second.
_MOST_FRAMES = 40
# More frames of a clip are not read: 2 s at 300 frames a second.
_MOST_READ = 600
# Animated AVIF: two of the demo's events took 17 and 19 kB, a fifth of what animated WebP took, and
# kept 88 and 96 % of the motion in the decoded loop. Measured once, with a script that is not kept.
_LOOP_OPTIONS = {"quality": 60, "speed": 8}
_STILL_OPTIONS = {"quality": 80, "method": 4}
_ARROW_COLOUR = (0, 228, 255)  # BGR
# The bar below a loop: its height in pixels and its colours, BGR.
_BAR_PX = 6
_TRACK, _EVENT, _NOW = (70, 70, 70), (0, 159, 230), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class EventPictures:
    """Pictures of an event as data addresses.

    Attributes:
        onset, apex: Stills; the apex with arrows, if they are known.
        loop: As filmed beside magnified, in real speed and then slowed; None if this Pillow cannot
            write AVIF.
        has_arrows: Whether there are arrows in the apex.
        size: How many bytes they take in the page.
    """

    onset: str
    apex: str
    loop: str | None
    has_arrows: bool

    @property
    def size(self) -> int:
        return len(self.onset) + len(self.apex) + len(self.loop or "")


def event_pictures(video: VideoResult, number: int) -> EventPictures | None:
    """The pictures of an event; None if its clip was not kept or cannot be read."""
    clip, info = video.clip(number), video.clip_info(number)
    if clip is None or info is None:
        return None
    try:
        frames = read_clip(clip)
        times_s = np.asarray(info["times_s"], np.float64)[: len(frames)]
        onset_s, apex_s, offset_s = (float(info[key]) for key in ("onset_s", "apex_s", "offset_s"))
        arrows = np.asarray(info.get("arrows") or [], np.float64).reshape(-1, 4)
        # Otherwise they are no places and motions on a face.
        arrows = arrows[(np.abs(arrows) <= FACE_SIZE).all(1)]
    except (KeyError, TypeError, ValueError):
        return None
    frames = frames[: len(times_s)]
    if len(frames) < 2:
        return None
    onset, apex = (frames[np.abs(times_s - t).argmin()] for t in (onset_s, apex_s))
    loop = None
    if features.check("avif"):
        keep = _shown(times_s, onset_s, offset_s)
        frames, times_s = frames[keep], times_s[keep]
        moved = magnified(frames, times_s, FACTOR, onset_s)
        pairs = np.concatenate([frames, moved], axis=2)
        loop = _loop(pairs, times_s, (onset_s, offset_s))
    return EventPictures(_still(onset), _still(_with_arrows(apex, arrows)), loop, len(arrows) > 0)


def read_clip(path: Path) -> np.ndarray:
    """The frames (n, 224, 224, 3) uint8, BGR, of a clip of a registered face.

    Of a clip that is damaged, what can be read; n may be 0.
    """
    frames = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                frames.append(frame.to_ndarray(format="bgr24"))
                if len(frames) == _MOST_READ:
                    break
    except (av.error.FFmpegError, IndexError, OSError):
        pass
    shape = FACE_SIZE, FACE_SIZE, 3
    return np.array([f for f in frames if f.shape == shape], np.uint8).reshape(-1, *shape)


def face_picture(path: Path | None) -> str | None:
    """A face's thumbnail as a data address; None if there is none."""
    image = None if path is None else cv2.imread(str(path))
    return None if image is None else _still(image, 96)


def _still(image: np.ndarray, size: int = _STILL_PX) -> str:
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    _pil(small).save(file, "WEBP", **_STILL_OPTIONS)
    return _data("image/webp", file.getvalue())


def _with_arrows(image: np.ndarray, arrows: np.ndarray) -> np.ndarray:
    """A face (224, 224, 3) with arrows (n, 4): places and motions, pixels."""
    if not len(arrows):
        return image
    # Darker, so that the arrows stand out on any skin; and larger, so that they are smooth.
    scale = 2
    dark = cv2.convertScaleAbs(image, alpha=0.65)
    size = (FACE_SIZE * scale, FACE_SIZE * scale)
    large = cv2.resize(dark, size, interpolation=cv2.INTER_CUBIC)
    lengths = np.hypot(arrows[:, 2], arrows[:, 3])
    for x, y, dx, dy in arrows[lengths >= _LEAST_ARROW * lengths.max()] * scale:
        half = np.array([dx, dy]) * ARROW_GAIN / 2
        start, end = ([round(v) for v in (x, y) + side * half] for side in (-1, 1))
        cv2.arrowedLine(large, start, end, _ARROW_COLOUR, 2, cv2.LINE_AA, 0, 0.35)
    return large


def _shown(times_s: np.ndarray, onset_s: float, offset_s: float) -> np.ndarray:
    """Which frames a loop shows; at least 2 of 2 or more."""
    keep = np.flatnonzero((times_s >= onset_s - _AROUND_S) & (times_s <= offset_s + _AROUND_S))
    if len(keep) < 2:
        keep = np.arange(len(times_s))
    if len(keep) > _MOST_FRAMES:
        keep = keep[np.linspace(0, len(keep) - 1, _MOST_FRAMES).round().astype(int)]
    return keep


def _loop(pairs: np.ndarray, times_s: np.ndarray, event_s: tuple[float, float]) -> str:
    """Faces side by side (n, 224, 448, 3) as an animation: in real speed, then slowed."""
    # The last picture stays as long as the ones before usually did.
    lengths_ms = np.diff(times_s, append=times_s[-1] + np.median(np.diff(times_s))) * 1000
    lengths_ms = np.clip(lengths_ms, 1, 1000).round()
    images = [
        _pil(_with_bar(pair, time_s, times_s, event_s))
        for pair, time_s in zip(pairs, times_s, strict=True)
    ]
    images, lengths = images * 2, [*lengths_ms, *(lengths_ms * SLOWED)]
    file = io.BytesIO()
    images[0].save(
        file,
        "AVIF",
        save_all=True,
        append_images=images[1:],
        duration=[int(length) for length in lengths],
        **_LOOP_OPTIONS,
    )
    return _data("image/avif", file.getvalue())


def _with_bar(
    pair: np.ndarray, time_s: float, times_s: np.ndarray, event_s: Sequence[float]
) -> np.ndarray:
    """The pair, smaller, above a bar that shows the event's time and where it has come to."""
    size = 2 * _LOOP_PX, _LOOP_PX
    width = size[0]
    bar = np.full((_BAR_PX, width, 3), _TRACK, np.uint8)
    start, length = times_s[0], max(times_s[-1] - times_s[0], 1e-3)
    left, right, now = (round((t - start) / length * width) for t in (*event_s, time_s))
    bar[:, max(left, 0) : max(right, 0)] = _EVENT
    now = min(max(now, 2), width - 2)
    bar[:, now - 2 : now + 2] = _NOW
    return np.vstack([cv2.resize(pair, size, interpolation=cv2.INTER_AREA), bar])


def _pil(image: np.ndarray) -> Image.Image:
    return Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
