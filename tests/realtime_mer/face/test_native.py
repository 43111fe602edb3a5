"""silenced_stderr, on the real file descriptor 2 of child processes and of this one."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from realtime_mer.face.native import silenced_stderr

ROOT = Path(__file__).parents[3]


def run_child(code: str, redirect: str = "") -> subprocess.CompletedProcess:
    script = (
        "import os, sys, threading\nfrom realtime_mer.face.native import silenced_stderr\n" + code
    )
    command = ["sh", "-c", f'exec "$0" "$@" {redirect}', sys.executable, "-c", script]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_native_and_python_writes_are_silenced_only_during_the_block():
    child = run_child(
        "os.write(2, b'before ')\n"
        "with silenced_stderr():\n"
        "    os.write(2, b'native'); os.system('echo child >&2')\n"
        "    print('python', file=sys.stderr)\n"
        "os.write(2, b'after')\n"
    )
    assert child.returncode == 0
    assert child.stderr == "before after"


def test_text_buffered_before_the_block_is_not_lost():
    child = run_child(
        "sys.stderr = open(2, 'w', closefd=False)\n"
        "sys.stderr.write('buffered ')\n"
        "with silenced_stderr():\n"
        "    sys.stderr.write('swallowed')\n"
        "sys.stderr.write('after'); sys.stderr.flush()\n"
    )
    assert child.stderr == "buffered after"


def test_exception_passes_and_is_printed():
    child = run_child("with silenced_stderr():\n    raise ValueError('seen')\n")
    assert child.returncode == 1
    assert "ValueError: seen" in child.stderr


def test_overlapping_blocks_of_threads_restore_once_the_last_is_out():
    child = run_child(
        "inside, leave = threading.Event(), threading.Event()\n"
        "def other():\n"
        "    with silenced_stderr():\n"
        "        inside.set(); leave.wait(10)\n"
        "thread = threading.Thread(target=other); thread.start(); inside.wait(10)\n"
        "with silenced_stderr(), silenced_stderr():\n"
        "    os.write(2, b'nested')\n"
        "os.write(2, b'still')\n"
        "leave.set(); thread.join()\n"
        "os.write(2, b'restored')\n"
    )
    assert child.stderr == "restored"


@pytest.mark.parametrize(
    "before",
    [
        "os.close(2)",  # closed under us
        "sys.stderr = None",  # a program without a console
        "sys.stderr.close()",  # closes descriptor 2 as well
    ],
)
def test_without_a_usable_stderr_the_block_still_runs(before):
    code = f"{before}\nwith silenced_stderr():\n    print('ran')\nprint('left')\n"
    child = run_child(code)
    assert child.returncode == 0
    assert child.stdout == "ran\nleft\n"


def test_started_with_stderr_closed():
    child = run_child("with silenced_stderr():\n    print('ran')\n", redirect="2>&-")
    assert child.returncode == 0
    assert child.stdout == "ran\n"


def test_no_descriptor_is_leaked():
    with silenced_stderr():
        pass
    count = descriptors()

    def enter_often() -> None:
        for _ in range(100):
            with silenced_stderr():
                pass

    threads = [threading.Thread(target=enter_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert descriptors() == count


def test_out_of_descriptors_is_no_reason_to_fail():
    child = run_child(
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "with silenced_stderr():\n    print('ran')\n"
    )
    assert child.returncode == 0
    assert child.stdout == "ran\n"


# Last words

CHATTER = "for k in range(50): os.write(2, b'chatter %d\\n' % k)\n"


def test_a_crash_in_the_block_shows_what_the_library_said_last():
    child = run_child(
        "with silenced_stderr():\n"
        f"    {CHATTER}"
        "    os.write(2, b'terminate called\\n'); os.abort()\n"
    )
    assert child.returncode == -signal.SIGABRT
    lines = child.stderr.splitlines()
    assert lines[-1] == "terminate called"
    assert (len(lines), lines[0]) == (20, "chatter 31")


def test_an_error_that_leaves_the_block_comes_with_what_the_library_said():
    child = run_child(
        "with silenced_stderr():\n"
        "    os.write(2, b'no such operator\\n')\n"
        "    raise RuntimeError('failed')\n"
    )
    assert child.stderr.startswith("no such operator\nTraceback")


@pytest.mark.parametrize("error", ["InputError('say this')", "KeyboardInterrupt"])
def test_an_error_for_the_user_and_ctrl_c_come_alone(error):
    child = run_child(
        "from realtime_mer.errors import InputError\n"
        "try:\n"
        "    with silenced_stderr():\n"
        "        os.write(2, b'chatter\\n')\n"
        f"        raise {error}\n"
        "except BaseException as error:\n    print(error, file=sys.stderr)\n"
    )
    assert "chatter" not in child.stderr


def test_without_the_program_that_keeps_them_messages_are_discarded():
    child = run_child(
        "os.environ['PATH'] = '/nonexistent'\n"
        "with silenced_stderr():\n    os.write(2, b'chatter')\n"
        "os.write(2, b'after')\n"
    )
    assert child.stderr == "after"
