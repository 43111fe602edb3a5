"""Targets of the spotter's training: what the network should say at each step of a window.

Targets are (steps, TARGETS) float32. The functions change them in place; `grid` (steps,) has the
times of the steps, in seconds like onsets and offsets.
"""

from __future__ import annotations

import numpy as np

from realtime_mer.spotting.spotter import MACRO_DELAY_S

# The columns. A micro-expression: it ended about `DELAY_S` ago (0 or 1), it was under way a moment
# ago (0 or 1), seconds since its offset, its length in seconds, its apex as a fraction of that, and
# the weight of the step in the loss. A macro-expression: it was under way `MACRO_DELAY_S` ago (0 or
# 1), and the weight.
END, INSIDE, SINCE, LENGTH, APEX, WEIGHT, MACRO, MACRO_WEIGHT = range(8)
TARGETS = 8

# The network announces an offset this long after it, in seconds, give or take: chosen so that the
# way back from the apex is seen, and a report is soon.
DELAY_S = 0.10
DELAY_TOLERANCE_S = 0.05
# Just before and after that, for about a step, both answers are right.
_EITHER_S = 0.034
# Offset, length and apex are learned from this long before the offset to this long after it.
_PLACED_S = (-0.05, 0.3)
# A motion counts as under way from this long after its onset to this long after its offset.
_INSIDE_S = 0.1
# A motion that is ignored may still be reported this long after its offset.
_IGNORED_S = 0.3
# The ends of a macro-expression are ignored on both sides for this long: nobody can say exactly
# where they are.
_MACRO_EDGE_S = 0.1


def mark_micro(
    targets: np.ndarray, grid: np.ndarray, onset: float, length: float, apex: float
) -> None:
    """Marks a micro-expression.

    Args:
        targets: Changed in place.
        grid: Times of the steps.
        onset: Its beginning.
        length: In seconds.
        apex: As a fraction of the length.
    """
    since = grid - onset - length
    end = np.abs(since - DELAY_S) <= DELAY_TOLERANCE_S
    targets[end, END] = 1
    near = (np.abs(since - DELAY_S) <= DELAY_TOLERANCE_S + _EITHER_S) & ~end
    targets[near, WEIGHT] = 0
    placed = (since > _PLACED_S[0]) & (since < _PLACED_S[1])
    targets[placed, SINCE] = since[placed]
    targets[placed, LENGTH] = length
    targets[placed, APEX] = apex
    targets[(grid - _INSIDE_S > onset) & (since < _INSIDE_S), INSIDE] = 1


def mark_macro(targets: np.ndarray, grid: np.ndarray, onset: float, offset: float) -> None:
    """Marks a macro-expression."""
    then = grid - MACRO_DELAY_S
    targets[(then > onset) & (then < offset), MACRO:] = 1
    edge = np.minimum(np.abs(then - onset), np.abs(then - offset)) < _MACRO_EDGE_S
    targets[edge, MACRO_WEIGHT] = 0


def ignore(targets: np.ndarray, grid: np.ndarray, onset: float, offset: float) -> None:
    """Asks for no answer about a motion that drowns in what the face does by itself."""
    targets[(grid > onset) & (grid < offset + _IGNORED_S), WEIGHT] = 0
