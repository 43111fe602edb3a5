"""What was found in a video, as spans of its own time: what all exports are made of."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from realtime_mer.archive.results_folder import VideoResult
from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown
from realtime_mer.redaction import printable
from realtime_mer.source.container import PLAYLIST, VideoContainer

# FFmpeg's names of formats whose clock begins anywhere; players count from the first track's
# beginning. The times of others count from the file's beginning, and a track may begin late.
_FREE_CLOCK = frozenset({"flv", "hls", "mpeg", "mpegts"})
# Characters of a label or a name that are shown. Chosen by judgement.
_LONGEST = 200
# No time of the log is finer.
_TICK_S = 0.001


@dataclass(frozen=True, slots=True)
class Span:
    """A span of the media's own time.

    Attributes:
        start_s, end_s: Seconds; `end_s` is at least 1 ms later.
        text: What it says: one line without control characters.
        record: The log's record that it comes from. Its times count from the first frame.
        apex_s: Of a micro-expression, when it was strongest.
        number: Of a micro-expression, its number in the video, from 1.
    """

    start_s: float
    end_s: float
    text: str
    record: Mapping[str, Any]
    apex_s: float | None = None
    number: int = 0


KINDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "micro_expression": lambda record: line(record["label"]),
    "macro_expression": lambda record: "macro-expression",
    "gap": lambda record: line(record["reason"]),
    "visibility": lambda record: line(", ".join(record["readable"]) or "nothing"),
}
"""The records that become spans, and what each says."""

TITLES = {
    "micro_expression": "micro-expression",
    "macro_expression": "macro-expression",
    "gap": "gap",
    "visibility": "readable",
}
"""What tiers call them."""


class Timeline:
    """The spans of a video.

    Args:
        video: Its results.
        media: The video file; if it is None or not there, times count from its first frame.

    Attributes:
        start_s: Media time of the first frame.
        end_s: Where the last frame or span ends, media time.

    Raises:
        InputError: The results cannot be read.
        LookupError, TypeError, ValueError: They are damaged.
    """

    def __init__(self, video: VideoResult, media: Path | None) -> None:
        self.start_s = 0.0 if media is None else first_frame_s(media)
        self._spans: dict[tuple[int, str], list[Span]] = {}
        number = 0
        end_s = 0.0
        for record in video.records():
            kind = record.get("type", "")
            if kind == "summary":
                end_s = max(end_s, record["duration_s"])
            if kind not in KINDS:
                continue
            number += kind == "micro_expression"
            span = self._span(record, number if kind == "micro_expression" else 0)
            self._spans.setdefault((int(record["face"]), kind), []).append(span)
        for spans in self._spans.values():
            spans.sort(key=lambda span: (span.start_s, span.end_s))
        last_s = max((spans[-1].end_s for spans in self._spans.values()), default=_TICK_S)
        self.end_s = max(self.start_s + end_s, last_s)

    def _span(self, record: Mapping[str, Any], number: int) -> Span:
        kind = str(record["type"])
        start, end = ("onset_s", "offset_s") if "onset_s" in record else ("start_s", "end_s")
        start_s, end_s = self._media_s(record[start]), self._media_s(record[end])
        return Span(
            start_s,
            max(end_s, round(start_s + _TICK_S, 3)),
            KINDS[kind](record),
            record,
            self._media_s(record["apex_s"]) if number else None,
            number,
        )

    def _media_s(self, time_s: float) -> float:
        if not math.isfinite(time_s):
            raise ValueError(f"a time of {time_s}")
        return round(max(0.0, self.start_s + time_s), 3)

    @property
    def faces(self) -> list[int]:
        """The faces that the log names."""
        return sorted({face for face, _ in self._spans})

    def all_spans(self) -> list[Span]:
        """All spans, by their start."""
        spans = [span for found in self._spans.values() for span in found]
        return sorted(spans, key=lambda span: (span.start_s, span.end_s, span.record["face"]))

    def tiers(self) -> list[tuple[str, int, str, list[Span]]]:
        """Name, face, kind and spans of each tier: one a face and kind that has any.

        A face without micro-expressions has a tier for them all the same, and so has a video
        without faces. In a tier no two spans overlap: where some would, there is another one.
        """
        found = []
        for face in self.faces or [0]:
            for kind, title in TITLES.items():
                lanes = _lanes(self._spans.get((face, kind), []))
                if kind == "micro_expression":
                    lanes = lanes or [[]]
                for number, lane in enumerate(lanes, 1):
                    more = f" ({number})" if number > 1 else ""
                    found.append((f"{title} face {face}{more}", face, kind, lane))
        return found


def _lanes(spans: Iterable[Span]) -> list[list[Span]]:
    """Spans, by their start, as lists in which no two overlap."""
    lanes: list[list[Span]] = []
    for span in spans:
        lane = next((lane for lane in lanes if lane[-1].end_s <= span.start_s), None)
        if lane is None:
            lanes.append([span])
        else:
            lane.append(span)
    return lanes


def line(text: object) -> str:
    """A text on one line, without what a program would execute or a reader not see."""
    return printable(str(text), _LONGEST)


def details(event: Mapping[str, Any]) -> str:
    """What is known of an event besides its label, for people."""
    parts = [f"confidence {event['confidence']:.2f}"]
    if event.get("spotting_score") is not None:
        parts.append(f"spotting score {event['spotting_score']:.2f}")
    parts.append(f"{event['intensity_px']:.1f} px")
    parts += [
        f"{region['name']} {region['displacement_px']:.2f} px at {region['direction_deg']} deg"
        for region in event.get("regions", ())
    ]
    return printable(", ".join(parts))


def first_frame_s(media: Path) -> float:
    """When a player shows the first frame of a file: seconds of the media's own time.

    The log's times count from that frame. A player's begin where the sound begins, if that is
    earlier, or at 0 of a file whose pictures begin late. 0 if there is no such file.
    """
    if not os.path.isfile(media):
        return 0.0
    try:
        with media.open("rb", buffering=0) as file:
            container = VideoContainer(file, shown(media), options=PLAYLIST, threads=False)
            try:
                picture = container.read()
                is_free = container.format_name in _FREE_CLOCK
                zero_s = container.start_s if is_free else 0.0
                if picture is None or picture.position_s is None or container.is_bare:
                    return 0.0
                return round(max(0.0, picture.position_s - zero_s), 3)
            finally:
                container.close()
    except (InputError, av.FFmpegError, OSError):
        return 0.0


def need(package: str, module: str) -> Any:  # noqa: ANN401
    """Loads a package that only some exports need.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            f"this export needs {package}: pip install realtime-mer[archive]"
        ) from None
