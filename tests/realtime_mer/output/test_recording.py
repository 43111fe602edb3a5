"""Clips of events, read back from disk."""

import collections
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.output import recording
from realtime_mer.output.recording import EventRecorder
from realtime_mer.results import Analysis, Interval, MicroExpression, Session, Summary
from realtime_mer.source.frame import Frame

SUMMARY = Summary("end of source", 1, 1, 0, 0, 1.0, 1.0, 0)
SIZE = (64, 48)
FPS = 20.0


def session(fps=FPS):
    return Session("rtsp://***@cam/live", True, SIZE, fps, 0, "m", "CPU", ("negative", "positive"))


def image(k, size=SIZE):
    """Noise in all colours, which a lossy codec would change."""
    return np.random.default_rng(k).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def event(onset_s, label="negative"):
    interval = Interval(onset_s, onset_s + 0.1, onset_s + 0.2)
    return MicroExpression(0, interval, {label: 0.8, "positive": 0.2}, 1.5, onset_s + 0.3)


def feed(recorder, start_s, end_s, events=(), fps=FPS, size=SIZE, pause_s=0.0):
    """Frames from `start_s` to before `end_s`, and each event in the frame of its report."""
    pending = sorted(events, key=lambda e: e.reported_s)
    for k in range(round(start_s * fps), round(end_s * fps)):
        due = [e for e in pending if e.reported_s <= k / fps + 1e-9]
        pending = pending[len(due) :]
        recorder.update(Analysis(Frame(k, k / fps, image(k, size), 0.0), events=tuple(due)))
        if pause_s:
            time.sleep(pause_s)


def eventually(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def clips(folder):
    """The JSON and the frames of every clip, in the order of their time in the source."""
    found = []
    for path in folder.glob("*.json"):
        record = json.loads(path.read_text())
        video = cv2.VideoCapture(str(folder / record["video"]), cv2.CAP_FFMPEG)
        frames = []
        while (read := video.read())[0]:
            frames.append(read[1])
        assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(record["fps"], abs=0.01)
        found.append((record, frames))
    return sorted(found, key=lambda clip: clip[0]["start_s"])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def notes():
    return []


@pytest.fixture
def recorder(tmp_path, notes):
    recorder = EventRecorder(tmp_path / "clips", note=notes.append)
    recorder.begin(session())
    yield recorder
    recorder.end(SUMMARY)


def test_clip_holds_the_frames_around_the_event_bit_for_bit(tmp_path, recorder, notes):
    happened = event(3.0)
    feed(recorder, 0, 6.5, [happened])
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path / "clips")
    # From 2 s before the onset to 2 s after the offset.
    wanted = [k for k in range(130) if 1.0 <= k / FPS <= 5.2 + 1e-9]
    assert record["frame_index"] == wanted
    assert record["times_s"] == pytest.approx([k / FPS for k in wanted])
    assert len(frames) == record["frames"] == len(wanted)
    for k, frame in zip(wanted, frames, strict=True):
        np.testing.assert_array_equal(frame, image(k))
    assert record["events"] == [happened.to_dict()]
    assert record["fps"] == FPS
    assert (record["start_s"], record["end_s"]) == (1.0, 5.2)
    assert (record["dropped"], record["compressed"], record["cut_short"]) == (0, [], None)
    assert record["source"] == "rtsp://***@cam/live"
    assert recorder.dropped == 0
    assert notes == [f"1 clip recorded in {tmp_path / 'clips'}"]


def test_clips_are_named_by_time_and_label_and_nothing_else_is_left(tmp_path, recorder):
    feed(recorder, 0, 6.5, [event(3.0, "So/sad ../é")])
    recorder.end(SUMMARY)
    video, beside = names(tmp_path / "clips")
    assert re.fullmatch(r"mer_\d{8}-\d{6}-\d{3}_so-sad\.avi", video)
    assert beside == video.replace(".avi", ".json")
    assert (tmp_path / "clips").stat().st_mode & 0o077 == 0


def test_photo_survives_with_its_colours(tmp_path, recorder, astronaut):
    recorder.update(Analysis(Frame(0, 0.0, astronaut, 0.0), events=(event(0.0),)))
    recorder.end(SUMMARY)
    ((_, (frame,)),) = clips(tmp_path / "clips")
    np.testing.assert_array_equal(frame, astronaut)


def test_frame_that_is_shown_again_is_kept_once(tmp_path, recorder):
    frame = Frame(0, 0.0, image(0), 0.0)
    recorder.update(Analysis(frame, events=(event(0.0),)))
    for _ in range(5):
        recorder.update(Analysis(frame))
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path / "clips")
    assert (record["frame_index"], len(frames)) == ([0], 1)


@pytest.mark.parametrize("size", [(65, 48), (64, 49), (33, 17), (1, 1)])
def test_odd_sizes_are_padded_and_the_true_size_recorded(tmp_path, recorder, size):
    feed(recorder, 0, 1, [event(0.1)], size=size)
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path / "clips")
    assert (record["width"], record["height"]) == size
    for k, frame in zip(record["frame_index"], frames, strict=True):
        np.testing.assert_array_equal(frame[: size[1], : size[0]], image(k, size))


def test_events_that_overlap_share_a_clip_and_others_do_not(tmp_path, recorder):
    feed(recorder, 0, 18, [event(3.0), event(4.0, "positive"), event(12.0)])
    recorder.end(SUMMARY)
    (first, _), (second, _) = clips(tmp_path / "clips")
    assert [e["onset_s"] for e in first["events"]] == [3.0, 4.0]
    assert (first["start_s"], first["end_s"]) == (1.0, 6.2)
    assert [e["onset_s"] for e in second["events"]] == [12.0]
    assert (second["start_s"], second["end_s"]) == (10.0, 14.2)


def test_event_just_after_a_clip_has_all_its_own_frames(tmp_path, recorder):
    feed(recorder, 0, 6, [event(3.0)])
    eventually(lambda: list((tmp_path / "clips").glob("mer_*.avi")))
    feed(recorder, 6, 10, [event(6.1)])
    recorder.end(SUMMARY)
    (first, _), (second, frames) = clips(tmp_path / "clips")
    assert first["end_s"] == 5.2
    assert (second["start_s"], second["end_s"]) == (4.1, 8.3)
    np.testing.assert_array_equal(frames[0], image(second["frame_index"][0]))


def test_clip_that_is_open_at_the_end_is_finished(tmp_path, recorder):
    feed(recorder, 0, 3.5, [event(3.0)])
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path / "clips")
    assert record["cut_short"] == "the session ended"
    assert (record["end_s"], record["wanted_end_s"]) == (3.45, 5.2)
    assert len(frames) == record["frames"] == 50


def test_clip_is_hidden_until_it_is_complete(tmp_path, recorder):
    feed(recorder, 0, 4.0, [event(3.0)])
    folder = tmp_path / "clips"
    eventually(lambda: any(folder.iterdir()))
    assert all(name.startswith(".") for name in names(folder))
    recorder.end(SUMMARY)
    assert not any(name.startswith(".") for name in names(folder))


def test_uneven_frame_times_are_recorded_and_the_rate_is_the_usual_one(tmp_path, recorder):
    # Whole milliseconds, as in many containers, and a hole of 0.4 s.
    times = [round(k / 30, 3) for k in range(120) if not 50 <= k < 62]
    for k, t in enumerate(times):
        events = (event(2.0),) if k == 70 else ()
        recorder.update(Analysis(Frame(k, t, image(k), 0.0), events=events))
    recorder.end(SUMMARY)
    ((record, _),) = clips(tmp_path / "clips")
    assert record["times_s"] == times
    assert record["fps"] == pytest.approx(30, abs=0.1)


def test_nothing_is_recorded_or_kept_unless_it_is_on(tmp_path, notes):
    recorder = EventRecorder(tmp_path / "clips", on=False, note=notes.append)
    recorder.begin(session())
    feed(recorder, 0, 6, [event(3.0)])
    assert not recorder.is_on
    assert not recorder._kept
    recorder.end(SUMMARY)
    assert names(tmp_path) == []
    assert notes == []


def test_toggle_from_another_thread_begins_and_finishes(tmp_path):
    recorder = EventRecorder(tmp_path / "clips", on=False)
    recorder.begin(session())

    def toggle():
        thread = threading.Thread(target=recorder.toggle)
        thread.start()
        thread.join()

    feed(recorder, 0, 1)
    toggle()
    assert recorder.is_on
    feed(recorder, 1, 3, [event(2.0)])
    toggle()
    assert not recorder.is_on
    feed(recorder, 3, 6, [event(4.0)])
    eventually(lambda: list((tmp_path / "clips").glob("mer_*.avi")))
    eventually(lambda: not recorder._clips)
    recorder.end(SUMMARY)
    ((record, _),) = clips(tmp_path / "clips")
    # No frame from before it was switched on.
    assert (record["start_s"], record["wanted_start_s"]) == (1.0, 0.0)
    assert record["end_s"] == 2.95
    assert record["cut_short"] == "recording was switched off"


@pytest.fixture
def slow_disk(monkeypatch):
    """Every write waits until the test opens the gate."""
    gate = threading.Event()
    write = recording._ClipFile.write

    def slow(self, picture):
        assert gate.wait(20)
        write(self, picture)

    monkeypatch.setattr(recording._ClipFile, "write", slow)
    yield gate
    gate.set()


def test_slow_writer_drops_frames_and_counts_them(
    tmp_path, recorder, notes, slow_disk, monkeypatch
):
    monkeypatch.setattr(recording, "_MEMORY_BYTES", 70 * image(0).nbytes)
    feed(recorder, 0, 6, [event(3.0)])  # does not wait for the disk
    slow_disk.set()
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path / "clips")
    # Memory held 66 frames when the event was reported; the newest after it are left out.
    assert record["frame_index"][:60] == list(range(20, 80))
    assert record["dropped"] == recorder.dropped == 85 - record["frames"] > 0
    for k, frame in zip(record["frame_index"], frames, strict=True):
        np.testing.assert_array_equal(frame, image(k))
    assert f"the clips lack {recorder.dropped} frames" in notes[-1]


def test_memory_is_bounded_whatever_happens(recorder, slow_disk, monkeypatch):
    monkeypatch.setattr(recording, "_MEMORY_BYTES", 20 * image(0).nbytes)
    for k in range(400):
        events = (event(k / FPS),) if k % 20 == 19 else ()
        recorder.update(Analysis(Frame(k, k / FPS, image(0), 0.0), events=events))
        assert recorder._bytes == sum(kept.size for kept in recorder._kept)
        assert recorder._bytes <= recording._MEMORY_BYTES
        assert len(recorder._clips) <= recording._MAX_CLIPS


def test_frames_too_large_for_memory_shorten_the_beginning(tmp_path, recorder, monkeypatch):
    monkeypatch.setattr(recording, "_MEMORY_BYTES", 30 * image(0).nbytes)
    feed(recorder, 0, 4, [event(3.0)])
    recorder.end(SUMMARY)
    ((record, _),) = clips(tmp_path / "clips")
    assert record["wanted_start_s"] == 1.0
    assert record["start_s"] == pytest.approx(3.3 - 29 / FPS)


def test_oldest_frames_are_compressed_if_raw_ones_are_too_large(
    tmp_path, recorder, monkeypatch, astronaut
):
    monkeypatch.setattr(recording, "_RAW_BYTES", 10 * astronaut.nbytes)
    for k in range(40):
        recorder.update(Analysis(Frame(k, k / FPS, astronaut, 0.0)))
    eventually(lambda: recorder._raw_bytes <= recording._RAW_BYTES)
    assert recorder._bytes < 18 * astronaut.nbytes
    frame = Frame(40, 2.0, astronaut, 0.0)
    recorder.update(Analysis(frame, events=(event(1.7),)))
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path / "clips")
    assert record["frames"] == 41
    # The newest may be compressed, too, because the clip needs all the others.
    assert record["compressed"][:30] == list(range(30))
    assert record["compressed"][30:] in ([], [40])
    for k, frame in enumerate(frames):
        error = np.abs(frame.astype(int) - astronaut)
        if k in record["compressed"]:
            assert 0 < error.mean() < 1.5
        else:
            assert error.max() == 0


Usage = collections.namedtuple("Usage", "total used free")


def test_disk_that_is_nearly_full_ends_the_recording_with_a_note(
    tmp_path, recorder, notes, monkeypatch
):
    free = [10**12]
    monkeypatch.setattr(recording.shutil, "disk_usage", lambda p: Usage(10**13, 0, free[0]))
    feed(recorder, 0, 4, [event(3.0)])
    eventually(lambda: not any(recorder._is_wanted(k) for k in recorder._kept))
    free[0] = 499_000_000
    feed(recorder, 4, 6, pause_s=0.001)
    eventually(lambda: not recorder.is_on)
    feed(recorder, 6, 12, [event(8.0)])
    recorder.end(SUMMARY)
    # The recorded part is kept, and its record says that it is cut short.
    ((record, frames),) = clips(tmp_path / "clips")
    assert "less than 500 MB left" in record["cut_short"]
    assert 4.0 <= record["end_s"] < 5.2
    assert len(frames) == record["frames"]
    assert sum("recording stopped" in note for note in notes) == 1
    assert len(notes) == 2


def test_limit_stops_the_recording_and_deletes_nothing(tmp_path, notes):
    folder = tmp_path / "clips"
    folder.mkdir()
    own = folder / "mer_20250101-120000-000_negative.avi"
    own.write_bytes(b"x" * 600_000)
    (folder / "holiday.avi").write_bytes(b"y" * 10_000_000)
    recorder = EventRecorder(folder, note=notes.append, limit_bytes=900_000)
    recorder.begin(session())
    feed(recorder, 0, 6, [event(3.0)], pause_s=0.001)
    recorder.end(SUMMARY)
    assert own.read_bytes() == b"x" * 600_000
    ((record, _),) = clips(folder)
    assert "have reached 0.0009 GB" in record["cut_short"]
    assert sum("recording stopped" in note for note in notes) == 1
    assert not recorder.is_on


def test_folder_that_vanishes_ends_the_recording_once_and_toggle_tries_again(
    tmp_path, recorder, notes
):
    folder = tmp_path / "clips"
    folder.rmdir()
    folder.write_bytes(b"a file is here now")
    feed(recorder, 0, 6, [event(1.0), event(3.0)])
    eventually(lambda: not recorder.is_on)
    feed(recorder, 6, 7)
    assert len(notes) == 1
    assert f"recording stopped: {folder}" in notes[0]
    folder.unlink()
    recorder.toggle()
    feed(recorder, 7, 13, [event(9.0)])
    recorder.end(SUMMARY)
    assert len(clips(folder)) == 1


BROKEN_DISK = """
    import resource, sys
    sys.path[:0] = sys.argv[2:]
    from test_recording import EventRecorder, SUMMARY, event, feed, session
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    recorder = EventRecorder(sys.argv[1], note=print)
    recorder.begin(session())
    feed(recorder, 0, 6, [event(3.0)])
    recorder.end(SUMMARY)
    """


def test_full_disk_leaves_no_broken_clip(tmp_path):
    here = Path(__file__).resolve().parent
    command = [sys.executable, "-c", textwrap.dedent(BROKEN_DISK), str(tmp_path)]
    done = subprocess.run(
        [*command, str(here), str(here.parents[2])], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "recording stopped" in done.stdout
    assert "not written completely" in done.stdout
    assert names(tmp_path) == []


def test_nothing_is_overwritten(tmp_path, recorder, monkeypatch):
    monkeypatch.setattr(recording, "_stem", lambda clip: "mer_20250101-120000-000_negative")
    feed(recorder, 0, 18, [event(3.0), event(12.0)])
    recorder.end(SUMMARY)
    assert names(tmp_path / "clips") == [
        "mer_20250101-120000-000_negative.avi",
        "mer_20250101-120000-000_negative.json",
        "mer_20250101-120000-000_negative_2.avi",
        "mer_20250101-120000-000_negative_2.json",
    ]
    assert len(clips(tmp_path / "clips")) == 2


def test_part_files_of_a_killed_session_are_deleted_and_nothing_else(tmp_path):
    old, new, other = (
        tmp_path / name for name in (".mer_1_0.part.avi", ".mer_2_0.part.avi", ".x.part.avi")
    )
    for path in (old, new, other):
        path.write_bytes(b"part")
    for path in (old, other):
        os.utime(path, (1, 1))
    EventRecorder(tmp_path)
    assert names(tmp_path) == [new.name, other.name]


def test_frame_of_another_size_is_left_out_and_counted(tmp_path, recorder):
    feed(recorder, 0, 3.5, [event(3.0)])
    feed(recorder, 3.5, 4.0, size=(32, 32))
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path / "clips")
    assert len(frames) == record["frames"] == 50
    assert record["dropped"] == recorder.dropped == 10


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_unusable_folder_is_refused_by_the_constructor(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="Name a"):
        EventRecorder(tmp_path / name)


def test_clip_can_be_analysed_again(tmp_path, recorder):
    """A clip is a source like any other, with identical pictures."""
    from realtime_mer.source.capture import Capture

    feed(recorder, 0, 4, [event(3.0)])
    recorder.end(SUMMARY)
    (path,) = (tmp_path / "clips").glob("mer_*.avi")
    capture = Capture(str(path))
    capture.open()
    try:
        read = [capture.read() for _ in range(60)]
        assert capture.read() is None
    finally:
        capture.close()
    for k, frame in enumerate(read):
        assert frame.time_s == pytest.approx(k / FPS, abs=1e-3)
        np.testing.assert_array_equal(frame.image, image(20 + k))
