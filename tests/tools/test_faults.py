"""Faults at known times, and the check of a log against them."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from realtime_mer.demo.clip import DemoTruth, HiddenEvent
from realtime_mer.results import Interval
from tools.faults import KINDS, Fault, check, schedule, truth_of_loop

STARTED = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def log(*records, begun_s=2.0, duration_s=200.0):
    """A log whose clock started `begun_s` after the camera's."""
    started_at = datetime.fromtimestamp(STARTED + begun_s, UTC).isoformat()
    session = {"type": "session", "started_at": started_at}
    return [session, *records, {"type": "summary", "duration_s": duration_s}]


def event(onset_s, offset_s):
    times = {"onset_s": onset_s, "apex_s": (onset_s + offset_s) / 2, "offset_s": offset_s}
    return {"type": "micro_expression", **times}


def gap(reason, start_s, end_s):
    return {"type": "gap", "reason": reason, "start_s": start_s, "end_s": end_s}


def checked(records, faults=(), truth=(), opened_s=(2.0,), pauses=()):
    events = [Interval(a, (a + b) / 2, b) for a, b in truth]
    return check(records, faults, events, opened_s, STARTED, pauses)


def test_every_kind_of_fault_is_played_and_never_two_at_once():
    faults = schedule(3600, seed=3)
    counts = [sum(fault.kind == kind for fault in faults) for kind in KINDS]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 1
    assert all(a.end_s + 5 < b.start_s for a, b in pairwise(faults))
    assert faults[-1].end_s < 3600
    assert schedule(3600, seed=3) == faults != schedule(3600, seed=4)


def test_events_of_a_clip_are_mirrored_on_the_way_back():
    hidden = HiddenEvent(Interval(1.0, 1.1, 1.5), "positive", ("AU12",), 2.0)
    truth = truth_of_loop(DemoTruth((hidden,), (), fps=10.0, frames=31), seconds=12.5)
    # 31 frames there, 29 back: 6 s a round.
    found = [(e.onset_s, e.apex_s, e.offset_s) for e in truth]
    expected = [(1.0, 1.1, 1.5), (4.5, 4.9, 5.0), (7.0, 7.1, 7.5), (10.5, 10.9, 11.0)]
    assert found == [pytest.approx(times) for times in expected]


def test_undisturbed_events_are_found_or_lost():
    records = log(event(8.0, 8.4), event(60.0, 60.4))
    found = checked(records, truth=[(10.0, 10.4), (30.0, 30.4)])
    assert (found["hidden"], found["undisturbed"], found["found"]) == (2, 2, 1)
    assert found["lost"] == [30.0]
    assert found["false"] == 1


def test_reports_of_events_at_the_ends_of_a_session_are_not_false():
    # Before the spotter has its baseline, and when the session ends before the face has rested.
    truth = [(2.4, 2.8), (11.5, 11.8), (30.0, 30.4)]
    records = log(event(0.4, 0.8), event(9.5, 9.8), duration_s=10.0)
    found = checked(records, truth=truth)
    assert (found["hidden"], found["false"], found["found_in_faults"]) == (0, 0, 0)
    found = checked(log(duration_s=10.0), truth=truth)
    assert (found["hidden"], found["lost"]) == (0, [])
    # The session's clock counts, not the time at which the camera began to send.
    late = checked(log(begun_s=8.0, duration_s=10.0), truth=[(16.0, 16.4)])
    assert late["lost"] == [16.0]


def test_an_event_beside_a_fault_is_not_counted_as_lost():
    fault = Fault("freeze", 29.0, 32.0)
    records = log(gap("picture frozen", 27.0, 30.1))
    found = checked(records, [fault], [(33.0, 33.4), (28.7, 28.9), (40.0, 40.4)])
    assert (found["hidden"], found["undisturbed"]) == (3, 1)
    assert found["lost"] == [40.0]


def test_an_event_during_a_full_disk_must_not_be_lost():
    truth = [(30.0, 30.4), (39.8, 40.2)]
    found = checked(log(), [Fault("disk full", 20.0, 40.0)], truth)
    assert found["lost"] == [30.0, 39.8]


def test_events_before_the_camera_is_there_again_are_disturbed():
    fault = Fault("unplugged", 20.0, 25.0)
    records = log(gap("source lost", 18.0, 29.5))
    found = checked(records, [fault], [(28.0, 28.4), (34.0, 34.4)], [2.0, 31.4])
    assert found["lost"] == [34.0]
    assert not found["unexplained_gaps"]


@pytest.mark.parametrize(
    ("record", "unexplained"),
    [
        (gap("source lost", 18.1, 26.0), []),
        (gap("face lost", 18.1, 26.0), [("face lost", 20.1, 28.0)]),
        (gap("source lost", 40.0, 41.0), [("source lost", 42.0, 43.0)]),
    ],
    ids=["explained", "other reason", "other time"],
)
def test_gaps_need_a_fault_that_explains_them(record, unexplained):
    fault = Fault("unplugged", 20.0, 27.5)
    found = checked(log(record), [fault])
    assert found["unexplained_gaps"] == unexplained


@pytest.mark.parametrize(
    ("record", "is_paused"),
    [
        (gap("no frames", 38.0, 38.13), True),
        (gap("face lost", 38.0, 38.13), False),
        (gap("no frames", 38.0, 39.0), False),
        (gap("no frames", 60.0, 60.13), False),
    ],
    ids=["explained", "other reason", "longer", "other time"],
)
def test_frames_are_missing_in_a_pause_of_the_system_and_no_longer(record, is_paused):
    found = checked(log(record), pauses=[(40.02, 40.11)])
    assert bool(found["gaps_in_pauses"]) == is_paused
    assert bool(found["unexplained_gaps"]) != is_paused


def test_an_event_in_a_pause_of_the_system_counts_apart():
    truth = [(30.0, 30.4), (39.9, 40.3), (60.0, 60.4)]
    found = checked(log(event(28.0, 28.4)), truth=truth, pauses=[(40.02, 40.11)])
    assert (found["undisturbed"], found["found"], found["lost"]) == (2, 1, [60.0])
    assert (found["in_pauses"], found["lost_in_pauses"]) == (1, [39.9])


def test_a_fault_that_leaves_no_gap_is_named():
    faults = [Fault("black", 20.0, 23.0), Fault("damaged pictures", 40.0, 43.0)]
    assert checked(log(), faults)["silent_faults"] == [("black", 20.0, 23.0)]
    assert not checked(log(begun_s=22.0), faults, opened_s=[22.0])["silent_faults"]
