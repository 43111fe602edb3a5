"""Regional motion: the displacement of each part of a face, without the head's motion.

Flow runs from an anchor face, replaced about once a second, to every new canonical face. A robust
fit removes the rigid motion of the head: an affine motion of the whole face, and the parallax of a
turning head, which is proportional to depth. Only textured skin is trusted: on flat skin, the
smoothness of the flow invents most of it.
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
# Number of regions that carry expressions. The last two, the eyes, show blinks and gaze.
EXPRESSIVE = len(REGIONS) - 2
# The next constants were chosen by judgement, and measured later: see "Constants, measured" in
# docs/spotting.md.
# Standard deviation of a region's Gaussian window, pixels of the canonical face. With 5, 10 and
# 20 px, motion stands 24, 28 and 32 times above the noise, and regions that are still take in 0.07,
# 0.12 and 0.18 px of their neighbours' 2 px.
_REGION_PX = 10.0
# Replace the anchor after this time, or when the face has moved this far from it: large
# displacements are measured less precisely. Without replacement, the 90th percentile of a restless
# face's motion within 4 frames rises by up to 46 %, with 8 px in place of 4 by 12 %; anything from
# 0.4 to 3.2 s is within 6 %. Frequent replacement adds drift.
_ANCHOR_S = 0.8
_ANCHOR_PX = 4.0
# Smaller eigenvalue of the structure tensor at which a cell's trust is 1/2. Sensor noise alone
# gives 4e-5 (sigma 2 grey levels) to 1.3e-4 (3.5); the median over 18 faces is 3.7e-4. Below, flow
# finds 3/4 of a motion with errors of 38 to 53 %; above, 84 to 91 % with errors of 21 to 33 %.
_TEXTURE = 3e-4
# Shrinks the displacement of regions that carry hardly any trust; in units of that trust (in
# videos its median is 1.6 to 6, its 1st percentile 0.1 to 1.5). It lowers the noise where the trust
# is below 0.5 by 44 %, and the motion that is found by 6 %.
_REGION_RIDGE = 0.3
# Keeps the rigid fit solvable where hardly anything is textured.
_RIDGE = np.hstack([1e-4 * np.eye(4, dtype=np.float32), np.zeros((4, 2), np.float32)])
# With fewer textured cells, fit no rigid motion. Chosen by judgement: five a coefficient.
_MIN_CELLS = 20
# Rounds of the rigid fit by reweighted least squares. A residual has Cauchy's weight; the scale is
# this multiple of the median residual, but at least so many pixels. Chosen by judgement.
_FIT_ROUNDS = 5
_FIT_SCALE = 1.5
_MIN_FIT_SCALE_PX = 0.15
_CENTRES = (np.arange(CELLS, dtype=np.float32) + 0.5) * _CELL - 0.5
_X, _Y = (c.ravel() for c in np.meshgrid(_CENTRES, _CENTRES))
# 1, x and y of each cell, (784,) each; x and y in half faces from the middle.
_PLANE = (
    np.ones_like(_X),
    (_X - FACE_SIZE / 2) / (FACE_SIZE / 2),
    (_Y - FACE_SIZE / 2) / (FACE_SIZE / 2),
)
# Indices of the cells of an upright face among the 28 x 28; symmetric about column 15.
_ROWS, _COLUMNS = np.mgrid[0:CELLS, 0:CELLS]
FACE_CELLS = np.flatnonzero(((_COLUMNS - 15) / 11.5) ** 2 + ((_ROWS - 14.5) / 13) ** 2 <= 1)
FACE_CELLS.setflags(write=False)
_MEMBERS = np.array([i for members in REGIONS.values() for i in members])
_COUNTS = np.array([len(members) for members in REGIONS.values()])
_STARTS = np.r_[0, np.cumsum(_COUNTS)[:-1]]


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """The state of a face's motion in one frame.

    Displacements count from an arbitrary start: only their differences between frames matter.

    Attributes:
        time_s: Time of the frame.
        regions: (18, 2) float32, displacement (x, y) of each of `REGIONS` in pixels of the
            canonical face.
        cells: (n, 2) float32, the same for each of `FACE_CELLS`.
        trust: (18,) float32, the textured skin in each region, in trusted cells; 0 is none.
        head: (3,) float32, displacement of the whole face that the registration left (x, y,
            turn), pixels.
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
    """(224, 224) bool: inside the face, at a distance from its moving outline."""
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
    # Continue the depth beyond the rim of the face: a step there would look like strain.
    level = wide[0] / np.maximum(wide[1], 1e-6)
    depth = ((near[0] + 0.02 * level) / (near[1] + 0.02)).ravel()
    return (depth - (depth * mask).sum() / max(mask.sum(), 1)) / (FACE_SIZE / 2)


class RigidMotion:
    """What a rigid head can do to the flow: shift, scale, turn, shear and parallax.

    Args:
        landmarks: (478, 3) of the canonical face.
        texture: (784,) trust in each cell, 0 to 1.

    Attributes:
        inside: `face_mask` of the landmarks.
        weights: (784,) trust in each cell inside the face, 0 outside.
    """

    def __init__(self, landmarks: np.ndarray, texture: np.ndarray) -> None:
        self.inside = face_mask(landmarks)
        whole = self.inside.view(np.uint8) * np.uint8(255)
        mask = (to_cells(whole) > 204).astype(np.float32).ravel()
        self.weights = texture * mask
        # (784, 4). u and v have the same four terms each, so one 4 x 4 system serves both.
        self._terms = np.column_stack([*_PLANE, _depth(landmarks, mask)])
        # The trusted cells only, (4, trusted): a row a term, contiguous in memory.
        self._trusted = np.flatnonzero(self.weights)
        self._trusted_weights = self.weights[self._trusted]
        self._trusted_terms = np.ascontiguousarray(self._terms[self._trusted].T)

    def fit(self, flow: np.ndarray) -> np.ndarray:
        """Coefficients (4, 2) float32 of the rigid part of a flow (784, 2).

        The rows belong to a constant, x, y and depth, the columns to u and v.
        """
        if len(self._trusted) < _MIN_CELLS:
            return np.zeros((4, 2), np.float32)
        terms, weights = self._trusted_terms, self._trusted_weights
        # (6, trusted): with the flow below the terms, one product gives both sides of the system.
        rows = np.concatenate([terms, flow[self._trusted].T], dtype=np.float32)
        target = rows[4:]
        for _ in range(_FIT_ROUNDS):
            system = (terms * weights) @ rows.T + _RIDGE  # (4, 6)
            # OpenCV's solver takes half the time of NumPy's on a system this small.
            _, coefficients = cv2.solve(system[:, :4], system[:, 4:], flags=cv2.DECOMP_CHOLESKY)
            residual = target - coefficients.T @ terms
            residual *= residual
            square = residual[0] + residual[1]
            scale = max(_MIN_FIT_SCALE_PX, _FIT_SCALE * _median_root(square))
            weights = self._trusted_weights / (1 + square * (1 / scale**2))
        return coefficients

    def median_displacement(self, flow: np.ndarray) -> float:
        """Median displacement of the trusted cells in a flow (784, 2); 0 if there are none."""
        u, v = flow[self._trusted].T
        return _median_root(u * u + v * v) if len(u) else 0.0

    def remove(self, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A flow (784, 2) without its rigid part, and the coefficients (4, 2) of that part."""
        coefficients = self.fit(flow)
        return flow - self._terms @ coefficients, coefficients

    def remove_dense(self, flow: np.ndarray) -> np.ndarray:
        """A dense flow field (224, 224, 2) without its rigid part."""
        cells = to_cells(flow).reshape(-1, 2)
        residual, _ = self.remove(cells)
        rigid = (cells - residual).reshape(CELLS, CELLS, 2).astype(np.float32)
        rigid = cv2.resize(rigid, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LINEAR)
        return np.subtract(flow, rigid, out=rigid)


def _median_root(squares: np.ndarray) -> float:
    """The median of the square roots of (n,) values.

    `np.median` takes nine times as long on a few hundred values.
    """
    ascending = np.sort(squares)
    middle = len(ascending) // 2
    low = middle - 1 + len(ascending) % 2
    return (math.sqrt(ascending[low]) + math.sqrt(ascending[middle])) / 2


def texture_trust(grey: np.ndarray) -> np.ndarray:
    """(784,) float32, 0 to 1: how well the texture of each cell determines its motion."""
    texture = to_cells(cv2.cornerMinEigenVal(grey, 15, ksize=3)).ravel()
    return texture / (texture + _TEXTURE)


def region_centres(landmarks: np.ndarray) -> np.ndarray:
    """Centre (18, 2) of each of `REGIONS`, in the pixels of `landmarks` (478, 2 or more)."""
    return np.add.reduceat(landmarks[_MEMBERS, :2], _STARTS, axis=0) / _COUNTS[:, None]


def region_windows(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Gaussian windows of `REGIONS` over columns and over rows of cells, (18, 28) float32 each.

    The window over the cells is the outer product of the two.
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
        Displacement (18, 2) float32, and the trust in each region (18,) float32, in trusted cells.
    """
    over_columns, over_rows = region_windows(landmarks)
    # (3, 784): trust, trusted u, trusted v.
    cells = np.stack([trust, trust * flow[:, 0], trust * flow[:, 1]])
    # (3, 28 rows, 18 regions)
    by_row = (cells.reshape(-1, CELLS) @ over_columns.T).reshape(3, CELLS, -1)
    region_trust, u, v = np.einsum("cyr,ry->cr", by_row, over_rows)
    return np.column_stack([u, v]) / (region_trust[:, None] + _REGION_RIDGE), region_trust


class RegionalMotion:
    """Follows the cells and regions of one face over time."""

    def __init__(self) -> None:
        self._flow: CellFlow | None = None
        self._rigid: RigidMotion
        # Time and positions of the anchor.
        self._anchor_s = 0.0
        self._regions = np.zeros((len(REGIONS), 2))
        self._cells = np.zeros((len(FACE_CELLS), 2))
        self._head = np.zeros(3)

    def __call__(self, face: CanonicalFace, time_s: float, blink: float, jaw_open: float) -> Motion:
        """The motion of `face`, seen at `time_s` (seconds).

        Args:
            face: The registered face.
            time_s: Time of its frame.
            blink: 0 open to 1 closed; passed on.
            jaw_open: 0 to 1; passed on.
        """
        flow = (self._flow or self._set_anchor(face, time_s))(face.grey)
        rigid = self._rigid
        residual, coefficients = rigid.remove(flow)
        displacement, trust = region_means(face.landmarks, rigid.weights, residual)
        regions = self._regions + displacement
        cells = self._cells + residual[FACE_CELLS]
        (shift_x, shift_y), (_, v_x), (u_y, _), _ = coefficients
        head = self._head + (shift_x, shift_y, (v_x - u_y) / 2)
        if time_s - self._anchor_s >= _ANCHOR_S or rigid.median_displacement(flow) > _ANCHOR_PX:
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
        # Outline, depth and texture are the anchor's, as the flow starts there.
        self._rigid = RigidMotion(face.landmarks, texture_trust(face.grey))
        return self._flow
