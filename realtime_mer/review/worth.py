"""What each sensitivity is worth on the user's own videos, as far as the review can tell.

A smaller sensitivity than that of the archive leaves events out, and each event tells which ones
do (`least_sensitivity`): so what it would have reported is known. A larger one would have reported
more, and of what is not there nobody can tell how much of it is true: only a new run can.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from realtime_mer.archive.report.figures import share
from realtime_mer.archive.reviews.agreement import Consensus
from realtime_mer.archive.reviews.found import Material

SENSITIVITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""False reports a minute that the page compares. Chosen by judgement: the range of the spotter's
card, in steps whose reports differ."""

# Fewer timed verdicts say little about how long a review takes, and one longer than this was a
# break. Chosen by judgement.
_LEAST_LOOKS = 5
_BREAK_S = 120.0
# Two sensitivities this close, relatively, are the same: events hold four digits.
_SAME = 1.01


@dataclass(frozen=True, slots=True)
class Worth:
    """What a sensitivity is worth.

    Attributes:
        sensitivity: False reports a minute to be expected.
        kind: "as run", "stricter" (the review tells), "looser" (only a new run can), or "unknown"
            if nobody knows with what sensitivity the events were found.
        reports: How many events it would have reported; None if that cannot be told.
        reports_per_hour: The same an hour of video.
        decided: How many of them have a verdict, true or false.
        true: How many of those are true.
        precision: The share of true ones; None without any verdict.
        interval: Its 95 % interval by Wilson.
        kept: How many of all confirmed events it would have kept.
        confirmed: How many were confirmed.
        minutes_per_hour: Minutes of review that an hour of video costs; None if not known.
    """

    sensitivity: float
    kind: str
    reports: int | None = None
    reports_per_hour: float | None = None
    decided: int = 0
    true: int = 0
    precision: float | None = None
    interval: tuple[float, float] | None = None
    kept: int = 0
    confirmed: int = 0
    minutes_per_hour: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def seconds_per_event(looks: Sequence[float]) -> float | None:
    """How long a verdict takes, the mean without breaks; None if too few were timed."""
    timed = [seconds for seconds in looks if 0 < seconds <= _BREAK_S]
    return statistics.fmean(timed) if len(timed) >= _LEAST_LOOKS else None


def worths(material: Material, said: Mapping[str, Consensus], look_s: float | None) -> list[Worth]:
    """What each sensitivity is worth, the strictest first, with that of the archive among them.

    Args:
        material: What was found.
        said: The consensus about each event.
        look_s: Seconds that an event's review takes; None if not known.
    """
    as_run = material.sensitivity
    is_known = all(event.least_sensitivity is not None for event in material.events)
    rows = []
    for rate in SENSITIVITIES:
        if as_run is None:
            rows.append(Worth(rate, "unknown"))
        elif rate > as_run * _SAME:
            rows.append(Worth(rate, "looser"))
        elif rate < as_run / _SAME:
            rows.append(
                _worth(material, said, look_s, rate, "stricter")
                if is_known
                else Worth(rate, "stricter")
            )
    if as_run is not None:
        rows.append(_worth(material, said, look_s, as_run, "as run"))
    return sorted(rows, key=lambda row: row.sensitivity)


def _worth(
    material: Material,
    said: Mapping[str, Consensus],
    look_s: float | None,
    rate: float,
    kind: str,
) -> Worth:
    def passes(least: float | None) -> bool:
        return kind == "as run" or (least is not None and least <= rate)

    reported = [event for event in material.events if passes(event.least_sensitivity)]
    verdicts = [said[event.id].verdict for event in reported]
    true = verdicts.count("true")
    decided = true + verdicts.count("false")
    per_hour = len(reported) / material.hours if material.hours > 0 else None
    precision = share(true, decided) if decided else None
    return Worth(
        sensitivity=rate,
        kind=kind,
        reports=len(reported),
        reports_per_hour=per_hour,
        decided=decided,
        true=true,
        precision=precision.value if precision else None,
        interval=(precision.low, precision.high) if precision else None,
        kept=true,
        confirmed=sum(said[event.id].verdict == "true" for event in material.events),
        minutes_per_hour=None if look_s is None or per_hour is None else per_hour * look_s / 60,
    )
