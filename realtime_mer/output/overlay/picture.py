"""The overlay: it keeps the scene and draws its picture."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from realtime_mer.output.overlay.curve import ScoreCurve
from realtime_mer.output.overlay.events import EventCards
from realtime_mer.output.overlay.face import FaceMarks
from realtime_mer.output.overlay.heat import HeatMap, MotionLegend
from realtime_mer.output.overlay.history import History
from realtime_mer.output.overlay.layout import Layout
from realtime_mer.output.overlay.paint import BACKGROUND
from realtime_mer.output.overlay.scene import Element, Scene, View
from realtime_mer.output.overlay.status import Alerts, Footer, Status, Tracking
from realtime_mer.results import Analysis, Session


def full_elements() -> list[Element]:
    """The elements of the view with all details, in the order of drawing."""
    return [
        HeatMap(),
        FaceMarks(),
        Status(),
        Tracking(),
        MotionLegend(),
        ScoreCurve(),
        History(),
        EventCards(),
        Footer(),
        Alerts(),
    ]


def lean_elements() -> list[Element]:
    """The elements of the view without details, in the order of drawing."""
    return [FaceMarks(), Alerts()]


class Overlay:
    """Draws the annotated picture. All who show or record the same view may share it.

    Pass every analysis to `update`, so that curve and events are complete, and call `picture` only
    when one is needed. Repeated calls for the same analysis cost nothing.

    Attributes:
        view: With or without details, mirrored or not. May be changed at any time and holds for
            all who share the overlay. Without details, there is no panel: the picture is narrower.

    Example:
        overlay = Overlay()
        overlay.begin(session)
        overlay.update(analysis)
        cv2.imwrite("picture.png", overlay.picture())
    """

    def __init__(self, elements: Sequence[Element] | None = None) -> None:
        """
        Args:
            elements: Drawn in this order in either view, in place of the usual ones.
        """
        self.view = View()
        self._full = list(full_elements() if elements is None else elements)
        self._lean = list(lean_elements() if elements is None else elements)
        self._session: Session | None = None
        self._scene: Scene | None = None
        self._canvas: np.ndarray | None = None
        self._drawn: tuple[Analysis, View] | None = None

    @staticmethod
    def size_of(width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels of the picture of frames of a size."""
        return Layout.of(width, height).size

    def begin(self, session: Session) -> None:
        self._session = session

    def update(self, analysis: Analysis) -> None:
        assert self._session is not None, "begin() comes first"
        if self._scene is None:
            height, width = analysis.frame.image.shape[:2]
            self._scene = Scene(self._session, Layout.of(width, height), analysis, self.view)
        elif self._scene.analysis is analysis:
            return
        self._scene.add(analysis)

    def picture(self) -> np.ndarray:
        """Returns the picture of the newest analysis, (height, width, 3) uint8, BGR.

        The next analysis overwrites it.
        """
        assert self._scene is not None, "update() comes first"
        canvas, drawn, details = self._canvas, self._drawn, self.view.details
        if canvas is not None and drawn == (self._scene.analysis, self.view):
            return canvas
        scene = self._shown_scene()
        if canvas is None or drawn is None or drawn[1].details != details:
            width, height = scene.layout.size
            canvas = self._canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
        _put_video(scene.layout.video.of(canvas), scene)
        for element in self._full if details else self._lean:
            element.draw(canvas, scene)
        self._drawn = (scene.analysis, dataclasses.replace(self.view))
        return canvas

    def _shown_scene(self) -> Scene:
        """The scene as it is drawn: without details, the video has the panel's room."""
        assert self._scene is not None, "update() comes first"
        if self.view.details:
            return self._scene
        return dataclasses.replace(self._scene, layout=self._scene.layout.without_panel)

    def picture_with(self, elements: Sequence[Element]) -> np.ndarray:
        """Returns a copy of the picture with more elements drawn on it."""
        picture = self.picture().copy()
        scene = self._shown_scene()
        for element in elements:
            element.draw(picture, scene)
        return picture

    def still(self) -> Overlay:
        """Returns an overlay of this moment that later analyses do not change.

        It shares this one's view.
        """
        assert self._scene is not None, "update() comes first"
        still = Overlay([])
        still.view = self.view
        still._full, still._lean = copy.deepcopy((self._full, self._lean))
        still._session, still._scene = self._session, self._scene.copy()
        return still


class VideoOverlay(Overlay):
    """Draws the video with heat map and marks on the faces, and no panel beside it.

    Example:
        view = WebView("8000", VideoOverlay())
    """

    def __init__(self) -> None:
        super().__init__([HeatMap(), FaceMarks()])

    @staticmethod
    def size_of(width: int, height: int) -> tuple[int, int]:
        box = Layout.of(width, height).video
        return box.width, box.height

    def picture(self) -> np.ndarray:
        picture = super().picture()
        assert self._scene is not None
        return self._scene.layout.video.of(picture)


def _put_video(view: np.ndarray, scene: Scene) -> None:
    image = scene.analysis.frame.image
    if view.shape != image.shape:
        image = cv2.resize(image, view.shape[1::-1])
    if scene.view.mirrored:
        cv2.flip(image, 1, dst=view)
    else:
        view[:] = image
