"""The recognizer: a source in, its micro-expressions out, for loops, callbacks and asyncio."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator

from realtime_mer.analysis.analyser import Analyser
from realtime_mer.analysis.baseline import BASELINE_S
from realtime_mer.errors import InputError
from realtime_mer.interrupts import checkpoint
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.recognition.classifier import Classifier
from realtime_mer.redaction import printable
from realtime_mer.results import (
    LONGEST_MARK,
    Analysis,
    ClockOrigin,
    Mark,
    MicroExpression,
    Session,
    Summary,
)
from realtime_mer.session.channel import Ended
from realtime_mer.session.pipeline import Pipeline, merged
from realtime_mer.session.run import Callbacks, run
from realtime_mer.source.camera import CameraRequest
from realtime_mer.source.capture import AWAY, Capture
from realtime_mer.source.reader import Reader
from realtime_mer.spotting.spotter import SpotterModel
from realtime_mer.stats import Stats

# Marks that wait to be told. Chosen by judgement: nobody presses a key so often in a second.
_MOST_MARKS = 1000
# A cancelled task leaves a thread behind for so long, at most.
_ASYNC_WAIT_S = 0.2
# Waits are cut into pieces of this length, so that Ctrl-C is noticed on every platform.
_WAIT_S = 0.2

_logger = logging.getLogger("realtime_mer")


def _close_in_background(pipeline: Pipeline) -> None:
    """Closes what nobody holds any more.

    The garbage collector may run in one of the pipeline's own threads, which cannot wait for
    themselves. Where no thread can start, the interpreter is ending and closes it.
    """
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=pipeline.close, name="close", daemon=True).start()


class Recognizer:
    """Micro-expressions of a source, as they happen.

    Iterate over it for events, or over `analyses()` for frames, with `for` or `async for`; or hand
    functions to `run`. It closes itself when the source ends, on errors, when the iteration is
    given up and when nobody holds it any more. As a context manager it stays open until the end of
    the block, so that one may stop iterating and continue. A process may have several.

    While one is open, OpenCV works with one thread in the whole process; what was set before is
    restored at the end. Notes about the source go to the logger "realtime_mer", too.

    Args:
        source: Camera number, path of a video or a folder of frames, or address; or a reader of
            one's own (`source.reader.Reader`).
        faces: How many faces to follow at most.
        weights: The classifier, ONNX, with its card beside it; or one that is loaded, to share it.
        spotter: The spotter, likewise. Who shares it shares the sensitivity.
        landmarks: The face landmarker's model; None to look for it.
        providers: Where the classifier runs: "auto", "cpu", "cuda" or "tensorrt".
        least_confidence: 0 to 1; an event with less is labelled "uncertain" and keeps its
            probabilities. None for what the classifier's card recommends.
        fps: Frame rate of a folder of frames; of a video, in place of its own times.
        reconnect: Whether a camera or stream that is lost is opened again.
        camera: What a camera is asked for; None for 1280 x 720, MJPG, 30 a second.
        sensitivity: As the property; None for what the spotter's card recommends.
        baseline_s: Take a baseline of each face in its first so many seconds, 5 to 300, in which
            nothing is reported; None for none. See `take_baseline`.
        clock: A clock that runs already, for live sources whose times are to be comparable; None
            for one that begins with the first frame.
        changed: Notified when there is something to `take`; None if nobody waits for that.

    Raises:
        InputError: Something of this cannot be used; the message says what and the remedy.
        ValueError: `faces`, `providers`, `least_confidence`, `sensitivity` or `baseline_s` is none
            of those.

    Example:
        >>> for event in Recognizer("clip.avi"):
        ...     print(f"{event.interval.onset_s:.1f} s: {event.label}")
        1.8 s: surprise

        It may be stopped and taken up again, and made more or less strict on the way:

        >>> with Recognizer("clip.avi", sensitivity=0.5) as recognizer:
        ...     first = next(iter(recognizer))
        ...     recognizer.sensitivity = 2.0
        ...     frames = sum(1 for analysis in recognizer.analyses())
        >>> first.label
        'surprise'
    """

    def __init__(
        self,
        source: str | int | os.PathLike[str] | Reader,
        *,
        faces: int = 1,
        weights: str | os.PathLike[str] | Classifier = CLASSIFIER,
        spotter: str | os.PathLike[str] | SpotterModel = SPOTTER,
        landmarks: str | os.PathLike[str] | None = None,
        providers: str = "auto",
        least_confidence: float | None = None,
        fps: float | None = None,
        reconnect: bool = True,
        camera: CameraRequest | None = None,
        sensitivity: float | None = None,
        baseline_s: float | None = None,
        clock: ClockOrigin | None = None,
        changed: threading.Condition | None = None,
    ) -> None:
        self.stats = Stats()
        camera = camera or CameraRequest()
        # What may fail quickly comes first: a missing file before the networks.
        self._capture = Capture(
            source,
            fps,
            size=camera.size,
            rate=camera.rate,
            pixel_format=camera.pixel_format,
            reconnect=reconnect,
            clock=clock,
        )
        analyser = Analyser(
            faces=faces,
            weights=weights,
            spotter=spotter,
            landmarks=landmarks,
            providers=providers,
            least_confidence=least_confidence,
            sensitivity=sensitivity,
            baseline_s=baseline_s,
            source=self._capture.source,
            stats=self.stats,
        )
        self._pipeline = Pipeline(self._capture, analyser, self.stats, changed)
        # Nothing below holds the recognizer itself, so one that is dropped is freed.
        weakref.finalize(self, _close_in_background, self._pipeline).atexit = False
        self._analyser = analyser
        self._is_held = False
        self._last: Analysis | None = None
        # Events of a frame whose first ones were taken when the iteration stopped.
        self._untaken: deque[MicroExpression] = deque()
        self._marks: deque[Mark] = deque()
        # So that no mark comes too late to be told.
        self._marking = threading.Lock()
        self._broken: BaseException | None = None
        self._logged = 0
        self._notes: dict[str, None] = {}

    def __enter__(self) -> Recognizer:
        self._is_held = True
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begins to analyse, before anybody asks; asking begins it, too."""
        self._pipeline.start()

    def close(self) -> None:
        """Stops all threads, then the tracker. May be called at any moment, by any thread."""
        self._pipeline.close()

    def pause(self) -> None:
        """Analyses nothing more until `resume`.

        A recording waits. The frames that a live source sends meanwhile are thrown away and
        counted, and a face that was followed has a gap with the reason `GapReason.PAUSED`.
        """
        self._pipeline.pause()

    def resume(self) -> None:
        """Continues after `pause`."""
        self._pipeline.resume()

    @property
    def is_ready(self) -> bool:
        """Whether `take` returns or raises at once."""
        return self._pipeline.shown.is_ready

    @property
    def last(self) -> Analysis | None:
        """The analysis that was handed over last; None before the first."""
        return self._last

    @property
    def is_paused(self) -> bool:
        return self._pipeline.is_paused

    def take_baseline(self, seconds: float = BASELINE_S) -> None:
        """Takes the baseline of each face in view anew; if there is none, of the next one.

        Any thread may call it. In that time nothing is reported, and whoever is seen should keep a
        neutral face. A good baseline replaces the one before it; a poor one changes nothing.
        `Analysis.baselines` tells which it is.

        Args:
            seconds: How long it takes, 5 to 300.

        Raises:
            ValueError: It is none of those.
        """
        self._analyser.take_baseline(seconds)

    def mark(self, text: str = "", by: str = "program") -> Mark:
        """Marks this moment: the next analysis has it, and so have the logs.

        Any thread may call it. Of a live source the moment is now; of a recording it is that of
        the frame that was handed over last.

        Args:
            text: What it is about. It becomes one line; a text that is longer than `LONGEST_MARK`
                loses its middle.
            by: One of `results.MARKED_BY`.

        Raises:
            InputError: The session has ended, or so many marks wait that one more is no use.
            ValueError: `by` is none of those.
        """
        if self._capture.live and self._capture.origin is not None:
            time_s = time.monotonic() - self._capture.origin.monotonic_s
        else:
            last = self._last
            time_s = 0.0 if last is None else last.frame.time_s
        mark = Mark(time_s, by, printable(text.strip(), LONGEST_MARK))
        with self._marking:
            if self._pipeline.is_closed:
                raise InputError("not marked: the session has ended")
            if len(self._marks) >= _MOST_MARKS:
                raise InputError(f"not marked: {_MOST_MARKS} marks wait to be written")
            self._marks.append(mark)
        return mark

    @property
    def session(self) -> Session:
        """What is known before the first frame."""
        capture, classifier = self._capture, self._analyser.classifier
        return Session(
            source=capture.source,
            live=capture.live,
            size=capture.size,
            fps=capture.fps,
            frame_count=capture.frame_count,
            model=classifier.name,
            provider=classifier.provider,
            labels=tuple(classifier.labels),
            origin=capture.origin,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, a sentence each; may grow until the end."""
        note = self._analyser.classifier.note
        notes = (*((note,) if note else ()), *self._capture.notes, *self._analyser.notes)
        # In the order in which they were first seen: callers remember how many they have shown.
        self._notes.update(dict.fromkeys(notes))
        return tuple(self._notes)

    @property
    def end_reason(self) -> str:
        """Why the source gives no more frames."""
        return self._capture.state.value

    @property
    def sensitivity(self) -> float | None:
        """False reports a minute to be expected, on calm and lively faces alike; more find more.

        It may be set at any time, by any thread, and holds from the next frame on; what lies
        outside the curve on the spotter's card becomes its end. None where the card has no curve.

        Raises:
            ValueError: It is set to 0 or less, or the spotter's card has no curve.
        """
        return self._analyser.sensitivity

    @sensitivity.setter
    def sensitivity(self, false_per_minute: float) -> None:
        self._analyser.sensitivity = false_per_minute

    def summary(self, reason: str) -> Summary:
        """The figures so far.

        Args:
            reason: How the session ended, for the summary.
        """
        return self._pipeline.summary(reason)

    def __iter__(self) -> Iterator[MicroExpression]:
        with contextlib.closing(self.analyses()) as analyses:
            while True:
                while self._untaken:
                    yield self._untaken.popleft()
                analysis = next(analyses, None)
                if analysis is None:
                    return
                self._untaken += analysis.events

    def analyses(self, idle_s: float | None = None) -> Generator[Analysis]:
        """What each frame tells, in the order of time, until the source ends.

        A live source goes on while nobody asks: see `session.pipeline`. A face that is not followed
        when the source ends leaves its gap in one more analysis of the last frame; after an early
        `close`, that is in the `leftover`.

        Args:
            idle_s: When a live source sends nothing for so long, the last analysis comes again
                without its events, with the alerts of the moment; None to wait.

        Raises:
            InputError: The source broke in a way that the user has to mend.
        """
        if self._pipeline.is_closed:
            return
        self._pipeline.start()
        idle_s = idle_s if self._capture.live else None
        try:
            while True:
                try:
                    analysis = self.take(idle_s)
                except Ended:
                    break
                if analysis is not None:
                    yield analysis
            self.stats.stop()
            if (last := self.last_news()) is not None:
                yield last
        finally:
            self._release()

    async def __aiter__(self) -> AsyncIterator[MicroExpression]:
        async with contextlib.aclosing(self.analyses_async()) as analyses:
            while True:
                while self._untaken:
                    yield self._untaken.popleft()
                try:
                    analysis = await anext(analyses)
                except StopAsyncIteration:
                    return
                self._untaken += analysis.events

    async def analyses_async(self) -> AsyncGenerator[Analysis]:
        """`analyses` for `async for`: the event loop is free while a frame is waited for.

        Raises:
            InputError: The source broke in a way that the user has to mend.
        """
        if self._pipeline.is_closed:
            return
        self._pipeline.start()
        # It takes a while to load, and most programs have no event loop.
        import asyncio

        taken: deque[Analysis] = deque()

        def take() -> bool:
            """Takes what comes in a while; False at the end."""
            try:
                analysis = self.take(_ASYNC_WAIT_S, repeat=False)
            except Ended:
                return False
            if analysis is not None:
                taken.append(analysis)
            return True

        taking: asyncio.Future[bool] | None = None
        try:
            while True:
                taking = asyncio.ensure_future(asyncio.to_thread(take))
                # Cancelling the caller must not cut the thread off from what it takes.
                if not await asyncio.shield(taking):
                    break
                while taken:
                    yield taken.popleft()
            self.stats.stop()
            if (last := self.last_news()) is not None:
                yield last
        finally:
            # What a cancelled task was waiting for is not lost for the one that continues.
            if taking is not None and not taking.done():
                await asyncio.wait([taking])
            self._untaken += (event for analysis in taken for event in analysis.events)
            await asyncio.to_thread(self._release)

    def take(self, timeout_s: float | None, repeat: bool = True) -> Analysis | None:
        """The next analysis; if none comes in time, the last one again, or None.

        For who waits for several recognizers. All others iterate.

        Args:
            timeout_s: How long to wait; None for as long as it takes.
            repeat: Whether the last one comes again, without its events, with the alerts of the
                moment.

        Raises:
            Ended: There is none any more.
        """
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            checkpoint()
            left_s = until - time.monotonic()
            analysis = self._pipeline.shown.get(max(0.0, min(_WAIT_S, left_s)))
            if analysis is not None or left_s <= _WAIT_S:
                break
        self._log_notes()
        if analysis is not None:
            self._last = self._pipeline.delivered(analysis)
            if self._marks:
                self._last = dataclasses.replace(self._last, marks=self._take_marks())
            return self._last
        if self._last is None or not repeat:
            return None
        alerts = self._capture.alerts
        is_away = not AWAY.isdisjoint(alerts)
        if not is_away:
            alerts = self._pipeline.alerts(bool(self._last.faces))
        self._last = dataclasses.replace(
            self._last.without_findings(),
            alerts=alerts,
            statuses=self._capture.take_statuses(),
            marks=self._take_marks(),
        )
        if is_away:
            # Nothing of the last frame may look as if it were the present.
            self._last = dataclasses.replace(self._last, faces=(), fps=0.0, is_away=True)
        return self._last

    def _take_marks(self) -> tuple[Mark, ...]:
        with self._marking:
            marks = tuple(self._marks)
            self._marks.clear()
        return marks

    def last_news(self) -> Analysis | None:
        """The last analysis again, with what has become of the source since, and marks.

        None if there is no news.
        """
        self._log_notes()
        if self._last is None:
            return None
        statuses, marks = self._capture.take_statuses(), self._take_marks()
        if not statuses and not marks:
            return None
        return dataclasses.replace(self._last.without_findings(), statuses=statuses, marks=marks)

    def _log_notes(self) -> None:
        notes = self.notes
        for note in notes[self._logged :]:
            _logger.warning(note)
        self._logged = len(notes)

    def _release(self) -> None:
        """Closes it, unless a `with` block holds it."""
        if not self._is_held and not self._pipeline.is_closed:
            self.close()

    def leftover(self) -> Analysis | None:
        """What had been found and not been asked for when it was closed; None if nothing was.

        With the gaps of the faces that were not followed at that moment.

        Raises:
            BaseException: What broke a stage, once all that was found before has been taken.
        """
        waiting: list[Analysis] = []
        if self._untaken and self._last is not None:
            events = tuple(self._untaken)
            self._untaken.clear()
            waiting.append(dataclasses.replace(self._last.without_findings(), events=events))
        taken: list[Analysis] = []
        try:
            taken.extend(self._pipeline.shown)
        except BaseException as error:
            self._broken = error
        if self._last is None and self._marks and taken:
            # They need a frame to come with.
            self._last = taken[0]
        # Frames in which nothing was found are not delivered and do not count as analysed.
        if any(analysis.has_findings for analysis in taken):
            waiting.extend(map(self._pipeline.delivered, taken))
            self._last = waiting[-1]
        if (last := self.last_news()) is not None:
            waiting.append(last)
        if any(analysis.has_findings for analysis in waiting):
            return functools.reduce(merged, waiting)
        if self._broken is not None:
            broken, self._broken = self._broken, None
            raise broken
        return None

    def run(
        self,
        on_event: Callable[[MicroExpression], None] | None = None,
        on_analysis: Callable[[Analysis], None] | None = None,
    ) -> Summary:
        """Runs to the end of the source, or until Ctrl-C, and closes.

        Args:
            on_event: Called with each micro-expression.
            on_analysis: Called with what each frame tells, after its events.

        Returns:
            The figures, and in `reason` how it ended.

        Example:
            >>> found = []
            >>> summary = Recognizer("clip.avi").run(on_event=found.append)
            >>> summary.events, [event.label for event in found]
            (1, ['surprise'])
        """
        return run(self, [Callbacks(on_event, on_analysis)])
