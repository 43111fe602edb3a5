"""The sink that shows a session in browsers, and tells it to programs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from realtime_mer.errors import InputError
from realtime_mer.output.overlay import Overlay
from realtime_mer.output.web.address import Address, Guard
from realtime_mer.output.web.commands import PageControls
from realtime_mer.output.web.messages import results_of
from realtime_mer.output.web.server import Server
from realtime_mer.redaction import redacted_in
from realtime_mer.results import Analysis, Session, Summary

# Chosen by judgement: more pictures a second are not worth their bytes.
_PICTURE_PERIOD_S = 1 / 30


class WebView:
    """Serves a page and an API while a session runs. Call it from one thread only.

    On loopback, everyone on this computer can see it. At any other host, only those who have the
    address with its token, which `note` gets once. Nothing is stored.

    Attributes:
        controls: What viewers can change, if they may; to be set before `begin`.

    Example:
        view = WebView("8000", VideoOverlay(), note=print)
    """

    def __init__(
        self,
        address: str,
        overlay: Overlay,
        note: Callable[[str], None] = lambda text: None,
        *,
        may_control: bool = False,
        log: Path | None = None,
    ) -> None:
        """
        Args:
            address: `[HOST:]PORT`; without a host, this computer's loopback. Port 0 is any free
                one. The port is taken at once; connections are answered from `begin` on.
            overlay: It draws the pictures; a window may share it.
            note: Called with messages for the user: where the page is.
            may_control: Whether viewers may change the session, through `controls`.
            log: The file that the session's records are written into, to be downloaded; None to
                offer those that are kept in memory. Its sink begins before this one.

        Raises:
            InputError: Nothing can be served there.
        """
        self._overlay = overlay
        self._note = note
        self._log = log
        self.controls: PageControls | None = None
        place = Address.parse(address)
        listening = place.listen()
        self._guard = Guard(place, listening.getsockname()[:2], may_control=may_control)
        self._server = Server(listening, self._guard, may_control=may_control)
        self._due_s = 0.0

    @property
    def url(self) -> str:
        """The page's address. Everyone who has it can watch."""
        return self._guard.url

    def begin(self, session: Session) -> None:
        self._overlay.begin(session)
        self._server.start(session, self._log)
        who = (
            f"everyone who has this address can {self._guard.right}, and nothing is encrypted"
            if self._guard.token
            else "on this computer only"
        )
        self._note(f"watch at {self.url} ({who})")

    def update(self, analysis: Analysis) -> None:
        self._overlay.update(analysis)
        self._server.set_newest(analysis)
        for result in results_of(analysis):
            self._server.add(result)
        self._obey()
        if not self._server.wants_picture:
            return
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        # Allow half a period: otherwise a camera's jitter would cost every second picture.
        self._due_s = max(self._due_s, now_s - _PICTURE_PERIOD_S / 2) + _PICTURE_PERIOD_S
        self._server.show(self._overlay.picture().copy())

    def _obey(self) -> None:
        """Does what viewers have asked for: here, in the thread that other controls use, too."""
        while (command := self._server.take_command()) is not None:
            if self.controls is None:
                continue
            try:
                self._server.tell(command(self.controls))
            except InputError as error:
                self._server.tell(str(error))

    def end(self, summary: Summary) -> None:
        for span in summary.visibility:
            self._server.add(span)
        self._server.stop(summary.to_dict())
        if self._server.error is not None:
            self._note(redacted_in(f"the page failed: {self._server.error!r}"))

    def close(self) -> None:
        """Frees the port if `begin` was never called."""
        self._server.stop({})
