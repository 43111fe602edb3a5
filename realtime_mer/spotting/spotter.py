"""The spotter: proposes where micro-expressions lie, while the video runs.

A causal network reads the last seconds of a face's signals at 30 steps a second. It says
whether a micro-expression has ended a moment ago, and where its offset, onset and apex lie, finer
than a frame. An interval is proposed at the peak of the first, once. It also says whether a
macro-expression was under way half a second ago; what lasts too long for a micro-expression is told
when it is over.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.model_file import load_weights, open_session
from realtime_mer.results import Interval
from realtime_mer.spotting.motion import Motion
from realtime_mer.spotting.signals import (
    CHANNELS,
    PATTERN_SHAPE,
    STEP_S,
    EvenClock,
    RunningFeatures,
)

_OUTPUTS = 6
# Before this a stream has no baseline.
_WARM_UP_STEPS = 30
# The lengths of a micro-expression in seconds: 1/25 to 1/2, and the spotter's own error on top.
LENGTH_S = (0.04, 0.55)
# Less far than this from where it was at the onset the skin only seems to go: the network is taught
# from 0.8 px on, two thirds of which the flow of cells finds. Pixels of the canonical face, 99th
# percentile over the cells.
LEAST_PX = 0.4
# Farther than this the skin goes from onset to apex in a blink, in speech, in a macro-expression,
# or seems to go as a head turns, not in a micro-expression: the network is taught up to 4 px. Of a
# face that came as far right before, that tells nothing: it speaks, and a micro-expression may lie
# on top.
MOST_PX = 2.7
# Right after a motion four times as large a face is not at rest: it speaks, or sinks back from an
# expression. The network is not taught what is less than half of what the face does by itself in
# that moment (tools/spotting/windows.py).
LEAST_SHARE = 0.25
# How long before the onset such a motion counts, and the one that `MOST_PX` speaks of.
_BEFORE_S = 0.3
# Above this, what has seemed to end a step ago is still under way: an apex is often taken for an
# offset at first.
STILL_UNDER_WAY = 0.5
# Motions are remembered for as long as a proposal reaches back.
_MEMORY_S = 1.2
# Of a macro-expression: a shorter one is none, a longer one is a mood or a new posture.
MACRO_LENGTH_S = (0.5, 4.5)
# The network tells of macro-expressions this late, by its training: at its beginning, nothing
# tells one from a micro-expression.
MACRO_DELAY_S = 0.5
# Probability at which one begins, and below which it is over.
_MACRO = (0.6, 0.4)
# A curve may end at none at all, of which there is no logarithm: one in 16 hours.
_LEAST_FALSE_PER_MINUTE = 1e-3


@dataclass(frozen=True, slots=True)
class Spotting:
    """What the spotter says after one frame.

    Attributes:
        score: How sure it is that a micro-expression is under way or has just ended; 1 is the
            threshold. NaN during warm-up.
        found: Intervals proposed at this frame.
        window: The motion that is thought to be under way or just over, if any.
        macros: (onset, offset) in seconds of macro-expressions that are over.
    """

    score: float
    found: tuple[Interval, ...] = ()
    window: Interval | None = None
    macros: tuple[tuple[float, float], ...] = ()


def _operating_curve(card: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Thresholds, rising, and logarithms of their false reports a minute; None without a curve."""
    points = card.get("operating_curve")
    if not points:
        return None
    thresholds = np.array([float(p["threshold"]) for p in points])
    false = np.array([float(p["false_per_minute"]) for p in points])
    if not ((np.diff(thresholds) > 0).all() and (np.diff(false) <= 0).all() and (false >= 0).all()):
        raise ValueError("an operating curve has rising thresholds and falling false reports")
    return thresholds, np.log(np.maximum(false, _LEAST_FALSE_PER_MINUTE))


class SpotterModel:
    """The network and its threshold; shared by all faces.

    Attributes:
        name: Name of the weights, as their card gives it.
        threshold: Probability above which an end is believed. It may be changed at any time, by
            any thread, and holds from the next frame on.
        patterns: `PATTERN_SHAPE` float32, through which the network sees the cells of a face.
    """

    def __init__(self, weights: Path, threshold: float | None = None) -> None:
        """
        Args:
            weights: ONNX file with its card (.json) beside it.
            threshold: Probability above which an end is believed; None for the card's.

        Raises:
            InputError: The weights are missing, damaged or not a spotter's.
        """
        loaded = load_weights(weights)
        try:
            self.threshold = float(loaded.card["threshold"] if threshold is None else threshold)
            self.name = str(loaded.card["name"])
            self._curve = _operating_curve(loaded.card)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{weights.with_suffix('.json')} is not the card of a spotter: "
                "restore it, or train with tools/spotting/train.py"
            ) from error
        self._session = open_session(loaded, ["CPUExecutionProvider"])
        ends = [*self._session.get_inputs(), *self._session.get_outputs()]
        shapes = [tuple(end.shape) for end in ends]
        state = shapes[1] if len(shapes) == 5 else ()
        if shapes != [(1, CHANNELS), state, (1, _OUTPUTS), state, PATTERN_SHAPE]:
            raise InputError(
                f"weights {weights} are not a spotter's: give what tools/spotting/train.py made"
            )
        self._names = [end.name for end in ends]
        self._start = np.zeros(state, np.float32)
        # They do not depend on what goes in.
        signals, state, *_, patterns = self._names
        nothing = {signals: np.zeros((1, CHANNELS), np.float32), state: self._start}
        self.patterns = self._session.run([patterns], nothing)[0]
        for array in (self._start, self.patterns):
            array.setflags(write=False)

    @property
    def has_curve(self) -> bool:
        """The card tells how often a threshold reports falsely."""
        return self._curve is not None

    def threshold_at(self, false_per_minute: float) -> float:
        """The threshold that reports falsely so often a minute, within the card's curve.

        Raises:
            ValueError: The number is not above 0, or the card tells no curve.
        """
        if not (math.isfinite(false_per_minute) and false_per_minute > 0):
            raise ValueError(f"false reports a minute are more than 0, got {false_per_minute}")
        thresholds, logs = self._known_curve()
        return float(np.interp(math.log(false_per_minute), logs[::-1], thresholds[::-1]))

    def expected_false_per_minute(self, threshold: float) -> float:
        """False reports a minute of a threshold, on the windows that the card's curve tells of.

        Raises:
            ValueError: The card tells no curve.
        """
        thresholds, logs = self._known_curve()
        return float(np.exp(np.interp(threshold, thresholds, logs)))

    def _known_curve(self) -> tuple[np.ndarray, np.ndarray]:
        if self._curve is None:
            raise ValueError(
                f"the card of {self.name} tells no operating curve: its threshold is fixed"
            )
        return self._curve

    def start(self) -> np.ndarray:
        """The network's state before the first step of a stream."""
        return self._start

    def __call__(self, signals: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One step of a stream.

        Args:
            signals: (CHANNELS,) float32.
            state: What the step before gave, or `start`.

        Returns:
            (OUTPUTS,): probability of an end and of inside, since, length, apex, probability of a
            macro-expression; and the state for the next step.
        """
        *inputs, told, after, _ = self._names
        given = dict(zip(inputs, (signals[None], state), strict=True))
        outputs, state = self._session.run([told, after], given)
        return outputs[0], state


class Spotter:
    """Follows one face. A new one starts after a gap."""

    def __init__(self, model: SpotterModel) -> None:
        self._model = model
        self._clock = EvenClock(model.patterns)
        self._features = RunningFeatures()
        self._state = model.start()
        # The time of each motion of late, and where its cells were.
        self._cells: deque[tuple[float, np.ndarray]] = deque(maxlen=256)
        self._steps = 0
        self._ends: deque[tuple[float, float, Interval]] = deque(maxlen=3)
        self._reported_until = -np.inf
        self._score = np.nan
        self._window: Interval | None = None
        self._macro_since: float | None = None

    def __call__(self, motion: Motion) -> Spotting:
        """What is known with the motion of the newest frame."""
        self._cells.append((motion.time_s, motion.cells))
        while self._cells[0][0] < motion.time_s - _MEMORY_S:
            self._cells.popleft()
        found: list[Interval] = []
        macros: list[tuple[float, float]] = []
        for time_s, row in self._clock(motion):
            told, self._state = self._model(self._features(row), self._state)
            self._steps += 1
            if self._steps < _WARM_UP_STEPS:
                continue
            *micro, macro = map(float, told)
            found += self._micro(time_s, micro)
            macros += self._macro(time_s - MACRO_DELAY_S, macro)
        return Spotting(self._score, tuple(found), self._window, tuple(macros))

    def _macro(self, time_s: float, probability: float) -> list[tuple[float, float]]:
        """The macro-expression that was over at a time, if one was."""
        begins, ends = _MACRO
        if self._macro_since is None:
            if probability >= begins:
                self._macro_since = time_s
            return []
        if probability >= ends:
            return []
        onset_s, self._macro_since = self._macro_since, None
        least, most = MACRO_LENGTH_S
        return [(onset_s, time_s)] if least <= time_s - onset_s <= most else []

    def _micro(self, time_s: float, outputs: list[float]) -> list[Interval]:
        """The micro-expression that was over at a time, if one was."""
        # It may be changed by another thread: one step goes by one threshold.
        threshold = self._model.threshold
        end, inside, since, length, apex = outputs
        # Nothing is reported before it is over.
        offset_s = time_s - max(since, 0.0)
        onset_s = offset_s - max(length, LENGTH_S[0])
        interval = Interval(onset_s, onset_s + apex * (offset_s - onset_s), offset_s)
        self._score = max(end, min(inside, 0.99 * threshold)) / threshold
        self._window = interval if max(end, inside) > 0.5 * threshold else None
        self._ends.append((time_s, end, interval))
        if len(self._ends) < 2:
            return []
        # The peak of the end probability has passed: the step before this one was it.
        before, (_, last, interval) = self._ends[0], self._ends[-2]
        is_peak = last >= threshold and end < last and last >= before[1]
        fits = LENGTH_S[0] <= interval.length_s <= LENGTH_S[1]
        is_new = interval.onset_s > self._reported_until - STEP_S
        if not (is_peak and fits and is_new and inside < STILL_UNDER_WAY):
            return []
        if not self._is_of_the_size(interval):
            return []
        self._reported_until = interval.offset_s
        return [interval]

    def _is_of_the_size(self, interval: Interval) -> bool:
        """The skin went as far as in a micro-expression, and as what it did before lets one see.

        Neither less far than `LEAST_PX` nor, unless it had come as far, farther than `MOST_PX`, and
        not less far than `LEAST_SHARE` of the way it had come.
        """
        times = (interval.onset_s, interval.apex_s, interval.offset_s)
        before, onset, apex, offset = (
            min(range(len(self._cells)), key=lambda i: abs(self._cells[i][0] - time_s))
            for time_s in (interval.onset_s - _BEFORE_S, *times)
        )
        cells = np.array([self._cells[i][1] for i in range(before, offset + 1)])
        away = np.linalg.norm(cells - cells[onset - before], axis=2)
        far = np.percentile(away, 99, axis=1)
        came, went = far[: onset - before + 1].max(), far[apex - before]
        return bool(
            far[onset - before :].max() >= LEAST_PX
            and (went <= MOST_PX or came >= MOST_PX)
            and went >= LEAST_SHARE * came
        )
