"""The window: its keys, and what happens without a display."""

import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime_mer import window as window_module
from realtime_mer.event import Analysis, Session, Summary
from realtime_mer.frame import Frame
from realtime_mer.overlay import Overlay
from realtime_mer.window import Window

ROOT = Path(__file__).resolve().parents[2]
SUMMARY = Summary("stopped by user", 1, 1, 0, 0, 1.0, 1.0, 0)


def session(live=False):
    return Session("clip.avi", live, (64, 48), 30, 0, "m", "CPU", ("negative", "positive"))


def analysis(k=0):
    image = np.full((48, 64, 3), 2 * k % 256, np.uint8)
    return Analysis(Frame(k, k / 30, image, 0.0))


class Screen:
    """Stands in for HighGUI: keeps what is shown and types what it is told."""

    def __init__(self, monkeypatch):
        self.shown = []
        self.keys = []
        self.visible = 1.0
        self.destroyed = False
        monkeypatch.setattr(window_module, "display_problem", lambda: None)
        monkeypatch.setattr(window_module, "_SHOW_PERIOD_S", 0.0)
        for name, function in {
            "namedWindow": lambda *a: None,
            "resizeWindow": lambda *a: None,
            "imshow": lambda title, picture: self.shown.append(picture.copy()),
            "pollKey": lambda: self.keys.pop(0) if self.keys else -1,
            "getWindowProperty": lambda *a: self.visible,
            "destroyWindow": self.destroy,
        }.items():
            monkeypatch.setattr(cv2, name, function)

    def destroy(self, title):
        self.destroyed = True


@pytest.fixture
def screen(monkeypatch):
    return Screen(monkeypatch)


def opened(live=False, notes=None):
    window = Window(Overlay([]), note=(lambda text: None) if notes is None else notes.append)
    window.begin(session(live))
    return window


def test_every_frame_is_shown_and_the_window_given_back(screen):
    window = opened()
    for k in range(3):
        window.update(analysis(k))
    assert [s[0, 0, 0] for s in screen.shown] == [0, 2, 4]
    assert window.is_open
    window.end(SUMMARY)
    assert screen.destroyed
    assert not window.is_open


@pytest.mark.parametrize("key", [ord("q"), ord("Q"), 27, 0x100000 | ord("q")])
def test_q_and_escape_quit(screen, key):
    window = opened()
    screen.keys = [key]
    window.update(analysis())
    assert window.wants_quit


@pytest.mark.parametrize("key", [-1, ord("x"), 13])
def test_other_keys_do_nothing(screen, key):
    window = opened()
    screen.keys = [key]
    window.update(analysis())
    assert (window.wants_quit, window.paused) == (False, False)


def test_closing_the_window_quits(screen):
    window = opened()
    window.update(analysis(0))
    screen.visible = 0.0
    window.update(analysis(1))
    assert window.wants_quit


def test_space_freezes_a_live_picture_while_analysis_goes_on(screen):
    window = opened(live=True)
    screen.keys = [ord(" ")]
    window.update(analysis(0))
    frozen = len(screen.shown)
    for k in range(1, 5):
        window.update(analysis(k))
        started = time.monotonic()
        window.wait_while_paused()
        assert time.monotonic() - started < 0.1
    assert window.paused
    assert len(screen.shown) == frozen
    screen.keys = [ord(" ")]
    window.update(analysis(5))
    window.update(analysis(6))
    assert not window.paused
    assert screen.shown[-1][0, 0, 0] == 12


def test_space_holds_a_recording_until_space_or_quit(screen):
    window = opened(live=False)
    screen.keys = [ord(" ")]
    window.update(analysis(0))
    screen.keys = [-1, -1, ord(" ")]
    window.wait_while_paused()
    assert not window.paused
    screen.keys = [ord(" ")]
    window.update(analysis(1))
    screen.keys = [-1, ord("q")]
    window.wait_while_paused()
    assert window.wants_quit


def test_s_saves_the_picture_and_says_where(screen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notes = []
    window = opened(notes=notes)
    screen.keys = [ord("s")]
    window.update(analysis(7))
    (path,) = tmp_path.glob("realtime_mer-*.png")
    assert (cv2.imread(str(path)) == screen.shown[-1]).all()
    assert str(path) in notes[-1]


def test_picture_that_cannot_be_saved_is_a_note(screen, tmp_path, monkeypatch):
    monkeypatch.setattr(window_module.Path, "cwd", lambda: tmp_path / "gone")
    notes = []
    window = opened(notes=notes)
    screen.keys = [ord("s")]
    window.update(analysis())
    assert "cannot be written" in notes[-1]


def test_opencv_without_windows_is_a_note(screen, monkeypatch):
    def no_gui(*args):
        raise cv2.error("The function is not implemented.")

    monkeypatch.setattr(cv2, "namedWindow", no_gui)
    notes = []
    window = opened(notes=notes)
    window.update(analysis(0))
    window.update(analysis(1))
    window.end(SUMMARY)
    assert len(notes) == 1
    assert "not implemented" in notes[0]


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11 is asked on Linux")

PROGRAM = """
    import sys, time
    sys.path[:0] = sys.argv[1:]
    from test_window import SUMMARY, Overlay, Window, analysis, session
    window = Window(Overlay(), note=lambda text: print(text, flush=True))
    window.begin(session())
    for k in range(400):
        window.update(analysis(k))
        if window.wants_quit or not window.is_open:
            break
        if k == 0:
            print("open", flush=True)
        time.sleep(0.02)
    print("frames", k, "quit", window.wants_quit, flush=True)
    window.end(SUMMARY)
    """


def start(cwd, **environment):
    drop = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    env = {k: v for k, v in os.environ.items() if k not in drop} | environment
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), here, str(ROOT)]
    return subprocess.Popen(
        command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@linux
@pytest.mark.parametrize(
    "environment",
    [{}, {"DISPLAY": ""}, {"DISPLAY": ":4711"}, {"WAYLAND_DISPLAY": "wayland-0"}],
    ids=["none", "empty", "unreachable", "wayland only"],
)
def test_without_a_display_it_says_so_in_a_line_and_goes_on(tmp_path, environment):
    process = start(tmp_path, **environment)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert errors == ""
    note, end = out.splitlines()
    assert note.startswith("no window: ")
    assert end == "frames 0 quit False"


@pytest.fixture
def display():
    """A virtual display of its own."""
    if not (shutil.which("Xvfb") and shutil.which("xdotool")):
        pytest.skip("needs Xvfb and xdotool")
    read_end, write_end = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), "-screen", "0", "1280x800x24"],
        pass_fds=[write_end],
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    with os.fdopen(read_end) as file:
        number = file.readline().strip()
    yield f":{number}"
    server.kill()
    server.wait()


@linux
def test_real_window_opens_quietly_and_obeys_its_keys(tmp_path, display):
    process = start(tmp_path, DISPLAY=display)
    assert process.stdout.readline() == "open\n"

    def press(key):
        subprocess.run(
            ["xdotool", "search", "--sync", "--name", "realtime_mer", "key", key],
            env=os.environ | {"DISPLAY": display},
            check=True,
            timeout=20,
        )

    press("s")
    assert process.stdout.readline().startswith("picture saved: ")
    press("q")
    out, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out.endswith("quit True\n")
    assert errors == ""
    assert len(list(tmp_path.glob("*.png"))) == 1
