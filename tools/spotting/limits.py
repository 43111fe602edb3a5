"""Fits and checks the limits of detection of a spotter's weights, and rewrites their card.

    python tools/spotting/limits.py --signals DIR [DIR ...] --data DIR [--subjects S ...]
        [--weights FILE.onnx] [--rounds N] [--folds N] [--jobs N] [--seed N] [--plot FILE.png]

The folders hold signals of `tools/spotting/synthesize.py`, made of faces that the weights were not
trained on; --subjects are those of the flow release (--data) whose motions they have not seen.

1. Events of random size are added to the clips, and the runtime's spotter finds them or not.
2. The people are divided into groups. For each group, a model is fitted on all others.
3. Events of exactly the size that this model states as the limit of the moment are added to the
   clips of the group. Four of five should be found.
4. If of the largest limits of a part of the face fewer than 70 % are, those are not stated: the
   part's range ends below. Where it ends for a group is chosen on all other groups. What is stated
   is the table, and the plot.
5. The model on the card is fitted on all events of both kinds, and its largest limits are chosen on
   all groups.

The size of an event is the `intensity_px` that it would be logged with on a face that does nothing
else: the 99th percentile of the displacement that flow finds from onset to apex.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import binomtest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import read_release
from realtime_mer.errors import InputError
from realtime_mer.model_file import SPOTTER, load_weights
from realtime_mer.results import PARTS
from realtime_mer.spotting.spotter import SpotterModel
from realtime_mer.spotting.visibility import FEATURES, FOUND, VisibilityModel
from tools.command import command_parser, exit_status, progress_bar
from tools.spotting.calibration import check_held_out, write_card
from tools.spotting.clip_signals import person, signal_files
from tools.spotting.motions import RiseAndFall, drawn_motions, measured_motions
from tools.spotting.trials import TrialClip, Trials

# Sizes of events, and so the range of limits, px. The spotter takes larger ones more and more for
# speech or a macro-expression: of 57 events of 2.4 to 3 px in a trial, a model without this range
# expected 86 % to be found, and 65 % were.
SIZES_PX = (0.3, 2.4)
# Drawn motions beside the measured ones.
_DRAWN = 60
# Of large events on the best of faces at least this share is found, or no limit can be stated.
_LEAST_MOST_FOUND = 0.85
# Standard deviations of a weight before the trials are seen, for a feature of unit variance: one of
# these. In a trial on 20 people, 0.15 to 0.25 predicted the others best.
_PRIORS = (0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
_SLOPES = (0.5, 8.0)
# Features that make a limit fall; all others make it rise.
_HELPS = np.array([name == "texture" for name in FEATURES])
# Edges of the stated limits in the table, px.
_EDGES = (0.3, 0.6, 0.8, 1.1, 1.5, 1.9, 2.4)
_ALL = (_EDGES[0], _EDGES[-1])
# What is promised of events of the size of the limit.
PROMISED = (0.7, 0.9)
# Bins with fewer events are not drawn.
_LEAST_DRAWN = 10
_COLOURS = ("#0b6e99", "#5a9367", "#c8553d")


def fit(trials: Trials, folds: int) -> VisibilityModel:
    """The most likely model of trials, with weights drawn towards 0.

    Each face hides in its own way. How far the weights are drawn is chosen so that a model of the
    others predicts each group of people best.

    Raises:
        InputError: A part of the face has too few trials, or all are of one person.
    """
    people = trials.people.tolist()
    folds = min(folds, len(set(people)))
    group = groups(people, folds)
    groups_of = np.array([group[name] for name in people])

    def loss_on_others(width: float) -> float:
        total = 0.0
        for i in range(folds):
            p = probabilities(_fit(trials[groups_of != i], width), trials[groups_of == i])
            total -= np.log(np.where(trials.found[groups_of == i], p, 1 - p)).sum()
        return total

    return _fit(trials, min(_PRIORS, key=loss_on_others))


def _fit(trials: Trials, width: float) -> VisibilityModel:
    """The most likely model, with weights of a given `_PRIORS`."""
    parts = (_fit_part(trials, part, width) for part in range(len(PARTS)))
    slope, offset, weights, most_found = map(np.array, zip(*parts, strict=True))
    all_limits = np.full(len(PARTS), SIZES_PX[1])
    return VisibilityModel(slope, offset, weights, most_found, SIZES_PX, all_limits)


def probabilities(model: VisibilityModel, trials: Trials) -> np.ndarray:
    """(n,) P(found) of each of n trials, in the part of the face where it is."""
    by_part = model.probability(trials.features, trials.sizes[:, None])
    return np.clip(by_part[np.arange(len(trials)), trials.parts], 1e-9, 1 - 1e-9)


def _fit_part(trials: Trials, part: int, width: float) -> tuple[float, float, np.ndarray, float]:
    """Slope, offset, weights and most_found of a part of the face."""
    of_part = trials[trials.parts == part]
    found = of_part.found.astype(float)
    if min(found.sum(), (1 - found).sum()) < len(FEATURES):
        raise InputError(
            f"{len(of_part)} events in the {PARTS[part]} ({found.sum():.0f} found) are too few for "
            "its limit: give more signals, or more --rounds"
        )
    features = of_part.features[:, part]
    middle, spread = features.mean(0), np.maximum(features.std(0), 1e-3)
    x = np.column_stack([np.log(of_part.sizes), np.ones(len(found)), (middle - features) / spread])

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the logarithm of the posterior density, and its gradient.

        Args:
            parameters: Slope, offset, weights of the scaled features, and most_found.
        """
        linear, most = parameters[:-1], parameters[-1]
        p = expit(x @ linear)
        right = np.clip(most * p, 1e-9, 1 - 1e-9)
        by_right = (right - found) / (right * (1 - right))
        gradient = np.append(x.T @ (by_right * most * p * (1 - p)), by_right @ p)
        scaled = linear[2:] / width
        gradient[2:-1] += scaled / width
        likelihood = found * np.log(right) + (1 - found) * np.log(1 - right)
        return float(0.5 * scaled @ scaled - likelihood.sum()), gradient

    bounds = [
        _SLOPES,
        (None, None),
        *((None, 0.0) if helps else (0.0, None) for helps in _HELPS),
        (_LEAST_MOST_FOUND, 1.0),
    ]
    start = np.array([2.0, 0.0, *np.where(_HELPS, -0.1, 0.1), 0.95])
    slope, offset, *scaled, most_found = minimize(loss, start, jac=True, bounds=bounds).x
    weights = np.array(scaled) / spread
    return slope, offset + float(weights @ middle), weights, most_found


def groups(people: Sequence[str], folds: int) -> dict[str, int]:
    """The group of each person, so that the groups have about as many clips.

    Args:
        people: Who is in each clip.
        folds: How many groups.

    Raises:
        InputError: There are fewer people than groups, or fewer than two groups.
    """
    names, counts = np.unique(list(people), return_counts=True)
    if not 2 <= folds <= len(names):
        raise InputError(f"{len(names)} people cannot be divided into {folds} groups: see --folds")
    clips = [0] * folds
    group: dict[str, int] = {}
    for i in np.argsort(-counts, kind="stable"):
        group[names[i]] = clips.index(min(clips))
        clips[group[names[i]]] += int(counts[i])
    return group


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What a process needs for a clip: the model by which sizes are chosen, if any."""

    file: Path
    seed: int
    rounds: int
    model: VisibilityModel | None


# What `_look` reads, in processes that are forked.
_shared: dict[str, Any] = {}


def _start(weights: Path, motions: Sequence[RiseAndFall]) -> None:
    _shared.update(model=SpotterModel(weights), motions=motions)


def _look(look: _Look) -> tuple[Trials, np.ndarray]:
    """Trials of a clip; and the limits (m, 3) of all moments at which an event was to begin.

    Without a model, sizes are random and limits NaN.
    """
    key = (look.seed, crc32(look.file.name.encode()), look.model is not None)
    rng = np.random.default_rng(key)
    clip = TrialClip(look.file, _shared["motions"], rng)
    moments: list[np.ndarray] = []

    def size(features: np.ndarray, part: int) -> float | None:
        if look.model is None:
            return float(np.exp(rng.uniform(*np.log(SIZES_PX))))
        limits = look.model.limits(features)
        moments.append(limits)
        return float(limits[part]) if limits[part] < SIZES_PX[1] * (1 - 1e-6) else None

    trials = [clip.trials(_shared["model"], size, rng) for _ in range(look.rounds)]
    return Trials.joined(trials), np.array(moments).reshape(-1, len(PARTS))


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the reliability table.

    Attributes:
        part: Of `PARTS`, or "all".
        limits: From and to, px.
        events: Events of the size of the limit.
        found: How many of them were found.
        people: How many people showed them.
    """

    part: str
    limits: tuple[float, float]
    events: int
    found: int
    people: int

    @property
    def share(self) -> float:
        """Of the events, the share that was found; NaN without any."""
        return self.found / self.events if self.events else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share."""
        return wilson(self.found, self.events)


def wilson(successes: int, tries: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; (0, 1) without tries."""
    if not tries:
        return 0.0, 1.0
    low, high = binomtest(successes, tries).proportion_ci(method="wilson")
    return float(low), float(high)


def reliability(trials: Trials) -> list[Row]:
    """The table of events of the size of the stated limit: by part and limit, then all."""
    rows = []
    bins = [*itertools.pairwise(_EDGES), _ALL]
    for part, name in enumerate((*PARTS, "all")):
        for low, high in bins:
            keep = (trials.sizes >= low) & (trials.sizes < high)
            if name != "all":
                keep &= trials.parts == part
            few = trials[keep]
            people = len(set(few.people.tolist()))
            rows.append(Row(name, (low, high), len(few), int(few.found.sum()), people))
    return rows


def largest_limits(trials: Trials) -> np.ndarray:
    """(3,) the end of each part's range: of the largest limits below it, enough events are found.

    Args:
        trials: Events of the size of the limit of their moment.
    """
    largest = []
    for part in range(len(PARTS)):
        mine = trials[trials.parts == part]
        ends = iter(reversed(_EDGES))
        end = next(ends)
        for start in ends:
            inside = mine.found[(mine.sizes >= start) & (mine.sizes < end)]
            if len(inside) < _LEAST_DRAWN:
                continue  # too few to tell: together with the next ones
            if inside.mean() >= PROMISED[0]:
                break
            end = start
        largest.append(end)
    return np.array(largest)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What the command finds out.

    Attributes:
        model: Fitted on all events.
        at_random: Events of random size.
        predicted: (n,) their P(found), by a model that has not seen the person.
        at_limit: Events of the size of the stated limit, also by such a model.
        moments: (m, 3) limits at the moments at which an event was to begin, by such models.
        not_stated: Events of the size of a limit that such a model gives, but is not stated, as
            limits of its part so large do not keep their promise.
    """

    model: VisibilityModel
    at_random: Trials
    predicted: np.ndarray
    at_limit: Trials
    moments: np.ndarray
    not_stated: Trials


def measure(
    files: Sequence[Path],
    weights: Path,
    motions: Sequence[RiseAndFall],
    *,
    rounds: int,
    folds: int,
    seed: int = 0,
    jobs: int = 1,
) -> Outcome:
    """Fits and checks the limits of a spotter.

    Args:
        files: Signals of `tools/spotting/synthesize.py`, of faces that were not trained on.
        weights: The spotter's; its threshold is the card's.
        motions: What events are drawn from.
        rounds: How often events are added to each clip, for each of the two kinds of sizes.
        folds: Number of groups of people.
        seed: Of all that is drawn.
        jobs: Clips at a time, each in a process.

    Raises:
        InputError: There are too few people or events.
    """
    people = [person(file) for file in files]
    if len(set(people)) < 2 * folds:
        raise InputError(
            f"the clips show {len(set(people))} people, too few for {folds} groups of two or more: "
            "give more signals, or fewer --folds"
        )
    group = groups(people, folds)
    context = multiprocessing.get_context("fork")
    with context.Pool(jobs, _start, (weights, motions)) as pool:

        def looked(models: dict[int, VisibilityModel] | None) -> list[tuple[Trials, np.ndarray]]:
            looks = [
                _Look(file, seed, rounds, None if models is None else models[group[name]])
                for file, name in zip(files, people, strict=True)
            ]
            sizes = "random size" if models is None else "the size of the limit"
            with progress_bar(Console(stderr=True)) as bar:
                return list(
                    bar.track(
                        pool.imap(_look, looks), total=len(looks), description=f"events of {sizes}"
                    )
                )

        at_random = Trials.joined([trials for trials, _ in looked(None)])
        groups_of = np.array([group[name] for name in at_random.people])
        models = {i: fit(at_random[groups_of != i], folds) for i in range(folds)}
        predicted = np.empty(len(at_random))
        for i, model in models.items():
            predicted[groups_of == i] = probabilities(model, at_random[groups_of == i])
        second = looked(models)
    at_limit = Trials.joined([trials for trials, _ in second])
    groups_of = np.array([group[name] for name in at_limit.people])
    largest = {i: largest_limits(at_limit[groups_of != i]) for i in range(folds)}
    is_stated = (
        at_limit.sizes
        < np.array([largest[i] for i in groups_of])[np.arange(len(at_limit)), at_limit.parts]
    )
    moments = np.concatenate(
        [
            np.where(limits < largest[group[name]], limits, SIZES_PX[1])
            for (_, limits), name in zip(second, people, strict=True)
        ]
    )
    model = fit(Trials.joined([at_random, at_limit]), folds)
    model = dataclasses.replace(model, most_px=largest_limits(at_limit))
    return Outcome(model, at_random, predicted, at_limit[is_stated], moments, at_limit[~is_stated])


def card_entry(outcome: Outcome) -> dict[str, Any]:
    """The entry "visibility" of a card; `VisibilityModel.from_card` reads it."""
    model, trials = outcome.model, outcome.at_limit
    rows = [row for row in reliability(trials) if row.limits == _ALL]
    people = set(outcome.at_random.people.tolist())
    events = sum(map(len, (outcome.at_random, trials, outcome.not_stated)))
    return {
        "parts": list(PARTS),
        "features": list(FEATURES),
        "slope": model.slope.round(4).tolist(),
        "offset": model.offset.round(4).tolist(),
        "weights": model.weights.round(4).tolist(),
        "most_found": model.most_found.round(4).tolist(),
        "range_px": list(model.range_px),
        "most_px": model.most_px.tolist(),
        "fitted_on": f"{events} events on signals of {len(people)} people, "
        "tools/spotting/limits.py",
        "found_at_limit": {
            row.part: {"events": row.events, "found": round(row.share, 3)}
            for row in rows
            if row.events
        },
    }


def reliability_table(outcome: Outcome) -> Table:
    """Of events of the size of the stated limit, how many were found."""
    table = Table(title="Events of the size of the stated limit, on people the model has not seen")
    table.add_column("part")
    for name in ("stated limit, px", "events", "people", "found", "95 % interval"):
        table.add_column(name, justify="right")
    for row in reliability(outcome.at_limit):
        if row.events:
            low, high = row.interval
            table.add_row(
                row.part,
                "{:.1f} to {:.1f}".format(*row.limits),
                str(row.events),
                str(row.people),
                f"{row.share:.0%}",
                f"{low:.0%} to {high:.0%}",
                end_section=row.limits == _ALL,
            )
    return table


def moments_table(moments: np.ndarray) -> Table:
    """How often which limit was stated.

    Args:
        moments: (m, 3) limits, px.
    """
    table = Table(title="Share of the moments with such a limit")
    table.add_column("limit, px")
    for name in PARTS:
        table.add_column(name, justify="right")
    for low, high in [*itertools.pairwise(_EDGES), (_EDGES[-1], math.inf)]:
        shares = ((moments >= low) & (moments < high)).mean(0)
        label = f"{low:.1f} or more" if math.isinf(high) else f"{low:.1f} to {high:.1f}"
        table.add_row(label, *(f"{share:.0%}" for share in shares))
    return table


def plot(outcome: Outcome, path: Path) -> None:
    """Draws what was found at the stated limits, how often they are stated, and P(found)."""
    figure = Figure(figsize=(11, 5.5), dpi=150, layout="constrained")
    shape = "AC;BC"
    axes = figure.subplot_mosaic(shape, height_ratios=(3, 1), width_ratios=(3, 2))
    _draw_found(axes["A"], outcome.at_limit)
    _draw_moments(axes["B"], outcome.moments)
    _draw_probability(axes["C"], outcome)
    for one in axes.values():
        one.grid(color="#e3e5e8")
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _limit_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlim(0.9 * _EDGES[0], 1.25 * _EDGES[-1])
    axes.set_xticks([*_EDGES])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_found(axes: Axes, trials: Trials) -> None:
    low, high = PROMISED
    axes.axhspan(low, high, color="#e8f0e6", zorder=0)
    axes.axhline(FOUND, color="#5f6368", lw=0.8, ls=":")
    rows = reliability(trials)
    for i, (name, colour) in enumerate(zip(PARTS, _COLOURS, strict=True)):
        drawn = [
            row
            for row in rows
            if row.part == name and row.events >= _LEAST_DRAWN and row.limits != _ALL
        ]
        # Beside each other, so that no bar hides another.
        x = [math.sqrt(row.limits[0] * row.limits[1]) * 1.03 ** (i - 1) for row in drawn]
        share = np.array([row.share for row in drawn])
        ends = np.array([row.interval for row in drawn]).reshape(-1, 2)
        errors = np.abs(ends.T - share)
        axes.errorbar(x, share, errors, fmt="o-", ms=6, lw=1.4, color=colour, label=name)
    _limit_axis(axes)
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("found of events of that size")
    axes.set_title(
        f"{len(trials)} events of the size of the stated limit, "
        f"{len(set(trials.people.tolist()))} people",
        loc="left",
    )
    axes.legend(frameon=False, loc="lower right")


def _draw_moments(axes: Axes, moments: np.ndarray) -> None:
    ends = np.array([*_EDGES, 1.2 * _EDGES[-1]])
    for i, colour in enumerate(_COLOURS):
        # The last bin holds what cannot be read: its limit is the largest or more.
        counts, _ = np.histogram(np.minimum(moments[:, i], 1.1 * _EDGES[-1]), ends)
        axes.stairs(counts / max(len(moments), 1), ends, color=colour, lw=1.8)
    _limit_axis(axes)
    axes.set_ylim(0, None)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("of the time")
    axes.set_xlabel(f"stated limit of detection, px (the last bin: {_EDGES[-1]:g} px or more)")


def _draw_probability(axes: Axes, outcome: Outcome) -> None:
    predicted, trials = outcome.predicted, outcome.at_random
    axes.plot([0, 1], [0, 1], color="#5f6368", lw=0.8, ls=":")
    edges = np.linspace(0, 1, 11)
    for part, (name, colour) in enumerate(zip(PARTS, _COLOURS, strict=True)):
        x, y = [], []
        for low, high in itertools.pairwise(edges):
            keep = (trials.parts == part) & (predicted >= low) & (predicted < high)
            if keep.sum() >= _LEAST_DRAWN:
                x.append(predicted[keep].mean())
                y.append(trials.found[keep].mean())
        axes.plot(x, y, "o-", ms=5, lw=1.4, color=colour, label=name)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("predicted")
    axes.set_ylabel("found")
    axes.set_title(f"{len(trials)} events of any size", loc="left")


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("--signals", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--data", type=Path, required=True, help="the flow release")
    parser.add_argument("--subjects", nargs="*", metavar="S", help="these subjects' motions alone")
    parser.add_argument(
        "--weights", type=Path, default=SPOTTER, metavar="FILE.onnx", help="default: the delivered"
    )
    parser.add_argument("--rounds", type=int, default=6, help="events twice as often (default 6)")
    parser.add_argument("--folds", type=int, default=5, help="groups of people (default 5)")
    parser.add_argument("--jobs", type=int, default=1, help="clips at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the reliability")
    options = parser.parse_args(arguments)
    return exit_status(parser.prog, lambda: _limits(options))


def _limits(options: argparse.Namespace) -> None:
    """All that the command does.

    Raises:
        InputError: The signals, the data or the weights cannot be used.
    """
    if options.rounds < 1:
        raise InputError(f"--rounds {options.rounds} adds no events: give at least 1")
    files = signal_files(*options.signals)
    card = load_weights(options.weights).card
    SpotterModel(options.weights)
    check_held_out(files, card.get("trained_on", {}).get("backgrounds", ()))
    clips = read_release(options.data)
    if options.subjects:
        clips = clips.only(options.subjects)
    rng = np.random.default_rng(options.seed)
    outcome = measure(
        files,
        options.weights,
        measured_motions(clips.pairs) + drawn_motions(_DRAWN, rng),
        rounds=options.rounds,
        folds=options.folds,
        seed=options.seed,
        jobs=options.jobs,
    )
    console = Console()
    console.print(reliability_table(outcome))
    console.print(moments_table(outcome.moments))
    few = outcome.not_stated
    if len(few):
        console.print(
            f"Not stated: of {len(few)} events of the size of such a limit, "
            f"{few.found.mean():.0%} were found."
        )
    if options.plot:
        plot(outcome, options.plot)
        print(f"drawn to {options.plot}")
    card["visibility"] = card_entry(outcome)
    write_card(card, options.weights)
    print(f"written to {options.weights.with_suffix('.json')}")


if __name__ == "__main__":
    sys.exit(main())
