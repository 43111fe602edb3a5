"""The health of a source: does its picture move, is there light, do frames come often enough?"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from realtime_mer.results import GapReason

LEAST_FPS = 25
"""Micro-expressions last 1/25 to 1/2 s: a slower source has no frame of the shortest ones."""

# Chosen by judgement: webcam recordings hold single duplicates; apart from these, sensor noise
# makes every frame differ from the one before.
_FROZEN_S = 1.0
# Pictures are judged by the luminance of this many samples across the shorter side, 9 pixels apart
# at 1080p: motion that touches none of them is smaller than anything we look for.
_SAMPLES = 120
# Mean and spread of the luminance of a covered lens or an empty signal; black of limited-range
# video is 16. In these pairs the first value starts the condition and the second ends it, so that
# an alert does not flicker. The durations are chosen by judgement.
_BLACK_MEAN = (20, 28)
_BLACK_SPREAD = (4, 8)
_BLACK_S = (0.5, 0.2)
# A picture is too dark if its brightest 3 % do not reach this luminance, about 1/20 of the light of
# white: a face 100 px wide covers 4 % of 640 x 480. Cameras take a second or two to adapt to the
# light.
_DARK = (60, 72)
_BRIGHTEST = 0.03
_DARK_S = (2.0, 1.0)
# The rate is measured over the last seconds, and judged once that many have passed.
_RATE_WINDOW_S = 2.0
# Median over this many frame periods: a network that delivers frames in pairs halves and doubles
# single ones, and one hiccup must not count.
_RATE_SPAN = 10
_RATE_EVERY_S = 0.2
_MAX_FPS = 250
# After a silence of this long, and of so many periods, the rate is measured anew: the silence is no
# part of it. Chosen by judgement.
_HOLE_S, _HOLE_PERIODS = 1.0, 8
# Measured rates vary a little, and neither a source of 25 fps nor film (23.976) is slow. Chosen by
# judgement.
_SLOW_FPS = (LEAST_FPS - 1.6, LEAST_FPS - 1.2)
_SLOW_S = (0.5, 0.5)
# Relative error from which a declared rate is worth a note; chosen by judgement.
_WRONG_RATE = 0.2
_MAX_OUTAGES = 1000


@dataclass(frozen=True, slots=True)
class Outage:
    """The source showed nothing, or nothing new, from `start_s` to `end_s` of its own clock.

    Attributes:
        start_s: Time of the last good frame.
        end_s: Time of the next good one; if none came, of the end.
        reason: SOURCE_LOST, PICTURE_FROZEN or PAUSED; NO_FRAMES if the source was silent, but not
            yet lost, when it was closed.
    """

    start_s: float
    end_s: float
    reason: GapReason


class Outages:
    """Outages that have ended, until they are taken, and the ongoing one.

    The number kept is bounded: the oldest are forgotten. One thread may add while others take and
    close.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: deque[Outage] = deque(maxlen=_MAX_OUTAGES)
        self._ongoing: Outage | None = None
        self._closed = False

    def set_ongoing(self, outage: Outage | None) -> None:
        """Records the ongoing outage as it is so far; None if there is none."""
        with self._lock:
            self._ongoing = None if self._closed else outage

    def add(self, outage: Outage) -> None:
        """Records an outage that has ended, in place of the ongoing one."""
        with self._lock:
            if not self._closed:
                self._ended.append(outage)
            self._ongoing = None

    def end(self) -> None:
        """Ends the ongoing outage as it is so far."""
        with self._lock:
            self._end()

    def close(self, last: Outage | None = None) -> None:
        """Ends the ongoing outage with the session; nothing more is recorded.

        Args:
            last: The outage in which the source was, if it was in one.
        """
        with self._lock:
            self._end()
            if last is not None and not self._closed:
                self._ended.append(last)
            self._closed = True

    def take(self) -> tuple[Outage, ...]:
        """The outages that have ended since the last call."""
        with self._lock:
            taken = tuple(self._ended)
            self._ended.clear()
            return taken

    def _end(self) -> None:
        if self._ongoing is not None:
            self._ended.append(self._ongoing)
            self._ongoing = None


class _Condition:
    """Holds once it has been met for a while, and until it has been gone for a while."""

    def __init__(self, after_s: tuple[float, float]) -> None:
        self._after_s = after_s
        self._since_s: float | None = None
        self.holds = False

    def update(self, met: bool, gone: bool, time_s: float) -> bool:
        if not (gone if self.holds else met):
            self._since_s = None
            return self.holds
        if self._since_s is None:
            self._since_s = time_s
        if time_s - self._since_s >= self._after_s[self.holds]:
            self.holds = not self.holds
            self._since_s = None
        return self.holds


class _Stillness:
    """Notices that a source sends one picture over and over."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._first_s = self._last_s = 0.0

    def update(self, sample: np.ndarray, time_s: float) -> Outage | None:
        """Takes the next picture; returns the outage that it ends, if there was one."""
        ended = None
        if self._before is None or not np.array_equal(sample, self._before):
            ended = self.outage_until(time_s)
            self._first_s = time_s
        self._before, self._last_s = sample, time_s
        return ended

    @property
    def holds(self) -> bool:
        return self._last_s - self._first_s > _FROZEN_S

    @property
    def outage(self) -> Outage | None:
        """The ongoing outage up to the last picture, if there is one."""
        return self.outage_until(self._last_s)

    def outage_until(self, end_s: float) -> Outage | None:
        return Outage(self._first_s, end_s, GapReason.PICTURE_FROZEN) if self.holds else None


class _Light:
    """Notices black pictures and dark ones."""

    def __init__(self) -> None:
        self._black = _Condition(_BLACK_S)
        self._dark = _Condition(_DARK_S)

    def update(self, sample: np.ndarray, time_s: float) -> str | None:
        means, spreads = cv2.meanStdDev(sample)
        mean, spread = float(means[0, 0]), float(spreads[0, 0])
        black = self._black.update(
            mean < _BLACK_MEAN[0] and spread < _BLACK_SPREAD[0],
            mean > _BLACK_MEAN[1] or spread > _BLACK_SPREAD[1],
            time_s,
        )
        counts = cv2.calcHist([sample], [0], None, [256], [0, 256]).ravel()
        darker = (1 - _BRIGHTEST) * sample.size
        bright = int(np.searchsorted(np.cumsum(counts), darker))
        dark = self._dark.update(bright < _DARK[0] and not black, bright > _DARK[1], time_s)
        return "black picture" if black else "too dark" if dark else None


class _Rate:
    """Measures how often frames come, by their times."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=int(_MAX_FPS * _RATE_WINDOW_S))
        self._slow = _Condition(_SLOW_S)
        self._begun_s = self._measured_s = -math.inf
        self.fps = 0.0

    def update(self, time_s: float) -> None:
        times = self._times
        if times and self.fps * (time_s - times[-1]) > max(_HOLE_S * self.fps, _HOLE_PERIODS):
            times.clear()
        if not times:
            self._begun_s = time_s
        times.append(time_s)
        while times[-1] - times[0] > _RATE_WINDOW_S and len(times) > _RATE_SPAN + 1:
            times.popleft()
        if len(times) <= 2 * _RATE_SPAN or time_s - self._measured_s >= _RATE_EVERY_S:
            self._measured_s = time_s
            self.fps = self._measure()

    def _measure(self) -> float:
        times = np.array(self._times)
        span = min(_RATE_SPAN, len(times) - 1)
        if span < 1:
            return self.fps
        length_s = float(np.median(times[span:] - times[:-span]))
        return span / length_s if length_s > 0 else 0.0

    def is_known(self, time_s: float) -> bool:
        """Whether there are enough frames to judge the rate."""
        return time_s - self._begun_s >= _RATE_WINDOW_S and len(self._times) > _RATE_SPAN

    def is_slow(self, time_s: float) -> bool:
        return self._slow.update(self.fps < _SLOW_FPS[0], self.fps > _SLOW_FPS[1], time_s)


class SourceHealth:
    """Watches the frames of one source and says what is wrong with them.

    One thread feeds it; any thread may read `alerts`, `fps` and `is_frozen`.

    Args:
        name: The source as it may be shown.
        live: Pictures are judged too. Of a recording only the times are, since nobody can improve
            its pictures any more.
        note: Takes what the user should know, each kind of it once, a sentence each.
        outages: Where spells of a frozen picture are recorded, from the moment they are noticed.

    Attributes:
        alerts: What is wrong now, a few words each.
    """

    def __init__(
        self, name: str, live: bool, note: Callable[[str], None], outages: Outages
    ) -> None:
        self.alerts: tuple[str, ...] = ()
        self._name, self._live = name, live
        self._note = note
        self._outages = outages
        self._noted: set[str] = set()
        self._still, self._light, self._rate = _Stillness(), _Light(), _Rate()

    @property
    def fps(self) -> float:
        """Frames a second by their times, over the last 2 s; 0 before the second frame."""
        return self._rate.fps

    @property
    def is_frozen(self) -> bool:
        """Whether a live source has sent the same picture for more than a second."""
        return self._still.holds

    def update(self, image: np.ndarray, time_s: float, declared_fps: float) -> None:
        """Takes the next frame.

        Args:
            image: (height, width, 3) uint8, BGR.
            time_s: Its time in the source's clock.
            declared_fps: The rate that the source declares; 0 if it declares none.
        """
        alerts = self._judge_picture(image, time_s) if self._live else []
        self._rate.update(time_s)
        if self._rate.is_known(time_s):
            slow = self._rate.is_slow(time_s)
            if slow:
                alerts.append(f"{self._rate.fps:.0f} fps: below {LEAST_FPS}")
            self._note_rate(slow, declared_fps)
        self.alerts = tuple(alerts)

    def restart(self) -> None:
        """The source was lost: frames that may come later do not continue those so far."""
        self._outages.end()
        self._still, self._light, self._rate = _Stillness(), _Light(), _Rate()
        self.alerts = ()

    def end(self, declared_fps: float) -> None:
        """The source has ended: a recording that was too short to judge is judged now."""
        if not self._live and self._rate.fps:
            self._note_rate(self._rate.fps < _SLOW_FPS[0], declared_fps)
        self.restart()

    def _judge_picture(self, image: np.ndarray, time_s: float) -> list[str]:
        step = max(1, min(image.shape[:2]) // _SAMPLES)
        sample = cv2.cvtColor(np.ascontiguousarray(image[::step, ::step]), cv2.COLOR_BGR2GRAY)
        if outage := self._still.update(sample, time_s):
            self._outages.add(outage)
        self._outages.set_ongoing(self._still.outage)
        alerts = []
        light = self._light.update(sample, time_s)
        if light is not None:
            alerts.append(light)
            self._note_once(light, _LIGHT_NOTES[light])
        if self._still.holds:
            alerts.append(GapReason.PICTURE_FROZEN.value)
            self._note_once(
                "picture frozen",
                "{} sends the same picture over and over: if it goes on, restart the camera or its "
                "sender",
            )
        return alerts

    def _note_rate(self, slow: bool, declared_fps: float) -> None:
        fps = self._rate.fps
        wrong = declared_fps > 0 and abs(fps - declared_fps) > _WRONG_RATE * declared_fps
        declares = f" and declares {declared_fps:.4g}" if wrong else ""
        if slow:
            remedy = _FASTER if self._live else "record at 25 fps or more, better at 60"
            self._note_once(
                "rate",
                f"{{}} gives {fps:.3g} fps{declares}. Micro-expressions last 1/25 to 1/2 s: below "
                f"{LEAST_FPS} fps many are missed; {remedy}",
            )
        elif wrong and fps >= _SLOW_FPS[0]:
            self._note_once(
                "rate", f"{{}} gives {fps:.3g} fps{declares}: the measured rate is used"
            )

    def _note_once(self, kind: str, text: str) -> None:
        if kind not in self._noted:
            self._noted.add(kind)
            self._note(text.format(self._name))


_FASTER = (
    "give the face more light (in the dark cameras expose longer), ask the camera for MJPG or a "
    "smaller picture, and give it a USB port or network of its own"
)
_LIGHT_NOTES = {
    # In a very dark room a face may still be followed: the note has to fit that, too.
    "black picture": "{} shows hardly any light: open its cover or privacy switch, or put a light "
    "in front of the face",
    "too dark": "{} shows a dark picture: cameras then expose longer and add noise, and both hide "
    "short motion; put a light in front of the face",
}
