"""What a person's baseline brings: measured on clips whose truth is known.

    python tools/spotting/baseline.py --signals DIR [DIR ...]
    python tools/spotting/baseline.py --media DIR --data DIR [--subjects S ...] [--takes N]

--signals (`tools/spotting/synthesize.py`): would the spotter gain from a threshold of each person's
own? The first half of each clip, 10 s at most, is the baseline. Where the network gave high
probabilities in it, the threshold of the rest rises, and where it gave low ones, it falls, by a
share of how much they differ from those of the median clip. Recall is told at equal rates of false
reports and at the card's threshold.

--media (photos and videos; motions of --data, CausalNet's flow release): how well is the size of a
motion measured from the neutral face, and from the onset? The first 6 s are the baseline, then
micro-expressions of 1.2 to 3 px are put into the clip, as `tools/spotting/render_clips.py` does.
Their true onset and apex are taken, and an onset that is late by a third of the rise. Told are the
medians of measured size / true size, and in brackets the quartiles; at the onset, where there is
none of the motion, the measured size in px.

The figures mean something only if the spotter was not trained on the clips.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import read_release
from realtime_mer.analysis.analyser import Analyser
from realtime_mer.analysis.baseline import Taking
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.registration import CanonicalFace
from realtime_mer.model_file import SPOTTER
from realtime_mer.recognition.face_pair import FacePair
from realtime_mer.results import BaselineFlaw
from realtime_mer.source.frame import Frame
from realtime_mer.spotting.reliability import log_odds
from realtime_mer.spotting.signals import STEP_S, WARM_UP_STEPS
from realtime_mer.spotting.spotter import Proposal, Spotter, SpotterModel
from tools.command import command_parser, exit_status
from tools.spotting.camera import is_photo, media_files, read_photo, seen_by_a_camera, stretch, sway
from tools.spotting.clip_signals import hidden_intervals, motion_streams, signal_files
from tools.spotting.figures import matches
from tools.spotting.hidden_motion import Hidden, Mixture, plan, with_motions
from tools.spotting.motions import RiseAndFall, measured_motions

# Of clips: the longest baseline, its part of the clip, and the shortest that counts, seconds.
_LONGEST_S, _PART, _SHORTEST_S = 10.0, 0.5, 3.5
# A score at which the spotter reports whatever is of interest.
_LENIENT = 0.02
# How much of what a baseline differs by moves the threshold, and by how much at most (log odds).
_SHARES = (0.0, 0.15, 0.3, 0.5, 0.8)
_MOST_SHIFT = 4.0
_FALSE_PER_MINUTE = (0.2, 0.5, 1.0, 2.0)
# Around an event that is hidden in a baseline, which a neutral face has not, seconds.
_AROUND_S = (0.1, 0.5)

_BASELINE_S = 6.0
_MIXTURE = Mixture(macros=0.0, micro_px=(1.2, 3.0), pause_s=(1.0, 2.0), start_s=(6.5, 7.0))
_FPS = 30.0


class _Listening:
    """A spotter's network at a low threshold, whose probabilities of an end are noted."""

    def __init__(self, model: SpotterModel) -> None:
        self.threshold, self.reliability = _LENIENT, model.reliability
        self.patterns, self.start = model.patterns, model.start
        self.ends: list[float] = []
        self._model = model

    def __call__(self, signals: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs, state = self._model(signals, state)
        self.ends.append(float(outputs[0]))
        return outputs, state


@dataclass(frozen=True, slots=True, eq=False)
class Rested:
    """A clip: its baseline, and what the spotter reports after it.

    Attributes:
        high: 99th percentile of the log odds of an end in the baseline.
        seconds: Length of the rest.
        events: Micro-expressions in the rest.
        scores: (n,) of the reports in it, as log odds.
        true: (n,) bool.
    """

    high: float
    seconds: float
    events: int
    scores: np.ndarray
    true: np.ndarray


def rested(file: Path, model: SpotterModel) -> Rested | None:
    """What a clip's signals tell; None if its baseline is too short."""
    micros, _ = hidden_intervals(file)
    streams = motion_streams(file)
    times = [motion.time_s for stream in streams for motion in stream]
    if len(times) < 2:
        return None
    until_s = times[0] + min(_LONGEST_S, _PART * (times[-1] - times[0]))
    if until_s - times[0] < _SHORTEST_S:
        return None
    proposals: list[Proposal] = []
    rest: list[float] = []
    for stream in streams:
        network = _Listening(model)
        spotter = Spotter(network)
        for motion in stream:
            proposals += spotter(motion).found
        proposals += spotter.finish()
        for step, end in enumerate(network.ends[WARM_UP_STEPS:], WARM_UP_STEPS):
            time_s = stream[0].time_s + (step + 0.5) * STEP_S
            before_s, after_s = _AROUND_S
            if time_s < until_s and not any(
                m.onset_s - before_s < time_s < m.offset_s + after_s for m in micros
            ):
                rest.append(log_odds(end))
    if len(rest) < WARM_UP_STEPS:
        return None
    fps = 1 / float(np.median(np.diff(times)))
    hits = {j for _, j in matches(micros, [p.interval for p in proposals], fps)}
    later = [j for j, p in enumerate(proposals) if p.interval.onset_s > until_s]
    scores = [log_odds(proposals[j].score) for j in later]
    return Rested(
        float(np.percentile(rest, 99)),
        times[-1] - until_s,
        sum(m.onset_s > until_s for m in micros),
        np.array(scores),
        np.array([j in hits for j in later], bool),
    )


def thresholds_table(clips: Sequence[Rested], threshold: float) -> Table:
    """What thresholds of each person's own would bring, a row for each of `_SHARES`."""
    minutes, events = sum(c.seconds for c in clips) / 60, sum(c.events for c in clips)
    true = np.concatenate([c.true for c in clips])
    off = np.array([c.high for c in clips])
    off = np.clip(off - np.median(off), -_MOST_SHIFT, _MOST_SHIFT)
    table = Table(
        title=f"Thresholds by the baseline: {len(clips)} clips, {minutes:.1f} minutes, "
        f"{events} events after it"
    )
    table.add_column("share", justify="right")
    for rate in _FALSE_PER_MINUTE:
        table.add_column(f"recall at {rate:g}/min", justify="right")
    table.add_column("at the card's", justify="right")
    table.add_column("false/min", justify="right")
    for share in _SHARES:
        scores = np.concatenate([c.scores - share * o for c, o in zip(clips, off, strict=True)])
        false = np.sort(scores[~true])[::-1]
        cells = []
        for rate in _FALSE_PER_MINUTE:
            allowed = int(rate * minutes)
            least = false[allowed] if allowed < len(false) else -np.inf
            cells.append(int((true & (scores > least)).sum()))
        reported = scores >= log_odds(threshold)
        cells.append(int((true & reported).sum()))
        rate = int((~true & reported).sum()) / minutes
        table.add_row(f"{share:g}", *(f"{n} of {events}" for n in cells), f"{rate:.2f}")
    return table


@dataclass(frozen=True, slots=True)
class Sized:
    """What was measured of one hidden motion, pixels.

    Attributes:
        flaws: Those of the baseline.
        peak: Its true size.
        from_onset, from_late_onset, from_neutral: What is measured at the apex.
        rest: What is measured from the neutral face at the onset.
    """

    flaws: tuple[BaselineFlaw, ...]
    peak: float
    from_onset: float
    from_late_onset: float
    from_neutral: float
    rest: float


def sized(
    file: Path, motions: list[RiseAndFall], model: Path, rng: np.random.Generator
) -> list[Sized]:
    """Puts motions into a clip of a photo or video, and measures them.

    Raises:
        InputError: The file cannot be read.
    """
    if is_photo(file):
        frames, fps = list(sway(read_photo(file), model, rng, _FPS)), _FPS
    else:
        frames, fps = stretch(file, model, rng)
    if not frames:
        return []
    hidden = plan(motions, frames[-1].time_s, rng, _MIXTURE)
    seen = seen_by_a_camera(with_motions(frames, hidden, model), fps, rng)
    return list(_measured(seen, hidden, model))


def _measured(frames: Iterator[Frame], hidden: Sequence[Hidden], model: Path) -> Iterator[Sized]:
    taking: Taking | None = None
    pair = FacePair()
    recent: deque[tuple[float, CanonicalFace]] = deque(maxlen=60)
    left = list(hidden)

    def at(time_s: float) -> CanonicalFace:
        return min(recent, key=lambda seen: abs(seen[0] - time_s))[1]

    with Analyser(landmarks=model, providers="cpu") as analyser:
        for tracked in map(analyser.track, frames):
            time_s = tracked.frame.time_s
            step = next(iter(analyser.follow(tracked)), None)
            if step is None:
                continue
            recent.append((time_s, step.face))
            taking = taking or Taking(step.state.face, time_s, _BASELINE_S)
            if time_s < taking.due_s:
                taking.add(step, time_s, is_sparse=False)
                continue
            if not left or time_s < left[0].offset_s:
                continue
            motion, neutral = left.pop(0), taking.neutral
            if neutral is None or recent[0][0] > motion.onset_s:
                continue
            late_s = motion.onset_s + (motion.apex_s - motion.onset_s) / 3
            onset, late, apex = (at(t) for t in (motion.onset_s, late_s, motion.apex_s))
            yield Sized(
                taking.ended(taking.due_s).flaws,
                float(np.percentile(np.linalg.norm(motion.rise, axis=-1), 99)),
                pair.moved_px(onset, apex),
                pair.moved_px(late, apex),
                pair.moved_px(neutral, apex),
                pair.moved_px(neutral, onset),
            )


def sizes_table(motions: Sequence[Sized]) -> Table:
    """How well sizes are measured, a row for good baselines and one for poor ones."""
    table = Table(title="Measured size / true size")
    for name in ("baseline", "motions", "from the onset", "a late one", "from neutral", "at rest"):
        table.add_column(name, justify="right")
    for name, is_good in (("good", True), ("poor", False)):
        some = [m for m in motions if is_good != bool(m.flaws)]
        if not some:
            continue
        peaks = np.array([m.peak for m in some])
        ratios = [
            np.array([getattr(m, key) for m in some]) / peaks
            for key in ("from_onset", "from_late_onset", "from_neutral")
        ]
        rest = np.array([m.rest for m in some])
        table.add_row(
            name, str(len(some)), *map(_spread, ratios), f"{_spread(rest)} px", end_section=True
        )
    return table


def _spread(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("--signals", type=Path, nargs="*", default=[], metavar="DIR")
    parser.add_argument("--spotter", type=Path, default=SPOTTER)
    parser.add_argument("--media", type=Path, metavar="DIR", help="face videos and photos")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the flow release")
    parser.add_argument("--subjects", nargs="*", metavar="S", help="whose motions (default: all)")
    parser.add_argument("--takes", type=int, default=1, metavar="N", help="clips of each file")
    options = parser.parse_args(arguments)
    if (options.media is None) != (options.data is None):
        parser.error("--media DIR and --data DIR go together")
    if not options.signals and options.media is None:
        parser.error("give --signals DIR, or --media DIR with --data DIR")
    return exit_status(parser.prog, lambda: _measure(options, Console(width=120)))


def _measure(options: argparse.Namespace, console: Console) -> None:
    """All that the command does.

    Raises:
        InputError: A file or folder cannot be used.
    """
    if options.signals:
        spotter = SpotterModel(options.spotter)
        known = [rested(file, spotter) for file in signal_files(*options.signals)]
        clips = [clip for clip in known if clip is not None]
        if not clips:
            raise InputError("no clip is long enough for a baseline: give longer ones")
        console.print(thresholds_table(clips, spotter.threshold))
    if options.media is None:
        return
    release = read_release(options.data)
    if options.subjects:
        release = release.only(options.subjects)
    motions, model = measured_motions(release.pairs), find_landmark_model()
    measured: list[Sized] = []
    for file in media_files(options.media):
        for take in range(options.takes):
            rng = np.random.default_rng((take, zlib.crc32(file.stem.encode())))
            some = sized(file, motions, model, rng)
            flaws = (", ".join(some[0].flaws) or "good") if some else "none"
            told = f"{file.name}: {len(some)} motions, baseline {flaws}"
            print(told, file=sys.stderr, flush=True)
            measured += some
    if not measured:
        raise InputError(f"{options.media} gives no clip that is long enough")
    console.print(sizes_table(measured))


if __name__ == "__main__":
    sys.exit(main())
