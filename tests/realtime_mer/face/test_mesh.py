"""The face mesh's outlines are MediaPipe's; a head does not jump."""

import numpy as np
import pytest
from mediapipe.tasks.python.vision import FaceLandmarksConnections

from realtime_mer.face.mesh import BROWS, EYES, LIPS, OVAL, corners, has_jumped


@pytest.mark.parametrize(
    ("outlines", "name"),
    [
        ((OVAL,), "FACE_OVAL"),
        (LIPS, "LIPS"),
        (EYES[:1], "RIGHT_EYE"),  # the person's right one, at the left of the picture
        (EYES[1:], "LEFT_EYE"),
        (BROWS[:1], "RIGHT_EYEBROW"),
        (BROWS[1:], "LEFT_EYEBROW"),
    ],
)
def test_outlines_have_the_points_of_mediapipe(outlines, name):
    connections = getattr(FaceLandmarksConnections, f"FACE_LANDMARKS_{name}")
    points = {p for c in connections for p in (c.start, c.end)}
    given = [p for outline in outlines for p in outline]
    assert sorted(given) == sorted(points)
    # Neighbours in the outline are joined; brows are two lines there, whose ends are not.
    joined = {frozenset((c.start, c.end)) for c in connections}
    for outline in outlines:
        apart = [
            p
            for p in zip(outline, outline[1:] + outline[:1], strict=True)
            if frozenset(p) not in joined
        ]
        assert len(apart) == (2 if "BROW" in name else 0)


def test_corners_enclose_the_face(astronaut_tracked):
    landmarks = astronaut_tracked.landmarks
    (left, top), (right, bottom) = corners(landmarks)
    assert left == landmarks[:, 0].min()
    assert bottom == landmarks[:, 1].max()
    assert 180 < right - left < 240
    assert top < bottom


@pytest.mark.parametrize(
    ("move", "scale", "jumped"),
    [
        ((0, 0), 1.0, False),
        ((40, 0), 1.0, False),
        ((0, -61), 1.0, True),  # half of its height of 120 px
        ((61, 0), 1.0, True),
        ((0, 0), 1.4, False),
        ((0, 0), 1.6, True),  # nearer by more than any head comes in a frame
    ],
)
def test_a_head_that_moves_or_grows_by_half_has_jumped(move, scale, jumped):
    before = np.array([[100.0, 100.0], [200.0, 220.0]])
    after = before[0] + (before - before[0]) * scale + move
    assert has_jumped(before, after) == jumped
