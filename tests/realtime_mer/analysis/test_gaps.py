"""For how long a face may be away, and why it was not followed: in whole sessions."""

import math
import threading
import time

import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.results import Interval
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.source.kinds import reader_for
from realtime_mer.source.stream import StreamReader
from realtime_mer.spotting.matching import overlap
from tests.sessions import (
    EVENTS,
    FPS,
    Film,
    Stopping,
    Stuttering,
    Unsteady,
    analyses_of,
    coming_and_going,
    frames_of,
    gaps_of,
    gaps_of_camera,
    logged,
    logged_last,
    moving,
    write_video,
)


def test_lost_face_leaves_a_gap_and_starts_afresh(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "lost.avi", astronaut, [(36, 15), (36, 0)])
    analyses = analyses_of(path)
    (gap,) = gaps_of(analyses)
    assert (gap.face, gap.reason) == (0, "face lost")
    # MediaPipe may need a frame to find the face again.
    assert gap.start_s == pytest.approx(35 / FPS, abs=0.001)
    assert gap.end_s == pytest.approx(51 / FPS, abs=0.07)
    assert analyses[round(gap.end_s * FPS)].gaps == (gap,)
    assert all(a.faces == () for a in analyses[36:51])
    score = {round(a.frame.time_s * FPS): a.faces[0].score for a in analyses if a.faces}
    assert math.isfinite(score[35])
    assert math.isnan(score[52 + 3])
    assert math.isfinite(score[86])


def test_tracker_that_goes_over_to_another_face_ends_the_window(astronaut, tmp_path):
    height, width = astronaut.shape[:2]
    left, right = (np.zeros((height, 2 * width, 3), np.uint8) for _ in range(2))
    left[:, :width], right[:, width:] = astronaut, astronaut
    path = write_video(tmp_path / "jump.avi", [left] * 20 + [right] * 30)
    analyses = analyses_of(path)
    jumps = [gap for gap in gaps_of(analyses) if gap.reason == "face jumped"]
    assert len(jumps) + sum(gap.reason == "face lost" for gap in gaps_of(analyses)) == 1
    after = [a.faces[0].score for a in analyses if a.faces and a.frame.index >= 22]
    assert np.isnan(after).all()  # warming up anew: what was seen of the other face is forgotten


def test_loss_shorter_than_100_ms_is_bridged(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "flicker.avi", astronaut, [(36, 1), (6, 2), (6, 0)])
    analyses = analyses_of(path)
    assert [len(a.faces) for a in analyses[34:46]] == [1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1]
    assert gaps_of(analyses) == []
    assert all(math.isfinite(a.faces[0].score) for a in analyses[36:] if a.faces)


def test_slow_source_is_no_series_of_gaps(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "slow.avi", astronaut, [(24, 6), (6, 0)], fps=10)
    (gap,) = gaps_of(analyses_of(path))
    assert (gap.start_s, gap.end_s) == pytest.approx((2.3, 3.0), abs=0.01)


def test_single_face_leaves_a_gap_however_long_it_was_away(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "long.avi", astronaut, [(24, 120), (10, 0)], fps=10)
    (gap,) = gaps_of(analyses_of(path))
    assert (gap.face, gap.start_s, gap.end_s) == pytest.approx((0, 2.3, 14.4), abs=0.01)


def test_one_of_several_faces_that_does_not_come_back_leaves_a_gap(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "gone.avi", astronaut, [(12, 25), (8, 0)], fps=10)
    analyses = analyses_of(path, faces=2)
    (gap,) = gaps_of(analyses)
    assert (gap.face, gap.start_s, gap.reason) == (0, pytest.approx(1.1, abs=0.01), "face lost")
    # She comes back with her number, to a chain of her own that starts afresh.
    assert [f.face for f in analyses[-1].faces] == [0]
    assert gap.end_s == next(a.frame.time_s for a in analyses[37:] if a.faces)


def test_one_of_several_faces_that_is_gone_for_good_is_told_before_the_end(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "gone.avi", astronaut, [(8, 66)], fps=2)
    analyses = analyses_of(path, faces=2)
    (gap,) = gaps_of(analyses)
    assert (gap.start_s, gap.end_s) == (3.5, 34.0)
    assert analyses[68].gaps == (gap,)


@pytest.mark.parametrize(
    ("faces", "away"),
    [(1, 12), (2, 12), (2, 60)],
    ids=["one", "of several", "of several, whose memory was freed"],
)
def test_face_that_is_away_at_the_end_leaves_a_gap(astronaut, tmp_path, faces, away):
    path = coming_and_going(tmp_path / "left.avi", astronaut, [(20, away)])
    with Recognizer(path, faces=faces) as recognizer:
        analyses = list(recognizer.analyses())
        summary = recognizer.summary("")
    (gap,) = gaps_of(analyses)
    last = 19 + away
    assert (gap.face, gap.reason) == (0, "face lost")
    assert (gap.start_s, gap.end_s) == pytest.approx((19 / FPS, last / FPS), abs=0.001)
    # It comes with the last frame, which counts once.
    assert [a.frame.index for a in analyses] == [*range(last + 1), last]
    assert summary.frames_read == summary.frames_analysed == last + 1
    assert summary.frames_with_face == 20
    assert recognizer.leftover() is None


def test_face_that_is_away_for_a_moment_at_the_end_leaves_none(astronaut, tmp_path):
    analyses = analyses_of(coming_and_going(tmp_path / "blip.avi", astronaut, [(20, 3)]))
    assert gaps_of(analyses) == []
    assert [a.frame.index for a in analyses] == list(range(23))


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), RuntimeError("sink on fire")], ids=["ctrl-c", "sink"]
)
def test_face_that_is_away_when_a_file_is_stopped_leaves_a_gap(astronaut, tmp_path, error):
    path = coming_and_going(tmp_path / "left.avi", astronaut, [(20, 60)])
    stopping = Stopping(lambda analysis: analysis.frame.index == 40, error)
    gap, summary = logged(tmp_path / "log.jsonl", Recognizer(path), stopping)
    assert (gap["type"], gap["face"], gap["reason"]) == ("gap", 0, "face lost")
    assert gap["start_s"] == pytest.approx(19 / FPS, abs=0.001)
    # Up to the last frame that was analysed.
    assert gap["end_s"] == summary["duration_s"] >= 40 / FPS - 0.001
    assert summary["frames_analysed"] == round(gap["end_s"] * FPS) + 1


def test_face_that_is_away_when_a_file_breaks_leaves_a_gap(astronaut, tmp_path):
    pictures = [astronaut] * 20 + [np.full_like(astronaut, 90)] * 20
    film = Film(pictures, InputError("frame 40 is torn"))
    gap, summary = logged(tmp_path / "log.jsonl", Recognizer(film))
    assert (gap["type"], gap["reason"]) == ("gap", "face lost")
    assert (gap["start_s"], gap["end_s"]) == pytest.approx((19 / FPS, 39 / FPS), abs=0.001)
    assert summary["reason"] == "error: frame 40 is torn"


def test_source_that_is_away_at_ctrl_c_leaves_a_gap_up_to_there(camera_server, tmp_path):
    recognizer = Recognizer(camera_server(count=25).url)

    def is_away(analysis) -> bool:
        silent_s = time.monotonic() - analysis.frame.captured_at
        return "reconnecting" in analysis.alerts and silent_s > 0.4

    stopping = Stopping(is_away, KeyboardInterrupt())
    gap, summary = logged_last(tmp_path / "log.jsonl", recognizer, stopping)
    assert (gap["type"], gap["face"], gap["reason"]) == ("gap", 0, "source lost")
    assert gap["end_s"] - gap["start_s"] > 0.3
    assert summary["reason"] == "stopped by user"
    assert summary["duration_s"] == gap["end_s"]


def test_source_that_is_given_up_leaves_a_gap_up_to_there(camera_server, tmp_path, monkeypatch):
    monkeypatch.setattr(StreamReader, "patience_s", 0.8)
    recognizer = Recognizer(camera_server(count=25).url)
    gap, summary = logged_last(tmp_path / "log.jsonl", recognizer)
    assert (gap["face"], gap["reason"]) == (0, "source lost")
    assert gap["end_s"] - gap["start_s"] == pytest.approx(0.8, abs=0.5)
    assert summary["reason"] == "end of source"
    assert summary["duration_s"] == gap["end_s"]


@pytest.mark.parametrize("stops", [True, False], ids=["ctrl-c", "end"])
def test_source_that_is_silent_at_the_end_leaves_a_gap(camera_server, tmp_path, stops):
    url = camera_server(count=25, stalls=True).url
    reader = reader_for(url, stall_timeout_s=10 if stops else 1.5)
    recognizer = Recognizer(reader, reconnect=False)
    stopping = Stopping(
        lambda analysis: stops and "no picture" in analysis.alerts, KeyboardInterrupt()
    )
    gap, summary = logged_last(tmp_path / "log.jsonl", recognizer, stopping)
    assert (gap["face"], gap["reason"]) == (0, "no frames" if stops else "source lost")
    assert gap["end_s"] - gap["start_s"] > 0.9
    assert summary["duration_s"] == gap["end_s"]
    assert summary["reason"] == ("stopped by user" if stops else "end of source")


def test_picture_that_is_frozen_at_ctrl_c_leaves_a_gap(camera_server, tmp_path):
    recognizer = Recognizer(camera_server(count=25, freezes=True).url)
    stopping = Stopping(lambda analysis: "picture frozen" in analysis.alerts, KeyboardInterrupt())
    gap, summary = logged_last(tmp_path / "log.jsonl", recognizer, stopping)
    assert (gap["face"], gap["reason"]) == (0, "picture frozen")
    # It is told after a second; both times are rounded to a millisecond.
    assert gap["end_s"] - gap["start_s"] > 0.998
    assert summary["duration_s"] >= gap["end_s"]


def test_hole_in_a_live_source_is_told_from_a_lost_face(astronaut):
    camera, gaps = Stuttering(astronaut), []
    with Recognizer(camera) as recognizer:
        for analysis in recognizer.analyses():
            gaps += analysis.gaps
            camera.taken.release()
    (gap,) = gaps
    assert gap.reason == "no frames"
    assert gap.end_s - gap.start_s == pytest.approx(0.5)


def test_lost_source_explains_why_a_face_was_that_is_back_later(astronaut):
    nothing = np.full_like(astronaut, 90)
    gaps = gaps_of_camera(moving(astronaut, 20), [None], moving(nothing, 5), moving(astronaut, 5))
    (gap,) = gaps
    assert gap.reason == "source lost"
    assert gap.end_s - gap.start_s == pytest.approx(1 + 6 / FPS, abs=0.07)


def test_lost_source_explains_why_frames_before_it_were_not_analysed_either(astronaut):
    """The analysis stands still: ten frames are read meanwhile and dropped, and the source goes."""
    seen, dropped, back = (moving(astronaut, count) for count in (20, 10, 5))
    camera = Unsteady([*seen, *dropped, None, *back])
    stands_still, is_back = threading.Event(), threading.Event()

    def may_go_on() -> bool:
        if camera._given >= len(seen) + len(dropped) + len(back):
            is_back.set()
        return stands_still.is_set() or Unsteady._may_go_on(camera)

    def track(frame):
        if frame.index >= len(seen) - 1:
            stands_still.set()
            is_back.wait(10)
        return tracked(frame)

    camera._may_go_on = may_go_on
    with Recognizer(camera) as recognizer:
        camera.recognizer = recognizer
        tracker = recognizer._pipeline.analyser.tracker
        tracked, tracker.track = tracker.track, track
        gaps = []
        for analysis in recognizer.analyses():
            gaps += analysis.gaps
            if gaps:
                break
    (gap,) = gaps
    assert gap.reason == "source lost"
    assert gap.start_s == pytest.approx(19 / FPS, abs=0.001)
    assert gap.end_s - gap.start_s > 1 + 10 / FPS


def test_lost_source_does_not_explain_why_a_face_had_left_before(astronaut):
    nothing = np.full_like(astronaut, 90)
    gaps = gaps_of_camera(moving(astronaut, 20), moving(nothing, 9), [None], moving(astronaut, 5))
    (gap,) = gaps
    assert gap.reason == "face lost"
    assert gap.end_s - gap.start_s == pytest.approx(1 + 10 / FPS, abs=0.07)


def test_frozen_picture_is_a_gap_of_who_was_followed(astronaut):
    nothing = np.full_like(astronaut, 90)
    still = [astronaut] * 40
    (gap,) = gaps_of_camera(moving(astronaut, 20), still, moving(astronaut, 5))
    assert gap.reason == "picture frozen"
    assert (gap.start_s, gap.end_s) == pytest.approx((20 / FPS, 60 / FPS), abs=0.01)
    # Who had left before is away all the time, and told of once.
    still = [nothing] * 40
    nobody = moving(nothing, 6)
    (gap,) = gaps_of_camera(moving(astronaut, 20), nobody, still, nobody, moving(astronaut, 5))
    assert gap.reason == "face lost"
    assert (gap.start_s, gap.end_s) == pytest.approx((19 / FPS, 72 / FPS), abs=0.07)
    # And who comes when it thaws was not there before.
    assert gaps_of_camera(still, moving(astronaut, 5)) == []


def matches(record: dict, hidden: Interval) -> bool:
    found = Interval(record["onset_s"], record["apex_s"], record["offset_s"])
    return overlap(found, hidden) >= 0.5


def test_events_before_and_after_a_hole_in_a_folder_are_found(clip, tmp_path):
    """0.65 s after it comes the second: a face that starts afresh would be known only then."""
    folder = tmp_path / "frames"
    folder.mkdir()
    hole = range(72, 87)
    for i, image in enumerate(frames_of(clip)[: round(4.2 * FPS)]):
        if i not in hole:
            cv2.imwrite(str(folder / f"{i:03d}.jpg"), image)
    told = logged(tmp_path / "log.jsonl", Recognizer(folder, fps=FPS))
    (gap,) = (record for record in told if record["type"] == "gap")
    assert gap["reason"] == "no frames"
    assert (gap["start_s"], gap["end_s"]) == pytest.approx((71 / FPS, 87 / FPS), abs=0.002)
    events = [record for record in told if record["type"] == "micro_expression"]
    assert len(events) == len(EVENTS)
    assert all(matches(e, hidden.interval) for e, hidden in zip(events, EVENTS, strict=True))


def test_an_event_at_the_end_of_a_video_is_told(clip, eventful, tmp_path):
    """The last frame is the one before that which tells it in the whole video."""
    told_at = next(analysis.frame.index for analysis in eventful if analysis.events)
    path = write_video(tmp_path / "cut.avi", frames_of(clip)[:told_at])
    told = logged(tmp_path / "log.jsonl", Recognizer(path))
    (event,) = (record for record in told if record["type"] == "micro_expression")
    assert matches(event, EVENTS[0].interval)
    assert told[-1]["events"] == 1
