"""The options, their values, and which of them go together."""

import argparse
import subprocess
import sys

import pytest

from realtime_mer.command.options import PROVIDERS, check_source_options, parse, parser
from realtime_mer.errors import InputError
from realtime_mer.recognition import classifier
from realtime_mer.source.camera import CAMERA_RATE, CAMERA_SIZE


def refused(arguments, capsys) -> str:
    """The one line on stderr about arguments that are wrong."""
    with pytest.raises(SystemExit) as leaving:
        parse(arguments, "run.py")
    assert leaving.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("run.py: ")
    assert err.count("\n") == 1
    assert err.endswith("(see run.py --help)\n")
    return err


def test_without_arguments_it_is_the_first_camera_in_a_window():
    options = parse([], "run.py")
    assert (options.sources, options.demo, options.headless) == ([], False, False)
    assert (options.faces, options.fps, options.providers) == (1, None, "auto")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--faces", "0"], ["--faces", "'0'", "1 to 16"]),
        (["--faces", "17"], ["--faces", "'17'", "1 to 16"]),
        (["--faces", "²"], ["--faces", "1 to 16"]),
        (["--faces", "two"], ["--faces", "'two'", "1 to 16"]),
        (["--fps", "0"], ["--fps", "'0'", "frames a second"]),
        (["--fps", "-3"], ["--fps", "'-3'", "frames a second"]),
        (["--fps", "nan"], ["--fps", "'nan'"]),
        (["--fps", "inf"], ["--fps", "'inf'"]),
        (["--sensitivity", "0"], ["--sensitivity", "'0'"]),
        (["--sensitivity", "nan"], ["--sensitivity", "'nan'"]),
        (["--camera-size", "1280"], ["--camera-size", "'1280'", "1280x720"]),
        (["--baseline", "4.9"], ["--baseline", "'4.9'", "5 to 300"]),
        (["--baseline", "nan"], ["--baseline", "'nan'"]),
        (["--camera-fps", "0"], ["--camera-fps", "'0'"]),
        (["--providers", "tpu"], ["--providers", "'tpu'", "cuda"]),
        (["--least-confidence", "1.1"], ["--least-confidence", "'1.1'", "0 to 1"]),
        (["--least-confidence", "nan"], ["--least-confidence", "'nan'", "0 to 1"]),
        (["--least-confidence", "much"], ["--least-confidence", "'much'", "0 to 1"]),
        (["--no-such-option"], ["--no-such-option"]),
        (["a.avi", "b.avi", "--fps", "25"], ["--fps", "one source", "leave it out"]),
        (["0", "--log", "x.jsonl", "1", "--fps", "25"], ["--fps"]),
        (["--log"], ["--log"]),
        (["clip.mp4", "--log-macros"], ["--log-macros", "add --log FILE.jsonl"]),
        (["clip.mp4", "--control"], ["--control", "add --serve PORT"]),
        (["--demo", "clip.mp4"], ["--demo", "'clip.mp4'", "leave out"]),
        (["--demo", "--fps", "25"], ["--demo", "leave out --fps"]),
        (["--demo", "--camera-size", "1280x720"], ["--demo", "leave out --camera-size"]),
        (["--demo", "--camera-fps", "30"], ["--demo", "leave out --camera-fps"]),
        (["--demo", "--no-reconnect"], ["--demo", "leave out --no-reconnect"]),
    ],
)
def test_wrong_options_are_named_in_one_line_with_a_remedy(arguments, words, capsys):
    message = refused(arguments, capsys)
    for word in words:
        assert word in message


def test_credentials_are_never_shown(capsys):
    address = "rtsp://admin:hunter2@10.0.0.2/live?token=s3cr3t"
    for arguments in (["--demo", address], ["--fps", address], ["--faces", address]):
        message = refused(arguments, capsys)
        assert "10.0.0.2" in message
        for secret in ("admin", "hunter2", "s3cr3t"):
            assert secret not in message


CAMERA, STREAM, RECORDING = (True, True), (True, False), (False, False)  # is it live, a camera


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ([], [CAMERA, STREAM, RECORDING]),
        (["--fps", "25"], [RECORDING]),
        (["--no-reconnect"], [CAMERA, STREAM]),
        (["--camera-size", "640x480"], [CAMERA]),
        (["--camera-fps", "30"], [CAMERA]),
        (["--headless", "--faces", "2", "--record-events", "x"], [CAMERA, STREAM, RECORDING]),
    ],
)
def test_options_for_another_kind_of_source_are_refused(arguments, kinds):
    options = parse(arguments, "run.py")
    for kind in (CAMERA, STREAM, RECORDING):
        is_live, is_camera = kind
        if kind in kinds:
            check_source_options(options, "the source", is_live=is_live, is_camera=is_camera)
        else:
            with pytest.raises(InputError, match=rf"^{arguments[0]} .*the source.*Leave it out"):
                check_source_options(options, "the source", is_live=is_live, is_camera=is_camera)


def test_names_and_defaults_agree_with_the_library():
    assert classifier.PROVIDERS == PROVIDERS
    text = " ".join(parser("run.py").format_help().split())
    width, height = CAMERA_SIZE
    assert f"picture size that a camera is asked for (default {width}x{height})" in text
    assert f"frame rate that a camera is asked for (default {CAMERA_RATE:g})" in text


def test_help_explains_every_option():
    for action in parser("run.py")._actions:
        assert isinstance(action, argparse.Action)
        assert action.help


def test_help_and_wrong_options_load_no_library():
    program = """
import sys
from realtime_mer.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
heavy = {"numpy", "cv2", "onnxruntime", "mediapipe", "rich", "aiohttp"} & set(sys.modules)
sys.exit(f"loaded: {heavy}" if heavy else 0)
"""
    for arguments in (["--help"], ["--version"], ["--faces", "0"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["0", "rtsp://admin:hunter2@10.0.0.2/live", "--fps", "25"],
        ["--faces", "rtsp://admin:hunter2@10.0.0.2/live"],
        ["--faces=rtsp:/admin:hunter2@10.0.0.2/live"],
        ["--providers", "http://10.0.0.2/user=admin_password=hunter2.sdp"],
        ["--fps", "http:\\\\admin:hunter2@10.0.0.2\\live"],
        ["--camera-size", "admin:hunter2@10.0.0.2"],
        ["--l=hunter2"],  # ambiguous
        ["--demo=hunter2"],  # takes no value
        ["--password=hunter2", "0"],
        ["-phunter2", "0"],
        # Without quotes, a password falls apart at its blanks.
        ["rtsp://admin:a", "hunter2", "hunter2@10.0.0.2/live"],
        ["0", "http://10.0.0.2/video?pw=a", "hunter2"],
        ["--demo", "rtsp://admin:a hunter2@10.0.0.2/live"],
        ["rtsp://admin:it's", "\x1b", "hunter2@10.0.0.2/live"],
    ],
)
def test_no_argument_shows_a_password(arguments, capsys):
    message = refused(arguments, capsys)
    assert "hunter2" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize("value", ["2 faces", "a@b#c?d;e=f.avi", "/x/u:p@h.avi"])
def test_other_arguments_are_named_as_they_were_written(value, capsys):
    assert f"'{value}'" in refused(["--faces", value], capsys)
    assert f"'{value}'" in refused(["--demo", value], capsys)


def test_several_sources_stand_anywhere_among_the_options():
    options = parse(["0", "--headless", "1", "--log", "x.jsonl", "rtsp://u:p@10.0.0.2/s"], "run.py")
    assert options.sources == ["0", "1", "rtsp://u:p@10.0.0.2/s"]
    assert (options.headless, options.log) == (True, "x.jsonl")
    assert parse(["--headless", "--", "-a.mp4", "b.mp4"], "run.py").sources == ["-a.mp4", "b.mp4"]


def test_a_name_beside_an_address_that_is_no_source_is_not_shown(capsys):
    message = refused(["rtsp://u:p@10.0.0.2/s", "typo.avi"], capsys)
    assert "*** is no source: check its name, put quotes around an address" in message
