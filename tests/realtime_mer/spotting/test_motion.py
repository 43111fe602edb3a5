"""Regional motion: expressions are measured, motion of the head or the camera is removed."""

import cv2
import numpy as np
import pytest

from realtime_mer.demo.action_units import expression
from realtime_mer.face.registration import CanonicalFace, Registration
from realtime_mer.face.tracker import FaceTracker
from realtime_mer.source.frame import Frame
from realtime_mer.spotting.cell_flow import to_cells
from realtime_mer.spotting.motion import (
    EXPRESSIVE,
    REGIONS,
    Motion,
    RegionalMotion,
    RigidMotion,
    _median_root,
    face_mask,
    region_means,
    region_windows,
    texture_trust,
)

NAMES = list(REGIONS)
ROWS, COLUMNS = np.mgrid[0:224, 0:224].astype(np.float32)


def warped(face: CanonicalFace, field: np.ndarray, noise: float = 0.0, seed: int = 0):
    """The face with its skin moved by a gentle field (224, 224, 2), and sensor noise."""
    grid = np.dstack([COLUMNS, ROWS])
    back = field.astype(np.float32)
    for _ in range(3):
        back = cv2.remap(field.astype(np.float32), grid - back, None, cv2.INTER_LINEAR)
    grey = cv2.remap(face.grey, grid - back, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    if noise:
        grey = grey + np.random.default_rng(seed).normal(0, noise, grey.shape)
        grey = np.clip(grey, 0, 255).round().astype(np.uint8)
    return CanonicalFace(grey, face.landmarks, face.matrix)


def measured(face: CanonicalFace, field: np.ndarray) -> dict[str, np.ndarray]:
    """The displacement that is measured in each region when `field` moves the face."""
    motion = RegionalMotion()
    start = motion(face, 0.0, 0.0, 0.0)
    end = motion(warped(face, field), 1 / 30, 0.0, 0.0)
    return dict(zip(NAMES, end.regions - start.regions, strict=True))


@pytest.fixture(scope="module")
def depth(astronaut_face) -> np.ndarray:
    """(224, 224) float32: the depth of the face mesh around each pixel, zero outside."""
    points = astronaut_face.landmarks[:468]
    pixels = np.dstack([COLUMNS, ROWS])[2::4, 2::4].reshape(-1, 1, 2)
    near = np.exp(-((pixels - points[:, :2]) ** 2).sum(-1) / (2 * 6.0**2))
    coarse = (near @ points[:, 2]) / (near.sum(1) + 1e-3)
    return cv2.resize(coarse.reshape(56, 56), (224, 224))


@pytest.mark.parametrize(
    ("noise", "typical", "largest"), [(0.0, 0.10, 0.25), (2.0, 0.25, 0.6)], ids=["clean", "noisy"]
)
def test_a_still_face_is_still_under_a_moving_camera(
    astronaut, landmark_model, noise, typical, largest
):
    rng = np.random.default_rng(0)
    height, width = astronaut.shape[:2]
    registration, motion, seen = Registration(), RegionalMotion(), []
    with FaceTracker(landmark_model) as tracker:
        for i in range(36):
            time_s = i / 30
            matrix = cv2.getRotationMatrix2D(
                (width / 2, height / 2), 2 * np.sin(2 * time_s), 1 + 0.03 * np.sin(1.5 * time_s)
            )
            matrix[:, 2] += 8 * np.sin(3 * time_s), 5 * np.sin(2.2 * time_s)
            picture = cv2.warpAffine(
                astronaut, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=2
            )
            if noise:
                picture = cv2.add(picture, rng.normal(0, noise, picture.shape), dtype=cv2.CV_8U)
            (tracked,) = tracker.track(Frame(i, time_s, picture, 0.0))
            face = registration(picture, tracked.landmarks, time_s)
            seen.append(motion(face, time_s, 0.0, 0.0))
    regions = np.array([m.regions for m in seen])
    # Over 0.13 s, about half a micro-expression.
    shifts = np.linalg.norm(regions[4:] - regions[:-4], axis=-1)
    assert np.percentile(shifts, 95) < typical
    assert shifts.max() < largest
    # The camera's motion is in the place.
    places = np.array([m.place for m in seen])
    assert np.ptp(places, axis=0).max() > 8


@pytest.mark.parametrize(
    ("names", "region", "direction", "still"),
    [
        (("AU1", "AU2"), "inner brow left", (0, -1), "mouth"),
        (("AU2",), "outer brow left", (0, -1), "mouth"),
        (("AU4",), "inner brow left", (0, 1), "mouth"),
        (("AU4",), "inner brow right", (0, 1), "mouth"),
        (("AU12",), "lip corner left", (-0.7, -0.7), "brows"),
        (("AU12",), "lip corner right", (0.7, -0.7), "brows"),
        (("AU15",), "lip corner right", (0.1, 1), "brows"),
        (("AU9",), "nose wing left", (0.1, -1), "lip corner"),
    ],
)
def test_an_action_unit_is_measured_in_its_place_and_direction(
    astronaut_face, names, region, direction, still
):
    parts = {"mouth": "lip", "brows": "outer brow", "lip corner": "lip corner"}
    seen = measured(astronaut_face, expression(names, peak_px=2.5))
    size = np.linalg.norm(seen[region])
    assert size > 0.25
    assert seen[region] @ direction / size / np.linalg.norm(direction) > 0.85
    others = [np.linalg.norm(m) for name, m in seen.items() if parts[still] in name]
    assert len(others) >= 2
    assert max(others) < 0.3 * size


def test_weak_motions_keep_their_direction_above_the_noise(astronaut_face):
    motion, shifts = RegionalMotion(), []
    raised = expression(("AU1", "AU2"), peak_px=1.0)
    for i in range(20):
        face = warped(astronaut_face, raised * (i % 2), noise=2.0, seed=i)
        shifts.append(motion(face, i / 30, 0.0, 0.0).regions[NAMES.index("inner brow left")])
    still, raised = np.array(shifts[0::2]), np.array(shifts[1::2])
    assert (raised[:, 1] - still[:, 1]).max() < -0.15
    assert still.std(0).max() < 0.05


@pytest.mark.parametrize("turn_px", [-3.0, 3.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_parallax_of_a_turning_head_is_removed(astronaut_face, depth, turn_px, axis):
    field = np.zeros((224, 224, 2), np.float32)
    inside = face_mask(astronaut_face.landmarks)
    field[..., axis] = turn_px * depth / np.ptp(depth[inside])
    rigid = RigidMotion(astronaut_face.landmarks, texture_trust(astronaut_face.grey))
    residual, coefficients = rigid.remove(to_cells(field).reshape(-1, 2))
    regions, _ = region_means(astronaut_face.landmarks, rigid.weights, residual)
    assert np.linalg.norm(regions, axis=1).max() < 0.12 * abs(turn_px)
    # The depth explains it.
    assert np.sign(coefficients[3, axis]) == np.sign(turn_px)
    seen = measured(astronaut_face, field)
    assert max(np.linalg.norm(m) for m in seen.values()) < 0.2 * abs(turn_px)


@pytest.mark.parametrize("length_s", [0.5, 2.5])
def test_a_slow_motion_is_continuous_across_anchors(astronaut_face, length_s):
    raised = expression(("AU1", "AU2"), peak_px=4.0)
    brow = NAMES.index("inner brow right")
    motion, seen = RegionalMotion(), []
    for time_s in np.arange(0, length_s + 1, 1 / 15):
        share = min(time_s / length_s, 1.0)
        seen.append(motion(warped(astronaut_face, share * raised), time_s, 0.0, 0.0).regions[brow])
    y = np.array(seen)[:, 1]
    direct = measured(astronaut_face, raised)["inner brow right"][1]
    assert y[-1] == pytest.approx(direct, rel=0.25)
    steps = np.diff(y)
    per_step = direct / (15 * length_s)
    assert steps.max() < 0.06  # never backwards
    assert steps.min() > 2.5 * per_step - 0.06  # no jumps


def test_a_new_anchor_does_not_move_a_still_face(astronaut_face):
    motion = RegionalMotion()
    seen = [motion(astronaut_face, i / 10, 0.0, 0.0).regions for i in range(25)]
    assert np.abs(np.array(seen)).max() < 0.02


@pytest.mark.parametrize(
    ("field", "head"),
    [
        (np.dstack([np.full_like(ROWS, 2.0), np.full_like(ROWS, -1.0)]), (2.0, -1.0, 0.0)),
        (
            0.01 * np.dstack([112 - ROWS, COLUMNS - 112]),
            (0.0, 0.0, 0.01 * 112),  # a turn of the picture, in pixels at its border
        ),
        (0.01 * np.dstack([COLUMNS - 112, ROWS - 112]), (0.0, 0.0, 0.0)),
    ],
    ids=["shift", "turn", "zoom"],
)
def test_motion_of_the_whole_face_counts_as_the_heads(astronaut_face, field, head):
    motion = RegionalMotion()
    start = motion(astronaut_face, 0.0, 0.0, 0.0)
    end = motion(warped(astronaut_face, field), 0.05, 0.0, 0.0)
    assert np.abs(end.regions - start.regions).max() < 0.25
    np.testing.assert_allclose(end.head - start.head, head, atol=0.2)


@pytest.mark.parametrize("part", ["shift", "zoom", "turn", "shear"])
def test_rigid_fit_removes_the_heads_motion_and_keeps_the_expression(astronaut_face, part):
    x, y = COLUMNS - 112, ROWS - 112
    none = np.zeros_like(x)
    affine = {
        "shift": np.dstack([none + 3, none - 2]),
        "zoom": 0.03 * np.dstack([x, y]),
        "turn": 0.03 * np.dstack([-y, x]),
        "shear": 0.03 * np.dstack([y, none]),
    }[part]
    smile = expression(("AU12",), peak_px=2.0)
    head = RigidMotion(astronaut_face.landmarks, texture_trust(astronaut_face.grey))
    inside = face_mask(astronaut_face.landmarks)
    residual = np.linalg.norm(head.remove_dense(affine), axis=-1)
    largest = np.linalg.norm(affine, axis=-1).max()
    # At the picture's border, half a cell is extrapolated.
    assert residual[inside].max() < 0.035 * largest
    assert residual[4:-4, 4:-4].max() < 0.001 * largest
    kept = head.remove_dense(affine + smile)[inside]
    alone = smile[inside]
    assert (kept * alone).sum() / np.linalg.norm(kept) / np.linalg.norm(alone) > 0.9
    size = np.percentile(np.linalg.norm(kept, axis=-1), 99)
    assert size == pytest.approx(np.percentile(np.linalg.norm(alone, axis=-1), 99), rel=0.2)


def test_time_blink_and_jaw_of_a_frame_are_passed_on(astronaut_face):
    seen = RegionalMotion()(astronaut_face, 4.25, 0.3, 0.6)
    assert isinstance(seen, Motion)
    assert (seen.time_s, seen.blink, seen.jaw_open) == (4.25, 0.3, 0.6)
    assert seen.regions.shape == (18, 2)
    assert seen.trust.shape == (18,)


def test_the_place_follows_the_face_through_the_frame(astronaut, astronaut_tracked):
    def place(shift: tuple[float, float], scale: float) -> np.ndarray:
        landmarks = scale * astronaut_tracked.landmarks
        landmarks[:, :2] += shift
        face = Registration()(astronaut, landmarks, 0.0)
        return RegionalMotion()(face, 0.0, 0.0, 0.0).place

    here, there = place((0, 0), 1.0), place((40, -30), 1.0)
    # Pixels of the canonical face, and this face has nearly its size in the frame.
    np.testing.assert_allclose(there - here, (40, -30), rtol=0.05)
    # Half the size and half the shift give the same place.
    np.testing.assert_allclose(place((20, -15), 0.5), there, atol=0.1)


def test_skin_without_texture_is_not_trusted_and_stays_still(astronaut_face):
    flat = CanonicalFace(
        np.full((224, 224), 120, np.uint8), astronaut_face.landmarks, astronaut_face.matrix
    )
    assert texture_trust(flat.grey).max() < 0.01
    noisy = warped(flat, np.zeros((224, 224, 2), np.float32), noise=1.0)
    motion = RegionalMotion()
    motion(flat, 0.0, 0.0, 0.0)
    seen = motion(noisy, 0.03, 0.0, 0.0)
    assert np.abs(seen.regions).max() < 0.1
    assert seen.trust.max() < 0.5


def test_a_face_outside_the_canonical_picture_gives_finite_figures(astronaut_face):
    landmarks = astronaut_face.landmarks + np.array([900, -900, 0], np.float32)
    away = CanonicalFace(astronaut_face.grey, landmarks, astronaut_face.matrix)
    motion = RegionalMotion()
    for i in range(3):
        seen = motion(away, i / 30, 0.0, 0.0)
        for value in (seen.regions, seen.trust, seen.head, seen.place):
            assert np.isfinite(value).all()


def test_regions_lie_in_the_face_where_their_names_say(astronaut_face):
    across, down = region_windows(astronaut_face.landmarks)
    windows = down[:, :, None] * across[:, None, :]
    rows, columns = np.mgrid[0:28, 0:28] * 8 + 3.5
    places = {
        name: np.array([(w * columns).sum(), (w * rows).sum()]) / w.sum()
        for name, w in zip(NAMES, windows, strict=True)
    }
    nose = astronaut_face.landmarks[1]
    for name, (x, y) in places.items():
        if "left" in name:
            assert x < nose[0] < places[name.replace("left", "right")][0]
        if any(word in name for word in ("brow", "lid", "eye", "glabella")):
            assert y < nose[1]
        if any(word in name for word in ("lip", "chin")):
            assert y > nose[1]
    assert [n for n in NAMES if n.startswith("eye")] == NAMES[EXPRESSIVE:]


def test_cells_are_means_of_eight_by_eight_pixels():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(224, 224, 2)).astype(np.float32)
    expected = image.reshape(28, 8, 28, 8, 2).mean((1, 3))
    np.testing.assert_allclose(to_cells(image), expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 20, 501])
def test_median_of_distances_is_that_of_numpy(count):
    values = np.abs(np.random.default_rng(count).normal(size=count))
    assert _median_root(values**2) == pytest.approx(np.median(values))
