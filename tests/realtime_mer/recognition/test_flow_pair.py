"""The flow pair has the release's format, and DIS flow finds known motions."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from realtime_mer.demo.action_units import EXPRESSIONS, expression
from realtime_mer.recognition.flow_pair import (
    CROPS,
    DenseFlow,
    composite,
    composites,
    direction_image,
    flow_image,
    flow_pair,
    strain,
)

RELEASED = Path(__file__).parents[2] / "fixtures/direction_pixels.json"

ROWS, COLUMNS = np.mgrid[0:224, 0:224].astype(np.float32)


def field(u: np.ndarray | float, v: np.ndarray | float) -> np.ndarray:
    return np.dstack([np.broadcast_to(u, (224, 224)), np.broadcast_to(v, (224, 224))]).astype(
        np.float32
    )


def numbered() -> np.ndarray:
    """(28, 28, 3) uint8: channel 0 holds the row, channel 1 the column."""
    rows, columns = np.mgrid[0:28, 0:28].astype(np.uint8)
    return np.dstack([rows, columns, np.zeros_like(rows)])


@pytest.mark.parametrize(
    ("u", "v", "value"),
    [
        (0.02 * COLUMNS, 0, 0.02),  # stretch across
        (0, -0.03 * ROWS, 0.03),  # shrink along
        (0.02 * COLUMNS, 0.02 * ROWS, 0.02 * 2**0.5),  # zoom
        (0.02 * ROWS, 0, 0.02 / 2**0.5),  # simple shear
        (0.02 * ROWS, 0.02 * COLUMNS, 0.04 / 2**0.5),  # pure shear
        (-0.02 * ROWS, 0.02 * COLUMNS, 0),  # turn
        (5.0, -2.0, 0),  # shift
    ],
)
def test_strain_of_known_fields(u, v, value):
    np.testing.assert_allclose(strain(*cv2.split(field(u, v))), value, atol=2e-6)


def test_each_channel_is_scaled_to_its_range_and_averaged_over_areas():
    # u falls from left to right, v rises downwards, strain grows with the distance from the left.
    u, v = -0.0001 * COLUMNS**2, 7 + 0.05 * ROWS
    image = flow_image(field(u, v)).astype(float)
    middles = np.arange(28) * 8 + 3.5  # each pixel is the mean of 8 x 8
    down = np.repeat(middles[:, None] / 223 * 255, 28, 1)
    squares = np.array([(np.arange(8 * i, 8 * i + 8) ** 2).mean() for i in range(28)])
    across = np.tile((1 - squares / 223**2) * 255, (28, 1))
    np.testing.assert_allclose(image[..., 1], down, atol=0.51)
    np.testing.assert_allclose(image[..., 2], across, atol=0.51)
    stretch = np.sqrt((0.0002 * COLUMNS) ** 2 + 0.05**2)
    stretch = (stretch - stretch.min()) / np.ptp(stretch) * 255
    expected = stretch.reshape(28, 8, 28, 8).mean((1, 3))
    # One-sided differences at the border are half a pixel off.
    np.testing.assert_allclose(image[..., 0], expected, atol=1.5)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_a_flow_image_does_not_depend_on_the_size_of_the_motion(scale):
    motion = expression(("AU6", "AU12"))
    np.testing.assert_array_equal(flow_image(scale * motion), flow_image(motion))


@pytest.mark.parametrize(("u", "v"), [(0, 0), (3.5, -1.25)])
def test_a_uniform_motion_is_black(u, v):
    assert not flow_image(field(u, v)).any()


def test_a_flow_pair_is_rise_then_fall():
    rise, fall = expression(("AU12",)), expression(("AU4",))
    pair = flow_pair(rise, fall)
    assert pair.shape == (2, 28, 28, 3)
    assert pair.dtype == np.uint8
    np.testing.assert_array_equal(pair[0], flow_image(rise))
    np.testing.assert_array_equal(pair[1], flow_image(fall))


def test_a_direction_image_has_the_hue_of_every_u_and_v():
    v, u = np.mgrid[0:256, 0:256]
    half = np.degrees(np.arctan2(v.astype(float), u.astype(float))) / 2
    full = np.full_like(half, 255)

    def of(hue: np.ndarray) -> np.ndarray:
        hsv = np.dstack([hue.clip(0), full, full]).astype(np.uint8)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)

    found = direction_image(np.dstack([np.full_like(u, 99), v, u]).astype(np.uint8))
    # Truncated; if rounding decides about a whole number, either side is right.
    right = [(found == of(np.floor(half + e))).all(-1) for e in (-1e-5, 1e-5)]
    assert (right[0] | right[1]).all()


@pytest.mark.parametrize(
    ("u", "v", "bgr"),
    [
        (255, 0, (0, 0, 255)),  # hue 0: red
        (255, 255, (0, 187, 255)),  # hue 22: orange
        (0, 255, (0, 255, 128)),  # hue 45: beyond yellow
        (0, 0, (0, 0, 255)),  # no direction: red
    ],
)
def test_direction_images_of_single_values(u, v, bgr):
    image = np.full((28, 28, 3), (7, v, u), np.uint8)
    found = direction_image(image)[0, 0].astype(int)
    np.testing.assert_allclose(found, bgr, atol=1)


@pytest.mark.parametrize(
    ("place", "crop"),
    [
        ((0, 0), (2, 4)),  # upper left of the face
        ((0, 14), (14, 3)),  # lower left of the face
        ((14, 0), (3, 14)),  # upper right
        ((14, 14), (13, 14)),  # lower right
    ],
)
def test_a_composite_has_the_four_crops_in_causalnets_order(place, crop):
    top, left = place
    quarter = composite(numbered())[top : top + 14, left : left + 14]
    row, column = crop
    np.testing.assert_array_equal(quarter[..., 0], np.arange(row, row + 14)[:, None].repeat(14, 1))
    np.testing.assert_array_equal(
        quarter[..., 1], np.arange(column, column + 14)[None].repeat(14, 0)
    )
    assert crop in CROPS


def test_the_networks_input_is_both_flow_images_and_their_directions():
    pair = flow_pair(expression(("AU1", "AU2")), expression(("AU15",)))
    given = composites(pair)
    assert given.shape == (4, 3, 28, 28)
    assert given.dtype == np.uint8
    expected = [pair[0], pair[1], direction_image(pair[0]), direction_image(pair[1])]
    for seen, image in zip(given, expected, strict=True):
        np.testing.assert_array_equal(seen.transpose(1, 2, 0), composite(image))


def test_released_pixels_of_direction_images_are_reproduced():
    pixels = np.array(json.loads(RELEASED.read_text())["pixels"], np.uint8)
    assert len(pixels) == 46  # one for each hue: flow is never negative, so hues end at 45
    v, u, bgr = pixels[:, 0], pixels[:, 1], pixels[:, 2:]
    image = np.dstack([np.zeros_like(u), v, u])  # (1, 46, 3)
    # 17 of the 138 values are rounded differently; the next hue is 8 levels away.
    np.testing.assert_allclose(direction_image(image)[0], bgr, atol=1)


# One of each label.
@pytest.mark.parametrize("names", [("AU4",), ("AU6", "AU12"), ("AU1", "AU2")])
@pytest.mark.parametrize("peak_px", [1.5, 3.0])
def test_the_flow_pair_of_a_warped_photo_resembles_the_given_motion(astronaut_face, names, peak_px):
    assert any(names in e for e in EXPRESSIONS.values())
    rng = np.random.default_rng(4)
    given = expression(names, peak_px=peak_px)
    onset = astronaut_face.grey
    grid = np.dstack([COLUMNS, ROWS])
    # The skin at q came from q - b(q), with b(q) = given(q - b(q)).
    back = given
    for _ in range(3):
        back = cv2.remap(given, grid - back, None, cv2.INTER_LINEAR)
    apex = cv2.remap(onset, grid - back, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    noisy = [np.clip(i + rng.normal(0, 2, i.shape), 0, 255).astype(np.uint8) for i in (onset, apex)]
    flow = DenseFlow()
    found = flow(*noisy)
    assert found.shape == (224, 224, 2)
    assert (found * given).sum() / np.linalg.norm(found) / np.linalg.norm(given) > 0.85
    images = flow_image(found).astype(float), flow_image(given).astype(float)
    for channel, least in ((2, 0.75), (1, 0.75)):
        if np.ptp(given[..., 2 - channel]) < 0.3 * peak_px:
            continue  # this motion has hardly any such component
        correlation = np.corrcoef(images[0][..., channel].flat, images[1][..., channel].flat)[0, 1]
        assert correlation > least, channel


def test_flow_points_from_the_first_picture_to_the_second(astronaut_face):
    grey = astronaut_face.grey
    moved = np.roll(grey, (2, 3), axis=(0, 1))
    found = DenseFlow()(grey, moved)[40:-40, 40:-40]
    np.testing.assert_allclose(np.median(found.reshape(-1, 2), 0), (3, 2), atol=0.1)


def test_equal_pictures_have_no_motion(astronaut_face):
    assert np.abs(DenseFlow()(astronaut_face.grey, astronaut_face.grey)).max() < 0.01
