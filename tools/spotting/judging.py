"""What the network's probabilities are worth on calm and on lively faces.

The runtime's spotter, with all its checks, reports on clips at a low threshold that does not rise
on lively faces. Each report is true or false. From them follow by how much the threshold must rise
on lively faces, and the probability that a report is true (`realtime_mer/spotting/reliability.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from realtime_mer.source.reader import DEFAULT_FPS
from realtime_mer.spotting.reliability import Reliability, liveliness, log_odds
from realtime_mer.spotting.spotter import Proposal, Spotter, SpotterModel
from tools.spotting.clip_signals import hidden_intervals, motion_streams, person
from tools.spotting.figures import matches, rates
from tools.spotting.operating_curve import Answers

# The lowest threshold of interest, and by how much it may rise, in steps.
_LEAST_THRESHOLD = 0.15
_RISES = np.arange(0, 6.01, 0.1)
# With fewer true or false reports, no probability can be told.
_LEAST_REPORTS = 10
# Standard deviation of the weights before the reports are seen, for inputs of about unit size.
_PRIOR = 1.0
# From here on a face counts as lively.
_LIVELY = 0.5
# Groups of people, for each of which the others tell how likely its reports are true.
_FOLDS = 8
# Bins of the expected calibration error.
_BINS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Reports of the spotter and whether they are true, n of them, and how long it watched.

    Attributes:
        people: (n,) str, who was seen (`person`).
        log_odds: (n,) of the network's probability.
        liveliness: (n,) of the face, 0 to 1.
        true: (n,) bool, by the rule of `tools/spotting/figures.py`.
        calm_s, lively_s: Seconds in which the liveliness was below `_LIVELY`, and all others.
        events: Micro-expressions in the clips.
    """

    people: np.ndarray
    log_odds: np.ndarray
    liveliness: np.ndarray
    true: np.ndarray
    calm_s: float
    lively_s: float
    events: int

    def false_per_minute(self, threshold: float, rise: float) -> tuple[float, float]:
        """On calm and on lively faces, with a threshold that rises so much; 0 if none was seen."""
        reported = self.log_odds >= log_odds(threshold) + rise * self.liveliness
        false, lively = reported & ~self.true, self.liveliness >= _LIVELY
        return tuple(
            60 * float((false & of_kind).sum()) / seconds if seconds else 0.0
            for of_kind, seconds in ((~lively, self.calm_s), (lively, self.lively_s))
        )  # type: ignore[return-value]  # two of them

    @property
    def figures(self) -> dict[str, float | int | None]:
        """What is found, and what is false, of all reports."""
        calm, lively = self.false_per_minute(0.0, 0.0)
        minutes = (self.calm_s + self.lively_s) / 60
        matched, false = int(self.true.sum()), int((~self.true).sum())
        return {
            "found": matched,
            **rates(self.events, matched, false),
            "false_per_minute": false / minutes if minutes else 0.0,
            "false_per_minute_calm": calm,
            "false_per_minute_lively": lively,
        }

    def lively_rise(self, threshold: float, false_per_minute: float) -> float:
        """The smallest rise with at most so many false reports a minute on lively faces."""
        for rise in _RISES:
            if self.false_per_minute(threshold, rise)[1] <= false_per_minute:
                return round(float(rise), 1)
        return float(_RISES[-1])

    def calm_threshold(self, thresholds: Sequence[float], false_per_minute: float) -> float:
        """The lowest threshold from which on calm faces have at most so many false reports."""
        found = thresholds[-1]
        for threshold in reversed(thresholds):
            if self.false_per_minute(threshold, 0.0)[0] > false_per_minute:
                break
            found = threshold
        return found

    def calibration(self) -> tuple[float, float, float] | None:
        """As `Reliability.calibration`; None if there are too few reports."""
        if min(self.true.sum(), (~self.true).sum()) < _LEAST_REPORTS:
            return None
        return _fit(self._inputs, self.true)

    def calibration_error(self) -> float | None:
        """The expected calibration error on people whose reports the calibration has not seen.

        The mean over bins of equal size of the difference between the probability told and the
        share of true reports. None if there are too few reports.
        """
        if self.calibration() is None:
            return None
        _, person = np.unique(self.people, return_inverse=True)
        told = np.empty(len(self.true))
        for fold in range(_FOLDS):
            held_out = person % _FOLDS == fold
            if held_out.any():
                weights = _fit(self._inputs[~held_out], self.true[~held_out])
                told[held_out] = expit(self._inputs[held_out] @ weights)
        bins = np.array_split(np.argsort(told), _BINS)
        off = [abs(told[b].mean() - self.true[b].mean()) * len(b) for b in bins if len(b)]
        return float(sum(off)) / len(told)

    @property
    def _inputs(self) -> np.ndarray:
        return np.column_stack([self.log_odds, self.liveliness, np.ones(len(self.true))])


LENIENT = (_LEAST_THRESHOLD, Reliability())
"""Threshold and reliability for `judge` at which the spotter reports whatever is of interest."""


def judge(
    files: Sequence[Path],
    model: SpotterModel,
    settings: Sequence[tuple[float, Reliability]] = (LENIENT,),
) -> list[Judged]:
    """What a spotter reports on clips, and how much of it is true.

    Args:
        files: Signals of `tools/spotting/synthesize.py`.
        model: The spotter; its threshold and reliability are not used.
        settings: Thresholds on calm faces, and reliabilities.

    Returns:
        One for each of the settings.
    """
    people: list[list[str]] = [[] for _ in settings]
    proposals: list[list[Proposal]] = [[] for _ in settings]
    true: list[list[bool]] = [[] for _ in settings]
    seconds = np.zeros(2)
    events = 0
    for file in files:
        found: list[list[Proposal]] = [[] for _ in settings]
        times: list[float] = []
        for stream in motion_streams(file):
            network = Answers(model)
            for i, setting in enumerate(settings):
                spotter = Spotter(network.at(*setting))
                for motion, earlier in zip(stream, [stream[0], *stream], strict=False):
                    found[i] += spotter(motion).found
                    if i == 0:
                        is_lively = liveliness(spotter.restlessness) >= _LIVELY
                        seconds[int(is_lively)] += motion.time_s - earlier.time_s
                        times.append(motion.time_s)
                found[i] += spotter.finish()
        micros, _ = hidden_intervals(file)
        events += len(micros)
        fps = 1 / float(np.median(np.diff(times))) if len(times) > 1 else DEFAULT_FPS
        for i, of_setting in enumerate(found):
            matched = {j for _, j in matches(micros, [p.interval for p in of_setting], fps)}
            people[i] += [person(file)] * len(of_setting)
            proposals[i] += of_setting
            true[i] += [j in matched for j in range(len(of_setting))]
    return [
        Judged(
            np.array(people[i], dtype=str),
            np.array([log_odds(p.end) for p in proposals[i]]),
            np.array([liveliness(p.restlessness) for p in proposals[i]]),
            np.array(true[i], dtype=bool),
            float(seconds[0]),
            float(seconds[1]),
            events,
        )
        for i in range(len(settings))
    ]


def _fit(inputs: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """Weights of a logistic regression (n, 3) to (n,), drawn towards 0 but for the constant."""
    sign = np.where(true, 1, -1)

    def loss(weights: np.ndarray) -> float:
        odds = sign * (inputs @ weights)
        return float(np.logaddexp(0, -odds).sum() + np.square(weights[:2]).sum() / 2 / _PRIOR**2)

    # More sure of itself, the network is not less often right.
    bounds = [(0, None), (None, None), (None, None)]
    of_end, of_liveliness, constant = minimize(loss, np.zeros(3), bounds=bounds).x
    return float(of_end), float(of_liveliness), float(constant)
