"""The flow pair of an interval, made from the faces in the ring buffer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from realtime_mer.face.registration import CanonicalFace
from realtime_mer.face.ring import RingBuffer
from realtime_mer.recognition.flow_pair import DenseFlow, flow_image
from realtime_mer.results import EventPicture, Interval
from realtime_mer.spotting.cell_flow import to_cells
from realtime_mer.spotting.motion import RigidMotion, texture_trust


@dataclass(frozen=True, slots=True, eq=False)
class FlowPair:
    """The motion of an interval, for the classifier and for people.

    Attributes:
        images: (2, 28, 28, 3) uint8, onset to apex and apex to offset.
        intensity_px: 99th percentile of the displacement from onset to apex inside the face, pixels
            of the canonical face.
        picture: For people.
    """

    images: np.ndarray
    intensity_px: float
    picture: EventPicture


class FacePair:
    """Makes flow pairs of any faces. Not to be shared between threads."""

    def __init__(self) -> None:
        # For the rise and, in another thread, for the fall.
        self._flow, self._flow_of_fall = DenseFlow(), DenseFlow()
        self._beside = ThreadPoolExecutor(1, "fall")

    def close(self) -> None:
        """Ends the thread. May be called twice."""
        self._beside.shutdown()

    def __call__(self, ring: RingBuffer, interval: Interval) -> FlowPair:
        """The flow pair of an interval.

        Args:
            ring: The faces of the interval, and more.
            interval: Onset, apex and offset.
        """
        onset, apex, offset = (
            ring.at(t) for t in (interval.onset_s, interval.apex_s, interval.offset_s)
        )

        def image_of_fall() -> np.ndarray:
            return flow_image(head.remove_dense(flow_of_fall.result()))

        # The two flows take most of the time, and an event waits for its name: they are measured
        # side by side. OpenCV lets Python's other threads run meanwhile.
        flow_of_fall = self._beside.submit(self._flow_of_fall, apex.grey, offset.grey)
        head = RigidMotion(apex.landmarks, texture_trust(apex.grey))
        fall = self._beside.submit(image_of_fall)
        rise = head.remove_dense(self._flow(onset.grey, apex.grey))
        image_of_rise, intensity = flow_image(rise), _largest_px(rise, head)
        picture = EventPicture(onset.grey, apex.grey, to_cells(rise).astype(np.float32))
        images = np.stack([image_of_rise, fall.result()])
        for array in (picture.onset, picture.apex, picture.flow):
            array.setflags(write=False)
        return FlowPair(images, intensity, picture)

    def moved_px(self, first: CanonicalFace, second: CanonicalFace) -> float:
        """How far the skin came from one face to another, measured as `intensity_px`."""
        rigid = RigidMotion(second.landmarks, texture_trust(second.grey))
        return _largest_px(rigid.remove_dense(self._flow(first.grey, second.grey)), rigid)


def _largest_px(flow: np.ndarray, head: RigidMotion) -> float:
    """99th percentile displacement inside the face of a flow (224, 224, 2)."""
    # The flow is as fine as every second pixel.
    u, v = cv2.split(flow[::2, ::2])
    size = cv2.magnitude(u, v)[head.inside[::2, ::2]]
    return float(np.percentile(size, 99)) if size.size else 0.0
