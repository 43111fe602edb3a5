"""The state of the session: source, figures, tracking, alerts, weights."""

from __future__ import annotations

import math

import cv2
import numpy as np

from realtime_mer.output.clock import clock
from realtime_mer.output.overlay.layout import LEGEND, Box, Layout
from realtime_mer.output.overlay.paint import (
    BACKGROUND,
    BRIGHT,
    DIM,
    GREEN,
    GRID,
    SHIFT,
    TEXT_PERIOD_S,
    YELLOW,
    Tile,
    fixed,
    paint_steps,
    put_text,
    shortened,
    steps_of,
    text_width,
)
from realtime_mer.output.overlay.scene import Scene


class Status:
    """Source, time, frame rates, latency, drops and sensitivity."""

    def __init__(self) -> None:
        self._tile = Tile()
        self._text: tuple[str, ...] = ()
        self._taken_s = -math.inf

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        if abs(scene.now_s - self._taken_s) >= TEXT_PERIOD_S:
            self._taken_s = scene.now_s
            analysis = scene.analysis
            sensitivity = analysis.sensitivity
            self._text = (
                clock(scene.now_s)[:-2],
                f"{analysis.fps:.0f}",
                f"/ {analysis.source_fps:.0f}" if analysis.source_fps > 0 else "",
                "–" if analysis.is_away else f"{1000 * analysis.latency_s:.0f}",
                _count(analysis.dropped),
                "–" if sensitivity is None else f"{sensitivity:.{1 if sensitivity < 1 else 2}g}",
            )
        self._tile.draw(
            canvas,
            scene.layout.status,
            (self._text, scene.analysis.is_away),
            lambda image: self._paint(image, scene),
        )

    def _paint(self, image: np.ndarray, scene: Scene) -> None:
        unit = scene.layout.unit
        time, fps, source_fps, latency, dropped, sensitivity = self._text
        live = scene.session.live
        away = scene.analysis.is_away
        name_left, name_right = _name_ends(scene, time)
        badge_end = round(name_left - 8 * unit)
        image[: round(18 * unit), :badge_end] = GREEN if live and not away else GRID
        put_text(image, _badge(scene), 5 * unit, 13.2 * unit, 11 * unit, BRIGHT, 700)
        end = image.shape[1]
        put_text(image, time, end, 14 * unit, 14 * unit, BRIGHT, 600, right=True)
        name = scene.session.source if live else scene.session.source.rsplit("/", 1)[-1]
        name = shortened(
            name or scene.session.source, name_right - name_left, round(12 * unit), 400
        )
        put_text(image, name, name_left, 13.4 * unit, 12 * unit, DIM)
        for x, figure, small, what in (
            (0, fps, source_fps, "fps / source" if source_fps else "fps"),
            (72, latency, "", "ms latency"),
            (138, dropped, "", "dropped"),
        ):
            warn = what == "dropped" and figure != "0"
            colour = YELLOW if warn else BRIGHT
            used = put_text(image, figure, x * unit, 38 * unit, 18 * unit, colour, 600)
            put_text(image, small, x * unit + used + 3 * unit, 38 * unit, 12 * unit, DIM)
            put_text(image, what, x * unit, 50 * unit, 11 * unit, DIM)
        # To the right, so that many dropped frames have room.
        put_text(image, sensitivity, end, 38 * unit, 18 * unit, BRIGHT, 600, right=True)
        put_text(image, "false/min", end, 50 * unit, 11 * unit, DIM, right=True)


def name_box(scene: Scene) -> Box:
    """The place of the source's name, between the badge and the time."""
    left, right = _name_ends(scene, clock(scene.now_s)[:-2])
    status = scene.layout.status
    return Box(status.x + left, status.y, right - left, round(18 * scene.layout.unit))


def _badge(scene: Scene) -> str:
    return "AWAY" if scene.analysis.is_away else "LIVE" if scene.session.live else "FILE"


def _name_ends(scene: Scene, time: str) -> tuple[int, int]:
    """Where the source's name may begin and end in the status' box, pixels."""
    unit = scene.layout.unit
    badge_width = text_width(_badge(scene), round(11 * unit), 700) + round(10 * unit)
    time_width = text_width(time, round(14 * unit), 600)
    end = scene.layout.status.width - time_width - round(8 * unit)
    return badge_width + round(8 * unit), end


def _count(number: int) -> str:
    if number < 10_000:
        return str(number)
    return f"{number / 1e3:.0f}k" if number < 999_500 else f"{number / 1e6:.1f}M"


_WORDS = ("bad", "poor", "fair", "good", "good")


class Tracking:
    """The quality of the main face's tracking, as bars and a word."""

    def __init__(self) -> None:
        self._tile = Tile()
        self._quality: tuple[int, int | None] = (0, None)
        self._taken_s = -math.inf

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        main = scene.main_face
        # A face that comes or goes shows at once; the quality changes at the pace of reading.
        seen = None if main is None else main.face
        waited = abs(scene.now_s - self._taken_s) >= TEXT_PERIOD_S
        if waited or seen != self._quality[1]:
            self._taken_s = scene.now_s
            self._quality = (0 if main is None else steps_of(main.quality), seen)
        unit, whole = scene.layout.unit, scene.layout.tracking
        box = Box(whole.x, whole.y, whole.width - round(LEGEND * unit), whole.height)
        steps, _ = self._quality
        several = len(scene.analysis.faces) > 1
        name = f"face {seen}" if several else "tracking"
        self._tile.draw(
            canvas, box, (steps, name), lambda image: self._paint(image, unit, steps, name)
        )

    @staticmethod
    def _paint(image: np.ndarray, unit: float, steps: int, name: str) -> None:
        if not steps:
            put_text(image, "no face in view", 0, 13 * unit, 13 * unit, YELLOW, 700)
            return
        used = put_text(image, name, 0, 13 * unit, 12 * unit, DIM, 600)
        x = paint_steps(image, used + 7 * unit, 14 * unit, unit, steps)
        colour = BRIGHT if steps > 2 else YELLOW
        put_text(image, _WORDS[steps - 1], x + 6 * unit, 13 * unit, 12 * unit, colour, 600)


_ALERT = 26.0  # units a line
_ALERT_SIZES = (14, 13, 12, 11)  # of its letters, units
_ALERTS_SHOWN = 3


def alerts_height(layout: Layout, alerts: int) -> int:
    """Height of the alerts in pixels, at the lower end of the events' box."""
    return round(min(alerts, _ALERTS_SHOWN) * _ALERT * layout.unit)


class Alerts:
    """What is wrong with the source, in large letters, and a frame around the video.

    Draw it after the events: it covers the lower end of their box.
    """

    def __init__(self) -> None:
        self._tile = Tile()

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        alerts, layout = scene.analysis.alerts, scene.layout
        if not alerts:
            return
        unit = layout.unit
        height = alerts_height(layout, len(alerts))
        events = layout.events
        box = Box(events.x, events.y + events.height - height, events.width, height)
        self._tile.draw(canvas, box, alerts, lambda image: self._paint(image, unit, alerts))
        video = layout.video.of(canvas)
        thick = max(2, round(3 * unit))
        video[:thick] = video[-thick:] = YELLOW
        video[:, :thick] = video[:, -thick:] = YELLOW

    @staticmethod
    def _paint(image: np.ndarray, unit: float, alerts: tuple[str, ...]) -> None:
        shown = list(alerts[:_ALERTS_SHOWN])
        if len(alerts) > _ALERTS_SHOWN:
            shown[-1] = f"and {len(alerts) - _ALERTS_SHOWN + 1} more"
        for k, text in enumerate(shown):
            top = round(_ALERT * k * unit)
            line = image[top + round(3 * unit) : top + round(_ALERT * unit)]
            line[:] = YELLOW
            _warning_sign(line, unit)
            room = line.shape[1] - round(38 * unit)
            # Whole in smaller letters rather than without its middle.
            size = next(
                (s for s in _ALERT_SIZES if text_width(text, round(s * unit), 700) <= room),
                _ALERT_SIZES[-1],
            )
            short = shortened(text, room, round(size * unit), 700)
            put_text(line, short, 31 * unit, 16.5 * unit, size * unit, BACKGROUND, 700)


def _warning_sign(line: np.ndarray, unit: float) -> None:
    corners = fixed(np.array([[15.0, 3.0], [24.5, 19.5], [5.5, 19.5]]) * unit)
    cv2.fillConvexPoly(line, corners, BACKGROUND, cv2.LINE_AA, SHIFT)
    stroke, dot = ((15.0, 9.0), (15.0, 14.0)), (15.0, 17.2)
    thick = max(1, round(1.8 * unit))
    start, end = (tuple(map(int, fixed(np.array(p) * unit))) for p in stroke)
    cv2.line(line, start, end, YELLOW, thick, cv2.LINE_AA, SHIFT)
    centre = tuple(map(int, fixed(np.array(dot) * unit)))
    cv2.circle(line, centre, round(1.1 * unit * (1 << SHIFT)), YELLOW, -1, cv2.LINE_AA, SHIFT)


class Footer:
    """The classifier's weights, and where they run."""

    def __init__(self) -> None:
        self._tile = Tile()

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        unit = scene.layout.unit
        box = scene.layout.footer
        text = f"{scene.session.model} on {scene.session.provider}"

        def paint(image: np.ndarray) -> None:
            short = shortened(text, image.shape[1], round(11 * unit), 400)
            put_text(image, short, 0, 14 * unit, 11 * unit, DIM)

        self._tile.draw(canvas, box, text, paint)
