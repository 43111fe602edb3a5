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
from realtime_mer.output import clip_folder, frame_memory, recording
from realtime_mer.output.clip_file import ClipFile, Encoder, clip_stem, most_bytes
from realtime_mer.output.recording import EventRecorder
from realtime_mer.results import Analysis, Interval, MicroExpression, Session, Summary
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.session.run import run
from realtime_mer.source.capture import Capture
from realtime_mer.source.frame import Frame

SUMMARY = Summary("end of source", 1, 1, 0, 0, 1.0, 1.0, 0)
SIZE = (64, 48)
FPS = 20.0


def session(source="rtsp://***@cam/live", live=True):
    return Session(source, live, SIZE, FPS, 0, "m", "CPU", ("negative", "positive"))


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
    assert record["lossless"]
    assert (record["dropped"], record["missing"], record["cut_short"]) == (0, [], None)
    assert record["source"] == "rtsp://***@cam/live"
    assert recorder.dropped == 0
    assert notes == [f"1 clip recorded in {tmp_path / 'clips'}"]


def test_live_clips_are_named_by_wall_clock_and_label_and_nothing_else_is_left(tmp_path, recorder):
    feed(recorder, 0, 6.5, [event(3.0, "So/sad ../é")])
    recorder.end(SUMMARY)
    beside, video = names(tmp_path / "clips")
    assert re.fullmatch(r"mer_\d{8}-\d{6}-\d{3}_so-sad\.mov", video)
    assert beside == video.replace(".mov", ".json")
    assert (tmp_path / "clips").stat().st_mode & 0o077 == 0


def test_clips_of_files_are_named_by_source_and_position(tmp_path, recorder):
    recorder.begin(session("videos/interview.mp4", live=False))
    feed(recorder, 0, 6.5, [event(3.25)])
    recorder.end(SUMMARY)
    assert names(tmp_path / "clips") == [
        "interview_00m03.25s_negative.json",
        "interview_00m03.25s_negative.mov",
    ]


@pytest.mark.parametrize(
    ("source", "position_s", "stem"),
    [
        ("talks/Frau Müller 2.mp4", 8.2899, "Frau-Müller-2_00m08.29s_x"),
        ("a.b/frames/", 3725.5, "frames_1h02m05.50s_x"),
        ("C:\\videos\\talk.v2.AVI", 59.999, "talk.v2_01m00.00s_x"),
        (r"b\xff\x1b[2J: *?.mp4", 0.0, "x1b-2J_00m00.00s_x"),
        ("https://***@host/cut.webm?token=***", 1.0, "cut_00m01.00s_x"),
        (".hidden", 1.0, "hidden_00m01.00s_x"),
        ("-rf ..", 1.0, "rf_00m01.00s_x"),
        ("***", 1.0, "source_00m01.00s_x"),
    ],
)
def test_names_are_safe_whatever_the_source_is_called(source, position_s, stem):
    assert clip_stem(source, position_s, "", "x") == stem


def test_clips_of_several_cameras_are_named_after_them():
    when = "20260131-093015-250"
    assert clip_stem(None, 8.29, when, "negative", camera=1) == f"mer_{when}_camera1_negative"
    assert clip_stem(None, 8.29, when, "negative") == f"mer_{when}_negative"


def test_names_are_short_whatever_the_source_is_called():
    stem = clip_stem("ü" * 200 + ".mp4", 100000.0, "", "y" * 200)
    assert len(f"{stem}_99.json".encode()) <= 143
    assert stem.startswith("ü" * 32 + "_27h46m40.00s_y")


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


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (64, 48), (640, 480)])
def test_compressed_picture_takes_no_more_memory_than_was_reserved(size):
    picture = image(0, size)
    assert len(Encoder()(picture)) <= most_bytes(picture)


@pytest.mark.parametrize("size", [(65, 48), (64, 49), (33, 17), (1, 1)])
def test_odd_sizes_stay_as_they_are(tmp_path, recorder, size):
    feed(recorder, 0, 1, [event(0.1)], size=size)
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path / "clips")
    assert (record["width"], record["height"]) == size
    for k, frame in zip(record["frame_index"], frames, strict=True):
        np.testing.assert_array_equal(frame, image(k, size))


def test_each_event_has_its_clip_though_they_overlap(tmp_path, recorder):
    feed(recorder, 0, 18, [event(3.0), event(3.1, "positive"), event(12.0)])
    recorder.end(SUMMARY)
    found = clips(tmp_path / "clips")
    assert [(r["start_s"], r["end_s"]) for r, _ in found] == [(1.0, 5.2), (1.1, 5.3), (10.0, 14.2)]
    assert [[e["onset_s"] for e in r["events"]] for r, _ in found] == [[3.0], [3.1], [12.0]]
    for record, frames in found:
        for k, frame in zip(record["frame_index"], frames, strict=True):
            np.testing.assert_array_equal(frame, image(k))


def test_frames_of_several_clips_are_in_memory_once(recorder, slow_disk):
    feed(recorder, 0, 4.0, [event(3.0 + k / 100) for k in range(16)])
    assert len(recorder._clips) == 16
    assert recorder._memory.bytes <= 80 * 1.2 * image(0).nbytes


def test_event_just_after_a_clip_has_all_its_own_frames(tmp_path, recorder):
    feed(recorder, 0, 6, [event(3.0)])
    eventually(lambda: list((tmp_path / "clips").glob("mer_*.mov")))
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


def test_uneven_frame_times_are_kept_in_the_clip_and_beside_it(tmp_path, recorder):
    # Whole milliseconds, as in many containers, and a hole of 0.4 s.
    times = [round(k / 30, 3) for k in range(120) if not 50 <= k < 62]
    for k, t in enumerate(times):
        events = (event(2.0),) if k == 70 else ()
        recorder.update(Analysis(Frame(k, t, image(k), 0.0), events=events))
    recorder.end(SUMMARY)
    ((record, _),) = clips(tmp_path / "clips")
    assert record["times_s"] == times
    assert record["fps"] == pytest.approx(30, abs=0.1)
    with Capture(tmp_path / "clips" / record["video"]) as clip:
        assert [frame.time_s for frame in clip] == pytest.approx(times, abs=1e-6)


def test_frames_that_were_never_shown_are_named_with_the_reason(tmp_path, recorder):
    for k in range(130):
        if k not in (0, 50, 51, 70):
            events = (event(3.0),) if k == 66 else ()
            recorder.update(Analysis(Frame(k, k / FPS, image(k), 0.0), events=events))
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path / "clips")
    assert [(m["first_index"], m["last_index"]) for m in record["missing"]] == [(50, 51), (70, 70)]
    assert {m["reason"] for m in record["missing"]} == {"analysis, display or pause skipped it"}
    assert record["dropped"] == recorder_dropped(record) == 3
    assert len(frames) == record["frames"] == 82


def test_frames_that_were_analysed_but_came_too_fast_to_be_shown_are_recorded(tmp_path, recorder):
    frames = [Frame(k, k / FPS, image(k), 0.0) for k in range(90)]
    for k in range(2, 90, 3):
        unshown = (frames[k - 2], frames[k - 1])
        events = (event(3.0),) if k == 68 else ()
        recorder.update(Analysis(frames[k], events=events, unshown=unshown))
    recorder.end(SUMMARY)
    ((record, _),) = clips(tmp_path / "clips")
    assert (record["frame_index"], record["missing"]) == (list(range(20, 90)), [])


def test_unshown_frames_from_before_recording_was_switched_on_are_not_recorded(tmp_path):
    recorder = EventRecorder(tmp_path / "clips", on=False)
    recorder.begin(session())
    recorder.toggle()
    before, after = (Frame(k, k / FPS, image(k), 0.0) for k in (60, 61))
    recorder.update(Analysis(after, events=(event(3.0),), unshown=(before,)))
    recorder.end(SUMMARY)
    ((record, _),) = clips(tmp_path / "clips")
    assert record["frame_index"] == [61]


def recorder_dropped(record):
    return sum(m["last_index"] - m["first_index"] + 1 for m in record["missing"])


def test_clip_of_a_live_source_that_went_away_is_completed(tmp_path, recorder, monkeypatch):
    feed(recorder, 0, 4.0, [event(3.0)])
    monkeypatch.setattr(recording, "_AWAY_S", 0.0)
    time.sleep(0.001)
    recorder.update(Analysis(recorder._newest, is_away=True))
    eventually(lambda: list((tmp_path / "clips").glob("mer_*.mov")))
    ((record, _),) = clips(tmp_path / "clips")
    assert (record["end_s"], record["cut_short"]) == (3.95, "the source gave no frames")


def test_nothing_is_recorded_or_kept_unless_it_is_on(tmp_path, notes):
    recorder = EventRecorder(tmp_path / "clips", on=False, note=notes.append)
    recorder.begin(session())
    feed(recorder, 0, 6, [event(3.0)])
    assert not recorder.is_on
    assert recorder._memory.newest is None
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
    eventually(lambda: list((tmp_path / "clips").glob("mer_*.mov")))
    eventually(lambda: not recorder._clips)
    recorder.end(SUMMARY)
    ((record, _),) = clips(tmp_path / "clips")
    # No frame from before it was switched on.
    assert (record["start_s"], record["wanted_start_s"]) == (1.0, 0.0)
    assert record["begins_late"] == "recording was switched on later"
    assert record["end_s"] == 2.95
    assert record["cut_short"] == "recording was switched off"


@pytest.fixture
def slow_disk(monkeypatch):
    """Every write waits until the test opens the gate."""
    gate = threading.Event()
    write = ClipFile.write

    def slow(self, *args):
        assert gate.wait(20)
        write(self, *args)

    monkeypatch.setattr(ClipFile, "write", slow)
    yield gate
    gate.set()


def recorder_with(folder, frames, notes, live=True):
    """A recorder with memory for so many frames of noise, which do not become smaller."""
    made = EventRecorder(folder, note=notes.append, memory_bytes=frames * most_bytes(image(0)))
    made.begin(session("film.avi", live=live))
    return made


def test_live_source_never_waits_for_the_disk_and_what_is_lost_is_counted(
    tmp_path, notes, slow_disk
):
    recorder = recorder_with(tmp_path, 70, notes)
    feed(recorder, 0, 6, [event(3.0)])
    slow_disk.set()
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path)
    # The event itself is there; the newest frames are left out.
    assert record["frame_index"][:60] == list(range(20, 80))
    assert record["dropped"] == recorder_dropped(record) == 85 - record["frames"] > 0
    assert {m["reason"] for m in record["missing"]} == {"no room in memory"}
    for k, frame in zip(record["frame_index"], frames, strict=True):
        np.testing.assert_array_equal(frame, image(k))
    assert f"the clips lack {record['dropped']} frames (no room in memory)" in notes[-1]


def test_file_waits_for_the_disk_and_loses_nothing(tmp_path, notes, slow_disk):
    recorder = recorder_with(tmp_path, 72, notes, live=False)
    feeding = threading.Thread(target=feed, args=(recorder, 0, 6, [event(3.0)]))
    feeding.start()
    eventually(lambda: recorder._memory.is_crowded)
    slow_disk.set()
    feeding.join(20)
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path)
    assert record["frame_index"] == list(range(20, 105))
    assert (record["dropped"], len(frames)) == (0, 85)
    assert notes == [f"1 clip recorded in {tmp_path}"]


def test_file_does_not_wait_for_ever(tmp_path, notes, slow_disk, monkeypatch):
    monkeypatch.setattr(recording, "_STALL_S", 0.5)
    monkeypatch.setattr(recording, "_PIECE_S", 0.05)
    recorder = recorder_with(tmp_path, 72, notes, live=False)
    feed(recorder, 0, 6, [event(3.0)])
    with pytest.raises(InputError, match="does not answer"):
        recorder.end(SUMMARY)


@pytest.mark.parametrize("live", [True, False])
def test_memory_is_bounded_whatever_happens(tmp_path, notes, slow_disk, monkeypatch, live):
    monkeypatch.setattr(recording, "_STALL_S", 0.0)
    monkeypatch.setattr(frame_memory, "_MAX_KEPT", 300)
    recorder = recorder_with(tmp_path, 20, notes, live)
    for k in range(400):
        events = (event(k / FPS),) if k % 4 == 3 else ()
        recorder.update(Analysis(Frame(k, k / FPS, image(0), 0.0), events=events))
        with recorder._changed:
            assert recorder._memory.bytes == sum(kept.size for kept in recorder._memory)
            assert recorder._memory.bytes <= recorder._memory.limit_bytes
            assert len(recorder._clips) <= recording._MAX_CLIPS
            assert len(recorder._memory) <= 300
        if k == 3:
            # The first write hangs: from here on, clips wait for it.
            eventually(lambda: recorder._clips[0].next_number > 0)
    slow_disk.set()
    with pytest.raises(InputError, match="too many events"):
        recorder.end(SUMMARY)


def test_frames_too_large_for_memory_shorten_the_beginning(tmp_path, notes):
    recorder = recorder_with(tmp_path, 30, notes, live=False)
    feed(recorder, 0, 4, [event(3.0)])
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path)
    assert record["wanted_start_s"] == 1.0
    assert record["frame_index"] == list(range(80 - len(frames), 80))
    assert 25 <= len(frames) < 60
    assert record["missing"] == [
        {"first_index": 20, "last_index": 79 - len(frames), "reason": "no room in memory"}
    ]


def test_frames_that_wait_are_compressed_without_loss(tmp_path, recorder, monkeypatch, astronaut):
    monkeypatch.setattr(frame_memory, "_RAW_BYTES", 10 * astronaut.nbytes)
    for k in range(40):
        recorder.update(Analysis(Frame(k, k / FPS, astronaut, 0.0)))
    eventually(lambda: recorder._memory.raw_bytes <= frame_memory._RAW_BYTES)
    assert recorder._memory.bytes < 30 * astronaut.nbytes
    frame = Frame(40, 2.0, astronaut, 0.0)
    recorder.update(Analysis(frame, events=(event(1.7),)))
    recorder.end(SUMMARY)
    ((record, frames),) = clips(tmp_path / "clips")
    assert record["frames"] == len(frames) == 41
    for read in frames:
        np.testing.assert_array_equal(read, astronaut)


Usage = collections.namedtuple("Usage", "total used free")


def test_disk_that_is_nearly_full_cuts_a_clip_and_the_next_one_is_tried(
    tmp_path, recorder, notes, monkeypatch
):
    free = [10**12]
    monkeypatch.setattr(clip_folder.shutil, "disk_usage", lambda p: Usage(10**13, 0, free[0]))
    feed(recorder, 0, 4, [event(3.0)])
    eventually(lambda: not any(recorder._is_wanted(k) for k in recorder._memory))
    free[0] = 499_000_000
    feed(recorder, 4, 6)
    eventually(lambda: not recorder._clips)
    free[0] = 10**12
    feed(recorder, 6, 12, [event(8.0)])
    with pytest.raises(InputError, match=r"1 clip is lost or cut short.*less than 500 MB left"):
        recorder.end(SUMMARY)
    # The recorded part is kept, and its record says that it is cut short.
    (first, frames), (second, _) = clips(tmp_path / "clips")
    assert "less than 500 MB left" in first["cut_short"]
    assert 4.0 <= first["end_s"] < 5.2
    assert len(frames) == first["frames"]
    assert (second["frames"], second["cut_short"]) == (85, None)
    assert sum("less than 500 MB left" in note for note in notes) == 1


def test_clip_that_is_cut_and_cannot_be_completed_is_counted_once(tmp_path, notes, monkeypatch):
    recorder = EventRecorder(tmp_path, note=notes.append, limit_bytes=300_000)
    recorder.begin(session())

    def refuse(self, stem, record):
        self.discard()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ClipFile, "finish", refuse)
    feed(recorder, 0, 6, [event(3.0)])
    with pytest.raises(InputError, match=r"^1 clip is lost or cut short: the clips in"):
        recorder.end(SUMMARY)
    assert names(tmp_path) == []


def test_limit_keeps_clips_from_being_written_and_deletes_nothing(tmp_path, notes):
    folder = tmp_path / "clips"
    folder.mkdir()
    own = folder / "interview_00m01.00s_negative.mov"
    own.write_bytes(b"x" * 600_000)
    own.with_suffix(".json").write_text("{}")
    (folder / "holiday.mov").write_bytes(b"y" * 10_000_000)
    recorder = EventRecorder(folder, note=notes.append, limit_bytes=900_000)
    recorder.begin(session())
    feed(recorder, 0, 6, [event(3.0)])
    with pytest.raises(InputError, match=r"have reached 0\.0009 GB"):
        recorder.end(SUMMARY)
    assert own.read_bytes() == b"x" * 600_000
    (video,) = folder.glob("mer_*.mov")
    record = json.loads(video.with_suffix(".json").read_text())
    assert "have reached 0.0009 GB" in record["cut_short"]


def test_folder_that_vanishes_is_told_at_once_and_at_the_end_and_toggle_makes_it_again(
    tmp_path, recorder, notes
):
    folder = tmp_path / "clips"
    folder.rmdir()
    feed(recorder, 0, 6, [event(3.0)])
    eventually(lambda: not recorder._clips)
    feed(recorder, 6, 12, [event(8.0)])
    eventually(lambda: not recorder._clips)
    feed(recorder, 12, 13)
    assert len(notes) == 1
    assert f"a clip is lost or cut short: {folder} cannot be written" in notes[0]
    assert not folder.exists()
    recorder.toggle()
    recorder.toggle()
    feed(recorder, 13, 19, [event(15.0)])
    with pytest.raises(InputError, match=f"2 clips are lost or cut short: {folder} cannot be"):
        recorder.end(SUMMARY)
    assert len(clips(folder)) == 1


def test_clip_is_lost_whole_if_its_folder_vanishes_meanwhile(tmp_path, recorder):
    folder = tmp_path / "clips"
    feed(recorder, 0, 4.5, [event(3.0)])
    eventually(lambda: names(folder))
    folder.rename(tmp_path / "elsewhere")
    feed(recorder, 4.5, 6)
    with pytest.raises(InputError, match="cannot be written"):
        recorder.end(SUMMARY)
    assert [n for n in names(tmp_path / "elsewhere") if not n.startswith(".")] == []


BROKEN_DISK = """
    import resource, sys
    sys.path[:0] = sys.argv[2:]
    from test_recording import EventRecorder, InputError, SUMMARY, event, feed, session
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    recorder = EventRecorder(sys.argv[1], note=print)
    recorder.begin(session())
    feed(recorder, 0, 6, [event(3.0)])
    try:
        recorder.end(SUMMARY)
    except InputError as error:
        print("error:", error)
    """


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of the size of a file")
def test_full_disk_leaves_no_broken_clip(tmp_path):
    here = Path(__file__).resolve().parent
    command = [sys.executable, "-c", textwrap.dedent(BROKEN_DISK), str(tmp_path)]
    done = subprocess.run(
        [*command, str(here), str(here.parents[2])], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "error: 1 clip is lost or cut short" in done.stdout
    assert "File too large" in done.stdout
    assert names(tmp_path) == []


def test_nothing_is_overwritten(tmp_path, recorder):
    folder = tmp_path / "clips"
    (folder / "film_00m03.00s_negative.mov").write_bytes(b"of another program")
    recorder.begin(session("film.avi", live=False))
    feed(recorder, 0, 6, [event(3.0), event(3.001)])
    recorder.end(SUMMARY)
    assert names(folder) == [
        "film_00m03.00s_negative.mov",
        "film_00m03.00s_negative_2.json",
        "film_00m03.00s_negative_2.mov",
        "film_00m03.00s_negative_3.json",
        "film_00m03.00s_negative_3.mov",
    ]
    assert (folder / "film_00m03.00s_negative.mov").read_bytes() == b"of another program"


def test_part_files_of_a_killed_session_are_deleted_and_nothing_else(tmp_path):
    old, new, other = (
        tmp_path / name
        for name in (f".mer_{'0' * 16}.part.mov", f".mer_{'1' * 16}.part.mov", ".x.part.mov")
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
    assert record["dropped"] == 10
    assert record["missing"][0]["reason"] == "another size than the first frame"


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_unusable_folder_is_refused_by_the_constructor(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="Name a"):
        EventRecorder(tmp_path / name)


def test_clip_can_be_analysed_again(tmp_path, recorder):
    """A clip is a source like any other, with identical pictures."""
    feed(recorder, 0, 4, [event(3.0)])
    recorder.end(SUMMARY)
    (path,) = (tmp_path / "clips").glob("mer_*.mov")
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


def test_session_on_a_file_leaves_a_clip_of_each_event_though_another_folder_is_lost(
    tmp_path, clip, notes
):
    """Also: a folder that cannot be written any more ends neither the session nor the others."""
    kept = EventRecorder(tmp_path / "kept", note=notes.append)
    lost = EventRecorder(tmp_path / "lost", note=notes.append)
    (tmp_path / "lost").rmdir()
    with pytest.raises(InputError, match="2 clips are lost or cut short"):
        run(Recognizer(clip), [lost, kept])
    found = clips(tmp_path / "kept")
    assert [record["video"][:12] for record, _ in found] == ["eventful_00m", "eventful_00m"]
    with Capture(clip) as capture:
        analysed = {frame.index: (frame.time_s, frame.image) for frame in capture}
    for record, frames in found:
        onset_s, offset_s = (record["events"][0][key] for key in ("onset_s", "offset_s"))
        wanted = {k: (t, i) for k, (t, i) in analysed.items() if onset_s - 2 <= t <= offset_s + 2}
        assert record["frame_index"] == list(wanted)
        for (time_s, picture), told_s, frame in zip(
            wanted.values(), record["times_s"], frames, strict=True
        ):
            assert told_s == pytest.approx(time_s, abs=1e-6)
            np.testing.assert_array_equal(frame, picture)
