"""The way of the data, from a frame to a named micro-expression.

    thread "capture"  Capture: the source's frames
          |           live: the newest frame wins, the others are dropped and counted
    thread "track"    FaceTracker: the faces in each frame (MediaPipe's networks)
          |             threads "faces": the second, third and fourth at the same time
          |           a channel; the writer waits
    thread "spot"     Analyser: FaceChain, one a face: Registration -> RingBuffer,
          |             RegionalMotion -> Spotter; and of an interval: FacePair -> Classifier
          |             thread "fall": the second flow of a pair
          |           a channel; live: what was not taken in time merges into the next
    the caller        `Recognizer.analyses()`, an Analysis a frame -> sinks

Nothing of a recording is dropped: each stage waits for the next, and reads a few frames ahead. A
live source waits for nobody: what is too slow to analyse is dropped at the capture, what is too
slow to show loses its picture, never its events.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import dataclasses
import functools
import os
import threading
import time
from collections import deque

from realtime_mer.analysis.analyser import Analyser
from realtime_mer.errors import InputError
from realtime_mer.face.tracker import TrackedFrame
from realtime_mer.interrupts import shielded
from realtime_mer.results import (
    FINDINGS,
    Analysis,
    FrameCounts,
    GapReason,
    Summary,
    VisibilitySpan,
    Watched,
)
from realtime_mer.session.channel import Channel
from realtime_mer.session.stage import Stage
from realtime_mer.source.capture import Capture
from realtime_mer.source.frame import Frame
from realtime_mer.source.health import Outage
from realtime_mer.stats import Stats

# Frames between two stages: enough for one to catch its breath while the other names an event
# (8 ms); at 4K a frame is 25 MB.
_QUEUED = 3
# Analyses that a live source keeps for its caller: a newer one merges with the one that waits.
_LIVE_SHOWN = 1
# Frames of merged analyses that are kept for recordings: half a second at 30 fps, 90 MB at 1080p.
_MAX_UNSHOWN = 15
# How long to wait for the frames that a live source sends while paused.
_PAUSED_S = 0.1
# A thread may be in a native call, which takes milliseconds; a machine may be busy.
_JOIN_S = 5.0


def merged(earlier: Analysis, later: Analysis) -> Analysis:
    """Two analyses in one: the picture and the faces of the later, what was found in both."""
    frames = earlier.unshown
    # While a source is away, and at the end, the last frame comes again.
    if earlier.frame is not later.frame:
        frames += (earlier.frame, *later.unshown)
    return dataclasses.replace(
        later,
        unshown=frames[-_MAX_UNSHOWN:],
        **{name: getattr(earlier, name) + getattr(later, name) for name in FINDINGS},
    )


_open: set[Pipeline] = set()


def _close_all() -> None:
    for pipeline in list(_open):
        with contextlib.suppress(Exception):
            pipeline.close()


@functools.cache
def _close_all_at_exit() -> None:
    """Closes what is still open when the interpreter ends. Call it once there is a landmarker.

    MediaPipe closes a landmarker in an executor, and Python ends those before `atexit` begins, in
    the order of the list that this adds to, the last one first. A landmarker that is never closed
    can hang the exit.
    """
    getattr(threading, "_register_atexit", atexit.register)(_close_all)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    """In a forked child none of the threads exist. A native graph would wait for its own for ever.

    So graphs are not closed there, and not freed either: a reference that nobody owns keeps them.
    """
    for pipeline in _open:
        pipeline.is_closed = pipeline.is_forked = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(pipeline))
    _open.clear()


class Pipeline:
    """The stages of one session, with their threads.

    Args:
        capture: The source; opened here.
        analyser: The chain; closed at the end.
        stats: Counts and times.
        changed: As in `Channel`, of `shown`.

    Raises:
        InputError: The source cannot be opened.

    Attributes:
        shown: The analyses, for the caller.
        capture: The source.
        analyser: The chain.
        is_forked: Whether this is a copy in a forked child, where nothing runs.
    """

    def __init__(
        self,
        capture: Capture,
        analyser: Analyser,
        stats: Stats,
        changed: threading.Condition | None = None,
    ) -> None:
        self.capture, self.analyser, self._stats = capture, analyser, stats
        self._stages: tuple[Stage, ...] = ()
        self.is_closed = self.is_forked = False
        try:
            capture.open()
        except BaseException:
            self._stop()
            raise
        if capture.live:
            analyser.origin = capture.origin
        # Frames that the tracking has taken, and those thrown away while paused.
        self._taken = self._paused_frames = 0
        self._running = threading.Event()
        self._running.set()
        self._pauses: deque[Outage] = deque(maxlen=1000)
        self._counted: Frame | None = None
        self._with_face = self._events = 0
        # What has ended so far; and the spans that the end of the session ended.
        self._watched = Watched()
        self._last_spans: tuple[VisibilitySpan, ...] = ()
        self._last: Analysis | None = None
        # How far a source that was away at the end has come without frames.
        self._end_s = 0.0
        self._ending = threading.Lock()
        self._started = False
        self._tracked: Channel[TrackedFrame] = Channel(
            _QUEUED, waited=functools.partial(stats.record, "spot_wait")
        )
        self.shown: Channel[Analysis] = Channel(
            _LIVE_SHOWN if capture.live else _QUEUED,
            merge=merged if capture.live else None,
            waited=functools.partial(stats.record, "show_wait"),
            changed=changed,
        )
        self._stages = (
            Stage("track", self._track, self._tracked),
            Stage("spot", self._spot, self.shown, source=self._tracked),
        )
        _open.add(self)
        _close_all_at_exit()

    def start(self) -> None:
        """Starts the threads, once."""
        if not self._started and not self.is_closed:
            self._started = True
            for stage in self._stages:
                stage.start()

    def close(self) -> None:
        """Stops all threads, then the tracker. May be called at any moment, by any thread."""
        with shielded():
            self.is_closed = True
            self._running.set()
            # What has been analysed is not lost: it stays in the last channel.
            self._tracked.close()
            self.shown.open_up()
            self._stop()
            self.shown.end()
            self._stats.stop()
            _open.discard(self)

    def _stop(self) -> None:
        try:
            self.capture.close()
        finally:
            stopped = [stage.join(_JOIN_S) for stage in self._stages]
            try:
                if stopped and stopped[-1]:
                    self._end_faces()
            finally:
                # A native graph that is in use must not be closed. If a stage does not stop in
                # time, leak the tracker rather than block.
                if all(stopped) and not self.is_forked:
                    self.analyser.close()

    def pause(self) -> None:
        """Analyses nothing more until `resume`.

        A recording waits. The frames that a live source sends meanwhile are thrown away and
        counted, and a face that was followed has a gap with the reason PAUSED.
        """
        self._running.clear()

    def resume(self) -> None:
        """Continues after `pause`."""
        self._running.set()

    @property
    def is_paused(self) -> bool:
        return not self._running.is_set()

    def alerts(self, has_face: bool) -> tuple[str, ...]:
        """What is wrong with the source and the analysis now, a few words each.

        Args:
            has_face: Whether a face is followed. A covered lens shows none: then the room is dark.
        """
        covered = "black picture" if has_face else None
        source = ("too dark" if alert == covered else alert for alert in self.capture.alerts)
        return (*source, *self.analyser.alerts)

    def delivered(self, analysis: Analysis) -> Analysis:
        """An analysis as it leaves: counted, its events dated, with the changes of status."""
        statuses = self.capture.take_statuses()
        if statuses:
            analysis = dataclasses.replace(analysis, statuses=analysis.statuses + statuses)
        if not self.capture.live:
            self._count(analysis)
            return analysis
        if not analysis.events:
            return analysis
        # The source has gone on while the frame was analysed and while the analysis lay here.
        now_s = analysis.frame.time_s + time.monotonic() - analysis.frame.captured_at
        events = tuple(dataclasses.replace(e, reported_s=now_s) for e in analysis.events)
        return dataclasses.replace(analysis, events=events)

    def summary(self, reason: str) -> Summary:
        """The figures so far."""
        analysed = self._stats.frames_analysed
        read, dropped = self.capture.frames_read, self.capture.frames_dropped
        drops = {"analysis too slow": dropped, "display too slow": self.shown.merged}
        if self._paused_frames:
            drops["paused"] = self._paused_frames
            dropped += self._paused_frames
        if self.is_closed:
            under_way = max(0, self._taken - analysed)
            if self.capture.live:
                drops["stopped"] = under_way
                dropped += under_way
            else:
                # Read ahead, but never analysed: these frames do not count as read.
                read -= under_way
        stats = self._stats.as_dict(read, dropped, drops)
        watched = self._watched.with_spans(self._last_spans)
        if watched.watched_s:
            stats["visibility"] = watched.to_dict()
        counted_s = self._counted.time_s if self._counted is not None else 0.0
        return Summary(
            reason=reason,
            frames_read=read,
            frames_analysed=analysed,
            frames_dropped=dropped,
            frames_with_face=self._with_face,
            duration_s=max(self._end_s, counted_s),
            wall_s=self._stats.wall_s,
            events=self._events,
            stats=stats,
            watched=watched,
            visibility=self._last_spans,
        )

    # The stages, each in its own thread

    def _track(self) -> None:
        """Thread "track": frames become frames with faces."""
        broken: InputError | None = None
        before_s = 0.0
        while True:
            frame, was_paused = None, False
            try:
                was_paused = self.is_paused and self._wait_while_paused()
                with self._stats.stage("capture_wait"):
                    frame = self.capture.read()
            except InputError as error:
                broken = error
            if frame is not None:
                if was_paused and self.capture.live:
                    self._pauses.append(Outage(before_s, frame.time_s, GapReason.PAUSED))
                before_s = frame.time_s
                if not self._tracked.put(self._faces_of(frame)):
                    return
            elif broken is not None:
                raise broken
            else:
                return

    def _wait_while_paused(self) -> bool:
        """Returns True once the pause is over; throws away what a live source sends meanwhile."""
        if not self.capture.live:
            return self._running.wait()
        while not self._running.is_set():
            if self.capture.over:
                self._running.wait()
            elif self.capture.read(_PAUSED_S) is not None:
                self._paused_frames += 1
        return True

    def _faces_of(self, frame: Frame) -> TrackedFrame:
        """The frame with its faces."""
        started = time.monotonic()
        self._taken += 1
        self._stats.record("track_wait", started - frame.captured_at)
        # Recordings are read ahead: the time a frame waits there is nobody's latency.
        taken_at = frame.captured_at if self.capture.live else started
        return self.analyser.track(frame, taken_at)

    def _spot(self) -> None:
        """Thread "spot": frames with faces become analyses."""
        try:
            for tracked in self._tracked:
                self._last = self._analyse(tracked)
                if self.capture.live:
                    self._count(self._last)
                if not self.shown.put(self._last):
                    return
        finally:
            # A source that goes on does so until it is closed.
            if self.capture.over:
                self._end_faces()

    def _analyse(self, tracked: TrackedFrame) -> Analysis:
        analysis = self.analyser.analyse(tracked, self._ended_outages())
        return dataclasses.replace(
            analysis,
            fps=self._stats.fps,
            dropped=self.capture.frames_dropped + self._paused_frames,
            counts=self._counts(),
            alerts=self.alerts(bool(analysis.faces)),
        )

    def _counts(self) -> FrameCounts:
        drops = (
            ("analysis too slow", self.capture.frames_dropped),
            ("display too slow", self.shown.merged),
            ("paused", self._paused_frames),
        )
        # The one that is being analysed has not been counted yet.
        return FrameCounts(self.capture.frames_read, self._stats.frames_analysed + 1, drops)

    def _ended_outages(self) -> list[Outage]:
        outages = list(self.capture.take_outages())
        while self._pauses:
            outages.append(self._pauses.popleft())
        return outages

    def _end_faces(self) -> None:
        """Ends what is open with the session: events, gaps of faces that were away, and spans.

        Events and gaps come with the last frame again; the spans, of which there are nearly always
        some, are left to the summary.
        """
        with self._ending:
            last, self._last = self._last, None
            if last is None:
                return
            events = self.analyser.finish()
            gaps, self._end_s = self.analyser.open_gaps(self._ended_outages())
            self._last_spans = self.analyser.open_spans()
            baselines = self.analyser.open_baselines()
            if events or gaps or baselines:
                last = dataclasses.replace(
                    last.without_findings(),
                    events=events,
                    gaps=gaps,
                    baselines=baselines,
                    latency_s=0.0,
                )
                if self.capture.live:
                    self._count(last)
                self.shown.put(last)

    def _count(self, analysis: Analysis) -> None:
        """Of a live source, what is analysed counts; of a recording, what is delivered."""
        self._events += len(analysis.events)
        self._watched = self._watched.with_spans(analysis.visibility)
        # What ends with the session comes with the last frame again.
        if analysis.frame is not self._counted:
            self._counted = analysis.frame
            self._with_face += bool(analysis.faces)
            self._stats.frame_done(analysis.latency_s)
