"""Flow pairs of prepared clips with wrong key frames, made anew from the registered faces.

The key frames that a set's owners marked are moved by a part of the clip's length, to the nearest
frame that was kept. So this measures on real pictures what `models.training.wrong_apex` models on
the flow release, which has none. The runtime's spotter can also be asked where it sees the apex.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realtime_mer.model_file import SPOTTER
from realtime_mer.recognition.flow_pair import DenseFlow
from realtime_mer.spotting.motion import RegionalMotion
from realtime_mer.spotting.spotter import Proposal, Spotter, SpotterModel
from tools.command import save_array
from tools.recognition.prepared import PAIR, read_faces
from tools.recognition.registered_clip import RegisteredClip

KINDS = ("onset", "apex", "offset", "window")
"""What is wrong: one of the key frames, or all three by the same time."""
# Errors in steps of a twentieth of the clip, which is a tenth of a half-window.
STEP = 0.05
STEPS = 6
# The spotter warms up on the still face before the clip, and sees it after the end. Seconds, and
# frames a second; the spotter itself looks 30 times a second.
_BEFORE_S, _AFTER_S, _STILL_FPS = 1.6, 0.8, 60.0
# Of a faster source the runtime measures the motion of some frames only, about so many a second.
_MOTION_FPS = 120.0


def wrong_key(clip: RegisteredClip, kind: str, steps: int) -> tuple[int, int, int]:
    """Indices of the key frames with an error.

    They stay in order, and within the frames that were kept: a larger error is cut there.

    Args:
        clip: The clip.
        kind: One of `KINDS`.
        steps: The error in steps of `STEP` of the clip's length; late above 0, early below.
    """
    numbers = clip.numbers
    onset, apex, offset = (float(numbers[index]) for index in clip.key)
    error = steps * STEP * (offset - onset)
    wanted = {
        "onset": (onset + error, apex, offset),
        "apex": (onset, apex + error, offset),
        "offset": (onset, apex, offset + error),
        "window": (onset + error, apex + error, offset + error),
    }[kind]
    first, middle, last = (int(np.abs(numbers - number).argmin()) for number in wanted)
    middle = int(np.clip(middle, 1, len(numbers) - 2))
    if kind == "apex":
        # It is the apex that is wrong: onset and offset stay.
        middle = int(np.clip(middle, first + 1, max(last - 1, first + 1)))
    return min(first, middle - 1), middle, max(last, middle + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Shifted:
    """Flow pairs of n clips with wrong key frames.

    Attributes:
        keys: (n, kinds, errors, 3) indices of the key frames; errors from the earliest to the
            latest.
        pairs: (n, kinds, errors, 2, 28, 28, 3) uint8, of these.
        reached: (n, kinds, errors) the error that the frames allowed, in parts of the clip.
        spotted_keys: (n, 3) with the spotter's apex; the marked one where it found none.
        spotted: (n, 2, 28, 28, 3) uint8, of these.
        apexes: (n,) error of the spotter's apex in parts of the clip; NaN where it found none.
    """

    keys: np.ndarray
    pairs: np.ndarray
    reached: np.ndarray
    spotted_keys: np.ndarray
    spotted: np.ndarray
    apexes: np.ndarray


def shifted_pairs(
    files: Sequence[Path], kept: Path, advance: Callable[[], object] = lambda: None
) -> Shifted:
    """The flow pairs of clips with every error of every kind.

    Args:
        files: The clips' faces, as `tools/recognition/prepare.py` wrote them.
        kept: Folder that keeps the result for a later call.
        advance: Called after each clip.

    Raises:
        InputError: The faces of a clip cannot be read.
    """
    errors = range(-STEPS, STEPS + 1)
    shapes = {
        "keys": (len(files), len(KINDS), len(errors), 3),
        "pairs": (len(files), len(KINDS), len(errors), *PAIR),
        "reached": (len(files), len(KINDS), len(errors)),
        "spotted_keys": (len(files), 3),
        "spotted": (len(files), *PAIR),
        "apexes": (len(files),),
    }
    places = {name: kept / f"shifted-{name}.npy" for name in shapes}
    if all(place.exists() for place in places.values()):
        arrays = {name: np.load(place, allow_pickle=False) for name, place in places.items()}
        if all(arrays[name].shape == shape for name, shape in shapes.items()):
            return Shifted(**arrays)
    flow, model = DenseFlow(), SpotterModel(SPOTTER)
    shifted = Shifted(
        keys=np.zeros(shapes["keys"], int),
        pairs=np.zeros(shapes["pairs"], np.uint8),
        reached=np.zeros(shapes["reached"]),
        spotted_keys=np.zeros(shapes["spotted_keys"], int),
        spotted=np.zeros(shapes["spotted"], np.uint8),
        apexes=np.full(shapes["apexes"], np.nan),
    )
    for index, file in enumerate(files):
        clip = read_faces(file)
        onset, apex, offset = clip.key
        length = float(clip.numbers[offset] - clip.numbers[onset])
        known: dict[tuple[int, int, int], np.ndarray] = {}
        for k, kind in enumerate(KINDS):
            for e, steps in enumerate(errors):
                key = wrong_key(clip, kind, steps)
                if key not in known:
                    known[key] = clip.pair(key, flow)
                shifted.keys[index, k, e] = key
                shifted.pairs[index, k, e] = known[key]
                moved = 0 if kind == "onset" else 2 if kind == "offset" else 1
                error = clip.numbers[key[moved]] - clip.numbers[clip.key[moved]]
                shifted.reached[index, k, e] = error / length
        spotted = spotted_apex(clip, model)
        if spotted is not None and onset < spotted < offset:
            error = clip.numbers[spotted] - clip.numbers[apex]
            shifted.apexes[index] = error / length
        else:
            spotted = apex
        shifted.spotted_keys[index] = onset, spotted, offset
        shifted.spotted[index] = clip.pair((onset, spotted, offset), flow)
        advance()
    for name, place in places.items():
        save_array(place, getattr(shifted, name))
    return shifted


def spotted_apex(clip: RegisteredClip, model: SpotterModel) -> int | None:
    """The index of the face where the runtime's spotter sees the apex; None if it finds nothing.

    A data set's clip hardly begins before its onset, and the spotter has to know the still face
    first: the clip's first face stands still before it, its last one after it.
    """
    times = clip.times
    gap = 1 / _STILL_FPS
    before = [(float(t), 0) for t in np.arange(-_BEFORE_S, times[0] - gap / 2, gap)]
    last = len(times) - 1
    after = [(float(t), last) for t in np.arange(times[last] + gap, times[last] + _AFTER_S, gap)]
    during = list(zip(map(float, times), range(len(times)), strict=True))
    step = max(round((last / (times[last] - times[0]) if last else 0) / _MOTION_FPS), 1)
    spotter, motion = Spotter(model), RegionalMotion()
    found: list[Proposal] = []
    for time_s, index in (*before, *during[::step], *after):
        seen = motion(clip.face(index), time_s, float(clip.blinks[index]), float(clip.jaws[index]))
        found += spotter(seen).found
    found += spotter.finish()
    onset_s, offset_s = times[clip.key[0]], times[clip.key[2]]
    overlaps = [_common(proposal, onset_s, offset_s) for proposal in found]
    if not overlaps or max(overlaps) <= 0:
        return None
    apex_s = found[int(np.argmax(overlaps))].interval.apex_s
    return int(np.abs(times - apex_s).argmin())


def _common(proposal: Proposal, onset_s: float, offset_s: float) -> float:
    """How long a proposal and an interval overlap, seconds."""
    interval = proposal.interval
    return min(interval.offset_s, offset_s) - max(interval.onset_s, onset_s)
