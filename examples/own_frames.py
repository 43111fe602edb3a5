"""Hands over pictures one by one, for programs that have a camera loop of their own.

    python examples/own_frames.py VIDEO

Here OpenCV reads a video; any source of (height, width, 3) uint8 BGR arrays will do, with the time
at which each was taken.
"""

import sys
from collections.abc import Iterable

import cv2

from realtime_mer import Analyser, MicroExpression


def tell(events: Iterable[MicroExpression]) -> None:
    for event in events:
        print(f"{event.interval.onset_s:.2f} s: {event.label}", flush=True)


video = cv2.VideoCapture(sys.argv[1])
fps = video.get(cv2.CAP_PROP_FPS) or 30.0
with Analyser(source=sys.argv[1]) as analyser:
    number = 0
    while True:
        read, image = video.read()
        if not read:
            break
        tell(analyser(image, number / fps).events)
        number += 1
    tell(analyser.finish())
print(f"{number} pictures")
