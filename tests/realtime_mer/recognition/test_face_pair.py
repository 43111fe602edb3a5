"""The flow pair of an interval: the motion of its faces, without the motion of the head."""

import threading

import cv2
import numpy as np
import pytest

from realtime_mer.demo.action_units import expression
from realtime_mer.face.registration import CanonicalFace
from realtime_mer.face.ring import RingBuffer
from realtime_mer.recognition.face_pair import FacePair, FlowPair
from realtime_mer.recognition.flow_pair import flow_image
from realtime_mer.results import Interval
from realtime_mer.spotting.cell_flow import FACE_GRID
from realtime_mer.spotting.motion import face_mask

RAISED_BROWS = expression(("AU1", "AU2"), peak_px=2.5)
EVENT = Interval(0.2, 0.4, 0.6)


def warped(face: CanonicalFace, field: np.ndarray) -> CanonicalFace:
    """The face with its skin moved by a smooth field (224, 224, 2)."""
    field = field.astype(np.float32)
    back = field
    for _ in range(3):
        back = cv2.remap(field, FACE_GRID - back, None, cv2.INTER_LINEAR)
    grey = cv2.remap(
        face.grey, FACE_GRID - back, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return CanonicalFace(grey, face.landmarks, face.matrix)


def pair_of(
    face: CanonicalFace, brows: np.ndarray = RAISED_BROWS, head: np.ndarray | float = 0.0
) -> FlowPair:
    """The flow pair of brows that rise and fall, and of a head that moves with them."""
    ring = RingBuffer(1.5, 30)
    for i in range(9):
        time_s = i / 10
        strength = max(0.0, 1 - abs(time_s - EVENT.apex_s) / 0.2)
        ring.append(time_s, warped(face, strength * (brows + head)))
    return FacePair()(ring, EVENT)


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.astype(float).ravel(), second.astype(float).ravel())[0, 1])


def test_images_show_the_rise_and_then_the_fall(astronaut_face):
    pair = pair_of(astronaut_face)
    assert pair.images.shape == (2, 28, 28, 3)
    assert pair.images.dtype == np.uint8
    vertical = 1  # channel of v, the direction in which brows move
    rise, fall = (flow_image(field)[..., vertical] for field in (RAISED_BROWS, -RAISED_BROWS))
    assert likeness(pair.images[0][..., vertical], rise) > 0.8
    assert likeness(pair.images[1][..., vertical], fall) > 0.8


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_intensity_is_the_displacement_at_the_apex(astronaut_face, strength):
    inside = face_mask(astronaut_face.landmarks)
    size = np.percentile(np.linalg.norm(strength * RAISED_BROWS, axis=-1)[inside], 99)
    # DIS flow smooths, and the rigid fit takes a part of raised brows for the head's.
    found = pair_of(astronaut_face, brows=strength * RAISED_BROWS).intensity_px
    assert 0.6 * size <= found <= size + 0.05


def test_motion_of_the_head_is_removed(astronaut_face):
    still, moved = pair_of(astronaut_face), pair_of(astronaut_face, head=np.float32([3.0, -2.0]))
    assert moved.intensity_px == pytest.approx(still.intensity_px, abs=0.4)
    for alone, together in zip(still.images, moved.images, strict=True):
        assert likeness(alone[..., 1], together[..., 1]) > 0.9


def test_picture_has_onset_apex_and_flow_and_cannot_be_changed(astronaut_face):
    picture = pair_of(astronaut_face).picture
    np.testing.assert_array_equal(picture.onset, warped(astronaut_face, 0 * RAISED_BROWS).grey)
    np.testing.assert_array_equal(picture.apex, warped(astronaut_face, RAISED_BROWS).grey)
    assert picture.flow.shape == (28, 28, 2)
    rows, columns = slice(5, 10), slice(6, 24)
    assert picture.flow[rows, columns, 1].mean() < -0.4  # brows go up
    for array in (picture.onset, picture.apex, picture.flow):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0


def test_a_pair_maker_serves_several_faces_and_ends_its_thread(astronaut_face):
    before = set(threading.enumerate())
    ring = RingBuffer(1.5, 30)
    for i in range(9):
        ring.append(i / 10, warped(astronaut_face, i / 8 * RAISED_BROWS))
    make = FacePair()
    first, again = make(ring, EVENT), make(ring, EVENT)
    np.testing.assert_array_equal(first.images, again.images)
    assert first.intensity_px == again.intensity_px
    make.close()
    make.close()
    assert set(threading.enumerate()) <= before
