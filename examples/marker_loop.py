"""An experiment's frame loop with micro-expressions as markers, as one would write it in PsychoPy.

    python examples/marker_loop.py [SOURCE]

The recognizer runs in a thread of its own and never holds up the loop. Its live events carry their
onset on `time.monotonic()`, the clock of the loop, so that a stimulus and the face's answer to it
can be put on one axis. (In PsychoPy the loop would end with `window.flip()`.)
"""

import queue
import sys
import threading
import time

from realtime_mer import MicroExpression, Recognizer

STIMULUS_S = 2.0
PERIOD_S = 1 / 60

source = sys.argv[1] if len(sys.argv) > 1 else 0
events: queue.SimpleQueue[MicroExpression] = queue.SimpleQueue()
recognizer = Recognizer(source)
watching = threading.Thread(target=recognizer.run, kwargs={"on_event": events.put})
watching.start()

shown_at: list[float] = []
try:
    while watching.is_alive() or not events.empty():
        now = time.monotonic()
        if not shown_at or now - shown_at[-1] >= STIMULUS_S:
            shown_at.append(now)
            print(f"stimulus {len(shown_at)}", flush=True)
        while not events.empty():
            event = events.get()
            onset = event.onset_monotonic_s
            if onset is None:  # a recording has no place on the clock of the loop
                print(f"marker {event.label} at {event.interval.onset_s:.2f} s of the video")
                continue
            before = [t for t in shown_at if t <= onset]
            if before:
                print(f"marker {event.label} {onset - before[-1]:.2f} s after {len(before)}")
        time.sleep(PERIOD_S)
finally:
    recognizer.close()
    watching.join()
