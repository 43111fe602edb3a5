"""Smoothing of landmarks: points at rest stand still, moving ones are not held back."""

import numpy as np
import pytest

from realtime_mer.face.one_euro import OneEuroFilter

# A face of 200 px with noise of the size of the network's.
FACE = np.random.default_rng(0).uniform(0, 200, (478, 3))


def noisy(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [FACE + rng.normal(0, 0.1, FACE.shape) for _ in range(count)]


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_noise_of_a_face_at_rest_becomes_small(fps):
    smooth = OneEuroFilter()
    outputs = [smooth(points, i / fps) for i, points in enumerate(noisy(90))]
    assert np.std(outputs[30:], axis=0).mean() < 0.05
    np.testing.assert_allclose(np.mean(outputs, axis=0), FACE, atol=0.3)


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_a_fast_face_is_followed_at_once(fps):
    smooth = OneEuroFilter()
    speed = np.array([400.0, -200.0, 0.0])  # px a second
    for i in range(60):
        points = FACE + speed * i / fps
        late = np.abs(smooth(points, i / fps) - points).max()
    assert late < 0.1 * 400 / fps  # of a frame's way


def test_the_first_points_pass_unchanged():
    np.testing.assert_array_equal(OneEuroFilter()(FACE, 7.0), FACE)


@pytest.mark.parametrize("times", [(0.0, 0.0, 0.0), (5.0, 4.0, 3.0), (0.0, 1e-9, 2e-9), (0.0, 1e9)])
def test_any_times_are_taken(times):
    smooth = OneEuroFilter()
    for time_s, points in zip(times, noisy(len(times)), strict=True):
        np.testing.assert_allclose(smooth(points, time_s), FACE, atol=1)


def test_the_points_that_are_given_stay_as_they_are():
    smooth, points = OneEuroFilter(), FACE.copy()
    for i in range(3):
        smooth(points, i / 30)
    np.testing.assert_array_equal(points, FACE)
