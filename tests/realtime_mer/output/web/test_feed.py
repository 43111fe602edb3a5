"""What is kept of a session for those who come later: the newest, and not too much."""

import json

from realtime_mer.output.web import feed
from realtime_mer.output.web.feed import Feed, Frame


def numbers(records):
    return [record.n for record in records]


def test_the_newest_records_are_kept_and_the_missing_ones_counted(monkeypatch):
    monkeypatch.setattr(feed, "RECORDS_KEPT", 3)
    told = Feed()
    assert numbers(told.after(0)) == []
    for k in range(5):
        assert told.add({"type": "gap", "start_s": k}) == k + 1
    assert numbers(told.after(0)) == [3, 4, 5]
    assert numbers(told.after(3)) == [4, 5]
    assert numbers(told.after(5)) == numbers(told.after(99)) == []
    assert [told.missing_after(n) for n in (0, 1, 2, 3, 99)] == [2, 1, 0, 0, 0]
    first = next(told.after(2))
    assert json.loads(first.message)["record"] == {"type": "gap", "start_s": 2}


def test_many_gaps_do_not_take_the_place_of_events():
    told = Feed()
    told.add({"type": "micro_expression"})
    told.add({"type": "mark"})
    for _ in range(3 * feed.BACKLOG):
        told.add({"type": "gap"})
    backlog = told.backlog
    assert [record.kind for record in backlog[:2]] == ["micro_expression", "mark"]
    assert len(backlog) == 2 + feed.BACKLOG
    assert numbers(backlog) == sorted(numbers(backlog))
    assert backlog[-1].n == told.count
    assert told.events == 1


def test_thumbnails_are_bounded_in_number_and_size(monkeypatch):
    told = Feed()
    for n in range(1, feed.THUMBNAILS_KEPT + 11):
        told.add_thumbnail(n, "x")
    assert len(told.thumbnails) == feed.THUMBNAILS_KEPT
    assert told.thumbnail(10) is None
    assert told.thumbnail(11) == "x"
    monkeypatch.setattr(feed, "THUMBNAIL_BYTES_KEPT", 1000)
    told.add_thumbnail(999, "y" * 600)
    told.add_thumbnail(1000, "z" * 600)
    assert told.thumbnails == [1000]


def test_frames_that_are_missed_have_fallen_out():
    told = Feed()
    assert (told.newest_frame, told.frames_after(0)) == (0, [])
    for n in range(1, 2 * feed.FRAMES_KEPT + 1):
        told.add_frame(Frame(n, "{}"))
    assert numbers(told.frames_after(0)) == list(
        range(feed.FRAMES_KEPT + 1, 2 * feed.FRAMES_KEPT + 1)
    )
    assert told.frames_after(told.newest_frame) == []
