"""Hidden motions move the face in the pictures, where and when their plan says."""

from itertools import pairwise

import numpy as np

from realtime_mer.demo.action_units import expression
from realtime_mer.face.registration import crop
from realtime_mer.face.tracker import FaceTracker
from realtime_mer.source.frame import Frame
from tools.spotting.hidden_motion import Hidden, plan, warped, with_motions
from tools.spotting.motions import MACRO_S, MICRO_S


def hidden(rise: np.ndarray, macro: bool = False) -> Hidden:
    return Hidden(0, 0.2, 0.4, 0.6, macro, rise, -rise, 1.0)


def test_a_hidden_motion_moves_the_face_at_its_time(astronaut, landmark_model):
    field = 6.0 * expression(("AU1", "AU2"))
    frames = [Frame(i, i / 15, np.array(astronaut), 0.0) for i in range(12)]
    moved = list(with_motions(frames, [hidden(field)], landmark_model))
    changed = [np.abs(m.image.astype(int) - astronaut).mean() for m in moved]
    assert changed[0] == changed[3] == 0  # before and at the onset
    assert np.argmax(changed) == 6  # the apex
    assert changed[6] > 0.05
    assert changed[9] < 0.2 * changed[6]  # over
    # Brows rise in the picture, as the landmarks see it.
    with FaceTracker(landmark_model) as tracker:
        before, apex = (tracker.track(moved[i])[0].landmarks for i in (3, 6))
    assert (apex[[66, 296], 1] - before[[66, 296], 1]).mean() < -0.3


def test_warping_moves_the_face_by_the_field(astronaut, astronaut_face):
    field = np.zeros((224, 224, 2), np.float32)
    field[..., 0] = 8.0
    out = warped(astronaut, astronaut_face.matrix, field)
    np.testing.assert_array_equal(out[-40:], astronaut[-40:])
    there = crop(out, astronaut_face.matrix).astype(int)
    inside = np.s_[60:160, 60:160]
    shifted = np.roll(astronaut_face.grey.astype(int), 8, axis=1)
    stayed = np.abs(there - astronaut_face.grey)[inside].mean()
    assert np.abs(there - shifted)[inside].mean() < 0.3 * stayed


def test_motions_are_planned_apart_and_within_the_clip():
    field = np.ones((224, 224, 2), np.float32)
    rng = np.random.default_rng(0)
    lengths = {True: [], False: []}
    for _ in range(20):
        found = plan([(field, -field)], 14.0, rng)
        for h in found:
            assert h.onset_s < h.apex_s < h.offset_s < 14
            lengths[h.macro].append(h.offset_s - h.onset_s)
            assert not h.rise[0].any()  # it fades at the edge
            assert np.abs(h.rise[100, 100]).max() > 0.5
        assert all(a.offset_s + 0.5 < b.onset_s for a, b in pairwise(found))
    assert MICRO_S[0] <= min(lengths[False]) < max(lengths[False]) <= MICRO_S[1]
    assert MACRO_S[0] <= min(lengths[True]) < max(lengths[True]) <= MACRO_S[1]
