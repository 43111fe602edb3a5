"""The receivers in docs/live.md, run as they stand there."""

import itertools
import re
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from realtime_mer.output.senders.addresses import MqttAddress, OscAddress
from realtime_mer.output.senders.sender import Senders
from realtime_mer.output.senders.values import CHANNELS, MOTIONS
from tests.realtime_mer.output.senders.conftest import SUMMARY, moment, session, wait_until
from tests.realtime_mer.output.senders.servers import MOSQUITTO, Broker, free_port
from tests.sessions import events_of

TEXT = (Path(__file__).resolve().parents[4] / "docs/live.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_every_channel_is_named_in_the_table():
    words = " ".join(TEXT.split())
    for channel in CHANNELS:
        name = channel.name
        if name.removesuffix(" x").removesuffix(" y") not in MOTIONS:
            assert f"`{name}`" in words
    assert f"{len(CHANNELS)} numbers a frame" in words


@pytest.fixture(scope="module")
def said(eventful, tmp_path_factory):
    """The first line that each receiver prints; all of them run at the same time."""
    scripts: dict[str, str] = {}
    links = []
    broker = None
    if find_spec("pylsl"):
        from realtime_mer.output.senders.lsl import LslLink

        links.append(LslLink())
        scripts["pylsl"] = script_with("pylsl")
    if find_spec("pythonosc"):
        from realtime_mer.output.senders.osc import OscLink

        address = OscAddress.parse(str(free_port()))
        links.append(OscLink(address.host, address.port))
        scripts["pythonosc"] = script_with("pythonosc").replace("9000", str(address.port))
    if find_spec("paho") and MOSQUITTO is not None:
        from realtime_mer.output.senders.mqtt import MqttLink

        broker = Broker(tmp_path_factory.mktemp("broker"))
        links.append(MqttLink(MqttAddress.parse(f"mqtt://127.0.0.1:{broker.port}")))
        scripts["paho"] = script_with("paho").replace("1883", str(broker.port))
    senders = Senders(links)
    senders.begin(session())
    receivers: dict[str, subprocess.Popen] = {}
    lines: dict[str, str] = {}

    def read(module: str) -> None:
        lines[module] = receivers[module].stdout.readline()

    for module, script in scripts.items():
        receivers[module] = subprocess.Popen(
            [sys.executable, "-uc", script], stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=read, args=[module], daemon=True).start()
    numbers = itertools.count()
    (event, *_) = events_of(eventful)
    try:
        # Again and again: nobody keeps it for those who come later.
        wait_until(
            lambda: senders.update(moment(next(numbers), events=(event,))) or {*lines} == {*scripts}
        )
    finally:
        for receiver in receivers.values():
            receiver.kill()
            receiver.wait()
        senders.end(SUMMARY)
        if broker is not None:
            broker.kill()
    return event.label, lines


def script_with(module: str) -> str:
    (script,) = (block for block in BLOCKS if module in block)
    return script


@pytest.mark.parametrize("module", ["pylsl", "pythonosc", "paho"])
def test_the_receiver_in_the_documentation_prints_an_event(module, said):
    label, lines = said
    if module not in lines:
        pytest.skip("something that it needs is not installed")
    assert label in lines[module]
