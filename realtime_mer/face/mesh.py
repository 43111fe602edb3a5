"""MediaPipe's face mesh: which of its 478 points are what, and where a face begins and ends."""

from __future__ import annotations

import numpy as np

# Indices of the mesh's points along each outline, from MediaPipe's `FaceLandmarksConnections`.
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
BROWS = (
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
)
LIPS = (
    (
        *(61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291),
        *(409, 270, 269, 267, 0, 37, 39, 40, 185),
    ),
    (
        *(78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
        *(415, 310, 311, 312, 13, 82, 81, 80, 191),
    ),
)

# Chosen by judgement: from one sighting to the next, no head moves or grows by this part of its
# size.
_JUMP = 0.5


def corners(landmarks: np.ndarray) -> np.ndarray:
    """Upper left and lower right corner (2, 2) of a face mesh (478, 2 or more), same units."""
    points = landmarks[:, :2]
    return np.array([points.min(0), points.max(0)])


def has_jumped(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a face moved or grew too far to be the same head; both are `corners` (2, 2)."""
    return bool(np.abs(after - before).max() > _JUMP * np.ptp(before, axis=0).max())
