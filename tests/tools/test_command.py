"""What the offline commands share."""

import argparse

import numpy as np
import pytest

from realtime_mer.errors import InputError
from tools.command import (
    command_parser,
    exit_status,
    make_folder,
    number_type,
    read_json,
    save_array,
    spread,
)


def stop():
    raise KeyboardInterrupt


def refuse():
    raise InputError("no such clip: give another")


@pytest.mark.parametrize(
    ("work", "status", "message"),
    [
        (lambda: None, 0, ""),
        (lambda: 1, 1, ""),
        (refuse, 2, "tool.py: no such clip: give another\n"),
        (stop, 130, "tool.py: stopped; the same command continues from here\n"),
    ],
)
def test_work_ends_with_a_status_and_a_message(work, status, message, capsys):
    assert exit_status("tool.py", work, resumable=True) == status
    assert capsys.readouterr().err == message


def test_other_errors_are_not_hidden():
    def fail():
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        exit_status("tool.py", fail)


def test_a_parser_has_the_name_of_its_file_and_keeps_the_lines(capsys):
    parser = command_parser("What it does.\n\n    an indented line", "/somewhere/tool.py")
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: tool.py ")
    assert "\n    an indented line\n" in shown


@pytest.mark.parametrize("content", [None, b"no JSON", b"[1, 2]", b"\xff\xfe"])
def test_a_file_without_a_json_object_is_refused_with_a_remedy(tmp_path, content):
    path = tmp_path / "card.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"card\.json .*: give another card"):
        read_json(path, "give another card")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="give another --out"):
        make_folder(tmp_path / "taken/out", "--out")
    make_folder(tmp_path / "a/b", "--out")
    make_folder(tmp_path / "a/b", "--out")
    assert (tmp_path / "a/b").is_dir()


def test_an_array_is_saved_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "array.npy"
    save_array(path, np.arange(3))

    def fail(file, array):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        save_array(path, np.arange(4))
    assert np.load(path).tolist() == [0, 1, 2]


@pytest.mark.parametrize("text", ["0", "-3", "nan", "inf", "many", "", "101"])
def test_numbers_out_of_bounds_are_refused(text):
    number = number_type(float, lambda value: 0 < value <= 100, "a number above 0")
    with pytest.raises(argparse.ArgumentTypeError, match="give a number above 0"):
        number(text)


def test_numbers_are_read_as_their_kind():
    assert number_type(float, lambda value: value > 0, "more")("2.5") == 2.5
    whole = number_type(int, lambda value: value >= 2, "2 or more")
    assert whole("2") == 2
    with pytest.raises(argparse.ArgumentTypeError, match=r"'2\.5': give 2 or more"):
        whole("2.5")


def test_spread_of_runs():
    assert spread([3.26, 1.04, 9.0], 1) == {"min": 1.0, "median": 3.3, "max": 9.0}
    assert str(spread([3.26, 1.04])["median"]) == "2"
