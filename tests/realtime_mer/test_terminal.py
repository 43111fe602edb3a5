"""What a person reads, on a terminal and through a pipe."""

import io
import math
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from rich.console import Console

from realtime_mer.event import Analysis, FaceState, Gap, Interval, MicroExpression, Session, Summary
from realtime_mer.frame import Frame
from realtime_mer.terminal import Terminal, clock

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


def analysis(k=0, score=0.5, events=(), gaps=(), faces=1, dropped=0):
    states = tuple(FaceState(i, LANDMARKS, score, None, ("blink",)) for i in range(faces))
    frame = Frame(k, k / 30, IMAGE, 0.0)
    return Analysis(frame, states, tuple(events), tuple(gaps), 0.0123, 88.31, dropped)


def shown(terminal_session, *analyses, width=100, end=True):
    """Everything that was sent to a real terminal, escape sequences included."""
    out = io.StringIO()
    terminal = Terminal(Console(file=out, force_terminal=True, width=width, highlight=False))
    terminal.begin(terminal_session)
    for a in analyses:
        terminal._shown_at = 0.0  # not throttled
        terminal.update(a)
    if end:
        terminal.end(SUMMARY)
    return out.getvalue()


def test_event_line_says_when_what_how_sure_how_long_and_how_strong():
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


def test_header_that_understates_the_frames_does_no_harm():
    assert "100%" in shown(session(frame_count=10), analysis(50), end=False)


def test_camera_has_a_status_with_drops_face_and_score():
    text = shown(session(live=True, frame_count=0), analysis(score=1.25, dropped=7), end=False)
    for part in ("LIVE", "latency   12 ms", "dropped 7", "face", "1.25", "blink"):
        assert part in text
    assert "%" not in text


@pytest.mark.parametrize(("faces", "words"), [(0, "no face"), (1, "face"), (2, "2 faces")])
def test_status_counts_faces(faces, words):
    assert words in shown(session(live=True), analysis(faces=faces), end=False)


def test_score_that_is_not_known_yet_is_no_error():
    assert "0.00" in shown(session(), analysis(score=math.nan), end=False)


def test_names_are_no_markup():
    assert "cl[red]ip.avi" in shown(session())


@pytest.mark.parametrize("width", [20, 40, 79])
def test_narrow_terminals_are_no_error(width):
    assert shown(session(), analysis(events=[EVENT]), width=width)


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
    assert took_s < 0.5  # that is 1 ms a frame; measured: 1 us, and 1 ms a drawing


def test_summary_has_the_counts():
    text = shown(session(), analysis(events=[EVENT, EVENT]))
    for part in ("stopped by user", "2 negative", "1:01:01.000", "100 analysed, 10 dropped"):
        assert part in text
    for part in ("50 (50%)", "2.0 fps", "12 ms median, 20 ms p95", "412 MB"):
        assert part in text


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
    from realtime_mer.event import Gap
    from realtime_mer.terminal import Terminal
    terminal = Terminal()
    terminal.begin(session())
    terminal.note("30 fps is assumed")
    terminal.update(analysis(events=[EVENT], gaps=[Gap(0, 1.0, 2.5, "face lost")]))
    if sys.stdin.readline() != "go\\n": sys.exit(3)
    terminal.update(analysis(events=[EVENT]))
    terminal.end(SUMMARY)
    """


@pytest.fixture
def piped(request):
    from pathlib import Path

    here = Path(__file__).resolve().parent
    command = [sys.executable, "-c", textwrap.dedent(PIPED), str(here), str(here.parents[1])]
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
    # Three lines and the event are here while the session still goes on.
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


def test_reader_that_has_seen_enough_does_not_end_the_session(piped):
    piped.stdout.readline()
    piped.stdout.close()
    piped.stdin.write("go\n")
    piped.stdin.flush()
    assert piped.wait(10) == 0
    assert "Traceback" not in piped.stderr.read()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00.000"),
        (0.9996, "0:01.000"),
        (59.9999, "1:00.000"),
        (3661.5, "1:01:01.500"),
        (math.nan, "?"),
    ],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_gap_is_told(capsys):
    terminal = Terminal()
    terminal.begin(session())
    terminal.update(analysis(gaps=[Gap(2, 3.0, 4.0, "out of view")]))
    assert "face 2 not seen: out of view" in capsys.readouterr().out
