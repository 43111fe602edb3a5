"""Finds and names micro-expressions in a face video: `python run.py --help`."""

import sys

if __name__ == "__main__":
    try:
        from realtime_mer.cli import main
    except KeyboardInterrupt:  # loading the libraries takes a second or two
        sys.exit(0)
    sys.exit(main())
