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

# Lengths are in pixels of the canonical face. What has no other source was chosen by eye.

# Displacement of the hottest colour: micro-expressions reach 1 to 3.
HOTTEST_PX = 2.0
# Smaller motions are not shown: the noise on a still face before a webcam is 0.1 to 0.3.
QUIET_PX = 0.35
# From here on the colour has its full opacity.
_FULL_PX = 1.2
_OPACITY = 0.68
# Standard deviation of a region's spot, and how many cells of the map it spans.
_SPOT_PX = 16.0
_CELLS_PER_SPOT = 2.5
# Radius of a spot, in standard deviations.
_REACH = 2.4
# Order of the norm that joins overlapping spots: close to their maximum, but smooth.
_NORM = 3


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Colour (256, 3) uint8 and opacity (256,) float32 of displacements 0 to `HOTTEST_PX`."""
    # Viridis rises evenly in brightness, for every colour vision, and has no colour of skin.
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    colours = cv2.applyColorMap(ramp, cv2.COLORMAP_VIRIDIS)[:, 0]
    size = ramp[:, 0].astype(np.float32) * (HOTTEST_PX / 255)
    rise = np.clip((size - QUIET_PX) / (_FULL_PX - QUIET_PX), 0, 1)
    return colours, (_OPACITY * rise * rise * (3 - 2 * rise)).astype(np.float32)


_COLOURS, _OPACITIES = _tables()


class HeatMap:
    """The displacement of each facial region within the last 0.2 s, as colours on the skin.

    Skin that does not move stays as it is.
    """

    def draw(self, canvas: np.ndarray, scene: Scene) -> None:
        picture = scene.layout.video.of(canvas)
        for face in scene.analysis.faces:
            self._draw_face(picture, scene, face)

    def _draw_face(self, picture: np.ndarray, scene: Scene, face: FaceState) -> None:
        if face.motion is None:
            return
        size = np.linalg.norm(face.motion, axis=1)
        moved = size > QUIET_PX  # False for NaN
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
        cell = max(1.0, spot / _CELLS_PER_SPOT)
        columns, rows = (max(2, int(n / cell)) for n in (right - left, bottom - top))
        # Centres of the cells in pixels. A 2-D Gaussian is the product of two 1-D ones.
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
        opacity = cv2.resize(_OPACITIES[index], place, interpolation=cv2.INTER_LINEAR)
        view[:] = cv2.blendLinear(view, colour, 1 - opacity, opacity)


def _canonical_pixel(landmarks: np.ndarray) -> float:
    """Size of a pixel of the canonical face, in pixels of the frame."""
    try:
        matrix = similarity(LAYOUT, five_points(landmarks))
    except ValueError:
        return 0.0
    return float(np.sqrt(np.linalg.det(matrix[:, :2])))


def paint_ramp(image: np.ndarray) -> None:
    """Fills an image with the colours of the heat map, from no motion at its left end."""
    image[:] = _COLOURS[np.linspace(0, 255, image.shape[1]).astype(int)]


class MotionLegend:
    """The legend of the heat map's colours."""

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
