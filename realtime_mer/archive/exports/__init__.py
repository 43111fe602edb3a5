"""Results in the formats of other programs, a file or two for each input."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from realtime_mer.archive.results_folder import VideoResult
from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown
from realtime_mer.redaction import printable

if TYPE_CHECKING:
    from realtime_mer.archive.reviews.verdicts import Verdict

FORMATS = {"elan": "elan", "bids": "bids", "srt": "subtitles", "textgrid": "textgrid"}
"""Name of a format, and the module that writes it: `write(video, media, out, verdicts, agreed)`."""


def export(
    to: str,
    video: VideoResult,
    media: Path,
    out: Path,
    verdicts: Sequence[Verdict] = (),
    agreed: bool = False,
) -> list[Path]:
    """Writes an input's results in another format; returns the files, which replace older ones.

    Args:
        to: One of `FORMATS`.
        video: The results.
        media: The video file, for the times of its own clock. If it is not there, times count from
            its first frame.
        out: The folder to write to; it must exist.
        verdicts: What reviewers say about its events.
        agreed: Whether to export as micro-expressions those that reviewers agreed on, in place of
            all that were reported.

    Raises:
        InputError: The results cannot be read, or a package is missing.
        OSError: A file cannot be written.
    """
    module = importlib.import_module(f"{__name__}.{FORMATS[to]}")
    try:
        files: list[Path] = module.write(video, media, out, verdicts, agreed)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{shown(video.log)} is damaged ({printable(repr(error), 200)}): delete its folder and "
            "run the archive again"
        ) from None
    return files
