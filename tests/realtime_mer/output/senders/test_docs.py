"""The receivers in docs/live.md, run as they stand there."""

import itertools
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from realtime_mer.output.senders.addresses import MqttAddress, OscAddress
from realtime_mer.output.senders.sender import Senders
from realtime_mer.output.senders.values import CHANNELS, MOTIONS
from tests.realtime_mer.output.senders.conftest import PATIENCE_S, SUMMARY, moment, session
from tests.realtime_mer.output.senders.test_mqtt import Broker, free_port
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


@pytest.mark.parametrize(
    ("way", "module"), [("LSL", "pylsl"), ("OSC", "pythonosc"), ("MQTT", "paho")]
)
def test_the_receiver_in_the_documentation_prints_an_event(way, module, eventful, tmp_path):
    pytest.importorskip(module)
    (script,) = (block for block in BLOCKS if module in block)
    broker = None
    if way == "LSL":
        from realtime_mer.output.senders.lsl import LslLink

        link = LslLink()
    elif way == "OSC":
        from realtime_mer.output.senders.osc import OscLink

        address = OscAddress.parse(str(free_port()))
        script = script.replace("9000", str(address.port))
        link = OscLink(address.host, address.port)
    else:
        from realtime_mer.output.senders.mqtt import MqttLink

        if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
            pytest.skip("mosquitto is not installed")
        broker = Broker(tmp_path, "allow_anonymous true")
        script = script.replace("1883", str(broker.port))
        link = MqttLink(MqttAddress.parse(f"mqtt://127.0.0.1:{broker.port}"))
    senders = Senders([link])
    senders.begin(session())
    receiver = subprocess.Popen([sys.executable, "-uc", script], stdout=subprocess.PIPE, text=True)
    said: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: said.put(receiver.stdout.readline()), daemon=True).start()
    try:
        deadline = time.monotonic() + PATIENCE_S
        (event, *_) = events_of(eventful)
        for number in itertools.count():
            # Again and again: nobody keeps it for those who come later.
            senders.update(moment(number, events=(event,)))
            if not said.empty():
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        receiver.kill()
        receiver.wait()
        senders.end(SUMMARY)
        if broker is not None:
            broker.kill()
    assert event.label in said.get()
