"""`python -m realtime_mer`: the command line, as `realtime-mer` and `run.py` are."""

import sys

from realtime_mer.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m realtime_mer"))
