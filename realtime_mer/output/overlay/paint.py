"""Colours, text and cached tiles, with which all elements draw."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable

import cv2
import numpy as np

from realtime_mer.output import label_colours
from realtime_mer.output.overlay.layout import Box

Colour = tuple[int, int, int]


def _bgr(colour: str) -> Colour:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return blue, green, red


# As OpenCV orders channels: blue, green, red.
LABEL_COLOURS = tuple(map(_bgr, label_colours.LABEL_COLOURS))
# Okabe and Ito's palette.
ORANGE, SKY, PURPLE, GREEN, YELLOW = LABEL_COLOURS[:5]
# Only for the mark of a recording, where everybody expects it, and beside the word.
RED = (60, 60, 235)

BACKGROUND = (30, 26, 24)
CARD = (48, 42, 38)
CARD_NEW = (66, 56, 50)
GRID = (84, 76, 70)
DIM = (178, 168, 160)
BRIGHT = (242, 240, 238)

# Chosen by judgement: text that changes faster cannot be read.
TEXT_PERIOD_S = 0.25

SHIFT = 3  # OpenCV draws at positions of 1/8 pixel: 3 binary digits


def fixed(points: np.ndarray) -> np.ndarray:
    """Converts positions (..., 2) in pixels to the integers that OpenCV takes with `SHIFT`."""
    return np.rint(np.asarray(points, np.float64) * (1 << SHIFT)).astype(np.int32)


@functools.cache
def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")


@functools.lru_cache(maxsize=1024)
def text_width(text: str, size: int, weight: int) -> int:
    """Returns the width of a line of text in pixels."""
    x, _, width, _ = cv2.getTextSize((1 << 14, 1 << 10), text, (0, 0), _font(), size, weight)
    return x + width


@functools.lru_cache(maxsize=256)
def shortened(text: str, width: int, size: int, weight: int) -> str:
    """Returns the text, without its middle if it would be wider than `width` pixels."""
    if text_width(text, size, weight) <= width:
        return text
    for keep in range(min(len(text) - 1, 80), 0, -1):
        short = text[: (keep + 1) // 2] + "…" + text[len(text) - keep // 2 :]
        if text_width(short, size, weight) <= width:
            return short
    return ""


def put_text(
    canvas: np.ndarray,
    text: str,
    x: float,
    baseline: float,
    size: float,
    colour: Colour = BRIGHT,
    weight: int = 400,
    right: bool = False,
) -> int:
    """Writes a line that starts (with `right`: ends) at `x`; returns its width in pixels."""
    pixels = max(8, round(size))
    width = text_width(text, pixels, weight)
    left = round(x) - (width if right else 0)
    # Without limits, OpenCV would wrap the text at the canvas' edge.
    wrap = (-(1 << 20), 1 << 20)
    place = (left, round(baseline))
    cv2.putText(canvas, text, place, colour, _font(), pixels, weight, cv2.PUT_TEXT_ALIGN_LEFT, wrap)
    return width


class Tile:
    """A part of the panel that is cached until its content changes."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._image: np.ndarray | None = None

    def draw(
        self, canvas: np.ndarray, box: Box, key: Hashable, paint: Callable[[np.ndarray], None]
    ) -> None:
        """Draws the tile into a box of the canvas.

        Args:
            canvas: The whole picture.
            box: Where the tile goes.
            key: Identifies the content; the tile is painted again if it differs from the last one.
            paint: Paints the content into an image of the box's size.
        """
        if self._image is None or key != self._key:
            self._image = np.full((box.height, box.width, 3), BACKGROUND, np.uint8)
            paint(self._image)
            self._key = key
        box.of(canvas)[:] = self._image


STEPS = 5


def steps_of(quality: float) -> int:
    """The number of bars, 1 to `STEPS`, for a quality of 0 to 1; 1 for NaN."""
    return min(STEPS, max(1, round(quality * STEPS))) if quality == quality else 1


def paint_steps(image: np.ndarray, x: float, bottom: float, unit: float, steps: int) -> float:
    """Draws rising bars, like a phone's for its reception; returns their right end, pixels."""
    colour = (ORANGE, ORANGE, YELLOW, GREEN, GREEN)[steps - 1]
    for k in range(STEPS):
        left, top = round(x + 6 * k * unit), round(bottom - (4 + 2 * k) * unit)
        right = max(left + 1, round(x + (6 * k + 4) * unit))
        image[top : round(bottom), left:right] = colour if k < steps else GRID
    return x + (6 * STEPS - 2) * unit
