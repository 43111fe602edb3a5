"""The interfaces behind which a session's results are shown or kept."""

from __future__ import annotations

from typing import Protocol

from realtime_mer.results import Analysis, Session, Summary


class Sink(Protocol):
    """Receives results. `end` is called exactly once after `begin`, also on errors and Ctrl-C."""

    def begin(self, session: Session) -> None: ...

    def update(self, analysis: Analysis) -> None: ...

    def end(self, summary: Summary) -> None: ...


class View(Sink, Protocol):
    """A sink with a user before it, who may hold the session or end it."""

    @property
    def wants_quit(self) -> bool: ...

    def wait_while_paused(self) -> None: ...
