import csv
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from realtime_mer.archive import run as archive_run
from realtime_mer.archive import session_results as module
from realtime_mer.archive.clips import EventClips
from realtime_mer.archive.manifest import Manifest
from realtime_mer.archive.results_folder import ENDED_EARLY, ResultsFolder
from realtime_mer.archive.run import Settings, locked_folder
from realtime_mer.archive.session_results import SessionResults
from realtime_mer.errors import InputError
from realtime_mer.output.log import schema
from realtime_mer.results import Analysis, ClockOrigin, FaceState, Session, Summary
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.session.run import run
from realtime_mer.source.frame import Frame
from tests.results import PROGRAM, SETTINGS, event, make_results
from tests.sessions import EVENTS

RUN = Path(__file__).resolve().parents[3] / "run.py"
STARTED = datetime(2026, 1, 31, 9, 30, 15, 250_000, UTC)
MATRIX = np.array([[2.0, 0, 0], [0, 2.0, 0]])
POINTS = np.zeros((478, 2), np.float32)


@pytest.fixture
def described(monkeypatch):
    """The real ones read all weights."""
    monkeypatch.setattr(Settings, "to_dict", lambda self: {"faces": self.faces, "sensitivity": 1.0})


def analysis(time_s, *events, sensitivity=1.0) -> Analysis:
    image = np.full((112, 112, 3), 100, np.uint8)
    frame = Frame(round(30 * time_s), time_s, image, 0.0)
    state = FaceState(0, POINTS, 0.0, quality=0.5, matrix=MATRIX)
    return Analysis(frame, faces=(state,), events=events, sensitivity=sensitivity)


def begun(path, live=True, notes=None) -> SessionResults:
    results = SessionResults(path, Settings(), note=([] if notes is None else notes).append)
    origin = ClockOrigin(0.0, STARTED.timestamp())
    results.begin(Session("camera 0", live, (112, 112), 30.0, 0, "m", "CPU", ("negative",), origin))
    return results


def summary(events=0, reason="stopped by user") -> Summary:
    return Summary(reason, 90, 90, 0, 90, 3.0, 3.1, events)


def only(path) -> dict:
    (entry,) = ResultsFolder(path).manifest["videos"]
    return entry


def rows(path) -> list[dict]:
    return list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))


# A whole session of a recording


@pytest.fixture(scope="module")
def recorded(clip, tmp_path_factory) -> ResultsFolder:
    path = tmp_path_factory.mktemp("session") / "results"
    results = SessionResults(path, Settings(), source=str(clip))
    run(Recognizer(clip), [results])
    results.close()
    return ResultsFolder(path)


def test_a_session_is_an_entry_with_log_clips_and_thumbnails(recorded, clip):
    (video,) = recorded.done()
    entry = video.entry
    assert (entry["source"], entry["size"]) == (str(clip), clip.stat().st_size)
    assert (entry["live"], entry["events"], len(entry["sha256"])) == (False, len(EVENTS), 64)
    assert entry["duration_s"] == pytest.approx(4.77, abs=0.01)
    assert video.key.startswith("eventful-20")
    for record in video.records():
        jsonschema.validate(record, schema())
    for found in video.events():
        info = video.clip_info(found["number"])
        assert video.clip(found["number"]).stat().st_size > 1000
        assert info["times_s"][0] == pytest.approx(found["onset_s"] - 0.5, abs=0.04)
    assert video.thumbnail(0) is not None


def test_the_log_tells_the_real_time(recorded):
    (video,) = recorded.done()
    session, *_, end = video.records()
    started = datetime.fromisoformat(session["started_at"])
    assert abs((datetime.now(UTC) - started).total_seconds()) < 3600
    assert session["started_at"] == video.entry["started_at"]
    assert end["wall_s"] > 0


def test_the_tables_have_the_session(recorded):
    (video,) = recorded.done()
    (row,) = rows(recorded.table("videos"))
    assert (row["video"], row["state"], row["sha256"]) == (video.key, "done", video.entry["sha256"])
    assert [r["clip"] for r in rows(recorded.table("events"))] == [
        f"videos/{video.key}/events/000{number}.mp4" for number in (1, 2)
    ]


# Live sessions


def test_no_credentials_of_a_stream_reach_the_results(camera_server, tmp_path):
    url = camera_server(25).url.replace("//", "//ana:opensesame@") + "live?token=opensesame"
    results = SessionResults(tmp_path, Settings(), source=url)
    run(Recognizer(url, reconnect=False), [results])
    results.close()
    entry = only(tmp_path)
    assert (entry["live"], entry["state"], entry["sha256"]) == (True, "done", None)
    assert entry["key"].startswith("http-127.0.0.1-")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert "opensesame" not in path.name
        assert b"opensesame" not in path.read_bytes()


@pytest.mark.usefixtures("described")
@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_a_session_that_is_killed_is_told_and_keeps_its_log(camera_server, tmp_path):
    url = camera_server(5, freezes=True).url
    command = [sys.executable, str(RUN), url, "--headless", "--results", tmp_path / "results"]
    command += ["--log", tmp_path / "beside.jsonl", "--record-events", tmp_path / "recordings"]
    folder = ResultsFolder(tmp_path / "results")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while not (folder.manifest_path.exists() and folder.manifest["videos"]):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.05)
        assert only(folder.path)["state"] == "running"
        assert list(folder.done()) == []
        process.send_signal(signal.SIGKILL)
    (video,) = folder.done()
    assert video.entry["notes"] == [ENDED_EARLY]
    with video.log.open("ab") as log:
        log.write(b'{"type": "gap", "fa')  # what a power cut leaves
    assert video.records()[0]["type"] == "session"
    # The next session writes tables over both.
    results = begun(folder.path)
    results.end(summary())
    results.close()
    states = {row["video"]: (row["state"], row["notes"]) for row in rows(folder.table("videos"))}
    assert states == {video.key: ("done", ENDED_EARLY), results.key: ("done", "")}


# Speed, memory and disks


@pytest.mark.usefixtures("described")
def test_slow_clips_neither_hold_up_a_camera_nor_get_wrong_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_WAITING_BYTES", 3 * 112 * 112 * 3)
    going_on = module.threading.Event()
    update = EventClips.update

    def slow(self, analysis):
        going_on.wait(30)
        update(self, analysis)

    monkeypatch.setattr(EventClips, "update", slow)
    notes = []
    results = begun(tmp_path, notes=notes)
    for k in range(30):
        results.update(analysis(k / 30))
    # It comes while there is no room, and so its clip lacks pictures.
    results.update(analysis(1.0, event(0.6, "negative", 0.8)))
    assert results._bytes <= 3 * 112 * 112 * 3
    going_on.set()
    while results._waiting:
        time.sleep(0.001)
    for k in range(31, 100):
        results.update(analysis(k / 30, *([event(2.0, "negative", 0.7)] if k == 80 else [])))
        while results._waiting:
            time.sleep(0.001)
    results.end(summary(events=2))
    (video,) = ResultsFolder(tmp_path).done()
    assert len(video.events()) == 2
    assert len(video.clip_info(1)["times_s"]) < 20
    assert video.clip_info(2)["onset_s"] == 2.0
    (lacking,) = video.entry["notes"]
    assert lacking.startswith("the clips lack 2")
    assert lacking in notes


@pytest.mark.usefixtures("described")
def test_a_recording_waits_for_its_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_WAITING_BYTES", 1)
    results = begun(tmp_path, live=False)
    for k in range(80):
        found = [event(1.0, "negative", 0.8)] if k == 50 else []
        results.update(analysis(k / 30, *found))
    results.end(summary(1, "end of source"))
    (video,) = ResultsFolder(tmp_path).done()
    assert len(video.clip_info(1)["times_s"]) == pytest.approx(39, abs=1)
    assert video.entry["notes"] == []


@pytest.mark.usefixtures("described")
def test_a_disk_that_takes_no_clips_costs_clips_alone(tmp_path):
    notes = []
    results = begun(tmp_path, notes=notes)
    place = tmp_path / "videos" / results.key / "events"
    place.rmdir()
    place.write_bytes(b"")
    for k in range(80):
        results.update(analysis(k / 30, *([event(1.0, "negative", 0.8)] if k == 50 else [])))
    with pytest.raises(InputError, match="1 clip or thumbnail could not be written"):
        results.end(summary(1))
    results.close()
    assert any("The analysis goes on." in note for note in notes)
    (row,) = rows(tmp_path / "events.csv")
    assert (row["onset_s"], row["clip"]) == ("1.0", "")
    assert "could not be written" in only(tmp_path)["notes"][0]


# Others in the same folder


@pytest.mark.usefixtures("described")
def test_two_sessions_at_once_have_a_folder_each(tmp_path):
    both = [begun(tmp_path), begun(tmp_path)]
    assert [r.key for r in both] == ["camera-0-20260131T093015Z", "camera-0-20260131T093015Z-2"]
    assert [e["state"] for e in ResultsFolder(tmp_path).manifest["videos"]] == ["running"] * 2
    for results in both:
        results.end(summary())
        results.close()
    assert [e["state"] for e in ResultsFolder(tmp_path).manifest["videos"]] == ["done"] * 2
    assert len(rows(tmp_path / "videos.csv")) == 2


@pytest.mark.usefixtures("described")
def test_an_archive_and_a_session_leave_each_other_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_run, "_LOCK_WAIT_S", 0.1)
    folder = make_results(tmp_path / "results")
    before = folder.manifest["videos"]
    notes = []
    with locked_folder(folder):
        manifest = Manifest(folder, PROGRAM, SETTINGS)
        results = begun(folder.path, notes=notes)
        results.update(analysis(0.0))
        results.end(summary())
        results.close()
        manifest.write(now=True)
    assert any("it writes the tables when it ends" in note for note in notes)
    *archived, session = folder.manifest["videos"]
    assert [e["key"] for e in archived] == [e["key"] for e in before]
    assert (session["key"], session["state"]) == (results.key, "done")
    # Nothing of it is written where the archive keeps its own.
    assert results.key not in folder.manifest_path.read_text()


@pytest.mark.usefixtures("described")
def test_each_session_has_its_own_settings_in_the_tables(tmp_path):
    folder = make_results(tmp_path / "results")
    manifest = json.loads(folder.manifest_path.read_text())
    manifest["settings"]["sensitivity"] = 3.0
    folder.manifest_path.write_text(json.dumps(manifest))
    results = begun(folder.path)
    results.update(analysis(0.0))
    results.update(analysis(1.5, sensitivity=0.5))
    results.end(summary())
    results.close()
    row = next(r for r in rows(folder.table("videos")) if r["video"] == results.key)
    assert json.loads(row["settings_json"]) == {"faces": 1, "sensitivity": 1.0}
    assert (row["sensitivity"], row["notes"]) == ("1.0", "from 1.5 s on, the sensitivity was 0.5")


@pytest.mark.usefixtures("described")
def test_a_folder_of_pictures_has_no_size_and_no_hash(tmp_path):
    (tmp_path / "frames").mkdir()
    source = str(tmp_path / "frames")
    results = SessionResults(tmp_path / "results", Settings(), source=source)
    results.begin(Session(source, False, (112, 112), 30.0, 0, "m", "CPU", ("negative",)))
    results.end(summary())
    entry = only(tmp_path / "results")
    assert (entry["source"], entry["size"], entry["sha256"]) == (source, None, None)


@pytest.mark.usefixtures("described")
def test_a_disk_that_is_full_at_the_start_leaves_no_half_manifest(tmp_path):
    resource = pytest.importorskip("resource", reason="limits are POSIX's")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        with pytest.raises(InputError, match="cannot be written"):
            SessionResults(tmp_path, Settings())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    SessionResults(tmp_path, Settings())
    assert ResultsFolder(tmp_path).manifest["videos"] == []


@pytest.mark.usefixtures("described")
def test_what_cannot_be_a_results_folder_is_refused_before_anything_is_read(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written"):
        SessionResults(file, Settings())
    (tmp_path / "manifest.json").write_text('{"name": "an extension of a browser"}')
    with pytest.raises(InputError, match="is no results folder"):
        SessionResults(tmp_path, Settings())
