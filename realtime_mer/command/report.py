"""`realtime-mer report`: writes the reports of a results folder, and nothing else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from realtime_mer.command.options import Parser


def parse(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """Reads the arguments; exits with status 2 and one line on stderr if they are wrong."""
    p = Parser(
        prog=prog,
        description="Writes what an archive found as HTML files for people: one for the archive, "
        "and one for each video. They load nothing from elsewhere.",
    )
    p.add_argument("results", metavar="DIR", type=Path, help="a folder of results")
    p.add_argument(
        "--video", metavar="KEY", help="only the report of this video: its folder in DIR/videos"
    )
    p.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="write one report there: the video's with --video, else the archive's",
    )
    p.arguments = arguments
    return p.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Writes the reports; returns the exit status.

    A video whose log cannot be read gets no report; the archive's report names it.

    Raises:
        InputError: The results cannot be read, or a report cannot be written.
    """
    from realtime_mer.archive.report import write_report
    from realtime_mer.archive.results_folder import ResultsFolder
    from realtime_mer.archive.reviews.verdicts import Reviews
    from realtime_mer.errors import InputError
    from realtime_mer.output.writable import shown

    folder = ResultsFolder(options.results)
    if options.video is not None or options.out is not None:
        print(shown(write_report(folder, options.video, options.out)))
        return 0
    status = 0
    reviews = Reviews.read(folder)
    for video in [*folder.done()]:
        try:
            write_report(folder, video.key, reviews=reviews)
        except InputError as error:
            status = 2
            print(f"no report of {shown(video.key)}: {error}", file=sys.stderr)
    # Last, for it links to those that there are.
    print(shown(write_report(folder, reviews=reviews)))
    return status
