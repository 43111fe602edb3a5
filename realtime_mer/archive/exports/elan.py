"""ELAN: tiers of annotations over the video, a pair for each face and kind.

    micro-expression face 0     the label; its phases and its details are tiers below it
    macro-expression face 0     longer expressions
    gap face 0                  why the face was not followed
    readable face 0             which parts of the face could be read
    reviewed face 0             what reviewers decided together; who said what is a tier below it
    review of ana face 0        what one of several reviewers decided

ELAN finds the video by its path relative to the file, and beside the file.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from realtime_mer import __version__
from realtime_mer.archive.exports.timeline import Span, Timeline, details, line, need
from realtime_mer.archive.results_folder import VideoResult
from realtime_mer.archive.reviews.verdicts import Verdict
from realtime_mer.output.writable import replace_file
from realtime_mer.redaction import printable

# What ELAN calls a video of a type that it does not know.
_ANY_VIDEO = "video/*"
# The types of tiers: annotations with times, those within one of the tier above, and those that
# have the times of one above.
_SPANS, _PHASES, _DETAILS = "spans", "phases", "details"


def write(
    video: VideoResult,
    media: Path,
    out: Path,
    verdicts: Sequence[Verdict] = (),
    agreed: bool = False,
) -> list[Path]:
    """Writes `KEY.eaf`; times are milliseconds of the media's own time.

    Args, Raises: As `exports.export`.
    """
    pympi = need("pympi-ling", "pympi")
    timeline = Timeline(video, media, verdicts, agreed)
    path = out / f"{video.key}.eaf"
    eaf = pympi.Elan.Eaf(author=f"realtime_mer {__version__}")
    # The same results give the same file.
    eaf.adocument["DATE"] = video.entry.get("started_at") or "1970-01-01T00:00:00+00:00"
    eaf.remove_tier("default")
    eaf.remove_linguistic_type("default-lt")
    eaf.add_linguistic_type(_SPANS)
    eaf.add_linguistic_type(_PHASES, constraints="Included_In")
    eaf.add_linguistic_type(_DETAILS, constraints="Symbolic_Association", timealignable=False)
    if not video.entry.get("live") and not os.path.isdir(media):
        _link(eaf, media, path)
    for name, face, kind, spans in timeline.tiers():
        by = spans[0].by if spans else ""
        eaf.add_tier(name, ling=_SPANS, part=f"face {face}", ann=by or "realtime_mer")
        for span in spans:
            eaf.add_annotation(name, *_ms(span.start_s, span.end_s), value=span.text)
        if kind == "micro_expression":
            _add_below(eaf, name, spans)
        elif kind == "reviewed":
            _add_votes(eaf, name, spans)
    _sort_times(eaf)
    root = pympi.Elan.to_adocument(eaf)
    replace_file(path, ElementTree.tostring(root, "UTF-8", xml_declaration=True) + b"\n")
    return [path]


def _link(eaf: Any, media: Path, path: Path) -> None:  # noqa: ANN401
    """Names the video, by its path relative to the file: an absolute one tells of this computer."""
    try:
        relative = Path(os.path.relpath(media, path.parent)).as_posix()
    except ValueError:  # on another drive
        relative = media.name
    mime = mimetypes.MimeTypes().guess_type(media.name)[0] or _ANY_VIDEO
    # ELAN knows a relative path by its beginning.
    relative = relative if relative.startswith("../") else f"./{relative}"
    eaf.add_linked_file(line(relative), line(relative), mime)


def _add_below(eaf: Any, tier: str, spans: list[Span]) -> None:  # noqa: ANN401
    """Adds what is known of micro-expressions: rise and fall, and the rest as a text."""
    phases, more = f"{tier}: phases", f"{tier}: details"
    eaf.add_tier(phases, ling=_PHASES, parent=tier)
    eaf.add_tier(more, ling=_DETAILS, parent=tier)
    for span in spans:
        start, end = _ms(span.start_s, span.end_s)
        if span.apex_s is None:
            continue  # reviewers added it, and no more is known
        apex = min(max(round(1000 * span.apex_s), start), end)
        for phase, of, to in (("onset to apex", start, apex), ("apex to offset", apex, end)):
            if of < to:
                eaf.add_annotation(phases, of, to, value=phase)
        text = f"event {span.number}: {details(span.record)}"
        eaf.add_ref_annotation(more, tier, (start + end) // 2, value=text)


def _add_votes(eaf: Any, tier: str, spans: list[Span]) -> None:  # noqa: ANN401
    """Adds who said what, and what the program had reported."""
    more = f"{tier}: votes"
    eaf.add_tier(more, ling=_DETAILS, parent=tier)
    for span in spans:
        verdict = span.verdict
        assert verdict is not None
        said = [f"{name}: {verdict.text_of(name)}" for name in verdict.reviewers]
        program = "the program missed it"
        if span.number:
            program = f"event {span.number}, the program: {verdict.label}"
        start, end = _ms(span.start_s, span.end_s)
        text = printable("; ".join([program, *said]))
        eaf.add_ref_annotation(more, tier, (start + end) // 2, value=text)


def _ms(start_s: float, end_s: float) -> tuple[int, int]:
    start = round(1000 * start_s)
    return start, max(start + 1, round(1000 * end_s))


def _sort_times(eaf: Any) -> None:  # noqa: ANN401
    """Numbers the time slots by their times, as the format asks for."""
    old = sorted(eaf.timeslots, key=lambda slot: (eaf.timeslots[slot], int(slot[2:])))
    new = {slot: f"ts{number}" for number, slot in enumerate(old, 1)}
    eaf.timeslots = {new[slot]: eaf.timeslots[slot] for slot in old}
    for tier in eaf.tiers.values():
        for name, (start, end, *rest) in tier[0].items():
            tier[0][name] = (new[start], new[end], *rest)
