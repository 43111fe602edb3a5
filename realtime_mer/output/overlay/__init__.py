"""The annotated picture: the video with marks on the face, and a panel beside it.

The panel is outside the video, so that no text hides a face. Each element is a small class with one
method, `draw(canvas, scene)`, and caches what seldom changes. The colours are Okabe and Ito's,
which any colour vision tells apart; no meaning depends on colour alone.
"""

from realtime_mer.output.overlay.curve import ScoreCurve
from realtime_mer.output.overlay.events import EventCards
from realtime_mer.output.overlay.face import OVAL, FaceMarks
from realtime_mer.output.overlay.heat import HeatMap, MotionLegend
from realtime_mer.output.overlay.history import History
from realtime_mer.output.overlay.layout import Box, Layout
from realtime_mer.output.overlay.notices import HelpCard, RecordingMark, Toast
from realtime_mer.output.overlay.paint import (
    BACKGROUND,
    BRIGHT,
    CARD_NEW,
    DIM,
    GREEN,
    GRID,
    LABEL_COLOURS,
    RED,
    YELLOW,
    put_text,
    shortened,
    text_width,
)
from realtime_mer.output.overlay.picture import (
    Overlay,
    VideoOverlay,
    full_elements,
    lean_elements,
)
from realtime_mer.output.overlay.scene import Element, Scene, View
from realtime_mer.output.overlay.status import Alerts, Footer, Status, Tracking
from realtime_mer.output.overlay.tiles import TiledOverlay

__all__ = [
    "BACKGROUND",
    "BRIGHT",
    "CARD_NEW",
    "DIM",
    "GREEN",
    "GRID",
    "LABEL_COLOURS",
    "OVAL",
    "RED",
    "YELLOW",
    "Alerts",
    "Box",
    "Element",
    "EventCards",
    "FaceMarks",
    "Footer",
    "HeatMap",
    "HelpCard",
    "History",
    "Layout",
    "MotionLegend",
    "Overlay",
    "RecordingMark",
    "Scene",
    "ScoreCurve",
    "Status",
    "TiledOverlay",
    "Toast",
    "Tracking",
    "VideoOverlay",
    "View",
    "full_elements",
    "lean_elements",
    "put_text",
    "shortened",
    "text_width",
]
