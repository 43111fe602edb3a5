"""A person's baseline: their neutral face, taken in the first seconds or when somebody asks for it.

Faces differ at rest, so observers of expressions ask for a neutral face first. While it is taken,
nothing is reported. Afterwards, how far an event lies from that face is told beside how far the
skin came since its onset. The spotter stays as it is: what it would gain from a face's rest was
measured, and is nothing (docs/spotting.md, "Baseline").
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from realtime_mer.analysis.face_chain import FaceStep
from realtime_mer.face.registration import CanonicalFace
from realtime_mer.recognition.face_pair import FacePair
from realtime_mer.results import READABLE_PX, Baseline, BaselineFlaw, GapReason

BASELINE_S = 20.0
"""How long a baseline takes if nothing else is said."""

BASELINE_RANGE_S = (5.0, 300.0)
"""How long it may take. Chosen by judgement: limits of detection take a second to be known, and
nobody keeps a face for longer."""

# Faces among which the neutral one is chosen; 55 KB each, spread over the time.
_KEPT_FACES = 40
# A baseline is poor if less of it than the first was followed, or more than the second was spoilt
# by any one of what spoils it. Chosen by judgement.
_FOLLOWED_SHARE = 0.9
_SPOILT_SHARE = 0.25
# The median of the two smile scores of a neutral face is below this. Of 18 portraits, smiles score
# 0.55 and more, all others 0.32 at most.
_SMILE = 0.4
# A face that moves more than this (`Spotter.restlessness`) does not keep still. On held-out videos,
# three of four moments of people who sit are below 1.9, of people who talk above 2.1.
_RESTLESS = 2.0
# MediaPipe's numbers of mouthSmileLeft and mouthSmileRight.
_SMILES = (44, 45)
# A frame stands for at most so much time: longer ones are holes.
_LONGEST_FRAME_S = 0.2
# For how long it is told that a baseline is poor.
_TOLD_S = 6.0
# Not blinks: narrow eyes score as high, and the usual face is none that blinks.
_NUISANCES = {
    "head motion": BaselineFlaw.HEAD_MOVED,
    "speech": BaselineFlaw.MOUTH_OPEN,
}


class Taking:
    """The baseline of one face, while it is taken.

    Args:
        face: Identity of the face.
        start_s: When it begins, seconds.
        length_s: How long it takes, seconds.

    Attributes:
        start_s, due_s: When it began, and is to end.
        withheld: Micro-expressions that were found in it, and not reported.
    """

    def __init__(self, face: int, start_s: float, length_s: float) -> None:
        self.start_s, self.due_s = start_s, start_s + length_s
        self.withheld = 0
        self._face, self._length_s = face, length_s
        self._seen_s = start_s
        self._followed_s = 0.0
        self._spoilt_s = dict.fromkeys(BaselineFlaw, 0.0)
        self._has_jumped = False
        # Of the frames in which they are known.
        self._limits: list[tuple[float, float, float]] = []
        self._smiles: list[float] = []
        self._faces: list[CanonicalFace] = []
        self._next_face_s = start_s

    def add(self, step: FaceStep, time_s: float, is_sparse: bool) -> None:
        """Takes what the next frame with the face tells."""
        state = step.state
        # What comes first after an absence continues nothing.
        share_s = min(time_s - self._seen_s, _LONGEST_FRAME_S)
        self._seen_s = time_s
        self._followed_s += share_s
        if step.gap is not None and step.gap.reason == GapReason.FACE_JUMPED:
            self._has_jumped = True
        flaws = {_NUISANCES[name] for name in state.nuisances if name in _NUISANCES}
        if is_sparse:
            flaws.add(BaselineFlaw.TOO_FEW_FRAMES)
        if state.limits is not None:
            self._limits.append(state.limits)
            if min(state.limits) > READABLE_PX:
                flaws.add(BaselineFlaw.HARD_TO_READ)
        if step.restlessness > _RESTLESS:
            flaws.add(BaselineFlaw.FACE_MOVED)
        if state.blendshapes is not None:
            self._smiles.append(float(state.blendshapes[list(_SMILES)].mean()))
        for flaw in flaws:
            self._spoilt_s[flaw] += share_s
        at_rest = flaws <= {BaselineFlaw.HARD_TO_READ, BaselineFlaw.TOO_FEW_FRAMES}
        if at_rest and time_s >= self._next_face_s:
            self._faces.append(step.face)
            self._next_face_s = time_s + self._length_s / _KEPT_FACES

    def ended(self, end_s: float) -> Baseline:
        """What the baseline is worth."""
        end_s = min(end_s, self.due_s)
        limits = None
        if self._limits:
            upper, middle, lower = np.median(self._limits, axis=0).tolist()
            limits = (upper, middle, lower)
        flaws = tuple(self._flaws(end_s))
        return Baseline(self._face, self.start_s, end_s, flaws, limits, self.withheld)

    @property
    def neutral(self) -> CanonicalFace | None:
        """The face whose landmarks are nearest to the median of all; None if none was at rest."""
        if not self._faces:
            return None
        landmarks = np.array([face.landmarks[:, :2] for face in self._faces])  # (faces, 478, 2)
        off = np.linalg.norm(landmarks - np.median(landmarks, axis=0), axis=2).mean(1)
        return self._faces[int(off.argmin())]

    def _flaws(self, end_s: float) -> Iterable[BaselineFlaw]:
        if end_s - self.start_s < BASELINE_RANGE_S[0]:
            yield BaselineFlaw.TOO_SHORT
        if self._has_jumped:
            yield BaselineFlaw.FACE_JUMPED
        if self._followed_s < _FOLLOWED_SHARE * (end_s - self.start_s):
            yield BaselineFlaw.FACE_AWAY
        yield from (
            flaw
            for flaw, spoilt_s in self._spoilt_s.items()
            if spoilt_s > _SPOILT_SHARE * self._followed_s
        )
        if self._smiles and np.median(self._smiles) > _SMILE:
            yield BaselineFlaw.SMILE


class Baselines:
    """The baselines of all faces of a source. `ask` may be called by any thread.

    Args:
        length_s: How long each face's first seconds are taken for; None to take none by itself.

    Raises:
        ValueError: The length is not within `BASELINE_RANGE_S`.
    """

    def __init__(self, length_s: float | None = None) -> None:
        self._length_s = None if length_s is None else _checked(length_s)
        self._asked_s: float | None = None
        self._begun: set[int] = set()
        self._taking: dict[int, Taking] = {}
        self._neutral: dict[int, CanonicalFace] = {}
        self._poor: tuple[str, float] | None = None
        self._pair = FacePair()

    def ask(self, length_s: float = BASELINE_S) -> None:
        """Takes the baselines of the faces in view anew; if there is none, of the next one.

        Raises:
            ValueError: The length is not within `BASELINE_RANGE_S`.
        """
        self._asked_s = _checked(length_s)

    def update(
        self, time_s: float, steps: Sequence[FaceStep], is_sparse: bool
    ) -> tuple[Baseline, ...]:
        """Takes the next frame; returns the baselines that end with it.

        Args:
            time_s: Time of the frame.
            steps: What it tells about each face.
            is_sparse: Whether too few frames are analysed.
        """
        asked_s = self._asked_s
        if asked_s is not None and steps:
            self._asked_s = None
        done = [
            self._end(face, time_s)
            for face, taking in list(self._taking.items())
            if time_s >= taking.due_s
        ]
        for step in steps:
            face = step.state.face
            if asked_s is not None:
                self._begin(face, time_s, asked_s)
            elif self._length_s is not None and face not in self._begun:
                self._begin(face, time_s, self._length_s)
            if (taking := self._taking.get(face)) is not None:
                taking.add(step, time_s, is_sparse)
        return tuple(done)

    @property
    def is_taking(self) -> bool:
        """Whether one is under way."""
        return bool(self._taking)

    def covers(self, face: int, onset_s: float) -> bool:
        """Whether what began at `onset_s` falls into a baseline that is under way."""
        taking = self._taking.get(face)
        return taking is not None and onset_s >= taking.start_s

    def withholds(self, face: int, onset_s: float) -> bool:
        """Whether what was found, and began at `onset_s`, is not to be reported; counts it."""
        if not self.covers(face, onset_s):
            return False
        self._taking[face].withheld += 1
        return True

    def alerts(self, time_s: float) -> tuple[str, ...]:
        """What to tell the person now, and that the last baseline is poor."""
        told = []
        if self._taking:
            left_s = max(taking.due_s for taking in self._taking.values()) - time_s
            told.append(f"baseline: keep a neutral face, {max(1, math.ceil(left_s))} s")
        if self._poor is not None and time_s < self._poor[1]:
            told.append(self._poor[0])
        return tuple(told)

    def has_neutral(self, face: int) -> bool:
        """Whether there is a good baseline."""
        return face in self._neutral

    def from_neutral_px(self, face: int, seen: CanonicalFace) -> float:
        """How far a face is from the person's neutral one, as `MicroExpression.from_neutral_px`.

        Raises:
            KeyError: There is no good baseline.
        """
        return self._pair.moved_px(self._neutral[face], seen)

    def forget(self, face: int, time_s: float) -> tuple[Baseline, ...]:
        """Forgets a face that is gone for good; returns its baseline if one was under way."""
        done = (self._end(face, time_s),) if face in self._taking else ()
        self._begun.discard(face)
        self._neutral.pop(face, None)
        return done

    def finish(self, time_s: float) -> tuple[Baseline, ...]:
        """Ends the baselines that are under way, as no more frames come."""
        return tuple(self._end(face, time_s) for face in list(self._taking))

    def _begin(self, face: int, time_s: float, length_s: float) -> None:
        self._begun.add(face)
        self._taking[face] = Taking(face, time_s, length_s)
        self._poor = None

    def _end(self, face: int, time_s: float) -> Baseline:
        taking = self._taking.pop(face)
        baseline, neutral = taking.ended(time_s), taking.neutral
        if baseline.is_good and neutral is not None:
            self._neutral[face] = neutral
        elif baseline.flaws:
            # What held before still holds.
            text = f"poor baseline: {baseline.flaws[0]}"
            self._poor = text, time_s + _TOLD_S
        return baseline


def _checked(length_s: float) -> float:
    least, most = BASELINE_RANGE_S
    if not least <= length_s <= most:
        raise ValueError(f"a baseline takes {least:g} to {most:g} seconds, got {length_s}")
    return length_s
