"""Messages that only the window shows."""

import numpy as np
import pytest

from realtime_mer.output.overlay import (
    BACKGROUND,
    GRID,
    RED,
    HelpCard,
    Layout,
    Overlay,
    RecordingMark,
    Status,
    Toast,
)
from tests.realtime_mer.output.overlay.drawing import SIZES, analysis, face, session


def test_picture_with_notices_leaves_the_picture_alone():
    overlay = Overlay()
    overlay.begin(session())
    overlay.update(analysis(faces=[face()]))
    before = overlay.picture().copy()
    notices = [Toast("mirrored"), RecordingMark(83.0), HelpCard([("q", "quit")])]
    noticed = overlay.picture_with(notices)
    assert (overlay.picture() == before).all()
    changed = np.nonzero((noticed != before).any(-1))[1]
    assert changed.min() >= Layout.of(640, 480).panel.x, "nothing hides the video"


@pytest.mark.parametrize("size", SIZES)
def test_notices_fit_every_size(size):
    overlay = Overlay([])
    overlay.begin(session())
    overlay.update(analysis(size=size))
    keys = [("space", "a long word of what this key does, and more")] * 9
    for notice in (Toast("x" * 200), RecordingMark(7384.0), HelpCard(keys)):
        noticed = overlay.picture_with([notice])
        assert (noticed[:, -1] != BACKGROUND).any() or isinstance(notice, RecordingMark)
        assert (noticed != overlay.picture()).any()


def test_recording_shows_a_red_dot_and_its_time():
    overlay = Overlay([])
    overlay.begin(session())
    overlay.update(analysis())
    first, second = (overlay.picture_with([RecordingMark(t)]) for t in (59.0, 60.0))
    ys, xs = np.nonzero((first == RED).all(-1))
    assert len(xs) > 60
    assert np.ptp(xs) == pytest.approx(np.ptp(ys), abs=1)
    assert (first != second).any()


@pytest.mark.parametrize("away", [False, True])
def test_a_recording_takes_the_whole_place_of_the_source_s_name(away):
    pictures = []
    for name in ("x", "rtsp://camera.example.org/Streaming/Channels/101"):
        overlay = Overlay([Status()])
        overlay.begin(session(live=True, source=name))
        overlay.update(analysis(is_away=away))
        pictures.append(overlay.picture_with([RecordingMark(4000.0)]))
    assert (pictures[0] == pictures[1]).all()


def test_help_has_a_row_for_every_key():
    overlay = Overlay([])
    overlay.begin(session())
    overlay.update(analysis())

    def caps(n):
        noticed = overlay.picture_with([HelpCard([("x", "does something")] * n)])
        column = (Layout.of(640, 480).panel.of(noticed)[:, 13] == GRID).all(-1).astype(int)
        return int((np.diff(column) == 1).sum())

    assert [caps(n) for n in (1, 5, 9)] == [1, 5, 9]
