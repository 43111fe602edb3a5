"""Displacement of each cell of a face since an anchor face, measured in two steps.

DIS flow on a quarter of the canonical face finds motions of any size, but fills skin without
texture with smooth, invented motion. One least-squares step (Lucas-Kanade) then fits each cell's
own texture at full resolution. It is inverse compositional: all that depends on the anchor alone
is computed once.
"""

from __future__ import annotations

import cv2
import numpy as np

from realtime_mer.face.registration import FACE_SIZE

# Cells a side, each of 8 x 8 pixels: skin has too little texture for finer ones.
CELLS = 28
# Width and height in pixels of the faces that DIS flow is computed on.
_COARSE_SIZE = 56
# Smooths the coarse flow, which DIS invents between textured cells; and the windows of the
# least-squares step. Standard deviations in cells.
_COARSE_BLUR = 1.5
_WINDOW_BLUR = 0.7
# Changes of light are smoother than this, motion is not; standard deviation in cells.
_LIGHT_BLUR = 3.0
# Keeps cells without texture where DIS flow put them; squared grey levels (0 to 1) a pixel.
_RIDGE = 3e-5
# Limit of the least-squares step, pixels of the canonical face.
_MAX_STEP_PX = 2.0
# (224, 224, 2) float32: the (x, y) of each pixel of the canonical face.
FACE_GRID = np.dstack(np.meshgrid(*[np.arange(FACE_SIZE, dtype=np.float32)] * 2))
FACE_GRID.setflags(write=False)


def to_cells(image: np.ndarray) -> np.ndarray:
    """A square image or field averaged over its cells: (28, 28, ...)."""
    return cv2.resize(image, (CELLS, CELLS), interpolation=cv2.INTER_AREA)


def _to_pixels(cells: np.ndarray) -> np.ndarray:
    return cv2.resize(cells, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LINEAR)


def _blurred(cells: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(cells, (0, 0), sigma)


def _coarse(grey: np.ndarray) -> np.ndarray:
    return cv2.resize(grey, (_COARSE_SIZE, _COARSE_SIZE), interpolation=cv2.INTER_AREA)


class CellFlow:
    """Flow from one anchor face to others. Not to be shared between threads.

    Args:
        grey: (224, 224) uint8, the anchor's canonical face.
    """

    def __init__(self, grey: np.ndarray) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._dis.setGradientDescentIterations(8)
        self._dis.setVariationalRefinementIterations(0)
        self._dis.setFinestScale(1)
        self._coarse = _coarse(grey)
        self._brightness = cv2.mean(self._coarse)[0]
        self._grey = grey.astype(np.float32) / 255
        self._gradient_x = cv2.Sobel(self._grey, -1, 1, 0, ksize=3, scale=1 / 8)
        self._gradient_y = cv2.Sobel(self._grey, -1, 0, 1, ksize=3, scale=1 / 8)
        xx, xy, yy = (
            _blurred(to_cells(product), _WINDOW_BLUR)
            for product in (
                self._gradient_x * self._gradient_x,
                self._gradient_x * self._gradient_y,
                self._gradient_y * self._gradient_y,
            )
        )
        xx, yy = xx + _RIDGE, yy + _RIDGE
        determinant = xx * yy - xy * xy
        # The inverse of each cell's 2 x 2 structure tensor: its xx, xy and yy, (28, 28) each.
        self._inverse = yy / determinant, -xy / determinant, xx / determinant

    def __call__(self, grey: np.ndarray) -> np.ndarray:
        """(784, 2) float32 displacement (x, y) of each cell, pixels of the canonical face.

        Args:
            grey: (224, 224) uint8, another canonical face.
        """
        coarse_grey = _coarse(grey)
        # Undo automatic exposure, which scales the whole picture.
        gain = self._brightness / max(cv2.mean(coarse_grey)[0], 1.0)
        coarse_grey = cv2.convertScaleAbs(coarse_grey, alpha=gain)
        dense = self._dis.calc(  # type: ignore[call-overload]  # the initial flow is optional
            self._coarse, coarse_grey, None
        )
        coarse = to_cells(dense)
        coarse = _blurred(coarse, _COARSE_BLUR) * np.float32(FACE_SIZE / _COARSE_SIZE)
        # Work in place where possible: memory traffic takes much of the time.
        positions = _to_pixels(coarse)
        positions += FACE_GRID
        change = cv2.remap(  # type: ignore[call-overload]  # the second map is optional
            grey * np.float32(gain / 255),
            positions,
            None,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        change -= self._grey
        change -= _to_pixels(_blurred(to_cells(change), _LIGHT_BLUR))
        x, y = (
            _blurred(to_cells(gradient * change), _WINDOW_BLUR)
            for gradient in (self._gradient_x, self._gradient_y)
        )
        a, b, c = self._inverse
        step = np.clip(np.dstack([a * x + b * y, b * x + c * y]), -_MAX_STEP_PX, _MAX_STEP_PX)
        return (coarse - step).reshape(-1, 2)
