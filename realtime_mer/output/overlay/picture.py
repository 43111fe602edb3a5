"""The overlay: keeps the scene and makes its picture."""

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
    """What is drawn with all details, in this order."""
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
    """What is drawn without details."""
    return [FaceMarks(), EventCards(only_last=True), Alerts()]


class Overlay:
    """Makes the annotated picture. Shared by everything that shows or records it.

    Give it every analysis by `update`, so that curve and events are complete; ask for a picture
    only when one is needed. Both may be called again for the same analysis at no cost.

    Attributes:
        view: With details or without, mirrored or not; to be changed at any time, for all who
            share the overlay. The size of the picture stays.

    Example:
        overlay = Overlay()
        overlay.begin(session)
        overlay.update(analysis)
        cv2.imwrite("picture.png", overlay.picture())
    """

    def __init__(self, elements: Sequence[Element] | None = None) -> None:
        """
        Args:
            elements: What is drawn, in this order, in place of the usual, in either view.
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
        """Returns the newest analysis as a BGR picture. It is overwritten by the next one's."""
        assert self._scene is not None, "update() comes first"
        scene = self._scene
        if self._drawn is not None and self._drawn == (scene.analysis, self.view):
            return self._canvas
        if self._canvas is None or self._drawn[1].details != self.view.details:
            width, height = scene.layout.size
            self._canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
        _put_video(scene.layout.video.of(self._canvas), scene)
        for element in self._full if self.view.details else self._lean:
            element.draw(self._canvas, scene)
        self._drawn = (scene.analysis, dataclasses.replace(self.view))
        return self._canvas

    def picture_with(self, elements: Sequence[Element]) -> np.ndarray:
        """Returns a picture of its own with more drawn on it, which others do not see."""
        picture = self.picture().copy()
        for element in elements:
            element.draw(picture, self._scene)
        return picture

    def still(self) -> Overlay:
        """Returns an overlay of this moment, which later analyses leave as it is.

        It follows this one's view.
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
