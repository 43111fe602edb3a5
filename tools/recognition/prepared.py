"""The columnar form of data sets, which `tools/recognition/prepare.py` writes and training reads.

A folder holds one set: a table with a row a clip, and arrays with an entry a row, in the same order
(docs/datasets.md describes each column):

    clips.parquet       what is known of each clip
    flow.npy            (n, 2, 28, 28, 3) uint8, flow pairs: the networks' input
    motion.npy          (n, 2, 28, 28, 2) float32, the same motions in pixels, by cells of the face
    flow_tvl1.npy       as flow.npy, by TV-L1 (where it was asked for)
    clips/KEY.npz       the registered faces of a clip
    set.json            of what it was made, and how
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.data import ACTION_UNITS, LABELS, Clips, joined, read_release
from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown
from realtime_mer.recognition.flow_pair import FLOW_SIZE
from tools.command import read_json
from tools.recognition.datasets.labels import COMPOSITE, OWN_CLASSES, classes_of
from tools.recognition.datasets.rules import Applied
from tools.recognition.registered_clip import RegisteredClip

FORMAT = 2
TABLE, FLOW, MOTION, TVL1 = "clips.parquet", "flow.npy", "motion.npy", "flow_tvl1.npy"
FACES, ABOUT = "clips", "set.json"
FLOWS = {"dis": FLOW, "tvl1": TVL1}
"""The flow methods, and the arrays of their pairs."""
PAIR = (2, FLOW_SIZE, FLOW_SIZE, 3)
_REMEDY = "give a folder that tools/recognition/prepare.py wrote, or the flow release"


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A prepared set.

    Attributes:
        folder: Where it is.
        columns: Columns of the table, a list each, by name.
        pairs: (n, 2, 28, 28, 3) uint8 by the flow that was asked for, mapped from the file.
        about: What set.json says.
    """

    folder: Path
    columns: dict[str, list[Any]]
    pairs: np.ndarray
    about: dict[str, Any]

    def __len__(self) -> int:
        return len(self.pairs)

    def has_faces(self) -> bool:
        """Whether its clips have registered faces: the flow release has none."""
        return (self.folder / FACES).is_dir()

    def faces_of(self, index: int) -> RegisteredClip:
        """The registered faces of a clip.

        Raises:
            InputError: They are missing or damaged.
        """
        return read_faces(self.folder / FACES / f"{self.columns['key'][index]}.npz")


def parquet() -> Any:  # noqa: ANN401
    """The module that reads and writes tables.

    Raises:
        InputError: It is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "prepared sets need pyarrow: pip install -r requirements-train.txt"
        ) from error
    return pyarrow.parquet


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a prepared set."""
    return (folder / ABOUT).exists()


def read_prepared(folder: Path, flow: str = "dis") -> Prepared:
    """Reads a prepared set; arrays are mapped, not read.

    Args:
        folder: Where it is.
        flow: Whose flow pairs, a key of `FLOWS`.

    Raises:
        InputError: It is none, or incomplete, or has no such pairs.
    """
    array = folder / FLOWS[flow]
    about = read_json(folder / ABOUT, _REMEDY)
    if about.get("format") != FORMAT:
        raise InputError(
            f"{shown(folder)} has the form {about.get('format')}, this is for {FORMAT}: prepare "
            "the set again"
        )
    if flow == "tvl1" and not array.exists():
        raise InputError(f"{shown(folder)} has no TV-L1 flow: prepare it again with --tvl1")
    reader = parquet()
    try:
        columns = reader.read_table(folder / TABLE).to_pydict()
        pairs = np.load(array, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise InputError(f"{shown(folder)} is no whole prepared set: {_REMEDY}") from error
    if pairs.dtype != np.uint8 or pairs.shape != (len(columns.get("key", ())), *PAIR):
        raise InputError(f"{shown(array)} does not fit the rows of {TABLE}: prepare the set again")
    return Prepared(folder, columns, pairs, about)


def read_clips(
    folders: Sequence[Path],
    sets: Sequence[str] = (),
    classes: int = len(LABELS),
    flow: str = "dis",
) -> Clips:
    """The clips of prepared sets and of the flow release that have a class.

    Args:
        folders: Of the sets; the release's own folder, or a clone of its repository, is one too.
        sets: Names of the sets to take; none for all of them.
        classes: 3 for the composite classes, else as many as the set's own have.
        flow: Whose flow pairs, a key of `FLOWS`. The release has its own only.

    Returns:
        The clips; `Clips.classes` names the classes.

    Raises:
        InputError: A folder holds no such set, or the classes do not fit.
    """
    found = [part for folder in folders for part in _parts(folder, classes, flow)]
    known = sorted({str(name) for part in found for name in part.sets})
    if unknown := sorted(set(sets) - set(known)):
        raise InputError(
            f"no clips with {classes} classes of {', '.join(unknown)} in the data; with so many "
            f"there are: {', '.join(known) or 'none'}. The sets' own classes are: {_own_classes()}"
        )
    parts = [part[np.isin(part.sets, sets)] if sets else part for part in found]
    parts = [part for part in parts if len(part)]
    if not parts:
        raise InputError(
            f"the data has no clips with {classes} classes. The sets' own classes are: "
            f"{_own_classes()}"
        )
    if len({part.classes for part in parts}) > 1:
        names = ", ".join(dict.fromkeys(str(part.sets[0]) for part in parts))
        raise InputError(
            f"{names} have {classes} classes each, but not the same ones: name one by --set, or "
            "take the 3 of the composite"
        )
    return joined(parts)


def paths_of_faces(folders: Sequence[Path], clips: Clips) -> list[Path]:
    """The file with the registered faces of each clip.

    Raises:
        InputError: A set was prepared without faces, as the flow release is.
    """
    places: dict[tuple[str, str], Path] = {}
    for folder in folders:
        prepared = read_prepared(folder)
        if not prepared.has_faces():
            raise InputError(f"{shown(folder)} has no frames, which wrong key frames need")
        columns = prepared.columns
        for name, key in zip(columns["set"], columns["key"], strict=True):
            places[name, key] = folder / FACES / f"{key}.npz"
    return [places[str(s), str(n)] for s, n in zip(clips.sets, clips.names, strict=True)]


def _own_classes() -> str:
    """What sets can be evaluated with other classes than the composite's."""
    return "; ".join(f"{name} {len(own)} ({', '.join(own)})" for name, own in OWN_CLASSES.items())


def _parts(folder: Path, classes: int, flow: str) -> Iterator[Clips]:
    """The clips in a folder that have a class, those of different classes apart."""
    if not is_prepared(folder):
        release = read_release(folder)
        if classes == len(LABELS):
            yield release
        return
    prepared = read_prepared(folder, flow)
    if classes == len(COMPOSITE):
        yield _with_class(prepared, "composite", COMPOSITE, None)
        return
    for name in dict.fromkeys(prepared.columns["set"]):
        own = classes_of(name)
        if len(own) == classes:
            yield _with_class(prepared, "own_class", own, name)


def _with_class(
    prepared: Prepared, column: str, classes: tuple[str, ...], only: str | None
) -> Clips:
    """The clips whose `column` holds one of the classes: of one set, or of all (None)."""
    columns = prepared.columns
    keep = [
        i
        for i, (name, label) in enumerate(zip(columns["set"], columns[column], strict=True))
        if label in classes and only in (None, name)
    ]
    return Clips(
        names=np.array([columns["key"][i] for i in keep], str),
        sets=np.array([columns["set"][i] for i in keep], str),
        subjects=np.array([columns["subject"][i] for i in keep], str),
        labels=np.array([classes.index(columns[column][i]) for i in keep], int),
        pairs=np.array(prepared.pairs[keep]),
        classes=classes,
        units=units_of(
            [columns["action_units"][i] for i in keep],
            [columns["possible_action_units"][i] for i in keep],
        ),
    )


def units_of(
    moved: Sequence[Sequence[str]], possible: Sequence[Sequence[str]]
) -> np.ndarray | None:
    """`Clips.units` of what the columns of a table say; the sides of the face count alike.

    Args:
        moved: `action_units` of each clip. A clip with none and no possible ones tells nothing.
        possible: `possible_action_units` of each clip: not known.
    """
    units = np.full((len(moved), len(ACTION_UNITS)), -1, np.int8)
    for row, sure, unsure in zip(units, map(_numbers, moved), map(_numbers, possible), strict=True):
        if sure or unsure:
            row[:] = [1 if u in sure else -1 if u in unsure else 0 for u in ACTION_UNITS]
    return units if (units >= 0).any() else None


def _numbers(units: Sequence[str] | None) -> set[int]:
    """Of action units such as AU12 or AU12R, the numbers."""
    return {int(re.sub("[^0-9]", "", unit)) for unit in units or ()}


# Faces of a clip


def write_faces(path: Path, clip: RegisteredClip, more: dict[str, np.ndarray], about: str) -> None:
    """Writes the faces of a clip and what was made of them, whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            about=np.array(about),
            applied=np.array(json.dumps([[a.rule, a.typed, a.taken] for a in clip.applied])),
            apex_from=np.array(clip.apex_from),
            numbers=clip.numbers,
            times=clip.times,
            faces=clip.faces,
            landmarks=clip.landmarks,
            matrices=clip.matrices,
            blinks=clip.blinks,
            jaws=clip.jaws,
            key=clip.key,
            coloured=clip.coloured,
            colours=clip.colours,
            **more,
        )
    os.replace(part, path)


def read_about(path: Path) -> str | None:
    """What a clip's file says it was made of; None if there is no whole file."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return str(content["about"])
    except Exception:  # a damaged file raises whatever its bytes lead to
        return None


def read_faces(path: Path) -> RegisteredClip:
    """The faces in a clip's file.

    Raises:
        InputError: There is no whole file.
    """
    arrays = read_arrays(path, *_ARRAYS, "applied", "apex_from")
    return RegisteredClip(
        **{name: arrays[name] for name in _ARRAYS},
        apex_from=str(arrays["apex_from"]),
        applied=applied_in(arrays["applied"]),
    )


def applied_in(entry: np.ndarray) -> tuple[Applied, ...]:
    """The rules in a clip's file."""
    return tuple(Applied(*rule) for rule in json.loads(str(entry)))


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Some of the arrays in a clip's file; the others are not read.

    Raises:
        InputError: There is no whole file, or no such array in it.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in names}
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise InputError(f"{shown(path)} cannot be read: prepare the set again") from error


_ARRAYS = (
    *("numbers", "times", "faces", "landmarks", "matrices", "blinks", "jaws"),
    *("key", "coloured", "colours"),
)
