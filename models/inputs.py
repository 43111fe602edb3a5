"""What some networks see in place of flow pairs: planes of a clip, each an image of the face.

Their classes have an attribute `planes`, one of those below; `tools/recognition/inputs.py` makes
the planes of prepared sets, and `models.training` changes and mirrors them by what is said here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from models.training import Recipe

# Another registration of the same face: turn in radians, shift in parts of the image's side.
# As MMNet is trained (4 degrees, 4 of 224 px).
_TURN_RAD = math.radians(4)
_SHIFT = 4 / 224


@dataclass(frozen=True, slots=True)
class Planes:
    """A kind of input, (planes, height, width) a clip.

    Attributes:
        name: What it shows, as messages say it.
        shape: Planes, height, width.
        sideways: The planes that hold a motion to the side, which has the other sign in a mirror.
    """

    name: str
    shape: tuple[int, int, int]
    sideways: tuple[int, ...] = ()

    def mirrored(self, x: Tensor) -> Tensor:
        """Planes (n, planes, height, width) of the faces in a mirror."""
        flipped = x.flip(-1)
        for plane in self.sideways:
            flipped[:, plane] *= -1
        return flipped

    def augment(
        self, inputs: np.ndarray, recipe: Recipe, random: torch.Generator
    ) -> Callable[[Tensor], Tensor]:
        """Plausible other recordings of the same clips: mirrored, and registered differently.

        Args:
            inputs: (n, planes, height, width).
            recipe: How much to change: `mirror` and `jitter` count here.
            random: Where the changes are drawn from.

        Returns:
            A function from the indices of m clips to planes (m, planes, height, width) float32.
        """
        known = torch.from_numpy(inputs)

        def changed(chosen: Tensor) -> Tensor:
            x, n = known[chosen].float(), len(chosen)
            flip = torch.rand(n, 1, 1, 1, generator=random) < recipe.mirror
            x = torch.where(flip, self.mirrored(x), x)
            if not recipe.jitter:
                return x
            turn = (torch.rand(n, generator=random) * 2 - 1) * _TURN_RAD * recipe.jitter
            # affine_grid counts in halves of the side.
            shift = (torch.rand(2, n, generator=random) * 2 - 1) * 2 * _SHIFT * recipe.jitter
            rows = [
                torch.stack([turn.cos(), -turn.sin(), shift[0]], -1),
                torch.stack([turn.sin(), turn.cos(), shift[1]], -1),
            ]
            grid = functional.affine_grid(
                torch.stack(rows, 1), [n, 1, *x.shape[-2:]], align_corners=False
            )
            return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)

        return changed


KEY_FRAMES = Planes("the key frames in colour", (6, 224, 224))
"""Onset and apex, three planes each (BGR), 0..255."""
FLOW_FIELD = Planes("the flow at 224 x 224", (2, 224, 224), sideways=(0,))
"""u and v from onset to apex, pixels of the canonical face."""
SEQUENCE = Planes("18 frames", (18, 64, 64))
"""Grey faces from onset to offset at equal times, 0..255."""
