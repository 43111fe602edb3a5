"""tools/scaling.py: the pictures of its cases, and a measurement of one."""

import numpy as np
import pytest

from tools.scaling import Case, cases, measure, pictures, plot, rows_of


@pytest.fixture(scope="module")
def clip() -> list[np.ndarray]:
    return [np.full((480, 640, 3), k, np.uint8) for k in range(0, 60, 2)]


@pytest.mark.parametrize(
    ("case", "count", "size"),
    [
        (Case("rate", rate=15), 15, (640, 480)),
        (Case("rate", rate=120), 120, (640, 480)),
        (Case("size", size=(1920, 1080)), 30, (1920, 1080)),
        (Case("faces", faces=8, size=(1280, 720)), 30, (1280, 720)),
    ],
    ids=["slow", "fast", "large", "faces"],
)
def test_pictures_have_the_rate_and_the_size_of_their_case(clip, case, count, size):
    shown = list(pictures(clip, case, 1.0))
    assert len(shown) == count
    assert {picture.shape for picture in shown} == {(size[1], size[0], 3)}


def test_frames_are_blended_between_those_of_the_clip(clip):
    shown = list(pictures(clip, Case("rate", rate=60), 0.2))
    assert [picture[0, 0, 0] for picture in shown[:4]] == [0, 1, 2, 3]


def test_each_core_is_measured_once():
    assert [case.cores for case in cases(3) if case.group == "cores"] == [1, 2, 3]


def test_a_case_is_measured_in_a_process_of_its_own_and_drawn(tmp_path):
    rows = measure(2.0, 1, [Case("faces", faces=1, size=(1280, 720))])
    assert rows[0]["faces_seen"]["median"] == 1.0
    assert rows[0]["chain_ms"]["median"] > 0
    assert [name for name, _ in rows_of(rows)] == ["faces 1"]
    plot(rows, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 1000
