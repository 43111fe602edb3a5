"""A picture of the source, with its place in the source's own time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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

    Raises:
        ValueError: `image` has another shape or type.
    """

    index: int
    time_s: float
    image: np.ndarray
    captured_at: float

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"a frame is (height, width, 3) uint8, got {self.image.shape} {self.image.dtype}"
            )
        self.image.setflags(write=False)
