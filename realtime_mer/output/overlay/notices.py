"""Messages that only the window shows; recorded videos do not have them.

They are in the panel or, without one, at the right side of the video.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from realtime_mer.output.overlay.heat import HOTTEST_PX, paint_ramp
from realtime_mer.output.overlay.layout import Box
from realtime_mer.output.overlay.paint import (
    BACKGROUND,
    BRIGHT,
    CARD,
    CARD_NEW,
    DIM,
    GREEN,
    GRID,
    RED,
    SHIFT,
    YELLOW,
    Colour,
    put_text,
    shortened,
    text_width,
)
from realtime_mer.output.overlay.scene import Scene
from realtime_mer.output.overlay.status import name_box

_OUTLINES: tuple[tuple[Colour, str], ...] = (
    (GREEN, "followed"),
    (YELLOW, "a motion is under way"),
    (DIM, "blink, speech or head motion"),
)


class Toast:
    """A short message at the lower end of the panel."""

    def __init__(self, text: str) -> None:
        self.text = text

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        unit, panel = scene.layout.unit, scene.layout.panel
        height = round(28 * unit)
        box = Box(panel.x, panel.y + panel.height - height, panel.width, height)
        image = box.of(canvas)
        image[:] = CARD_NEW
        image[:, : round(4 * unit)] = YELLOW
        room = image.shape[1] - round(24 * unit)
        text = shortened(self.text, room, round(13 * unit), 600)
        put_text(image, text, 12 * unit, 18.5 * unit, 13 * unit, BRIGHT, 600)


class RecordingMark:
    """A red dot, "REC" and the time since the recording began, in place of the source's name."""

    def __init__(self, elapsed_s: float) -> None:
        self.elapsed_s = elapsed_s

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        unit, box = scene.layout.unit, name_box(scene)
        image = box.of(canvas)
        image[:] = BACKGROUND
        one = 1 << SHIFT
        centre = round(6 * unit * one), round(9 * unit * one)
        cv2.circle(image, centre, round(5.5 * unit * one), RED, -1, cv2.LINE_AA, SHIFT)
        minutes, seconds = divmod(int(self.elapsed_s), 60)
        text = f"REC {minutes}:{seconds:02d}"
        put_text(image, text, 17 * unit, 14 * unit, 14 * unit, BRIGHT, 700)


class HelpCard:
    """What every key does, and what the colours of a face's outline mean."""

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        """
        Args:
            keys: Each key as the keyboard shows it, and what it does.
        """
        self.keys = tuple(keys)

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        unit, layout = scene.layout.unit, scene.layout
        row, title = 22 * unit, 26 * unit
        rows = len(self.keys) + len(_OUTLINES) + 1
        # Cover the panel down to its end: a half-covered event card would look broken.
        needed = round(2 * title + rows * row + 8 * unit)
        top = min(layout.tracking.y, max(0, layout.panel.height - needed))
        box = Box(layout.panel.x, top, layout.panel.width, layout.panel.height - top)
        image = box.of(canvas)
        image[:] = CARD
        image[: round(2 * unit)] = YELLOW
        x, end = 12 * unit, image.shape[1] - 12 * unit
        put_text(image, "keys", x, 19 * unit, 14 * unit, BRIGHT, 700)
        y = title
        for key, what in self.keys:
            width = max(26 * unit, text_width(key, round(12 * unit), 700) + 12 * unit)
            image[round(y + 2 * unit) : round(y + 20 * unit), round(x) : round(x + width)] = GRID
            middle = x + (width - text_width(key, round(12 * unit), 700)) / 2
            put_text(image, key, middle, y + 15 * unit, 12 * unit, BRIGHT, 700)
            left = x + 66 * unit
            what = shortened(what, round(end - left), round(12 * unit), 400)
            put_text(image, what, left, y + 15 * unit, 12 * unit, BRIGHT)
            y += row
        put_text(image, "on the face", x, y + 18 * unit, 14 * unit, BRIGHT, 700)
        y += title
        for colour, what in _OUTLINES:
            middle = round(y + 11 * unit)
            thick = max(1, round(2.5 * unit))
            image[middle : middle + thick, round(x) : round(x + 40 * unit)] = colour
            put_text(image, what, x + 52 * unit, y + 15 * unit, 12 * unit, BRIGHT)
            y += row
        top, bottom = round(y + 6 * unit), round(y + 15 * unit)
        paint_ramp(image[top:bottom, round(x) : round(x + 40 * unit)])
        what = f"motion in the last 0.2 s, to {HOTTEST_PX:g} px"
        put_text(image, what, x + 52 * unit, y + 15 * unit, 12 * unit, BRIGHT)
