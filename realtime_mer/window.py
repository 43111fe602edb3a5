"""The live window, through OpenCV's HighGUI."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from realtime_mer.event import Analysis, Session, Summary
from realtime_mer.overlay import BACKGROUND, YELLOW, Overlay, put_text, text_width

TITLE = "realtime_mer   q: quit   space: pause   s: save a picture"

# Faster than this no one sees it, and a file would be analysed at the pace of its display.
_SHOW_PERIOD_S = 1 / 60
_LARGEST = (1600, 900)


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


class Window:
    """Shows the overlay and listens to the keyboard. All calls come from one thread.

    Keys: q or Esc quits, and so does closing the window; space pauses; s saves a picture into the
    working folder. A pause freezes the picture of a live source while its analysis goes on, and
    holds the analysis of a recording: see `wait_while_paused`.

    Where no window can be opened it says so once and does nothing from then on.

    Example:
        window = Window(Overlay(), note=print)
    """

    def __init__(self, overlay: Overlay, note: Callable[[str], None] = lambda text: None) -> None:
        """
        Args:
            overlay: Makes the pictures.
            note: Called with what the user should know.
        """
        self._overlay = overlay
        self._note = note
        self._live = False
        self._usable = False
        self._opened = False
        self._paused = False
        self._wants_quit = False
        self._shown_at = 0.0
        self._picture: np.ndarray | None = None

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
        return self._paused

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
        if not self._paused:
            self._picture = self._overlay.picture()
            self._show(self._picture)
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
        if key < 0:
            return
        key &= 0xFF
        if key in (ord("q"), ord("Q"), 27):
            self._wants_quit = True
        elif key == ord(" "):
            self._toggle_pause()
        elif key in (ord("s"), ord("S")):
            self._save()

    def wait_while_paused(self) -> None:
        """Returns when the analysis of a recording may go on; at once for live sources."""
        while self._paused and not self._live and not self._wants_quit:
            self.poll()
            time.sleep(0.02)

    def end(self, summary: Summary) -> None:
        if not self._opened:
            return
        self._opened = self._usable = False
        with contextlib.suppress(cv2.error):
            cv2.destroyWindow(TITLE)
            cv2.pollKey()

    def _show(self, picture: np.ndarray) -> None:
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

    def _toggle_pause(self) -> None:
        self._paused = not self._paused
        if self._paused and self._picture is not None:
            self._picture = self._picture.copy()  # the overlay draws on in its own
            shown = self._picture.copy()
            what = "picture held, analysis goes on" if self._live else "paused"
            size = max(14, shown.shape[0] // 32)
            width, height = text_width(f"{what} (space)", size, 600) + 2 * size, 2 * size
            shown[-height:, :width] = BACKGROUND
            put_text(
                shown, f"{what} (space)", size, shown.shape[0] - 0.65 * size, size, YELLOW, 600
            )
            self._show(shown)

    def _save(self) -> None:
        if self._picture is None:
            return
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
        path = Path.cwd() / f"realtime_mer-{stamp}.png"
        try:
            path.write_bytes(cv2.imencode(".png", self._picture)[1].tobytes())
        except OSError as error:
            self._note(f"the picture {path} cannot be written: {error.strerror}")
        else:
            self._note(f"picture saved: {path}")
