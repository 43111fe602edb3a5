"""What is done with an input, place by place where something from outside comes in.

Each function gets an input and an empty folder, does with it what the program does, and returns
what became of it. It raises what nobody may raise: anything but the documented errors.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import functools
import hashlib
import io
import itertools
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from realtime_mer.analysis.analyser import Analyser
from realtime_mer.cli import main
from realtime_mer.command.options import parse
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.output.log import CsvLog, JsonLinesLog, schema
from realtime_mer.recognition.classifier import Classifier
from realtime_mer.redaction import redacted
from realtime_mer.results import (
    Analysis,
    FaceState,
    Gap,
    GapReason,
    Interval,
    MacroExpression,
    MicroExpression,
    Session,
    SourceStatus,
    StatusChange,
    Summary,
)
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.source import stream
from realtime_mer.source.capture import Capture
from realtime_mer.source.frame import Frame
from realtime_mer.source.image_folder import ImageFolderReader, decode
from realtime_mer.source.kinds import reader_for
from realtime_mer.source.mjpeg import JPEGDecoder, JPEGSplitter
from realtime_mer.source.reader import Grab, Reader
from realtime_mer.spotting.signals import CHANNELS
from realtime_mer.spotting.spotter import SpotterModel
from tests.fuzz import seeds
from tests.fuzz.edits import edited

SECRET = "hunter2"
"""Stands for a password or a token. What is shown never contains it."""

OUTSIDE_LEVEL = 250
"""Grey level of a video that no playlist may reach; those of all other videos are lower."""

# Pictures read of one input.
_MOST_PICTURES = 40


def refused(error: BaseException) -> str:
    """Checks the message of a documented error."""
    text = str(error)
    assert text, "an empty message"
    assert len(text) < 20_000, "a message of more than 20,000 characters"
    wrong = sorted({c for c in text if not c.isprintable()})
    assert not wrong, f"a message with control characters\n{text!r}"
    assert SECRET not in text, f"a message with the password\n{text!r}"
    return "refused"


def _check_picture(image: np.ndarray) -> None:
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype == np.uint8
    assert image.size > 0, "an empty picture"


# Sources


def video(value: tuple[str, bytes], place: Path) -> str:
    """A file, by its name and content, read as a source."""
    name, content = value
    path = place / name
    path.write_bytes(content)
    return _read(path)


def _read(source: Any) -> str:
    count, newest_s = 0, -1.0
    try:
        with Capture(source) as capture:
            for frame in itertools.islice(capture, _MOST_PICTURES):
                _check_picture(frame.image)
                assert newest_s < frame.time_s < float("inf"), "times that do not rise"
                newest_s = frame.time_s
                count += 1
            for note in (*capture.notes, *capture.alerts):
                refused(Exception(note))
    except InputError as error:
        return refused(error) + (" later" if count else "")
    return "read" if count else "nothing"


def picture(value: tuple[str, bytes], place: Path) -> str:
    """A still picture."""
    name, content = value
    path = place / name
    path.write_bytes(content)
    try:
        image = decode(path)
    except InputError as error:
        return refused(error)
    if image is None:
        return "none"
    _check_picture(image)
    return "read"


def folder(value: list[tuple[bytes, int]], place: Path) -> str:
    """A folder of frames, by their names and which picture they hold."""
    frames = place / "frames"
    frames.mkdir()
    for name, which in value:
        content = seeds.picture(seeds.PICTURE_NAMES[which]) if which >= 0 else b""
        with contextlib.suppress(OSError, ValueError):
            (frames / os.fsdecode(name)).write_bytes(content)
    reader = ImageFolderReader(frames, "frames", 30.0)
    try:
        reader.open()
        previous_s = -1.0
        while grab := reader.read():
            _check_picture(grab.image)
            assert grab.position_s is not None
            assert previous_s < grab.position_s < float("inf"), "times that do not rise"
            previous_s = grab.position_s
    except InputError as error:
        return refused(error)
    for note in reader.notes:
        refused(Exception(note))
    return "read"


def mjpeg(value: list[bytes], place: Path) -> str:
    """The bytes of a motion JPEG stream as they arrive."""
    pieces = iter(value)
    splitter, decoder = JPEGSplitter(lambda: next(pieces, b"")), JPEGDecoder("camera")
    count = decoded = 0
    length = sum(map(len, value))
    while (data := splitter()) is not None:
        count += 1
        assert count <= length, "more pictures than bytes"
        try:
            image = decoder(data)
        except InputError as error:
            return refused(error)
        if image is not None:
            _check_picture(image)
            decoded += 1
    return "read" if decoded else "none"


class _Site:
    """A web server that sends what it is told to, answer by answer, and hangs up."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.by_path: dict[bytes, bytes] = {}
        self.answers: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(1)
                request = connection.recv(65536)
                path = request.split(b" ")[1] if request.count(b" ") > 1 else b"/"
                given = self.by_path.get(path.partition(b"?")[0])
                if given is None:
                    given = self.answers.pop(0) if self.answers else b""
                connection.sendall(given)
                # What the client sent and we did not read would reset the connection.
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(0.01)
                while connection.recv(65536):
                    pass


@functools.cache
def _site() -> _Site:
    # Nobody is silent here for long, and a wait for more makes a run slow.
    stream.OPEN_TIMEOUT_S = 1.0
    # A redirection may lead anywhere, but inputs are not to be looked up in the network.
    socket.getaddrinfo = _only_here  # type: ignore[assignment]
    return _Site()


_look_up = socket.getaddrinfo


def _only_here(host: Any, *rest: Any, **options: Any) -> Any:
    if host not in ("127.0.0.1", "localhost", "::1", None):
        raise socket.gaierror(socket.EAI_NONAME, "not looked up in tests")
    return _look_up(host, *rest, **options)


def http(value: list[bytes], place: Path) -> str:
    """What a web server answers, connection by connection; "@PORT@" stands for its port."""
    site = _site()
    site.by_path = {}
    site.answers = [answer.replace(b"@PORT@", str(site.port).encode()) for answer in value]
    return _read_stream(f"http://user:{SECRET}@127.0.0.1:{site.port}/live?token={SECRET}")


def _read_stream(url: str) -> str:
    return _read_all(stream.StreamReader(url, redacted(url), 0.5))


def _read_all(reader: Reader) -> str:
    count = 0
    try:
        reader.open()
        if isinstance(reader, stream.StreamReader):
            reader.buffered = False  # pictures are not paced
        while count < _MOST_PICTURES and (grab := reader.read()):
            _check_picture(grab.image)
            assert grab.image.mean() < OUTSIDE_LEVEL - 5, "a picture of a file outside"
            count += 1
    except InputError as error:
        return refused(error)
    finally:
        reader.close()
    for note in reader.notes:
        refused(Exception(note))
    return "read" if count else "nothing"


@functools.cache
def _outside() -> bytes:
    from tests.realtime_mer.source.videos import encode

    path = Path("outside.ts")
    encode(path, [OUTSIDE_LEVEL] * 3, "mpeg2video", size=(32, 32))
    return path.read_bytes()


def playlist(value: tuple[bool, bytes, dict[str, bytes]], place: Path) -> str:
    """An HLS playlist and its pieces, from a server or in a folder.

    "@OUTSIDE@" stands for the path of a video that it may not reach, "@PORT@" for the port.
    """
    served, text, pieces = value
    outside = place / "outside.ts"
    outside.write_bytes(_outside())
    site = _site()
    text = text.replace(b"@OUTSIDE@", os.fsencode(outside))
    text = text.replace(b"@PORT@", str(site.port).encode())
    inside = place / "hls"
    inside.mkdir()
    if served:
        site.answers = []
        site.by_path = {
            b"/" + name.encode(): seeds.answer(
                b"video/mp2t", piece, b"Content-Length: %d" % len(piece)
            )
            for name, piece in pieces.items()
        }
        site.by_path[b"/live.m3u8"] = seeds.answer(b"application/x-mpegurl", text)
        return _read_stream(f"http://127.0.0.1:{site.port}/live.m3u8")
    for name, piece in pieces.items():
        (inside / name).write_bytes(piece)
    path = inside / "live.m3u8"
    path.write_bytes(text)
    return _read_all(reader_for(path))


# The page


class _Page:
    """The page of a session, on a loopback port."""

    def __init__(self) -> None:
        # aiohttp loads slowly.
        from realtime_mer.output.web import WebView
        from tests.realtime_mer.output.web.viewers import SESSION, Flat, analysis

        self.view = WebView("0", Flat())  # type: ignore[arg-type]
        self.view.begin(SESSION)
        self.view.update(analysis(1))
        found = re.fullmatch(r"http://([^:/]+):(\d+)/", self.view.url)
        assert found is not None
        self.place = found[1], int(found[2])
        self.host = f"{found[1]}:{found[2]}".encode()

    def exchange(self, data: bytes) -> bytes:
        """Sends bytes; returns what comes back until the answer is whole or nothing more comes."""
        with socket.create_connection(self.place, timeout=10) as connection:
            got = bytearray()
            with contextlib.suppress(ConnectionError, TimeoutError):
                connection.sendall(data)
                # An answer comes within milliseconds, but the machine may be busy.
                connection.settimeout(_ANSWER_S if _is_whole_request(data) else _SILENCE_S)
                while not _is_whole_answer(got) and (piece := connection.recv(65536)):
                    got += piece
            return bytes(got)


_ANSWER_S = 3.0
_SILENCE_S = 0.05


def _is_whole_request(data: bytes) -> bool:
    return re.match(rb"GET /[a-z.]* HTTP/1\.1\r\n([A-Za-z-]+: [ -~]*\r\n)+\r\n$", data) is not None


def _is_whole_answer(got: bytearray) -> bool:
    head, end, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


_page = functools.cache(_Page)
_CONNECTED = b"HTTP/1.1 101 "
_PROTECTION = b"content-security-policy:", b"x-content-type-options: nosniff"


def page(value: bytes, place: Path) -> str:
    """The bytes that a client of the page sends; "@HOST@" stands for its host and port."""
    site = _page()
    got = site.exchange(value.replace(b"@HOST@", site.host))
    assert not re.match(rb"HTTP/1\.[01] 5(?!03)", got), got[:12].decode("latin-1")
    if got and not got.startswith(_CONNECTED):
        head = got.partition(b"\r\n\r\n")[0].lower()
        assert got.startswith(b"HTTP/1."), "an answer that is no HTTP"
        assert all(line in head for line in _PROTECTION), (
            f"an answer without headers that protect\n{got[:300]!r}"
        )
    _check_alive(site)
    return got[9:12].decode("latin-1") or "hung up"


def websocket(value: bytes, place: Path) -> str:
    """What a viewer sends after its handshake."""
    site = _page()
    key = base64.b64encode(bytes(16))
    handshake = (
        b"GET /live HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n"
    )
    got = site.exchange(handshake % (site.host, key) + value)
    assert got.startswith(_CONNECTED) or not got, got[:60].decode("latin-1")
    _check_alive(site)
    return "served"


def _check_alive(site: _Page) -> None:
    request = b"GET /style.css HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % site.host
    got = site.exchange(request)
    assert got.startswith(b"HTTP/1.1 200 "), f"the page is dead\n{got[:200]!r}"
    assert site.view._server.error is None


# Models


def card(value: tuple[str, bytes], place: Path) -> str:
    """The card beside the delivered weights; "@SHA@" stands for their SHA-256."""
    which, text = value
    content = seeds.network(which)
    return _load(which, content, text, place)


def network(value: tuple[str, list], place: Path) -> str:
    """An ONNX file with the card of the delivered weights, which vouches for it."""
    which, edits = value
    return _load(which, edited(seeds.network(which), edits), seeds.card(which), place)


def _load(which: str, content: bytes, text: bytes, place: Path) -> str:
    path = place / "weights.onnx"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest().encode()
    path.with_suffix(".json").write_bytes(text.replace(b"@SHA@", digest))
    try:
        if which == "classifier":
            classifier = Classifier(path, "cpu")
            probabilities = classifier.classify(np.zeros((1, 2, 28, 28, 3), np.uint8))
            assert probabilities.shape == (1, len(classifier.labels))
            session = Session(
                *("x", False, (1, 1), 1.0, 1, classifier.name, "CPU", classifier.labels)
            )
            _check_record(session.to_dict())
            for text_ in (classifier.name, *classifier.labels):
                refused(Exception(text_))
        else:
            spotter = SpotterModel(path)
            assert spotter.patterns.size
            refused(Exception(spotter.name))
            assert np.isfinite(spotter.threshold), "a threshold that is no number"
            if spotter.has_curve:
                assert np.isfinite(spotter.threshold_at(1.0))
                rate = spotter.expected_false_per_minute(spotter.threshold)
                assert np.isfinite(rate), "a rate that is no number"
            spotter(np.zeros(CHANNELS, np.float32), spotter.start())
    except InputError as error:
        return refused(error)
    return "read"


def landmarks(value: bytes, place: Path) -> str:
    """A file in the place of MediaPipe's landmark model."""
    path = place / "face.task"
    path.write_bytes(value)
    try:
        find_landmark_model(path)
    except InputError as error:
        return refused(error)
    raise AssertionError("another file passes for the published model")


def checkpoint(value: bytes, place: Path) -> str:
    """A file of PyTorch."""
    from tools.recognition.export import load_checkpoint
    from tools.recognition.import_checkpoint import load_official

    path = place / "weights.pt"
    path.write_bytes(value)
    outcomes = []
    for load in (load_official, load_checkpoint):
        try:
            load(path)
            outcomes.append("read")
        except InputError as error:
            outcomes.append(refused(error))
    return max(outcomes, key=len)


# Tables and folders of the tools


def truth(value: bytes, place: Path) -> str:
    """The table of one video's truth."""
    from tools.spotting.annotations import read_truth

    path = place / "truth.csv"
    path.write_bytes(value)
    try:
        for annotation in read_truth(path):
            annotation.at(30.0)
    except InputError as error:
        return refused(error)
    return "read"


def data_set(value: tuple[bytes, list[bytes]], place: Path) -> str:
    """The table of a data set, and the names of its videos."""
    from tools.spotting.annotations import read_data_set

    table, names = value
    path = place / "table.csv"
    path.write_bytes(table)
    videos = place / "videos"
    videos.mkdir()
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            target = videos / os.fsdecode(name)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(b"")
    try:
        read_data_set(path, videos, 30.0)
    except InputError as error:
        return refused(error)
    return "read"


def release(value: tuple[bytes, bytes], place: Path) -> str:
    """The index of a release of flow images, and the content of its images."""
    from models.data import IMAGES, INDEX, read_release

    index, content = value
    (place / INDEX).write_bytes(index)
    (place / IMAGES).mkdir()
    for name in ("p0_clip0 .png", "p0_clip0_1 .png", "p1_clip0 .png", "p1_clip0_1 .png"):
        (place / IMAGES / name).write_bytes(content)
    try:
        clips = read_release(place)
        assert len(clips)
    except InputError as error:
        return refused(error)
    return "read"


# The command line


@contextlib.contextmanager
def _beside_a_clip(place: Path) -> Iterator[io.StringIO]:
    """Goes where a clip is; gives what is said as an error."""
    os.chdir(place)
    Path("clip.mp4").write_bytes(seeds.video("a.mp4") or b"x")
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        yield said


def command(value: list[str], place: Path) -> str:
    """The arguments of a command; the session itself does not run."""
    from realtime_mer.command import recognize

    try:
        with _beside_a_clip(place) as said:
            options = parse(value, "realtime-mer")
    except SystemExit as error:
        status, text = error.code, said.getvalue()
        assert status in (0, 2), f"exit status {status}"
        if status:
            assert text.count("\n") == 1, f"an error of other than one line\n{text!r}"
            refused(Exception(text.rstrip("\n")))
        return "refused"
    if options.demo:
        return "demo"
    outputs = None
    try:
        recognize._readers(options, options.sources or [0])
        outputs = recognize.Outputs(options, options.sources)
    except InputError as error:
        return refused(error)
    finally:
        if outputs is not None:
            outputs.close()
    return "accepted"


def session(value: list[str], place: Path) -> str:
    """The arguments of a command that runs on a clip, to its end."""
    try:
        with _beside_a_clip(place) as said:
            status = main(["clip.mp4", "--headless", *value])
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    assert status in (0, 2), f"exit status {status}"
    assert SECRET not in said.getvalue(), "a message with the password"
    for path in place.glob("*.jsonl"):
        for line in path.read_text("utf-8").splitlines():
            _check_record(json.loads(line))
    return "refused" if status else "ran"


def redaction(value: tuple[str, bool], place: Path) -> str:
    """An address or name, and whether there is a secret in it."""
    text, _ = value
    shown = redacted(text)
    assert SECRET not in shown, f"shows the password\n{text!r} as {shown!r}"
    wrong = [c for c in shown if not c.isprintable()]
    assert not wrong, f"shows control characters\n{shown!r}"
    assert redacted(shown) == shown, f"shows what is shown otherwise\n{text!r}: {shown!r}"
    try:
        reader = reader_for(text)
    except InputError as error:
        return refused(error)
    refused(Exception(reader.name))
    return "named"


# The library


def _array(spec: tuple) -> Any:
    """(shape, type, layout, fill) as an array; anything else as it is."""
    if not (isinstance(spec, tuple) and len(spec) == 4):
        return spec
    shape, kind, layout, fill = spec
    if layout == "broadcast":
        return np.broadcast_to(np.array(fill).astype(kind), shape)
    array = np.random.default_rng(fill).integers(0, 255, shape).astype(kind)
    match layout:
        case "reversed":
            return array[::-1, ::-1] if array.ndim > 1 else array
        case "fortran":
            return np.asfortranarray(array)
        case "skipping" if array.ndim:
            return array[::2]
        case "frozen":
            array.setflags(write=False)
    return array


def push(value: list[tuple[Any, Any]], place: Path) -> str:
    """Pictures and times, handed to an `Analyser` one after the other."""
    analysed = 0
    with Analyser() as analyser:
        for picture_, time_s in value:
            try:
                analysis = analyser(_array(picture_), float(time_s) if time_s else time_s)
                analysed += 1
            except (ValueError, InputError):
                continue
            assert isinstance(analysis, Analysis)
    return "analysed" if analysed == len(value) else "refused"


class _Odd(Reader):
    """A reader of somebody else, with pictures and times as they come."""

    def __init__(self, grabs: list[tuple[Any, Any, Any]], live: bool) -> None:
        self.name, self.live, self.fps, self.frame_count = "odd", live, 0.0, 0
        self.notes: list[str] = []
        self._grabs = iter(grabs)

    def open(self) -> None: ...

    def close(self) -> None: ...

    def empty(self) -> InputError:
        return InputError("odd is empty")

    def read(self) -> Grab | None:
        given = next(self._grabs, None)
        if given is None:
            return None
        picture_, position_s, ago_s = given
        at = time.monotonic() - float(ago_s)
        return Grab(_array(picture_), None if position_s is None else float(position_s), at)


def recognizer(value: tuple[bool, list], place: Path) -> str:
    """Pictures and times of somebody else's reader, to a `Recognizer`."""
    live, grabs = value
    count = 0
    try:
        with Recognizer(_Odd(grabs, live), reconnect=False) as recognizer_:
            for analysis in recognizer_.analyses():
                assert analysis.frame.time_s < float("inf")
                count += 1
                for result in (*analysis.gaps, *analysis.events, *analysis.statuses):
                    _check_record(result.to_dict())
    except (InputError, ValueError):
        return "refused"
    return "analysed" if count else "nothing"


# The logs


@functools.cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(schema())


def _check_record(record: Any) -> None:
    for error in _validator().iter_errors(record):
        raise AssertionError(f"a record that the schema refuses\n{error.message[:300]}")


def _strict(line: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in the log")

    return json.loads(line, parse_constant=refuse)


def _log_parts(value: dict) -> tuple[Session, list[Analysis], Summary]:
    texts, numbers = value["texts"], value["numbers"]
    text, number = itertools.cycle(texts), itertools.cycle(numbers)
    labels = tuple(dict.fromkeys(value["labels"]))
    given = Session(
        next(text) or "x", False, (640, 480), abs(next(number)), 5, next(text), next(text), labels
    )
    analyses = []
    for k in range(value["count"]):
        times = sorted(abs(next(number)) for _ in range(3))
        probabilities = dict.fromkeys(labels, 1 / len(labels))
        event = MicroExpression(
            *(k, Interval(*times), probabilities, abs(next(number)), abs(next(number))),
            source=next(text) or "x",
            model=next(text),
        )
        macro = MacroExpression(k, times[0], times[1], times[2], next(text) or "x")
        gap = Gap(k, times[0], times[2], list(GapReason)[k % len(GapReason)])
        status = StatusChange(list(SourceStatus)[k % len(SourceStatus)], times[0])
        frame = Frame(k, times[0], np.zeros((4, 4, 3), np.uint8), 0.0)
        face = FaceState(k, np.zeros((478, 2), np.float32), next(number))
        analyses.append(
            Analysis(frame, (face,), (event,), (gap,), macros=(macro,), statuses=(status,))
        )
    latencies = {name: abs(next(number)) for name in ("median", "p95", "p99", "max")}
    end = Summary(
        *(next(text) or "x", 1, 1, 0, 1, abs(next(number)), abs(next(number)), len(analyses)),
        stats={"end_to_end_ms": latencies},
    )
    return given, analyses, end


def log(value: dict, place: Path) -> str:
    """Records with any text and any finite number, to both logs."""
    given, analyses, end = _log_parts(value)
    lines, table = JsonLinesLog(place / "log.jsonl", macros=True), CsvLog(place / "log.csv")
    for sink in (lines, table):
        sink.begin(given)
        for analysis in analyses:
            sink.update(analysis)
        sink.end(end)
    content = (place / "log.jsonl").read_bytes()
    assert content.endswith(b"\n")
    records = content.decode("utf-8").split("\n")[:-1]
    assert len(records) == 2 + 4 * len(analyses), "lines that are no records"
    for line in records:
        _check_record(_strict(line))
    text = (place / "log.csv").read_text("utf-8-sig", "surrogateescape")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == 1 + len(analyses), "rows that are no events"
    assert {len(row) for row in rows} == {len(rows[0])}
    for row in rows:
        for cell in row:
            is_number = re.fullmatch(r"-?[0-9.]+(e[+-]?[0-9]+)?", cell)
            assert is_number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), (
                "a cell that a spreadsheet executes"
            )
    return "written"


TARGETS: dict[str, Callable[[Any, Path], str]] = {
    function.__name__: function
    for function in (
        *(video, picture, folder, mjpeg, http, playlist, page, websocket),
        *(card, network, landmarks, checkpoint, truth, data_set, release),
        *(command, session, redaction, push, recognizer, log),
    )
}

NATIVE = ("video", "picture", "mjpeg", "http", "playlist", "network", "push", "recognizer")
"""Those whose inputs go through native code: decoders, ONNX Runtime, MediaPipe."""
