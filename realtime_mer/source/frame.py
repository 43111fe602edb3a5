"""A picture of the source, with its place in the source's own time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from realtime_mer.source.limits import MAX_SIDE


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame as it left the source. It crosses threads, so nothing in it ever changes.

    Attributes:
        index: Number of the frame in the source, from 0; dropped frames keep their numbers.
        time_s: Seconds since the source's first frame, in the source's own clock (file:
            presentation time; live source: time of capture).
        image: (height, width, 3) uint8, BGR, C-contiguous and not writeable.
        captured_at: `time.monotonic()` when the picture was taken (file: read); latency counts
            from it.
        position_s: The presentation time in the source's container, which may begin anywhere and
            jump; None if it has none.

    Raises:
        ValueError: `image` has another shape or type.
    """

    index: int
    time_s: float
    image: np.ndarray
    captured_at: float
    position_s: float | None = None

    def __post_init__(self) -> None:
        check_picture(self.image)
        self.image.setflags(write=False)


def check_picture(image: np.ndarray) -> None:
    """Refuses what is no picture that can be analysed.

    Raises:
        ValueError: It is not (height, width, 3) uint8 with sides of 1 to `MAX_SIDE` pixels.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"a picture is an array, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"a picture is (height, width, 3) uint8, got {image.shape} {image.dtype}")
    if not all(1 <= side <= MAX_SIDE for side in image.shape[:2]):
        raise ValueError(
            f"a picture has sides of 1 to {MAX_SIDE} pixels, got {image.shape[1]} x "
            f"{image.shape[0]}"
        )
