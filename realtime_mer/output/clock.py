"""Times for people to read."""

from __future__ import annotations

import math


def clock(seconds: float, digits: int = 3) -> str:
    """Returns seconds as minutes, or hours; to the millisecond, or with so many decimals.

    Example:
        >>> clock(72.4)
        '1:12.400'
        >>> clock(3723.456, 0)
        '1:02:03'
    """
    if not math.isfinite(seconds):
        return "?"
    unit = 10**digits
    whole, rest = divmod(round(seconds * unit), unit)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f"{whole:02d}.{rest:0{digits}d}" if digits else f"{whole:02d}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"
