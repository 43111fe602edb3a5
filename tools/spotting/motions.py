"""Motions of a face: displacement fields of the canonical face, and their course in time.

A motion is a pair of fields, from onset to apex and from apex to offset. It is measured (the flow
release of CASME II, SMIC and SAMM) or drawn (`realtime_mer/demo/action_units.py`).
"""

from __future__ import annotations

import cv2
import numpy as np

from realtime_mer.demo.action_units import EXPRESSIONS, expression
from realtime_mer.face.registration import FACE_SIZE, LAYOUT

RiseAndFall = tuple[np.ndarray, np.ndarray]
"""Two fields (224, 224, 2) float32: onset to apex, apex to offset; 99th percentile of the first
is 1."""

# Lengths of the expressions that are made, seconds. By the usual definition a micro-expression
# lasts 1/25 to 1/2 s; what is shorter than 0.1 s is hardly more than two frames at 30 a second.
MICRO_S = (0.1, 0.52)
MACRO_S = (0.6, 3.0)


def _normalised(field: np.ndarray) -> np.ndarray:
    """A field without its median and with a 99th percentile displacement of 1."""
    field = field - np.median(field.reshape(-1, 2), 0)
    size = float(np.percentile(np.linalg.norm(field, axis=-1), 99))
    return (field / max(size, 1e-6)).astype(np.float32)


def measured_motions(pairs: np.ndarray) -> list[RiseAndFall]:
    """The motions of flow pairs (m, 2, 28, 28, 3) uint8."""
    motions = []
    for pair in pairs:
        rise, fall = (
            cv2.resize(
                _normalised(image[..., [2, 1]].astype(np.float32)),
                (FACE_SIZE, FACE_SIZE),
                interpolation=cv2.INTER_CUBIC,
            )
            for image in pair
        )
        motions.append((rise, fall))
    return motions


def drawn_motions(count: int, rng: np.random.Generator) -> list[RiseAndFall]:
    """Motions of action units; the fall returns nearly all the way."""
    motions = []
    labels = list(EXPRESSIONS)
    for _ in range(count):
        choices = EXPRESSIONS[labels[rng.integers(len(labels))]]
        field = _normalised(expression(choices[rng.integers(len(choices))], rng, 1.0))
        motions.append((field, -field * rng.uniform(0.6, 1.0)))
    return motions


def lid_motions(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Fields (224, 224, 2) of upper lids that come down, as in blinks and half blinks; peak 1."""
    rows, columns = np.mgrid[0:FACE_SIZE, 0:FACE_SIZE].astype(np.float32)
    fields = []
    for _ in range(count):
        field = np.zeros((FACE_SIZE, FACE_SIZE, 2), np.float32)
        wide, high, above = rng.uniform(16, 30), rng.uniform(6, 13), rng.uniform(0, 10)
        for x, y in LAYOUT[:2]:
            side = rng.uniform(0.7, 1.0)
            across, down = (columns - x) / wide, (rows - y + above) / high
            field[..., 1] += side * np.exp(-(across**2) - down**2)
        fields.append(field)
    return fields


def ramp(x: np.ndarray, power: float = 1.0) -> np.ndarray:
    """From 0 (x up to 0) to 1 (x from 1 on), smoothly; with a power above 1 it begins slowly."""
    return (0.5 - 0.5 * np.cos(np.pi * np.clip(x, 0, 1))) ** power


def course(
    times: np.ndarray, onset: float, apex: float, offset: float, bend: float, fade_s: float
) -> np.ndarray:
    """The course of a motion: (3, n) strength of its rise, of its fall, and what remains of both.

    Args:
        times: (n,) seconds, like onset, apex and offset.
        bend: Above 1 the rise begins slowly.
        fade_s: Time constant with which the sum of rise and fall returns to nothing.
    """
    up = ramp((times - onset) / max(apex - onset, 1e-3), bend)
    down = ramp((times - apex) / max(offset - apex, 1e-3), 1 / bend)
    return np.stack([up, down, np.exp(-np.maximum(times - offset, 0) / fade_s)])
