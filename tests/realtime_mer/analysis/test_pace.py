"""Too few analysed frames: said, without flickering, and nothing is reported in them."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest

from realtime_mer.analysis.analyser import Analyser
from realtime_mer.analysis.pace import Pace
from realtime_mer.output.overlay import Overlay, Tracking
from realtime_mer.results import Analysis, GapReason, Session
from realtime_mer.source.frame import Frame
from tests.sessions import frames_of
from tests.spotters import VISIBILITY, spotter_with

IMAGE = np.zeros((8, 8, 3), np.uint8)


def frames(fps: float, seconds: float, every: int = 1, start: int = 0) -> list[Frame]:
    """Of a source's frames, each one in `every` that is analysed."""
    return [
        Frame(i, i / fps, IMAGE, 0.0) for i in range(start, start + round(fps * seconds), every)
    ]


def alerts_of(pace: Pace, given: list[Frame], fps: float) -> list[tuple[str, ...]]:
    alerts = []
    for frame in given:
        pace.update(frame, fps)
        alerts.append(pace.alerts)
    return alerts


@pytest.mark.parametrize(
    ("fps", "every"), [(25, 1), (30, 1), (60, 2), (240, 8), (15, 1), (200, 4), (23.976, 1), (9, 1)]
)
def test_enough_frames_are_no_trouble(fps, every):
    pace = Pace()
    assert not any(alerts_of(pace, frames(fps, 8, every), fps))
    assert pace.notes == ()


def test_an_analysis_that_manages_4_of_25_fps_says_so_once():
    pace = Pace()
    alerts = alerts_of(pace, frames(25, 10, every=6), 25)
    assert alerts[-1] == ("analysis too slow: 4 of 25 fps", "no reports below 8 fps")
    assert len(pace.notes) == 2
    assert "4 of the source's 25" in " ".join(pace.notes)
    alerts_of(pace, frames(25, 10, every=1, start=250), 25)
    assert pace.alerts == ()
    alerts_of(pace, frames(25, 10, every=6, start=500), 25)
    assert len(pace.notes) == 2


@pytest.mark.parametrize(("fps", "every", "shown"), [(60, 4, "15 of 60"), (30, 3, "10 of 30")])
def test_fewer_frames_than_short_motion_needs_are_too_slow(fps, every, shown):
    assert alerts_of(Pace(), frames(fps, 6, every), fps)[-1] == (f"analysis too slow: {shown} fps",)


def test_while_the_analysis_catches_up_the_alert_tells_no_good_rate():
    pace = Pace()
    alerts_of(pace, frames(30, 6, every=3), 30)
    alerts = alerts_of(pace, frames(30, 6, every=1, start=180), 30)
    while_slow = {alert for (alert,) in filter(None, alerts)}
    assert while_slow
    assert all(int(alert.split()[3]) < 22 for alert in while_slow)
    assert alerts[-1] == ()


def test_a_slow_source_that_is_analysed_whole_is_not_the_analysis_fault():
    assert alerts_of(Pace(), frames(5, 6), 5)[-1] == ("no reports below 8 fps",)


def test_single_pauses_are_no_trouble():
    given = [frame for frame in frames(25, 12) if frame.time_s % 4 > 0.9]
    assert not any(alerts_of(Pace(), given, 25))


@pytest.mark.parametrize("fps", [7.4, 7.6, 8.4, 8.6])
def test_reports_do_not_flicker_at_the_limit(fps):
    pace = Pace()
    rng = np.random.default_rng(0)
    given = [
        Frame(i, t, IMAGE, 0.0) for i, t in enumerate(np.cumsum(rng.normal(1, 0.05, 300) / fps))
    ]
    sparse = [bool(alerts) for alerts in alerts_of(pace, given, fps)]
    assert sum(a != b for a, b in pairwise(sparse)) <= 2


def test_below_eight_fps_nothing_is_reported_and_one_gap_says_so(clip):
    images = frames_of(clip)[::5]
    with Analyser() as analyser:
        done = [analyser(image, i / 6) for i, image in enumerate(images)]
        gaps, _ = analyser.open_gaps()
        notes = analyser.notes
    assert not any(analysis.events or analysis.gaps for analysis in done)
    assert done[-1].alerts == ("no reports below 8 fps",)
    assert all(math.isnan(face.score) and face.window is None for face in done[-1].faces)
    (gap,) = gaps
    assert gap.reason == GapReason.TOO_FEW_FRAMES
    assert gap.start_s < 1.0
    assert gap.end_s == pytest.approx(done[-1].frame.time_s)
    assert len(notes) == 1


def test_frames_that_come_irregularly_and_too_rarely_leave_one_gap(clip):
    images = frames_of(clip)
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([0.1, 0.15, 0.7], 120))
    with Analyser() as analyser:
        gaps = []
        for time_s in times:
            gaps += analyser(images[round(time_s * 30) % 30], float(time_s)).gaps
        assert analyser.notes
        gaps = [gap for gap in gaps if gap.start_s > 3.0]
        gaps += analyser.open_gaps()[0]
    assert [gap.reason for gap in gaps] == [GapReason.TOO_FEW_FRAMES]


def test_when_enough_frames_come_again_so_do_reports(clip, eventful):
    images = frames_of(clip)
    found = sum(len(analysis.events) for analysis in eventful)
    assert found > 0
    with Analyser() as analyser:
        slow = [analyser(images[0], i / 5) for i in range(15)]
        again = [images[0]] * 75 + images
        fast = [analyser(image, 3.0 + i / 30) for i, image in enumerate(again)]
    assert slow[-1].alerts
    assert not fast[-1].alerts
    (gap,) = [gap for analysis in fast for gap in analysis.gaps]
    assert gap.reason == GapReason.TOO_FEW_FRAMES
    assert 3.0 < gap.end_s < 5.0
    assert sum(len(analysis.events) for analysis in fast) == found


def tracking_shown(analysis: Analysis) -> np.ndarray:
    """The panel's word for the tracking, as people see it."""
    overlay = Overlay([Tracking()])
    overlay.begin(Session("clip.avi", False, (704, 544), 30, 0, "", "", ()))
    overlay.update(analysis)
    return overlay.picture().copy()


def with_quality(analysis: Analysis, quality: float) -> Analysis:
    faces = tuple(dataclasses.replace(face, quality=quality) for face in analysis.faces)
    return dataclasses.replace(analysis, faces=faces)


def test_where_too_few_frames_are_analysed_no_limits_are_told(tmp_path, astronaut):
    spotter = spotter_with(tmp_path, visibility=VISIBILITY)
    indices = [*range(40), *range(44, 104, 6)]
    with Analyser(spotter=spotter) as analyser:
        frames = (Frame(i, i / 25, astronaut, 0.0) for i in indices)
        analyses = [analyser.analyse(analyser.track(frame)) for frame in frames]
    assert analyses[39].faces[0].limits is not None
    assert analyses[-1].faces[0].limits is None
    (span,) = [span for analysis in analyses for span in analysis.visibility]
    assert span.end_s < analyses[-1].frame.time_s - 0.5
    assert analyser.open_spans() == ()


def test_a_clear_face_of_which_too_few_frames_are_analysed_is_shown_as_bad(astronaut):
    """4 of 25 frames a second, which is known after some of them."""
    with Analyser() as analyser:
        frames = (Frame(i, i / 25, astronaut, 0.0) for i in range(0, 100, 6))
        analyses = [analyser.analyse(analyser.track(frame)) for frame in frames]
    first, last = analyses[0], analyses[-1]
    for analysis, quality in ((first, 1.0), (last, 0.1)):
        shown = tracking_shown(analysis)
        assert (shown == tracking_shown(with_quality(analysis, quality))).all()
    assert (tracking_shown(first) != tracking_shown(with_quality(first, 0.1))).any()
    assert [face.nuisances for face in first.faces] == [()]
    assert [face.nuisances for face in last.faces] == [("too few frames",)]
