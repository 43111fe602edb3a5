"""Motion signals of a face as `tools/spotting/synthesize.py` writes them, of a face that does nothing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from realtime_mer.face.registration import CanonicalFace
from realtime_mer.spotting.motion import FACE_CELLS, REGIONS


def write_signals(
    path: Path,
    face: CanonicalFace,
    events: Sequence[tuple[float, float, float, float]] = (),
    noise_px: float = 0.0,
    seed: int = 0,
) -> Path:
    """Writes 400 frames at 30 a second, with events that are told and move nothing."""
    rng = np.random.default_rng(seed)
    count, regions = 400, len(REGIONS)
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        path,
        time_s=np.arange(count) / 30,
        regions=rng.normal(0, noise_px, (count, regions, 2)).astype(np.float32),
        cells=rng.normal(0, noise_px, (count, len(FACE_CELLS), 2)).astype(np.float16),
        trust=np.full((count, regions), 5, np.float32),
        head=np.zeros((count, 3), np.float32),
        place=np.zeros((count, 2), np.float32),
        blink=np.full(count, 0.1, np.float32),
        jaw_open=np.full(count, 0.1, np.float32),
        landmarks=face.landmarks,
        face=face.grey,
        clean=face.grey,
        still=True,
        events=np.array(events, float).reshape(-1, 4),
    )
    return path
