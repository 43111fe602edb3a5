"""The live window, through OpenCV's HighGUI."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.output.overlay import Element, HelpCard, Overlay, RecordingMark, Toast
from realtime_mer.results import Analysis, Session, Summary

TITLE = "realtime_mer   h: help   q: quit"

# The rate of most displays. Without it, a file would be analysed at the pace of its display.
_SHOW_PERIOD_S = 1 / 60
# (width, height) in pixels at which a window opens at most: it fits most screens.
_MAX_SIZE = (1600, 900)
# A window that is wider or narrower than its picture by more has margins.
_MARGIN_PX = 8
# Chosen by judgement: long enough to read a toast.
_TOAST_S = 1.5
_NOT_AVAILABLE = "not available"
# The system's libraries that Qt's X11 plugin links (`readelf -d`), and the Debian packages that
# carry them. All others come with OpenCV's wheel.
_X11_LIBRARIES = {
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libxcb.so.1": "libxcb1",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
}


def display_problem() -> str | None:
    """Says why no window can be opened here; None if one can.

    Ask before making a window: without a display or a library that it needs, Qt aborts the process.
    """
    try:
        framework = cv2.currentUIFramework()
    except (AttributeError, cv2.error):
        framework = ""
    if not framework:
        return "this OpenCV is built without windows (opencv-python-headless)"
    if not sys.platform.startswith("linux"):
        return None
    if not os.environ.get("DISPLAY"):
        if os.environ.get("WAYLAND_DISPLAY"):
            return "there is no X display (OpenCV's windows need XWayland)"
        return "there is no display"
    if problem := _library_problem(framework):
        return problem
    if not _x_server_answers():
        return f"the display {os.environ['DISPLAY']} cannot be reached"
    return None


def _library_problem(framework: str) -> str | None:
    """Says what the windows of OpenCV's wheels lack; None if nothing, or if it is another build."""
    plugin = Path(cv2.__file__).with_name("qt") / "plugins" / "platforms" / "libqxcb.so"
    if not framework.upper().startswith("QT") or not plugin.exists():
        return None
    missing = {name: package for name, package in _X11_LIBRARIES.items() if _load_error(name)}
    if missing:
        packages = " ".join(dict.fromkeys(missing.values()))
        return (
            f"{' and '.join(missing)} cannot be loaded; on Debian and Ubuntu, "
            f"`apt-get install {packages}` provides what is missing"
        )
    return _load_error(str(plugin))


def _load_error(library: str) -> str | None:
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return str(error)
    return None


def _x_server_answers() -> bool:
    """Connects as Qt will, access rights included."""
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError:
        return False
    xcb.xcb_connect.restype = ctypes.c_void_p
    xcb.xcb_connection_has_error.argtypes = [ctypes.c_void_p]
    xcb.xcb_disconnect.argtypes = [ctypes.c_void_p]
    connection = xcb.xcb_connect(None, None)
    try:
        return xcb.xcb_connection_has_error(connection) == 0
    finally:
        xcb.xcb_disconnect(connection)


def _prepare_qt() -> None:
    # The wheels carry only Qt's X11 plugin, and no fonts: Qt would warn at every window.
    os.environ["QT_QPA_PLATFORM"] = "xcb"
    os.environ.setdefault("QT_LOGGING_RULES", "*.debug=false;*.warning=false")


@dataclass(frozen=True, slots=True)
class Controls:
    """What keys can change outside the window. If it is None, the key says "not available".

    The message of an `InputError` that one of them raises is shown, too.

    Attributes:
        change_sensitivity: Called with 1 for a step more sensitive or -1 for less; returns the
            message to show.
        toggle_recording: Starts a recording and returns the name of its file, or ends it and
            returns None.
        is_recording: Whether a recording is running, since it may end by itself. None if only
            `toggle_recording` ends it.
        mark: Marks this moment; returns the message to show.
        take_baseline: Takes the baseline anew; returns the message to show.
    """

    change_sensitivity: Callable[[int], str] | None = None
    toggle_recording: Callable[[], str | None] | None = None
    is_recording: Callable[[], bool] | None = None
    mark: Callable[[], str] | None = None
    take_baseline: Callable[[], str] | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """What a key does.

    Attributes:
        name: The key as the keyboard shows it.
        what: What it does, in a few words.
        codes: As OpenCV gives them, without the flags above 16 bits.
        do: Does it; returns the message to show, if any.
    """

    name: str
    what: str
    codes: tuple[int, ...]
    do: Callable[[Window], str | None]


class Window:
    """Shows the overlay and obeys the keyboard. Call it from one thread only.

    `COMMANDS` lists its keys; closing the window quits, too. A pause freezes the picture of a live
    source while its analysis continues, and holds the analysis of a recording: see
    `wait_while_paused`. Pictures are saved in the working folder.

    If no window can be opened, it says so once and does nothing from then on.

    Example:
        window = Window(Overlay(), note=print)
    """

    def __init__(
        self,
        overlay: Overlay,
        note: Callable[[str], None] = lambda text: None,
        controls: Controls | None = None,
    ) -> None:
        """
        Args:
            overlay: It draws the pictures; the keys change its view.
            note: Called with messages for the user.
            controls: What the keys change outside the window.
        """
        self._overlay = overlay
        self._note = note
        self._controls = controls or Controls()
        self._live = False
        self._usable = False
        self._opened = False
        self._wants_quit = False
        self._help = False
        self._shown_at = 0.0
        # Of the last picture.
        self._shape: tuple[int, ...] = (0, 0)
        # During a pause, shown in place of the overlay.
        self._still: Overlay | None = None
        self._toast: Toast | None = None
        self._toast_until = 0.0
        self._recording_since: float | None = None
        # Tells the notices on the last picture from others.
        self._notices_key: tuple[object, ...] = ()

    @property
    def is_open(self) -> bool:
        return self._opened

    @property
    def wants_quit(self) -> bool:
        """The user has asked to end."""
        return self._wants_quit

    @property
    def paused(self) -> bool:
        """The user has stopped the picture."""
        return self._still is not None

    def begin(self, session: Session) -> None:
        self._overlay.begin(session)
        self._live = session.live
        problem = display_problem()
        if problem is not None:
            self._note(f"no window: {problem}")
            return
        _prepare_qt()
        self._usable = True

    def update(self, analysis: Analysis) -> None:
        self._overlay.update(analysis)
        if not self._usable or self._wants_quit:
            return
        now = time.monotonic()
        if now - self._shown_at < _SHOW_PERIOD_S:
            return
        self._shown_at = now
        if not self.paused:
            self._show()
        self.poll()

    def poll(self) -> None:
        """Lets the window work and obeys the keys. Call it now and then while no frames come."""
        if not self._opened:
            return
        try:
            key = cv2.pollKey()
            if cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
                self._wants_quit = True
                return
        except cv2.error:
            self._wants_quit = True
            return
        # Keys without a character have more than one byte: the left arrow ends in that of "Q".
        command = _BY_CODE.get(key & 0xFFFF) if key >= 0 else None
        if command is not None:
            self._show_toast(command.do(self))
        if command is not None or self._notices()[0] != self._notices_key:
            self._show()

    def wait_while_paused(self) -> None:
        """Returns when the analysis of a recording may continue; at once for live sources."""
        while self.paused and not self._live and not self._wants_quit:
            self.poll()
            time.sleep(0.02)

    def end(self, summary: Summary) -> None:
        if not self._opened:
            return
        self._opened = self._usable = False
        with contextlib.suppress(cv2.error):
            cv2.destroyWindow(TITLE)
            cv2.pollKey()

    def _show(self) -> None:
        overlay = self._still or self._overlay
        self._notices_key, notices = self._notices()
        picture = overlay.picture_with(notices) if notices else overlay.picture()
        try:
            if not self._opened:
                flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
                cv2.namedWindow(TITLE, flags)
                height, width = picture.shape[:2]
                scale = min(1.0, _MAX_SIZE[0] / width, _MAX_SIZE[1] / height)
                cv2.resizeWindow(TITLE, round(width * scale), round(height * scale))
                self._opened = True
            elif picture.shape != self._shape:
                self._reshape(picture)
            self._shape = picture.shape
            cv2.imshow(TITLE, picture)
        except cv2.error as error:
            self._usable = self._opened = False
            self._note(f"no window: {str(error).strip().splitlines()[-1]}")

    def _reshape(self, picture: np.ndarray) -> None:
        """Makes the window as wide as a picture of another shape is at the window's height.

        Not if the window had margins before, as a maximized one has: its size is the user's.
        """
        height, width = picture.shape[:2]
        _, _, shown_width, shown_height = cv2.getWindowImageRect(TITLE)
        was_width = self._shape[1] * shown_height / self._shape[0]
        if shown_height > 0 and abs(shown_width - was_width) <= _MARGIN_PX:
            cv2.resizeWindow(TITLE, round(width * shown_height / height), shown_height)

    def _notices(self) -> tuple[tuple[object, ...], list[Element]]:
        """Returns a key that changes when the notices do, and the notices."""
        now = time.monotonic()
        if now >= self._toast_until:
            self._toast = None
        toast = self._toast
        if toast is None and self.paused:
            toast = Toast(self._pause_text())
        elapsed_s = self._recorded_s(now)
        key = (toast and toast.text, self._help, None if elapsed_s is None else int(elapsed_s))
        notices: list[Element] = []
        if elapsed_s is not None:
            notices.append(RecordingMark(elapsed_s))
        if self._help:
            notices.append(HelpCard([(c.name, c.what) for c in COMMANDS]))
        if toast is not None:
            notices.append(toast)
        return key, notices

    def _recorded_s(self, now: float) -> float | None:
        """Seconds since the recording began; None if there is none."""
        is_recording = self._controls.is_recording
        if is_recording is not None:
            if not is_recording():
                self._recording_since = None
            elif self._recording_since is None:
                self._recording_since = now
        return None if self._recording_since is None else now - self._recording_since

    def _show_toast(self, text: str | None) -> None:
        if text:
            self._toast = Toast(text)
            self._toast_until = time.monotonic() + _TOAST_S

    def _pause_text(self) -> str:
        return "picture held, analysis continues" if self._live else "paused: space resumes"

    # What the keys do

    def _quit(self) -> None:
        self._wants_quit = True

    def _toggle_pause(self) -> str | None:
        if self.paused:
            self._still = None
            return "resumed"
        self._still = self._overlay.still()
        return None  # the toast of a pause stays until it ends

    def _toggle_details(self) -> str:
        view = self._overlay.view
        view.details = not view.details
        return "all details" if view.details else "the video alone"

    def _toggle_mirror(self) -> str:
        view = self._overlay.view
        view.mirrored = not view.mirrored
        return "mirrored" if view.mirrored else "not mirrored"

    def _toggle_help(self) -> str | None:
        self._help = not self._help
        return "h closes the help" if self._help else None

    def _change_sensitivity(self, steps: int) -> str:
        change = self._controls.change_sensitivity
        return _obeyed("sensitivity", change and functools.partial(change, steps))

    def _mark(self) -> str:
        return _obeyed("marks", self._controls.mark)

    def _take_baseline(self) -> str:
        return _obeyed("baseline", self._controls.take_baseline)

    def _toggle_recording(self) -> str:
        toggle = self._controls.toggle_recording
        if toggle is None:
            return f"recording: {_NOT_AVAILABLE}"
        try:
            name = toggle()
        except InputError as error:
            self._note(str(error))
            return str(error)
        self._recording_since = None if name is None else time.monotonic()
        return "recording ended" if name is None else f"recording {name}"

    def _save(self) -> str:
        picture = (self._still or self._overlay).picture()
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
        path = Path.cwd() / f"realtime_mer-{stamp}.png"
        try:
            path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        except OSError as error:
            self._note(f"the picture {path} cannot be written: {error.strerror}")
            return f"not saved: {error.strerror}"
        self._note(f"picture saved: {path}")
        return f"saved {path.name}"


def _obeyed(what: str, control: Callable[[], str] | None) -> str:
    """The message of a control, also if there is none or it refuses."""
    if control is None:
        return f"{what}: {_NOT_AVAILABLE}"
    try:
        return control()
    except InputError as error:
        return str(error)


def _codes(*keys: str) -> tuple[int, ...]:
    return tuple(ord(key) for key in keys)


COMMANDS = (
    Command("h  ?", "show or hide this card", _codes("h", "H", "?"), Window._toggle_help),
    Command("d", "the video alone, or all", _codes("d", "D"), Window._toggle_details),
    Command("m", "mirror the video", _codes("m", "M"), Window._toggle_mirror),
    Command("+", "more sensitive", _codes("+", "="), lambda w: w._change_sensitivity(1)),
    Command("-", "less sensitive", _codes("-", "_"), lambda w: w._change_sensitivity(-1)),
    Command("b", "take the baseline anew", _codes("b", "B"), Window._take_baseline),
    Command("k", "mark this moment", _codes("k", "K"), Window._mark),
    Command("r", "start or stop recording", _codes("r", "R"), Window._toggle_recording),
    Command("s", "save a picture", _codes("s", "S"), Window._save),
    Command("space", "pause or resume", _codes(" "), Window._toggle_pause),
    Command("q  Esc", "quit", (*_codes("q", "Q"), 27), Window._quit),
)
_BY_CODE = {code: command for command in COMMANDS for code in command.codes}
