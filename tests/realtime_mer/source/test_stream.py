"""Streams over a real socket."""

import contextlib
import gzip
import http.server
import itertools
import socket
import threading
import time

import av
import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.source import stream as stream_module
from realtime_mer.source.capture import Capture, State
from realtime_mer.source.container import Picture, VideoContainer
from realtime_mer.source.stream import StreamReader
from tests.realtime_mer.source.rtsp import RTSPServer
from tests.realtime_mer.source.sources import SIZE, level, picture, write_video
from tests.realtime_mer.source.videos import encode, levels


def test_stream_is_live_and_timed_by_its_frames(server):
    with Capture(f"{server.url}/live?token=abc") as capture:
        assert capture.live
        assert (capture.size, capture.frame_count) == (SIZE, 0)
        assert capture.source == f"http://***@127.0.0.1:{server.server_port}/live?token=***"
        times = [frame.time_s for frame in itertools.islice(capture, 30)]
    # Such a stream declares no rate; 50 fps are sent.
    assert capture.fps == 0
    assert np.median(np.diff(times)) == pytest.approx(1 / 50, rel=0.3)


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


@pytest.fixture
def serve():
    """Starts a server whose answers a function of the request's handler gives."""
    servers = []

    def start(answer) -> str:
        handler = type(
            "Handler",
            (http.server.BaseHTTPRequestHandler,),
            {"do_GET": answer, "log_message": lambda *args: None},
        )
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def begin(handler, content_type, length=None):
    handler.send_response(200)
    if content_type:
        handler.send_header("Content-Type", content_type)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()


def part(data, head, boundary):
    return boundary + head + b"Content-Length: %d\r\n\r\n" % len(data) + data + b"\r\n"


MULTIPART = "multipart/x-mixed-replace; boundary=frame"


@pytest.mark.parametrize(
    ("content_type", "head", "first", "damaged"),
    [
        (MULTIPART, b"Content-Type: image/jpeg\r\n", b"--frame\r\n", False),
        (MULTIPART, b"Content-Type: image/jpg\r\n", b"--frame\r\n", False),
        (MULTIPART, b"", b"--frame\r\n", False),
        (MULTIPART, b"Content-Type: image/jpeg\r\n", b"", False),
        (MULTIPART, b"Content-Type: image/jpeg\r\n", b"--frame\r\n", True),
        (MULTIPART.replace("=frame", '="frame"'), b"Content-Type: image/jpeg\r\n", b"", False),
        ("", b"Content-Type: image/jpeg\r\n", b"--frame\r\n", False),
    ],
    ids=["usual", "jpg", "no type", "no first", "a damaged one", "quoted", "no header"],
)
def test_cheap_cameras_lose_no_picture(serve, content_type, head, first, damaged):
    def answer(handler):
        begin(handler, content_type)
        for k in range(10):
            data = cv2.imencode(".jpg", picture(20 * k))[1].tobytes()
            if damaged and k == 4:
                data = b"\xff\xd8" + bytes(300)
            handler.wfile.write(part(data, head, b"--frame\r\n" if k else first))
            time.sleep(0.03)

    with Capture(serve(answer), reconnect=False) as capture:
        frames = list(capture)
    expected = [20 * k for k in range(10) if not (damaged and k == 4)]
    assert capture.frames_dropped == 0
    assert [level(f) for f in frames] == pytest.approx(expected, abs=3)
    assert sum("damaged pictures" in note for note in capture.notes) == damaged


def test_pictures_with_nothing_between_are_timed_by_arrival(serve):
    def answer(handler):
        begin(handler, "application/octet-stream")
        for k in range(10):
            handler.wfile.write(cv2.imencode(".jpg", picture(20 * k))[1].tobytes())
            time.sleep(0.03)

    with Capture(serve(answer), reconnect=False) as capture:
        frames = list(capture)
    assert [level(f) for f in frames] == pytest.approx([20 * k for k in range(10)], abs=3)
    assert capture.live
    assert frames[-1].time_s > 9 * 0.03 - 0.02


@pytest.mark.parametrize(("gzipped", "says_length"), [(False, True), (False, False), (True, True)])
def test_recording_that_needs_its_end_first_needs_no_special_server(
    serve, tmp_path, gzipped, says_length
):
    # More than FFmpeg keeps while it looks for the index.
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    data = encode(tmp_path / "x.mp4", [noise] * 4 + [255 - noise] * 4, size=(320, 240)).read_bytes()

    def answer(handler):
        body = gzip.compress(data) if gzipped else data
        handler.send_response(200)
        if gzipped:
            handler.send_header("Content-Encoding", "gzip")
        if says_length:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(body)

    with Capture(serve(answer)) as capture:
        assert not capture.live
        assert [f.time_s for f in capture] == pytest.approx([k / 25 for k in range(8)], abs=2e-3)


@pytest.mark.parametrize(
    ("content_type", "body", "what"),
    [
        ("text/html", b"<html>Camera</html>", "is a web page"),
        ("image/jpeg", cv2.imencode(".jpg", picture(9))[1].tobytes(), "is a single picture"),
        ("image/png", cv2.imencode(".png", picture(9))[1].tobytes(), "is a single picture"),
    ],
    ids=["page", "jpeg", "png"],
)
def test_what_is_no_stream_is_called_by_its_name(serve, content_type, body, what):
    def answer(handler):
        begin(handler, content_type, len(body))
        handler.wfile.write(body)

    with pytest.raises(InputError, match=what), Capture(serve(answer)):
        pass


def test_segments_may_be_parts_of_one_file(serve, tmp_path):
    lines, data = ["#EXTM3U", "#EXT-X-VERSION:4", "#EXT-X-TARGETDURATION:1"], b""
    for k in range(3):
        times = [800 * k + 40 * n for n in range(20)]
        path = tmp_path / f"{k}.ts"
        encode(path, [50 + 50 * k] * 20, file_format="mpegts", times_ms=times)
        segment = path.read_bytes()
        lines += ["#EXTINF:0.8,", f"#EXT-X-BYTERANGE:{len(segment)}@{len(data)}", "all.ts"]
        data += segment
    playlist = ("\n".join([*lines, "#EXT-X-ENDLIST"]) + "\n").encode()

    def answer(handler):
        if handler.path.endswith("live"):
            begin(handler, "application/vnd.apple.mpegurl", len(playlist))
            handler.wfile.write(playlist)
            return
        start = int(handler.headers["Range"].removeprefix("bytes=").partition("-")[0])
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(data[start:])

    with Capture(serve(answer) + "/live") as capture:
        frames = list(capture)
    assert [level(f) for f in frames] == pytest.approx(np.repeat([50, 100, 150], 20), abs=6)


def test_recording_that_needs_its_end_first_is_read_from_the_middle(serve, tmp_path):
    # Its index is behind the pictures.
    data = encode(tmp_path / "x.mp4", levels()).read_bytes()
    assert data.index(b"moov") > data.index(b"mdat")
    starts = []

    def answer(handler):
        start = int(handler.headers["Range"].removeprefix("bytes=").partition("-")[0])
        starts.append(start)
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start:])

    with Capture(serve(answer)) as capture:
        assert not capture.live
        assert [level(f) for f in capture] == pytest.approx(levels(), abs=6)
    assert starts[0] == 0


@pytest.mark.parametrize("says_length", [True, False])
def test_recording_without_a_duration_is_played_once(serve, tmp_path, monkeypatch, says_length):
    monkeypatch.setattr("realtime_mer.source.capture._REOPEN_S", (0.01, 0.01))
    with av.open(str(tmp_path / "x.webm"), "w", options={"live": "1"}) as output:
        stream = output.add_stream("libvpx-vp9", rate=25, options={"deadline": "realtime"})
        stream.width, stream.height = SIZE
        for k, value in enumerate(levels()):
            frame = av.VideoFrame.from_ndarray(picture(value), "bgr24").reformat(format="yuv420p")
            frame.pts = k
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    data = (tmp_path / "x.webm").read_bytes()
    with av.open(str(tmp_path / "x.webm")) as container:
        assert container.duration is None

    def answer(handler):
        begin(handler, "video/webm", len(data) if says_length else None)
        handler.wfile.write(data)

    with Capture(serve(answer)) as capture:
        frames = list(capture)
        assert capture.live is not says_length
    assert capture.state is State.ENDED
    assert capture.frames_dropped == 0
    assert [level(f) for f in frames] == pytest.approx(levels(), abs=6)
    assert [f.time_s for f in frames] == pytest.approx([k / 25 for k in range(20)], abs=2e-3)


def live_playlist(handler, folder, began_at, segment_s, count):
    """Answers as a live playlist does: a segment more each time one is over; then an end."""
    name = handler.path.removeprefix("/")
    if name != "live":
        data = (folder / name).read_bytes()
        begin(handler, "video/mp2t", len(data))
    else:
        done = min(count, 2 + int((time.monotonic() - began_at) / segment_s))
        first = max(0, done - 3)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{max(1, round(segment_s))}"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
        for k in range(first, done):
            lines += [f"#EXTINF:{segment_s},", f"{k}.ts"]
        if done == count:
            lines.append("#EXT-X-ENDLIST")
        data = ("\n".join(lines) + "\n").encode()
        begin(handler, "application/vnd.apple.mpegurl", len(data))
    handler.wfile.write(data)


def test_live_playlist_is_paced_by_its_times_and_loses_no_frame(serve, tmp_path):
    def prepare(stream):
        stream.codec_context.gop_size = 25

    for k in range(4):
        # Each segment continues the times of the one before it.
        times = [1000 * k + 40 * n for n in range(25)]
        encode(
            tmp_path / f"{k}.ts",
            [40 + 40 * k] * 25,
            file_format="mpegts",
            times_ms=times,
            prepare=prepare,
            options={"tune": "zerolatency"},
        )
    began_at = time.monotonic()
    url = serve(lambda handler: live_playlist(handler, tmp_path, began_at, 1.0, 4)) + "/live"
    with Capture(url, reconnect=False) as capture:
        assert capture.live
        frames = list(capture)
    assert capture.frames_dropped == 0
    assert [level(f) for f in frames] == pytest.approx(np.repeat([40, 80, 120, 160], 25), abs=6)
    assert [f.time_s for f in frames] == pytest.approx([k / 25 for k in range(100)], abs=2e-3)


def test_playlist_with_an_end_is_a_recording(serve, tmp_path):
    encode(tmp_path / "0.ts", levels(), file_format="mpegts")
    url = serve(lambda handler: live_playlist(handler, tmp_path, 0.0, 0.8, 1)) + "/live"
    with Capture(url) as capture:
        assert not capture.live
        assert [level(f) for f in capture] == pytest.approx(levels(), abs=6)


def test_playlist_cannot_name_files_of_this_machine(serve, tmp_path):
    encode(tmp_path / "0.ts", levels(), file_format="mpegts")

    def answer(handler):
        text = f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/0.ts\n#EXT-X-ENDLIST\n".encode()
        begin(handler, "application/vnd.apple.mpegurl", len(text))
        handler.wfile.write(text)

    with pytest.raises(InputError), Capture(serve(answer)) as capture:
        list(capture)


def paced(monkeypatch, positions, waits=(0,) * 6) -> list[float]:
    """Times at which pictures with certain positions count as taken."""
    pictures = [Picture(picture(9), position) for position in positions]
    remaining, waits = iter(pictures), iter(waits)

    def read(self):
        time.sleep(next(waits))
        return next(remaining)

    monkeypatch.setattr(VideoContainer, "read", read)
    reader = StreamReader("http://camera/live", "camera", 5.0)
    reader.buffered = True
    reader._container = object.__new__(VideoContainer)
    reader._container.bad_pictures = 0
    return [reader.read().captured_at for _ in pictures]


def test_late_pictures_keep_their_times(monkeypatch):
    times = paced(monkeypatch, [0, 0.02, 0.04, 0.06, 0.08], waits=[0, 0, 0.6, 0, 0])
    assert np.diff(times) == pytest.approx(0.02)


def test_long_silence_is_a_hole(monkeypatch):
    monkeypatch.setattr(stream_module, "_MAX_LATE_S", 0.1)
    steps = np.diff(paced(monkeypatch, [0, 0.02, 0.04, 0.06], waits=[0, 0, 0.6, 0]))
    assert steps[[0, 2]] == pytest.approx(0.02)
    assert steps[1] > 0.3


def test_times_that_begin_anew_go_on(monkeypatch):
    times = paced(monkeypatch, [100, 100.02, 3, 3.02, 900, 900.02])
    assert np.diff(times)[[0, 2, 4]] == pytest.approx(0.02)
    assert 0 < np.diff(times).max() < 1


def test_slow_analysis_of_a_paced_stream_drops_nothing(serve, tmp_path):
    data = encode(tmp_path / "x.ts", levels(), file_format="mpegts", fps=100).read_bytes()

    def answer(handler):
        begin(handler, "video/mp2t")
        handler.wfile.write(data)

    with Capture(serve(answer), reconnect=False) as capture:
        assert capture.live
        frames = []
        for frame in capture:
            time.sleep(0.03)
            frames.append(frame)
    assert capture.frames_dropped == 0
    assert [f.time_s for f in frames] == pytest.approx([k / 100 for k in range(20)], abs=2e-3)


@pytest.fixture
def rtsp(tmp_path):
    path = encode(
        tmp_path / "x.ts",
        [20 + 4 * k for k in range(50)],
        file_format="mpegts",
        options={"tune": "zerolatency"},
        prepare=lambda stream: setattr(stream.codec_context, "gop_size", 10),
    )
    server = RTSPServer(path.read_bytes(), length_s=2.0)
    yield server
    server.stop()


def test_rtsp_is_read_over_tcp_and_timed_by_arrival(rtsp):
    with Capture(rtsp.url, reconnect=False) as capture:
        assert capture.live
        frames = list(itertools.islice(capture, 25))
    assert all(t.startswith("RTP/AVP/TCP") for t in rtsp.transports)
    assert rtsp.transports
    assert frames[0].image.shape == (SIZE[1], SIZE[0], 3)
    assert np.diff([f.time_s for f in frames]).min() > 0


def test_pictures_stored_while_a_stream_was_examined_are_skipped(monkeypatch):
    """What came while it was examined is there at once; the rest is paced."""
    numbers = itertools.count()

    def read(self):
        number = next(numbers)
        if number >= 20:
            time.sleep(0.03)
        return Picture(picture(number), None)

    def make(self, *args, **kwargs):
        self.fps, self.frame_count, self.bad_pictures = 0.0, 0, 0
        assert kwargs["threads"] is False  # each thread of the decoder holds a picture back

    monkeypatch.setattr(VideoContainer, "__init__", make)
    monkeypatch.setattr(VideoContainer, "read", read)
    stream = StreamReader("rtsp://camera/live", "rtsp://camera/live", 5.0)
    stream.open()
    assert [int(stream.read().image[0, 0, 0]) for _ in range(3)] == [20, 21, 22]


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n\0\0"])
def test_close_ends_the_wait_for_a_server_that_is_silent(says):
    listener = socket.create_server(("127.0.0.1", 0))
    capture = Capture(f"http://127.0.0.1:{listener.getsockname()[1]}/")
    opening = threading.Thread(target=capture.open)
    opening.start()
    client, _ = listener.accept()
    client.sendall(says)
    client.recv(4096)
    time.sleep(0.1)
    capture.close()
    capture._thread.join(5)  # far below the time that opening may take
    assert not capture._thread.is_alive()
    opening.join(5)
    client.close()
    listener.close()
