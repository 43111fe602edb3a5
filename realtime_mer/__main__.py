"""`python -m realtime_mer`: the command line, as `realtime-mer` and `run.py` are."""

import os
import signal
import sys

if __name__ == "__main__":
    # Until `main` takes over, Ctrl-C ends the process at once and without a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(0))

    from realtime_mer.cli import main

    sys.exit(main(prog="python -m realtime_mer"))
