"""A tiny flow release: synthetic motions under the file names and the index of the real one."""

import csv
from pathlib import Path

import cv2
import numpy as np

from models.data import IMAGES, INDEX, SETS

# Where each class moves in its flow image (row, column), and in which direction (u, v).
MOTIONS = {0: ((7, 9), (0, 1)), 1: ((21, 21), (1, -1)), 2: ((7, 20), (0, -1))}


def flow_image(label: int, sign: int, random: np.random.Generator) -> np.ndarray:
    """(28, 28, 3) uint8: the class's blob of motion over noise, min-max scaled."""
    yy, xx = np.mgrid[:28, :28]
    (row, column), direction = MOTIONS[label]
    row, column = row + random.normal(0, 1), column + random.normal(0, 1)
    blob = np.exp(-((yy - row) ** 2 + (xx - column) ** 2) / 12)
    channels = [blob, sign * direction[1] * blob, sign * direction[0] * blob]
    image = np.dstack(channels) + random.normal(0, 0.08, (28, 28, 3))
    low, high = image.min((0, 1)), image.max((0, 1))
    return np.rint((image - low) / (high - low) * 255).astype(np.uint8)


def write_release(directory: Path, subjects: int = 6, clips: int = 3, nested: bool = False) -> Path:
    """Writes a release with `clips` clips for each of `subjects` people, the classes in turn.

    Args:
        nested: Put the images into datasets/, as in a clone of the official repository.
    """
    random = np.random.default_rng(0)
    images = directory / "datasets" / IMAGES if nested else directory / IMAGES
    images.mkdir(parents=True)
    with (directory / INDEX).open("w", newline="") as file:
        index = csv.writer(file)
        index.writerow(["dataset", "sub", "filename_o", "label", "apex", "imagename"])
        for s in range(subjects):
            for c in range(clips):
                label = (s + c) % 3
                index.writerow([SETS[s % 3], f"p{s}", f"clip{c}", label, "", "unused.jpg"])
                for part, sign in (("", 1), ("_1", -1)):
                    image = flow_image(label, sign, random)
                    cv2.imwrite(str(images / f"p{s}_clip{c}{part} .png"), image)
    return directory
