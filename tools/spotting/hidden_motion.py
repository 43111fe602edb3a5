"""Micro- and macro-expressions at known times, put into the pictures of a clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from realtime_mer.face.registration import FACE_SIZE, Registration
from realtime_mer.face.tracker import FaceTracker
from realtime_mer.source.frame import Frame
from tools.spotting.motions import MACRO_S, MICRO_S, RiseAndFall, course

# A motion fades out this near to the edge of the canonical face, pixels: chosen by eye, so that
# the warped face joins the rest of the picture without a seam.
_FADE_PX = 24
# Below this share of its size a motion that fades is over.
_OVER = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Hidden:
    """A motion that is put into a clip.

    Attributes:
        motion: Index into the motions that `plan` was given.
        onset_s, apex_s, offset_s: Seconds of the clip.
        macro: Too long for a micro-expression.
        rise, fall: (224, 224, 2) float32 displacement from onset to apex and from apex to offset,
            pixels of the canonical face.
        fade_s: Time constant with which the sum of both returns to nothing.
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
        if up <= 0 or left < _OVER:
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
    motions: Sequence[RiseAndFall],
    length_s: float,
    rng: np.random.Generator,
    mixture: Mixture = Mixture(),
) -> list[Hidden]:
    """Motions to hide in a clip of `length_s` seconds, in the order of time."""
    across = np.minimum(np.arange(FACE_SIZE), np.arange(FACE_SIZE)[::-1]) / _FADE_PX
    fade = np.minimum(np.minimum.outer(across, across), 1)[..., None].astype(np.float32)
    hidden: list[Hidden] = []
    at = rng.uniform(*mixture.start_s)
    while True:
        macro = rng.uniform() < mixture.macros
        length = rng.uniform(*(MACRO_S if macro else MICRO_S))
        if at + length > length_s - 0.5:
            return hidden
        peak = np.exp(rng.uniform(*np.log(mixture.macro_px if macro else mixture.micro_px)))
        motion = int(rng.integers(len(motions)))
        rise, fall = motions[motion]
        if rng.uniform() < 0.5:
            fall = -rise * rng.uniform(0.8, 1.0)
        if rng.uniform() < 0.5:
            rise, fall = _mirrored(rise), _mirrored(fall)
        apex = at + length * np.clip(rng.normal(0.5, 0.1), 0.25, 0.75)
        hidden.append(
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


def _mirrored(field: np.ndarray) -> np.ndarray:
    return field[:, ::-1] * np.array([-1, 1], np.float32)


def with_motions(frames: Iterable[Frame], hidden: Sequence[Hidden], model: Path) -> Iterator[Frame]:
    """The frames with the face moved by the hidden motions.

    Args:
        frames: A clip with one face.
        hidden: What to put into it.
        model: The face landmarker's.
    """
    registration = Registration()
    with FaceTracker(model) as tracker:
        for frame in frames:
            faces = tracker.track(frame)
            if not faces:
                registration = Registration()
                yield frame
                continue
            matrix = registration(frame.image, faces[0].landmarks, frame.time_s).matrix
            fields = [field for h in hidden if (field := h.at(frame.time_s)) is not None]
            if not fields:
                yield frame
                continue
            yield replace(frame, image=warped(frame.image, matrix, np.sum(fields, axis=0)))


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
    width, height = (high - low).tolist()
    place = inverse.copy()
    place[:, 2] -= low
    in_image = (field @ inverse[:, :2].T).astype(np.float32)
    moved = cv2.warpAffine(in_image, place, (width, height), flags=cv2.INTER_LINEAR)
    x, y = np.meshgrid(*(np.arange(a, b, dtype=np.float32) for a, b in zip(low, high, strict=True)))
    out = image.copy()
    out[low[1] : high[1], low[0] : high[0]] = cv2.remap(
        image, x - moved[..., 0], y - moved[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return out
