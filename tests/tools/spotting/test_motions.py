"""Motions: fields measured from flow images or drawn, and their course in time."""

import numpy as np
import pytest

from tools.spotting.motions import course, drawn_motions, measured_motions


def test_a_motion_runs_from_onset_over_apex_to_offset_and_fades():
    times = np.array([0.0, 1.0, 1.1, 1.2, 1.35, 1.5, 2.5])
    up, down, left = course(times, 1.0, 1.2, 1.5, 1.0, 0.5)
    np.testing.assert_allclose(up, [0, 0, 0.5, 1, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(down, [0, 0, 0, 0, 0.5, 1, 1], atol=1e-6)
    np.testing.assert_allclose(left, [1] * 6 + [np.exp(-2)], atol=1e-6)


def test_motions_measured_from_flow_images_keep_their_directions():
    rng = np.random.default_rng(0)
    image = rng.integers(100, 120, (28, 28, 3)).astype(np.uint8)
    image[18:24, 4:9, 2] = 240  # to the right, lower left
    image[4:8, 16:22, 1] = 5  # upwards, upper right
    ((rise, fall),) = measured_motions(np.stack([image, image])[None])
    assert rise.shape == fall.shape == (224, 224, 2)
    assert rise[168, 52, 0] > 0.5
    assert rise[48, 152, 1] < -0.5
    # Where most of the face is, nothing moves: the median is the head's.
    assert np.abs(np.median(rise.reshape(-1, 2), 0)).max() < 0.05


def test_drawn_motions_have_size_one_and_return():
    for rise, fall in drawn_motions(6, np.random.default_rng(1)):
        assert np.percentile(np.linalg.norm(rise, axis=-1), 99) == pytest.approx(1, rel=0.05)
        cosine = (rise * fall).sum() / np.linalg.norm(rise) / np.linalg.norm(fall)
        assert cosine == pytest.approx(-1, abs=1e-3)
        assert 0.55 < np.linalg.norm(fall) / np.linalg.norm(rise) <= 1.001
