"""Marks on the faces."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from realtime_mer.face.mesh import BROWS, EYES, LIPS, OVAL
from realtime_mer.output.overlay.glass import glass_image
from realtime_mer.output.overlay.paint import (
    BACKGROUND,
    BRIGHT,
    DIM,
    GREEN,
    SHIFT,
    STEPS,
    YELLOW,
    Colour,
    fixed,
    paint_steps,
    put_text,
    steps_of,
    text_width,
)
from realtime_mer.output.overlay.scene import Scene
from realtime_mer.results import FaceState, MicroExpression

_FEATURES = tuple(list(part) for part in (*EYES, *BROWS, *LIPS))
_OVAL = list(OVAL)

Rectangle = tuple[int, int, int, int]  # left, top, right, bottom


class FaceMarks:
    """Outline, eyes, brows and lips of every face, and for a moment the label of a new event.

    The outline is green while the face is followed, yellow while a motion is under way, thin and
    grey while no part of the face can be read; if that is not known, while something makes motion
    hard to read. A glass beside each face shows which parts can be read.
    """

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        picture = scene.layout.video.of(canvas)
        places = {
            f.face: points for f in scene.analysis.faces if (points := scene.points(f)) is not None
        }
        boxes = {
            face: box
            for face, points in places.items()
            if (box := _rectangle(points, scene, picture)) is not None
        }
        shown = [f for f in scene.analysis.faces if f.face in boxes]
        for face in shown:
            self._draw_face(picture, scene, face, places[face.face], boxes[face.face])
        # Glasses and tags come last, so that they avoid all faces.
        taken = list(boxes.values())
        for face in shown:
            if (readable := scene.readable(face)) is not None:
                glass = glass_image(readable, scene.layout.unit)
                taken.append(_place_beside(picture, glass, boxes[face.face], taken))
        for face in shown:
            image = self._tag(scene, face)
            if image is not None:
                taken.append(_place(picture, image, boxes[face.face], taken, scene.layout.unit))

    def _draw_face(
        self,
        picture: np.ndarray,
        scene: Scene,
        face: FaceState,
        points: np.ndarray,
        box: Rectangle,
    ) -> None:
        unit = scene.layout.unit
        left, top, right, bottom = box
        colour, thick, strength = self._look(scene, face, scene.fresh_event(face.face))
        view = picture[top:bottom, left:right]
        layer = view.copy()
        places = fixed(points - (left, top))
        thin = max(1, round(unit * 0.8))
        features = [places[part] for part in _FEATURES]
        cv2.polylines(layer, features, True, BRIGHT, thin, cv2.LINE_AA, SHIFT)
        thick = max(1, round(thick * unit))
        cv2.polylines(layer, [places[_OVAL]], True, colour, thick, cv2.LINE_AA, SHIFT)
        cv2.addWeighted(layer, strength, view, 1 - strength, 0, dst=view)

    @staticmethod
    def _look(
        scene: Scene, face: FaceState, event: MicroExpression | None
    ) -> tuple[Colour, float, float]:
        if event is not None:
            return scene.colour(event.label), 3, 0.9
        if scene.is_hard_to_read(face):
            return DIM, 1, 0.6
        if scene.is_under_way(face):
            return YELLOW, 2, 0.6
        return GREEN, 1.5, 0.5

    @staticmethod
    def _tag(scene: Scene, face: FaceState) -> np.ndarray | None:
        unit = scene.layout.unit
        event = scene.fresh_event(face.face)
        if event is not None:
            text = f"{event.label}  {event.confidence:.0%}"
            return _tag_image(text, scene.colour(event.label), unit, 0)
        if len(scene.analysis.faces) > 1:
            return _tag_image(f"face {face.face}", DIM, unit, steps_of(face.quality))
        return None


def _rectangle(points: np.ndarray, scene: Scene, picture: np.ndarray) -> Rectangle | None:
    """The part of the picture that a face's marks cover; None if they are outside."""
    pad = 4 * scene.layout.unit
    oval = points[_OVAL]
    end = picture.shape[1::-1]
    left, top = np.clip(oval.min(0) - pad, 0, end).astype(int)
    right, bottom = np.clip(oval.max(0) + pad, 0, end).astype(int)
    if right - left < 2 or bottom - top < 2:
        return None
    return int(left), int(top), int(right), int(bottom)


@functools.lru_cache(maxsize=64)
def _tag_image(text: str, colour: Colour, unit: float, steps: int) -> np.ndarray:
    """A label, followed by the bars of tracking quality if `steps` is not 0."""
    size, bars = 15 * unit, (6 * STEPS + 6) * unit if steps else 0
    width = text_width(text, round(size), 700) + round(16 * unit + bars)
    image = np.full((round(24 * unit), width, 3), BACKGROUND, np.uint8)
    image[-max(1, round(2 * unit)) :] = colour
    used = put_text(image, text, 8 * unit, 16.5 * unit, size, colour, 700)
    if steps:
        paint_steps(image, used + 15 * unit, 17 * unit, unit, steps)
    image.setflags(write=False)
    return image


def _place(
    picture: np.ndarray, image: np.ndarray, face: Rectangle, taken: list[Rectangle], unit: float
) -> Rectangle:
    """Draws a tag above the forehead, below the chin or in a corner, where it hides least."""
    (rows, columns), (height, width) = picture.shape[:2], image.shape[:2]
    left, top, right, bottom = face
    gap = round(5 * unit)
    middle = min(max(0, (left + right - width) // 2), max(0, columns - width))
    end_x, end_y = max(0, columns - width), max(0, rows - height)
    corners = [(0, 0), (end_x, 0), (0, end_y), (end_x, end_y)]
    centre = (left + right) // 2, (top + bottom) // 2
    corners.sort(key=lambda c: abs(c[0] + width // 2 - centre[0]) + abs(c[1] - centre[1]))
    places = [(middle, top - height - gap), (middle, bottom + gap), *corners]
    places = [(x, y) for x, y in places if 0 <= y <= end_y]
    return _put_freest(picture, image, places, taken)


def _place_beside(
    picture: np.ndarray, image: np.ndarray, face: Rectangle, taken: list[Rectangle]
) -> Rectangle:
    """Draws a glass to the right or left of a face, or where it hides least."""
    (rows, columns), (height, width) = picture.shape[:2], image.shape[:2]
    left, top, right, bottom = face
    end_x, end_y = max(0, columns - width), max(0, rows - height)
    middle = min(max(0, (top + bottom - height) // 2), end_y)
    low, high = min(max(0, bottom - height), end_y), min(top, end_y)
    sides = [x for x in (right, left - width) if 0 <= x <= end_x] or [0, end_x]
    places = [(x, y) for y in (middle, low, high) for x in sides]
    return _put_freest(picture, image, places, taken)


def _put_freest(
    picture: np.ndarray,
    image: np.ndarray,
    places: list[tuple[int, int]],
    taken: list[Rectangle],
) -> Rectangle:
    """Draws an image at the first of the places where it covers least of what is taken."""
    height, width = image.shape[:2]
    x, y = min(places, key=lambda p: sum(_shared(p, width, height, box) for box in taken))
    view = picture[y : y + height, x : x + width]
    view[:] = image[: view.shape[0], : view.shape[1]]
    return x, y, x + width, y + height


def _shared(place: tuple[int, int], width: int, height: int, box: Rectangle) -> int:
    """Number of pixels that a tag at `place` would share with a box."""
    across = min(place[0] + width, box[2]) - max(place[0], box[0])
    down = min(place[1] + height, box[3]) - max(place[1], box[1])
    return max(0, across) * max(0, down)
