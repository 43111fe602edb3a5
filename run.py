"""Finds and names micro-expressions in a face video: `python run.py --help`."""

import os
import signal
import sys

if __name__ == "__main__":
    # Until `main` takes over, Ctrl-C ends the process at once and without a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(0))

    from realtime_mer.cli import main

    sys.exit(main(prog="run.py"))
