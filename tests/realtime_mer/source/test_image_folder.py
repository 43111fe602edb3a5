"""Folders of frames, as the capture reads them."""

import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.source import limits
from realtime_mer.source.capture import Capture, State
from tests.realtime_mer.source.sources import level, picture, write_image


def test_folder_is_read_in_natural_order_at_its_rate(tmp_path):
    for k in (10, 9, 8, 7, 11):
        write_image(tmp_path / f"img{k}.png", picture(k))
    (tmp_path / "Thumbs.db").write_text("no picture")
    write_image(tmp_path / ".hidden.png", picture(200))
    with Capture(tmp_path, fps=200) as capture:
        assert (capture.frame_count, capture.fps, capture.live) == (5, 200, False)
        frames = list(capture)
    assert [level(f) for f in frames] == [7, 8, 9, 10, 11]
    assert [f.time_s for f in frames] == pytest.approx([k / 200 for k in range(5)])
    assert capture.notes == ()


def test_unknown_rate_of_a_folder_is_said(tmp_path):
    write_image(tmp_path / "1.png", picture(1))
    with Capture(tmp_path) as capture:
        (note,) = capture.notes
    assert "30 fps" in note
    assert "name it (fps)" in note


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


def test_missing_numbers_are_missing_time(tmp_path):
    for k in (1, 2, 9, 10, 11):
        write_image(tmp_path / f"006_1_{k:05d}.png", picture(k))
    with Capture(tmp_path, fps=100) as capture:
        times = [f.time_s for f in capture]
        assert capture.frame_count == 5
        note = capture.notes[0]
    assert times == pytest.approx([0, 0.01, 0.08, 0.09, 0.10])
    assert "6 of 11 numbers are missing" in note


@pytest.mark.parametrize(
    "names",
    [
        ["0", "33", "67", "100", "133"],  # times in milliseconds
        ["a1_1", "a1_2", "a2_1", "a2_2"],  # two counters
        ["cover", "img1", "img2", "img9"],  # not all are frames
        ["img0", "img10", "img20", "img30"],  # every tenth frame of something
        ["1", "700", "701", "44"],  # no steady numbers
        ["only7"],
    ],
)
def test_other_names_give_even_times(tmp_path, names):
    for name in names:
        write_image(tmp_path / f"{name}.png", picture(9))
    with Capture(tmp_path, fps=100) as capture:
        assert [f.time_s for f in capture] == pytest.approx([k / 100 for k in range(len(names))])
        assert not any("missing" in note for note in capture.notes)


@pytest.mark.parametrize(
    "names",
    [
        ["t_0.0", "t_0.033", "t_0.067", "t_0.1", "t_0.133", "t_1.0", "t_1.033", "t_10.0"],
        ["t_0.000", "t_0.033", "t_0.100", "t_1.000"],
        ["clip1.8", "clip1.9", "clip1.10", "clip2.1"],  # counters behind dots
        ["clip1.098", "clip1.099", "clip1.100", "clip1.1000"],
        ["img1", "img2", "img10"],
    ],
)
def test_numbers_in_names_sort_by_value(tmp_path, names):
    for k, name in enumerate(names):
        write_image(tmp_path / f"{name}.png", picture(10 + k))
    with Capture(tmp_path, fps=50) as capture:
        assert [level(f) for f in capture] == [10 + k for k in range(len(names))]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif", ".ppm"])
def test_picture_that_is_too_large_is_refused_before_it_is_decoded(tmp_path, monkeypatch, suffix):
    # In small: 80 wide against a limit of 79.
    write_image(tmp_path / f"x{suffix}", np.zeros((60, 80, 3), np.uint8))
    monkeypatch.setattr("cv2.imdecode", lambda *args: pytest.fail("decoded"))
    monkeypatch.setattr(limits, "MAX_SIDE", 79)
    with (
        pytest.raises(InputError, match=rf"x\{suffix} in .* has 80 x 60 pixels, more than"),
        Capture(tmp_path, fps=50),
    ):
        pass
