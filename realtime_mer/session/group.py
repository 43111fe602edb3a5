"""Several sources in one session: a recognizer each, and their analyses in one stream.

    source 0    Recognizer: its pipeline and threads    the caller: `RecognizerGroup.analyses()`,
    source 1    Recognizer: its pipeline and threads    each Analysis with its `camera`
    ...

Live sources have one clock, which begins with the first frame of the first one; their analyses
come as they are done. Recordings keep their own times, each from its first frame; their analyses
come in the order of these times, so that all recordings advance together.

The networks are loaded once and shared; the face tracker is not, for it follows faces over time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from realtime_mer.analysis.baseline import BASELINE_S
from realtime_mer.errors import InputError
from realtime_mer.interrupts import shielded
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.recognition.classifier import Classifier
from realtime_mer.redaction import redacted_in
from realtime_mer.results import FINDINGS, Analysis, Mark, MicroExpression, Session, Summary
from realtime_mer.session.channel import Ended
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.session.run import Callbacks, run
from realtime_mer.source.camera import CameraRequest
from realtime_mer.source.kinds import reader_for
from realtime_mer.source.reader import Reader
from realtime_mer.spotting.spotter import SpotterModel
from realtime_mer.stats import Stats

# Waits are cut into pieces of this length, so that Ctrl-C is noticed on every platform.
_WAIT_S = 0.2


@dataclass(slots=True, eq=False)
class _Member:
    """One of the sources.

    Attributes:
        camera: Its number, from 0.
        name: What records call it; no two have the same.
        recognizer: It is closed when the source has ended.
        waiting: Its analyses that have not been handed on, the oldest first.
        has_ended: Whether it gives nothing more.
        error: What broke it.
        closing: The thread that closes it after its end.
        due_at: On `time.monotonic()`, when its last analysis comes again if there is none new.
    """

    camera: int
    name: str
    recognizer: Recognizer
    waiting: deque[Analysis] = field(default_factory=deque)
    has_ended: bool = False
    error: InputError | None = None
    closing: threading.Thread | None = None
    due_at: float = math.inf


class RecognizerGroup:
    """Micro-expressions of several sources in one session, as they happen.

    It is used like a `Recognizer`, and `run` runs it. A source that ends, is lost or breaks does
    not end the others: the session ends with the last one. It is closed then, on errors, and when
    the iteration is given up; as a context manager at the end of the block.

    Of each `Analysis`, `camera` tells the place of the source in the order given, and `source` its
    name, which each record has as well. Numbers of faces are the source's own.

    Args:
        sources: Two or more, each as a `Recognizer` takes it: all cameras and streams, or all
            recordings.
        weights, spotter, providers, least_confidence, camera, options: As for `Recognizer`, for all
            sources.

    Raises:
        InputError: Something of this cannot be used; the message says what and the remedy.
        ValueError: There are no sources, or as for `Recognizer`.

    Example:
        >>> for event in RecognizerGroup(["left.avi", "right.avi"]):
        ...     print(f"{event.source}: {event.interval.onset_s:.1f} s: {event.label}")
        left.avi: 1.8 s: surprise
        right.avi: 1.8 s: surprise
    """

    def __init__(
        self,
        sources: Sequence[str | int | os.PathLike[str] | Reader],
        *,
        weights: str | os.PathLike[str] = CLASSIFIER,
        spotter: str | os.PathLike[str] = SPOTTER,
        providers: str = "auto",
        least_confidence: float | None = None,
        camera: CameraRequest | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        self.stats = Stats()
        """Of the group itself: what showing costs. Each source has its own; see `summary`."""
        readers = _readers(sources, camera)
        classifier = Classifier(weights, providers, least_confidence)
        spotter_model = SpotterModel(spotter)
        self._changed = threading.Condition()
        self._members: list[_Member] = []
        self._is_closed = False
        # What broke sources, and has not been raised yet.
        self._broken: list[BaseException] = []
        # What the user should know of all of them comes once.
        self._common = (classifier.note,) if classifier.note else ()
        self._notes: dict[str, None] = dict.fromkeys(self._common)
        try:
            for number, reader in enumerate(readers):
                recognizer = Recognizer(
                    reader,
                    weights=classifier,
                    spotter=spotter_model,
                    camera=camera,
                    clock=self._members[0].recognizer.session.origin if number else None,
                    changed=self._changed,
                    **options,
                )
                self._members.append(_Member(number, reader.name, recognizer))
                # An address tells only now whether it is live.
                _check_same_kind([member.recognizer.session for member in self._members])
                if reader.live:
                    # The next one may take seconds to open.
                    recognizer.start()
        except BaseException:
            self.close()
            raise
        self._session = self._joint_session()
        self._is_held = False

    def __enter__(self) -> RecognizerGroup:
        self._is_held = True
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops all threads, then the trackers. May be called at any moment, by any thread."""
        self._is_closed = True
        with shielded(), contextlib.ExitStack() as stack:
            for member in self._members:
                stack.callback(_close, member)

    def pause(self) -> None:
        """Analyses nothing more until `resume`, as `Recognizer.pause`."""
        for member in self._members:
            member.recognizer.pause()

    def resume(self) -> None:
        """Continues after `pause`."""
        for member in self._members:
            member.recognizer.resume()

    @property
    def is_paused(self) -> bool:
        return any(member.recognizer.is_paused for member in self._members)

    def mark(self, text: str = "", by: str = "program") -> Mark:
        """Marks this moment in each source that has not ended, as `Recognizer.mark`.

        Returns:
            The mark of the first of them.

        Raises:
            InputError: As `Recognizer.mark`.
        """
        marks: list[Mark] = []
        refused: InputError | None = None
        for member in self._running or self._members:
            try:
                mark = member.recognizer.mark(text, by)
            except InputError as error:
                # It may have ended a moment ago, while others go on.
                refused = error
            else:
                marks.append(dataclasses.replace(mark, source=member.name))
        if not marks and refused is not None:
            raise refused
        return marks[0]

    def take_baseline(self, seconds: float = BASELINE_S) -> None:
        """As `Recognizer.take_baseline`, of all sources."""
        for member in self._members:
            member.recognizer.take_baseline(seconds)

    @property
    def session(self) -> Session:
        """What is known before the first frame."""
        return self._session

    def _joint_session(self) -> Session:
        each = tuple(
            dataclasses.replace(m.recognizer.session, camera=m.camera) for m in self._members
        )
        counts = [session.frame_count for session in each]
        return dataclasses.replace(
            each[0],
            source=" + ".join(session.source for session in each),
            fps=max(session.fps for session in each),
            frame_count=sum(counts) if all(counts) else 0,
            camera=None,
            sources=each,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, a sentence each; may grow until the end."""
        for member in self._members:
            for note in member.recognizer.notes:
                if note not in self._common:
                    text = note if member.name in note else f"{member.name}: {note}"
                    self._notes.setdefault(text)
        return tuple(self._notes)

    @property
    def end_reason(self) -> str:
        """Why the sources give no more frames: each one's reason if they differ."""
        reasons = {m.name: m.recognizer.end_reason for m in self._members}
        if len(set(reasons.values())) == 1:
            return self._members[0].recognizer.end_reason
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())

    @property
    def sensitivity(self) -> float | None:
        """As `Recognizer.sensitivity`, of all sources."""
        return self._members[0].recognizer.sensitivity

    @sensitivity.setter
    def sensitivity(self, false_per_minute: float) -> None:
        # They share the spotter.
        self._members[0].recognizer.sensitivity = false_per_minute

    def __iter__(self) -> Iterator[MicroExpression]:
        with contextlib.closing(self.analyses()) as analyses:
            for analysis in analyses:
                yield from analysis.events

    def analyses(self, idle_s: float | None = None) -> Generator[Analysis]:
        """What each frame of each source tells, until the last source has ended.

        A source that ends while others go on tells so in one more analysis of its last frame.

        Args:
            idle_s: As `Recognizer.analyses`, for each live source.

        Raises:
            InputError: A source broke in a way that the user has to mend; the others have ended.
        """
        if self._is_closed:
            return
        for member in self._running:
            member.recognizer.start()
        try:
            if self._session.live:
                yield from self._as_they_come(math.inf if idle_s is None else idle_s)
            else:
                yield from self._in_order_of_time()
            self._raise_what_broke()
        finally:
            if not self._is_held:
                self.close()

    def _as_they_come(self, idle_s: float) -> Iterator[Analysis]:
        for member in self._running:
            member.due_at = time.monotonic() + idle_s
        while self._running:
            has_news = False
            for member in self._running:
                is_due = time.monotonic() >= member.due_at
                self._take(member, 0.0, repeat=is_due)
                if is_due or member.waiting:
                    member.due_at = time.monotonic() + idle_s
                while member.waiting:
                    has_news = True
                    yield member.waiting.popleft()
            if not has_news:
                self._wait()

    def _wait(self) -> None:
        """Waits until a source has something to take, or its last analysis is due again."""
        left_s = min((m.due_at for m in self._running), default=0.0) - time.monotonic()
        with self._changed:
            if left_s > 0 and not any(m.recognizer.is_ready for m in self._running):
                self._changed.wait(min(left_s, _WAIT_S))

    def _in_order_of_time(self) -> Iterator[Analysis]:
        while True:
            for member in self._running:
                while not member.waiting and not member.has_ended:
                    self._take(member, None)
            if (earliest := self._earliest()) is None:
                return
            yield earliest.waiting.popleft()

    def _earliest(self) -> _Member | None:
        """The source whose waiting analysis has the earliest time; None if none waits."""
        waiting = (member for member in self._members if member.waiting)
        return min(waiting, key=lambda m: (m.waiting[0].frame.time_s, m.camera), default=None)

    @property
    def _running(self) -> list[_Member]:
        return [member for member in self._members if not member.has_ended]

    def _take(self, member: _Member, timeout_s: float | None, repeat: bool = False) -> None:
        """Takes what a source has to tell, if it comes in time, or notes that it has ended."""
        try:
            analysis = member.recognizer.take(timeout_s, repeat)
        except Ended:
            self._end(member)
        except InputError as error:
            member.error = error
            self._broken.append(error)
            self._end(member)
            if self._running:
                self._notes.setdefault(f"{redacted_in(str(error))} The others go on.")
        else:
            if analysis is not None:
                member.waiting.append(_of(member, analysis))

    def _end(self, member: _Member) -> None:
        """Frees a source that has ended; its last analysis comes again and says so."""
        recognizer = member.recognizer
        member.has_ended = True
        recognizer.stats.stop()
        last = recognizer.last_news()
        if self._running and (last := last or recognizer.last) is not None:
            last = dataclasses.replace(
                last if last.marks or last.statuses else last.without_findings(),
                faces=(),
                fps=0.0,
                alerts=("broken" if member.error else recognizer.end_reason,),
                is_away=self._session.live,
            )
        if last is not None:
            member.waiting.append(_of(member, last))
        # A camera that was lost may take long to let go, and the others do not wait for that.
        member.closing = threading.Thread(target=recognizer.close, name="close", daemon=True)
        try:
            member.closing.start()
        except RuntimeError:  # there is no room for one more thread
            member.closing = None

    def leftover(self) -> Analysis | None:
        """What had been found and not been asked for when it was closed; None if there is no more.

        Raises:
            BaseException: What broke a source, once all that was found has been taken.
        """
        while (member := self._earliest()) is not None:
            if (analysis := member.waiting.popleft()).has_findings:
                return analysis
        for member in self._members:
            try:
                leftover = member.recognizer.leftover()
            except BaseException as error:
                # What the others found comes first.
                self._broken.append(error)
                continue
            if leftover is not None:
                return _of(member, leftover)
        self._raise_what_broke()
        return None

    def _raise_what_broke(self) -> None:
        """Raises what broke sources, all in one if all is for the user; does so once."""
        broken, self._broken = self._broken, []
        if broken:
            first = next((e for e in broken if not isinstance(e, InputError)), broken[0])
            if isinstance(first, InputError) and len(broken) > 1:
                first = InputError(" ".join(map(str, broken)))
            raise first

    def summary(self, reason: str) -> Summary:
        """The figures so far: sums, and those of each source.

        Args:
            reason: How the session ended, for the summary.
        """
        each = tuple(self._summary_of(member, reason) for member in self._members)

        def total(name: str) -> int:
            return sum(getattr(summary, name) for summary in each)

        drops: dict[str, int] = {}
        for summary in each:
            for cause, count in summary.stats["drops"].items():
                drops[cause] = drops.get(cause, 0) + count
        read, dropped = total("frames_read"), total("frames_dropped")
        stats = self.stats.with_all(m.recognizer.stats for m in self._members)
        watched = sum((summary.watched for summary in each[1:]), each[0].watched)
        figures = stats.as_dict(read, dropped, drops)
        if watched.watched_s:
            figures["visibility"] = watched.to_dict()
        figures["sources"] = [{"source": s.source, **s.stats} for s in each]
        return Summary(
            reason=reason,
            frames_read=read,
            frames_analysed=total("frames_analysed"),
            frames_dropped=dropped,
            frames_with_face=total("frames_with_face"),
            duration_s=max(summary.duration_s for summary in each),
            wall_s=stats.wall_s,
            events=total("events"),
            stats=figures,
            watched=watched,
            visibility=tuple(span for summary in each for span in summary.visibility),
            sources=each,
        )

    def _summary_of(self, member: _Member, reason: str) -> Summary:
        if member.error is not None:
            reason = redacted_in(f"error: {member.error}")
        elif member.has_ended:
            reason = member.recognizer.end_reason
        summary = member.recognizer.summary(reason)
        spans = tuple(dataclasses.replace(s, source=member.name) for s in summary.visibility)
        return dataclasses.replace(summary, visibility=spans, source=member.name)

    def run(
        self,
        on_event: Callable[[MicroExpression], None] | None = None,
        on_analysis: Callable[[Analysis], None] | None = None,
    ) -> Summary:
        """Runs until the last source has ended, or until Ctrl-C, and closes.

        Args:
            on_event: Called with each micro-expression.
            on_analysis: Called with what each frame tells, after its events.

        Returns:
            The figures, and in `reason` how it ended.
        """
        return run(self, [Callbacks(on_event, on_analysis)])


def _close(member: _Member) -> None:
    """Closes a source, or waits until it is closed."""
    if (closing := member.closing) is None:
        member.recognizer.close()
        return
    while closing.is_alive():
        closing.join(_WAIT_S)


def _of(member: _Member, analysis: Analysis) -> Analysis:
    """An analysis that tells, itself and in all its records, which source it is about."""
    named: dict[str, Any] = {
        name: tuple(dataclasses.replace(found, source=member.name) for found in findings)
        for name in FINDINGS
        if (findings := getattr(analysis, name))
    }
    return dataclasses.replace(analysis, camera=member.camera, source=member.name, **named)


def _readers(
    sources: Sequence[str | int | os.PathLike[str] | Reader], camera: CameraRequest | None
) -> list[Reader]:
    """The readers of sources, with names that differ; nothing is opened.

    Raises:
        InputError: A source is missing, or there are others in the way.
        ValueError: There are no sources.
    """
    if not sources:
        raise ValueError("there are no sources")
    readers: list[Reader] = []
    known: dict[object, str] = {}
    for source in sources:
        if isinstance(source, str | int | os.PathLike):
            reader, identity = reader_for(source, request=camera), _identity(source)
        else:
            reader = identity = source
        if identity in known:
            other = "" if known[identity] == reader.name else f" ({known[identity]} is the same)"
            raise InputError(f"{reader.name} is named twice{other}: leave one out.")
        known[identity] = reader.name
        readers.append(reader)
    _check_same_kind(readers)
    # Of two addresses that differ in what must not be shown, the names are the same.
    taken: set[str] = set()
    for reader in readers:
        name, number = reader.name, 1
        while reader.name in taken:
            number += 1
            reader.name = f"{name} ({number})"
        taken.add(reader.name)
    return readers


def _identity(source: str | int | os.PathLike[str]) -> object:
    """The same for two names of the same camera, file or folder."""
    text = os.fspath(source) if isinstance(source, os.PathLike) else str(source)
    is_number = not isinstance(source, os.PathLike) and text.isascii() and text.isdecimal()
    if is_number and not os.path.isdir(text):
        text = f"/dev/video{int(text)}"
    return text if "://" in text else os.path.realpath(text)


def _check_same_kind(sources: Sequence[Reader] | Sequence[Session]) -> None:
    """
    Raises:
        InputError: Some are live, and others are recordings.
    """
    by_kind = {source.live: source for source in sources}
    if len(by_kind) > 1:
        live, recorded = (_name(by_kind[is_live]) for is_live in (True, False))
        raise InputError(
            f"{live} is live and {recorded} is a recording, which have no common clock: analyse "
            "them in two sessions."
        )


def _name(source: Reader | Session) -> str:
    return source.source if isinstance(source, Session) else source.name
