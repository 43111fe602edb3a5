"""The terminal: a live line while it runs, a line for every event, a table at the end."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections import Counter, deque

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from realtime_mer.event import Analysis, Gap, MicroExpression, Session, Summary

REFRESH_S = 0.1

# Okabe and Ito's palette: told apart with any colour vision.
_LABEL_STYLES = ("bold #E69F00", "bold #56B4E9", "bold #CC79A7", "bold #009E73", "bold #F0E442")
_LEVELS = "▁▂▃▄▅▆▇█"


def clock(seconds: float) -> str:
    """Returns seconds as minutes, or hours, with milliseconds.

    Example:
        >>> clock(72.4)
        '1:12.400'
    """
    if not math.isfinite(seconds):
        return "?"
    ms = round(seconds * 1000)
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    tail = f"{ms // 1000:02d}.{ms % 1000:03d}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"


def _short(seconds: float) -> str:
    return clock(seconds).split(".")[0]


def event_line(event: MicroExpression, dash: str = "-") -> str:
    """One event in one line, for people: when, what, how sure, how long, how strong."""
    span = f"{clock(event.interval.onset_s)} {dash} {clock(event.interval.offset_s)}"
    return (
        f"{span:<19}  {event.label:<9} {event.confidence:4.0%}  "
        f"{1000 * event.interval.length_s:4.0f} ms  {event.intensity_px:4.1f} px  "
        f"face {event.face}"
    )


def gap_line(gap: Gap, dash: str = "-") -> str:
    return f"{clock(gap.start_s)} {dash} {clock(gap.end_s)}  face {gap.face} not seen: {gap.reason}"


def session_line(session: Session) -> str:
    facts = [f"{session.size[0]} x {session.size[1]}"]
    if session.fps:
        facts.append(f"{session.fps:.4g} fps")
    if session.frame_count:
        facts.append(f"{session.frame_count} frames")
    return f"{session.source} ({', '.join(facts)}), {session.model} on {session.provider}"


def summary_rows(summary: Summary, labels: Counter[str]) -> list[tuple[str, str]]:
    """The summary as pairs of a name and a value."""
    by_label = ", ".join(f"{n} {label}" for label, n in labels.most_common())
    rows = [
        ("ended by", summary.reason),
        ("micro-expressions", f"{summary.events}" + (f" ({by_label})" if by_label else "")),
        ("source time", clock(summary.duration_s)),
        ("wall clock", clock(summary.wall_s)),
        (
            "frames",
            f"{summary.frames_analysed} analysed, {summary.frames_dropped} dropped, "
            f"{summary.frames_read} read",
        ),
    ]
    if summary.frames_analysed:
        share = summary.frames_with_face / summary.frames_analysed
        rows.append(("with a face", f"{summary.frames_with_face} ({share:.0%})"))
        if summary.wall_s > 0:
            rows.append(("pace", f"{summary.frames_analysed / summary.wall_s:.1f} fps"))
    latency = summary.stats.get("end_to_end_ms")
    if isinstance(latency, dict) and latency.get("count"):
        rows.append(("latency", f"{latency['median']:.0f} ms median, {latency['p95']:.0f} ms p95"))
    memory = summary.stats.get("peak_memory_mb")
    if memory:
        rows.append(("peak memory", f"{memory:.0f} MB"))
    return rows


class Terminal:
    """Shows a session on standard output.

    On a terminal: a status that is drawn anew ten times a second at most, with the event lines
    above it. Anywhere else: plain lines, each flushed when it is written.

    Example:
        terminal = Terminal()
        terminal.note("the frame rate is not known: 30 fps is assumed")
    """

    def __init__(self, console: Console | None = None) -> None:
        """
        Args:
            console: In place of standard output.
        """
        self._console = console or Console(file=sys.stdout, highlight=False)
        utf8 = self._console.encoding.lower().startswith("utf")
        self._dash = "–" if utf8 and self._console.is_terminal else "-"
        self._levels = _LEVELS if utf8 else ""
        self._live: Live | None = None
        self._session: Session | None = None
        self._labels: Counter[str] = Counter()
        self._scores: deque[float] = deque(maxlen=24)
        self._peak = 0.0
        self._shown_at = 0.0
        self._began_at = 0.0
        self._gone = False

    def note(self, text: str) -> None:
        """Tells the user something that is no event: a warning, a fallback, a place of a file."""
        self._line("note: ", text, "yellow")

    def begin(self, session: Session) -> None:
        self._session = session
        self._began_at = time.monotonic()
        self._line("", session_line(session), "bold")
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            # Without a thread of its own: it is drawn when there is something new.
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def update(self, analysis: Analysis) -> None:
        for gap in analysis.gaps:
            self._line("", gap_line(gap, self._dash), "dim")
        for event in analysis.events:
            self._labels[event.label] += 1
            self._line("", event_line(event, self._dash), self._style(event.label))
        if self._live is None:
            return
        scores = [f.score for f in analysis.faces if math.isfinite(f.score)]
        self._peak = max(self._peak, *scores, 0.0)
        now = time.monotonic()
        if now - self._shown_at < REFRESH_S:
            return
        self._shown_at = now
        self._scores.append(self._peak)
        self._peak = 0.0
        self._live.update(self._status(analysis, now), refresh=True)

    def end(self, summary: Summary) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        rows = summary_rows(summary, self._labels)
        if not self._console.is_terminal:
            for name, value in rows:
                self._line("", f"{name}: {value}", "")
            return
        table = Table(title="Summary", title_justify="left", show_header=False, box=None)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, Text(value))
        self._console.print()
        self._console.print(table)

    def _style(self, label: str) -> str:
        labels = self._session.labels if self._session else ()
        return _LABEL_STYLES[labels.index(label) % len(_LABEL_STYLES)] if label in labels else ""

    def _line(self, head: str, text: str, style: str) -> None:
        if self._console.is_terminal:
            # Text objects: what stands in brackets in a file name is no markup.
            self._console.print(Text(head + text, style=style), soft_wrap=True)
            return
        if self._gone:
            return
        try:
            file = self._console.file
            encoding = getattr(file, "encoding", None) or "utf-8"
            file.write((head + text).encode(encoding, "replace").decode(encoding) + "\n")
            file.flush()
        except OSError:
            # `| head` has seen enough, or the disk behind the output is full. Logs and analysis go
            # on, and the interpreter's own flush at exit must find an open file.
            self._gone = True
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, file.fileno())
                os.close(null)

    def _status(self, analysis: Analysis, now: float) -> RenderableType:
        assert self._session is not None
        first = self._source_line(analysis, now)
        second = Text(no_wrap=True, overflow="ellipsis")
        second.append(f"{analysis.fps:5.1f} fps", "bold")
        second.append(f"   latency {1000 * analysis.latency_s:4.0f} ms")
        if self._session.live or analysis.dropped:
            second.append(f"   dropped {analysis.dropped}", "yellow" if analysis.dropped else "")
        faces = len(analysis.faces)
        second.append(
            "   no face" if not faces else "   face" if faces == 1 else f"   {faces} faces",
            "" if faces else "yellow",
        )
        nuisances = sorted({n for f in analysis.faces for n in f.nuisances})
        second.append("   score ")
        second.append(self._sparkline(), "#56B4E9")
        second.append(f" {self._scores[-1]:4.2f}", "bold #E69F00" if self._scores[-1] >= 1 else "")
        if nuisances:
            second.append(f"   {', '.join(nuisances)}", "dim")
        return Group(first, second)

    def _source_line(self, analysis: Analysis, now: float) -> RenderableType:
        assert self._session is not None
        events = sum(self._labels.values())
        counted = f"{events} event{'' if events == 1 else 's'}"
        done, total = analysis.frame.index + 1, self._session.frame_count
        if self._session.live or not total:
            line = Text(no_wrap=True, overflow="ellipsis")
            line.append(" LIVE " if self._session.live else " FILE ", "bold black on #009E73")
            line.append(f" {_short(analysis.frame.time_s)}   {counted}   Ctrl-C ends")
            return line
        share = min(1.0, done / total)
        # The mean pace, not the momentary one: an estimate that jumps is of no use.
        left_s = (now - self._began_at) * (total - done) / done if done < total else 0.0
        grid = Table.grid(padding=(0, 2), expand=True)
        for ratio in (None, 1, None, None):
            grid.add_column(ratio=ratio, no_wrap=True)
        grid.add_row(
            f"{share:4.0%}",
            ProgressBar(total=total, completed=min(done, total)),
            f"{_short(analysis.frame.time_s)}, {_short(left_s)} left",
            counted,
        )
        return grid

    def _sparkline(self) -> str:
        # Full height is twice the threshold.
        top = len(self._levels) - 1
        return "".join(self._levels[min(top, int(s / 2 * top + 0.5))] for s in self._scores if top)
