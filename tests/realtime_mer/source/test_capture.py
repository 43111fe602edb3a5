"""Capture on real files, folders, sockets and threads."""

import contextlib
import http.server
import itertools
import math
import os
import queue
import socket
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.source import capture as capture_module
from realtime_mer.source.capture import Capture, State, _Clock
from realtime_mer.source.health import Outage
from realtime_mer.source.reader import Grab, reader_for
from realtime_mer.source.redaction import redacted

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


# Video files


@pytest.mark.parametrize(("name", "codec"), [("clip.avi", "MJPG"), ("clip.mp4", "mp4v")])
def test_every_frame_of_a_file_arrives_with_its_presentation_time(tmp_path, name, codec):
    path = write_video(tmp_path / name, frames=20, fps=25.0, codec=codec)
    with Capture(str(path)) as capture:
        assert (capture.live, capture.size, capture.fps) == (False, SIZE, 25.0)
        assert capture.frame_count == 20
        frames = []
        for frame in capture:
            time.sleep(0.002)  # slower than decoding: nothing may be dropped
            frames.append(frame)
    assert [f.index for f in frames] == list(range(20))
    assert [f.time_s for f in frames] == pytest.approx([k / 25 for k in range(20)], abs=1e-3)
    assert [level(f) for f in frames] == pytest.approx([10 * k for k in range(20)], abs=6)
    assert (capture.frames_read, capture.frames_dropped) == (20, 0)
    assert (capture.state, capture.notes) == (State.ENDED, ())


def test_frames_cannot_be_changed(tmp_path):
    with Capture(write_video(tmp_path / "clip.avi")) as capture:
        frame = capture.read()
    with pytest.raises(ValueError, match="read-only"):
        frame.image[0, 0] = 0
    with pytest.raises(AttributeError):
        frame.index = 5


def test_true_rate_replaces_the_times_of_a_file(tmp_path):
    path = write_video(tmp_path / "slow_motion.avi", frames=5, fps=25.0)
    with Capture(path, fps=200) as capture:
        assert capture.fps == 200
        assert [f.time_s for f in capture] == pytest.approx([k / 200 for k in range(5)])


def test_truncated_video_gives_what_decodes_and_a_note(tmp_path):
    whole = write_video(tmp_path / "whole.avi", frames=60).read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(whole[: len(whole) // 3])
    with Capture(path) as capture:
        count = sum(1 for _ in capture)
        assert 1 <= count < 40
        assert capture.state is State.ENDED
        (note,) = capture.notes
    assert "cut.avi" in note
    assert f"{count} of 60" in note


@pytest.mark.parametrize(
    "name",
    ["a%03d.avi", "-dash.avi", "http:__x.avi", "с пробелом ü.avi", "a;b|c`d`$e.avi", "file:x.avi"],
)
def test_odd_file_names_are_only_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    # cv2.VideoWriter would take "%03d" for a pattern, so the file is renamed.
    write_video(tmp_path / "plain.avi", frames=3).rename(tmp_path / name)
    with Capture(name) as capture:
        assert sum(1 for _ in capture) == 3


def make_bad(tmp_path, kind):
    path = tmp_path / f"{kind}.mp4"
    if kind == "text":
        path.write_text("not a video\n" * 200)
    elif kind == "empty":
        path.touch()
    elif kind == "no_index":
        whole = write_video(tmp_path / "whole.mp4", codec="mp4v").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "no_frames":
        write_video(path, frames=0, codec="mp4v")
    elif kind == "folder_without_pictures":
        path.mkdir()
        (path / "notes.txt").write_text("none")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "picture":
        return write_image(tmp_path / "picture.png", picture(9))
    return path


BAD = ["missing", "text", "empty", "no_index", "no_frames", "folder_without_pictures", "picture"]


@pytest.mark.parametrize(
    "kind",
    [
        *BAD,
        pytest.param("fifo", marks=pytest.mark.skipif(os.name == "nt", reason="no FIFOs")),
    ],
)
def test_bad_files_are_named_with_a_remedy(tmp_path, kind):
    path = make_bad(tmp_path, kind)
    with pytest.raises(InputError) as raised, Capture(str(path)):
        pass
    message = str(raised.value)
    assert path.name in message
    assert len(message.split(". ")) >= 2, f"no remedy in: {message}"
    assert "Traceback" not in message


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_print_nothing(tmp_path, kind):
    path = make_bad(tmp_path, kind)
    code = (
        "import sys\n"
        "from realtime_mer.capture import Capture\n"
        "from realtime_mer.event import InputError\n"
        "try:\n"
        "    with Capture(sys.argv[1]): pass\n"
        "except InputError: sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


def test_broken_frames_print_nothing(tmp_path):
    whole = bytearray(write_video(tmp_path / "whole.avi", frames=30).read_bytes())
    noise = np.random.default_rng(0)
    first_half = len(whole) // 2  # headers and whole frames
    for at in noise.integers(first_half, len(whole) - 800, 60):
        whole[at] ^= 0xFF
    (tmp_path / "noisy.avi").write_bytes(whole)
    folder = tmp_path / "frames"
    folder.mkdir()
    photo = noise.integers(0, 255, (48, 64, 3), np.uint8)
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        data = write_image(folder / f"x{suffix}", photo).read_bytes()
        (folder / f"x{suffix}").write_bytes(data[: len(data) // 2])
    code = (
        "import pathlib, sys\n"
        "from realtime_mer.capture import Capture\n"
        "from realtime_mer.reader import _decode\n"
        "with Capture(sys.argv[1]) as capture: list(capture)\n"
        "for path in pathlib.Path(sys.argv[2]).iterdir(): _decode(path)\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "noisy.avi", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# Folders of frames


def test_folder_is_read_in_natural_order_at_its_rate(tmp_path):
    for k in (10, 9, 1, 2, 11):
        write_image(tmp_path / f"img{k}.png", picture(k))
    (tmp_path / "Thumbs.db").write_text("no picture")
    write_image(tmp_path / ".hidden.png", picture(200))
    with Capture(tmp_path, fps=200) as capture:
        assert (capture.frame_count, capture.fps, capture.live) == (5, 200, False)
        frames = list(capture)
    assert [level(f) for f in frames] == [1, 2, 9, 10, 11]
    assert [f.time_s for f in frames] == pytest.approx([k / 200 for k in range(5)])
    assert capture.notes == ()


def test_unknown_rate_of_a_folder_is_said(tmp_path):
    write_image(tmp_path / "1.png", picture(1))
    with Capture(tmp_path) as capture:
        (note,) = capture.notes
    assert "30 fps" in note
    assert "--fps" in note


@pytest.mark.parametrize(
    "image",
    [picture(77, 1), picture(77, 4), picture(77), np.full((48, 64), 77 * 256, np.uint16)],
    ids=["grey", "four channels", "bgr", "16 bit"],
)
def test_all_pictures_become_bgr(tmp_path, image):
    write_image(tmp_path / "1.png", image)
    with Capture(tmp_path, fps=30) as capture:
        frame = capture.read()
    assert frame.image.shape == (48, 64, 3)
    assert level(frame) == pytest.approx(77, abs=1)


def test_unreadable_picture_is_named_after_the_good_ones(tmp_path):
    write_image(tmp_path / "1.png", picture(1))
    write_image(tmp_path / "2.png", picture(2))
    (tmp_path / "3.png").write_text("no picture")
    seen = []
    with (
        pytest.raises(InputError, match=r"3\.png"),
        Capture(tmp_path, fps=30) as capture,
    ):
        seen.extend(iter(capture))
    # The generator was drained frame by frame; both good ones came before the error.
    assert capture.frames_read == 2
    assert capture.state is State.FAILED


def test_frames_of_another_size_are_refused_by_name(tmp_path):
    write_image(tmp_path / "1.png", picture(1))
    write_image(tmp_path / "2.png", np.zeros((20, 30, 3), np.uint8))
    with (
        pytest.raises(InputError, match=r"2\.png .* 30 x 20 pixels.* 64 x 48"),
        Capture(tmp_path, fps=30) as capture,
    ):
        list(capture)


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf])
def test_impossible_rates_are_refused(tmp_path, fps):
    with pytest.raises(InputError, match="--fps"):
        Capture(tmp_path, fps=fps)


# Clock


@pytest.mark.parametrize(
    ("positions", "times"),
    [
        ([0.5, 0.54, 0.60], [0, 0.04, 0.10]),  # variable rate, and the first frame is the zero
        ([0, 0, 0, 0], [0, 0.1, 0.2, 0.3]),  # a container without times
        ([None, None, None], [0, 0.1, 0.2]),
        ([0, math.nan, 0.25], [0, 0.1, 0.25]),
        ([math.nan, 5.0, 5.2], [0, 0.1, 0.3]),
        ([0, 0.1, 0.0, 0.1], [0, 0.1, 0.2, 0.3]),  # times begin anew in the middle
    ],
)
def test_times_always_rise(positions, times):
    clock = _Clock(fps=10)
    assert [clock(p) for p in positions] == pytest.approx(times)


# Live sources


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


def test_slow_consumer_of_a_live_source_gets_the_newest_frame():
    with Capture(PacedReader(period_s=0.005)) as capture:
        seen = []
        for frame in itertools.islice(capture, 5):
            seen.append(frame)
            time.sleep(0.2)  # more than frames may wait
            # What comes next was captured while we slept, at its very end.
        age = time.monotonic() - capture.read().captured_at
    gaps = np.diff([f.index for f in seen])
    assert (gaps > 3).all()
    assert age < 0.1
    assert capture.frames_dropped > 20
    assert capture.frames_read == 6 + capture.frames_dropped


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


def wait_for(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def waiting(capture):
    indices = []
    while (frame := capture.read(timeout_s=0)) is not None:
        indices.append(frame.index)
    return indices


def test_hiccup_of_the_consumer_loses_no_frame():
    with scripted() as (reader, capture):
        # 130 ms at 30 fps, and at 60.
        give(reader, capture, *(k / 30 for k in range(1, 5)))
        assert waiting(capture) == [1, 2, 3, 4]
        give(reader, capture, *(1 + k / 60 for k in range(8)))
        assert waiting(capture) == list(range(5, 13))
        assert capture.frames_dropped == 0


def test_frames_that_have_grown_old_give_way_to_the_newest():
    with scripted() as (reader, capture):
        give(reader, capture, 1.0, 1.05, 1.1, 1.2)
        assert waiting(capture) == [4]
        assert capture.frames_dropped == 3


def test_waiting_frames_are_bounded_in_number():
    with scripted() as (reader, capture):
        give(reader, capture, *(k / 1000 for k in range(1, 1000)))
        assert len(capture._frames) <= 8
        assert len(waiting(capture)) + capture.frames_dropped == 999


def test_consumer_that_stays_behind_gets_the_newest_at_even_distances():
    with scripted() as (reader, capture):
        give(reader, capture, *(k / 30 for k in range(1, 9)))
        for k in range(9, 30, 3):
            # Three frames come while it is busy, and the newest of them is what it gets.
            give(reader, capture, k / 30, (k + 1) / 30, (k + 2) / 30)
            assert capture.read(timeout_s=0).index == k + 2
        # Once it waits for the source, frames may wait for it again.
        assert capture.read(timeout_s=0) is None
        give(reader, capture, 1.0, 1.03, 1.06)
        assert len(waiting(capture)) == 3


def test_live_times_always_rise():
    with scripted() as (reader, capture):
        give(reader, capture, 0.03, 0.03, 0.02, 0.06)
        times = [capture.read().time_s for _ in range(4)]
    assert np.diff([0, *times]).min() > 0
    assert times[-1] == pytest.approx(0.06)


def test_what_is_wrong_with_a_source_is_told_while_it_holds(monkeypatch):
    monkeypatch.setattr(capture_module, "_SILENT_S", 0.05)
    with scripted() as (reader, capture):
        still = np.full((48, 64, 3), 120, np.uint8)
        for k in range(1, 50):
            reader.script.put(Grab(still, None, reader.zero + k / 30))
        wait_for(lambda: capture.frames_read == 50)
        capture._arrived_at = time.monotonic() + 60  # not silent
        assert capture.alerts == ("picture frozen",)
        give(reader, capture, 2.0)
        (outage,) = capture.take_outages()
        assert outage.end_s == pytest.approx(2.0)
        wait_for(lambda: capture.alerts == ("no picture",))
    assert capture.alerts == ()
    assert capture.over


@pytest.mark.parametrize("ending", ["closed", "ended", "broken"])
def test_frozen_picture_is_an_outage_up_to_the_end_once(ending):
    class Breaking(ScriptedReader):
        def read(self):
            if isinstance(given := super().read(), BaseException):
                raise given
            return given

    reader = Breaking()
    reader.give(0)
    still = np.full((48, 64, 3), 120, np.uint8)
    for k in range(1, 50):
        reader.script.put(Grab(still, None, reader.zero + k / 30))
    with Capture(reader) as capture:
        wait_for(lambda: capture.frames_read == 50)
        if ending == "closed":
            capture.close()
            reader.script.put(Grab(still, None, reader.zero + 50 / 30))
        elif ending == "ended":
            reader.script.put(None)
            wait_for(lambda: capture.state is State.ENDED)
        else:
            reader.script.put(InputError("torn. Mend it."))
            wait_for(lambda: capture.state is State.FAILED)
    wait_for(lambda: not capture._thread.is_alive())
    (outage,) = capture.take_outages()
    assert outage == Outage(pytest.approx(1 / 30), pytest.approx(49 / 30), "picture frozen")


def test_live_times_are_those_of_capture():
    with Capture(PacedReader(period_s=0.02)) as capture:
        frames = list(itertools.islice(capture, 10))
    assert frames[0].time_s == 0
    for a, b in itertools.pairwise(frames):
        assert b.time_s - a.time_s == pytest.approx(b.captured_at - a.captured_at)
    assert frames[-1].time_s >= 9 * 0.02


def test_recorded_source_waits_for_its_consumer():
    reader = PacedReader(period_s=0, count=40, live=False)
    with Capture(reader) as capture:
        time.sleep(0.1)
        assert capture.frames_read < 10  # bounded
        assert [f.index for f in capture] == list(range(40))
    assert capture.frames_dropped == 0


def test_read_returns_in_time_without_a_frame():
    with Capture(PacedReader(period_s=0.3)) as capture:
        capture.read()
        started = time.monotonic()
        assert capture.read(timeout_s=0.05) is None
        assert time.monotonic() - started < 0.2
        assert capture.state is State.RUNNING


@pytest.mark.parametrize("live", [True, False])
def test_close_stops_a_thread_whose_consumer_has_gone(live):
    reader = PacedReader(period_s=0.001, live=live)
    capture = Capture(reader)
    capture.open()
    capture.read()
    time.sleep(0.05)  # the recorded one now waits for room
    started = time.monotonic()
    capture.close()
    capture.close()
    assert time.monotonic() - started < 0.5
    assert reader.closed.is_set()
    assert capture.state is State.CLOSED
    assert capture.read() is None


def test_source_is_given_back_on_errors_of_the_consumer():
    reader = PacedReader()
    with pytest.raises(KeyboardInterrupt), Capture(reader) as capture:
        raise next(KeyboardInterrupt() for _ in capture)
    assert reader.closed.wait(1)


def test_reader_that_never_returns_ends_as_stalled_and_does_not_hold_close():
    class Stuck(PacedReader):
        def read(self):
            grab = super().read()
            if grab.image[0, 0, 0] == 3:
                time.sleep(30)
            return grab

    started = time.monotonic()
    with Capture(Stuck(), stall_timeout_s=0.2) as capture:
        assert len(list(capture)) == 3
        assert capture.state is State.STALLED
        assert "0.2 s" in capture.notes[0]
    assert time.monotonic() - started < 4


def test_error_in_the_thread_reaches_the_consumer():
    class Broken(PacedReader):
        def read(self):
            if next(self.left) == 2:
                raise OSError("sensor on fire")
            return Grab(picture(1), None, time.monotonic())

    with pytest.raises(OSError, match="on fire"), Capture(Broken(live=False)) as capture:
        list(capture)


def test_pictures_of_another_size_are_scaled_to_the_first():
    class Zooming(PacedReader):
        def read(self):
            grab = super().read()
            return grab and grab._replace(image=np.zeros((48 + self.count(), 64, 3), np.uint8))

        def count(self, _c=itertools.count()):  # noqa: B008
            return min(next(_c), 1)

    with Capture(Zooming(period_s=0, count=5, live=False)) as capture:
        assert {f.image.shape for f in capture} == {(48, 64, 3)}
        (note,) = capture.notes
    assert "64 x 48 to 64 x 49" in note


# Streams over a real socket


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


@pytest.fixture
def server(tmp_path):
    server = StreamServer(file=tmp_path / "clip.avi")
    yield server
    server.stop()


def test_stream_is_live_and_timed_by_its_frames(server):
    with Capture(f"{server.url}/live?token=abc") as capture:
        assert capture.live
        assert (capture.size, capture.frame_count) == (SIZE, 0)
        assert capture.source == f"http://***@127.0.0.1:{server.server_port}/live?token=***"
        times = [frame.time_s for frame in itertools.islice(capture, 30)]
    # FFmpeg says 25 fps of such a stream; 50 are sent.
    assert capture.fps == 0
    assert np.median(np.diff(times)) == pytest.approx(1 / 50, rel=0.3)


def test_stream_that_ends_ends(server):
    with Capture(f"{server.url}/finish", reconnect=False) as capture:
        assert len(list(capture)) >= 5
        assert (capture.state, capture.notes) == (State.ENDED, ())
        assert capture.over


def test_stalled_stream_ends_in_bounded_time(server):
    with Capture(f"{server.url}/stall", stall_timeout_s=0.5, reconnect=False) as capture:
        started = time.monotonic()
        assert len(list(capture)) >= 5
        assert time.monotonic() - started < 3
        assert capture.state is State.STALLED
        assert "hunter2" not in capture.notes[0]
    assert capture.take_outages() == ()  # as long as a hiccup


def test_silence_before_the_end_is_an_outage(server, monkeypatch):
    monkeypatch.setattr(capture_module, "_SILENT_S", 0.4)
    with Capture(f"{server.url}/stall", stall_timeout_s=0.8, reconnect=False) as capture:
        *_, last = capture
    (outage,) = capture.take_outages()
    assert (outage.start_s, outage.reason) == (last.time_s, "source lost")
    assert 0.5 < outage.end_s - outage.start_s < 3
    # It was not lost yet when it was closed.
    with Capture(f"{server.url}/stall") as capture:
        while (frame := capture.read(timeout_s=0.6)) is not None:
            last = frame
    (outage,) = capture.take_outages()
    assert (outage.start_s, outage.reason) == (last.time_s, "no frames")
    assert 0.5 < outage.end_s - outage.start_s < 3


def take(capture, count):
    return [capture.read() for _ in range(count)]


def test_stream_that_is_cut_goes_on_when_its_server_is_back(server):
    with Capture(f"{server.url}/live?token=s3cr3t") as capture:
        before = take(capture, 3)
        server.stop()
        while capture.state is State.RUNNING:
            before += filter(None, [capture.read(timeout_s=0.02)])
        before += filter(None, [capture.read(timeout_s=0)])
        assert capture.state is State.RECONNECTING
        assert capture.alerts == ("reconnecting",)
        assert not capture.over
        again = StreamServer(server.server_port)
        after = take(capture, 3)
        assert (capture.state, capture.alerts) == (State.RUNNING, ())
    again.stop()
    frames = before + after
    assert [f.index for f in frames] == list(range(len(frames)))
    for a, b in itertools.pairwise(frames):
        assert b.time_s - a.time_s == pytest.approx(b.captured_at - a.captured_at)
    assert after[0].time_s - before[-1].time_s > 0.4  # the first pause
    (outage,) = capture.take_outages()
    assert outage == Outage(before[-1].time_s, after[0].time_s, "source lost")
    lost, back = capture.notes
    assert "is lost at" in lost
    assert "is back after" in back
    for secret in ("admin", "hunter2", "s3cr3t"):
        assert secret not in lost + back


def test_stalled_stream_is_opened_again(server):
    with Capture(f"{server.url}/stall", stall_timeout_s=0.3) as capture:
        frames = take(capture, 30)
        assert capture.state is State.RUNNING
    assert np.diff([f.time_s for f in frames]).max() > 0.7
    assert len(capture.take_outages()) >= 1


def test_stream_that_does_not_come_back_ends_after_a_while(server):
    with Capture(f"{server.url}/live", patience_s=1.0) as capture:
        (last,) = take(capture, 1)
        server.stop()
        for last in capture:  # noqa: B007
            pass
        assert capture.state is State.ENDED
        assert capture.over
    (outage,) = capture.take_outages()
    assert outage.start_s == last.time_s
    assert outage.end_s >= outage.start_s + 1.0
    assert "did not come back within 1" in capture.notes[-1]


def test_close_while_a_source_is_away_is_quick_and_records_the_outage(server):
    with Capture(f"{server.url}/live") as capture:
        take(capture, 2)
        server.stop()
        wait_for(lambda: capture.state is State.RECONNECTING)
        started = time.monotonic()
        capture.close()
        assert time.monotonic() - started < 1.0
        assert capture.state is State.CLOSED
    assert [o.reason for o in capture.take_outages()] == ["source lost"]


def test_close_does_not_wait_for_a_server_that_accepts_and_is_silent(server):
    with Capture(f"{server.url}/live") as capture:
        take(capture, 2)
        server.stop()
        with socket.create_server(("127.0.0.1", server.server_port)) as silent:
            peer, _ = silent.accept()  # the capture is inside its opening now
            started = time.monotonic()
            capture.close()
            assert time.monotonic() - started < 1.0
            peer.close()


def test_source_that_comes_and_goes_is_not_told_for_ever():
    class Flapping(PacedReader):
        patience_s = math.inf

        def read(self):
            grab = super().read()
            return grab if grab.image[0, 0, 0] % 3 != 2 else None

    reader = Flapping(period_s=0.001)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture_module, "_REOPEN_S", (0.001, 0.002))
        with Capture(reader) as capture:
            wait_for(lambda: len(capture.take_outages()) > 0 and capture.frames_read > 60)
            assert 5 < len(capture.notes) < 15


def test_reader_that_breaks_while_it_is_lost_is_opened_again():
    class Unreliable(PacedReader):
        patience_s = math.inf
        troubles = iter([InputError("no. Mend it."), OSError("bus"), cv2.error("driver")])

        def open(self):
            if capture.frames_read and (trouble := next(self.troubles, None)):
                raise trouble

        def read(self):
            grab = super().read()
            if grab.image[0, 0, 0] == 5:
                raise OSError("unplugged")
            return grab

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture_module, "_REOPEN_S", (0.001, 0.002))
        capture = Capture(Unreliable(period_s=0.001))
        with capture:
            wait_for(lambda: capture.frames_read > 20)
        assert next(Unreliable.troubles, None) is None


def test_reopening_prints_nothing(server):
    code = (
        "import sys\n"
        "from realtime_mer.capture import Capture\n"
        "with Capture(sys.argv[1]) as capture:\n"
        "    print('running', flush=True)\n"
        "    while not capture.take_outages(): capture.read(0.05)\n"
        "print(*capture.notes, sep='\\n')\n"
    )
    command = [sys.executable, "-c", code, f"{server.url}/live?token=s3cr3t"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "running\n"
        server.stop()
        time.sleep(0.7)  # one attempt is refused
        again = StreamServer(server.server_port)
        out, err = process.communicate(timeout=30)
        again.stop()
    assert (process.returncode, err) == (0, "")
    assert len(out.splitlines()) == 2
    for secret in ("admin", "hunter2", "s3cr3t"):
        assert secret not in out


def test_recording_behind_an_address_loses_no_frame(server):
    write_video(server.file, frames=20)
    with Capture(f"{server.url}/file.avi") as capture:
        assert not capture.live
        assert len(list(capture)) == 20


def test_refused_address_is_named_without_its_credentials(server):
    url = server.url
    server.stop()
    with pytest.raises(InputError) as raised, Capture(f"{url}/live?token=s3cr3t"):
        pass
    message = str(raised.value)
    assert "127.0.0.1" in message
    for secret in ("hunter2", "admin", "s3cr3t"):
        assert secret not in message


# Kinds of sources


@pytest.mark.parametrize("source", ["7", 7, "/dev/video7"])
def test_absent_camera_names_the_demo(source):
    with pytest.raises(InputError, match="--demo") as raised, Capture(source):
        pass
    assert "7" in str(raised.value)


@pytest.mark.parametrize(
    ("source", "what"),
    [("-1", "numbered from 0"), ("gopher://x/y", "not supported"), ("", "empty"), ("a\0b", "name")],
)
def test_sources_of_no_kind_are_refused(source, what):
    with pytest.raises(InputError, match=what):
        Capture(source)


def test_rate_is_for_recordings():
    with pytest.raises(InputError, match="--fps is for recordings"):
        Capture("0", fps=30)


def test_file_named_like_a_number_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "plain.avi").rename(tmp_path / "0")
    assert not reader_for("./0").live
    assert reader_for("0").live


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("clip.avi", "clip.avi"),
        ("mail@home?token=1.avi", "mail@home?token=1.avi"),  # a file name is no address
        ("http://host/x", "http://host/x"),
        ("rtsp://u:p@host:554/x", "rtsp://***@host:554/x"),
        ("rtsp://u:p@ss@host/x", "rtsp://***@host/x"),
        ("rtsp://u:pa/ss@host/x", "rtsp://***@host/x"),
        ("rtsp://u:pa?ss#w@host/x", "rtsp://***@host/x"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://h/x?Token=1&profile=2", "http://h/x?Token=***&profile=2"),
        ("http://h/x?a=1;PASSWORD=2", "http://h/x?a=1;PASSWORD=***"),
        ("http://h/x?%74oken=1", "http://h/x?%74oken=***"),
        ("http://h/x?q=eyJhbGciOiJIUzI1NiJ9", "http://h/x?q=***"),
        ("http://h/x#access_token=1", "http://h/x#access_token=***"),
        ("evil\x1b[2J\n.avi", "evil\\x1b[2J\\n.avi"),
        ("bytes\udcff.avi", "bytes\\udcff.avi"),
    ],
)
def test_what_is_shown_of_a_source(source, shown):
    assert redacted(source) == shown


def test_program_ends_at_once_and_cleanly_while_a_stream_stalls(server):
    code = (
        "import sys, time\n"
        "from realtime_mer.capture import Capture\n"
        "with Capture(sys.argv[1]) as capture:\n"
        "    for frame in capture:\n"
        "        if frame.index == 10: break\n"
        "    time.sleep(0.5); started = time.monotonic()\n"
        "print(time.monotonic() - started < 1.5)\n"
    )
    command = [sys.executable, "-c", code, f"{server.url}/stall"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
