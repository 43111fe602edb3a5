"""Times for people to read."""

from __future__ import annotations

import math


def clock(seconds: float) -> str:
    """Returns seconds as minutes, or hours, with milliseconds.

    Example:
        >>> clock(72.4)
        '1:12.400'
    """
    if not math.isfinite(seconds):
        return "?"
    ms = round(seconds * 1000)
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    tail = f"{ms // 1000:02d}.{ms % 1000:03d}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"
