"""Identities of several faces: who is who through crossings, short losses and returns.

A face in sight is followed by its place and its look. When one face passes in front of another, a
mesh may slide over to the other person; the look reveals that. A face that was away is recognized
by its look alone, and only if the match is certain: a wrong number would mix the measurements of
two people, while a new number only starts the measurement again.

A look is coarse on purpose: the brightness at the points of the mesh, on a face reduced to 16
pixels. It distinguishes the few people in front of one camera and could not distinguish many. Looks
stay in memory, for at most `_REMEMBER_S` after the face was last seen and for at most
`_MAX_REMEMBERED` faces; they are never written or sent, and end with the session.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

# Where no other source is given, a number is chosen by judgement and checked by the tests.

# A face lost for no longer than this is sought near where it would have moved to.
_LOSS_S = 1.0
# Faces are recognized by their look for this long, and at most this many of them.
_REMEMBER_S = 30.0
_MAX_REMEMBERED = 32

# Width in pixels to which a face is reduced for its look. Measured on 21 people (photos under
# changed light, size and tilt, and moving faces in video): 12 to 16 separate them best. The
# proportions of the landmarks and the mean colour of the skin separate them far worse and are not
# used.
_LOOK_WIDTH = 16
_MESH = 468  # without the irises
# Margin around the face that is reduced with it, as the points at its edge need it; in face widths.
_LOOK_MARGIN = 0.1
# Added to grey levels before the logarithm, which would magnify the noise of dark ones.
_LOG_OFFSET = 10
# Distances between looks, 1 - correlation, from the mean of some seconds. Measured for the same
# person later: 0.02 (99 %: 0.1) in a photo under other light, 0.05 (0.12) in calm video, 0.17
# (0.31) with strong expressions, turns and a hand in front of the face. For another person: 0.63,
# in 5 % of the pairs below 0.34, in none below 0.17.
_SURELY_SAME = 0.15
_HARDLY_SAME = 0.25
_SURELY_OTHER = 0.35
# The second most similar known face has to be this much less similar.
_MARGIN = 0.08

# Lengths below are in sizes of the face (root of the area of its box).
# How far from its expected place a face may be found: at once, added each second, at most.
_REACH, _REACH_S, _MAX_REACH = 0.5, 2.0, 2.0
# Two meshes whose points are closer than this on average lie on one face.
_ONE_FACE = 0.25
# Time constants: a lost face's motion dies away, and velocities are averaged.
_DAMPING_S, _VELOCITY_S = 0.4, 0.1
# Faces are assigned to the known ones at the least total cost: distance, 0 to 1, plus the cost of
# the look, 1 at _SURELY_SAME, and at most _MAX_LOOK_COST.
_MAX_LOOK_COST, _NO_PAIR = 2.0, 1e3
# Time constant with which a known look follows the face.
_LEARN_S = 2.0
# While someone is away, a face that surely is that person gets the old number at once. A face that
# resembles nobody gets a new number after this many sightings, since in a single picture the mesh
# may have missed the face. A face in between, or half outside the picture, gets a new number after
# half a second.
_SIGHTINGS, _UNDECIDED_S = 3, 0.5
# A mesh that has looked like someone else for this long has slid over to that person.
_STRANGER_S = 1.0


def look(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The look of a face, to be compared by `unlikeness`.

    It is the brightness at the points of the face mesh, which move with the head and the
    expression; on a logarithmic scale, and without the gradient that light from one side causes.

    Args:
        image: (height, width, 3) uint8, BGR.
        landmarks: (478, 3) in pixels of the image; some may lie outside.

    Returns:
        (468,) float32 of mean 0 and length 1.
    """
    height, width = image.shape[:2]
    points = landmarks[:_MESH, :2]
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    across = right - left
    margin = _LOOK_MARGIN * across
    x0, y0 = (
        min(max(math.floor(low - margin), 0), length - 1)
        for low, length in ((left, width), (top, height))
    )
    x1, y1 = (
        min(max(math.ceil(high + margin) + 1, start + 1), length)
        for high, start, length in ((right, x0, width), (bottom, y0, height))
    )
    part = cv2.cvtColor(image[y0:y1, x0:x1], cv2.COLOR_BGR2GRAY)
    shrink = min(1.0, _LOOK_WIDTH / across)
    size = [max(1, round(shrink * length)) for length in part.shape[1::-1]]
    grey = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    # Pixel centres: x_small = (x + 0.5) * ratio - 0.5
    ratio = np.array(size, np.float32) / part.shape[1::-1]
    placed = ((points - (x0, y0) + 0.5) * ratio - 0.5).astype(np.float32)
    brightness = np.log(grey.astype(np.float32) + _LOG_OFFSET)
    values = cv2.remap(  # type: ignore[call-overload]  # the second map is optional
        brightness, placed[None], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )[0]
    plane = np.column_stack([points - points.mean(0), np.ones(_MESH)]) / across
    values = values - plane @ np.linalg.solve(plane.T @ plane, plane.T @ values)
    return (values / max(float(np.linalg.norm(values)), 1e-9)).astype(np.float32)


def unlikeness(first: np.ndarray, second: np.ndarray) -> float:
    """How different two looks are: 0 the same, about 1 unrelated, 2 at most."""
    return 1.0 - float(first @ second)


def _distinct(
    faces: Sequence[np.ndarray], centres: Sequence[np.ndarray], sizes: Sequence[float]
) -> list[int]:
    """Indices of the meshes to keep so that no two lie on one face: the first on each face."""
    kept: list[int] = []
    for i, mesh in enumerate(faces):
        limit = _ONE_FACE * sizes[i]
        for k in kept:
            # Points are on average at least as far apart as their means.
            if math.dist(centres[i], centres[k]) > limit:
                continue
            if np.linalg.norm(mesh[:, :2] - faces[k][:, :2], axis=1).mean() <= limit:
                break
        else:
            kept.append(i)
    return kept


def _size(mesh: np.ndarray) -> float:
    return max(1.0, float(np.sqrt(np.ptp(mesh[:, :2], axis=0).prod())))


@dataclass(slots=True, eq=False)
class _Sighting:
    """A face in one frame.

    Attributes:
        centre: (2,), mean of the mesh in pixels.
        size: Root of the area of its box in pixels.
        look: As `look` returns it.
        whole: Whether all of it lies in the picture.
    """

    centre: np.ndarray
    size: float
    look: np.ndarray
    whole: bool


@dataclass(slots=True, eq=False)
class _Known:
    """A face that is or was in sight.

    Attributes:
        identity: Its number; None while it is undecided who it is.
        last: The last sighting.
        seen_s: Time of the last sighting.
        since_s: When it came into sight.
        velocity: (2,), of its centre, pixels a second.
        look: Mean of its looks while it was whole, of length 1.
        looks: How many looks that mean has; if 0, `look` is the last look of a part of the face.
        strange_s: Since when it has looked like someone else; None if it does not.
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
        """Expected centre (2,), if its motion goes on and dies away."""
        away_s = time_s - self.seen_s
        return self.last.centre + self.velocity * _DAMPING_S * (1 - math.exp(-away_s / _DAMPING_S))

    def distance(self, face: _Sighting, time_s: float) -> float:
        """Distance of a face from the expected place: 0 there, above 1 out of reach."""
        away_s = time_s - self.seen_s
        size = math.sqrt(self.last.size * face.size)
        apart = math.dist(face.centre, self.expected(time_s)) / size
        return apart / min(_REACH + _REACH_S * away_s, _MAX_REACH)

    def unlikeness(self, face: _Sighting) -> float:
        return unlikeness(self.look, face.look)

    def is_like(self, face: _Sighting) -> bool:
        """Whether a mesh may lie on this face, rather than on another one or beside it."""
        return self.unlikeness(face) <= _SURELY_OTHER

    def update(self, face: _Sighting, time_s: float) -> None:
        """Takes the next sighting of this face."""
        after_s = time_s - self.seen_s
        if after_s > 0:
            rate = 1 - math.exp(-after_s / _VELOCITY_S)
            now = (face.centre - self.last.centre) / after_s
            self.velocity = self.velocity + rate * (now - self.velocity)
        apart = self.unlikeness(face)
        if self.looks == 0 or (self.identity is None and apart > _HARDLY_SAME):
            # So far it was half outside the picture, or the mesh missed the face.
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
    """Numbers the faces of frame after frame.

    Nearly all of the time goes into one look for each face in sight. The module's docstring says
    what is kept.
    """

    def __init__(self) -> None:
        # The import takes half a second, which a session with a single face can do without.
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
            None for a mesh that lies on another face of the frame or partly on one, and for a face
            while it is undecided who it is.
        """
        centres, sizes = [mesh[:, :2].mean(0) for mesh in faces], [_size(mesh) for mesh in faces]
        kept = _distinct(faces, centres, sizes)
        height, width = image.shape[:2]
        seen = []
        for i in kept:
            mesh = faces[i][:, :2]
            whole = bool((mesh >= 0).all() and (mesh <= (width, height)).all())
            seen.append(_Sighting(centres[i], sizes[i], look(image, faces[i]), whole))
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
                near[k].update(seen[f], time_s)
        present = [k for k in faces if k is not None and k.strange_s is None]
        away = [k for k in self._known if k.identity is not None and k.looks and k not in present]
        in_sight: list[_Known] = []
        for face, known in zip(seen, faces, strict=True):
            if known is None or self._is_stranger(known, away, time_s):
                known = _Known(None, face, time_s, time_s)
                self._known.append(known)
            in_sight.append(known)
        for known in in_sight:
            if known.identity is None:
                gone = [k for k in away if k not in in_sight and k in self._known]
                self._decide(known, gone, time_s)
        self._last_s = time_s
        # Who is alone, and the only one known, may well hold a hand before her face. Until it is
        # clear that somebody new has come, up to a second of his goes under her number.
        is_alone = len(self._known) == 1
        return [k.identity if k.strange_s is None or is_alone else None for k in in_sight]

    def _forget(self, time_s: float) -> None:
        """Drops faces that were away too long; of too many that are away, those longest away."""
        self._known = [
            k
            for k in self._known
            if time_s - k.seen_s <= (_UNDECIDED_S if k.identity is None else _REMEMBER_S)
        ]
        away = [k for k in self._known if time_s - k.seen_s > _LOSS_S]
        for k in sorted(away, key=lambda k: -k.seen_s)[_MAX_REMEMBERED:]:
            self._known.remove(k)

    def _cost(self, known: _Known, face: _Sighting, time_s: float) -> float:
        """Cost of taking a face for a known one."""
        distance = known.distance(face, time_s)
        if distance > 1:
            return _NO_PAIR
        apart = known.unlikeness(face)
        followed = known.seen_s == self._last_s
        if not (followed or known.is_like(face)):
            return _NO_PAIR
        return distance + min(apart / _SURELY_SAME, _MAX_LOOK_COST)

    @staticmethod
    def _is_stranger(known: _Known, away: list[_Known], time_s: float) -> bool:
        """Whether the mesh has slid over from a known face to another one."""
        if known.strange_s is None:
            return False
        return time_s - known.strange_s > _STRANGER_S or any(
            other.unlikeness(known.last) <= _SURELY_SAME for other in away
        )

    def _decide(self, face: _Known, away: list[_Known], time_s: float) -> None:
        """Gives a face in sight the number of a face that is away, a new one, or none yet."""
        overdue = time_s - face.since_s >= _UNDECIDED_S
        if not face.looks and not overdue and len(self._known) > 1:
            return  # partly outside the picture: too early to say
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
