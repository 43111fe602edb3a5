"""Every example runs as it stands, on a clip with a known micro-expression."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from tests.realtime_mer.output.web.viewers import analysis, event, serving, wait_for
from tests.sessions import FPS, frames_of, no_stage_runs, write_video

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def short_clip(clip, tmp_path_factory) -> Path:
    """The first 2.9 s of the clip, with its one micro-expression at 1.8 s."""
    path = tmp_path_factory.mktemp("examples") / "short.avi"
    return write_video(path, frames_of(clip)[: round(2.9 * FPS)])


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(EXAMPLES / name), *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def output_of(name: str, *arguments: object) -> list[str]:
    done = subprocess.run(
        command(name, *arguments), capture_output=True, text=True, timeout=120, env=environment()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_example_is_tested():
    tested = {"plain_loop.py", "own_frames.py", "fastapi_page.py", "notebook.ipynb"}
    tested |= {"live_client.py"}
    assert {p.name for p in EXAMPLES.iterdir() if p.is_file()} == tested | {"marker_loop.py"}


def test_plain_loop(short_clip):
    (line,) = output_of("plain_loop.py", short_clip)
    assert line.startswith("1.8")
    assert "surprise" in line


def test_own_frames(short_clip):
    event, total = output_of("own_frames.py", short_clip)
    assert event.startswith("1.8")
    assert event.endswith("surprise")
    assert total == f"{round(2.9 * FPS)} pictures"


def test_marker_loop(short_clip):
    lines = output_of("marker_loop.py", short_clip)
    assert lines[0] == "stimulus 1"
    (marker,) = [line for line in lines if line.startswith("marker")]
    assert marker.startswith("marker surprise at 1.8")


def test_fastapi_page_sends_events_as_they_come(short_clip):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(command("fastapi_page.py", short_clip, port), env=environment())
    try:
        deadline = time.monotonic() + 60
        page = None
        while page is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
            time.sleep(0.1)
        assert page is not None
        assert b"EventSource" in page
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/events", timeout=60) as stream:
            message = stream.readline().decode()
        record = json.loads(message.removeprefix("data: "))
        assert (record["type"], record["label"]) == ("micro_expression", "surprise")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)


def test_live_client_prints_events_as_they_come():
    with serving() as view:
        client = subprocess.Popen(
            command("live_client.py", view.url),
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for(lambda: view._server._api._streams)
            view.update(analysis(1, [event(1.8)]))
            assert client.stdout.readline() == "1.80 s: surprise\n"
        except BaseException:
            client.kill()
            raise
    # The session is over, and so is the client.
    assert client.wait(60) == 0


def test_notebook_cells_may_be_run_ten_times(short_clip, monkeypatch):
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    shell = InteractiveShell()
    monkeypatch.setenv("REALTIME_MER_SOURCE", str(short_clip))
    for _ in range(10):
        for cell in cells:
            result = shell.run_cell(cell)
            assert result.success, result.error_in_exec
        assert result.result.label.tolist() == ["surprise"]
        # The source is free again, and nothing goes on behind the notebook's back.
        assert no_stage_runs()
