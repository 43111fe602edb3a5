"""Sources, sinks and clips for the tests of whole sessions."""

import contextlib
import http.server
import json
import math
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime_mer.demo import clip as demo
from realtime_mer.demo.clip import DemoTruth, HiddenEvent, make_demo_clip
from realtime_mer.errors import InputError
from realtime_mer.output.log import JsonLinesLog
from realtime_mer.results import Interval
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.session.run import run
from realtime_mer.source import capture
from realtime_mer.source.reader import Grab

FPS = 30


EVENTS = (
    HiddenEvent(Interval(1.80, 1.97, 2.17), "surprise", ("AU1", "AU2"), 2.6),
    HiddenEvent(Interval(3.55, 3.73, 3.90), "positive", ("AU6", "AU12"), 2.8),
)


BLINKS = ((2.7, 3.0),)


def make_clip(path: Path, *events: HiddenEvent, length_s: float) -> Path:
    truth = DemoTruth(events, BLINKS, FPS, round(length_s * FPS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_plan", lambda rng: truth)
        make_demo_clip(path)
    return path


def write_video(path: Path, frames, fps: float = FPS) -> Path:
    height, width = frames[0].shape[:2]
    codec = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, codec, fps, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    video.release()
    return frames


def analyses_of(source, **options) -> list:
    """What the chain says about each frame; the pictures are let go."""
    with Recognizer(source, **options) as recognizer:
        return list(recognizer.analyses())


def no_stage_runs() -> bool:
    return not {"capture", "track", "spot"} & {t.name for t in threading.enumerate()}


def events_of(analyses) -> list:
    return [event for analysis in analyses for event in analysis.events]


def gaps_of(analyses) -> list:
    return [gap for analysis in analyses for gap in analysis.gaps]


def coming_and_going(path: Path, face: np.ndarray, spans, fps: float = FPS) -> Path:
    """A video of (frames with the face, frames without) in turn."""
    nothing = np.full_like(face, 90)
    frames = []
    for seen, away in spans:
        frames += [face] * seen + [nothing] * away
    return write_video(path, frames, fps)


def logged(path: Path, recognizer: Recognizer, *sinks) -> list[dict]:
    """What a session leaves in the log, however it ends."""
    with contextlib.suppress(InputError, RuntimeError):
        run(recognizer, [JsonLinesLog(path), *sinks])
    session, *told, summary = records(path)
    assert (session["type"], summary["type"]) == ("session", "summary")
    return [*told, summary]


class Stopping:
    """A sink that raises an error at the first analysis that is `due`."""

    def __init__(self, due, error: BaseException) -> None:
        self._due, self._error = due, error
        self._raised = False

    def begin(self, session) -> None: ...

    def end(self, summary) -> None: ...

    def update(self, analysis) -> None:
        if not self._raised and self._due(analysis):
            self._raised = True
            raise self._error


class CameraServer(http.server.ThreadingHTTPServer):
    """Motion JPEG at 30 fps of someone before a camera, over a loopback socket.

    It sends `count` pictures, and the last of them over and over if it `freezes`. Then it is
    silent, if it `stalls`; else the connection is cut, and no other is answered.
    """

    daemon_threads = True

    def __init__(self, picture: np.ndarray, count: int, freezes=False, stalls=False) -> None:
        super().__init__(("127.0.0.1", 0), CameraHandler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.count, self.freezes, self.stalls = count, freezes, stalls
        self.over = threading.Event()
        self._picture = picture
        threading.Thread(target=self.serve_forever, args=[0.02], daemon=True).start()

    def jpeg(self, k: int) -> bytes:
        image = self._picture.copy()
        image[:60, :60] = 10 * k % 256
        return cv2.imencode(".jpg", image)[1].tobytes()

    def stop(self) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


class CameraHandler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args) -> None: ...

    def do_GET(self) -> None:
        server = self.server
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(OSError):
            k = 0
            while k < server.count or server.freezes:
                if server.over.wait(1 / FPS):
                    return
                k = min(k + 1, server.count)
                data = server.jpeg(k)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
        if server.stalls:
            server.over.wait(20)
        else:
            threading.Thread(target=server.stop, daemon=True).start()


def logged_last(path: Path, recognizer: Recognizer, *sinks) -> tuple[dict, dict]:
    """The gap in which a session ends, and its summary."""
    # What could be seen depends on the spotter's card.
    told = [r for r in logged(path, recognizer, *sinks) if r["type"] != "visibility"]
    *others, gap, summary = told
    holes = [record for record in others if record["type"] == "gap"]
    # A busy machine does not send all pictures in time.
    assert all(h["reason"] == "no frames" and h["end_s"] < gap["end_s"] for h in holes)
    return gap, summary


class Stuttering:
    """A live camera that shows a face, with a hole of half a second after the twelfth frame."""

    name, live, fps, frame_count = "stuttering camera", True, 30.0, 0

    def __init__(self, picture: np.ndarray) -> None:
        self.notes: list[str] = []
        self._picture, self._next, self._time_s = picture, 0, 100.0
        # Each frame is taken before the next one comes, so that none is dropped.
        self.taken = threading.Semaphore(1)

    def open(self) -> None: ...

    def close(self) -> None: ...

    def empty(self) -> InputError:
        return InputError("empty")

    def read(self) -> Grab | None:
        self.taken.acquire(timeout=10)
        self._next += 1
        if self._next > 20:
            return None
        self._time_s += 0.5 if self._next == 13 else 1 / 30
        image = self._picture.copy()
        image[:60, :60] = self._next  # one picture over and over would be a frozen one
        return Grab(image, None, self._time_s)


class Film:
    """A recording in memory that breaks where it is told to."""

    name, live, fps = "film", False, 30.0

    def __init__(self, pictures, error: BaseException | None = None) -> None:
        self.frame_count = len(pictures)
        self.notes: list[str] = []
        self._pictures, self._error = iter(pictures), error

    def open(self) -> None: ...

    def close(self) -> None: ...

    def empty(self) -> InputError:
        return InputError("empty")

    def read(self) -> Grab | None:
        picture = next(self._pictures, None)
        if picture is None and self._error is not None:
            raise self._error
        return picture if picture is None else Grab(picture.copy(), None, time.monotonic())


class Camera(Film):
    """The same live: each picture comes when the one before it has been analysed."""

    live = True
    recognizer: Recognizer | None = None
    _given = 0
    _started_at = time.monotonic()

    def _may_go_on(self) -> bool:
        recognizer = self.recognizer
        return recognizer is not None and (
            recognizer._pipeline.is_closed or recognizer.stats.frames_analysed >= self._given
        )

    def read(self) -> Grab | None:
        while self._given and not self._may_go_on():
            time.sleep(0.001)
        self._given += 1
        grab = super().read()
        # All of them lie in the past, a period apart.
        return grab and grab._replace(captured_at=self._started_at - 100 + self._given / FPS)


def moving(picture: np.ndarray, count: int) -> list[np.ndarray]:
    """The same picture so many times, but never twice: a camera's is never quite still."""
    pictures = [picture.copy() for _ in range(count)]
    for k, image in enumerate(pictures):
        image[:60, :60] = 1 + k
    return pictures


class Unsteady(Camera):
    """The same, and at each None among the pictures it is lost for a second."""

    patience_s = math.inf

    def read(self) -> Grab | None:
        if (grab := super().read()) is None:
            self._given -= 1
            self._started_at += 1.0
        return grab


def gaps_of_camera(*parts: list) -> list:
    """The gaps up to the last picture."""
    pictures = [picture for part in parts for picture in part]
    camera = Unsteady(pictures)
    gaps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "_REOPEN_S", (0.01, 0.02))
        with Recognizer(camera) as recognizer:
            camera.recognizer = recognizer
            for analysis in recognizer.analyses():
                gaps += analysis.gaps
                if analysis.frame.index == sum(p is not None for p in pictures) - 1:
                    break
    return gaps


NOISE = list(np.random.default_rng(0).integers(0, 255, (25, 48, 64, 3), np.uint8))


class Recorder:
    """A sink that writes down what happens to it and fails where it is told to."""

    def __init__(self, name: str, diary: list[str], **failures: BaseException) -> None:
        self._name, self._diary, self._failures = name, diary, failures
        self.summary = None

    def _happens(self, what: str) -> None:
        if what != "update" or self._failures:
            self._diary.append(f"{self._name} {what}")
        if what in self._failures:
            raise self._failures[what]

    def begin(self, session) -> None:
        self._happens("begin")

    def update(self, analysis) -> None:
        self._happens("update")

    def end(self, summary) -> None:
        self.summary = summary
        self._happens("end")


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Screen(Recorder):
    """A window whose user presses q at the third frame."""

    wants_quit = False
    shown = 0

    def update(self, analysis) -> None:
        self.shown += 1
        self.wants_quit = self.shown == 3

    def wait_while_paused(self) -> None: ...


class Interrupted:
    """A camera that gives ten pictures, is silent for a second, and gives ten more."""

    name, live, fps, frame_count = "camera", True, 0.0, 0

    def __init__(self, picture: np.ndarray) -> None:
        self.notes: list[str] = []
        self._picture, self._given = picture, 0

    def open(self) -> None: ...

    def close(self) -> None: ...

    def empty(self) -> InputError:
        return InputError("camera")

    def read(self) -> Grab | None:
        if self._given == 20:
            return None
        time.sleep(1.0 if self._given == 10 else 0.03)
        self._given += 1
        image = self._picture.copy()
        image[:60, :60] = self._given  # one picture over and over would be a frozen one
        return Grab(image, None, time.monotonic())
