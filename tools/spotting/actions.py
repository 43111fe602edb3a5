"""What a face does while something is reported: it speaks, blinks, looks elsewhere, moves its head.

Says where false reports come from. All is taken from the tracker's landmarks and scores, not from
the motion that the spotter sees. Only changes count: a mouth that stays open does not speak.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

import numpy as np

from realtime_mer.results import Interval

if TYPE_CHECKING:
    from realtime_mer.face.tracker import TrackedFace

NOTHING = "nothing of these"
"""What a face did that did none of `ACTIONS`."""

# An action counts from this long before the onset to this long after the offset. Before: what is
# reported may be the end of a longer motion. After: a report comes about 0.15 s after the offset.
_BEFORE_S, _AFTER_S = 0.3, 0.1
# Sightings kept of a face: what a report looks back to, 2 s at 200 frames a second.
_KEPT = 400
# Distance of the eyes' centres in the canonical face, pixels: the unit of lengths here.
_EYES_PX = 95.0
# Face mesh: corners and iris of both eyes; inner lips, and corners of the mouth.
_CORNERS, _IRISES = [[33, 133], [362, 263]], [468, 473]
_LIPS, _MOUTH = [13, 14], [61, 291]

# What is measured of a face, the action that it shows, and the range from which it shows it, of
# scores or in pixels of the canonical face. Chosen from seven videos and three swaying photos.
# Within 0.55 s (90th percentiles, unless "up to"), the score of the lids moves by up to 0.7 in a
# blink and by 0.1 to 0.27 without; lips by 19 to 37 px in speech, by 0.2 to 4 px without; the
# mouth's width by 4 to 26 px and 0.7 to 5 px; irises by up to 8.6 px in a look aside, by 0.4 to 1.3
# px without; a calm head by 2 to 8 px, a restless one by 15 px and more.
_SIGNALS = {
    "lids": ("blink", 0.25),
    "jaw": ("speech", 0.06),
    "lips": ("speech", 5.0),
    "mouth": ("speech", 6.0),
    "gaze across": ("gaze", 3.0),
    "gaze down": ("gaze", 3.0),
    "head across": ("head", 15.0),
    "head down": ("head", 15.0),
}
_LEAST = np.array([least for _, least in _SIGNALS.values()])
_HEAD = [i for i, (action, _) in enumerate(_SIGNALS.values()) if action == "head"]

ACTIONS = tuple(dict.fromkeys(action for action, _ in _SIGNALS.values()))
"""The names of what is told apart."""


class Actions:
    """Remembers the last seconds of each face, and tells what it did in them."""

    def __init__(self) -> None:
        # Time, distance of the eyes in pixels of the frame, and `_SIGNALS`.
        self._seen: dict[int, deque[np.ndarray]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def add(self, time_s: float, face: TrackedFace) -> None:
        """Takes a face of the next frame."""
        eyes_px, signals = _signals(face)
        self._seen[face.identity].append(np.array([time_s, eyes_px, *signals]))

    def during(self, face: int, interval: Interval) -> frozenset[str]:
        """What a face did while something moved that has just been reported.

        Returns:
            Some of `ACTIONS`; or `NOTHING`, alone.
        """
        ranges = self.ranges(face, interval)
        shown = zip(_SIGNALS.values(), ranges >= _LEAST, strict=True)
        actions = {action for (action, _), is_shown in shown if is_shown}
        if "blink" in actions:
            actions.discard("gaze")  # the iris is guessed behind a lid
        return frozenset(actions or {NOTHING})

    def ranges(self, face: int, interval: Interval) -> np.ndarray:
        """The range of each of `_SIGNALS` around an interval; NaN if the face was not seen."""
        start_s, end_s = interval.onset_s - _BEFORE_S, interval.offset_s + _AFTER_S
        seen = [row for row in self._seen[face] if start_s <= row[0] <= end_s]
        if not seen:
            return np.full(len(_SIGNALS), np.nan)
        rows = np.array(seen)
        ranges = np.ptp(rows[:, 2:], axis=0)
        ranges[_HEAD] *= _EYES_PX / np.median(rows[:, 1])
        return ranges


def _signals(face: TrackedFace) -> tuple[float, list[float]]:
    """The distance of the eyes in pixels, and `_SIGNALS`: scores; lengths of the canonical face;
    for the head, pixels of the frame."""
    # As complex numbers, a quotient of two vectors knows neither tilt nor size.
    points = face.landmarks[:, 0].astype(float) + 1j * face.landmarks[:, 1]
    left, right = points[_CORNERS].mean(1)
    unit = (right - left) / _EYES_PX
    gaze = (points[_IRISES] - (left, right)).mean() / unit
    lips, mouth = (abs(np.diff(points[ends])[0] / unit) for ends in (_LIPS, _MOUTH))
    head = (left + right) / 2
    signals = [face.blink, face.jaw_open, lips, mouth, gaze.real, gaze.imag, head.real, head.imag]
    return float(abs(right - left)), [float(signal) for signal in signals]
