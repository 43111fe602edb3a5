"""The picture as a camera that other programs can open: OBS, browsers, video calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.output.overlay import Overlay
from realtime_mer.redaction import redacted_in
from realtime_mer.results import Analysis, Session, Summary
from realtime_mer.session.channel import Channel
from realtime_mer.source.reader import DEFAULT_FPS

# Whether there is a camera is tried at this size; any will do.
_TRIED_SIZE = (640, 480)
# The device takes a picture in milliseconds.
_END_S = 1.0


class VirtualCamera:
    """A sink that shows the overlay's picture in the source's size.

    The session never waits for it: a picture that comes too fast replaces the one that waits.

    Args:
        overlay: It draws the pictures; of several sources, they have its own size.
        note: Called with messages for the user.

    Raises:
        ImportError: pyvirtualcam is not installed.
        InputError: There is no virtual camera here.
    """

    def __init__(self, overlay: Overlay, note: Callable[[str], None] = lambda text: None) -> None:
        # One of the extras.
        import pyvirtualcam

        self._library = pyvirtualcam
        self._note = note
        self._open(_TRIED_SIZE, DEFAULT_FPS).close()
        self._overlay = overlay
        self._fps = DEFAULT_FPS
        self._has_one_source = True
        self._size: tuple[int, int] | None = None
        self._pictures: Channel[np.ndarray] = Channel(1, merge=lambda earlier, later: later)
        self._thread: threading.Thread | None = None
        self._failure: str | None = None

    def begin(self, session: Session) -> None:
        self._overlay.begin(session)
        self._fps = session.fps or DEFAULT_FPS
        self._has_one_source = not session.sources

    def update(self, analysis: Analysis) -> None:
        self._overlay.update(analysis)
        if self._failure is not None:
            self._tell()
            return
        picture = self._overlay.picture()
        if self._size is None:
            model = analysis.frame.image if self._has_one_source else picture
            self._size = self._start(*model.shape[1::-1])
        is_of_size = picture.shape[1::-1] == self._size
        # The next analysis is drawn over it.
        self._pictures.put(picture.copy() if is_of_size else cv2.resize(picture, self._size))

    def end(self, summary: Summary) -> None:
        self._pictures.end()
        if self._thread is not None:
            self._thread.join(_END_S)
        self._tell()

    def _start(self, width: int, height: int) -> tuple[int, int]:
        """Opens the camera in a thread of its own; returns its size."""
        # Video formats have even sizes.
        size = (max(2, width // 2 * 2), max(2, height // 2 * 2))
        self._thread = threading.Thread(
            target=self._run, args=[size], name="virtual camera", daemon=True
        )
        self._thread.start()
        return size

    def _tell(self) -> None:
        failure, self._failure = self._failure, ""
        if failure:
            self._note(f"{failure}. The session goes on without it")

    def _run(self, size: tuple[int, int]) -> None:
        try:
            with self._open(size, self._fps) as camera:
                for picture in self._pictures:
                    camera.send(picture)
        except Exception as error:
            # Whatever a driver does, the session goes on.
            self._failure = redacted_in(f"the virtual camera failed: {error}")
        finally:
            self._pictures.close()

    def _open(self, size: tuple[int, int], fps: float) -> Any:  # noqa: ANN401
        width, height = size
        pixels = self._library.PixelFormat.BGR
        try:
            return self._library.Camera(width, height, fps, fmt=pixels)
        except RuntimeError as error:
            raise InputError(
                f"there is no virtual camera here ({_first_sentence(error)}). {_HELP}"
            ) from None


_HELP = (
    "On Linux, `sudo modprobe v4l2loopback exclusive_caps=1` makes one; elsewhere install OBS "
    "Studio and start its virtual camera once."
)


def _first_sentence(error: RuntimeError) -> str:
    return str(error).split(". ")[0].split("\n")[0].rstrip(".")
