"""The picture that a person looks at: the video with marks on the face, and a panel beside it.

The panel stands outside the video, so that nothing written ever hides a face. Every element is a
small class with one method, `draw(canvas, scene)`; what changes seldom is drawn once and kept.
Colours are those of Okabe and Ito, which any colour vision tells apart, and no meaning is carried
by colour alone.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

from realtime_mer.event import Analysis, FaceState, MicroExpression, Session
from realtime_mer.terminal import clock

Colour = tuple[int, int, int]

# Okabe and Ito's palette, as OpenCV orders channels: blue, green, red.
ORANGE = (0, 159, 230)
SKY = (233, 180, 86)
GREEN = (115, 158, 0)
YELLOW = (66, 228, 240)
PURPLE = (167, 121, 204)

BACKGROUND = (30, 26, 24)
CARD = (48, 42, 38)
CARD_NEW = (66, 56, 50)
GRID = (84, 76, 70)
DIM = (178, 168, 160)
BRIGHT = (242, 240, 238)

LABEL_COLOURS = (ORANGE, SKY, PURPLE, GREEN, YELLOW)

HISTORY_S = 6.0
# An event that has just been reported is marked on the face and in its card for so long.
FRESH_S = 1.5
# Text that changes faster cannot be read.
_TEXT_PERIOD_S = 0.25
_EVENTS_KEPT = 16

# Sizes below are in units: 1 at 640 x 480, and growing with the frame.
_BASE = 480
_PANEL = 264
_MARGIN = 12

# MediaPipe's face mesh.
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
BROWS = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)
LIPS = (
    (
        *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291),
        *(409, 270, 269, 267, 0, 37, 39, 40, 185),
    ),
    (
        *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
        *(415, 310, 311, 312, 13, 82, 81, 80, 191),
    ),
)

_SHIFT = 3  # OpenCV draws with sub-pixel places: 3 binary digits


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the canvas, in pixels."""

    x: int
    y: int
    width: int
    height: int

    def of(self, canvas: np.ndarray) -> np.ndarray:
        return canvas[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands, for one size of frame.

    Attributes:
        unit: Pixels a unit of length; text of 12 units is readable.
        scale: Size of the video in the picture against that of the frame.
    """

    unit: float
    scale: float
    size: tuple[int, int]
    video: Box
    status: Box
    curve: Box
    events: Box
    footer: Box

    @classmethod
    def of(cls, width: int, height: int) -> Layout:
        """Returns the layout for frames of a size. Small frames are shown enlarged."""
        wanted = _BASE / min(0.75 * width, height)
        # A frame like a ribbon must not become a giant.
        scale = min(max(1.0, wanted), max(1.0, 3 * _BASE / max(width, height)))
        # Even sizes, as most video codecs want them.
        video = Box(0, 0, _even(width * scale), _even(height * scale))
        unit = max(1.0, min(0.75 * video.width, video.height) / _BASE)
        rows = max(video.height, _even(_BASE * unit))
        panel = _even(_PANEL * unit)

        def box(top: float, bottom: float) -> Box:
            margin = _MARGIN * unit
            y = round(top * unit)
            return Box(
                round(video.width + margin),
                y,
                round(panel - 2 * margin),
                max(1, round(bottom * unit) - y),
            )

        end = rows / unit
        return cls(
            unit=unit,
            scale=scale,
            size=(video.width + panel, rows),
            video=Box(0, (rows - video.height) // 2, video.width, video.height),
            status=box(10, 78),
            curve=box(84, 228),
            events=box(236, end - 26),
            footer=box(end - 24, end - 4),
        )


def _even(value: float) -> int:
    return 2 * max(1, round(value / 2))


@dataclass(slots=True)
class Scene:
    """What the elements draw from. Its memory is bounded by time and count.

    Attributes:
        scores: For each face seen in the last seconds, (time, score) in order.
        events: Last events, oldest first.
    """

    session: Session
    layout: Layout
    analysis: Analysis
    scores: dict[int, deque[tuple[float, float]]] = field(default_factory=dict)
    events: deque[MicroExpression] = field(default_factory=lambda: deque(maxlen=_EVENTS_KEPT))
    event_count: int = 0

    @property
    def now_s(self) -> float:
        return self.analysis.frame.time_s

    @property
    def main_face(self) -> FaceState | None:
        """The face whose curve stands out: the one that is known longest."""
        return min(self.analysis.faces, key=lambda f: f.face, default=None)

    def colour(self, label: str) -> Colour:
        labels = self.session.labels
        return LABEL_COLOURS[labels.index(label) % len(LABEL_COLOURS)] if label in labels else DIM

    def is_fresh(self, event: MicroExpression) -> bool:
        return self.now_s - event.reported_s < FRESH_S

    def add(self, analysis: Analysis) -> None:
        self.analysis = analysis
        for face in analysis.faces:
            # The cap holds where a source's clock stands still.
            trace = self.scores.setdefault(face.face, deque(maxlen=2048))
            trace.append((self.now_s, float(face.score)))
        for face, trace in list(self.scores.items()):
            while trace and trace[0][0] < self.now_s - HISTORY_S:
                trace.popleft()
            if not trace:
                del self.scores[face]
        self.events.extend(analysis.events)
        self.event_count += len(analysis.events)


class Element(Protocol):
    """One thing that is drawn."""

    def draw(self, canvas: np.ndarray, scene: Scene) -> None: ...


# Text


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
    """Returns the text, its middle left out where it would be wider than `width` pixels."""
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
    """Writes one line that starts, or with `right` ends, at `x`. Returns its width."""
    pixels = max(8, round(size))
    width = text_width(text, pixels, weight)
    left = round(x) - (width if right else 0)
    # OpenCV wraps at the canvas' edge unless it is told that there is none.
    wrap = (-(1 << 20), 1 << 20)
    place = (left, round(baseline))
    cv2.putText(canvas, text, place, colour, _font(), pixels, weight, cv2.PUT_TEXT_ALIGN_LEFT, wrap)
    return width


class _Tile:
    """A part of the panel that is drawn anew only when what it shows has changed."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._image: np.ndarray | None = None

    def draw(
        self, canvas: np.ndarray, box: Box, key: Hashable, paint: Callable[[np.ndarray], None]
    ) -> None:
        if self._image is None or key != self._key:
            self._image = np.full((box.height, box.width, 3), BACKGROUND, np.uint8)
            paint(self._image)
            self._key = key
        box.of(canvas)[:] = self._image


# Elements


class FaceMarks:
    """Outline, eyes, brows and lips of every face; briefly the label of a fresh event.

    The outline tells the state: green while followed, yellow while a motion is under way, thin
    and grey while something keeps the spotter from reporting.
    """

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        picture = scene.layout.video.of(canvas)
        for face in scene.analysis.faces:
            self._draw_face(picture, scene, face)

    def _draw_face(self, picture: np.ndarray, scene: Scene, face: FaceState) -> None:
        unit = scene.layout.unit
        points = face.landmarks[:, :2] * scene.layout.scale
        if not np.isfinite(points).all():
            return
        pad = 4 * unit
        height, width = picture.shape[:2]
        left, top = np.clip(points[list(OVAL)].min(0) - pad, 0, (width, height)).astype(int)
        right, bottom = np.clip(points[list(OVAL)].max(0) + pad, 0, (width, height)).astype(int)
        if right - left < 2 or bottom - top < 2:
            return
        event = next(
            (e for e in reversed(scene.events) if e.face == face.face and scene.is_fresh(e)), None
        )
        colour, thick, strength = self._look(scene, face, event)
        view = picture[top:bottom, left:right]
        layer = view.copy()
        places = np.rint((points - (left, top)) * (1 << _SHIFT)).astype(np.int32)
        features = [places[list(part)] for part in (*EYES, *BROWS, *LIPS)]
        thin = max(1, round(unit * 0.8))
        cv2.polylines(layer, features, True, BRIGHT, thin, cv2.LINE_AA, _SHIFT)
        outline = [places[list(OVAL)]]
        cv2.polylines(
            layer, outline, True, colour, max(1, round(thick * unit)), cv2.LINE_AA, _SHIFT
        )
        cv2.addWeighted(layer, strength, view, 1 - strength, 0, dst=view)
        if event is not None:
            self._tag(
                picture, f"{event.label}  {event.confidence:.0%}", colour, left, right, top, unit
            )
        elif len(scene.analysis.faces) > 1:
            self._tag(picture, f"face {face.face}", DIM, left, right, top, unit)

    @staticmethod
    def _look(
        scene: Scene, face: FaceState, event: MicroExpression | None
    ) -> tuple[Colour, float, float]:
        if event is not None:
            return scene.colour(event.label), 3, 0.9
        if face.nuisances:
            return DIM, 1, 0.4
        if face.window is not None and face.window.offset_s >= scene.now_s - 0.2:
            return YELLOW, 2, 0.6
        return GREEN, 1.5, 0.5

    @staticmethod
    def _tag(
        picture: np.ndarray,
        text: str,
        colour: Colour,
        left: int,
        right: int,
        top: int,
        unit: float,
    ) -> None:
        """Writes above the forehead or, where there is no room, in the corner of the video."""
        size = 15 * unit
        width = text_width(text, round(size), 700) + round(16 * unit)
        height = round(24 * unit)
        if top >= height + 5 * unit:
            x, y = (left + right - width) // 2, round(top - height - 5 * unit)
        else:
            x, y = (0 if left > picture.shape[1] - right else picture.shape[1]), 0
        x = min(max(0, x), max(0, picture.shape[1] - width))
        picture[y : y + height, x : x + width] = BACKGROUND
        picture[y + height - max(1, round(2 * unit)) : y + height, x : x + width] = colour
        put_text(picture, text, x + 8 * unit, y + 16.5 * unit, size, colour, 700)


class Status:
    """Source, time, frame rate, latency and drops."""

    def __init__(self) -> None:
        self._tile = _Tile()
        self._text: tuple[str, ...] = ()
        self._taken_s = -math.inf

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        if abs(scene.now_s - self._taken_s) >= _TEXT_PERIOD_S:
            self._taken_s = scene.now_s
            analysis = scene.analysis
            self._text = (
                clock(scene.now_s)[:-2],
                f"{analysis.fps:.0f}",
                f"{1000 * analysis.latency_s:.0f}",
                str(analysis.dropped),
            )
        self._tile.draw(
            canvas, scene.layout.status, self._text, lambda image: self._paint(image, scene)
        )

    def _paint(self, image: np.ndarray, scene: Scene) -> None:
        unit = scene.layout.unit
        time, *figures = self._text
        live = scene.session.live
        badge = "LIVE" if live else "FILE"
        badge_width = text_width(badge, round(11 * unit), 700) + round(10 * unit)
        image[: round(18 * unit), :badge_width] = GREEN if live else GRID
        put_text(image, badge, 5 * unit, 13.2 * unit, 11 * unit, BRIGHT, 700)
        end = image.shape[1]
        time_width = put_text(image, time, end, 14 * unit, 14 * unit, BRIGHT, 600, right=True)
        room = end - badge_width - time_width - round(16 * unit)
        name = scene.session.source if live else scene.session.source.rsplit("/", 1)[-1]
        name = shortened(name or scene.session.source, room, round(12 * unit), 400)
        put_text(image, name, badge_width + 8 * unit, 13.4 * unit, 12 * unit, DIM)
        units = ("fps", "ms latency", "dropped")
        for figure, what, x in zip(figures, units, (0, 72, 166), strict=True):
            warn = what == "dropped" and figure != "0"
            put_text(image, figure, x * unit, 47 * unit, 21 * unit, YELLOW if warn else BRIGHT, 600)
            put_text(image, what, x * unit, 63 * unit, 11.5 * unit, DIM)


class ScoreCurve:
    """The spotter's score over the last seconds, with the threshold and the windows.

    The threshold lies at half height. Above it the scale shrinks, so that strong motions stay in
    the picture: height 1 - 1 / (2 score).
    """

    def __init__(self) -> None:
        self._frame = _Tile()
        self._note = _Tile()

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        unit = scene.layout.unit
        box = scene.layout.curve
        # Score and nuisances at the pace of reading, the curve at that of the frames.
        main = scene.main_face
        words = ", ".join(main.nuisances) if main else "no face"
        score = main.score if main else math.nan
        moment = int(scene.now_s / _TEXT_PERIOD_S)
        head = Box(box.x, box.y, box.width, round(18 * unit))
        foot = Box(box.x, box.y + box.height - round(18 * unit), box.width, round(18 * unit))
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
        used = put_text(image, f"{HISTORY_S:g} s, ", 0, 13 * unit, 11 * unit, DIM)
        used += put_text(image, "- - threshold", used + 2 * unit, 13 * unit, 11 * unit, YELLOW)
        if words:
            room = image.shape[1] - used - round(12 * unit)
            words = shortened(words, room, round(11 * unit), 600)
            put_text(image, words, image.shape[1], 13 * unit, 11 * unit, YELLOW, 600, right=True)

    def _plot(self, image: np.ndarray, scene: Scene, unit: float) -> None:
        image[:] = CARD
        height, width = image.shape[:2]

        def x_of(time_s: float) -> int:
            return round((time_s - scene.now_s + HISTORY_S) / HISTORY_S * (width - 1))

        def band(onset_s: float, apex_s: float, offset_s: float, colour: Colour) -> None:
            left, right = max(0, x_of(onset_s)), min(width, x_of(offset_s) + 1)
            if right <= left:
                return
            view = image[:, left:right]
            cv2.addWeighted(view, 0.65, np.full_like(view, colour), 0.35, 0, dst=view)
            apex = x_of(apex_s)
            if 0 <= apex < width:
                thick = max(1, round(unit))
                image[:, max(0, apex - thick // 2) : apex - thick // 2 + thick] = colour
                tip = round(5 * unit)
                triangle = np.array([[apex - tip, 0], [apex + tip, 0], [apex, tip]], np.int32)
                cv2.fillConvexPoly(image, triangle, colour, cv2.LINE_AA)

        main = scene.main_face
        if main is not None and main.window is not None:
            window = main.window
            band(window.onset_s, window.apex_s, window.offset_s, GRID)
        for event in scene.events:
            span = event.interval
            band(span.onset_s, span.apex_s, span.offset_s, scene.colour(event.label))
        dash, thick = round(6 * unit), max(1, round(unit))
        for x in range(0, width, 2 * dash):
            image[height // 2 : height // 2 + thick, x : x + dash] = YELLOW
        for face, trace in scene.scores.items():
            is_main = main is None or face == main.face
            self._trace(image, scene.now_s, trace, SKY if is_main else DIM, unit, is_main)

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
        x = (times - now_s + HISTORY_S) / HISTORY_S * (width - 1)
        y = (1 - level) * (height - 1)
        # A face that was lost, or a score that is not known yet, leaves a hole.
        known = np.isfinite(y)
        hole = ~known[1:] | ~known[:-1] | (np.diff(times) > 0.5)
        for run in np.split(np.arange(len(x)), np.flatnonzero(hole) + 1):
            if len(run) < 2 or not known[run[0]]:
                continue
            line = np.rint(np.stack([x[run], y[run]], 1) * (1 << _SHIFT)).astype(np.int32)
            thick = max(1, round((1.6 if strong else 1) * unit))
            cv2.polylines(image, [line], False, colour, thick, cv2.LINE_AA, _SHIFT)


class EventCards:
    """The last events, newest first: label, confidence, time, length, strength, probabilities."""

    def __init__(self) -> None:
        self._tile = _Tile()

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        fresh = tuple(scene.is_fresh(e) for e in scene.events)
        key = (scene.event_count, fresh)
        self._tile.draw(canvas, scene.layout.events, key, lambda image: self._paint(image, scene))

    def _paint(self, image: np.ndarray, scene: Scene) -> None:
        unit = scene.layout.unit
        put_text(image, "events", 0, 12 * unit, 12 * unit, DIM, 600)
        count = str(scene.event_count)
        put_text(image, count, image.shape[1], 12.5 * unit, 14 * unit, BRIGHT, 600, right=True)
        top, gap = 18 * unit, 6 * unit
        names = list(scene.session.labels)
        height = (max(3, len(names)) * 15 + 10) * unit
        for event in reversed(scene.events):
            if round(top + height) > image.shape[0]:
                break
            card = image[round(top) : round(top + height)]
            self._paint_card(card, scene, event, names, unit)
            top += height + gap
        if not scene.events:
            put_text(image, "none so far", 0, 34 * unit, 12 * unit, DIM)

    @staticmethod
    def _paint_card(
        card: np.ndarray, scene: Scene, event: MicroExpression, names: list[str], unit: float
    ) -> None:
        card[:] = CARD_NEW if scene.is_fresh(event) else CARD
        colour = scene.colour(event.label)
        card[:, : max(1, round(4 * unit))] = colour
        x, interval = 11 * unit, event.interval
        middle = 124 * unit
        label = shortened(event.label, round(middle - x - 34 * unit), round(14 * unit), 700)
        width = put_text(card, label, x, 17 * unit, 14 * unit, colour, 700)
        put_text(
            card, f"{event.confidence:.0%}", x + width + 6 * unit, 17 * unit, 13 * unit, BRIGHT, 500
        )
        when = clock(interval.onset_s) + (f"  face {event.face}" if event.face else "")
        put_text(card, when, x, 33 * unit, 12 * unit, BRIGHT)
        size = f"{1000 * interval.length_s:.0f} ms   {event.intensity_px:.1f} px"
        put_text(card, size, x, 48 * unit, 12 * unit, DIM)
        start, end = middle + 54 * unit, card.shape[1] - 8 * unit
        for row, name in enumerate(names):
            probability = event.probabilities.get(name, 0.0)
            if not math.isfinite(probability):
                continue
            middle_y = (12.5 + 15 * row) * unit
            short = shortened(name, round(50 * unit), round(11 * unit), 400)
            put_text(card, short, start - 6 * unit, middle_y + 4 * unit, 11 * unit, DIM, right=True)
            top, bottom = round(middle_y - 3.5 * unit), round(middle_y + 3.5 * unit)
            card[top:bottom, round(start) : round(end)] = GRID
            filled = start + (end - start) * min(max(probability, 0.0), 1.0)
            card[top:bottom, round(start) : max(round(filled), round(start) + 1)] = scene.colour(
                name
            )


class Footer:
    """Which weights run where."""

    def __init__(self) -> None:
        self._tile = _Tile()

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        unit = scene.layout.unit
        box = scene.layout.footer
        text = f"{scene.session.model} on {scene.session.provider}"

        def paint(image: np.ndarray) -> None:
            short = shortened(text, image.shape[1], round(11 * unit), 400)
            put_text(image, short, 0, 14 * unit, 11 * unit, DIM)

        self._tile.draw(canvas, box, text, paint)


def default_elements() -> list[Element]:
    return [FaceMarks(), Status(), ScoreCurve(), EventCards(), Footer()]


class Overlay:
    """Makes the annotated picture. Shared by everything that shows or records it.

    Give it every analysis by `update`, so that curve and events are complete; ask for a picture
    only when one is needed. Both may be called again for the same analysis at no cost.

    Example:
        overlay = Overlay()
        overlay.begin(session)
        overlay.update(analysis)
        cv2.imwrite("picture.png", overlay.picture())
    """

    def __init__(self, elements: Sequence[Element] | None = None) -> None:
        """
        Args:
            elements: What is drawn, in this order, in place of the usual.
        """
        self._elements = list(default_elements() if elements is None else elements)
        self._session: Session | None = None
        self._scene: Scene | None = None
        self._canvas: np.ndarray | None = None
        self._drawn: Analysis | None = None

    def begin(self, session: Session) -> None:
        self._session = session

    def update(self, analysis: Analysis) -> None:
        assert self._session is not None, "begin() comes first"
        if self._scene is None:
            height, width = analysis.frame.image.shape[:2]
            self._scene = Scene(self._session, Layout.of(width, height), analysis)
        elif self._scene.analysis is analysis:
            return
        self._scene.add(analysis)

    @staticmethod
    def size_for(frame_size: tuple[int, int]) -> tuple[int, int]:
        """Returns (width, height) of the pictures for frames of (width, height)."""
        return Layout.of(*frame_size).size

    def picture(self) -> np.ndarray:
        """Returns the newest analysis as a BGR picture. It is overwritten by the next one's."""
        assert self._scene is not None, "update() comes first"
        scene = self._scene
        if self._canvas is None:
            width, height = scene.layout.size
            self._canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
        if self._drawn is not scene.analysis:
            video = scene.layout.video
            view, image = video.of(self._canvas), scene.analysis.frame.image
            if view.shape == image.shape:
                view[:] = image
            else:
                cv2.resize(image, (video.width, video.height), dst=view)
            for element in self._elements:
                element.draw(self._canvas, scene)
            self._drawn = scene.analysis
        return self._canvas
