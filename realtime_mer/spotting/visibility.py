"""The limit of detection: how small a micro-expression may be to be found now, part by part.

A still, well-lit face shows a motion of less than a pixel; a mouth that speaks hides three. The
limit of a part of the face is the smallest peak motion that would be found with a probability of
80 %. It follows from what the face did until now: its own motion, noise, texture, the head, lids
and jaw, frame rate and gaps. `tools/spotting/limits.py` fits the model on events of known size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from realtime_mer.results import PARTS
from realtime_mer.spotting.motion import EXPRESSIVE, FACE_CELLS, REGIONS, Motion
from realtime_mer.spotting.signals import STEP_S, WARM_UP_STEPS, Resampler

FOUND = 0.8
"""Probability with which an event of the size of the limit is found."""

# Brows and lids; nose and cheeks; lips and chin: a region belongs to the part one of whose words is
# in its name.
_WORDS = (("brow", "glabella", "lid", "eye"), ("nose", "cheek"), ("lip", "chin"))
PART_OF = np.array(
    [next(i for i, words in enumerate(_WORDS) if any(w in name for w in words)) for name in REGIONS]
)
"""(18,) the index into `PARTS` of each of `REGIONS`."""
PART_OF.setflags(write=False)

FEATURES = (
    *("own now", "own usual", "others now", "others usual", "noise", "texture", "eyes"),
    *("head", "place", "blink", "jaw", "interval", "start"),
)
"""What a limit depends on, in the order of `VisibilityFeatures`. It falls with "texture" and rises
with all others."""

# About the rise of a long micro-expression, and its whole length, in steps.
_RISE = 8
_NOW = 15
# Time constants of what is usual for the face, of noise and time between frames, and of what a
# start or a hole still hides. Chosen by judgement.
_USUAL_S = 3.0
_NOISE_S = 1.5
_START_S = 0.5
# Added before a logarithm: what is far below hides nothing. Pixels of regions, of their noise, of
# the head, of its place, and trusted cells: about the median on still faces (docs/spotting.md,
# "Scales of the features").
_LEAST_PX = 0.03
_LEAST_NOISE_PX = 0.01
_LEAST_HEAD_PX = 0.1
_LEAST_PLACE_PX = 0.5
_LEAST_TRUST = 0.3
# A picture in which no part has moved so far within half a second is frozen, and shows nothing:
# the noise of real ones moves them ten times as far.
_FROZEN_PX = 1e-3
# Resamples regions alone.
_NO_PATTERNS = np.zeros((2 * len(FACE_CELLS), 0), np.float32)
_COUNT, _PARTS = len(REGIONS), len(PARTS)
# Where the columns of a row without patterns begin, after the regions.
_TRUST, _HEAD, _PLACE, _BLINK, _JAW = np.cumsum([2 * _COUNT, _COUNT, 3, 2, 1]).tolist()
# The expressive regions part by part, and where each part begins in that order.
_ORDER = np.argsort(PART_OF[:EXPRESSIVE], kind="stable")
_STARTS = np.searchsorted(PART_OF[_ORDER], np.arange(_PARTS))
_OTHERS = ~np.eye(_PARTS, dtype=bool)


@dataclass(frozen=True, slots=True, eq=False)
class VisibilityModel:
    """The probability that an event is found, as a psychometric function of its size.

    P(found) = most_found / (1 + exp(-logit)), logit = slope ln(size / px) + offset - weights .
    features, for each of `PARTS`.

    Attributes:
        slope: (3,), above 0.
        offset: (3,).
        weights: (3, `FEATURES`).
        most_found: (3,) share of the largest events that are found, above `FOUND`, at most 1.
        range_px: The smallest and the largest limit that is stated. The largest means "or more".
        most_px: (3,) the largest limit of each part that keeps its promise. Where the model gives
            this or more, the largest of all is stated: nobody knows what would be found.
    """

    slope: np.ndarray
    offset: np.ndarray
    weights: np.ndarray
    most_found: np.ndarray
    range_px: tuple[float, float]
    most_px: np.ndarray

    @classmethod
    def from_card(cls, entry: Mapping[str, Any]) -> VisibilityModel:
        """The model from the entry "visibility" of a spotter's card.

        Raises:
            KeyError, TypeError, ValueError: The entry does not describe such a model.
        """
        if tuple(entry["parts"]) != PARTS or tuple(entry["features"]) != FEATURES:
            raise ValueError("a visibility model has this version's parts and features")
        shapes: dict[str, tuple[int, ...]] = {
            "slope": (_PARTS,),
            "offset": (_PARTS,),
            "weights": (_PARTS, len(FEATURES)),
            "most_found": (_PARTS,),
            "range_px": (2,),
            "most_px": (_PARTS,),
        }
        # Cards of before do not have it.
        entry = {"most_px": [entry["range_px"][1]] * _PARTS, **entry}
        values = {name: np.array(entry[name], float) for name in shapes}
        for name, shape in shapes.items():
            if values[name].shape != shape or not np.isfinite(values[name]).all():
                raise ValueError(f"{name} of a visibility model has finite numbers, shape {shape}")
            values[name].setflags(write=False)
        slope, most_found = values["slope"], values["most_found"]
        least, most = values["range_px"].tolist()
        if not 0 < least < most:
            raise ValueError("the limits of a visibility model rise from above 0 px")
        if not (slope > 0).all():
            raise ValueError("in a visibility model, larger events are found more often")
        if not ((most_found > FOUND) & (most_found <= 1)).all():
            raise ValueError(
                f"in a visibility model, more than {FOUND:g} of large events are found"
            )
        most_px = values["most_px"]
        if not ((most_px >= least) & (most_px <= most)).all():
            raise ValueError("the largest limits of a visibility model lie within its range")
        return cls(slope, values["offset"], values["weights"], most_found, (least, most), most_px)

    def limits(self, features: np.ndarray) -> np.ndarray:
        """The limits of detection (..., 3) in px at features (..., 3, `FEATURES`)."""
        found = math.log(FOUND) - np.log(self.most_found - FOUND)
        logs = (found - self.offset + (features * self.weights).sum(-1)) / self.slope
        limits = np.exp(np.clip(logs, *np.log(self.range_px)))
        return np.where(limits < self.most_px, limits, self.range_px[1])

    def probability(self, features: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """P(found) (..., 3) of events of so many px (..., 3) at features (..., 3, `FEATURES`)."""
        logit = self.slope * np.log(sizes) + self.offset - (features * self.weights).sum(-1)
        return self.most_found / (1 + np.exp(-logit))


class VisibilityFeatures:
    """What one face does, as far as it hides events. A new one starts after a gap."""

    def __init__(self) -> None:
        self._interval_s = STEP_S
        self._steps = 0
        # Decaying means, and the weight of all steps in them: motion of the parts, their noise.
        self._usual, self._usual_weight = np.zeros(_PARTS), 0.0
        self._noise, self._noise_weight = np.zeros(_PARTS), 0.0
        self.resume()

    def resume(self) -> None:
        """Goes on after a hole in the frames: what is usual for this face still holds."""
        self._resampler = Resampler(_NO_PATTERNS)
        self._last_s: float | None = None
        self._rows: list[np.ndarray] = []
        # A ring of `_NOW` steps: motion of the parts, eyes, head and place, blink, jaw, minus jaw.
        self._recent = np.full((_NOW, _PARTS + 6), -np.inf)
        self._since_start = 0
        self._features: np.ndarray | None = None

    def __call__(self, motion: Motion) -> np.ndarray | None:
        """The features (3, `FEATURES`) as of the next frame.

        None during warm-up, after a hole until the next step, and while the picture is frozen.
        """
        if self._last_s is not None:
            since_s = max(0.0, motion.time_s - self._last_s)
            # Weighted by time: a hole counts like the frames that would have filled it.
            share = 1 - math.exp(-since_s / _NOISE_S)
            self._interval_s += share * (since_s - self._interval_s)
        self._last_s = max(motion.time_s, self._last_s or motion.time_s)
        rows = self._resampler(motion)
        for _, row in rows:
            self._step(row)
        if rows and self._steps >= WARM_UP_STEPS:
            self._features = self._now(rows[-1][1])
        return self._features

    def _step(self, row: np.ndarray) -> None:
        """Takes the row of the next step."""
        self._rows = [*self._rows[-_RISE:], row]
        change = row - self._rows[0]
        moved = np.hypot(change[0:_TRUST:2], change[1:_TRUST:2])  # (18,)
        parts = np.maximum.reduceat(moved[_ORDER], _STARTS)
        jaw = float(row[_JAW])
        self._recent[self._since_start % _NOW] = (
            *parts,
            moved[EXPRESSIVE:].max(),
            math.hypot(*change[_HEAD:_PLACE]),
            math.hypot(*change[_PLACE:_BLINK]),
            row[_BLINK],
            jaw,
            -jaw,
        )
        keep = math.exp(-STEP_S / _USUAL_S)
        self._usual = keep * self._usual + parts
        self._usual_weight = keep * self._usual_weight + 1
        if len(self._rows) > 2:
            bend = self._rows[-1] - 2 * self._rows[-2] + self._rows[-3]
            shaken = np.hypot(bend[0:_TRUST:2], bend[1:_TRUST:2])
            keep = math.exp(-STEP_S / _NOISE_S)
            self._noise = keep * self._noise + np.maximum.reduceat(shaken[_ORDER], _STARTS)
            self._noise_weight = keep * self._noise_weight + 1
        self._steps += 1
        self._since_start += 1

    def _now(self, row: np.ndarray) -> np.ndarray | None:
        """The features after a row; None if the picture stands still."""
        largest = self._recent.max(0)
        now, usual = largest[:_PARTS], self._usual / self._usual_weight
        if self._since_start >= _NOW and now.max() < _FROZEN_PX:
            return None
        trust = np.maximum(row[_TRUST:_HEAD], 0)[_ORDER]
        eyes, head, place, blink, jaw, minus_jaw = largest[_PARTS:].tolist()
        features = np.empty((_PARTS, len(FEATURES)))
        features[:, 0] = np.log(now + _LEAST_PX)
        features[:, 1] = np.log(usual + _LEAST_PX)
        for column, own in ((2, features[:, 0]), (3, features[:, 1])):
            features[:, column] = np.where(_OTHERS, own, -np.inf).max(1)
        features[:, 4] = np.log(self._noise / max(self._noise_weight, 1e-9) + _LEAST_NOISE_PX)
        features[:, 5] = np.log(np.minimum.reduceat(trust, _STARTS) + _LEAST_TRUST)
        features[:, 6:] = (
            math.log(eyes + _LEAST_PX),
            math.log(head + _LEAST_HEAD_PX),
            math.log(place + _LEAST_PLACE_PX),
            blink,
            jaw + minus_jaw,
            math.log(max(self._interval_s / STEP_S, 1.0)),
            math.exp(-self._since_start * STEP_S / _START_S),
        )
        return features


class Visibility:
    """The limits of detection of one face. A new one starts after a gap, as with `Spotter`."""

    def __init__(self, model: VisibilityModel) -> None:
        self._model = model
        self._features = VisibilityFeatures()

    def __call__(self, motion: Motion) -> tuple[float, float, float] | None:
        """The limit of each of `PARTS` in px as of the next frame.

        None during warm-up, and while a frozen picture shows nothing.
        """
        features = self._features(motion)
        if features is None:
            return None
        upper, middle, lower = self._model.limits(features).tolist()
        return upper, middle, lower

    def resume(self) -> None:
        """Goes on after a hole in the frames: what is usual for this face still holds."""
        self._features.resume()
