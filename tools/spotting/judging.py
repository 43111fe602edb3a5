"""What the spotter's reports are worth, on calm and on lively faces.

The runtime's spotter, with all its checks, reports on clips whatever seems to have ended. Each
report is true or false. From them follows the probability that one is true, given the evidence
(`realtime_mer/spotting/reliability.py`).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from realtime_mer.source.reader import DEFAULT_FPS
from realtime_mer.spotting.reliability import Evidence, Reliability
from realtime_mer.spotting.spotter import Proposal, Spotter, SpotterModel
from tools.spotting.clip_signals import hidden_intervals, motion_streams, person
from tools.spotting.figures import matches, rates
from tools.spotting.operating_curve import Answers

# With fewer true or false reports, no probability can be told.
_LEAST_REPORTS = 10
# Inverse of the penalty on the weights, of evidence of unit size.
_LOOSENESS = 0.3
# Groups of people, for each of which the others tell how likely its reports are true.
_FOLDS = 8
# Bins of the expected calibration error.
_BINS = 5
# Of `Spotter.restlessness`: from here on a face is lively. Of four photos under a swaying
# camera nine of ten moments are below 0.94; of 68 videos of people, most of whom talk, nine of ten
# are above 1.6.
LIVELY = 1.1


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Reports of the spotter and whether they are true, n of them, and how long it watched.

    Attributes:
        people: (n,) str, who was seen (`person`).
        evidence: (n, 4), a row for each, as `Evidence`.
        true: (n,) bool, by the rule of `tools/spotting/figures.py`.
        calm_s, lively_s: Seconds in which the restlessness was below `LIVELY`, and all others.
        events: Micro-expressions in the clips.
    """

    people: np.ndarray
    evidence: np.ndarray
    true: np.ndarray
    calm_s: float
    lively_s: float
    events: int

    @property
    def figures(self) -> dict[str, float | int | None]:
        """What is found, and what is false, of all reports."""
        return self._figures(np.ones(len(self.true), bool))

    def figures_on_others(self, threshold: float) -> dict[str, float | int | None] | None:
        """As `figures`, each report scored by what is measured on other people.

        None if there are too few reports.

        Args:
            threshold: Only reports with at least this score count.
        """
        told = self._told_by_others()
        return None if told is None else self._figures(told >= threshold)

    def _figures(self, reported: np.ndarray) -> dict[str, float | int | None]:
        false = reported & ~self.true
        lively = self.evidence[:, Evidence._fields.index("restlessness")] >= LIVELY
        minutes = (self.calm_s + self.lively_s) / 60
        found = int((reported & self.true).sum())

        def rate(count: int, of_minutes: float) -> float:
            return count / of_minutes if of_minutes else 0.0

        return {
            "found": found,
            **rates(self.events, found, int(false.sum())),
            "false_per_minute": rate(int(false.sum()), minutes),
            "false_per_minute_calm": rate(int((false & ~lively).sum()), self.calm_s / 60),
            "false_per_minute_lively": rate(int((false & lively).sum()), self.lively_s / 60),
        }

    def reliability(self) -> Reliability:
        """What the reports tell; nothing if there are too few."""
        if not self._is_enough:
            return Reliability()
        scaler, regression = _model().fit(self.evidence, self.true)
        weights = regression.coef_[0] / scaler.scale_
        constant = regression.intercept_[0] - weights @ scaler.mean_
        return Reliability((*map(float, weights), float(constant)))

    def calibration_error(self) -> float | None:
        """The expected calibration error on people whose reports the reliability has not seen.

        The mean over bins of equal size of the difference between the probability told and the
        share of true reports. None if there are too few reports.
        """
        told = self._told_by_others()
        if told is None:
            return None
        bins = np.array_split(np.argsort(told), _BINS)
        off = [abs(told[b].mean() - self.true[b].mean()) * len(b) for b in bins if len(b)]
        return float(sum(off)) / len(told)

    @property
    def _is_enough(self) -> bool:
        return min(self.true.sum(), (~self.true).sum()) >= _LEAST_REPORTS

    def _told_by_others(self) -> np.ndarray | None:
        """(n,) the probability that each report is true, by what is measured on other people."""
        folds = min(_FOLDS, len(np.unique(self.people)))
        if not self._is_enough or folds < 2:
            return None
        return cross_val_predict(
            _model(),
            self.evidence,
            self.true,
            groups=self.people,
            cv=GroupKFold(folds),
            method="predict_proba",
        )[:, 1]


def _model() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=_LOOSENESS))


LENIENT = (1e-9, Reliability())
"""Threshold and reliability for `judge` at which the spotter reports whatever is of interest."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of a clip: reports and whether they are true, for each setting."""

    reports: list[list[Proposal]]
    true: list[list[bool]]
    calm_s: float
    lively_s: float
    events: int


# What `_see` reads, in this process or in those of a pool.
_shared: dict[str, Any] = {}


def _start(weights: Path, settings: Sequence[tuple[float, Reliability]]) -> None:
    _shared.update(model=SpotterModel(weights, calibrated=False), settings=settings)


def _see(file: Path) -> _Seen:
    settings = _shared["settings"]
    reports: list[list[Proposal]] = [[] for _ in settings]
    times: list[float] = []
    seconds = [0.0, 0.0]
    for stream in motion_streams(file):
        network = Answers(_shared["model"])
        for i, setting in enumerate(settings):
            spotter = Spotter(network.at(*setting))
            for motion, earlier in zip(stream, [stream[0], *stream], strict=False):
                reports[i] += spotter(motion).found
                if i == 0:
                    is_lively = spotter.restlessness >= LIVELY
                    seconds[is_lively] += motion.time_s - earlier.time_s
                    times.append(motion.time_s)
            reports[i] += spotter.finish()
    micros, _ = hidden_intervals(file)
    fps = 1 / float(np.median(np.diff(times))) if len(times) > 1 else DEFAULT_FPS
    matched = [{j for _, j in matches(micros, [r.interval for r in of], fps)} for of in reports]
    true = [[j in m for j in range(len(of))] for of, m in zip(reports, matched, strict=True)]
    calm_s, lively_s = seconds
    return _Seen(reports, true, calm_s, lively_s, len(micros))


def judge(
    files: Sequence[Path],
    weights: Path,
    settings: Sequence[tuple[float, Reliability]] = (LENIENT,),
    jobs: int = 1,
) -> list[Judged]:
    """What a spotter reports on clips, and how much of it is true.

    Args:
        files: Signals of `tools/spotting/synthesize.py`.
        weights: The spotter's; the threshold and reliability of its card are not used.
        settings: Thresholds and reliabilities.
        jobs: Clips at a time, each in a process.

    Returns:
        One for each of the settings.
    """
    if jobs == 1:
        _start(weights, settings)
        clips = [_see(file) for file in files]
    else:
        # Not forked: a training before this has left threads, whose locks a fork would copy.
        context = multiprocessing.get_context("spawn")
        with context.Pool(jobs, _start, (weights, settings)) as pool:
            clips = pool.map(_see, files, chunksize=1)

    def of_setting(i: int) -> Judged:
        reports = [report for clip in clips for report in clip.reports[i]]
        count = [len(clip.reports[i]) for clip in clips]
        return Judged(
            np.repeat(np.array([person(file) for file in files], dtype=str), count),
            np.array([r.evidence for r in reports], float).reshape(-1, len(Evidence._fields)),
            np.array([true for clip in clips for true in clip.true[i]], dtype=bool),
            sum(clip.calm_s for clip in clips),
            sum(clip.lively_s for clip in clips),
            sum(clip.events for clip in clips),
        )

    return [of_setting(i) for i in range(len(settings))]
