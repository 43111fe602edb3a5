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
from realtime_mer.source.reader import DEFAULT_FPS
from realtime_mer.spotting.reliability import Reliability
from realtime_mer.spotting.spotter import SpotterModel
from tools.spotting.clip_signals import clip_name, hidden_intervals, motion_streams
from tools.spotting.figures import Figures, Result, TrueEvent
from tools.spotting.judging import judge
from tools.spotting.operating_curve import SENSITIVITIES, curve, proposed

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


def clip_result(file: Path, model: SpotterModel, thresholds: Sequence[float]) -> Result:
    """What is hidden in a clip, and what the runtime proposes at each threshold.

    The length of the result is the time for which a face was followed.

    Args:
        file: Signals of `tools/spotting/synthesize.py`.
        model: The spotter.
        thresholds: Where to measure.
    """
    streams = motion_streams(file)
    times = np.array([motion.time_s for stream in streams for motion in stream])
    micros, macros = hidden_intervals(file)
    return Result(
        clip_name(file),
        tuple(TrueEvent(interval, None) for interval in micros),
        (),
        1 / float(np.median(np.diff(times))) if len(times) > 1 else DEFAULT_FPS,
        sum(stream[-1].time_s - stream[0].time_s for stream in streams),
        tuple(macros),
        proposed(streams, model, thresholds),
    )


def card_points(results: Sequence[Result], thresholds: Sequence[float]) -> list[Figures]:
    """The curve of a card: threshold, recall, false reports a minute, F1.

    A report suppresses those that overlap with it, so a stricter threshold now and then gives more
    false reports. A card's must fall: each point gets at least the rate of all stricter ones.
    """
    points = curve(results, thresholds)
    false = np.array([point["false_per_minute"] for point in points], float)
    at_least = np.maximum.accumulate(false[::-1])[::-1]
    return [
        {
            "threshold": point["threshold"],
            "recall": point["recall"],
            "false_per_minute": round(float(rate), 3),
            "F1": point["F1"],
        }
        for point, rate in zip(points, at_least, strict=True)
    ]


def calibrate(weights: Path, held_out: Sequence[Path], false_per_minute: float) -> list[Figures]:
    """Measures a spotter's reliability and curve and puts them on its card, with the threshold.

    Args:
        weights: ONNX file with its card beside it, which is rewritten.
        held_out: Signals of `tools/spotting/synthesize.py`, of faces that were not trained on.
        false_per_minute: The threshold is the lowest with at most so many false reports a minute.

    Returns:
        The points of the curve.

    Raises:
        InputError: The weights are no spotter's, a clip was trained on, or the clips show no face.
    """
    model = SpotterModel(weights)
    card = load_weights(weights).card
    check_held_out(held_out, card.get("trained_on", {}).get("backgrounds", ()))
    (judged,) = judge(held_out, model)
    minutes = (judged.calm_s + judged.lively_s) / 60
    if not minutes:
        raise InputError(
            f"no face is followed in the held-out clips, {held_out[0]} and others: "
            "make longer ones with tools/spotting/synthesize.py"
        )
    calm = judged.calm_threshold(THRESHOLDS, min(false_per_minute, _CALM_FALSE_PER_MINUTE))
    rise = judged.lively_rise(calm, false_per_minute)
    model.reliability = Reliability(rise, judged.calibration())
    results = [clip_result(file, model, THRESHOLDS) for file in held_out]
    points = card_points(results, THRESHOLDS)
    # From there on it suffices for all faces together; and for calm ones alone.
    quiet = [
        p
        for p in points
        if (p["false_per_minute"] or 0) <= false_per_minute and (p["threshold"] or 0) >= calm
    ]
    at = float((quiet or points)[0 if quiet else -1]["threshold"] or 0.0)
    events = sum(len(result.truth) for result in results)
    error = judged.calibration_error()
    card |= {
        "threshold": at,
        "threshold_chosen": f"the lowest with at most {_CALM_FALSE_PER_MINUTE:g} false reports a "
        f"minute on calm faces, and {false_per_minute:g} on lively ones, with the rise, and on all",
        "reliability": model.reliability.to_card()
        | {
            "with_rise": judged.figures(at, rise),
            "without_rise": judged.figures(at, 0.0),
            "minutes_calm": round(judged.calm_s / 60, 2),
            "minutes_lively": round(judged.lively_s / 60, 2),
            "hidden": judged.events,
            "reports_true": int(judged.true.sum()),
            "reports_false": int((~judged.true).sum()),
            "calibration_error_on_others": None if error is None else round(error, 3),
        },
        "operating_curve": points,
        "operating_curve_of": "these weights in the runtime's spotter, on "
        f"{minutes:.1f} minutes of {len(results)} held-out clips with {events} hidden "
        "micro-expressions",
        "held_out": sorted({result.name for result in results}),
    }
    write_card(card, weights)
    calibrated = SpotterModel(weights)
    settings = [(calibrated.threshold_at(s), calibrated.reliability) for s in SENSITIVITIES]
    at_sensitivity = {
        f"{sensitivity:g}": of_setting.figures(0.0, 0.0) | {"threshold": round(threshold, 4)}
        for sensitivity, (threshold, _), of_setting in zip(
            SENSITIVITIES, settings, judge(held_out, calibrated, settings), strict=True
        )
    }
    write_card(card | {"at_sensitivity": at_sensitivity}, weights)
    return points


def write_card(card: dict[str, object], weights: Path) -> None:
    """Writes the card of an ONNX file; it appears whole."""
    part = weights.with_suffix(".json.part")
    part.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    part.replace(weights.with_suffix(".json"))
