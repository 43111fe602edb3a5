"""The face tracker: MediaPipe's own landmarker on a real photo."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from mediapipe import Image, ImageFormat
from mediapipe.tasks.python import BaseOptions, vision

from realtime_mer.errors import InputError
from realtime_mer.face.landmarker import Landmarker
from realtime_mer.face.search import FRAMES_PER_LOOK, FRAMES_PER_TILE, TILES_PER_FRAME
from realtime_mer.face.tracker import FaceTracker
from realtime_mer.source.frame import Frame


def shifted(image: np.ndarray, x: float, y: float = 0.0) -> np.ndarray:
    matrix = np.array([[1.0, 0, x], [0, 1.0, y]])
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


@pytest.fixture(scope="module")
def two_faces(astronaut) -> np.ndarray:
    """The face and a mirrored one to its right, 320 px apart."""
    face = astronaut[60:460, 200:520]
    return np.ascontiguousarray(np.hstack([face, face[:, ::-1]]))


def test_a_face_is_found_where_it_is(astronaut, astronaut_tracked):
    landmarks = astronaut_tracked.landmarks
    assert landmarks.shape == (478, 3)
    assert landmarks.dtype == np.float32
    height, width = astronaut.shape[:2]
    np.testing.assert_allclose(landmarks[:, :2].mean(0), (width / 2, height / 2), atol=25)
    assert 180 < np.ptp(landmarks[:, 0]) < 240
    # The pupils are darker than the nose between them.
    grey = cv2.cvtColor(astronaut, cv2.COLOR_BGR2GRAY).astype(int)
    left, right, nose = (grey[round(y), round(x)] for x, y, _ in landmarks[[468, 473, 1]])
    assert max(left, right) < nose - 40
    # Depth: the tip of the nose is nearer than the temples, by a fraction of the face.
    near = landmarks[[127, 356], 2].mean() - landmarks[1, 2]
    assert 0.2 < near / np.ptp(landmarks[:, 0]) < 1.2


def test_open_eyes_and_a_smile_without_an_open_jaw(astronaut_tracked):
    assert 0 <= astronaut_tracked.blink < 0.4
    assert 0 <= astronaut_tracked.jaw_open < 0.3


def test_landmarks_are_those_of_the_bare_landmarker_for_the_same_colours(
    astronaut, astronaut_tracked, landmark_model
):
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(landmark_model)),
        running_mode=vision.RunningMode.VIDEO,
    )
    height, width = astronaut.shape[:2]
    answers = []
    for image in (astronaut[..., ::-1], astronaut):  # red first, blue first
        rgb = Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(image))
        with vision.FaceLandmarker.create_from_options(options) as landmarker:
            (found,) = landmarker.detect_for_video(rgb, 0).face_landmarks
        answers.append(np.array([(p.x * width, p.y * height) for p in found]))
    right, swapped = (np.abs(a - astronaut_tracked.landmarks[:, :2]).max() for a in answers)
    assert right < 0.01 < swapped


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((240, 320, 3), np.uint8),
        np.full((240, 320, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((3, 640, 3), np.uint8),
    ],
    ids=["black", "white", "noise", "one pixel", "a stripe"],
)
def test_where_no_face_is_none_is_found(landmark_model, picture):
    with FaceTracker(landmark_model) as tracker:
        for i in range(3):
            assert tracker.track(Frame(i, i / 30, picture, 0.0)) == ()


@pytest.mark.parametrize(
    "times",
    [
        (0.0, 0.0, 0.0),  # standing still
        (5.0, 4.0, 3.0),  # stepping back
        (0.0, 0.005, 0.010, 0.0101),  # 200 fps and closer
        (0.0, 1e-9, 2e-9),
        (0.0, 1e5),  # a day later
        (-1.0, 0.0),
    ],
)
def test_any_times_are_taken(astronaut, astronaut_tracked, landmark_model, times):
    with FaceTracker(landmark_model) as tracker:
        for i, time_s in enumerate(times):
            (face,) = tracker.track(Frame(i, time_s, astronaut, 0.0))
            apart = np.abs(face.landmarks - astronaut_tracked.landmarks)[:, :2].max()
            assert apart < 4  # detected afresh or followed


@pytest.mark.parametrize(
    "view",
    [
        lambda image: image[..., ::-1].copy()[..., ::-1],  # channels stored the other way
        lambda image: image[:, ::-1].copy()[:, ::-1],  # rows stored from right to left
        lambda image: image[::-1].copy()[::-1],  # stored upside down
        lambda image: np.pad(image, ((9, 4), (7, 3), (0, 0)))[9:-4, 7:-3],  # cut out
        lambda image: np.repeat(np.repeat(image, 2, 0), 2, 1)[::2, ::2],  # every other pixel
        np.asfortranarray,
    ],
    ids=["channels", "flipped", "upside down", "cut out", "strided", "fortran"],
)
def test_views_give_the_landmarks_of_their_picture(
    astronaut, astronaut_tracked, landmark_model, view
):
    image = view(astronaut)
    np.testing.assert_array_equal(image, astronaut)
    assert not image.flags.c_contiguous
    with FaceTracker(landmark_model) as tracker:
        (face,) = tracker.track(Frame(0, 0.0, image, 0.0))
    np.testing.assert_allclose(face.landmarks, astronaut_tracked.landmarks, atol=0.01)


def test_a_moving_face_is_followed_and_keeps_its_identity(
    astronaut, astronaut_tracked, landmark_model
):
    start = astronaut_tracked.landmarks[:, :2].mean(0)
    with FaceTracker(landmark_model, faces=2) as tracker:
        for i in range(12):
            picture = shifted(astronaut, -60 + 10 * i, 3 * i)
            (face,) = tracker.track(Frame(i, i / 30, picture, 0.0))
            assert face.identity == 0
            moved = face.landmarks[:, :2].mean(0) - start
            np.testing.assert_allclose(moved, (-60 + 10 * i, 3 * i), atol=2.5)


def test_two_faces_keep_their_identities(two_faces, landmark_model):
    with FaceTracker(landmark_model, faces=2) as tracker:
        seen = []
        for i in range(8):
            faces = tracker.track(Frame(i, i / 30, shifted(two_faces, 4 * i), 0.0))
            seen.append({f.identity: float(f.landmarks[:, 0].mean()) for f in faces})
    full = [s for s in seen if len(s) == 2]
    assert len(full) >= 6
    assert set().union(*seen) == {0, 1}
    for before, after in pairwise(full):
        assert all(abs(after[i] - before[i]) < 40 for i in (0, 1))


def test_one_face_is_asked_for_and_one_is_given(two_faces, landmark_model):
    with FaceTracker(landmark_model, faces=1) as tracker:
        (face,) = tracker.track(Frame(0, 0.0, two_faces, 0.0))
    assert face.identity == 0


def nodding(picture: np.ndarray, count: int = 16) -> list[np.ndarray]:
    """The picture moving, with sensor noise."""
    noise = np.random.default_rng(0).integers(0, 8, picture.shape, np.uint8)
    pictures = (shifted(picture, 3 * np.sin(i / 4), 2 * np.cos(i / 5)) for i in range(count))
    return [cv2.add(p, np.roll(noise, 31 * i)) for i, p in enumerate(pictures)]


@pytest.mark.parametrize("scale", [1.0, 0.45], ids=["large", "small"])
def test_who_is_alone_has_the_same_landmarks_however_many_faces_are_wanted(
    landmark_model, astronaut, scale
):
    photo = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    pictures = nodding(placed(photo, (960, 540), 500, 280))
    runs = []
    for faces in (1, 2, 3):
        with FaceTracker(landmark_model, faces) as tracker:
            runs.append(follow(tracker, pictures))
    assert sum(map(len, runs[0])) >= 12
    for run in runs[1:]:
        for faces, same in zip(runs[0], run, strict=True):
            assert [face.identity for face in faces] == [face.identity for face in same]
            for face, other in zip(faces, same, strict=True):
                np.testing.assert_array_equal(face.landmarks, other.landmarks)
                assert (face.blink, face.jaw_open) == (other.blink, other.jaw_open)


def test_of_two_each_has_the_landmarks_that_she_has_alone(landmark_model, two_faces):
    middle = two_faces.shape[1] // 2
    pictures = nodding(two_faces)
    with FaceTracker(landmark_model, faces=2) as tracker:
        both = follow(tracker, pictures)[1:]
    with FaceTracker(landmark_model) as tracker:
        first = follow(tracker, pictures)[1:]
    for faces, (face,) in zip(both, first, strict=True):
        assert any(np.array_equal(face.landmarks, other.landmarks) for other in faces)
    for side in (np.s_[:, :middle], np.s_[:, middle:]):
        alone = [np.full_like(picture, 100) for picture in pictures]
        for picture, whole in zip(alone, pictures, strict=True):
            picture[side] = whole[side]
        with FaceTracker(landmark_model) as tracker:
            single = follow(tracker, alone)[1:]
        for faces, (face,) in zip(both, single, strict=True):
            assert len(faces) == 2
            apart = min(np.abs(face.landmarks - f.landmarks)[:, :2].max() for f in faces)
            assert apart < 1  # of a face of 200 px


def test_who_stays_keeps_her_landmarks_when_the_other_leaves_and_returns(landmark_model, two_faces):
    middle = two_faces.shape[1] // 2
    for side in (np.s_[:, :middle], np.s_[:, middle:]):
        pictures = nodding(two_faces, 30)
        for picture in pictures[10:20]:
            picture[side] = 100
        with FaceTracker(landmark_model, faces=2) as tracker:
            seen = follow(tracker, pictures)
        numbers = [[face.identity for face in faces] for faces in seen]
        assert numbers[1:10] == [[0, 1]] * 9
        (stays,) = numbers[15]
        assert numbers[12:20] == [[stays]] * 8
        assert numbers[-1] == [0, 1]
        places = [f.landmarks for faces in seen for f in faces if f.identity == stays]
        steps = [np.abs(b - a)[:, :2].max() for a, b in pairwise(places[1:])]
        assert max(steps) < 6  # it moves by 1 px a picture, and is never detected afresh


@pytest.mark.parametrize(("away_s", "identity"), [(0.5, 0), (3.0, 0), (32.0, 1)])
def test_a_face_that_was_away_for_half_a_minute_is_a_new_one(
    astronaut, landmark_model, away_s, identity
):
    black = np.zeros_like(astronaut)
    with FaceTracker(landmark_model, faces=2) as tracker:
        (face,) = tracker.track(Frame(0, 0.0, astronaut, 0.0))
        assert face.identity == 0
        for i in range(4):
            assert tracker.track(Frame(1 + i, 0.1 + 0.03 * i, black, 0.0)) == ()
        (face,) = tracker.track(Frame(5, away_s, astronaut, 0.0))
    assert face.identity == identity


SIZES = [(640, 480), (1280, 720), (1920, 1080), (3840, 2160)]


@pytest.fixture(scope="module")
def small(astronaut, astronaut_tracked) -> np.ndarray:
    """The photo with a face of 90 px."""
    scale = 90 / np.ptp(astronaut_tracked.landmarks[:, 0])
    return cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def placed(photo: np.ndarray, size: tuple[int, int], x: float, y: float) -> np.ndarray:
    """A grey picture with the middle of a photo, where the face is, at a place in it."""
    height, width = photo.shape[:2]
    matrix = np.array([[1.0, 0, x - width / 2], [0, 1.0, y - height / 2]])
    return cv2.warpAffine(photo, matrix, size, borderValue=(90, 100, 110))


def follow(tracker: FaceTracker, pictures) -> list:
    return [tracker.track(Frame(i, i / 30, p, 0.0)) for i, p in enumerate(pictures)]


def count_calls(tracker: FaceTracker, monkeypatch) -> dict[str, int]:
    """How often the landmarkers and the search's detector are called from now on."""
    calls = {"landmarker": 0, "detector": 0}

    def counted(call, key: str):
        def count(*args):
            calls[key] += 1
            return call(*args)

        return count

    for look in ("_found", "_followed"):
        monkeypatch.setattr(Landmarker, look, counted(getattr(Landmarker, look), "landmarker"))
    monkeypatch.setattr(tracker._search, "look", counted(tracker._search.look, "detector"))
    return calls


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("place", [(0.4, 0.55), (0.05, 0.45), (0.92, 0.85)], ids=str)
def test_a_face_of_90_px_is_found_within_a_second_and_followed(landmark_model, small, size, place):
    x, y = place[0] * size[0], place[1] * size[1]
    picture = placed(small, size, x, y)
    with FaceTracker(landmark_model) as tracker:
        seen = follow(tracker, [picture] * 36)
    first = next(i for i, faces in enumerate(seen) if faces)
    assert first < 30
    for faces in seen[first:]:
        (face,) = faces
        np.testing.assert_allclose(face.landmarks[:, :2].mean(0), (x, y), atol=15)
        assert 80 < np.ptp(face.landmarks[:, 0]) < 100
        assert face.landmarks.dtype == np.float32
        assert not face.landmarks.flags.writeable


@pytest.mark.parametrize("width_px", [115, 175, 300])
def test_faces_between_small_and_large_are_found_in_4k(
    landmark_model, astronaut, astronaut_tracked, width_px
):
    scale = width_px / np.ptp(astronaut_tracked.landmarks[:, 0])
    photo = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    picture = placed(photo, (3840, 2160), 1200, 900)
    with FaceTracker(landmark_model) as tracker:
        assert follow(tracker, [picture] * 30)[-1]


def test_a_small_face_has_the_landmarks_of_one_in_a_small_picture(landmark_model, small):
    large, crop = placed(small, (1920, 1080), 700, 500), placed(small, (560, 420), 280, 210)
    found = []
    for picture, corner in ((large, (420, 290)), (crop, (0, 0))):
        with FaceTracker(landmark_model) as tracker:
            found.append(follow(tracker, [picture] * 15)[-1][0].landmarks[:, :2] - corner)
    assert np.abs(found[0] - found[1]).max() < 1.0


def test_a_small_face_that_crosses_the_picture_is_never_lost(landmark_model, small):
    centres = [(250 + 8 * i, 300 + 2 * i) for i in range(100)]
    with FaceTracker(landmark_model) as tracker:
        seen = follow(tracker, (placed(small, (1280, 720), *c) for c in centres))
    first = next(i for i, faces in enumerate(seen) if faces)
    for (x, y), faces in zip(centres[first:], seen[first:], strict=True):
        (face,) = faces
        np.testing.assert_allclose(face.landmarks[:, :2].mean(0), (x, y), atol=15)


def test_a_small_face_that_comes_near_becomes_a_large_one(
    landmark_model, astronaut, astronaut_tracked
):
    widths = np.geomspace(90, 360, 60)
    scales = widths / np.ptp(astronaut_tracked.landmarks[:, 0])
    pictures = (
        placed(cv2.resize(astronaut, None, fx=s, fy=s), (1280, 720), 500, 360) for s in scales
    )
    with FaceTracker(landmark_model) as tracker:
        seen = follow(tracker, pictures)
    first = next(i for i, faces in enumerate(seen) if faces)
    assert first < 30
    for width, faces in zip(widths[first:], seen[first:], strict=True):
        (face,) = faces
        assert np.ptp(face.landmarks[:, 0]) == pytest.approx(width, rel=0.1)


def test_a_small_face_that_was_hidden_is_found_again_at_its_place(landmark_model, small):
    size = (3840, 2160)
    picture, empty = placed(small, size, 3500, 1900), np.full((2160, 3840, 3), 90, np.uint8)
    with FaceTracker(landmark_model) as tracker:
        seen = follow(tracker, [picture] * 30 + [empty] + [picture] * 3)
    assert seen[29]
    assert not seen[30]
    assert seen[-1]


def test_who_sits_down_before_the_camera_comes_before_a_small_face(
    landmark_model, small, astronaut
):
    background = placed(small, (1280, 720), 1100, 360)
    both = background.copy()
    both[100:644, 100:804] = astronaut
    with FaceTracker(landmark_model) as tracker:
        seen = follow(tracker, [background] * 15 + [both] * 30)
    assert seen[14][0].landmarks[:, 0].mean() == pytest.approx(1100, abs=15)
    assert seen[-1][0].landmarks[:, 0].mean() == pytest.approx(452, abs=25)


def test_a_picture_of_another_size_is_searched_anew(landmark_model, small):
    with FaceTracker(landmark_model) as tracker:
        first = [placed(small, (1280, 720), 900, 500)] * 15
        second = [placed(small, (720, 1280), 300, 1000)] * 15
        seen = follow(tracker, first + second)
    assert seen[14]
    assert seen[-1][0].landmarks[:, 1].mean() == pytest.approx(1000, abs=15)


def test_two_small_faces_far_apart_are_both_followed(landmark_model, astronaut, astronaut_tracked):
    scale = 115 / np.ptp(astronaut_tracked.landmarks[:, 0])
    photo = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    picture = placed(photo, (1280, 720), 300, 360)
    picture[:, 640:] = placed(photo[:, ::-1].copy(), (640, 720), 340, 360)
    with FaceTracker(landmark_model, faces=2) as tracker:
        seen = follow(tracker, [picture] * 30)
    centres = sorted(float(face.landmarks[:, 0].mean()) for face in seen[-1])
    assert centres == pytest.approx([300, 980], abs=20)


@pytest.fixture(scope="module")
def large_and_small(astronaut, small) -> np.ndarray:
    """720p: a face of 200 px, and beside it a mirrored one of 90 px."""
    picture = placed(astronaut, (1280, 720), 380, 360)
    picture[:, 740:] = placed(small[:, ::-1].copy(), (540, 720), 130, 300)
    return picture


# It lies in the fourth tile; the first one is searched at once, after a look at the whole picture.
FOUND = 3 * FRAMES_PER_TILE[0] + 1


def test_a_small_face_beside_a_large_one_is_found_and_followed(
    landmark_model, large_and_small, monkeypatch
):
    pictures = (np.roll(large_and_small, k // 2, 1) for k in range(FOUND + 40))
    with FaceTracker(landmark_model, faces=2) as tracker:
        seen = follow(tracker, pictures)
        calls = count_calls(tracker, monkeypatch)
        for i in range(FOUND + 40, FOUND + 60):
            assert len(tracker.track(Frame(i, i / 30, large_and_small, 0.0))) == 2
        # Once all that are wanted are followed, nothing is searched.
        assert calls == {"landmarker": 40, "detector": 0}
    for faces in seen[FOUND:]:
        assert [face.identity for face in faces] == [0, 1]
    for i, faces in enumerate(seen):
        large, *others = sorted(faces, key=lambda f: -np.ptp(f.landmarks[:, 0]))
        assert large.identity == 0
        assert np.ptp(large.landmarks[:, 0]) == pytest.approx(205, rel=0.1)
        assert large.landmarks[:, 0].mean() == pytest.approx(380 + i // 2, abs=25)
        for other in others:
            assert np.ptp(other.landmarks[:, 0]) == pytest.approx(90, rel=0.15)
            assert other.landmarks[:, 0].mean() == pytest.approx(870 + i // 2, abs=15)


def test_a_small_face_close_to_a_large_one_is_not_mistaken_for_it(landmark_model, astronaut, small):
    picture = placed(astronaut, (1280, 720), 380, 360)
    picture[300:420, 500:640] = small[62:182, 90:230]
    with FaceTracker(landmark_model, faces=2) as tracker:
        seen = follow(tracker, [picture] * (FOUND + 5))
    centres = [float(face.landmarks[:, 0].mean()) for face in seen[-1]]
    assert centres == pytest.approx([380, 565], abs=25)


def test_of_a_large_and_a_small_face_either_may_leave_and_return(landmark_model, large_and_small):
    only_small, only_large = large_and_small.copy(), large_and_small.copy()
    only_small[:, :740] = only_large[:, 740:] = (90, 100, 110)
    parts = [(large_and_small, FOUND), (only_large, 10), (large_and_small, 20)]
    parts += [(only_small, 10), (large_and_small, 5)]
    with FaceTracker(landmark_model, faces=2) as tracker:
        seen = follow(tracker, (picture for picture, count in parts for _ in range(count)))
    ends = np.cumsum([count for _, count in parts]) - 1
    identities = [[face.identity for face in seen[end]] for end in ends]
    assert identities == [[0, 1], [0], [0, 1], [1], [0, 1]]
    assert {face.identity for faces in seen for face in faces} == {0, 1}


def test_a_small_face_beside_a_large_one_keeps_its_identity_as_it_comes_near(
    landmark_model, astronaut, large_and_small
):
    pictures = [large_and_small] * FOUND
    for scale in np.geomspace(0.45, 0.9, 40):  # at last, the whole picture shows it as well
        photo = cv2.resize(astronaut[:, ::-1], None, fx=scale, fy=scale)
        picture = large_and_small.copy()
        picture[:, 740:] = placed(photo, (540, 720), 130, 300)
        pictures.append(picture)
    with FaceTracker(landmark_model, faces=2) as tracker:
        seen = follow(tracker, pictures)
    for faces in seen[FOUND:]:
        assert [face.identity for face in faces] == [0, 1]
        assert faces[1].landmarks[:, 0].mean() == pytest.approx(870, abs=30)


@pytest.mark.parametrize("scale", [1.0, 0.45], ids=["large", "small"])
def test_a_face_alone_is_not_followed_twice_and_the_search_for_another_is_rare(
    landmark_model, astronaut, monkeypatch, scale
):
    photo = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    picture = placed(photo, (1280, 720), 700, 360)
    tiles, frames = 8, 120
    with FaceTracker(landmark_model, faces=2) as tracker:
        follow(tracker, [picture] * 10)
        calls = count_calls(tracker, monkeypatch)
        for i in range(10, 10 + frames):
            (face,) = tracker.track(Frame(i, i / 30, picture, 0.0))
            assert face.identity == 0
    assert calls["landmarker"] == frames
    # One round of tiles, then half as many; for a small face, the whole picture twice a second.
    later = (frames - tiles * FRAMES_PER_TILE[0]) / (2 * FRAMES_PER_TILE[0])
    whole = frames / 15 if scale < 1 else 0
    looks = frames / FRAMES_PER_LOOK
    assert 0 < calls["detector"] <= tiles + later + 1 + whole + looks + 1


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("grain_px", [1, 8, 20, 60])
def test_in_noise_of_any_grain_no_face_is_found(landmark_model, size, grain_px):
    small = (size[0] // grain_px, size[1] // grain_px)
    rng = np.random.default_rng(grain_px)
    noise = rng.integers(0, 256, (small[1], small[0], 3)).astype(np.uint8)
    picture = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    with FaceTracker(landmark_model) as tracker:
        assert not any(follow(tracker, [picture] * 25))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_search_costs_a_few_looks_a_frame(landmark_model, small, size, monkeypatch):
    picture = placed(small, size, 0.95 * size[0], 0.86 * size[1])
    with FaceTracker(landmark_model) as tracker:
        calls = count_calls(tracker, monkeypatch)
        for i in range(40):
            before = dict(calls)
            tracker.track(Frame(i, i / 30, picture, 0.0))
            assert calls["landmarker"] - before["landmarker"] <= 2
            assert calls["detector"] - before["detector"] <= TILES_PER_FRAME


def test_while_a_face_is_followed_nothing_is_searched(
    landmark_model, astronaut, small, monkeypatch
):
    with FaceTracker(landmark_model) as tracker:
        calls = count_calls(tracker, monkeypatch)
        follow(tracker, [astronaut] * 20)
        assert calls == {"landmarker": 20, "detector": 0}
    with FaceTracker(landmark_model) as tracker:
        calls = count_calls(tracker, monkeypatch)
        picture = placed(small, (1280, 720), 700, 360)
        pictures = [picture] * 10
        follow(tracker, pictures)
        calls.update(landmarker=0, detector=0)
        for i in range(10, 70):
            assert tracker.track(Frame(i, i / 30, picture, 0.0))
        # One call a frame; twice a second a look at the whole picture.
        assert calls["landmarker"] == 60
        assert calls["detector"] <= 4


@pytest.mark.parametrize("content", [b"", b"no model at all", None], ids=["empty", "text", "gone"])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "face_landmarker.task"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"face_landmarker\.task cannot be loaded: delete it"):
        FaceTracker(path)


def test_half_a_model_is_refused(tmp_path, landmark_model):
    path = tmp_path / "half.task"
    path.write_bytes(landmark_model.read_bytes()[:2_000_000])
    with pytest.raises(InputError, match="cannot be loaded"):
        FaceTracker(path)


def test_a_closed_tracker_says_so_and_can_be_closed_again(landmark_model, astronaut):
    tracker = FaceTracker(landmark_model)
    tracker.close()
    tracker.close()
    with pytest.raises(ValueError, match="closed"):
        tracker.track(Frame(0, 0.0, astronaut, 0.0))


def test_an_error_in_the_block_closes_and_passes(landmark_model, astronaut):
    with pytest.raises(KeyError, match="mine"), FaceTracker(landmark_model) as tracker:
        raise KeyError("mine")
    with pytest.raises(ValueError, match="closed"):
        tracker.track(Frame(0, 0.0, astronaut, 0.0))


def test_nothing_is_written_to_stderr(landmark_model, astronaut, capfd):
    with FaceTracker(landmark_model) as tracker:
        tracker.track(Frame(0, 0.0, astronaut, 0.0))
    assert capfd.readouterr().err == ""
