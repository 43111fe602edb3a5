"""The scene: everything that the elements draw."""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from realtime_mer.output.clock import clock
from realtime_mer.output.label_colours import place_of
from realtime_mer.output.overlay.layout import Layout
from realtime_mer.output.overlay.paint import DIM, LABEL_COLOURS, TEXT_PERIOD_S, Colour
from realtime_mer.results import (
    READABLE_PX,
    Analysis,
    Baseline,
    FaceState,
    Mark,
    MicroExpression,
    Session,
)

# Times without another source were chosen by eye.

# Seconds that the score's curve shows, and the strip of events below it.
CURVE_S = 6.0
HISTORY_S = 60.0
# A new event is marked on the face and on its card for this long.
FRESH_S = 1.5
# A window that ended longer ago than this is over.
_UNDER_WAY_S = 0.2
# A longer time between two frames counts as time without a face.
_STALL_S = 0.5
_EVENTS_KEPT = 64
_MARKS_KEPT = 64
# Limits for a source whose clock stands still.
_SCORES_KEPT = 2048
_SPANS_KEPT = 512

NO_FACE, HARD = "no face", "hard to read"

Readable = tuple[bool, bool, bool]
"""Whether each of `PARTS` can be read."""


@dataclass(slots=True)
class View:
    """The viewer's choices. May be changed at any time.

    Attributes:
        details: True for everything; False for the video alone, with marks on the face and alerts.
        mirrored: Whether the video is shown as in a mirror.
    """

    details: bool = True
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which all was the same for the main face.

    Attributes:
        start_s, end_s: Seconds of the source's clock.
        reason: Why nothing could be reported (`NO_FACE`), or only with doubt (`HARD`); else "".
            Never `HARD` if `readable` tells more.
        readable: The parts of the face that could be read; None if that is not known.
    """

    start_s: float
    end_s: float
    reason: str
    readable: Readable | None = None


@dataclass(slots=True)
class Scene:
    """Everything that the elements draw. Its memory is bounded by time and count.

    Attributes:
        session: The session's facts.
        layout: The places of the elements.
        analysis: The newest one.
        view: The viewer's choices.
        scores: (time, score) over the last `CURVE_S`, for each face seen in it.
        events: The last events, oldest first.
        event_count: Number of all events so far.
        marks: The last moments that were marked, oldest first.
        baseline: The last one that ended.
        spans: What is known to have been seen of the main face within the last `HISTORY_S`, or
            not, oldest first.
        glasses: Which parts of each face in the picture can be read, at the pace of reading, and
            since when; only of faces of which it is known.
    """

    session: Session
    layout: Layout
    analysis: Analysis
    view: View = field(default_factory=View)
    scores: dict[int, deque[tuple[float, float]]] = field(default_factory=dict)
    events: deque[MicroExpression] = field(default_factory=lambda: deque(maxlen=_EVENTS_KEPT))
    event_count: int = 0
    marks: deque[Mark] = field(default_factory=lambda: deque(maxlen=_MARKS_KEPT))
    baseline: Baseline | None = None
    spans: deque[Span] = field(default_factory=lambda: deque(maxlen=_SPANS_KEPT))
    glasses: dict[int, tuple[Readable, float]] = field(default_factory=dict)

    @property
    def now_s(self) -> float:
        return self.analysis.frame.time_s

    @property
    def main_face(self) -> FaceState | None:
        """The face that the panel is about: the one known longest."""
        return min(self.analysis.faces, key=lambda f: f.face, default=None)

    def colour(self, label: str) -> Colour:
        """The colour of a label; grey if it is none of the classifier's, such as "uncertain"."""
        place = place_of(label, self.session.labels)
        return DIM if place is None else LABEL_COLOURS[place % len(LABEL_COLOURS)]

    def is_fresh(self, event: MicroExpression) -> bool:
        return self.now_s - event.reported_s < FRESH_S

    @property
    def news(self) -> str | None:
        """What has just been marked, or the good baseline that has just ended; None if nothing."""
        mark, baseline = self.marks[-1] if self.marks else None, self.baseline
        if mark is not None and self.now_s - mark.time_s < FRESH_S:
            return f"marked {clock(mark.time_s, 1)}" + (f": {mark.text}" if mark.text else "")
        if baseline and baseline.is_good and self.now_s - baseline.end_s < FRESH_S:
            return f"good baseline of face {baseline.face}"
        return None

    def fresh_event(self, face: int) -> MicroExpression | None:
        """The newest event of a face if it is fresh, else None."""
        own = (e for e in reversed(self.events) if e.face == face and self.is_fresh(e))
        return next(own, None)

    def readable(self, face: FaceState) -> Readable | None:
        """Which of `PARTS` can be read in a face of the picture; None if that is not known."""
        known = self.glasses.get(face.face)
        return None if known is None else known[0]

    def is_hard_to_read(self, face: FaceState) -> bool:
        """Whether no part of a face can be read; if that is not known, whether something hinders.

        What hinders is a blink, speech or a turning head.
        """
        readable = self.readable(face)
        return bool(face.nuisances) if readable is None else not any(readable)

    def is_under_way(self, face: FaceState) -> bool:
        return face.window is not None and face.window.offset_s >= self.now_s - _UNDER_WAY_S

    def points(self, face: FaceState) -> np.ndarray | None:
        """Landmarks (478, 2) in pixels of the video's box; None if some are not finite."""
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
            trace = self.scores.setdefault(face.face, deque(maxlen=_SCORES_KEPT))
            trace.append((self.now_s, float(face.score)))
        for identity, trace in list(self.scores.items()):
            while trace and trace[0][0] < self.now_s - CURVE_S:
                trace.popleft()
            if not trace:
                del self.scores[identity]
        self.events.extend(analysis.events)
        self.event_count += len(analysis.events)
        self.marks.extend(analysis.marks)
        self.baseline = (self.baseline, *analysis.baselines)[-1]
        self._fill_glasses()
        self._add_span(before_s)

    def _fill_glasses(self) -> None:
        before, self.glasses = self.glasses, {}
        for face in self.analysis.faces:
            if face.limits is None:
                continue
            old = before.get(face.face)
            # What flickers cannot be read.
            if old is not None and 0 <= self.now_s - old[1] < TEXT_PERIOD_S:
                self.glasses[face.face] = old
                continue
            upper, middle, lower = (limit <= READABLE_PX for limit in face.limits)
            self.glasses[face.face] = (upper, middle, lower), self.now_s

    def _add_span(self, before_s: float) -> None:
        main, readable = self.main_face, None
        if main is None or self.now_s - before_s > _STALL_S:
            reason = NO_FACE
        else:
            readable = self.readable(main)
            reason = HARD if readable is None and main.nuisances else ""
        if reason or readable is not None:
            start_s = before_s
            if self.spans:
                last = self.spans[-1]
                if (last.reason, last.readable, last.end_s) == (reason, readable, before_s):
                    start_s = self.spans.pop().start_s
            self.spans.append(Span(start_s, self.now_s, reason, readable))
        while self.spans and self.spans[0].end_s < self.now_s - HISTORY_S:
            self.spans.popleft()

    def copy(self) -> Scene:
        """A copy that later analyses do not change. It shares the view."""
        return dataclasses.replace(
            self,
            scores={face: trace.copy() for face, trace in self.scores.items()},
            events=self.events.copy(),
            marks=self.marks.copy(),
            spans=self.spans.copy(),
        )


class Element(Protocol):
    """One part of the picture."""

    def draw(self, canvas: np.ndarray, scene: Scene) -> None: ...
