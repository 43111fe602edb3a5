"""The figures of spotting, on cases counted by hand, and the command on a real clip."""

import cv2
import numpy as np
import pytest

from realtime_mer.event import InputError, Interval, MicroExpression
from tools.evaluate_spotting import Result, TrueEvent, figures, main, match, overlap, read_truth


def true(onset_s, offset_s, label="negative"):
    return TrueEvent(Interval(onset_s, (onset_s + offset_s) / 2, offset_s), label)


def found(onset_s, offset_s, label="negative", delay_s=0.2):
    others = {"negative": 0.1, "positive": 0.1, "surprise": 0.1}
    return MicroExpression(
        0,
        Interval(onset_s, (onset_s + offset_s) / 2, offset_s),
        others | {label: 0.8},
        1.5,
        offset_s + delay_s,
    )


def result(truth, reports, fps=10.0, seconds=60.0):
    return Result("clip", tuple(truth), tuple(reports), fps, seconds)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((1.0, 1.9), (1.0, 1.9), 1.0),
        ((1.0, 1.9), (1.5, 2.4), 5 / 15),  # ten frames each, five shared
        ((1.0, 1.9), (2.0, 2.9), 0.0),  # neighbours share no frame
        ((1.0, 1.9), (1.9, 2.8), 1 / 19),  # both ends are included
    ],
)
def test_overlap_is_counted_in_frames_with_both_ends(first, second, expected):
    a, b = (Interval(o, o, f) for o, f in (first, second))
    assert overlap(a, b, 10.0) == pytest.approx(expected)


def test_one_report_serves_one_event_and_the_better_overlap_wins():
    pairs = match(result([true(1.0, 1.9)], [found(1.0, 1.6), found(1.0, 1.8)]))
    assert len(pairs) == 1
    assert pairs[0][1].interval.offset_s == 1.8


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


def test_a_video_without_events_or_reports_gives_no_made_up_figures():
    table = figures([result([], [])])
    assert table["F1"] is None
    assert table["labels_right"] is None
    assert table["false_per_minute"] == 0


def test_truth_is_read_in_frames(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text("onset,apex,offset,label\n30,36,45,surprise\n")
    (event,) = read_truth(path, 30.0)
    assert (event.interval.onset_s, event.interval.offset_s) == (1.0, 1.5)
    assert event.label == "surprise"


@pytest.mark.parametrize(
    ("text", "word"),
    [("onset,offset\n1,2\n", "apex"), ("onset,apex,offset\n5,3,9\n", "interval")],
)
def test_a_truth_that_is_none_is_named(tmp_path, text, word):
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=word):
        read_truth(path, 30.0)


def test_the_command_runs_the_chain_on_a_video(tmp_path, capsys):
    video, truth = tmp_path / "grey=1.avi", tmp_path / "truth.csv"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 30, (160, 120))
    for _ in range(30):
        writer.write(np.full((120, 160, 3), 90, np.uint8))
    writer.release()
    truth.write_text("onset,apex,offset\n10,14,18\n")
    assert main([f"{video}={truth}", "--json"]) == 0
    printed = capsys.readouterr().out
    assert '"events": 1' in printed
    assert '"recall": 0.0' in printed


def test_the_command_names_a_missing_truth(tmp_path, capsys):
    assert main([str(tmp_path / "clip.avi")]) == 2
    assert "VIDEO=TRUTH.csv" in capsys.readouterr().err
