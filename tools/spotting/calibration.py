"""Calibration: the operating curve of a spotter on clips that it was not trained on.

The runtime's own spotter, with the weights as they are delivered and all its checks, looks at the
motions of the clips at many thresholds. The curve goes on the weights' card, from which the runtime
takes its threshold and what a sensitivity means.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.model_file import load_weights
from realtime_mer.spotting.spotter import SpotterModel
from tools.spotting.clip_signals import clip_name
from tools.spotting.figures import Figures
from tools.spotting.judging import Judged, judge
from tools.spotting.operating_curve import SENSITIVITIES

# From where a spotter reports about anything to where it reports hardly anything.
THRESHOLDS = (0.02, *(round(0.05 * i, 2) for i in range(1, 20)), 0.97, 0.98, 0.99)
FALSE_PER_MINUTE = 0.25
"""The usual limit of false reports a minute, on lively faces and on all together."""
# On calm faces nothing but noise and blinks is to be told apart.
_CALM_FALSE_PER_MINUTE = 0.1


def check_held_out(held_out: Iterable[Path], trained_on: Iterable[str]) -> None:
    """Raises InputError if clips to measure on were trained on.

    Args:
        held_out: Signals to measure on.
        trained_on: Names of the photos and videos that were trained on.
    """
    both = sorted({clip_name(file) for file in held_out} & set(trained_on))
    if both:
        raise InputError(
            f"held out and trained on alike: {', '.join(both)}. On faces that the spotter knows it "
            "looks better than it is: take them out of one of the two"
        )


def card_points(judged: Sequence[Judged], thresholds: Sequence[float]) -> list[Figures]:
    """The curve of a card: threshold, recall, false reports a minute, F1.

    A report suppresses those that overlap with it, so a stricter threshold now and then gives more
    false reports. A card's must fall: each point gets at least the rate of all stricter ones.

    Args:
        judged: What the spotter reports at each threshold.
        thresholds: Rising.
    """
    points = [of_threshold.figures for of_threshold in judged]
    false = np.array([point["false_per_minute"] for point in points], float)
    at_least = np.maximum.accumulate(false[::-1])[::-1]
    return [
        {
            "threshold": threshold,
            "recall": _rounded(point["recall"]),
            "false_per_minute": round(float(rate), 3),
            "F1": _rounded(point["F1"]),
        }
        for threshold, point, rate in zip(thresholds, points, at_least, strict=True)
    ]


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 4)


def calibrate(
    weights: Path, held_out: Sequence[Path], false_per_minute: float, jobs: int = 1
) -> list[Figures]:
    """Measures a spotter's reliability and curve and puts them on its card, with the threshold.

    Args:
        weights: ONNX file with its card beside it, which is rewritten.
        held_out: Signals of `tools/spotting/synthesize.py`, of faces that were not trained on.
        false_per_minute: The threshold is the lowest with at most so many false reports a minute.
        jobs: Clips at a time, each in a process.

    Returns:
        The points of the curve.

    Raises:
        InputError: The weights are no spotter's, a clip was trained on, or the clips show no face.
    """
    SpotterModel(weights, calibrated=False)  # fails now if these are no spotter's
    card = load_weights(weights).card
    check_held_out(held_out, card.get("trained_on", {}).get("backgrounds", ()))
    (judged,) = judge(held_out, weights, jobs=jobs)
    minutes = (judged.calm_s + judged.lively_s) / 60
    if not minutes:
        raise InputError(
            f"no face is followed in the held-out clips, {held_out[0]} and others: "
            "make longer ones with tools/spotting/synthesize.py"
        )
    calm_limit = min(false_per_minute, _CALM_FALSE_PER_MINUTE)
    reliability = judged.reliability()
    at_thresholds = judge(held_out, weights, [(t, reliability) for t in THRESHOLDS], jobs)
    points = card_points(at_thresholds, THRESHOLDS)
    fits = [
        (of_threshold.figures["false_per_minute_calm"] or 0) <= calm_limit
        and (point["false_per_minute"] or 0) <= false_per_minute
        and (of_threshold.figures["false_per_minute_lively"] or 0) <= false_per_minute
        for point, of_threshold in zip(points, at_thresholds, strict=True)
    ]
    # From there on all stricter ones fit, too.
    first = len(fits) - next((i for i, fit in enumerate(reversed(fits)) if not fit), len(fits))
    at = THRESHOLDS[min(first, len(fits) - 1)]
    chosen = (
        f"the lowest with at most {calm_limit:g} false reports a minute on calm faces, and "
        f"{false_per_minute:g} on lively ones and on all"
    )
    error, on_others = judged.calibration_error(), judged.figures_on_others(at)
    changed = card.get("reliability") != reliability.to_card() or card["threshold"] != at
    card |= {
        "threshold": at,
        "threshold_chosen": chosen if first < len(fits) else f"the highest: none is {chosen}",
        "reliability": reliability.to_card(),
        "reliability_of": {
            "at_threshold": _shown(at_thresholds[THRESHOLDS.index(at)].figures),
            "on_others": None if on_others is None else _shown(on_others),
            "minutes_calm": round(judged.calm_s / 60, 2),
            "minutes_lively": round(judged.lively_s / 60, 2),
            "hidden": judged.events,
            "reports_true": int(judged.true.sum()),
            "reports_false": int((~judged.true).sum()),
            "calibration_error_on_others": None if error is None else round(error, 3),
        },
        "operating_curve": points,
        "operating_curve_of": "these weights in the runtime's spotter, on "
        f"{minutes:.1f} minutes of {len(held_out)} held-out clips with {judged.events} hidden "
        "micro-expressions",
        "held_out": sorted({clip_name(file) for file in held_out}),
    }
    if changed:
        # The limits of detection were those of another threshold.
        card.pop("visibility", None)
    write_card(card, weights)
    calibrated = SpotterModel(weights)
    settings = [(calibrated.threshold_at(s), reliability) for s in SENSITIVITIES]
    at_sensitivity = {
        f"{sensitivity:g}": {"threshold": round(threshold, 4), **_shown(of_setting.figures)}
        for sensitivity, (threshold, _), of_setting in zip(
            SENSITIVITIES, settings, judge(held_out, weights, settings, jobs), strict=True
        )
    }
    write_card(card | {"at_sensitivity": at_sensitivity}, weights)
    return points


def _shown(figures: Figures) -> Figures:
    """The figures of reports that a card tells."""
    names = ("found", "false_per_minute_calm", "false_per_minute_lively")
    return {name: round(figures[name] or 0, 3) for name in names}


def write_card(card: dict[str, object], weights: Path) -> None:
    """Writes the card of an ONNX file; it appears whole."""
    part = weights.with_suffix(".json.part")
    part.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    part.replace(weights.with_suffix(".json"))
