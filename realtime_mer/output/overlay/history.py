"""The last minute: events, and what could be seen."""

from __future__ import annotations

import cv2
import numpy as np

from realtime_mer.output.label_colours import sign_of
from realtime_mer.output.overlay.paint import (
    BACKGROUND,
    BRIGHT,
    CARD,
    DIM,
    GREEN,
    GRID,
    TEXT_PERIOD_S,
    Colour,
    Tile,
    put_text,
    shortened,
    text_width,
)
from realtime_mer.output.overlay.scene import HARD, HISTORY_S, NO_FACE, Readable, Scene

_TICK_S = 10.0
_BADGE = 13.0  # units
# Of the lines for the parts of the face: height of one with the space below it, and of all.
_LINE = 3.0
_LINES = 3 * _LINE
_READABLE = "can be read"


class History:
    """A strip of 60 s: events as signs in colour, hatched where no face was in view.

    Bright lines stand for marks. What is new is told in place of the title.

    Three lines at the lower edge, for brows, middle and mouth, are green while that part could be
    read. If that is not known, a grey line instead shows where a blink, speech or a turning head
    made motion hard to read.
    """

    def __init__(self) -> None:
        self._tile = Tile()

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        key = int(scene.now_s / TEXT_PERIOD_S), scene.event_count, bool(scene.glasses), scene.news
        self._tile.draw(canvas, scene.layout.history, key, lambda image: self._paint(image, scene))

    @staticmethod
    def _paint(image: np.ndarray, scene: Scene) -> None:
        unit = scene.layout.unit
        is_known = any(span.readable is not None for span in scene.spans)
        if (news := scene.news) is not None:
            text = shortened(news, image.shape[1], round(12 * unit), 600)
            put_text(image, text, 0, 11 * unit, 12 * unit, BRIGHT, 600)
        else:
            put_text(image, "last minute", 0, 11 * unit, 12 * unit, DIM, 600)
            _legend(image, is_known, unit)
        strip = image[round(16 * unit) :]
        strip[:] = CARD
        height, width = strip.shape[:2]

        def x_of(time_s: float) -> int:
            return round((time_s - scene.now_s + HISTORY_S) / HISTORY_S * (width - 1))

        line = max(1, round(unit))
        for k in range(1, round(HISTORY_S / _TICK_S)):
            x = x_of(scene.now_s - k * _TICK_S)
            strip[:, x : x + line] = GRID
        for span in scene.spans:
            left, right = max(0, x_of(span.start_s)), x_of(span.end_s) + 1
            if span.reason == NO_FACE:
                _hatch(strip[:, left:right], left, unit)
            elif span.readable is not None:
                _lines(strip[:, left:right], span.readable, unit)
            elif span.reason == HARD:
                strip[-max(2, round(2.5 * unit)) :, left:right] = DIM
        for marked in scene.marks:
            at = x_of(marked.time_s)
            if 0 <= at < width:
                strip[:, at : at + 2 * line] = BRIGHT
        middle = (height - (_LINES if is_known else 2.5) * unit) / 2
        for event in scene.events:
            at = x_of(event.interval.apex_s)
            if at < 0:
                continue
            colour = scene.colour(event.label)
            strip[:, max(0, at - line // 2) : at - line // 2 + line] = colour
            _badge(strip, sign_of(event.label, scene.session.labels), at, middle, colour, unit)


def _legend(image: np.ndarray, is_known: bool, unit: float) -> None:
    """What the patterns mean, at the right end of the title."""
    x = image.shape[1] - put_text(
        image,
        _READABLE if is_known else HARD,
        image.shape[1],
        11 * unit,
        11 * unit,
        DIM,
        right=True,
    )
    x -= round(14 * unit)
    if is_known:
        _lines(image[: round(11.5 * unit), x : x + round(10 * unit)], (True, True, True), unit)
    else:
        image[round(8 * unit) : round(10.5 * unit), x : x + round(10 * unit)] = DIM
    x -= round(8 * unit)
    x -= put_text(image, NO_FACE, x, 11 * unit, 11 * unit, DIM, right=True) + round(14 * unit)
    _hatch(image[round(3 * unit) : round(11 * unit), x : x + round(10 * unit)], x, unit)


def _hatch(view: np.ndarray, left: int, unit: float) -> None:
    """Fills a span with slanting lines that continue in the next one."""
    rows, columns = np.mgrid[0 : view.shape[0], left : left + view.shape[1]]
    period = max(4, round(5 * unit))
    view[:] = BACKGROUND
    view[(rows + columns) % period < max(1, period // 3)] = GRID


def _lines(view: np.ndarray, readable: Readable, unit: float) -> None:
    """Fills a line at the lower edge for each part that could be read."""
    height = view.shape[0]
    for k, is_full in enumerate(readable):
        if is_full:
            top = round(height - (_LINES - _LINE * k) * unit)
            view[top : top + max(1, round((_LINE - 1) * unit))] = GREEN


def _badge(
    strip: np.ndarray, text: str, at: float, middle: float, colour: Colour, unit: float
) -> None:
    """Draws a sign at a column, or as near as it fits into the strip."""
    half, size = _BADGE * unit / 2, 11 * unit
    width = text_width(text, max(8, round(size)), 700)
    half_width = max(half, width / 2 + unit)
    x = min(max(half_width, at), strip.shape[1] - half_width)
    corners = [round(v) for v in (x - half_width, middle - half, x + half_width, middle + half)]
    left, top, right, bottom = corners
    edge = max(1, round(unit))
    # A dark rim separates badges that overlap.
    cv2.rectangle(strip, (left - edge, top - edge), (right, bottom), BACKGROUND, -1)
    strip[max(0, top) : bottom, max(0, left) : right] = colour
    put_text(strip, text, x - width / 2, middle + 4 * unit, size, BACKGROUND, 700)
