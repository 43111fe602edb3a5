"""The command line in this process; test_run.py starts processes."""

import csv
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime_mer.cli import main
from realtime_mer.command import demo as demo_command
from realtime_mer.demo import clip as demo
from realtime_mer.demo.clip import DemoTruth, HiddenEvent
from realtime_mer.results import Interval

HIDDEN = HiddenEvent(Interval(1.80, 1.97, 2.17), "surprise", ("AU1", "AU2"), 2.6)


def refused(arguments, capfd) -> str:
    """The one line on stderr about arguments that cannot be used."""
    try:
        status = main([str(a) for a in arguments])
    except SystemExit as leaving:
        status = leaving.code
    out, err = capfd.readouterr()
    assert (status, out) == (2, "")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert err.startswith("realtime-mer: ")
    return err


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--help"])
    assert leaving.value.code == 0
    text = capsys.readouterr().out
    for option in ("--demo", "--headless", "--log", "--csv", "--output", "--faces", "--providers"):
        assert option in text
    for option in ("--weights", "--spotter", "--landmarks", "--stats", "--fps", "--version"):
        assert option in text
    assert "--least-confidence" in text


# Sources


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["0", "--fps", "30"], ["--fps is for recordings", "camera 0 come live"]),
        (["http://10.0.0.2/live", "--fps", "30"], ["--fps is for recordings"]),
        (["{video}", "--no-reconnect"], ["--no-reconnect", "faceless.avi is a recording"]),
        (["{folder}", "--no-reconnect"], ["--no-reconnect", "is a recording"]),
        (["{video}", "--camera-size", "1280x720"], ["--camera-size", "faceless.avi is none"]),
        (["{folder}", "--camera-fps", "30"], ["--camera-fps", "is none"]),
        (["http://10.0.0.2/live", "--camera-fps", "30"], ["--camera-fps is for cameras"]),
        (["77"], ["camera 77", "--demo needs no camera"]),
        (["no such video.mp4"], ["no such video.mp4 does not exist"]),
    ],
)
def test_source_and_its_options_have_to_go_together(arguments, words, tmp_path, faceless, capfd):
    arguments = [a.format(video=faceless, folder=tmp_path) for a in arguments]
    message = refused([*arguments, "--headless"], capfd)
    for word in words:
        assert word in message


def test_frame_rate_replaces_a_video_s_own_times(tmp_path, faceless, capfd):
    log = tmp_path / "log.jsonl"
    assert main([str(faceless), "--headless", "--fps", "120", "--log", str(log)]) == 0
    session, summary = (json.loads(line) for line in log.read_text().splitlines())
    assert session["fps"] == 120
    assert summary["duration_s"] == pytest.approx(29 / 120, abs=1e-3)


@pytest.mark.parametrize(
    "arguments",
    [
        ["gopher://admin:hunter2@10.0.0.2/live"],
        ["rtsp://admin:hunter2@10.0.0.2/live?token=s3cr3t", "--fps", "25"],
        ["rtsp://admin:hunter2@10.0.0.2/live?token=s3cr3t", "--camera-fps", "25"],
    ],
)
def test_credentials_are_never_shown(arguments, capfd):
    message = refused(arguments, capfd)
    assert "10.0.0.2" in message
    for secret in ("admin", "hunter2", "s3cr3t"):
        assert secret not in message


# Outputs


def test_outputs_are_checked_before_the_demo_clip_is_made(tmp_path, monkeypatch, capfd):
    def make(*args, **kwargs):
        raise AssertionError("outputs come first")

    monkeypatch.setattr(demo_command, "make_demo_clip", make)
    message = refused(["--demo", "--headless", "--log", tmp_path / "no" / "log.jsonl"], capfd)
    assert "log.jsonl" in message


@pytest.mark.parametrize("option", ["--log", "--csv", "--stats", "--output"])
def test_output_that_is_the_source_is_refused(option, tmp_path, faceless, capfd):
    """Also under another name."""
    other = tmp_path / "link.avi"
    other.symlink_to(faceless)
    before = faceless.read_bytes()
    message = refused([faceless, "--headless", option, other], capfd)
    assert "link.avi is also the source" in message
    assert faceless.read_bytes() == before


def test_one_file_for_two_outputs_is_refused(tmp_path, faceless, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    message = refused([faceless, "--log", "x", "--csv", tmp_path / "." / "x"], capfd)
    assert "another output" in message
    assert not (tmp_path / "x").exists()


def test_video_without_a_face_gives_empty_well_formed_results(tmp_path, faceless, capfd):
    files = {o: tmp_path / f"out.{o}" for o in ("jsonl", "csv", "json", "mp4")}
    arguments = [faceless, "--headless", "--log", files["jsonl"], "--csv", files["csv"]]
    arguments += ["--stats", files["json"], "--output", files["mp4"]]
    assert main([str(a) for a in arguments]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "micro-expressions: 0" in out
    session, summary = (json.loads(line) for line in files["jsonl"].read_text().splitlines())
    assert (session["type"], session["source"]) == ("session", str(faceless))
    assert (summary["type"], summary["reason"]) == ("summary", "end of source")
    assert (summary["events"], summary["frames_analysed"]) == (0, 30)
    assert summary["frames_with_face"] == 0
    (header,) = csv.reader(files["csv"].open())
    assert header[:5] == ["face", "onset_s", "apex_s", "offset_s", "label"]
    stats = json.loads(files["json"].read_text())
    assert (stats["frames_read"], stats["frames_analysed"], stats["frames_dropped"]) == (30, 30, 0)
    assert stats["end_to_end_ms"]["count"] == 30
    video = cv2.VideoCapture(str(files["mp4"]))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 30
    video.release()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["faceless.avi", *(f.name for f in files.values())]
    )


def test_broken_picture_in_a_folder_ends_the_run_with_complete_logs(tmp_path, capfd):
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(6):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((48, 64, 3), 90, np.uint8))
    (folder / "4.png").write_bytes(b"no picture")
    log = tmp_path / "log.jsonl"
    assert main([str(folder), "--headless", "--fps", "25", "--log", str(log)]) == 2
    err = capfd.readouterr().err
    assert "4.png" in err
    assert err.count("\n") == 1
    session, summary = (json.loads(line) for line in log.read_text().splitlines())
    assert session["fps"] == 25.0
    assert summary["frames_analysed"] == 4
    assert "4.png" in summary["reason"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_disk_gives_one_line_and_no_other_output_is_begun(tmp_path, faceless, capfd):
    table, stats = tmp_path / "log.csv", tmp_path / "stats.json"
    arguments = [faceless, "--headless", "--csv", table, "--stats", stats, "--log", "/dev/full"]
    assert main([str(a) for a in arguments]) == 2
    err = capfd.readouterr().err
    assert "/dev/full cannot be written: No space left" in err
    assert err.count("\n") == 1
    assert not table.exists()
    assert not stats.exists()


# The demo


def test_demo_prints_what_was_hidden_and_what_was_found(tmp_path, monkeypatch, capfd):
    truth = DemoTruth((HIDDEN,), (), 30, 84)
    monkeypatch.setattr(demo, "_plan", lambda rng: truth)
    log = tmp_path / "log.jsonl"
    assert main(["--demo", "--headless", "--log", str(log)]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "1 of 1 found" in out
    assert "0 false" in out
    assert "AU1+AU2" in out
    assert "\x1b" not in out
    records = [json.loads(line) for line in log.read_text().splitlines()]
    (event,) = (record for record in records[1:-1] if record["type"] != "visibility")
    assert event["type"] == "micro_expression"
    assert event["label"] in out
    # The clip was deleted with its folder.
    assert not Path(event["source"]).parent.exists()


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://admin:hunter2@10.0.0.2/x.mp4",
        "http://10.0.0.2/user=admin_password=hunter2/x.mp4",
        "admin:hunter2@10.0.0.2/x.mp4",
    ],
)
@pytest.mark.parametrize(
    "option",
    [
        *("--log", "--csv", "--stats", "--output", "--serve"),
        *("--weights", "--spotter", "--landmarks"),
    ],
)
def test_an_address_in_place_of_a_file_shows_no_password(
    option, address, faceless, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    message = refused([str(faceless), "--headless", option, address], capfd)
    assert "hunter2" not in message
    assert list(tmp_path.iterdir()) == [faceless]
