"""The one interface behind everything that shows or keeps results."""

from __future__ import annotations

from typing import Protocol

from realtime_mer.event import Analysis, Session, Summary


class Sink(Protocol):
    """Receives results. `end` is called exactly once after `begin`, also on errors and Ctrl-C."""

    def begin(self, session: Session) -> None: ...

    def update(self, analysis: Analysis) -> None: ...

    def end(self, summary: Summary) -> None: ...
