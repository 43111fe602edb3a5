"""Intervals are in order, and the most probable label is the label."""

import dataclasses
import pickle

import numpy as np
import pytest

from realtime_mer.results import (
    UNCERTAIN,
    ActionUnit,
    ClockOrigin,
    Gap,
    GapReason,
    Interval,
    MicroExpression,
    RegionMotion,
    SourceStatus,
    StatusChange,
    VisibilitySpan,
    Watched,
    action_units_text,
    regions_text,
    to_dataframe,
)


@pytest.mark.parametrize(
    ("onset", "apex", "offset"),
    [(1.0, 1.1, 1.3), (1.0, 1.0, 1.3), (1.0, 1.3, 1.3), (0.0, 0.0, 0.0), (-0.1, 0.0, 0.1)],
)
def test_an_interval_in_order_has_its_length(onset, apex, offset):
    assert Interval(onset, apex, offset).length_s == pytest.approx(offset - onset)


@pytest.mark.parametrize(
    ("onset", "apex", "offset"),
    [
        (1.0, 0.9, 1.3),
        (1.0, 1.4, 1.3),
        (1.3, 1.1, 1.0),
        (np.nan, 1.1, 1.3),
        (1.0, np.nan, 1.3),
        (1.0, 1.1, np.nan),
    ],
)
def test_an_interval_out_of_order_is_refused(onset, apex, offset):
    with pytest.raises(ValueError, match="onset <= apex <= offset"):
        Interval(onset, apex, offset)


@pytest.mark.parametrize("label", ["negative", "positive", "surprise"])
def test_label_and_confidence_are_those_of_the_greatest_probability(label):
    probabilities = dict.fromkeys(("negative", "positive", "surprise"), 0.2) | {label: 0.6}
    event = MicroExpression(0, Interval(1.0, 1.1, 1.2), probabilities, 2.0, 1.3)
    assert event.label == label
    assert event.confidence == 0.6


@pytest.mark.parametrize(
    ("least", "label"),
    [(0.0, "positive"), (0.6, "positive"), (0.61, UNCERTAIN), (1.0, UNCERTAIN)],
)
def test_less_confidence_than_wanted_makes_the_label_uncertain_and_no_more(least, label):
    probabilities = {"negative": 0.2, "positive": 0.6, "surprise": 0.2}
    interval = Interval(1.0, 1.1, 1.2)
    event = MicroExpression(0, interval, probabilities, 2.0, 1.3, least_confidence=least)
    assert event.label == label
    assert event.confidence == 0.6
    assert event.probabilities == probabilities


def test_what_is_known_of_an_event_cannot_be_changed():
    event = MicroExpression(0, Interval(1.0, 1.1, 1.2), {"negative": 1.0}, 2.0, 1.3)
    with pytest.raises(AttributeError):
        event.face = 1
    with pytest.raises(AttributeError):
        event.interval.onset_s = 0.0


def event(**changes) -> MicroExpression:
    probabilities = {"negative": 0.2, "positive": 0.7, "surprise": 0.1}
    interval = Interval(1.0004, 1.1, 1.2)
    whole = MicroExpression(0, interval, probabilities, 2.0, 1.3, source="clip.avi", model="net")
    return dataclasses.replace(whole, **changes)


def test_events_can_be_put_into_a_set_and_sent_to_another_process():
    assert len({event(), event(), event(face=1)}) == 2
    assert pickle.loads(pickle.dumps(event())) == event()
    assert event() != event(probabilities={"negative": 1.0})


def test_record_of_a_recordings_event_has_no_wall_clock():
    record = event().to_dict()
    assert (record["source"], record["model"], record["onset_s"]) == ("clip.avi", "net", 1.0)
    assert not {"onset_at", "onset_monotonic_s"} & set(record)
    assert event().onset_at is None
    assert event().onset_monotonic_s is None


def test_record_of_a_live_event_has_its_onset_on_both_clocks():
    live = event(origin=ClockOrigin(500.0, 1_700_000_000.0))
    assert live.to_dict()["onset_at"] == "2023-11-14T22:13:21.000+00:00"
    assert live.to_dict()["onset_monotonic_s"] == 501.0004
    assert live.onset_monotonic_s == 501.0004


def test_records_of_gaps_and_statuses_name_their_reason():
    gap = Gap(1, 2.0, 3.5, GapReason.SOURCE_LOST)
    assert gap.to_dict()["reason"] == "source lost"
    change = StatusChange(SourceStatus.RECOVERED, 3.5)
    assert change.to_dict() == {"type": "status", "status": "recovered", "time_s": 3.5}


def test_an_event_s_record_tells_what_is_known_of_its_limit_score_and_regions():
    assert not {"limit_px", "spotting_score"} & set(event().to_dict())
    assert event().to_dict()["regions"] == []
    regions = (RegionMotion("chin", 1.234, 359.7), RegionMotion("upper lip", 0.5, 89.6))
    record = event(limit_px=0.876, spotting_score=0.91234, regions=regions).to_dict()
    assert (record["limit_px"], record["spotting_score"]) == (0.88, 0.9123)
    assert record["regions"] == [
        {"name": "chin", "displacement_px": 1.23, "direction_deg": 0},
        {"name": "upper lip", "displacement_px": 0.5, "direction_deg": 90},
    ]
    assert record["action_units"] == []
    assert regions_text(regions) == "chin 1.23 px at 0 deg; upper lip 0.50 px at 90 deg"


def test_action_units_are_told_with_the_side_that_shows_them():
    units = (ActionUnit("AU12", "both", 0.987), ActionUnit("AU2", "left", 0.6))
    assert event(action_units=units).to_dict()["action_units"] == [
        {"name": "AU12", "side": "both", "score": 0.99},
        {"name": "AU2", "side": "left", "score": 0.6},
    ]
    assert action_units_text(units) == "AU12; AU2 left"


def test_watched_time_is_the_sum_of_the_spans():
    watched = Watched()
    assert watched.events_per_minute(2) is None
    for readable_s in ((40.0, 40.0, 0.0), (0.0, 0.0, 0.0), (40.0, 0.0, 0.0)):
        span = VisibilitySpan(0, 10.0, 50.0, (1.0, 1.0, 1.0), readable_s, max(readable_s))
        watched = watched.with_spans([span])
    assert watched.to_dict() == {
        "watched_s": 120.0,
        "readable_s": {"upper face": 80.0, "middle face": 40.0, "lower face": 0.0},
        "any_readable_s": 80.0,
    }
    assert watched.events_per_minute(2) == pytest.approx(1.5)


def test_table_of_events_has_a_row_each_and_a_column_for_each_label():
    table = to_dataframe([event(), event(face=1)])
    assert table.face.tolist() == [0, 1]
    assert table.p_positive.tolist() == [0.7, 0.7]
    assert table.label.tolist() == ["positive", "positive"]
    assert "type" not in table.columns
    assert table.limit_px.isna().all()
    regions = (RegionMotion("chin", 1.234, 90.0),)
    units = (ActionUnit("AU17", "both", 0.9),)
    table = to_dataframe([event(), event(limit_px=0.9, regions=regions, action_units=units)])
    assert table.limit_px.tolist()[1] == 0.9
    assert table.regions.tolist() == ["", "chin 1.23 px at 90 deg"]
    assert table.action_units.tolist() == ["", "AU17"]


def test_table_without_events_still_has_its_columns():
    table = to_dataframe([])
    assert len(table) == 0
    columns = {"face", "onset_s", "label", "intensity_px", "limit_px", "regions", "source"}
    assert columns <= set(table.columns)
