"""Registers the faces of a data set's clip, with the runtime's own tracker and registration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from realtime_mer.face.landmark_model import LandmarkModel
from realtime_mer.face.registration import CanonicalFace, Registration, crop
from realtime_mer.face.tracker import FaceTracker
from realtime_mer.recognition.flow_pair import DenseFlow
from realtime_mer.source.frame import Frame
from realtime_mer.source.image_folder import decode
from realtime_mer.spotting.cell_flow import to_cells
from realtime_mer.spotting.motion import RigidMotion, face_mask, texture_trust
from tools.recognition.datasets.clip import MOTION, Clip
from tools.recognition.datasets.rules import Applied, LeaveOut
from tools.recognition.registered_clip import RegisteredClip

# Frames before the onset and after the offset that are kept where they exist, as a part of the
# clip: key frames may be wrong by so much.
MARGIN = 0.5
# The tracker settles on the first picture before the clip begins; so many looks.
_SETTLE_LOOKS = 5
# A border of this part of the picture, where the face fills it too far to be found.
_PADDING = 0.3
# Where a set does not tell its frame rate, times are taken as of this one: that of most sets.
_USUAL_FPS = 200.0
# To find an apex that is not marked, at least so many frames are looked at.
_TO_FIND_APEX = 31
# The largest motion is that of the 95th percentile over the face: a few cells that jump are noise.
_LARGE = 95


def register(
    clip: Clip, model: LandmarkModel, most: int, all_in_colour: bool = False
) -> RegisteredClip:
    """Registers the faces of a clip.

    Args:
        clip: The clip.
        model: The landmark model.
        most: How many faces are kept at most: of more frames, every second, third, ..., and the
            key frames. To find an apex that is not marked, some more are kept.
        all_in_colour: Whether every face is kept in colour, and not the key frames alone.

    Raises:
        LeaveOut: A picture cannot be read, or a key frame shows no face.
    """
    pictures = clip.folder.numbers()
    chosen = _chosen(clip, list(pictures), most)
    fps = clip.fps or _USUAL_FPS
    keys = [clip.onset, clip.offset, *([] if clip.apex is None else [clip.apex])]
    padding = 0.0
    shown = {number: pictures[number] for number in chosen}
    seen = _seen(shown, fps, model, clip.stills)
    if not all(number in seen for number in keys):
        again = _seen(shown, fps, model, clip.stills, _PADDING)
        if len(again) > len(seen):
            seen, padding = again, _PADDING
    if missing := sorted(number for number in keys if number not in seen):
        raise LeaveOut("no-face", f"frame {', '.join(map(str, missing))}")
    numbers = sorted(seen)
    faces = [seen[number].face for number in numbers]
    onset, offset = numbers.index(clip.onset), numbers.index(clip.offset)
    if clip.apex is not None:
        apex = numbers.index(clip.apex)
    elif offset - onset < 2:
        raise LeaveOut("no-interval", "no frame between onset and offset shows a face")
    else:
        apex = onset + 1 + _largest_motion(faces[onset], faces[onset + 1 : offset])
    key = onset, apex, offset
    coloured = range(len(numbers)) if all_in_colour else sorted(set(key))
    return RegisteredClip(
        numbers=np.array(numbers, np.int64),
        times=(np.array(numbers) - numbers[0]) / fps,
        faces=np.stack([face.grey for face in faces]),
        landmarks=np.stack([face.landmarks for face in faces]),
        matrices=np.stack([face.matrix for face in faces]),
        blinks=np.array([seen[number].blink for number in numbers], np.float32),
        jaws=np.array([seen[number].jaw_open for number in numbers], np.float32),
        key=np.array(key),
        apex_from=MOTION if clip.apex is None else clip.apex_from,
        applied=(Applied("padded"),) if padding else (),
        coloured=np.array(coloured),
        colours=np.stack(
            [
                crop(_picture(pictures[numbers[k]], padding), faces[k].matrix, colour=True)
                for k in coloured
            ]
        ),
    )


def _chosen(clip: Clip, numbers: Sequence[int], most: int) -> list[int]:
    """The frames that are kept: from some before the onset to some after the offset."""
    margin = MARGIN * (clip.offset - clip.onset)
    near = [n for n in numbers if clip.onset - margin <= n <= clip.offset + margin]
    keys = {clip.onset, clip.offset}
    if clip.apex is None:
        most = max(most, _TO_FIND_APEX)
    else:
        keys.add(clip.apex)
    step = 1
    while len(kept := {*near[::step], *keys}) > most and step < len(near):
        step += 1
    return sorted(kept)


def _picture(path: Path, padding: float) -> np.ndarray:
    """A picture with a border of a part of its sides.

    Raises:
        LeaveOut: It cannot be read.
    """
    image = decode(path)
    if image is None:
        raise LeaveOut("unreadable-picture", path.name)
    height, width = (round(padding * side) for side in image.shape[:2])
    if not height:
        return image
    return cv2.copyMakeBorder(image, height, height, width, width, cv2.BORDER_REPLICATE)


class _SeenFace(NamedTuple):
    """A registered face, and the tracker's scores."""

    face: CanonicalFace
    blink: float
    jaw_open: float


def _seen(
    pictures: dict[int, Path],
    fps: float,
    model: LandmarkModel,
    stills: bool,
    padding: float = 0.0,
) -> dict[int, _SeenFace]:
    """The face in each picture that shows one, by frame numbers, which rise.

    Raises:
        LeaveOut: A picture cannot be read.
    """
    seen: dict[int, _SeenFace] = {}
    registration, looks = Registration(), 0
    first = min(pictures)
    with FaceTracker(model) as tracker:
        for number, path in pictures.items():
            image = _picture(path, padding)
            # A picture by itself may show the face anywhere: the tracker settles on each.
            for _ in range(1 + (_SETTLE_LOOKS if number == first or stills else 0)):
                place = looks if stills else number - first + min(looks, _SETTLE_LOOKS)
                faces = tracker.track(Frame(looks, place / fps, image, 0.0))
                looks += 1
            for face in faces[:1]:
                registered = registration(image, face.landmarks, (number - first) / fps)
                seen[number] = _SeenFace(registered, face.blink, face.jaw_open)
    return seen


def _largest_motion(onset: CanonicalFace, others: Sequence[CanonicalFace]) -> int:
    """The index of the face that is farthest from the onset's."""
    flow = DenseFlow()
    inside = to_cells(face_mask(onset.landmarks).astype(np.uint8) * 255) > 204
    sizes = []
    for face in others:
        rigid = RigidMotion(face.landmarks, texture_trust(face.grey))
        cells, _ = rigid.remove(to_cells(flow(onset.grey, face.grey)).reshape(-1, 2))
        size = np.linalg.norm(cells, axis=-1)[inside.ravel()]
        sizes.append(float(np.percentile(size, _LARGE)) if size.size else 0.0)
    return int(np.argmax(sizes))
