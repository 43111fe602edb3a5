"""The options for other programs: what they make, and how they refuse."""

import json
import shutil
import tomllib

import pytest

from realtime_mer.cli import main
from realtime_mer.command import options as options_module
from realtime_mer.command.options import parse
from realtime_mer.command.senders import links_of
from realtime_mer.output.senders import sender as sender_module
from tests.realtime_mer.output.senders.servers import Broker, OscReceiver, Subscriber, needs_broker
from tests.test_structure import ROOT, imports_of

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
    output = ROOT / "realtime_mer/output"
    imported = {name.split(".")[0] for file in output.rglob("*.py") for name in imports_of(file)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for module, extra in options_module._EXTRAS.values():
        assert module in imported
        assert extra in project["optional-dependencies"]


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


@needs_broker
def test_other_programs_can_tell_several_sources_apart(faceless, tmp_path, monkeypatch, capsys):
    for package in ("pythonosc", "paho", "pylsl"):
        pytest.importorskip(package)
    # A busy machine takes its time.
    monkeypatch.setattr(sender_module, "_END_S", 30.0)
    other, stats = shutil.copy(faceless, tmp_path / "other.avi"), tmp_path / "stats.json"
    broker, receiver = Broker(tmp_path), OscReceiver()
    subscriber = Subscriber(broker.port, "lab/#")
    try:
        mqtt = ("--mqtt", f"mqtt://127.0.0.1:{broker.port}/lab")
        ways = ("--osc", str(receiver.port), *mqtt, "--lsl")
        assert main(["--headless", "--stats", str(stats), *ways, str(faceless), str(other)]) == 0
        subscriber.until(lambda line: line["content"] == "offline")
    finally:
        subscriber.end()
        broker.kill()
        receiver.stop()
    for number, name in enumerate([str(faceless), str(other)]):
        told = [line for line in subscriber.seen if f"/camera/{number}/" in line["topic"]]
        assert {line["topic"] for line in told} == {
            *(f"lab/camera/{number}/state", f"lab/camera/{number}/frames")
        }
        assert {line["content"]["source"] for line in told} == {name}
        frames = [line["content"]["frame"] for line in told if line["topic"].endswith("frames")]
        assert frames == list(range(30))
        # The kernel may drop some on a busy machine.
        assert 25 < len(receiver.of(f"/mer/camera/{number}/frame")) <= 30
    for counts in json.loads(stats.read_text())["senders"].values():
        assert counts["values_sent"] == 60
    assert "LSL streams for all programs on this computer" in capsys.readouterr().out
