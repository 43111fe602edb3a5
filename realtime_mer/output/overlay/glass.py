"""The glass: a small face in three parts, each of which fills while it can be read."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from realtime_mer.output.overlay.paint import BACKGROUND, DIM, GREEN, SHIFT, Colour, fixed

# Sizes in units.
WIDTH, HEIGHT = 29.0, 40.0
_EDGE = 2.0
_BAND = 12.0  # height of a part
# Lines (x, y) in a part, from its upper left corner: brows, nose and mouth.
_GLYPHS: tuple[tuple[tuple[tuple[float, float], ...], ...], ...] = (
    (((3.5, 7), (6, 4.5), (10, 4.8)), ((15, 4.8), (19, 4.5), (21.5, 7))),
    (((13, 2.2), (10.3, 8.2), (14.3, 8.2)),),
    (((6.5, 3.8), (9, 6.3), (12.5, 7.3), (16, 6.3), (18.5, 3.8)),),
)


@functools.lru_cache(maxsize=32)
def glass_image(readable: tuple[bool, bool, bool], unit: float) -> np.ndarray:
    """The glass, (`HEIGHT`, `WIDTH`, 3) units, uint8; read-only.

    Args:
        readable: Whether each of `results.PARTS` can be read.
        unit: Pixels per unit.
    """
    image = np.full((round(HEIGHT * unit), round(WIDTH * unit), 3), BACKGROUND, np.uint8)
    left, right = round(_EDGE * unit), image.shape[1] - round(_EDGE * unit)
    for k, (is_full, glyph) in enumerate(zip(readable, _GLYPHS, strict=True)):
        at = _EDGE + k * _BAND
        top, bottom = round(at * unit), round((at + _BAND) * unit) - max(1, round(unit))
        ink: Colour
        if is_full:
            image[top:bottom, left:right], ink = GREEN, BACKGROUND
        else:
            cv2.rectangle(image, (left, top), (right - 1, bottom - 1), DIM, max(1, round(unit)))
            ink = DIM
        for line in glyph:
            points = fixed((np.array(line) + (_EDGE, at)) * unit)
            thick = max(1, round(1.6 * unit))
            cv2.polylines(image, [points], False, ink, thick, cv2.LINE_AA, SHIFT)
    image.setflags(write=False)
    return image
