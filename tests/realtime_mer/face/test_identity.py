"""Who is who: real photos that move through the real tracker, and meshes on drawn textures."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime_mer.face.identity import Identities, look, unlikeness
from realtime_mer.face.tracker import FaceTracker
from realtime_mer.source.frame import Frame

SIZE = (640, 360)
FACE_PX = 95
SAME, OTHER = 0.15, 0.35


@pytest.fixture(scope="module")
def hopper() -> np.ndarray:
    """Grace Hopper (US Navy, public domain), from the sample data of what MediaPipe requires."""
    package = Path(importlib.util.find_spec("matplotlib").origin).parent
    return cv2.imread(str(package / "mpl-data" / "sample_data" / "grace_hopper.jpg"))


class Person:
    """A head cut out of a photo, that can be put into a picture."""

    def __init__(self, photo: np.ndarray, landmark_model: Path) -> None:
        with FaceTracker(landmark_model) as tracker:
            (face,) = tracker.track(Frame(0, 0.0, photo.copy(), 0.0))
        self.photo, self.landmarks = photo, face.landmarks
        points = face.landmarks[:, :2]
        self.centre, (self.width, height) = points.mean(0), np.ptp(points, axis=0)
        mask = np.zeros(photo.shape[:2], np.float32)
        middle = tuple(map(int, self.centre - (0, 0.08 * height)))
        cv2.ellipse(mask, middle, (int(0.7 * self.width), int(0.8 * height)), 0, 0, 360, 1.0, -1)
        self.mask = cv2.GaussianBlur(mask, (0, 0), 2)

    def put(self, picture: np.ndarray, x: float, y: float) -> np.ndarray:
        scale = FACE_PX / self.width
        move = np.array([x, y]) - scale * self.centre
        matrix = np.array([[scale, 0, move[0]], [0, scale, move[1]]])
        head = cv2.warpAffine(self.photo, matrix, SIZE, flags=cv2.INTER_AREA)
        mask = cv2.warpAffine(self.mask, matrix, SIZE)[..., None]
        return picture * (1 - mask) + head * mask


@pytest.fixture(scope="module")
def eileen(astronaut, landmark_model) -> Person:
    return Person(astronaut, landmark_model)


@pytest.fixture(scope="module")
def grace(hopper, landmark_model) -> Person:
    return Person(hopper, landmark_model)


def clip(paths, seconds: float, fps: float = 15.0):
    """Frames of persons on paths, who comes later in front: {person: time -> (x, y) or None}.

    The light changes and the sensor is noisy.
    """
    rng = np.random.default_rng(3)
    wall = cv2.resize(rng.integers(60, 150, (5, 8, 3)).astype(np.float32), SIZE)
    for i in range(round(seconds * fps)):
        picture = wall
        for person, path in paths.items():
            place = path(i / fps)
            if place is not None:
                picture = person.put(picture, *place)
        picture = picture * (1 + 0.15 * np.sin(2 * i / fps)) + rng.normal(0, 2, picture.shape)
        yield Frame(i, i / fps, np.clip(picture, 0, 255).astype(np.uint8), 0.0)


def whose(faces, paths, time_s: float) -> dict:
    """The number that each person has in a frame, of those that were found."""
    numbers = {}
    for person, path in paths.items():
        for face in faces:
            apart = face.landmarks[:, :2].mean(0) - (path(time_s) or (-1e3, 0))
            if np.linalg.norm(apart) < 0.3 * FACE_PX:
                numbers[person] = face.identity
    return numbers


def test_two_who_swap_sides_keep_their_numbers(eileen, grace, landmark_model):
    def way(start, end):
        def place(t):
            return np.interp(t, (0.5, 2.0), (start, end)), 180.0

        return place

    paths = {eileen: way(150, 490), grace: way(490, 150)}
    hidden, before, after = 0, [], []
    with FaceTracker(landmark_model, faces=2) as tracker:
        for frame in clip(paths, 2.8):
            numbers = whose(tracker.track(frame), paths, frame.time_s)
            apart = abs(paths[eileen](frame.time_s)[0] - paths[grace](frame.time_s)[0])
            hidden += apart < 0.5 * FACE_PX and len(numbers) < 2
            if len(numbers) == 2 and apart > FACE_PX:
                (before if frame.time_s < 1.25 else after).append(numbers)
    assert hidden  # one was behind the other
    assert len(before) > 5
    assert len(after) > 5
    assert all(numbers == before[0] for numbers in before + after)


@pytest.mark.parametrize("comes", ["herself", "a stranger"])
def test_who_comes_back_elsewhere_has_her_number_and_a_stranger_a_new_one(
    eileen, grace, landmark_model, comes
):
    def leaves(t):
        return (150.0, 180.0) if t < 1 else None

    def enters(t):
        return (470.0, 190.0) if t > 4 else None

    def both(t):
        return leaves(t) or enters(t)

    paths = {eileen: both} if comes == "herself" else {eileen: leaves, grace: enters}
    with FaceTracker(landmark_model, faces=2) as tracker:
        seen = [tracker.track(frame) for frame in clip(paths, 5.0, fps=10)]
    first = {face.identity for faces in seen[:10] for face in faces}
    last = {face.identity for faces in seen[40:] for face in faces}
    assert first == {0}
    assert last == ({0} if comes == "herself" else {1})
    assert seen[-1]


def test_a_look_survives_light_and_size_and_separates_two_people(eileen, grace):
    photo, landmarks = eileen.photo, eileen.landmarks
    mine = look(photo, landmarks)
    assert mine.shape == (468,)
    np.testing.assert_allclose([mine.mean(), np.linalg.norm(mine)], [0, 1], atol=1e-3)
    side = np.linspace(0.5, 1.1, photo.shape[1])[None, :, None]
    for other in (photo * 0.5, photo * side, 255 * (photo / 255) ** 0.7):
        assert unlikeness(mine, look(other.astype(np.uint8), landmarks)) < 0.08
    small = cv2.resize(photo, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    assert unlikeness(mine, look(small, landmarks / 4)) < 0.05
    assert unlikeness(mine, look(grace.photo, grace.landmarks)) > OTHER


@pytest.mark.parametrize("x", [-100, 400, -5000, 5000])
def test_a_face_half_or_wholly_outside_has_a_look(eileen, x):
    landmarks = eileen.landmarks + np.float32([x, 0, 0])
    found = look(eileen.photo, landmarks)
    assert np.isfinite(found).all()
    assert Identities()(eileen.photo, [landmarks], 0.0) == [0]


class Stage:
    """A picture with meshes of a real face, each on a drawn texture instead of a photo."""

    def __init__(self, landmarks: np.ndarray) -> None:
        points = landmarks - np.append(landmarks[:, :2].mean(0), 0).astype(np.float32)
        self.mesh = points * np.float32(90 / np.ptp(points[:, 0]))
        self.identities = Identities()

    @staticmethod
    def texture(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        drawn = rng.uniform(60, 200, (9, 8, 1)).repeat(3, 2).astype(np.float32)
        return cv2.resize(drawn, (110, 130), interpolation=cv2.INTER_CUBIC)

    def __call__(self, time_s: float, *faces) -> list[int | None]:
        """The numbers of faces that are given as (texture, x)."""
        image, meshes = np.full((300, 900, 3), 100, np.uint8), []
        for texture, x in faces:
            texture = self.texture(texture) if isinstance(texture, int) else texture
            image[80:210, x - 55 : x + 55] = np.clip(texture, 0, 255)
            meshes.append(self.mesh + np.float32([x, 145, 0]))
        return self.identities(image, meshes, time_s)


@pytest.fixture
def stage(astronaut_tracked) -> Stage:
    return Stage(astronaut_tracked.landmarks)


def test_numbers_do_not_hang_on_the_order(stage):
    faces = [(1, 100), (2, 300), (3, 500), (4, 700)]
    assert stage(0.0, *faces) == [0, 1, 2, 3]
    rng = np.random.default_rng(0)
    for i in range(1, 8):
        order = rng.permutation(4)
        assert stage(i / 30, *(faces[k] for k in order)) == list(order)


def test_the_same_face_given_twice_is_one(stage):
    image = np.full((300, 900, 3), 100, np.uint8)
    image[80:210, 145:255], image[80:210, 445:555] = stage.texture(1), stage.texture(2)
    mesh = stage.mesh + np.float32([200, 145, 0])
    twin = mesh + np.random.default_rng(0).normal(2, 1, mesh.shape).astype(np.float32)
    far = mesh + np.float32([300, 0, 0])
    for i in range(4):
        assert stage.identities(image, [mesh, twin, far], i / 30) == [0, None, 1]
    assert stage.identities(image, [far, twin], 0.2) == [1, 0]


def test_who_returns_is_known_by_her_look_for_half_a_minute(stage):
    assert stage(0.0, (1, 100)) == [0]
    assert stage(29.0, (1, 700)) == [0]
    assert stage(60.0, (1, 100)) == [1]


def test_of_two_who_are_away_the_right_one_returns(stage):
    assert stage(0.0, (1, 100), (2, 700)) == [0, 1]
    assert stage(5.0, (2, 100)) == [1]
    assert stage(5.1, (1, 700), (2, 100)) == [0, 1]


def test_an_unsure_return_is_a_new_face(stage):
    first, second = stage.texture(1), stage.texture(2)
    similar = 0.58 * first + 0.42 * second
    looks = [
        look(t.astype(np.uint8), stage.mesh + np.float32([55, 65, 0])) for t in (first, similar)
    ]
    assert SAME < unlikeness(*looks) < OTHER
    assert stage(0.0, (first, 100)) == [0]
    numbers = [stage(5 + i / 10, (similar, 100))[0] for i in range(8)]
    # It is looked at for half a second.
    assert numbers == [None] * 5 + [1] * 3


def test_two_who_look_alike_are_not_taken_for_each_other(stage):
    assert stage(0.0, (1, 100), (1, 700)) == [0, 1]
    numbers = [stage(5 + i / 10, (1, 400))[0] for i in range(8)]
    assert set(numbers) == {None, 2}


def test_one_who_was_away_returns_once_only(stage):
    assert stage(0.0, (1, 100)) == [0]
    assert stage(5.0, (1, 300), (1, 700))[0] == 0
    numbers = [stage(5.1 + i / 10, (1, 300), (1, 700)) for i in range(8)]
    assert numbers[-1] == [0, 1]


def test_two_lost_on_the_move_are_looked_for_where_they_would_be(stage):
    for i in range(5):  # alike, one behind the other, 500 px a second
        assert stage(i / 10, (1, 60 + 50 * i), (1, 260 + 50 * i)) == [0, 1]
    assert stage(0.8, (1, 460), (1, 660)) == [0, 1]


def test_a_mesh_that_slides_over_to_someone_known_gives_her_number(stage):
    for i in range(5):
        assert stage(i / 10, (1, 100), (2, 400)) == [0, 1]
    assert stage(3.0, (1, 100)) == [0]
    assert stage(3.1, (2, 100)) == [1]
    assert stage(3.2, (2, 100), (1, 400)) == [1, 0]


def test_swapped_meshes_are_set_right(stage):
    for i in range(5):
        assert stage(i / 10, (1, 100), (2, 400)) == [0, 1]
    assert [stage(0.5 + i / 10, (2, 100), (1, 400)) for i in range(3)] == [[1, 0]] * 3


def test_a_mesh_that_slides_over_to_a_stranger_is_held_back_and_then_new(stage):
    for i in range(5):
        assert stage(i / 10, (1, 100), (3, 700)) == [0, 1]
    numbers = [stage(0.5 + i / 10, (2, 100), (3, 700)) for i in range(20)]
    assert numbers[:10] == [[None, 1]] * 10
    assert numbers[-1] == [2, 1]
    assert stage(2.6, (2, 100), (1, 400), (3, 700)) == [2, 0, 1]


def test_who_is_alone_keeps_her_number_while_she_looks_strange_for_a_second(stage):
    for i in range(5):
        assert stage(i / 10, (1, 100)) == [0]
    assert [stage(0.5 + i / 10, (2, 100)) for i in range(9)] == [[0]] * 9
    assert stage(1.4, (1, 100)) == [0]
    numbers = [stage(1.5 + i / 10, (2, 100))[0] for i in range(20)]
    assert numbers[:10] == [0] * 10
    assert numbers[-1] == 1


def test_half_a_face_is_not_taken_for_who_is_away(stage):
    assert stage(0.0, (1, 100), (2, 450)) == [0, 1]
    image = np.full((300, 900, 3), 100, np.uint8)
    image[80:210, 845:900] = stage.texture(1)[:, :55]
    for i in range(4):
        half = stage.mesh + np.float32([900, 145, 0])
        assert stage.identities(image, [half], 5 + i / 10) == [None]
    assert stage(5.4, (1, 840)) == [0]


def test_a_mesh_that_missed_once_makes_no_new_face(stage):
    assert stage(0.0, (1, 100)) == [0]
    assert stage(2.0, (7, 500)) == [None]
    assert stage(2.1, (1, 500)) == [0]


def test_what_is_remembered_is_bounded(stage):
    for person in range(36):
        for i in range(3):
            numbers = stage(0.75 * person + 0.1 * i, (person, 100 if person % 2 else 700))
        assert numbers == [person]
    assert len(stage.identities._known) <= 32 + 2
    end_s = 0.75 * 36
    assert stage(end_s, (20, 400)) == [20]
    assert [stage(end_s + 1.1 + i / 10, (0, 400))[0] for i in range(8)][-1] == 36


@pytest.mark.parametrize(
    "times", [(1.0, 0.75, 0.5), (0.0, 0.0, 0.0), (5.0, 4.0, 3.0), (0.0, 1e-9, 0.3), (-1.0, -0.5)]
)
def test_any_times_are_taken(stage, times):
    for time_s in times:
        assert stage(time_s, (1, 100), (2, 400)) == [0, 1]
    assert stage(times[-1]) == []
