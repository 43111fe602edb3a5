"""MQTT, with a real broker: topics, Home Assistant, and a broker that is killed."""

import contextlib
import itertools
import os
import shutil
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
from tests.realtime_mer.output.senders.servers import Broker, Subscriber, needs_broker
from tests.sessions import events_of

pytest.importorskip("paho.mqtt")
mqtt = pytest.importorskip("realtime_mer.output.senders.mqtt")


@pytest.fixture
def broker(tmp_path):
    started = []

    def start(*settings: str) -> Broker:
        started.append(Broker(tmp_path, *settings))
        return started[-1]

    yield start
    for it in started:
        it.kill()


@pytest.fixture
def subscriber_of():
    started = []

    def start(port: int, topic: str) -> Subscriber:
        started.append(Subscriber(port, topic))
        return started[-1]

    yield start
    for it in started:
        it.end()


def senders_to(port: int, notes: list[str], user: str = "") -> Senders:
    address = MqttAddress.parse(f"mqtt://{user}127.0.0.1:{port}/lab/mer")
    return Senders([mqtt.MqttLink(address)], notes.append)


@needs_broker
def test_a_session_as_its_subscribers_see_it(broker, subscriber_of, eventful):
    port = broker().port
    live = session()
    analyses = as_live(eventful, live.origin)
    subscriber = subscriber_of(port, "#")
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
    for line in subscriber.seen:
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
    broker, subscriber_of, eventful, monkeypatch
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
    subscriber = subscriber_of(it.port, "lab/mer/#")
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


ROOT = Path(__file__).resolve().parents[4]
PROGRAM = """
import sys, time
from realtime_mer.output.senders.addresses import MqttAddress
from realtime_mer.output.senders.mqtt import MqttLink
from realtime_mer.output.senders.sender import Senders
from tests.realtime_mer.output.senders.conftest import session

Senders([MqttLink(MqttAddress.parse(sys.argv[1]))]).begin(session())
time.sleep(600)
"""


@needs_broker
def test_a_program_that_is_killed_is_offline(broker, subscriber_of):
    port = broker().port
    subscriber = subscriber_of(port, "mer/availability")
    # It finds the helpers wherever the tests were started.
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, f"mqtt://127.0.0.1:{port}/mer"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        subscriber.until(lambda line: line.get("content") == "online")
    finally:
        program.kill()
        program.wait()
    assert subscriber.until(lambda line: True)["content"] == "offline"


class Cable:
    """Passes bytes on between clients and a broker.

    Attributes:
        cuts: One for each connection: once it is set, nothing comes through, and neither is told.
        has_noticed: Whether the broker has ended a connection that was cut.
    """

    def __init__(self, port: int) -> None:
        self._broker = ("127.0.0.1", port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.cuts: list[threading.Event] = []
        self.has_noticed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ends = self._server.accept()[0], socket.create_connection(self._broker)
                self.cuts.append(threading.Event())
                for source, target in (ends, ends[::-1]):
                    it = (source, target, self.cuts[-1], target is ends[0])
                    threading.Thread(target=self._pass_on, args=it, daemon=True).start()

    def _pass_on(self, source, target, cut: threading.Event, is_from_broker: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if not cut.is_set():
                    target.sendall(data)
        if not cut.is_set():
            target.close()
        elif is_from_broker:
            self.has_noticed.set()

    def close(self) -> None:
        self._server.close()


@needs_broker
def test_a_connection_whose_loss_the_broker_notices_late_does_not_say_offline_for_ever(
    broker, subscriber_of, monkeypatch
):
    monkeypatch.setattr(mqtt, "_ANSWER_S", 1.0)
    monkeypatch.setattr(mqtt, "_KEEPALIVE_S", 2)
    monkeypatch.setattr(sender_module, "_BACKOFF_S", (0.05, 0.05))
    it = broker()
    cable = Cable(it.port)
    notes: list[str] = []
    senders = senders_to(cable.port, notes)
    senders.begin(session())
    senders.update(moment(marks=(Mark(0.0, text="before"),)))
    wait_until(lambda: senders.counts()["MQTT"]["events_sent"] == 1)
    cable.cuts[0].set()
    senders.update(moment(1, marks=(Mark(0.1, text="after"),)))
    wait_until(lambda: senders.counts()["MQTT"]["events_sent"] == 2)
    wait_until(cable.has_noticed.is_set)
    subscriber = subscriber_of(it.port, "lab/mer/availability")
    subscriber.until(lambda line: line.get("content") == "online")
    senders.end(SUMMARY)
    cable.close()


@needs_broker
def test_a_certificate_must_be_trusted(broker, tmp_path, monkeypatch):
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    whose = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *new, *whose, *files], check=True, capture_output=True)
    tls = (f"keyfile {key}", f"certfile {certificate}", "allow_anonymous true", "user root")
    port = broker(*tls).port

    def notes_of_a_session(host: str = "127.0.0.1") -> list[str]:
        notes: list[str] = []
        link = mqtt.MqttLink(MqttAddress.parse(f"mqtts://{host}:{port}/lab"))
        senders = Senders([link], notes.append)
        senders.begin(session())
        senders.update(moment(marks=(Mark(0.0),)))
        wait_until(
            lambda: (
                senders.update(moment())
                or len(notes) > 1
                or senders.counts()["MQTT"]["events_sent"]
            )
        )
        senders.end(SUMMARY)
        return notes

    greeting, refusal, *_ = notes_of_a_session()
    assert greeting == f"MQTT messages to 127.0.0.1:{port}"
    assert "its certificate is not trusted: self-signed certificate" in refusal
    assert "SSL_CERT_FILE" in refusal
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert notes_of_a_session() == [greeting]
    _, refusal, *_ = notes_of_a_session("localhost")
    assert "certificate is not valid for 'localhost'" in refusal
    assert "SSL_CERT_FILE" not in refusal


def test_two_prefixes_are_two_devices():
    prefixes = ["lab/1", "lab_1", "lab/ä", "lab/ö"]
    addresses = [MqttAddress.parse(f"mqtt://broker/{prefix}") for prefix in prefixes]
    devices = [mqtt.MqttLink(address)._device(session()) for address in addresses]
    identities = [device["device"]["identifiers"][0] for device in devices]
    assert len({*identities}) == 4
    # Home Assistant takes no others in a topic.
    assert all(i.isascii() and i.replace("-", "").replace("_", "").isalnum() for i in identities)


def test_the_address_in_the_greeting_can_be_copied():
    link = mqtt.MqttLink(MqttAddress.parse("mqtt://[::1]:1884/lab"))
    assert link.greeting(session()) == "MQTT messages to [::1]:1884 (not encrypted)"
