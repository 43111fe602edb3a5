"""What the networks and baselines of the zoo see of prepared sets, where it is no flow pair.

All of it is made from the registered faces that tools/recognition/prepare.py keeps of each clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from models import lbp_top
from models.data import Clips
from models.inputs import FLOW_FIELD, KEY_FRAMES, SEQUENCE
from realtime_mer.errors import InputError
from realtime_mer.output.writable import shown
from realtime_mer.recognition.flow_pair import DenseFlow
from tools.recognition.prepared import is_prepared, paths_of_faces, read_faces, read_prepared
from tools.recognition.registered_clip import Flow, RegisteredClip, tv_l1

_FACES_SHOWN = f"{lbp_top.FRAMES} frames"


def key_frames(clip: RegisteredClip, _: Flow) -> np.ndarray:
    """(6, 224, 224) uint8: onset and apex, BGR."""
    shown = np.stack([clip.colour(index) for index in clip.key[:2]])
    return shown.transpose(0, 3, 1, 2).reshape(KEY_FRAMES.shape)


def flow_field(clip: RegisteredClip, flow: Flow) -> np.ndarray:
    """(2, 224, 224) float16: u and v from onset to apex, pixels; a thousandth of one is kept."""
    return clip.motion(clip.key, flow)[0].transpose(2, 0, 1).astype(np.float16)


def sequence(clip: RegisteredClip, _: Flow) -> np.ndarray:
    """(18, 64, 64) uint8: grey faces from onset to offset."""
    return faces_at_equal_times(clip, SEQUENCE.shape[0], SEQUENCE.shape[1])


def described(clip: RegisteredClip, _: Flow) -> np.ndarray:
    """(1200,) float32: LBP-TOP from onset to offset."""
    return lbp_top.lbp_top(faces_at_equal_times(clip, lbp_top.FRAMES, lbp_top.SIDE))


SEEN: dict[str, tuple[str, Callable[[RegisteredClip, Flow], np.ndarray]]] = {
    "mmnet": (KEY_FRAMES.name, key_frames),
    "srmcl": (FLOW_FIELD.name, flow_field),
    "micro-exp-stcnn": (SEQUENCE.name, sequence),
    "lbp-top-svm": (_FACES_SHOWN, described),
}
"""By name in the zoo: what it sees, and what makes it of a clip. The others see flow pairs."""


def faces_at_equal_times(clip: RegisteredClip, frames: int, side: int) -> np.ndarray:
    """Faces (frames, side, side) uint8 from onset to offset, mixed from those before and after."""
    onset, _, offset = clip.key
    small = np.stack(
        [
            cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
            for face in clip.faces[onset : offset + 1]
        ]
    ).astype(np.float32)
    known = clip.times[onset : offset + 1]
    wanted = np.linspace(known[0], known[-1], frames)
    place = np.interp(wanted, known, np.arange(len(known)))
    before = np.minimum(place.astype(int), max(len(known) - 2, 0))
    share = (place - before)[:, None, None]
    mixed = (1 - share) * small[before] + share * small[np.minimum(before + 1, len(known) - 1)]
    return np.rint(mixed).astype(np.uint8)


def with_inputs(clips: Clips, folders: Sequence[Path], model: str, flow: str = "dis") -> Clips:
    """The clips with what a model sees as `pairs`.

    Args:
        clips: As `tools.recognition.prepared.read_clips` read them.
        folders: Of the same sets.
        model: A name in the zoo.
        flow: Whose flow, "dis" or "tvl1".

    Raises:
        InputError: A folder does not hold what the model sees.
    """
    if model not in SEEN:
        return clips
    what, make = SEEN[model]
    for folder in folders:
        if not (is_prepared(folder) and read_prepared(folder).has_faces()):
            raise InputError(
                f"{model} sees {what} of a clip, and {shown(folder)} holds flow images only: give "
                "a data set with its frames, as tools/recognition/prepare.py SET FOLDER --out DIR "
                "makes it (docs/datasets.md)"
            )
    method: Flow | None = tv_l1() if flow == "tvl1" else DenseFlow()
    if method is None:
        raise InputError(
            "this OpenCV has no TV-L1 flow: install opencv-contrib-python, or take --flow dis"
        )
    made = [make(read_faces(path), method) for path in paths_of_faces(folders, clips)]
    return replace(clips, pairs=np.stack(made))
