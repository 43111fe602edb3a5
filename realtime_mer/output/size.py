"""How long and how strong an event was, for people to read."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

from realtime_mer.results import MicroExpression


def size_of(event: MicroExpression) -> tuple[str, str]:
    """An event's length in ms and its motion in px, as pages show them.

    Pages have the event's record alone, whose numbers are rounded already, and round halves up.
    Rounded from the event itself, both could differ by one from what a page shows beside them.
    """
    interval = event.interval
    length_ms = round(1000 * (round(interval.offset_s, 3) - round(interval.onset_s, 3)))
    motion_px = round(float(event.intensity_px), 2)
    if not math.isfinite(motion_px):
        return f"{length_ms}", f"{motion_px}"
    return f"{length_ms}", f"{Decimal(motion_px).quantize(Decimal('0.1'), ROUND_HALF_UP)}"
