"""The whole picture: its views, and what it leaves alone."""

import cv2
import numpy as np
import pytest

from realtime_mer.output.overlay import (
    BACKGROUND,
    OVAL,
    YELLOW,
    EventCards,
    FaceMarks,
    HeatMap,
    HelpCard,
    Layout,
    Overlay,
    RecordingMark,
    Status,
    Toast,
    full_elements,
    lean_elements,
)
from tests.realtime_mer.output.overlay.drawing import (
    SIZES,
    analysis,
    centre_of,
    count,
    drawn,
    event,
    face,
    heat_of,
    moving,
    session,
    with_picture,
)


def test_frame_itself_is_not_touched():
    a = analysis(faces=[face()])
    before = a.frame.image.copy()
    drawn(a)
    assert (a.frame.image == before).all()


def tag_of(picture, video):
    """The label on the video."""
    ys, xs = np.nonzero((video.of(picture) == BACKGROUND).all(-1))
    assert len(xs) > 300
    return picture[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def test_mirror_turns_video_marks_and_heat_over_but_no_text(astronaut, astronaut_tracked):
    state = moving(astronaut_tracked, cheek_left=2.0)
    a = analysis(image=astronaut, faces=[state], events=[event(0.0)])
    elements = [HeatMap(), FaceMarks(), Status(), EventCards()]
    plain = drawn(a, elements=elements)
    turned = drawn(a, elements=elements, mirrored=True)
    video = Layout.of(704, 544).video
    assert (turned[:, video.width :] == plain[:, video.width :]).all(), "the panel is text"
    x = centre_of(astronaut_tracked, "cheek left")[0]
    below = round(state.landmarks[list(OVAL), 1].min())  # off the tag above the face
    back = np.abs(cv2.flip(video.of(turned), 1).astype(int) - video.of(plain)).max(-1)[below:]
    assert np.percentile(back, 99) <= 12
    change, _ = heat_of(astronaut, state, mirrored=True)
    xs = np.nonzero(change)[1]
    assert xs.mean() == pytest.approx(video.width - 1 - x, abs=5)
    assert (tag_of(turned, video) == tag_of(plain, video)).all(), "the tag is text"


def test_lean_view_is_the_video_with_marks_and_alerts(smile):
    events = [with_picture(smile, 0.0, "positive")]
    a = analysis(faces=[face()], events=events, alerts=("too dark",))
    layout = Layout.of(640, 480)
    lean = drawn(a, details=False)
    assert lean.shape == (480, layout.video.width, 3)
    marks = np.abs(lean[100:380, 200:440].astype(int) - 90).max(-1) > 20
    assert marks.sum() > 500
    # Nothing but the alert covers the video.
    upper = drawn(analysis(faces=[face()], events=events), details=False)[:, -200:-10]
    assert (upper == 90).all()
    assert count(lean, YELLOW) > 3000


@pytest.mark.parametrize("size", SIZES)
def test_lean_view_and_its_notices_fit_every_size(size):
    overlay = Overlay()
    overlay.view.details = False
    overlay.begin(session())
    overlay.update(analysis(size=size, faces=[face(size)], alerts=("too dark", "no face", "x")))
    layout = Layout.of(*size).without_panel
    assert overlay.picture().shape[1::-1] == layout.size
    assert (layout.video.of(overlay.picture()) != BACKGROUND).any()
    for notice in (Toast("x" * 200), RecordingMark(7384.0), HelpCard([("q", "quit")] * 9)):
        assert (overlay.picture_with([notice]) != overlay.picture()).any()


def test_view_can_change_at_any_time_and_back():
    overlay = Overlay()
    overlay.begin(session())
    overlay.update(analysis(faces=[face()], events=[event(0.0)]))
    full = overlay.picture().copy()
    overlay.view.details = False
    assert overlay.picture().shape != full.shape
    overlay.view.details = True
    assert (overlay.picture() == full).all()


def test_lean_elements_are_some_of_the_full_ones():
    kinds = [type(e) for e in full_elements()]
    assert {type(e) for e in lean_elements()} < set(kinds)
    assert len(set(kinds)) == len(kinds)


def test_still_keeps_the_moment_and_follows_the_view():
    overlay = Overlay()
    overlay.begin(session())
    for k in range(20):
        overlay.update(analysis(k, faces=[face()]))
        overlay.picture()
    still = overlay.still()
    before = still.picture().copy()
    assert (before == overlay.picture()).all()
    for k in range(20, 60):
        seen = [face(centre=(0.3, 0.5))]
        overlay.update(analysis(k, faces=seen, events=[event(k / 30)] if k == 50 else []))
        overlay.picture()
    overlay.view.mirrored = True
    still.picture()
    overlay.view.mirrored = False
    assert (still.picture() == before).all()
    assert (overlay.picture() != before).any()


def test_picture_can_be_encoded():
    assert cv2.imencode(".png", drawn(analysis(faces=[face()])))[0]


def test_text_is_drawn_at_the_pace_of_reading_and_not_of_the_frames(monkeypatch):
    """Drawing text costs ten times as much as copying what was drawn."""
    lines = []
    put_text = cv2.putText

    def counted(image, text, *rest):
        lines.append(text)
        return put_text(image, text, *rest)

    overlay = Overlay()
    overlay.begin(session())
    monkeypatch.setattr(cv2, "putText", counted)
    seen = face()
    counts = []
    for k in range(1, 121):
        lines.clear()
        overlay.update(analysis(k, faces=[seen], events=[event(k / 30)] if k == 1 else []))
        overlay.picture()
        counts.append(len(lines))
    assert counts[0] > 15
    # Frames come 30 times a second, text changes four times a second.
    assert sum(counts) < 120 * counts[0] / 4
