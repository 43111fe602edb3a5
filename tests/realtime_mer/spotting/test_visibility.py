"""The limit of detection: what it depends on, and what its card must hold."""

import dataclasses
import math

import numpy as np
import pytest

from realtime_mer.results import PARTS
from realtime_mer.spotting.motion import FACE_CELLS, REGIONS, Motion
from realtime_mer.spotting.visibility import (
    FEATURES,
    FOUND,
    PART_OF,
    Visibility,
    VisibilityFeatures,
    VisibilityModel,
)

CARD = {
    "parts": list(PARTS),
    "features": list(FEATURES),
    "slope": [2.0, 2.5, 3.0],
    "offset": [3.0, 2.0, 1.0],
    "weights": [[0.5] * len(FEATURES)] * 3,
    "most_found": [0.9, 0.95, 1.0],
    "range_px": [0.3, 3.0],
}


def speaking(
    fps: float = 30.0, length_s: float = 4.0, part: int = 2, start_s: float = 0.0
) -> list[Motion]:
    """A face, one part of which goes to and fro by 2 px three times a second."""
    times = start_s + np.arange(0, length_s, 1 / fps)
    motions = []
    for time_s in times:
        regions = np.zeros((len(REGIONS), 2), np.float32)
        regions[np.flatnonzero(part == PART_OF), 1] = math.sin(6 * math.pi * time_s)
        motions.append(
            Motion(
                time_s=float(time_s),
                regions=regions,
                cells=np.zeros((len(FACE_CELLS), 2), np.float32),
                trust=np.full(len(REGIONS), 4, np.float32),
                head=np.zeros(3, np.float32),
                place=np.zeros(2, np.float32),
                blink=0.1,
                jaw_open=0.1,
            )
        )
    return motions


def last_features(motions: list[Motion]) -> dict[str, np.ndarray]:
    """The three parts' values of each feature after the last motion."""
    features = VisibilityFeatures()
    *_, last = map(features, motions)
    assert last is not None
    return dict(zip(FEATURES, last.T, strict=True))


def test_an_event_of_the_size_of_the_limit_is_found_four_times_of_five():
    model = VisibilityModel.from_card(CARD)
    features = np.random.default_rng(0).normal(0, 0.1, (50, 3, len(FEATURES)))
    limits = model.limits(features)
    assert ((limits > 0.3) & (limits < 3)).all()
    assert model.probability(features, limits) == pytest.approx(FOUND)


def test_limits_stay_in_the_range_of_the_card():
    model = VisibilityModel.from_card(CARD)
    calm, wild = (np.full((3, len(FEATURES)), value) for value in (-9.0, 9.0))
    assert model.limits(calm) == pytest.approx(0.3)
    assert model.limits(wild) == pytest.approx(3.0)


def test_a_limit_too_large_to_be_known_is_told_as_the_largest():
    features = np.zeros((50, 3, len(FEATURES)))
    features[:, :, 0] = np.linspace(-9, 9, 50)[:, None]
    all_of_them = VisibilityModel.from_card(CARD).limits(features)
    assert (all_of_them[0] == 0.3).all()
    assert (all_of_them[-1] == 3.0).all()
    known = VisibilityModel.from_card(CARD | {"most_px": [3.0, 1.5, 0.3]}).limits(features)
    np.testing.assert_array_equal(known[:, 0], all_of_them[:, 0])
    below = all_of_them[:, 1] < 1.5
    assert 0 < below.sum() < 50
    np.testing.assert_array_equal(known[below, 1], all_of_them[below, 1])
    assert (known[~below, 1] == 3.0).all()
    assert (known[:, 2] == 3.0).all()


@pytest.mark.parametrize(
    "change",
    [
        {"features": list(FEATURES[1:])},
        {"parts": list(PARTS[::-1])},
        {"slope": [2.0, 0.0, 3.0]},
        {"slope": [2.0, 3.0]},
        {"offset": [3.0, math.nan, 1.0]},
        {"offset": ["a", "b", "c"]},
        {"weights": [[0.5] * 3] * 3},
        {"weights": None},
        {"most_found": [0.9, FOUND, 1.0]},
        {"most_found": [0.9, 1.1, 1.0]},
        {"range_px": [3.0, 0.3]},
        {"range_px": [0.0, 3.0]},
        {"most_px": [1.0, 2.0, 3.5]},
        {"most_px": [1.0, 2.0]},
    ],
)
def test_a_damaged_card_is_refused(change):
    with pytest.raises((TypeError, ValueError)):
        VisibilityModel.from_card(CARD | change)


def test_a_card_without_a_number_is_refused():
    with pytest.raises(KeyError):
        VisibilityModel.from_card({k: v for k, v in CARD.items() if k != "slope"})


def test_no_limit_is_stated_in_the_first_second():
    visibility = Visibility(VisibilityModel.from_card(CARD))
    limits = [visibility(motion) for motion in speaking(length_s=2)]
    assert limits[:30] == [None] * 30
    assert all(limit is not None and len(limit) == 3 for limit in limits[32:])


@pytest.mark.parametrize("part", range(3))
def test_the_part_that_moves_is_told_from_the_others(part):
    features = last_features(speaking(part=part))
    for own, others in (("own now", "others now"), ("own usual", "others usual")):
        still = np.delete(features[own], part)
        assert features[own][part] > still.max() + 2
        # Its motion is the others' neighbour, while it has none itself.
        assert np.delete(features[others], part) == pytest.approx(features[own][part])
        assert features[others][part] == pytest.approx(still.max())


@pytest.mark.parametrize("fps", [15, 25, 60, 120])
def test_the_same_motion_has_the_same_features_at_any_frame_rate(fps):
    usual, other = last_features(speaking()), last_features(speaking(fps))
    # At 15 frames a second the turning points of the motion fall between frames.
    assert other["own now"] == pytest.approx(usual["own now"], abs=0.1)
    assert other["own usual"] == pytest.approx(usual["own usual"], abs=0.1)


def test_few_frames_show():
    assert last_features(speaking(60))["interval"] == pytest.approx(0)
    assert last_features(speaking(15))["interval"] == pytest.approx(math.log(2), abs=0.1)


def test_after_a_hole_the_usual_motion_holds_and_the_hole_shows():
    features = VisibilityFeatures()
    *_, before = map(features, speaking())
    features.resume()
    # In the meantime the face has been measured from a new start.
    still = speaking(part=0, start_s=4.5, length_s=0.3)
    for motion in still:
        motion.regions[:] = 100
    *_, after = map(features, still)
    assert before is not None
    assert after is not None
    now, usual, start = (FEATURES.index(name) for name in ("own now", "own usual", "start"))
    assert after[2, now] < before[2, now] - 2
    assert after[2, usual] == pytest.approx(before[2, usual], abs=0.2)
    assert after[2, start] > before[2, start] + 0.4


def test_right_after_a_hole_nothing_is_known_yet():
    features = VisibilityFeatures()
    *_, before = map(features, speaking())
    features.resume()
    assert before is not None
    assert features(speaking(start_s=4.5, length_s=0.1)[0]) is None


def test_a_frozen_picture_shows_nothing():
    features = VisibilityFeatures()
    *_, last = motions = speaking()
    *_, seen = map(features, motions)
    assert seen is not None
    frozen = [
        features(dataclasses.replace(last, time_s=last.time_s + k / 30)) for k in range(1, 61)
    ]
    assert frozen[5] is not None
    assert frozen[-30:] == [None] * 30


def test_a_clock_that_stands_still_changes_nothing():
    features = VisibilityFeatures()
    motions = speaking()
    *_, once = map(features, motions)
    again = features(motions[-1])
    assert once is not None
    assert again == pytest.approx(once)
