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

    def __init__(self) -> None:
        # The preset has 25 iterations, 5 of the refinement, and a stride of 3 pixels; these take
        # two thirds of its time. Measured once. On 18 photos, moved by drawn expressions of 1.5 and
        # 3 px, with sensor noise: cosine to the true flow 0.925, correlation of the strain 0.86
        # (preset: 0.931 and 0.86); where the head moves by 4 px as well, 0.87 and 0.83 (0.87 and
        # 0.81). On 111 rendered micro-expressions in 24 clips of photos and videos, each as it is
        # and with 5 times other noise of one grey level: 565 of the 666 are named as what was
        # hidden (559); 32 have another label than with the preset, 21 of 555 with other noise. A
        # stride of 5 finds less of brows that come together. Fewer than 12 iterations find less of
        # two motions of 4 px.
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setGradientDescentIterations(12)
        self._dis.setVariationalRefinementIterations(4)
        self._dis.setPatchStride(4)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Displacement (height, width, 2) float32 in pixels from `first` to `second`.

        Args:
            first: (height, width) uint8.
            second: (height, width) uint8.
        """
        # Without the outermost pixels no patch ends exactly at the border. With them some do, and
        # of a head that moves by 4 px much is left (cosine 0.63 in place of 0.87).
        first, second = (np.ascontiguousarray(face[1:-1, 1:-1]) for face in (first, second))
        flow = self._dis.calc(  # type: ignore[call-overload]  # the initial flow is optional
            first, second, None
        )
        return cv2.copyMakeBorder(flow, 1, 1, 1, 1, cv2.BORDER_REPLICATE)


def strain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Optical strain magnitude (height, width) of the flow `u` across and `v` down, both so."""
    stretch = cv2.magnitude(_slope(u, 1), _slope(v, 0))
    return cv2.magnitude(stretch, (_slope(u, 0) + _slope(v, 1)) * np.float32(0.5**0.5))


def _slope(channel: np.ndarray, axis: int) -> np.ndarray:
    """What `np.gradient(channel, axis=axis)` gives, in a third of its time."""
    slope = cv2.Sobel(
        channel, -1, axis, 1 - axis, ksize=1, scale=0.5, borderType=cv2.BORDER_REPLICATE
    )
    # There the difference is that of neighbours: the border is one of the two.
    ends = (slice(None), [0, -1]) if axis else ([0, -1], slice(None))
    slope[ends] *= 2
    return slope


def _to_bytes(channel: np.ndarray) -> np.ndarray:
    """A channel (224, 224), scaled from its own range to 0..255 and reduced to (28, 28) uint8."""
    low, high = float(channel.min()), float(channel.max())
    if high - low < 1e-9:
        return np.zeros((FLOW_SIZE, FLOW_SIZE), np.uint8)
    # Scaling and averaging may change places; 784 values take less time to scale than 50,176.
    small = cv2.resize(channel, (FLOW_SIZE, FLOW_SIZE), interpolation=cv2.INTER_AREA)
    return np.rint((small - low) * (255 / (high - low))).astype(np.uint8)


def flow_image(flow: np.ndarray) -> np.ndarray:
    """The (28, 28, 3) uint8 flow image of a flow field (224, 224, 2), in the release's format."""
    u, v = cv2.split(flow)
    return np.dstack([_to_bytes(channel) for channel in (strain(u, v), v, u)])


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
