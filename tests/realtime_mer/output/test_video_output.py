"""Annotated videos, read back."""

import errno
import os
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.output.overlay import Overlay
from realtime_mer.output.video_encoder import OutputFile, VideoEncoder, length_s
from realtime_mer.output.video_output import VideoOutput
from realtime_mer.results import Analysis, Session, Summary
from realtime_mer.source.frame import Frame

ROOT = Path(__file__).resolve().parents[3]
SIZE = (64, 48)
HOUR_S = 3600.0


def session(fps=25.0, live=False):
    return Session("clip.avi", live, SIZE, fps, 0, "m", "CPU", ("negative", "positive"))


def summary(reason="stopped by user", duration_s=1.0):
    return Summary(reason, 1, 1, 0, 0, duration_s, 1.0, 0)


def frame(number, time_s):
    """Frames get grey levels of 10, 20, 30, ..."""
    image = np.full((SIZE[1], SIZE[0], 3), 10 * (number + 1) % 250, np.uint8)
    return Frame(number, time_s, image, 0.0)


def write(path, times, fps=25.0, live=False, end=True, **options):
    """A video of frames at these times; returns it with its notes."""
    notes = []
    output = VideoOutput(path, Overlay([]), note=notes.append, **options)
    output.begin(session(fps, live))
    for number, time_s in enumerate(times):
        output.update(Analysis(frame(number, time_s)))
    if end:
        output.end(summary())
    return output, notes


def read(path):
    """Times and grey levels of the frames, in tens, and where the last one ends."""
    with path.open("rb") as file, av.open(file) as video:
        stream = video.streams.video[0]
        times, levels, end_s = [], [], 0.0
        for packet in video.demux(stream):
            for picture in packet.decode():
                image = picture.to_ndarray(format="bgr24")
                times.append(float(picture.pts * picture.time_base))
                levels.append(round(image[:, : image.shape[0]].mean() / 10))
            if packet.size:
                end_s = float((packet.pts + packet.duration) * packet.time_base)
    return times, levels, end_s


def boxes(path):
    """The names of an MP4's outermost boxes."""
    data, names, place = path.read_bytes(), [], 0
    while place < len(data):
        size, name = struct.unpack(">I4s", data[place : place + 8])
        names.append(name.decode())
        place += size
    return names


# Pictures and their times


@pytest.mark.parametrize(
    "name",
    [
        *("a.mp4", "a.mov", "a.mkv", "A.MP4", "with space %03d ü.mp4", "x" * 251 + ".mp4"),
        os.fsdecode(b"caf\xe9.mp4"),
        "http://host/a.mp4",
    ],
)
def test_video_has_the_sources_frames_and_their_times(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    _, notes = write(name, [k / 25 for k in range(10)])
    times, levels, end_s = read(path)
    assert times == pytest.approx([k / 25 for k in range(10)])
    assert levels == list(range(1, 11))
    assert end_s == pytest.approx(0.4)
    assert [p.name for p in path.absolute().parent.iterdir()] == [path.name]
    assert notes == []


@pytest.mark.parametrize("fps", [0.5, 23.976, 66.667, 119.8765, 239.934, 1000])
@pytest.mark.parametrize(("suffix", "error_s"), [("mp4", 2e-5), ("mov", 2e-5), ("mkv", 5.1e-4)])
def test_any_frame_rate(tmp_path, fps, suffix, error_s):
    expected = [k / fps for k in range(12)]
    write(tmp_path / f"a.{suffix}", expected, fps)
    times, _, end_s = read(tmp_path / f"a.{suffix}")
    assert times == pytest.approx(expected, abs=error_s)
    assert end_s == pytest.approx(12 / fps, abs=2 * error_s)


def test_times_that_vary(tmp_path):
    expected = [0.0, *np.cumsum(np.random.default_rng(0).uniform(0.002, 0.5, 40))]
    write(tmp_path / "a.mp4", expected)
    assert read(tmp_path / "a.mp4")[0] == pytest.approx(expected, abs=2e-5)


def test_frames_whose_times_do_not_go_on_are_left_out(tmp_path):
    write(tmp_path / "a.mp4", [0, 0.04, 0.04, 0.01, float("nan"), 0.08, -5, 0.12])
    times, levels, _ = read(tmp_path / "a.mp4")
    assert times == pytest.approx([0, 0.04, 0.08, 0.12])
    assert levels == [1, 2, 6, 8]


@pytest.mark.parametrize("start_s", [-3.0, 0.2, 1.7e9])
def test_video_begins_with_its_first_picture(tmp_path, start_s):
    write(tmp_path / "a.mp4", [start_s, start_s + 0.3])
    times, _, _ = read(tmp_path / "a.mp4")
    # A source's clock begins at 0, and its first frames may be lost.
    assert times == pytest.approx([0, 0.5 if start_s == 0.2 else 0.3], abs=2e-5)


def test_an_absence_is_one_picture_as_long_as_it_lasted(tmp_path):
    hole_s = 17 * HOUR_S
    _, notes = write(tmp_path / "a.mp4", [0, 0.04, hole_s, hole_s + 0.04])
    times, levels, _ = read(tmp_path / "a.mp4")
    assert times == pytest.approx([0, 0.04, hole_s, hole_s + 0.04])
    assert levels == [1, 2, 3, 4]
    (note,) = notes
    assert "a.mp4 holds one picture from 0.0 s on for 17 h 0 min" in note


def test_a_longer_absence_is_cut_with_a_note(tmp_path):
    hole_s = 100 * HOUR_S
    _, notes = write(tmp_path / "a.mp4", [0, 0.04, 0.04 + hole_s, 0.08 + hole_s])
    times, _, _ = read(tmp_path / "a.mp4")
    held_s = 18 * HOUR_S
    assert times == pytest.approx([0, 0.04, 0.04 + held_s, 0.08 + held_s])
    (note,) = notes
    assert "18 h 0 min in place of 100 h 0 min" in note
    assert "comes 82 h 0 min early" in note


def test_a_source_that_is_away_shows_so_until_the_end(tmp_path):
    output = VideoOutput(tmp_path / "a.mp4", Overlay([]))
    output.begin(session(live=True))
    image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    last = Frame(0, 0.0, image, time.monotonic())
    output.update(Analysis(last))
    for alert in ("no picture", "reconnecting"):
        time.sleep(0.05)
        for _ in range(3):
            output.update(Analysis(last, alerts=(alert,), is_away=True))
            # The encoder takes each picture before the next one comes.
            time.sleep(0.02)
    # The gap with which the session ends comes with the last frame again.
    output.update(Analysis(last))
    output.end(summary(duration_s=70.0))
    times, _, end_s = read(tmp_path / "a.mp4")
    assert 1 <= len(times) <= 3
    assert times[-1] < 60
    assert end_s == pytest.approx(70.0)


def test_early_end_leaves_a_complete_video(tmp_path):
    write(tmp_path / "a.mp4", [0])
    assert read(tmp_path / "a.mp4")[1] == [1]


# The file


def test_browsers_can_play_it(tmp_path):
    write(tmp_path / "a.mp4", [k / 10 for k in range(25)])
    with av.open(tmp_path / "a.mp4") as video:
        (stream,) = video.streams
        codec = stream.codec_context
        assert (codec.name, codec.profile, codec.pix_fmt) == ("h264", "High", "yuv420p")
        # BT.709 in the studio's range, which is what they assume.
        assert (codec.colorspace, codec.color_primaries, codec.color_range) == (1, 1, 1)
        keys = [float(p.pts * p.time_base) for p in video.demux(stream) if p.is_keyframe]
        assert keys == pytest.approx([0, 2])
        assert set(video.metadata) <= {
            *("major_brand", "minor_version", "compatible_brands", "encoder")
        }
    # The index comes first, and there are no fragments.
    assert [name for name in boxes(tmp_path / "a.mp4") if name != "free"] == [
        *("ftyp", "moov", "mdat")
    ]


@pytest.mark.parametrize("size", [(65, 49), (64, 49), (1, 1)])
def test_odd_sizes_are_completed(tmp_path, size):
    encoder = VideoEncoder(tmp_path / "a.mp4", "mp4", size, 25)
    encoder.write(np.full((size[1], size[0], 3), 200, np.uint8), 0.0)
    encoder.finish(0.04)
    with av.open(tmp_path / "a.mp4") as video:
        image = next(video.decode(video=0)).to_ndarray(format="bgr24")
    assert image.shape[:2] == (size[1] + size[1] % 2, size[0] + size[0] % 2)
    assert np.abs(image.astype(int) - 200).max() <= 3


def test_colours_stay(tmp_path):
    encoder = VideoEncoder(tmp_path / "a.mp4", "mp4", (64, 64), 25)
    colours = np.array([[0, 0, 255], [0, 255, 0], [255, 0, 0], [30, 120, 200]], np.uint8)
    encoder.write(np.repeat(np.repeat(colours, 16, 0)[:, None], 64, 1), 0.0)
    encoder.finish(0.04)
    with av.open(tmp_path / "a.mp4") as video:
        image = next(video.decode(video=0)).to_ndarray(format="bgr24")
    assert np.abs(image[8::16, 32].astype(int) - colours).max() <= 4


def test_older_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    output, _ = write(path, [0, 0.04], end=False)
    assert path.read_bytes() == b"precious"
    output.end(summary())
    assert read(path)[1] == [1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_permissions_and_links_stay(tmp_path):
    (tmp_path / "real.mp4").write_bytes(b"old")
    (tmp_path / "real.mp4").chmod(0o600)
    (tmp_path / "link.mp4").symlink_to("real.mp4")
    write(tmp_path / "link.mp4", [0])
    assert (tmp_path / "link.mp4").is_symlink()
    assert stat.S_IMODE((tmp_path / "real.mp4").stat().st_mode) == 0o600
    assert read(tmp_path / "real.mp4")[1] == [1]
    write(tmp_path / "new.mp4", [0])
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new.mp4").stat().st_mode) == 0o666 & ~mask


def test_part_of_another_session_is_left_alone(tmp_path):
    (tmp_path / "a.part.mp4").write_bytes(b"another")
    write(tmp_path / "a.mp4", [0, 0.04])
    assert (tmp_path / "a.part.mp4").read_bytes() == b"another"
    assert read(tmp_path / "a.mp4")[1] == [1, 2]


def test_session_without_frames_writes_nothing(tmp_path):
    output = VideoOutput(tmp_path / "a.mp4", Overlay())
    output.begin(session())
    output.end(summary())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a.txt", r"no ending .* End it with .mp4, .mov or .mkv"),
        ("a", "ending"),
        ("a.avi", r"AVI has one frame rate and no times. End it with .mp4"),
        ("no/a.mp4", "does not exist"),
        ("dir.mp4", "folder"),
        pytest.param(
            "fifo.mp4",
            "no regular file",
            marks=pytest.mark.skipif(os.name == "nt", reason="Windows has none"),
        ),
    ],
)
def test_unusable_paths_are_refused_by_the_constructor(tmp_path, name, what):
    (tmp_path / "dir.mp4").mkdir()
    if os.name != "nt":
        os.mkfifo(tmp_path / "fifo.mp4")
    with pytest.raises(InputError, match=what):
        VideoOutput(tmp_path / name, Overlay())


def test_missing_encoder_is_refused_by_the_constructor(tmp_path, monkeypatch):
    monkeypatch.setattr("realtime_mer.output.video_output.ENCODER", "libnone")
    with pytest.raises(InputError, match="no libnone encoder"):
        VideoOutput(tmp_path / "a.mp4", Overlay())
    assert list(tmp_path.iterdir()) == []


# A full disk, a crash, an encoder that is too slow

# Writes 12 s of noise to argv[1]; ends as argv[2] says. A limit to the size of files stands for a
# full disk: Python ignores its signal, so that writing fails.
CHILD = """
import os, resource, sys
import numpy as np
from realtime_mer.errors import InputError
from realtime_mer.output.overlay import Overlay
from realtime_mer.output.video_output import VideoOutput
from realtime_mer.results import Analysis, Session, Summary
from realtime_mer.source.frame import Frame

path, end, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
output = VideoOutput(path, Overlay([]), note=lambda text: print("note:", text, flush=True))
output.begin(Session("s", False, (160, 120), 2.5, 0, "m", "CPU", ("a",)))
for k in range(30):
    output.update(Analysis(Frame(k, k / 2.5, np.roll(noise, k, 1).copy(), 0.0)))
if end == "crash":
    os._exit(9)
try:
    output.end(Summary("end of source", 30, 30, 0, 0, 12.0, 1.0, 0))
except InputError as error:
    print("error:", error)
"""


def child(path, end, limit=0):
    result = subprocess.run(
        [sys.executable, "-c", CHILD, path, end, str(limit)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stderr == ""
    return result.stdout.splitlines()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limits of this kind")
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_full_disk_is_told_and_leaves_what_was_written_and_the_older_file(tmp_path, suffix):
    path, part = tmp_path / f"a.{suffix}", tmp_path / f"a.part.{suffix}"
    assert child(path, "end") == []
    size = path.stat().st_size
    path.write_bytes(b"precious")
    # A note comes only if the session goes on for long enough.
    *_, error = child(path, "end", limit=size * 6 // 10)
    told = f"{path} cannot be written: File too large. Its first "
    assert error.startswith(f"error: {told}")
    assert error.endswith(f" s are in {part}. Free the disk, or name a file on another one.")
    assert path.read_bytes() == b"precious"
    assert sorted(tmp_path.iterdir()) == [path, part]
    times, _, end_s = read(part)
    assert times == pytest.approx([k / 2.5 for k in range(len(times))])
    assert 4 <= end_s < 12
    assert f"first {end_s:.1f} s" in error


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limits of this kind")
def test_a_disk_that_is_full_from_the_start_leaves_nothing(tmp_path):
    *_, error = child(tmp_path / "a.mp4", "end", limit=20)
    assert "a.mp4 cannot be written: File too large" in error
    assert list(tmp_path.iterdir()) == []


def test_a_session_goes_on_without_a_video_that_fails(tmp_path, monkeypatch):
    original = OutputFile.write

    def write_some(self, data):
        if self.tell() > 3000:
            self.fail(OSError(errno.ENOSPC, "No space left on device"))
        return original(self, data)

    monkeypatch.setattr(OutputFile, "write", write_some)
    notes = []
    output = VideoOutput(tmp_path / "a.mp4", Overlay([]), note=notes.append)
    output.begin(session())
    deadline = time.monotonic() + 30
    number = 0
    while not notes and time.monotonic() < deadline:
        output.update(Analysis(frame(number, number / 2)))
        number += 1
    output.update(Analysis(frame(number, number / 2)))
    (note,) = notes
    assert "a.mp4 cannot be written: No space left on device. Its first" in note
    assert note.endswith("a.part.mp4. The session goes on without it")
    with pytest.raises(InputError, match=r"No space left on device.* Free the disk"):
        output.end(summary())
    assert notes == [note]
    assert length_s(tmp_path / "a.part.mp4") > 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limits of this kind")
def test_a_full_disk_ends_with_status_2_and_a_complete_log(tmp_path, faceless):
    video, log = tmp_path / "a.mp4", tmp_path / "log.jsonl"
    program = (
        "import resource, runpy, sys;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
        "sys.argv[0] = 'run.py'; runpy.run_path('run.py', run_name='__main__')"
    )
    command = [
        sys.executable,
        "-c",
        program,
        faceless,
        "--headless",
        "--output",
        video,
        "--log",
        log,
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert f"{video} cannot be written: File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert "ended by: end of source" in result.stdout
    assert '"type": "summary", "reason": "end of source"' in log.read_text().splitlines()[-1]
    assert not video.exists()


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_a_crash_leaves_what_was_written(tmp_path, suffix):
    child(tmp_path / f"a.{suffix}", "crash")
    (part,) = tmp_path.iterdir()
    assert part.name == f"a.part.{suffix}"
    # The newest 2 s, and what waited for the encoder.
    assert length_s(part) >= 4


@pytest.fixture
def slow_encoder(monkeypatch):
    """An encoder that stops after its first picture until the event is set."""
    proceed = threading.Event()
    original = VideoEncoder.write

    def write(self, picture, time_s):
        if time_s > 0:
            assert proceed.wait(30)
        original(self, picture, time_s)

    monkeypatch.setattr(VideoEncoder, "write", write)
    return proceed


def test_a_live_source_never_waits_for_the_encoder(tmp_path, slow_encoder):
    output, notes = write(tmp_path / "a.mp4", [k / 25 for k in range(200)], live=True, end=False)
    slow_encoder.set()
    output.end(summary())
    times, _, _ = read(tmp_path / "a.mp4")
    # A few pictures wait; then the newest one wins.
    assert len(times) <= 10
    assert times[-1] == pytest.approx(199 / 25)
    (note,) = notes
    assert note.startswith(f"{200 - len(times)} pictures are not in {tmp_path / 'a.mp4'}")


def test_a_recording_waits_for_the_encoder(tmp_path, slow_encoder):
    threading.Timer(0.3, slow_encoder.set).start()
    _, notes = write(tmp_path / "a.mp4", [k / 25 for k in range(50)])
    assert len(read(tmp_path / "a.mp4")[0]) == 50
    assert notes == []


def test_ctrl_c_while_the_video_is_completed_leaves_the_part(tmp_path, slow_encoder, monkeypatch):
    output, _ = write(tmp_path / "a.mp4", [0, 0.04, 0.08], end=False)

    def interrupted(self, timeout=None):
        monkeypatch.undo()
        slow_encoder.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        output.end(summary())
    assert not any(thread.name == "video" for thread in threading.enumerate())
    assert len(list(tmp_path.iterdir())) <= 1
