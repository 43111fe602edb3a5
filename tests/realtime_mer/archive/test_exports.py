"""Exports for other programs, each read back by another reader than the one that wrote it."""

import json
import sys
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pandas
import pytest
from praatio import textgrid as praat
from pympi.Elan import Eaf

from realtime_mer.archive.exports import FORMATS, export
from realtime_mer.archive.exports.timeline import first_frame_s
from realtime_mer.archive.reviews.verdicts import Reviews
from realtime_mer.cli import main
from realtime_mer.errors import InputError
from tests.realtime_mer.review.words import write_review, write_reviews

HOSTILE = '</i><b>{\\an8}"&\n\n00:00:01,000 --> 00:00:02,000\x1b[2J\t=1'


def first(folder):
    return next(folder.done())


def exported(folder, to, media=None, agreed=False):
    """The files of the first video."""
    video = first(folder)
    out = folder.path / "out"
    out.mkdir(exist_ok=True)
    verdicts = Reviews.read(folder).of(video.key)
    return export(to, video, media or Path(video.source), out, verdicts, agreed)


def tiers_of_elan(path):
    eaf = Eaf(str(path))
    return {name: sorted(eaf.get_annotation_data_for_tier(name)) for name in eaf.get_tier_names()}


def tiers_of_praat(path):
    grid = praat.openTextgrid(str(path), includeEmptyIntervals=False)
    return {name: [tuple(e) for e in grid.getTier(name).entries] for name in grid.tierNames}


def change_records(video, change):
    records = video.records()
    for record in list(records):
        change(record, records)
    video.log.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_video(path, *, first_s=0.0, sound=False):
    """Writes a second of video whose first frame is shown at `first_s`; sound begins at 0."""
    with av.open(path, "w") as container:
        video = container.add_stream("mpeg4", rate=30)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = container.add_stream("mp2", rate=16000, layout="mono") if sound else None
        if audio is not None:
            for start in range(0, 32000, 1152):
                samples = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1152), np.int16), format="s16", layout="mono"
                )
                samples.rate, samples.pts, samples.time_base = 16000, start, Fraction(1, 16000)
                container.mux(audio.encode(samples))
            container.mux(audio.encode(None))
        for index in range(30):
            picture = np.full((32, 32, 3), 8 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = round(first_s * 30) + index, Fraction(1, 30)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def subtitles(path):
    """Start and length in milliseconds and text of each subtitle, as FFmpeg reads them."""
    with av.open(str(path)) as container:
        return [
            (packet.pts, packet.duration, shown.dialogue.decode())
            for packet in container.demux()
            for shown in packet.decode()
        ]


def test_elan_has_tiers_for_each_face_and_kind(folder):
    (path,) = exported(folder, "elan")
    eaf = Eaf(str(path))
    tiers = {name: eaf.get_annotation_data_for_tier(name) for name in eaf.get_tier_names()}
    surprise, positive = (1200, 1500, "surprise"), (5100, 5400, "positive")
    assert sorted(tiers["micro-expression face 0"]) == [surprise, positive]
    assert tiers["micro-expression face 1"] == [(3000, 3300, "negative")]
    assert tiers["gap face 0"] == [(3500, 4250, "face lost")]
    assert tiers["readable face 0"] == [(1000, 3500, "upper face, middle face")]
    assert tiers["macro-expression face 0"] == [(200, 900, "macro-expression")]
    assert (1200, 1350, "onset to apex") in tiers["micro-expression face 0: phases"]
    assert (1350, 1500, "apex to offset") in tiers["micro-expression face 0: phases"]
    (details,) = eaf.get_ref_annotation_data_for_tier("micro-expression face 1: details")
    assert details[:2] == (3000, 3300)
    assert details[2].startswith("event 2: confidence 0.55, spotting score 0.45, 2.2 px, chin 0.80")


def test_elan_finds_the_video_and_is_told_of_no_other_path(folder):
    (path,) = exported(folder, "elan")
    (link,) = Eaf(str(path)).get_linked_files()
    found = (path.parent / link["RELATIVE_MEDIA_URL"]).resolve()
    assert found == Path(first(folder).source).resolve()
    assert link["RELATIVE_MEDIA_URL"].startswith("../")
    assert link["MIME_TYPE"] == "video/mp4"
    beside = path.parent / "beside.mov"
    beside.write_bytes(b"")
    (path,) = exported(folder, "elan", beside)
    (link,) = Eaf(str(path)).get_linked_files()
    assert link["RELATIVE_MEDIA_URL"] == "./beside.mov"
    assert str(folder.path) not in path.read_text()


def test_times_of_elan_are_in_order(folder):
    (path,) = exported(folder, "elan")
    slots = ElementTree.parse(path).getroot().find("TIME_ORDER")
    times = [int(slot.get("TIME_VALUE")) for slot in slots]
    assert times == sorted(times)
    assert [slot.get("TIME_SLOT_ID") for slot in slots] == [
        f"ts{number}" for number in range(1, len(times) + 1)
    ]


def test_praat_reads_spans_and_apexes(folder):
    (path,) = exported(folder, "textgrid")
    grid = praat.openTextgrid(str(path), includeEmptyIntervals=False)
    tiers = {name: [tuple(e) for e in grid.getTier(name).entries] for name in grid.tierNames}
    assert tiers["micro-expression face 0"] == [(1.2, 1.5, "surprise"), (5.1, 5.4, "positive")]
    assert tiers["micro-expression face 0: apex"] == [(1.35, "surprise"), (5.25, "positive")]
    assert tiers["gap face 0"] == [(3.5, 4.25, "face lost")]
    assert tiers["readable face 0"] == [(1.0, 3.5, "upper face, middle face")]
    assert (grid.minTimestamp, grid.maxTimestamp) == (0, 6)


def test_subtitles_stay_long_enough_and_tell_the_true_times(folder):
    (path,) = exported(folder, "srt")
    assert subtitles(path) == [
        (1200, 1500, "face 0: surprise 90 %, 1.200 to 1.500 s"),
        (3000, 1500, "face 1: negative 55 %, 3.000 to 3.300 s"),
        (5100, 1500, "face 0: positive 75 %, 5.100 to 5.400 s"),
    ]


def test_a_subtitle_gives_way_to_the_next_one_but_not_before_its_event_ends(folder):
    def change(record, records):
        if record["type"] == "micro_expression" and record["onset_s"] == 3.0:
            record |= {"onset_s": 1.4, "apex_s": 1.6, "offset_s": 1.8}
        if record["type"] == "micro_expression" and record["onset_s"] == 5.1:
            record |= {"onset_s": 2.1, "apex_s": 2.2, "offset_s": 2.3}

    change_records(first(folder), change)
    (path,) = exported(folder, "srt")
    assert [entry[:2] for entry in subtitles(path)] == [(1200, 300), (1400, 700), (2100, 1500)]


def test_bids_is_read_by_pandas_and_described_column_by_column(folder):
    table, sidecar = exported(folder, "bids")
    events = pandas.read_csv(table, sep="\t", na_values="n/a")
    assert list(events.columns[:2]) == ["onset", "duration"]
    assert list(events.onset) == sorted(events.onset)
    found = events[events.trial_type == "micro_expression"]
    assert found[["onset", "duration", "apex", "label", "face"]].values.tolist() == [
        [1.2, 0.3, 1.35, "surprise", 0],
        [3.0, 0.3, 3.15, "negative", 1],
        [5.1, 0.3, 5.25, "positive", 0],
    ]
    assert list(found.p_surprise) == [0.9, 0.225, 0.125]
    gap = events[events.trial_type == "gap"].iloc[0]
    assert [gap.onset, gap.duration, gap.what] == [3.5, 0.75, "face lost"]
    assert pandas.isna(gap.label)
    described = json.loads(sidecar.read_text())
    assert set(described) == set(events.columns)
    assert all(entry["Description"] for entry in described.values())
    assert set(described["trial_type"]["Levels"]) >= set(events.trial_type)
    # Every cell has something: BIDS knows no empty ones.
    assert "\t\t" not in table.read_text()


@pytest.mark.parametrize(
    ("name", "first_s", "sound", "shown_s"),
    [
        ("a.mp4", 0.0, False, 0.0),
        # The pictures begin late, and so they do in a player.
        ("b.mkv", 0.5, True, 0.5),
        ("c.mp4", 0.5, True, 0.5),
        # Transport streams begin anywhere (FFmpeg's at 1.4 s): players begin with the first track.
        ("d.ts", 0.0, False, 0.0),
        ("e.ts", 0.5, True, 0.5),
        ("f.avi", 0.0, False, 0.0),
    ],
)
def test_times_are_those_of_the_media(folder, tmp_path, name, first_s, sound, shown_s):
    media = write_video(tmp_path / name, first_s=first_s, sound=sound)
    # MP2 begins 30 ms early, with the encoder's run-up.
    assert first_frame_s(media) == pytest.approx(shown_s, abs=0.05)
    (path,) = exported(folder, "elan", media)
    (event,) = Eaf(str(path)).get_annotation_data_for_tier("micro-expression face 1")
    assert event[:2] == pytest.approx((3000 + 1000 * shown_s, 3300 + 1000 * shown_s), abs=50)
    assert event[1] - event[0] == 300
    # BIDS counts from the first frame.
    table, _ = exported(folder, "bids", media)
    assert 3.0 in list(pandas.read_csv(table, sep="\t").onset)


@pytest.mark.parametrize("name", ["gone.mp4", "no video.mp4"])
def test_without_the_media_times_count_from_the_first_frame(folder, tmp_path, name):
    (tmp_path / "no video.mp4").write_bytes(b"no video")
    assert first_frame_s(tmp_path / name) == 0.0


def test_spans_that_overlap_get_a_tier_of_their_own(folder):
    def change(record, records):
        if record["type"] == "gap":
            records.append({**record, "start_s": 4.0, "end_s": 4.5, "reason": "paused"})

    change_records(first(folder), change)
    (path,) = exported(folder, "elan")
    eaf = Eaf(str(path))
    assert eaf.get_annotation_data_for_tier("gap face 0") == [(3500, 4250, "face lost")]
    assert eaf.get_annotation_data_for_tier("gap face 0 (2)") == [(4000, 4500, "paused")]
    (path,) = exported(folder, "textgrid")
    grid = praat.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="error")
    assert [tuple(e) for e in grid.getTier("gap face 0 (2)").entries] == [(4.0, 4.5, "paused")]


@pytest.mark.parametrize("to", FORMATS)
def test_a_video_in_which_nothing_was_found_is_exported(folder, to):
    video = first(folder)
    records = [r for r in video.records() if r["type"] in ("session", "summary")]
    video.log.write_text("".join(json.dumps(record) + "\n" for record in records))
    path = exported(folder, to)[0]
    if to == "elan":
        assert list(Eaf(str(path)).get_annotation_data_for_tier("micro-expression face 0")) == []
    elif to == "textgrid":
        grid = praat.openTextgrid(str(path), includeEmptyIntervals=True)
        assert [e.label for e in grid.getTier("micro-expression face 0").entries] == [""]
    elif to == "bids":
        assert len(pandas.read_csv(path, sep="\t")) == 0
    else:
        assert path.read_bytes() == b""


def test_hostile_texts_come_out_harmless(folder, tmp_path):
    def change(record, records):
        if record["type"] == "micro_expression":
            record |= {"label": HOSTILE, "probabilities": {HOSTILE: 0.5}}
            record["regions"] = [{"name": HOSTILE, "displacement_px": 1.0, "direction_deg": 0}]
        if record["type"] == "gap":
            record["reason"] = '="a\udcff\u2028b"'

    change_records(first(folder), change)
    # A name that is not UTF-8, as Linux allows.
    media = tmp_path / 'a"&<\udcff\n.mp4'

    (path,) = exported(folder, "elan", media)
    eaf = Eaf(str(path))
    (event,) = eaf.get_annotation_data_for_tier("micro-expression face 1")
    escaped = HOSTILE.replace("\n", "\\n").replace("\x1b", "\\x1b").replace("\t", "\\t")
    assert event == (3000, 3300, escaped)
    (gap,) = eaf.get_annotation_data_for_tier("gap face 0")
    assert gap[2] == '="a\\udcff\\u2028b"'
    assert eaf.get_linked_files()[0]["MEDIA_URL"].endswith('/a"&<\\udcff\\n.mp4')

    (path,) = exported(folder, "textgrid", media)
    grid = praat.openTextgrid(str(path), includeEmptyIntervals=False)
    (event,) = grid.getTier("micro-expression face 1").entries
    assert event.label == escaped

    (path,) = exported(folder, "srt", media)
    texts = [text for _, _, text in subtitles(path)]
    assert len(texts) == 3
    for text in texts:
        assert text.startswith("face ")
        assert not set("<>{}\\\n\x1b") & set(text)

    table, _ = exported(folder, "bids", media)
    events = pandas.read_csv(table, sep="\t", na_values="n/a")
    assert len(events) == 6
    assert set(events[events.trial_type == "micro_expression"].label) == {escaped}
    assert "'=" in events[events.trial_type == "gap"].what.iloc[0][:2]


@pytest.mark.parametrize("to", FORMATS)
def test_a_second_export_gives_the_same_bytes(folder, to):
    before = {path: path.read_bytes() for path in exported(folder, to)}
    assert {path: path.read_bytes() for path in exported(folder, to)} == before
    assert sorted((folder.path / "out").iterdir()) == sorted(before)


@pytest.mark.parametrize("to", FORMATS)
def test_the_command_exports_all_videos(folder, capsys, to):
    assert main(["export", str(folder.path), "--to", to]) == 0
    files = list((folder.path / "exports" / to).iterdir())
    count = 4 if to == "bids" else 2
    assert len(files) == count
    assert f"{count} files in " in capsys.readouterr().out
    keys = [video.key for video in folder.done()]
    assert all(file.name.startswith(tuple(keys)) for file in files)


def test_the_command_finds_videos_that_were_moved(folder, tmp_path, capsys):
    source = Path(first(folder).source)
    manifest = folder.manifest
    for entry in manifest["videos"]:
        entry["source"] = f"elsewhere/{Path(entry['source']).name}"
    folder.manifest_path.write_text(json.dumps(manifest))
    out = tmp_path / "out"
    command = ["export", str(folder.path), "--to", "elan", "--out", str(out)]
    assert main(command) == 0
    assert "first talk.mp4 was not found" in capsys.readouterr().err
    assert main([*command, "--media", str(source.parent)]) == 0
    assert capsys.readouterr().err == ""
    (link,) = Eaf(str(out / f"{first(folder).key}.eaf")).get_linked_files()
    assert (out / link["RELATIVE_MEDIA_URL"]).resolve() == source.resolve()


def test_a_damaged_video_costs_no_other_one(folder, capsys):
    first(folder).log.write_bytes(b"{")
    assert main(["export", str(folder.path), "--to", "srt"]) == 2
    assert "1 of 2 videos could not be exported" in capsys.readouterr().err
    assert len(list((folder.path / "exports" / "srt").iterdir())) == 1


@pytest.mark.parametrize("to", ["elan", "srt"])
@pytest.mark.parametrize(
    "damage",
    [
        {"onset_s": None},
        {"onset_s": float("nan")},
        {"label": None, "face": "x"},
        {"confidence": None},
    ],
    ids=["no time", "no number", "no face", "no confidence"],
)
def test_damaged_records_are_an_input_error(folder, to, damage):
    change_records(
        first(folder), lambda r, _: r.update(damage) if r["type"] == "micro_expression" else None
    )
    with pytest.raises(InputError, match="run the archive again"):
        exported(folder, to)


def change_entries(folder, **change):
    manifest = folder.manifest
    for entry in manifest["videos"]:
        entry.update(change)
    folder.manifest_path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("to", ["elan", "srt"])
def test_a_source_that_no_disk_can_have_was_moved(folder, capsys, to):
    change_entries(folder, source="x" * 300 + ".mp4")
    assert main(["export", str(folder.path), "--to", to]) == 0
    assert "was not found" in capsys.readouterr().err


@pytest.mark.parametrize("live", [True, False], ids=["camera", "pictures"])
def test_what_is_no_file_is_neither_missed_nor_linked(folder, tmp_path, capsys, live):
    change_entries(folder, source="camera 0" if live else str(tmp_path), size=None, live=live)
    assert main(["export", str(folder.path), "--to", "elan"]) == 0
    assert capsys.readouterr().err == ""
    path = folder.path / "exports" / "elan" / f"{first(folder).key}.eaf"
    assert Eaf(str(path)).get_linked_files() == []


def test_a_folder_that_is_none_of_results_is_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--to", "elan"]) == 2
    assert "no results folder" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(folder, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    out = tmp_path / "file" / "out"
    assert main(["export", str(folder.path), "--to", "srt", "--out", str(out)]) == 2
    assert "cannot be written: Not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["elan", "textgrid"])
def test_without_pympi_the_remedy_is_named(folder, monkeypatch, to):
    monkeypatch.setitem(sys.modules, "pympi", None)
    with pytest.raises(InputError, match=r"pip install realtime-mer\[archive\]"):
        exported(folder, to)


REVIEWED = [
    (1300, 1600, "true, relabelled, moved: positive"),
    (2020, 2320, "added: negative"),
    (5100, 5400, "disputed: positive"),
]


def test_elan_has_what_was_reported_what_all_say_and_what_each_says(folder):
    write_reviews(folder)
    (path,) = exported(folder, "elan")
    tiers = tiers_of_elan(path)
    surprise, positive = (1200, 1500, "surprise"), (5100, 5400, "positive")
    assert tiers["micro-expression face 0"] == [surprise, positive]
    assert tiers["reviewed face 0"] == REVIEWED
    assert tiers["reviewed face 1"] == [(3000, 3300, "false: negative")]
    assert tiers["review of ana face 0"] == [
        REVIEWED[0],
        (2000, 2300, "added: negative"),
        (5100, 5400, "true: positive"),
    ]
    assert tiers["review of ben face 0"][1:] == [
        (2040, 2340, "added: negative"),
        (5100, 5400, "false: positive"),
    ]
    eaf = Eaf(str(path))
    votes = sorted(eaf.get_ref_annotation_data_for_tier("reviewed face 0: votes"))
    assert votes[1][2] == ("the program missed it; ana: added: negative; ben: added: negative")
    assert votes[2][2] == (
        "event 3, the program: positive; ana: true: positive; ben: false: positive"
    )
    assert eaf.get_parameters_for_tier("review of ana face 0")["ANNOTATOR"] == "ana"


def test_elan_needs_no_tier_for_each_where_one_alone_reviewed(folder):
    write_review(folder, "ana", (0, {}))
    (path,) = exported(folder, "elan")
    assert not [name for name in tiers_of_elan(path) if name.startswith("review of")]
    assert tiers_of_elan(path)["reviewed face 0"] == [(1200, 1500, "true: surprise")]


def test_exports_of_the_reviewed_have_what_was_agreed(folder):
    write_reviews(folder)
    agreed = [(1300, 1600, "positive"), (2020, 2320, "negative")]
    (path,) = exported(folder, "elan", agreed=True)
    tiers = tiers_of_elan(path)
    assert tiers["micro-expression face 0"] == agreed
    assert "micro-expression face 1" not in {n for n, found in tiers.items() if found}
    # The apex of the program stays where it is within the event.
    assert tiers["micro-expression face 0: phases"] == [
        (1300, 1350, "onset to apex"),
        (1350, 1600, "apex to offset"),
    ]
    assert tiers["reviewed face 0"] == REVIEWED
    (path,) = exported(folder, "textgrid", agreed=True)
    tiers = tiers_of_praat(path)
    assert tiers["micro-expression face 0"] == [(1.3, 1.6, "positive"), (2.02, 2.32, "negative")]
    assert tiers["micro-expression face 0: apex"] == [(1.35, "positive")]
    assert tiers["reviewed face 1"] == [(3.0, 3.3, "false: negative")]
    (path,) = exported(folder, "srt", agreed=True)
    assert [text for _, _, text in subtitles(path)] == [
        "face 0: positive (reviewed), 1.300 to 1.600 s",
        "face 0: negative (reviewed), 2.020 to 2.320 s",
    ]
    table, _ = exported(folder, "bids", agreed=True)
    events = pandas.read_csv(table, sep="\t", na_values="n/a")
    found = events[events.trial_type == "micro_expression"]
    assert found[["onset", "duration", "label"]].values.tolist() == [
        [1.3, 0.3, "positive"],
        [2.02, 0.3, "negative"],
    ]
    assert "missed_micro_expression" not in set(events.trial_type)


def test_bids_has_what_reviewers_say_of_each_event(folder):
    write_reviews(folder)
    table, sidecar = exported(folder, "bids")
    events = pandas.read_csv(table, sep="\t", na_values="n/a", dtype={"review": str})
    found = events[events.trial_type == "micro_expression"]
    assert list(found.review) == ["true", "false", "disputed"]
    assert list(found.reviewers) == ["ana, ben"] * 3
    assert list(found.onset) == [1.2, 3.0, 5.1]
    assert list(found.agreed_label) == ["positive", *[pytest.approx(float("nan"), nan_ok=True)] * 2]
    (missed,) = events[events.trial_type == "missed_micro_expression"].to_dict("records")
    assert [missed[name] for name in ("onset", "duration", "review", "agreed_label")] == [
        *(2.02, 0.3, "true", "negative"),
    ]
    described = json.loads(sidecar.read_text())
    assert set(described) == set(events.columns)
    assert set(described["trial_type"]["Levels"]) >= set(events.trial_type)


def test_subtitles_are_of_all_reports_unless_the_reviewed_are_asked_for(folder):
    write_reviews(folder)
    (path,) = exported(folder, "srt")
    # The label is the program's, so what reviewers say otherwise stands beside it.
    assert [(start, text) for start, _, text in subtitles(path)] == [
        (1200, "face 0: surprise (reviewed: positive), 1.200 to 1.500 s"),
        (3000, "face 1: negative 55 % (reviewed: false), 3.000 to 3.300 s"),
        (5100, "face 0: positive 75 % (reviewed: disputed), 5.100 to 5.400 s"),
    ]
    write_review(folder, "ana", (0, {}))
    write_review(folder, "ben", (1, {"verdict": "unsure"}))
    (path,) = exported(folder, "srt")
    assert [text for _, _, text in subtitles(path)] == [
        "face 0: surprise (reviewed), 1.200 to 1.500 s",
        "face 1: negative 55 % (reviewed: unsure), 3.000 to 3.300 s",
        "face 0: positive 75 %, 5.100 to 5.400 s",
    ]


def test_an_added_event_that_its_reviewer_calls_false_was_not_missed(folder):
    write_review(folder, "ana", (0, {}), (None, {"onset_s": 2.0, "offset_s": 2.3}))
    added = json.loads((folder.reviews / "ana.jsonl").read_text().splitlines()[1])
    with (folder.reviews / "ana.jsonl").open("a") as file:
        file.write(json.dumps(added | {"type": "decision", "n": 3, "verdict": "false"}) + "\n")
    table, _ = exported(folder, "bids")
    assert "missed_micro_expression" not in table.read_text()


@pytest.mark.parametrize("to", FORMATS)
def test_the_command_exports_what_was_agreed_and_says_what_it_leaves_out(folder, capsys, to):
    command = ["export", str(folder.path), "--to", to, "--reviewed"]
    assert main(command) == 2
    assert "nobody has reviewed" in capsys.readouterr().err
    write_reviews(folder)
    assert main(command) == 0
    # One is disputed, and nobody looked at the last one.
    assert "2 of 4 reported events are left out" in capsys.readouterr().err
