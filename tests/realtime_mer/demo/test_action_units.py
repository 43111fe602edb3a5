"""Action-unit fields: place, direction and size of the motion, and no folds."""

import numpy as np
import pytest

from realtime_mer.demo.action_units import EXPRESSIONS, UNITS, action_unit, expression, peak

# Image-right landmarks of the canonical face (x, y), from the face mesh of a photo.
INNER_BROW, OUTER_BROW = (147, 63), (184, 61)
UPPER_LID, LOWER_LID = (171, 79), (171, 97)
CHEEK, NOSE_WING = (172, 120), (152, 137)
CORNER, LOWER_LIP, CHIN = (166, 177), (123, 194), (123, 204)
PLACES = [
    INNER_BROW, OUTER_BROW, UPPER_LID, LOWER_LID, CHEEK, NOSE_WING, CORNER, LOWER_LIP, CHIN
]  # fmt: skip


def at(field: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    return field[place[1], place[0]]


@pytest.mark.parametrize(
    ("name", "place", "direction", "still"),
    [
        ("AU1", INNER_BROW, (0, -1), [UPPER_LID, CORNER]),
        ("AU2", OUTER_BROW, (0, -1), [LOWER_LID, CORNER]),
        ("AU4", INNER_BROW, (-0.5, 0.8), [CHEEK, CORNER]),
        ("AU5", UPPER_LID, (0, -1), [LOWER_LID, CORNER]),
        ("AU6", CHEEK, (-0.15, -0.9), [INNER_BROW, LOWER_LIP]),
        ("AU7", LOWER_LID, (-0.1, -0.8), [INNER_BROW, CORNER]),
        ("AU9", NOSE_WING, (-0.1, -1), [LOWER_LID, CHIN]),
        ("AU10", (147, 164), (0, -1), [LOWER_LID, CHIN]),
        ("AU12", CORNER, (0.7, -0.7), [INNER_BROW, UPPER_LID]),
        ("AU15", CORNER, (0.1, 1), [INNER_BROW, CHEEK]),
        ("AU17", CHIN, (0, -1), [INNER_BROW, CORNER]),
        ("AU20", CORNER, (1, 0.25), [INNER_BROW, NOSE_WING]),
        ("AU24", LOWER_LIP, (0, -1), [INNER_BROW, NOSE_WING]),
        ("AU25", LOWER_LIP, (0, 1), [INNER_BROW, CHEEK]),
        ("AU26", CHIN, (0, 1), [INNER_BROW, NOSE_WING]),
    ],
)
def test_a_unit_moves_its_place_in_its_direction_and_no_other(name, place, direction, still):
    field = action_unit(name)
    moved = at(field, place)
    cosine = moved @ direction / np.linalg.norm(moved) / np.linalg.norm(direction)
    assert cosine > 0.95
    assert np.linalg.norm(moved) > 0.6
    for other in still:
        assert np.linalg.norm(at(field, other)) < 0.15, other


def test_every_unit_is_tested_above():
    cases = test_a_unit_moves_its_place_in_its_direction_and_no_other.pytestmark[0].args[1]
    assert {case[0] for case in cases} == set(UNITS)


@pytest.mark.parametrize("name", UNITS)
def test_a_plain_field_is_symmetric_zero_at_the_border_and_has_its_peak(name):
    field = action_unit(name, peak_px=2.5)
    assert field.shape == (224, 224, 2)
    assert field.dtype == np.float32
    assert peak(field) == pytest.approx(2.5, rel=1e-5)
    # The middle line is x = 123.5, so column 123 mirrors to 124.
    right, left = field[:, 124:224], field[:, 123:23:-1]
    # The fade at the right border has no partner on the left.
    inner = slice(0, 80)
    np.testing.assert_allclose(right[:, inner, 0], -left[:, inner, 0], atol=1e-5)
    np.testing.assert_allclose(right[:, inner, 1], left[:, inner, 1], atol=1e-5)
    border = np.concatenate([field[0], field[-1], field[:, 0], field[:, -1]])
    assert not border.any()


@pytest.mark.parametrize("name", UNITS)
def test_fields_have_no_folds_and_no_jumps_at_three_pixels(name):
    rng = np.random.default_rng(3)
    for field in (action_unit(name, peak_px=3.0), action_unit(name, rng, 3.0)):
        u_y, u_x = np.gradient(field[..., 0])
        v_y, v_x = np.gradient(field[..., 1])
        # Determinants of p - d(p) and p + d(p): at a fold, one of them is negative.
        for sign in (-1, 1):
            stretch = (1 + sign * u_x) * (1 + sign * v_y) - u_y * v_x
            assert stretch.min() > 0.3
        assert np.abs(np.diff(field, axis=0)).max() < 0.7
        assert np.abs(np.diff(field, axis=1)).max() < 0.7


def test_random_fields_differ_a_little_and_repeat_with_the_seed():
    plain = action_unit("AU12")
    first, second = (action_unit("AU12", np.random.default_rng(s)) for s in (1, 2))
    again = action_unit("AU12", np.random.default_rng(1))
    np.testing.assert_array_equal(first, again)
    for field in (first, second):
        cosine = (field * plain).sum() / np.linalg.norm(field) / np.linalg.norm(plain)
        assert 0.85 < cosine < 0.9999
    assert np.abs(first - second).max() > 0.02


@pytest.mark.parametrize("label", ["negative", "positive", "surprise"])
def test_expressions_have_known_units_and_the_wanted_peak(label):
    rng = np.random.default_rng(0)
    for names in EXPRESSIONS[label]:
        assert peak(expression(names, rng, 2.0)) == pytest.approx(2.0, rel=1e-5)


def test_an_expression_is_the_sum_of_its_units():
    both = expression(("AU1", "AU2"))
    total = action_unit("AU1") + action_unit("AU2")
    np.testing.assert_allclose(both, total / peak(total), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: action_unit("AU99"), "AU99.*known are AU1"),
        (lambda: action_unit("AU1", peak_px=-1), "must not be negative"),
        (lambda: expression(()), "at least one"),
        (lambda: expression(("AU1", "12")), "no action unit '12'"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
