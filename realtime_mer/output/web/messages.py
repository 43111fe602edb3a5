"""What the page and the API say: each message as a function of what it tells, and nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from realtime_mer.output.overlay.events import arrows
from realtime_mer.output.senders.values import MOTIONS, blink_of, pose_deg_of
from realtime_mer.records import number, plain
from realtime_mer.results import (
    Analysis,
    Baseline,
    EventPicture,
    FaceState,
    Gap,
    MacroExpression,
    Mark,
    MicroExpression,
    StatusChange,
    VisibilitySpan,
    readable_parts,
)

VERSION = 1
"""Of the messages. It rises when one loses a field or a field changes its meaning."""

# Of thumbnails: 3 to 8 kB a face.
_JPEG_QUALITY = 80

Message = dict[str, Any]
Result = StatusChange | Gap | VisibilitySpan | Baseline | MicroExpression | Mark | MacroExpression


def text_of(message: Mapping[str, Any]) -> str:
    """A message as it is sent, on one line."""
    return json.dumps(plain(message), allow_nan=False)


def hello_message(
    run: str,
    session: Mapping[str, Any],
    audience: str,
    *,
    names: Sequence[str] = (),
    may_control: bool,
) -> Message:
    """The first message to each viewer, but for `last`, which each has its own of.

    Args:
        run: Tells this session from others at the same address.
        session: Its record.
        audience: A sentence that says who can see the page.
        names: Short names of several sources, in their order.
        may_control: Whether viewers may change the sensitivity and make marks.
    """
    return {
        "type": "hello",
        "version": VERSION,
        "run": run,
        "session": session,
        "audience": audience,
        "names": list(names),
        "may_control": may_control,
    }


def with_last(text: str, last: int) -> str:
    """The text of a `hello_message` with the number of the newest record.

    Args:
        text: Its JSON.
        last: Records up to this number are past; those with higher ones happen from now on.
    """
    return _with(text, "last", last)


def lost_record(records: int) -> Message:
    """The record, in place of others, that says how many of them are missing."""
    return {"type": "lost", "records": records}


def results_of(analysis: Analysis) -> Iterator[Result]:
    """What an analysis tells once, in the log's order; macro-expressions come last."""
    yield from analysis.statuses
    yield from analysis.gaps
    yield from analysis.visibility
    yield from analysis.baselines
    yield from analysis.events
    yield from analysis.marks
    yield from analysis.macros


def record_text(n: int, record: str) -> str:
    """The message of a record of the log, as it is sent.

    Args:
        n: Its number, from 1.
        record: The record's JSON.
    """
    return f'{{"type": "record", "n": {n}, "record": {record}}}'


def status_message(newest: Sequence[Analysis], events: int, age_s: float) -> Message:
    """The message about the present that each viewer gets twice a second.

    Args:
        newest: The newest analysis of each source, in their order. Of several, alerts and dropped
            frames are those of all, the rest is that of the first one that gives frames.
        events: Number of events so far.
        age_s: Seconds since the newest of these.
    """
    # A source that is away, or has ended before the others, has no rate.
    first = next((analysis for analysis in newest if analysis.fps > 0), newest[0])
    return {
        "type": "status",
        "time_s": first.frame.time_s,
        "camera": first.camera,
        "frame": first.frame.index,
        "fps": first.fps,
        "latency_ms": None if first.is_away else 1000 * first.latency_s,
        "dropped": sum(analysis.dropped for analysis in newest),
        "source_fps": first.source_fps,
        "sensitivity": first.sensitivity,
        "alerts": [
            f"{analysis.source}: {alert}" if len(newest) > 1 else alert
            for analysis in newest
            for alert in analysis.alerts
        ],
        "is_away": all(analysis.is_away for analysis in newest),
        "faces": [
            {
                "face": face.face,
                "quality": float(face.quality),
                "score": float(face.score),
                "nuisances": face.nuisances,
                "limits": face.limits,
                "readable": None if face.limits is None else readable_parts(face.limits),
            }
            for face in first.faces
        ],
        "events": events,
        "age_s": age_s,
    }


def values_message(analysis: Analysis) -> Message:
    """What a page draws curves and faces from."""
    return {
        "type": "values",
        "time_s": number(analysis.frame.time_s, 3),
        "camera": analysis.camera,
        "faces": [_face_values(face) for face in analysis.faces],
    }


def frame_message(analysis: Analysis) -> Message:
    """The line of a frame, but for `dropped`, which each receiver has its own of."""
    return {
        "type": "frame",
        "frame": analysis.frame.index,
        "time_s": number(analysis.frame.time_s, 4),
        "camera": analysis.camera,
        "captured_monotonic_s": number(analysis.frame.captured_at, 4),
        "latency_ms": number(1000 * analysis.latency_s, 2),
        "faces": [
            _face_values(face)
            | {"nuisances": list(face.nuisances), "box": _box(face), "pose_deg": _pose(face)}
            for face in analysis.faces
        ],
    }


def with_dropped(text: str, dropped: int) -> str:
    """The text of a `frame_message` with the analysed frames since the line before.

    Args:
        text: Its JSON.
        dropped: Of so many, the receiver got no line.
    """
    return _with(text, "dropped", dropped)


def _with(text: str, name: str, value: int) -> str:
    return f'{text[:-1]}, "{name}": {value}}}'


def _face_values(face: FaceState) -> Message:
    values: Message = {
        "face": int(face.face),
        "score": number(face.score, 3),
        "threshold": 1.0,
        "quality": number(face.quality, 3),
        "limits": None if face.limits is None else [number(limit, 2) for limit in face.limits],
        "readable": None if face.limits is None else list(readable_parts(face.limits)),
    }
    if (blink := blink_of(face)) is not None:
        values["blink"] = number(blink, 2)
    if face.motion is not None:
        values["regions"] = {
            name: [number(x, 2), number(y, 2)]
            for name, (x, y) in zip(MOTIONS, face.motion.tolist(), strict=True)
        }
    return values


def _box(face: FaceState) -> list[float | None]:
    points = face.landmarks[:, :2]
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return [number(value, 1) for value in (left, top, right - left, bottom - top)]


def _pose(face: FaceState) -> list[float | None] | None:
    pose = pose_deg_of(face)
    return None if pose is None else [number(angle, 1) for angle in pose]


def thumbnail_message(n: int, picture: EventPicture) -> Message:
    """The face of a micro-expression at its onset and apex, after its record.

    Args:
        n: The record's number.
        picture: What it looked like.
    """
    return {
        "type": "thumbnail",
        "n": n,
        "onset": _base64_jpeg(picture.onset),
        "apex": _base64_jpeg(picture.apex),
        "arrows": [
            [round(value, 1) for value in (*start, *(end - start))]
            for start, end in arrows(picture.flow)
        ],
    }


def _base64_jpeg(grey: np.ndarray) -> str:
    jpeg = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return base64.b64encode(jpeg.tobytes()).decode("ascii")


def controlled_message(text: str) -> Message:
    """What a viewer's command has changed, for all viewers."""
    return {"type": "controlled", "text": text}


def end_message(summary: Mapping[str, Any]) -> Message:
    """The last message."""
    return {"type": "end", "summary": summary}
