"""The spans during which the same parts of a face can be read."""

import numpy as np
import pytest

from realtime_mer.analysis.visibility_spans import VisibilitySpans
from realtime_mer.results import FaceState, Watched

BRIDGE_S = 0.101
GOOD, POOR = (0.8, 1.0, 1.2), (0.8, 1.0, 3.0)


def face(limits, identity=0):
    return FaceState(identity, np.zeros((478, 2), np.float32), 0.2, limits=limits)


def spans_of(limits_at, length_s, fps=30.0, finish=True):
    """The spans of one face whose limits follow a function of time; "away" is out of sight."""
    spans, ended = VisibilitySpans(), []
    for k in range(round(length_s * fps) + 1):
        limits = limits_at(k / fps)
        faces = [] if limits == "away" else [face(limits)]
        ended += spans.update(k / fps, faces, BRIDGE_S)
    return ended + list(spans.finish() if finish else ())


def lengths(spans):
    return [(round(s.start_s, 1), round(s.end_s, 1)) for s in spans]


def test_a_span_has_the_median_limits_and_the_parts_that_can_be_read():
    (span,) = spans_of(lambda t: (0.8, 1.0 + 0.1 * (t > 6), 3.0), 10)
    assert (span.face, span.start_s, span.end_s) == (0, 0.0, 10.0)
    assert span.limits_px == pytest.approx((0.8, 1.0, 3.0))
    assert span.readable == ("upper face", "middle face")


@pytest.mark.parametrize(
    ("for_s", "ends"), [(0.8, [(0, 10)]), (1.5, [(0, 4), (4, 5.5), (5.5, 10)])]
)
def test_only_a_change_that_lasts_makes_new_spans(for_s, ends):
    spans = spans_of(lambda t: POOR if 4 <= t < 4 + for_s else GOOD, 10)
    assert lengths(spans) == ends
    if len(spans) == 3:
        assert [len(s.readable) for s in spans] == [3, 2, 3]
        assert spans[1].limits_px == pytest.approx(POOR)


def test_flicker_makes_no_spans():
    assert len(spans_of(lambda t: GOOD if int(t / 0.4) % 2 else POOR, 20)) == 1


def test_readable_seconds_are_counted_through_flicker():
    (span,) = spans_of(lambda t: POOR if t % 2 < 1.2 else GOOD, 20.0)
    upper, middle, lower = span.readable_s
    assert (upper, middle, span.any_s) == pytest.approx((20, 20, 20))
    # The median alone would say: never.
    assert "lower face" not in span.readable
    assert lower == pytest.approx(8, abs=0.8)
    assert Watched().with_spans([span]).readable_s == span.readable_s


def test_what_is_readable_in_a_span_is_so_by_the_limits_that_it_tells():
    (span,) = spans_of(lambda t: (1.504, 1.506, 1.0), 5)
    assert span.limits_px == (1.5, 1.51, 1.0)
    assert span.readable == ("upper face", "lower face")


def test_parts_that_change_soon_after_each_other_change_once():
    spans = spans_of(lambda t: (0.8 if t < 4 else 2, 1.0 if t < 4.5 else 2, 1.0), 10)
    assert lengths(spans) == [(0, 4), (4, 10)]
    assert spans[1].readable == ("lower face",)


def test_a_long_span_is_told_every_minute():
    assert lengths(spans_of(lambda t: GOOD, 130)) == [(0, 60), (60, 120), (120, 130)]
    assert lengths(spans_of(lambda t: GOOD, 70, finish=False)) == [(0, 60)]


def test_there_is_no_span_while_the_face_is_away_or_its_limits_are_unknown():
    for missing in ("away", None):
        spans = spans_of(lambda t, m=missing: m if 4 < t < 6 else GOOD, 10)
        assert lengths(spans) == [(0, 4), (6, 10)]
    assert lengths(spans_of(lambda t: "away" if 4 < t < 4.06 else GOOD, 10)) == [(0, 10)]
    assert spans_of(lambda t: None, 10) == []


def test_frames_that_are_missing_end_a_span():
    spans = VisibilitySpans()
    times = (0.0, 0.1, 3.0, 3.1)
    ended = [span for t in times for span in spans.update(t, [face(GOOD)], BRIDGE_S)]
    assert lengths(ended) == [(0.0, 0.1)]
    assert lengths(spans.finish()) == [(3.0, 3.1)]
    assert spans.finish() == ()


def test_each_face_has_its_own_spans():
    spans = VisibilitySpans()
    ended = []
    for k in range(91):
        both = [face(GOOD, 0), face(POOR, 3)]
        ended += spans.update(k / 30, both if k <= 60 else both[1:], BRIDGE_S)
    ended += spans.finish()
    assert [(s.face, round(s.end_s, 2), len(s.readable)) for s in ended] == [(0, 2, 3), (3, 3, 2)]
