"""Faults of a camera and its surroundings at known times, and the check of a log against them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from realtime_mer.demo.clip import DemoTruth
from realtime_mer.results import GapReason, Interval
from realtime_mer.spotting.matching import best_matches

# What can go wrong, for how long (seconds), and the gaps that it may leave in the log. Lengths are
# chosen to reach beyond every limit of the program: a stream counts as lost after seconds of
# silence, a picture as frozen after 1 s.
_KINDS: Mapping[str, tuple[tuple[float, float], frozenset[GapReason]]] = {
    "stall": ((2.0, 15.0), frozenset({GapReason.NO_FRAMES, GapReason.SOURCE_LOST})),
    "freeze": ((2.0, 6.0), frozenset({GapReason.PICTURE_FROZEN})),
    "black": ((1.0, 6.0), frozenset({GapReason.FACE_LOST})),
    "no face": ((1.0, 6.0), frozenset({GapReason.FACE_LOST})),
    "other size": ((8.0, 20.0), frozenset({GapReason.FACE_LOST, GapReason.FACE_JUMPED})),
    "unplugged": ((2.0, 20.0), frozenset({GapReason.SOURCE_LOST})),
    "damaged pictures": ((2.0, 4.0), frozenset()),
    "5 fps": ((4.0, 8.0), frozenset({GapReason.TOO_FEW_FRAMES, GapReason.NO_FRAMES})),
    "disk full": ((5.0, 20.0), frozenset()),
}
KINDS = tuple(_KINDS)
"""Names of all faults."""

# Faults of such lengths that always leave a gap.
_LEAVES_A_GAP = frozenset({"stall", "freeze", "black", "no face", "unplugged", "5 fps"})
# Undisturbed time before the first fault and between two: there are events in it.
_FIRST_S = 15.0
_BETWEEN_S = (10.0, 30.0)
# The spotter needs a baseline after a gap, and the tracker a look to find the face.
_SETTLES_S = 1.5
# An event is complete when the face has rested after it.
_RESTS_S = 0.5
# Scheduling of two processes and clocks that are read one after the other.
_SLACK_S = 0.5
# A gap begins at the last frame before a pause of the system and ends at the first one after it.
_BESIDE_A_PAUSE_S = 0.1
# A lost source is tried again after 8 s at the latest, and then has to be opened.
_RETURNS_S = 12.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, in seconds of the camera's clock."""

    kind: str
    start_s: float
    end_s: float

    @property
    def leaves_a_gap(self) -> bool:
        return self.kind in _LEAVES_A_GAP

    def explains(self, reason: str, start_s: float, end_s: float) -> bool:
        """Whether a gap in the log may come from this fault."""
        if reason not in _KINDS[self.kind][1]:
            return False
        return start_s < self.end_s + _SLACK_S and end_s > self.start_s - _SLACK_S


def schedule(seconds: float, seed: int) -> list[Fault]:
    """Faults of every kind in random order, until `seconds` are full. Never two at a time."""
    rng = np.random.default_rng(seed)
    faults: list[Fault] = []
    deck: list[str] = []
    start_s = _FIRST_S
    while True:
        if not deck:
            deck = [str(kind) for kind in rng.permutation(KINDS)]
        kind = deck.pop()
        end_s = start_s + rng.uniform(*_KINDS[kind][0])
        if end_s + _FIRST_S > seconds:
            return faults
        faults.append(Fault(kind, start_s, end_s))
        start_s = end_s + rng.uniform(*_BETWEEN_S)


def truth_of_loop(truth: DemoTruth, seconds: float) -> list[Interval]:
    """The events of a clip that is played forwards and backwards in turn, for `seconds`.

    As in `there_and_back`, neither end of the clip is shown twice.
    """
    round_s = (2 * truth.frames - 2) / truth.fps
    last_s = (truth.frames - 1) / truth.fps
    forth = [event.interval for event in truth.events]
    back = [
        Interval(2 * last_s - e.offset_s, 2 * last_s - e.apex_s, 2 * last_s - e.onset_s)
        for e in reversed(forth)
    ]
    return [
        Interval(start + e.onset_s, start + e.apex_s, start + e.offset_s)
        for start in np.arange(0, seconds, round_s).tolist()
        for e in (*forth, *back)
        if start + e.offset_s < seconds
    ]


def seconds_of_records(
    records: Iterable[Mapping[str, Any]], started_unix_s: float
) -> tuple[list[Interval], list[tuple[str, float, float]], float]:
    """Events, gaps (reason, start, end) and end of a log, in seconds of the camera's clock.

    Args:
        records: The records of one session, the `session` record first.
        started_unix_s: When the camera's clock stood at 0, in seconds since 1970.
    """
    events, gaps = [], []
    shift = ended_s = 0.0
    for record in records:
        match record["type"]:
            case "session":
                shift = datetime.fromisoformat(record["started_at"]).timestamp() - started_unix_s
            case "micro_expression":
                times = (record[key] + shift for key in ("onset_s", "apex_s", "offset_s"))
                events.append(Interval(*times))
            case "gap":
                gaps.append((record["reason"], record["start_s"] + shift, record["end_s"] + shift))
            case "summary":
                ended_s = record["duration_s"] + shift
    return events, gaps, ended_s


def check(
    records: Sequence[Mapping[str, Any]],
    faults: Sequence[Fault],
    truth: Sequence[Interval],
    opened_s: Sequence[float],
    started_unix_s: float,
    pauses: Sequence[tuple[float, float]] = (),
) -> dict[str, Any]:
    """Compares a log with what the camera did.

    Args:
        records: The records of the log.
        faults: What went wrong.
        truth: The events in the pictures, whether they were sent or not, up to the session's end.
        opened_s: When the camera began to send, once for each connection.
        started_unix_s: When the camera's clock stood at 0, in seconds since 1970.
        pauses: When the system let a process sleep too long (start, end), on the camera's clock,
            and the session cannot have caused it. An event during one counts apart: nobody could
            see all of its frames.

    Returns:
        Counts: `faults` by kind; `hidden` events that the session could have seen whole, of these
        the `undisturbed` ones, the `found` of them and the times of those that are `lost`;
        `found_in_faults`; events that only a pause of the system disturbed (`in_pauses`) and the
        times of those among them that were not found (`lost_in_pauses`); `false` reports, of no
        event of `truth`; `gaps` by reason, those without frames in a pause of the system
        (`gaps_in_pauses`), those that neither a fault nor a pause explains (`unexplained_gaps`) and
        faults during the session that left none (`silent_faults`), each with its times.
    """
    events, gaps, ended_s = seconds_of_records(records, started_unix_s)
    begun_s = min(opened_s, default=math.inf) + _SETTLES_S
    disturbed = [_disturbed(fault, opened_s) for fault in faults]
    matches = best_matches(truth, events)
    found = {i for i, _, _ in matches}
    seen = {
        i
        for i, event in enumerate(truth)
        if event.onset_s > begun_s and event.offset_s + _RESTS_S < ended_s
    }
    clear = {i for i in seen if not _overlaps(truth[i], disturbed)}
    paused_s = [(start, end + _SETTLES_S) for start, end in pauses]
    in_pauses = {i for i in clear if _overlaps(truth[i], paused_s)}
    clear -= in_pauses
    strange = [gap for gap in gaps if not any(f.explains(*gap) for f in faults)]
    paused = [gap for gap in strange if _is_paused(gap, pauses)]
    silent = [
        f
        for f in faults
        if f.leaves_a_gap and f.start_s > begun_s and not any(f.explains(*gap) for gap in gaps)
    ]
    return {
        "faults": dict(Counter(f.kind for f in faults)),
        "hidden": len(seen),
        "undisturbed": len(clear),
        "found": len(clear & found),
        "lost": [round(truth[i].onset_s, 2) for i in sorted(clear - found)],
        "found_in_faults": len(seen & found - clear - in_pauses),
        "in_pauses": len(in_pauses),
        "lost_in_pauses": [round(truth[i].onset_s, 2) for i in sorted(in_pauses - found)],
        "false": len(events) - len(matches),
        "gaps": dict(Counter(reason for reason, _, _ in gaps)),
        "gaps_in_pauses": _rounded(paused),
        "unexplained_gaps": _rounded(gap for gap in strange if gap not in paused),
        "silent_faults": _rounded((f.kind, f.start_s, f.end_s) for f in silent),
    }


def _overlaps(event: Interval, spans: Iterable[tuple[float, float]]) -> bool:
    """Whether something within these times can have kept an event from being found."""
    return any(start < event.offset_s + _RESTS_S and end > event.onset_s for start, end in spans)


def _rounded(spans: Iterable[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    return [(what, round(start, 2), round(end, 2)) for what, start, end in spans]


def _is_paused(gap: tuple[str, float, float], pauses: Sequence[tuple[float, float]]) -> bool:
    """Whether frames are missing because the system stood still, and for no longer than that."""
    reason, start_s, end_s = gap
    return reason == GapReason.NO_FRAMES and any(
        pause_start - _BESIDE_A_PAUSE_S <= start_s and end_s <= pause_end + _BESIDE_A_PAUSE_S
        for pause_start, pause_end in pauses
    )


def _disturbed(fault: Fault, opened_s: Sequence[float]) -> tuple[float, float]:
    """The time in which an event may be missed because of a fault."""
    if fault.kind == "disk full":  # the log may wait, the analysis must not
        return math.inf, math.inf
    # The program decides when it comes back to a camera that was away.
    back = [s for s in opened_s if fault.start_s <= s <= fault.end_s + _RETURNS_S]
    return fault.start_s, max([fault.end_s, *back]) + _SETTLES_S
