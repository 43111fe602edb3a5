"""How far each cell of a face has moved since an anchor, in two steps.

DIS flow on a quarter of the canonical face finds motions of any size, but on skin it invents what
is smooth. One step of least squares (Lucas-Kanade; inverse compositional, so that all that depends
on the anchor is worked out once) then fits each cell's own texture at full resolution.
"""

from __future__ import annotations

import cv2
import numpy as np

from realtime_mer.face.registration import FACE_SIZE

# Cells of 8 x 8 pixels: as fine as skin's texture can tell.
CELLS = 28
# DIS flow is sought on faces of this size.
_COARSE_SIZE = 56
# What DIS flow invents between cells is smoothed away; standard deviations in cells.
_COARSE_BLUR = 1.5
_WINDOW_BLUR = 0.7
# Other changes of light are smoother than this.
_LIGHT_BLUR = 3.0
# Keeps cells without texture where DIS flow put them: squared grey levels a pixel, of 0 to 1.
_RIDGE = 3e-5
# One step of least squares reaches no farther, pixels of the canonical face.
_REACH_PX = 2.0
# (224, 224, 2), where each pixel of the canonical face lies.
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
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._dis.setGradientDescentIterations(8)
        self._dis.setVariationalRefinementIterations(0)
        self._dis.setFinestScale(1)
        self._small = _coarse(grey)
        self._brightness = cv2.mean(self._small)[0]
        self._grey = grey.astype(np.float32) / 255
        self._across = cv2.Sobel(self._grey, -1, 1, 0, ksize=3, scale=1 / 8)
        self._down = cv2.Sobel(self._grey, -1, 0, 1, ksize=3, scale=1 / 8)
        xx, xy, yy = (
            _blurred(to_cells(product), _WINDOW_BLUR)
            for product in (
                self._across * self._across,
                self._across * self._down,
                self._down * self._down,
            )
        )
        xx, yy = xx + _RIDGE, yy + _RIDGE
        determinant = xx * yy - xy * xy
        self._inverse = yy / determinant, -xy / determinant, xx / determinant

    def __call__(self, grey: np.ndarray) -> np.ndarray:
        """(784, 2) float32 displacement (x, y) of each cell, pixels of the canonical face.

        Args:
            grey: (224, 224) uint8, another canonical face.
        """
        small = _coarse(grey)
        # A camera that sets its exposure anew scales all that it sees.
        gain = self._brightness / max(cv2.mean(small)[0], 1.0)
        small = cv2.convertScaleAbs(small, alpha=gain)
        coarse = to_cells(self._dis.calc(self._small, small, None))
        coarse = _blurred(coarse, _COARSE_BLUR) * np.float32(FACE_SIZE / _COARSE_SIZE)
        # In place where it can be: much of the time goes into memory.
        came_from = _to_pixels(coarse)
        came_from += FACE_GRID
        changed = cv2.remap(
            grey * np.float32(gain / 255),
            came_from,
            None,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        changed -= self._grey
        changed -= _to_pixels(_blurred(to_cells(changed), _LIGHT_BLUR))
        x, y = (
            _blurred(to_cells(gradient * changed), _WINDOW_BLUR)
            for gradient in (self._across, self._down)
        )
        a, b, c = self._inverse
        step = np.clip(np.dstack([a * x + b * y, b * x + c * y]), -_REACH_PX, _REACH_PX)
        return (coarse - step).reshape(-1, 2)
