import dataclasses
import json
import os
import subprocess
import sys
import time

import av
import jsonschema
import pytest

from realtime_mer.archive import worker as module
from realtime_mer.archive.results_folder import VideoResult
from realtime_mer.archive.worker import Job, Worker
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.output.log import schema
from tests.sessions import EVENTS


def job(source, folder, **changes) -> Job:
    values = {
        "source": str(source),
        "key": "key",
        "folder": str(folder),
        "faces": 1,
        "sensitivity": None,
        "least_confidence": 0.0,
        "weights": str(CLASSIFIER),
        "spotter": str(SPOTTER),
        "landmarks": None,
        "frames": False,
    }
    return Job(**(values | changes))


def outcome_of(worker):
    until = time.monotonic() + 60
    while (outcome := worker.outcome()) is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    return outcome


def fake(monkeypatch, code):
    """Lets workers run this code in place of the real one, once it has read its job."""
    start = "import json, os, signal, sys, time; job = json.loads(sys.stdin.readline())\n"
    monkeypatch.setattr(module, "command", lambda: [sys.executable, "-S", "-c", start + code])


@pytest.fixture(scope="module")
def analysed(clip, tmp_path_factory) -> tuple:
    """What came of the clip with two events, and its results."""
    folder = tmp_path_factory.mktemp("worker") / "key.part"
    outcome = outcome_of(Worker(job(clip, folder, frames=True)))
    return outcome, VideoResult("key", folder, {"source": str(clip)})


def test_a_video_gets_a_log_of_what_was_found(analysed):
    outcome, video = analysed
    assert outcome.reason is None
    assert outcome.duration_s == pytest.approx(4.77, abs=0.01)
    assert outcome.events == len(video.events()) == len(EVENTS)
    for record in video.records():
        jsonschema.validate(record, schema())


def test_the_log_tells_nothing_of_the_moment(analysed):
    session, *_, summary = analysed[1].records()
    assert session["started_at"].startswith("1970-01-01T00:00:00")
    assert (summary["wall_s"], summary["latency_ms"]) == (0.0, {})


def test_each_event_has_a_clip_whose_frames_have_their_own_times(analysed):
    _, video = analysed
    for event in video.events():
        info = video.clip_info(event["number"])
        with av.open(str(video.clip(event["number"]))) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 224, 224)
            assert stream.codec_context.pix_fmt == "yuv420p"  # what browsers play
            times = [frame.time for frame in container.decode(stream)]
        assert times == pytest.approx([t - info["start_s"] for t in info["times_s"]], abs=0.001)
        assert info["times_s"][0] == pytest.approx(event["onset_s"] - 0.5, abs=0.04)
        # The second event ends with the video.
        assert info["times_s"][-1] == pytest.approx(min(event["offset_s"] + 0.5, 4.767), abs=0.04)
        assert [info[k] for k in ("onset_s", "apex_s", "offset_s")] == [
            event[k] for k in ("onset_s", "apex_s", "offset_s")
        ]


def test_a_clip_shows_the_registered_face_in_colour(analysed, astronaut_face):
    with av.open(str(analysed[1].clip(1))) as container:
        frame = next(container.decode(video=0))
    grey = frame.to_ndarray(format="gray")
    inner = slice(60, 180)
    assert abs(grey[inner, inner].astype(int) - astronaut_face.grey[inner, inner]).mean() < 12
    picture = frame.to_ndarray(format="bgr24").astype(int)
    assert (picture[..., 2] - picture[..., 0]).mean() > 10, "skin is red"


def test_arrows_point_where_the_skin_moved(analysed):
    arrows = analysed[1].clip_info(1)["arrows"]  # brows are raised
    assert 20 < len(arrows) <= 64
    brows = [dy for _, y, _, dy in arrows if 40 <= y <= 75]
    mouth = [abs(dy) for _, y, _, dy in arrows if y >= 170]
    assert min(brows) < -0.8
    assert max(mouth) < 0.5


def test_each_face_has_a_thumbnail(analysed):
    assert analysed[1].thumbnail(0).read_bytes()[:2] == b"\xff\xd8"


def test_the_table_of_frames_has_what_the_face_did(analysed):
    header, *rows = analysed[1].frames.read_text().splitlines()
    columns = header.split(",")
    assert len(rows) == 144
    jaw = [float(row.split(",")[columns.index("jawOpen")]) for row in rows]
    blink = [float(row.split(",")[columns.index("eyeBlinkLeft")]) for row in rows]
    assert max(jaw) < 0.3
    assert max(blink[81:90]) > max(blink[:75]) + 0.2, "the eyes are shut from 2.7 to 3.0 s"


def test_all_results_are_on_the_disk_before_they_count(tmp_path, monkeypatch):
    from realtime_mer.results import Summary
    from realtime_mer.session import recognizer, run

    kept = set()
    monkeypatch.setattr(module.os, "fsync", lambda fd: kept.add(os.fstat(fd).st_ino))
    monkeypatch.setattr(recognizer, "Recognizer", lambda *args, **options: None)

    def write(recognizer, sinks, note):
        (tmp_path / "part" / "faces").mkdir()
        for name in ("log.jsonl", "frames.csv", "faces/0.jpg"):
            (tmp_path / "part" / name).write_bytes(b"1")
        return Summary("end of source", 1, 1, 0, 1, 0.1, 0.0, 0)

    monkeypatch.setattr(run, "run", write)
    assert module.analyse(job("a.mp4", tmp_path / "part"), print).reason is None
    files = [path for path in (tmp_path / "part").rglob("*") if path.is_file()]
    assert kept == {path.stat().st_ino for path in files}


def test_a_broken_video_fails_with_its_reason(tmp_path):
    broken = tmp_path / "broken.avi"
    broken.write_bytes(b"no video")
    outcome = outcome_of(Worker(job(broken, tmp_path / "part")))
    assert "broken.avi cannot be opened as a video" in outcome.reason
    assert not outcome.is_disk


def test_a_video_that_was_cut_short_is_done_in_part_and_a_note_says_so(analysed, clip, tmp_path):
    data = clip.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: len(data) // 8])
    outcome = module.analyse(job(cut, tmp_path / "part"), print)
    assert outcome.in_part
    assert any("of 144 declared frames" in note for note in outcome.notes)
    assert not analysed[0].in_part


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed while it was opened (SIGSEGV)"),
        (
            "print(json.dumps({'time_s': 12.34}), flush=True); os.kill(os.getpid(), 9)",
            "crashed 12.3 s into the video (SIGKILL): perhaps memory ran out",
        ),
        ("sys.exit('no library\\x1b[2J')", r"status 1: no library\x1b[2J"),
        ("print('nonsense')", "with status 0"),
    ],
)
def test_a_worker_that_ends_without_a_word_is_told_by_how_it_ended(
    tmp_path, monkeypatch, code, reason
):
    fake(monkeypatch, code)
    assert reason in outcome_of(Worker(job("a.mp4", tmp_path / "part"))).reason


def test_a_worker_that_writes_without_end_to_standard_error_is_read(tmp_path, monkeypatch):
    fake(monkeypatch, "sys.stderr.write('x' * 10_000_000 + '\\nat last'); sys.exit(3)")
    assert "status 3: at last" in outcome_of(Worker(job("a.mp4", tmp_path / "part"))).reason


def test_killing_a_worker_ends_what_it_has_started(tmp_path, monkeypatch):
    fake(
        monkeypatch,
        "import subprocess\n"
        "p = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        "open(job['folder'], 'w').write(str(p.pid)); time.sleep(600)",
    )
    note = tmp_path / "pid"
    worker = Worker(job("a.mp4", note))
    until = time.monotonic() + 30
    while not (note.exists() and note.read_text()):
        assert time.monotonic() < until
        time.sleep(0.02)
    worker.kill("it hangs")
    assert outcome_of(worker).reason == "it hangs"
    while _runs(int(note.read_text())):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_worker_ends_when_nobody_waits_for_it(clip, tmp_path):
    process = subprocess.Popen(
        module.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    text = json.dumps(dataclasses.asdict(job(clip, tmp_path / "part")))
    process.stdin.write(text.encode() + b"\n")
    process.stdin.flush()
    assert "opened" in json.loads(process.stdout.readline())
    process.stdin.close()
    assert process.wait(60) == 1
    assert b"outcome" not in process.stdout.read()
    process.stdout.close()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_ctrl_c_in_the_terminal_is_not_for_workers(tmp_path, monkeypatch):
    fake(monkeypatch, "print(json.dumps({'time_s': os.getsid(0)}), flush=True); time.sleep(600)")
    worker = Worker(job("a.mp4", tmp_path / "part"))
    until = time.monotonic() + 30
    while not worker.time_s:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert worker.time_s != os.getsid(0)
    worker.kill("over")
    assert outcome_of(worker).reason == "over"
