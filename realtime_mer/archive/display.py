"""What an archive shows while it works: a live table in a terminal, lines elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from realtime_mer.output.clock import clock
from realtime_mer.redaction import printable

# The table is drawn again so often: a new picture each time would flicker over slow connections.
_EVERY_S = 0.25
# Rows of the table: what does not fit is counted.
_MOST_RUNNING = 12
_MOST_FAILED = 5
_NAME_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Running:
    """One video that is being analysed.

    Attributes:
        name: The video.
        time_s: How far the analysis has come.
        duration_s: Length of the video, if it is known.
        seconds: For how long it has been at work.
    """

    name: str
    time_s: float
    duration_s: float | None
    seconds: float

    @property
    def part(self) -> float | None:
        """How much of it is done, 0 to 1, if that is known."""
        return min(1.0, self.time_s / self.duration_s) if self.duration_s else None


@dataclass(slots=True)
class Progress:
    """The figures of a run.

    Attributes:
        inputs, bytes: All that was named.
        done, unchanged, failed, duplicates: Inputs; the unchanged were done by an earlier run.
        in_part: Of the done and unchanged, those of which only a part could be read.
        settled_bytes: Bytes of the inputs that need nothing more.
        analysed_bytes, analysed_s: Bytes and seconds of video analysed in this run.
        events: Events found in this run.
        running: What is at work.
        failures: Name and reason of each input that failed.
        started_at: On `time.monotonic()`.
    """

    inputs: int
    bytes: int
    done: int = 0
    unchanged: int = 0
    failed: int = 0
    duplicates: int = 0
    in_part: int = 0
    settled_bytes: int = 0
    analysed_bytes: int = 0
    analysed_s: float = 0.0
    events: int = 0
    running: tuple[Running, ...] = ()
    failures: list[tuple[str, str]] = field(default_factory=list)
    started_at: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> int:
        """Inputs that nothing has come of yet, running ones among them."""
        return self.inputs - self.done - self.unchanged - self.failed - self.duplicates

    @property
    def hours_an_hour(self) -> float:
        """Hours of video that are analysed in an hour, measured in this run."""
        passed_s = time.monotonic() - self.started_at
        seen_s = self.analysed_s + sum(r.time_s for r in self.running)
        return seen_s / passed_s if passed_s > 0 else 0.0

    def left_s(self, running_bytes: float) -> float | None:
        """Seconds until the end, by bytes: how long the videos are that wait is not known yet.

        Args:
            running_bytes: Bytes analysed of the videos that are at work.
        """
        rate = (self.analysed_bytes + running_bytes) / (time.monotonic() - self.started_at)
        left = self.bytes - self.settled_bytes - running_bytes
        return max(0.0, left / rate) if rate > 0 else None


class Display:
    """Shows a run; a context manager.

    Args:
        console: Where; None for standard output.
    """

    def __init__(self, console: Console | None) -> None:
        self.console = console or Console(highlight=False)
        self._live: Live | None = None
        self._drawn_at = 0.0

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def line(self, text: str, style: str = "") -> None:
        """Prints a line that stays."""
        self.console.print(Text(printable(text, 2000), style=style), soft_wrap=True)

    def update(self, progress: Progress, left_s: float | None) -> None:
        """Draws the table again, if it is time."""
        now = time.monotonic()
        if self._live is not None and now - self._drawn_at >= _EVERY_S:
            self._drawn_at = now
            self._live.update(self._table(progress, left_s), refresh=True)

    def _table(self, progress: Progress, left_s: float | None) -> RenderableType:
        p = progress
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        for running in p.running[:_MOST_RUNNING]:
            length = clock(running.duration_s, 0) if running.duration_s else "?"
            speed = f"{running.time_s / running.seconds:.1f} x" if running.seconds > 1 else ""
            bar = ProgressBar(total=1.0, completed=running.part or 0.0, width=24)
            table.add_row(
                _name(running.name), bar, f"{clock(running.time_s, 0)} of {length}", speed
            )
        rows: list[RenderableType] = [_headline(p, left_s), table]
        if len(p.running) > _MOST_RUNNING:
            rows.append(Text(f"and {len(p.running) - _MOST_RUNNING} more at work", style="dim"))
        for name, reason in p.failures[-_MOST_FAILED:]:
            rows.append(Text(f"failed: {_name(name)}: {printable(reason, 120)}", style="red"))
        if p.failed > _MOST_FAILED:
            rows.append(Text(f"and {p.failed - _MOST_FAILED} failed before", style="red"))
        return Group(*rows)


def _headline(p: Progress, left_s: float | None) -> Text:
    text = Text()
    text.append(f"{p.done + p.unchanged + p.duplicates} of {p.inputs} done", style="bold")
    text.append(f", {len(p.running)} running, ")
    text.append(f"{p.failed} failed", style="red" if p.failed else "")
    text.append(f", {p.left - len(p.running)} waiting   {p.events} events   ")
    text.append(f"{p.hours_an_hour:.1f} h of video an hour   ")
    text.append("" if left_s is None else f"{clock(left_s, 0)} left")
    return text


def summary_lines(p: Progress, results: str) -> Sequence[str]:
    """What is told at the end: the figures, and each failure by name."""
    parts = [f"{p.done} done"]
    if p.unchanged:
        parts.append(f"{p.unchanged} unchanged since an earlier run")
    if p.duplicates:
        parts.append(f"{p.duplicates} with the content of another")
    parts.append(f"{p.failed} failed")
    if p.left:
        parts.append(f"{p.left} not yet done")
    lines = [f"{p.inputs} videos: {', '.join(parts)}; {p.events} events found; {results}"]
    if p.in_part:
        lines.append(f"{p.in_part} of them could be read only in part: the report tells which.")
    lines += [f"failed: {name}: {reason}" for name, reason in p.failures]
    if p.left:
        lines.append("The same command goes on where this was stopped.")
    if p.failures:
        lines.append("--retry-failed does the failed ones again.")
    return lines


def _name(path: str) -> str:
    name = printable(os.path.basename(path) or path)
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"
