import cv2
import numpy as np
import pytest
import torch

from models.views import Views, mirrored
from realtime_mer.recognition.flow_pair import composites, direction_image, flow_pair


@pytest.fixture
def pairs() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (5, 2, 28, 28, 3), dtype=np.uint8)


def test_views_are_the_composites_of_the_runtime(pairs):
    seen = Views()(torch.from_numpy(pairs)).numpy()
    expected = np.stack([composites(pair) for pair in pairs])
    # OpenCV's colour conversion rounds differently in different places of a row.
    assert np.abs(seen - expected).max() <= 1
    assert np.abs(seen[:, :2] - expected[:, :2]).max() == 0


def test_whole_faces_on_request(pairs):
    seen = Views(composites=False)(torch.from_numpy(pairs)).numpy()
    assert np.array_equal(seen[:, 0].transpose(0, 2, 3, 1), pairs[:, 0])
    fall = seen[2, 3].transpose(1, 2, 0)
    assert np.abs(fall - direction_image(pairs[2, 1])).max() <= 1


def test_floats_that_hold_bytes_give_the_same_views(pairs):
    # Training augments in float and rounds.
    as_bytes = Views()(torch.from_numpy(pairs))
    torch.testing.assert_close(Views()(torch.from_numpy(pairs).float()), as_bytes)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_the_mirror_image_of_the_mirror_image_is_the_pair(pairs, kind):
    given = torch.from_numpy(pairs).to(kind)
    seen = mirrored(given)
    assert seen.dtype == kind
    assert not torch.equal(seen, given)
    assert torch.equal(mirrored(seen), given)


def test_a_mirrored_pair_is_the_pair_of_the_mirrored_face():
    random = np.random.default_rng(5)
    rise, fall = (cv2.GaussianBlur(f, (0, 0), 15) for f in random.normal(0, 9, (2, 224, 224, 2)))
    mirrored_flows = [flow[:, ::-1] * (-1, 1) for flow in (rise, fall)]
    expected = flow_pair(*mirrored_flows).astype(int)
    seen = mirrored(torch.from_numpy(flow_pair(rise, fall))).numpy().astype(int)
    # A value halfway between two bytes is rounded up in one and down in the other.
    assert np.abs(seen - expected).max() <= 1
    assert (seen == expected).mean() > 0.99
