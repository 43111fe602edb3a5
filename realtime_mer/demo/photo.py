"""The photo of the demo: a face whose skin can be moved, and a swaying camera."""

from __future__ import annotations

import cv2
import numpy as np
from skimage import data

from realtime_mer.face.registration import (
    FACE_SIZE,
    LAYOUT,
    five_points,
    similarity,
    transform,
)

SIZE = (640, 480)
"""(width, height) of the clip in pixels."""

# The face is 89 px wide in the photo and about 200 px in the clip.
_ENLARGE = 2.25
# Centre of the face in the photo, pixels.
_CENTRE = (226.0, 127.0)
# Width in pixels by which the enlarged photo exceeds the clip on each side, so that the camera can
# sway.
_MARGIN = 32
# Heights above the lid's edge, pixels of the canonical face: the skin that unfolds in a blink, and
# the lashes, which keep their shape. Chosen by judgement on the photo.
_LID_SKIN_PX = 17.0
_LASHES_PX = 6.0
# Face mesh indices of upper and lower lid from corner to corner, image-left and image-right eye.
_LIDS = (
    (
        (33, 246, 161, 160, 159, 158, 157, 173, 133),
        (33, 7, 163, 144, 145, 153, 154, 155, 133),
    ),
    (
        (362, 398, 384, 385, 386, 387, 388, 466, 263),
        (362, 382, 381, 380, 374, 373, 390, 249, 263),
    ),
)


def demo_photo() -> np.ndarray:
    """The enlarged photo (544, 704, 3) uint8, BGR, with the face in the middle."""
    width, height = SIZE[0] + 2 * _MARGIN, SIZE[1] + 2 * _MARGIN
    matrix = np.array(
        [
            [_ENLARGE, 0, width / 2 - _ENLARGE * _CENTRE[0]],
            [0, _ENLARGE, height / 2 - _ENLARGE * _CENTRE[1]],
        ]
    )
    return cv2.warpAffine(
        np.ascontiguousarray(data.astronaut()[..., ::-1]),
        matrix,
        (width, height),
        flags=cv2.INTER_LANCZOS4,
        borderMode=cv2.BORDER_REFLECT,
    )


class PhotoFace:
    """Transfers motions of the canonical face to the face of a photo.

    Args:
        photo: (height, width, 3) uint8.
        landmarks: (478, 2 or more), the face mesh in pixels of the photo.
    """

    def __init__(self, photo: np.ndarray, landmarks: np.ndarray) -> None:
        self._size = photo.shape[1::-1]
        canonical = similarity(five_points(landmarks).astype(float), LAYOUT.astype(float))
        self._to_photo = cv2.invertAffineTransform(canonical)
        rows, columns = np.mgrid[0 : self._size[1], 0 : self._size[0]].astype(np.float32)
        self._grid = np.dstack([columns, rows])
        mesh = transform(landmarks[:, :2], canonical)
        self._eyes = [(mesh[list(upper)], mesh[list(lower)]) for upper, lower in _LIDS]

    def field(self, canonical: np.ndarray) -> np.ndarray:
        """A field of the canonical face (224, 224, 2) as one of the photo (height, width, 2)."""
        turned = canonical @ self._to_photo[:, :2].T
        return cv2.warpAffine(
            turned.astype(np.float32), self._to_photo, self._size, flags=cv2.INTER_LINEAR
        )

    def backwards(self, field: np.ndarray) -> np.ndarray:
        """The backward field of a forward `field` (height, width, 2), in pixels of the photo.

        `field` says where the skin at each pixel goes, the backward field b where it came from:
        b(q) = field(q - b(q)). The fields are smooth enough for three fixed-point iterations.
        """
        back = field
        for _ in range(3):
            back = cv2.remap(  # type: ignore[call-overload]  # the second map is optional
                field, self._grid - back, None, cv2.INTER_LINEAR
            )
        return back

    def blink(self, photo: np.ndarray, closed: float) -> np.ndarray:
        """The photo with the upper lids `closed`, from 0 to 1.

        The lashes slide over the eye, which stays in place, and the skin above them unfolds. The
        lid is moved alone and blended over the eye, since the motion jumps at the lid's edge.
        """
        rows, columns = np.mgrid[0:FACE_SIZE, 0:FACE_SIZE].astype(np.float32)
        fields = np.zeros((FACE_SIZE, FACE_SIZE, 2), np.float32)
        cover = np.zeros((FACE_SIZE, FACE_SIZE), np.float32)
        for upper, lower in self._eyes:
            # The lashes extend below the landmarks of the lid, and touch the lower lid when closed.
            start = np.interp(columns[0], upper[:, 0], upper[:, 1]) + 1.5
            end = np.interp(columns[0], lower[:, 0], lower[:, 1]) + 1.5
            fall = closed * np.maximum(end - start, 0)
            fold, lashes = start - _LID_SKIN_PX, start + fall - _LASHES_PX
            unfolded = np.clip((rows - fold) / (lashes - fold), 0, 1)
            across = (columns > upper[0, 0]) & (columns < upper[-1, 0])
            fields[..., 1] += np.where(across, unfolded * fall, 0)
            # Blend the lid into the eye within half a pixel on either side of its edge.
            cover += np.where(across, np.clip(start + fall + 0.5 - rows, 0, 1) * (rows > fold), 0)
        lids = cv2.remap(  # type: ignore[call-overload]  # the second map is optional
            photo, self._grid - self.field(fields), None, cv2.INTER_CUBIC
        )
        share = cv2.warpAffine(cover, self._to_photo, self._size, flags=cv2.INTER_LINEAR)
        return np.rint(photo + share[..., None] * (lids.astype(np.float32) - photo)).astype(
            np.uint8
        )


class SwayingCamera:
    """A hand-held camera: it slowly shifts by a few pixels, and tilts and zooms a little."""

    def __init__(self, rng: np.random.Generator) -> None:
        # x and y in pixels, tilt in degrees, zoom as a fraction: two sine waves each. Chosen by
        # judgement.
        largest = np.array([[3.0], [2.0], [0.5], [0.004]])
        self._amplitude = largest * rng.uniform(0.3, 1.0, (4, 2))
        self._frequency_hz = rng.uniform(0.05, 0.3, (4, 2))
        self._phase = rng.uniform(0, 2 * np.pi, (4, 2))
        rows, columns = np.mgrid[0 : SIZE[1], 0 : SIZE[0]].astype(np.float32)
        self._columns, self._rows = columns, rows

    def picture(self, photo: np.ndarray, motion: np.ndarray | None, time_s: float) -> np.ndarray:
        """The frame (480, 640, 3) uint8 at a time, with the photo interpolated only once.

        Args:
            photo: (544, 704, 3) uint8, as `demo_photo` gives it.
            motion: (544, 704, 2) float32, backward field of the skin; None for none.
            time_s: The time.
        """
        sines = np.sin(2 * np.pi * self._frequency_hz * time_s + self._phase)
        x, y, tilt, zoom = (self._amplitude * sines).sum(1)
        centre = (SIZE[0] / 2, SIZE[1] / 2)
        to_photo = cv2.getRotationMatrix2D(centre, tilt, 1 + zoom)
        to_photo[:, 2] += x + _MARGIN, y + _MARGIN
        a = to_photo.astype(np.float32)
        positions = np.dstack(
            [a[i, 0] * self._columns + a[i, 1] * self._rows + a[i, 2] for i in (0, 1)]
        )
        if motion is not None:
            positions -= cv2.remap(  # type: ignore[call-overload]  # the second map is optional
                motion, positions, None, cv2.INTER_LINEAR
            )
        return cv2.remap(  # type: ignore[call-overload]  # the second map is optional
            photo, positions, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
