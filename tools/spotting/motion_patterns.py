"""Patterns of motion that tell micro-expressions from what a face does by itself.

A pattern is a weighted sum of the cells' displacements. The patterns chosen are those in which the
responses to micro-expressions vary most relative to natural motion: the generalised eigenvectors of
the two covariances, a bank of matched filters. On a mirrored face half of them keep their sign and
half change it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.linalg import eigh

from realtime_mer.errors import InputError
from realtime_mer.spotting.cell_flow import CELLS
from realtime_mer.spotting.motion import FACE_CELLS
from realtime_mer.spotting.signals import PATTERN_SHAPE, PATTERNS
from tools.spotting.face_response import FaceResponse

# What a pattern's coefficient is multiplied by on a mirrored face.
PARITY = np.repeat(np.array([1, -1], np.float32), PATTERNS // 2)
# Natural motion is taken over the rise of a micro-expression, at so many moments of each clip.
_RISE_S = 0.2
_MOMENTS = 120
# The liveliest 5 % of moments are blinks and speech, which no linear filter keeps out.
_USUAL = 0.95
_RESPONSES_A_FACE = 30
# Share of the mean natural variance that is added to every cell's: rare motions happen too.
_RIDGE = 0.1
_ROWS, _COLUMNS = np.divmod(FACE_CELLS, CELLS)
_MIRROR = np.searchsorted(FACE_CELLS, _ROWS * CELLS + 30 - _COLUMNS)


def mirrored_cells(cells: np.ndarray) -> np.ndarray:
    """Displacements (..., FACE_CELLS, 2) of the mirrored face."""
    return cells[..., _MIRROR, :] * np.array([-1, 1], np.float32)


def natural_motions(path: Path, rng: np.random.Generator) -> np.ndarray:
    """(n, FACE_CELLS, 2) displacements of a face's cells within 0.2 s by itself; n may be 0.

    Args:
        path: Signals of `tools/spotting/synthesize.py` without motions in them.
        rng: Picks the moments.
    """
    with np.load(path, allow_pickle=False) as signals:
        times, cells = signals["time_s"], signals["cells"]
        stream = np.cumsum(signals["restarted"])
    starts = rng.uniform(times[0], times[-1] - _RISE_S, _MOMENTS)
    first = np.searchsorted(times, starts)
    last = np.searchsorted(times, starts + _RISE_S).clip(0, len(times) - 1)
    # Displacements count from where the face last started afresh.
    together = stream[first] == stream[last]
    moved = cells[last[together]].astype(np.float32) - cells[first[together]].astype(np.float32)
    moved = moved[np.isfinite(moved).all((1, 2))]
    size = np.linalg.norm(moved, axis=(1, 2))
    return moved[size <= np.quantile(size, _USUAL)] if len(moved) else moved


def patterns_between(natural: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """`PATTERN_SHAPE` float32 patterns, each with natural motion of variance 1.

    Args:
        natural: (n, FACE_CELLS, 2) natural motions.
        responses: (m, FACE_CELLS, 2) responses to micro-expressions.
    """
    halves = []
    for sign in (1, -1):

        def covariance(moved: np.ndarray, sign: int = sign) -> np.ndarray:
            part = (moved + sign * mirrored_cells(moved)).reshape(len(moved), -1) / 2
            return part.T @ part / len(part)

        noise, signal = covariance(natural), covariance(responses)
        noise += _RIDGE * np.trace(noise) / len(noise) * np.eye(len(noise))
        size = len(noise)
        first = size - PATTERNS // 2
        vectors = eigh(signal, noise, subset_by_index=(first, size - 1))[1].T[::-1]
        # If the responses span fewer directions, the other vectors are arbitrary: force the parity.
        vectors = vectors.reshape(-1, len(FACE_CELLS), 2)
        halves.append((vectors + sign * mirrored_cells(vectors)).reshape(len(vectors), -1) / 2)
    patterns = np.concatenate(halves).T.astype(np.float32)
    assert patterns.shape == PATTERN_SHAPE
    return np.ascontiguousarray(patterns)


def find_patterns(
    files: list[Path], fields: list[np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """`PATTERN_SHAPE` float32 patterns for micro-expressions on the faces of clips.

    Args:
        files: Signals of `tools/spotting/synthesize.py`.
        fields: (224, 224, 2) each, rises of micro-expressions.
        rng: Picks moments and motions.

    Raises:
        InputError: All clips have motions hidden in them.
    """
    natural, responses = [], []
    for file in files:
        with np.load(file, allow_pickle=False) as signals:
            is_natural = not len(signals["events"])
            face = FaceResponse(signals["face"], signals["clean"], signals["landmarks"])
        if is_natural:
            natural.append(natural_motions(file, rng))
        for i in rng.integers(len(fields), size=_RESPONSES_A_FACE):
            responses.append(face(fields[i])[1])
    moved = np.concatenate(natural) if natural else np.zeros((0, len(FACE_CELLS), 2))
    if not len(moved):
        raise InputError(
            "all clips have motions hidden in them: add clips without, "
            "which tools/spotting/synthesize.py makes in even takes"
        )
    return patterns_between(moved, np.array(responses))
