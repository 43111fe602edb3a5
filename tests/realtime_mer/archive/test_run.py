import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from rich.console import Console

from realtime_mer import cli
from realtime_mer.archive import display, limits, worker
from realtime_mer.archive import run as module
from realtime_mer.archive.inputs import find_inputs
from realtime_mer.archive.limits import time_limit_s
from realtime_mer.archive.results_folder import ResultsFolder
from realtime_mer.archive.run import Settings, archive
from realtime_mer.errors import InputError
from realtime_mer.model_file import CLASSIFIER

# Stands for the analysis: what it does goes by the name of the video.
WORKER = """
import json, os, signal, sys, threading, time
job = json.loads(sys.stdin.readline())
def leave():
    os.read(0, 1)
    os._exit(1)
threading.Thread(target=leave, daemon=True).start()
name = os.path.basename(job["source"])
def tell(**message):
    print(json.dumps(message), flush=True)
tell(opened={"duration_s": 10.0, "frames": 300})
with open(os.environ["STARTED"], "a") as file:
    file.write(name + "\\n")
if name.startswith("crash"):
    tell(time_s=1.5)
    os.kill(os.getpid(), signal.SIGSEGV)
if name.startswith("hang"):
    tell(time_s=2.5)
    time.sleep(600)
if name.startswith("endless"):
    for step in range(100000):
        tell(time_s=float(step))
        time.sleep(0.01)
if name.startswith("greedy"):
    much = b"x" * (100 << 20)
    time.sleep(600)
if name.startswith("slow"):
    time.sleep(float(os.environ.get("SLOW_S", 0.1)))
if name.startswith("broken"):
    tell(outcome={"reason": "it is no video"})
elif name.startswith("fills"):
    tell(outcome={"reason": "No space left on device", "is_disk": True})
else:
    os.makedirs(job["folder"])
    lines = [
        {"type": "session", "source": job["source"], "fps": 30.0, "width": 64, "height": 48},
        {"type": "summary", "events": 0, "duration_s": 10.0},
    ]
    with open(job["folder"] + "/log.jsonl", "w") as log:
        log.writelines(json.dumps(line) + "\\n" for line in lines)
    done = {"reason": None, "duration_s": 10.0, "events": 0, "in_part": name.startswith("cut")}
    tell(outcome=done)
"""


@pytest.fixture
def started(tmp_path, monkeypatch) -> Path:
    """Replaces the analysis; the file has the names of the videos that were begun."""
    monkeypatch.setattr(worker, "command", lambda: [sys.executable, "-S", "-c", WORKER])
    monkeypatch.setenv("STARTED", str(tmp_path / "started"))
    monkeypatch.setattr(module, "_LOCK_WAIT_S", 0.1)
    monkeypatch.setattr(module, "_POLL_S", 0.01)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "started"


def videos(*names, folder="talks") -> list[str]:
    Path(folder).mkdir(exist_ok=True)
    for name in names:
        Path(folder, name).write_text(name)
    return find_inputs([folder], [], "results")


def run(inputs, **options):
    said = io.StringIO()
    options = {"jobs": 2, **options}
    progress = archive(inputs, "results", console=Console(file=said, width=400), **options)
    return progress, said.getvalue()


def states() -> dict[str, str]:
    manifest = ResultsFolder("results").manifest
    return {Path(e["source"]).name: e["state"] for e in manifest["videos"]}


def reasons() -> dict[str, str]:
    manifest = ResultsFolder("results").manifest
    return {Path(e["source"]).name: e["reason"] for e in manifest["videos"]}


def names(started) -> list[str]:
    return started.read_text().split() if started.exists() else []


def contents(folder: Path) -> dict[str, bytes]:
    """All files of some results but the manifest, which has times of day, and the report, which
    names the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", ".lock", "report.html")
    }


def test_each_bad_video_costs_itself_only_and_is_told_with_its_reason(started, monkeypatch):
    monkeypatch.setattr(limits, "SILENT_S", 3.0)
    monkeypatch.setattr(limits, "time_limit_s", lambda size, frames: 4.0)
    monkeypatch.setattr(limits, "most_memory", lambda jobs: 60 << 20)
    videos("a.mp4", "broken.mp4", "crash.mp4", "endless.mp4", "greedy.mp4", "hang.mp4", "z.mp4")
    os.mkfifo("talks/pipe.mp4")  # who opened it would wait for ever
    progress, said = run(find_inputs(["talks"], [], "results"), jobs=8)
    assert (progress.done, progress.failed) == (2, 6)
    expected = {
        "a.mp4": None,
        "z.mp4": None,
        "broken.mp4": "it is no video",
        "crash.mp4": "the analysis crashed 1.5 s into the video (SIGSEGV)",
        "endless.mp4": "it took longer than 0 min",
        "hang.mp4": "nothing happened for 3 s, 2.5 s into the video",
        "greedy.mp4": "it took more than 0.1 GiB of memory",
        "pipe.mp4": "it is no regular file",
    }
    for name, reason in reasons().items():
        assert (reason is None) if expected[name] is None else reason.startswith(expected[name])
        if reason is not None:
            assert f"failed: talks/{name}: {reason}" in said
    assert not list(Path("results/videos").glob("*.part"))
    # The overview is there, and hides no failure.
    assert all(name in Path("results/report.html").read_text("utf-8") for name in expected)


def test_a_second_run_does_what_is_new_or_changed(started):
    run(videos("a.mp4", "b.mp4"))
    Path("talks/b.mp4").write_text("other content")
    started.unlink()
    progress, said = run(videos("c.mp4"))
    assert sorted(names(started)) == ["b.mp4", "c.mp4"]
    assert (progress.unchanged, progress.done) == (1, 2)
    assert "1 unchanged" in said
    assert states() == dict.fromkeys(("a.mp4", "b.mp4", "c.mp4"), "done")


def test_other_settings_do_all_again(started):
    inputs = videos("a.mp4")
    run(inputs)
    run(inputs, settings=Settings(faces=2))
    assert names(started) == ["a.mp4", "a.mp4"]
    assert ResultsFolder("results").manifest["settings"]["faces"] == 2


def test_a_kill_while_results_are_replaced_leaves_none_of_other_settings(started, monkeypatch):
    inputs = videos("a.mp4")
    run(inputs)
    told = []
    remove = shutil.rmtree

    def watch(path, **options):
        if not str(path).endswith(".part"):
            told.append(ResultsFolder("results").manifest["videos"][0])
        remove(path, **options)

    monkeypatch.setattr(module.shutil, "rmtree", watch)
    # As on a slow disk: nothing is written in between.
    monkeypatch.setattr("realtime_mer.archive.manifest._LEAST_S", 1000.0)
    run(inputs, settings=Settings(faces=2))
    assert [(entry["state"], entry["made_with"]) for entry in told] == [("running", None)]


def test_failed_ones_are_done_again_if_asked_to(started):
    inputs = videos("a.mp4", "broken.mp4")
    run(inputs)
    progress, said = run(inputs)
    assert sorted(names(started)) == ["a.mp4", "broken.mp4"]
    assert progress.failed == 1
    assert "it is no video (in an earlier run)" in said
    run(inputs, retry_failed=True)
    assert sorted(names(started)) == ["a.mp4", "broken.mp4", "broken.mp4"]


def test_a_content_is_done_once_and_that_is_said(started):
    inputs = videos("a.mp4")
    Path("talks/b.mp4").write_text("a.mp4")
    for _ in range(2):
        progress, said = run(find_inputs(["talks"], [], "results"))
        assert progress.duplicates == 1
        assert "talks/b.mp4 has the content of talks/a.mp4: done once" in said
    assert names(started) == ["a.mp4"]
    assert [e["source"] for e in ResultsFolder("results").manifest["videos"]] == inputs


def test_a_file_that_changes_while_it_is_read_is_not_trusted(started, monkeypatch):
    inputs = videos("a.mp4")
    monkeypatch.setattr(module, "modified", lambda path: (5, 0))
    run(inputs)
    assert "changed while it was read" in reasons()["a.mp4"]


def test_a_full_disk_stops_the_archive_and_blames_no_video(started):
    with pytest.raises(InputError, match=r"No space left.*run the same command again"):
        run(videos("a.mp4", "fills.mp4", "hang.mp4"))
    assert states()["fills.mp4"] == "waiting"
    assert states().get("hang.mp4") in (None, "waiting")


def test_a_video_whose_worker_cannot_be_started_waits(started, monkeypatch):
    monkeypatch.setattr(worker, "command", lambda: ["./absent"])
    with pytest.raises(OSError, match="absent"):
        run(videos("a.mp4"))
    assert states() == {"a.mp4": "waiting"}


def test_the_end_tells_how_many_videos_were_read_only_in_part(started):
    _, said = run(videos("a.mp4", "z.mp4"))
    assert "in part" not in said
    for _ in range(2):  # those of an earlier run, too
        _, said = run(videos("cut1.mp4", "cut2.mp4"))
        assert "2 of them could be read only in part" in said.splitlines()[-1]


def test_two_archives_do_not_work_in_one_folder(started):
    with (
        module.locked_folder(ResultsFolder("results")),
        pytest.raises(InputError, match="another archive works in results"),
    ):
        run(videos("a.mp4"))


def test_results_do_not_depend_on_the_number_of_workers(started):
    inputs = videos("a.mp4", "b.mp4", "broken.mp4", "slow.mp4", "z.mp4")
    archive(inputs, "one", jobs=1)
    archive(inputs, "four", jobs=4)
    one = contents(Path("one"))
    assert one == contents(Path("four"))
    assert sum(name.endswith("log.jsonl") for name in one) == 4


PROGRAM = """
import sys
from realtime_mer.archive import worker
code = {code!r}
worker.command = lambda: [sys.executable, "-S", "-c", code]
from realtime_mer.cli import main
sys.exit(main(sys.argv[1:]))
"""


def begun(*arguments) -> subprocess.Popen:
    """Starts the command in a process of its own."""
    program = textwrap.dedent(PROGRAM).format(code=WORKER)
    command = [sys.executable, "-c", program, "archive", *arguments]
    return subprocess.Popen(
        command, env=os.environ | {"SLOW_S": "30"}, stdout=subprocess.PIPE, text=True
    )


def wait_until(condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def is_told_done(name) -> bool:
    try:
        return states().get(name) == "done"
    except InputError:
        return False


def test_an_archive_that_is_killed_goes_on_with_the_same_results(started, monkeypatch):
    inputs = videos("a.mp4", "b.mp4", "slow.mp4", "z.mp4")
    process = begun("talks", "--results", "results", "--jobs", "1")
    wait_until(lambda: is_told_done("b.mp4") and "slow.mp4" in names(started))
    process.kill()
    process.wait()
    process.stdout.close()
    monkeypatch.setattr(module, "_LOCK_WAIT_S", 30.0)  # until its workers have ended
    progress, _ = run(inputs, jobs=1)
    assert (progress.unchanged, progress.done) == (2, 2)
    assert names(started) == ["a.mp4", "b.mp4", "slow.mp4", "slow.mp4", "z.mp4"]
    archive(inputs, "undisturbed", jobs=1)
    assert contents(Path("results")) == contents(Path("undisturbed"))


def test_ctrl_c_keeps_what_is_done(started):
    videos("a.mp4", "slow.mp4", "z.mp4")
    process = begun("talks", "--results", "results", "--jobs", "1")
    wait_until(lambda: "slow.mp4" in names(started))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "1/3 done: talks/a.mp4" in said
    assert "2 not yet done" in said
    assert "The same command goes on" in said
    assert states()["a.mp4"] == "done"
    assert states()["slow.mp4"] == "waiting"
    assert not list(Path("results/videos").glob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["talks/a.mp4"], 0),
        (["talks"], 1),
        (["talks/absent.mp4"], 2),
        (["talks", "--weights", "absent.onnx"], 2),
    ],
)
def test_the_exit_status_tells_whether_all_is_done(started, capsys, arguments, status):
    videos("a.mp4", "broken.mp4")
    assert cli.main(["archive", *arguments, "--results", "results"]) == status


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "results"], "nothing to do"),
        (["talks"], "--results"),
        (["talks", "--results", "r", "--jobs", "0"], "'0' is no number of videos"),
        (["talks", "--results", "r", "--settings", "absent.json"], "absent.json cannot be read"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(started, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["archive", *arguments])
    assert message in capsys.readouterr().err
    assert not Path("results").exists()


def test_a_file_named_archive_is_still_a_source(started, capsys):
    assert cli.main(["./archive", "--headless"]) == 2
    assert "archive does not exist" in capsys.readouterr().err


def test_the_time_limit_goes_by_length_or_else_by_size():
    two_hours = time_limit_s(2_000_000_000, 2 * 3600 * 30)
    assert 3600 * 24 < two_hours < 3600 * 48
    assert time_limit_s(1_000_000, 10**9) < 3600 * 3, "a header may lie"
    assert 300 < time_limit_s(1_000_000, None) < 1200
    assert time_limit_s(0, None) >= 300


def test_a_terminal_shows_what_runs_and_what_failed(started, monkeypatch):
    monkeypatch.setattr(display, "_EVERY_S", 0.0)
    said = io.StringIO()
    console = Console(file=said, width=120, force_terminal=True, color_system=None)
    archive(videos("a.mp4", "broken.mp4", "slow.mp4"), "results", jobs=1, console=console)
    shown = said.getvalue()
    assert "of 3 done" in shown
    assert "slow.mp4" in shown
    assert "failed: broken.mp4: it is no video" in shown
    assert "3 videos: 2 done, 1 failed" in shown


@pytest.mark.parametrize(("given", "kept"), [(None, 0.75), (0.5, 0.5)])
def test_settings_keep_the_least_confidence_that_counts(tmp_path, given, kept):
    weights = Path(shutil.copy(CLASSIFIER, tmp_path))
    card = json.loads(CLASSIFIER.with_suffix(".json").read_text(encoding="utf-8"))
    card["loso"] = {"least_confidence": {"value": 0.75}}
    weights.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    settings = Settings(weights=weights, least_confidence=given)
    assert settings.to_dict()["least_confidence"] == kept


def test_settings_in_a_file_count_as_if_they_were_given(started, capsys):
    videos("a.mp4")
    Path("settings.json").write_text(json.dumps({"sensitivity": 2.0}))
    arguments = ["archive", "talks", "--results", "results", "--settings", "settings.json"]
    assert cli.main(arguments) == 0
    assert ResultsFolder("results").manifest["settings"]["sensitivity"] == 2.0
