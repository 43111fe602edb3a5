"""The options for other programs: what they make, and how they refuse."""

import importlib.util

import pytest

from realtime_mer.command import options as options_module
from realtime_mer.command.options import parse
from realtime_mer.command.senders import links_of

WAYS = {"--lsl": [], "--lsl-network": [], "--osc": ["9000"], "--mqtt": ["mqtt://broker"]}


def refused(arguments, capsys) -> str:
    with pytest.raises(SystemExit) as leaving:
        parse(arguments, "run.py")
    assert leaving.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_nothing_is_sent_unless_it_is_asked_for():
    assert links_of(parse([], "run.py")) == []


@pytest.mark.parametrize(
    ("option", "package"), [("--osc", "pythonosc"), ("--mqtt", "paho"), ("--lsl", "pylsl")]
)
def test_an_option_makes_its_link(option, package):
    pytest.importorskip(package)
    (link,) = links_of(parse([option, *WAYS[option]], "run.py"))
    assert link.name == option[2:].upper()


@pytest.mark.parametrize("option", [*WAYS, "--virtual-camera"])
def test_a_package_that_is_missing_is_named_with_its_extra(option, monkeypatch, capsys):
    monkeypatch.setattr(options_module, "find_spec", lambda name: None)
    message = refused([option, *WAYS.get(option, [])], capsys)
    extra = option[2:].removesuffix("-network")
    assert f"{option} needs a package: pip install 'realtime-mer[{extra}]'" in message


def test_the_packages_are_named_as_they_are_imported():
    for module, extra in options_module._EXTRAS.values():
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{extra} is not installed")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mqtt", "mqtt://ann:hunter2@broker:x"],
        ["--mqtt", "mqtt://ann:hunter2@broker/a+b"],
        ["--mqtt=mqtt:/ann:hunter2@broker"],
        ["--mqtt", "ann:hunter2@broker"],
        ["--osc", "osc://ann:hunter2@host:1"],
        ["--mqtt", "mqtt://ann:hunter2@broker", "--faces", "0"],
    ],
)
def test_no_message_shows_a_password(arguments, capsys):
    message = refused(arguments, capsys)
    assert "hunter2" not in message
    assert f"argument {arguments[-2 if len(arguments) > 1 else 0].partition('=')[0]}: " in message
