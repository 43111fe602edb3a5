"""Figures of the source, tracking and alerts."""

import dataclasses

import numpy as np
import pytest

from realtime_mer.output.overlay import (
    BACKGROUND,
    BRIGHT,
    GREEN,
    LABEL_COLOURS,
    YELLOW,
    Alerts,
    Footer,
    Layout,
    Overlay,
    Status,
    Tracking,
)
from tests.realtime_mer.output.overlay.drawing import (
    LABELS,
    analysis,
    count,
    drawn,
    event,
    face,
    session,
)


def test_drops_are_shown_and_stand_out():
    none = drawn(analysis(), elements=[Status()])
    some = drawn(analysis(dropped=3), elements=[Status()])
    assert count(none, YELLOW) == 0
    assert count(some, YELLOW) > 10


@pytest.mark.parametrize("dropped", [1234, 99_999, 999_499, 12_345_678])
def test_many_dropped_frames_do_not_touch_the_sensitivity(dropped):
    picture = drawn(analysis(dropped=dropped, sensitivity=0.16), elements=[Status()])
    row = Layout.of(640, 480).status.of(picture)[24:40]
    yellow, bright = (
        np.flatnonzero((np.abs(row.astype(int) - colour).max(-1) < 12).any(0))
        for colour in (YELLOW, BRIGHT)
    )
    assert yellow.max() + 6 < bright[bright > 138].min()


def test_figures_change_at_the_pace_of_reading():
    overlay = Overlay([Status()])
    overlay.begin(session())
    pictures = []
    for k in range(30):
        overlay.update(analysis(k, fps=30 + k))
        pictures.append(overlay.picture().tobytes())
    assert 2 <= len(set(pictures)) <= 6


def test_figures_of_the_source_are_shown_where_they_are_known():
    unknown = drawn(analysis(), elements=[Status()])
    known = drawn(analysis(source_fps=29.97, sensitivity=0.2), elements=[Status()])
    box = Layout.of(640, 480).status
    changed = (box.of(unknown) != box.of(known)).any((0, 2))
    assert changed[20:70].any(), "frame rate"
    assert changed[184:].any(), "sensitivity"
    assert not changed[75:180].any()


def test_source_that_is_away_is_not_live_and_shows_no_latency():
    live, away, later = (
        drawn(analysis(**values), elements=[Status()], of=session(live=True))
        for values in ({}, {"is_away": True}, {"is_away": True, "latency_s": 9.0})
    )
    assert count(live, GREEN) > 100
    assert count(away, GREEN) == 0
    assert (away == later).all()


def test_long_name_of_the_source_does_not_leave_the_panel():
    name = "rtsp://***@a-very-long-host-name.example.org/and/an/even/longer/path/stream.sdp"
    picture = drawn(analysis(), elements=[Status(), Footer()], of=session(True, name))
    assert (picture[:, -4:] == BACKGROUND).all()


def bars(picture):
    """Columns in which the tracking's row shows a bar's colour."""
    row = Layout.of(640, 480).tracking.of(picture)[:, :86]  # left of the word
    colours = [(row == c).all(-1).any(0) for c in (GREEN, YELLOW, LABEL_COLOURS[0])]
    lit = np.any(colours, 0)
    return int((np.diff(lit.astype(int)) == 1).sum() + lit[0])


@pytest.mark.parametrize(("quality", "steps"), [(1.0, 5), (0.8, 4), (0.0, 1)])
def test_tracking_quality_is_shown_in_bars(quality, steps):
    picture = drawn(analysis(faces=[face(quality=quality)]), elements=[Tracking()])
    assert bars(picture) == steps


def test_each_quality_of_tracking_has_another_word():
    pictures = [
        drawn(analysis(faces=[face(quality=q)] if q else []), elements=[Tracking()]).tobytes()
        for q in (1.0, 0.6, 0.4, 0.2, None)
    ]
    assert len(set(pictures)) == 5


def test_lost_face_shows_at_once():
    overlay = Overlay([Tracking()])
    overlay.begin(session())
    for a in (analysis(0, faces=[face()]), analysis(1)):
        overlay.update(a)
        lit = Layout.of(640, 480).tracking.of(overlay.picture())
    assert count(lit, YELLOW) > 50
    assert count(lit, GREEN) == 0


def test_alerts_are_large_and_frame_the_video():
    calm = drawn(analysis())
    alarmed = drawn(analysis(alerts=("picture frozen",)))
    assert count(alarmed, YELLOW) > 5 * count(calm, YELLOW)
    layout = Layout.of(640, 480)
    banner = layout.events.of(alarmed)[-23:]
    assert count(banner, YELLOW) > 0.6 * banner.shape[0] * banner.shape[1]
    assert count(banner, BACKGROUND) > 200, "sign and words"
    video = layout.video.of(alarmed)
    assert (video[:3] == YELLOW).all()
    assert (video[:, -3:] == YELLOW).all()
    assert (video[4:-4, 4:-4] == 90).all(), "nothing hides the video"


def test_many_alerts_leave_room_for_the_last_event():
    alerts = tuple(f"alert {k}" for k in range(9))
    picture = drawn(analysis(events=[event(0.0)], alerts=alerts))
    events = Layout.of(640, 480).events.of(picture)
    assert count(events[:, :3], LABEL_COLOURS[2]) > 100
    rows = (events == YELLOW).all(-1).mean(1) > 0.5
    assert not rows[:100].any()


def test_no_card_is_cut_by_an_alert():
    frames = [analysis(10 * k, events=[event(k / 3, LABELS[k])]) for k in range(3)]

    def rows(alerts):
        last = dataclasses.replace(frames[-1], alerts=alerts)
        bar = Layout.of(640, 480).events.of(drawn(*frames[:-1], last))[:, 1]
        return [int((bar == c).all(-1).sum()) for c in LABEL_COLOURS[:3]]

    assert rows(()) == [55, 55, 55]
    assert rows(("too dark",)) == [0, 55, 55]


def test_alert_goes_away():
    gone = drawn(analysis(0, alerts=("too dark",)), analysis(1))
    assert (gone == drawn(analysis(0), analysis(1))).all()


def test_alerts_are_shown_whole_in_the_narrowest_panel():
    texts = [
        "analysis too slow: 15 of 60 fps",
        "face too small: 48 px wide",
        "no reports below 8 fps",
    ]
    for text in texts:
        middle = len(text) // 2
        other = text[:middle] + "#" + text[middle + 1 :]
        shown, changed = (drawn(analysis(alerts=(t,)), elements=[Alerts()]) for t in (text, other))
        assert (shown != changed).any(), text
