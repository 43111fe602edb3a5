"""Outputs of which each of several sources has one of its own, and the sources' short names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from realtime_mer.errors import InputError
from realtime_mer.results import Analysis, Session, Summary
from realtime_mer.session.sink import Sink


class PerSource:
    """A sink that gives each source a sink of its own, which sees a session of that source alone.

    Example:
        sink = PerSource([EventRecorder("clips"), EventRecorder("clips")])
    """

    def __init__(self, sinks: Sequence[Sink]) -> None:
        """
        Args:
            sinks: One for each source, in the order of the sources.
        """
        self._sinks = tuple(sinks)
        self._begun: list[Sink] = []

    def begin(self, session: Session) -> None:
        for sink, own in zip(self._sinks, session.each, strict=True):
            self._begun.append(sink)
            sink.begin(own)

    def update(self, analysis: Analysis) -> None:
        self._sinks[analysis.camera].update(analysis)

    def end(self, summary: Summary) -> None:
        """Ends all of them, whatever happens.

        Raises:
            InputError: Some could not be completed; the message names all of these.
        """
        begun, self._begun = self._begun, []
        own = summary.sources or (summary,)
        failed: list[BaseException] = []
        for sink, figures in zip(begun, own, strict=False):
            try:
                sink.end(figures)
            except BaseException as error:
                # Also Ctrl-C: what the others have must not be lost.
                failed.append(error)
        for other in (error for error in failed if not isinstance(error, InputError)):
            raise other
        if failed:
            raise InputError(" ".join(dict.fromkeys(map(str, failed))))


def short_names(session: Session) -> dict[str, str]:
    """Of each of several sources, a name that is as short as it may be: no folder, no scheme.

    Returns:
        The names by those that records have; empty if there is one source.

    Example:
        >>> short_names(session)
        {'talks/left.mp4': 'left.mp4', 'talks/right.mp4': 'right.mp4'}
    """
    full = [source.source for source in session.sources]
    short = [re.sub(r"^\w+://", "", name) for name in full]
    short = _where_distinct(short, full)
    if not session.live:
        last = [name.rstrip("/").rsplit("/", 1)[-1] or name for name in short]
        short = _where_distinct(last, short)
    return dict(zip(full, short, strict=True))


def _where_distinct(short: Sequence[str], longer: Sequence[str]) -> list[str]:
    """Short names, and longer ones in place of those that would not tell two sources apart."""
    count = Counter(short)
    return [name if count[name] == 1 else other for name, other in zip(short, longer, strict=True)]
