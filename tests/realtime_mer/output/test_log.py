"""Event logs, read back as another program would."""

import copy
import csv
import dataclasses
import json
import math
import os
import stat

import jsonschema
import numpy as np
import pytest

from realtime_mer.cli import main
from realtime_mer.errors import InputError
from realtime_mer.output import line_file
from realtime_mer.output.log import CsvLog, JsonLinesLog, schema
from realtime_mer.results import (
    ActionUnit,
    Analysis,
    Baseline,
    BaselineFlaw,
    ClockOrigin,
    Gap,
    GapReason,
    Interval,
    MacroExpression,
    Mark,
    MicroExpression,
    RegionMotion,
    Session,
    SourceStatus,
    StatusChange,
    Summary,
    VisibilitySpan,
    Watched,
)
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.session.run import Callbacks, run
from realtime_mer.source.frame import Frame
from tests.sessions import CameraServer, Stopping
from tests.spotters import VISIBILITY, spotter_with

SESSION = Session(
    source="clip.avi",
    live=False,
    size=(640, 480),
    fps=30.0,
    frame_count=100,
    model="causalnet-test",
    provider="CPU",
    labels=("negative", "positive", "surprise"),
)
SUMMARY = Summary(
    reason="end of source",
    frames_read=100,
    frames_analysed=100,
    frames_dropped=0,
    frames_with_face=90,
    duration_s=3.3333333,
    wall_s=1.5,
    events=1,
    stats={
        "end_to_end_ms": {
            "count": 100,
            "median": np.float32(8.5),
            "p95": 11.0,
            "p99": 12,
            "max": math.nan,
            "bins": [[k, 1] for k in range(100)],
        }
    },
)
EVENT = MicroExpression(
    face=0,
    interval=Interval(12.4, 12.53333333, 12.7333333),
    probabilities={"negative": 0.81, "positive": 0.1, "surprise": 0.09},
    intensity_px=1.71828,
    reported_s=12.9,
    source="clip.avi",
    model="causalnet-test",
    limit_px=0.9,
    spotting_score=0.8,
    least_sensitivity=0.1,
    regions=(RegionMotion("chin", 1.1, 90.0),),
    action_units=(ActionUnit("AU17", "both", 0.912),),
    frames=(310, 313, 318),
)
LIVE_EVENT = dataclasses.replace(
    EVENT, origin=ClockOrigin(monotonic_s=5000.0, unix_s=1.75e9), from_neutral_px=2.2
)
GAP = Gap(face=1, start_s=3.0, end_s=4.5, reason=GapReason.FACE_LOST)
SPAN = VisibilitySpan(1, 1.25, 3.0, (0.8, 1.504, 3.25), (1.75, 0.5, 0.0), 1.75)
MACRO = MacroExpression(2, 1.25, 3.5, 4.03, "clip.avi")
BASELINE = Baseline(0, 0.5, 20.5, limits_px=(0.612, 0.7, 0.8), withheld=1)
MARK = Mark(2.25, "window", "second question")
STATUS = StatusChange(SourceStatus.RECONNECTING, 2.5)
LOGS = [JsonLinesLog, CsvLog]


def analysis(*events, gaps=(), **more):
    frame = Frame(0, 0.0, np.zeros((4, 4, 3), np.uint8), 0.0)
    return Analysis(frame, events=events, gaps=gaps, **more)


def strictly(line):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(line, parse_constant=refuse)


def lines(path):
    text = path.read_text("utf-8")
    assert text.endswith("\n")
    return [strictly(line) for line in text.splitlines()]


def test_macro_expressions_are_logged_if_asked_for(tmp_path):
    for name, macros in (("without", False), ("with", True)):
        log = JsonLinesLog(tmp_path / name, macros=macros)
        log.begin(SESSION)
        log.update(analysis(macros=(MACRO,)))
        log.end(SUMMARY)
    assert [r["type"] for r in lines(tmp_path / "without")] == ["session", "summary"]
    assert lines(tmp_path / "with")[1] == {
        "type": "macro_expression", "face": 2, "onset_s": 1.25, "offset_s": 3.5,
        "reported_s": 4.03, "source": SESSION.source,
    }  # fmt: skip


def test_json_lines_log_holds_session_event_gap_and_summary(tmp_path):
    log = JsonLinesLog(tmp_path / "events.jsonl")
    log.begin(SESSION)
    log.update(analysis())
    log.update(analysis(EVENT, gaps=(GAP,), visibility=(SPAN,)))
    log.end(SUMMARY)
    session, gap, span, event, summary = lines(tmp_path / "events.jsonl")
    assert (session["type"], session["labels"]) == ("session", list(SESSION.labels))
    assert event == {
        "type": "micro_expression",
        "face": 0,
        "onset_s": 12.4,
        "apex_s": 12.533,
        "offset_s": 12.733,
        "label": "negative",
        "confidence": 0.81,
        "probabilities": {"negative": 0.81, "positive": 0.1, "surprise": 0.09},
        "intensity_px": 1.72,
        "onset_frame": 310,
        "apex_frame": 313,
        "offset_frame": 318,
        "limit_px": 0.9,
        "spotting_score": 0.8,
        "least_sensitivity": 0.1,
        "regions": [{"name": "chin", "displacement_px": 1.1, "direction_deg": 90}],
        "action_units": [{"name": "AU17", "side": "both", "score": 0.91}],
        "reported_s": 12.9,
        "source": "clip.avi",
        "model": "causalnet-test",
    }
    assert gap == {"type": "gap", "face": 1, "start_s": 3.0, "end_s": 4.5, "reason": "face lost"}
    assert span == {
        "type": "visibility",
        "face": 1,
        "start_s": 1.25,
        "end_s": 3.0,
        "limits_px": {"upper face": 0.8, "middle face": 1.5, "lower face": 3.25},
        "readable": ["upper face"],
    }
    assert (summary["type"], summary["reason"], summary["events"]) == (
        "summary",
        "end of source",
        1,
    )
    # Without the histograms, which are in the file of statistics.
    assert summary["latency_ms"] == {"median": 8.5, "p95": 11.0, "p99": 12, "max": None}
    assert "stats" not in summary
    assert len(json.dumps(summary)) < 400


def test_summary_has_the_watched_time_and_the_rate_of_events(tmp_path):
    log = JsonLinesLog(tmp_path / "events.jsonl")
    log.begin(SESSION)
    watched = Watched(750.0, (580.0, 600.0, 362.0), 600.0)
    log.end(dataclasses.replace(SUMMARY, events=2, watched=watched))
    summary = lines(tmp_path / "events.jsonl")[-1]
    assert summary["watched_s"] == 750.0
    assert summary["readable_s"] == {
        "upper face": 580.0, "middle face": 600.0, "lower face": 362.0
    }  # fmt: skip
    assert summary["any_readable_s"] == 600.0
    assert summary["events_per_readable_minute"] == 0.2


def test_summary_without_statistics_has_no_latency(tmp_path):
    log = JsonLinesLog(tmp_path / "events.jsonl")
    log.begin(SESSION)
    log.end(dataclasses.replace(SUMMARY, stats={}))
    assert lines(tmp_path / "events.jsonl")[-1]["latency_ms"] == {}


def test_numbers_that_json_lacks_become_null(tmp_path):
    odd = MicroExpression(
        face=np.int64(2),
        interval=Interval(np.float32(1), np.float32(1.1), np.float32(1.2)),
        probabilities={"negative": np.float32(1), "positive": math.nan, "surprise": 0},
        intensity_px=math.inf,
        reported_s=math.nan,
    )
    log = JsonLinesLog(tmp_path / "events.jsonl")
    log.begin(SESSION)
    log.update(analysis(odd))
    event = lines(tmp_path / "events.jsonl")[1]
    assert (event["intensity_px"], event["reported_s"]) == (None, None)
    assert event["probabilities"] == {"negative": 1.0, "positive": None, "surprise": 0.0}
    assert (event["apex_s"], event["face"]) == (1.1, 2)


@pytest.mark.parametrize("log_type", LOGS)
def test_lines_are_on_the_disk_before_the_next_frame(tmp_path, log_type):
    path = tmp_path / "events"
    log = log_type(path)
    log.begin(SESSION)
    before = path.read_text()
    log.update(analysis(EVENT))
    # No end(): this is what a reader sees during the session, or after a crash.
    assert path.read_text().count("\n") == before.count("\n") + 1
    assert path.read_text().endswith("\n")


def test_csv_has_a_header_without_events(tmp_path):
    log = CsvLog(tmp_path / "events.csv")
    log.begin(SESSION)
    log.update(analysis(gaps=(GAP,)))
    log.end(SUMMARY)
    with open(tmp_path / "events.csv", newline="") as file:
        (header,) = csv.reader(file)
    assert header[:6] == ["face", "onset_s", "apex_s", "offset_s", "label", "confidence"]
    assert header[6:9] == ["p_negative", "p_positive", "p_surprise"]
    assert header[9:12] == ["intensity_px", "limit_px", "spotting_score"]
    assert header[12:14] == ["regions", "action_units"]


def test_csv_has_limit_score_and_regions_of_an_event(tmp_path):
    unknown = dataclasses.replace(EVENT, limit_px=None, spotting_score=None, regions=())
    session_in(CsvLog(tmp_path / "events.csv"), EVENT, unknown)
    known, other = rows(tmp_path / "events.csv")
    assert (known["limit_px"], known["spotting_score"]) == ("0.9", "0.8")
    assert (known["regions"], known["action_units"]) == ("chin 1.10 px at 90 deg", "AU17")
    assert (other["limit_px"], other["spotting_score"], other["regions"]) == ("", "", "")


def test_csv_rows_survive_names_with_commas_and_quotes(tmp_path):
    log = CsvLog(tmp_path / "events.csv")
    log.begin(SESSION)
    event = dataclasses.replace(EVENT, source='a,"b".avi')
    log.update(analysis(event, event))
    log.end(SUMMARY)
    with open(tmp_path / "events.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert rows[0]["source"] == 'a,"b".avi'
    assert (rows[0]["apex_s"], rows[0]["p_positive"], rows[0]["label"]) == (
        "12.533",
        "0.1",
        "negative",
    )


@pytest.mark.parametrize("log_type", LOGS)
def test_nothing_is_made_or_lost_before_the_session_begins(tmp_path, log_type):
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_text("precious")
    log_type(new)
    log = log_type(old)
    assert not new.exists()
    assert old.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    log.end(SUMMARY)  # a session that could not begin
    assert old.read_text() == "precious"


@pytest.mark.parametrize("log_type", LOGS)
def test_unwritable_paths_are_refused_at_once(tmp_path, log_type):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "no" / "x", tmp_path / "file" / "x", "a\0b", "", "x" * 300):
        with pytest.raises(InputError, match=r"\. "):
            log_type(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_file_without_permission_is_refused(tmp_path):
    path = tmp_path / "mine"
    path.touch()
    path.chmod(stat.S_IRUSR)
    with pytest.raises(InputError, match="cannot be written"):
        JsonLinesLog(path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_disk_is_an_input_error():
    log = JsonLinesLog("/dev/full")
    with pytest.raises(InputError, match="No space left"):
        log.begin(SESSION)


# A log that exists


def session_in(log, *events, source="clip.avi"):
    session = dataclasses.replace(SESSION, source=source)
    log.begin(session)
    log.update(analysis(*(dataclasses.replace(event, source=source) for event in events)))
    log.end(SUMMARY)


def rows(path):
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_second_session_follows_the_first_in_a_log(tmp_path):
    path = tmp_path / "events.jsonl"
    for name in ("a.avi", "b.avi"):
        session_in(JsonLinesLog(path), EVENT, source=name)
    kinds = ["session", "micro_expression", "summary"]
    assert [r["type"] for r in lines(path)] == kinds * 2
    assert [r["source"] for r in lines(path) if "source" in r] == 2 * ["a.avi"] + 2 * ["b.avi"]


@pytest.mark.parametrize("log_type", LOGS)
def test_two_sessions_at_once_are_refused_one_file(tmp_path, log_type):
    path = tmp_path / "events"
    first, second = log_type(path), log_type(path)
    first.begin(SESSION)
    with pytest.raises(InputError, match=r"events is in use: .* Name another file"):
        log_type(path)
    with pytest.raises(InputError, match="in use"):
        second.begin(SESSION)
    first.update(analysis(EVENT))
    first.end(SUMMARY)
    second.begin(SESSION)
    second.end(SUMMARY)


@pytest.mark.parametrize("log_type", LOGS)
@pytest.mark.parametrize(
    "content", [b"precious\n", b"precious", b"\x00\x01\xff\n", b"{}\n", b"[1]", b"\0" * 5000, b"\n"]
)
def test_file_that_is_no_log_is_refused_and_stays(tmp_path, log_type, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    log = log_type(path)
    if log_type is CsvLog and not content.strip(b"\0"):
        return  # zeros are what a power cut leaves of a new file
    with pytest.raises(InputError, match=r"notes\.txt exists,? and is no"):
        log.begin(SESSION)
    log.end(SUMMARY)
    assert path.read_bytes() == content


@pytest.mark.parametrize("zeros", [b"", b"\0" * 5000], ids=["crash", "power cut"])
@pytest.mark.parametrize(
    "half", [b'{"type": "micro_expression", "face": 0, "ons', b'{"ty', b'{"type": "\xc3', b'"\x1b']
)
def test_half_line_of_a_crash_becomes_a_record(tmp_path, half, zeros):
    path, notes = tmp_path / "events.jsonl", []
    session_in(JsonLinesLog(path))
    whole = path.read_bytes()
    path.write_bytes(whole + half + zeros)
    log = JsonLinesLog(path, note=notes.append)
    log.begin(SESSION)
    log.end(SUMMARY)
    assert path.read_bytes().startswith(whole)
    lost = lines(path)[2]
    assert lost == {"type": "lost", "records": 1, "text": half.decode("utf-8", "replace")}
    VALIDATOR.validate(lost)
    assert [r["type"] for r in lines(path)[3:]] == ["session", "summary"]
    assert len(notes) == 1
    assert "events.jsonl was cut off" in notes[0]


def test_log_of_half_a_line_or_without_its_last_line_end_is_continued(tmp_path):
    for content in (b"", b'{"type": "sess', b'\xef\xbb\xbf{"type": "session"}'):
        path = tmp_path / "events.jsonl"
        path.write_bytes(content)
        session_in(JsonLinesLog(path, note=print))
        text = path.read_text("utf-8-sig")
        kinds = [strictly(line)["type"] for line in text.splitlines()]
        assert kinds[-2:] == ["session", "summary"]
        assert kinds[:-2] == (
            [] if not content else ["lost"] if content.endswith(b"sess") else ["session"]
        )


def test_table_is_continued_under_one_header(tmp_path):
    path = tmp_path / "events.csv"
    for second, name in enumerate(("a.avi", "b.avi")):
        session = dataclasses.replace(SESSION, origin=ClockOrigin(0.0, 1.75e9 + second))
        log = CsvLog(path)
        log.begin(session)
        log.update(analysis(dataclasses.replace(EVENT, source=name)))
        log.end(SUMMARY)
    assert [row["source"] for row in rows(path)] == ["a.avi", "b.avi"]
    # Which session a row is of.
    assert [row["started_at"] for row in rows(path)] == [
        "2025-06-15T15:06:40.000+00:00",
        "2025-06-15T15:06:41.000+00:00",
    ]
    assert path.read_bytes().count(b"onset_s") == 1


def test_table_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "events.csv"
    session_in(CsvLog(path))
    before = path.read_bytes()
    log = CsvLog(path)
    with pytest.raises(InputError, match=r"events\.csv exists, .* the columns of this session"):
        log.begin(dataclasses.replace(SESSION, labels=("yes", "no")))
    assert path.read_bytes() == before
    # As Excel saves it in half of Europe.
    path.write_bytes(before.replace(b",", b";"))
    with pytest.raises(InputError, match="columns"):
        CsvLog(path).begin(SESSION)


def test_table_ends_in_whole_rows_after_a_crash(tmp_path):
    path = tmp_path / "events.csv"
    # The line end in quotes ends no row.
    session_in(CsvLog(path), EVENT, source='a\n"b",\n.avi')
    whole = path.read_bytes()
    row = whole[whole.index(b"\r\n") + 2 :]
    for cut in (1, len(row) // 2, row.index(b"\n") + 2, len(row) - 4):
        for zeros in (b"", b"\0" * 100):
            notes = []
            path.write_bytes(whole + row[:cut] + zeros)
            session_in(CsvLog(path, note=notes.append), EVENT)
            assert [row["source"] for row in rows(path)] == ['a\n"b",\n.avi', "clip.avi"]
            assert "the last row of" in notes[0]
            assert ascii(row[:cut].decode()) in notes[0]
    # Only the line end is missing, as editors leave it; or the header was cut off.
    path.write_bytes(whole.rstrip())
    session_in(CsvLog(path), EVENT)
    assert len(rows(path)) == 2
    path.write_bytes(whole[:10])
    session_in(CsvLog(path), EVENT)
    assert len(rows(path)) == 1


# Spreadsheets


def test_table_of_other_than_ascii_has_one_mark_by_which_excel_knows_utf8(tmp_path):
    path = tmp_path / "events.csv"
    session_in(CsvLog(path), EVENT)
    # All programs read this as it is.
    assert path.read_bytes().isascii()
    before = rows(path)
    os.chmod(path, 0o640)
    os.symlink(path, tmp_path / "link.csv")
    for name in ("Vidéo.mp4", "表情.avi"):
        session_in(CsvLog(tmp_path / "link.csv"), EVENT, source=name)
    session_in(CsvLog(path), EVENT)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfface,")
    assert path.read_bytes().count(b"\xef\xbb\xbf") == 1
    assert rows(path)[:1] == before
    assert [row["source"] for row in rows(path)] == [
        "clip.avi",
        "Vidéo.mp4",
        "表情.avi",
        "clip.avi",
    ]
    # The mark came without a trace.
    assert (tmp_path / "link.csv").is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.csv", "link.csv"]


def test_table_of_a_card_with_labels_of_other_than_ascii_has_the_mark(tmp_path):
    path = tmp_path / "events.csv"
    log = CsvLog(path)
    log.begin(dataclasses.replace(SESSION, labels=("négatif", "=1+1")))
    event = dataclasses.replace(EVENT, probabilities={"négatif": 0.2, "=1+1": 0.8})
    log.update(analysis(event))
    log.end(SUMMARY)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    (row,) = rows(path)
    assert (row["p_négatif"], row["p_=1+1"], row["label"]) == ("0.2", "0.8", "'=1+1")


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_text_that_spreadsheets_take_for_a_formula_is_preceded_by_an_apostrophe(tmp_path, first):
    path = tmp_path / "events.csv"
    name = f'{first}cmd|"/c calc"!A0'
    session = dataclasses.replace(SESSION, source=name, model=name)
    log = CsvLog(path)
    log.begin(session)
    log.update(analysis(dataclasses.replace(EVENT, source=name, model=name, reported_s=-0.5)))
    log.end(SUMMARY)
    (row,) = rows(path)
    assert (row["source"], row["model"]) == (f"'{name}", f"'{name}")
    # A number is no formula.
    assert (row["reported_s"], row["face"]) == ("-0.5", "0")


def test_rows_end_as_rfc_4180_says(tmp_path):
    path = tmp_path / "events.csv"
    session_in(CsvLog(path), EVENT, EVENT)
    assert path.read_bytes().count(b"\r\n") == path.read_bytes().count(b"\n") == 3


def test_pandas_reads_the_table_as_it_is(tmp_path):
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "events.csv"
    session_in(CsvLog(path), EVENT, source='a;b,"c"\nVidéo.mp4')
    table = pandas.read_csv(path)
    assert table.columns[0] == "face"
    assert table["source"].tolist() == ['a;b,"c"\nVidéo.mp4']
    assert table["apex_s"].tolist() == [12.533]
    assert str(pandas.to_datetime(table["started_at"]).dt.tz) == "UTC"


@pytest.mark.parametrize(
    "name", ["Vid\udce9o.mp4", "\ud83d.avi", "a\x00\x1b[2J\x7f.avi", "\U0001f600.avi"]
)
def test_logs_are_utf8_whatever_the_name(tmp_path, name):
    odd = dataclasses.replace(
        EVENT, source=name, model=name, probabilities={name: 0.7, "other": 0.3}
    )
    session = dataclasses.replace(SESSION, source=name, model=name, labels=(name, "other"))
    for log in (JsonLinesLog(tmp_path / "events.jsonl"), CsvLog(tmp_path / "events.csv")):
        log.begin(session)
        log.update(analysis(odd))
        log.end(dataclasses.replace(SUMMARY, reason=f"error: {name}", stats={}))
    for record in lines(tmp_path / "events.jsonl"):
        # Halves of characters are no UTF-8, and strict programs refuse their escapes, too.
        json.dumps(record, ensure_ascii=False).encode("utf-8")
        VALIDATOR.validate(record)
    shown = name.encode("utf-8", "backslashreplace").decode()
    assert lines(tmp_path / "events.jsonl")[1]["label"] == shown
    assert rows(tmp_path / "events.csv")[0]["source"] == shown


# The disk, in the middle of a session


@pytest.mark.skipif(os.name == "nt", reason="no such limit on Windows")
def test_records_that_were_kept_for_too_long_are_counted_in_the_log(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(line_file, "_MAX_WAITING", 2)
    path, notes = tmp_path / "events.jsonl", []
    log = JsonLinesLog(path, note=notes.append)
    log.begin(SESSION)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))
    try:
        log.update(analysis(EVENT, EVENT, EVENT, gaps=(GAP,)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(InputError, match="2 lines are lost"):
        log.end(SUMMARY)
    kinds = [record["type"] for record in lines(path)]
    assert kinds == ["session", "lost", "micro_expression", "micro_expression", "summary"]
    assert lines(path)[1] == {"type": "lost", "records": 2}


def test_log_that_is_deleted_in_the_middle_of_a_session_is_whole_at_its_end(tmp_path, faceless):
    paths = tmp_path / "events.jsonl", tmp_path / "events.csv"

    class Deleting(Callbacks):
        left = 1

        def update(self, analysis):
            while self.left:
                self.left = 0
                for path in paths:
                    path.unlink()

    log, table = JsonLinesLog(paths[0]), CsvLog(paths[1])
    run(Recognizer(faceless), [log, table, Deleting(None, None)])
    assert [record["type"] for record in lines(paths[0])] == ["session", "summary"]
    assert paths[1].read_bytes().count(b"\r\n") == 1


def test_command_refuses_a_log_in_use_and_continues_one_that_exists(tmp_path, faceless, capfd):
    path = tmp_path / "events.jsonl"
    other = JsonLinesLog(path)
    other.begin(SESSION)
    command = [str(faceless), "--headless", "--log", str(path)]
    assert main(command) == 2
    assert "events.jsonl is in use: another session writes into it." in capfd.readouterr().err
    other.end(SUMMARY)
    assert main(command) == 0
    assert [record["type"] for record in lines(path)] == ["session", "summary"] * 2


# The schema


VALIDATOR = jsonschema.Draft202012Validator(schema())
WATCHED = dataclasses.replace(SUMMARY, watched=Watched(90.0, (80.0, 70.0, 60.0), 85.0))
RECORDS = [
    r.to_dict() for r in (SESSION, STATUS, GAP, SPAN, EVENT, LIVE_EVENT, MACRO, BASELINE, MARK)
] + [
    SUMMARY.to_dict(),
    WATCHED.to_dict(),
]
# The figures of SUMMARY hold what JSON lacks.
for record in RECORDS[-2:]:
    record["latency_ms"]["max"] = 20.0
RECORDS.append({"type": "lost", "records": 2})
IDS = ["session", "status", "gap", "visibility", "event", "live event", "macro", "baseline", "mark"]
IDS += ["summary", "summary with watched time", "lost"]
# Only where they are known.
OPTIONAL = {"onset_frame", "apex_frame", "offset_frame", "limit_px", "spotting_score"}
OPTIONAL |= {
    "from_neutral_px",
    "least_sensitivity",
    "regions",
    "action_units",
    "events_per_readable_minute",
}


def test_schema_is_a_schema_that_describes_every_record_and_its_fields():
    jsonschema.Draft202012Validator.check_schema(schema())
    kinds = [kind["$ref"].removeprefix("#/$defs/") for kind in schema()["oneOf"]]
    assert sorted(kinds) == sorted({r["type"] for r in RECORDS})
    definitions = schema()["$defs"]
    for kind in kinds:
        definition = definitions[kind]
        assert definition["description"]
        assert definition["additionalProperties"] is False
        for name, field in definition["properties"].items():
            referred = definitions.get(field.get("$ref", "").removeprefix("#/$defs/"), {})
            assert field.get("description") or referred.get("description"), name


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_schema_takes_each_record_and_refuses_it_with_a_fault(record):
    VALIDATOR.validate(record)
    assert not VALIDATOR.is_valid(record | {"surprise": 1})
    for name, value in record.items():
        without = {k: v for k, v in record.items() if k != name}
        is_optional = name in OPTIONAL or (record["type"], name) == ("baseline", "limits_px")
        assert VALIDATOR.is_valid(without) == is_optional, f"without {name}"
        assert not VALIDATOR.is_valid(record | {name: None}), f"{name} is null"
        other = 1 if isinstance(value, str | list | dict | bool) else "text"
        assert not VALIDATOR.is_valid(record | {name: other}), f"{name} is {other!r}"
        if isinstance(value, int | float) and name != "onset_monotonic_s":
            assert value is True or not VALIDATOR.is_valid(record | {name: -0.001}), (
                f"{name} is negative"
            )


def test_schema_takes_the_records_of_older_logs():
    """Of 2026: without limits, scores and regions."""
    event = (
        '{"type": "micro_expression", "face": 0, "onset_s": 12.004, "apex_s": 12.156, "offset_s": '
        '12.306, "label": "surprise", "confidence": 0.9551, "probabilities": {"negative": 0.0193, '
        '"positive": 0.0256, "surprise": 0.9551}, "intensity_px": 1.86, "reported_s": 12.433, '
        '"source": "demo.avi", "model": "causalnet-compact"}'
    )
    summary = (
        '{"type": "summary", "reason": "end of source", "events": 4, "duration_s": 19.967, '
        '"wall_s": 6.397, "frames_read": 600, "frames_analysed": 600, "frames_dropped": 0, '
        '"frames_with_face": 600, "latency_ms": {"median": 14.578}}'
    )
    for line in (event, summary):
        VALIDATOR.validate(json.loads(line))


@pytest.mark.parametrize("probability", [1.01, -0.01, None, "0.5"])
def test_schema_refuses_what_is_no_probability(probability):
    record = copy.deepcopy(EVENT.to_dict())
    record["probabilities"]["positive"] = probability
    assert not VALIDATOR.is_valid(record)


def test_schema_refuses_what_is_no_date():
    record = SESSION.to_dict()
    assert not VALIDATOR.is_valid(record | {"started_at": "yesterday"})


def test_schema_knows_every_reason_and_status():
    for reason in GapReason:
        VALIDATOR.validate(dataclasses.replace(GAP, reason=reason).to_dict())
    for status in SourceStatus:
        VALIDATOR.validate(StatusChange(status, 1.0).to_dict())


def test_baselines_are_in_the_log_with_what_they_are_worth(tmp_path):
    path = tmp_path / "events.jsonl"
    log = JsonLinesLog(path)
    log.begin(SESSION)
    poor = Baseline(1, 2.0, 8.0, (BaselineFlaw.FACE_AWAY, BaselineFlaw.HEAD_MOVED))
    log.update(analysis(baselines=(BASELINE, poor)))
    log.end(SUMMARY)
    _, good, poor, _ = lines(path)
    assert (good["quality"], good["reason"], good["withheld"]) == ("good", "", 1)
    assert good["limits_px"] == {"upper face": 0.61, "middle face": 0.7, "lower face": 0.8}
    assert (poor["quality"], poor["reason"]) == ("poor", "face away, head moved")
    assert "limits_px" not in poor
    for record in (good, poor):
        VALIDATOR.validate(record)


def test_marks_are_in_the_log_in_their_order_and_fit_the_schema(tmp_path):
    path = tmp_path / "events.jsonl"
    log = JsonLinesLog(path)
    log.begin(SESSION)
    log.update(analysis(EVENT, marks=(MARK, Mark(3.0))))
    log.end(SUMMARY)
    _, _, *marks, _ = lines(path)
    assert marks == [
        {"type": "mark", "time_s": 2.25, "by": "window", "text": "second question"},
        {"type": "mark", "time_s": 3.0, "by": "program", "text": ""},
    ]
    for mark in marks:
        VALIDATOR.validate(mark)
    assert not VALIDATOR.is_valid(marks[0] | {"by": "nobody"})


def test_every_line_of_a_real_session_is_the_result_s_own_record(tmp_path, clip):
    """As the callbacks of the same session get them."""
    results, limits = [], {}

    class Collector(Callbacks):
        def begin(self, session):
            results.append(session)

        def update(self, analysis):
            results.extend((*analysis.statuses, *analysis.gaps, *analysis.visibility))
            results.extend(analysis.events)
            (face,) = analysis.faces
            limits[analysis.frame.time_s] = face.limits
            results.extend(analysis.macros)

        def end(self, summary):
            results.extend((*summary.visibility, summary))

    path = tmp_path / "events.jsonl"
    spotter = spotter_with(tmp_path, visibility=VISIBILITY)
    summary = run(
        Recognizer(clip, spotter=spotter), [JsonLinesLog(path, macros=True), Collector(None, None)]
    )
    logged = lines(path)
    assert [r["type"] for r in logged].count("micro_expression") == 2
    assert all({"limit_px", "regions"} <= set(r) for r in logged if r["type"] == "micro_expression")
    # The first event is a surprise, which raises the brows: its limit is that of the upper face.
    first = next(r for r in logged if r["type"] == "micro_expression")
    assert "brow" in first["regions"][0]["name"]
    # The event itself does not count among the motion that hides it.
    at_onset = max(time_s for time_s in limits if time_s <= first["onset_s"])
    assert first["limit_px"] == pytest.approx(limits[at_onset][0], abs=0.01)
    # The last span is open when the video ends.
    spans = [r for r in logged if r["type"] == "visibility"]
    assert spans[0]["start_s"] == pytest.approx(1.0, abs=0.1)
    assert spans[-1]["end_s"] == pytest.approx(4.8, abs=0.1)
    total = sum(span["end_s"] - span["start_s"] for span in spans)
    assert logged[-1]["watched_s"] == pytest.approx(total, abs=0.01)
    assert summary.stats["visibility"]["watched_s"] == logged[-1]["watched_s"]
    assert summary.stats["visibility"]["readable_s"] == logged[-1]["readable_s"]
    assert logged == [json.loads(json.dumps(result.to_dict())) for result in results]
    for record in logged:
        VALIDATOR.validate(record)
        if record["type"] == "micro_expression":
            assert record["onset_s"] <= record["apex_s"] <= record["offset_s"]
            assert sum(record["probabilities"].values()) == pytest.approx(1, abs=2e-4)


def test_log_of_a_live_source_that_freezes_and_ends_fits_the_schema(tmp_path, astronaut):
    camera = CameraServer(astronaut, count=20, freezes=True)
    path = tmp_path / "events.jsonl"

    def stop_when_frozen(analysis):
        return any(c.status is SourceStatus.FROZEN for c in analysis.statuses)

    try:
        stopping = Stopping(stop_when_frozen, KeyboardInterrupt())
        run(Recognizer(camera.url), [JsonLinesLog(path), stopping])
    finally:
        camera.stop()
    logged = lines(path)
    for record in logged:
        VALIDATOR.validate(record)
    assert {"session", "status", "gap", "summary"} <= {r["type"] for r in logged}
    assert logged[-1]["reason"] == "stopped by user"
