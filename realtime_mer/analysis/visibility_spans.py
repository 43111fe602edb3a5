"""For how long the same parts of a face could be read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from realtime_mer.results import PARTS, READABLE_PX, FaceState, VisibilitySpan

# A part that can be read, or no more, for a shorter time makes no new span. Chosen by judgement:
# twice the longest micro-expression.
_LEAST_S = 1.0
# A span ends after this time at the latest, so that the log of a live source is current. Chosen by
# judgement.
_MOST_S = 60.0
# How often the limits are taken for their median. They change no faster: they follow the motion of
# the last half second.
_SAMPLE_S = 0.1


class VisibilitySpans:
    """Divides the time of each face into spans during which the same parts can be read."""

    def __init__(self) -> None:
        self._open: dict[int, _OpenSpan] = {}

    def update(
        self, time_s: float, faces: Iterable[FaceState], bridge_s: float
    ) -> tuple[VisibilitySpan, ...]:
        """Takes what the next frame says about each of its faces.

        Args:
            time_s: Time of the frame.
            faces: The faces in it.
            bridge_s: How long a face may be away without a gap.

        Returns:
            The spans that have ended.
        """
        ended: list[VisibilitySpan] = []
        for face in faces:
            span = self._open.get(face.face)
            if span is not None and (face.limits is None or time_s - span.last_s > bridge_s):
                ended += self._end(face.face)
                span = None
            if face.limits is None:
                continue
            if span is None:
                self._open[face.face] = _OpenSpan(face.face, time_s, face.limits)
            elif (over := span.add(time_s, face.limits)) is not None:
                ended.append(over)
        for identity, span in list(self._open.items()):
            if time_s - span.last_s > bridge_s:
                ended += self._end(identity)
        return tuple(ended)

    def finish(self) -> tuple[VisibilitySpan, ...]:
        """The spans that are open at the end."""
        return tuple(span for identity in list(self._open) for span in self._end(identity))

    def _end(self, identity: int) -> list[VisibilitySpan]:
        span = self._open.pop(identity).until_now()
        return [span] if span.length_s > 0 else []


class _OpenSpan:
    """The span of one face that is under way."""

    def __init__(self, face: int, time_s: float, limits: tuple[float, float, float]) -> None:
        self._face = face
        self._start_s = self.last_s = time_s
        # Times, and limits (3,) in px; of a minute at most.
        self._samples = [(time_s, limits)]
        self._readable = _readable(limits)
        # For each part, since when it has not been as in `_readable`.
        self._changed_s: list[float | None] = [None] * len(PARTS)

    def add(self, time_s: float, limits: tuple[float, float, float]) -> VisibilitySpan | None:
        """Takes the next limits; returns the span that has ended, if one has."""
        self.last_s = time_s
        if time_s - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((time_s, limits))
        for part, readable in enumerate(_readable(limits)):
            if readable == self._readable[part]:
                self._changed_s[part] = None
            elif self._changed_s[part] is None:
                self._changed_s[part] = time_s
        for part, since_s in enumerate(self._changed_s):
            if since_s is not None and time_s - since_s >= _LEAST_S:
                self._readable[part], self._changed_s[part] = not self._readable[part], None
                # Parts that change one soon after the other, or just after the start, make no span.
                if since_s - self._start_s >= _LEAST_S:
                    return self._cut(since_s)
        return self._cut(time_s) if time_s - self._start_s >= _MOST_S else None

    def until_now(self) -> VisibilitySpan:
        """The span up to the last limits."""
        return self._until(self.last_s)

    def _cut(self, at_s: float) -> VisibilitySpan:
        """Ends the span at a time, and begins the next one there."""
        span = self._until(at_s)
        self._start_s = at_s
        later = [(time_s, limits) for time_s, limits in self._samples if time_s >= at_s]
        self._samples = later or self._samples[-1:]
        return span

    def _until(self, end_s: float) -> VisibilitySpan:
        samples = [s for s in self._samples if s[0] < end_s] or self._samples[:1]
        # As the log tells it, so that what is readable there is so everywhere.
        upper, middle, lower = np.median([s[1] for s in samples], axis=0).round(2).tolist()
        times = [self._start_s, *(time_s for time_s, _ in samples[1:]), end_s]
        readable = np.array([_readable(limits) for _, limits in samples])
        lengths = np.diff(times)
        by_upper, by_middle, by_lower = (lengths @ readable).tolist()
        any_s = float(lengths @ readable.any(1))
        return VisibilitySpan(
            self._face,
            self._start_s,
            end_s,
            (upper, middle, lower),
            (by_upper, by_middle, by_lower),
            any_s,
        )


def _readable(limits: tuple[float, float, float]) -> list[bool]:
    return [limit <= READABLE_PX for limit in limits]
