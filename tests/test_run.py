"""The program as its users start it: a separate process, judged by what it leaves behind."""

import contextlib
import csv
import http.server
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest

from realtime_mer.demo import clip as demo
from realtime_mer.demo.clip import DemoTruth, HiddenEvent, make_demo_clip
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.output.log import schema
from realtime_mer.results import Interval
from realtime_mer.spotting.matching import overlap

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and devices are POSIX's")

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "run.py"
# The ways to start it, with their names in messages. The third is pip's script for the entry point.
DOORS = {
    "run.py": [str(RUN)],
    "python -m realtime_mer": ["-m", "realtime_mer"],
    "realtime-mer": ["-c", "import sys; from realtime_mer.cli import main; sys.exit(main())"],
}
LOG = jsonschema.Draft202012Validator(schema())
HIDDEN = HiddenEvent(Interval(1.80, 1.97, 2.17), "surprise", ("AU1", "AU2"), 2.6)
# It takes half a second. Whatever waits for a thread or a socket in vain takes 5 s or more.
AT_ONCE_S = 4.0


def start(*arguments, door: str = "run.py", **options) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    environment |= options.pop("env", {})
    command = [sys.executable, *DOORS[door], *map(str, arguments)]
    return subprocess.Popen(command, env=environment, **options)


def finish(process: subprocess.Popen, timeout_s: float = 60) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def write_video(path: Path, frames, codec: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 30, (64, 48))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def grey(count: int) -> list[np.ndarray]:
    return [np.full((48, 64, 3), k % 256, np.uint8) for k in range(count)]


def records(path: Path) -> list[dict]:
    """The records of a complete log, each of which fits the schema."""
    text = path.read_text()
    assert text.endswith("\n")
    found = [json.loads(line) for line in text.splitlines()]
    for record in found:
        LOG.validate(record)
    assert (found[0]["type"], found[-1]["type"]) == ("session", "summary")
    return found


def told(log: Path) -> list[dict]:
    """The records of a log; what could be seen depends on the spotter's card."""
    return [record for record in records(log) if record["type"] != "visibility"]


def wait_until_logged(process: subprocess.Popen, log: Path, text: str, timeout_s=60) -> None:
    deadline = time.monotonic() + timeout_s
    while not (log.exists() and text in log.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{text!r} never came"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """2.8 s with one micro-expression."""
    path = tmp_path_factory.mktemp("run") / "one event.avi"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_plan", lambda rng: DemoTruth((HIDDEN,), (), 30, 84))
        make_demo_clip(path)
    return path


# A normal run


@pytest.fixture(scope="module")
def normal(clip, tmp_path_factory):
    """All outputs, a piped stdout, no display, and a torch that ends who imports it."""
    folder = tmp_path_factory.mktemp("normal")
    (folder / "trap").mkdir()
    (folder / "trap" / "torch.py").write_text("raise SystemExit('torch was imported')\n")
    files = {o: folder / f"out.{o}" for o in ("jsonl", "csv", "json", "mp4")}
    arguments = [clip, "--log", files["jsonl"], "--csv", files["csv"], "--stats", files["json"]]
    process = start(
        *arguments, "--output", files["mp4"], env={"PYTHONPATH": str(folder / "trap")}, cwd=folder
    )
    return finish(process), files


def test_run_without_a_display_says_so_in_one_line_and_continues(normal):
    (status, out, _), _ = normal
    assert status == 0
    assert [line for line in out.splitlines() if "window" in line] == [
        "note: no window: there is no display"
    ]


def test_stderr_is_free_of_native_chatter_and_torch_is_not_imported(normal):
    (status, _, err), _ = normal
    assert (status, err) == (0, "")


def test_piped_output_is_plain_lines(normal):
    (_, out, _), _ = normal
    assert re.search(r"[^\n -~]", out) is None
    lines = out.splitlines()
    assert "one event.avi (640 x 480, 30 fps, 84 frames), " in lines[0]
    assert "ended by: end of source" in lines
    assert "micro-expressions: 1 (1 " in out


def test_event_is_found_and_logged_in_the_form_of_the_design(normal, clip):
    _, files = normal
    session, event, summary = told(files["jsonl"])
    card = json.loads(CLASSIFIER.with_suffix(".json").read_text())
    # The others depend on the spotter's card.
    optional = ("limit_px", "spotting_score", "least_sensitivity")
    assert [key for key in event if key not in optional] == [
        *("type", "face", "onset_s", "apex_s", "offset_s", "label", "confidence"),
        *("probabilities", "intensity_px", "onset_frame", "apex_frame", "offset_frame"),
        *("regions", "action_units"),
        *("reported_s", "source", "model"),
    ]
    assert (event["type"], event["face"]) == ("micro_expression", 0)
    found = Interval(event["onset_s"], event["apex_s"], event["offset_s"])
    assert overlap(found, HIDDEN.interval) >= 0.5
    assert found.offset_s < event["reported_s"] < found.offset_s + 0.5
    assert list(event["probabilities"]) == card["labels"]
    assert sum(event["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert event["probabilities"][event["label"]] == event["confidence"]
    assert event["confidence"] == max(event["probabilities"].values())
    assert (event["source"], event["model"]) == (str(clip), card["name"])
    assert (session["type"], session["live"], session["fps"]) == ("session", False, 30.0)
    assert (summary["type"], summary["reason"], summary["events"]) == (
        *("summary", "end of source"),
        1,
    )
    assert summary["frames_read"] == summary["frames_analysed"] == 84


def test_table_statistics_and_video_agree_with_the_log(normal):
    _, files = normal
    _, event, summary = told(files["jsonl"])
    (row,) = csv.DictReader(files["csv"].open())
    for key in ("onset_s", "apex_s", "offset_s", "confidence", "intensity_px", "reported_s"):
        assert float(row[key]) == event[key]
    assert row["label"] == event["label"]
    stats = json.loads(files["json"].read_text())
    for key in ("frames_read", "frames_analysed", "frames_dropped"):
        assert stats[key] == summary[key]
    for key, latency_ms in summary["latency_ms"].items():
        assert stats["end_to_end_ms"][key] == latency_ms > 0
    assert stats["stages_ms"]["classify"]["count"] == 1
    video = cv2.VideoCapture(str(files["mp4"]))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 84
    video.release()


# How it ends


def test_signals_in_the_middle_of_a_file_end_it_with_complete_logs(tmp_path):
    video = write_video(tmp_path / "long.avi", grey(9000))
    ways = {
        "ctrl_c": [signal.SIGINT],
        "kill": [signal.SIGTERM],
        "twice": [signal.SIGINT, signal.SIGINT],
    }
    # One after the other: at once, they would slow each other down.
    for name, signals in ways.items():
        outputs = [tmp_path / f"{name}.{o}" for o in ("jsonl", "csv", "json", "mp4")]
        log, table, stats, picture = outputs
        options = zip(("--log", "--csv", "--stats", "--output"), outputs, strict=True)
        process = start(video, "--headless", *itertools.chain(*options))
        wait_until_logged(process, log, "\n")
        time.sleep(0.3)
        sent_at = time.monotonic()
        for number in signals:
            process.send_signal(number)
            time.sleep(0.02)
        status, out, err = finish(process)
        assert time.monotonic() - sent_at < AT_ONCE_S
        assert (status, err) == (0, "")
        assert "ended by: stopped by user" in out
        session, summary = told(log)
        assert (session["type"], summary["type"]) == ("session", "summary")
        assert summary["reason"] == "stopped by user"
        assert 0 < summary["frames_analysed"] < 9000
        assert table.read_text().count("\n") == 1
        assert json.loads(stats.read_text())["frames_analysed"] == summary["frames_analysed"]
        # Every analysed frame, except those that Ctrl-C kept from being shown.
        written = cv2.VideoCapture(str(picture)).get(cv2.CAP_PROP_FRAME_COUNT)
        assert 0 <= summary["frames_analysed"] - written <= 2
    assert not list(tmp_path.glob(".*"))


def test_closed_pipe_does_not_end_the_log(clip, tmp_path):
    """As `run.py ... | head -1`: the event's line meets a closed pipe."""
    log = tmp_path / "log.jsonl"
    process = start(clip, "--headless", "--log", log)
    assert "one event.avi" in process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert (process.wait(60), err) == (0, "")
    assert [r["type"] for r in told(log)] == ["session", "micro_expression", "summary"]
    assert records(log)[-1]["frames_analysed"] == 84


# Live


class StreamHandler(http.server.BaseHTTPRequestHandler):
    """Motion JPEG at 30 fps, as a network camera sends it: the clip, or small grey pictures."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        pictures = self.server.clip if "clip" in self.path else itertools.cycle(self.server.grey)
        with contextlib.suppress(OSError):
            next_at = time.monotonic()
            for data in pictures:
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                next_at += 1 / 30
                time.sleep(max(0.0, next_at - time.monotonic()))


def jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@pytest.fixture(scope="module")
def camera(clip):
    """Address of a network camera on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StreamHandler)
    server.daemon_threads = True
    server.grey = [jpeg(picture) for picture in grey(10)]
    video, server.clip = cv2.VideoCapture(str(clip)), []
    while (read := video.read())[0]:
        server.clip.append(jpeg(read[1]))
    video.release()
    # Half a second of stillness before it begins, which the decoder may consume for probing.
    server.clip[:0] = server.clip[:1] * 15
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://admin:hunter2@127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_live_stream_is_analysed_as_it_comes(camera, tmp_path):
    for attempt in range(3):
        log = tmp_path / f"log {attempt}.jsonl"
        status, out, err = finish(
            start(f"{camera}/clip?token=s3cr3t", "--headless", "--no-reconnect", "--log", log)
        )
        assert (status, err) == (0, "")
        session, *events, summary = told(log)
        # While the machine stands still no frames come: then this was no test of the program.
        if not any(record.get("reason") == "no frames" for record in events):
            break
    assert (session["live"], session["frame_count"]) == (True, 0)
    (event,) = events
    # Of a live source, the event has dates: as far from the session's as the clock says.
    started, onset = (
        datetime.fromisoformat(text) for text in (session["started_at"], event["onset_at"])
    )
    assert (onset - started).total_seconds() == pytest.approx(event["onset_s"], abs=0.002)
    # The clock starts with the first picture that the decoder lets through.
    assert 1.2 < event["onset_s"] < 3.0
    length_s = event["offset_s"] - event["onset_s"]
    assert length_s == pytest.approx(HIDDEN.interval.length_s, rel=0.5)
    assert event["offset_s"] < event["reported_s"] < event["offset_s"] + 1
    assert (summary["reason"], summary["events"]) == ("end of source", 1)
    assert summary["frames_read"] == summary["frames_analysed"] + summary["frames_dropped"]
    assert summary["frames_read"] > 60
    assert 2.2 < summary["duration_s"] < 4
    for secret in ("admin", "hunter2", "s3cr3t"):
        assert secret not in out + log.read_text()


def test_ctrl_c_ends_a_live_stream_at_once(camera, tmp_path):
    log = tmp_path / "log.jsonl"
    process = start(f"{camera}/grey", "--headless", "--log", log)
    wait_until_logged(process, log, "\n")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    sent_at = time.monotonic()
    status, _, err = finish(process)
    assert time.monotonic() - sent_at < AT_ONCE_S
    assert (status, err) == (0, "")
    session, summary = records(log)
    assert session["live"] is True
    assert (summary["reason"], summary["frames_with_face"]) == ("stopped by user", 0)
    assert summary["frames_analysed"] > 0


@pytest.fixture
def silent_port():
    """Accepts and says nothing, HTTP and RTSP alike."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "https", "rtsp"])
def test_ctrl_c_ends_the_wait_for_a_server_that_never_answers(scheme, silent_port, tmp_path):
    log = tmp_path / "log.jsonl"
    process = start(f"{scheme}://127.0.0.1:{silent_port}/live", "--headless", "--log", log)
    time.sleep(4)  # the libraries load, and the wait begins
    process.send_signal(signal.SIGINT)
    sent_at = time.monotonic()
    assert finish(process)[::2] == (0, "")
    assert time.monotonic() - sent_at < AT_ONCE_S
    assert not log.exists() or log.read_text() == ""


def test_stream_that_ends_is_opened_again_and_log_and_terminal_say_so(camera, tmp_path):
    log = tmp_path / "log.jsonl"
    process = start(f"{camera}/clip", "--headless", "--log", log)
    # The stream ends every few seconds. A machine that stands still right before that makes a gap
    # of its own there; then the next loss is looked at.
    wait_until_logged(process, log, '"source lost"')
    process.send_signal(signal.SIGINT)
    status, out, err = finish(process)
    assert (status, err) == (0, "")
    of_type = {kind: [] for kind in ("status", "gap")}
    for record in records(log):
        of_type.setdefault(record["type"], []).append(record)
    changes = [change["status"] for change in of_type["status"]]
    assert changes[:2] == ["reconnecting", "recovered"]
    gap = next(g for g in of_type["gap"] if g["reason"] == "source lost")
    pairs = itertools.pairwise(of_type["status"])
    lost, back = next(pair for pair in pairs if pair[1]["time_s"] == gap["end_s"])
    assert (lost["status"], back["status"]) == ("reconnecting", "recovered")
    assert gap["start_s"] <= lost["time_s"] < back["time_s"]
    lines = out.splitlines()
    for change in ("reconnecting", "recovered"):
        told = [line for line in lines if line.endswith(f"  source {change}")]
        assert len(told) == changes.count(change)
        assert all(line.startswith("0:") for line in told)


# Doors


@pytest.mark.parametrize("door", DOORS)
def test_errors_and_usage_have_the_name_it_was_started_by(door, tmp_path):
    folder = {"cwd": ROOT}
    processes = [
        start("gone.mp4", door=door, **folder),
        start("--faces", "0", door=door, **folder),
        start("--help", door=door, **folder),
    ]
    (missing, wrong, usage) = (finish(process) for process in processes)
    assert missing[0] == wrong[0] == 2
    assert missing[2].startswith(f"{door}: gone.mp4 does not exist")
    assert wrong[2].startswith(f"{door}: argument --faces")
    assert wrong[2].endswith(f"(see {door} --help)\n")
    assert usage[1].startswith(f"usage: {door} ")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("library", ["cv2", "onnxruntime", "mediapipe"])
def test_ctrl_c_while_libraries_load_is_silent(door, library, tmp_path):
    """A library that presses Ctrl-C when it is imported stands in for a slow one."""
    (tmp_path / f"{library}.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGINT)\nraise SystemExit('not interrupted')\n"
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    process = start("clip.mp4", "--headless", door=door, env=environment, cwd=ROOT)
    assert finish(process) == (0, "", "")


# A poor system


@pytest.mark.parametrize(
    ("limit", "word"), [("v 524288", "memory"), ("n 10", "open files"), ("v 1048576", "memory")]
)
def test_a_limit_that_would_make_libraries_abort_is_named(limit, word):
    shell = ["bash", "-c", f'ulimit -{limit}; exec "$0" "$@"', sys.executable, str(RUN), "x.mp4"]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"run.py: the limit of {word} is too low")
    assert done.stderr.count("\n") == 1


def test_closed_standard_streams_do_not_end_up_in_the_log(tmp_path):
    """The next file that is opened would get the number of the closed one, and all that is said."""
    video, log = write_video(tmp_path / "grey.avi", grey(30)), tmp_path / "log.jsonl"
    closed = ["bash", "-c", 'exec "$0" "$@" <&- >&- 2>&-', sys.executable, str(RUN)]
    command = [*closed, str(video), "--headless", "--log", str(log)]
    assert subprocess.run(command, timeout=60).returncode == 0
    assert [r["type"] for r in records(log)] == ["session", "summary"]


def test_a_crash_of_a_native_library_leaves_its_last_words(tmp_path):
    """A library that aborts in place of starting stands in for one that runs out of something."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'realtime_mer.face.search':\n"
        "            from realtime_mer.face import native\n"
        "            with native.silenced_stderr():\n"
        "                os.write(2, b'terminate called: std::bad_alloc\\n')\n"
        "                os.abort()\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    process = start("clip.mp4", "--headless", env={"PYTHONPATH": str(tmp_path)}, cwd=ROOT)
    status, _, err = finish(process)
    assert status == -signal.SIGABRT
    assert "terminate called: std::bad_alloc" in err
    assert "Aborted" in err


# Bad input


def spoilt(folder: Path, name: str, spoil) -> Path:
    """A copy of the classifier's weights and their card, spoilt by a function."""
    path = folder / name
    shutil.copy(CLASSIFIER, path)
    shutil.copy(CLASSIFIER.with_suffix(".json"), path.with_suffix(".json"))
    spoil(path)
    return path


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def card_of_the_spotter(path: Path) -> None:
    shutil.copy(SPOTTER.with_suffix(".json"), path.with_suffix(".json"))


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def text_file(folder: Path) -> Path:
    path = folder / "text.mp4"
    path.write_text("this is no video\n" * 100)
    return path


def without_index(folder: Path) -> Path:
    whole = write_video(folder / "whole.mp4", grey(60), codec="mp4v").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    return folder / "cut.mp4"


def empty_file(folder: Path) -> Path:
    (folder / "empty.avi").touch()
    return folder / "empty.avi"


def empty_folder(folder: Path) -> Path:
    (folder / "nothing here").mkdir()
    return folder / "nothing here"


def good(folder: Path) -> Path:
    return write_video(folder / "good.avi", grey(8))


# Name: a function from an empty folder to the arguments, and words of the message.
BAD = {
    "missing file": (lambda f: ["gone.mp4"], ["gone.mp4 does not exist", "Check"]),
    "text file": (lambda f: [text_file(f)], ["text.mp4", "convert"]),
    "cut before its index": (lambda f: [without_index(f)], ["cut.mp4", "cut short"]),
    "no frames": (
        lambda f: [write_video(f / "none.mp4", [], codec="mp4v")],
        ["none.mp4 has no video in it", "Name a video file"],
    ),
    "empty file": (lambda f: [empty_file(f)], ["empty.avi is an empty file", "again"]),
    "empty folder": (lambda f: [empty_folder(f)], ["nothing here", "Name a folder of frames"]),
    "absent camera": (lambda f: ["77"], ["camera 77", "--demo"]),
    "refused address": (
        lambda f: [f"http://admin:hunter2@127.0.0.1:{closed_port()}/live"],
        ["127.0.0.1", "Check the address"],
    ),
    "log in no folder": (lambda f: [good(f), "--log", "no/log.jsonl"], ["no/log.jsonl", "Make it"]),
    "log is a folder": (lambda f: [good(f), "--log", f], ["is a folder", "Name a file"]),
    "video of no format": (lambda f: [good(f), "--output", "x.gif"], ["x.gif", ".mov or .mkv"]),
    "output is the source": (
        lambda f: [good(f), "--output", f / "good.avi"],
        ["good.avi is also the source", "another file"],
    ),
    "corrupt weights": (
        lambda f: [good(f), "--weights", spoilt(f, "bit.onnx", flip_one_bit)],
        ["bit.onnx", "SHA-256", "restore"],
    ),
    "weights without a card": (
        lambda f: [
            *(good(f), "--weights"),
            spoilt(f, "bare.onnx", lambda p: p.with_suffix(".json").unlink()),
        ],
        ["bare.json is missing", "restore"],
    ),
    "card of other weights": (
        lambda f: [good(f), "--weights", spoilt(f, "mixed.onnx", card_of_the_spotter)],
        ["mixed.json", "restore"],
    ),
    "other landmark model": (
        lambda f: [good(f), "--landmarks", good(f)],
        ["good.avi is not the published face landmark model", "give the published file"],
    ),
    "no number of faces": (lambda f: [good(f), "--faces", "0"], ["--faces", "1 to 16"]),
    "option of a camera": (
        lambda f: [good(f), "--camera-size", "640x480"],
        ["--camera-size is for cameras", "good.avi", "Leave it out"],
    ),
}


def tried(folder: Path, make) -> tuple[tuple[int, str, str], dict[str, bytes], dict[str, bytes]]:
    """Status and output of a run, and the files of its folder before and after."""
    folder.mkdir()
    arguments = make(folder)
    # Earlier results, which a run that never begins must not touch.
    for option, name in (("--log", "old.jsonl"), ("--csv", "old.csv"), ("--stats", "old.json")):
        (folder / name).write_text("precious\n")
        if option not in arguments:
            arguments += [option, name]

    def files() -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    before = files()
    answer = finish(start(*arguments, "--headless", cwd=folder), timeout_s=120)
    return answer, before, files()


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """All of them, a few at a time: most of their time is loading libraries."""
    folder = tmp_path_factory.mktemp("bad")
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        jobs = {
            name: pool.submit(tried, folder / name.replace(" ", "_"), make)
            for name, (make, _) in BAD.items()
        }
        return {name: job.result() for name, job in jobs.items()}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_with_a_remedy_and_touches_nothing(answers, name):
    (status, out, err), before, after = answers[name]
    assert (status, out) == (2, "")
    assert err.startswith("run.py: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    for word in BAD[name][1]:
        assert word in err
    for secret in ("hunter2", "admin"):
        assert secret not in err
    assert after == before


def test_truncated_video_is_analysed_to_its_end(tmp_path):
    whole = write_video(tmp_path / "whole.avi", grey(60)).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 3])
    log = tmp_path / "log.jsonl"
    status, out, err = finish(start(tmp_path / "cut.avi", "--headless", "--log", log))
    assert (status, err) == (0, "")
    analysed = records(log)[-1]["frames_analysed"]
    assert 1 <= analysed < 40
    assert f"cut.avi ended after {analysed} of 60 declared frames" in out
