"""The way of the data, from a frame to a named micro-expression.

Capture -> FaceTracker -> (a face:) Registration -> RingBuffer, RegionalMotion -> Spotter
        -> flow pair -> Classifier -> MicroExpression -> sinks
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from realtime_mer.capture import Capture
from realtime_mer.classifier import Classifier
from realtime_mer.event import (
    Analysis,
    FaceState,
    Gap,
    Interval,
    MicroExpression,
    Session,
    Summary,
)
from realtime_mer.flow import DenseFlow, flow_pair
from realtime_mer.frame import Frame
from realtime_mer.landmark_model import find_landmark_model
from realtime_mer.motion import RegionalMotion, face_mask, without_head
from realtime_mer.registration import Registration
from realtime_mer.ring import RingBuffer
from realtime_mer.sink import Sink
from realtime_mer.spotter import Spotter, SpotterModel, Spotting
from realtime_mer.stats import Stats
from realtime_mer.tracker import FaceTracker, TrackedFace
from realtime_mer.window import Window

_WEIGHTS = Path(__file__).resolve().parent.parent / "models" / "weights"
CLASSIFIER = _WEIGHTS / "causalnet.onnx"
SPOTTER = _WEIGHTS / "spotter.onnx"

# Pictures kept of each face: the longest micro-expression and the time until it is reported.
_RING_S = 1.5
_RING_FPS = 200
# A shorter loss of the face is bridged; a longer one ends the window and is logged. Two or three
# frames of a slow source take longer, but not more than the second; times are in whole ms.
_BRIDGE_S = (0.101, 1.0)
_BRIDGE_FRAMES = 2.5
# Of several faces, one that was lost for so long has been given up by the tracker: its memory is
# freed.
_FORGET_S = 1.5
# No head moves or grows by so much of its size within a bridged loss.
_JUMP = 0.5
# Signs in the face or the head that make motion hard to read; shown to the operator.
_BLINK = 0.4
_TURN_PX_S = 60.0
_SPEECH = 0.2


class FacePair:
    """Makes the flow pair of an interval from the pictures of a ring."""

    def __init__(self) -> None:
        self._flow = DenseFlow()

    def __call__(self, ring: RingBuffer, interval: Interval) -> tuple[np.ndarray, float]:
        """The flow pair (2, 28, 28, 3) uint8 and the motion's intensity in pixels.

        The intensity is the 99th percentile of the displacement from onset to apex in the face.
        """
        onset, apex, offset = (
            ring.at(t) for t in (interval.onset_s, interval.apex_s, interval.offset_s)
        )
        rise = without_head(self._flow(onset.grey, apex.grey), apex)
        fall = without_head(self._flow(apex.grey, offset.grey), apex)
        size = np.linalg.norm(rise, axis=-1)[face_mask(apex.landmarks)]
        intensity = float(np.percentile(size, 99)) if size.size else 0.0
        return flow_pair(rise, fall), intensity


def _corners(face: TrackedFace) -> np.ndarray:
    """Upper left and lower right corner (2, 2) of a face, in pixels of the frame."""
    points = face.landmarks[:, :2]
    return np.array([points.min(0), points.max(0)])


class FaceChain:
    """Everything that is remembered about one face."""

    def __init__(
        self, identity: int, model: SpotterModel, classifier: Classifier, stats: Stats
    ) -> None:
        self._identity = identity
        self._model, self._classifier, self._stats = model, classifier, stats
        self._ring = RingBuffer(int(_RING_S * _RING_FPS))
        self._pair = FacePair()
        self._seen_s = -math.inf
        self._corners: np.ndarray | None = None
        self._places: deque[tuple[float, np.ndarray]] = deque(maxlen=_RING_FPS // 5)
        self._start()

    def _start(self) -> None:
        self._registration = Registration()
        self._motion = RegionalMotion()
        self._spotter = Spotter(self._model)
        self._ring.clear()
        self._places.clear()

    def gap(
        self, time_s: float, tracked: TrackedFace, frame_before_s: float, bridge_s: float
    ) -> Gap | None:
        """The gap that ends with a sighting at `time_s`, if one does; the face starts afresh.

        Args:
            time_s: Time of this frame.
            tracked: The face in it.
            frame_before_s: Time of the frame before it, with the face or without.
            bridge_s: How long the face may have been away without a gap.
        """
        before, self._seen_s = self._seen_s, time_s
        last, self._corners = self._corners, _corners(tracked)
        if last is None:
            return None
        if time_s - before <= bridge_s:
            if np.abs(self._corners - last).max() <= _JUMP * np.ptp(last, axis=0).max():
                return None
            # The tracker has gone over to someone else, or to something that looks like a face.
            reason = "face jumped"
        else:
            reason = "no frames" if before == frame_before_s else "face lost"
        self._start()
        return Gap(self._identity, before, time_s, reason)

    def given_up(self, time_s: float) -> Gap | None:
        """The last gap of a face that will come back as another one; None while it may return."""
        if time_s - self._seen_s <= _FORGET_S:
            return None
        return Gap(self._identity, self._seen_s, time_s, "face lost")

    def step(self, frame: Frame, tracked: TrackedFace) -> tuple[FaceState, list[Interval]]:
        """The state of the face in this frame, and the intervals that the spotter proposes."""
        with self._stats.stage("register"):
            face = self._registration(frame.image, tracked.landmarks, frame.time_s)
            self._ring.append(frame.time_s, face)
        with self._stats.stage("flow"):
            motion = self._motion(face, frame.time_s, tracked.blink, tracked.jaw_open)
        with self._stats.stage("spot"):
            spotting = self._spotter(motion)
        self._places.append((frame.time_s, motion.place))
        return self._state(tracked, spotting), list(spotting.found)

    def _state(self, tracked: TrackedFace, spotting: Spotting) -> FaceState:
        nuisances = []
        if tracked.blink > _BLINK:
            nuisances.append("blink")
        (start_s, start), (end_s, end) = self._places[0], self._places[-1]
        for time_s, place in self._places:
            if end_s - time_s <= 0.15:
                start_s, start = time_s, place
                break
        if end_s > start_s and np.linalg.norm(end - start) / (end_s - start_s) > _TURN_PX_S:
            nuisances.append("head motion")
        if tracked.jaw_open > _SPEECH:
            nuisances.append("speech")
        return FaceState(
            self._identity,
            np.ascontiguousarray(tracked.landmarks[:, :2]),
            spotting.score,
            spotting.window,
            tuple(nuisances),
        )

    def classify(self, interval: Interval, now_s: Callable[[], float]) -> MicroExpression:
        """The event of an interval that lies in the ring, reported when it has been named."""
        with self._stats.stage("classify"):
            pair, intensity = self._pair(self._ring, interval)
            probabilities = self._classifier.classify(pair[None])[0]
        return MicroExpression(
            self._identity,
            interval,
            dict(zip(self._classifier.labels, map(float, probabilities), strict=True)),
            intensity,
            now_s(),
        )


class Recognizer:
    """Micro-expressions of a source, as they happen.

    Use as a context manager, and iterate: over itself for events, over `analyses` for frames.

    Args:
        source: Camera number, path of a video or a folder of frames, or address.
        faces: How many faces to follow at most.
        weights: The classifier, ONNX, with its card beside it.
        spotter: The spotter, likewise.
        landmarks: The face landmarker's model; None to look for it.
        providers: Where the classifier runs: "auto", "cpu" or "cuda".
        fps: Frame rate of a folder of frames.

    Raises:
        InputError: Something of this cannot be used; the message says what and the remedy.
        ValueError: `faces` or `providers` is none of those.

    Example:
        with Recognizer("clip.mp4") as recognizer:
            for event in recognizer:
                print(event.interval.onset_s, event.label, event.confidence)
    """

    def __init__(
        self,
        source: str | int | os.PathLike[str],
        *,
        faces: int = 1,
        weights: Path = CLASSIFIER,
        spotter: Path = SPOTTER,
        landmarks: Path | None = None,
        providers: str = "auto",
        fps: float | None = None,
    ) -> None:
        if faces < 1:
            raise ValueError(f"faces is 1 or more, got {faces}")
        self.stats = Stats()
        self._faces = faces
        self._chains: dict[int, FaceChain] = {}
        self._with_face = 0
        self._events = 0
        # Of the last frames, from which their usual distance is taken.
        self._times: deque[float] = deque(maxlen=16)
        # MediaPipe and the capture have threads of their own; OpenCV's would only get in their way.
        cv2.setNumThreads(1)
        # What may fail quickly comes first; the native graph last.
        self._capture = Capture(source, fps)
        self._classifier = Classifier(weights, providers)
        self._spotter = SpotterModel(spotter)
        self._tracker = FaceTracker(find_landmark_model(landmarks), faces)
        try:
            self._capture.open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops the capture, then the tracker. May be called twice."""
        try:
            self._capture.close()
        finally:
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

    def summary(self, reason: str) -> Summary:
        """The figures so far."""
        read, dropped = self._capture.frames_read, self._capture.frames_dropped
        return Summary(
            reason=reason,
            frames_read=read,
            frames_analysed=self.stats.frames_analysed,
            frames_dropped=dropped,
            frames_with_face=self._with_face,
            duration_s=self._times[-1] if self._times else 0.0,
            wall_s=self.stats.wall_s,
            events=self._events,
            stats=self.stats.as_dict(read, dropped),
        )

    def __iter__(self) -> Iterator[MicroExpression]:
        for analysis in self.analyses():
            yield from analysis.events

    def analyses(self) -> Iterator[Analysis]:
        """What each frame tells, in the order of time, until the source ends."""
        while True:
            with self.stats.stage("capture_wait"):
                frame = self._capture.read()
            if frame is None:
                return
            yield self._analyse(frame)

    def _analyse(self, frame: Frame) -> Analysis:
        # Recordings are read ahead: what a frame waits there is no latency of anyone's.
        started_at = frame.captured_at if self._capture.live else time.monotonic()
        with self.stats.stage("track"):
            tracked = self._tracker.track(frame)
        before_s = self._times[-1] if self._times else -math.inf
        self._times.append(frame.time_s)
        bridge_s = self._bridge_s()
        states, events, gaps = [], [], []
        for face in tracked:
            chain = self._chains.get(face.identity)
            if chain is None:
                chain = self._chains[face.identity] = FaceChain(
                    face.identity, self._spotter, self._classifier, self.stats
                )
            if gap := chain.gap(frame.time_s, face, before_s, bridge_s):
                gaps.append(gap)
            state, found = chain.step(frame, face)
            states.append(state)
            events += [chain.classify(i, lambda: self._now_s(frame)) for i in found]
        gaps += self._forget(frame.time_s)
        self._with_face += bool(tracked)
        self._events += len(events)
        latency_s = time.monotonic() - started_at
        self.stats.frame_done(latency_s)
        return Analysis(
            frame,
            tuple(states),
            tuple(events),
            tuple(gaps),
            latency_s,
            self.stats.fps,
            self._capture.frames_dropped,
        )

    def _now_s(self, frame: Frame) -> float:
        """The source's time now: a live source has gone on while the frame was analysed."""
        if not self._capture.live:
            return frame.time_s
        return frame.time_s + time.monotonic() - frame.captured_at

    def _bridge_s(self) -> float:
        """How long a face may be away without a gap, at the rate at which frames come."""
        usual_s = float(np.median(np.diff(self._times))) if len(self._times) > 1 else 0.0
        least, most = _BRIDGE_S
        return min(max(least, _BRIDGE_FRAMES * usual_s), most)

    def _forget(self, time_s: float) -> list[Gap]:
        """Frees the faces that the tracker has given up; the gap that each of them leaves."""
        if self._faces == 1:
            return []  # it keeps its identity, however long it is away
        over = {i: gap for i, chain in self._chains.items() if (gap := chain.given_up(time_s))}
        for identity in over:
            del self._chains[identity]
        return list(over.values())


def run(recognizer: Recognizer, sinks: Sequence[Sink], window: Window | None = None) -> Summary:
    """Runs a recognizer to the end of its source, or until the user stops it.

    Every sink that was begun is ended, in reverse order, also after errors and Ctrl-C.

    Returns:
        The summary that the sinks were given.
    """
    begun: list[Sink] = []
    reason = "stopped by user"
    error: BaseException | None = None
    everyone = [*sinks, window] if window is not None else list(sinks)
    try:
        session = recognizer.session
        for sink in everyone:
            begun.append(sink)
            sink.begin(session)
        for analysis in recognizer.analyses():
            with recognizer.stats.stage("show"):
                for sink in everyone:
                    sink.update(analysis)
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
        try:
            recognizer.close()
        finally:
            summary = recognizer.summary(reason)
            failed = _end(begun, summary)
        # What a sink says at the end must not hide what ended the run.
        if failed is not None and error is None:
            raise failed
    return summary


def _end(begun: list[Sink], summary: Summary) -> BaseException | None:
    """Ends all sinks, the last begun first, whatever happens; returns the first error."""
    failed: BaseException | None = None
    for sink in reversed(begun):
        try:
            sink.end(summary)
        except BaseException as error:
            failed = failed or error
    return failed
