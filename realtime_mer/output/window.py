"""The live window, through OpenCV's HighGUI."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import cv2

from realtime_mer.errors import InputError
from realtime_mer.output.overlay import Element, HelpCard, Overlay, RecordingMark, Toast
from realtime_mer.results import Analysis, Session, Summary

TITLE = "realtime_mer   h: help   q: quit"

# Faster than this no one sees it, and a file would be analysed at the pace of its display.
_SHOW_PERIOD_S = 1 / 60
_LARGEST = (1600, 900)
# What a key did is told for so long.
_TOAST_S = 1.5
_NOT_AVAILABLE = "not available"


def display_problem() -> str | None:
    """Says why no window can be opened here; None where one can.

    To be asked before a window is made: without a reachable display, Qt ends the whole process.
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
    if not _x_server_answers():
        return f"the display {os.environ['DISPLAY']} cannot be reached"
    return None


def _x_server_answers() -> bool:
    """Connects as Qt will, access rights included."""
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
        ctypes.CDLL("libX11.so.6")
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
    # The wheels carry Qt's X11 plugin only, and no fonts, of which Qt complains at every window.
    os.environ["QT_QPA_PLATFORM"] = "xcb"
    os.environ.setdefault("QT_LOGGING_RULES", "*.debug=false;*.warning=false")


@dataclass(frozen=True, slots=True)
class Controls:
    """What keys can change outside the window. What is None is told to be not available.

    Attributes:
        change_sensitivity: Called with 1 for more sensitive by a step or -1 for less; returns what
            to tell the user. An `InputError` is told too.
        toggle_recording: Starts a recording and returns the name of its file, or ends it and
            returns None. An `InputError` is told.
        is_recording: Whether a recording goes on: it may have ended by itself. None where it goes
            on until it is told to end.
    """

    change_sensitivity: Callable[[int], str] | None = None
    toggle_recording: Callable[[], str | None] | None = None
    is_recording: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """What a key does.

    Attributes:
        name: The key as the user knows it.
        what: What it does, in a few words.
        codes: As OpenCV gives them, without the flags above 16 bits.
        do: Does it; returns what to tell the user, or nothing.
    """

    name: str
    what: str
    codes: tuple[int, ...]
    do: Callable[[Window], str | None]


class Window:
    """Shows the overlay and listens to the keyboard. All calls come from one thread.

    `COMMANDS` says which keys it obeys; closing the window quits too. A pause freezes the picture
    of a live source while its analysis goes on, and holds the analysis of a recording: see
    `wait_while_paused`. Pictures are saved into the working folder.

    Where no window can be opened it says so once and does nothing from then on.

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
            overlay: Makes the pictures; the keys change its view.
            note: Called with what the user should know.
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
        # What is shown in place of the overlay during a pause.
        self._still: Overlay | None = None
        self._toast: Toast | None = None
        self._toast_until = 0.0
        self._recording_since: float | None = None
        # What was drawn over the last picture.
        self._told: tuple[object, ...] = ()

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
        """Lets the window work and obeys the keys. To be called now and then without frames."""
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
            self._tell(command.do(self))
        if command is not None or self._notices()[0] != self._told:
            self._show()

    def wait_while_paused(self) -> None:
        """Returns when the analysis of a recording may go on; at once for live sources."""
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
        self._told, notices = self._notices()
        picture = overlay.picture_with(notices) if notices else overlay.picture()
        try:
            if not self._opened:
                flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
                cv2.namedWindow(TITLE, flags)
                height, width = picture.shape[:2]
                scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
                cv2.resizeWindow(TITLE, round(width * scale), round(height * scale))
                self._opened = True
            cv2.imshow(TITLE, picture)
        except cv2.error as error:
            self._usable = self._opened = False
            self._note(f"no window: {str(error).strip().splitlines()[-1]}")

    def _notices(self) -> tuple[tuple[object, ...], list[Element]]:
        """What tells one set of notices from another, and the notices."""
        now = time.monotonic()
        if now >= self._toast_until:
            self._toast = None
        toast = self._toast
        if toast is None and self.paused:
            toast = Toast(self._pause_text())
        elapsed_s = self._recorded_s(now)
        told = (toast and toast.text, self._help, None if elapsed_s is None else int(elapsed_s))
        notices: list[Element] = []
        if elapsed_s is not None:
            notices.append(RecordingMark(elapsed_s))
        if self._help:
            notices.append(HelpCard([(c.name, c.what) for c in COMMANDS]))
        if toast is not None:
            notices.append(toast)
        return told, notices

    def _recorded_s(self, now: float) -> float | None:
        """How long a recording has been going on, if one is."""
        goes_on = self._controls.is_recording
        if goes_on is not None:
            if not goes_on():
                self._recording_since = None
            elif self._recording_since is None:
                self._recording_since = now
        return None if self._recording_since is None else now - self._recording_since

    def _tell(self, text: str | None) -> None:
        if text:
            self._toast = Toast(text)
            self._toast_until = time.monotonic() + _TOAST_S

    def _pause_text(self) -> str:
        return "picture held, analysis goes on" if self._live else "paused: space goes on"

    # What the keys do

    def _quit(self) -> None:
        self._wants_quit = True

    def _toggle_pause(self) -> str | None:
        if self.paused:
            self._still = None
            return "goes on"
        self._still = self._overlay.still()
        return None  # a pause is told until it ends

    def _toggle_details(self) -> str:
        view = self._overlay.view
        view.details = not view.details
        return "all details" if view.details else "without details"

    def _toggle_mirror(self) -> str:
        view = self._overlay.view
        view.mirrored = not view.mirrored
        return "mirrored" if view.mirrored else "not mirrored"

    def _toggle_help(self) -> str | None:
        self._help = not self._help
        return "h closes the help" if self._help else None

    def _change_sensitivity(self, steps: int) -> str:
        change = self._controls.change_sensitivity
        if change is None:
            return f"sensitivity: {_NOT_AVAILABLE}"
        try:
            return change(steps)
        except InputError as error:
            return str(error)

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


def _codes(*keys: str) -> tuple[int, ...]:
    return tuple(ord(key) for key in keys)


COMMANDS = (
    Command("h  ?", "show or hide this card", _codes("h", "H", "?"), Window._toggle_help),
    Command("d", "details on or off", _codes("d", "D"), Window._toggle_details),
    Command("m", "mirror the video", _codes("m", "M"), Window._toggle_mirror),
    Command("+", "more sensitive", _codes("+", "="), lambda w: w._change_sensitivity(1)),
    Command("-", "less sensitive", _codes("-", "_"), lambda w: w._change_sensitivity(-1)),
    Command("r", "start or stop recording", _codes("r", "R"), Window._toggle_recording),
    Command("s", "save a picture", _codes("s", "S"), Window._save),
    Command("space", "pause, and go on", _codes(" "), Window._toggle_pause),
    Command("q  Esc", "quit", (*_codes("q", "Q"), 27), Window._quit),
)
_BY_CODE = {code: command for command in COMMANDS for code in command.codes}
