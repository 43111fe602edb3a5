"""A network camera on this machine: motion JPEG over HTTP in real time, with faults if wanted."""

from __future__ import annotations

import contextlib
import http.server
import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.source.capture import Capture
from realtime_mer.source.opencv import quiet_opencv
from tools.faults import Fault

# The camera's pictures stay in memory as JPEGs: 600 of 640 x 480 are 40 MB.
_MOST_FRAMES = 600
_JPEG_QUALITY = 90
# Size of the pictures during the fault "other size". The demo's face is 150 px wide in it.
_OTHER_SIZE = (480, 360)
# Pictures without a face: black ones and grey ones, with sensor noise so that none is frozen.
_EMPTY_FRAMES = 30
_NOISE_SIGMA = 1.5
_DAMAGED_EVERY = 10
_SLOW_FPS = 5.0
# So many of its pauses wait to be fetched, 50 bytes each: the pipe holds 64 kB, and a full one
# would block the camera.
_MOST_PAUSES = 1000


def there_and_back(video: str, size: tuple[int, int] | None) -> list[bytes]:
    """The first frames of a video as JPEGs, forwards and then backwards.

    Raises:
        InputError: The video cannot be read.
    """
    jpegs: list[bytes] = []
    with Capture(video) as capture:
        for frame in capture:
            image = frame.image
            if size is not None:
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            jpegs.append(_jpeg(image))
            if len(jpegs) == _MOST_FRAMES:
                break
    return jpegs + jpegs[-2:0:-1]


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def _decoded(jpeg: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None, "the camera's own pictures are whole"
    return image


def _empty(like: bytes, grey: int) -> list[bytes]:
    """Pictures of noise around a grey level, of the size of another picture."""
    shape = _decoded(like).shape
    rng = np.random.default_rng(0)
    return [
        _jpeg(np.clip(rng.normal(grey, _NOISE_SIGMA, shape), 0, 255).astype(np.uint8))
        for _ in range(_EMPTY_FRAMES)
    ]


class _Pictures:
    """What the camera shows at each time."""

    def __init__(self, jpegs: Sequence[bytes], fps: float, faults: Sequence[Fault]) -> None:
        self._fps, self._faults = fps, faults
        self._usual = jpegs
        kinds = {fault.kind for fault in faults}
        self._other = (
            [_jpeg(cv2.resize(_decoded(jpeg), _OTHER_SIZE)) for jpeg in jpegs]
            if "other size" in kinds
            else []
        )
        self._black = _empty(jpegs[0], 4) if "black" in kinds else []
        self._grey = _empty(jpegs[0], 110) if "no face" in kinds else []

    def fault_at(self, time_s: float) -> Fault | None:
        return next((f for f in self._faults if f.start_s <= time_s < f.end_s), None)

    def picture(self, number: int) -> bytes | None:
        """The picture of a tick of the camera's clock; None if it sends none."""
        time_s = number / self._fps
        fault = self.fault_at(time_s)
        usual = self._usual[number % len(self._usual)]
        match fault.kind if fault else None:
            case "stall" | "unplugged":
                return None
            case "freeze":
                assert fault is not None
                return self._usual[int(fault.start_s * self._fps) % len(self._usual)]
            case "black":
                return self._black[number % _EMPTY_FRAMES]
            case "no face":
                return self._grey[number % _EMPTY_FRAMES]
            case "other size":
                return self._other[number % len(self._other)]
            case "damaged pictures" if number % _DAMAGED_EVERY == 0:
                return usual[:2] + usual[:1:-1]
            case "5 fps" if int(time_s * _SLOW_FPS) == int((number - 1) / self._fps * _SLOW_FPS):
                return None
        return usual


@dataclass(frozen=True, slots=True)
class Sent:
    """What the camera counts, shared with the process that started it.

    Attributes:
        frames: Pictures that were sent.
        skipped: Pictures that could not be sent in time.
        opened: Gets the time of the camera's clock at which each connection began.
        pauses: Gets each time (start, end) for which the system did not let the camera send:
            it slept for a frame or more beyond the time that it had asked for.
    """

    frames: Synchronized[int]
    skipped: Synchronized[int]
    opened: multiprocessing.SimpleQueue[float]
    pauses: multiprocessing.SimpleQueue[tuple[float, float]]


class _Handler(http.server.BaseHTTPRequestHandler):
    """Sends the pictures in real time; those that would be late are skipped."""

    pictures: _Pictures
    fps: float
    sent: Sent
    started_at: float
    """When the camera's clock stood at 0, on `time.monotonic()`."""
    pauses = 0
    """How many have been told, of all connections."""

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        number = int((time.monotonic() - self.started_at) * self.fps)
        is_first = True
        with contextlib.suppress(OSError):
            while not self._is_unplugged(number / self.fps):
                if data := self.pictures.picture(number):
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}"
                    self.wfile.write(head.encode() + b"\r\n\r\n" + data + b"\r\n")
                    with self.sent.frames.get_lock():
                        self.sent.frames.value += 1
                    if is_first:
                        self.sent.opened.put(number / self.fps)
                        is_first = False
                due = int((time.monotonic() - self.started_at) * self.fps)
                with self.sent.skipped.get_lock():
                    self.sent.skipped.value += max(0, due - number - 1)
                number = max(number + 1, due)
                wait_s = self.started_at + number / self.fps - time.monotonic()
                time.sleep(max(0.0, wait_s))
                woke_s = time.monotonic() - self.started_at
                # A pause of the sleep only: a session that does not read blocks the sending.
                if wait_s > 0 and woke_s > (number + 1) / self.fps and self.pauses < _MOST_PAUSES:
                    self.sent.pauses.put((number / self.fps, woke_s))
                    type(self).pauses += 1

    def _is_unplugged(self, time_s: float) -> bool:
        fault = self.pictures.fault_at(time_s)
        return fault is not None and fault.kind == "unplugged"


def serve(
    video: str,
    size: tuple[int, int] | None,
    fps: float,
    faults: Sequence[Fault],
    sent: Sent,
    answer: Connection,
) -> None:
    """The camera's process: answers what is wrong, or its port, and serves until it is ended.

    While it is unplugged, nothing listens at the port.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the session
    quiet_opencv()
    try:
        pictures = _Pictures(there_and_back(video, size), fps, faults)
    except InputError as error:
        answer.send(str(error))
        return
    started_at, started_unix_s = time.monotonic(), time.time()
    parts = {"pictures": pictures, "fps": fps, "sent": sent, "started_at": started_at}
    handler = type("Camera", (_Handler,), parts)
    port = 0
    for until_s, again_s in _plugged(faults):
        with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
            if not port:
                port = server.server_port
                answer.send((port, started_unix_s))
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            _sleep_until(started_at, until_s)
            server.shutdown()
            thread.join()
        _sleep_until(started_at, again_s)


def _plugged(faults: Sequence[Fault]) -> Iterator[tuple[float, float]]:
    """(seconds until the camera is unplugged, until it is there again)."""
    for fault in faults:
        if fault.kind == "unplugged":
            yield fault.start_s, fault.end_s
    yield float("inf"), float("inf")


def _sleep_until(started_at: float, time_s: float) -> None:
    while (left_s := started_at + time_s - time.monotonic()) > 0:
        time.sleep(min(left_s, 3600.0))


class LiveCamera:
    """The camera in a process of its own.

    Args:
        video: Path of the video that it shows, forwards and backwards in turn.
        size: (width, height) to scale the pictures to; None to leave them.
        fps: Frames a second, whatever the video's rate.
        faults: What goes wrong with it, and when.

    Raises:
        InputError: The video cannot be read.

    Attributes:
        url: Where it is.
        started_unix_s: When its clock stood at 0, in seconds since 1970.
    """

    def __init__(
        self,
        video: str,
        size: tuple[int, int] | None,
        fps: float,
        faults: Sequence[Fault] = (),
    ) -> None:
        context = multiprocessing.get_context("spawn")
        counts = context.Value("q", 0), context.Value("q", 0)
        self._sent = Sent(*counts, context.SimpleQueue(), context.SimpleQueue())
        self._opened_s: list[float] = []
        self._pauses: list[tuple[float, float]] = []
        here, there = context.Pipe()
        arguments = (video, size, fps, tuple(faults), self._sent, there)
        self._process = context.Process(target=serve, args=arguments, name="camera", daemon=True)
        self._process.start()
        there.close()
        answer: Any
        try:
            answer = here.recv()
        except EOFError:
            answer = "the camera's process ended: see its traceback"
        if isinstance(answer, str):
            self.close()
            raise InputError(answer)
        port, self.started_unix_s = answer
        self.url = f"http://127.0.0.1:{port}/live"

    def __enter__(self) -> LiveCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def frames(self) -> int:
        """Pictures that were sent."""
        return self._sent.frames.value

    @property
    def skipped(self) -> int:
        """Pictures that could not be sent in time."""
        return self._sent.skipped.value

    @property
    def opened_s(self) -> list[float]:
        """When each connection began to get pictures, in seconds of the camera's clock."""
        while not self._sent.opened.empty():
            self._opened_s.append(self._sent.opened.get())
        return self._opened_s

    @property
    def pauses(self) -> list[tuple[float, float]]:
        """When the system kept the camera from sending (start, end), on the camera's clock, s."""
        while not self._sent.pauses.empty():
            self._pauses.append(self._sent.pauses.get())
        return self._pauses

    def close(self) -> None:
        self._process.terminate()
        self._process.join()
