"""OSC, with python-osc's own server."""

import dataclasses
import math
import socket
import time
from unittest.mock import ANY

import pytest

from realtime_mer.output.senders.sender import Senders
from realtime_mer.results import Mark
from tests.realtime_mer.output.senders.conftest import (
    SUMMARY,
    as_live,
    moment,
    session,
    wait_until,
)
from tests.realtime_mer.output.senders.servers import OscReceiver
from tests.sessions import events_of

pytest.importorskip("pythonosc")
osc = pytest.importorskip("realtime_mer.output.senders.osc")

# What fits into a frame of Ethernet beside the headers of IP and UDP: larger ones are split.
DATAGRAM_BYTES = 1472


@pytest.fixture
def receiver():
    started = OscReceiver()
    yield started
    started.stop()


def test_a_session_as_its_receiver_hears_it(receiver, eventful):
    live = session(start_s=time.monotonic() - 5)
    # To a moment after the first event.
    analyses = as_live(eventful[:90], live.origin)
    senders = Senders([osc.OscLink("127.0.0.1", receiver.port)])
    senders.begin(live)
    for analysis in analyses:
        senders.update(analysis)
        time.sleep(0.005)
    senders.update(moment(len(analyses), marks=(Mark(4.7, "window", "a door"),)))
    senders.end(SUMMARY)
    sent = senders.counts()["OSC"]["values_sent"]
    # The mark comes before the frames that wait.
    wait_until(lambda: receiver.of("/mer/mark") and len(receiver.of("/mer/frame")) == sent)

    found = events_of(analyses)
    assert found
    assert len(receiver.of("/mer/event")) == len(found)
    for heard, event in zip(receiver.of("/mer/event"), found, strict=True):
        label, confidence, intensity, age_ms, face = heard
        assert (label, face) == (event.label, 0)
        assert confidence == pytest.approx(event.confidence, abs=1e-5)
        assert intensity == pytest.approx(event.intensity_px, abs=1e-4)
        # When it came here, its onset was so long ago.
        assert age_ms == pytest.approx(1000 * (5 - event.interval.onset_s), abs=4000)
    ((text, _),) = receiver.of("/mer/mark")
    assert text == "a door"
    scores = [a.faces[0].score for a in analyses if math.isfinite(a.faces[0].score)]
    heard = [score for (score,) in receiver.of("/mer/face/0/score")]
    if sent == len(analyses) + 1:
        assert heard == pytest.approx(scores, abs=1e-5)
    assert all(len(xy) == 2 for xy in receiver.of("/mer/face/0/motion/lip_corner_left"))
    assert len(receiver.of("/mer/face/0/limits")[-1]) == 3
    assert len(receiver.of("/mer/face/0/pose")[-1]) == 3
    assert all(is_now for is_now, _ in receiver.bundles)
    assert max(size for _, size in receiver.bundles) <= DATAGRAM_BYTES


def test_nobody_need_listen_and_a_receiver_may_come_later():
    gone = OscReceiver()
    gone.stop()
    notes: list[str] = []
    senders = Senders([osc.OscLink("127.0.0.1", gone.port)], notes.append)
    senders.begin(session(live=False))
    for number in range(5):
        senders.update(moment(number))
    wait_until(lambda: senders.counts()["OSC"]["values_sent"] == 5)
    back = OscReceiver(gone.port)
    senders.update(moment(5))
    wait_until(lambda: back.told)
    senders.end(SUMMARY)
    back.stop()
    assert back.of("/mer/frame") == [(5, pytest.approx(5 / 30), ANY)]
    assert notes == [f"OSC messages to 127.0.0.1:{gone.port}"]
    assert senders.counts()["OSC"]["values_dropped"] == 0


def test_each_of_several_cameras_has_its_addresses(receiver, eventful):
    first, second = session(False, "a.avi"), session(False, "b.avi")
    both = dataclasses.replace(first, source="a.avi, b.avi", sources=(first, second))
    event = dataclasses.replace(events_of(eventful)[0], source="b.avi")
    senders = Senders([osc.OscLink("127.0.0.1", receiver.port)])
    senders.begin(both)
    senders.update(moment(1, camera=1, source="b.avi", events=(event,)))
    senders.end(SUMMARY)
    wait_until(lambda: receiver.of("/mer/camera/1/faces"))
    ((_, _, _, age_ms, _),) = receiver.of("/mer/camera/1/event")
    # Of a recording, the time until it was reported.
    assert age_ms == pytest.approx(1000 * (event.reported_s - event.interval.onset_s), abs=0.1)


def test_a_name_is_looked_up_once_and_its_ipv4_address_is_taken(receiver, monkeypatch):
    lookups = []

    def look_up(host, port, *_, **__) -> list[tuple]:
        lookups.append(host)
        udp = (socket.SOCK_DGRAM, 17, "")
        return [
            (socket.AF_INET6, *udp, ("::1", port, 0, 0)),
            (socket.AF_INET, *udp, ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    senders = Senders([osc.OscLink("studio.test", receiver.port)])
    senders.begin(session())
    for number in range(3):
        senders.update(moment(number))
    senders.end(SUMMARY)
    wait_until(lambda: len(receiver.of("/mer/frame")) == 3)
    assert lookups == ["studio.test"]


def test_a_host_that_does_not_exist_is_told_and_the_session_goes_on():
    notes: list[str] = []
    senders = Senders([osc.OscLink("no-such-host.invalid", 9000)], notes.append)
    senders.begin(session())
    wait_until(lambda: senders.update(moment(marks=(Mark(0.0),))) or len(notes) > 1)
    senders.end(SUMMARY)
    assert "the receiver is away" in notes[1]
