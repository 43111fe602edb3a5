"""Checks of output files."""

import os
import stat

import pytest

from realtime_mer.errors import InputError
from realtime_mer.output.writable import check_distinct, check_writable, replace_file


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


def test_hard_link_to_the_source_is_refused(tmp_path):
    (tmp_path / "clip.mp4").touch()
    os.link(tmp_path / "clip.mp4", tmp_path / "link.mp4")
    with pytest.raises(InputError, match="the source"):
        check_distinct(str(tmp_path / "clip.mp4"), [tmp_path / "link.mp4"])


def test_file_is_replaced_whole_and_keeps_its_links_and_permissions(tmp_path):
    path, link = tmp_path / "stats.json", tmp_path / "link.json"
    replace_file(path, b"first")
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode
    path.chmod(0o600)
    os.symlink(path, link)
    with path.open("rb") as reader:
        replace_file(link, b"second")
        assert reader.read() == b"first"
    assert link.is_symlink()
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_stays_as_it_was_if_the_disk_is_full(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "stats.json"
    path.write_bytes(b"first")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            replace_file(path, b"second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["stats.json"]


def test_device_is_written_to():
    replace_file(os.devnull, b"nothing")
    assert not os.path.isfile(os.devnull)


def test_path_is_returned(tmp_path):
    assert check_writable(str(tmp_path / "a")) == tmp_path / "a"
    assert check_writable(os.devnull)
