"""The chain without threads: a picture goes in, everything that is known about it comes out.

    Frame -> FaceTracker -> TrackedFrame            who is in the picture
          -> FaceChain, one a face                  registered, its motion followed, spotted
          -> FacePair -> Classifier                 of an interval that was spotted: its class
          -> Analysis

A session gives the two halves, `track` and `analyse`, a thread each; whoever has pictures of their
own calls the analyser itself.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

from realtime_mer.analysis.baseline import BASELINE_S, Baselines
from realtime_mer.analysis.face_chain import FaceChain, FaceStep
from realtime_mer.analysis.frame_numbers import FrameNumbers
from realtime_mer.analysis.gaps import FrameTimes, SourceOutages
from realtime_mer.analysis.opencv_threads import hold_single_threaded, release_single_threaded
from realtime_mer.analysis.pace import Pace
from realtime_mer.analysis.visibility_spans import VisibilitySpans
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import load_landmark_model
from realtime_mer.face.tracker import FaceTracker, TrackedFace, TrackedFrame
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.recognition.classifier import Classifier
from realtime_mer.recognition.face_pair import FacePair, FlowPair
from realtime_mer.results import (
    ActionUnit,
    Analysis,
    Baseline,
    ClockOrigin,
    FaceState,
    Gap,
    GapReason,
    Interval,
    MacroExpression,
    MicroExpression,
    VisibilitySpan,
)
from realtime_mer.source.frame import Frame, check_picture
from realtime_mer.source.health import Outage
from realtime_mer.source.limits import MAX_TIME_S
from realtime_mer.source.rate import SourceRate
from realtime_mer.spotting.action_units import action_units
from realtime_mer.spotting.spotter import Proposal, SpotterModel
from realtime_mer.stats import Stats

# One of several faces that is away for longer does not come back under its number.
_GONE_S = 30.0
# Below the first width in pixels a face is too small to read a micro-expression of 1 to 3 px of
# the canonical face, a fraction of a pixel there; above the second it is large enough again.
_SMALL_PX = (60.0, 66.0)
# Of a face of which too few frames are analysed: its quality at most, shown as "bad".
_FEW_FRAMES_QUALITY = 0.2
# What moves the skin further than this, in pixels of the canonical face, is speech or a
# macro-expression, whatever the spotter thinks. Chosen on 65 videos of people who talk (see
# "Talking people" in docs/spotting.md), and on 99 hidden motions that are found: none is larger.
_MOST_INTENSITY_PX = 7.0


def _classifier(
    weights: str | os.PathLike[str] | Classifier, providers: str, least_confidence: float | None
) -> Classifier:
    if isinstance(weights, Classifier):
        return weights
    return Classifier(weights, providers, least_confidence)


class Analyser:
    """Micro-expressions in pictures that are handed over one by one.

    Use it as a context manager, or close it: it holds native threads. It is called by one thread.
    While it is open, OpenCV works with one thread in the whole process; what was set before is
    restored at the end.

    Args:
        faces: How many faces to follow at most.
        weights: The classifier, ONNX, with its card beside it; or one that is loaded already, to
            share it. `providers` and `least_confidence` are then its own.
        spotter: The spotter, likewise. Who shares it shares the sensitivity.
        landmarks: The face landmarker's model; None to look for it.
        providers: Where the classifier runs: "auto", "cpu", "cuda" or "tensorrt".
        least_confidence: 0 to 1; an event with less is labelled "uncertain" and keeps its
            probabilities. None for what the classifier's card recommends.
        sensitivity: As the property; None for what the spotter's card recommends.
        baseline_s: Take a baseline of each face in its first so many seconds, in which nothing is
            reported; None for none. See `take_baseline`.
        source: What events and logs call the source.
        stats: Where the time spent in each station is recorded; None for one of its own.

    Raises:
        InputError: Something of this cannot be used; the message says what and the remedy.
        ValueError: `faces`, `providers`, `least_confidence`, `sensitivity` or `baseline_s` is none
            of those.

    Example:
        >>> with Analyser() as analyser:
        ...     for number, image in enumerate(images):  # BGR, as OpenCV reads them
        ...         for event in analyser(image, number / 30).events:
        ...             print(f"{event.interval.onset_s:.1f} s: {event.label}")
        1.8 s: surprise
    """

    def __init__(
        self,
        *,
        faces: int = 1,
        weights: str | os.PathLike[str] | Classifier = CLASSIFIER,
        spotter: str | os.PathLike[str] | SpotterModel = SPOTTER,
        landmarks: str | os.PathLike[str] | None = None,
        providers: str = "auto",
        least_confidence: float | None = None,
        sensitivity: float | None = None,
        baseline_s: float | None = None,
        source: str = "",
        stats: Stats | None = None,
    ) -> None:
        if faces < 1:
            raise ValueError(f"faces is 1 or more, got {faces}")
        self._baselines = Baselines(baseline_s)
        self.source = source
        self.origin: ClockOrigin | None = None
        """Where the source's clock started, if it is live; its events carry it."""
        self.steps: tuple[FaceStep, ...] = ()
        """What the newest frame told about each of its faces: the answer of `follow`."""
        self.alerts: tuple[str, ...] = ()
        """What is wrong with the analysis now, a few words each: of the newest frame."""
        self.stats = stats or Stats()
        # The classifier takes a tenth of a second to load, as long as all the others together.
        with ThreadPoolExecutor(1, "load") as beside:
            loading = beside.submit(_classifier, weights, providers, least_confidence)
            self._spotter = spotter if isinstance(spotter, SpotterModel) else SpotterModel(spotter)
            if sensitivity is not None:
                if not self._spotter.has_curve:
                    raise InputError(
                        f"the card of {getattr(spotter, 'name', spotter)} tells no curve of false "
                        "reports, which a sensitivity needs: leave the sensitivity out, or use a "
                        "spotter of tools/spotting/train.py"
                    )
                self.sensitivity = sensitivity
            landmark_model = load_landmark_model(None if landmarks is None else Path(landmarks))
            self.tracker = FaceTracker(landmark_model, faces)
            try:
                self.classifier = loading.result()
            except BaseException:
                self.tracker.close()
                raise
        hold_single_threaded()
        self._is_open = True
        self._faces = faces
        self._chains: dict[int, FaceChain] = {}
        self._pair = FacePair()
        # Of the faces whose memory was freed, when they were seen last.
        self._away_since: dict[int, float] = {}
        self._times = FrameTimes()
        self._numbers = FrameNumbers()
        self._outages = SourceOutages()
        self._size_alert = _SizeAlert()
        self._pace = Pace()
        self._spans = VisibilitySpans()
        self._rate = SourceRate()
        self._frames = 0
        # The newest one that was analysed.
        self._frame: Frame | None = None

    def __enter__(self) -> Analyser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the native graphs and the threads. May be called twice."""
        if self._is_open:
            self._is_open = False
            self._pair.close()
            release_single_threaded()
        self.tracker.close()

    @property
    def sensitivity(self) -> float | None:
        """False reports a minute to be expected, on calm and lively faces alike; more find more.

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
        self._baselines.ask(seconds)

    def __call__(self, image: np.ndarray, time_s: float) -> Analysis:
        """What the next picture tells.

        Args:
            image: (height, width, 3) uint8, BGR. It is not copied: leave it as it is for as long
                as its `Analysis` is in use.
            time_s: Its time in seconds; each picture is later than the one before.

        Raises:
            ValueError: The picture is of another shape or type or too large, its time is not later
                than the one before, or the analyser is closed.
        """
        if not (abs(time_s) <= MAX_TIME_S and time_s > self._times.newest_s):
            raise ValueError(
                f"times rise from picture to picture, got {time_s} after {self._times.newest_s}"
            )
        # Before it is copied.
        check_picture(image)
        # A view of its own becomes read-only, not the caller's array.
        frame = Frame(self._frames, time_s, np.ascontiguousarray(image).view(), time.monotonic())
        self._frames += 1
        return self.analyse(self.track(frame))

    def track(self, frame: Frame, taken_at: float | None = None) -> TrackedFrame:
        """The next frame with the faces in it.

        Args:
            frame: The frame, later than all before it.
            taken_at: `time.monotonic()` when work on it began; None for now.
        """
        if taken_at is None:
            taken_at = time.monotonic()
        with self.stats.stage("track"):
            faces = self.tracker.track(frame)
        return TrackedFrame(frame, faces, taken_at, self._rate(frame))

    def analyse(self, tracked: TrackedFrame, outages: Iterable[Outage] = ()) -> Analysis:
        """What the next frame with faces tells.

        Args:
            tracked: The frame, later than all before it.
            outages: Outages of the source that have ended since the last call.
        """
        frame = self._frame = tracked.frame
        self._numbers.add(frame)
        # Read once: another thread may change it.
        sensitivity = self.sensitivity
        self._outages.add(outages)
        over = self._outages.over_at(frame.time_s)
        if over:
            self._pace.restart()
        gaps, found = self._frozen_gaps(over, frame.time_s)
        steps = self.follow(tracked)
        bridge_s = self._times.bridge_s
        gaps += (step.gap for step in steps if step.gap is not None)
        found += [(step.state.face, proposal) for step in steps for proposal in step.spotting.found]
        # Whoever has just left may have shown something last.
        found += self._found_last(frame.time_s, bridge_s)
        macros = tuple(
            MacroExpression(step.state.face, onset_s, offset_s, frame.time_s, self.source)
            for step in steps
            for onset_s, offset_s in step.spotting.macros
        )
        is_sparse = self._pace.sparse_since_s is not None
        baselines = self._baselines.update(frame.time_s, steps, is_sparse)
        if self._baselines.is_taking:
            found = self._reportable(found)
            macros = tuple(m for m in macros if not self._baselines.covers(m.face, m.onset_s))
        sparse_since_s = self._pace.update(frame, tracked.source_fps)
        if sparse_since_s is not None:
            gaps += self._sparse_gaps(sparse_since_s, frame.time_s)
            for chain in self._chains.values():
                chain.restart()
        if self._pace.sparse_since_s is not None:
            # One gap, when it ends, says what hundreds would.
            gaps = [gap for gap in gaps if gap.reason != GapReason.NO_FRAMES]
            found, macros = [], ()
        events = self._named(found, frame) if found else ()
        pace_alerts = self._pace.alerts
        told = self._baselines.alerts(frame.time_s)
        self.alerts = (*told, *pace_alerts, *self._size_alert(tracked.faces))
        faces = tuple(step.state for step in steps)
        if pace_alerts:
            faces = tuple(map(self._hardly_readable, faces))
        gone = self._forget(frame.time_s)
        for gap in gone:
            baselines += self._baselines.forget(gap.face, frame.time_s)
        gaps += gone
        return Analysis(
            frame=frame,
            faces=faces,
            events=events,
            gaps=self._outages.explained(gaps, bridge_s),
            latency_s=time.monotonic() - tracked.taken_at,
            source_fps=tracked.source_fps,
            sensitivity=sensitivity,
            alerts=self.alerts,
            macros=macros,
            visibility=self._spans.update(frame.time_s, faces, bridge_s),
            baselines=baselines,
        )

    def _reportable(self, found: Sequence[tuple[int, Proposal]]) -> list[tuple[int, Proposal]]:
        """What of (face, proposal) does not fall into a baseline."""
        withholds = self._baselines.withholds
        return [(face, p) for face, p in found if not withholds(face, p.interval.onset_s)]

    def _hardly_readable(self, face: FaceState) -> FaceState:
        """A face as it can be read with too few frames: hardly, however clear its picture is."""
        face = dataclasses.replace(
            face,
            quality=min(face.quality, _FEW_FRAMES_QUALITY),
            nuisances=(*face.nuisances, GapReason.TOO_FEW_FRAMES.value),
        )
        if self._pace.sparse_since_s is None:
            return face
        # What is not reported does not look like a finding either.
        return dataclasses.replace(face, score=math.nan, window=None, limits=None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the analysis, a sentence each; may grow until the end."""
        return self._pace.notes

    def follow(self, tracked: TrackedFrame) -> tuple[FaceStep, ...]:
        """What the next frame tells about each of its faces, before anything is named.

        `analyse` builds on it. Tools that want the registered faces or their motion call it.
        """
        self._times.add(tracked.frame.time_s)
        before_s, bridge_s = self._times.before_s, self._times.bridge_s
        self.steps = tuple(self._step(face, tracked, before_s, bridge_s) for face in tracked.faces)
        return self.steps

    def pair(self, face: int, interval: Interval) -> FlowPair:
        """The flow pair of a moment of the last 1.5 s of a face that is followed.

        Raises:
            KeyError: No face of this number is followed.
        """
        return self._chains[face].pair(interval, self._pair)

    def finish(self) -> tuple[MicroExpression, ...]:
        """What was seen to the end, but not told yet; no further picture is analysed after this.

        An event is told when it is surely over, some 0.15 s after its offset. If the video ends
        before that, this tells it.
        """
        frame = self._frame
        if frame is None or self._pace.sparse_since_s is not None:
            return ()
        found = self._reportable(self._found_last(math.inf, 0.0))
        return self._named(found, frame) if found else ()

    def _found_last(self, time_s: float, bridge_s: float) -> list[tuple[int, Proposal]]:
        """What was found and not told yet of faces that are away at a time for too long."""
        return [
            (identity, proposal)
            for identity, chain in self._chains.items()
            if chain.away(time_s, bridge_s) is not None
            for proposal in chain.finish()
        ]

    def open_baselines(self) -> tuple[Baseline, ...]:
        """The baselines that are under way at the end; they end with this call."""
        return self._baselines.finish(self._times.newest_s)

    def open_spans(self) -> tuple[VisibilitySpan, ...]:
        """The spans of visibility that are open at the end; they end with this call."""
        return self._spans.finish()

    def open_gaps(self, outages: Iterable[Outage] = ()) -> tuple[tuple[Gap, ...], float]:
        """The gaps that are open at the end; no further frame is analysed after this.

        Args:
            outages: Outages of the source that have ended since the last call.

        Returns:
            The gaps, and how far the source has come in its own time, without frames as well.
        """
        last_s, bridge_s = self._times.newest_s, self._times.bridge_s
        self._outages.add(outages)
        over = self._outages.over_at(math.inf)
        # Frames that were not analysed any more are no gap; a source that was away is one.
        away_s = [o.end_s for o in over if o.reason != GapReason.PICTURE_FROZEN]
        end_s = max([last_s, *away_s])
        gaps, _ = self._frozen_gaps(over, last_s)
        if self._pace.sparse_since_s is not None:
            gaps += self._sparse_gaps(self._pace.sparse_since_s, last_s)
        for chain in self._chains.values():
            if gap := chain.away(end_s, bridge_s):
                in_sight = gap.start_s == last_s
                gaps.append(
                    dataclasses.replace(gap, reason=GapReason.NO_FRAMES) if in_sight else gap
                )
        gaps += (
            Gap(identity, since_s, end_s, GapReason.FACE_LOST)
            for identity, since_s in self._away_since.items()
        )
        reached_s = max([0.0, *away_s, *(gap.end_s for gap in gaps)])
        return self._outages.explained(gaps, bridge_s), reached_s

    def _step(
        self, face: TrackedFace, tracked: TrackedFrame, before_s: float, bridge_s: float
    ) -> FaceStep:
        """The next step of a face, with a chain of its own if it is new or was long away."""
        identity = face.identity
        if identity not in self._chains:
            self._chains[identity] = FaceChain(identity, self._spotter, self.stats)
        step = self._chains[identity].step(face, tracked, before_s, bridge_s)
        since_s = self._away_since.pop(identity, None)
        if since_s is None:
            return step
        gap = Gap(identity, since_s, tracked.frame.time_s, GapReason.FACE_LOST)
        return dataclasses.replace(step, gap=gap)

    def _named(
        self, found: Sequence[tuple[int, Proposal]], frame: Frame
    ) -> tuple[MicroExpression, ...]:
        """The micro-expressions among (face, proposal), classified in one go."""
        with self.stats.stage("classify"):
            measured = [(face, p, self.pair(face, p.interval)) for face, p in found]
            small = [m for m in measured if m[2].intensity_px <= _MOST_INTENSITY_PX]
            if not small:
                return ()
            images = np.stack([pair.images for *_, pair in small])  # (n, 2, 28, 28, 3)
            probabilities = self.classifier.classify(images)
        labels = self.classifier.labels
        return tuple(
            MicroExpression(
                face=identity,
                interval=proposal.interval,
                probabilities=dict(zip(labels, map(float, row), strict=True)),
                intensity_px=pair.intensity_px,
                reported_s=frame.time_s,
                picture=pair.picture,
                least_confidence=self.classifier.least_confidence,
                source=self.source,
                model=self.classifier.name,
                origin=self.origin,
                limit_px=self._chains[identity].limit_px(proposal),
                spotting_score=proposal.score if self._spotter.reliability.is_measured else None,
                least_sensitivity=self._spotter.least_sensitivity(proposal),
                regions=proposal.regions,
                action_units=_action_units(proposal),
                frames=self._numbers.of(proposal.interval),
                from_neutral_px=self._from_neutral_px(identity, proposal.interval),
            )
            for (identity, proposal, pair), row in zip(small, probabilities, strict=True)
        )

    def _from_neutral_px(self, face: int, interval: Interval) -> float | None:
        if not self._baselines.has_neutral(face):
            return None
        return self._baselines.from_neutral_px(face, self._chains[face].face_at(interval.apex_s))

    def _forget(self, time_s: float) -> list[Gap]:
        """Frees the memory of faces that are long away; the gaps of those gone for good."""
        if self._faces == 1:
            return []  # it keeps its identity, however long it is away
        for identity, chain in list(self._chains.items()):
            if gap := chain.given_up(time_s):
                self._away_since[identity] = gap.start_s
                del self._chains[identity]
        gone = [i for i, since_s in self._away_since.items() if time_s - since_s > _GONE_S]
        return [Gap(i, self._away_since.pop(i), time_s, GapReason.FACE_LOST) for i in gone]

    def _sparse_gaps(self, start_s: float, end_s: float) -> list[Gap]:
        """The gaps of the time in which nothing was reported, one for each face."""
        reason = GapReason.TOO_FEW_FRAMES
        return [Gap(identity, start_s, end_s, reason) for identity in self._chains]

    def _frozen_gaps(
        self, over: Sequence[Outage], time_s: float
    ) -> tuple[list[Gap], list[tuple[int, Proposal]]]:
        """The gaps that a frozen picture leaves, one for each face that was followed in it.

        These faces start afresh: what moves when the picture thaws has moved meanwhile. What was
        found in them before is returned as well.
        """
        gaps: list[Gap] = []
        found: list[tuple[int, Proposal]] = []
        frozen = (outage for outage in over if outage.reason == GapReason.PICTURE_FROZEN)
        for outage, (identity, chain) in product(frozen, self._chains.items()):
            away = chain.away(time_s, 0.0)
            if away is None or away.start_s >= outage.start_s:
                gaps.append(Gap(identity, outage.start_s, outage.end_s, outage.reason))
                found += ((identity, proposal) for proposal in chain.finish())
                chain.restart()
        return gaps, found


def _action_units(proposal: Proposal) -> tuple[ActionUnit, ...]:
    """The action units of a proposal, if it tells how the skin moved."""
    return () if proposal.cells is None else action_units(proposal.cells)


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
