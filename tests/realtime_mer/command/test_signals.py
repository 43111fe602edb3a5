"""Signals, sent to child processes whose main thread computes, waits or hangs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")

ROOT = Path(__file__).parents[3]
START = """
import ctypes, os, signal, sys, threading, time
from realtime_mer.command import signals
from realtime_mer.interrupts import checkpoint, shielded
say = lambda text: print(text, file=sys.stderr, flush=True)
def ready(): print("ready", flush=True)
def wait():
    while True:
        checkpoint()
        time.sleep(0.01)
def work(handler):
"""
RUN = """
with signals.Signals(owns_process=True, say=say) as handler:
    try:
        work(handler)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print("complete", flush=True)
"""


def start(work: str, *, ignored: bool = False) -> subprocess.Popen:
    lines = "".join(f"    {line}\n" for line in work.splitlines())
    setup = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n" if ignored else ""
    process = subprocess.Popen(
        [sys.executable, "-c", setup + START + lines + RUN],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_is_raised_at_the_next_checkpoint(name):
    process = start("handler.loaded()\nready()\nwait()")
    process.send_signal(getattr(signal, name))
    assert finish(process) == (0, "interrupted\ncomplete\n", "")


def test_a_signal_while_libraries_load_ends_the_process_at_once():
    process = start("ready()\ntime.sleep(60)")
    process.send_signal(signal.SIGINT)
    assert finish(process) == (0, "", "")


def test_a_main_thread_that_waits_without_checkpoints_is_interrupted():
    """As it does when it opens a pipe that nobody reads."""
    process = start("handler.loaded()\nready()\nos.read(os.pipe()[0], 1)")
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (0, "interrupted\ncomplete\n", "")


def test_outputs_are_completed_however_long_it_takes():
    process = start("handler.loaded()\nwith shielded():\n    ready()\n    time.sleep(2)")
    process.send_signal(signal.SIGINT)
    assert finish(process) == (0, "complete\n", "")


def test_signals_at_once_are_one():
    """A closing terminal and `timeout` send two."""
    process = start("handler.loaded()\nready()\ntry:\n    wait()\nfinally:\n    time.sleep(3)")
    for name in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        process.send_signal(name)
        time.sleep(0.02)
    assert finish(process) == (0, "interrupted\ncomplete\n", "")


def test_after_a_second_signal_what_completes_soon_is_completed():
    process = start("handler.loaded()\nready()\ntry:\n    wait()\nfinally:\n    time.sleep(1)")
    process.send_signal(signal.SIGINT)
    time.sleep(0.4)
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (0, "interrupted\ncomplete\n", "")


def test_after_a_second_signal_the_process_ends_even_if_native_code_hangs():
    """There, Python's own handlers are not called."""
    hang = "lock = ctypes.create_string_buffer(64)\nfor _ in range(2):\n    libc(lock)"
    process = start(
        f"handler.loaded()\nlibc = ctypes.CDLL(None).pthread_mutex_lock\nready()\n{hang}"
    )
    process.send_signal(signal.SIGINT)
    time.sleep(0.4)
    process.send_signal(signal.SIGTERM)
    status, out, err = finish(process)
    assert (status, out) == (128 + signal.SIGTERM, "")
    assert "a video or clip may be missing" in err


def test_a_third_signal_ends_the_process():
    process = start("handler.loaded()\nready()\nwith shielded():\n    time.sleep(60)")
    sent_at = time.monotonic()
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.4)
    assert finish(process) == (128 + signal.SIGINT, "", "")
    assert time.monotonic() - sent_at < 30


def test_ignored_signals_stay_ignored():
    """`nohup` ignores SIGHUP."""
    process = start("handler.loaded()\nready()\nwait()", ignored=True)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert finish(process) == (0, "interrupted\ncomplete\n", "")
