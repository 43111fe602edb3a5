"""Checks of output files."""

import os

import pytest

from realtime_mer.errors import InputError
from realtime_mer.output.writable import check_distinct, check_writable


def test_output_that_is_the_source_is_refused(tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.touch()
    os.symlink(clip, tmp_path / "link.mp4")
    for output in (clip, tmp_path / "link.mp4", tmp_path / "x" / ".." / "clip.mp4"):
        with pytest.raises(InputError, match="the source"):
            check_distinct(str(clip), [output])


def test_two_outputs_in_one_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="another output"):
        check_distinct(None, [tmp_path / "a", None, tmp_path / "a"])


def test_different_outputs_are_accepted(tmp_path):
    check_distinct("0", [tmp_path / "a", tmp_path / "b", None, os.devnull, os.devnull])


def test_path_is_returned(tmp_path):
    assert check_writable(str(tmp_path / "a")) == tmp_path / "a"
    assert check_writable(os.devnull)
