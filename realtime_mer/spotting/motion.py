"""Regional motion: where and how far the parts of a face have moved, freed of the head's motion.

Flow runs from an anchor face, renewed about once a second, to every new canonical face. What a
rigid head explains is fitted robustly and taken out: a similarity or shear of the whole face and
the parallax of a turning head, which is proportional to depth. Only textured skin is trusted, for
the flow on flat skin is mostly what its own smoothness invents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from realtime_mer.face.mesh import OVAL
from realtime_mer.face.registration import FACE_SIZE, CanonicalFace
from realtime_mer.spotting.cell_flow import CELLS, CellFlow, to_cells

_CELL = FACE_SIZE // CELLS
# Face mesh indices around the centre of each region ("left" and "right" are the picture's).
REGIONS: dict[str, tuple[int, ...]] = {
    "inner brow left": (55, 107, 65),
    "inner brow right": (285, 336, 295),
    "outer brow left": (46, 53, 63, 70),
    "outer brow right": (276, 283, 293, 300),
    "glabella": (9, 8),
    "lower lid left": (118, 119, 120, 101),
    "lower lid right": (347, 348, 349, 330),
    "nose wing left": (48, 129, 64),
    "nose wing right": (278, 358, 294),
    "cheek left": (205, 50, 187),
    "cheek right": (425, 280, 411),
    "lip corner left": (61, 57, 186),
    "lip corner right": (291, 287, 410),
    "upper lip": (0, 37, 267, 11),
    "lower lip": (17, 84, 314, 16),
    "chin": (199, 200, 175),
    "eye left": (159, 145, 158, 160),
    "eye right": (386, 374, 385, 387),
}
# Regions that carry expressions; the eyes come last and tell of blinks and gaze.
EXPRESSIVE = len(REGIONS) - 2
# Standard deviation of a region's Gaussian window, pixels of the canonical face.
_REGION_PX = 10.0
# An anchor is renewed after this time, or once the face lies this far from it: flow over a short
# distance is the more exact one.
_ANCHOR_S = 0.8
_ANCHOR_PX = 4.0
# Smaller eigenvalue of the structure tensor at which a cell is trusted by half: flat skin carries
# no motion of its own, only noise and what the flow's smoothness invents.
_TEXTURE = 3e-4
# Shrinks the figures of regions that hardly any texture carries.
_REGION_RIDGE = 0.3
# Keeps the fit of a rigid motion solvable where hardly anything is textured.
_RIDGE = np.hstack([1e-4 * np.eye(4, dtype=np.float32), np.zeros((4, 2), np.float32)])
# Fewer textured cells than this fix no rigid motion.
_LEAST_CELLS = 20
_CENTRES = (np.arange(CELLS, dtype=np.float32) + 0.5) * _CELL - 0.5
_X, _Y = (c.ravel() for c in np.meshgrid(_CENTRES, _CENTRES))
# Constant, x and y over the cells, in half faces from the middle.
_PLANE = (
    np.ones_like(_X),
    (_X - FACE_SIZE / 2) / (FACE_SIZE / 2),
    (_Y - FACE_SIZE / 2) / (FACE_SIZE / 2),
)
# The cells of an upright face, of the 28 x 28: mirrored about column 15 they are themselves.
_ROWS, _COLUMNS = np.mgrid[0:CELLS, 0:CELLS]
FACE_CELLS = np.flatnonzero(((_COLUMNS - 15) / 11.5) ** 2 + ((_ROWS - 14.5) / 13) ** 2 <= 1)
FACE_CELLS.setflags(write=False)
_MEMBERS = np.array([i for members in REGIONS.values() for i in members])
_COUNTS = np.array([len(members) for members in REGIONS.values()])
_STARTS = np.r_[0, np.cumsum(_COUNTS)[:-1]]


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """The state of a face's motion in one frame.

    Attributes:
        time_s: Time of the frame.
        regions: (18, 2) float32, displacement (x, y) of each of `REGIONS` in pixels of the
            canonical face, from an arbitrary start: differences between frames are what counts.
        cells: (n, 2) float32, likewise of each of `FACE_CELLS`.
        trust: (18,) float32, how much textured skin carries each region's figure; 0 is none.
        head: (3,) float32, motion of the whole face that the registration left over (x, y, turn),
            pixels, from an arbitrary start.
        place: (2,) float32, centre of the face in the frame, in pixels of the canonical face.
        blink: 0 open to 1 closed.
        jaw_open: 0 to 1.
    """

    time_s: float
    regions: np.ndarray
    cells: np.ndarray
    trust: np.ndarray
    head: np.ndarray
    place: np.ndarray
    blink: float
    jaw_open: float


def face_mask(landmarks: np.ndarray) -> np.ndarray:
    """(224, 224) bool: well inside the face, away from its moving outline."""
    mask = np.zeros((FACE_SIZE, FACE_SIZE), np.uint8)
    cv2.fillPoly(mask, [landmarks[list(OVAL), :2].astype(np.int32)], 255)
    return cv2.erode(mask, np.ones((13, 13), np.uint8)) > 0


def _depth(landmarks: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(784,) float32 depth of the face at each cell, zero mean inside the face, in half faces."""
    column = np.clip((landmarks[:468, 0] / _CELL).astype(int), 0, CELLS - 1)
    row = np.clip((landmarks[:468, 1] / _CELL).astype(int), 0, CELLS - 1)
    cell = row * CELLS + column
    shape = CELLS, CELLS
    total = np.bincount(cell, landmarks[:468, 2], CELLS**2).reshape(shape).astype(np.float32)
    count = np.bincount(cell, minlength=CELLS**2).reshape(shape).astype(np.float32)
    near, wide = (
        [cv2.GaussianBlur(a, size, sigma) for a in (total, count)]
        for size, sigma in (((9, 9), 1.5), ((0, 0), 6.0))
    )
    # Around the face the depth goes on from its rim: a step there would be false strain.
    level = wide[0] / np.maximum(wide[1], 1e-6)
    depth = ((near[0] + 0.02 * level) / (near[1] + 0.02)).ravel()
    return (depth - (depth * mask).sum() / max(mask.sum(), 1)) / (FACE_SIZE / 2)


class RigidMotion:
    """What a rigid head can do to the flow: shift, scale, turn, shear and parallax.

    Args:
        landmarks: (478, 3) of the canonical face.
        texture: (784,) trust in each cell, 0 to 1.
    """

    def __init__(self, landmarks: np.ndarray, texture: np.ndarray) -> None:
        mask = (
            (to_cells(face_mask(landmarks).astype(np.uint8) * 255) > 204).astype(np.float32).ravel()
        )
        self.weights = texture * mask
        # u and v have the same four terms each, so that one 4 x 4 system serves both.
        self._terms = np.column_stack([*_PLANE, _depth(landmarks, mask)])
        # Of the cells that are trusted; one row a term, so that all that follows runs along memory.
        self._inside = np.flatnonzero(self.weights)
        self._start = self.weights[self._inside]
        self._inner_terms = np.ascontiguousarray(self._terms[self._inside].T)

    def fit(self, flow: np.ndarray) -> np.ndarray:
        """The rigid part (4, 2) float32 of a flow (784, 2), by reweighted least squares."""
        if len(self._inside) < _LEAST_CELLS:
            return np.zeros((4, 2), np.float32)
        terms, weights = self._inner_terms, self._start
        # Terms and flow below each other, so that one product makes the whole system.
        rows = np.concatenate([terms, flow[self._inside].T], dtype=np.float32)
        moved = rows[4:]
        for _ in range(5):
            system = (terms * weights) @ rows.T + _RIDGE
            # NumPy's own takes twice as long on a system as small as this.
            _, part = cv2.solve(system[:, :4], system[:, 4:], flags=cv2.DECOMP_CHOLESKY)
            rest = moved - part.T @ terms
            rest *= rest
            square = rest[0] + rest[1]
            spread = max(0.15, 1.5 * _median_root(square))
            weights = self._start / (1 + square * (1 / spread**2))
        return part

    def how_far(self, flow: np.ndarray) -> float:
        """Median displacement of the trusted cells in a flow (784, 2); 0 where there are none."""
        u, v = flow[self._inside].T
        return _median_root(u * u + v * v) if len(u) else 0.0

    def remove(self, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A flow (784, 2) without its rigid part, and that part (4, 2)."""
        part = self.fit(flow)
        return flow - self._terms @ part, part

    def remove_dense(self, flow: np.ndarray) -> np.ndarray:
        """A dense flow field (224, 224, 2) without its rigid part."""
        cells = to_cells(flow).reshape(-1, 2)
        rest, _ = self.remove(cells)
        moved = (cells - rest).reshape(CELLS, CELLS, 2).astype(np.float32)
        return flow - cv2.resize(moved, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LINEAR)


def _median_root(squares: np.ndarray) -> float:
    """The median of the roots of (n,) values.

    NumPy's own takes nine times as long on a few hundred.
    """
    rising = np.sort(squares)
    middle = len(rising) // 2
    low = middle - 1 + len(rising) % 2
    return (math.sqrt(rising[low]) + math.sqrt(rising[middle])) / 2


def texture_trust(grey: np.ndarray) -> np.ndarray:
    """(784,) float32, 0 to 1: how well the texture of each cell fixes its motion."""
    texture = to_cells(cv2.cornerMinEigenVal(grey, 15, 3)).ravel()
    return texture / (texture + _TEXTURE)


def region_centres(landmarks: np.ndarray) -> np.ndarray:
    """Centre (18, 2) of each of `REGIONS`, in the pixels of `landmarks` (478, 2 or more)."""
    return np.add.reduceat(landmarks[_MEMBERS, :2], _STARTS, axis=0) / _COUNTS[:, None]


def region_windows(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Gaussian windows of `REGIONS` over columns and over rows of cells, (18, 28) float32 each.

    A window over the cells is the product of both.
    """
    centres = region_centres(landmarks).astype(np.float32)[:, :, None]
    windows = np.exp((_CENTRES - centres) ** 2 * np.float32(-0.5 / _REGION_PX**2))
    return windows[:, 0], windows[:, 1]


def region_means(
    landmarks: np.ndarray, trust: np.ndarray, flow: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The motion of each of `REGIONS`.

    Args:
        landmarks: (478, 3) of the canonical face.
        trust: (784,) in each cell, 0 to 1.
        flow: (784, 2) displacement of each cell.

    Returns:
        Displacement (18, 2) float32, and how much trust each region carries (18,) float32.
    """
    across, down = region_windows(landmarks)
    # (3, 784): how much is carried, and what.
    cells = np.stack([trust, trust * flow[:, 0], trust * flow[:, 1]])
    by_row = (cells.reshape(-1, CELLS) @ across.T).reshape(3, CELLS, -1)
    carried, u, v = np.einsum("cyr,ry->cr", by_row, down)
    return np.column_stack([u, v]) / (carried[:, None] + _REGION_RIDGE), carried


class RegionalMotion:
    """Follows the cells and regions of one face over time."""

    def __init__(self) -> None:
        self._flow: CellFlow | None = None
        self._anchor_s = 0.0
        self._rigid: RigidMotion
        self._regions = np.zeros((len(REGIONS), 2))
        self._cells = np.zeros((len(FACE_CELLS), 2))
        self._head = np.zeros(3)

    def __call__(self, face: CanonicalFace, time_s: float, blink: float, jaw_open: float) -> Motion:
        """The motion of `face`, seen at `time_s` (seconds)."""
        flow = (self._flow or self._set_anchor(face, time_s))(face.grey)
        rigid = self._rigid
        rest, part = rigid.remove(flow)
        moved, trust = region_means(face.landmarks, rigid.weights, rest)
        regions = self._regions + moved
        cells = self._cells + rest[FACE_CELLS]
        head = self._head + (part[0, 0], part[0, 1], (part[1, 1] - part[2, 0]) / 2)
        if time_s - self._anchor_s >= _ANCHOR_S or rigid.how_far(flow) > _ANCHOR_PX:
            self._set_anchor(face, time_s)
            self._regions, self._cells, self._head = regions, cells, head
        inverse = cv2.invertAffineTransform(face.matrix)
        (a, b), (c, d) = face.matrix[:, :2].tolist()
        scale = math.sqrt(abs(a * d - b * c))
        place = (inverse[:, :2] @ (FACE_SIZE / 2, FACE_SIZE / 2) + inverse[:, 2]) * scale
        return Motion(
            time_s,
            regions.astype(np.float32),
            cells.astype(np.float32),
            trust,
            head.astype(np.float32),
            place.astype(np.float32),
            blink,
            jaw_open,
        )

    def _set_anchor(self, face: CanonicalFace, time_s: float) -> CellFlow:
        self._flow, self._anchor_s = CellFlow(face.grey), time_s
        # The flow starts here, and so do the face's outline, depth and texture.
        self._rigid = RigidMotion(face.landmarks, texture_trust(face.grey))
        return self._flow
