"""SubRip: subtitles that any player shows, one a micro-expression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from realtime_mer.archive.exports.timeline import Span, Timeline, agreed_label
from realtime_mer.archive.results_folder import VideoResult
from realtime_mer.archive.reviews.verdicts import Verdict
from realtime_mer.output.writable import replace_file

# A subtitle stays at least this long, unless the next one follows: nobody reads one in the third of
# a second that a micro-expression lasts. Chosen by judgement.
_LEAST_S = 1.5
# Players take these for marks of style.
_MARKUP = str.maketrans("<>{}\\", "‹›()/")


def write(
    video: VideoResult,
    media: Path,
    out: Path,
    verdicts: Sequence[Verdict] = (),
    agreed: bool = False,
) -> list[Path]:
    """Writes `KEY.srt`. Each text has the event's true times, seconds of the media's own time.

    Args, Raises: As `exports.export`.
    """
    timeline = Timeline(video, media, verdicts, agreed)
    spans = [span for span in timeline.all_spans() if span.is_event]
    blocks = []
    for place, span in enumerate(spans):
        next_s = spans[place + 1].start_s if place + 1 < len(spans) else span.start_s + _LEAST_S
        end_s = max(span.end_s, min(span.start_s + _LEAST_S, next_s))
        times = f"{_clock(span.start_s)} --> {_clock(end_s)}"
        blocks.append(f"{place + 1}\n{times}\n{_text(span)}\n")
    path = out / f"{video.key}.srt"
    replace_file(path, "\n".join(blocks).encode())
    return [path]


def _text(span: Span) -> str:
    what = f"face {span.record['face']}: {span.text}"
    said = "" if span.verdict is None else span.verdict.said.verdict
    if said != "true":
        what += f" {100 * span.record['confidence']:.0f} %"
    if span.verdict is not None and said:
        label = agreed_label(span.verdict)
        word = said if said != "true" else "" if label == span.text else label
        what += f" (reviewed{f': {word}' if word else ''})"
    return f"{what}, {span.start_s:.3f} to {span.end_s:.3f} s".translate(_MARKUP)


def _clock(time_s: float) -> str:
    """A time as SubRip writes it: 00:01:02,345."""
    ms = round(1000 * time_s)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"
