"""Who is who, when several faces are followed: through crossings, short losses and returns.

A face in sight is followed by its place and what it looks like; a mesh that slides over to someone
else, as meshes do when one face passes before another, gives itself away by its look. A face that
was away is known again by its look alone, and only if that is sure: a wrong number would mix what
was measured on two people, a new one only starts afresh.

A look is coarse on purpose: the brightness at the points of the face mesh of a face reduced to
16 pixels. It tells the few people before one camera apart and would not tell many apart. Looks are
kept in memory only, for at most `_REMEMBER_S` after the face was last seen and `_MOST_REMEMBERED`
faces; they are never written or sent, and go with the session.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

# A face lost for no longer than this is looked for near where it would have gone.
_LOSS_S = 1.0
# A face is known again by its look for so long, and so many of them are.
_REMEMBER_S = 30.0
_MOST_REMEMBERED = 32

# Width to which a face is reduced for its look, pixels. On 21 people (photos under changed light,
# size and tilt, and moving faces in video) 12 to 16 parted them best; the proportions of the
# landmarks and the mean colour of the skin parted them far worse and are left out.
_LOOK_WIDTH = 16
_MESH = 468  # without the irises
# Of the picture around the face, which the points at its edge are mixed with, in its widths.
_LOOK_MARGIN = 0.1
# Distances between looks, 1 - correlation, from the mean of some seconds. The same person later:
# 0.02 (99 %: 0.1) in a photo under other light, 0.05 (0.12) in calm video, 0.17 (0.31) with strong
# expressions, turns and a hand before the face. Another one: 0.63, in 5 % of the pairs below 0.34,
# in none below 0.17.
_SURELY_SAME = 0.15
_HARDLY_SAME = 0.25
_SURELY_OTHER = 0.35
# The second most similar known face has to be so much less similar.
_MARGIN = 0.08

# Lengths below are in sizes of the face (root of the area of its box).
# How far from its expected place a face may be found: at once, and more each second.
_REACH, _REACH_S, _MOST_REACH = 0.5, 2.0, 2.0
# Mean distance of the points below which two meshes lie on one face.
_ONE_FACE = 0.25
# A lost face's motion dies away, and velocities are averaged, this fast.
_DAMPING_S, _VELOCITY_S = 0.4, 0.1
# A face is taken for the known ones that cost least: the distance, 0 to 1, and for the look 1 at
# _SURELY_SAME, but not more than _MOST_FOR_LOOK.
_MOST_FOR_LOOK, _NO_PAIR = 2.0, 1e3
# A look follows the face this slowly once it is known.
_LEARN_S = 2.0
# Someone may be away: a face that is surely hers gets her number at once, one that is like nobody's
# a new one after so many pictures, as the mesh may have missed the face in one. What is in between
# or half outside is new after half a second.
_SIGHTINGS, _UNDECIDED_S = 3, 0.5
# A face that has looked like someone else for so long is someone else, to whom the mesh slid over.
_STRANGER_S = 1.0


def look(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """What a face looks like, to be compared by `unlikeness`.

    Brightness, on a logarithmic scale and without what light from one side does to it, at the
    points of the face mesh: these move with the head and with the expression.

    Args:
        image: (height, width, 3) uint8, BGR.
        landmarks: (478, 3) in pixels of the image; some may lie outside.

    Returns:
        (468,) float32 of mean 0 and length 1.
    """
    height, width = image.shape[:2]
    points = landmarks[:_MESH, :2]
    low, high = points.min(0), points.max(0)
    across = float(high[0] - low[0])
    margin = _LOOK_MARGIN * across
    x0, y0 = np.clip(np.floor(low - margin).astype(int), 0, [width - 1, height - 1])
    x1, y1 = np.clip(np.ceil(high + margin).astype(int) + 1, [x0 + 1, y0 + 1], [width, height])
    part = image[y0:y1, x0:x1]
    shrink = min(1.0, _LOOK_WIDTH / across)
    size = [max(1, round(shrink * length)) for length in part.shape[1::-1]]
    grey = cv2.cvtColor(cv2.resize(part, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    # Pixel centres: x_small = (x + 0.5) * ratio - 0.5
    ratio = np.array(size, np.float32) / part.shape[1::-1]
    placed = ((points - (x0, y0) + 0.5) * ratio - 0.5).astype(np.float32)
    values = cv2.remap(
        np.log(grey.astype(np.float32) + 10),
        placed[None],
        None,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )[0]
    plane = np.column_stack([points - points.mean(0), np.ones(_MESH)]) / across
    values = values - plane @ np.linalg.solve(plane.T @ plane, plane.T @ values)
    return (values / max(float(np.linalg.norm(values)), 1e-9)).astype(np.float32)


def unlikeness(first: np.ndarray, second: np.ndarray) -> float:
    """How different two looks are: 0 the same, about 1 unrelated, 2 at most."""
    return 1.0 - float(first @ second)


def _distinct(faces: Sequence[np.ndarray]) -> list[int]:
    """Which of the meshes to keep, so that none lies on another: the first of each heap."""
    kept: list[int] = []
    for i, mesh in enumerate(faces):
        limit = _ONE_FACE * _size(mesh)
        apart = (np.linalg.norm(mesh[:, :2] - faces[k][:, :2], axis=1).mean() for k in kept)
        if all(a > limit for a in apart):
            kept.append(i)
    return kept


def _size(mesh: np.ndarray) -> float:
    return max(1.0, float(np.sqrt(np.ptp(mesh[:, :2], axis=0).prod())))


@dataclass(slots=True, eq=False)
class _Sighting:
    """A face in this frame; `whole` if all of it lies in the picture."""

    centre: np.ndarray
    size: float
    look: np.ndarray
    whole: bool


@dataclass(slots=True, eq=False)
class _Known:
    """A face that is or was in sight.

    Attributes:
        identity: Its number; None as long as it is undecided who it is.
        last: Where it was seen last.
        seen_s: When.
        since_s: When it came into sight.
        velocity: Of its centre, pixels a second.
        look: Mean of its looks when it was whole, of length 1.
        looks: How many these are; of none, `look` is the last there was.
        strange_s: Since when it has looked like someone else.
    """

    identity: int | None
    last: _Sighting
    seen_s: float
    since_s: float
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))
    look: np.ndarray = field(init=False)
    looks: int = 0
    strange_s: float | None = None

    def __post_init__(self) -> None:
        self.look = self.last.look
        self.looks = int(self.last.whole)

    def expected(self, time_s: float) -> np.ndarray:
        """Centre (2,) to which it has gone on, slower and slower."""
        away_s = time_s - self.seen_s
        return self.last.centre + self.velocity * _DAMPING_S * (1 - math.exp(-away_s / _DAMPING_S))

    def distance(self, face: _Sighting, time_s: float) -> float:
        """How far a face is from where this one may be: 0 in place, above 1 out of reach."""
        away_s = time_s - self.seen_s
        size = math.sqrt(self.last.size * face.size)
        apart = float(np.linalg.norm(face.centre - self.expected(time_s))) / size
        return apart / min(_REACH + _REACH_S * away_s, _MOST_REACH)

    def unlikeness(self, face: _Sighting) -> float:
        return unlikeness(self.look, face.look)

    def is_like(self, face: _Sighting) -> bool:
        """Whether a mesh may lie on this face, and not on another or half on one."""
        return self.unlikeness(face) <= _SURELY_OTHER

    def see(self, face: _Sighting, time_s: float) -> None:
        """Takes in a sighting of this face."""
        after_s = time_s - self.seen_s
        if after_s > 0:
            rate = 1 - math.exp(-after_s / _VELOCITY_S)
            now = (face.centre - self.last.centre) / after_s
            self.velocity = self.velocity + rate * (now - self.velocity)
        apart = self.unlikeness(face)
        if self.looks == 0 or (self.identity is None and apart > _HARDLY_SAME):
            # It was half outside so far, or the mesh had missed the face.
            self.look, self.looks = face.look, int(face.whole)
        elif face.whole and apart <= _HARDLY_SAME:
            self.looks += 1
            rate = max(1 / self.looks, 1 - math.exp(-after_s / _LEARN_S))
            mean = self.look + rate * (face.look - self.look)
            self.look = mean / max(float(np.linalg.norm(mean)), 1e-9)
        if self.is_like(face):
            self.strange_s = None
        elif self.strange_s is None:
            self.strange_s = time_s
        self.last, self.seen_s = face, time_s


class Identities:
    """Numbers the faces of one frame after the other.

    Nearly all of the work is one look for each face in sight; see the module for what is kept.
    """

    def __init__(self) -> None:
        # Half a second to import, which a single face need not wait for.
        from scipy.optimize import linear_sum_assignment

        self._assign = linear_sum_assignment
        self._known: list[_Known] = []
        self._next = 0
        self._last_s = -math.inf

    def __call__(
        self, image: np.ndarray, faces: Sequence[np.ndarray], time_s: float
    ) -> list[int | None]:
        """The number of each face, from 0.

        Args:
            image: (height, width, 3) uint8, BGR.
            faces: (478, 3) each, in pixels of the image, in any order.
            time_s: Time of the frame.

        Returns:
            None for a mesh that lies on another face of the frame or half on one, and for a face of
            which it is not decided yet who it is.
        """
        kept = _distinct(faces)
        height, width = image.shape[:2]
        seen = []
        for i in kept:
            mesh = faces[i][:, :2]
            whole = bool((mesh >= 0).all() and (mesh <= (width, height)).all())
            seen.append(_Sighting(mesh.mean(0), _size(mesh), look(image, faces[i]), whole))
        numbers: list[int | None] = [None] * len(faces)
        for i, number in zip(kept, self._follow(seen, time_s), strict=True):
            numbers[i] = number
        return numbers

    def _follow(self, seen: list[_Sighting], time_s: float) -> list[int | None]:
        time_s = max(time_s, self._last_s)  # a clock may step back
        self._forget(time_s)
        near = [k for k in self._known if time_s - k.seen_s <= _LOSS_S]
        costs = np.array([[self._cost(k, face, time_s) for k in near] for face in seen])
        pairs = zip(*self._assign(costs.reshape(len(seen), len(near))), strict=True)
        faces: list[_Known | None] = [None] * len(seen)
        for f, k in pairs:
            if costs[f, k] < _NO_PAIR:
                faces[f] = near[k]
                near[k].see(seen[f], time_s)
        present = [k for k in faces if k is not None and k.strange_s is None]
        away = [k for k in self._known if k.identity is not None and k.looks and k not in present]
        for f, face in enumerate(seen):
            known = faces[f]
            if known is None or self._is_stranger(known, away, time_s):
                faces[f] = known = _Known(None, face, time_s, time_s)
                self._known.append(known)
        for known in faces:
            if known.identity is None:
                gone = [k for k in away if k not in faces and k in self._known]
                self._decide(known, gone, time_s)
        self._last_s = time_s
        return [k.identity if k.strange_s is None else None for k in faces]

    def _forget(self, time_s: float) -> None:
        """Drops who was away for too long, or never got a number; and the longest away of many."""
        self._known = [
            k
            for k in self._known
            if time_s - k.seen_s <= (_UNDECIDED_S if k.identity is None else _REMEMBER_S)
        ]
        away = [k for k in self._known if time_s - k.seen_s > _LOSS_S]
        for k in sorted(away, key=lambda k: -k.seen_s)[_MOST_REMEMBERED:]:
            self._known.remove(k)

    def _cost(self, known: _Known, face: _Sighting, time_s: float) -> float:
        distance = known.distance(face, time_s)
        apart = known.unlikeness(face)
        followed = known.seen_s == self._last_s
        if distance > 1 or not (followed or known.is_like(face)):
            return _NO_PAIR
        return distance + min(apart / _SURELY_SAME, _MOST_FOR_LOOK)

    @staticmethod
    def _is_stranger(known: _Known, away: list[_Known], time_s: float) -> bool:
        """Whether the tracker has slid over from a known face to another one."""
        if known.strange_s is None:
            return False
        return time_s - known.strange_s > _STRANGER_S or any(
            other.unlikeness(known.last) <= _SURELY_SAME for other in away
        )

    def _decide(self, face: _Known, away: list[_Known], time_s: float) -> None:
        """Gives a face in sight the number of one who is away, a new one, or none yet."""
        overdue = time_s - face.since_s >= _UNDECIDED_S
        if not face.looks and not overdue and len(self._known) > 1:
            return  # half outside, so that it cannot be said yet
        away = sorted(away, key=lambda k: unlikeness(k.look, face.look))
        if face.looks and away:
            apart, *others = (unlikeness(k.look, face.look) for k in away)
            if apart <= _SURELY_SAME and (not others or others[0] - apart >= _MARGIN):
                old = away[0]
                self._known.remove(old)
                face.identity, face.look, face.looks = old.identity, old.look, old.looks
                return
            if (apart < _SURELY_OTHER or face.looks < _SIGHTINGS) and not overdue:
                return
        face.identity = self._next
        self._next += 1
