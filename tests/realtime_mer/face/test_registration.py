"""A face of any size, place and tilt becomes the same canonical face."""

import cv2
import numpy as np
import pytest

from realtime_mer.face.registration import (
    LAYOUT,
    RIGID,
    Registration,
    crop,
    five_points,
    similarity,
    transform,
)

_WINDOW = cv2.createHanningWindow((112, 112), cv2.CV_64F)


def camera(
    astronaut: np.ndarray, landmarks: np.ndarray, turn: float, scale: float, shift=(0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    """The photo turned by degrees, enlarged and shifted by pixels, with its landmarks."""
    height, width = astronaut.shape[:2]
    size = np.array([width, height]) * max(1.0, scale)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale)
    matrix[:, 2] += (size - (width, height)) / 2 + shift
    picture = cv2.warpAffine(
        astronaut,
        matrix,
        size.astype(int).tolist(),
        flags=cv2.INTER_CUBIC if scale >= 1 else cv2.INTER_AREA,
        borderMode=cv2.BORDER_REFLECT,
    )
    moved = landmarks.copy()
    moved[:, :2] = transform(landmarks[:, :2].astype(float), matrix)
    moved[:, 2] *= scale
    return picture, moved


def displacement(first: np.ndarray, second: np.ndarray) -> float:
    """How far the quarters of two pictures lie apart at most, pixels; by their phases alone."""
    apart = []
    for y in (0, 56, 112):
        for x in (0, 56, 112):
            one, two = (p[y : y + 112, x : x + 112].astype(float) for p in (first, second))
            # OpenCV's measure of nothing is not quite nothing.
            nothing = np.array(cv2.phaseCorrelate(one, one, _WINDOW)[0])
            apart.append(np.linalg.norm(cv2.phaseCorrelate(one, two, _WINDOW)[0] - nothing))
    return max(apart)


@pytest.mark.parametrize(
    ("turn", "scale", "shift"),
    [
        (0, 1.0, (3.3, -2.7)),
        (10, 1.0, (0, 0)),
        (-25, 1.1, (5, 5)),
        (90, 1.0, (0, 0)),
        (0, 0.7, (0, 0)),
        (0, 1.5, (0.5, 0)),
        (0, 2.3, (0, 0)),  # reduced by areas from here on
        (0, 4.0, (0, 0)),
        (13, 4.0, (20.2, 30.7)),
    ],
)
def test_the_same_face_is_seen_wherever_the_camera_is(
    astronaut, astronaut_tracked, astronaut_face, turn, scale, shift
):
    picture, landmarks = camera(astronaut, astronaut_tracked.landmarks, turn, scale, shift)
    found = Registration()(picture, landmarks, 0.0)
    assert displacement(astronaut_face.grey, found.grey) < (0.2 if scale >= 1 else 0.3)
    difference = astronaut_face.grey.astype(float) - found.grey
    assert np.abs(difference).mean() < (0.8 if scale >= 1 else 1.5)
    np.testing.assert_allclose(found.landmarks, astronaut_face.landmarks, atol=1e-3)


@pytest.mark.parametrize("margin", range(7))
def test_a_large_face_is_reduced_in_place_whatever_surrounds_it(
    astronaut, astronaut_tracked, astronaut_face, margin
):
    """The cut-out's width must not decide where its pixels go."""
    matrix = similarity(
        five_points(3 * astronaut_tracked.landmarks).astype(float), LAYOUT.astype(float)
    )
    large = cv2.resize(astronaut, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    whole = crop(large, matrix).astype(float)
    # The right border of the picture cuts the cut-out short; what is left of it stays in place.
    right = int(cv2.invertAffineTransform(matrix)[0, 2]) + 600 - margin
    cut = crop(np.ascontiguousarray(large[:, :right]), matrix).astype(float)
    for part in (np.s_[:, :60], np.s_[:, 100:160]):
        slope = np.gradient(whole, axis=1)[part]
        moved = (slope * (cut - whole)[part]).sum() / (slope**2).sum()
        assert abs(moved) < 0.05


def test_a_large_face_is_reduced_without_aliasing():
    # Stripes finer than the canonical grid can show have to become grey.
    stripes = np.zeros((1200, 1200, 3), np.uint8)
    stripes[:, ::3] = 255
    matrix = np.array([[224 / 1200, 0, 0], [0, 224 / 1200, 0]])
    assert np.ptp(crop(stripes, matrix)[8:-8, 8:-8].astype(int)) < 60


def test_the_layout_is_that_of_the_release(astronaut_face):
    assert astronaut_face.grey.shape == (224, 224)
    assert astronaut_face.grey.dtype == np.uint8
    found = five_points(astronaut_face.landmarks)
    # A person's own layout is not the mean one.
    assert np.abs(found - LAYOUT).max() < 13
    assert np.linalg.norm(found[1] - found[0]) == pytest.approx(95, abs=6)


def test_the_matrix_takes_the_frames_landmarks_to_the_canonical_ones(
    astronaut_tracked, astronaut_face
):
    placed = transform(astronaut_tracked.landmarks[:, :2].astype(float), astronaut_face.matrix)
    np.testing.assert_allclose(placed, astronaut_face.landmarks[:, :2], atol=1e-3)
    scale = np.sqrt(np.linalg.det(astronaut_face.matrix[:, :2]))
    depth = astronaut_tracked.landmarks[:, 2] * scale
    np.testing.assert_allclose(astronaut_face.landmarks[:, 2], depth, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("members", [(61, 291, 0, 17), (55, 285, 107, 336, 70, 300)])
def test_mouth_and_brows_move_in_the_canonical_face(
    astronaut, astronaut_tracked, astronaut_face, members
):
    registration = Registration()
    registration(astronaut, astronaut_tracked.landmarks, 0.0)
    moved = astronaut_tracked.landmarks.copy()
    moved[list(members), 1] -= 5
    found = registration(astronaut, moved, 0.1)
    # The picture, which has not moved, stays where it was.
    assert displacement(astronaut_face.grey, found.grey) < 0.15
    rise = astronaut_face.landmarks[list(members), 1] - found.landmarks[list(members), 1]
    np.testing.assert_allclose(rise, 5 * np.sqrt(np.linalg.det(found.matrix[:, :2])), atol=0.2)


def test_jitter_of_single_landmarks_is_averaged_away(astronaut, astronaut_tracked):
    rng = np.random.default_rng(0)
    registration = Registration()
    places = []
    for i in range(40):
        jitter = rng.normal(0, 0.3, astronaut_tracked.landmarks.shape)
        found = registration(astronaut, (astronaut_tracked.landmarks + jitter), i / 30)
        places.append(transform(astronaut_tracked.landmarks[:, :2].astype(float), found.matrix))
    steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
    # A single landmark's own step is below 1.04 px in 95 % of the frames.
    assert np.percentile(steps, 95) < 0.3


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
@pytest.mark.parametrize(
    "place",
    [
        (0.0, 0.5),  # half of it left of the picture
        (1.0, 0.5),
        (0.5, 0.0),
        (0.5, 1.0),
        (1.0, 1.0),
        (-3.0, 0.5),  # all of it, far away
        (4.0, 4.0),
    ],
)
def test_a_face_partly_or_wholly_out_of_the_picture_is_cut_out_all_the_same(
    astronaut_tracked, scale, place
):
    picture = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    landmarks = (astronaut_tracked.landmarks - astronaut_tracked.landmarks.mean(0)) * scale
    landmarks[:, :2] += np.array(place) * (320, 240)
    found = Registration()(picture, landmarks, 0.0)
    assert found.grey.shape == (224, 224)
    assert np.isfinite(found.landmarks).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_pictures_of_hardly_any_pixels_are_cut_out_too(astronaut_tracked, size):
    picture = np.full((*size, 3), 90, np.uint8)
    for scale in (0.2, 1.0, 5.0):
        found = Registration()(picture, scale * astronaut_tracked.landmarks, 0.0)
        assert (found.grey == 90).all()


def test_what_lies_outside_the_picture_continues_its_border():
    picture = np.full((100, 100, 3), 10, np.uint8)
    picture[:, 50:] = 200
    found = crop(picture, np.array([[1.0, 0, 0], [0, 1.0, 60]]))
    assert (found[:, :49] == 10).all()
    assert (found[:, 51:] == 200).all()


def test_degenerate_landmarks_are_refused(astronaut):
    with pytest.raises(ValueError, match="are the same"):
        Registration()(astronaut, np.full((478, 3), 50.0, np.float32), 0.0)


def test_a_clock_that_stands_or_steps_back_does_no_harm(
    astronaut, astronaut_tracked, astronaut_face
):
    registration = Registration()
    for time_s in (0.0, 0.0, -5.0, 1e6):
        found = registration(astronaut, astronaut_tracked.landmarks, time_s)
        np.testing.assert_allclose(found.matrix, astronaut_face.matrix, atol=1e-6)


@pytest.mark.parametrize(
    ("turn", "scale", "shift"), [(0, 1, (0, 0)), (30, 2, (5, -3)), (-170, 0.1, (100, 0))]
)
def test_a_similarity_is_found_again(turn, scale, shift):
    rng = np.random.default_rng(1)
    source = rng.normal(0, 30, (len(RIGID), 2))
    matrix = cv2.getRotationMatrix2D((3, 4), turn, scale)
    matrix[:, 2] += shift
    np.testing.assert_allclose(similarity(source, transform(source, matrix)), matrix, atol=1e-9)


def test_a_similarity_never_mirrors_or_shears():
    rng = np.random.default_rng(2)
    matrix = similarity(rng.normal(0, 1, (9, 2)), rng.normal(0, 1, (9, 2)))
    a, b = matrix[:, :2].T @ matrix[:, :2]
    np.testing.assert_allclose([a[1], b[0], a[0] - b[1]], 0, atol=1e-12)
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize("scale", [2.0, 1.0, 0.6, 0.35, 0.1])
def test_the_face_in_colour_is_the_same_as_in_grey(scale):
    rows, columns = np.indices((1080, 1920))
    wave = 120 + 60 * np.sin(columns * scale / 12) * np.cos(rows * scale / 15)
    image = np.stack([wave, 0.8 * wave, 1.2 * wave], 2).astype(np.uint8)
    matrix = np.array([[scale, 0.02, -300 * scale], [-0.02, scale, -200 * scale]])
    grey = cv2.cvtColor(crop(image, matrix, colour=True), cv2.COLOR_BGR2GRAY)
    assert np.abs(grey.astype(int) - crop(image, matrix)).mean() < 3


def test_a_face_of_which_a_corner_is_in_the_picture_is_cut_out_in_colour():
    matrix = np.array([[0.05, 0.0, 300.0], [0.0, 0.05, 300.0]])
    assert crop(np.zeros((40, 60, 3), np.uint8), matrix, colour=True).shape == (224, 224, 3)
