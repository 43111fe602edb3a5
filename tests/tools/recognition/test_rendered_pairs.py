from pathlib import Path

import numpy as np
import pytest

from models.data import Clips, read_release
from tests.tiny_release import write_release
from tools.recognition.rendered_pairs import KINDS, rendered_pairs, wrong_window


def test_a_wrong_window_keeps_its_order_and_length():
    assert wrong_window("apex", 0) == wrong_window("window", 0) == (0, 10, 20)
    assert wrong_window("apex", 6) == (0, 16, 20)
    assert wrong_window("window", -4) == (-4, 6, 16)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Clips:
    """One clip, of class 0."""
    return read_release(write_release(tmp_path_factory.mktemp("release"), subjects=1, clips=1))


@pytest.fixture(scope="module")
def kept(clip, tmp_path_factory) -> Path:
    """The file that keeps its motion after the real tracker and flow."""
    path, steps = tmp_path_factory.mktemp("kept") / "kept.npy", []
    first = rendered_pairs(clip, path, lambda: steps.append(1))
    assert (np.load(path) == first).all()
    assert len(steps) == 1
    return path


@pytest.fixture(scope="module")
def pairs(kept) -> np.ndarray:
    """The motion with errors of -6, 0 and 6 tenths."""
    return np.load(kept)[0][:, ::6]


def test_the_chain_sees_the_motion_where_it_was_put(pairs):
    """The made-up motion of class 0 goes down, around row 7 and column 9."""
    assert pairs.shape == (len(KINDS), 3, 2, 28, 28, 3)
    v = pairs[0, 1, 0, ..., 1].astype(float)
    assert v[5:9, 7:11].mean() > v[4:24, 4:24].mean() + 50
    # It comes back between apex and offset.
    back = pairs[0, 1, 1, ..., 1].astype(float)
    assert back[5:9, 7:11].mean() < back[4:24, 4:24].mean() - 50


def test_without_an_error_both_kinds_are_the_same_window(pairs):
    assert (pairs[0, 1] == pairs[1, 1]).all()
    assert (pairs[0, 0] != pairs[0, 1]).any()


def test_rendered_pairs_are_kept_for_a_later_call(clip, kept, monkeypatch):
    monkeypatch.setattr("tools.recognition.rendered_pairs.Renderer", None)
    again = rendered_pairs(clip, kept)
    assert again.shape == (1, len(KINDS), 13, 2, 28, 28, 3)
    assert (again == np.load(kept)).all()
