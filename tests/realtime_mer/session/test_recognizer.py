"""The whole chain in one process: real tracker, real weights, clips whose truth is known."""

import contextlib
import dataclasses
import doctest
import http.server
import json
import math
import re
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

import realtime_mer
from realtime_mer.analysis.face_chain import FaceChain
from realtime_mer.demo import clip as demo
from realtime_mer.demo.clip import DemoTruth, HiddenEvent, make_demo_clip
from realtime_mer.errors import InputError
from realtime_mer.face.tracker import TrackedFrame
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.output.log import CsvLog, JsonLinesLog
from realtime_mer.results import Interval
from realtime_mer.session import channel
from realtime_mer.session import recognizer as pipeline
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.session.run import run
from realtime_mer.source import capture
from realtime_mer.source.frame import Frame
from realtime_mer.source.reader import Grab, StreamReader, reader_for
from realtime_mer.spotting.matching import overlap
from realtime_mer.spotting.spotter import SpotterModel
from realtime_mer.stats import Stats

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


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("chain") / "eventful.avi"
    return make_clip(path, *EVENTS, length_s=4.8)


@pytest.fixture(scope="session")
def eventful(clip) -> list:
    return analyses_of(clip)


@pytest.fixture
def faceless(tmp_path) -> Path:
    """A second of noise that no one would take for a face, small and fast."""
    noise = np.random.default_rng(0).integers(0, 255, (30, 48, 64, 3), np.uint8)
    return write_video(tmp_path / "faceless.avi", noise)


# What is found, and what is not


def test_hidden_events_are_found_once_each_and_nothing_else(eventful):
    found = events_of(eventful)
    assert len(found) == len(EVENTS)
    for event, hidden in zip(found, EVENTS, strict=True):
        assert overlap(event.interval, hidden.interval) >= 0.5
        # Half to twice of what was put in: the measure is a percentile of another flow.
        assert hidden.peak_px / 2 < event.intensity_px < hidden.peak_px * 2
        assert sum(event.probabilities.values()) == pytest.approx(1, abs=1e-3)


def test_events_are_told_at_the_frame_that_completes_them(eventful):
    for analysis in eventful:
        for event in analysis.events:
            assert event.reported_s == analysis.frame.time_s
            assert event.interval.offset_s < event.reported_s < event.interval.offset_s + 0.5


def test_every_frame_is_analysed_in_the_order_of_time(eventful):
    assert [a.frame.index for a in eventful] == list(range(round(4.8 * FPS)))
    assert all(a.frame.time_s < b.frame.time_s for a, b in pairwise(eventful))
    assert all(len(a.faces) == 1 and a.faces[0].face == 0 for a in eventful)
    assert all(a.latency_s > 0 and a.dropped == 0 and a.gaps == () for a in eventful)


def test_score_is_unknown_in_the_first_second_and_passes_one_at_events_only(eventful):
    for analysis in eventful:
        (face,) = analysis.faces
        time_s = analysis.frame.time_s
        assert math.isnan(face.score) == (time_s < 1.0) or abs(time_s - 1.0) < 0.1
        if face.score >= 1:
            assert any(e.interval.onset_s < time_s < e.interval.offset_s + 0.5 for e in EVENTS)


def test_nothing_is_reported_without_the_events(tmp_path):
    analyses = analyses_of(make_clip(tmp_path / "calm.avi", length_s=3.6))
    assert events_of(analyses) == []
    assert gaps_of(analyses) == []
    assert sum(len(a.faces) for a in analyses) == len(analyses)
    scores = [a.faces[0].score for a in analyses]
    assert np.nanmax(scores) < 1


def test_two_faces_have_their_own_events(clip, tmp_path):
    """The same face twice, one 12 frames behind the other."""
    behind = 12
    frames = [f[40:440, 140:500] for f in frames_of(clip)[: round(2.9 * FPS)]]
    pairs = [np.hstack([frames[i], frames[max(0, i - behind)]]) for i in range(len(frames))]
    analyses = analyses_of(write_video(tmp_path / "two.avi", pairs), faces=2)
    places = {f.face: float(f.landmarks[:, 0].mean()) for f in analyses[-1].faces}
    assert len(places) == 2
    left, right = sorted(places, key=places.get)
    found = {event.face: event.interval for event in events_of(analyses)}
    assert len(events_of(analyses)) == 2
    hidden = EVENTS[0].interval
    assert overlap(found[left], hidden) >= 0.5
    delay = behind / FPS
    late = Interval(*(t + delay for t in (hidden.onset_s, hidden.apex_s, hidden.offset_s)))
    assert overlap(found[right], late) >= 0.5
    assert overlap(found[right], late) > overlap(found[right], hidden)


# Faces that come and go


def coming_and_going(path: Path, face: np.ndarray, spans, fps: float = FPS) -> Path:
    """A video of (frames with the face, frames without) in turn."""
    nothing = np.full_like(face, 90)
    frames = []
    for seen, away in spans:
        frames += [face] * seen + [nothing] * away
    return write_video(path, frames, fps)


def test_lost_face_leaves_a_gap_and_starts_afresh(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "lost.avi", astronaut, [(36, 15), (36, 0)])
    analyses = analyses_of(path)
    (gap,) = gaps_of(analyses)
    assert (gap.face, gap.reason) == (0, "face lost")
    # MediaPipe may need a frame to find the face again.
    assert gap.start_s == pytest.approx(35 / FPS, abs=0.001)
    assert gap.end_s == pytest.approx(51 / FPS, abs=0.07)
    assert analyses[round(gap.end_s * FPS)].gaps == (gap,)
    assert all(a.faces == () for a in analyses[36:51])
    score = {round(a.frame.time_s * FPS): a.faces[0].score for a in analyses if a.faces}
    assert math.isfinite(score[35])
    assert math.isnan(score[52 + 3])
    assert math.isfinite(score[86])


def test_tracker_that_goes_over_to_another_face_ends_the_window(astronaut, tmp_path):
    height, width = astronaut.shape[:2]
    left, right = (np.zeros((height, 2 * width, 3), np.uint8) for _ in range(2))
    left[:, :width], right[:, width:] = astronaut, astronaut
    path = write_video(tmp_path / "jump.avi", [left] * 20 + [right] * 30)
    analyses = analyses_of(path)
    jumps = [gap for gap in gaps_of(analyses) if gap.reason == "face jumped"]
    assert len(jumps) + sum(gap.reason == "face lost" for gap in gaps_of(analyses)) == 1
    after = [a.faces[0].score for a in analyses if a.faces and a.frame.index >= 22]
    assert np.isnan(after).all()  # warming up anew: what was seen of the other face is forgotten


def test_loss_shorter_than_100_ms_is_bridged(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "flicker.avi", astronaut, [(36, 1), (6, 2), (6, 0)])
    analyses = analyses_of(path)
    assert [len(a.faces) for a in analyses[34:46]] == [1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1]
    assert gaps_of(analyses) == []
    assert all(math.isfinite(a.faces[0].score) for a in analyses[36:] if a.faces)


def test_slow_source_is_no_series_of_gaps(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "slow.avi", astronaut, [(12, 3), (3, 0)], fps=5)
    (gap,) = gaps_of(analyses_of(path))
    assert (gap.start_s, gap.end_s) == pytest.approx((2.2, 3.0), abs=0.01)


def test_single_face_leaves_a_gap_however_long_it_was_away(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "long.avi", astronaut, [(12, 60), (5, 0)], fps=5)
    (gap,) = gaps_of(analyses_of(path))
    assert (gap.face, gap.start_s, gap.end_s) == pytest.approx((0, 2.2, 14.4), abs=0.01)


def test_one_of_several_faces_that_does_not_come_back_leaves_a_gap(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "gone.avi", astronaut, [(12, 25), (8, 0)], fps=10)
    analyses = analyses_of(path, faces=2)
    (gap,) = gaps_of(analyses)
    assert (gap.face, gap.start_s, gap.reason) == (0, pytest.approx(1.1, abs=0.01), "face lost")
    # She comes back with her number, to a chain of her own that starts afresh.
    assert [f.face for f in analyses[-1].faces] == [0]
    assert gap.end_s == next(a.frame.time_s for a in analyses[37:] if a.faces)


def test_one_of_several_faces_that_is_gone_for_good_is_told_before_the_end(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "gone.avi", astronaut, [(8, 66)], fps=2)
    analyses = analyses_of(path, faces=2)
    (gap,) = gaps_of(analyses)
    assert (gap.start_s, gap.end_s) == (3.5, 34.0)
    assert analyses[68].gaps == (gap,)


@pytest.mark.parametrize(
    ("faces", "away"),
    [(1, 12), (2, 12), (2, 60)],
    ids=["one", "of several", "of several, whose memory was freed"],
)
def test_face_that_is_away_at_the_end_leaves_a_gap(astronaut, tmp_path, faces, away):
    path = coming_and_going(tmp_path / "left.avi", astronaut, [(20, away)])
    with Recognizer(path, faces=faces) as recognizer:
        analyses = list(recognizer.analyses())
        summary = recognizer.summary("")
    (gap,) = gaps_of(analyses)
    last = 19 + away
    assert (gap.face, gap.reason) == (0, "face lost")
    assert (gap.start_s, gap.end_s) == pytest.approx((19 / FPS, last / FPS), abs=0.001)
    # It comes with the last frame, which counts once.
    assert [a.frame.index for a in analyses] == [*range(last + 1), last]
    assert summary.frames_read == summary.frames_analysed == last + 1
    assert summary.frames_with_face == 20
    assert recognizer.leftover() is None


def test_face_that_is_away_for_a_moment_at_the_end_leaves_none(astronaut, tmp_path):
    analyses = analyses_of(coming_and_going(tmp_path / "blip.avi", astronaut, [(20, 3)]))
    assert gaps_of(analyses) == []
    assert [a.frame.index for a in analyses] == list(range(23))


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


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), RuntimeError("sink on fire")], ids=["ctrl-c", "sink"]
)
def test_face_that_is_away_when_a_file_is_stopped_leaves_a_gap(astronaut, tmp_path, error):
    path = coming_and_going(tmp_path / "left.avi", astronaut, [(20, 60)])
    stopping = Stopping(lambda analysis: analysis.frame.index == 40, error)
    gap, summary = logged(tmp_path / "log.jsonl", Recognizer(path), stopping)
    assert (gap["type"], gap["face"], gap["reason"]) == ("gap", 0, "face lost")
    assert gap["start_s"] == pytest.approx(19 / FPS, abs=0.001)
    # Up to the last frame that was analysed.
    assert gap["end_s"] == summary["duration_s"] >= 40 / FPS - 0.001
    assert summary["frames_analysed"] == round(gap["end_s"] * FPS) + 1


def test_face_that_is_away_when_a_file_breaks_leaves_a_gap(astronaut, tmp_path):
    pictures = [astronaut] * 20 + [np.full_like(astronaut, 90)] * 20
    film = Film(pictures, InputError("frame 40 is torn"))
    gap, summary = logged(tmp_path / "log.jsonl", Recognizer(film))
    assert (gap["type"], gap["reason"]) == ("gap", "face lost")
    assert (gap["start_s"], gap["end_s"]) == pytest.approx((19 / FPS, 39 / FPS), abs=0.001)
    assert summary["reason"] == "error: frame 40 is torn"


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
    *holes, gap, summary = logged(path, recognizer, *sinks)
    # A busy machine does not send all pictures in time.
    assert all(h["reason"] == "no frames" and h["end_s"] < gap["end_s"] for h in holes)
    return gap, summary


@pytest.fixture
def camera_server(astronaut):
    servers = []

    def start(*args, **kwargs) -> CameraServer:
        servers.append(CameraServer(astronaut[:480, 60:640], *args, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
    # A read that waits for a silent server is not waited for.
    deadline = time.monotonic() + 10
    while not no_stage_runs() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_source_that_is_away_at_ctrl_c_leaves_a_gap_up_to_there(camera_server, tmp_path):
    recognizer = Recognizer(camera_server(count=25).url)

    def is_away(analysis) -> bool:
        silent_s = time.monotonic() - analysis.frame.captured_at
        return "reconnecting" in analysis.alerts and silent_s > 0.4

    stopping = Stopping(is_away, KeyboardInterrupt())
    gap, summary = logged_last(tmp_path / "log.jsonl", recognizer, stopping)
    assert (gap["type"], gap["face"], gap["reason"]) == ("gap", 0, "source lost")
    assert gap["end_s"] - gap["start_s"] > 0.3
    assert summary["reason"] == "stopped by user"
    assert summary["duration_s"] == gap["end_s"]


def test_source_that_is_given_up_leaves_a_gap_up_to_there(camera_server, tmp_path, monkeypatch):
    monkeypatch.setattr(StreamReader, "patience_s", 0.8)
    recognizer = Recognizer(camera_server(count=25).url)
    gap, summary = logged_last(tmp_path / "log.jsonl", recognizer)
    assert (gap["face"], gap["reason"]) == (0, "source lost")
    assert gap["end_s"] - gap["start_s"] == pytest.approx(0.8, abs=0.5)
    assert summary["reason"] == "end of source"
    assert summary["duration_s"] == gap["end_s"]


@pytest.mark.parametrize("stops", [True, False], ids=["ctrl-c", "end"])
def test_source_that_is_silent_at_the_end_leaves_a_gap(camera_server, tmp_path, stops):
    url = camera_server(count=25, stalls=True).url
    reader = reader_for(url, stall_timeout_s=10 if stops else 1.5)
    recognizer = Recognizer(reader, reconnect=False)
    stopping = Stopping(
        lambda analysis: stops and "no picture" in analysis.alerts, KeyboardInterrupt()
    )
    gap, summary = logged_last(tmp_path / "log.jsonl", recognizer, stopping)
    assert (gap["face"], gap["reason"]) == (0, "no frames" if stops else "source lost")
    assert gap["end_s"] - gap["start_s"] > 0.9
    assert summary["duration_s"] == gap["end_s"]
    assert summary["reason"] == ("stopped by user" if stops else "end of source")


def test_picture_that_is_frozen_at_ctrl_c_leaves_a_gap(camera_server, tmp_path):
    recognizer = Recognizer(camera_server(count=25, freezes=True).url)
    stopping = Stopping(lambda analysis: "picture frozen" in analysis.alerts, KeyboardInterrupt())
    gap, summary = logged_last(tmp_path / "log.jsonl", recognizer, stopping)
    assert (gap["face"], gap["reason"]) == (0, "picture frozen")
    assert gap["end_s"] - gap["start_s"] > 1
    assert summary["duration_s"] >= gap["end_s"]


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


def test_hole_in_a_live_source_is_told_from_a_lost_face(astronaut):
    camera, gaps = Stuttering(astronaut), []
    with Recognizer(camera) as recognizer:
        for analysis in recognizer.analyses():
            gaps += analysis.gaps
            camera.taken.release()
    (gap,) = gaps
    assert gap.reason == "no frames"
    assert gap.end_s - gap.start_s == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "nuisances"),
    [
        ({}, ()),
        ({"blink": 0.7}, ("blink",)),
        ({"jaw_open": 0.3}, ("speech",)),
        ({"shift_px": 10.0}, ("head motion",)),  # 300 px a second
        ({"shift_px": 0.3}, ()),  # a head is never quite still
    ],
)
def test_what_makes_motion_hard_to_read_is_told(astronaut, astronaut_tracked, changes, nuisances):
    changes = dict(changes)
    step = np.array([changes.pop("shift_px", 0.0), 0, 0], np.float32)
    chain = FaceChain(0, SpotterModel(SPOTTER), Stats())
    for index in range(4):
        landmarks = astronaut_tracked.landmarks + index * step
        face = dataclasses.replace(astronaut_tracked, landmarks=landmarks, **changes)
        frame = Frame(index, index / FPS, astronaut, 0.0)
        state, _ = chain.step(face, TrackedFrame(frame, (face,), 0.0, FPS))
    assert state.nuisances == nuisances


# What a face state and an event show


def test_motion_of_the_last_fifth_of_a_second_is_told(eventful):
    assert all(a.faces[0].motion is None for a in eventful if a.frame.time_s < 0.19)
    later = [(a.frame.time_s, a.faces[0].motion) for a in eventful if a.frame.time_s > 0.21]
    assert all(m.shape == (16, 2) and m.dtype == np.float32 for _, m in later)
    largest = {t: float(np.linalg.norm(m, axis=1).max()) for t, m in later}
    # At the apex of the raised brows a region has moved; before them hardly any has.
    surprise = EVENTS[0].interval
    raised = max(s for t, s in largest.items() if abs(t - surprise.apex_s) < 0.1)
    calm = np.median([s for t, s in largest.items() if 1 < t < surprise.onset_s])
    assert raised > max(0.5, 3 * calm)
    brows = next(m for t, m in later if t > surprise.apex_s)[:4]
    assert (brows[:2, 1] < -0.3).all()  # upwards


def test_motion_is_unknown_again_after_a_gap(astronaut, tmp_path):
    path = coming_and_going(tmp_path / "lost.avi", astronaut, [(12, 10), (12, 0)])
    analyses = analyses_of(path)
    (gap,) = gaps_of(analyses)
    known = {a.frame.time_s - gap.end_s: a.faces[0].motion for a in analyses if a.faces}
    assert all(motion is None for t, motion in known.items() if 0 <= t < 0.19)
    assert any(motion is not None for t, motion in known.items() if t > 0.21)


def test_event_carries_its_picture(eventful):
    for event in events_of(eventful):
        picture = event.picture
        assert picture.onset.shape == picture.apex.shape == (224, 224)
        assert picture.flow.shape == (28, 28, 2)
        assert picture.flow.dtype == np.float32
        assert not any(a.flags.writeable for a in (picture.onset, picture.apex, picture.flow))
        assert (picture.onset != picture.apex).any()
        size = np.linalg.norm(picture.flow[5:24, 5:24], axis=-1)
        assert event.intensity_px / 2 < size.max() < 1.5 * event.intensity_px


def test_state_of_face_and_source_is_told(eventful):
    last = eventful[-1]
    assert last.source_fps == pytest.approx(FPS, abs=0.2)
    assert last.faces[0].quality > 0.8
    assert last.alerts == ()
    card = json.loads(SPOTTER.with_suffix(".json").read_text())
    (recommended,) = [
        p["false_per_minute"]
        for p in card["operating_curve"]
        if p["threshold"] == card["threshold"]
    ]
    assert last.sensitivity == pytest.approx(recommended)


def test_face_that_is_too_small_is_told_without_flickering(astronaut, tmp_path):
    face_px = 204

    def of_width(width: float) -> np.ndarray:
        small = cv2.resize(
            astronaut, None, fx=width / face_px, fy=width / face_px, interpolation=cv2.INTER_AREA
        )
        frame = np.full((300, 300, 3), 90, np.uint8)
        frame[20 : 20 + small.shape[0], 20 : 20 + small.shape[1]] = small
        return frame

    widths = [80] * 5 + [50] * 5 + [62] * 5 + [78] * 5
    analyses = analyses_of(write_video(tmp_path / "far.avi", [of_width(w) for w in widths]))
    told = [a.alerts for a in analyses]
    assert told[4] == ()
    assert re.fullmatch(r"face too small: [45]\d px wide", *told[9])
    assert re.fullmatch(r"face too small: 6\d px wide", *told[14])
    assert told[19] == ()
    before = analyses_of(write_video(tmp_path / "first.avi", [of_width(63)] * 5))
    assert before[-1].alerts == ()


# Fast sources


def test_source_of_200_fps_is_analysed_whole_with_fewer_frames_tracked(astronaut, tmp_path):
    count, fps = 60, 200
    frames = [
        np.roll(astronaut[:480, 60:640], (0, round(12 * math.sin(i / 12))), (0, 1))
        for i in range(count)
    ]
    path = write_video(tmp_path / "fast.avi", frames, fps)
    with Recognizer(path) as recognizer:
        found = list(recognizer.analyses())
        tracked = recognizer.summary("").stats["stages_ms"]["track"]["count"]
        moved = recognizer.summary("").stats["stages_ms"]["flow"]["count"]
    every = analyses_of(path, track_fps=1000.0)
    assert [a.frame.index for a in found] == list(range(count))
    assert 9 + 50 // 3 <= tracked <= 9 + 54 // 3
    assert count / 2 <= moved <= count / 2 + 9
    assert found[-1].source_fps == pytest.approx(fps, rel=0.05)
    assert all(len(a.faces) == 1 for a in found)
    for sparse, dense in zip(found, every, strict=True):
        apart = sparse.faces[0].landmarks - dense.faces[0].landmarks
        assert np.abs(apart.mean(0)).max() < 1.5  # the face goes up to 1 px a frame
    assert gaps_of(found) == []


# Sensitivity


def test_sensitivity_moves_the_threshold_while_it_runs(clip):
    with Recognizer(clip, sensitivity=0.1) as recognizer:
        assert recognizer.sensitivity == pytest.approx(0.1)
        analyses = recognizer.analyses()
        strict = next(analyses)
        recognizer.sensitivity = 3.0
        for _ in range(8):  # those that were read ahead
            later = next(analyses)
    assert strict.sensitivity == pytest.approx(0.1)
    assert later.sensitivity == pytest.approx(3.0)


# The recognizer as an object


def test_iteration_gives_the_events(clip, eventful):
    with Recognizer(clip) as recognizer:
        first = next(iter(recognizer))
        assert first.interval == events_of(eventful)[0].interval
        # It stops where the event was told, and can be taken up there.
        assert recognizer.summary("so far").events == 1
        assert next(recognizer.analyses()).frame.time_s > first.reported_s


def test_recognizer_may_be_closed_twice_and_gives_nothing_after(faceless):
    recognizer = Recognizer(faceless)
    with recognizer as entered:
        assert entered is recognizer
        assert next(recognizer.analyses()).faces == ()
    recognizer.close()
    assert list(recognizer) == []
    assert no_stage_runs()


def test_iteration_without_a_block_closes_at_the_end(faceless):
    recognizer = Recognizer(faceless)
    assert list(recognizer) == []
    assert no_stage_runs()
    assert list(recognizer.analyses()) == []


def test_iteration_without_a_block_closes_when_it_is_given_up(clip):
    for _ in Recognizer(clip):
        break
    assert no_stage_runs()


def test_functions_are_called_and_the_summary_comes_back(faceless):
    seen = []
    summary = Recognizer(faceless).run(on_analysis=lambda a: seen.append(a.frame.index))
    assert seen == list(range(30))
    assert (summary.reason, summary.frames_analysed) == ("end of source", 30)
    assert no_stage_runs()


@pytest.mark.parametrize("module", [realtime_mer, pipeline, channel])
def test_examples_in_docstrings_run(module, clip, tmp_path, monkeypatch):
    write_video(tmp_path / "clip.avi", frames_of(clip)[: round(2.9 * FPS)])
    monkeypatch.chdir(tmp_path)
    done = doctest.testmod(module)
    assert done.failed == 0
    assert done.attempted > 0


def test_package_gives_its_names_without_loading_before_they_are_asked_for():
    code = (
        "import sys, realtime_mer; before = set(sys.modules)\n"
        "assert not {'cv2', 'mediapipe', 'numpy'} & before, before\n"
        "assert set(realtime_mer.__all__) <= set(dir(realtime_mer))\n"
        "from realtime_mer import InputError, Interval, MicroExpression, Recognizer, run\n"
        "assert Recognizer.__module__ == 'realtime_mer.pipeline'\n"
        "assert 'torch' not in sys.modules\n"
        "realtime_mer.nothing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().endswith("has no attribute 'nothing'")


def test_program_that_closes_nothing_ends_all_the_same(clip):
    code = (
        "import sys; from realtime_mer import Recognizer\n"
        "recognizer = Recognizer(sys.argv[1]); analyses = recognizer.analyses()\n"
        "landmarker = recognizer._tracker._landmarker; close = landmarker.close\n"
        "landmarker.close = lambda: (close(), print('closed'))\n"
        "print(next(analyses).frame.index)"
    )
    command = [sys.executable, "-c", code, str(clip)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\nclosed\n", "")


# Threads: errors, closing, and callers that are slow


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

    def read(self) -> Grab | None:
        while self._given and (
            self.recognizer is None or self.recognizer.stats.frames_analysed < self._given
        ):
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


def test_lost_source_explains_why_a_face_was_that_is_back_later(astronaut):
    nothing = np.full_like(astronaut, 90)
    gaps = gaps_of_camera(moving(astronaut, 20), [None], moving(nothing, 5), moving(astronaut, 5))
    (gap,) = gaps
    assert gap.reason == "source lost"
    assert gap.end_s - gap.start_s == pytest.approx(1 + 6 / FPS, abs=0.07)


def test_lost_source_does_not_explain_why_a_face_had_left_before(astronaut):
    nothing = np.full_like(astronaut, 90)
    gaps = gaps_of_camera(moving(astronaut, 20), moving(nothing, 9), [None], moving(astronaut, 5))
    (gap,) = gaps
    assert gap.reason == "face lost"
    assert gap.end_s - gap.start_s == pytest.approx(1 + 10 / FPS, abs=0.07)


def test_frozen_picture_is_a_gap_of_who_was_followed(astronaut):
    nothing = np.full_like(astronaut, 90)
    still = [astronaut] * 40
    (gap,) = gaps_of_camera(moving(astronaut, 20), still, moving(astronaut, 5))
    assert gap.reason == "picture frozen"
    assert (gap.start_s, gap.end_s) == pytest.approx((20 / FPS, 60 / FPS), abs=0.01)
    # Who had left before is away all the time, and told of once.
    still = [nothing] * 40
    nobody = moving(nothing, 6)
    (gap,) = gaps_of_camera(moving(astronaut, 20), nobody, still, nobody, moving(astronaut, 5))
    assert gap.reason == "face lost"
    assert (gap.start_s, gap.end_s) == pytest.approx((19 / FPS, 72 / FPS), abs=0.07)
    # And who comes when it thaws was not there before.
    assert gaps_of_camera(still, moving(astronaut, 5)) == []


NOISE = list(np.random.default_rng(0).integers(0, 255, (25, 48, 64, 3), np.uint8))


@pytest.mark.parametrize("held", [True, False], ids=["with", "without"])
def test_source_that_breaks_is_analysed_up_to_there(held):
    recognizer = Recognizer(Film(NOISE, InputError("frame 25 is torn")))
    seen = []
    with (
        pytest.raises(InputError, match="frame 25 is torn"),
        recognizer if held else contextlib.nullcontext(),
    ):
        seen.extend(a.frame.index for a in recognizer.analyses())
    assert seen == list(range(25))
    assert no_stage_runs()


@pytest.mark.parametrize("place", ["track", "spot"])
def test_error_in_a_thread_reaches_the_caller_after_what_was_analysed(place, monkeypatch):
    recognizer = Recognizer(Film(NOISE))
    owner, name = {
        "track": (recognizer._tracker, "track"),
        "spot": (recognizer, "_analyse"),
    }[place]
    work, calls = getattr(owner, name), []

    def failing(item):
        calls.append(item)
        if len(calls) == 11:
            raise RuntimeError("out of order")
        return work(item)

    monkeypatch.setattr(owner, name, failing)
    seen = []
    with pytest.raises(RuntimeError, match="out of order"):
        seen.extend(a.frame.index for a in recognizer.analyses())
    assert no_stage_runs()
    # extend takes what came before the error
    assert seen == list(range(10))


@pytest.mark.parametrize("wait_s", [0.0, 0.02, 0.3])
def test_closing_from_another_thread_ends_the_iteration(clip, wait_s):
    recognizer = Recognizer(clip)
    closer = threading.Timer(wait_s, recognizer.close)
    closer.start()
    seen = [a.frame.index for a in recognizer.analyses()]
    closer.join(5)
    assert seen == list(range(len(seen)))
    assert len(seen) < round(4.8 * FPS)
    assert no_stage_runs()


def test_slow_caller_of_a_recording_gets_every_frame_and_little_is_read_ahead(faceless):
    with Recognizer(faceless) as recognizer:
        analyses = recognizer.analyses()
        seen = [next(analyses).frame.index]
        time.sleep(0.3)
        assert recognizer.summary("so far").frames_read < 20
        seen += [a.frame.index for a in analyses]
        summary = recognizer.summary("")
    assert seen == list(range(30))
    assert summary.stats["drops"] == {"analysis too slow": 0, "display too slow": 0}


def test_slow_caller_of_a_live_source_loses_pictures_and_no_event(clip):
    camera = Camera(frames_of(clip)[: round(2.9 * FPS)])
    with Recognizer(camera) as recognizer:
        camera.recognizer = recognizer
        analyses = recognizer.analyses()
        first = next(analyses)
        while recognizer.stats.frames_analysed < 87:  # nobody waits for the caller
            time.sleep(0.01)
        (last,) = analyses
        summary = recognizer.summary(recognizer.end_reason)
    assert (first.frame.index, last.frame.index) == (0, 86)
    (event,) = last.events
    assert overlap(event.interval, EVENTS[0].interval) > 0
    # It is dated when it is told.
    assert event.reported_s >= last.frame.time_s
    assert (summary.frames_analysed, summary.events, summary.frames_with_face) == (87, 1, 87)
    assert summary.stats["drops"] == {"analysis too slow": 0, "display too slow": 85}


def test_event_found_but_not_shown_before_ctrl_c_is_told(clip, eventful):
    told_at = next(a.frame.index for a in eventful if a.events)

    class Pressing(Recorder):
        pressed = False
        events = ()

        def update(self, analysis) -> None:
            self.events += analysis.events
            if analysis.frame.index == told_at - 1 and not self.pressed:
                self.pressed = True
                time.sleep(0.5)  # what comes next is analysed meanwhile
                raise KeyboardInterrupt

    sink = Pressing("a", [])
    summary = run(Recognizer(clip), [sink])
    assert [e.interval for e in sink.events] == [e.interval for e in events_of(eventful)[:1]]
    assert (summary.reason, summary.events) == ("stopped by user", 1)
    assert summary.frames_read == summary.frames_analysed


def test_event_that_is_found_before_the_source_breaks_is_told_at_ctrl_c(clip, eventful):
    told_at = next(a.frame.index for a in eventful if a.events)

    class Pressing(Recorder):
        events = ()

        def update(self, analysis) -> None:
            self.events += analysis.events
            if analysis.frame.index == told_at - 1 and not self.events:
                time.sleep(0.5)  # what comes next is analysed meanwhile, up to where it breaks
                raise KeyboardInterrupt

    sink = Pressing("a", [])
    film = Film(frames_of(clip)[: told_at + 1], InputError("torn"))
    with pytest.raises(InputError, match="torn"):
        run(Recognizer(film), [sink])
    assert len(sink.events) == 1
    assert sink.summary.events == 1


def test_ctrl_c_in_one_sink_does_not_keep_an_event_from_the_next(clip):
    stopping = Stopping(lambda analysis: analysis.events, KeyboardInterrupt())
    events = []
    run(Recognizer(clip), [stopping, pipeline._Callbacks(events.append, None)])
    assert len(events) == 1


def test_video_without_a_face_has_a_session_and_a_summary(faceless):
    with Recognizer(faceless) as recognizer:
        session = recognizer.session
        assert list(recognizer) == []
        summary = recognizer.summary(recognizer.end_reason)
    card = json.loads(CLASSIFIER.with_suffix(".json").read_text())
    assert (session.source, session.live, session.size) == (str(faceless), False, (64, 48))
    assert (session.fps, session.frame_count, session.model) == (30.0, 30, card["name"])
    assert session.labels == ("negative", "positive", "surprise")
    assert (summary.reason, summary.events, summary.frames_with_face) == ("end of source", 0, 0)
    assert (summary.frames_read, summary.frames_analysed, summary.frames_dropped) == (30, 30, 0)
    assert summary.duration_s == pytest.approx(29 / 30, abs=0.001)
    assert summary.stats["stages_ms"]["track"]["count"] == 30


@pytest.mark.parametrize(
    "option",
    [{"faces": 0}, {"providers": "abacus"}, {"track_fps": 0.0}, {"sensitivity": -1.0}],
)
def test_wrong_arguments_are_the_callers_fault(faceless, option):
    about = {"sensitivity": "false reports"}.get(name := next(iter(option)), name)
    with pytest.raises(ValueError, match=about):
        Recognizer(faceless, **option)
    assert no_stage_runs()


@pytest.mark.parametrize(
    "broken",
    [
        lambda video: {"source": video.with_name("missing.avi")},
        lambda video: {"source": video.parent},  # without pictures: fails in the capture's thread
        lambda video: {"weights": SPOTTER},
        lambda video: {"spotter": CLASSIFIER},
        lambda video: {"landmarks": video},
    ],
    ids=["missing source", "empty folder", "weights", "spotter", "landmarks"],
)
def test_failing_constructor_leaves_no_thread_behind(faceless, broken):
    before = set(threading.enumerate())
    with pytest.raises(InputError):
        Recognizer(**{"source": faceless, **broken(faceless)})
    assert set(threading.enumerate()) <= before


# run: sinks are begun, fed and ended


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


def test_sinks_end_in_reverse_order_after_the_source_is_closed(faceless):
    diary = []
    recognizer = Recognizer(faceless)
    close = recognizer.close
    recognizer.close = lambda: (close(), diary.append("closed"))[0]
    summary = run(recognizer, [Recorder("a", diary), Recorder("b", diary)])
    assert diary == ["a begin", "b begin", "closed", "b end", "a end"]
    assert (summary.reason, summary.frames_analysed) == ("end of source", 30)


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_failing_sink_ends_all_others_with_whole_logs(faceless, tmp_path):
    log, table = JsonLinesLog(tmp_path / "log.jsonl"), CsvLog(tmp_path / "log.csv")
    diary = []
    failing = Recorder("failing", diary, update=RuntimeError("sink on fire"))
    after = Recorder("after", diary)
    with pytest.raises(RuntimeError, match="sink on fire"):
        run(Recognizer(faceless), [log, table, failing, after])
    assert diary == ["failing begin", "after begin", "failing update", "after end", "failing end"]
    assert [r["type"] for r in records(tmp_path / "log.jsonl")] == ["session", "summary"]
    assert records(tmp_path / "log.jsonl")[-1]["reason"] == "error: sink on fire"
    assert (tmp_path / "log.csv").read_text().count("\n") == 1
    assert no_stage_runs()


def test_sinks_after_one_that_cannot_begin_are_left_alone(faceless, tmp_path):
    diary = []
    log = JsonLinesLog(tmp_path / "log.jsonl")
    failing = Recorder("failing", diary, begin=InputError("disk full"))
    with pytest.raises(InputError, match="disk full"):
        run(Recognizer(faceless), [log, failing, Recorder("never", diary)])
    assert diary == ["failing begin", "failing end"]
    assert records(tmp_path / "log.jsonl")[-1]["reason"] == "error: disk full"


@pytest.mark.parametrize("error", [OSError("tape torn"), KeyboardInterrupt()])
def test_sink_that_fails_at_the_end_keeps_none_from_ending(faceless, error):
    diary = []
    sinks = [Recorder("a", diary), Recorder("b", diary, end=error), Recorder("c", diary)]
    with pytest.raises(type(error)):
        run(Recognizer(faceless), sinks)
    assert diary[-3:] == ["c end", "b end", "a end"]


def test_failure_at_the_end_does_not_hide_the_one_before(faceless):
    failing = Recorder("a", [], update=RuntimeError("first"), end=OSError("second"))
    with pytest.raises(RuntimeError, match="first"):
        run(Recognizer(faceless), [failing])


def test_ctrl_c_is_a_normal_end(faceless):
    diary = []
    pressing = Recorder("a", diary, update=KeyboardInterrupt())
    summary = run(Recognizer(faceless), [pressing])
    assert diary == ["a begin", "a update", "a end"]
    assert (summary.reason, summary.frames_analysed) == ("stopped by user", 1)


class Screen(Recorder):
    """A window whose user presses q at the third frame."""

    wants_quit = False
    shown = 0

    def update(self, analysis) -> None:
        self.shown += 1
        self.wants_quit = self.shown == 3

    def wait_while_paused(self) -> None: ...


def test_window_ends_the_run_and_is_ended_first(faceless):
    diary = []
    summary = run(Recognizer(faceless), [Recorder("sink", diary)], Screen("window", diary))
    assert diary == ["sink begin", "window begin", "window end", "sink end"]
    assert (summary.reason, summary.frames_analysed) == ("stopped by user", 3)


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


def test_a_live_source_that_is_away_is_shown_with_what_is_wrong(astronaut):
    with Recognizer(Interrupted(astronaut)) as recognizer:
        analyses = list(recognizer.analyses(idle_s=0.1))
    frames = [analysis.frame.index for analysis in analyses]
    assert frames == sorted(frames)
    again = [a for a, b in zip(analyses[1:], analyses, strict=False) if a.frame is b.frame]
    assert len(again) >= 3
    assert not any(a.events for a in again)
    summary = recognizer.summary("")
    merged = summary.stats["drops"]["display too slow"]
    assert summary.frames_analysed == len(set(frames)) + merged
    # The silence is a gap once a frame has come after it.
    gap = max((g for a in analyses for g in a.gaps), key=lambda g: g.end_s - g.start_s)
    assert (gap.reason, gap.end_s - gap.start_s > 0.9) == ("no frames", True)


def test_frame_that_is_shown_again_is_no_slower_for_that():
    shown = []
    summary = Recognizer(Interrupted(NOISE[0])).run(on_analysis=lambda a: shown.append(a.frame))
    assert len(shown) >= len(set(shown)) + 3
    assert summary.stats["stages_ms"]["until_shown"]["count"] == len(set(shown))
