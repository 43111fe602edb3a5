"""The terminal: a live view, a line for every event, and a summary at the end."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import statistics
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from realtime_mer.output.clock import clock
from realtime_mer.output.label_colours import LABEL_COLOURS, place_of
from realtime_mer.output.per_source import short_names
from realtime_mer.output.size import size_of
from realtime_mer.redaction import printable
from realtime_mer.results import (
    PARTS,
    READABLE_PX,
    Analysis,
    Baseline,
    Gap,
    Mark,
    MicroExpression,
    Session,
    SourceStatus,
    StatusChange,
    Summary,
)

# Chosen by judgement: figures that change faster cannot be read.
REFRESH_S = 0.1

# What has a line.
_Result = MicroExpression | Gap | StatusChange | Baseline | Mark

# A terminal may be light: there nobody could read the last one, a pale blue.
_LABEL_COLOURS = (*LABEL_COLOURS[:-1], "#7777f8")
# Okabe and Ito's palette, which any colour vision tells apart.
_THRESHOLD_STYLE = "bold #E69F00"
_CURVE_STYLE = "#56B4E9"
_ALERT_STYLE = "yellow"
_READABLE_STYLE = "#009E73"
_LEVELS = "▁▂▃▄▅▆▇█"
_ASCII_LEVELS = "_.:-=+*#"

# Marks of a curve, one a drawing: ten seconds.
_CURVE_LENGTH = 100
# The median latency is over this many frames: ten seconds at 30 fps.
_LATENCIES = 300
# The latency curve's scale ends here or higher, so that jitter of a few milliseconds looks flat.
_LATENCY_SCALE_MS = 40.0
# Chosen by judgement: a face of a quality below this is shown as a warning.
_POOR_QUALITY = 0.5
_FACES_SHOWN = 4
# Narrower terminals, in columns, show an event's onset without its offset.
_NARROW = 68
_MAX_ROWS = 20


def _short(seconds: float) -> str:
    return clock(seconds).split(".")[0]


def event_line(event: MicroExpression, dash: str = "-", narrow: bool = False) -> str:
    """An event as a line: onset and offset, label, confidence, length, motion, face."""
    when = clock(event.interval.onset_s)
    if not narrow:
        when = f"{when} {dash} {clock(event.interval.offset_s):<8}"
    length_ms, motion_px = size_of(event)
    return (
        f"{when}  {event.label:<9} {event.confidence:4.0%}  "
        f"{length_ms:>4} ms  {motion_px:>4} px  face {event.face}"
    )


def _header(narrow: bool) -> str:
    """The header above event lines."""
    return f"{'onset' if narrow else 'onset, offset':<{8 if narrow else 19}}  " + (
        f"{'label':<9} {'conf':>4}  {'length':>7}  {'motion':>7}"
    )


def gap_line(gap: Gap, dash: str = "-") -> str:
    return f"{clock(gap.start_s)} {dash} {clock(gap.end_s)}  face {gap.face} not seen: {gap.reason}"


def status_line(change: StatusChange) -> str:
    return f"{clock(change.time_s)}  source {change.status}"


def mark_line(mark: Mark) -> str:
    text = f": {mark.text}" if mark.text else ""
    return f"{clock(mark.time_s)}  marked by {mark.by}{text}"


def baseline_line(baseline: Baseline, dash: str = "-") -> str:
    when = f"{clock(baseline.start_s)} {dash} {clock(baseline.end_s)}"
    text = f"{when}  baseline of face {baseline.face} "
    if not baseline.is_good:
        return f"{text}is poor: {', '.join(baseline.flaws)}"
    if baseline.limits_px is None:
        return f"{text}is good"
    limits = zip(PARTS, baseline.limits_px, strict=True)
    return f"{text}is good: " + ", ".join(f"{part} {limit:.1f} px" for part, limit in limits)


def session_line(session: Session) -> str:
    facts = [f"{session.size[0]} x {session.size[1]}"]
    if session.fps:
        facts.append(f"{session.fps:.4g} fps")
    if session.frame_count:
        facts.append(f"{session.frame_count} frames")
    return f"{session.source} ({', '.join(facts)}), {session.model} on {session.provider}"


def summary_rows(summary: Summary, labels: Counter[str]) -> list[tuple[str, str]]:
    """The summary as pairs of a name and a value.

    Args:
        summary: The session's figures.
        labels: How many events have each label.
    """
    by_label = ", ".join(f"{n} {label}" for label, n in labels.most_common())
    found = f"{summary.events}" + (f" ({by_label})" if by_label else "")
    watched = summary.watched
    if (rate := watched.events_per_minute(summary.events)) is not None:
        found += f", {rate:.2g} per readable minute"
    rows = [("ended by", summary.reason), ("micro-expressions", found)]
    if watched.watched_s:
        parts = zip(PARTS, watched.readable_s, strict=True)
        by_part = ", ".join(f"{part} {_short(total)}" for part, total in parts)
        rows.append(
            (
                "watched",
                f"{_short(watched.watched_s)}, readable (limit <= {READABLE_PX:g} px) {by_part}",
            )
        )
    rows += [
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


class _Lines:
    """Lines that need no layout, for which rich's tables and grids take milliseconds."""

    def __init__(self, lines: Iterable[list[Segment]]) -> None:
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._lines:
            yield from line
            yield Segment.line()


class _Curve:
    """A curve of block characters. Each is the largest value since the one before it, or blank."""

    def __init__(self, levels: str) -> None:
        self._levels = levels
        self._values: deque[float] = deque(maxlen=_CURVE_LENGTH)
        self._greatest = math.nan

    def add(self, value: float) -> None:
        self._greatest = value if math.isnan(self._greatest) else max(self._greatest, value)

    def step(self) -> None:
        """Appends the mark for the values added since the last one."""
        self._values.append(self._greatest)
        self._greatest = math.nan

    @property
    def last(self) -> float:
        """The value of the newest mark; NaN if it is blank."""
        return self._values[-1] if self._values else math.nan

    @property
    def greatest(self) -> float:
        return max((v for v in self._values if not math.isnan(v)), default=0.0)

    def segments(self, width: int, full: float, threshold: float = math.inf) -> list[Segment]:
        """The newest marks.

        Args:
            width: How many cells to fill; blanks follow if there are fewer marks.
            full: The value of the highest mark.
            threshold: From this value on, marks are highlighted.
        """
        values = list(self._values)[-width:]
        top = len(self._levels) - 1
        segments = []
        for high, run in itertools.groupby(values, lambda v: v >= threshold):
            marks = "".join(
                " " if math.isnan(v) else self._levels[min(top, int(v / full * top + 0.5))]
                for v in run
            )
            segments.append(_styled(marks, _THRESHOLD_STYLE if high else _CURVE_STYLE))
        return [*segments, Segment(" " * (width - len(values)))]


class _Gauge:
    """What the view shows of a source: its curves, and its newest analysis."""

    def __init__(self, levels: str, session: Session) -> None:
        self.session = session
        self.scores, self.delays = _Curve(levels), _Curve(levels)
        self.latencies: deque[float] = deque(maxlen=_LATENCIES)
        self.newest: Analysis | None = None
        self._has_news = False

    def add(self, analysis: Analysis) -> None:
        self.newest, self._has_news = analysis, True
        for face in analysis.faces:
            if math.isfinite(face.score):
                self.scores.add(face.score)
        if not analysis.is_away:
            self.delays.add(1000 * analysis.latency_s)
            self.latencies.append(1000 * analysis.latency_s)

    def step(self) -> None:
        """Appends a mark to each curve, if an analysis has come since the last one."""
        if self._has_news:
            self._has_news = False
            self.scores.step()
            self.delays.step()


def _styled(text: str, style: str = "") -> Segment:
    return Segment(text, Style.parse(style) if style else None)


class Terminal:
    """Shows a session on standard output.

    On a terminal: curves, health and the newest events, redrawn ten times a second at most. An
    event that has to leave this view becomes a line above it, and so do those in it at the end:
    scrolling back shows all events in order. Elsewhere: plain lines, each flushed when it is
    written.

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
        self._utf8 = self._console.encoding.lower().startswith("utf")
        self._dash = "–" if self._utf8 and self._console.is_terminal else "-"
        levels = _LEVELS if self._utf8 else _ASCII_LEVELS
        self._live: Live | None = None
        self._session: Session | None = None
        self._labels: Counter[str] = Counter()
        self._levels = levels
        # Of each source; and the short names of several.
        self._gauges: list[_Gauge] = []
        self._names: dict[str, str] = {}
        # What is in the view and not yet a line above it, the oldest first.
        self._rows: deque[_Result] = deque()
        self._shown_at = 0.0
        self._began_at = 0.0

    def note(self, text: str) -> None:
        """Prints a message for the user: a warning, a fallback, where a file is."""
        self._line("note: " + text, "yellow")

    def begin(self, session: Session) -> None:
        self._session = session
        self._began_at = time.monotonic()
        self._names = short_names(session)
        self._gauges = [_Gauge(self._levels, source) for source in session.each]
        for source in session.each:
            self._line(session_line(source), "bold")
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            with self._ignoring_a_closed_output():
                # Without rich's own thread: `update` draws.
                self._live = Live(console=self._console, auto_refresh=False, transient=True)
                self._live.start()

    def update(self, analysis: Analysis) -> None:
        self._labels.update(event.label for event in analysis.events)
        self._rows += [*analysis.statuses, *analysis.gaps, *analysis.baselines]
        self._rows += [*analysis.events, *analysis.marks]
        if self._live is None:
            self._write_rows(keep=0)
            return
        self._gauges[analysis.camera].add(analysis)
        now = time.monotonic()
        # Many events between two drawings must not fill the memory.
        if now - self._shown_at < REFRESH_S and len(self._rows) <= _MAX_ROWS:
            return
        self._shown_at = now
        for gauge in self._gauges:
            gauge.step()
        self._write_rows(keep=self._room())
        with self._ignoring_a_closed_output():
            self._live.update(_Lines(self._view(analysis, now)), refresh=True)

    def end(self, summary: Summary) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            with self._ignoring_a_closed_output():
                live.stop()
        self._write_rows(keep=0)
        rows = summary_rows(summary, self._labels)
        for source in summary.sources:
            events = f"{source.events} event{'' if source.events == 1 else 's'}"
            rows.append((self._names.get(source.source, ""), f"{events}, {source.reason}"))
        if not self._console.is_terminal:
            for name, value in rows:
                self._line(f"{name}: {value}")
            return
        table = Table(title="Summary", title_justify="left", show_header=False, box=None)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, Text(self._encodable(value)))
        with self._ignoring_a_closed_output():
            self._console.print()
            self._console.print(table)

    def _style(self, label: str) -> str:
        place = place_of(label, self._session.labels if self._session else ())
        return "" if place is None else f"bold {_LABEL_COLOURS[place % len(_LABEL_COLOURS)]}"

    # Lines

    def _write_rows(self, keep: int) -> None:
        """Turns all but the newest rows into lines."""
        while len(self._rows) > keep:
            self._line(*self._row(self._rows.popleft()))

    def _row(self, result: _Result) -> tuple[str, str]:
        """The text and the style of a row, with the source if there are several."""
        text, style = self._row_of_one(result)
        name = self._names.get(result.source)
        return (text if name is None else f"{self._named(name)}{text}"), style

    def _named(self, name: str) -> str:
        """A source's name before a line; all are equally wide."""
        return f"{name:<{max(map(len, self._names.values()))}}  "

    def _row_of_one(self, result: _Result) -> tuple[str, str]:
        if isinstance(result, Gap):
            return gap_line(result, self._dash), "dim"
        if isinstance(result, Baseline):
            style = "bold" if result.is_good else _ALERT_STYLE
            return baseline_line(result, self._dash), style
        if isinstance(result, Mark):
            return mark_line(result), "bold"
        if isinstance(result, StatusChange):
            is_well = result.status is SourceStatus.RECOVERED
            return status_line(result), "dim" if is_well else _ALERT_STYLE
        return event_line(result, self._dash, self._is_narrow), self._style(result.label)

    @property
    def _is_narrow(self) -> bool:
        return self._console.is_terminal and self._console.width < _NARROW

    def _line(self, text: str, style: str = "") -> None:
        text = self._encodable(text)
        with self._ignoring_a_closed_output():
            if self._console.is_terminal:
                # A Text: in a plain string, rich would take brackets (in a file name) for markup.
                self._console.print(Text(text, style=style), soft_wrap=True)
            else:
                self._console.file.write(text + "\n")
                self._console.file.flush()

    def _encodable(self, text: str) -> str:
        """The text as this output can hold it, without control characters."""
        encoding = getattr(self._console.file, "encoding", None) or "utf-8"
        return printable(text).encode(encoding, "replace").decode(encoding)

    @contextlib.contextmanager
    def _ignoring_a_closed_output(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            # The pipe or the terminal was closed, or the disk is full. Logs and analysis continue.
            # From now on, write to nowhere: the interpreter flushes at exit and needs an open file.
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._console.file.fileno())
                os.close(null)

    # The view

    def _room(self) -> int:
        """Rows that the view may have: at most about half of the terminal's lines."""
        taken = 8 + 3 * len(self._names)
        return max(0, min(_MAX_ROWS, (self._console.height - taken) // 2))

    def _view(self, analysis: Analysis, now: float) -> list[list[Segment]]:
        width = self._console.width
        lines = []
        if self._rows:
            header = _header(self._is_narrow)
            if self._names:
                header = self._named("source") + header
            lines.append([_styled(header, "dim underline")])
            rows = (self._row(row) for row in self._rows)
            lines += [[_styled(self._encodable(text), style)] for text, style in rows]
        for gauge in self._gauges:
            if gauge.newest is not None:
                lines += self._lines_of(gauge, gauge.newest, width)
        # Leave room for "^C^C", which the terminal echoes at the end of the last line.
        width = max(1, width - 5)
        lines.append(
            Segment.adjust_line_length(self._progress(analysis, now, width), width, pad=False)
        )
        return lines

    def _lines_of(self, gauge: _Gauge, analysis: Analysis, width: int) -> list[list[Segment]]:
        """What is shown of a source; of several, only what is needed most."""
        curves = self._curves(gauge, analysis, width)
        health = self._health(gauge, analysis)
        alerts = [_styled(self._encodable(alert), _ALERT_STYLE) for alert in analysis.alerts]
        if self._names:
            name = self._encodable(self._names[gauge.session.source])
            title = [_styled(name, "bold")]
            return [title, curves[0], *_packed("health", [*health, *alerts], width)]
        return [
            *curves,
            *_packed("health", health, width),
            *self._readable(analysis, width),
            *_packed("alerts", alerts or [_styled("none", "dim")], width),
        ]

    def _curves(self, gauge: _Gauge, analysis: Analysis, width: int) -> list[list[Segment]]:
        room = max(8, min(_CURVE_LENGTH, width - 36))
        score, latency = gauge.scores.last, statistics.median(gauge.latencies or [0.0])
        shown = f"{self._dash:>5}" if math.isnan(score) else f"{score:5.2f}"
        full_ms = max(_LATENCY_SCALE_MS, gauge.delays.greatest)
        nuisances = sorted({n for face in analysis.faces for n in face.nuisances})
        return [
            [
                _title("score"),
                # Twice the threshold fills the height.
                *gauge.scores.segments(room, 2.0, threshold=1.0),
                _styled(f" {shown}", _THRESHOLD_STYLE if score >= 1 else ""),
                _styled("  " + ", ".join(nuisances), "dim"),
            ],
            [
                _title("latency"),
                *gauge.delays.segments(room, full_ms),
                _styled(f" {latency:5.0f} ms median"),
            ],
        ]

    def _health(self, gauge: _Gauge, analysis: Analysis) -> Iterator[Segment]:
        """The pieces of the line "health"."""
        source = f"source {analysis.source_fps:.1f}, " if analysis.source_fps > 0 else ""
        yield _styled(f"{source}analysed {analysis.fps:.1f} fps")
        if gauge.session.live or analysis.dropped:
            yield _styled(f"dropped {analysis.dropped}", _ALERT_STYLE if analysis.dropped else "")
        faces = analysis.faces
        if not faces:
            yield _styled("no face", _ALERT_STYLE)
        else:
            qualities = " ".join(f"{face.quality:.0%}" for face in faces[:_FACES_SHOWN])
            poor = min(face.quality for face in faces) < _POOR_QUALITY
            many = "face" if len(faces) == 1 else f"{len(faces)} faces"
            yield _styled(f"{many} {qualities}", _ALERT_STYLE if poor else "")
        if analysis.sensitivity is not None:
            yield _styled(f"{analysis.sensitivity:.2g} false/min")

    def _readable(self, analysis: Analysis, width: int) -> list[list[Segment]]:
        """The line "readable": what can be read now; none if that is not known."""
        known = [(face.face, face.limits) for face in analysis.faces if face.limits is not None]
        if not known:
            return []
        if len(analysis.faces) == 1:
            return _packed("readable", self._limits(known[0][1]), width)
        signs = (_styled(f"face {n} {self._glass(limits)}") for n, limits in known[:_FACES_SHOWN])
        return _packed("readable", signs, width)

    def _limits(self, limits: tuple[float, float, float]) -> Iterator[Segment]:
        """Each part with its limit."""
        for sign, part, limit in zip(self._glass(limits), PARTS, limits, strict=True):
            style = _READABLE_STYLE if limit <= READABLE_PX else "dim"
            yield _styled(f"{sign} {part} {limit:.1f} px", style)

    def _glass(self, limits: tuple[float, float, float]) -> str:
        """A sign for each part, filled if it can be read."""
        full, empty = ("●", "○") if self._utf8 else ("#", "-")
        return "".join(full if limit <= READABLE_PX else empty for limit in limits)

    def _progress(self, analysis: Analysis, now: float, width: int) -> list[Segment]:
        assert self._session is not None
        events = sum(self._labels.values())
        counted = f"{events} event{'' if events == 1 else 's'}"
        time_s = _short(analysis.frame.time_s)
        newest = [gauge.newest for gauge in self._gauges if gauge.newest is not None]
        done, total = sum(n.frame.index + 1 for n in newest), self._session.frame_count
        if self._session.live or not total:
            badge = _styled(" LIVE " if self._session.live else " FILE ", "bold black on #009E73")
            if all(n.is_away for n in newest):
                badge = _styled(" AWAY ", _ALERT_STYLE)
            return [badge, _styled(f"   {time_s}   {counted}   Ctrl-C ends")]
        share = min(1.0, done / total)
        # By the mean pace: the momentary one would make the estimate jump.
        left_s = (now - self._began_at) * (total - done) / done if done < total else 0.0
        percent, tail = f"{share:4.0%}     ", f"  {time_s}, {_short(left_s)} left  {counted}"
        room = max(4, width - len(percent) - len(tail))
        full = round(share * room)
        bar, rest = ("━", "━") if self._utf8 else ("#", "-")
        return [
            _styled(percent),
            _styled(bar * full, _CURVE_STYLE),
            _styled(rest * (room - full), "dim"),
            _styled(tail),
        ]


def _title(name: str) -> Segment:
    return _styled(f"{name:<9}", "dim")


def _packed(name: str, pieces: Iterable[Segment], width: int) -> list[list[Segment]]:
    """The pieces side by side, in as many lines as they need."""
    lines, used = [[_title(name)]], 9
    for piece in pieces:
        if used > 9 and used + piece.cell_length > width:
            lines.append([_title("")])
            used = 9
        lines[-1] += [piece, Segment("   ")]
        used += piece.cell_length + 3
    return lines
