"""Targets: what the network should say at each step."""

import numpy as np
import pytest

from realtime_mer.spotting.spotter import MACRO_DELAY_S
from tools.spotting.targets import (
    APEX,
    DELAY_S,
    DELAY_TOLERANCE_S,
    END,
    INSIDE,
    LENGTH,
    MACRO,
    MACRO_WEIGHT,
    SINCE,
    TARGETS,
    WEIGHT,
    ignore,
    mark_macro,
    mark_micro,
)

GRID = np.arange(0, 5, 0.01)


@pytest.fixture
def targets() -> np.ndarray:
    """Nothing is marked, and every step counts."""
    empty = np.zeros((len(GRID), TARGETS), np.float32)
    empty[:, [WEIGHT, MACRO_WEIGHT]] = 1
    return empty


def marked(targets: np.ndarray, column: int) -> tuple[float, float]:
    """The first and the last time at which a column is not 0."""
    times = GRID[targets[:, column] != 0]
    return times[0], times[-1]


def test_the_end_of_a_micro_expression_is_marked_a_moment_after_it(targets):
    mark_micro(targets, GRID, onset=2.0, length=0.3, apex=0.4)
    ends = (2.3 + DELAY_S - DELAY_TOLERANCE_S, 2.3 + DELAY_S + DELAY_TOLERANCE_S)
    assert marked(targets, END) == pytest.approx(ends, abs=0.011)
    assert marked(targets, INSIDE) == pytest.approx((2.1, 2.4), abs=0.011)
    at_end = targets[targets[:, END] == 1]
    np.testing.assert_allclose(at_end[:, SINCE], GRID[targets[:, END] == 1] - 2.3, atol=1e-6)
    np.testing.assert_allclose(at_end[:, [LENGTH, APEX, WEIGHT]], [[0.3, 0.4, 1]] * len(at_end))
    # Just before and after, both answers are right.
    either = GRID[targets[:, WEIGHT] == 0]
    assert either.min() == pytest.approx(ends[0] - 0.03, abs=0.011)
    assert either.max() == pytest.approx(ends[1] + 0.03, abs=0.011)


def test_a_macro_expression_is_marked_late_and_not_at_its_ends(targets):
    mark_macro(targets, GRID, onset=1.0, offset=3.0)
    under_way = (1.0 + MACRO_DELAY_S, 3.0 + MACRO_DELAY_S)
    assert marked(targets, MACRO) == pytest.approx(under_way, abs=0.011)
    for end in under_way:
        near = np.abs(GRID - end) < 0.09
        assert not targets[near, MACRO_WEIGHT].any()
    middle = np.abs(GRID - 2.5) < 0.8
    assert targets[middle, MACRO_WEIGHT].all()


def test_an_ignored_motion_asks_for_no_answer_until_a_report_would_have_come(targets):
    ignore(targets, GRID, onset=1.0, offset=1.4)
    silent = GRID[targets[:, WEIGHT] == 0]
    assert (silent[0], silent[-1]) == pytest.approx((1.0, 1.7), abs=0.011)
    assert not targets[:, [END, INSIDE, MACRO]].any()
