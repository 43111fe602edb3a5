"""What a face did is told by its landmarks and scores, at any size and tilt."""

import dataclasses

import numpy as np
import pytest

from realtime_mer.results import Interval
from tools.spotting.actions import NOTHING, Actions

EVENT = Interval(1.0, 1.1, 1.3)
# Landmarks that move, and their displacement in pixels of a face of 200 px.
LIPS, IRISES, ALL = [14, 17], list(range(468, 478)), list(range(478))


def moving(face, points, by_px, blink=0.0):
    """A face as it is at a time, having moved from 1.05 s to 1.15 s."""

    def at(time_s):
        share = np.clip((time_s - 1.05) / 0.1, 0, 1)
        landmarks = face.landmarks.copy()
        landmarks[points, :2] += share * np.array(by_px, np.float32)
        return dataclasses.replace(face, landmarks=landmarks, blink=face.blink + share * blink)

    return at


def told(at, interval=EVENT, change=lambda face: face):
    actions = Actions()
    for i in range(60):
        actions.add(i / 30, change(at(i / 30)))
    return actions.during(0, interval)


@pytest.mark.parametrize(
    ("points", "by_px", "blink", "expected"),
    [
        (LIPS, (0, 10), 0.0, {"speech"}),
        (IRISES, (6, 0), 0.0, {"gaze"}),
        (ALL, (25, 10), 0.0, {"head"}),
        ([], (0, 0), 0.5, {"blink"}),
        # Behind a lid, the iris is guessed.
        (IRISES, (0, 6), 0.5, {"blink"}),
        (LIPS, (0, 10), 0.5, {"blink", "speech"}),
        ([], (0, 0), 0.0, {NOTHING}),
        # As little as a micro-expression, or jitter.
        (LIPS, (0, 2), 0.0, {NOTHING}),
    ],
)
def test_what_a_face_did_is_told(astronaut_tracked, points, by_px, blink, expected):
    assert told(moving(astronaut_tracked, points, by_px, blink)) == expected


@pytest.mark.parametrize("interval", [Interval(0.3, 0.4, 0.6), Interval(1.6, 1.7, 1.9)])
def test_what_it_did_earlier_or_later_does_not_count(astronaut_tracked, interval):
    assert told(moving(astronaut_tracked, ALL, (25, 10)), interval) == {NOTHING}


@pytest.mark.parametrize("points", [LIPS, IRISES, ALL, []], ids=["lips", "irises", "head", "none"])
def test_size_and_tilt_make_no_difference(astronaut_tracked, points):
    def smaller_and_tilted(face):
        turn = 0.4 * np.array([[0.9, -0.436], [0.436, 0.9]], np.float32)
        landmarks = face.landmarks.copy()
        landmarks[:, :2] = landmarks[:, :2] @ turn.T + (400, 100)
        return dataclasses.replace(face, landmarks=landmarks)

    at = moving(astronaut_tracked, points, (12, 25))
    assert told(at, change=smaller_and_tilted) == told(at)


def test_a_face_that_was_not_seen_did_nothing():
    assert Actions().during(0, EVENT) == {NOTHING}
