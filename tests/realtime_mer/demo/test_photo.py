"""The demo's photo: its skin follows the fields, its eyes blink, its camera sways."""

import cv2
import numpy as np
import pytest

from realtime_mer.demo.action_units import expression
from realtime_mer.demo.photo import _LIDS, SIZE, PhotoFace, SwayingCamera, demo_photo
from realtime_mer.face.registration import LAYOUT, crop, five_points, similarity
from realtime_mer.face.tracker import detect_face_mesh
from realtime_mer.recognition.flow_pair import DenseFlow


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return demo_photo()


@pytest.fixture(scope="module")
def landmarks(photo, landmark_model) -> np.ndarray:
    return detect_face_mesh(photo, landmark_model)[:, :2]


def test_the_face_is_large_and_in_the_middle(landmarks, photo):
    width = np.ptp(landmarks[:, 0])
    assert 190 < width < 230
    np.testing.assert_allclose(landmarks.mean(0), [photo.shape[1] / 2, photo.shape[0] / 2], atol=25)


@pytest.mark.parametrize("names", [("AU1", "AU2"), ("AU4",), ("AU6", "AU12"), ("AU15",)])
def test_optical_flow_finds_the_hidden_field(photo, landmarks, names):
    face = PhotoFace(photo, landmarks)
    hidden = expression(names, np.random.default_rng(5), 2.5)
    camera = SwayingCamera(np.random.default_rng(5))
    matrix = similarity(five_points(landmarks).astype(float), LAYOUT.astype(float))
    before = camera.picture(photo, None, 0.0)
    after = camera.picture(photo, face.backwards(face.field(hidden)), 0.0)
    # The camera stands still between the two pictures, so one matrix serves both.
    to_photo = np.vstack([_camera_matrix(camera), [0, 0, 1]])
    whole = matrix @ to_photo
    found = DenseFlow()(crop(before, whole), crop(after, whole))
    cosine = (found * hidden).sum() / np.linalg.norm(found) / np.linalg.norm(hidden)
    assert cosine > 0.95
    ratio = np.percentile(np.linalg.norm(found, axis=-1), 99) / 2.5
    assert 0.75 < ratio < 1.1  # DIS smooths small regions


def _camera_matrix(camera: SwayingCamera) -> np.ndarray:
    """Frame to photo at time 0, from a picture of coordinates."""
    rows, columns = np.mgrid[0 : 480 + 64, 0 : 640 + 64].astype(np.float32)
    seen = camera.picture(np.dstack([columns, rows]), None, 0.0)
    place = np.array([[100, 100], [500, 100], [100, 400]], np.float32)
    target = np.array([seen[int(y), int(x)] for x, y in place], np.float32)
    return cv2.getAffineTransform(place, target)


def test_backwards_undoes_the_motion(photo, landmarks):
    face = PhotoFace(photo, landmarks)
    field = face.field(expression(("AU6", "AU12"), peak_px=3.0))
    back = face.backwards(field)
    came_from = face._grid - back
    forward = cv2.remap(field, came_from, None, cv2.INTER_LINEAR)
    assert np.abs(came_from + forward - face._grid).max() < 0.02


def test_a_blink_closes_the_eyes_and_changes_nothing_else(photo, landmarks):
    face = PhotoFace(photo, landmarks)
    np.testing.assert_array_equal(face.blink(photo, 0.0), photo)
    closed = face.blink(photo, 1.0)
    changed = np.abs(closed.astype(int) - photo).max(-1) > 12
    rows, columns = np.nonzero(changed)
    for lids in _LIDS:
        eye = landmarks[[i for lid in lids for i in lid]]
        x, y = eye.mean(0).astype(int)
        assert changed[y, x]
        # The lid is lighter than the pupil.
        assert closed[y - 2, x].astype(int).sum() > photo[y - 2, x].astype(int).sum()
    eyes = landmarks[[i for lids in _LIDS for lid in lids for i in lid]]
    assert rows.min() > eyes[:, 1].min() - 20
    assert rows.max() < eyes[:, 1].max() + 5
    assert columns.min() > eyes[:, 0].min() - 3
    assert columns.max() < eyes[:, 0].max() + 3


def test_the_camera_sways_slowly_and_repeats_with_the_seed(photo):
    pictures = [
        SwayingCamera(np.random.default_rng(seed)).picture(photo, None, time_s)
        for seed, time_s in ((3, 1.0), (3, 1.0), (3, 1.04), (3, 3.0), (4, 1.0))
    ]
    assert pictures[0].shape == (SIZE[1], SIZE[0], 3)
    assert pictures[0].dtype == np.uint8
    np.testing.assert_array_equal(pictures[1], pictures[0])
    next_frame, later, another = (
        np.abs(picture.astype(int) - pictures[0]).mean() for picture in pictures[2:]
    )
    assert 0 < next_frame < 0.5 * later
    assert another > next_frame
