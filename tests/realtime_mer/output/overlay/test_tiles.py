"""Several sources as tiles of one picture."""

import dataclasses

import numpy as np
import pytest

from realtime_mer.output.overlay import Overlay, TiledOverlay, Toast
from realtime_mer.output.overlay.tiles import grid_of
from realtime_mer.results import Analysis, Session
from realtime_mer.source.frame import Frame

SIZES = ((640, 480), (320, 240), (640, 480))
NAMES = ("talks/left.avi", "talks/right.avi", "other/left.avi")


def session(count: int = 3) -> Session:
    one = [
        Session(name, False, size, 30, 0, "m", "CPU", ("negative",), camera=k)
        for k, (name, size) in enumerate(zip(NAMES, SIZES, strict=True))
    ][:count]
    return dataclasses.replace(one[0], source=" + ".join(NAMES), camera=None, sources=tuple(one))


def analysis(camera: int, grey: int, index: int = 0) -> Analysis:
    width, height = SIZES[camera]
    image = np.full((height, width, 3), grey, np.uint8)
    return Analysis(Frame(index, index / 30, image, 0.0), camera=camera, source=NAMES[camera])


def middle(picture: np.ndarray, box) -> int:
    """The grey in the middle of a tile's video, which is in the left part of it."""
    return int(picture[box.y + box.height // 2, box.x + box.width // 3, 0])


@pytest.mark.parametrize(
    ("sizes", "columns"),
    [
        ([(904, 480)] * 2, 1),  # a video with its panel is wide
        ([(640, 480)] * 2, 2),
        ([(904, 480)] * 4, 2),
        ([(480, 900)] * 3, 3),
        ([(1676, 720), (320, 900)], 1),
    ],
)
def test_tiles_are_as_large_as_they_can_be(sizes, columns):
    boxes = grid_of(sizes)
    assert len({box.x for box in boxes}) == columns
    assert len({(box.width, box.height) for box in boxes}) == 1
    width, height = (max(side) for side in zip(*sizes, strict=True))
    assert boxes[0].width <= width
    assert boxes[0].width / boxes[0].height == pytest.approx(width / height, rel=0.02)
    # No two overlap, and all have the even sizes that video codecs need.
    places = {(box.x, box.y) for box in boxes}
    assert len(places) == len(boxes)
    assert all(side % 2 == 0 for box in boxes for side in (box.width, box.height, box.x, box.y))
    assert max(box.x + box.width for box in boxes) <= 1602
    assert max(box.y + box.height for box in boxes) <= 902


def test_each_source_has_its_tile_and_keeps_it():
    overlay = TiledOverlay()
    overlay.begin(session())
    boxes = grid_of([Overlay.size_of(*size) for size in SIZES])
    overlay.update(analysis(0, 50))
    overlay.update(analysis(1, 100))
    picture = overlay.picture().copy()
    assert [middle(picture, box) for box in boxes[:2]] == [50, 100]
    # Nothing is known of the third one, but its name is there.
    third = boxes[2].of(picture)
    assert len(np.unique(third[: third.shape[0] // 4])) > 10
    overlay.update(analysis(2, 150))
    overlay.update(analysis(1, 200, index=1))
    later = overlay.picture()
    assert later.shape == picture.shape
    assert [middle(later, box) for box in boxes] == [50, 200, 150]


def test_a_small_picture_is_not_stretched():
    overlay = TiledOverlay(lambda: Overlay([]))
    wide = dataclasses.replace(session(2).sources[1], size=(1000, 250))
    overlay.begin(dataclasses.replace(session(2), sources=(session(2).sources[0], wide)))
    image = np.full((250, 1000, 3), 255, np.uint8)
    overlay.update(Analysis(Frame(0, 0.0, image, 0.0), camera=1))
    rows, columns = np.nonzero((overlay.picture() == 255).all(2))
    shown = (columns.max() - columns.min() + 1) / (rows.max() - rows.min() + 1)
    assert shown == pytest.approx(4.0, rel=0.05)


def test_the_view_is_that_of_all_tiles_and_a_still_stays():
    overlay = TiledOverlay()
    overlay.begin(session(2))
    for camera in (0, 1):
        overlay.update(analysis(camera, 50))
    full = overlay.picture().copy()
    still = overlay.still()
    overlay.view.details = False
    lean = overlay.picture().copy()
    boxes = grid_of([Overlay.size_of(*size) for size in SIZES[:2]])
    assert all((box.of(full) != box.of(lean)).any() for box in boxes)
    overlay.view.details = True
    overlay.update(analysis(0, 200, index=1))
    assert middle(overlay.picture(), boxes[0]) == 200
    assert (still.picture() == full).all()


def test_what_only_the_window_shows_is_in_the_first_tile():
    overlay = TiledOverlay()
    overlay.begin(session(2))
    for camera in (0, 1):
        overlay.update(analysis(camera, 50))
    with_toast, without = overlay.picture_with([Toast("sensitivity: 2")]), overlay.picture()
    first, second = grid_of([Overlay.size_of(*size) for size in SIZES[:2]])
    assert (first.of(with_toast) != first.of(without)).any()
    assert (second.of(with_toast) == second.of(without)).all()
