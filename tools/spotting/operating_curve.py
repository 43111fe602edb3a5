"""The operating curve: what the spotter finds and how often it is wrong, threshold by threshold.

Tracking and motion take nearly all the time and do not depend on the threshold. So they are done
once, and new spotters with other thresholds look at the motions again.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from rich.table import Table

from realtime_mer.analysis.face_chain import FaceStep
from realtime_mer.results import Interval
from realtime_mer.spotting.motion import Motion
from realtime_mer.spotting.reliability import Reliability
from realtime_mer.spotting.spotter import Spotter, SpotterModel
from tools.spotting.figures import Figures, Result, matches, rates

# Examples of --sensitivity, in expected false reports a minute: strict, medium, lenient.
SENSITIVITIES = (0.2, 1.0, 3.0)
_THRESHOLDS = tuple(np.linspace(0.02, 0.98, 49).round(2).tolist())
_COLOURS = {"recall": "#0b6e99", "F1": "#c8553d"}
_GREY = "#5f6368"


class OperatingPoints:
    """The thresholds of the curve, and those that belong to `SENSITIVITIES`.

    Args:
        model: The spotter, at the threshold of its card.

    Attributes:
        delivered: The threshold of the card.
        of_sensitivity: Sensitivity to threshold; empty if the card has no curve.
        thresholds: All of them and more, rising.
    """

    def __init__(self, model: SpotterModel) -> None:
        self.delivered = model.threshold
        self.of_sensitivity = (
            {s: model.threshold_at(s) for s in SENSITIVITIES} if model.has_curve else {}
        )
        marked = (self.delivered, *self.of_sensitivity.values())
        self.thresholds = tuple(sorted({*_THRESHOLDS, *marked}))


class MotionStreams:
    """Collects the motions that the spotters of a clip see.

    Attributes:
        streams: A list of motions for each time that a face started afresh, with a new spotter.
    """

    def __init__(self) -> None:
        self.streams: list[list[Motion]] = []
        self._newest: dict[int, list[Motion]] = {}

    def add(self, steps: Iterable[FaceStep]) -> None:
        """Takes what the next frame told about its faces."""
        for step in steps:
            face = step.state.face
            if face not in self._newest or step.gap is not None:
                self._newest[face] = []
                self.streams.append(self._newest[face])
            if step.motion is not None:
                self._newest[face].append(step.motion)


class Answers:
    """A spotter's network that remembers its answers, since they do not depend on the threshold.

    Args:
        model: The network.
    """

    def __init__(self, model: SpotterModel) -> None:
        self.threshold, self.patterns = model.threshold, model.patterns
        self.reliability = model.reliability
        self.start = model.start
        self._model = model
        self._answers: list[np.ndarray] = []
        self._step = 0

    def at(self, threshold: float, reliability: Reliability | None = None) -> Answers:
        """Itself, back at the first step, with another threshold.

        Args:
            threshold: The threshold.
            reliability: None to leave it.
        """
        self.threshold, self._step = threshold, 0
        self.reliability = reliability or self.reliability
        return self

    def __call__(self, signals: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._step == len(self._answers):
            answer, state = self._model(signals, state)
            self._answers.append(answer)
        # A remembered answer needs no state: the one that came in goes out.
        self._step += 1
        return self._answers[self._step - 1], state


def proposed(
    streams: Sequence[Sequence[Motion]], model: SpotterModel, thresholds: Sequence[float]
) -> dict[float, tuple[Interval, ...]]:
    """The intervals that the runtime's spotter proposes on kept motions, by threshold.

    Args:
        streams: Motions; each stream has a spotter of its own.
        model: The spotter's network.
        thresholds: In place of the model's own, which stays as it is.
    """
    found: dict[float, list[Interval]] = {threshold: [] for threshold in thresholds}
    for motions in streams:
        answers = Answers(model)
        for threshold, intervals in found.items():
            spotter = Spotter(answers.at(threshold))
            for motion in motions:
                intervals += (proposal.interval for proposal in spotter(motion).found)
            intervals += (proposal.interval for proposal in spotter.finish())
    return {threshold: tuple(intervals) for threshold, intervals in found.items()}


def curve(results: Sequence[Result], thresholds: Sequence[float]) -> list[Figures]:
    """The figures of `Result.found_at` over all videos, by our rule, one point a threshold."""
    events = sum(len(r.truth) for r in results)
    minutes = sum(r.seconds for r in results) / 60
    points = []
    for threshold in thresholds:
        matched = sum(
            len(matches([t.interval for t in r.truth], r.found_at[threshold], r.fps))
            for r in results
        )
        reports = sum(len(r.found_at[threshold]) for r in results)
        false = reports - matched
        points.append(
            {
                "threshold": round(threshold, 4),
                **rates(events, matched, false),
                "false_per_minute": round(false / minutes, 4) if minutes else None,
                "reports": reports,
                "matched": matched,
            }
        )
    return points


def write_curve(points: Sequence[Figures], path: Path) -> None:
    """Writes the points as CSV, a row a threshold."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(points[0]))
        writer.writeheader()
        writer.writerows(points)


def curve_table(points: Sequence[Figures], at: OperatingPoints) -> Table:
    """The points of `SENSITIVITIES`, and the one of the card."""
    table = Table(title="At other sensitivities")
    names = ("threshold", "recall", "precision", "F1", "false_per_minute")
    table.add_column("--sensitivity")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    rows = {f"{s:g}": threshold for s, threshold in at.of_sensitivity.items()}
    for name, threshold in (rows | {"not set": at.delivered}).items():
        point = _at(points, threshold)
        shown = (point[key] for key in names)
        table.add_row(name, *("-" if v is None else f"{v:.3g}" for v in shown))
    return table


def _at(points: Sequence[Figures], threshold: float) -> Figures:
    return next(p for p in points if p["threshold"] == round(threshold, 4))


def plot_curve(
    points: Sequence[Figures], results: Sequence[Result], at: OperatingPoints, path: Path
) -> None:
    """Draws recall and F1 over false reports a minute, with the sensitivities marked."""
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    marked = {s: _at(points, threshold) for s, threshold in at.of_sensitivity.items()}
    for name, colour in _COLOURS.items():
        axes.plot(*_line(points, name), color=colour, lw=1.8, marker=".", ms=5, label=name)
        axes.plot(
            *_line(list(marked.values()), name), "o", ms=9, mfc="white", mec=colour, mew=2, zorder=3
        )
    minutes = sum(r.seconds for r in results) / 60
    _scale(axes, points, minutes)
    _label_marks(axes, marked)
    events = sum(len(r.truth) for r in results)
    axes.set_title(
        f"{events} micro-expressions in {len(results)} videos, {minutes:.1f} min", loc="left"
    )
    axes.set_xlabel("false reports a minute")
    axes.legend(frameon=False, loc="lower right")
    axes.grid(color="#e3e5e8")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _line(points: Sequence[Figures], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Figures over false reports a minute; NaN where they are undefined."""
    x, y = (np.array([p[key] for p in points], float) for key in ("false_per_minute", name))
    return x, y


def _scale(axes: Axes, points: Sequence[Figures], minutes: float) -> None:
    """A logarithmic axis from one false report in all videos on, with room for none below."""
    least = 1 / minutes
    most = max(least, *(float(p["false_per_minute"] or 0) for p in points))
    axes.set_xscale("symlog", linthresh=least, linscale=0.4)
    ticks = [digit * 10.0**power for power in range(-3, 4) for digit in (1, 2, 5)]
    axes.set_xticks([0, *(t for t in ticks if least <= t <= most)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()
    axes.set_xlim(-0.15 * least, 1.1 * most)
    axes.set_ylim(0, 1.03)


def _label_marks(axes: Axes, marked: dict[float, Figures]) -> None:
    """Draws a line down from each sensitivity's marks; several may share one."""
    names: dict[float, list[str]] = {}
    for sensitivity, point in marked.items():
        names.setdefault(float(point["false_per_minute"] or 0), []).append(f"{sensitivity:g}")
    for x, several in names.items():
        axes.axvline(x, color=_GREY, lw=0.8, ls=":", zorder=0)
        axes.annotate(
            f"sensitivity {', '.join(several)}",
            (x, 0.02),
            (3, 0),
            textcoords="offset points",
            rotation=90,
            va="bottom",
            color=_GREY,
            size=9,
            bbox={"fc": "white", "ec": "none", "pad": 1},
        )
