"""Sources for tests: small videos and pictures, readers made of arithmetic, a stream's server."""

import contextlib
import http.server
import itertools
import queue
import threading
import time

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.source.capture import Capture
from realtime_mer.source.reader import Grab

SIZE = (64, 48)


def picture(level: int, channels: int = 3) -> np.ndarray:
    shape = (SIZE[1], SIZE[0]) if channels == 1 else (SIZE[1], SIZE[0], channels)
    return np.full(shape, level, np.uint8)


def write_video(path, frames=20, fps=25.0, codec="MJPG"):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, SIZE)
    assert writer.isOpened()
    for k in range(frames):
        writer.write(picture(10 * k % 256))
    writer.release()
    return path


def write_image(path, image):
    assert cv2.imwrite(str(path), image)
    return path


def level(frame) -> float:
    return float(frame.image.mean())


def wait_for(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class PacedReader:
    """A camera made of arithmetic: one frame every `period_s`, for ever or `count` times."""

    name = "paced"
    fps = 1000.0  # a lie that live times must not follow
    frame_count = 0

    def __init__(self, period_s=0.01, count=None, live=True):
        self.period_s = period_s
        self.live = live
        self.left = itertools.count() if count is None else iter(range(count))
        self.notes = []
        self.closed = threading.Event()

    def open(self):
        pass

    def read(self):
        k = next(self.left, None)
        if k is None:
            return None
        time.sleep(self.period_s)
        return Grab(picture(k % 256), 0.0, time.monotonic())

    def empty(self):
        return InputError("empty. Mend it.")

    def close(self):
        self.closed.set()


class ScriptedReader:
    """A camera whose frames come when, and bear the times that, the test says."""

    name = "scripted"
    live = True
    fps = 30.0
    frame_count = 0

    def __init__(self):
        self.notes = []
        self.script = queue.Queue()
        self.zero = time.monotonic()

    def give(self, time_s):
        image = np.random.default_rng().integers(0, 255, (48, 64, 3), np.uint8)
        self.script.put(Grab(image, None, self.zero + time_s))

    def open(self):
        pass

    def read(self):
        return self.script.get()

    def empty(self):
        return InputError("empty. Mend it.")

    def close(self):
        pass


@contextlib.contextmanager
def scripted():
    reader = ScriptedReader()
    reader.give(0)
    with Capture(reader) as capture:
        capture.read()
        yield reader, capture
        reader.script.put(None)


def give(reader, capture, *times):
    count = capture.frames_read + len(times)
    for time_s in times:
        reader.give(time_s)
    wait_for(lambda: capture.frames_read >= count)


def waiting(capture):
    indices = []
    while (frame := capture.read(timeout_s=0)) is not None:
        indices.append(frame.index)
    return indices


class StreamHandler(http.server.BaseHTTPRequestHandler):
    """Motion JPEG at 50 fps; the path says how it ends."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        if self.path.startswith("/file"):
            data = self.server.file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(OSError):
            for k in itertools.count():
                if k == 15 and "finish" in self.path:
                    return
                if k == 15 and "stall" in self.path:
                    self.server.over.wait(10)
                    return
                if self.server.over.is_set():
                    return
                data = cv2.imencode(".jpg", picture(k % 256))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(0.02)


class StreamServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port=0, file=None):
        super().__init__(("127.0.0.1", port), StreamHandler)
        self.over = threading.Event()
        self.file = file
        self.url = f"http://admin:hunter2@127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=[0.05], daemon=True).start()

    def stop(self):
        self.over.set()
        self.shutdown()
        self.server_close()


def take(capture, count):
    return [capture.read() for _ in range(count)]
