"""The spotter: proposes the intervals of micro-expressions while the video runs.

A causal network reads the last seconds of a face's signals at 30 steps a second. It gives the
probability that a micro-expression has just ended, and its offset, onset and apex with a precision
finer than a frame. At the peak of that probability, the spotter proposes the interval, once. The
network also gives the probability that a macro-expression was under way half a second ago; the
spotter reports macro-expressions when they are over.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.model_file import load_weights, open_session
from realtime_mer.redaction import printable
from realtime_mer.results import Interval, RegionMotion
from realtime_mer.spotting.motion import EXPRESSIVE, REGIONS, Motion
from realtime_mer.spotting.reliability import Evidence, Reliability, log_odds
from realtime_mer.spotting.signals import (
    CHANNELS,
    PATTERN_SHAPE,
    STEP_S,
    WARM_UP_STEPS,
    Resampler,
    RunningFeatures,
)
from realtime_mer.spotting.visibility import VisibilityModel

_OUTPUTS = 6
# Length of a micro-expression in seconds: 1/25 to 1/2, and a tolerance for the spotter's own error.
LENGTH_S = (0.04, 0.55)
# Limits of the displacement, 99th percentile over the cells, in pixels of the canonical face.
# Below the first it is noise: the training starts at 0.8 px, of which the flow of cells finds two
# thirds. Above the second from onset to apex, it is a blink, speech, a macro-expression or a turn
# of the head: the training ends at 4 px. On clips of held-out faces, 99 of 100 true ones stayed
# below 2.4 px; blinks, speech and macro-expressions started at 2.8 px.
MIN_AMPLITUDE_PX = 0.4
MAX_AMPLITUDE_PX = 2.7
# The same upper limit if the skin moved by more than `MAX_AMPLITUDE_PX` just before: the face is
# probably speaking, and a micro-expression may lie on top. On 68 videos that the network was not
# trained on, most of them of people who talk, 11 of 26 false reports in 13.1 minutes were above it;
# of 12 true ones found on 22 of these videos, none was above 3.1 px, and of six on videos used for
# development one was (docs/spotting.md).
MAX_SPEAKING_PX = 5.0
# Limit of the displacement from onset to apex, relative to that just before the onset. Below, the
# face is speaking or settling after an expression. The training ignores what is below half of the
# face's own motion at that moment (tools/spotting/windows.py).
MIN_SHARE_OF_BEFORE = 0.25
# "Just before" is this long. Chosen by judgement.
_BEFORE_S = 0.3
# What seems to begin sooner than this after a hole in the frames may have begun in it. On clips
# with 150 holes of 0.4 s, 3 of 5 proposals within 0.1 s were true, and 4 of 4 from 0.1 to 0.3 s.
_AFTER_HOLE_S = 0.1
# If the network says "inside" with more than this probability right after the peak of "end", the
# motion is still under way: an apex often looks like an offset at first.
_STILL_UNDER_WAY = 0.5
# Keep cells for as long as a proposal reaches back: `_BEFORE_S`, the longest micro-expression, and
# the delay until it is proposed.
_MEMORY_S = 1.2
# Length of a macro-expression: at least 0.5 s by definition; a longer motion is a mood or a new
# posture.
MACRO_LENGTH_S = (0.5, 4.5)
# The network is trained to report macro-expressions with this delay: at its beginning, one looks
# like a micro-expression.
MACRO_DELAY_S = 0.5
# Probabilities at which a macro-expression begins and ends, apart to avoid flicker. Chosen by
# judgement.
_MACRO = (0.6, 0.4)
# An event tells the regions that moved at least this far from onset to apex, in pixels of the
# canonical face: three times what nine of ten displacements of still faces stay below within four
# frames (docs/spotting.md). And at least this share of the one that moved most, as regions take in
# their neighbours' motion. Both were chosen by judgement.
_MIN_REGION_PX = 0.15
_MIN_REGION_SHARE = 0.4
# A face is as restless as at its calmest moment within this: a micro-expression does not make it
# lively. A little more than the longest one.
_RESTLESS_STEPS = 20
# A peak of the probability of an end below this is nothing. With 0.05 or 0.2 in its place, as many
# are found at the same rate of false reports.
_LEAST_END = log_odds(0.1)
# The network's "under way" counts for so many steps before the end: 0.3 s, the length of a usual
# micro-expression.
_INSIDE_STEPS = 9
# The rate of false reports can be 0: clamp before the log. One in 16 hours.
_MIN_FALSE_PER_MINUTE = 1e-3


@dataclass(frozen=True, slots=True)
class Proposal:
    """A micro-expression that was spotted.

    Attributes:
        interval: Onset, apex and offset.
        score: 0 to 1, the probability that it is one (`Reliability.score`).
        regions: The regions that moved from onset to apex, the largest motion first.
        evidence: What the score follows from; None if not known.
        cells: (FACE_CELLS, 2) displacement from onset to apex, pixels; None if not known.
    """

    interval: Interval
    score: float
    regions: tuple[RegionMotion, ...] = ()
    evidence: Evidence | None = None
    cells: np.ndarray | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Spotting:
    """The spotter's answer to one frame.

    Attributes:
        score: How likely a micro-expression has just ended, relative to the threshold; or, up to
            0.99, that one is under way. NaN during warm-up.
        found: What is proposed at this frame.
        window: The likely interval of a motion that is under way or has just ended, if any.
        macros: (onset, offset) in seconds of macro-expressions that have ended.
    """

    score: float
    found: tuple[Proposal, ...] = ()
    window: Interval | None = None
    macros: tuple[tuple[float, float], ...] = ()


def _operating_curve(card: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Thresholds, rising, and the logarithms of their false reports a minute; None if not given."""
    points = card.get("operating_curve")
    if not points:
        return None
    thresholds = np.array([float(p["threshold"]) for p in points])
    false = np.array([float(p["false_per_minute"]) for p in points])
    if not np.isfinite([*thresholds, *false]).all():
        raise ValueError("an operating curve has finite numbers")
    if not ((np.diff(thresholds) > 0).all() and (np.diff(false) <= 0).all() and (false >= 0).all()):
        raise ValueError("an operating curve has rising thresholds and falling false reports")
    return thresholds, np.log(np.maximum(false, _MIN_FALSE_PER_MINUTE))


class SpotterModel:
    """The network and its threshold; shared by all faces.

    Attributes:
        name: Name of the weights, from their card.
        threshold: Smallest score of a proposal. Any thread may change it at any time; the next
            frame uses it.
        reliability: From which evidence a score follows, and how.
        patterns: `PATTERN_SHAPE` float32, the patterns that a face's cells are projected onto.
        visibility: The model of the limits of detection; None if the card has none.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        threshold: float | None = None,
        calibrated: bool = True,
    ) -> None:
        """
        Args:
            weights: ONNX file with its card (.json) beside it.
            threshold: As the attribute; None for the card's.
            calibrated: False to leave out what was measured of the weights: reliability, curve and
                limits.

        Raises:
            InputError: The weights are missing, damaged or not a spotter's.
        """
        loaded = load_weights(weights)
        measured = loaded.card if calibrated else {}
        try:
            self._measured_threshold = float(loaded.card["threshold"])
            self.threshold = self._measured_threshold if threshold is None else float(threshold)
            if not math.isfinite(self.threshold):
                raise ValueError("a threshold is finite")
            self.name = printable(str(loaded.card["name"])) or loaded.path.stem
            self._curve = _operating_curve(measured)
            self.reliability = Reliability.from_card(measured.get("reliability"))
            self.visibility: VisibilityModel | None = None
            if (entry := measured.get("visibility")) is not None:
                self.visibility = VisibilityModel.from_card(entry)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{loaded.path.with_suffix('.json')} is not the card of a spotter: "
                "restore it, or train with tools/spotting/train.py; if an older version wrote it, "
                "measure it anew with tools/spotting/calibrate.py"
            ) from error
        self._session = open_session(loaded, ["CPUExecutionProvider"])
        # signals and state; outputs, next state and patterns
        ports = [*self._session.get_inputs(), *self._session.get_outputs()]
        shapes = [tuple(port.shape) for port in ports]
        state = shapes[1] if len(shapes) == 5 else ()
        if shapes != [(1, CHANNELS), state, (1, _OUTPUTS), state, PATTERN_SHAPE]:
            raise InputError(
                f"weights {weights} are not a spotter's: give weights of tools/spotting/train.py"
            )
        self._names = [port.name for port in ports]
        self._start = np.zeros(state, np.float32)
        # The patterns are constant: any input gives them.
        signals_name, state_name, *_, patterns_name = self._names
        zeros = {signals_name: np.zeros((1, CHANNELS), np.float32), state_name: self._start}
        self.patterns: np.ndarray = self._session.run([patterns_name], zeros)[0]
        for array in (self._start, self.patterns):
            array.setflags(write=False)

    @property
    def states_limits(self) -> bool:
        """Whether limits of detection hold: at the card's threshold, and below it on the safe side.

        They were measured there; a higher threshold finds less than they promise.
        """
        return self.visibility is not None and self.threshold <= self._measured_threshold

    @property
    def has_curve(self) -> bool:
        """Whether the card has an operating curve: the false reports a minute of each threshold."""
        return self._curve is not None

    def threshold_at(self, false_per_minute: float) -> float:
        """The threshold with this rate of false reports, limited to the ends of the card's curve.

        Raises:
            ValueError: The rate is not above 0, or the card has no curve.
        """
        if not (math.isfinite(false_per_minute) and false_per_minute > 0):
            raise ValueError(f"false reports a minute must be above 0, got {false_per_minute}")
        thresholds, logs = self._known_curve()
        return float(np.interp(math.log(false_per_minute), logs[::-1], thresholds[::-1]))

    def expected_false_per_minute(self, threshold: float) -> float:
        """False reports a minute at a threshold, as measured for the card's curve.

        Raises:
            ValueError: The card has no curve.
        """
        thresholds, logs = self._known_curve()
        return float(np.exp(np.interp(threshold, thresholds, logs)))

    def least_sensitivity(self, proposal: Proposal) -> float | None:
        """The smallest rate of false reports whose threshold lets a proposal pass.

        None if the card has no curve. A proposal that passes at every point of the curve has the
        curve's smallest rate.
        """
        return None if self._curve is None else self.expected_false_per_minute(proposal.score)

    def _known_curve(self) -> tuple[np.ndarray, np.ndarray]:
        if self._curve is None:
            raise ValueError(
                f"the card of {self.name} has no operating curve: its threshold is fixed"
            )
        return self._curve

    def start(self) -> np.ndarray:
        """The network's state before the first step of a stream."""
        return self._start

    def __call__(self, signals: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One step of a stream.

        Args:
            signals: (CHANNELS,) float32.
            state: As the step before returned it; at first `start()`.

        Returns:
            The outputs (6,): probability that a micro-expression ended just now; probability that
            one is under way; its offset, in seconds before this step; its length in seconds; its
            apex, 0 at the onset to 1 at the offset; probability that a macro-expression was under
            way `MACRO_DELAY_S` ago. And the state for the next step.
        """
        *input_names, outputs_name, state_name, _ = self._names
        inputs = dict(zip(input_names, (signals[None], state), strict=True))
        outputs, state = self._session.run([outputs_name, state_name], inputs)
        return outputs[0], state


class Network(Protocol):
    """What a spotter needs of its network; a `SpotterModel` is one. See there."""

    threshold: float
    reliability: Reliability
    patterns: np.ndarray

    def start(self) -> np.ndarray: ...

    def __call__(self, signals: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


class Spotter:
    """Follows one face. A new one starts after a gap; after a hole in the frames, `resume` this."""

    def __init__(self, model: Network) -> None:
        self._model = model
        self._resampler = Resampler(model.patterns)
        self._features = RunningFeatures()
        self._state = model.start()
        # Time, cells and regions of the last motions.
        self._moved: deque[tuple[float, np.ndarray, np.ndarray]] = deque(maxlen=256)
        self._steps = 0
        # Of the last steps: what speaks for an end, its score, and the interval.
        self._ends: deque[tuple[Evidence, float, Interval]] = deque(maxlen=3)
        self._insides: deque[float] = deque(maxlen=_INSIDE_STEPS)  # log odds
        self._restless: deque[float] = deque(maxlen=_RESTLESS_STEPS)
        # Of the last step: the probability that one is under way.
        self._inside = 1.0
        self._reported_until = -np.inf
        # Time of the first motion after the last hole; None until it comes.
        self._seen_from: float | None = None
        self._score = np.nan
        self._window: Interval | None = None
        self._macro_since: float | None = None

    def __call__(self, motion: Motion) -> Spotting:
        """Takes the motion of the next frame; one that is not later than the last is ignored."""
        if self._seen_from is None:
            self._seen_from = motion.time_s
        self._moved.append((motion.time_s, motion.cells, motion.regions))
        while self._moved[0][0] < motion.time_s - _MEMORY_S:
            self._moved.popleft()
        found: list[Proposal] = []
        macros: list[tuple[float, float]] = []
        for time_s, row in self._resampler(motion):
            outputs, self._state = self._model(self._features(row), self._state)
            self._restless.append(self._features.restlessness)
            self._steps += 1
            if self._steps < WARM_UP_STEPS:
                continue
            *micro, macro = map(float, outputs)
            found += self._micro(time_s, micro)
            macros += self._macro(time_s - MACRO_DELAY_S, macro)
        return Spotting(self._score, tuple(found), self._window, tuple(macros))

    @property
    def restlessness(self) -> float:
        """How much the face does by itself, as `RunningFeatures.restlessness`."""
        return min(self._restless, default=0.0)

    def finish(self) -> list[Proposal]:
        """The micro-expression that was about to be proposed, as no more motion comes.

        A proposal waits until the probability of an end falls. Without this, a video that is cut
        just after an event would lose it.
        """
        if not self._ends:
            return []
        evidence, score, interval = self._ends[-1]
        self._ends.clear()
        is_end = evidence.end >= _LEAST_END and score >= self._model.threshold
        return self._proposed(interval, evidence, score, self._inside) if is_end else []

    def resume(self) -> None:
        """Goes on after a hole in the frames: what is usual for this face still holds.

        Displacements before and after the hole are not compared. What began before it ends with it,
        and nothing that begins in it, or just after it, is proposed.
        """
        self._resampler = Resampler(self._model.patterns)
        self._features.resume()
        self._moved.clear()
        self._ends.clear()
        self._insides.clear()
        self._seen_from = self._window = self._macro_since = None

    def _macro(self, time_s: float, probability: float) -> list[tuple[float, float]]:
        """The macro-expression that ended at a time, if one did."""
        begin, end = _MACRO
        if self._macro_since is None:
            if probability >= begin:
                self._macro_since = time_s
            return []
        if probability >= end:
            return []
        onset_s, self._macro_since = self._macro_since, None
        shortest, longest = MACRO_LENGTH_S
        return [(onset_s, time_s)] if shortest <= time_s - onset_s <= longest else []

    def _micro(self, time_s: float, outputs: list[float]) -> list[Proposal]:
        """The micro-expression that ended just before a time, if one did."""
        # Another thread may change the threshold: read it once.
        threshold = self._model.threshold
        end, inside, since, length, apex = outputs
        # An offset in the future is taken as now.
        offset_s = time_s - max(since, 0.0)
        onset_s = offset_s - max(length, LENGTH_S[0])
        interval = Interval(onset_s, onset_s + apex * (offset_s - onset_s), offset_s)
        self._insides.append(log_odds(inside))
        mean_inside = sum(self._insides) / len(self._insides)
        now = Evidence(log_odds(end), mean_inside, interval.length_s, self.restlessness)
        score = self._model.reliability.score(now)
        self._score = max(score / threshold, min(inside, 0.99))
        self._window = interval if self._score > 0.5 else None
        self._ends.append((now, score, interval))
        self._inside = inside
        if len(self._ends) < 2:
            return []
        # Propose the interval of the last step if the probability of an end peaked there.
        (earlier, _, _), (last, score, interval) = self._ends[0], self._ends[-2]
        is_peak = last.end >= _LEAST_END and now.end < last.end >= earlier.end
        if not (is_peak and score >= threshold):
            return []
        return self._proposed(interval, last, score, inside)

    def _proposed(
        self, interval: Interval, evidence: Evidence, score: float, inside: float
    ) -> list[Proposal]:
        """The proposal of a peak, unless something speaks against it.

        Args:
            interval: What ended there.
            evidence: What speaks for that.
            score: Its score.
            inside: The probability that it is still under way.
        """
        assert self._seen_from is not None
        fits = LENGTH_S[0] <= interval.length_s <= LENGTH_S[1]
        is_new = interval.onset_s > self._reported_until - STEP_S
        is_seen = interval.onset_s >= self._seen_from + _AFTER_HOLE_S
        if not (fits and is_new and is_seen and inside < _STILL_UNDER_WAY):
            return []
        if not self._has_plausible_amplitude(interval):
            return []
        self._reported_until = interval.offset_s
        cells, regions = self._displacement(interval)
        return [Proposal(interval, score, _moved_regions(regions), evidence, cells)]

    def _nearest(self, time_s: float) -> int:
        """Which of the last motions is nearest to a time."""
        return min(range(len(self._moved)), key=lambda i: abs(self._moved[i][0] - time_s))

    def _displacement(self, interval: Interval) -> tuple[np.ndarray, np.ndarray]:
        """How far each of `FACE_CELLS` and of `REGIONS` came from onset to apex, (n, 2) pixels."""
        onset, apex = (
            self._moved[self._nearest(time_s)] for time_s in (interval.onset_s, interval.apex_s)
        )
        cells, regions = apex[1] - onset[1], apex[2] - onset[2]
        cells.setflags(write=False)
        return cells, regions

    def _has_plausible_amplitude(self, interval: Interval) -> bool:
        """Whether the skin moved as far as in a micro-expression, also compared with just before.

        Its displacement from the onset is at least `MIN_AMPLITUDE_PX` at its largest. At the apex
        it is at most `MAX_AMPLITUDE_PX`, or `MAX_SPEAKING_PX` if the skin moved by more than the
        former in the `_BEFORE_S` before the onset, and at least `MIN_SHARE_OF_BEFORE` of that.
        """
        times = (interval.onset_s, interval.apex_s, interval.offset_s)
        before, onset, apex, offset = map(self._nearest, (interval.onset_s - _BEFORE_S, *times))
        cells = np.array([self._moved[i][1] for i in range(before, offset + 1)])  # (time, cell, 2)
        from_onset = np.linalg.norm(cells - cells[onset - before], axis=2)
        displacement = np.percentile(from_onset, 99, axis=1)  # (time,)
        largest_before = displacement[: onset - before + 1].max()
        at_apex = displacement[apex - before]
        speaks = largest_before >= MAX_AMPLITUDE_PX
        return bool(
            displacement[onset - before :].max() >= MIN_AMPLITUDE_PX
            and at_apex <= (MAX_SPEAKING_PX if speaks else MAX_AMPLITUDE_PX)
            and at_apex >= MIN_SHARE_OF_BEFORE * largest_before
        )


def _moved_regions(moved: np.ndarray) -> tuple[RegionMotion, ...]:
    """The expressive regions that moved (18, 2), the largest motion first."""
    displacement = np.linalg.norm(moved[:EXPRESSIVE], axis=1)
    least = max(_MIN_REGION_PX, _MIN_REGION_SHARE * float(displacement.max()))
    names = tuple(REGIONS)
    return tuple(
        RegionMotion(
            names[i],
            float(displacement[i]),
            # In pictures, y points downwards.
            math.degrees(math.atan2(-moved[i, 1], moved[i, 0])) % 360,
        )
        for i in np.argsort(-displacement)
        if displacement[i] >= least
    )
