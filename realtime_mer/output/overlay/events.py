"""The last events."""

from __future__ import annotations

import math

import cv2
import numpy as np

from realtime_mer.face.registration import FACE_SIZE
from realtime_mer.output.clock import clock
from realtime_mer.output.overlay.paint import (
    BRIGHT,
    CARD,
    CARD_NEW,
    DIM,
    GRID,
    SHIFT,
    Colour,
    Tile,
    fixed,
    put_text,
    shortened,
)
from realtime_mer.output.overlay.scene import Scene
from realtime_mer.output.overlay.status import alerts_height
from realtime_mer.output.size import size_of
from realtime_mer.results import EventPicture, MicroExpression

# Arrows are this many times as long as the motion, 1 to 3 px: at true length they would be dots.
_ARROW_GAIN = 22.0
_ARROWS = 7  # along each side
# Shorter motions are noise: no arrow.
_ARROW_FROM_PX = 0.4
# Ellipse of the face in the canonical face (centre x, y, half axes x, y, pixels): outside it, hair
# and background move.
_FACE = (FACE_SIZE / 2 + 4, 118.0, 88.0, 112.0)


class EventCards:
    """The last events, newest first: label, confidence, time, length, motion, probabilities.

    The newest one also shows the face at onset and apex, with arrows for the motion between them.
    """

    def __init__(self) -> None:
        self._tile = Tile()

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        box = scene.layout.events
        fresh = tuple(scene.is_fresh(e) for e in scene.events)
        alerts = len(scene.analysis.alerts)
        several = len(scene.analysis.faces) > 1
        key = (scene.event_count, fresh, alerts, several, scene.view.mirrored)
        self._tile.draw(canvas, box, key, lambda image: self._paint(image, scene, alerts))

    def _paint(self, image: np.ndarray, scene: Scene, alerts: int) -> None:
        unit = scene.layout.unit
        put_text(image, "events", 0, 12 * unit, 12 * unit, DIM, 600)
        count = str(scene.event_count)
        put_text(image, count, image.shape[1], 12.5 * unit, 14 * unit, BRIGHT, 600, right=True)
        if not scene.events:
            put_text(image, "none so far", 0, 34 * unit, 12 * unit, DIM)
        top, gap = 18 * unit, 6 * unit
        room = image.shape[0] - alerts_height(scene.layout, alerts)
        for k, event in enumerate(reversed(scene.events)):
            paint = self._painter(event, k == 0, room - top, scene)
            height = paint.height(scene) * unit
            if top + height > room:
                break
            card = image[round(top) : round(top + height)]
            card[:] = CARD_NEW if scene.is_fresh(event) else CARD
            card[:, : max(1, round(4 * unit))] = scene.colour(event.label)
            paint(card, scene, event)
            top += height + gap

    def _painter(
        self, event: MicroExpression, newest: bool, room: float, scene: Scene
    ) -> _CompactCard | _PicturedCard:
        pictured = _PicturedCard()
        if newest and event.picture and pictured.height(scene) * scene.layout.unit <= room:
            return pictured
        return _CompactCard()


class _CompactCard:
    """Figures to the left, probabilities to the right."""

    @staticmethod
    def height(scene: Scene) -> float:
        return max(3, len(scene.session.labels)) * 15 + 10

    def __call__(self, card: np.ndarray, scene: Scene, event: MicroExpression) -> None:
        unit = scene.layout.unit
        x, middle = 11 * unit, 124 * unit
        _title(card, scene, event, x, middle - 34 * unit)
        when = clock(event.interval.onset_s) + (f"  face {event.face}" if event.face else "")
        put_text(card, when, x, 33 * unit, 12 * unit, BRIGHT)
        put_text(card, _size(event, "   "), x, 48 * unit, 12 * unit, DIM)
        _bars(card, scene, event, middle, 12.5 * unit)


class _PicturedCard:
    """Two small pictures, and the probabilities beside them."""

    @staticmethod
    def height(scene: Scene) -> float:
        return 113

    def __call__(self, card: np.ndarray, scene: Scene, event: MicroExpression) -> None:
        unit = scene.layout.unit
        x, end = 11 * unit, card.shape[1] - 8 * unit
        _head(card, scene, event, x, end)
        start = _pictures(card, scene, event, x, 68) + 8 * unit
        names = scene.session.labels
        step = min(24.0, 69.0 / max(1, len(names)))
        size = min(11.0, step) * unit
        for row, name in enumerate(names):
            y = 24 + step * row
            part = event.probabilities.get(name, 0.0)
            figure = f"{part:.0%}" if math.isfinite(part) else "–"
            used = put_text(card, figure, end, (y + 9) * unit, size, BRIGHT, right=True)
            short = shortened(name, round(end - start - used - 3 * unit), round(size), 400)
            put_text(card, short, start, (y + 9) * unit, size, DIM)
            if step >= 18:
                _bar(card, part, start, end, (y + 16) * unit, scene.colour(name), unit)
        put_text(card, _size(event, "  "), end, 106 * unit, 12 * unit, BRIGHT, right=True)


def _size(event: MicroExpression, between: str) -> str:
    length_ms, motion_px = size_of(event)
    return f"{length_ms} ms{between}{motion_px} px"


def _head(card: np.ndarray, scene: Scene, event: MicroExpression, x: float, end: float) -> None:
    unit = scene.layout.unit
    when = clock(event.interval.onset_s)[:-2]
    if event.face or len(scene.analysis.faces) > 1:
        when = f"face {event.face}  {when}"
    used = put_text(card, when, end, 17 * unit, 12 * unit, BRIGHT, right=True)
    _title(card, scene, event, x, end - used - x - 44 * unit)


def _pictures(card: np.ndarray, scene: Scene, event: MicroExpression, x: float, size: float) -> int:
    """Draws the face at onset and apex, each `size` units wide; returns their right end, pixels."""
    unit, picture = scene.layout.unit, event.picture
    assert picture is not None
    pixels, left, top = round(size * unit), round(x), round(24 * unit)
    apex = left + pixels + round(4 * unit)
    mirrored = scene.view.mirrored
    _crop(card, picture, left, top, pixels, mirrored)
    _crop(card, picture, apex, top, pixels, mirrored, scene.colour(event.label))
    below = (38 + size) * unit
    put_text(card, "onset", left, below, 11 * unit, DIM)
    put_text(card, "apex", apex, below, 11 * unit, DIM)
    return apex + pixels


def _title(card: np.ndarray, scene: Scene, event: MicroExpression, x: float, room: float) -> None:
    unit, colour = scene.layout.unit, scene.colour(event.label)
    label = shortened(event.label, round(room), round(14 * unit), 700)
    width = put_text(card, label, x, 17 * unit, 14 * unit, colour, 700)
    share = f"{event.confidence:.0%}"
    put_text(card, share, x + width + 6 * unit, 17 * unit, 13 * unit, BRIGHT, 500)


def _bars(card: np.ndarray, scene: Scene, event: MicroExpression, x: float, top: float) -> None:
    """A row for each label: its name and its probability as a bar."""
    unit = scene.layout.unit
    start, end = x + 54 * unit, card.shape[1] - 8 * unit
    for row, name in enumerate(scene.session.labels):
        y = top + 15 * row * unit
        short = shortened(name, round(50 * unit), round(11 * unit), 400)
        put_text(card, short, start - 6 * unit, y + 4 * unit, 11 * unit, DIM, right=True)
        _bar(card, event.probabilities.get(name, 0.0), start, end, y, scene.colour(name), unit)


def _bar(
    card: np.ndarray,
    part: float,
    start: float,
    end: float,
    middle: float,
    colour: Colour,
    unit: float,
) -> None:
    top, bottom = round(middle - 3.5 * unit), round(middle + 3.5 * unit)
    card[top:bottom, round(start) : round(end)] = GRID
    if math.isfinite(part):
        filled = start + (end - start) * min(max(part, 0.0), 1.0)
        card[top:bottom, round(start) : max(round(filled), round(start) + 1)] = colour


def _crop(
    card: np.ndarray,
    picture: EventPicture,
    x: int,
    y: int,
    size: int,
    mirrored: bool,
    arrows: Colour | None = None,
) -> None:
    """Draws the face at the onset or, if `arrows` is a colour, at the apex with arrows."""
    grey = picture.onset if arrows is None else picture.apex
    grey = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)
    image = cv2.cvtColor(cv2.flip(grey, 1) if mirrored else grey, cv2.COLOR_GRAY2BGR)
    if arrows is not None:
        _arrows(image, picture.flow, arrows, mirrored)
    card[y : y + size, x : x + size] = image


def arrows(flow: np.ndarray) -> list[np.ndarray]:
    """The motion of an event as arrows that can be seen.

    Args:
        flow: (28, 28, 2) as `EventPicture.flow`.

    Returns:
        Start and end (2, 2) of each arrow, pixels of the canonical face, much enlarged.
    """
    means = cv2.resize(flow, (_ARROWS, _ARROWS), interpolation=cv2.INTER_AREA)
    centre_x, centre_y, half_x, half_y = _FACE
    cell = FACE_SIZE / _ARROWS
    found = []
    for row, column in np.ndindex(_ARROWS, _ARROWS):
        place = np.array([(column + 0.5) * cell, (row + 0.5) * cell])
        inside = (place - (centre_x, centre_y)) / (half_x, half_y)
        move = means[row, column].astype(np.float64)
        length = float(np.hypot(*move))
        if not length >= _ARROW_FROM_PX or inside @ inside > 1:
            continue
        move *= min(_ARROW_GAIN, 1.4 * cell / length)
        found.append(np.stack([place - move / 2, place + move / 2]))
    return found


def _arrows(image: np.ndarray, flow: np.ndarray, colour: Colour, mirrored: bool) -> None:
    size = image.shape[0]
    lines = arrows(flow)
    if mirrored:
        for ends in lines:
            ends[:, 0] = FACE_SIZE - ends[:, 0]
    # Darken the face, so that the arrows stand out on any skin.
    cv2.convertScaleAbs(image, image, 0.6)
    thick = max(1, int(size / 70))
    for ends in lines:
        start, end = (tuple(map(int, point)) for point in fixed(ends * (size / FACE_SIZE)))
        cv2.arrowedLine(image, start, end, colour, thick, cv2.LINE_AA, SHIFT, 0.4)
