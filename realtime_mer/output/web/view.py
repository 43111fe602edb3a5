"""The sink that shows a session in browsers."""

from __future__ import annotations

import time
from collections.abc import Callable

from realtime_mer.output.overlay import Overlay
from realtime_mer.output.web.address import Address, Guard
from realtime_mer.output.web.server import Server
from realtime_mer.redaction import redacted_in
from realtime_mer.results import Analysis, Session, Summary

# Chosen by judgement: more pictures a second are not worth their bytes.
_PICTURE_PERIOD_S = 1 / 30


class WebView:
    """Serves a page with overlay and events while a session runs. Call it from one thread only.

    On loopback, everyone on this computer can see it. At any other host, only those who have the
    address with its token, which `note` gets once. Nothing is stored.

    Example:
        view = WebView("8000", Overlay(), note=print)
    """

    def __init__(
        self, address: str, overlay: Overlay, note: Callable[[str], None] = lambda text: None
    ) -> None:
        """
        Args:
            address: `[HOST:]PORT`; without a host, this computer's loopback. Port 0 is any free
                one. The port is taken at once; connections are answered from `begin` on.
            overlay: It draws the pictures; a window may share it.
            note: Called with messages for the user: where the page is.

        Raises:
            InputError: Nothing can be served there.
        """
        self._overlay = overlay
        self._note = note
        place = Address.parse(address)
        listening = place.listen()
        self._guard = Guard(place, listening.getsockname()[:2])
        self._server = Server(listening, self._guard)
        self._due_s = 0.0

    @property
    def url(self) -> str:
        """The page's address. Everyone who has it can watch."""
        return self._guard.url

    def begin(self, session: Session) -> None:
        self._overlay.begin(session)
        self._server.start(session)
        who = (
            "everyone who has this address can watch, and nothing is encrypted"
            if self._guard.token
            else "on this computer only"
        )
        self._note(f"watch at {self.url} ({who})")

    def update(self, analysis: Analysis) -> None:
        self._overlay.update(analysis)
        self._server.set_newest(analysis)
        for change in analysis.statuses:
            self._server.add_record(change.to_dict())
        for gap in analysis.gaps:
            self._server.add_record(gap.to_dict())
        for event in analysis.events:
            self._server.add_record(event.to_dict(), is_event=True)
        if not self._server.wants_picture:
            return
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        # Allow half a period: otherwise a camera's jitter would cost every second picture.
        self._due_s = max(self._due_s, now_s - _PICTURE_PERIOD_S / 2) + _PICTURE_PERIOD_S
        self._server.show(self._overlay.picture().copy())

    def end(self, summary: Summary) -> None:
        self._server.stop(summary.to_dict())
        if self._server.error is not None:
            self._note(redacted_in(f"the page failed: {self._server.error!r}"))

    def close(self) -> None:
        """Frees the port if `begin` was never called."""
        self._server.stop({})
