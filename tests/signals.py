"""Signals of a face that hardly moves, as files of clips and as backgrounds of windows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from realtime_mer.demo.action_units import expression
from realtime_mer.face.registration import CanonicalFace
from realtime_mer.spotting.cell_flow import to_cells
from realtime_mer.spotting.motion import FACE_CELLS, REGIONS
from realtime_mer.spotting.signals import ROW
from tools.spotting.backgrounds import LID_LEVELS, MOVED, REGION_COUNT, Background
from tools.spotting.motions import course

_BROWS = [i for i, name in enumerate(REGIONS) if "brow" in name or name == "glabella"]
# Flow finds about half of a motion.
_FOUND = 0.5


def write_signals(
    path: Path,
    face: CanonicalFace,
    events: Sequence[tuple[float, float, float, float]] = (),
    noise_px: float = 0.0,
    seed: int = 0,
    *,
    raise_px: float = 0.0,
    absent: Sequence[int] = (),
    restarted: Sequence[int] = (0,),
) -> Path:
    """Writes 400 frames at 30 a second, as `tools/spotting/synthesize.py` does.

    Args:
        path: The file.
        face: Whose face it is.
        events: Onset, apex, offset in seconds, and 1 for a macro-expression.
        noise_px: Standard deviation of regions and cells.
        seed: Of the noise.
        raise_px: How far the brows rise in the events.
        absent: Frames without a face.
        restarted: Frames in which the face starts afresh.
    """
    rng = np.random.default_rng(seed)
    count, regions = 400, len(REGIONS)
    times = np.arange(count) / 30
    region = rng.normal(0, noise_px, (count, regions, 2))
    cells = rng.normal(0, noise_px, (count, len(FACE_CELLS), 2))
    raised = to_cells(expression(("AU1", "AU2"))).reshape(-1, 2)[FACE_CELLS]
    for onset, apex, offset, _ in events:
        up, down, _ = course(times, onset, apex, offset, 1.0, 1.0)
        strength = _FOUND * raise_px * (up - down)
        region[:, _BROWS, 1] -= strength[:, None]
        cells += strength[:, None, None] * raised
    signals = {
        "regions": region.astype(np.float32),
        "cells": cells.astype(np.float16),
        "trust": np.full((count, regions), 5, np.float32),
        "head": np.zeros((count, 3), np.float32),
        "place": np.zeros((count, 2), np.float32),
        "blink": np.full(count, 0.1, np.float32),
        "jaw_open": np.full(count, 0.1, np.float32),
    }
    for values in signals.values():
        values[list(absent)] = np.nan
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        path,
        time_s=times,
        restarted=np.isin(np.arange(count), restarted),
        **signals,
        landmarks=face.landmarks,
        face=face.grey,
        clean=face.grey,
        still=True,
        events=np.array(events, float).reshape(-1, 4),
    )
    return path


def quiet_background(
    times: np.ndarray | None = None,
    rows: np.ndarray | None = None,
    motion: float = 1.0,
    events: Sequence[tuple[float, ...]] = (),
    usual: float = 0.0,
    restlessness: float = 0.0,
) -> Background:
    """A face that does nothing by itself, with one motion: all regions to the right and back.

    The motion moves all patterns too. An event's last number is how far it is masked.
    """
    times = np.arange(0, 15, 1 / 60) if times is None else times
    rows = np.zeros((len(times), ROW), np.float32) if rows is None else rows
    rise = np.zeros((1, MOVED), np.float32)
    rise[:, : 2 * REGION_COUNT : 2] = rise[:, 2 * REGION_COUNT :] = motion
    blinks = np.zeros((1, len(LID_LEVELS), MOVED), np.float32)
    return Background(
        "quiet",
        True,
        times,
        rows,
        rise,
        -rise,
        blinks,
        np.array(events, float).reshape(-1, 5),
        np.full(REGION_COUNT, usual),
        restlessness,
    )
