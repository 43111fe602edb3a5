"""The spotter's score over time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from realtime_mer.output.overlay.layout import Box
from realtime_mer.output.overlay.paint import (
    BRIGHT,
    CARD,
    DIM,
    SHIFT,
    SKY,
    TEXT_PERIOD_S,
    YELLOW,
    Colour,
    Tile,
    fixed,
    put_text,
    shortened,
)
from realtime_mer.output.overlay.scene import CURVE_S, Scene
from realtime_mer.results import Interval


class ScoreCurve:
    """The spotter's score over the last seconds, with the threshold and the windows.

    The threshold is at half height. Above it the height is 1 - 1 / (2 score), so that strong
    motions stay in the picture. Brackets mark a window's onset and offset, a triangle its apex:
    grey when over, yellow while under way, in the label's colour once it is an event.
    """

    def __init__(self) -> None:
        self._frame = Tile()
        self._note = Tile()

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        unit = scene.layout.unit
        box = scene.layout.curve
        # Text changes at the pace of reading, the curve with every frame.
        main = scene.main_face
        words = ", ".join(main.nuisances) if main else "no face"
        score = main.score if main else math.nan
        moment = int(scene.now_s / TEXT_PERIOD_S)
        head = Box(box.x, box.y, box.width, round(18 * unit))
        foot = Box(box.x, box.y + box.height - round(16 * unit), box.width, round(16 * unit))
        plot = Box(box.x, head.y + head.height, box.width, foot.y - head.y - head.height)
        self._frame.draw(
            canvas,
            head,
            (moment, score >= 1),
            lambda image: self._paint_head(image, unit, score),
        )
        self._note.draw(canvas, foot, words, lambda image: self._paint_foot(image, unit, words))
        self._plot(plot.of(canvas), scene, unit)

    @staticmethod
    def _paint_head(image: np.ndarray, unit: float, score: float) -> None:
        put_text(image, "motion score", 0, 12 * unit, 12 * unit, DIM, 600)
        text = f"{score:.2f}" if math.isfinite(score) else "–"
        colour = YELLOW if score >= 1 else BRIGHT
        put_text(image, text, image.shape[1], 12.5 * unit, 14 * unit, colour, 600, right=True)

    @staticmethod
    def _paint_foot(image: np.ndarray, unit: float, words: str) -> None:
        used = put_text(image, f"{CURVE_S:g} s, ", 0, 12 * unit, 11 * unit, DIM)
        used += put_text(image, "- - threshold", used + 2 * unit, 12 * unit, 11 * unit, YELLOW)
        if words:
            room = image.shape[1] - used - round(12 * unit)
            words = shortened(words, room, round(11 * unit), 600)
            put_text(image, words, image.shape[1], 12 * unit, 11 * unit, YELLOW, 600, right=True)

    def _plot(self, image: np.ndarray, scene: Scene, unit: float) -> None:
        image[:] = CARD
        height, width = image.shape[:2]
        main = scene.main_face
        if main is not None and main.window is not None:
            colour = YELLOW if scene.is_under_way(main) else DIM
            self._window(image, scene.now_s, main.window, colour, unit)
        for event in scene.events:
            if event.interval.offset_s > scene.now_s - CURVE_S:
                self._window(image, scene.now_s, event.interval, scene.colour(event.label), unit)
        dash, thick = round(6 * unit), max(1, round(unit))
        for x in range(0, width, 2 * dash):
            image[height // 2 : height // 2 + thick, x : x + dash] = YELLOW
        for face, trace in scene.scores.items():
            is_main = main is None or face == main.face
            self._trace(image, scene.now_s, trace, SKY if is_main else DIM, unit, is_main)

    @staticmethod
    def _window(
        image: np.ndarray, now_s: float, window: Interval, colour: Colour, unit: float
    ) -> None:
        """Onset and offset as brackets, the apex as a line under a triangle."""
        width = image.shape[1]

        def x_of(time_s: float) -> int:
            return round((time_s - now_s + CURVE_S) / CURVE_S * (width - 1))

        onset, apex, offset = (x_of(t) for t in (window.onset_s, window.apex_s, window.offset_s))
        left, right = max(0, onset), min(width, offset + 1)
        if right <= left:
            return
        view = image[:, left:right]
        cv2.addWeighted(view, 0.7, np.full_like(view, colour), 0.3, 0, dst=view)
        thick, tip = max(1, round(unit)), round(5 * unit)
        hook = min(round(3 * unit), max(1, (right - left) // 3))
        if 0 <= onset < width:
            image[:, onset : onset + thick] = colour
            image[-2 * thick :, onset : onset + hook] = colour
        if 0 < offset < width:
            image[:, max(0, offset + 1 - thick) : offset + 1] = colour
            image[-2 * thick :, max(0, offset + 1 - hook) : offset + 1] = colour
        if 0 <= apex < width:
            image[:, max(0, apex - thick // 2) : apex - thick // 2 + thick] = colour
            triangle = np.array([[apex - tip, 0], [apex + tip, 0], [apex, tip]], np.int32)
            cv2.fillConvexPoly(image, triangle, colour, cv2.LINE_AA)

    @staticmethod
    def _trace(
        image: np.ndarray,
        now_s: float,
        trace: Sequence[tuple[float, float]],
        colour: Colour,
        unit: float,
        strong: bool,
    ) -> None:
        height, width = image.shape[:2]
        times, scores = np.array(trace, np.float64).T
        scores = np.maximum(scores, 0)
        level = np.where(scores <= 1, scores / 2, 1 - 0.5 / np.maximum(scores, 1))
        x = (times - now_s + CURVE_S) / CURVE_S * (width - 1)
        y = (1 - level) * (height - 1)
        # No line where the face was lost or the score was not known.
        known = np.isfinite(y)
        hole = ~known[1:] | ~known[:-1] | (np.diff(times) > 0.5)
        thick = max(1, round((1.6 if strong else 1) * unit))
        for run in np.split(np.arange(len(x)), np.flatnonzero(hole) + 1):
            if len(run) < 2 or not known[run[0]]:
                continue
            line = fixed(np.stack([x[run], y[run]], 1))
            cv2.polylines(image, [line], False, colour, thick, cv2.LINE_AA, SHIFT)
