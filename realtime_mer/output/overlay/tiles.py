"""The annotated pictures of several sources side by side."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from realtime_mer.output.overlay.layout import Box
from realtime_mer.output.overlay.paint import BACKGROUND, BRIGHT, put_text, shortened, text_width
from realtime_mer.output.overlay.picture import Overlay
from realtime_mer.output.overlay.scene import Element, View
from realtime_mer.output.per_source import short_names
from realtime_mer.results import Analysis, Session

# (width, height) in pixels of the whole picture at most: those of the largest window, in which it
# is sharp then.
_MAX_SIZE = (1600, 900)
# Pixels between two tiles.
_GAP = 4


def grid_of(sizes: Sequence[tuple[int, int]]) -> list[Box]:
    """The places of pictures of these sizes: as large as they can be in `_MAX_SIZE`, in rows.

    Args:
        sizes: (width, height) of each picture, in pixels. They are never enlarged.
    """
    width, height = (max(side) for side in zip(*sizes, strict=True))

    def scale(columns: int) -> float:
        rows = math.ceil(len(sizes) / columns)
        across, down = (_MAX_SIZE[0] - _GAP * (columns - 1), _MAX_SIZE[1] - _GAP * (rows - 1))
        return min(1.0, across / (columns * width), down / (rows * height))

    def strangeness(columns: int) -> float:
        """How far the whole picture's shape is from a screen's."""
        aspect = columns * width / (math.ceil(len(sizes) / columns) * height)
        return abs(math.log(aspect * _MAX_SIZE[1] / _MAX_SIZE[0]))

    columns = max(range(1, len(sizes) + 1), key=lambda n: (round(scale(n), 3), -strangeness(n)))
    # Most video codecs need even sizes.
    cell = [2 * max(1, round(side * scale(columns) / 2)) for side in (width, height)]
    return [
        Box(number % columns * (cell[0] + _GAP), number // columns * (cell[1] + _GAP), *cell)
        for number in range(len(sizes))
    ]


class TiledOverlay(Overlay):
    """Draws the annotated pictures of several sources as tiles, each with its source's name.

    It is used like an `Overlay`; what is drawn in addition, such as a toast, is in the first tile.

    Example:
        overlay = TiledOverlay()
        overlay.begin(group.session)
    """

    def __init__(self, make: Callable[[], Overlay] = Overlay) -> None:
        """
        Args:
            make: Makes the overlay of a source.
        """
        super().__init__([])
        self._make = make
        self._tiles: list[_Tile] = []

    def begin(self, session: Session) -> None:
        overlays = [self._make() for _ in session.each]
        sizes = [o.size_of(*s.size) for o, s in zip(overlays, session.each, strict=True)]
        boxes = grid_of(sizes)
        names = short_names(session)
        self._tiles = []
        for source, box, overlay in zip(session.each, boxes, overlays, strict=True):
            overlay.view = self.view
            overlay.begin(source)
            self._tiles.append(_Tile(overlay, names.get(source.source, source.source), box))
        self._canvas = None

    def update(self, analysis: Analysis) -> None:
        tile = self._tiles[analysis.camera]
        tile.overlay.update(analysis)
        tile.is_known = True
        tile.drawn = None

    def picture(self) -> np.ndarray:
        canvas = self._canvas
        if canvas is None:
            boxes = [tile.box for tile in self._tiles]
            width = max(box.x + box.width for box in boxes)
            height = max(box.y + box.height for box in boxes)
            canvas = self._canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
        for tile in self._tiles:
            if tile.drawn != self.view:
                tile.drawn = dataclasses.replace(self.view)
                tile.draw(canvas, tile.overlay.picture() if tile.is_known else None)
        return canvas

    def picture_with(self, elements: Sequence[Element]) -> np.ndarray:
        picture = self.picture().copy()
        if (first := next((tile for tile in self._tiles if tile.is_known), None)) is not None:
            first.draw(picture, first.overlay.picture_with(elements))
        return picture

    def still(self) -> TiledOverlay:
        still = TiledOverlay(self._make)
        still.view = self.view
        still._tiles = [tile.still() for tile in self._tiles]
        return still


class _Tile:
    """One of the tiles.

    Attributes:
        overlay: That of the source.
        box: Its place.
        is_known: Whether anything of the source is known by now.
        drawn: With which view it is in the picture; None if it has to be drawn anew.
    """

    def __init__(self, overlay: Overlay, name: str, box: Box) -> None:
        self.overlay, self._name, self.box = overlay, name, box
        self.is_known = False
        self.drawn: View | None = None

    def still(self) -> _Tile:
        still = _Tile(self.overlay.still() if self.is_known else self.overlay, self._name, self.box)
        still.is_known = self.is_known
        return still

    def draw(self, canvas: np.ndarray, picture: np.ndarray | None) -> None:
        """Puts a picture into its place, as large as it fits, and the name into its corner."""
        image = self.box.of(canvas)
        x = y = 0
        if picture is None:
            image[:] = BACKGROUND
        else:
            height, width = picture.shape[:2]
            scale = min(self.box.width / width, self.box.height / height)
            size = (
                min(self.box.width, round(width * scale)),
                min(self.box.height, round(height * scale)),
            )
            if size != (self.box.width, self.box.height):
                image[:] = BACKGROUND
            x, y = (self.box.width - size[0]) // 2, (self.box.height - size[1]) // 2
            if size != (width, height):
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            image[y : y + size[1], x : x + size[0]] = picture
        self._put_name(image[y:, x:])

    def _put_name(self, image: np.ndarray) -> None:
        unit = max(0.8, self.box.height / 480)
        text = shortened(self._name, round(0.5 * self.box.width), round(13 * unit), 600)
        # Inside the frame that an alert draws.
        left, top = round(6 * unit), round(6 * unit)
        width = text_width(text, round(13 * unit), 600) + round(12 * unit)
        image[top : top + round(20 * unit), left : left + width] = BACKGROUND
        put_text(image, text, left + 6 * unit, top + 14.5 * unit, 13 * unit, BRIGHT, 600)
