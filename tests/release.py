"""The public flow release, for tests that compare with it and are skipped without it."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.data import IMAGES

_VARIABLE = "CAUSALNET_RELEASE"

needs_release = pytest.mark.skipif(
    _VARIABLE not in os.environ, reason=f"set {_VARIABLE} to a clone of the official repository"
)


def release_folder() -> Path:
    return Path(os.environ[_VARIABLE])


def release_image(name: str) -> np.ndarray:
    """(28, 28, 3) uint8, BGR: an image of the release, in its folder or in a clone's datasets/."""
    folder = release_folder() / IMAGES
    if not folder.is_dir():
        folder = release_folder() / "datasets" / IMAGES
    return cv2.imread(str(folder / f"{name} .png"))
