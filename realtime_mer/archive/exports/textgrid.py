"""Praat: a TextGrid with the tiers of `Timeline.tiers`, and the apexes as points."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from realtime_mer.archive.exports.timeline import Timeline, need
from realtime_mer.archive.results_folder import VideoResult
from realtime_mer.archive.reviews.verdicts import Verdict
from realtime_mer.output.writable import replace_file


def write(
    video: VideoResult,
    media: Path,
    out: Path,
    verdicts: Sequence[Verdict] = (),
    agreed: bool = False,
) -> list[Path]:
    """Writes `KEY.TextGrid`; times are seconds of the media's own time.

    Args, Raises: As `exports.export`.
    """
    pympi = need("pympi-ling", "pympi")
    timeline = Timeline(video, media, verdicts, agreed)
    grid = pympi.Praat.TextGrid(xmax=timeline.end_s)
    for name, _, kind, spans in timeline.tiers():
        tier = grid.add_tier(name)
        for span in spans:
            # They do not overlap; to check it takes pympi the square of their number.
            tier.add_interval(span.start_s, span.end_s, span.text, check=False)
        if kind == "micro_expression":
            points = grid.add_tier(f"{name}: apex", "TextTier")
            for span in spans:
                # What reviewers added has no apex.
                if span.apex_s is None:
                    continue
                points.add_point(span.apex_s, span.text, check=False)
    path = out / f"{video.key}.TextGrid"
    # pympi writes only to a file of a given name, and not whole or not at all.
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part"
        grid.to_file(str(part))
        replace_file(path, part.read_bytes())
    return [path]
