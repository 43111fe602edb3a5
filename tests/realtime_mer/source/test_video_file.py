"""Video files, as the capture reads them."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.source.capture import Capture, State
from tests.realtime_mer.source.sources import SIZE, level, picture, write_image, write_video


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
        # The last picture may have been cut through: that is another note.
        *_, note = capture.notes
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


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_file_names_of_any_bytes_are_read(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9 \xff.avi"  # Latin-1
    write_video(tmp_path / "plain.avi", frames=3).rename(os.fsdecode(path))
    with Capture(os.fsdecode(path)) as capture:
        assert sum(1 for _ in capture) == 3
        assert "caf\\udce9" in capture.source


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
        "from realtime_mer.source.capture import Capture\n"
        "from realtime_mer.errors import InputError\n"
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
        "from realtime_mer.source.capture import Capture\n"
        "from realtime_mer.source.image_folder import decode\n"
        "with Capture(sys.argv[1]) as capture: list(capture)\n"
        "for path in pathlib.Path(sys.argv[2]).iterdir(): decode(path)\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "noisy.avi", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
