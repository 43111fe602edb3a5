"""An archive on a real Ray cluster of several nodes, all on this machine."""

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from realtime_mer.archive import run as run_module
from realtime_mer.archive import worker
from realtime_mer.archive.inputs import find_inputs
from realtime_mer.archive.results_folder import ResultsFolder
from realtime_mer.errors import InputError

ray = pytest.importorskip("ray")
fsspec = pytest.importorskip("fsspec")

# Stands for the analysis: what it does goes by the name of the video.
WORKER = """
import json, os, signal, sys, threading, time
job = json.loads(sys.stdin.readline())
parent = os.getppid()
def leave():
    os.read(0, 1)
    os._exit(1)
threading.Thread(target=leave, daemon=True).start()
place = PLACE
name = os.path.basename(job["shown"] or job["source"])
def tell(**message):
    print(json.dumps(message), flush=True)
tell(opened={"duration_s": 10.0, "frames": 300})
with open(place + "/started", "a") as file:
    file.write(name + "\\n")
with open(place + "/pids", "a") as file:
    file.write(f"{os.getpid()}\\n")
if name.startswith("deadly"):
    os.kill(parent, signal.SIGKILL)
    time.sleep(60)
if name.startswith("crash"):
    os.kill(os.getpid(), signal.SIGSEGV)
if name.startswith("wait"):
    until = time.monotonic() + 90
    while not os.path.exists(place + "/go") and time.monotonic() < until:
        time.sleep(0.05)
if name.startswith("broken"):
    tell(outcome={"reason": job["source"] + " is no video"})
else:
    with open(job["source"], "rb") as file:
        content = file.read().decode()
    os.makedirs(job["folder"])
    lines = [
        {"type": "session", "source": job["shown"] or job["source"], "content": content},
        {"type": "summary", "events": 0, "duration_s": 10.0},
    ]
    with open(job["folder"] + "/log.jsonl", "w") as log:
        log.writelines(json.dumps(line) + "\\n" for line in lines)
    tell(outcome={"reason": None, "duration_s": 10.0, "events": 0})
"""

HOOK = """
import sys
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

def setup():
    from realtime_mer.archive import worker
    worker.command = lambda: [sys.executable, "-S", "-c", CODE]

class FakeS3(DirFileSystem):
    protocol = "s3"
    def __init__(self, **options):
        super().__init__(path=BUCKETS, fs=LocalFileSystem())
    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("s3://")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where what stands for the analysis looks and writes; its modules are every process's."""
    folder = tmp_path_factory.mktemp("place")
    code = f"PLACE = {str(folder)!r}\n{WORKER}"
    constants = f"CODE = {code!r}\nBUCKETS = {str(folder / 'buckets')!r}\n"
    modules = folder / "modules"
    (modules / "fake-1.dist-info").mkdir(parents=True)
    (modules / "ray_test_hook.py").write_text(constants + HOOK)
    (modules / "fake-1.dist-info/METADATA").write_text("Name: fake\nVersion: 1\n")
    (modules / "fake-1.dist-info/entry_points.txt").write_text(
        "[fsspec.specs]\ns3 = ray_test_hook:FakeS3\n"
    )
    return folder


@pytest.fixture(scope="module")
def cluster(place):
    from ray._private import services
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(place / "modules"))
        patch.syspath_prepend(str(place / "modules"))
        import ray_test_hook

        fsspec.register_implementation("s3", ray_test_hook.FakeS3, clobber=True)
        small = {"object_store_memory": 80_000_000, "include_dashboard": False}
        handler = signal.getsignal(signal.SIGTERM)
        # It would ask the network what cloud this is, and tell its makers.
        patch.setattr(services, "start_api_server", lambda *arguments, **named: ("", None))
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **small})
        made.add_node(num_cpus=2, **small)
        ray.init(
            address=made.address,
            log_to_driver=False,
            runtime_env={"worker_process_setup_hook": "ray_test_hook.setup"},
        )
        signal.signal(signal.SIGTERM, handler)
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def talks(cluster, place, tmp_path, monkeypatch):
    """An empty folder of videos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_module, "_LOCK_WAIT_S", 30.0)
    for name in ("started", "pids", "go"):
        (place / name).unlink(missing_ok=True)
    (tmp_path / "talks").mkdir()
    return tmp_path / "talks"


def videos(folder, *names) -> list[str]:
    for name in names:
        (folder / name).write_text(name)
    return find_inputs(["talks"], [], "results")


def on_cluster(inputs, results="results", **options):
    from realtime_mer.archive import cluster

    said = io.StringIO()
    progress = cluster.archive(inputs, results, console=Console(file=said, width=400), **options)
    return progress, said.getvalue()


def on_one_machine(inputs, place, monkeypatch, results="local"):
    code = f"PLACE = {str(place)!r}\n{WORKER}"
    monkeypatch.setattr(worker, "command", lambda: [sys.executable, "-S", "-c", code])
    run_module.archive(inputs, results, console=Console(file=io.StringIO()))


def entries(results="results") -> dict[str, dict]:
    return {Path(e["source"]).name: e for e in ResultsFolder(results).manifest["videos"]}


def started(place) -> list[str]:
    file = place / "started"
    return file.read_text().split() if file.exists() else []


def is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition) -> None:
    until = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def contents(folder) -> dict[str, bytes]:
    """All files of some results but the manifest and the table of videos, which have times of day,
    and the report, which names the folder."""
    varying = ("manifest.json", ".lock", "report.html")
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name not in varying
    }


def test_results_are_those_of_one_machine_and_a_bad_video_costs_itself_only(
    talks, place, monkeypatch
):
    from realtime_mer.archive import cluster

    monkeypatch.setattr(cluster, "MOST_LOST", 2)  # each costs a process of Ray
    videos(talks, "a.mp4", "broken.mp4", "crash.mp4", "deadly.mp4", "z.mp4")
    (talks / "copy.mp4").write_text("a.mp4")
    os.mkfifo(talks / "pipe.mp4")  # who opened it would wait for ever
    inputs = find_inputs(["talks"], [], "results")
    progress, said = on_cluster(inputs)
    assert (progress.done, progress.failed, progress.duplicates) == (2, 4, 1)
    reasons = {name: entry["reason"] for name, entry in entries().items()}
    assert reasons["broken.mp4"] == "talks/broken.mp4 is no video"
    assert reasons["crash.mp4"].endswith("(SIGSEGV)")
    assert reasons["deadly.mp4"].startswith("its task was lost 2 times, at last because its proc")
    assert reasons["pipe.mp4"] == "it is no regular file"
    assert started(place).count("deadly.mp4") == 2
    assert "talks/copy.mp4 has the content of talks/a.mp4: done once" in said
    assert not list(Path("results/videos").glob("*.part"))
    # What kills its parent kills the archive of one machine, too.
    harmless = [path for path in inputs if "deadly" not in path]
    on_one_machine(harmless, place, monkeypatch)
    monkeypatch.undo()
    monkeypatch.chdir(talks.parent)
    on_cluster(harmless, "cluster")
    assert contents("cluster") == contents("local")
    # Either goes on with what the other has done.
    (place / "started").unlink()
    assert on_cluster(harmless, "local")[0].unchanged == 2
    assert started(place) == []


def test_what_a_dead_node_was_at_is_done_elsewhere(talks, place, cluster):
    node = cluster.add_node(num_cpus=2, object_store_memory=80_000_000)
    inputs = videos(talks, *(f"wait{n}.mp4" for n in range(8)))
    told = []
    thread = threading.Thread(target=lambda: told.append(on_cluster(inputs)))
    thread.start()
    wait_until(lambda: len(started(place)) == 5)
    cluster.remove_node(node, allow_graceful=False)
    # Its processes notice that only after a while.
    wait_until(lambda: sum(is_alive(pid) for pid in (place / "pids").read_text().split()) == 3)
    (place / "go").touch()
    thread.join(90)
    ((progress, _),) = told
    assert (progress.done, progress.failed) == (8, 0)
    # One node had two.
    assert len(started(place)) == 10
    assert [e["attempts"] for e in entries().values()] == [1] * 8
    assert len(list(Path("results/videos").iterdir())) == 8


PROGRAM = """
import sys
import ray
ray.init(
    address=sys.argv[1],
    log_to_driver=False,
    runtime_env={"worker_process_setup_hook": "ray_test_hook.setup"},
)
sys.argv[1:] = ["archive", *sys.argv[2:], "--ray", sys.argv[1]]
from realtime_mer.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_archive_that_is_stopped_or_killed_goes_on(talks, place, cluster, number):
    inputs = videos(talks, "a.mp4", "wait.mp4", "z.mp4")
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), cluster.address]
    process = subprocess.Popen(
        [*command, "talks", "--results", "results"], stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: "wait.mp4" in started(place) and is_done("a.mp4") and is_done("z.mp4"))
    process.send_signal(number)
    said, _ = process.communicate(timeout=90)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "1 not yet done" in said
        assert not list(Path("results/videos").glob("*.part"))
    (place / "go").touch()
    progress, _ = on_cluster(inputs)
    assert (progress.unchanged, progress.done) == (2, 1)
    assert [e["state"] for e in entries().values()] == ["done"] * 3
    assert not list(Path("results/videos").glob("*.part"))


def is_done(name) -> bool:
    try:
        return entries().get(name, {}).get("state") == "done"
    except InputError:
        return False


def test_videos_on_shared_storage_are_copied_for_as_long_as_needed(talks, place):
    bucket = place / "buckets" / "interviews"
    (bucket / "monday").mkdir(parents=True)
    for name in ("a.mp4", "broken.mp4", "notes.txt"):
        (bucket / "monday" / name).write_text(name)
    inputs = find_inputs(["s3://interviews/monday"], [], "results", stored=True)
    assert inputs == ["s3://interviews/monday/a.mp4", "s3://interviews/monday/broken.mp4"]
    for done, unchanged in ((1, 0), (0, 1)):
        progress, said = on_cluster(inputs)
        assert (progress.done, progress.unchanged, progress.failed) == (done, unchanged, 1)
    assert started(place) == ["a.mp4", "broken.mp4"] or started(place) == ["broken.mp4", "a.mp4"]
    assert "s3://interviews/monday/broken.mp4 is no video" in said
    (video,) = ResultsFolder("results").done()
    session = video.records()[0]
    assert session["source"] == "s3://interviews/monday/a.mp4"
    assert session["content"] == "a.mp4"
    from realtime_mer.archive import node

    assert not list(node._own_folder().glob("*copy-*"))


def test_a_node_that_would_give_other_results_stops_the_archive(talks, monkeypatch):
    from realtime_mer.archive import cluster

    other = cluster.program() | {"version": "0.0.1"}
    monkeypatch.setattr(cluster, "program", lambda: other)
    with pytest.raises(InputError, match=r"instead of 0\.0\.1.*install the same on all nodes"):
        on_cluster(videos(talks, "a.mp4"))
    assert [e["state"] for e in entries().values()] in ([], ["waiting"])


def test_no_more_tasks_are_under_way_than_asked_for(talks, place):
    inputs = videos(talks, *(f"wait{n}.mp4" for n in range(3)))
    thread = threading.Thread(target=lambda: on_cluster(inputs, jobs=1))
    thread.start()
    wait_until(lambda: started(place))
    time.sleep(1.0)
    assert len(started(place)) == 1
    (place / "go").touch()
    thread.join(90)
    assert len(started(place)) == 3


def test_a_cluster_of_its_own_gives_the_results_of_the_real_analysis(faceless, tmp_path):
    """In a process of its own, which is connected to no cluster. Nothing else is left behind."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"}
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-m", "realtime_mer", "archive", faceless.name]
    for results, option in (("ray", ["--ray", "--jobs", "1"]), ("local", [])):
        subprocess.run(
            [*command, "--results", results, *option],
            check=True,
            cwd=tmp_path,
            env=environment,
            timeout=200,
            stdout=subprocess.DEVNULL,
        )
        assert [*(tmp_path / "home").rglob("*"), *(tmp_path / "tmp").rglob("*")] == []
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    with (tmp_path / "ray/manifest.json").open() as file:
        assert [e["state"] for e in json.load(file)["videos"]] == ["done"]


def test_a_cluster_that_is_not_there_is_told(tmp_path, monkeypatch):
    from realtime_mer.archive import cluster

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match=r"no cluster 127\.0\.0\.1:1: .*refused"):
        cluster.archive(["a.mp4"], tmp_path / "results", address="127.0.0.1:1")
    assert not (tmp_path / "results").exists()
