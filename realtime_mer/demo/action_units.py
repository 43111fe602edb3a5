"""Facial action units as small, smooth displacement fields on the canonical face.

The units are those of the Facial Action Coding System (Ekman, Friesen and Hager, 2002). Where the
skin moves, and in which direction, is drawn by hand from its descriptions, not measured. The fields
serve to make clips with a known truth, for the demo and for training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from realtime_mer.face.registration import FACE_SIZE

# Column of the middle line, pixels: between the eyes, and between the corners of the mouth.
_MIDDLE = 123.5
# A field fades to 0 over this many pixels at the border, so that a warped picture has no seam.
_FADE_PX = 14


@dataclass(frozen=True, slots=True)
class Pull:
    """A place where a unit moves the skin, on the image-right half of the face.

    The image-left half mirrors it, unless it lies on the middle line (`x` = 0).

    Attributes:
        x: Distance from the middle line, pixels.
        y: Row of the canonical face, pixels.
        out: Motion away from the middle line, relative to the unit's other pulls.
        down: Motion downwards, likewise.
        reach: Distances inwards, outwards, upwards and downwards, pixels, at which the motion has
            fallen to 1/e.
    """

    x: float
    y: float
    out: float
    down: float
    reach: tuple[float, float, float, float]


# For orientation: brows y 62 (x 20 to 75), eyes y 88 (x 25 to 70), cheekbones y 120, nose wings
# y 138 (x 32), mouth y 178 (corners x 42), lower lip y 194, chin from y 205.
UNITS: Mapping[str, tuple[Pull, ...]] = {
    # inner brow raiser
    "AU1": (Pull(24, 60, 0.05, -1.0, (22, 22, 24, 14)),),
    # outer brow raiser
    "AU2": (Pull(58, 58, 0.05, -1.0, (24, 22, 24, 15)),),
    # brow lowerer: down and together
    "AU4": (
        Pull(22, 63, -0.5, 0.8, (18, 22, 18, 13)),
        Pull(50, 61, -0.2, 0.5, (20, 22, 16, 13)),
    ),
    # upper lid raiser
    "AU5": (Pull(48, 78, 0.0, -1.0, (24, 24, 10, 8)),),
    # cheek raiser: the ring around the eye closes in from below and outside
    "AU6": (
        Pull(50, 118, -0.15, -0.9, (24, 24, 18, 24)),
        Pull(78, 96, -0.5, -0.2, (16, 18, 18, 18)),
    ),
    # lid tightener
    "AU7": (
        Pull(48, 99, -0.1, -0.8, (24, 24, 8, 13)),
        Pull(48, 78, 0.0, 0.35, (24, 24, 12, 8)),
    ),
    # nose wrinkler: wings and bridge up, brows a little down
    "AU9": (
        Pull(28, 136, -0.1, -1.0, (18, 18, 26, 20)),
        Pull(10, 104, 0.0, -0.5, (14, 16, 20, 20)),
        Pull(24, 66, -0.3, 0.5, (18, 20, 14, 12)),
    ),
    # upper lip raiser
    "AU10": (Pull(24, 162, 0.05, -1.0, (18, 18, 22, 14)),),
    # lip corner puller: back and up, the cheek swells
    "AU12": (
        Pull(44, 174, 0.75, -0.8, (26, 26, 24, 20)),
        Pull(58, 138, 0.15, -0.45, (22, 22, 22, 22)),
    ),
    # lip corner depressor
    "AU15": (Pull(43, 182, 0.1, 1.0, (22, 20, 20, 20)),),
    # chin raiser: the chin boss and the lower lip up
    "AU17": (
        Pull(0, 203, 0.0, -1.0, (26, 26, 14, 14)),
        Pull(0, 190, 0.0, -0.5, (26, 26, 10, 12)),
    ),
    # lip stretcher
    "AU20": (Pull(46, 182, 1.0, 0.25, (26, 24, 22, 22)),),
    # lip pressor
    "AU24": (
        Pull(0, 171, 0.0, 0.5, (34, 34, 12, 10)),
        Pull(0, 190, 0.0, -0.8, (34, 34, 10, 13)),
    ),
    # lips part
    "AU25": (
        Pull(0, 192, 0.0, 1.0, (32, 32, 12, 18)),
        Pull(0, 170, 0.0, -0.3, (30, 30, 14, 9)),
    ),
    # jaw drop: the whole chin, and the lower lip with it
    "AU26": (
        Pull(0, 204, 0.0, 1.0, (44, 44, 22, 30)),
        Pull(40, 196, 0.0, 0.4, (24, 22, 20, 24)),
    ),
}

# Combinations that databases of micro-expressions list for the classifier's labels.
EXPRESSIONS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "negative": (
        ("AU4",),
        ("AU4", "AU7"),
        ("AU9",),
        ("AU4", "AU9", "AU10"),
        ("AU15",),
        ("AU15", "AU17"),
        ("AU1", "AU4", "AU15"),
        ("AU4", "AU20"),
        ("AU17", "AU24"),
    ),
    "positive": (("AU12",), ("AU6", "AU12"), ("AU12", "AU25"), ("AU6", "AU12", "AU25")),
    "surprise": (
        ("AU1", "AU2"),
        ("AU1", "AU2", "AU5"),
        ("AU1", "AU2", "AU25"),
        ("AU1", "AU2", "AU5", "AU26"),
    ),
}


def peak(field: np.ndarray) -> float:
    """99th percentile displacement of a field (height, width, 2), in its pixels."""
    return float(np.percentile(np.linalg.norm(field, axis=-1), 99))


def action_unit(
    name: str, rng: np.random.Generator | None = None, peak_px: float = 1.0
) -> np.ndarray:
    """The displacement of the skin at the apex of an action unit.

    Args:
        name: A key of `UNITS`, such as "AU12".
        rng: Draws variations: the halves of the face differ by up to 30 %, and places, directions
            and reaches by some pixels, degrees and percent. Without it, the field is symmetric and
            always the same.
        peak_px: 99th percentile displacement of the field, in pixels.

    Returns:
        (224, 224, 2) float32, (x, y) displacement in pixels of the canonical face; zero at the
        border.

    Raises:
        ValueError: `name` is unknown, or `peak_px` is negative.

    Example:
        >>> field = action_unit("AU12", peak_px=2.0)
        >>> field.shape
        (224, 224, 2)
    """
    return _scaled(_raw(name, rng), peak_px)


def expression(
    names: Sequence[str], rng: np.random.Generator | None = None, peak_px: float = 1.0
) -> np.ndarray:
    """The field of several action units at once; see `action_unit`.

    With `rng`, the strengths of the units vary too.

    Raises:
        ValueError: A name is unknown, `names` is empty, or `peak_px` is negative.
    """
    if not names:
        raise ValueError("an expression needs at least one action unit")
    total = np.zeros((FACE_SIZE, FACE_SIZE, 2), np.float32)
    for name in names:
        strength = 1.0 if rng is None else rng.uniform(0.6, 1.0)
        total += action_unit(name, rng, strength)
    return _scaled(total, peak_px)


def _scaled(field: np.ndarray, peak_px: float) -> np.ndarray:
    if peak_px < 0:
        raise ValueError(f"a peak must not be negative, got {peak_px}")
    return (field * (peak_px / peak(field))).astype(np.float32)


def _raw(name: str, rng: np.random.Generator | None) -> np.ndarray:
    """The unscaled field (224, 224, 2) of one unit."""
    if name not in UNITS:
        raise ValueError(f"no action unit {name!r}; known are {', '.join(UNITS)}")
    sides = np.ones(2)
    shift, turn, stretch = np.zeros(2), 0.0, 1.0
    if rng is not None:
        sides[rng.integers(2)] = rng.uniform(0.7, 1.0)
        # The same on both sides: anatomy is symmetric.
        shift = rng.normal(0, 2.0, 2)
        turn = np.radians(rng.normal(0, 6.0))
        stretch = rng.uniform(0.85, 1.15)
    rows, columns = np.mgrid[0:FACE_SIZE, 0:FACE_SIZE].astype(np.float32)
    field = np.zeros((FACE_SIZE, FACE_SIZE, 2), np.float32)
    for pull in UNITS[name]:
        out = pull.out * np.cos(turn) - pull.down * np.sin(turn)
        down = pull.out * np.sin(turn) + pull.down * np.cos(turn)
        middle = pull.x == 0
        for mirror, side in ((1, sides[0]), (-1, sides[1]))[: 1 if middle else 2]:
            # Outwards is right in the image-right half, left in the other.
            x = mirror * (columns - _MIDDLE) - (0 if middle else pull.x + shift[0])
            weight = side * _bump(x, rows - pull.y - shift[1], pull.reach, stretch)
            field[..., 0] += (0 if middle else mirror * out) * weight
            field[..., 1] += down * weight
    edge = np.minimum.reduce([columns, rows, FACE_SIZE - 1 - columns, FACE_SIZE - 1 - rows])
    return field * np.clip(edge / _FADE_PX, 0, 1)[..., None]


def _bump(
    x: np.ndarray, y: np.ndarray, reach: tuple[float, float, float, float], stretch: float
) -> np.ndarray:
    """A Gaussian with a different width on each of its four sides, and a continuous slope."""
    inwards, outwards, upwards, downwards = (stretch * r for r in reach)
    a = x / np.where(x < 0, inwards, outwards)
    b = y / np.where(y < 0, upwards, downwards)
    return np.exp(-(a * a) - b * b)
