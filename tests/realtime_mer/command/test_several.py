"""The program with several sources: its outputs, its exit status, Ctrl-C."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import jsonschema
import pytest

from realtime_mer.cli import main
from realtime_mer.command.options import parse
from realtime_mer.command.recognize import Outputs
from realtime_mer.output import frame_memory
from realtime_mer.output.log import schema
from tests.sessions import records

ROOT = Path(__file__).parents[3]
LOG = jsonschema.Draft202012Validator(schema())


def test_all_outputs_are_about_all_sources(faceless, tmp_path, capsys):
    other = Path(shutil.copy(faceless, tmp_path / "other.avi"))
    log, table, video, stats, clips, results = (
        tmp_path / name for name in ("l.jsonl", "t.csv", "v.mp4", "s.json", "clips", "results")
    )
    outputs = ["--log", log, "--csv", table, "--output", video, "--stats", stats]
    outputs += ["--record-events", clips, "--results", results]
    assert main([faceless, "--headless", *outputs, other]) == 0
    names = [str(faceless), str(other)]
    first, *_, last = records(log)
    assert [source["source"] for source in first["sources"]] == names
    assert [(s["source"], s["frames_read"]) for s in last["sources"]] == [(n, 30) for n in names]
    for record in records(log):
        LOG.validate(record)
    assert next(csv.reader(table.open()))[0] == "face"
    # As many pictures as one of them has: they advance together.
    video = cv2.VideoCapture(str(video))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 30
    assert [s["source"] for s in json.loads(stats.read_text())["sources"]] == names
    entries = [json.loads(p.read_text()) for p in results.glob("videos/*/session.json")]
    assert sorted(entry["source"] for entry in entries) == sorted(names)
    assert all(entry["state"] == "done" for entry in entries)
    out = capsys.readouterr().out
    for name in ("faceless.avi", "other.avi"):
        assert f"{name}: 0 events, end of source" in out


def test_sources_that_cannot_be_used_are_named_and_nothing_is_begun(faceless, tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    for source, words in (
        (faceless, "is named twice: leave one out"),
        (tmp_path / "missing.avi", "missing.avi does not exist"),
        ("rtsp://127.0.0.1:9/live", "analyse them in two sessions"),
    ):
        assert main(["--headless", "--log", log, faceless, source]) == 2
        assert words in capsys.readouterr().err
        assert not log.exists() or not log.read_bytes()


def test_recorders_of_several_sources_take_together_what_one_may_take(monkeypatch):
    monkeypatch.setattr(frame_memory, "_memory_share", lambda: 300_000_000)
    sources = ["left.avi", "right.avi"]
    outputs = Outputs(parse(["--headless", *sources], "run.py"), sources)
    assert [recorder._memory.limit_bytes for recorder in outputs.recorders] == [150_000_000] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_ctrl_c_completes_the_log_of_all_cameras(camera_server, tmp_path):
    cameras = [camera_server(3000), camera_server(3000)]
    log = tmp_path / "log.jsonl"
    command = [sys.executable, str(ROOT / "run.py"), "--headless", "--log", str(log)]
    process = subprocess.Popen(
        [*command, *(camera.url for camera in cameras)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and log.read_bytes()):
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    first, *_, last = records(log)
    assert first["source"] == " + ".join(camera.url for camera in cameras)
    assert last["reason"] == "stopped by user"
    assert [source["reason"] for source in last["sources"]] == ["stopped by user"] * 2
    assert all(source["frames_read"] > 0 for source in last["sources"])
