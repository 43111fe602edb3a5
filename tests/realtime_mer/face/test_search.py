"""The search for small faces: tiles leave none out, and a view holds the face that it is for."""

import cv2
import numpy as np
import pytest

from realtime_mer.face.search import TILES_PER_FRAME, FaceBox, FaceSearch, View, tiles

SIZES = [(640, 480), (1280, 720), (1920, 1080), (3840, 2160), (720, 1280), (2000, 300)]

# The detector sees every face that takes up this part of the picture's longer side.
LEAST_SHARE = 0.12


def shows(view: View, *faces: FaceBox) -> bool:
    """Whether each of the faces is large enough in a view to be found."""
    return all(face.width >= LEAST_SHARE * max(view.width, view.height) for face in faces)


@pytest.fixture
def search(landmark_model):
    search = FaceSearch(landmark_model)
    yield search
    search.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("px", [90, 200, 400])
def test_a_face_anywhere_lies_whole_in_a_tile_that_shows_it(size, px):
    cut = [View(0, 0, *size), *tiles(size)]
    for y in range(0, size[1] - px, 37):
        for x in range(0, size[0] - px, 37):
            face = FaceBox(x + px / 2, y + px / 2, px)
            assert any(
                tile.x <= x
                and tile.y <= y
                and x + px <= tile.x + tile.width
                and y + px <= tile.y + tile.height
                and shows(tile, face)
                for tile in cut
            )


@pytest.mark.parametrize("size", SIZES)
def test_tiles_lie_in_the_picture_and_are_searched_in_less_than_a_second(size):
    found = tiles(size)
    assert len(set(found)) == len(found) > 0
    for tile in found:
        assert 0 <= tile.x <= tile.x + tile.width <= size[0]
        assert 0 <= tile.y <= tile.y + tile.height <= size[1]
    assert len(found) / TILES_PER_FRAME < 25


@pytest.mark.parametrize("size", [(1, 1), (48, 64), (560, 315)])
def test_small_pictures_have_no_tiles(size):
    assert tiles(size) == []


@pytest.mark.parametrize("size", [(640, 480), (3840, 2160), (64, 48), (1, 1)])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.0, 0.0), (1.0, 0.4), (1.2, -0.1)])
def test_a_view_lies_in_the_picture(size, place):
    view = View.around([FaceBox(place[0] * size[0], place[1] * size[1], 90)], size)
    assert 0 <= view.x <= view.x + view.width <= size[0]
    assert 0 <= view.y <= view.y + view.height <= size[1]
    assert min(view.width, view.height) >= 1


def test_a_view_shows_its_face():
    assert shows(View.around([FaceBox(400, 300, 90)], (1280, 720)), FaceBox(400, 300, 90))


def test_a_view_of_several_faces_holds_all_of_them():
    faces = [FaceBox(300, 350, 115), FaceBox(1000, 350, 115)]
    view = View.around(faces, (1280, 720))
    assert view.x < 300 - 57
    assert view.x + view.width > 1000 + 57
    assert shows(view, *faces)
    assert not shows(View(0, 0, 1280, 720), *faces)


@pytest.mark.parametrize("shrink", [1, 2, 4])
def test_boxes_lie_on_the_face(search, astronaut, astronaut_tracked, shrink):
    image = cv2.resize(astronaut, None, fx=shrink, fy=shrink)
    true = FaceBox.of(shrink * astronaut_tracked.landmarks)
    (box,) = search.look(image)
    assert box.is_on(true)
    assert box.width == pytest.approx(true.width, rel=0.2)


def test_boxes_in_a_tile_are_in_pixels_of_the_picture(search, astronaut):
    (box,) = search.look(astronaut)
    picture = np.pad(astronaut, ((100, 50), (200, 50), (0, 0)))
    (moved,) = search.look(picture, View(200, 100, *astronaut.shape[1::-1]))
    assert (moved.x, moved.y) == pytest.approx((box.x + 200, box.y + 100), abs=1)


def test_a_lost_face_is_looked_for_where_it_was_lost(search, astronaut):
    picture = np.full((2160, 3840, 3), 90, np.uint8)
    small = cv2.resize(astronaut, None, fx=0.45, fy=0.45, interpolation=cv2.INTER_AREA)
    picture[1860 : 1860 + small.shape[0], 3200 : 3200 + small.shape[1]] = small
    where = FaceBox(3200 + small.shape[1] / 2, 1860 + small.shape[0] / 2, 90)
    assert search.step(picture) is None
    search.begin_at(where)
    found = search.step(picture)
    assert found is not None
    assert found.is_on(where)
