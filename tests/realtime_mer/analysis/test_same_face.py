"""The same face gives the same result, however many faces are wanted."""

import pytest

from tests.sessions import analyses_of


def test_who_is_alone_has_the_same_events_if_two_faces_are_wanted(clip, eventful):
    found = analyses_of(clip, faces=2)
    assert any(analysis.events for analysis in eventful)
    for one, other in zip(found, eventful, strict=True):
        assert one.events == other.events
        assert one.gaps == other.gaps
        scores = [[face.score for face in analysis.faces] for analysis in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=0, nan_ok=True)
