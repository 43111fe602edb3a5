"""The places of the elements, at every size of frame."""

import itertools

import pytest

from realtime_mer.output.overlay import BACKGROUND, Layout
from realtime_mer.results import Interval
from tests.realtime_mer.output.overlay.drawing import ROWS, SIZES, analysis, drawn, event, face


@pytest.mark.parametrize("size", SIZES)
def test_picture_is_the_video_beside_a_panel(size):
    layout = Layout.of(*size)
    picture = drawn(analysis(size=size, level=200), elements=[])
    assert picture.shape[1::-1] == layout.size
    assert all(n % 2 == 0 for n in layout.size), "video codecs want even sizes"
    assert (layout.video.of(picture) == 200).all()
    assert (picture[:, layout.video.width :] == BACKGROUND).all()
    boxes = [getattr(layout, name) for name in ROWS]
    for box in boxes:
        assert box.x >= layout.video.width
        assert box.x + box.width <= layout.size[0]
        assert box.y + box.height <= layout.size[1]
    for above, below in itertools.pairwise(boxes):
        assert above.y + above.height <= below.y
    # Text of 11 units is the smallest there is.
    assert 11 * layout.unit >= min(11, size[1] / 50)
    assert layout.video.width / layout.video.height == pytest.approx(size[0] / size[1], rel=0.02)


@pytest.mark.parametrize("size", SIZES)
def test_everything_is_drawn_at_every_size(size):
    seen = face(size, window=Interval(0.1, 0.2, 0.3), nuisances=["blink"])
    frames = [analysis(k, size, [seen], [event(k / 30)] if k == 20 else []) for k in range(25)]
    picture = drawn(*frames)
    for name in ROWS:
        assert (getattr(Layout.of(*size), name).of(picture) != BACKGROUND).any(), name
