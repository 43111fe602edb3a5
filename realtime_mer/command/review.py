"""`realtime-mer review`: a page on which people judge what an archive found.

Imports nothing heavy: `--help` and a wrong option need not wait for the libraries.
"""

from __future__ import annotations

import argparse
import getpass
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from realtime_mer.command.options import Parser


def parse(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """Reads the arguments; exits with status 2 and one line on stderr if they are wrong."""
    p = Parser(
        prog=prog,
        description="Opens a page in the browser that shows what an archive found, event by event: "
        "say which are true, and learn what each sensitivity is worth on your videos. It is for "
        "this computer only. Decisions are kept in DIR/reviews as they are made.",
    )
    p.add_argument("results", metavar="DIR", type=Path, help="a folder of results")
    p.add_argument("--name", metavar="WHO", help="the reviewer (default: your user name)")
    p.add_argument(
        "--port", metavar="N", type=_port, default=0, help="the page's port (default: any free one)"
    )
    p.add_argument(
        "--no-browser", action="store_true", help="show the address, and open no browser"
    )
    p.arguments = arguments
    return p.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C; returns the exit status.

    Raises:
        InputError: The folder cannot be reviewed, or the table cannot be written at the end.
    """
    import threading
    import webbrowser

    from realtime_mer.output.writable import shown
    from realtime_mer.review.server import Review

    with Review(options.results, options.name or _user(), options.port) as review:
        for note in review.notes:
            print(f"note: {note}", file=sys.stderr)
        print(f"review at {review.url}")
        print("Whoever has this address can see the faces: keep it. Press Ctrl-C when done.")
        sys.stdout.flush()
        try:
            if not options.no_browser:
                # Some browsers of a terminal do not come back before they are closed.
                opening = threading.Thread(target=webbrowser.open, args=[review.url], daemon=True)
                opening.start()
            review.run()
        except KeyboardInterrupt:
            # The ordinary end.
            pass
    if review.table.exists():
        print(f"reviewed events: {shown(review.table)}")
    return 0


def _user() -> str:
    """The user's name as a reviewer's can be."""
    try:
        name = getpass.getuser()
    except (ImportError, KeyError, OSError):
        name = ""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-")[:40] or "reviewer"


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give 1 to 65535, or leave it out")
    return int(text)
