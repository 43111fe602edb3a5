"""A session from its first frame to its summary: a recognizer, and the sinks that it feeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from realtime_mer.errors import InputError
from realtime_mer.interrupts import checkpoint, shielded
from realtime_mer.redaction import redacted_in
from realtime_mer.results import Analysis, MicroExpression, Session, Summary
from realtime_mer.session.sink import Sink, View
from realtime_mer.source.frame import Frame
from realtime_mer.stats import Stats

# When a live source sends nothing for this long, the last analysis is shown again, so that windows
# obey their keys and alerts appear.
_IDLE_S = 0.1


class Runnable(Protocol):
    """What `run` runs: a `Recognizer`, or a `RecognizerGroup`."""

    stats: Stats

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def session(self) -> Session: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def end_reason(self) -> str: ...

    def analyses(self, idle_s: float | None = None) -> Iterator[Analysis]: ...

    def leftover(self) -> Analysis | None: ...

    def summary(self, reason: str) -> Summary: ...


class Callbacks:
    """Functions as a sink."""

    def __init__(
        self,
        on_event: Callable[[MicroExpression], None] | None,
        on_analysis: Callable[[Analysis], None] | None,
    ) -> None:
        self._on_event, self._on_analysis = on_event, on_analysis

    def begin(self, session: Session) -> None:
        pass

    def update(self, analysis: Analysis) -> None:
        if self._on_event is not None:
            for event in analysis.events:
                self._on_event(event)
        if self._on_analysis is not None:
            self._on_analysis(analysis)

    def end(self, summary: Summary) -> None:
        pass


def run(
    recognizer: Runnable,
    sinks: Sequence[Sink],
    window: View | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Runs a recognizer to the end of its source, or until the user stops it.

    Every sink that was begun is ended, also after errors and Ctrl-C: the window, then the sinks in
    their order. So logs that come first are complete while a video is still being written. Before
    that, the sinks receive what had been found when the user stopped it.

    Args:
        recognizer: Closed at the end.
        sinks: They receive every analysis, in this order.
        window: Receives it last, and may hold the session or end it.
        note: Called with each of the recognizer's notes as it appears.

    Returns:
        The summary that the sinks received.
    """
    begun: list[Sink] = []
    reason = "stopped by user"
    error: BaseException | None = None
    everyone = [*sinks, window] if window is not None else list(sinks)
    passed_on = 0

    def pass_on_notes() -> None:
        nonlocal passed_on
        notes = recognizer.notes
        for text in notes[passed_on:]:
            note(text)
        passed_on = len(notes)

    try:
        with recognizer:
            pass_on_notes()
            session = recognizer.session
            for sink in everyone:
                begun.append(sink)
                sink.begin(session)
            shown: dict[int, Frame] = {}
            for analysis in recognizer.analyses(_IDLE_S):
                checkpoint()
                pass_on_notes()
                with recognizer.stats.stage("show"):
                    _show(everyone, analysis)
                # While the source is away its last frame comes again: measure it once.
                if session.live and analysis.frame is not shown.get(analysis.camera):
                    shown[analysis.camera] = analysis.frame
                    until_shown_s = time.monotonic() - analysis.frame.captured_at
                    recognizer.stats.record("until_shown", until_shown_s)
                if window is not None:
                    window.wait_while_paused()
                    if window.wants_quit:
                        break
            else:
                reason = recognizer.end_reason
    except KeyboardInterrupt:
        reason = "stopped by user"
    except BaseException as caught:
        reason, error = redacted_in(f"error: {caught}"), caught
        raise
    finally:
        failed: BaseException | None = None
        with shielded():
            try:
                failed = _hand_over(recognizer, begun)
            finally:
                summary = recognizer.summary(reason)
                at_the_end = _end(begun, summary, window)
                pass_on_notes()
                failed = _both(failed, at_the_end)
        # An error of a sink at the end must not hide the one that ended the run.
        failed = _both(error, failed)
        if failed is not None and failed is not error:
            raise failed
    return summary


def _both(first: BaseException | None, second: BaseException | None) -> BaseException | None:
    """One error that tells the user of both if both are for the user; else the first."""
    if not (isinstance(first, InputError) and isinstance(second, InputError)):
        return first or second
    # An output that failed on the way may fail again at the end.
    return first if str(second) in str(first) else InputError(f"{first} {second}")


def _show(sinks: Sequence[Sink], analysis: Analysis) -> None:
    """Hands an analysis on. Ctrl-C or a sink that fails does not keep it from the later sinks."""
    for place, sink in enumerate(sinks, 1):
        try:
            sink.update(analysis)
        except BaseException:
            _deliver(sinks[place:], analysis)
            raise


def _hand_over(recognizer: Runnable, sinks: Sequence[Sink]) -> BaseException | None:
    """Hands on what had been found when the recognizer was closed; returns the first error."""
    failed: BaseException | None = None
    try:
        while (leftover := recognizer.leftover()) is not None:
            error = _deliver(sinks, leftover)
            failed = failed or error
    except BaseException as error:
        failed = failed or error
    return failed


def _deliver(sinks: Sequence[Sink], analysis: Analysis) -> BaseException | None:
    """Hands an analysis to all sinks, whatever happens; returns the first error."""
    failed: BaseException | None = None
    for sink in sinks:
        try:
            sink.update(analysis)
        except BaseException as error:
            failed = failed or error
    return failed


def _end(
    begun: Sequence[Sink], summary: Summary, window: View | None = None
) -> BaseException | None:
    """Ends all sinks, the window first, whatever happens; returns the first error."""
    failed: BaseException | None = None
    for sink in sorted(begun, key=lambda sink: sink is not window):
        try:
            sink.end(summary)
        except BaseException as error:
            failed = _both(failed, error)
    return failed
