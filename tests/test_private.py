"""Nothing leaves the machine: the sockets and written files of a run, as the kernel sees them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sessions import FPS, frames_of, write_video

ROOT = Path(__file__).resolve().parents[1]
STRACE = shutil.which("strace")
pytestmark = pytest.mark.skipif(STRACE is None, reason="strace is not installed")

SOCKETS = "socket,connect,bind,sendto,sendmsg,sendmmsg"
WRITES = "open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat"
PROGRAMS = "execve,execveat"
# Families whose packets stay in this kernel: UNIX sockets and netlink.
LOCAL = ("AF_UNIX", "AF_LOCAL", "AF_NETLINK")


def watched(
    tmp_path: Path, *arguments: str, timeout_s: float = 120
) -> tuple[list[str], list[str], set[str]]:
    """Runs the program under watch.

    Returns its calls that use a network, the files that it writes and the programs that it starts.

    HOME, TMPDIR and the working folder are empty folders of their own.
    """
    home, tmp, here = (tmp_path / name for name in ("home", "tmp", "here"))
    for folder in (home, tmp, here):
        folder.mkdir()
    trace = tmp_path / "trace"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(tmp),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [
            *(STRACE, "-f", "--seccomp-bpf", "-qq", "-s", "300", "-o", str(trace)),
            *("-e", f"trace={SOCKETS},{WRITES},{PROGRAMS}"),
            *(sys.executable, str(ROOT / "run.py"), "--headless", *arguments),
        ],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr
    calls = trace.read_text(errors="replace").splitlines()
    return list(network_calls(calls)), list(written_files(calls)), programs(calls)


def network_calls(calls: list[str]) -> Iterator[str]:
    """Calls that name an address outside this kernel, or open a socket that can reach one."""
    names = tuple(f"{name}(" for name in SOCKETS.split(","))
    for call in calls:
        text = call.split(maxsplit=1)[-1]
        if text.startswith(names) and not any(family in text for family in LOCAL):
            # A send on a connected socket names nobody: its connect is listed already.
            if text.startswith("send") and "sa_family=" not in text:
                continue
            yield text


def written_files(calls: list[str]) -> Iterator[str]:
    """Files that were opened for writing, made or renamed, without devices and the kernel's own."""
    for call in calls:
        text = call.split(maxsplit=1)[-1]
        name = text.partition("(")[0]
        if name not in WRITES.split(",") or " = -1 " in text:
            continue
        if name in ("open", "openat") and not re.search(r"O_(WRONLY|RDWR|CREAT)", text):
            continue
        if "O_TMPFILE" in text:  # has no name, and is gone when it is closed
            continue
        for path in re.findall(r'"([^"]*)"', text):
            if not path.startswith(("/dev/", "/proc/", "/sys/")):
                yield path


def programs(calls: list[str]) -> set[str]:
    """The programs that were started, or looked for to be started."""
    texts = (call.split(maxsplit=1)[-1] for call in calls)
    return {text.split('"')[1] for text in texts if text.startswith("execve")}


def left_behind(tmp_path: Path) -> list[Path]:
    """What lies in HOME, TMPDIR and the working folder after a run."""
    return [p for name in ("home", "tmp", "here") for p in (tmp_path / name).rglob("*")]


@pytest.fixture(scope="module")
def short_clip(clip, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("private") / "short.avi"
    return write_video(path, frames_of(clip)[: round(2.9 * FPS)])


def test_a_file_is_analysed_without_a_packet_and_writes_what_was_asked_for(short_clip, tmp_path):
    log = tmp_path / "events.jsonl"
    network, written, started = watched(tmp_path, str(short_clip), "--log", str(log))
    assert network == []
    # tail keeps what native libraries print, for a crash.
    assert started == {sys.executable, shutil.which("tail")}
    assert {path for path in written if not path.startswith(str(tmp_path / "tmp"))} == {str(log)}
    assert left_behind(tmp_path) == []


def test_the_demo_is_made_and_analysed_without_a_packet(tmp_path):
    network, written, _ = watched(tmp_path, "--demo", timeout_s=300)
    assert network == []
    assert all(path.startswith(str(tmp_path / "tmp")) for path in written)
    assert left_behind(tmp_path) == []


def test_a_stream_is_all_that_is_asked_for(camera_server, tmp_path):
    server = camera_server(count=60)
    network, _, _ = watched(tmp_path, server.url, "--no-reconnect")
    port = server.url.rstrip("/").rpartition(":")[2]
    addresses = [call for call in network if "sa_family=" in call]
    assert addresses
    assert all(f"htons({port})" in call and "127.0.0.1" in call for call in addresses)
    assert left_behind(tmp_path) == []


def test_the_watch_sees_a_look_up(tmp_path):
    """The test above can fail: a look-up of a name is seen."""
    trace = tmp_path / "trace"
    code = "import socket\ntry: socket.getaddrinfo('example.invalid', 80)\nexcept OSError: pass"
    command = [STRACE, "-f", "-qq", "-o", str(trace), "-e", f"trace={SOCKETS}"]
    subprocess.run([*command, sys.executable, "-c", code], check=True, timeout=60)
    assert list(network_calls(trace.read_text().splitlines())) != []
