"""What each sensitivity is worth: what the review tells, and what it cannot tell."""

import dataclasses
import json

import pytest

from realtime_mer.archive.reviews.agreement import Consensus
from realtime_mer.archive.reviews.found import material
from realtime_mer.errors import InputError
from realtime_mer.model_file import SPOTTER
from realtime_mer.output.log import schema
from realtime_mer.results import Interval
from realtime_mer.review.worth import seconds_per_event, worths
from realtime_mer.spotting.spotter import Proposal, SpotterModel
from tests.realtime_mer.review.conftest import rewrite
from tests.results import event

TRUE, FALSE, SPLIT, OPEN = Consensus("true"), Consensus("false"), Consensus("disputed"), Consensus()


def rows_of(found, said, look_s=None):
    said = dict(zip((event.id for event in found.events), said, strict=True))
    return {row.sensitivity: row for row in worths(found, said, look_s)}


def test_stricter_sensitivities_are_answered_and_looser_ones_are_not(many):
    found = material(many)
    # Of the 20 events, the ten that are reported most easily are true, but for two.
    rows = rows_of(found, [TRUE] * 8 + [SPLIT, OPEN] + [FALSE] * 10, look_s=6.0)
    half, run = rows[0.5], rows[1.0]
    assert (half.kind, half.reports, half.decided, half.true) == ("stricter", 10, 8, 8)
    assert half.precision == 1.0
    # Wilson's interval of 8 in 8 is 8 / (8 + 1.96 ** 2) to 1.
    assert half.interval == pytest.approx((0.6756, 1.0), abs=1e-4)
    assert (half.kept, half.confirmed) == (8, 8)
    assert (run.kind, run.reports, run.decided, run.true) == ("as run", 20, 18, 8)
    assert run.precision == pytest.approx(8 / 18)
    assert (rows[0.2].reports, rows[0.2].kept, rows[0.2].confirmed) == (4, 4, 8)
    # Two videos of 6 s: 20 events are 6000 an hour, at 6 s each 600 minutes of review.
    assert found.hours == pytest.approx(12 / 3600)
    assert run.reports_per_hour == pytest.approx(6000)
    assert run.minutes_per_hour == pytest.approx(600)
    for looser in (rows[2.0], rows[4.0]):
        assert looser.kind == "looser"
        assert looser.reports is looser.precision is looser.minutes_per_hour is None


def test_results_that_do_not_tell_what_a_stricter_one_leaves_out_are_not_guessed(results):
    found = material(results)
    assert found.events[0].least_sensitivity is None
    rows = rows_of(found, [TRUE, FALSE, TRUE, OPEN])
    assert rows[0.5].kind == "stricter"
    assert rows[0.5].reports is None
    assert (rows[1.0].reports, rows[1.0].true, rows[1.0].decided) == (4, 2, 3)


def settings_of(results, **changes):
    manifest = json.loads(results.manifest_path.read_text())
    manifest["settings"] |= changes
    results.manifest_path.write_text(json.dumps(manifest))


def test_sensitivity_left_to_the_card_is_read_from_it(many):
    card = json.loads(SPOTTER.with_suffix(".json").read_text())
    settings_of(many, sensitivity=None, weights={"spotter": card["sha256"]})
    points = {p["threshold"]: p["false_per_minute"] for p in card["operating_curve"]}
    assert material(many).sensitivity == pytest.approx(points[card["threshold"]])
    # Of another spotter, only that all events passed is known.
    settings_of(many, sensitivity=None, weights={"spotter": "0" * 64})
    assert material(many).sensitivity == 1.0


def test_sensitivity_that_nobody_knows_is_not_compared(results):
    settings_of(results, sensitivity=None)
    assert material(results).sensitivity is None
    rows = rows_of(material(results), [TRUE] * 4)
    assert {row.kind for row in rows.values()} == {"unknown"}


def test_time_of_a_verdict_is_a_mean_without_breaks():
    assert seconds_per_event([2.0, 3.0, 4.0, 5.0]) is None
    # A mean, for reports times it shall be the time of all.
    assert seconds_per_event([2.0, 2.0, 2.0, 2.0, 900.0, 12.0]) == 4.0


@pytest.mark.parametrize("score", [0.2, 0.4, 0.8])
def test_an_event_tells_the_smallest_sensitivity_that_reports_it(score):
    spotter = SpotterModel(SPOTTER)
    least = spotter.least_sensitivity(Proposal(Interval(0, 0.1, 0.2), score))
    assert score >= spotter.threshold_at(1.02 * least)
    assert score < spotter.threshold_at(0.98 * least)


def test_records_tell_it_and_the_schema_knows_it():
    record = dataclasses.replace(event(1.0, "negative", 0.8), least_sensitivity=0.12345).to_dict()
    assert record["least_sensitivity"] == 0.1235  # as `round` does it
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(schema()).validate(record)
    assert "least_sensitivity" not in event(1.0, "negative", 0.8).to_dict()


def test_folders_without_anything_to_review_are_refused_by_name(results, tmp_path):
    for video in results.done():
        rewrite(video, [r for r in video.records() if r["type"] != "micro_expression"])
    with pytest.raises(InputError, match="no events in its videos"):
        material(results)
    with pytest.raises(InputError, match=r"no results folder: it has no manifest\.json"):
        material(type(results)(tmp_path))


def test_one_bad_log_does_not_hide_the_others(results):
    first, _ = results.done()
    first.log.write_text("no log\n")
    found = material(results)
    assert len(found.events) == 1
    assert first.key in found.notes[0]


def test_a_log_without_its_length_does_not_hide_the_others(results):
    first, _ = results.done()
    rewrite(first, [{k: v for k, v in r.items() if k != "duration_s"} for r in first.records()])
    manifest = json.loads(results.manifest_path.read_text())
    manifest["videos"][0]["duration_s"] = None
    results.manifest_path.write_text(json.dumps(manifest))
    found = material(results)
    assert len(found.events) == 1
    assert first.key in found.notes[0]
