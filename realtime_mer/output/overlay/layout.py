"""The places of all elements in the picture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# Sizes are in units: 1 pixel at 640 x 480, more in larger frames.
_BASE = 480
_PANEL = 264
_MARGIN = 12
# A portrait picture is shown smaller: in a window 900 pixels high, 11 units are then 14 pixels. Its
# panel has this many units in height, and not half as many again.
_HIGHEST = 720
# Width of the heat map's legend, at the right end of the tracking row.
LEGEND = 112


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
    """The places of all elements for one size of frame.

    Attributes:
        unit: Pixels per unit; text of 12 units is readable.
        scale: Size of the video in the picture, relative to the frame.
        size: (width, height) of the picture in pixels.
        video: The video's box.
        panel: The box beside the video. The boxes below are within it.
    """

    unit: float
    scale: float
    size: tuple[int, int]
    video: Box
    panel: Box
    status: Box
    tracking: Box
    curve: Box
    history: Box
    events: Box
    footer: Box

    @classmethod
    def of(cls, width: int, height: int) -> Layout:
        """Returns the layout for frames of a size. Small frames are enlarged."""
        wanted = _BASE / min(0.75 * width, height)
        # A long, narrow frame must not become huge.
        scale = min(max(1.0, wanted), max(1.0, 3 * _BASE / max(width, height)))
        # Most video codecs need even sizes.
        video = Box(0, 0, _even(width * scale), _even(height * scale))
        unit = min(0.75 * video.width, video.height) / _BASE
        unit = max(1.0, unit, video.height / _HIGHEST)
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
            panel=Box(video.width, 0, panel, rows),
            status=box(10, 64),
            tracking=box(68, 86),
            curve=box(92, 194),
            history=box(200, 238),
            events=box(244, end - 26),
            footer=box(end - 24, end - 4),
        )

    @property
    def without_panel(self) -> Layout:
        """The layout in which the video is the whole picture.

        What has to be told covers the video's right side, where the panel's boxes are then. If
        they are wider than the video, the panel stays.
        """
        by = self.panel.width
        if by > self.video.width:
            return self

        def moved(box: Box) -> Box:
            return replace(box, x=box.x - by)

        return replace(
            self,
            size=(self.video.width, self.size[1]),
            panel=moved(self.panel),
            status=moved(self.status),
            tracking=moved(self.tracking),
            curve=moved(self.curve),
            history=moved(self.history),
            events=moved(self.events),
            footer=moved(self.footer),
        )


def _even(value: float) -> int:
    return 2 * max(1, round(value / 2))
