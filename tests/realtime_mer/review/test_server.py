"""The review over real sockets: who is let in, and what a person's review comes to."""

import csv
import json
import re
import socket
import struct
import threading

import cv2
import numpy as np
import pytest

from realtime_mer.archive.report.figures import share
from realtime_mer.archive.reviews.found import material
from realtime_mer.archive.run import locked_folder
from realtime_mer.archive.tables import write_tables
from realtime_mer.command.options import parse
from realtime_mer.errors import InputError
from realtime_mer.review.pictures import Pictures
from realtime_mer.review.server import Review
from tests.realtime_mer.review.reviewing import decide, get, read, reviewing, send

JSON = {"Content_Type": "application/json"}


def blocks_of(body):
    """The times and pictures of a clip as the page gets it."""
    blocks, at = [], 0
    while at < len(body):
        (length,) = struct.unpack_from(">I", body, at)
        blocks.append(body[at + 4 : at + 4 + length])
        at += 4 + length
    pictures = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1) for jpeg in blocks[1:]]
    return json.loads(blocks[0])["times_s"], pictures


def test_only_who_has_the_token_and_comes_from_this_computer_gets_in(results):
    with reviewing(results) as review:
        root, token = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/([\w-]{32})/", review.url).groups()
        event = read(review, "events")["events"][0]["id"]
        for name in ("", "style.css", "script.js", "icon.svg", "events", f"clip/{event}"):
            status, headers, body = get(review.url + name)
            assert status == 200
            assert headers["Content-Security-Policy"].startswith("default-src 'self'")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
            assert token.encode() not in body
            for path in (f"/{name}", f"/{'x' * 32}/{name}"):
                status, _, body = get(root + path)
                assert status == 403
                assert token.encode() not in body
        for odd in (
            {"Host": "evil.example"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
        ):
            assert get(review.url, **odd)[0] == 403
            word = json.dumps({"event": event, "verdict": "true"}).encode()
            assert get(review.url + "decide", word, **JSON, **odd)[0] == 403
        assert get(review.url, Origin=root)[0] == 200
    assert (results.reviews / "ana.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    "path",
    [
        *("clip/../../manifest.json", "clip/..%2f..%2fmanifest.json/1", "clip/%2e%2e/1"),
        *("magnified//etc/passwd/1", "clip/KEY/0001", "clip/KEY/2.mp4", "clip/KEY/999"),
        *("../server.py", "reviews/ana.jsonl", "clip/KEY/1%00", "clip/KEY/%D9%A1"),
    ],
)
def test_no_path_reaches_beyond_the_events(results, path):
    key = next(iter(results.done())).key
    with reviewing(results) as review:
        sock = socket.create_connection(("127.0.0.1", int(re.search(r":(\d+)/", review.url)[1])))
        target = review.url.split("/", 3)[3] + path.replace("KEY", key)
        sock.sendall(f"GET /{target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        with sock:
            assert sock.recv(13) in (b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("data", "headers", "reason"),
    [
        (b"{}", {"Content_Type": "text/plain"}, "JSON"),
        (b"event=1", {"Content_Type": "application/x-www-form-urlencoded"}, "JSON"),
        (b"[]", JSON, "objects"),
        (b"{", JSON, "objects"),
        (b"[" * 2000, JSON, "objects"),
        (b" " * 3000, JSON, "long"),
        (b'{"event": "nothing/1", "verdict": "true"}', JSON, "no such event"),
        (b'{"event": {"a": 1}}', JSON, "no such event"),
        (b'{"event": "EVENT", "verdict": "true", "offset_s": null}', JSON, "seconds"),
        (b'{"event": "EVENT", "verdict": "x", "onset_s": 1, "offset_s": 2}', JSON, "verdict"),
        (b'{"event": "EVENT", "onset_s": 1e400, "offset_s": 2}', JSON, "seconds"),
    ],
)
def test_commands_that_make_no_sense_change_nothing(results, data, headers, reason):
    with reviewing(results) as review:
        event = read(review, "events")["events"][0]["id"]
        data = data.replace(b"EVENT", event.encode())
        status, _, body = get(review.url + "decide", data, **headers)
        assert status == 400
        assert reason in json.loads(body)["error"]
        assert send(review, "undo")[0] == 400
        assert send(review, "nothing")[0] == 400
    assert (results.reviews / "ana.jsonl").read_bytes() == b""
    assert not review.table.exists()


def test_twenty_events_reviewed_by_a_person_give_the_right_precision(many):
    """Most certain first; 13 are true, 6 false, one is left unsure; some are put right."""
    with reviewing(many) as review:
        state = read(review, "events")
        events = sorted(state["events"], key=lambda e: -abs(e["score"] - 0.5))
        assert len(events) == 20
        for place, event in enumerate(events):
            number = event["number"]
            if place == 19:
                decide(review, event, verdict="unsure", took_s=9.0)
            elif number % 3:
                # First a slip, which is taken back.
                if number == 4:
                    decide(review, event, verdict="false", took_s=1.0)
                    status, answer = send(review, "undo")
                    assert (status, answer["event"]) == (200, event["id"])
                    assert answer["item"]["own"] is None
                changes = {"label": "surprise"} if number == 8 else {}
                if number == 7:
                    changes = {"onset_s": 1.8, "offset_s": 2.0}
                decide(review, event, verdict="true", took_s=3.0, **changes)
            else:
                decide(review, event, verdict="false", took_s=5.0)
        status, answer = send(review, "add", event=events[0]["id"], onset_s=5.5)
        assert (status, answer["item"]["added"]) == (200, True)
        added = answer["item"]
        status, answer = decide(
            review, added, verdict="true", label="positive", onset_s=5.5, offset_s=5.9
        )
        assert answer["item"]["own"]["offset_s"] == 5.9
        summary = read(review, "summary")
        unsure = events[19]["number"]
    true = sum(n % 3 != 0 for n in range(1, 21)) - (unsure % 3 != 0)
    decided = 19
    (run,) = [row for row in summary["rows"] if row["kind"] == "as run"]
    assert (run["reports"], run["decided"], run["true"]) == (20, decided, true)
    assert run["precision"] == pytest.approx(true / decided)
    wilson = share(true, decided)
    assert run["interval"] == [wilson.low, wilson.high]
    assert summary["verdicts"] == {
        "true": true,
        "false": decided - true,
        "disputed": 0,
        "unsure": 1,
    }
    assert summary["added"] == 1
    # Without the second that the slip took.
    assert summary["look_s"] == pytest.approx((3 * true + 5 * (decided - true) + 9) / 20)
    (half,) = [row for row in summary["rows"] if row["sensitivity"] == 0.5]
    expected = [n for n in range(1, 11) if n != unsure]
    assert half["reports"] == 10
    assert half["decided"] == len(expected)
    assert half["true"] == sum(n % 3 != 0 for n in expected)

    with review.table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 21
    by_number = {row["event"]: row for row in rows}
    assert by_number["8"]["label"] == "negative"
    assert by_number["8"]["consensus_label"] == "surprise"
    assert by_number["7"]["consensus_onset_s"] == "1.8"
    assert by_number["7"]["onset_s"] == "1.75"
    assert by_number["3"]["consensus_verdict"] == by_number["3"]["ana_verdict"] == "false"
    assert by_number["added-1"]["added_by"] == "ana"
    assert by_number["added-1"]["consensus_label"] == "positive"
    assert sum(row["consensus_verdict"] == "true" for row in rows) == true + 1


def test_a_window_that_does_not_know_what_another_did_takes_nothing_back(results):
    with reviewing(results) as review:
        event = read(review, "events")["events"][0]["id"]
        send(review, "decide", event=event, verdict="true", label="surprise", took_s=3.0)
        # Only what a command names is changed.
        _, answer = send(review, "decide", event=event, onset_s=1.25)
        own = answer["item"]["own"]
        assert (own["verdict"], own["label"]) == ("true", "surprise")
        assert (own["onset_s"], own["took_s"]) == (1.25, None)
        _, answer = send(review, "decide", event=event, verdict="false", label=None, took_s=2.0)
        own = answer["item"]["own"]
        assert (own["verdict"], own["label"], own["onset_s"]) == ("false", None, 1.25)


def test_a_second_reviewer_sees_their_own_word_only_and_the_table_has_both(results):
    with reviewing(results) as review:
        first, second = read(review, "events")["events"][:2]
        decide(review, first, verdict="true")
        decide(review, second, verdict="false")
        with pytest.raises(InputError, match="already"):
            Review(results.path, "ana")
        with reviewing(results, "ben") as other:
            assert all(event["own"] is None for event in read(other, "events")["events"])
            decide(other, first, verdict="true")
            decide(other, second, verdict="true")
            (pair,) = read(other, "summary")["agreement"]
            assert (pair["names"], pair["events"], pair["same"]) == (["ana", "ben"], 2, 1)
            assert pair["kappa"] == 0
            assert read(other, "summary")["verdicts"]["disputed"] == 1
    with review.table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ben_verdict"] for row in rows[:2]] == ["true", "true"]
    assert [row["consensus_verdict"] for row in rows[:3]] == ["true", "disputed", ""]


def test_a_missed_event_that_two_reviewers_add_counts_once(results):
    def add(review, onset_s, offset_s):
        host = read(review, "events")["events"][0]["id"]
        item = send(review, "add", event=host, onset_s=onset_s)[1]["item"]
        decide(review, item, verdict="true", onset_s=onset_s, offset_s=offset_s)

    with reviewing(results) as review, reviewing(results, "ben") as other:
        add(review, 2.0, 2.4)
        add(other, 2.04, 2.44)
        assert read(review, "summary")["added"] == 1
        add(other, 2.6, 2.9)
        assert read(review, "summary")["added"] == 2
    with review.table.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["added_by"]]
    names = ("event", "added_by", "consensus_onset_s", "consensus_votes_true", "ana_onset_s")
    assert [[row[name] for name in names] for row in rows] == [
        ["added-1", "ana, ben", "2.02", "2", "2.0"],
        ["added-2", "ben", "2.6", "1", ""],
    ]


def test_the_table_of_events_tells_of_the_review_when_it_ends(results):
    with reviewing(results) as review:
        decide(review, read(review, "events")["events"][0], verdict="true")
    # There was none to put it into.
    assert not results.table("events").exists()
    write_tables(results)
    with reviewing(results) as review:
        decide(review, read(review, "events")["events"][1], verdict="false")
    with results.table("events").open(encoding="utf-8-sig", newline="") as file:
        assert [row["review"] for row in csv.DictReader(file)] == ["true", "false", "", ""]


def test_a_review_waits_for_no_archive_that_writes_the_tables_itself(results, monkeypatch):
    write_tables(results)
    before = results.table("events").read_bytes()
    monkeypatch.setattr("realtime_mer.archive.run._LOCK_WAIT_S", 0.0)
    with locked_folder(results), reviewing(results) as review:
        decide(review, read(review, "events")["events"][0], verdict="true")
        review.stop()
        review.close()
    assert results.table("events").read_bytes() == before


def test_clips_come_frame_by_frame_and_magnified_on_request(results):
    with reviewing(results) as review:
        events = read(review, "events")["events"]
        times, pictures = blocks_of(get(f"{review.url}clip/{events[0]['id']}")[2])
        info = next(results.done()).clip_info(1)
        assert times == pytest.approx(info["times_s"])
        assert len(pictures) == len(times)
        assert pictures[0].shape == (224, 224, 3)
        status, _, body = get(f"{review.url}magnified/{events[0]['id']}")
        assert status == 200
        assert blocks_of(body)[0] == times
        # The last event has no clip.
        assert [event["has_clip"] for event in events] == [True, True, True, False]
        status, _, body = get(f"{review.url}clip/{events[3]['id']}")
        assert status == 409
        assert "no clip of this event was kept" in json.loads(body)["error"]
        events = material(results).events
        events[1].video.clip_path(2).write_bytes(b"no video" * 100)
        status, _, body = get(f"{review.url}clip/{events[1].id}")
        assert status == 409
        assert "cannot be opened as a video" in json.loads(body)["error"]


def test_clips_in_memory_stay_within_a_bound(results):
    first, second, third, _ = material(results).events
    one = len(Pictures()(first, magnify=False))
    pictures = Pictures(max_bytes=2 * one + one // 2)
    kept = pictures(first, magnify=False)
    pictures(second, magnify=False)
    assert pictures(first, magnify=False) is kept
    # The one that was not asked for lately goes.
    pictures(third, magnify=False)
    assert pictures(first, magnify=False) is kept
    assert pictures.kept_bytes <= 2 * one + one // 2
    pictures(second, magnify=False)
    assert pictures.kept_bytes <= 2 * one + one // 2


def test_chosen_sensitivity_is_what_run_and_archive_read(results, capsys):
    results.settings_path.write_text('{"other": 1}')
    with reviewing(results) as review:
        for odd in (None, "1", True, 0, -1, 1e9):
            assert send(review, "settings", sensitivity=odd)[0] == 400
        assert json.loads(results.settings_path.read_text()) == {"other": 1}
        assert send(review, "settings", sensitivity=0.05)[0] == 200
    assert json.loads(results.settings_path.read_text()) == {"other": 1, "sensitivity": 0.05}
    settings = str(results.settings_path)
    assert parse(["clip.avi", "--settings", settings], "run.py").sensitivity == 0.05
    both = ["clip.avi", "--settings", settings, "--sensitivity", "2"]
    assert parse(both, "run.py").sensitivity == 2
    assert parse(["clip.avi"], "run.py").sensitivity is None
    for text in (
        "{}",
        "[]",
        "{",
        '{"sensitivity": "1"}',
        '{"sensitivity": -1}',
        '{"sensitivity": NaN}',
    ):
        results.settings_path.write_text(text)
        with pytest.raises(SystemExit) as end:
            parse(["clip.avi", "--settings", settings], "run.py")
        assert end.value.code == 2
        assert "holds no sensitivity" in capsys.readouterr().err


def decide_beside_a_folder_in_the_way(results):
    with reviewing(results) as review:
        review.table.mkdir()
        decide(review, read(review, "events")["events"][0], verdict="true")


def test_table_that_cannot_be_written_is_told_at_the_end(results):
    with pytest.raises(InputError, match=r"reviewed_events\.csv cannot be written"):
        decide_beside_a_folder_in_the_way(results)
    assert b'"true"' in (results.reviews / "ana.jsonl").read_bytes()


def test_many_decisions_at_once_are_kept_one_by_one(results):
    with reviewing(results) as review:
        events = read(review, "events")["events"]
        threads = [
            threading.Thread(target=decide, args=[review, event], kwargs={"verdict": "true"})
            for event in events * 5
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = [json.loads(x) for x in (results.reviews / "ana.jsonl").read_text().splitlines()]
    assert [line["n"] for line in lines] == list(range(1, 21))
