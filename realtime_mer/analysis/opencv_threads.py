"""OpenCV's own threads, kept out of the way while faces are analysed."""

from __future__ import annotations

import threading

import cv2

# The number of threads belongs to the whole process: the first who asks changes it, the last who
# leaves restores it.
_lock = threading.Lock()
_users = 0
_before = 0


def hold_single_threaded() -> None:
    """Lets OpenCV use one thread until `release_single_threaded` is called as often as this.

    The chain has a thread for each stage, so OpenCV's would only take turns with them. And DIS flow
    cuts a picture into as many stripes as there are threads: with one, the same video gives the
    same flow on every machine.
    """
    global _users, _before
    with _lock:
        if _users == 0:
            _before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _users += 1


def release_single_threaded() -> None:
    """Gives OpenCV its threads back once nobody holds it any more."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            cv2.setNumThreads(_before)
