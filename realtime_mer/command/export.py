"""`realtime-mer export`: results in the formats of other programs."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from realtime_mer.archive.exports import FORMATS, export
from realtime_mer.archive.results_folder import ResultsFolder, VideoResult
from realtime_mer.command.options import Parser
from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown, why

if TYPE_CHECKING:
    from realtime_mer.archive.reviews.verdicts import Reviews


def parse(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """Reads the arguments after the word `export`; exits with status 2 if they are wrong.

    Args:
        arguments: The arguments.
        prog: The command's name in messages.
    """
    p = Parser(
        prog=prog,
        description="Writes what an archive found for other programs: ELAN (.eaf), BIDS "
        "(events.tsv), players (.srt) or Praat (.TextGrid).",
    )
    p.add_argument("results", type=Path, metavar="DIR", help="the folder of `archive --results`")
    p.add_argument("--to", required=True, choices=FORMATS, help="the format")
    p.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: DIR/exports/FORMAT)"
    )
    p.add_argument(
        "--media",
        type=Path,
        metavar="DIR",
        help="where the videos are now, if they were moved since",
    )
    p.add_argument(
        "--reviewed",
        action="store_true",
        help="as micro-expressions, those that the reviewers agreed on, with their times and "
        "labels, and those they added, in place of all that were reported",
    )
    p.arguments = arguments
    return p.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Writes the files; returns the exit status.

    Raises:
        InputError: There are no such results, or nothing can be written.
    """
    # It loads the spotter's libraries.
    from realtime_mer.archive.reviews.verdicts import Reviews

    folder = ResultsFolder(options.results)
    out = options.out or folder.path / "exports" / options.to
    videos = list(folder.done())
    reviews = Reviews.read(folder)
    if options.reviewed:
        _check_reviews(folder, videos, reviews)
    written, failed = 0, 0
    for video in videos:
        media = _media(folder, video, options.media)
        # Cameras and folders of pictures have no clock of their own.
        has_file = not video.entry.get("live") and not os.path.isdir(video.source)
        if media is None and has_file and options.to != "bids":
            _say(
                f"{shown(video.source)} was not found: times count from its first frame, which in "
                "some files is not at 0. Name the folder of the videos: --media DIR"
            )
        try:
            out.mkdir(parents=True, exist_ok=True)
            files = export(
                options.to,
                video,
                media or Path(video.source),
                out,
                reviews.of(video.key),
                options.reviewed,
            )
            written += len(files)
        except InputError as error:
            _say(str(error))
            failed += 1
        except OSError as error:
            raise InputError(
                f"{shown(out)} cannot be written: {why(error)}. Name another folder: --out DIR"
            ) from None
    print(f"{written} {'file' if written == 1 else 'files'} in {shown(out)}")
    if failed:
        raise InputError(f"{failed} of {len(videos)} videos could not be exported: see above")
    return 0


def _check_reviews(folder: ResultsFolder, videos: Sequence[VideoResult], reviews: Reviews) -> None:
    """Tells how many events are left out because no verdict holds for them.

    Raises:
        InputError: Nobody has reviewed anything.
    """
    if not reviews.names:
        raise InputError(
            f"nobody has reviewed {shown(folder.path)}: do so (realtime-mer review), or leave "
            "--reviewed out"
        )
    said = [v.said.verdict for its in reviews.of_video.values() for v in its if not v.added]
    decided = sum(word in ("true", "false") for word in said)
    reported = sum(video.entry.get("events") or 0 for video in videos)
    if left := max(len(said), reported) - decided:
        _say(
            f"{left} of {max(len(said), reported)} reported events are left out: they have no "
            "verdict, or reviewers are split"
        )


def _media(folder: ResultsFolder, video: VideoResult, moved: Path | None) -> Path | None:
    """The file that was analysed: where it was, in the folder named, or beside the results."""
    source = Path(video.source)
    places = [source, folder.path.parent / source, folder.path.parent / source.name]
    for place in [moved / source.name, *places] if moved is not None else places:
        # Another video may have its name by now.
        with contextlib.suppress(OSError, ValueError):  # its folder may be closed
            if place.is_file() and place.stat().st_size == video.entry.get("size"):
                return place
    return None


def _say(text: str) -> None:
    print(f"realtime-mer: {text}", file=sys.stderr)
