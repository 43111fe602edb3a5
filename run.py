"""Finds and names micro-expressions in a face video: `python run.py --help`."""

import sys

from realtime_mer.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="run.py"))
