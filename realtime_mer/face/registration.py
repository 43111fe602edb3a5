"""Registration: a face of any size, place and tilt becomes the canonical face.

The canonical face is grey, 224 x 224 pixels; its layout is the mean of the released flow images,
with the eye centres 95 px apart. Registration uses points that expressions do not move (eye
corners, nose bridge, face contour at the jaw hinge and forehead): brows or mouth would cancel the
very motion that we look for.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

FACE_SIZE = 224
"""Width and height of the canonical face in pixels."""

# Mean five-point layout of the released flow images (28 x 28), in pixels of the canonical face:
# image-left eye, image-right eye, nose tip, image-left and image-right corner of the mouth.
LAYOUT = np.array(
    [[9.528, 11.063], [21.396, 10.920], [15.380, 17.381], [10.255, 22.121], [20.584, 22.256]],
    np.float32,
) * (FACE_SIZE / 28)

# Face mesh indices: eye corners, nose bridge, temples and jaw hinge, upper forehead.
RIGID = np.array(
    [33, 133, 362, 263, 168, 6, 197, 195, 5, 127, 234, 93, 356, 454, 323, 162, 389, 21, 251]
    + [10, 109, 338, 67, 297]
)
# Time constant with which the template follows the person's own layout. Chosen by judgement: six
# times the longest micro-expression, so that it cannot follow an expression.
_TEMPLATE_S = 3.0
# Below this scale, reduce a large face by areas first, or sampling would alias; to this multiple of
# the canonical size, so that the interpolation that follows has pixels to work with. Chosen by
# judgement; the tests check both.
_ALIASING_SCALE = 0.67
_REDUCED_SIZE = 1.25


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """The five points (5, 2) of a face mesh (478, 2 or more) that `LAYOUT` places."""
    p = landmarks[:, :2]
    eyes = p[[33, 133]].mean(0), p[[362, 263]].mean(0)
    return np.array([*eyes, p[1], p[61], p[291]], np.float32)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity (2, 3) that maps `source` (n, 2) onto `target` (n, 2).

    The method is Umeyama's (PAMI 1991), without mirroring.

    Raises:
        ValueError: All points of `source` are the same.
    """
    mean_s, mean_t = source.mean(0), target.mean(0)
    s, t = source - mean_s, target - mean_t
    norm = float((s**2).sum())
    if norm < 1e-9:
        raise ValueError("all points of the face are the same")
    a = float((s * t).sum()) / norm
    b = float((s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum()) / norm
    turn = np.array([[a, -b], [b, a]])
    return np.hstack([turn, (mean_t - turn @ mean_s)[:, None]])


def transform(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (n, 2) mapped by an affine matrix (2, 3)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


@dataclass(frozen=True, slots=True, eq=False)
class CanonicalFace:
    """A registered face.

    Attributes:
        grey: (224, 224) uint8.
        landmarks: (478, 3) float32 in pixels of the canonical face; depth on the same scale.
        matrix: (2, 3) float64, frame to canonical.
    """

    grey: np.ndarray
    landmarks: np.ndarray
    matrix: np.ndarray


class Registration:
    """Registers one face over time.

    The rigid points are fitted to a template of the person's own rigid points, which starts from
    the five-point layout and follows slowly. Averaging over two dozen points removes most of the
    landmarks' jitter; the rest is a similarity that `motion` removes from the flow.
    """

    def __init__(self) -> None:
        self._template: np.ndarray | None = None
        self._time_s = 0.0

    def __call__(self, image: np.ndarray, landmarks: np.ndarray, time_s: float) -> CanonicalFace:
        """The canonical face of one frame.

        Args:
            image: (height, width, 3) uint8, BGR.
            landmarks: (478, 3) in pixels of the image.
            time_s: Time of the frame.

        Raises:
            ValueError: All landmarks are the same point.
        """
        points = landmarks[:, :2].astype(np.float64)
        rigid = points[RIGID]
        by_five = similarity(five_points(points).astype(np.float64), LAYOUT.astype(np.float64))
        seen = transform(rigid, by_five)
        if self._template is None:
            self._template = seen
        else:
            rate = 1 - np.exp(-max(0.0, time_s - self._time_s) / _TEMPLATE_S)
            self._template = self._template + rate * (seen - self._template)
        self._time_s = time_s
        matrix = similarity(rigid, self._template)
        # It leaves the analysis with the state of the face.
        matrix.setflags(write=False)
        scale = np.sqrt(np.linalg.det(matrix[:, :2]))
        placed = np.column_stack([transform(points, matrix), landmarks[:, 2] * scale])
        return CanonicalFace(crop(image, matrix), placed.astype(np.float32), matrix)


def crop(image: np.ndarray, matrix: np.ndarray, *, colour: bool = False) -> np.ndarray:
    """The canonical face that `matrix` (2, 3) cuts out of a BGR image.

    Pixels outside the image repeat its border.

    Returns:
        (224, 224) uint8, grey; with `colour`, (224, 224, 3) uint8, BGR.
    """
    inverse = cv2.invertAffineTransform(matrix)
    corners = transform(
        np.array([[0, 0], [FACE_SIZE, 0], [0, FACE_SIZE], [FACE_SIZE, FACE_SIZE]], float), inverse
    )
    height, width = image.shape[:2]
    x0, y0 = np.clip(np.floor(corners.min(0)).astype(int) - 2, 0, [width - 1, height - 1])
    x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int) + 3, 1, [width, height])
    part = image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    if not colour:
        part = cv2.cvtColor(part, cv2.COLOR_BGR2GRAY)
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ (x0, y0)
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < _ALIASING_SCALE:
        # Pass a size, which OpenCV maps the whole picture to: with factors, the ratio below would
        # be off by up to a pixel at the far edge.
        if colour:
            # For people to look at, whole steps are good enough, and faster.
            step = min(int(1 / scale), *part.shape[:2])
            size = [length // step for length in part.shape[1::-1]]
            part = part[: size[1] * step, : size[0] * step]
        else:
            size = [max(1, round(_REDUCED_SIZE * scale * length)) for length in part.shape[1::-1]]
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        ratio = np.array([small.shape[1] / part.shape[1], small.shape[0] / part.shape[0]])
        # Pixel centres: x_part = (x_small + 0.5) / ratio - 0.5
        shifted[:, 2] += shifted[:, :2] @ (0.5 / ratio - 0.5)
        shifted[:, :2] = shifted[:, :2] / ratio
        part = small
    return cv2.warpAffine(
        part,
        shifted,
        (FACE_SIZE, FACE_SIZE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
