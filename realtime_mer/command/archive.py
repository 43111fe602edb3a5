"""`realtime-mer archive`: many videos at once, in a folder that a later run continues.

Imports nothing heavy: `--help` and a wrong option need not wait for the libraries.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from realtime_mer.command.options import (
    Parser,
    add_analysis_options,
    analysis_settings,
    apply_settings,
)

SOME_FAILED = 1
"""Exit status if a video failed; the others are done."""


def parse(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """Reads the arguments after the word `archive`; exits with status 2 if they are wrong.

    Args:
        arguments: The arguments.
        prog: The command's name in messages.
    """
    p = Parser(
        prog=prog,
        description="Analyses many videos, each in a process of its own, and writes tables over "
        "all of them. Run it again to go on where it was stopped, and to do what is new or "
        "changed.",
        epilog="Exit status: 0 if all is done, 1 if a video failed, 2 if something was named "
        "wrong, 130 after Ctrl-C.",
    )
    p.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="a video, a folder to be searched with all in it, a pattern, or @FILE: a list",
    )
    p.add_argument(
        "--results", required=True, type=Path, metavar="DIR", help="where the results go"
    )
    p.add_argument(
        "--list",
        action="append",
        default=[],
        metavar="FILE",
        help="a text file with a path a line; lines that begin with # do not count",
    )
    p.add_argument(
        "--jobs",
        type=_jobs,
        metavar="N",
        help="videos at a time (default: one for each core)",
    )
    add_analysis_options(p)
    p.add_argument(
        "--frames", action="store_true", help="a table of all frames, too: some 125 MB an hour"
    )
    p.add_argument(
        "--retry-failed", action="store_true", help="do the videos again that failed before"
    )
    p.add_argument(
        "--decimal-comma",
        action="store_true",
        help="tables for spreadsheets whose decimals have a comma",
    )
    p.arguments = arguments
    options = p.parse_args(arguments)
    if not options.sources and not options.list:
        p.error("nothing to do: name videos, folders or a list")
    apply_settings(p, options)
    return options


def run(options: argparse.Namespace) -> int:
    """Runs the archive; returns the exit status.

    Raises:
        InputError: Something that was named cannot be used, or nothing can be written any more.
    """
    from realtime_mer.archive.inputs import find_inputs

    inputs = find_inputs(options.sources, options.list, options.results)
    # Loading the libraries takes a second, which a wrong name need not wait for.
    from realtime_mer.archive.run import archive

    progress = archive(
        inputs,
        options.results,
        analysis_settings(options, frames=options.frames),
        jobs=options.jobs,
        retry_failed=options.retry_failed,
        decimal_comma=options.decimal_comma,
    )
    return SOME_FAILED if progress.failed else 0


def _jobs(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of videos at a time: give 1 to 9999"
        )
    return int(text)
