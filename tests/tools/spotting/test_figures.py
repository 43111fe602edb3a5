"""The figures of spotting, on cases counted by hand, by our rule and by that of MEGC."""

import pytest

from realtime_mer.results import Interval, MicroExpression
from tools.spotting.figures import (
    Result,
    TrueEvent,
    false_by_action,
    figures,
    match,
    megc_figures,
    megc_match,
    recall_by_masking,
)


def true(onset_s, offset_s, label="negative", masking=None):
    return TrueEvent(Interval(onset_s, (onset_s + offset_s) / 2, offset_s), label, masking)


def found(onset_s, offset_s, label="negative", delay_s=0.2):
    others = {"negative": 0.1, "positive": 0.1, "surprise": 0.1}
    return MicroExpression(
        0,
        Interval(onset_s, (onset_s + offset_s) / 2, offset_s),
        others | {label: 0.8},
        1.5,
        offset_s + delay_s,
    )


def result(truth, reports, fps=10.0, seconds=60.0, macros=(), actions=()):
    return Result(
        "clip", tuple(truth), tuple(reports), fps, seconds, tuple(macros), actions=tuple(actions)
    )


def test_one_report_serves_one_event_and_the_better_overlap_wins():
    pairs = match(result([true(1.0, 1.9)], [found(1.0, 1.6), found(1.0, 1.8)]))
    assert len(pairs) == 1
    assert pairs[0][1].interval.offset_s == 1.8


def test_by_megc_the_first_report_wins():
    pairs = megc_match(result([true(1.0, 1.9)], [found(1.0, 1.6), found(1.0, 1.8)]))
    assert len(pairs) == 1
    assert pairs[0][1].interval.offset_s == 1.6


def test_by_megc_a_report_may_serve_two_events():
    # Frames 10 to 14 and 15 to 19, and one report of all ten.
    both = result([true(1.0, 1.4), true(1.5, 1.9)], [found(1.0, 1.9)])
    assert len(match(both)) == 1
    table = megc_figures([both])
    assert table["matched"] == 2
    assert table["F1"] == table["precision"] == 1.0


def test_figures_count_misses_false_reports_and_labels():
    table = figures(
        [
            result(
                [true(1, 1.9), true(5, 5.9, "surprise"), true(9, 9.9)],
                [found(1, 1.9), found(5, 5.9, "positive"), found(20, 20.5)],
            ),
            result([], [found(3, 3.4)]),
        ]
    )
    assert table["matched"] == 2
    assert table["F1"] == pytest.approx(4 / 7, abs=1e-4)
    assert table["recall"] == pytest.approx(2 / 3, abs=1e-4)
    assert table["false_per_minute"] == pytest.approx(1.0)
    assert table["labels_right"] == pytest.approx(0.5)
    assert table["report_delay_s"] == pytest.approx(0.2)


def test_megc_does_not_see_videos_without_events():
    some, none = result([true(1, 1.9)], [found(1, 1.9), found(4, 4.4)]), result([], [found(3, 3.4)])
    ours, megc = figures([some, none]), megc_figures([some, none])
    assert (ours["videos"], ours["reports"], ours["precision"]) == (
        2,
        3,
        pytest.approx(1 / 3, 1e-3),
    )
    assert (megc["videos"], megc["reports"], megc["precision"]) == (1, 2, 0.5)


def test_analysis_averages_precision_and_recall_over_the_classes():
    events = [true(1, 1.9), true(3, 3.9), true(5, 5.9, "surprise"), true(7, 7.9, "positive")]
    reports = [found(1, 1.9), found(3, 3.9, "surprise"), found(5, 5.9, "surprise")]
    one = result(events, reports)
    # Negative: precision 1, recall 1/2. Surprise: precision 1/2, recall 1. F1 of spotting 6/7.
    ours = figures([one])
    assert ours["analysis_F1"] == pytest.approx(0.75)
    assert ours["STRS"] == pytest.approx(0.75 * 6 / 7, abs=1e-4)
    # The positive one, which was missed, is a class to MEGC.
    megc = megc_figures([one])
    assert megc["analysis_F1"] == pytest.approx(0.5)
    assert megc["STRS"] == pytest.approx(0.5 * 6 / 7, abs=1e-4)


def test_events_without_label_are_spotted_and_not_analysed():
    one = result([true(1, 1.9, None), true(3, 3.9)], [found(1, 1.9, "surprise"), found(3, 3.9)])
    for table in (figures([one]), megc_figures([one])):
        assert (table["matched"], table["analysis_F1"], table["STRS"]) == (2, 1.0, 1.0)
    unlabelled = result([true(1, 1.9, None)], [found(1, 1.9)])
    for table in (figures([unlabelled]), megc_figures([unlabelled])):
        assert (table["F1"], table["analysis_F1"], table["STRS"]) == (1.0, None, None)


def test_nothing_found_scores_nothing():
    for table in (figures([result([true(1, 2)], [])]), megc_figures([result([true(1, 2)], [])])):
        assert (table["F1"], table["analysis_F1"], table["STRS"]) == (0.0, 0.0, 0.0)


def test_false_reports_in_macro_expressions_are_counted_apart():
    macros = [Interval(2.0, 3.0, 6.0)]
    reports = [found(2.5, 2.9), found(4, 4.9), found(8, 8.4)]
    # A micro-expression within the longer one is found, and no false report.
    table = figures([result([true(4, 4.9)], reports, macros=macros)])
    assert (table["matched"], table["false_in_macro"]) == (1, 1)
    assert table["precision"] == pytest.approx(1 / 3, abs=1e-4)


def test_recall_is_told_by_how_far_the_own_motion_covers_an_event():
    events = [true(1, 1.9, masking=0.5), true(3, 3.9, masking=0.51), true(5, 5.9, masking=1.5)]
    other = result([true(1, 1.9), true(3, 3.9, masking=0)], [found(1, 1.9), found(3, 3.9)])
    table = recall_by_masking([result(events, [found(3, 3.9), found(8, 8.5)]), other])
    assert table == {
        "clear": {"events": 2, "matched": 1, "recall": 0.5},
        "partly": {"events": 2, "matched": 1, "recall": 0.5},
    }
    masked = recall_by_masking([result([true(1, 1.9, masking=1.6)], [])])
    assert masked == {"masked": {"events": 1, "matched": 0, "recall": 0.0}}
    assert recall_by_masking([result([true(1, 1.9)], [])]) == {}


def test_false_reports_are_told_by_what_the_face_did():
    reports = [found(1, 1.9), found(4, 4.4), found(6, 6.4), found(8, 8.4)]
    did = [{"speech"}, {"speech"}, {"speech", "blink"}, {"nothing of these"}]
    one = result([true(1, 1.9)], reports, seconds=120, actions=map(frozenset, did))
    table = false_by_action([one, result([], [])])
    assert {name: row["false"] for name, row in table.items()} == {
        "blink": 1,
        "speech": 2,
        "gaze": 0,
        "head": 0,
        "nothing of these": 1,
    }
    assert table["speech"]["per_minute"] == pytest.approx(2 / 3, abs=1e-3)
    assert false_by_action([result([true(1, 1.9)], reports)]) == {}


def test_review_takes_ten_seconds_a_report_true_or_false():
    reports = [found(1, 1.9), found(4, 4.4), found(6, 6.4)]
    assert figures([result([true(1, 1.9)], reports)])["review_minutes_per_hour"] == 30


def test_a_video_without_events_or_reports_gives_no_made_up_figures():
    table = figures([result([], [])])
    assert table["F1"] is None
    assert table["labels_right"] is None
    assert table["STRS"] is None
    assert table["false_per_minute"] == 0
    assert megc_figures([result([], [])])["F1"] is None
