"""The spotter: proposes where micro-expressions lie, while the video runs.

A small causal network reads the last seconds of a face's signals at 30 steps a second. It says
whether a micro-expression has ended a moment ago, and where its offset, onset and apex lie, finer
than a frame. An interval is proposed at the peak of the first, once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realtime_mer.event import InputError, Interval
from realtime_mer.motion import Motion
from realtime_mer.signals import CHANNELS, ROW, STEP_S, EvenClock, features
from realtime_mer.weights import load_weights, open_session

# Rows behind the signals' baseline, as in training (tools/spotting_data.py), and the last of them
# that the network looks back on (models/spotter.py).
_STEPS = 160
_RECEPTIVE_STEPS = 77
_OUTPUTS = 5
# Before this a stream has no baseline.
_WARM_UP_STEPS = 30
# The lengths of a micro-expression in seconds: 1/25 to 1/2, and the spotter's own error on top.
LENGTH_S = (0.04, 0.55)


@dataclass(frozen=True, slots=True)
class Spotting:
    """What the spotter says after one frame.

    Attributes:
        score: How sure it is that a micro-expression is under way or has just ended; 1 is the
            threshold. NaN during warm-up.
        found: Intervals proposed at this frame.
        window: The motion that is thought to be under way or just over, if any.
    """

    score: float
    found: tuple[Interval, ...] = ()
    window: Interval | None = None


class SpotterModel:
    """The network and its threshold; shared by all faces."""

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
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{weights.with_suffix('.json')} is not the card of a spotter: "
                "restore it, or train with tools/train_spotter.py"
            ) from error
        self._session = open_session(loaded, ["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        shapes = self._session.get_inputs()[0].shape[1:], self._session.get_outputs()[0].shape[1:]
        if shapes != ([_RECEPTIVE_STEPS, CHANNELS], [_OUTPUTS]):
            raise InputError(
                f"weights {weights} are not a spotter's: give what tools/train_spotter.py made"
            )

    def __call__(self, signals: np.ndarray) -> np.ndarray:
        """(OUTPUTS,) of the last step: end and inside probability, since, length, apex."""
        return self._session.run(None, {self._input: signals[None]})[0][0]


class Spotter:
    """Follows one face. A new one starts after a gap."""

    def __init__(self, model: SpotterModel) -> None:
        self._model = model
        self._clock = EvenClock()
        self._rows: deque[np.ndarray] = deque(maxlen=_STEPS)
        self._steps = 0
        self._ends: deque[tuple[float, float, Interval]] = deque(maxlen=3)
        self._reported_until = -np.inf
        self._score = np.nan
        self._window: Interval | None = None

    def __call__(self, motion: Motion) -> Spotting:
        """What is known with the motion of the newest frame."""
        found: list[Interval] = []
        for time_s, row in self._clock(motion):
            found += self._step(time_s, row)
        return Spotting(self._score, tuple(found), self._window)

    def _step(self, time_s: float, row: np.ndarray) -> list[Interval]:
        self._rows.append(row)
        self._steps += 1
        if self._steps < _WARM_UP_STEPS:
            return []
        rows = np.empty((_STEPS, ROW), np.float32)
        missing = _STEPS - len(self._rows)
        rows[:missing] = self._rows[0]
        rows[missing:] = self._rows
        end, inside, since, length, apex = map(
            float, self._model(features(rows)[-_RECEPTIVE_STEPS:])
        )
        # Nothing is reported before it is over.
        offset_s = time_s - max(since, 0.0)
        onset_s = offset_s - max(length, LENGTH_S[0])
        interval = Interval(onset_s, onset_s + apex * (offset_s - onset_s), offset_s)
        self._score = max(end, min(inside, 0.99 * self._model.threshold)) / self._model.threshold
        self._window = interval if max(end, inside) > 0.5 * self._model.threshold else None
        self._ends.append((time_s, end, interval))
        if len(self._ends) < 2:
            return []
        # The peak of the end probability has passed: the step before this one was it.
        before, (_, last, interval) = self._ends[0], self._ends[-2]
        is_peak = last >= self._model.threshold and end < last and last >= before[1]
        fits = LENGTH_S[0] <= interval.length_s <= LENGTH_S[1]
        if is_peak and fits and interval.onset_s > self._reported_until - STEP_S:
            self._reported_until = interval.offset_s
            return [interval]
        return []
