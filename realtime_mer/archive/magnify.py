"""Motion magnification: a registered face whose skin moves several times as far, for people.

A micro-expression moves the skin by 1 to 3 px of a face 224 px wide, too little to see in a loop.
The motion is measured by DIS flow, averaged over cells that have texture, freed from the head's
motion and enlarged, and each frame is warped by the difference. What moves less than noise does
stays as it is: an invented motion would be worse than a missing one.
"""

from __future__ import annotations

import cv2
import numpy as np

from realtime_mer.face.registration import FACE_SIZE
from realtime_mer.spotting.cell_flow import CELLS, FACE_GRID, to_cells
from realtime_mer.spotting.motion import FACE_CELLS, texture_trust

FACTOR = 5.0
"""How many times as far the skin goes in reports. Chosen by looking at the demo's events: 2 px are
seen at a glance, and nothing tears."""

# Displacements are smoothed over time with this standard deviation, seconds. Chosen by looking; by
# calculation, it leaves 90 % (a triangle) to 96 % (a raised cosine) of the peak of 0.4 s of motion.
_SMOOTH_S = 0.025
# The face at rest is the mean of the frames within this time up to the onset, seconds.
_REST_S = 0.1
# Standard deviation, in cells, within which trusted cells speak for others; and the trust at which
# half of a motion is believed.
_SPREAD_CELLS = 0.7
_HALF_TRUST = 0.01
# The share of a motion that is found with all this smoothing: 0.55 to 0.68 of drawn motions of 2 px
# (AU1+2, AU12, AU4+7), measured once, with a script that is not kept.
_FOUND = 0.62
# Smooths sensor noise before the flow, standard deviation in pixels. Chosen by judgement.
_BLUR_PX = 1.0
# Displacement, in pixels, at which half of a motion is enlarged; what is much less is noise. It is
# the least that a region must move to be listed in an event (`spotting.spotter`: 0.15 px) less what
# the smoothing above takes from noise.
_NOISE_PX = 0.1
# Motions are enlarged to this length, pixels, and longer ones, such as those of lids in a blink,
# stay as they are. And the steepest change of what is added from pixel to pixel: beyond 1, the
# picture would fold over itself. Both chosen by looking at blinks.
_LONGEST_PX = 12.0
_STEEPEST = 0.7
# The fixed point of the warp: each round leaves at most _STEEPEST of the error.
_ROUNDS = 8
# Rounds of the robust fit of the head's motion, and the scale of its residuals, pixels.
_FIT_ROUNDS = 5
_FIT_PX = 0.15


def magnified(
    frames: np.ndarray, times_s: np.ndarray, factor: float = FACTOR, onset_s: float | None = None
) -> np.ndarray:
    """The same frames with the motion of the skin enlarged.

    What moves as the whole face does (the head, and what registration leaves of it) is not
    enlarged. Nothing is enlarged beyond 12 px, so a blink stays a blink.

    Args:
        frames: (n, 224, 224, 3) uint8, a registered face, BGR or RGB.
        times_s: (n,) time of each frame, seconds, ascending.
        factor: How many times as far the skin goes, 1 or more.
        onset_s: When the face was at rest; None for the first frame.

    Returns:
        (n, 224, 224, 3) uint8, a new array.

    Raises:
        ValueError: The shapes do not fit, or `factor` is less than 1.

    Example:
        shown = magnified(frames, times_s, factor=5, onset_s=12.4)
    """
    times_s = np.asarray(times_s, np.float64)
    if frames.shape[1:] != (FACE_SIZE, FACE_SIZE, 3) or times_s.shape != (len(frames),):
        raise ValueError(
            f"frames must be (n, {FACE_SIZE}, {FACE_SIZE}, 3) and times_s (n,), got "
            f"{frames.shape} and {times_s.shape}"
        )
    if not factor >= 1:
        raise ValueError(f"factor must be 1 or more, got {factor}")
    if not len(frames):
        return frames.copy()
    motion = _skin_motion(frames, times_s, onset_s)
    return np.stack(
        [_moved(frame, cells, factor) for frame, cells in zip(frames, motion, strict=True)]
    )


def _skin_motion(
    frames: np.ndarray, times_s: np.ndarray, onset_s: float | None = None
) -> np.ndarray:
    """How far the skin is from where it was at rest, without the head's motion.

    Args:
        frames: (n, 224, 224, 3) uint8, a registered face; n is at least 1.
        times_s: (n,) time of each frame, seconds.
        onset_s: When the face was at rest; None for the first frame.

    Returns:
        (n, 28, 28, 2) float32, displacement (x, y) of each cell in pixels of the canonical face; 0
        outside the face.
    """
    rest_s = times_s[0] if onset_s is None else onset_s
    # The flow counts from one frame; the mean of several at rest is taken off below.
    anchor = int(np.abs(times_s - rest_s).argmin())
    greys = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames]
    smooth = [cv2.GaussianBlur(grey, (0, 0), _BLUR_PX) for grey in greys]
    # The flow of the spotter's cells is smoother: a blink would spread to the brows.
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    weights = texture_trust(greys[anchor]) * _face().ravel()
    flows = (
        dis.calc(smooth[anchor], grey, None)  # type: ignore[call-overload]  # no initial flow
        for grey in smooth
    )
    motion = np.stack([_without_head(to_cells(flow).reshape(-1, 2), weights) for flow in flows])

    near = np.exp(-0.5 * ((times_s[:, None] - times_s) / _SMOOTH_S) ** 2)
    near /= near.sum(1, keepdims=True)
    motion = np.tensordot(near, motion, 1)
    at_rest = (times_s <= times_s[anchor]) & (times_s >= times_s[anchor] - _REST_S)
    motion -= motion[at_rest].mean(0)

    grid = motion.reshape(-1, CELLS, CELLS, 2).astype(np.float32)
    trust = weights.reshape(CELLS, CELLS).astype(np.float32)
    spread = cv2.GaussianBlur(trust, (0, 0), _SPREAD_CELLS) + _HALF_TRUST
    return np.stack(
        [
            cv2.GaussianBlur(cells * trust[..., None], (0, 0), _SPREAD_CELLS)
            / (_FOUND * spread[..., None])
            for cells in grid
        ]
    )


def _face() -> np.ndarray:
    """(28, 28) float32: 1 inside the face, falling to 0 at its rim."""
    inside = np.zeros(CELLS * CELLS, np.float32)
    inside[FACE_CELLS] = 1
    return cv2.erode(inside.reshape(CELLS, CELLS), np.ones((3, 3), np.uint8))


def _without_head(flow: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A flow (784, 2) without the affine motion that fits most of the trusted cells."""
    rows, columns = np.mgrid[0:CELLS, 0:CELLS].reshape(2, -1) / (CELLS / 2) - 1
    terms = np.column_stack([np.ones(len(rows)), columns, rows])
    fit = np.zeros((3, 2))
    now = weights
    for _ in range(_FIT_ROUNDS):
        weighted = terms.T * now
        fit = np.linalg.solve(weighted @ terms + 1e-4 * np.eye(3), weighted @ flow)
        square = ((flow - terms @ fit) ** 2).sum(1)
        now = weights / (1 + square / _FIT_PX**2)
    return flow - terms @ fit


def _moved(frame: np.ndarray, cells: np.ndarray, factor: float) -> np.ndarray:
    """A frame whose skin is `factor` times as far from rest as `cells` (28, 28, 2) say."""
    is_at = cv2.resize(cells, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_CUBIC)
    square = (is_at**2).sum(-1, keepdims=True)
    # Noise is not enlarged: it would look like a tremor.
    gain = 1 + (factor - 1) * square / (square + _NOISE_PX**2)
    # Hardly changes what is well below the limit.
    gain /= (1 + (gain**2 * square / _LONGEST_PX**2) ** 2) ** 0.25
    extra = is_at * np.maximum(gain - 1, 0)
    extra *= _flattening(extra)[..., None]
    shall_be_at = is_at + extra
    # Where in the face at rest the skin comes from that shall be at each pixel.
    origin = FACE_GRID - shall_be_at
    for _ in range(_ROUNDS):
        origin = FACE_GRID - _at(shall_be_at, origin)
    return _at(frame, FACE_GRID - _at(extra, origin), cv2.INTER_CUBIC)


def _flattening(field: np.ndarray) -> np.ndarray:
    """(224, 224) at most 1, by which a field must be reduced lest the picture fold."""
    slopes = [cv2.Sobel(field, -1, dx, dy, ksize=3, scale=1 / 8) for dx, dy in ((1, 0), (0, 1))]
    steepness = np.sqrt(sum((slope**2).sum(-1) for slope in slopes))
    # The steepest place nearby counts, so that the reduction itself is smooth.
    nearby = cv2.dilate(steepness, np.ones((17, 17), np.uint8))
    return cv2.GaussianBlur(np.minimum(1, _STEEPEST / np.maximum(nearby, 1e-6)), (0, 0), 4)


def _at(image: np.ndarray, places: np.ndarray, how: int = cv2.INTER_LINEAR) -> np.ndarray:
    """An image or field (224, 224, ...) sampled at `places` (224, 224, 2)."""
    return cv2.remap(  # type: ignore[call-overload]  # the second map is optional
        image, places, None, how, borderMode=cv2.BORDER_REPLICATE
    )
