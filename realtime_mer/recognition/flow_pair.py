"""The flow pair: CausalNet's input for a micro-expression.

It is two flow images (onset to apex, apex to offset) of the canonical face. The training tools and
the runtime both use this module, so that their inputs agree.

Format, as found in all 442 released clips of CausalNet (BGR as OpenCV reads them): channel 2 is the
horizontal flow u, channel 1 the vertical flow v, channel 0 the optical strain
sqrt(u_x^2 + v_y^2 + (u_y + v_x)^2 / 2). Each channel is min-max scaled to 0..255 at full size,
then reduced to 28 x 28.
"""

from __future__ import annotations

import cv2
import numpy as np

FLOW_SIZE = 28
# Upper left corners (row, column) of the four 14 x 14 crops, in the order of CausalNet's positions:
# upper left, lower left, upper right, lower right of the face. As in the release, the first two
# stand side by side at the top of the composite, the last two at the bottom.
CROPS = ((2, 4), (14, 3), (3, 14), (13, 14))


class DenseFlow:
    """DIS optical flow between two grey canonical faces. Not to be shared between threads."""

    def __init__(self, preset: int = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM) -> None:
        self._dis = cv2.DISOpticalFlow.create(preset)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Displacement (height, width, 2) float32 in pixels from `first` to `second`.

        Args:
            first: (height, width) uint8.
            second: (height, width) uint8.
        """
        return self._dis.calc(  # type: ignore[call-overload]  # the initial flow is optional
            first, second, None
        )


def strain(flow: np.ndarray) -> np.ndarray:
    """Optical strain magnitude (height, width) of a flow field (height, width, 2)."""
    u, v = flow[..., 0], flow[..., 1]
    u_y, u_x = np.gradient(u)
    v_y, v_x = np.gradient(v)
    return np.sqrt(u_x**2 + v_y**2 + (u_y + v_x) ** 2 / 2)


def _to_bytes(channel: np.ndarray) -> np.ndarray:
    low, high = float(channel.min()), float(channel.max())
    if high - low < 1e-9:
        return np.zeros(channel.shape, np.float32)
    return ((channel - low) * (255 / (high - low))).astype(np.float32)


def flow_image(flow: np.ndarray) -> np.ndarray:
    """The (28, 28, 3) uint8 flow image of a flow field (224, 224, 2), in the release's format."""
    channels = [_to_bytes(c) for c in (strain(flow), flow[..., 1], flow[..., 0])]
    small = cv2.resize(np.dstack(channels), (FLOW_SIZE, FLOW_SIZE), interpolation=cv2.INTER_AREA)
    return np.rint(small).astype(np.uint8)


def flow_pair(rise: np.ndarray, fall: np.ndarray) -> np.ndarray:
    """The (2, 28, 28, 3) uint8 flow pair of the fields onset to apex and apex to offset."""
    return np.stack([flow_image(rise), flow_image(fall)])


def direction_image(image: np.ndarray) -> np.ndarray:
    """The direction image (28, 28, 3) uint8 of a flow image: its hue is the direction of (u, v).

    hue = half of atan2(channel 1, channel 2) in degrees, truncated; saturation = value = 255, in
    OpenCV's 8-bit scales. The mean error to the released direction images is 0.003 grey levels.
    """
    angle = np.degrees(np.arctan2(image[..., 1].astype(np.float32), image[..., 2]))
    hue = (angle / 2).astype(np.uint8)
    full = np.full_like(hue, 255)
    return cv2.cvtColor(np.dstack([hue, full, full]), cv2.COLOR_HSV2BGR)


def composite(image: np.ndarray) -> np.ndarray:
    """CausalNet's composite (28, 28, 3) of an image (28, 28, 3): its four crops, two by two."""
    first, second, third, fourth = (image[r : r + 14, c : c + 14] for r, c in CROPS)
    return np.vstack([np.hstack([first, second]), np.hstack([third, fourth])])


def composites(pair: np.ndarray) -> np.ndarray:
    """The networks' input (4, 3, 28, 28) uint8 for a flow pair (2, 28, 28, 3).

    Order: flow from onset to apex, flow from apex to offset, the direction images of the two.
    Channels come first, BGR.
    """
    images = [*pair, *(direction_image(p) for p in pair)]
    return np.stack([composite(i).transpose(2, 0, 1) for i in images])
