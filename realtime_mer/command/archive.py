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
from realtime_mer.redaction import redacted

SOME_FAILED = 1
"""Exit status if a video failed; the others are done."""


# Not an address of the Ray client: tasks that tell how far they have come are not for that.
_ADDRESS = re.compile(r"auto|(?:\[[0-9a-fA-F:.]+\]|[\w.-]+):[0-9]{1,5}")


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
        "--results", required=True, type=_folder, metavar="DIR", help="where the results go"
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
    p.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="work on the Ray cluster at HOST:PORT, or at auto for the one of this machine; "
        "without ADDRESS, on one that is started here",
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
    if options.ray and not _ADDRESS.fullmatch(options.ray):
        p.error(
            f"--ray: '{redacted(options.ray)}' is no address of a cluster, such as 10.0.0.2:6379: "
            "if it is a video, write --ray after the videos"
        )
    apply_settings(p, options)
    return options


def run(options: argparse.Namespace) -> int:
    """Runs the archive; returns the exit status.

    Raises:
        InputError: Something that was named cannot be used, or nothing can be written any more.
    """
    from realtime_mer.archive.inputs import find_inputs

    has_cluster = options.ray is not None
    inputs = find_inputs(options.sources, options.list, options.results, stored=has_cluster)
    # Loading the libraries takes a second, which a wrong name need not wait for.
    from realtime_mer.archive.run import archive

    settings = analysis_settings(options, frames=options.frames)
    common = {
        "jobs": options.jobs,
        "retry_failed": options.retry_failed,
        "decimal_comma": options.decimal_comma,
    }
    if has_cluster:
        from realtime_mer.archive import cluster

        progress = cluster.archive(
            inputs, options.results, settings, address=options.ray or None, **common
        )
    else:
        progress = archive(inputs, options.results, settings, **common)
    return SOME_FAILED if progress.failed else 0


def _folder(text: str) -> Path:
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"'{redacted(text)}' is an address: name a folder, for a cluster one on a drive that "
            "all its nodes share"
        )
    return Path(text)


def _jobs(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of videos at a time: give 1 to 9999"
        )
    return int(text)
