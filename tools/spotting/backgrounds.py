"""Backgrounds of training windows: what faces do in clips, and what they would show of motions.

Flow sees less of a motion than there is, on each face differently. So a background carries the
responses of its own face to many motions and blinks (`tools/spotting/face_response.py`), in the
columns of a row of `realtime_mer/spotting/signals.py`.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np

from realtime_mer.demo.photo import PhotoFace
from realtime_mer.spotting.motion import REGIONS
from realtime_mer.spotting.signals import PATTERNS
from tools.spotting.clip_signals import clip_name
from tools.spotting.face_response import FaceResponse
from tools.spotting.motions import RiseAndFall, lid_motions

REGION_COUNT = len(REGIONS)
# The first columns of a row: displacements of regions (x, y) and of patterns.
MOVED = 2 * REGION_COUNT + PATTERNS
# First columns of the head's motion and of the lids'.
HEAD = MOVED + REGION_COUNT
BLINK = HEAD + 5
# How far lids have closed where their motion is measured.
LID_LEVELS = np.array([0, 0.2, 0.4, 0.7, 1.0])
# Blinks a face: so many whose lid slides with the eye, and lids that cover it, closing so far.
_SLIDING = 9
_COVERING = (0.35, 0.7, 1.0)
# Restlessness is measured over about the rise of a micro-expression.
RESTLESS_S = 0.25
# What a face usually does masks a motion less than what it does at that moment: by this factor.
# Chosen so that a motion of 0.3 times the usual one is as masked as one of 0.7 times the present.
USUAL_SHARE = 0.45
# After an event the face may take this long to come to rest.
_SETTLES_S = 0.5
# Restlessness of calm faces, in units of patterns: chosen from the clips of photos.
_CALM = 4.0
# A clip counts like its length in units of this, within limits: chosen so that long videos do not
# crowd out the photos.
_USUAL_LENGTH_S = 15
_LENGTH_LIMITS = (0.3, 4)
# A response takes 2 ms to measure: each face gets so many of the motions.
_MOTIONS_A_FACE = 100


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """One background clip.

    Attributes:
        name: Name of the photo or video.
        still: Made from a photo.
        times: (n,) seconds.
        rows: (n, ROW) float32, NaN where no face was seen.
        rise, fall: (m, MOVED) float32, what this face's regions and patterns show of m motions.
        blinks: (k, levels, MOVED) float32, what they show of k blinks, from open to as far as the
            eyes close.
        events: (j, 5) onset, apex and offset in seconds of what the rows already hold, 1 for a
            macro-expression and 0 for a micro one, and how far the face's own motion masks it.
        usual: (REGION_COUNT,) third quartile of each region's displacement within `RESTLESS_S` when
            nothing is hidden.
        restlessness: The same of all patterns together.
    """

    name: str
    still: bool
    times: np.ndarray
    rows: np.ndarray
    rise: np.ndarray
    fall: np.ndarray
    blinks: np.ndarray
    events: np.ndarray
    usual: np.ndarray
    restlessness: float


def load_background(
    path: Path,
    motions: Sequence[RiseAndFall],
    patterns: np.ndarray,
    rng: np.random.Generator,
) -> Background:
    """A background from signals of `tools/spotting/synthesize.py`.

    Args:
        path: The signals.
        motions: What to measure the face's responses to.
        patterns: `PATTERN_SHAPE`, through which the cells are seen.
        rng: Draws the blinks.
    """
    with np.load(path, allow_pickle=False) as signals:
        times = signals["time_s"]
        rows = _rows(signals, patterns)
        clean, landmarks = signals["clean"], signals["landmarks"]
        face = FaceResponse(signals["face"], clean, landmarks)
        still, events = bool(signals["still"]), signals["events"]

    def row(response: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        regions, cells = response
        return np.concatenate([regions.ravel(), cells.ravel() @ patterns], dtype=np.float32)

    usual, restlessness = _usual(times, rows, events)
    masked = [_masked(times, rows, usual, *event[:2]) for event in events]
    return Background(
        clip_name(path),
        still,
        times,
        rows,
        np.array([row(face(rise)) for rise, _ in motions]),
        np.array([row(face(fall)) for _, fall in motions]),
        np.array(
            [
                [row(face.of(picture)) for picture in blink]
                for blink in _blinks(face, clean, landmarks, rng)
            ]
        ),
        np.column_stack([events, masked]) if len(events) else np.zeros((0, 5)),
        usual,
        restlessness,
    )


def _rows(signals: Mapping[str, np.ndarray], patterns: np.ndarray) -> np.ndarray:
    """Rows (n, ROW) float32 of a clip's signals."""
    count = len(signals["time_s"])
    cells = signals["cells"].astype(np.float32).reshape(count, -1)
    rows = np.concatenate(
        [
            signals["regions"].reshape(count, -1),
            cells @ patterns,
            signals["trust"],
            signals["head"],
            signals["place"],
            signals["blink"][:, None],
            signals["jaw_open"][:, None],
        ],
        axis=1,
        dtype=np.float32,
    )
    # Where the face jumped, the motion starts anew from one frame to the next: no window spans it.
    seen = np.isfinite(rows[:, BLINK])
    rows[1:][signals["restarted"][1:] & seen[:-1]] = np.nan
    return rows


def _blinks(
    face: FaceResponse, clean: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator
) -> Iterator[list[np.ndarray]]:
    """Pictures of a face's blinks, each from open to as far as it closes.

    Some lids cover the eye, others slide with the eye under them, as half blinks and deep-set eyes
    seem to do.
    """
    photo = PhotoFace(clean, landmarks)
    for lid in lid_motions(_SLIDING, rng):
        peak = rng.uniform(2, 14)
        yield [face.moved(level * peak * lid) for level in LID_LEVELS]
    colours = cv2.cvtColor(clean, cv2.COLOR_GRAY2BGR)
    for closed in _COVERING:
        yield [photo.blink(colours, level * closed)[..., 0] for level in LID_LEVELS]


def pattern_displacement(moved: np.ndarray) -> float:
    """The length of the patterns' part of a motion (MOVED or more,)."""
    return float(np.linalg.norm(moved[2 * REGION_COUNT : MOVED]))


def region_lengths(moved: np.ndarray) -> np.ndarray:
    """(..., REGION_COUNT) how far each region goes in a motion (..., MOVED or more)."""
    regions = moved[..., : 2 * REGION_COUNT]
    return np.hypot(regions[..., ::2], regions[..., 1::2])


def change_between(
    times: np.ndarray, moved: np.ndarray, start_s: float, end_s: float
) -> np.ndarray:
    """(MOVED or more,) what changes from one time to another in (n, MOVED or more), or NaN."""
    start, end = moved[np.searchsorted(times, (start_s, end_s)).clip(0, len(times) - 1)]
    return end - start


def masking(motion: np.ndarray, own: np.ndarray) -> float:
    """How far a face's own motion covers another one where that one moves the skin.

    The root mean squares of both, weighted by the squared size of the other one: a mouth that
    speaks does not cover a raised brow.

    Args:
        motion: (n,) how far each region or cell goes in the other motion.
        own: (n,) how far it goes by itself.
    """
    squares = np.square(motion)
    return math.sqrt((squares @ np.square(own)) / max(squares @ squares, 1e-12))


def _masked(
    times: np.ndarray, rows: np.ndarray, usual: np.ndarray, onset_s: float, apex_s: float
) -> float:
    """How far a motion that the rows hold is masked by what the face does just before and usually.

    What the face does in the same moment cannot be told from it: what it did just before stands
    for that.
    """
    motion = region_lengths(change_between(times, rows, onset_s, apex_s))
    before = region_lengths(change_between(times, rows, onset_s - RESTLESS_S, onset_s))
    return max(masking(motion, before), USUAL_SHARE * masking(motion, usual))


def _usual(times: np.ndarray, rows: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, float]:
    """See `Background`: `usual` and `restlessness`."""
    starts = np.arange(times[0], times[-1] - RESTLESS_S, RESTLESS_S)
    calm = [
        t for t in starts if all(t + RESTLESS_S < e[0] or t > e[2] + _SETTLES_S for e in events)
    ]
    moved = [change_between(times, rows, t, t + RESTLESS_S) for t in calm]
    moved = [change for change in moved if np.isfinite(change[:MOVED]).all()]
    if not moved:
        return np.full(REGION_COUNT, np.inf), math.inf
    usual = np.percentile([region_lengths(change) for change in moved], 75, axis=0)
    return usual, float(np.percentile([pattern_displacement(change) for change in moved], 75))


def likelihoods(backgrounds: list[Background]) -> np.ndarray:
    """Weights with which backgrounds are drawn: long ones more often, restless ones less.

    Where nobody could see a micro-expression, there is little to learn but silence. That must not
    crowd out the rest; but what speech looks like is learned nowhere else.
    """
    return np.array(
        [
            np.clip(np.ptp(b.times) / _USUAL_LENGTH_S, *_LENGTH_LIMITS)
            * math.sqrt(min(1.0, _CALM / max(b.restlessness, 1e-6)))
            for b in backgrounds
        ]
    )


# What `_load` reads, in processes that are forked.
_shared: dict[str, Any] = {}


def _load(file: Path) -> Background:
    motions = _shared["motions"]
    rng = np.random.default_rng((_shared["seed"], crc32(file.name.encode())))
    count = min(len(motions), _MOTIONS_A_FACE)
    chosen = [motions[i] for i in rng.choice(len(motions), count, replace=False)]
    return load_background(file, chosen, _shared["patterns"], rng)


def load_backgrounds(
    files: list[Path],
    motions: list[RiseAndFall],
    patterns: np.ndarray,
    seed: int,
    jobs: int,
) -> list[Background]:
    """Backgrounds, each with some of the motions: together they have them all.

    Args:
        files: Signals of `tools/spotting/synthesize.py`.
        motions: What to draw each face's motions from.
        patterns: `PATTERN_SHAPE`, through which the cells are seen.
        seed: Of motions and blinks.
        jobs: Files at a time, each in a process.
    """
    _shared.update(motions=motions, patterns=patterns, seed=seed)
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        return pool.map(_load, files, chunksize=1)
