"""Motion magnification: a known motion is enlarged by the factor, and nothing else is."""

import cv2
import numpy as np
import pytest

from realtime_mer.archive.magnify import magnified
from realtime_mer.demo.action_units import expression
from realtime_mer.demo.photo import PhotoFace
from realtime_mer.face.registration import FACE_SIZE

FPS = 30.0
FACTOR = 5.0
PEAK_PX = 2.0
NOISE = 1.5
# Onset, apex and offset of the motion, and the number of frames.
ONSET, APEX, OFFSET, FRAMES = 6, 11, 16, 20
GRID = np.dstack(np.meshgrid(*[np.arange(FACE_SIZE, dtype=np.float32)] * 2))
TIMES_S = np.arange(FRAMES) / FPS
ONSET_S = ONSET / FPS


@pytest.fixture(scope="module")
def face(astronaut, astronaut_face) -> np.ndarray:
    """The registered face (224, 224, 3)."""
    return cv2.warpAffine(astronaut, astronaut_face.matrix, (FACE_SIZE, FACE_SIZE))


@pytest.fixture(scope="module")
def inside() -> np.ndarray:
    """(224, 224) bool: well inside the face."""
    return (((GRID - (123, 116)) / (72, 88)) ** 2).sum(-1) < 1


def noisy(images) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array(
        [np.clip(i + rng.normal(0, NOISE, i.shape), 0, 255).round() for i in images], np.uint8
    )


def moved(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    places = (GRID - field).astype(np.float32)
    return cv2.remap(image, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(224, 224, 2) from one picture to another, measured by other means than `magnified` does."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    greys = [cv2.GaussianBlur(cv2.cvtColor(i, cv2.COLOR_BGR2GRAY), (0, 0), 1.0) for i in (a, b)]
    return cv2.GaussianBlur(dis.calc(*greys, None), (0, 0), 3.0)


def lengths(field: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.linalg.norm(field, axis=-1)[where]


def with_motion(face, units):
    """The field at the apex, frames in which the skin moves by it and back, and them magnified."""
    field = expression(units, np.random.default_rng(3), PEAK_PX).astype(np.float32)
    rise = np.interp(np.arange(FRAMES), (ONSET, APEX, OFFSET), (0, 1, 0))
    frames = noisy([moved(face, s * field) for s in (1 - np.cos(np.pi * rise)) / 2])
    return field, frames, magnified(frames, TIMES_S, FACTOR, ONSET_S)


@pytest.fixture(scope="module")
def raised_brows(face):
    return with_motion(face, ("AU1", "AU2"))


def check_enlarged(face, field, result):
    where = np.linalg.norm(field, axis=-1) > PEAK_PX / 2
    found = flow(result[ONSET], result[APEX])[where]
    # Compared with a warp of exactly this factor: this flow does not find all of a motion either.
    (exact,) = noisy([moved(face, FACTOR * field)])
    wanted = flow(result[ONSET], exact)[where]
    gain = (found * wanted).sum() / (wanted**2).sum()
    assert 0.75 < gain < 1.3
    assert np.linalg.norm(found - gain * wanted, axis=-1).mean() < 0.3 * PEAK_PX * FACTOR


def test_a_known_motion_is_enlarged_by_about_the_factor(face, raised_brows):
    field, _, result = raised_brows
    check_enlarged(face, field, result)


def test_so_is_that_of_a_smile(face):
    field, _, result = with_motion(face, ("AU12",))
    check_enlarged(face, field, result)


def test_the_motion_comes_and_goes_with_the_real_one(raised_brows):
    field, _, result = raised_brows
    where = np.linalg.norm(field, axis=-1) > PEAK_PX / 2
    sizes = [lengths(flow(result[ONSET], frame), where).mean() for frame in result]
    assert abs(int(np.argmax(sizes)) - APEX) <= 1
    assert max(*sizes[:ONSET], *sizes[OFFSET + 1 :]) < 0.15 * max(sizes)


def test_skin_that_does_not_move_stays(raised_brows, inside):
    field, frames, result = raised_brows
    still = inside & (np.linalg.norm(field, axis=-1) < 0.02) & (GRID[..., 1] > 120)
    assert lengths(flow(frames[APEX], result[APEX]), still).max() < 0.7


def test_noise_does_not_become_a_tremor(face, inside):
    frames = noisy([face] * 12)
    result = magnified(frames, TIMES_S[:12], FACTOR, ONSET_S)
    assert max(lengths(flow(a, b), inside).max() for a, b in zip(frames, result, strict=True)) < 0.3


def test_motion_of_the_head_is_not_enlarged(face, inside):
    # What registration leaves: a sway of 1 px and a third of a degree.
    def sway(phase):
        turn = cv2.getRotationMatrix2D((112, 112), 0.33 * np.sin(phase), 1)
        turn[:, 2] += np.sin(phase), np.cos(phase)
        return cv2.warpAffine(face, turn, (FACE_SIZE,) * 2, borderMode=cv2.BORDER_REPLICATE)

    frames = noisy([sway(phase) for phase in np.linspace(0, 6, 12)])
    result = magnified(frames, TIMES_S[:12], FACTOR, 0.0)
    added = [
        np.percentile(lengths(flow(a, b), inside), 99) for a, b in zip(frames, result, strict=True)
    ]
    assert max(added) < 0.5


def test_a_blink_stays_one(astronaut, astronaut_tracked, astronaut_face, inside):
    photo = PhotoFace(astronaut, astronaut_tracked.landmarks)
    lids = [photo.blink(astronaut, closed) for closed in (0, 0, 0, 0.5, 1, 1, 0.5, 0)]
    size = FACE_SIZE, FACE_SIZE
    frames = noisy([cv2.warpAffine(i, astronaut_face.matrix, size) for i in lids])
    result = magnified(frames, TIMES_S[: len(frames)], FACTOR, 0.0)
    added = flow(frames[4], result[4])
    # Forehead, cheeks and mouth do not move at all.
    assert lengths(added, inside).max() < 8
    above, below = GRID[..., 1] < 54, GRID[..., 1] > 120
    assert lengths(added, inside & (above | below)).max() < 1


def test_a_factor_of_one_changes_nothing(raised_brows):
    _, frames, _ = raised_brows
    assert np.array_equal(magnified(frames, TIMES_S, 1.0), frames)


def test_no_frames_give_no_frames():
    empty = np.zeros((0, FACE_SIZE, FACE_SIZE, 3), np.uint8)
    assert magnified(empty, np.zeros(0)).shape == empty.shape


@pytest.mark.parametrize(
    ("shape", "times", "factor"),
    [
        ((2, 100, 100, 3), 2, 5.0),  # no registered face
        ((2, FACE_SIZE, FACE_SIZE), 2, 5.0),  # grey
        ((2, FACE_SIZE, FACE_SIZE, 3), 3, 5.0),  # more times than frames
        ((2, FACE_SIZE, FACE_SIZE, 3), 2, 0.5),  # would make motions smaller
        ((2, FACE_SIZE, FACE_SIZE, 3), 2, float("nan")),
    ],
)
def test_what_cannot_be_magnified_is_refused(shape, times, factor):
    with pytest.raises(ValueError, match="must be"):
        magnified(np.zeros(shape, np.uint8), np.arange(times) / FPS, factor)
