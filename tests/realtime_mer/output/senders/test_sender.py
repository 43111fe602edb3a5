"""What a receiver does, or fails to do, changes nothing in the session."""

import threading
import time

import pytest

from realtime_mer.output.senders import sender as sender_module
from realtime_mer.output.senders.sender import FINDINGS_KEPT, VALUES_KEPT, Senders
from realtime_mer.output.senders.values import CHANNELS, FaceValues, FrameValues
from realtime_mer.results import FaceState, Mark, MicroExpression
from tests.realtime_mer.output.senders.conftest import SUMMARY, moment, session, wait_until
from tests.sessions import events_of


class Told:
    """A link that writes down what it is sent, and fails or waits where it is told to."""

    def __init__(self, name: str = "told", fails: int = 0, stuck: bool = False) -> None:
        self.name, self.sent, self.closed = name, [], []
        self.fails, self.opened = fails, 0
        self.may_send = threading.Event()
        if not stuck:
            self.may_send.set()

    def greeting(self, session) -> str:
        return f"{self.name} is told"

    def open(self, session) -> None:
        self.opened += 1
        if self.opened <= self.fails:
            raise ConnectionRefusedError(111, "Connection refused")

    def send(self, message) -> None:
        assert self.may_send.wait(60)
        self.sent.append(message)

    def close(self, *, in_order: bool) -> None:
        self.closed.append(in_order)


@pytest.fixture
def told_to():
    """Senders to links; none is left waiting."""
    links = []

    def start(*its, **options) -> Senders:
        links.extend(its)
        return Senders(its, **options)

    yield start
    for link in links:
        link.may_send.set()


def test_everything_arrives_in_order_and_the_link_is_closed(told_to, eventful):
    link = Told()
    senders = told_to(link)
    senders.begin(session())
    for analysis in eventful:
        senders.update(analysis)
        time.sleep(0.001)
    senders.end(SUMMARY)
    events = [m for m in link.sent if isinstance(m, MicroExpression)]
    assert events == events_of(eventful)
    # Pictures of faces are not sent, and none is kept by a queue.
    assert all(event.picture is None for event in events)
    values = [m for m in link.sent if isinstance(m, FrameValues)]
    dropped = senders.counts()["told"]["values_dropped"]
    assert len(values) + dropped == len(eventful)
    assert [v.frame for v in values] == sorted({v.frame for v in values})
    assert link.closed == [True]


def test_a_receiver_that_is_stuck_loses_old_values_but_no_event(told_to):
    link, other = Told(stuck=True), Told("other")
    notes: list[str] = []
    senders = told_to(link, other, note=notes.append)
    senders.begin(session())
    senders.update(moment(0, marks=(Mark(0.0, text="first"),)))
    began_at = time.monotonic()
    for number in range(1, VALUES_KEPT + 41):
        senders.update(moment(number))
        time.sleep(0.001)
    senders.update(moment(500, marks=(Mark(1.0, text="last"),)))
    assert time.monotonic() - began_at < 5
    assert senders.counts()["told"]["values_dropped"] == 42
    wait_until(lambda: len(other.sent) == VALUES_KEPT + 44)
    link.may_send.set()
    senders.end(SUMMARY)
    marks = [m.text for m in link.sent if isinstance(m, Mark)]
    frames = [m.frame for m in link.sent if isinstance(m, FrameValues)]
    assert marks == ["first", "last"]
    # Events come before the values that wait.
    assert isinstance(link.sent[1], Mark)
    assert frames == [*range(42, VALUES_KEPT + 41), 500]
    assert senders.stats()["senders"]["told"] == {
        "values_sent": VALUES_KEPT,
        "events_sent": 2,
        "values_dropped": 42,
        "events_dropped": 0,
    }
    assert notes[-1] == "told: 42 values not sent: the receiver did not take them"
    assert senders.counts()["other"]["values_dropped"] == 0


def test_the_end_does_not_wait_for_a_receiver_that_is_stuck(told_to, monkeypatch):
    monkeypatch.setattr(sender_module, "_END_S", 0.2)
    link = Told(stuck=True)
    senders = told_to(link)
    senders.begin(session())
    for number in range(3):
        senders.update(moment(number, marks=(Mark(0.0),)))
    began_at = time.monotonic()
    senders.end(SUMMARY)
    # And what a busy machine adds.
    assert time.monotonic() - began_at < 4
    # The mark that is being sent is not known to have arrived.
    counts = senders.counts()["told"]
    assert (counts["events_dropped"], counts["values_dropped"]) == (3, 3)
    # What happens now comes too late for the figures.
    link.may_send.set()
    wait_until(lambda: link.closed)
    assert senders.counts()["told"] == counts


def test_a_receiver_that_is_away_is_tried_again_and_told_of_once(told_to, monkeypatch):
    monkeypatch.setattr(sender_module, "_BACKOFF_S", (0.01, 0.02))
    link = Told(fails=4)
    notes: list[str] = []
    senders = told_to(link, note=notes.append)
    senders.begin(session())
    senders.update(moment(marks=(Mark(0.0),)))
    wait_until(lambda: link.sent)
    senders.end(SUMMARY)
    assert link.closed == [False] * 4 + [True]
    assert notes == [
        "told is told",
        "told: the receiver is away (Connection refused). It is tried again; events wait for it, "
        "values are dropped and counted",
        "told: the receiver is back",
    ]
    assert senders.counts()["told"]["events_sent"] == 1


def test_an_event_whose_sending_failed_is_sent_again(told_to, monkeypatch):
    monkeypatch.setattr(sender_module, "_BACKOFF_S", (0.01, 0.02))
    link = Told()
    broken = iter([OSError("reset")])
    send = link.send

    def fail_once(message) -> None:
        if isinstance(message, Mark) and (error := next(broken, None)):
            raise error
        send(message)

    monkeypatch.setattr(link, "send", fail_once)
    senders = told_to(link)
    senders.begin(session())
    senders.update(moment(marks=(Mark(0.0, text="a"), Mark(0.1, text="b"))))
    wait_until(lambda: len(link.sent) == 3)
    senders.end(SUMMARY)
    assert [m.text for m in link.sent if isinstance(m, Mark)] == ["a", "b"]
    assert link.opened == 2


def test_a_message_that_can_never_be_sent_keeps_nothing_back(told_to, monkeypatch):
    link = Told()
    send = link.send

    def refuse(message) -> None:
        if isinstance(message, Mark) and message.text != "good":
            raise ValueError("no such text")
        send(message)

    monkeypatch.setattr(link, "send", refuse)
    notes: list[str] = []
    senders = told_to(link, note=notes.append)
    senders.begin(session())
    senders.update(
        moment(marks=(Mark(0.0, text="bad"), Mark(0.1, text="bad"), Mark(0.2, text="good")))
    )
    wait_until(lambda: len(link.sent) == 2)
    senders.end(SUMMARY)
    assert (link.opened, link.closed) == (1, [True])
    counts = senders.counts()["told"]
    assert (counts["events_sent"], counts["events_dropped"]) == (1, 2)
    assert notes[1] == "told: a message cannot be sent (no such text)"
    assert sum("cannot be sent" in note for note in notes) == 1


def test_a_receiver_that_comes_and_goes_is_tried_more_and_more_seldom(told_to, monkeypatch):
    monkeypatch.setattr(sender_module, "_BACKOFF_S", (0.01, 60.0))
    link = Told()

    def lose(message) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(link, "send", lose)
    senders = told_to(link)
    senders.begin(session())
    senders.update(moment(marks=(Mark(0.0),)))
    wait_until(lambda: link.opened >= 3)
    time.sleep(0.5)
    # After 0.01, 0.02, 0.04, ... s: half a second is over before the ninth.
    assert link.opened <= 8
    senders.end(SUMMARY)


def test_at_the_end_events_are_worth_one_more_try(told_to, monkeypatch):
    monkeypatch.setattr(sender_module, "_BACKOFF_S", (60.0, 60.0))
    link = Told(fails=1)
    senders = told_to(link)
    senders.begin(session())
    wait_until(lambda: link.closed)
    senders.update(moment(marks=(Mark(0.0, text="late"),)))
    senders.end(SUMMARY)
    assert [m.text for m in link.sent if isinstance(m, Mark)] == ["late"]
    assert senders.counts()["told"]["events_dropped"] == 0


def test_events_are_counted_of_each_camera(told_to, eventful):
    link = Told()
    (event, *_) = events_of(eventful)
    senders = told_to(link)
    senders.begin(session())
    senders.update(moment(0, camera=1, events=(event, event)))
    senders.update(moment(0, events=(event,)))
    senders.end(SUMMARY)
    values = [m for m in link.sent if isinstance(m, FrameValues)]
    assert [(m.camera, m.events) for m in values] == [(1, 2), (0, 1)]


def test_events_that_wait_are_bounded(told_to):
    link = Told(stuck=True)
    senders = told_to(link)
    senders.begin(session())
    senders.update(moment(marks=tuple(Mark(n) for n in range(FINDINGS_KEPT + 12))))
    # The thread may have taken the first one.
    assert senders.counts()["told"]["events_dropped"] in (11, 12)


def test_an_end_while_the_receiver_is_away_comes_at_once(told_to):
    link = Told(fails=99)
    senders = told_to(link)
    senders.begin(session())
    wait_until(lambda: link.closed)
    began_at = time.monotonic()
    senders.end(SUMMARY)
    assert time.monotonic() - began_at < 0.9


def test_a_frame_that_comes_again_is_sent_once(told_to):
    link = Told()
    senders = told_to(link)
    senders.begin(session())
    for again in (moment(1), moment(1), moment(1, is_away=True), moment(1, is_away=True)):
        senders.update(again)
    senders.update(moment(1, camera=1))
    senders.end(SUMMARY)
    assert [(m.frame, m.is_away, m.camera) for m in link.sent] == [
        *((1, False, 0), (1, True, 0)),
        (1, False, 1),
    ]


def test_numbers_have_a_channel_each(eventful):
    for state in eventful[-1].faces:
        assert isinstance(state, FaceState)
        values = FaceValues.of(state)
        assert len(values.numbers) == len(CHANNELS) == len({c.name for c in CHANNELS})
        numbers = dict(zip((c.name for c in CHANNELS), values.numbers, strict=True))
        assert numbers["score"] == state.score
        assert numbers["limit middle face"] == state.limits[1]
        assert numbers["chin y"] == pytest.approx(state.motion[15, 1])
        assert abs(numbers["head yaw"]) < 30
