"""Clips of events: the registered face in colour around each micro-expression, for people."""

from __future__ import annotations

import contextlib
import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np

from realtime_mer.archive.results_folder import VideoResult
from realtime_mer.face.registration import FACE_SIZE, crop
from realtime_mer.output.video_encoder import VideoEncoder
from realtime_mer.records import plain, seconds
from realtime_mer.results import (
    Analysis,
    EventPicture,
    FaceState,
    MicroExpression,
    Session,
    Summary,
)

AROUND_S = 0.5
"""Time before the onset and after the offset that a clip shows."""

# An event begins 1.5 s at most before it is reported (`analysis.face_chain`); with the time before
# it, the time that is waited for after it, and as much again to be safe.
_KEPT_S = 3.0
# Pictures of all faces in memory. Chosen by judgement: 16 faces are kept at 35 a second, and a
# single one as fast as the chain remembers it.
_MOST_BYTES = 256_000_000
_MOST_FPS = 200.0
_PICTURE_BYTES = FACE_SIZE * FACE_SIZE * 3
# Times jitter: pictures this part of the period apart are both kept.
_LEAST_PERIODS = 0.9
# Arrows in a row and in a column. The face fills an ellipse of the canonical face: its middle and
# half axes, pixels.
_ARROWS = 8
_MIDDLE, _HALF = np.array([124.0, 120.0]), np.array([88.0, 112.0])
# A thumbnail is replaced by one of a face that can be read better by this much.
_BETTER = 0.02
_JPEG_QUALITY = 90


@dataclass(slots=True)
class _Seen:
    """The last seconds of a face: times and pictures (224, 224, 3)."""

    frames: deque[tuple[float, np.ndarray]] = field(default_factory=deque)

    @property
    def last_s(self) -> float:
        return self.frames[-1][0] if self.frames else -math.inf


class EventClips:
    """A sink that writes the clips of an input's events, and a thumbnail of each face.

    Memory is bounded: it keeps the last seconds of the faces that are seen now.

    Args:
        video: Where they go.
        faces: How many faces are followed at most.
        failed: Called with the reason if a clip or a thumbnail cannot be written, and the next one
            is tried; None to raise the reason.
    """

    def __init__(
        self,
        video: VideoResult,
        faces: int,
        failed: Callable[[OSError], None] | None = None,
    ) -> None:
        self._video, self._failed = video, failed
        fps = min(_MOST_FPS, _MOST_BYTES / (_KEPT_S * _PICTURE_BYTES * faces))
        self._apart_s = _LEAST_PERIODS / fps
        self._seen: dict[int, _Seen] = {}
        # Events whose end is not reached yet, with their numbers.
        self._pending: list[tuple[int, MicroExpression]] = []
        self._events = 0
        # The quality of each face's thumbnail.
        self._quality: dict[int, float] = {}

    def begin(self, session: Session) -> None:
        for name in ("events", "faces"):
            (self._video.folder / name).mkdir(parents=True, exist_ok=True)

    def update(self, analysis: Analysis) -> None:
        now_s = analysis.frame.time_s
        for event in analysis.events:
            self._events += 1
            self._pending.append((self._events, event))
        pending, self._pending = self._pending, []
        for number, event in pending:
            if event.interval.offset_s + AROUND_S < now_s:
                self._write(number, event)
            else:
                self._pending.append((number, event))
        # Not before: after a jump of the time a new picture makes old ones go.
        for state in analysis.faces:
            self._add(now_s, analysis.frame.image, state)
        for face, seen in list(self._seen.items()):
            if now_s - seen.last_s > _KEPT_S:
                del self._seen[face]

    def end(self, summary: Summary) -> None:
        for number, event in self._pending:
            self._write(number, event)
        self._pending.clear()
        self._seen.clear()

    def _add(self, time_s: float, image: np.ndarray, state: FaceState) -> None:
        seen = self._seen.setdefault(state.face, _Seen())
        # At the end of a source its last frame comes again.
        if state.matrix is None or time_s - seen.last_s < self._apart_s:
            return
        picture = crop(image, state.matrix, colour=True)
        seen.frames.append((time_s, picture))
        while time_s - seen.frames[0][0] > _KEPT_S:
            seen.frames.popleft()
        if state.quality > self._quality.get(state.face, -math.inf) + _BETTER:
            self._quality[state.face] = state.quality
            self._write_thumbnail(state.face, picture)

    def _write_thumbnail(self, face: int, picture: np.ndarray) -> None:
        options = (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)
        path = self._video.folder / "faces" / f"{face}.jpg"
        part = path.with_suffix(".part")
        try:
            part.write_bytes(cv2.imencode(".jpg", picture, options)[1].tobytes())
            part.replace(path)
        except OSError as error:
            self._give_up(part, error)

    def _write(self, number: int, event: MicroExpression) -> None:
        """Writes the clip of an event, if its pictures are known."""
        start_s = event.interval.onset_s - AROUND_S
        end_s = event.interval.offset_s + AROUND_S
        seen = self._seen.get(event.face, _Seen())
        frames = [frame for frame in seen.frames if start_s <= frame[0] <= end_s]
        if len(frames) < 2:
            return
        path = self._video.clip_path(number)
        part = path.with_suffix(".part")
        try:
            times = _write_video(part, frames)
            self._write_info(path.with_suffix(".json"), event, times)
            # Whoever is killed leaves whole clips.
            part.replace(path)
        except av.FFmpegError:
            # A clip is for people to look at: the results hold without it. A full disk is an
            # OSError, too.
            part.unlink(missing_ok=True)
        except OSError as error:
            self._give_up(part, error)

    def _give_up(self, part: Path, error: OSError) -> None:
        with contextlib.suppress(OSError):
            part.unlink()
        if self._failed is None:
            raise error
        self._failed(error)

    @staticmethod
    def _write_info(path: Path, event: MicroExpression, times: list[float]) -> None:
        record = event.to_dict()
        info = {
            "start_s": times[0],
            "times_s": times,
            **{name: record[name] for name in ("onset_s", "apex_s", "offset_s")},
            "arrows": [] if event.picture is None else arrows(event.picture),
        }
        text = json.dumps(plain(info), allow_nan=False)
        path.write_text(text + "\n", encoding="ascii")


def arrows(picture: EventPicture) -> list[list[float]]:
    """How parts of the face moved from onset to apex: [x, y, dx, dy] in canonical pixels, 64 at
    most, from left to right and from top to bottom."""
    means = cv2.resize(picture.flow, (_ARROWS, _ARROWS), interpolation=cv2.INTER_AREA)
    side = FACE_SIZE / _ARROWS
    found = []
    for row, column in np.ndindex(_ARROWS, _ARROWS):
        place = np.array([(column + 0.5) * side, (row + 0.5) * side])
        inside = (place - _MIDDLE) / _HALF
        if inside @ inside <= 1 and np.isfinite(means[row, column]).all():
            found.append([*place.tolist(), *means[row, column].astype(float).round(3).tolist()])
    return found


def _write_video(path: Path, frames: list[tuple[float, np.ndarray]]) -> list[float]:
    """Writes pictures with their times, the first one at 0; returns the times, as they were."""
    times = [time_s for time_s, _ in frames]
    period_s = float(np.median(np.diff(times)))
    encoder = VideoEncoder(path, "mp4", (FACE_SIZE, FACE_SIZE), 1 / period_s)
    try:
        for time_s, picture in frames:
            encoder.write(picture, time_s - times[0])
        encoder.finish(times[-1] - times[0] + period_s)
    except av.FFmpegError as error:
        # FFmpeg hides why the disk refused.
        raise (encoder.file.error or error) from None
    finally:
        encoder.abandon()
    return [seconds(time_s) or 0.0 for time_s in times]
