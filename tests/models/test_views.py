import numpy as np
import pytest
import torch

from models.views import Views
from realtime_mer.flow import composites, direction_image


@pytest.fixture
def pairs() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (5, 2, 28, 28, 3), dtype=np.uint8)


def test_views_are_the_composites_of_the_runtime(pairs):
    seen = Views()(torch.from_numpy(pairs)).numpy()
    expected = np.stack([composites(pair) for pair in pairs])
    # OpenCV's colour conversion differs by a grey level with the place in the row.
    assert np.abs(seen - expected).max() <= 1
    assert np.abs(seen[:, :2] - expected[:, :2]).max() == 0


def test_whole_faces_on_request(pairs):
    seen = Views(composites=False)(torch.from_numpy(pairs)).numpy()
    assert np.array_equal(seen[:, 0].transpose(0, 2, 3, 1), pairs[:, 0])
    fall = seen[2, 3].transpose(1, 2, 0)
    assert np.abs(fall - direction_image(pairs[2, 1])).max() <= 1


def test_floats_that_hold_bytes_are_welcome(pairs):
    # Training augments in float and rounds.
    as_bytes = Views()(torch.from_numpy(pairs))
    torch.testing.assert_close(Views()(torch.from_numpy(pairs).float()), as_bytes)
