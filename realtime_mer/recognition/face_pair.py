"""The flow pair of an interval, made from the faces in the ring buffer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from realtime_mer.face.registration import CanonicalFace
from realtime_mer.face.ring import RingBuffer
from realtime_mer.recognition.flow_pair import DenseFlow, flow_pair
from realtime_mer.results import EventPicture, Interval
from realtime_mer.spotting.cell_flow import to_cells
from realtime_mer.spotting.motion import RigidMotion, face_mask, texture_trust


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
    """Makes flow pairs. Not to be shared between threads."""

    def __init__(self) -> None:
        self._flow = DenseFlow()

    def __call__(self, ring: RingBuffer, interval: Interval) -> FlowPair:
        """The flow pair of an interval.

        Args:
            ring: The faces of the interval, and more.
            interval: Onset, apex and offset.
        """
        onset, apex, offset = (
            ring.at(t) for t in (interval.onset_s, interval.apex_s, interval.offset_s)
        )
        rigid = RigidMotion(apex.landmarks, texture_trust(apex.grey))
        rise = rigid.remove_dense(self._flow(onset.grey, apex.grey))
        fall = rigid.remove_dense(self._flow(apex.grey, offset.grey))
        intensity = _largest_px(rise, apex)
        picture = EventPicture(onset.grey, apex.grey, to_cells(rise).astype(np.float32))
        for array in (picture.onset, picture.apex, picture.flow):
            array.setflags(write=False)
        return FlowPair(flow_pair(rise, fall), intensity, picture)

    def moved_px(self, first: CanonicalFace, second: CanonicalFace) -> float:
        """How far the skin came from one face to another, measured as `intensity_px`."""
        rigid = RigidMotion(second.landmarks, texture_trust(second.grey))
        return _largest_px(rigid.remove_dense(self._flow(first.grey, second.grey)), second)


def _largest_px(flow: np.ndarray, face: CanonicalFace) -> float:
    """99th percentile displacement inside the face of a flow (224, 224, 2)."""
    size = np.linalg.norm(flow, axis=-1)[face_mask(face.landmarks)]
    return float(np.percentile(size, 99)) if size.size else 0.0
