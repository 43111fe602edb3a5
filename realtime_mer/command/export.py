"""`realtime-mer export`: results in the formats of other programs."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from realtime_mer.archive.exports import FORMATS, export
from realtime_mer.archive.results_folder import ResultsFolder, VideoResult
from realtime_mer.command.options import Parser
from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown, why


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
    p.arguments = arguments
    return p.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Writes the files; returns the exit status.

    Raises:
        InputError: There are no such results, or nothing can be written.
    """
    folder = ResultsFolder(options.results)
    out = options.out or folder.path / "exports" / options.to
    videos = list(folder.done())
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
            written += len(export(options.to, video, media or Path(video.source), out))
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
