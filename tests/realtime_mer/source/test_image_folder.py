"""Folders of frames, as the capture reads them."""

import numpy as np
import pytest

from realtime_mer.errors import InputError
from realtime_mer.source.capture import Capture, State
from tests.realtime_mer.source.sources import level, picture, write_image


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
