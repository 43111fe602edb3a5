"""What the elements draw from."""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from realtime_mer.output.overlay.layout import Layout
from realtime_mer.output.overlay.paint import DIM, LABEL_COLOURS, Colour
from realtime_mer.results import Analysis, FaceState, MicroExpression, Session

# Seconds of the score's curve, and of the strip of events below it.
CURVE_S = 6.0
HISTORY_S = 60.0
# An event that has just been reported is marked on the face and in its card for so long.
FRESH_S = 1.5
# A window that ended longer ago than this is over.
_UNDER_WAY_S = 0.2
# Without any frame for so long, nothing could have been seen.
_STALL_S = 0.5
_EVENTS_KEPT = 64

NO_FACE, HARD = "no face", "hard to read"


@dataclass(slots=True)
class View:
    """How the person who looks wants to see it; may be changed at any time.

    Attributes:
        details: Everything, or with False only marks on the face, alerts and the last event.
        mirrored: The video as in a mirror.
    """

    details: bool = True
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which nothing could be reported, `NO_FACE`, or only with doubt, `HARD` to read."""

    start_s: float
    end_s: float
    reason: str


@dataclass(slots=True)
class Scene:
    """What the elements draw from. Its memory is bounded by time and count.

    Attributes:
        scores: For each face seen in the last seconds, (time, score) in order.
        events: Last events, oldest first.
        doubtful: When nothing could be reported, or only with doubt, within the last minute, oldest
            first.
    """

    session: Session
    layout: Layout
    analysis: Analysis
    view: View = field(default_factory=View)
    scores: dict[int, deque[tuple[float, float]]] = field(default_factory=dict)
    events: deque[MicroExpression] = field(default_factory=lambda: deque(maxlen=_EVENTS_KEPT))
    event_count: int = 0
    # The cap holds where a source's clock stands still.
    doubtful: deque[Span] = field(default_factory=lambda: deque(maxlen=512))

    @property
    def now_s(self) -> float:
        return self.analysis.frame.time_s

    @property
    def main_face(self) -> FaceState | None:
        """The face whose curve stands out: the one that is known longest."""
        return min(self.analysis.faces, key=lambda f: f.face, default=None)

    def colour(self, label: str) -> Colour:
        """The colour of a label; grey for what is none of the classifier's, as "uncertain"."""
        labels = self.session.labels
        return LABEL_COLOURS[labels.index(label) % len(LABEL_COLOURS)] if label in labels else DIM

    def is_fresh(self, event: MicroExpression) -> bool:
        return self.now_s - event.reported_s < FRESH_S

    def fresh_event(self, face: int) -> MicroExpression | None:
        """The newest event of a face, if it has just been reported."""
        own = (e for e in reversed(self.events) if e.face == face and self.is_fresh(e))
        return next(own, None)

    def is_under_way(self, face: FaceState) -> bool:
        return face.window is not None and face.window.offset_s >= self.now_s - _UNDER_WAY_S

    def points(self, face: FaceState) -> np.ndarray | None:
        """Landmarks (478, 2) in pixels of the video's box; None where some are not known."""
        points = face.landmarks[:, :2] * np.float32(self.layout.scale)
        if not np.isfinite(points).all():
            return None
        if self.view.mirrored:
            points[:, 0] = self.layout.video.width - 1 - points[:, 0]
        return points

    def add(self, analysis: Analysis) -> None:
        before_s = self.now_s
        self.analysis = analysis
        for face in analysis.faces:
            # The cap holds where a source's clock stands still.
            trace = self.scores.setdefault(face.face, deque(maxlen=2048))
            trace.append((self.now_s, float(face.score)))
        for face, trace in list(self.scores.items()):
            while trace and trace[0][0] < self.now_s - CURVE_S:
                trace.popleft()
            if not trace:
                del self.scores[face]
        self.events.extend(analysis.events)
        self.event_count += len(analysis.events)
        self._add_doubtful(before_s)

    def _add_doubtful(self, before_s: float) -> None:
        main = self.main_face
        if main is None or self.now_s - before_s > _STALL_S:
            reason = NO_FACE
        elif main.nuisances:
            reason = HARD
        else:
            reason = ""
        if reason:
            start_s = before_s
            if (
                self.doubtful
                and self.doubtful[-1].reason == reason
                and self.doubtful[-1].end_s == before_s
            ):
                start_s = self.doubtful.pop().start_s
            self.doubtful.append(Span(start_s, self.now_s, reason))
        while self.doubtful and self.doubtful[0].end_s < self.now_s - HISTORY_S:
            self.doubtful.popleft()

    def copy(self) -> Scene:
        """This moment, which later analyses leave as it is. The view stays shared."""
        return dataclasses.replace(
            self,
            scores={face: trace.copy() for face, trace in self.scores.items()},
            events=self.events.copy(),
            doubtful=self.doubtful.copy(),
        )


class Element(Protocol):
    """One thing that is drawn."""

    def draw(self, canvas: np.ndarray, scene: Scene) -> None: ...
