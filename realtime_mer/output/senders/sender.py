"""A thread for each receiver: the session hands over what it found, and never waits.

    Analysis -> FrameValues, Finding      numbers and events, immutable, without pictures
             -> Sender, one a receiver    bounded queues, and a thread
             -> Link                      LSL, OSC or MQTT

What a receiver does, or fails to do, changes nothing in the session: values that it does not take
are dropped, the oldest first, and counted.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from realtime_mer.output.senders.values import (
    Finding,
    FrameValues,
    findings_of,
    values_of,
)
from realtime_mer.redaction import redacted_in
from realtime_mer.results import Analysis, Session, Summary

# Frames that wait: two seconds at 30 fps. Older ones are no longer "live". Chosen by judgement.
VALUES_KEPT = 60
# Events that wait while a receiver is away: hours of them. Chosen by judgement.
FINDINGS_KEPT = 1000
# Seconds between tries to reach a receiver that is away: doubled from the first to the last.
_BACKOFF_S = (0.5, 8.0)
# All senders together have so long to send the rest and to say goodbye.
_END_S = 1.0


class Link(Protocol):
    """One way to another program. All methods but `greeting` are called in the sender's thread.

    `open`, `send` and `close` raise OSError if the other side is away; they may take a few seconds.
    `send` raises ValueError if the message is one that can never be sent.

    Attributes:
        name: Such as "MQTT"; counts are kept under it.
    """

    name: str

    def greeting(self, session: Session) -> str:
        """What the user is told at the start."""
        ...

    def open(self, session: Session) -> None:
        """Reaches the other side; called again after it was away."""
        ...

    def send(self, message: FrameValues | Finding) -> None: ...

    def close(self, *, in_order: bool) -> None:
        """Frees everything.

        Args:
            in_order: Whether the session is over, and the other side is there.
        """
        ...


class Sender:
    """Sends to one receiver from a thread of its own.

    Args:
        link: The way to it.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self._changed = threading.Condition()
        self._values: deque[FrameValues] = deque()
        self._findings: deque[Finding] = deque()
        self._notes: deque[str] = deque(maxlen=100)
        # What the thread has taken, and neither sent nor put back.
        self._in_hand: FrameValues | Finding | None = None
        self._is_over = self._is_counted = self._has_told = False
        self._thread: threading.Thread | None = None
        self._sent = {"values": 0, "events": 0}
        self._dropped = {"values": 0, "events": 0}

    # In the session's thread

    def start(self, session: Session) -> None:
        self._thread = threading.Thread(
            target=self._run, args=[session], name=f"send {self.link.name}", daemon=True
        )
        self._thread.start()

    def put(self, findings: Iterable[Finding], values: FrameValues | None) -> None:
        """Hands messages over; returns at once."""
        with self._changed:
            for finding in findings:
                if len(self._findings) >= FINDINGS_KEPT:
                    self._findings.popleft()
                    self._dropped["events"] += 1
                self._findings.append(finding)
            if values is not None:
                if len(self._values) >= VALUES_KEPT:
                    self._values.popleft()
                    self._dropped["values"] += 1
                self._values.append(values)
            self._changed.notify()

    def take_notes(self) -> list[str]:
        """What the user should know, a sentence each, and was not told yet."""
        return [self._notes.popleft() for _ in range(len(self._notes))]

    def stop(self) -> None:
        """Lets the thread end once all has been sent; `join` waits for that."""
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def join(self, until: float) -> None:
        """Waits for the thread, at most until then on `time.monotonic()`; counts what is left."""
        if self._thread is None:
            return
        self._thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            # A thread that still waits for its receiver finds nothing more to send, and what it has
            # in hand may never arrive.
            self._is_counted = True
            self._dropped["values"] += len(self._values)
            self._dropped["events"] += len(self._findings)
            if self._in_hand is not None:
                self._dropped[_kind(self._in_hand)] += 1
            self._values.clear()
            self._findings.clear()

    def counts(self) -> dict[str, int]:
        """What was sent, and what was not because the receiver did not take it."""
        with self._changed:
            return {f"{name}_sent": n for name, n in self._sent.items()} | {
                f"{name}_dropped": n for name, n in self._dropped.items()
            }

    # In the sender's thread

    def _run(self, session: Session) -> None:
        wait_s, is_away, is_last_try = _BACKOFF_S[0], False, False
        while True:
            until_stable_s = math.inf
            try:
                self.link.open(session)
                until_stable_s = time.monotonic() + _BACKOFF_S[1]
                if is_away:
                    self._notes.append(f"{self.link.name}: the receiver is back")
                is_away = False
                while (message := self._take()) is not None:
                    self._deliver(message)
                self.link.close(in_order=True)
                return
            except Exception as error:
                # Whatever a receiver or its library does wrong, the session goes on.
                self._close_broken()
                if not is_away:
                    again = "It is tried again; events wait for it, values are dropped and counted"
                    text = f"{self.link.name}: the receiver is away ({_why(error)})"
                    self._notes.append(text if self._is_over else f"{text}. {again}")
                is_away = True
            # A receiver that comes and goes is tried as seldom as one that is away.
            if time.monotonic() > until_stable_s:
                wait_s = _BACKOFF_S[0]
            with self._changed:
                self._changed.wait_for(lambda: self._is_over, wait_s)
                # It may be back by now, and events are worth one more try.
                if self._is_over and (is_last_try or not self._findings):
                    return
                is_last_try = self._is_over
            wait_s = min(2 * wait_s, _BACKOFF_S[1])

    def _take(self) -> FrameValues | Finding | None:
        """The next message, events before values; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._findings or self._values or self._is_over)
            if self._findings:
                self._in_hand = self._findings.popleft()
            elif self._values:
                self._in_hand = self._values.popleft()
            return self._in_hand

    def _deliver(self, message: FrameValues | Finding) -> None:
        try:
            self.link.send(message)
        except Exception as error:
            # Sent again, it would fail again, and nothing after it would ever be sent.
            is_hopeless = isinstance(error, ValueError) and not isinstance(error, OSError)
            self._put_down(message, may_wait=not is_hopeless)
            if not is_hopeless:
                raise
            if not self._has_told:
                self._notes.append(f"{self.link.name}: a message cannot be sent ({_why(error)})")
            self._has_told = True
            return
        with self._changed:
            self._in_hand = None
            if not self._is_counted:
                self._sent[_kind(message)] += 1

    def _put_down(self, message: FrameValues | Finding, *, may_wait: bool) -> None:
        """Lets an event that was not sent wait, if it may; else it is dropped."""
        with self._changed:
            self._in_hand = None
            if self._is_counted:
                return
            if isinstance(message, FrameValues):
                self._dropped["values"] += 1
            elif may_wait and len(self._findings) < FINDINGS_KEPT:
                self._findings.appendleft(message)
            else:
                self._dropped["events"] += 1

    def _close_broken(self) -> None:
        try:
            self.link.close(in_order=False)
        except Exception as error:
            self._notes.append(f"{self.link.name}: {_why(error)}")


class Senders:
    """A sink that sends values and events to other programs.

    Args:
        links: The ways to them.
        note: Called with messages for the user.

    Example:
        senders = Senders([OscLink("127.0.0.1", 9000)], note=print)
        run(recognizer, [senders])
        senders.counts()  # {"OSC": {"values_sent": 600, ..., "events_dropped": 0}}
    """

    def __init__(
        self, links: Sequence[Link], note: Callable[[str], None] = lambda text: None
    ) -> None:
        self._senders = [Sender(link) for link in links]
        self._note = note
        self._events: Counter[int] = Counter()
        # Of each camera's newest values: which frame they were of, and whether it was away.
        self._newest: dict[int, tuple[int, bool]] = {}

    def begin(self, session: Session) -> None:
        for sender in self._senders:
            self._note(sender.link.greeting(session))
            sender.start(session)

    def update(self, analysis: Analysis) -> None:
        if not self._senders:
            return
        self._events[analysis.camera] += len(analysis.events)
        findings = findings_of(analysis)
        # While a source is away, and at its end, its last frame comes again.
        now = (analysis.frame.index, analysis.is_away)
        is_new = now != self._newest.get(analysis.camera)
        values = values_of(analysis, self._events[analysis.camera]) if is_new else None
        self._newest[analysis.camera] = now
        for sender in self._senders:
            sender.put(findings, values)
        self._pass_on_notes()

    def end(self, summary: Summary) -> None:
        until = time.monotonic() + _END_S
        for sender in self._senders:
            sender.stop()
        for sender in self._senders:
            sender.join(until)
        self._pass_on_notes()
        for name, counts in self.counts().items():
            lost = [
                f"{n} {kind}" for kind in ("events", "values") if (n := counts[f"{kind}_dropped"])
            ]
            if lost:
                self._note(f"{name}: {' and '.join(lost)} not sent: the receiver did not take them")

    def counts(self) -> dict[str, dict[str, int]]:
        """What was sent and what was dropped, by the name of the way."""
        return {sender.link.name: sender.counts() for sender in self._senders}

    def stats(self) -> dict[str, dict[str, dict[str, int]]]:
        """The same as a part of the statistics; nothing without receivers."""
        return {"senders": self.counts()} if self._senders else {}

    def _pass_on_notes(self) -> None:
        for sender in self._senders:
            for text in sender.take_notes():
                self._note(text)


def _kind(message: FrameValues | Finding) -> str:
    return "values" if isinstance(message, FrameValues) else "events"


def _why(error: BaseException) -> str:
    """What went wrong, as it may be shown."""
    if isinstance(error, OSError) and error.strerror:
        return redacted_in(error.strerror)
    return redacted_in(str(error) or type(error).__name__)
