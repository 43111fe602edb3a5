"""Clips as arrays, and the public flow release of CausalNet (CASME II, SMIC and SAMM, 442 clips).

A clip is two flow images, onset to apex and apex to offset. The release's direction images are not
read: `realtime_mer.recognition.flow_pair` derives them, as at run time.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np

from realtime_mer.errors import InputError
from realtime_mer.recognition.flow_pair import FLOW_SIZE

LABELS = ("negative", "positive", "surprise")
ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17)
"""Action units that a second head may learn: those of the upper face and the mouth that the sets
mark often. Chosen."""
SETS = ("casme2", "smic", "samm")
DRAWN = "drawn"
"""The set of clips that tools/recognition/drawn_clips.py made: they only train."""
INDEX = "combined_3_class2_for_optical_flow.csv"
IMAGES = "STSNet_whole_norm_u_v_os"
REMEDY = (
    f"give a folder with {INDEX} and {IMAGES}/ in it, or a clone of the official CausalNet "
    "repository (which keeps the images under datasets/)"
)


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """Clips in the order of the release's index, or of a prepared set's table.

    Attributes:
        names: `SUBJECT_CLIP`.
        sets: Data set of each clip; in the release, one of `SETS`.
        subjects: Subject of each clip; no two sets share a name.
        labels: (n,) int64, index into `classes`.
        pairs: (n, 2, 28, 28, 3) uint8, see `realtime_mer.recognition.flow_pair`; for a network that
            sees something else, that (`tools/recognition/inputs.py`).
        classes: What the labels mean.
        units: (n, 12) int8, whether each of `ACTION_UNITS` moved: 1 yes, 0 no, -1 not known; None
            where no set tells it.
    """

    names: np.ndarray
    sets: np.ndarray
    subjects: np.ndarray
    labels: np.ndarray
    pairs: np.ndarray
    classes: tuple[str, ...] = LABELS
    units: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, keep: np.ndarray) -> Clips:
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "classes"}
        return replace(self, **{k: v[keep] for k, v in arrays.items() if v is not None})

    @property
    def drawn(self) -> np.ndarray:
        """(n,) bool, which clips are of the set `DRAWN`."""
        return self.sets == DRAWN

    @property
    def digest(self) -> str:
        """SHA-256 of `pairs` and `labels`, its first 16 digits."""
        content = self.pairs.tobytes() + self.labels.tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    def without(self, subjects: Iterable[str]) -> Clips:
        """The clips of all other subjects.

        Raises:
            InputError: The data has no clips of one of the subjects.
        """
        return self[~self._are_of(subjects)]

    def only(self, subjects: Iterable[str]) -> Clips:
        """The clips of these subjects.

        Raises:
            InputError: The data has no clips of one of the subjects.
        """
        return self[self._are_of(subjects)]

    def _are_of(self, subjects: Iterable[str]) -> np.ndarray:
        wanted = set(subjects)
        unknown = wanted - set(self.subjects)
        if unknown:
            raise InputError(
                f"no clips of subject {', '.join(sorted(unknown))} in the data; known subjects: "
                f"{', '.join(sorted(set(self.subjects)))}"
            )
        return np.isin(self.subjects, sorted(wanted))


def joined(parts: Sequence[Clips]) -> Clips:
    """All clips of several, which have the same classes; `units` are -1 where a part has none."""
    if len(parts) == 1:
        return parts[0]
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("names", "sets", "subjects", "labels", "pairs")
    }
    units = None
    if any(part.units is not None for part in parts):
        nothing = np.full((1, len(ACTION_UNITS)), -1, np.int8)
        units = np.concatenate(
            [nothing.repeat(len(p), 0) if p.units is None else p.units for p in parts]
        )
    return Clips(**arrays, classes=parts[0].classes, units=units)


def _find(directory: Path, name: str) -> Path:
    for place in (directory, directory / "datasets"):
        if (place / name).exists():
            return place / name
    raise InputError(f"{directory} holds no {name}: {REMEDY}")


def _read_flow_image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    if image is None or image.shape != (FLOW_SIZE, FLOW_SIZE, 3):
        what = "cannot be read" if image is None else f"is {image.shape}, not 28 x 28 x 3"
        raise InputError(f"flow image {path} {what}: {REMEDY}")
    return image


def read_release(directory: Path) -> Clips:
    """Reads all clips of a release folder or of a clone of the official repository.

    Raises:
        InputError: The folder is missing, incomplete or damaged.
    """
    if not directory.is_dir():
        raise InputError(f"there is no folder {directory}: {REMEDY}")
    index, images = _find(directory, INDEX), _find(directory, IMAGES)
    with index.open(newline="", encoding="utf-8-sig") as file:
        try:
            # A cell that is missing is an empty one; cells that no column has are left out.
            rows = [
                {name: cell or "" for name, cell in row.items() if name is not None}
                for row in csv.DictReader(file)
            ]
        except (UnicodeDecodeError, csv.Error):
            raise InputError(f"{index} is no CSV in UTF-8: {REMEDY}") from None
    if not rows:
        raise InputError(f"{index} lists no clips: {REMEDY}")
    missing = {"dataset", "sub", "filename_o", "label"} - set(rows[0])
    if missing:
        raise InputError(f"{index} lacks {', '.join(sorted(missing))}: {REMEDY}")
    strange = {row["label"] for row in rows} - {"0", "1", "2"}
    strange |= {row["dataset"] for row in rows} - set(SETS)
    if strange:
        raise InputError(f"{index} holds {', '.join(sorted(strange))}, unknown here: {REMEDY}")
    names = [f"{row['sub']}_{row['filename_o']}" for row in rows]
    return Clips(
        names=np.array(names),
        sets=np.array([row["dataset"] for row in rows]),
        subjects=np.array([row["sub"] for row in rows]),
        labels=np.array([int(row["label"]) for row in rows]),
        # The blank before the extension is the release's own.
        pairs=np.stack(
            [[_read_flow_image(images / f"{n}{part} .png") for part in ("", "_1")] for n in names]
        ),
    )


def sets_of(clips: Clips) -> tuple[str, ...]:
    """The data sets that have clips: those of the release in its order, then others by name."""
    return sets_in_order(set(map(str, clips.sets)))


def sets_in_order(names: set[str]) -> tuple[str, ...]:
    """Names of data sets: those of the release in its order, then others by name."""
    return (*(s for s in SETS if s in names), *sorted(names - set(SETS)))


def subject_folds(clips: Clips, folds: int, seed: int) -> np.ndarray:
    """(n,) fold of each clip: a subject is in one fold, and every fold has subjects of every set.

    Args:
        clips: The clips.
        folds: How many folds.
        seed: Of the order in which subjects are dealt out.
    """
    random = np.random.default_rng(seed)
    fold = np.zeros(len(clips), int)
    offset = 0
    for name in sets_of(clips):
        subjects = np.unique(clips.subjects[clips.sets == name])
        random.shuffle(subjects)
        for i, subject in enumerate(subjects):
            fold[clips.subjects == subject] = (i + offset) % folds
        offset += len(subjects)
    return fold
