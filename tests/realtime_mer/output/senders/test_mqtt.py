"""MQTT, with a real broker: topics, Home Assistant, and a broker that is killed."""

import contextlib
import itertools
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jinja2
import pytest

from realtime_mer.output.senders import sender as sender_module
from realtime_mer.output.senders.addresses import PASSWORD_VARIABLE, MqttAddress
from realtime_mer.output.senders.sender import VALUES_KEPT, Senders
from realtime_mer.results import Analysis, Mark
from tests.realtime_mer.output.senders.conftest import (
    SUMMARY,
    as_live,
    moment,
    session,
    wait_until,
)
from tests.sessions import events_of

pytest.importorskip("paho.mqtt")
mqtt = pytest.importorskip("realtime_mer.output.senders.mqtt")

# Debian puts it where users do not look.
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
ROOT = Path(__file__).resolve().parents[4]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """Mosquitto on a loopback port; retained messages do not outlive it."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self._file = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", *settings]
        self._file.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._file)], stderr=subprocess.DEVNULL
        )
        wait_until(self._is_up)

    def _is_up(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def broker(tmp_path):
    started = []

    def start(*settings: str) -> Broker:
        started.append(Broker(tmp_path, *(settings or ("allow_anonymous true",))))
        return started[-1]

    yield start
    for it in started:
        it.kill()


def senders_to(port: int, notes: list[str], user: str = "") -> Senders:
    address = MqttAddress.parse(f"mqtt://{user}127.0.0.1:{port}/lab/mer")
    return Senders([mqtt.MqttLink(address)], notes.append)


@needs_broker
def test_a_session_as_its_subscribers_see_it(broker, lines, eventful):
    port = broker().port
    live = session()
    analyses = as_live(eventful, live.origin)
    subscriber = lines("subscriber.py", port, "#")
    subscriber.until(lambda line: "ready" in line)
    notes: list[str] = []
    senders = senders_to(port, notes)
    senders.begin(live)
    for analysis in analyses:
        senders.update(analysis)
        time.sleep(0.003)
    senders.update(Analysis(analyses[-1].frame, marks=(Mark(4.7, "window", "a door"),)))
    subscriber.until(lambda line: line.get("topic") == "lab/mer/marks")
    senders.end(SUMMARY)
    subscriber.until(lambda line: line.get("content") == "offline")

    by_topic: dict[str, list] = {}
    for line in subscriber.seen[1:]:
        by_topic.setdefault(line["topic"], []).append(line["content"])
    assert by_topic["lab/mer/availability"] == ["online", "offline"]
    assert by_topic["lab/mer/session"] == [live.to_dict()]
    told = by_topic["lab/mer/events"]
    assert [message["type"] for message in told] == ["new", "end"] * 2
    assert told[0]["id"] == told[1]["id"] != told[2]["id"] == told[3]["id"]
    expected = [event.to_dict() for event in events_of(analyses)]
    assert [message["event"] for message in told[::2]] == expected
    assert by_topic["lab/mer/marks"] == [Mark(4.7, "window", "a door").to_dict()]
    frames = by_topic["lab/mer/frames"]
    assert len(frames) + senders.counts()["MQTT"]["values_dropped"] == len(analyses)
    last = frames[-1]["faces"][0]
    assert set(last) == {
        *("face", "score", "limits_px", "readable", "quality", "pose_deg", "blink", "motion_px")
    }
    # A frame a second at most, whatever their rate.
    assert 1 <= len(by_topic["lab/mer/state"]) <= 4
    device = by_topic[next(topic for topic in by_topic if topic.startswith("homeassistant/"))][0]
    check_device(device, by_topic)
    assert notes == [f"MQTT messages to 127.0.0.1:{port} (not encrypted)"]


def check_device(device: dict, by_topic: dict[str, list]) -> None:
    """Home Assistant's rules, and its templates with what was really sent."""
    assert {"device", "origin", "components", "availability_topic"} <= set(device)
    assert device["device"]["identifiers"]
    assert device["origin"]["name"] == "realtime_mer"
    assert device["availability_topic"] in by_topic
    components = device["components"].values()
    assert len({c["unique_id"] for c in components}) == len(components)
    environment = jinja2.Environment()
    environment.filters["to_json"] = environment.filters["tojson"]
    shown = {}
    for component in components:
        assert component["platform"] in ("event", "sensor", "binary_sensor")
        template = environment.from_string(component["value_template"])
        newest = by_topic[component["state_topic"]]
        shown[component["name"]] = [template.render(value_json=content) for content in newest]
    new, end = shown["Micro-expression"][:2]
    assert '"event_type": "surprise"' in new
    assert end == ""
    assert shown["Faces"][-1] == "1"
    assert shown["Source away"][-1] == "OFF"
    assert {*shown["Upper face readable"]} <= {"ON", "OFF"}


@needs_broker
def test_a_broker_that_is_killed_gets_its_events_when_it_is_back(
    broker, lines, eventful, monkeypatch
):
    monkeypatch.setattr(sender_module, "_BACKOFF_S", (0.1, 0.2))
    monkeypatch.setattr(sender_module, "VALUES_KEPT", 5)
    may_connect = threading.Event()
    may_connect.set()
    open_link = mqtt.MqttLink.open
    monkeypatch.setattr(
        mqtt.MqttLink, "open", lambda *args: may_connect.wait(60) and open_link(*args)
    )
    it = broker()
    live = session()
    analyses = as_live(eventful, live.origin)
    event = next(a for a in analyses if a.events)
    notes: list[str] = []
    senders = senders_to(it.port, notes)
    senders.begin(live)
    senders.update(analyses[0])
    wait_until(lambda: senders.counts()["MQTT"]["values_sent"])
    it.kill()
    for analysis in [event, *analyses[-10:]]:
        slept_at = time.monotonic()
        senders.update(analysis)
        assert time.monotonic() - slept_at < 1.0
    wait_until(lambda: senders.update(analyses[-1]) or len(notes) > 1)
    assert "the receiver is away" in notes[1]
    # The subscriber comes first: the broker keeps no events.
    may_connect.clear()
    it.start()
    subscriber = lines("subscriber.py", it.port, "lab/mer/#")
    subscriber.until(lambda line: "ready" in line)
    may_connect.set()
    told = subscriber.until(lambda line: line.get("topic") == "lab/mer/events")
    assert told["content"]["event"] == event.events[0].to_dict()
    wait_until(lambda: senders.update(analyses[-1]) or "the receiver is back" in notes[-1])
    senders.end(SUMMARY)
    counts = senders.counts()["MQTT"]
    assert counts["values_dropped"] >= 5
    assert (counts["events_sent"], counts["events_dropped"]) == (1, 0)


@needs_broker
@pytest.mark.parametrize(("given", "works"), [("s3cret", True), ("wr0ng", False)])
def test_passwords_come_from_the_environment_and_are_never_shown(
    broker, tmp_path, monkeypatch, given, works
):
    passwords = tmp_path / "passwords"
    tool = shutil.which("mosquitto_passwd")
    subprocess.run([tool, "-b", "-c", passwords, "ann", "s3cret"], check=True)
    # The broker gives up root's rights, and could not read it.
    passwords.chmod(0o644)
    tmp_path.chmod(0o755)
    it = broker("allow_anonymous false", f"password_file {passwords}", "user root")
    monkeypatch.setenv(PASSWORD_VARIABLE, given)
    notes: list[str] = []
    senders = senders_to(it.port, notes, "ann@")
    senders.begin(session())
    counts = senders.counts
    numbers = itertools.count()
    wait_until(
        lambda: (
            senders.update(moment(next(numbers)))
            or len(notes) > 1
            or counts()["MQTT"]["values_sent"]
        )
    )
    senders.end(SUMMARY)
    assert any("refuses: Not authorized" in note for note in notes) != works
    assert bool(counts()["MQTT"]["values_sent"]) == works
    assert not any(given in note for note in notes)


def test_a_broker_that_takes_nothing_is_tried_again_and_costs_the_session_no_time(monkeypatch):
    monkeypatch.setattr(mqtt, "_ANSWER_S", 0.2)
    monkeypatch.setattr(sender_module, "_BACKOFF_S", (0.05, 0.05))
    server = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def greet() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted.append(server.accept()[0])
                accepted[-1].recv(1000)
                # "Connected", and not another word.
                accepted[-1].sendall(b"\x20\x02\x00\x00")

    threading.Thread(target=greet, daemon=True).start()
    notes: list[str] = []
    senders = senders_to(server.getsockname()[1], notes)
    senders.begin(session())
    wait_until(lambda: len(accepted) > 2)
    began_at = time.monotonic()
    for number in range(VALUES_KEPT + 100):
        senders.update(moment(number))
    assert time.monotonic() - began_at < 2
    began_at = time.monotonic()
    senders.end(SUMMARY)
    assert time.monotonic() - began_at < 2
    assert senders.counts()["MQTT"]["values_dropped"] == VALUES_KEPT + 100
    assert [note for note in notes if "away" in note] == [
        "MQTT: the receiver is away (it takes nothing). It is tried again; events wait for it, "
        "values are dropped and counted"
    ]
    server.close()
    for connection in accepted:
        connection.close()


@needs_broker
def test_a_program_that_is_killed_is_offline(broker, lines, camera_server):
    port = broker().port
    subscriber = lines("subscriber.py", port, "mer/availability")
    subscriber.until(lambda line: "ready" in line)
    server = camera_server(10_000)
    program = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "run.py"), server.url, "--headless"),
            *("--mqtt", f"mqtt://127.0.0.1:{port}/mer"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        subscriber.until(lambda line: line.get("content") == "online")
        program.send_signal(signal.SIGKILL)
        said = program.communicate()[1]
    finally:
        program.kill()
    assert subscriber.until(lambda line: "content" in line)["content"] == "offline"
    assert not re.search("Traceback", said)
