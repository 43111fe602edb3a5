"""How readable a face is: size, pose, sharpness, light and place, as one number."""

from __future__ import annotations

import math

import numpy as np

from realtime_mer.face.registration import CanonicalFace

# At this width in pixels, a face shows motions of a micro-expression's size (README, Limits).
_WIDTH_PX = 100.0
# Degrees. Up to the first angle from the front, all regions look as in training; at the second,
# half of the face is hidden. Chosen by judgement.
_TURN_DEG = (15.0, 45.0)
# A face that looks straight ahead has its chin this much farther back than its forehead: median of
# 20 portraits.
LEVEL_DEG = 6.0
# Textured skin behind a region (`Motion.trust`), mean of the expressive ones. Measured: the softest
# of 20 sharp portraits has 3; blurred by a Gaussian of 5 pixels of the canonical face, 1.3.
_TRUST = 3.0
# Mean grey level of the face: below the first there is mostly noise, above the last the face is
# overexposed; between the middle two, light does not matter. Chosen by judgement.
_LIGHT = (10.0, 60.0, 200.0, 250.0)
# Distance from the face to the picture's border, in widths of the face: below the second, a small
# motion takes the face out of the picture; at the first, a good part of the face is guessed. Chosen
# by judgement.
_EDGE = (-0.2, 0.05)
# Face mesh: temples or cheeks left and right, top of the forehead, chin.
LEFT, RIGHT, TOP, CHIN = 234, 454, 10, 152


def _share(value: float, bad: float, good: float) -> float:
    """0 at `bad` and beyond, 1 at `good` and beyond, linear between."""
    return min(max((value - bad) / (good - bad), 0.0), 1.0)


def turned_deg(landmarks: np.ndarray) -> float:
    """The angle by which a face is turned away from the camera, in degrees: the larger of yaw and
    pitch.

    Args:
        landmarks: (478, 3) of the canonical face, which is upright.
    """
    across = landmarks[RIGHT] - landmarks[LEFT]
    down = landmarks[CHIN] - landmarks[TOP]
    yaw = math.degrees(math.atan2(across[2], across[0]))
    pitch = math.degrees(math.atan2(down[2], down[1])) - LEVEL_DEG
    return max(abs(yaw), abs(pitch))


def head_pose_deg(points: np.ndarray) -> tuple[float, float, float]:
    """How a head is turned, in degrees: yaw, positive to the picture's right; pitch, positive
    upwards; roll, positive clockwise.

    Args:
        points: (478, 3) in pixels, y down, smaller depth is nearer.
    """
    across = points[RIGHT] - points[LEFT]
    down = points[CHIN] - points[TOP]
    roll = math.atan2(across[1], across[0])
    yaw = math.atan2(across[2], math.hypot(across[0], across[1]))
    # Along the face, whatever its tilt.
    length = down[1] * math.cos(roll) - down[0] * math.sin(roll)
    pitch = math.radians(LEVEL_DEG) - math.atan2(down[2], length)
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def face_quality(
    corners: np.ndarray, size: tuple[int, int], face: CanonicalFace, trust: float
) -> float:
    """How readable a face is, 0 to 1. The worst aspect decides, and is the one to improve.

    Args:
        corners: Upper left and lower right corner (2, 2) of the face, pixels of the frame.
        size: (width, height) of the frame.
        face: The same face, registered.
        trust: How much textured skin shows the motion (`Motion.trust`), mean of the expressive
            regions.
    """
    (left, top), (right, bottom) = corners.tolist()
    width = max(right - left, 1e-6)
    to_edge = min(left, top, size[0] - right, size[1] - bottom) / width
    # Every eighth pixel of the middle is enough to measure the light.
    light = float(face.grey[56:200:8, 56:168:8].mean())
    return min(
        width / _WIDTH_PX,
        _share(turned_deg(face.landmarks), *reversed(_TURN_DEG)),
        trust / _TRUST,
        _share(light, _LIGHT[0], _LIGHT[1]),
        _share(light, _LIGHT[3], _LIGHT[2]),
        _share(to_edge, *_EDGE),
        1.0,
    )
