"""Tables over all inputs, read back by pandas and by pyarrow."""

import csv
import io
import json
import sys

import pandas
import pyarrow.parquet
import pytest

from realtime_mer.archive import tables
from realtime_mer.archive.dictionary import BLENDSHAPES, FRAME, Column, columns
from realtime_mer.archive.tables import write_tables
from realtime_mer.errors import InputError
from tests.results import EVENTS, LABELS, PROGRAM

HOSTILE = "=cmd|' /C calc'!A0\",\n<script>\t\x1b[2J"


def change_records(video, change):
    records = video.records()
    for record in records:
        change(record)
    video.log.write_text("".join(json.dumps(record) + "\n" for record in records))


def change_entries(folder, change):
    manifest = folder.manifest
    for entry in manifest["videos"]:
        change(entry)
    folder.manifest_path.write_text(json.dumps(manifest))


def add_frames(folder, rows):
    """Gives each video that is done a table of frames; returns how many there are."""
    videos = list(folder.done())
    for video in videos:
        lines = [",".join(column.name for column in FRAME)]
        for row in range(rows):
            numbers = [f"{row / 30:.3f}", str(row), "0", *["-0.25"] * (len(FRAME) - 4), ""]
            lines.append(",".join(numbers))
        video.frames.write_text("\n".join(lines) + "\n")
    return len(videos)


def test_events_have_what_the_logs_say(folder):
    write_tables(folder)
    events = pandas.read_csv(folder.table("events"))
    names = ["video", "onset_s", "label", "confidence", "face"]
    told = [
        [video.key, *(event[name] for name in names[1:])]
        for video in folder.done()
        for event in video.events()
    ]
    assert events[names].values.tolist() == told
    assert len(told) == sum(map(len, EVENTS.values()))
    first = events.iloc[0]
    assert [first.number, first.apex_s, first.offset_s, first.duration_s] == [1, 1.35, 1.5, 0.3]
    assert [first.p_negative, first.p_positive, first.p_surprise] == [0.05, 0.05, 0.9]
    assert [first.chin_px, first.chin_deg] == [0.8, 270]
    assert pandas.isna(first.glabella_px)
    # A region that this version does not know stays in the text.
    assert first.regions == "chin 0.80 px at 270 deg; nose 0.40 px at 90 deg"
    assert (folder.path / first["clip"]).is_file()


def test_each_input_has_a_row_whatever_became_of_it(folder):
    write_tables(folder)
    videos = pandas.read_csv(folder.table("videos")).set_index("video")
    failed = videos[videos.state == "failed"].iloc[0]
    assert failed.reason == "broken.avi is no video that can be read"
    assert pandas.isna(failed.events)
    done = videos[videos.state == "done"].iloc[0]
    assert [done.width, done.height, done.fps, done.frames] == [96, 64, 30.0, 180]
    assert done.face_share == round(160 / 180, 4)
    assert [done.readable_upper_min, done.readable_lower_min] == [round(2.5 / 60, 4), 0]
    assert [done.events, done.faces] == [3, 2]


def test_a_video_that_was_cut_short_shows_its_length_by_the_header(folder):
    def cut(record):
        if record["type"] == "summary":
            record |= {"frames_read": 3, "duration_s": 0.1}

    change_records(next(folder.done()), cut)
    change_entries(folder, lambda entry: entry.update(duration_s=None))
    write_tables(folder)
    videos = pandas.read_csv(folder.table("videos"))
    done = videos[videos.state == "done"]
    assert done[["duration_s", "declared_s", "frames"]].values.tolist() == [
        [0.1, 6.0, 3],
        [6.0, 6.0, 180],
    ]
    assert videos[videos.state == "failed"].declared_s.isna().all()


def test_a_duplicate_has_a_row_that_names_the_other_one(folder):
    manifest = folder.manifest
    first = manifest["videos"][0]
    same = {"source": "copy.mp4", "sha256": first["sha256"], "size": 7, "same_as": first["key"]}
    manifest["duplicates"] = [same]
    folder.manifest_path.write_text(json.dumps(manifest))
    write_tables(folder)
    videos = pandas.read_csv(folder.table("videos")).set_index("source")
    assert videos.state["copy.mp4"] == "duplicate"
    assert videos.reason["copy.mp4"] == f"the same content as {first['key']}"
    # It has no results to be joined with.
    assert pandas.isna(videos.video["copy.mp4"])


def test_each_face_has_a_row_and_a_picture(folder):
    write_tables(folder)
    faces = pandas.read_csv(folder.table("faces"))
    assert list(faces.face) == [0, 1, 0]
    assert list(faces.events) == [2, 1, 1]
    assert [faces.watched_s[0], faces.first_s[0], faces.last_s[0]] == [2.5, 1.0, 3.5]
    assert faces.lost_s[0] == 0.75
    assert all((folder.path / path).is_file() for path in faces.thumbnail)


def test_every_row_and_file_names_what_made_it(folder):
    write_tables(folder)
    for name in ("events", "videos", "faces"):
        table = pandas.read_csv(folder.table(name))
        assert set(table.program) == {f"{PROGRAM['name']} {PROGRAM['version']}"}
        assert set(table.weights) == {"sha256:" + "c" * 12}
        assert set(table.spotter) == {"sha256:" + "5" * 12}
        assert set(table.sensitivity) == {1.0}
        assert table.settings.nunique() == 1
        metadata = pyarrow.parquet.read_schema(folder.table(name, ".parquet")).metadata
        assert json.loads(metadata[b"settings"]) == folder.manifest["settings"]


def test_the_sensitivity_is_that_of_the_card_if_none_was_asked_for(folder):
    manifest = folder.manifest
    manifest["settings"] |= {"sensitivity": None, "expected_false_per_minute": 0.16}
    folder.manifest_path.write_text(json.dumps(manifest))
    write_tables(folder)
    assert set(pandas.read_csv(folder.table("videos")).sensitivity) == {0.16}


def test_other_settings_have_another_mark(folder):
    write_tables(folder)
    before = pandas.read_csv(folder.table("events")).settings[0]
    manifest = folder.manifest
    manifest["settings"]["faces"] = 3
    folder.manifest_path.write_text(json.dumps(manifest))
    write_tables(folder)
    assert pandas.read_csv(folder.table("events")).settings[0] != before


def test_csv_and_parquet_say_the_same(folder):
    add_frames(folder, 3)
    write_tables(folder)
    for name in ("events", "videos", "faces", "frames"):
        text = pandas.read_csv(folder.table(name))
        binary = pandas.read_parquet(folder.table(name, ".parquet"))
        if name == "events":
            assert text.pop("onset_at").isna().all()
            assert binary.pop("onset_at").isna().all()
        pandas.testing.assert_frame_equal(text, binary, check_dtype=False)


def test_tables_have_the_columns_and_types_of_the_dictionary(folder):
    add_frames(folder, 1)
    write_tables(folder)
    types = {"text": "string", "integer": "int64", "number": "double"}
    types["time"] = "timestamp[ms, tz=UTC]"
    dictionary = pandas.read_json(folder.dictionary)
    assert set(dictionary.table) == {"events", "videos", "faces", "frames"}
    assert dictionary.meaning.str.len().min() > 5
    for name, described in dictionary.groupby("table"):
        schema = pyarrow.parquet.read_schema(folder.table(name, ".parquet"))
        assert schema.names == list(described.column)
        assert [str(t) for t in schema.types] == [types[t] for t in described.type]
        header = next(csv.reader(io.StringIO(folder.table(name).read_text("utf-8-sig"))))
        assert header == schema.names


def test_columns_have_different_names():
    for table in ("events", "videos", "faces", "frames"):
        names = [column.name for column in columns(table, LABELS)]
        assert len(names) == len(set(names)), table


def test_blendshapes_have_the_names_and_the_order_of_mediapipe():
    from mediapipe.tasks.python.vision.face_landmarker import Blendshapes

    told = [shape.name.replace("_", "").lower() for shape in Blendshapes]
    assert [name.replace("_", "").lower() for name in BLENDSHAPES] == told


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", 1.5),
        ("integer", True),
        ("number", "1"),
        ("number", float("nan")),
        ("text", 1),
        ("time", "yesterday"),
        ("time", "2026-01-31T09:30:15"),  # of which time zone?
    ],
)
def test_a_value_of_another_type_is_refused(kind, value):
    with pytest.raises(ValueError, match=f"no {kind}"):
        Column("name", kind, "", "").cell(value)


def test_a_second_run_gives_the_same_bytes(folder):
    add_frames(folder, 2)
    write_tables(folder)
    files = [p for p in folder.path.iterdir() if p.suffix in (".csv", ".parquet")]
    files.append(folder.dictionary)
    before = {path: path.read_bytes() for path in files}
    assert len(before) == 9
    # The order of the manifest is that of the command line; a run that was killed tries again.
    manifest = folder.manifest
    manifest["videos"].reverse()
    for entry in manifest["videos"]:
        entry |= {"attempts": 3, "seconds": 17.0, "started_at": "2027-01-31T09:30:15.250+00:00"}
    folder.manifest_path.write_text(json.dumps(manifest))
    write_tables(folder)
    assert {path: path.read_bytes() for path in files} == before


def test_decimal_commas_are_read_back(folder):
    add_frames(folder, 2)
    write_tables(folder)
    names = ("events", "videos", "faces", "frames")
    plain = {name: pandas.read_csv(folder.table(name)) for name in names}
    write_tables(folder, decimal_comma=True)
    assert b"1,35" in folder.table("events").read_bytes()
    for name in names:
        table = pandas.read_csv(folder.table(name), sep=";", decimal=",")
        pandas.testing.assert_frame_equal(table, plain[name])


def test_hostile_texts_are_no_formulas_and_break_no_row(folder):
    def change(record):
        if record["type"] == "session":
            record["labels"] = [HOSTILE, "positive"]
        if record["type"] == "micro_expression":
            record |= {"label": HOSTILE, "probabilities": {HOSTILE: 0.5, "positive": 0.5}}
            record["regions"] = [{"name": HOSTILE, "displacement_px": 1.0, "direction_deg": 0}]

    for video in folder.done():
        change_records(video, change)
    change_entries(folder, lambda entry: entry.update(source="@evil\udcff.mp4", reason=HOSTILE))
    write_tables(folder)
    with folder.table("events").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + sum(map(len, EVENTS.values()))
    assert {len(row) for row in rows} == {len(rows[0])}
    for row in rows:
        assert not any(cell.startswith(("=", "@", "\t", "+")) for cell in row)
    assert "p_=cmd|' /C calc'!A0\",\\n<script>\\t\\x1b[2J" in rows[0]
    # No spreadsheet runs Parquet.
    events = pyarrow.parquet.read_table(folder.table("events", ".parquet")).to_pylist()
    assert {event["label"] for event in events} == {HOSTILE}
    assert {event["source"] for event in events} == {"@evil\\udcff.mp4"}


def test_only_a_table_with_other_letters_has_the_mark_of_excel(folder):
    write_tables(folder)
    assert folder.table("events").read_bytes().startswith(b"\xef\xbb\xbfvideo,")
    # R's read.csv would take the mark for a part of the first name.
    change_entries(folder, lambda entry: entry.update(state="failed", key="a", source="a.mp4"))
    write_tables(folder)
    assert folder.table("events").read_bytes().startswith(b"video,")


def test_events_have_the_numbers_of_frames_that_the_log_tells(folder):
    def change(record):
        if record["type"] == "micro_expression":
            record |= {"onset_frame": 7, "apex_frame": 11, "offset_frame": 16}

    for video in folder.done():
        change_records(video, change)
    write_tables(folder)
    events = pandas.read_csv(folder.table("events"))
    assert set(zip(events.onset_frame, events.apex_frame, events.offset_frame, strict=True)) == {
        (7, 11, 16)
    }


def test_events_have_what_not_every_log_tells(folder):
    def change(record):
        if record["type"] == "micro_expression":
            record["from_neutral_px"] = 2.5
            record["onset_at"] = "2026-01-31T09:30:16.450+00:00"
            record["action_units"] = [
                {"name": "AU12", "side": "both", "score": 0.9},
                {"name": "AU2", "side": "left", "score": 0.8},
            ]

    write_tables(folder)
    assert pandas.read_csv(folder.table("events")).from_neutral_px.isna().all()
    for video in folder.done():
        change_records(video, change)
    write_tables(folder)
    text = pandas.read_csv(folder.table("events"), parse_dates=["onset_at"])
    for events in (text, pandas.read_parquet(folder.table("events", ".parquet"))):
        assert set(events.from_neutral_px) == {2.5}
        assert set(events.action_units) == {"AU12; AU2 left"}
        assert set(events.onset_at) == {pandas.Timestamp("2026-01-31T09:30:16.450Z")}


@pytest.mark.parametrize("block", [600, 1 << 20], ids=["in blocks", "all at once"])
def test_frames_of_all_videos_become_one_table(folder, monkeypatch, block):
    monkeypatch.setattr(tables, "_BLOCK_BYTES", block)
    count = add_frames(folder, 20)
    write_tables(folder)
    for frames in (
        pandas.read_csv(folder.table("frames")),
        pandas.read_parquet(folder.table("frames", ".parquet")),
    ):
        assert len(frames) == 20 * count
        assert list(frames.frame) == [*range(20)] * count
        assert frames.video.nunique() == count
        assert set(frames.quality) == {-0.25}
        assert frames[FRAME[-1].name].isna().all()


def test_a_table_of_frames_goes_when_none_are_kept(folder):
    add_frames(folder, 1)
    write_tables(folder)
    for video in folder.done():
        video.frames.unlink()
    write_tables(folder)
    assert not folder.table("frames").exists()
    assert not folder.table("frames", ".parquet").exists()
    assert "frames" not in set(pandas.read_json(folder.dictionary).table)


@pytest.mark.parametrize(
    "damage",
    [
        lambda video: video.log.write_bytes(b"{"),
        lambda video: video.log.unlink(),
        lambda video: change_records(video, lambda record: record.pop("onset_s", None)),
        lambda video: change_records(video, lambda record: record.update(face="=1")),
        lambda video: video.frames.write_text(video.frames.read_text() + "=cmd\n"),
        lambda video: video.frames.write_text(video.frames.read_text() + "1,2\n"),
        lambda video: video.frames.write_text("a,b\n1,2\n"),
    ],
    ids=["cut", "gone", "no times", "no face", "formula in frames", "short row", "other columns"],
)
def test_damaged_results_cost_no_other_video_its_rows(folder, damage):
    add_frames(folder, 1)
    first, *others = sorted(folder.done(), key=lambda video: video.key)
    damage(first)
    notes = []
    write_tables(folder, note=notes.append)
    assert len(notes) == 1
    assert "first talk.mp4 is left out" in notes[0]
    videos = pandas.read_csv(folder.table("videos")).set_index("video")
    assert videos.state[first.key] == "damaged"
    assert "run the archive again" in videos.reason[first.key]
    for name in ("events", "faces", "frames"):
        assert set(pandas.read_csv(folder.table(name)).video) == {v.key for v in others}


def test_tables_stay_as_they_were_if_they_cannot_be_written(folder):
    write_tables(folder)
    before = folder.table("events").read_bytes()
    folder.table("faces").unlink()
    folder.table("faces").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_tables(folder)
    assert folder.table("events").read_bytes() == before
    assert not list(folder.path.glob(".*"))


def test_what_a_run_that_was_killed_left_is_removed(folder):
    (folder.path / ".table-0123456789abcdef.part").write_bytes(b"video,")
    write_tables(folder)
    assert not list(folder.path.glob(".*"))


def test_without_pyarrow_there_is_csv_and_a_note(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    notes = []
    write_tables(folder, note=notes.append)
    assert notes == ["no Parquet tables were written: pip install realtime-mer[archive]"]
    # pandas itself uses it where it can.
    lines = folder.table("events").read_text("utf-8-sig").splitlines()
    assert len(lines) == 1 + sum(map(len, EVENTS.values()))
    assert not folder.table("events", ".parquet").exists()


def test_no_results_give_tables_without_rows(folder):
    change_entries(folder, lambda entry: entry.update(state="waiting"))
    write_tables(folder)
    assert len(pandas.read_csv(folder.table("events"))) == 0
    assert len(pandas.read_parquet(folder.table("events", ".parquet"))) == 0
    assert set(pandas.read_csv(folder.table("videos")).state) == {"waiting"}
