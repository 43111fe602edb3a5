"""Where the skin moves, as a heat map on the face."""

from __future__ import annotations

import cv2
import numpy as np

from realtime_mer.face.registration import LAYOUT, five_points, similarity
from realtime_mer.output.overlay.layout import LEGEND, Box
from realtime_mer.output.overlay.paint import DIM, Tile, put_text
from realtime_mer.output.overlay.scene import Scene
from realtime_mer.results import FaceState
from realtime_mer.spotting.motion import EXPRESSIVE, region_centres

# Displacement of the hottest colour, pixels of the canonical face: micro-expressions reach 1 to 3.
HOTTEST_PX = 2.0
# Below this nothing is shown: a still face of a webcam shows 0.1 to 0.3 px of noise.
QUIET_PX = 0.35
# From here on the colour covers the skin as much as it ever does.
_FULL_PX = 1.2
_COVER = 0.68
# Standard deviation of a region's spot, pixels of the canonical face; cells of the map in that.
_SPOT_PX = 16.0
_CELLS_A_SPOT = 2.5
# A spot is drawn this many standard deviations far.
_REACH = 2.4
# Overlapping spots are joined by the norm of this order: nearly the larger one, but smooth.
_NORM = 3


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Colour (256, 3) uint8 and cover (256,) float32 of displacements from 0 to `HOTTEST_PX`."""
    # Viridis rises evenly in brightness, for every colour vision, and no part of it is skin.
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    colours = cv2.applyColorMap(ramp, cv2.COLORMAP_VIRIDIS)[:, 0]
    size = ramp[:, 0].astype(np.float32) * (HOTTEST_PX / 255)
    rise = np.clip((size - QUIET_PX) / (_FULL_PX - QUIET_PX), 0, 1)
    return colours, (_COVER * rise * rise * (3 - 2 * rise)).astype(np.float32)


_COLOURS, _COVERS = _tables()


class HeatMap:
    """How far each region of every face has moved within the last 0.2 s, in colours on the skin.

    Nothing is drawn where nothing moves.
    """

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        picture = scene.layout.video.of(canvas)
        for face in scene.analysis.faces:
            self._draw_face(picture, scene, face)

    def _draw_face(self, picture: np.ndarray, scene: Scene, face: FaceState) -> None:
        if face.motion is None:
            return
        size = np.linalg.norm(face.motion, axis=1)
        moved = size > QUIET_PX  # NaN is not
        points = scene.points(face) if moved.any() else None
        if points is None:
            return
        centres = region_centres(points)[:EXPRESSIVE]
        centres, size = centres[moved], np.minimum(size[moved], HOTTEST_PX)
        spot = _SPOT_PX * _canonical_pixel(face.landmarks[:, :2]) * scene.layout.scale
        end = picture.shape[1::-1]
        left, top = np.clip(centres.min(0) - _REACH * spot, 0, end).astype(int)
        right, bottom = np.clip(centres.max(0) + _REACH * spot, 0, end).astype(int)
        if right - left < 2 or bottom - top < 2:
            return
        cell = max(1.0, spot / _CELLS_A_SPOT)
        columns, rows = (max(2, int(n / cell)) for n in (right - left, bottom - top))
        # Centres of the cells in pixels; a Gaussian is a product of one across and one down.
        x = left + (np.arange(columns) + 0.5) * ((right - left) / columns)
        y = top + (np.arange(rows) + 0.5) * ((bottom - top) / rows)
        narrow = 2 * spot * spot / _NORM
        across = np.exp(-((x - centres[:, :1]) ** 2) / narrow)
        down = np.exp(-((y - centres[:, 1:]) ** 2) / narrow)
        heat = ((down * (size**_NORM)[:, None]).T @ across) ** (1 / _NORM)
        index = np.minimum(heat * (255 / HOTTEST_PX), 255).astype(np.uint8)
        view = picture[top:bottom, left:right]
        place = view.shape[1::-1]
        colour = cv2.resize(_COLOURS[index], place, interpolation=cv2.INTER_LINEAR)
        cover = cv2.resize(_COVERS[index], place, interpolation=cv2.INTER_LINEAR)
        view[:] = cv2.blendLinear(view, colour, 1 - cover, cover)


def _canonical_pixel(landmarks: np.ndarray) -> float:
    """Size of a pixel of the canonical face, in pixels of the frame."""
    try:
        matrix = similarity(LAYOUT, five_points(landmarks))
    except ValueError:
        return 0.0
    return float(np.sqrt(np.linalg.det(matrix[:, :2])))


def paint_ramp(image: np.ndarray) -> None:
    """Fills an image with the colours from no motion at its left to the hottest at its right."""
    image[:] = _COLOURS[np.linspace(0, 255, image.shape[1]).astype(int)]


class MotionLegend:
    """What the colours of the heat map mean."""

    def __init__(self) -> None:
        self._tile = Tile()

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        unit, whole = scene.layout.unit, scene.layout.tracking
        width = round(LEGEND * unit)
        box = Box(whole.x + whole.width - width, whole.y, width, whole.height)
        self._tile.draw(canvas, box, unit, lambda image: self._paint(image, unit))

    @staticmethod
    def _paint(image: np.ndarray, unit: float) -> None:
        end, baseline = image.shape[1], 13 * unit
        used = put_text(image, f"{HOTTEST_PX:g} px", end, baseline, 11 * unit, DIM, right=True)
        right = end - used - round(4 * unit)
        left = right - round(40 * unit)
        paint_ramp(image[round(5 * unit) : round(13 * unit), left:right])
        put_text(image, "motion", left - 4 * unit, baseline, 11 * unit, DIM, right=True)
