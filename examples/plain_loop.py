"""Prints each micro-expression of a camera, video or stream as it is found.

python examples/plain_loop.py [SOURCE]
"""

import sys

from realtime_mer import Recognizer

source = sys.argv[1] if len(sys.argv) > 1 else 0
for event in Recognizer(source):
    print(f"{event.interval.onset_s:.2f} s: {event.label} ({event.confidence:.0%})", flush=True)
