"""How far a face's own motion covers the expressions that are hidden in a clip.

Nobody can see a motion of 1 px on skin that moves by 3 px at that moment. So recall says little
without this. The masking of a hidden motion is what the face does by itself, divided by what the
motion does: from onset to apex, or from apex to offset if that ratio is larger. Both are root mean
squares over the cells of the face, weighted by the squared size of the motion, since what other
parts of the face do covers nothing.

The face's own motion is measured by the runtime's own tracking, registration and flow, without the
head's motion, in the clip before anything is hidden in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from realtime_mer.source.frame import Frame
from realtime_mer.spotting.cell_flow import to_cells
from realtime_mer.spotting.motion import FACE_CELLS
from tools.spotting.backgrounds import masking as masked_by
from tools.spotting.clip_signals import follow
from tools.spotting.hidden_motion import Hidden

# Share of a motion that the flow of cells finds (docs/spotting.md, "Amplitude").
_FOUND = 2 / 3


def masking(frames: Iterable[Frame], hidden: Sequence[Hidden], model: Path) -> list[float | None]:
    """The masking of each hidden motion; None where the face was not followed through it.

    Args:
        frames: The clip before anything is hidden in it.
        hidden: What will be hidden in it.
        model: The face landmarker's.
    """
    signals = follow(frames, model) if hidden else {}
    if not signals:
        return [None] * len(hidden)
    times, restarted = signals["time_s"], signals["restarted"]
    # What the flow would have found if it found everything, (time, FACE_CELLS, 2).
    cells = signals["cells"].astype(np.float32) / _FOUND
    ratios: list[float | None] = []
    for motion in hidden:
        onset, apex, offset = (
            int(np.abs(times - time_s).argmin())
            for time_s in (motion.onset_s, motion.apex_s, motion.offset_s)
        )
        own = np.diff(cells[[onset, apex, offset]], axis=0)
        # Displacements before and after a fresh start cannot be compared.
        if restarted[onset + 1 : offset + 1].any() or not np.isfinite(own).all():
            ratios.append(None)
        else:
            pairs = zip(own, (motion.rise, motion.fall), strict=True)
            ratios.append(max(_ratio(*pair) for pair in pairs))
    return ratios


def _ratio(own: np.ndarray, field: np.ndarray) -> float:
    """The face's own motion (FACE_CELLS, 2), relative to a field (224, 224, 2) and where it is."""
    cells = to_cells(field).reshape(-1, 2)[FACE_CELLS]
    return masked_by(np.linalg.norm(cells, axis=1), np.linalg.norm(own, axis=1))
