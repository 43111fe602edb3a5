"""Masking is what a face does by itself where a hidden motion moves it, relative to that motion."""

import numpy as np
import pytest

from realtime_mer.demo.action_units import expression
from realtime_mer.source.frame import Frame
from tools.spotting.hidden_motion import Hidden, warped
from tools.spotting.masking import masking

BROWS, SMILE = (2.0 * expression(units) for units in (("AU1", "AU2"), ("AU12",)))


def hidden(field: np.ndarray, onset: int, apex: int, offset: int) -> Hidden:
    return Hidden(0, onset / 30, apex / 30, offset / 30, False, field, -field, 1.0)


def test_masking_is_the_own_motion_there_and_then(astronaut, astronaut_face, landmark_model):
    # By itself, the face raises its brows in frames 8 to 14, keeps them up, and is gone at last.
    raised = [
        warped(astronaut, astronaut_face.matrix, np.clip((i - 8) / 6, 0, 1) * BROWS)
        for i in range(20)
    ]
    pictures = [*raised, *[np.zeros_like(astronaut)] * 6]
    frames = [Frame(i, i / 30, np.array(picture), 0.0) for i, picture in enumerate(pictures)]
    events = {
        "before": hidden(BROWS, 1, 4, 7),
        "as large": hidden(BROWS, 8, 14, 18),
        "half as large": hidden(BROWS, 8, 11, 17),
        "four times": hidden(0.25 * BROWS, 8, 14, 18),
        "elsewhere": hidden(SMILE, 8, 14, 18),
        "as it falls": hidden(BROWS, 3, 8, 14),
        "unseen": hidden(BROWS, 14, 18, 22),
    }
    ratios = dict(zip(events, masking(frames, list(events.values()), landmark_model), strict=True))
    assert ratios.pop("unseen") is None
    assert ratios["before"] < 0.1
    assert ratios["elsewhere"] < 0.2
    assert ratios["as large"] == pytest.approx(1, rel=0.1)
    assert ratios["half as large"] == pytest.approx(0.5, rel=0.2)
    assert ratios["four times"] == pytest.approx(4, rel=0.2)
    assert ratios["as it falls"] == pytest.approx(1, rel=0.1)


def test_without_a_face_nothing_is_known(landmark_model):
    grey = np.full((120, 160, 3), 90, np.uint8)
    frames = [Frame(i, i / 30, grey, 0.0) for i in range(8)]
    assert masking(frames, [hidden(BROWS, 1, 3, 5)], landmark_model) == [None]
    assert masking(frames, [], landmark_model) == []
