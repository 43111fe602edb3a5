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
    return [FaceMarks(), EventCards(only_last=True), Alerts()]


class Overlay:
    """Draws the annotated picture. All who show or record the same view may share it.

    Pass every analysis to `update`, so that curve and events are complete, and call `picture` only
    when one is needed. Repeated calls for the same analysis cost nothing.

    Attributes:
        view: With or without details, mirrored or not. May be changed at any time and holds for
            all who share the overlay. The size of the picture stays the same.

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
        scene, canvas, drawn = self._scene, self._canvas, self._drawn
        if canvas is not None and drawn == (scene.analysis, self.view):
            return canvas
        if canvas is None or drawn is None or drawn[1].details != self.view.details:
            width, height = scene.layout.size
            canvas = self._canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
        _put_video(scene.layout.video.of(canvas), scene)
        for element in self._full if self.view.details else self._lean:
            element.draw(canvas, scene)
        self._drawn = (scene.analysis, dataclasses.replace(self.view))
        return canvas

    def picture_with(self, elements: Sequence[Element]) -> np.ndarray:
        """Returns a copy of the picture with more elements drawn on it."""
        picture = self.picture().copy()
        assert self._scene is not None
        for element in elements:
            element.draw(picture, self._scene)
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


def _put_video(view: np.ndarray, scene: Scene) -> None:
    image = scene.analysis.frame.image
    if view.shape != image.shape:
        image = cv2.resize(image, view.shape[1::-1])
    if scene.view.mirrored:
        cv2.flip(image, 1, dst=view)
    else:
        view[:] = image
