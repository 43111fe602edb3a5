"""The way of the data, from a frame to a named micro-expression.

    thread "capture"  Capture: the source's frames
          |           live: the newest frame wins, the others are dropped and counted
    thread "track"    PacedTracker: the faces in each frame (MediaPipe)
          |           a channel; the writer waits
    thread "spot"     FaceChain, one a face: Registration -> RingBuffer, RegionalMotion -> Spotter
          |             and of an interval: FacePair -> Classifier -> MicroExpression
          |           a channel; live: what was not taken in time merges into the next
    the caller        `Recognizer.analyses()`, an Analysis a frame -> sinks

Nothing of a recording is dropped: each stage waits for the next, and reads a few frames ahead. A
live source waits for nobody: what is too slow to analyse is dropped at the capture, what is too
slow to show loses its picture, never its events.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import math
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from realtime_mer.capture import Capture, Reader
from realtime_mer.channel import Channel
from realtime_mer.classifier import Classifier
from realtime_mer.event import (
    Analysis,
    Gap,
    InputError,
    Interval,
    MacroExpression,
    MicroExpression,
    Session,
    Summary,
)
from realtime_mer.face_chain import FaceChain
from realtime_mer.frame import Frame
from realtime_mer.interpolation import TRACK_FPS, PacedTracker, TrackedFrame
from realtime_mer.landmark_model import find_landmark_model
from realtime_mer.reader import CameraRequest
from realtime_mer.sink import Sink
from realtime_mer.source_health import FROZEN, LOST, SILENT, Outage
from realtime_mer.spotter import SpotterModel
from realtime_mer.stage import Stage
from realtime_mer.stats import Stats
from realtime_mer.tracker import FaceTracker, TrackedFace
from realtime_mer.window import Window

_WEIGHTS = Path(__file__).resolve().parent.parent / "models" / "weights"
CLASSIFIER = _WEIGHTS / "causalnet.onnx"
SPOTTER = _WEIGHTS / "spotter.onnx"

# Frames between two stages: enough for one to catch its breath while the other names an event
# (15 ms); at 4K a frame is 25 MB.
_QUEUED = 3
# Analyses that a live source keeps for its caller: a newer one merges with the one that waits.
_LIVE_SHOWN = 1
# A live source that sends nothing for so long is not waited for to interpolate faces.
_FLUSH_S = 0.1
# And after so long what is shown is shown anew: windows obey their keys, alerts appear.
_IDLE_S = 0.1
# A thread may be in a native call, which takes milliseconds; a machine may be busy.
_JOIN_S = 5.0
# A shorter loss of the face is bridged; a longer one ends the window and is logged. Two or three
# frames of a slow source take longer, but not more than the second; times are in whole ms.
_BRIDGE_S = (0.101, 1.0)
_BRIDGE_FRAMES = 2.5
# One of several faces that is away for longer does not come back under its number.
_GONE_S = 30.0
# Losses of the source that are remembered, to tell why faces were lost, which may not be back yet.
_LOSSES = 16
# Below the first width in pixels a face is too small to read a micro-expression of 1 to 3 px of
# the canonical face, a fraction of a pixel there; above the second it is large enough again.
_SMALL_PX = (60.0, 66.0)


def merged(earlier: Analysis, later: Analysis) -> Analysis:
    """Two analyses in one: the picture and the faces of the later, what was found in both."""
    return dataclasses.replace(
        later,
        events=earlier.events + later.events,
        gaps=earlier.gaps + later.gaps,
        macros=earlier.macros + later.macros,
    )


class _SizeAlert:
    """Says when the face that is known longest is too small, without flickering."""

    def __init__(self) -> None:
        self._is_small = False

    def __call__(self, faces: Sequence[TrackedFace]) -> tuple[str, ...]:
        if not faces:
            self._is_small = False
            return ()
        width = float(np.ptp(min(faces, key=lambda face: face.identity).landmarks[:, 0]))
        self._is_small = width < _SMALL_PX[self._is_small]
        return (f"face too small: {width:.0f} px wide",) if self._is_small else ()


_open: set[Recognizer] = set()


def _close_all() -> None:
    for recognizer in list(_open):
        with contextlib.suppress(Exception):
            recognizer.close()


@functools.cache
def _close_all_at_exit() -> None:
    """To be called once there is a landmarker: one that is never closed can hang the exit.

    MediaPipe closes it in an executor, and Python ends those before `atexit` begins: by the list
    that this adds to, the last that was added first.
    """
    getattr(threading, "_register_atexit", atexit.register)(_close_all)


class Recognizer:
    """Micro-expressions of a source, as they happen.

    Iterate: over itself for events, over `analyses` for frames; or hand over functions to `run`.
    It closes itself when the source ends, on errors and when the iteration is given up, unless it
    is used as a context manager, which closes it at the end of the block.

    Args:
        source: Camera number, path of a video or a folder of frames, or address; or a reader of
            one's own (`capture.Reader`).
        faces: How many faces to follow at most.
        weights: The classifier, ONNX, with its card beside it.
        spotter: The spotter, likewise.
        landmarks: The face landmarker's model; None to look for it.
        providers: Where the classifier runs: "auto", "cpu", "cuda" or "tensorrt".
        least_confidence: 0 to 1; an event with less is labelled "uncertain" and keeps its
            probabilities.
        fps: Frame rate of a folder of frames.
        reconnect: Whether a camera or stream that is lost is opened again.
        camera: What a camera is asked for; None for 1280 x 720, MJPG, 30 a second.
        sensitivity: As the property; None for what the spotter's card recommends.
        track_fps: Of a source that gives many more frames a second than this, about so many are
            tracked, and the faces between are interpolated. All frames are analysed.

    Raises:
        InputError: Something of this cannot be used; the message says what and the remedy.
        ValueError: `faces`, `providers`, `least_confidence`, `sensitivity` or `track_fps` is none
            of those.

    Example:
        >>> for event in Recognizer("clip.avi"):
        ...     print(f"{event.interval.onset_s:.1f} s: {event.label}")
        1.8 s: surprise

        It may be stopped and taken up again, and told to be more or less strict on the way:

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
        weights: Path = CLASSIFIER,
        spotter: Path = SPOTTER,
        landmarks: Path | None = None,
        providers: str = "auto",
        least_confidence: float = 0.0,
        fps: float | None = None,
        reconnect: bool = True,
        camera: CameraRequest | None = None,
        sensitivity: float | None = None,
        track_fps: float = TRACK_FPS,
    ) -> None:
        if faces < 1:
            raise ValueError(f"faces is 1 or more, got {faces}")
        if not track_fps > 0:
            raise ValueError(f"track_fps is above 0, got {track_fps}")
        self.stats = Stats()
        self._faces = faces
        self._chains: dict[int, FaceChain] = {}
        # Of the faces whose memory was freed, when they were seen last.
        self._away_since: dict[int, float] = {}
        self._with_face = 0
        self._events = 0
        self._taken = 0
        self._counted: Frame | None = None
        self._stages: tuple[Stage, ...] = ()
        # Of the last frames, from which their usual distance is taken.
        self._times: deque[float] = deque(maxlen=16)
        self._size_alert = _SizeAlert()
        # Of the source, until the frames after them are analysed.
        self._outages: list[Outage] = []
        self._losses: deque[Outage] = deque(maxlen=_LOSSES)
        self._last: Analysis | None = None
        # How far a source that was away at the end has come without frames.
        self._end_s = 0.0
        self._broken: BaseException | None = None
        self._ending = threading.Lock()
        self._held = self._started = self._closed = False
        # The stages have threads of their own; OpenCV's would only get in their way.
        cv2.setNumThreads(1)
        # What may fail quickly comes first; the native graph last.
        camera = camera or CameraRequest()
        self._capture = Capture(
            source,
            fps,
            size=camera.size,
            rate=camera.rate,
            pixel_format=camera.pixel_format,
            reconnect=reconnect,
        )
        self._classifier = Classifier(weights, providers, least_confidence)
        self._spotter = SpotterModel(spotter)
        if sensitivity is not None:
            if not self._spotter.has_curve:
                raise InputError(
                    f"the card of {spotter} tells no curve of false reports, which a sensitivity "
                    "needs: leave the sensitivity out, or use a spotter of tools/train_spotter.py"
                )
            self.sensitivity = sensitivity
        self._tracker = FaceTracker(find_landmark_model(landmarks), faces)
        self._paced = PacedTracker(self._tracker, track_fps)
        try:
            self._capture.open()
        except BaseException:
            self._stop_capture_and_tracker()
            raise
        self._tracked: Channel[TrackedFrame] = Channel(
            _QUEUED, waited=functools.partial(self.stats.record, "spot_wait")
        )
        self._shown: Channel[Analysis] = Channel(
            _LIVE_SHOWN if self._capture.live else _QUEUED,
            merge=merged if self._capture.live else None,
            waited=functools.partial(self.stats.record, "show_wait"),
        )
        self._stages = (
            Stage("track", self._track, self._tracked),
            Stage("spot", self._spot, self._shown, source=self._tracked),
        )
        _open.add(self)
        _close_all_at_exit()

    def __enter__(self) -> Recognizer:
        self._held = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops all threads, then the tracker. May be called at any moment, by any thread."""
        self._closed = True
        # What has been analysed is not lost: it stays in the last channel, for `leftover`.
        self._tracked.close()
        self._shown.open_up()
        self._stop_capture_and_tracker()
        if self._stages[-1].join(0):
            self._end_gaps()
        self._shown.end()
        _open.discard(self)

    def _stop_capture_and_tracker(self) -> None:
        try:
            self._capture.close()
        finally:
            # In use, it must not be closed; a thread that hangs is worse off, but is no reason
            # to hang here.
            if all(stage.join(_JOIN_S) for stage in self._stages):
                self._tracker.close()

    @property
    def session(self) -> Session:
        """What is known before the first frame."""
        return Session(
            source=self._capture.source,
            live=self._capture.live,
            size=self._capture.size,
            fps=self._capture.fps,
            frame_count=self._capture.frame_count,
            model=self._classifier.name,
            provider=self._classifier.provider,
            labels=tuple(self._classifier.labels),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, a sentence each; may grow until the end."""
        note = self._classifier.note
        return ((note,) if note else ()) + self._capture.notes

    @property
    def end_reason(self) -> str:
        """Why the source gives no more frames."""
        return self._capture.state.value

    @property
    def sensitivity(self) -> float | None:
        """False reports a minute to be expected, on restless heads; more find more.

        It may be set at any time, by any thread, and holds from the next frame on; what lies
        outside the curve on the spotter's card becomes its end. None where the card has no curve.

        Raises:
            ValueError: It is set to 0 or less, or the spotter's card has no curve.
        """
        if not self._spotter.has_curve:
            return None
        return self._spotter.expected_false_per_minute(self._spotter.threshold)

    @sensitivity.setter
    def sensitivity(self, false_per_minute: float) -> None:
        self._spotter.threshold = self._spotter.threshold_at(false_per_minute)

    def summary(self, reason: str) -> Summary:
        """The figures so far."""
        analysed = self.stats.frames_analysed
        read, dropped = self._capture.frames_read, self._capture.frames_dropped
        drops = {"analysis too slow": dropped, "display too slow": self._shown.merged}
        if self._closed:
            # Of a recording they were only read ahead.
            under_way = max(0, self._taken - analysed)
            if self._capture.live:
                drops["stopped"] = under_way
                dropped += under_way
            else:
                read -= under_way
        counted_s = self._counted.time_s if self._counted is not None else 0.0
        return Summary(
            reason=reason,
            frames_read=read,
            frames_analysed=analysed,
            frames_dropped=dropped,
            frames_with_face=self._with_face,
            duration_s=max(self._end_s, counted_s),
            wall_s=self.stats.wall_s,
            events=self._events,
            stats=self.stats.as_dict(read, dropped, drops),
        )

    def __iter__(self) -> Iterator[MicroExpression]:
        with contextlib.closing(self.analyses()) as analyses:
            for analysis in analyses:
                yield from analysis.events

    def analyses(self, idle_s: float | None = None) -> Iterator[Analysis]:
        """What each frame tells, in the order of time, until the source ends.

        The source may go on while this is not asked: see the module. A face that is not followed
        when the source ends leaves its gap in one more analysis of the last frame; when it is
        closed before, that is in the `leftover`.

        Args:
            idle_s: Of a live source that sends nothing for so long, the last analysis is given
                again without its events, with the alerts of the moment; None to wait.

        Raises:
            InputError: The source broke in a way that the user has to mend.
        """
        if self._closed:
            return
        if not self._started:
            self._started = True
            for stage in self._stages:
                stage.start()
        last: Analysis | None = None
        try:
            for analysis in self._shown.items(idle_s if self._capture.live else None):
                if analysis is not None:
                    last = self._delivered(analysis)
                elif last is not None:
                    last = dataclasses.replace(
                        last, events=(), gaps=(), macros=(), alerts=self._capture.alerts
                    )
                if last is not None:
                    yield last
        finally:
            if not self._held and not self._closed:
                self.close()

    def leftover(self) -> Analysis | None:
        """What had been found and not been asked for when it was closed; None if nothing was.

        With the gaps of the faces that were not followed at that moment.

        Raises:
            BaseException: What broke a stage, once all that was found before has been taken.
        """
        waiting: list[Analysis] = []
        try:
            waiting.extend(self._shown)
        except BaseException as error:
            self._broken = error
        if any(a.events or a.gaps or a.macros for a in waiting):
            return functools.reduce(merged, map(self._delivered, waiting))
        if self._broken is not None:
            error, self._broken = self._broken, None
            raise error
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
        return run(self, [_Callbacks(on_event, on_analysis)])

    # The stages, each in its own thread

    def _track(self) -> None:
        """Thread "track": frames become frames with faces."""
        broken: InputError | None = None
        while True:
            # Live frames that wait for another one to interpolate faces must not wait long.
            impatient = self._capture.live and self._paced.is_waiting
            with self.stats.stage("capture_wait"):
                try:
                    frame = self._capture.read(_FLUSH_S if impatient else None)
                except InputError as error:
                    frame, broken = None, error
            for tracked in self._faces_of(frame):
                if not self._tracked.put(tracked):
                    return
            if broken is not None:
                raise broken
            if frame is None and (not impatient or self._capture.over):
                return

    def _faces_of(self, frame: Frame | None) -> list[TrackedFrame]:
        """The frames whose faces are known with this one, or if no other comes now."""
        started = time.monotonic()
        if frame is None:
            done = self._paced.flush()
        else:
            self._taken += 1
            self.stats.record("track_wait", started - frame.captured_at)
            # Recordings are read ahead: what a frame waits there is no latency of anyone's.
            done = self._paced(frame, frame.captured_at if self._capture.live else started)
        if done:  # else it waits for the next one that is tracked
            self.stats.record("track", time.monotonic() - started)
        return done

    def _spot(self) -> None:
        """Thread "spot": frames with faces become analyses."""
        try:
            for tracked in self._tracked:
                self._last = self._analyse(tracked)
                if self._capture.live:
                    self._count(self._last)
                if not self._shown.put(self._last):
                    return
        finally:
            # A source that goes on does so until it is closed.
            if self._capture.over:
                self._end_gaps()

    def _analyse(self, tracked: TrackedFrame) -> Analysis:
        frame = tracked.frame
        before_s = self._times[-1] if self._times else -math.inf
        self._times.append(frame.time_s)
        bridge_s = self._bridge_s()
        sensitivity = self.sensitivity
        gaps = self._frozen_gaps(self._outages_until(frame.time_s), frame.time_s)
        states, macros = [], []
        found: list[tuple[int, Interval]] = []
        for face in tracked.faces:
            chain = self._chains.get(face.identity)
            if chain is None:
                chain = self._chains[face.identity] = FaceChain(
                    face.identity, self._spotter, self.stats
                )
                if (since_s := self._away_since.pop(face.identity, None)) is not None:
                    gaps.append(Gap(face.identity, since_s, frame.time_s, "face lost"))
            if gap := chain.gap(frame.time_s, face, before_s, bridge_s):
                gaps.append(gap)
            state, spotting = chain.step(face, tracked)
            states.append(state)
            found += [(face.identity, interval) for interval in spotting.found]
            macros += [
                MacroExpression(face.identity, *ends, frame.time_s) for ends in spotting.macros
            ]
        events = self._named(found, frame) if found else ()
        gaps += self._forget(frame.time_s)
        return Analysis(
            frame,
            tuple(states),
            events,
            self._explained(gaps, bridge_s),
            time.monotonic() - tracked.taken_at,
            self.stats.fps,
            self._capture.frames_dropped,
            tracked.source_fps,
            sensitivity,
            (*self._capture.alerts, *self._size_alert(tracked.faces)),
            tuple(macros),
        )

    def _named(
        self, found: Sequence[tuple[int, Interval]], frame: Frame
    ) -> tuple[MicroExpression, ...]:
        """The micro-expressions of (face, interval), classified in one go."""
        with self.stats.stage("classify"):
            seen = [(*one, self._chains[one[0]].pair(one[1])) for one in found]
            images = np.stack([pair.images for _, _, pair in seen])
            probabilities = self._classifier.classify(images)
        return tuple(
            MicroExpression(
                identity,
                interval,
                dict(zip(self._classifier.labels, map(float, row), strict=True)),
                pair.intensity_px,
                frame.time_s,
                pair.picture,
                self._classifier.least_confidence,
            )
            for (identity, interval, pair), row in zip(seen, probabilities, strict=True)
        )

    def _bridge_s(self) -> float:
        """How long a face may be away without a gap, at the rate at which frames come."""
        periods = [later - earlier for earlier, later in pairwise(self._times)]
        usual_s = statistics.median(periods) if periods else 0.0
        least, most = _BRIDGE_S
        return min(max(least, _BRIDGE_FRAMES * usual_s), most)

    def _forget(self, time_s: float) -> list[Gap]:
        """Frees the memory of faces that are long away; the gaps of those gone for good."""
        if self._faces == 1:
            return []  # it keeps its identity, however long it is away
        for identity, chain in list(self._chains.items()):
            if gap := chain.given_up(time_s):
                self._away_since[identity] = gap.start_s
                del self._chains[identity]
        gone = [i for i, since_s in self._away_since.items() if time_s - since_s > _GONE_S]
        return [Gap(i, self._away_since.pop(i), time_s, "face lost") for i in gone]

    def _outages_until(self, time_s: float) -> list[Outage]:
        """The outages of the source that were over at a time and are not told yet."""
        self._outages += self._capture.take_outages()
        over = [outage for outage in self._outages if outage.end_s <= time_s]
        self._outages = [outage for outage in self._outages if outage.end_s > time_s]
        self._losses += (outage for outage in over if outage.reason == LOST)
        return over

    def _frozen_gaps(self, over: Sequence[Outage], time_s: float) -> list[Gap]:
        """The gaps that a frozen picture leaves, one for each face that was followed in it.

        These start afresh: what moves when it thaws has moved meanwhile.
        """
        gaps = []
        frozen = (outage for outage in over if outage.reason == FROZEN)
        for outage, (identity, chain) in product(frozen, self._chains.items()):
            away = chain.away(time_s, 0.0)
            if away is None or away.start_s >= outage.start_s:
                gaps.append(Gap(identity, outage.start_s, outage.end_s, FROZEN))
                chain.restart()
        return gaps

    def _explained(self, gaps: Sequence[Gap], bridge_s: float) -> tuple[Gap, ...]:
        """The gaps, with what the source knows of them: its loss is why those began with it."""
        return tuple(
            dataclasses.replace(gap, reason=LOST)
            if any(
                gap.start_s <= loss.start_s <= gap.start_s + bridge_s and loss.end_s <= gap.end_s
                for loss in self._losses
            )
            else gap
            for gap in gaps
        )

    def _end_gaps(self) -> None:
        """Ends the gaps that are open with the session; they come with the last frame again."""
        with self._ending:
            last, self._last = self._last, None
            if last is None:
                return
            bridge_s = self._bridge_s()
            last_s = last.frame.time_s
            over = self._outages_until(math.inf)
            # Frames that were not analysed any more are no gap; a source that was away is one.
            away_s = [outage.end_s for outage in over if outage.reason != FROZEN]
            end_s = max([last_s, *away_s])
            gaps = self._frozen_gaps(over, last_s)
            for chain in self._chains.values():
                if gap := chain.away(end_s, bridge_s):
                    in_sight = gap.start_s == last_s
                    gaps.append(dataclasses.replace(gap, reason=SILENT) if in_sight else gap)
            gaps += (Gap(i, since_s, end_s, "face lost") for i, since_s in self._away_since.items())
            self._end_s = max([0.0, *away_s, *(gap.end_s for gap in gaps)])
            if gaps:
                told = self._explained(gaps, bridge_s)
                self._shown.put(
                    dataclasses.replace(last, events=(), gaps=told, macros=(), latency_s=0.0)
                )

    # What the caller is given

    def _delivered(self, analysis: Analysis) -> Analysis:
        """An analysis as it leaves: counted, and its events dated."""
        if not self._capture.live:
            self._count(analysis)
            return analysis
        if not analysis.events:
            return analysis
        # The source has gone on while the frame was analysed and while the analysis lay here.
        now_s = analysis.frame.time_s + time.monotonic() - analysis.frame.captured_at
        events = tuple(dataclasses.replace(e, reported_s=now_s) for e in analysis.events)
        return dataclasses.replace(analysis, events=events)

    def _count(self, analysis: Analysis) -> None:
        """Of a live source, what is analysed counts; of a recording, what is delivered."""
        self._events += len(analysis.events)
        if analysis.frame is not self._counted:  # the last gaps come with the last frame again
            self._counted = analysis.frame
            self._with_face += bool(analysis.faces)
            self.stats.frame_done(analysis.latency_s)


class _Callbacks:
    """Functions as a sink."""

    def __init__(
        self,
        on_event: Callable[[MicroExpression], None] | None,
        on_analysis: Callable[[Analysis], None] | None,
    ) -> None:
        self._on_event, self._on_analysis = on_event, on_analysis

    def begin(self, session: Session) -> None:
        pass

    def update(self, analysis: Analysis) -> None:
        if self._on_event is not None:
            for event in analysis.events:
                self._on_event(event)
        if self._on_analysis is not None:
            self._on_analysis(analysis)

    def end(self, summary: Summary) -> None:
        pass


def run(
    recognizer: Recognizer,
    sinks: Sequence[Sink],
    window: Window | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Runs a recognizer to the end of its source, or until the user stops it.

    Every sink that was begun is ended, in reverse order, also after errors and Ctrl-C. What had
    been found when the user stopped it is handed to the sinks before.

    Args:
        recognizer: It is closed at the end.
        sinks: They are given every analysis, in this order.
        window: Likewise, as the last one.
        note: Called with each of the recognizer's notes, as soon as there is one.

    Returns:
        The summary that the sinks were given.
    """
    begun: list[Sink] = []
    reason = "stopped by user"
    error: BaseException | None = None
    everyone = [*sinks, window] if window is not None else list(sinks)
    told = 0

    def tell() -> None:
        nonlocal told
        notes = recognizer.notes
        for text in notes[told:]:
            note(text)
        told = len(notes)

    try:
        with recognizer:
            tell()
            session = recognizer.session
            for sink in everyone:
                begun.append(sink)
                sink.begin(session)
            shown: Frame | None = None
            for analysis in recognizer.analyses(_IDLE_S):
                tell()
                with recognizer.stats.stage("show"):
                    _show(everyone, analysis)
                # A source that is away repeats its last frame, which is no slower for that.
                if session.live and analysis.frame is not shown:
                    shown = analysis.frame
                    until_shown_s = time.monotonic() - analysis.frame.captured_at
                    recognizer.stats.record("until_shown", until_shown_s)
                if window is not None:
                    window.wait_while_paused()
                    if window.wants_quit:
                        break
            else:
                reason = recognizer.end_reason
    except KeyboardInterrupt:
        reason = "stopped by user"
    except BaseException as caught:
        reason, error = f"error: {caught}", caught
        raise
    finally:
        failed: BaseException | None = None
        try:
            failed = _hand_over(recognizer, begun)
        finally:
            summary = recognizer.summary(reason)
            at_the_end = _end(begun, summary)
            tell()
            failed = failed or at_the_end
        # What a sink says at the end must not hide what ended the run.
        if failed is not None and error is None:
            raise failed
    return summary


def _show(sinks: Sequence[Sink], analysis: Analysis) -> None:
    """Hands an analysis on. Ctrl-C and a sink that fails do not keep it from the sinks after it."""
    for place, sink in enumerate(sinks, 1):
        try:
            sink.update(analysis)
        except BaseException:
            _tell(sinks[place:], analysis)
            raise


def _hand_over(recognizer: Recognizer, sinks: Sequence[Sink]) -> BaseException | None:
    """Hands on what had been found when it was closed; returns the first error."""
    failed: BaseException | None = None
    try:
        while (leftover := recognizer.leftover()) is not None:
            failed = failed or _tell(sinks, leftover)
    except BaseException as error:
        failed = failed or error
    return failed


def _tell(sinks: Sequence[Sink], analysis: Analysis) -> BaseException | None:
    """Hands on what was found last, whatever happens; returns the first error."""
    failed: BaseException | None = None
    for sink in sinks:
        try:
            sink.update(analysis)
        except BaseException as error:
            failed = failed or error
    return failed


def _end(begun: list[Sink], summary: Summary) -> BaseException | None:
    """Ends all sinks, the last begun first, whatever happens; returns the first error."""
    failed: BaseException | None = None
    for sink in reversed(begun):
        try:
            sink.end(summary)
        except BaseException as error:
            failed = failed or error
    return failed
