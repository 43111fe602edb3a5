"""The pictures of README.md and docs/, made from the demo clip: no camera, no display.

    python tools/pictures.py [--out DIR] [overlay] [demo] [terminal] [page]

    overlay   overlay.png: the overlay when an event has just been reported
    demo      demo.gif: a micro-expression in slow motion, beside it the same motion enlarged
    terminal  terminal.svg: the terminal at the end of the clip
    page      page.png: the page of --serve when an event has just been reported; needs Chromium

Without a name it makes all of them. The clip is the one of `--demo`, and the program runs on it as
on any video. Of the events whose label is that of the hidden micro-expression, the pictures show
the one with the largest hidden motion, because it is the easiest to see. If no label is right,
there are no pictures.

Exit status: 0 when every picture was made, 1 when one was skipped, 2 when none could be made.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import cv2
import numpy as np
from PIL import Image  # Pillow comes with scikit-image
from rich.console import Console
from rich.text import Text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realtime_mer.demo.clip import DemoTruth, HiddenEvent, make_demo_clip
from realtime_mer.demo.score import compare
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.registration import FACE_SIZE, CanonicalFace, Registration
from realtime_mer.face.tracker import FaceTracker
from realtime_mer.output.clock import clock
from realtime_mer.output.overlay import (
    BACKGROUND,
    BRIGHT,
    DIM,
    LABEL_COLOURS,
    YELLOW,
    Overlay,
    VideoOverlay,
    put_text,
)
from realtime_mer.output.overlay.heat import QUIET_PX
from realtime_mer.output.terminal import Terminal
from realtime_mer.output.web import WebView
from realtime_mer.recognition.flow_pair import DenseFlow
from realtime_mer.results import Analysis, MicroExpression, Session, Summary
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.session.run import run
from realtime_mer.session.sink import Sink
from realtime_mer.source.frame import Frame
from realtime_mer.source.opencv import quiet_opencv
from realtime_mer.spotting.cell_flow import to_cells
from realtime_mer.spotting.motion import RigidMotion, texture_trust

_ROOT = Path(__file__).resolve().parent.parent
_CLIP = "demo.avi"

# The moving picture starts and ends this long before the onset and after the report.
_LEAD_S, _TAIL_S = 0.4, 0.8
SLOWER = 4
GAIN = 6
"""How many times the motion is enlarged: 1 to 3 px become wide enough to see at a glance."""
_LAST_FRAME_MS = 1500
# Width and height of each of its two halves, and of the lines of text above and below, pixels.
_HALF = 320
_LINE = 28
# The measured motion is shown without the steps between its cells of 8 pixels.
_SMOOTH_PX = 8.0
# A pixel that differs from the frame before by no more than this is sensor noise and stays as it
# is: that makes the file five times smaller. The clip's noise has a standard deviation of 1.5.
_NOISE_LEVELS = 8

# Size of the terminal, characters: all events of the clip have room.
_COLUMNS, _ROWS = 84, 30
# What moves the cursor and clears lines (ECMA-48); colours stay.
_CURSOR_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Zhl]|\r")

# Width and height of the page, pixels.
_PAGE_SIZE = (1200, 750)
_WAITING_SIZE = (320, 240)
_PAGE_TIMEOUT_S = 60.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_PAGE_IS_OPEN = "document.getElementById('connection')?.className === 'open'"
# The page has drawn the video, its status, and the event at a time with its faces.
_PAGE_IS_COMPLETE = (
    "document.getElementById('picture').dataset.shown === 'yes'"
    " && document.getElementById('time').textContent !== '–'"
    " && document.querySelector('#events li:first-child')?.textContent.includes('{time}')"
    " && document.querySelectorAll('#events li:first-child canvas').length === 2"
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The event that the pictures show, and the micro-expression that it found."""

    event: MicroExpression
    hidden: HiddenEvent

    def is_reported_in(self, analysis: Analysis) -> bool:
        return any(event.interval == self.event.interval for event in analysis.events)


class Picture(Sink, Protocol):
    """Makes one picture while the program runs on the clip."""

    def save(self, folder: Path) -> Path:
        """Writes the picture after the run; returns its path."""
        ...


class OverlayPicture:
    """The overlay in the frame in which the event is reported."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._overlay = Overlay()
        self._picture: np.ndarray | None = None

    def begin(self, session: Session) -> None:
        self._overlay.begin(session)

    def update(self, analysis: Analysis) -> None:
        self._overlay.update(analysis)
        if self._choice.is_reported_in(analysis):
            self._picture = self._overlay.picture().copy()

    def end(self, summary: Summary) -> None:
        pass

    def save(self, folder: Path) -> Path:
        assert self._picture is not None
        return _write(folder / "overlay.png", _png(self._picture))


class MovingPicture:
    """The overlay around the event, slowed; beside it the face with its motion enlarged."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        interval = choice.event.interval
        self._span_s = (interval.onset_s - _LEAD_S, choice.event.reported_s + _TAIL_S)
        self._overlay = Overlay()
        self._frames: list[Frame] = []
        # Where the overlay was drawn around the face, (320, 320, 3).
        self._views: list[np.ndarray] = []
        self._place: tuple[int, int] | None = None
        self._labels: tuple[str, ...] = ()

    def begin(self, session: Session) -> None:
        self._overlay.begin(session)
        self._labels = session.labels

    def update(self, analysis: Analysis) -> None:
        self._overlay.update(analysis)
        start_s, end_s = self._span_s
        if not start_s <= analysis.frame.time_s <= end_s or not analysis.faces:
            return
        if self._place is None:
            height, width = analysis.frame.image.shape[:2]
            middle = analysis.faces[0].landmarks.mean(0)
            # A little higher than the face, since the label stands above it.
            x, y = (middle - (_HALF / 2, 0.6 * _HALF)).astype(int)
            self._place = int(np.clip(x, 0, width - _HALF)), int(np.clip(y, 0, height - _HALF))
        x, y = self._place
        self._frames.append(analysis.frame)
        self._views.append(self._overlay.picture()[y : y + _HALF, x : x + _HALF].copy())

    def end(self, summary: Summary) -> None:
        pass

    def save(self, folder: Path) -> Path:
        enlarged = enlarged_motion(self._frames, self._choice.event.interval.onset_s)
        pictures = [
            self._composed(frame, view, face)
            for frame, view, face in zip(self._frames, self._views, enlarged, strict=True)
        ]
        period_ms = 1000 * SLOWER * (self._frames[-1].time_s - self._frames[0].time_s)
        period_ms /= len(self._frames) - 1
        return _write(folder / "demo.gif", _gif(pictures, period_ms))

    def _composed(self, frame: Frame, view: np.ndarray, face: np.ndarray) -> np.ndarray:
        event, hidden = self._choice.event, self._choice.hidden
        width = 2 * _HALF
        picture = np.full((_HALF + 2 * _LINE, width, 3), BACKGROUND, np.uint8)
        picture[_LINE : _LINE + _HALF, :_HALF] = view
        picture[_LINE : _LINE + _HALF, _HALF:] = face
        above, below, margin = 19, _HALF + _LINE + 19, 10
        put_text(picture, f"{SLOWER} times slower", margin, above, 14, DIM)
        put_text(picture, f"its motion enlarged {GAIN} times", _HALF + margin, above, 14, DIM)
        put_text(picture, clock(frame.time_s), margin, below, 14, BRIGHT, 600)
        in_motion = hidden.interval.onset_s <= frame.time_s <= hidden.interval.offset_s
        truth = f"hidden: {hidden.label} ({' + '.join(hidden.action_units)})"
        put_text(picture, truth, margin + 80, below, 14, YELLOW if in_motion else DIM)
        if frame.time_s >= event.reported_s:
            colour = LABEL_COLOURS[self._labels.index(event.label) % len(LABEL_COLOURS)]
            text = f"found: {event.label} {event.confidence:.0%}"
            put_text(picture, text, width - margin, below, 14, colour, 700, right=True)
        return picture


def enlarged_motion(frames: Sequence[Frame], onset_s: float) -> list[np.ndarray]:
    """The registered face at the onset, moved `GAIN` times as far as the program measures.

    Motion below `QUIET_PX` is left out, as in the overlay's heat map.

    Args:
        frames: Frames with one face.
        onset_s: The motion of each frame is measured from the frame at this time.

    Returns:
        For each frame a BGR picture, 320 x 320.
    """
    faces = _registered(frames)
    start = min(range(len(frames)), key=lambda i: abs(frames[i].time_s - onset_s))
    scale = _HALF / FACE_SIZE
    onset = cv2.warpAffine(
        frames[start].image,
        faces[start].matrix * scale,
        (_HALF, _HALF),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    rows, columns = np.mgrid[0:_HALF, 0:_HALF].astype(np.float32)
    flow = DenseFlow()
    pictures = []
    for face in faces:
        rigid = RigidMotion(face.landmarks, texture_trust(face.grey))
        cells = to_cells(rigid.remove_dense(flow(faces[start].grey, face.grey)))  # (28, 28, 2)
        length = np.linalg.norm(cells, axis=-1, keepdims=True)
        cells = (cells * np.clip(length / QUIET_PX - 1, 0, 1)).astype(np.float32)
        field = cv2.resize(cells * (GAIN * scale), (_HALF, _HALF), interpolation=cv2.INTER_CUBIC)
        field = cv2.GaussianBlur(field, (0, 0), _SMOOTH_PX)
        # Where the skin at each pixel came from: solves back(q) = field(q - back(q)).
        back = field
        for _ in range(5):
            x, y = columns - back[..., 0], rows - back[..., 1]
            back = cv2.remap(field, x, y, cv2.INTER_LINEAR)
        x, y = columns - back[..., 0], rows - back[..., 1]
        pictures.append(cv2.remap(onset, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
    return pictures


def _registered(frames: Sequence[Frame]) -> list[CanonicalFace]:
    register = Registration()
    with FaceTracker(find_landmark_model()) as tracker:
        return [
            register(frame.image, tracker.track(frame)[0].landmarks, frame.time_s)
            for frame in frames
        ]


class TerminalPicture:
    """What the terminal shows when it is last drawn, with all events of the clip."""

    def __init__(self, choice: Choice) -> None:
        self._written = io.StringIO()
        console = Console(
            file=self._written,
            force_terminal=True,
            color_system="truecolor",
            width=_COLUMNS,
            height=_ROWS,
            highlight=False,
            legacy_windows=False,
            _environ={},
        )
        self._terminal = Terminal(console)
        self._head = self._view = ""

    def begin(self, session: Session) -> None:
        self._terminal.begin(session)
        self._head = self._take()

    def update(self, analysis: Analysis) -> None:
        self._terminal.update(analysis)
        self._view = self._take() or self._view

    def end(self, summary: Summary) -> None:
        self._terminal.end(summary)

    def save(self, folder: Path) -> Path:
        console = Console(file=io.StringIO(), record=True, width=_COLUMNS, _environ={})
        for text in (self._head, self._view):
            console.print(Text.from_ansi(_CURSOR_CODES.sub("", text).strip()))
        svg = console.export_svg(title=f"python run.py {_CLIP}")
        # Without this it would fetch its font from elsewhere; any monospaced one does.
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
        return _write(folder / "terminal.svg", svg.encode())

    def _take(self) -> str:
        text = self._written.getvalue()
        self._written.seek(0)
        self._written.truncate()
        return text


class PagePicture:
    """The page of --serve, as Chromium shows it when the event has been reported."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        browser = find_browser()
        assert browser is not None
        self._browser = browser
        self._view = WebView("0", VideoOverlay())
        self._pool = ThreadPoolExecutor(1)
        self._is_open, self._is_wanted = threading.Event(), threading.Event()
        self._taken: Future[bytes] | None = None

    def begin(self, session: Session) -> None:
        self._view.begin(session)
        # It watches from the beginning: a page knows the score of its own time only.
        onset = clock(self._choice.event.interval.onset_s)
        self._taken = self._pool.submit(
            screenshot, self._browser, self._view.url, onset, self._is_open, self._is_wanted
        )
        self._taken.add_done_callback(lambda _: self._is_open.set())
        self._is_open.wait()

    def update(self, analysis: Analysis) -> None:
        self._view.update(analysis)
        if not self._choice.is_reported_in(analysis) or self._taken is None:
            return
        self._is_wanted.set()
        # This moment is held.
        held = analysis.without_findings()
        while not self._taken.done():
            self._view.update(held)
            time.sleep(1 / 30)

    def end(self, summary: Summary) -> None:
        self._is_wanted.set()
        self._view.end(summary)
        self._pool.shutdown()

    def save(self, folder: Path) -> Path:
        assert self._taken is not None
        return _write(folder / "page.png", self._taken.result())


def find_browser() -> str | None:
    """The path of Chromium or Chrome, if one is installed."""
    return next((path for name in _BROWSERS if (path := shutil.which(name))), None)


def screenshot(
    browser: str, url: str, onset: str, is_open: threading.Event, is_wanted: threading.Event
) -> bytes:
    """A PNG of the page at `url`.

    Args:
        browser: Path of the browser.
        url: The page's address.
        onset: When the newest event of the picture began, as the page writes it.
        is_open: Set when the page watches.
        is_wanted: Waited for; then the picture is taken as soon as the page is complete.

    Raises:
        InputError: The browser does not start, or the page is not complete in time.
    """
    with tempfile.TemporaryDirectory(prefix="realtime_mer-", ignore_cleanup_errors=True) as profile:
        command = [
            browser,
            "--headless",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "--hide-scrollbars",
            "--disable-gpu",
            "--no-first-run",
            url,
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.insert(1, "--no-sandbox")  # Chromium's sandbox refuses to work for root
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            return asyncio.run(
                _captured(browser, Path(profile), process, onset, is_open, is_wanted)
            )
        except (TimeoutError, aiohttp.ClientError) as error:
            raise InputError(
                f"{browser} took no picture of the page within {_PAGE_TIMEOUT_S:.0f} s: {error!r}"
            ) from None
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


async def _captured(
    browser: str,
    profile: Path,
    process: subprocess.Popen[bytes],
    onset: str,
    is_open: threading.Event,
    is_wanted: threading.Event,
) -> bytes:
    """Asks the browser for the picture, by Chrome's DevTools protocol."""
    port_file = profile / "DevToolsActivePort"
    async with asyncio.timeout(_PAGE_TIMEOUT_S):
        while not (port_file.exists() and port_file.read_text().count("\n")):
            if process.poll() is not None:
                raise InputError(f"{browser} ended at once with status {process.returncode}")
            await asyncio.sleep(0.1)
    port = int(port_file.read_text().split("\n")[0])
    async with aiohttp.ClientSession() as client:
        pages: list[dict[str, Any]] = []
        async with asyncio.timeout(_PAGE_TIMEOUT_S):
            while not pages:
                async with client.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = [page for page in await answer.json() if page["type"] == "page"]
        async with client.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:

            async def ask(method: str, **parameters: object) -> dict[str, Any]:
                await socket.send_json({"id": 1, "method": method, "params": parameters})
                return dict((await socket.receive_json()).get("result", {}))

            async def wait_for(condition: str) -> None:
                async with asyncio.timeout(_PAGE_TIMEOUT_S):
                    while True:
                        found = await ask("Runtime.evaluate", expression=condition)
                        if found.get("result", {}).get("value") is True:
                            return
                        await asyncio.sleep(0.1)

            async def resize(width: int, height: int) -> None:
                size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
                await ask("Emulation.setDeviceMetricsOverride", **size)

            # Until then it is small: without a GPU, a large page takes a processor.
            await resize(*_WAITING_SIZE)
            dark = [{"name": "prefers-color-scheme", "value": "dark"}]
            await ask("Emulation.setEmulatedMedia", features=dark)
            await wait_for(_PAGE_IS_OPEN)
            is_open.set()
            await asyncio.to_thread(is_wanted.wait)
            await resize(*_PAGE_SIZE)
            await wait_for(_PAGE_IS_COMPLETE.format(time=onset))
            return base64.b64decode((await ask("Page.captureScreenshot", format="png"))["data"])


PICTURES: dict[str, Callable[[Choice], Picture]] = {
    "overlay": OverlayPicture,
    "demo": MovingPicture,
    "terminal": TerminalPicture,
    "page": PagePicture,
}


def choose(truth: DemoTruth, events: Sequence[MicroExpression]) -> Choice:
    """Of the events with the right label, the one with the largest hidden motion.

    Raises:
        InputError: No event has the right label.
    """
    right = [row for row in compare(truth, events) if row.label_is_right]
    choices = [Choice(r.found, r.hidden) for r in right if r.found is not None and r.hidden]
    if not choices:
        raise InputError(
            f"of {len(events)} events in the demo clip none has the right label: there is nothing "
            "to show"
        )
    return max(choices, key=lambda choice: choice.hidden.peak_px)


def make_pictures(names: Sequence[str], folder: Path) -> tuple[list[Path], list[str]]:
    """Makes some of `PICTURES`.

    Returns:
        The files that were written, and for each picture that was skipped the reason.

    Raises:
        InputError: Nothing can be shown, or `folder` cannot be written.
    """
    folder = folder.resolve()
    names, skipped = list(names), []
    if "page" in names and find_browser() is None:
        names.remove("page")
        skipped.append(
            "page.png needs Chromium or Chrome, and none is installed "
            "(Debian: apt-get install chromium)"
        )
    if not names:
        return [], skipped
    with tempfile.TemporaryDirectory(prefix="realtime_mer-") as work, contextlib.chdir(work):
        truth = make_demo_clip(Path(_CLIP))
        choice = choose(truth, list(Recognizer(_CLIP)))
        pictures = [PICTURES[name](choice) for name in names]
        run(Recognizer(_CLIP), pictures)
        return [picture.save(folder) for picture in pictures], skipped


def _png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


def _gif(pictures: Sequence[np.ndarray], period_ms: float) -> bytes:
    """An animation of BGR pictures that repeats; the last one stays for `_LAST_FRAME_MS`."""
    steady = deque([pictures[0]])
    for picture in pictures[1:]:
        change = cv2.absdiff(picture, steady[-1]).max(axis=-1, keepdims=True)
        steady.append(np.where(change > _NOISE_LEVELS, picture, steady[-1]))
    images = [Image.fromarray(picture[..., ::-1]) for picture in steady]
    # One palette for all frames: half for the most frequent colours, half for all that occur, or
    # the few pixels of the overlay's lines would lose theirs.
    sample = np.vstack(list(steady)[:: max(1, len(steady) // 8)])[..., ::-1]
    occurring = np.unique(sample.reshape(-1, 3) >> 3, axis=0)[None] << 3
    colours: list[int] = []
    for pixels in (sample, occurring):
        half = Image.fromarray(pixels).quantize(128).getpalette() or []
        colours += half[: 3 * 128]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [round(period_ms)] * (len(frames) - 1) + [_LAST_FRAME_MS]
    written = io.BytesIO()
    frames[0].save(
        written,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=0,
    )
    return written.getvalue()


def _write(path: Path, content: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="pictures.py", description="Makes the pictures of README.md and docs/."
    )
    p.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(PICTURES)} (default: all)")
    p.add_argument("--out", type=Path, default=_ROOT / "docs", metavar="DIR", help="default: docs")
    options = p.parse_args(arguments)
    if unknown := set(options.names) - set(PICTURES):
        p.error(f"no picture {', '.join(sorted(unknown))}: there are {', '.join(PICTURES)}")
    quiet_opencv()
    try:
        made, skipped = make_pictures(options.names or list(PICTURES), options.out)
    except InputError as error:
        print(f"pictures.py: {error}", file=sys.stderr)
        return 2
    for path in made:
        print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    return 1 if skipped else 0


if __name__ == "__main__":
    raise SystemExit(main())
