"""What several reviewers' decisions come to, and where users find it."""

import json
import math

import pandas
import pytest

from realtime_mer.archive.report.figures import reviewed
from realtime_mer.archive.reviews.verdicts import Reviews
from realtime_mer.archive.tables import write_tables
from realtime_mer.records import seconds
from tests.realtime_mer.review.words import write_review, write_reviews


def added(reviews):
    """Times, who added them and what is said of the events that the program missed."""
    return [
        (*map(seconds, verdict.times), verdict.added_by, verdict.text)
        for its in reviews.of_video.values()
        for verdict in its
        if verdict.added
    ]


def test_events_say_what_reviewers_decided(folder):
    write_reviews(folder)
    reviews = Reviews.read(folder)
    first = next(folder.done()).key
    assert reviews.names == ("ana", "ben")
    assert [verdict.text for verdict in reviews.of(first)] == [
        "true, relabelled, moved: positive",
        "false: negative",
        "disputed: positive",
        "added: negative",
    ]
    assert [reviews.of(first)[2].text_of(name) for name in ("ana", "ben")] == [
        "true: positive",
        "false: positive",
    ]


def test_a_missed_event_that_two_add_is_one(folder):
    write_reviews(folder)
    assert added(Reviews.read(folder)) == [(2.02, 2.32, ("ana", "ben"), "added: negative")]


def test_three_reviewers_give_the_figures_that_one_counts_by_hand(folder):
    no, unsure = {"verdict": "false"}, {"verdict": "unsure"}
    write_review(folder, "ana", (0, {}), (1, {"label": "surprise"}), (2, no), (3, unsure))
    later = {"onset_s": 1.3, "offset_s": 1.7}
    write_review(folder, "ben", (0, later), (1, no), (2, no), (3, {}))
    write_review(folder, "cyd", (0, no), (1, {"label": "positive"}), (2, unsure), (3, no))
    found = [v for its in Reviews.read(folder).of_video.values() for v in its]
    assert [(v.said.verdict, v.said.votes, v.said.label) for v in found] == [
        ("true", (2, 1), "surprise"),
        ("true", (2, 1), "disputed"),
        ("false", (0, 2), ""),
        ("disputed", (1, 1), ""),
    ]
    # Halfway between what the two say who take it for true.
    assert tuple(map(seconds, found[0].times)) == (1.25, 1.6)
    figures = reviewed(found)
    assert figures.counts == {"true": 2, "false": 1, "disputed": 1}
    # Wilson's interval by its formula, of 2 in 3 that are decided.
    p, n, z = 2 / 3, 3, 1.959964
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    bounds = [(middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
    precision = figures.precision
    assert [precision.value, precision.low, precision.high] == pytest.approx([p, *bounds], abs=1e-5)


def test_missed_events_that_overlap_by_just_half_are_one(folder):
    # In floating point, their overlap is a little less than half.
    write_review(folder, "ana", (None, {"onset_s": 2.0, "offset_s": 2.3}))
    write_review(folder, "ben", (None, {"onset_s": 2.1, "offset_s": 2.4}))
    assert [who for _, _, who, _ in added(Reviews.read(folder))] == [("ana", "ben")]


def test_a_damaged_log_keeps_no_reviews_from_the_others(folder):
    write_reviews(folder)
    damaged, whole = folder.done()
    write_review(folder, "cyd", (3, {}))
    records = damaged.records()
    event = next(r for r in records if r["type"] == "micro_expression")
    event["apex_s"] = event["onset_s"] - 1
    damaged.log.write_text("".join(json.dumps(record) + "\n" for record in records))
    reviews = Reviews.read(folder)
    assert reviews.of(damaged.key) == ()
    assert [verdict.said.verdict for verdict in reviews.of(whole.key)] == ["true"]


def test_a_file_that_no_reviewer_can_have_does_not_count(folder):
    write_review(folder, "ana", (0, {}))
    write_review(folder, "Consensus", (0, {"verdict": "false"}))
    assert Reviews.read(folder).names == ("ana",)


@pytest.mark.parametrize(
    ("onset_s", "offset_s", "face_event"),
    [(2.2, 2.5, 0), (2.1, 2.4, 1)],
    ids=["they overlap by less than half", "of another face"],
)
def test_missed_events_that_differ_are_two(folder, onset_s, offset_s, face_event):
    write_reviews(folder)
    times = {"onset_s": onset_s, "offset_s": offset_s}
    if face_event:
        events = [event for video in folder.done() for event in video.events()]
        times |= {"face": events[1]["face"], "seen_in": events[1]["onset_s"]}
    write_review(folder, "ben", (None, times))
    assert [who for _, _, who, _ in added(Reviews.read(folder))] == [("ana",), ("ben",)]


@pytest.mark.parametrize(
    ("own", "text", "is_missed"),
    [
        ([], "no verdict: negative", False),
        ([(3, {})], "true: negative", False),
        # The report is wrong, and yet there is something.
        ([(3, {"verdict": "false"})], "false: negative", True),
    ],
    ids=["no word on it", "true", "false"],
)
def test_an_added_event_that_was_reported_was_not_missed(folder, own, text, is_missed):
    _, second = folder.done()
    times = {"onset_s": 2.0, "offset_s": 2.3, "video": second.key}
    write_review(folder, "ana", *own, (None, times | {"face": 0, "seen_in": 2.0}))
    reviews = Reviews.read(folder)
    assert reviews.of(second.key)[0].text == text
    assert bool(added(reviews)) == is_missed


def test_what_was_added_and_taken_back_counts_no_more(folder):
    write_review(folder, "ana", (None, {"onset_s": 2.0, "offset_s": 2.3}))
    path = folder.reviews / "ana.jsonl"
    with path.open("a") as file:
        file.write(json.dumps({"type": "undo", "n": 2, "undoes": 1}) + "\n")
    assert added(Reviews.read(folder)) == []


def test_nothing_is_said_where_nobody_reviewed(folder):
    assert Reviews.read(folder) == Reviews()
    folder.reviews.mkdir()
    (folder.reviews / "ana.jsonl").write_bytes(b"\xff{]\n[1]\n")
    assert Reviews.read(folder) == Reviews()


def test_the_table_of_events_has_what_reviewers_say(folder):
    write_tables(folder)
    before = pandas.read_csv(folder.table("events"))
    assert before.review.isna().all()
    assert before.reviewers.isna().all()
    write_reviews(folder)
    write_tables(folder)
    for events in (
        pandas.read_csv(folder.table("events"), dtype={"review": str}),
        pandas.read_parquet(folder.table("events", ".parquet")),
    ):
        # A row is what the program reported, with its own label and times.
        assert list(events.onset_s) == list(before.onset_s)
        assert events.label[0] == "surprise"
        assert list(events.review[:3].str.lower()) == ["true", "false", "disputed"]
        assert pandas.isna(events.review[3])
        assert list(events.reviewers[:3]) == ["ana, ben"] * 3
        assert [list(events.votes_true[:3]), list(events.votes_false[:3])] == [[2, 0, 1], [0, 2, 1]]
        assert [events.agreed_label[0], events.agreed_onset_s[0], events.agreed_offset_s[0]] == [
            "positive",
            1.3,
            1.6,
        ]
        assert events.agreed_onset_s[1:].isna().all()


def test_one_table_is_written_alone_and_like_the_one_before(folder):
    write_tables(folder, decimal_comma=True)
    videos = folder.table("videos").read_bytes()
    dictionary = folder.dictionary.read_bytes()
    folder.table("videos").write_bytes(b"mine")
    write_reviews(folder)
    write_tables(folder, only=["events"])
    assert folder.table("videos").read_bytes() == b"mine"
    assert folder.dictionary.read_bytes() == dictionary
    assert ";1,3;1,6;" in folder.table("events").read_text()
    write_tables(folder)
    assert folder.table("videos").read_bytes() == videos
