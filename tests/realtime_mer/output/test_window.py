"""The window: its keys, and what happens without a display."""

import ctypes
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.output import window as window_module
from realtime_mer.output.overlay import RED, Layout, Overlay
from realtime_mer.output.window import COMMANDS, Controls, Window
from realtime_mer.results import Analysis, Session, Summary
from realtime_mer.source.frame import Frame

ROOT = Path(__file__).resolve().parents[3]
SUMMARY = Summary("stopped by user", 1, 1, 0, 0, 1.0, 1.0, 0)


def session(live=False):
    return Session("clip.avi", live, (64, 48), 30, 0, "m", "CPU", ("negative", "positive"))


def analysis(k=0):
    image = np.full((48, 64, 3), 2 * k % 256, np.uint8)
    return Analysis(Frame(k, k / 30, image, 0.0))


class Screen:
    """A HighGUI without a screen: it keeps the pictures and presses the keys in `keys`."""

    def __init__(self, monkeypatch):
        self.shown = []
        self.keys = []
        self.visible = 1.0
        self.destroyed = False
        # (width, height) of the window.
        self.size = (0, 0)
        monkeypatch.setattr(window_module, "display_problem", lambda: None)
        monkeypatch.setattr(window_module, "_SHOW_PERIOD_S", 0.0)
        for name, function in {
            "namedWindow": lambda *a: None,
            "resizeWindow": self.resize,
            "getWindowImageRect": lambda title: (0, 0, *self.size),
            "imshow": lambda title, picture: self.shown.append(picture.copy()),
            "pollKey": lambda: self.keys.pop(0) if self.keys else -1,
            "getWindowProperty": lambda *a: self.visible,
            "destroyWindow": self.destroy,
        }.items():
            monkeypatch.setattr(cv2, name, function)

    def resize(self, title, width, height):
        self.size = width, height

    def destroy(self, title):
        self.destroyed = True


@pytest.fixture
def screen(monkeypatch):
    return Screen(monkeypatch)


def opened(live=False, notes=None, controls=None, overlay=None):
    note = (lambda text: None) if notes is None else notes.append
    window = Window(overlay or Overlay([]), note, controls)
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


# The left arrow (0xFF51) ends in the byte of "Q".
@pytest.mark.parametrize("key", [-1, ord("x"), 13, 0xFF51, 0x10FF51])
def test_other_keys_do_nothing(screen, key):
    window = opened()
    screen.keys = [key]
    window.update(analysis())
    assert (window.wants_quit, window.paused) == (False, False)
    assert len(screen.shown) == 1


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
        window.wait_while_paused()  # returns: nobody presses a key
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
    picture, with_toast = screen.shown
    assert (cv2.imread(str(path)) == picture).all(), "without the toast"
    assert (picture != with_toast).any(), "the window says so, too"
    assert str(path) in notes[-1]


def test_picture_that_cannot_be_saved_gives_a_note(screen, tmp_path, monkeypatch):
    monkeypatch.setattr(window_module.Path, "cwd", lambda: tmp_path / "gone")
    notes = []
    window = opened(notes=notes)
    screen.keys = [ord("s")]
    window.update(analysis())
    assert "cannot be written" in notes[-1]


class Clock:
    """The window's clock, moved by hand."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        shown = SimpleNamespace(monotonic=lambda: self.now, sleep=time.sleep)
        monkeypatch.setattr(window_module, "time", shown)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def toasts(monkeypatch):
    """The texts of the toasts that were shown, in order."""
    texts = []

    class Toast(window_module.Toast):
        def __init__(self, text):
            texts.append(text)
            super().__init__(text)

    monkeypatch.setattr(window_module, "Toast", Toast)
    return texts


def press(screen, window, key):
    screen.keys = [ord(key)]
    window.poll()


def test_toast_is_shown_for_a_while_and_goes_away_without_frames(screen, clock):
    window = opened()
    window.update(analysis())
    plain = screen.shown[-1]
    press(screen, window, "m")
    with_toast = screen.shown[-1]
    assert (with_toast != plain).any()
    clock.now += 1.4
    window.poll()
    assert screen.shown[-1] is with_toast
    clock.now += 0.2
    window.poll()
    assert (screen.shown[-1] == plain).all()
    shown = len(screen.shown)
    window.poll()
    assert len(screen.shown) == shown, "nothing new, nothing drawn"


def test_d_and_m_change_the_view_for_all(screen):
    overlay = Overlay()
    window = opened(overlay=overlay)
    window.update(analysis())
    full = overlay.picture().copy()
    press(screen, window, "d")
    assert (overlay.view.details, overlay.view.mirrored) == (False, False)
    assert overlay.picture().shape[1] < full.shape[1]
    press(screen, window, "m")
    assert (overlay.view.details, overlay.view.mirrored) == (False, True)
    press(screen, window, "d")
    press(screen, window, "m")
    assert (overlay.picture() == full).all()


def test_without_details_the_video_has_the_whole_window(screen):
    window = opened(overlay=Overlay())
    window.update(analysis())
    video = Layout.of(64, 48).video
    assert screen.size == Layout.of(64, 48).size
    press(screen, window, "d")
    assert screen.shown[-1].shape == (video.height, video.width, 3)
    assert screen.size == (video.width, video.height)
    press(screen, window, "d")
    assert screen.size == Layout.of(64, 48).size
    # A size that the user has chosen is kept.
    screen.size = 1000, 900
    press(screen, window, "d")
    assert screen.size == (1000, 900)


def test_view_of_a_held_picture_changes_but_not_its_moment(screen):
    overlay = Overlay([])
    window = opened(live=True, overlay=overlay)
    window.update(analysis(3))
    press(screen, window, " ")
    for k in range(4, 8):
        window.update(analysis(k))
    press(screen, window, "m")
    assert screen.shown[-1][0, 0, 0] == 6
    assert overlay.picture()[0, 0, 0] == 14
    press(screen, window, " ")
    assert screen.shown[-1][0, 0, 0] == 14


def test_toast_of_a_pause_stays_until_it_ends(screen, clock, toasts):
    window = opened()
    window.update(analysis())
    press(screen, window, " ")
    clock.now += 60
    window.poll()
    assert toasts[-1].startswith("paused")
    paused = screen.shown[-1]
    press(screen, window, "+")
    clock.now += 2
    window.poll()
    assert (screen.shown[-1] == paused).all(), "it returns after another key's toast"
    press(screen, window, " ")
    clock.now += 2
    window.poll()
    assert (screen.shown[-1] == screen.shown[0]).all()


@pytest.mark.parametrize(("key", "steps"), [("+", 1), ("=", 1), ("-", -1), ("_", -1)])
def test_plus_and_minus_change_the_sensitivity_and_say_so(screen, toasts, key, steps):
    asked = []

    def change(by):
        asked.append(by)
        return f"{by} step"

    window = opened(controls=Controls(change_sensitivity=change))
    window.update(analysis())
    press(screen, window, key)
    assert asked == [steps]
    assert toasts == [f"{steps} step"]


@pytest.mark.parametrize("key", ["b", "B"])
def test_b_takes_the_baseline_anew_and_says_so(screen, toasts, key):
    taken = []

    def take():
        taken.append(True)
        return "baseline: 20 s of a neutral face"

    window = opened(controls=Controls(take_baseline=take))
    window.update(analysis())
    press(screen, window, key)
    assert taken == [True]
    assert toasts == ["baseline: 20 s of a neutral face"]


@pytest.mark.parametrize("key", ["k", "K"])
def test_k_marks_the_moment_and_says_so(screen, toasts, key):
    marked = []

    def mark():
        marked.append(True)
        return "marked at 0:01.000"

    window = opened(controls=Controls(mark=mark))
    window.update(analysis())
    press(screen, window, key)
    assert marked == [True]
    assert toasts == ["marked at 0:01.000"]


@pytest.mark.parametrize("key", ["+", "-", "r", "k", "b"])
def test_key_without_a_control_says_not_available(screen, toasts, key):
    window = opened()
    window.update(analysis())
    press(screen, window, key)
    assert toasts[-1].endswith("not available")
    assert not window.wants_quit


def test_refused_control_shows_the_reason_and_nothing_breaks(screen, toasts):
    def refuse(*args):
        raise InputError("there is no room for a recording")

    notes = []
    controls = Controls(change_sensitivity=refuse, toggle_recording=refuse, mark=refuse)
    window = opened(controls=controls, notes=notes)
    window.update(analysis())
    for key in "+kr":
        press(screen, window, key)
        assert toasts[-1] == "there is no room for a recording"
    assert notes == ["there is no room for a recording"]
    assert not red(screen.shown[-1])


def red(picture):
    """Whether the mark of a recording is shown."""
    return bool((Layout.of(64, 48).status.of(picture) == RED).all(-1).any())


def test_recording_is_marked_with_its_time_until_it_ends(screen, clock, toasts):
    files = iter(["a.mp4", None])
    window = opened(controls=Controls(toggle_recording=lambda: next(files)))
    window.update(analysis())
    press(screen, window, "r")
    assert toasts[-1] == "recording a.mp4"
    assert red(screen.shown[-1])
    clock.now += 5
    window.poll()
    at_5_s = screen.shown[-1]
    clock.now += 1
    window.poll()
    assert (screen.shown[-1] != at_5_s).any(), "its time continues without frames"
    press(screen, window, "r")
    assert toasts[-1] == "recording ended"
    assert not red(screen.shown[-1])


def test_recording_that_ended_by_itself_is_not_marked(screen, clock):
    going = []

    def toggle():
        going.append("a.mp4")
        return "a.mp4"

    window = opened(controls=Controls(toggle_recording=toggle, is_recording=lambda: bool(going)))
    window.update(analysis())
    press(screen, window, "r")
    assert red(screen.shown[-1])
    going.clear()
    window.poll()
    assert not red(screen.shown[-1])


@pytest.mark.parametrize("key", ["h", "?"])
def test_help_lists_every_key_that_does_something(screen, tmp_path, monkeypatch, key):
    monkeypatch.chdir(tmp_path)  # one of them saves a picture
    listed = []

    class HelpCard(window_module.HelpCard):
        def __init__(self, keys):
            listed[:] = keys
            super().__init__(keys)

    monkeypatch.setattr(window_module, "HelpCard", HelpCard)
    window = opened()
    window.update(analysis())
    plain = screen.shown[-1]
    press(screen, window, key)
    assert (screen.shown[-1] != plain).sum() > 10_000
    # Every key that does something is in it, and every key in it does something.
    obeyed = set()
    for code in range(128):
        window = opened()
        screen.shown.clear()
        window.update(analysis())
        screen.keys = [code]
        window.poll()
        if len(screen.shown) > 1 or window.wants_quit:
            obeyed.add(code)
    names = " ".join(name for name, _ in listed).split()
    special = {"space": 32, "Esc": 27}
    shown = {special.get(name, ord(name[0])) for name in names}
    # Upper case, and the plus and minus keys with or without shift.
    assert shown <= obeyed
    assert obeyed == shown | {ord(chr(c).upper()) for c in shown} | {ord("="), ord("_")}
    assert len(listed) == len(COMMANDS)


def test_opencv_without_windows_gives_a_note(screen, monkeypatch):
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
    from test_window import SUMMARY, Controls, Overlay, Window, analysis, session
    def say(text):
        print(text, flush=True)
        return text
    overlay = Overlay()
    window = Window(overlay, say, Controls(lambda steps: say(f"sensitivity {steps}")))
    window.begin(session())
    seen = None
    for k in range(600):
        window.update(analysis(k))
        now = overlay.view.details, overlay.view.mirrored, window._help
        if seen not in (None, now):
            print(*now, flush=True)
        seen = now
        if window.wants_quit or not window.is_open:
            break
        if k == 0:
            print("open", flush=True)
        time.sleep(0.02)
    print("frames", k, "quit", window.wants_quit, flush=True)
    window.end(SUMMARY)
    """


def start(cwd, program=PROGRAM, **environment):
    drop = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    env = {k: v for k, v in os.environ.items() if k not in drop} | environment
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", textwrap.dedent(program), here, str(ROOT)]
    return subprocess.Popen(
        command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@linux
@pytest.mark.parametrize(
    "environment",
    [{}, {"DISPLAY": ""}, {"DISPLAY": ":4711"}, {"WAYLAND_DISPLAY": "wayland-0"}],
    ids=["none", "empty", "unreachable", "wayland only"],
)
def test_without_a_display_it_says_so_in_a_line_and_continues(tmp_path, environment):
    process = start(tmp_path, **environment)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert errors == ""
    note, end = out.splitlines()
    assert note.startswith("no window: ")
    assert end == "frames 0 quit False"


def broken_libraries(folder, *names):
    """An environment in which these libraries of the system cannot be loaded."""
    for name in names:
        (folder / name).touch()
    return {"LD_LIBRARY_PATH": str(folder)}


@linux
@pytest.mark.parametrize(
    ("names", "packages"),
    [
        (["libSM.so.6"], "apt-get install libsm6`"),
        (["libSM.so.6", "libICE.so.6"], "apt-get install libsm6 libice6`"),
        (["libXext.so.6"], "apt-get install libxext6"),
    ],
)
def test_missing_libraries_are_named_with_their_packages(tmp_path, names, packages):
    """Qt would abort the whole process with status 134."""
    environment = broken_libraries(tmp_path, *names)
    process = start(tmp_path, DISPLAY=":4711", **environment)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    note, end = out.splitlines()
    assert note.startswith("no window: ")
    for word in (*names, packages):
        assert word in note
    assert end == "frames 0 quit False"


@linux
def test_library_that_only_the_plugin_needs_is_named(tmp_path, monkeypatch):
    load = ctypes.CDLL

    def refuse(name, *args):
        if str(name).endswith("libqxcb.so"):
            raise OSError("libodd.so.1: cannot open shared object file: No such file or directory")
        return load(name, *args)

    monkeypatch.setenv("DISPLAY", ":4711")
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert "libodd.so.1" in window_module.display_problem()


@linux
def test_other_builds_of_opencv_are_not_asked_for_qt_s_libraries(monkeypatch):
    def refuse(name, *args):
        raise OSError(name)

    monkeypatch.setenv("DISPLAY", ":4711")
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "GTK3")
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert window_module.display_problem() == "the display :4711 cannot be reached"


@pytest.fixture
def display():
    """A virtual display of its own."""
    missing = [name for name in ("Xvfb", "xdotool") if not shutil.which(name)]
    if missing:
        pytest.skip(
            f"a virtual display needs {' and '.join(missing)} (apt-get install xvfb xdotool)"
        )
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


def press_key(display, key):
    """Types a key into the window on a display."""
    subprocess.run(
        ["xdotool", "search", "--sync", "--name", "realtime_mer", "key", key],
        env=os.environ | {"DISPLAY": display},
        check=True,
        timeout=20,
    )


@linux
def test_missing_library_does_not_abort_where_there_is_a_display(tmp_path, display):
    process = start(tmp_path, DISPLAY=display, **broken_libraries(tmp_path, "libSM.so.6"))
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert "libsm6" in out


@linux
def test_real_window_opens_quietly_and_obeys_its_keys(tmp_path, display):
    process = start(tmp_path, DISPLAY=display)
    assert process.stdout.readline() == "open\n"

    def press(key):
        press_key(display, key)

    press("s")
    assert process.stdout.readline().startswith("picture saved: ")
    press("plus")
    assert process.stdout.readline() == "sensitivity 1\n"
    press("KP_Subtract")
    assert process.stdout.readline() == "sensitivity -1\n"
    # Each is answered before the next: HighGUI keeps only the last of keys that come together.
    for key, view in (("d", "False False False"), ("m", "False True False")):
        press(key)
        assert process.stdout.readline() == f"{view}\n"
    press("Left")
    press("h")
    assert process.stdout.readline() == "False True True\n"
    assert process.poll() is None
    press("q")
    out, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out.endswith("quit True\n")
    assert errors == ""
    assert len(list(tmp_path.glob("*.png"))) == 1


@linux
def test_real_window_obeys_keys_while_no_frames_come(tmp_path, display):
    program = PROGRAM.replace("window.update(analysis(k))", "k or window.update(analysis(0))")
    program = program.replace("if window.wants_quit", "window.poll()\n        if window.wants_quit")
    process = start(tmp_path, program, DISPLAY=display)
    assert process.stdout.readline() == "open\n"
    press_key(display, "plus")
    assert process.stdout.readline() == "sensitivity 1\n"
    press_key(display, "Escape")
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert out.endswith("quit True\n")
