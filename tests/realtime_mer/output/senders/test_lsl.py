"""LSL streams, as a receiver in another process and a reader of recordings see them."""

import dataclasses
import itertools
import math
import os
import socket
import struct
import time
import uuid

import pytest

from realtime_mer.output.senders.sender import Senders
from realtime_mer.output.senders.values import CHANNELS, FaceValues, FrameValues, values_of
from realtime_mer.results import Analysis, Mark
from tests.realtime_mer.output.senders.conftest import SUMMARY, Lines, as_live, session
from tests.sessions import BLINKS, EVENTS

lsl = pytest.importorskip("realtime_mer.output.senders.lsl")
pytest.importorskip("pylsl")

PERIOD_S = 1 / 30
MARKERS, FACE = "realtime_mer markers", "realtime_mer face 0"


def play(senders: Senders, analyses, until: int | None = None) -> None:
    for analysis in itertools.islice(analyses, until):
        senders.update(analysis)
        # Faster than any camera, but not faster than the sender's thread.
        time.sleep(0.002)


def open_doors() -> set[tuple[str, int]]:
    """What this process's sockets listen at, apart from those bound to the loopback device."""
    doors = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                device = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
                host, port = sock.getsockname()[:2]
        except OSError:
            continue
        if port and not host.startswith("127.") and not device.startswith(b"lo"):
            doors.add((host, port))
    return doors


class Played:
    """A session, its receiver, and the same session once more: the program was started again."""

    def __init__(self, eventful, receiver) -> None:
        self.notes: list[str] = []
        source = f"camera {uuid.uuid4()}"
        start_s = time.monotonic() - 30
        live = session(source=source, start_s=start_s)
        analyses = as_live(eventful, live.origin)
        doors = open_doors()
        senders = Senders([lsl.LslLink(1)], self.notes.append)
        senders.begin(live)
        self.inlet: Lines = receiver("inlet.py", "realtime_mer", source, 2)
        ready = {self.inlet.until(lambda line: "ready" in line)["ready"] for _ in range(2)}
        assert ready == {MARKERS, FACE}
        self.new_doors = open_doors() - doors
        self.headers = {line["stream"]: line for line in self.inlet.seen if "rate" in line}
        play(senders, analyses)
        last_s = analyses[-1].frame.captured_at - PERIOD_S / 2
        self.inlet.until(lambda line: line.get("stream") == FACE and line.get("stamp", 0) > last_s)
        ended_at = time.monotonic()
        senders.end(SUMMARY)
        self.end_s = time.monotonic() - ended_at
        self.counts = senders.counts()["LSL"]
        self.samples = {
            stream: [
                (line["stamp"] - start_s, line["sample"])
                for line in self.inlet.seen
                if line.get("stream") == stream and "sample" in line
            ]
            for stream in (MARKERS, FACE)
        }

        again = Senders([lsl.LslLink(1)])
        again.begin(session(source=source))
        deadline = time.monotonic() + 30
        mark = Mark(0.0, "window", "after the restart")
        self.is_recovered = False
        while not self.is_recovered and time.monotonic() < deadline:
            # Markers that come while nobody is connected are not kept.
            again.update(Analysis(analyses[0].frame, marks=(mark,)))
            time.sleep(0.2)
            self.is_recovered = any(
                line.get("sample") == ["mark/after the restart"] for line in self.inlet.new()
            )
        again.end(SUMMARY)


@pytest.fixture(scope="module")
def played(eventful):
    started = []

    def receiver(script, *arguments) -> Lines:
        started.append(Lines(script, *arguments))
        return started[-1]

    yield Played(eventful, receiver)
    for process in started:
        process.end()


def test_markers_are_one_irregular_channel_of_text_with_a_stable_id(played):
    header = played.headers[MARKERS]
    assert (header["type"], header["rate"], header["format"]) == ("Markers", 0.0, 3)
    assert header["source_id"].startswith("realtime_mer-")
    assert header["time_stamps"] == "capture"


def test_numbers_have_names_units_and_types_in_their_header(played):
    header = played.headers[FACE]
    assert header["rate"] == 0.0
    assert [tuple(channel) for channel in header["channels"]] == [tuple(c) for c in CHANNELS]
    assert ("head yaw", "deg", "Orientation") in CHANNELS


def test_markers_lie_where_the_motion_was_filmed(played):
    told = [(text, at) for at, (text,) in played.samples[MARKERS]]
    assert [text for text, _ in told] == [
        *("onset/surprise", "apex/surprise", "offset/surprise"),
        *("onset/positive", "apex/positive", "offset/positive"),
    ]
    onsets = [at for text, at in told if text.startswith("onset")]
    for onset, hidden in zip(onsets, EVENTS, strict=True):
        assert abs(onset - hidden.interval.onset_s) <= PERIOD_S


def test_every_frame_has_its_numbers_at_the_time_of_its_capture(played, eventful):
    times = [at for at, _ in played.samples[FACE]]
    assert len(times) == len(eventful) == played.counts["values_sent"]
    for at, analysis in zip(times, eventful, strict=True):
        assert at == pytest.approx(analysis.frame.time_s, abs=0.005)


def test_a_blink_is_seen_at_its_time(played):
    names = [channel.name for channel in CHANNELS]
    blink = names.index("blink")
    peak_at, _ = max(played.samples[FACE], key=lambda sample: sample[1][blink])
    ((start, end),) = BLINKS
    # The lids are shut from 0.09 to 0.13 s of the blink.
    assert start + 0.09 - PERIOD_S <= peak_at <= start + 0.13 + PERIOD_S < end


def test_what_is_unknown_is_nan(played):
    score = [channel.name for channel in CHANNELS].index("score")
    first, last = played.samples[FACE][0][1], played.samples[FACE][-1][1]
    assert math.isnan(first[score])
    assert math.isfinite(last[score])


def test_no_door_is_open_to_the_network(played):
    assert played.new_doors == set()


def test_the_end_takes_less_than_a_second_and_nothing_was_dropped(played):
    assert played.end_s < 1.5
    assert played.counts["values_dropped"] == played.counts["events_dropped"] == 0


def test_a_receiver_finds_a_program_that_was_started_again(played):
    assert played.is_recovered


def test_a_recording_of_the_streams_can_be_read(played, tmp_path):
    pyxdf = pytest.importorskip("pyxdf")
    path = tmp_path / "session.xdf"
    write_xdf(path, played)
    streams, _ = pyxdf.load_xdf(path)
    by_name = {stream["info"]["name"][0]: stream for stream in streams}
    onset = by_name[MARKERS]["time_stamps"][0]
    assert by_name[MARKERS]["time_series"][0] == ["onset/surprise"]
    labels = [c["label"][0] for c in by_name[FACE]["info"]["desc"][0]["channels"][0]["channel"]]
    score = by_name[FACE]["time_series"][:, labels.index("score")]
    times = by_name[FACE]["time_stamps"]
    # The score passes its threshold soon after the onset, never before.
    risen_at = times[next(i for i, value in enumerate(score) if value >= 1)]
    assert onset < risen_at < onset + 0.6


def write_xdf(path, played) -> None:
    """A recording of what the receiver got, in the form of LabRecorder."""

    def chunk(tag: int, content: bytes) -> bytes:
        content = struct.pack("<H", tag) + content
        return b"\x04" + struct.pack("<I", len(content)) + content

    parts = [b"XDF:", chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>")]
    for number, (name, samples) in enumerate(played.samples.items(), 1):
        identity = struct.pack("<I", number)
        parts.append(chunk(2, identity + played.headers[name]["xml"].encode()))
        body = b""
        for stamp, values in samples:
            body += b"\x08" + struct.pack("<d", stamp)
            for value in values:
                if isinstance(value, str):
                    body += b"\x04" + struct.pack("<I", len(value)) + value.encode()
                else:
                    body += struct.pack("<d", value)
        parts.append(chunk(3, identity + b"\x04" + struct.pack("<I", len(samples)) + body))
        first, last = samples[0][0], samples[-1][0]
        footer = (
            f"<?xml version='1.0'?><info><first_timestamp>{first}</first_timestamp>"
            f"<last_timestamp>{last}</last_timestamp><sample_count>{len(samples)}</sample_count>"
            "<clock_offsets></clock_offsets></info>"
        )
        parts.append(chunk(6, identity + footer.encode()))
    path.write_bytes(b"".join(parts))


class Outlet:
    """Keeps what is pushed to it."""

    def __init__(self) -> None:
        self.pushed: list[tuple] = []

    def push_sample(self, sample, stamp: float) -> None:
        self.pushed.append((sample, stamp))


def test_markers_of_a_recording_lie_beside_the_values_of_their_frames(eventful, monkeypatch):
    outlets: list[Outlet] = []
    monkeypatch.setattr(lsl.LslLink, "_outlet", lambda *_: outlets.append(Outlet()) or outlets[-1])
    link = lsl.LslLink()
    link.open(session(live=False))
    markers, face = outlets
    for number, analysis in enumerate(eventful):
        # As the sender does it: what was found comes first.
        for event in analysis.events:
            link.send(event)
        link.send(values_of(analysis, number))
        time.sleep(0.001)
    stamps = [stamp for _, stamp in face.pushed]
    assert [text for (text,), _ in markers.pushed[:3]] == [
        *("onset/surprise", "apex/surprise", "offset/surprise")
    ]
    found = (event.interval for analysis in eventful for event in analysis.events)
    times = [at for i in found for at in (i.onset_s, i.apex_s, i.offset_s)]
    for (_, stamp), time_s in zip(markers.pushed, times, strict=True):
        frame = round(time_s * 30)
        assert stamps[frame - 1] < stamp < stamps[frame + 1]


def test_each_of_several_cameras_has_its_streams():
    first, second = session(source="a"), session(source="b")
    both = dataclasses.replace(first, source="a + b", sources=(first, second))
    link = lsl.LslLink(2)
    link.open(both)
    infos = [outlet.get_info() for faces in link._faces for outlet in faces]
    assert [info.name() for info in infos] == [
        f"realtime_mer camera {camera} face {face}" for camera in (0, 1) for face in (0, 1)
    ]
    sources = [info.desc().child("acquisition").child_value("source") for info in infos]
    assert sources == ["a", "a", "b", "b"]
    outlets = [Outlet(), Outlet()]
    link._faces[1], link._markers = outlets, (markers := Outlet())
    link.send(Mark(0.0, "window", "a door", source="b"))
    link.send(FrameValues(1, "b", 0, 0.0, 0.0, 30.0, 0, 0.1, (), False, 0, ()))
    assert [text for (text,), _ in markers.pushed] == ["mark/a door/camera1"]
    assert all(len(outlet.pushed) == 1 for outlet in outlets)
    link._markers, link._faces = None, link._faces[:1]
    link.close(in_order=True)


def test_a_face_keeps_its_stream():
    def faces(*numbers) -> tuple[FaceValues, ...]:
        values = (math.nan, (math.nan,) * 3, 1.0, (math.nan,) * 3, math.nan, ())
        return tuple(FaceValues(number, *values) for number in numbers)

    def numbers(slots) -> list[int | None]:
        return [face and face.face for face in slots]

    slots = lsl.Slots(2)
    assert numbers(slots(faces(1))) == [None, 1]
    assert numbers(slots(faces(1, 2))) == [2, 1]
    assert numbers(slots(faces(2))) == [2, None]
    assert numbers(slots(faces(2, 5))) == [2, 5]
    assert numbers(slots(faces(5, 7))) == [7, 5]
