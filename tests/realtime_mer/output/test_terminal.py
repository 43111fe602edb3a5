"""The terminal's view, and the lines that a pipe gets."""

import contextlib
import dataclasses
import io
import math
import os
import pty
import re
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from rich.console import Console

from realtime_mer.output.terminal import Terminal
from realtime_mer.results import (
    Analysis,
    Baseline,
    BaselineFlaw,
    FaceState,
    Gap,
    GapReason,
    Interval,
    Mark,
    MicroExpression,
    Session,
    SourceStatus,
    StatusChange,
    Summary,
    Watched,
)
from realtime_mer.source.frame import Frame

IMAGE = np.zeros((4, 4, 3), np.uint8)
LANDMARKS = np.zeros((478, 2), np.float32)
EVENT = MicroExpression(
    face=1,
    interval=Interval(12.4, 12.533, 12.733),
    probabilities={"negative": 0.81, "positive": 0.1, "surprise": 0.09},
    intensity_px=1.7,
    reported_s=12.9,
)
STATS = {"end_to_end_ms": {"count": 9, "median": 12.3, "p95": 20.1}, "peak_memory_mb": 412.0}
SUMMARY = Summary("stopped by user", 110, 100, 10, 50, 3661.0, 50.0, 1, STATS)


def session(live=False, frame_count=200):
    labels = ("negative", "positive", "surprise")
    return Session("cl[red]ip.avi", live, (640, 480), 30, frame_count, "causalnet-x", "CPU", labels)


def event(onset_s, label="negative"):
    rest = [name for name in ("negative", "positive", "surprise") if name != label][:2]
    probabilities = {label: 0.81, rest[0]: 0.1, rest[1]: 0.09}
    interval = Interval(onset_s, onset_s + 0.1, onset_s + 0.2)
    return MicroExpression(0, interval, probabilities, 1.7, onset_s + 0.3)


def analysis(k=0, score=0.5, events=(), gaps=(), faces=1, dropped=0, quality=1.0, **more):
    states = tuple(
        FaceState(i, LANDMARKS, score, None, ("blink",), None, quality) for i in range(faces)
    )
    frame = Frame(k, k / 30, IMAGE, 0.0)
    return Analysis(frame, states, tuple(events), tuple(gaps), 0.0123, 88.31, dropped, **more)


def shown(terminal_session, *analyses, width=100, height=25, end=True, encoding="utf-8"):
    """Everything that a real terminal receives, escape sequences included."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding, newline="")
    terminal = Terminal(
        Console(file=out, force_terminal=True, width=width, height=height, highlight=False)
    )
    terminal.begin(terminal_session)
    for a in analyses:
        terminal._shown_at = 0.0  # not throttled
        terminal.update(a)
    if end:
        terminal.end(SUMMARY)
    out.flush()
    return raw.getvalue().decode(encoding)


def screen(text):
    """The lines on a terminal in the end, without those that rich erased."""
    lines = [""]
    row = 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b") and part != "\r":
            lines[row] += part
    return [line.rstrip() for line in lines]


def test_event_line_has_times_label_confidence_length_motion_and_face():
    text = shown(session(), analysis(events=[EVENT]))
    for part in ("0:12.400 – 0:12.733", "negative", "81%", "333 ms", "1.7 px", "face 1"):
        assert part in text


def test_file_has_a_bar_and_an_estimate():
    text = shown(session(), analysis(99), end=False)
    assert "50%" in text
    assert "left" in text
    assert "━" in text
    assert "88.3 fps" in text
    assert "LIVE" not in text


def test_header_that_declares_too_few_frames_gives_100_percent():
    assert "100%" in shown(session(frame_count=10), analysis(50), end=False)


def test_camera_has_a_status_with_drops_face_and_score():
    text = shown(session(live=True, frame_count=0), analysis(score=1.25, dropped=7), end=False)
    for part in ("LIVE", "12 ms median", "dropped 7", "face 100%", "1.25", "blink"):
        assert part in text
    assert "left" not in text


@pytest.mark.parametrize(("faces", "words"), [(0, "no face"), (1, "face"), (2, "2 faces")])
def test_status_counts_faces(faces, words):
    assert words in shown(session(live=True), analysis(faces=faces), end=False)


def test_a_score_that_is_not_known_is_shown_as_none():
    text = shown(session(), analysis(score=math.nan), end=False)
    assert "     –" in text
    assert "0.00" not in text


def test_source_that_is_away_is_not_live_and_adds_no_latency():
    present, away = analysis(0), analysis(0, faces=0, is_away=True)
    stale = dataclasses.replace(away, latency_s=9.0)
    text = shown(session(live=True), present, stale, stale, end=False)
    last = "".join(screen(text)[1:])
    assert " AWAY " in last
    assert " LIVE " not in last
    assert "12 ms median" in last


def test_brackets_in_names_are_shown():
    assert "cl[red]ip.avi" in shown(session())


def test_health_shows_source_and_face():
    text = shown(
        session(live=True),
        analysis(
            quality=0.42, source_fps=29.97, sensitivity=0.5, alerts=("too dark", "picture froze")
        ),
        end=False,
    )
    for part in ("source 30.0, analysed 88.3 fps", "face 42%", "0.5 false/min"):
        assert part in text
    assert "\x1b[33mtoo dark\x1b[0m" in text
    assert "\x1b[33mpicture froze\x1b[0m" in text


def test_unknown_figures_are_not_shown():
    text = shown(session(live=True), analysis(), end=False)
    assert "source" not in text.replace("source time", "")
    assert "false/min" not in text
    assert "alerts   none" in "".join(screen(text))


@pytest.mark.parametrize("width", [20, 40, 60, 79, 140])
@pytest.mark.parametrize("live", [True, False])
def test_view_fits_any_width(width, live):
    """At the next drawing, a wrapped line would leave its end behind."""
    busy = {"source_fps": 120.0, "sensitivity": 0.25, "alerts": ("too dark", "18 fps: below 25")}
    frames = [analysis(k, 2.0, [event(k)], faces=3, dropped=1234, **busy) for k in range(5)]
    text = shown(session(live), *frames, width=width, end=False)
    # The echo of Ctrl-C at the end of the last line must not wrap either.
    *lines, last = screen(text)[1:]
    assert last.startswith(" LIVE" if live else "  2%")
    assert max(map(len, lines)) <= width
    assert len(last) <= width - 4


def test_curves_show_the_peak_between_two_drawings():
    out = io.StringIO()
    terminal = Terminal(Console(file=out, force_terminal=True, width=100))
    terminal.begin(session())
    terminal._shown_at = time.monotonic() + 60
    terminal.update(analysis(0, score=1.75))
    terminal._shown_at = 0.0
    terminal.update(analysis(1, score=0.25))
    text = "\n".join(screen(out.getvalue()))
    assert "1.75" in text
    assert "0.25" not in text
    assert "▇" in text


def test_newest_events_are_a_table_and_all_become_lines_in_the_end():
    events = [event(10.0 * k, ("negative", "surprise")[k % 2]) for k in range(12)]
    frames = [analysis(k, events=[e]) for k, e in enumerate(events)]
    lines = screen(shown(session(), *frames, height=24, end=False))
    header = next(i for i, line in enumerate(lines) if line.startswith("onset"))
    rows = [i for i, line in enumerate(lines) if "px" in line]
    assert len(rows) == 12
    assert sum(i > header for i in rows) == 8
    assert "1:50.000" in lines[rows[-1]]

    lines = screen(shown(session(), *frames, height=24))
    assert not any(line.startswith("onset") for line in lines)
    rows = [line for line in lines if " px " in line]
    assert [row.split()[0] for row in rows] == [f"{k // 6}:{k % 6}0.000" for k in range(12)]


def test_events_and_gaps_keep_their_order():
    frames = [
        analysis(0, events=[event(1.0)]),
        analysis(1, gaps=[Gap(0, 2.0, 3.0, GapReason.FACE_LOST)]),
        analysis(2, events=[event(4.0)]),
    ]
    found = [line[:8] for line in screen(shown(session(), *frames)) if line.startswith("0:")]
    assert found == ["0:01.000", "0:02.000", "0:04.000"]


def test_label_that_the_card_lacks_is_shown():
    text = shown(session(), analysis(events=[event(1.0, "uncertain")]))
    assert "uncertain  81%" in text
    assert "1 uncertain" in text


def test_burst_of_events_between_two_drawings_is_bounded_and_complete():
    out = io.StringIO()
    terminal = Terminal(Console(file=out, force_terminal=True, width=100))
    terminal.begin(session())
    terminal._shown_at = time.monotonic() + 60
    for k in range(300):
        terminal.update(analysis(k, events=[event(float(k))]))
        terminal._shown_at = max(terminal._shown_at, time.monotonic() + 60)
        assert len(terminal._rows) <= 21
    terminal.end(SUMMARY)
    assert sum(" px " in line for line in screen(out.getvalue())) == 300


def test_terminal_without_utf8_gets_ascii():
    source = Session("Ünï.avi", True, (640, 480), 30, 0, "m", "CPU", ("negative",))
    frame = analysis(score=1.0, events=[EVENT], alerts=("è",))
    text = shown(source, frame, encoding="ascii")
    assert "?n?.avi" in text
    assert "\nscore    =" in "\n".join(screen(shown(source, frame, encoding="ascii", end=False)))
    assert "12.400 - 0:12.733" in text


def test_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    text = shown(session(), analysis(events=[EVENT]), analysis(1))
    assert "\x1b[2K" not in text
    assert "88.3 fps" not in text
    assert text.count("negative   81%") == 1


@contextlib.contextmanager
def pseudo_terminal():
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as file:
        yield master, file


def test_closed_terminal_does_not_end_the_session():
    with pseudo_terminal() as (master, file):
        terminal = Terminal(Console(file=file, force_terminal=True, width=100, height=24))
        terminal.begin(session())
        terminal.update(analysis())
        os.close(master)
        for k in range(3):
            terminal._shown_at = 0.0
            terminal.update(analysis(k, events=[EVENT]))
        terminal.note("still here")
        terminal.end(SUMMARY)


@pytest.mark.parametrize("frames", [0, 1])
def test_cursor_is_hidden_during_the_session_only(frames):
    text = shown(session(), *[analysis()] * frames)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert text.index("\x1b[?25l") < text.index("\x1b[?25h")


def test_status_is_drawn_ten_times_a_second_at_most():
    out = io.StringIO()
    terminal = Terminal(Console(file=out, force_terminal=True, width=100))
    terminal.begin(session())
    before, started = len(out.getvalue()), time.perf_counter()
    for k in range(500):
        terminal.update(analysis(k))
    took_s = time.perf_counter() - started
    frames = out.getvalue()[before:].count("fps")
    assert 1 <= frames <= 2 + took_s / 0.1


def test_summary_has_the_counts():
    text = shown(session(), analysis(events=[EVENT, EVENT]))
    for part in ("stopped by user", "2 negative", "1:01:01.000", "100 analysed, 10 dropped"):
        assert part in text
    for part in ("50 (50%)", "2.0 fps", "12 ms median, 20 ms p95", "412 MB"):
        assert part in text


def test_summary_has_the_watched_time_if_it_is_known():
    watched = Watched(750.0, (580.0, 600.0, 362.0), 600.0)
    out = io.StringIO()
    terminal = Terminal(Console(file=out, width=80))
    terminal.begin(session())
    terminal.update(analysis(events=[EVENT, EVENT]))
    terminal.end(dataclasses.replace(SUMMARY, events=2, watched=watched))
    assert "micro-expressions: 2 (2 negative), 0.2 per readable minute\n" in out.getvalue()
    line = "watched: 12:30, readable (limit <= 1.5 px) "
    assert line + "upper face 9:40, middle face 10:00, lower face 6:02\n" in out.getvalue()
    assert "readable" not in shown(session(), analysis())


@pytest.mark.parametrize(
    ("encoding", "signs"), [("utf-8", ("●", "○", "●●○")), ("ascii", ("#", "-", "##-"))]
)
def test_what_can_be_read_now_is_shown(encoding, signs):
    full, empty, all_three = signs

    def lines(*limits):
        faces = tuple(FaceState(i, LANDMARKS, 0.5, limits=given) for i, given in enumerate(limits))
        text = shown(
            session(),
            dataclasses.replace(analysis(), faces=faces),
            width=120,
            end=False,
            encoding=encoding,
        )
        return [line for line in screen(text) if line.startswith("readable")]

    (line,) = lines((0.8, 1.5, 3.26))
    parts = (
        f"{full} upper face 0.8 px",
        f"{full} middle face 1.5 px",
        f"{empty} lower face 3.3 px",
    )
    assert line == "readable " + "   ".join(parts)
    (line,) = lines((0.8, 1.5, 3.26), None, (2.0, 2.0, 2.0))
    assert line == f"readable face 0 {all_three}   face 2 {3 * empty}"
    assert lines(None) == []


def test_end_before_the_first_frame_is_well_formed():
    empty = Summary("stopped by user", 0, 0, 0, 0, 0.0, 0.0, 0)
    out = io.StringIO()
    terminal = Terminal(Console(file=out, width=80))
    terminal.begin(session())
    terminal.end(empty)
    assert "micro-expressions: 0" in out.getvalue()


PIPED = """
    import sys
    sys.path[:0] = sys.argv[1:]
    from test_terminal import EVENT, SUMMARY, analysis, session
    from realtime_mer.output.terminal import Terminal
    from realtime_mer.results import Gap, GapReason
    terminal = Terminal()
    terminal.begin(session())
    terminal.note("30 fps is assumed")
    terminal.update(analysis(events=[EVENT], gaps=[Gap(0, 1.0, 2.5, GapReason.FACE_LOST)]))
    if sys.stdin.readline() != "go\\n": sys.exit(3)
    terminal.update(analysis(events=[EVENT]))
    terminal.end(SUMMARY)
    """


@pytest.fixture
def piped(request):
    from pathlib import Path

    here = Path(__file__).resolve().parent
    command = [sys.executable, "-c", textwrap.dedent(PIPED), str(here), str(here.parents[2])]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    yield process
    process.kill()
    process.communicate()


def test_pipe_gets_plain_lines_as_things_happen(piped):
    # Three lines and the event arrive before the session ends.
    lines = [piped.stdout.readline() for _ in range(4)]
    rest, errors = piped.communicate("go\n")
    text = "".join(lines) + rest
    assert errors == ""
    assert "\x1b" not in text
    assert "\r" not in text
    assert lines[0].startswith("cl[red]ip.avi (640 x 480, 30 fps, 200 frames), causalnet-x on CPU")
    assert lines[1] == "note: 30 fps is assumed\n"
    assert lines[2] == "0:01.000 - 0:02.500  face 0 not seen: face lost\n"
    assert lines[3] == "0:12.400 - 0:12.733  negative   81%   333 ms   1.7 px  face 1\n"
    assert text.count("negative   81%") == 2
    assert "micro-expressions: 1 (2 negative)" in text
    assert text.isascii()


def test_closed_pipe_does_not_end_the_session(piped):
    piped.stdout.readline()
    piped.stdout.close()
    piped.stdin.write("go\n")
    piped.stdin.flush()
    assert piped.wait(10) == 0
    assert "Traceback" not in piped.stderr.read()


def test_gap_is_a_line(capsys):
    terminal = Terminal()
    terminal.begin(session())
    terminal.update(analysis(gaps=[Gap(2, 3.0, 4.0, GapReason.FACE_JUMPED)]))
    assert "0:03.000 - 0:04.000  face 2 not seen: face jumped\n" in capsys.readouterr().out


LOST = StatusChange(SourceStatus.RECONNECTING, 12.3)
BACK = StatusChange(SourceStatus.RECOVERED, 14.0)


def test_change_of_status_is_a_line_before_the_gap_that_it_ends(capsys):
    terminal = Terminal()
    terminal.begin(session(live=True))
    terminal.update(analysis(statuses=(LOST,)))
    terminal.update(analysis(statuses=(BACK,), gaps=[Gap(0, 12.3, 14.0, GapReason.SOURCE_LOST)]))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "0:12.300  source reconnecting",
        "0:14.000  source recovered",
        "0:12.300 - 0:14.000  face 0 not seen: source lost",
    ]


def test_baseline_is_a_line_that_says_what_it_is_worth():
    poor = Baseline(1, 3.0, 9.0, (BaselineFlaw.SMILE, BaselineFlaw.HEAD_MOVED))
    text = shown(
        session(), analysis(baselines=(Baseline(0, 0.0, 20.0, (), (0.61, 0.7, 0.8)), poor))
    )
    assert (
        "0:00.000 – 0:20.000  baseline of face 0 is good: "
        "upper face 0.6 px, middle face 0.7 px, lower face 0.8 px"
    ) in text
    # It stands out.
    assert "\x1b[33m0:03.000 – 0:09.000  baseline of face 1 is poor: smile, head moved" in text


def test_mark_is_a_line_with_its_text(capsys):
    terminal = Terminal()
    terminal.begin(session())
    terminal.update(analysis(marks=(Mark(12.3, "window"), Mark(14.0, "page", "smile [1]"))))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "0:12.300  marked by window",
        "0:14.000  marked by page: smile [1]",
    ]


def test_loss_of_the_source_stands_out_on_a_terminal_and_its_return_does_not():
    text = shown(session(live=True), analysis(statuses=(LOST, BACK)))
    assert "\x1b[33m0:12.300  source reconnecting\x1b[0m" in text
    assert "\x1b[2m0:14.000  source recovered\x1b[0m" in text


def several(live: bool) -> Session:
    names = ("rtsp://10.0.0.2/live", "camera 1") if live else ("a/left.avi", "a/right.avi")
    each = tuple(
        dataclasses.replace(session(live), source=name, camera=k) for k, name in enumerate(names)
    )
    return dataclasses.replace(each[0], source=" + ".join(names), frame_count=400, sources=each)


def of_source(camera, k=0, live=False, **more):
    source = several(live).sources[camera].source
    return dataclasses.replace(analysis(k, **more), camera=camera, source=source)


def test_lines_of_several_sources_begin_with_the_source():
    found = dataclasses.replace(event(1.0), source="a/right.avi")
    gap = Gap(0, 2.0, 3.0, GapReason.FACE_LOST, source="a/left.avi")
    lines = screen(
        shown(several(False), of_source(1, events=[found]), of_source(0, gaps=[gap]), width=120)
    )
    assert sum(line.startswith("right.avi  0:01.000 – 0:01.200") for line in lines) == 1
    assert sum(line.startswith("left.avi   0:02.000 – 0:03.000") for line in lines) == 1
    for name in ("a/left.avi", "a/right.avi"):
        assert sum(line.startswith(f"{name} (640 x 480") for line in lines) == 1


def test_view_of_several_sources_has_the_health_of_each_and_the_progress_of_all():
    lines = screen(
        shown(
            several(False),
            of_source(0, 99, score=0.5, dropped=3),
            of_source(1, 99, score=1.5, alerts=("too dark",)),
            width=120,
            end=False,
        )
    )
    text = "\n".join(lines)
    assert "50%" in text
    left, right = text.index("\nleft.avi\n"), text.rindex("\nright.avi\n")
    assert "0.50" in text[left:right]
    assert "dropped 3" in text[left:right]
    assert "1.50" in text[right:]
    assert "too dark" in text[right:]
    assert "too dark" not in text[left:right]


def test_a_session_is_away_only_if_all_its_sources_are():
    away = of_source(0, live=True, is_away=True, faces=0)
    assert " LIVE " in shown(several(True), of_source(1, live=True), away, end=False)
    assert " AWAY " in shown(several(True), away, end=False)
