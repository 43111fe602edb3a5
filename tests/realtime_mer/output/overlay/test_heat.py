"""The heat map, on a real face."""

import math

import cv2
import numpy as np
import pytest

from realtime_mer.output.overlay import BACKGROUND, Layout, MotionLegend
from realtime_mer.results import FaceState
from tests.realtime_mer.output.overlay.drawing import analysis, centre_of, drawn, heat_of, moving


@pytest.mark.parametrize("region", ["lip corner left", "inner brow right", "chin"])
def test_heat_is_where_the_skin_moves_and_nowhere_else(astronaut, astronaut_tracked, region):
    state = moving(astronaut_tracked, **{region.replace(" ", "_"): 2.0})
    change, picture = heat_of(astronaut, state)
    left, right = (astronaut_tracked.landmarks[i, :2].mean(0) for i in ([33, 133], [362, 263]))
    eyes_px = float(np.linalg.norm(left - right))
    centre = centre_of(astronaut_tracked, region)
    ys, xs = np.nonzero(change)
    away = np.linalg.norm(np.stack([xs, ys], 1) - centre, axis=1)
    assert away.max() < 0.6 * eyes_px
    assert np.average(xs, weights=change[ys, xs]) == pytest.approx(centre[0], abs=0.06 * eyes_px)
    # The hottest colour, viridis' yellow, lies in its middle.
    x, y = np.rint(centre).astype(int)
    blue, green, red = picture[y, x].astype(int)
    assert min(green, red) > blue + 60


def test_more_motion_is_hotter(astronaut, astronaut_tracked):
    state = moving(astronaut_tracked, cheek_left=0.9, cheek_right=2.0)
    _, picture = heat_of(astronaut, state)
    at = [
        np.rint(centre_of(astronaut_tracked, f"cheek {s}")).astype(int) for s in ("left", "right")
    ]
    (weak, strong) = (picture[y, x].astype(int) for x, y in at)
    assert strong[2] - strong[0] > weak[2] - weak[0] + 60, "yellow against blue"


@pytest.mark.parametrize("pixels", [0.0, 0.3, math.nan])
def test_nothing_is_drawn_where_there_is_no_motion(astronaut, astronaut_tracked, pixels):
    change, _ = heat_of(astronaut, moving(astronaut_tracked, cheek_left=pixels, chin=pixels))
    assert not change.any()


def test_heat_at_the_edge_of_the_picture_is_cut_off(astronaut, astronaut_tracked):
    state = moving(astronaut_tracked, chin=2.0, cheek_left=2.0)
    for shift in ((-340, 0), (330, 200), (0, -5000)):
        moved = FaceState(0, state.landmarks + np.float32(shift), 0.4, motion=state.motion)
        change, _ = heat_of(astronaut, moved)
        assert change.any() == (shift != (0, -5000))


def test_legend_rises_evenly_in_brightness():
    box = Layout.of(640, 480).tracking
    legend = box.of(drawn(analysis(), elements=[MotionLegend()]))
    grey = cv2.cvtColor(legend, cv2.COLOR_BGR2LAB)[9, :, 0].astype(int)
    (columns,) = np.nonzero((legend[9] != BACKGROUND).any(-1))
    ramp = grey[columns[-1] - 70 : columns[-1]]
    run = max(np.split(ramp, np.flatnonzero(np.diff(ramp) < 0) + 1), key=len)
    assert len(run) > 30
    assert run[-1] - run[0] > 150
