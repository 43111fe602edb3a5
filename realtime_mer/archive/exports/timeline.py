"""What was found in a video, as spans of its own time: what all exports are made of."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from realtime_mer.archive.results_folder import VideoResult
from realtime_mer.archive.reviews.agreement import DISPUTED
from realtime_mer.archive.reviews.verdicts import Verdict
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
        apex_s: Of a micro-expression, when it was strongest; None if that is not known.
        number: Of a micro-expression, its number in the video, from 1; 0 if reviewers added it.
        verdict: Of a micro-expression, what reviewers say about it; None if nobody does.
        by: Of a span that reviewers made, their name; "" for all of them together.
    """

    start_s: float
    end_s: float
    text: str
    record: Mapping[str, Any]
    apex_s: float | None = None
    number: int = 0
    verdict: Verdict | None = None
    by: str = ""

    @property
    def is_event(self) -> bool:
        """Whether it is a micro-expression."""
        return self.record["type"] == "micro_expression"


KINDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "micro_expression": lambda record: line(record["label"]),
    "macro_expression": lambda record: "macro-expression",
    "gap": lambda record: line(record["reason"]),
    "visibility": lambda record: line(", ".join(record["readable"]) or "nothing"),
}
"""The records of the log that become spans, and what each says."""


def _said(record: Mapping[str, Any]) -> str:
    return line(record["text"])


TITLES = {
    "micro_expression": "micro-expression",
    "macro_expression": "macro-expression",
    "gap": "gap",
    "visibility": "readable",
    "reviewed": "reviewed",
}
"""What tiers call them."""

OWN = "review"
"""The kind of the spans of one reviewer."""


class Timeline:
    """The spans of a video.

    Args:
        video: Its results.
        media: The video file; if it is None or not there, times count from its first frame.
        verdicts: What reviewers say about its events.
        agreed: Whether micro-expressions are those that reviewers agreed on, with their times and
            labels, and those that they added, in place of all that were reported.

    Attributes:
        start_s: Media time of the first frame.
        end_s: Where the last frame or span ends, media time.

    Raises:
        InputError: The results cannot be read.
        LookupError, TypeError, ValueError: They are damaged.
    """

    def __init__(
        self,
        video: VideoResult,
        media: Path | None,
        verdicts: Sequence[Verdict] = (),
        agreed: bool = False,
    ) -> None:
        self.start_s = 0.0 if media is None else first_frame_s(media)
        self._spans: dict[tuple[int, str, str], list[Span]] = {}
        # What reviewers add has no number.
        reported = {verdict.host.number: verdict for verdict in verdicts if not verdict.added}
        number = 0
        end_s = 0.0
        for record in video.records():
            kind = record.get("type", "")
            if kind == "summary":
                end_s = max(end_s, record["duration_s"])
            if kind not in KINDS:
                continue
            if kind == "micro_expression":
                number += 1
                span = self._event(record, number, reported.get(number), agreed)
            else:
                span = self._span(record)
            if span is not None:
                self._add(span)
        for verdict in verdicts:
            if agreed and verdict.added and verdict.said.verdict == "true":
                self._add(self._missed(verdict))
            for span in self._reviewed(verdict):
                self._add(span)
        for spans in self._spans.values():
            spans.sort(key=lambda span: (span.start_s, span.end_s))
        last_s = max((spans[-1].end_s for spans in self._spans.values()), default=_TICK_S)
        self.end_s = max(self.start_s + end_s, last_s)

    def _add(self, span: Span) -> None:
        kind, face = str(span.record["type"]), int(span.record["face"])
        self._spans.setdefault((face, kind, span.by), []).append(span)

    def _span(self, record: Mapping[str, Any], **more: Any) -> Span:  # noqa: ANN401
        start, end = ("onset_s", "offset_s") if "onset_s" in record else ("start_s", "end_s")
        start_s, end_s = self._media_s(record[start]), self._media_s(record[end])
        end_s = max(end_s, round(start_s + _TICK_S, 3))
        said = KINDS.get(str(record["type"]), _said)
        return Span(start_s, end_s, said(record), record, **more)

    def _event(
        self, record: Mapping[str, Any], number: int, verdict: Verdict | None, agreed: bool
    ) -> Span | None:
        """A reported micro-expression; None if only others are asked for."""
        apex_s = record["apex_s"]
        if agreed:
            if verdict is None or verdict.said.verdict != "true":
                return None
            onset_s, offset_s = verdict.times
            apex_s = min(max(apex_s, onset_s), offset_s)
            times = {"onset_s": onset_s, "apex_s": apex_s, "offset_s": offset_s}
            record = {**record, **times, "label": agreed_label(verdict)}
        apex_s = self._media_s(apex_s)
        return self._span(record, apex_s=apex_s, number=number, verdict=verdict)

    def _missed(self, verdict: Verdict) -> Span:
        """A micro-expression that reviewers added, as if it had been reported."""
        onset_s, offset_s = verdict.times
        record = {"type": "micro_expression", "face": verdict.host.face}
        record |= {"onset_s": onset_s, "offset_s": offset_s, "label": agreed_label(verdict)}
        return self._span(record, verdict=verdict)

    def _reviewed(self, verdict: Verdict) -> Iterator[Span]:
        """What reviewers decided together, and each of them."""
        if not verdict.reviewers:
            return
        number = verdict.host.number if not verdict.added else 0
        said = [("reviewed", "", verdict.times, verdict.text)]
        for name in verdict.reviewers:
            word = verdict.words[name]
            times = (word.onset_s, word.offset_s)
            said.append((OWN, name, times, verdict.text_of(name)))
        for kind, name, (onset_s, offset_s), text in said:
            record = {"type": kind, "face": verdict.host.face, "text": text}
            record |= {"onset_s": onset_s, "offset_s": offset_s}
            yield self._span(record, number=number, verdict=verdict, by=name)

    def _media_s(self, time_s: float) -> float:
        if not math.isfinite(time_s):
            raise ValueError(f"a time of {time_s}")
        return round(max(0.0, self.start_s + time_s), 3)

    @property
    def faces(self) -> list[int]:
        """The faces that the log names."""
        return sorted({face for face, *_ in self._spans})

    @property
    def reviewers(self) -> list[str]:
        """Those who gave verdicts."""
        return sorted({by for *_, by in self._spans if by})

    def all_spans(self) -> list[Span]:
        """All spans but those of reviewers, by their start."""
        spans = [
            span for (_, kind, _), found in self._spans.items() if kind in KINDS for span in found
        ]
        return sorted(spans, key=lambda span: (span.start_s, span.end_s, span.record["face"]))

    def tiers(self) -> list[tuple[str, int, str, list[Span]]]:
        """Name, face, kind and spans of each tier: one a face and kind that has any.

        A face without micro-expressions has a tier for them all the same, and so has a video
        without faces. In a tier no two spans overlap: where some would, there is another one. What
        reviewers decided together is in a tier, and what each decided, if there are several.
        """
        names = self.reviewers
        kinds = [(kind, "", title) for kind, title in TITLES.items()]
        if len(names) > 1:
            kinds += [(OWN, name, f"review of {name}") for name in names]
        found = []
        for face in self.faces or [0]:
            for kind, by, title in kinds:
                lanes = _lanes(self._spans.get((face, kind, by), []))
                if kind == "micro_expression":
                    lanes = lanes or [[]]
                for number, lane in enumerate(lanes, 1):
                    more = f" ({number})" if number > 1 else ""
                    found.append((f"{title} face {face}{more}", face, kind, lane))
        return found


def agreed_label(verdict: Verdict) -> str:
    """What reviewers call an event that is true, on one line."""
    label = verdict.said.label
    return "label disputed" if label == DISPUTED else line(label) or "no label"


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
    """What is known of a reported event besides its label, for people."""
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
