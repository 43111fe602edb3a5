"""Action units as a face model of other people shows them: the ICT face kit (MIT licence).

github.com/ICT-VGL/ICT-FaceKit holds a neutral face and what each of 53 expressions does to it, made
from scans. So it tells whether a network knows more than our own drawings of action units.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator

from realtime_mer.demo.action_units import peak
from realtime_mer.errors import InputError
from realtime_mer.face.registration import FACE_SIZE, LAYOUT, similarity, transform

# Shapes of the face kit that an action unit consists of, and their strengths; `_L` and `_R` follow
# where there are two.
_SHAPES: Mapping[str, tuple[tuple[str, float], ...]] = {
    "AU1": (("browInnerUp", 1.0),),
    "AU2": (("browOuterUp", 1.0),),
    "AU4": (("browDown", 1.0),),
    "AU5": (("eyeWide", 1.0),),
    "AU6": (("cheekRaiser", 1.0),),
    "AU7": (("eyeSquint", 1.0),),
    "AU9": (("noseSneer", 1.0),),
    "AU10": (("mouthUpperUp", 1.0),),
    "AU12": (("mouthSmile", 1.0),),
    "AU15": (("mouthFrown", 1.0),),
    "AU17": (("mouthShrugLower", 1.0),),
    "AU20": (("mouthStretch", 1.0),),
    "AU24": (("mouthPress", 1.0),),
    "AU25": (("mouthLowerDown", 1.0), ("mouthUpperUp", 0.3)),
    "AU26": (("jawOpen", 1.0),),
}
_KIT_FOLDER = "FaceXModel"
_REMEDY = "give a clone of github.com/ICT-VGL/ICT-FaceKit as --face-kit"
# The kit's vertices of the face without ears and neck (its README).
_KIT_FACE = 6706
# Of its 68 landmarks: eyes, tip of the nose, corners of the mouth; then, as `rows_of` has them,
# brows, eyes, nose wings, corners of the mouth and the lower lip's edge.
_KIT_FIVE = ((36, 39), (42, 45), (30,), (48,), (54,))
_KIT_ROWS = ((19, 24), (36, 39, 42, 45), (31, 35), (48, 54), (57,))
# The rows of the same on the mean face that units are drawn for.
_DRAWN_ROWS = (50.0, 84.0, 136.5, 181.0, 198.0)
# Smooths the edges of the kit's triangles and the lips' line, pixels.
_BLUR_PX = 2.0
# A motion fades to 0 over so many pixels at the edge.
_FADE_PX = 14.0


class FaceKit:
    """Draws action units as the ICT face kit moves a face.

    Args:
        folder: A clone of its repository.

    Raises:
        InputError: The folder is something else.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _KIT_FOLDER
        try:
            indices = json.loads((self._folder / "vertex_indices.json").read_text("utf-8"))
            landmarks = np.array(indices["idx_to_landmark_verts"])
            self._still = self._vertices("generic_neutral_mesh")
            marks = self._still[landmarks, :2] * (1, -1)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise InputError(f"{folder} holds no face kit: {_REMEDY}") from error
        five = np.array([marks[list(points)].mean(0) for points in _KIT_FIVE])
        self._to_face = similarity(five, LAYOUT.astype(float))
        rows = transform(marks, self._to_face)[:, 1]
        own = [rows[list(points)].mean() for points in _KIT_ROWS]
        every = np.arange(FACE_SIZE)
        self._rows = every + np.interp(every, _DRAWN_ROWS, np.subtract(own, _DRAWN_ROWS))
        points = self._to_pixels(self._still)
        self._interpolate = LinearNDInterpolator(points, np.zeros((_KIT_FACE, 2)), fill_value=0.0)
        self._fields: dict[str, list[np.ndarray]] = {}

    def __call__(self, units: Sequence[str], rng: np.random.Generator) -> np.ndarray:
        """The field (224, 224, 2) float32 of some action units, 99th percentile displacement 1.

        Each unit has another strength, and a unit with two sides is weaker on one of them.
        """
        total = np.zeros((FACE_SIZE, FACE_SIZE, 2), np.float32)
        for unit in units:
            sides, strengths = self._unit(unit), np.ones(2)
            strengths[rng.integers(2)] = rng.uniform(0.7, 1.0)
            moved = sum(s * side for s, side in zip(strengths, sides, strict=False))
            total += rng.uniform(0.6, 1.0) / peak(np.sum(sides, axis=0)) * moved
        return (total / peak(total)).astype(np.float32)

    def _unit(self, unit: str) -> list[np.ndarray]:
        """The fields (224, 224, 2) of an action unit: one, or one for each side of the face."""
        if unit not in self._fields:
            sides: list[list[np.ndarray]] = [[], []]
            for shape, strength in _SHAPES[unit]:
                names = [f"{shape}{s}" for s in ("_L", "_R")]
                if not (self._folder / f"{names[0]}.obj").exists():
                    names = [shape]
                for side, name in zip(sides, names, strict=False):
                    side.append(strength * self._field(name))
            self._fields[unit] = [np.sum(side, axis=0) for side in sides if side]
        return self._fields[unit]

    def _field(self, name: str) -> np.ndarray:
        """What an expression does to the face: (224, 224, 2), pixels."""
        moved = self._to_pixels(self._vertices(name)) - self._to_pixels(self._still)
        self._interpolate.values[:] = moved  # on the same triangles
        x, y = np.meshgrid(np.arange(FACE_SIZE, dtype=float), self._rows)
        field = cv2.GaussianBlur(self._interpolate(x, y).astype(np.float32), (0, 0), _BLUR_PX)
        edge = np.minimum(np.arange(FACE_SIZE), np.arange(FACE_SIZE)[::-1]) / _FADE_PX
        return field * np.minimum(np.minimum.outer(edge, edge), 1)[..., None].astype(np.float32)

    def _to_pixels(self, vertices: np.ndarray) -> np.ndarray:
        """(n, 2) places of vertices (n, 3) on the canonical face, seen from the front."""
        return transform(vertices[:, :2] * (1, -1), self._to_face)

    def _vertices(self, name: str) -> np.ndarray:
        """(6706, 3), x to the right of the picture, y up, z to the viewer.

        Raises:
            InputError: The file is missing or damaged.
        """
        path = self._folder / f"{name}.obj"
        found = []
        try:
            with path.open(encoding="utf-8") as file:
                for line in file:
                    if line.startswith("v "):
                        found.append(line.split()[1:4])
                        if len(found) == _KIT_FACE:
                            return np.array(found, float)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {_REMEDY}") from error
        raise InputError(f"{path} ends too early: {_REMEDY}")
