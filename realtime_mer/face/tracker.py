"""The face tracker: MediaPipe's landmarks of several faces, with identities over time.

A landmarker is given the whole picture until it follows a face. Only if it finds none there is the
picture searched for smaller ones (`search.py`), a few tiles a frame. If more faces are wanted than
are followed, the search goes on now and then, and each face that it finds gets a landmarker of its
own. They follow their faces side by side (`network_pool.py`), then one after the other tells what
it saw. So how many faces are wanted makes no difference to the first, while it is followed.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realtime_mer.cores import cores
from realtime_mer.errors import InputError
from realtime_mer.face.finder import FaceFinder
from realtime_mer.face.identity import Identities
from realtime_mer.face.landmark_model import LandmarkModel, content_of
from realtime_mer.face.landmarker import Landmarker, SeenFace
from realtime_mer.face.native import silenced_stderr
from realtime_mer.face.network_pool import NetworkPool
from realtime_mer.face.search import FaceBox, FaceSearch, View
from realtime_mer.source.frame import Frame

# While a face is followed that was not found in the whole picture, the whole is looked at this
# often: the person in front of the camera comes before a small face in the background. If what was
# seen there turns out to be no face, the next look comes after twice the time, up to the second
# value. Chosen by judgement.
_LOOK_AROUND_S = (0.5, 60.0)
# Several faces are followed side by side, by so many threads at most. Chosen by judgement.
_MOST_THREADS = 4


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFace:
    """One face in one frame.

    Attributes:
        identity: Number of the face, from 0. If only one face is followed it is always 0; else
            see `identity.py`.
        landmarks: (478, 3) float32 in pixels of the frame, in the order of MediaPipe's face mesh,
            not writeable; the third coordinate is depth on the same scale, smaller is nearer.
        blink: Blendshape score of the more closed eye, 0 open to 1 closed.
        jaw_open: Blendshape score, 0 to 1.
        blendshapes: (52,) float32, all scores in MediaPipe's order; None if they are not known.
    """

    identity: int
    landmarks: np.ndarray
    blink: float
    jaw_open: float
    blendshapes: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """A frame with the faces in it.

    Attributes:
        frame: The frame.
        faces: The faces, in the order of their identities.
        taken_at: `time.monotonic()` when work on it began.
        source_fps: Frame rate of the source as measured so far; 0 until known.
    """

    frame: Frame
    faces: tuple[TrackedFace, ...]
    taken_at: float
    source_fps: float


@dataclass(slots=True, eq=False)
class _Further:
    """Follows one face beside the first.

    Attributes:
        landmarker: It finds the face in a view around it.
        box: Where the face was last; None while it follows none.
        is_sure: Whether the landmarker has seen the face already, and not only the search.
    """

    landmarker: Landmarker
    box: FaceBox | None = None
    is_sure: bool = False

    def begin(
        self, box: FaceBox, image: np.ndarray, others: Sequence[FaceBox], time_s: float
    ) -> None:
        """Looks at the face at a place in a picture, where others are followed already."""
        self.box, self.is_sure = box, False
        self.landmarker.let_go()
        self.landmarker.look_at(View.around([box], (image.shape[1], image.shape[0])))
        # The view may show others, and only one face is found in it.
        self.landmarker.seen(_without(image, others), time_s)

    def seen(self, image: np.ndarray, time_s: float) -> SeenFace | None:
        """The face in the next picture; None if it is lost."""
        face = self.landmarker.seen(image, time_s)
        if face is None:
            self.box = None
            return None
        self.box, self.is_sure = FaceBox.of(face.landmarks), True
        return face

    def let_go(self) -> None:
        """Follows nobody any more."""
        self.box = None
        self.landmarker.let_go()


class FaceTracker:
    """Finds and follows up to `faces` faces. It holds native threads: use it as a context manager.

    Args:
        model: The checked landmark model; or a path, which is read once.
        faces: How many faces to follow at most.

    Raises:
        InputError: The model file cannot be used.
    """

    def __init__(self, model: Path | LandmarkModel, faces: int = 1) -> None:
        path = model.path if isinstance(model, LandmarkModel) else model
        self._identities = Identities() if faces > 1 else None
        self._faces = faces
        self._landmarker: Landmarker | None = None
        self._further: list[_Further] = []
        self._size = (0, 0)
        # The face that the first landmarker saw in the last frame.
        self._box: FaceBox | None = None
        self._look_around_s, self._looked_s = _LOOK_AROUND_S[0], 0.0
        try:
            checked = LandmarkModel(path, content_of(model))
            self._finder = FaceFinder(checked)
            self._networks = NetworkPool(checked, min(faces, cores(), _MOST_THREADS))
            self._landmarker = Landmarker(self._finder)
            with silenced_stderr():
                self._search = FaceSearch(checked)
        except (RuntimeError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            self.close()
            raise InputError(
                f"face landmark model {path} cannot be loaded: delete it, so that the packaged "
                "one is used, or name the published file"
            ) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FaceTracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the native graphs and the threads. May be called twice."""
        self._landmarker = None
        if hasattr(self, "_networks"):
            self._networks.close()
        if hasattr(self, "_finder"):
            self._finder.close()
        if hasattr(self, "_search"):
            with silenced_stderr():
                self._search.close()

    def track(self, frame: Frame) -> tuple[TrackedFace, ...]:
        """The faces in a frame, in the order of their identities.

        Frames have to come in the order of their times. If several faces are followed, a face is
        left out while it is unclear whose it is: for about a second at most.

        Raises:
            ValueError: The tracker is closed.
        """
        if self._landmarker is None:
            raise ValueError("the tracker is closed")
        image, time_s = frame.image, frame.time_s
        self._take_size((image.shape[1], image.shape[0]))
        before = self._box
        followed = [self._landmarker, *(further.landmarker for further in self._further)]
        self._networks.each(
            lambda landmarker, network: landmarker.follow(image, time_s, network), followed
        )
        first = self._seen_first(self._landmarker, image, time_s)
        self._box = None if first is None else FaceBox.of(first.landmarks)
        seen = self._with_further(first, before, image, time_s)
        identities: Sequence[int | None]
        if self._identities is None:
            identities = [0] * len(seen)
        else:
            identities = self._identities(image, [face.landmarks for face in seen], time_s)
        faces = [
            TrackedFace(identity, *face)
            for identity, face in zip(identities, seen, strict=True)
            if identity is not None
        ]
        return tuple(sorted(faces, key=lambda f: f.identity))

    def _take_size(self, size: tuple[int, int]) -> None:
        """Follows nobody any more if the pictures' size has changed."""
        if size == self._size:
            return
        self._size, self._box = size, None
        assert self._landmarker is not None
        self._landmarker.look_at(None)
        for further in self._further:
            further.let_go()

    def _followed(self) -> list[FaceBox]:
        """Where the faces were that are followed."""
        return [box for box in (self._box, *(f.box for f in self._further)) if box is not None]

    def _seen_first(
        self, landmarker: Landmarker, image: np.ndarray, time_s: float
    ) -> SeenFace | None:
        """The face that the first landmarker follows: the clearest in the whole of a picture or,
        if nobody is followed, a smaller one.
        """
        was_whole, before, followed = landmarker.view is None, self._box, self._followed()
        if before is None and followed:
            if len(followed) >= self._faces:
                return None
            image = _without(image, followed)
        face = landmarker.seen(image, time_s)
        if face is None and before is not None:
            self._search.begin_at(before)
        others = [box for box in followed if box is not before]
        if face is None and was_whole and not others and (box := self._search.step(image)):
            landmarker.look_at(View.around([box], self._size))
            self._looked_s = time_s
            face = landmarker.seen(image, time_s)
        if face is None:
            landmarker.look_at(None)
            return None
        view, now = landmarker.view, FaceBox.of(face.landmarks)
        if view is None:
            self._look_around_s = _LOOK_AROUND_S[0]
        elif self._looks_past_someone(image, [now, *others], time_s):
            landmarker.look_at(None)
        return face

    def _looks_past_someone(
        self, image: np.ndarray, followed: Sequence[FaceBox], time_s: float
    ) -> bool:
        """Whether the whole picture, looked at now and then, shows as many faces as are wanted,
        but none of those that are followed.
        """
        if len(followed) < self._faces or 0 <= time_s - self._looked_s < self._look_around_s:
            return False
        self._looked_s, there = time_s, self._search.look(image)
        others = [box for box in there if not any(box.is_on(face) for face in followed)]
        if not others or len(others) < max(self._faces, len(there)):
            return False
        self._look_around_s = min(2 * self._look_around_s, _LOOK_AROUND_S[1])
        return True

    def _with_further(
        self, first: SeenFace | None, before: FaceBox | None, image: np.ndarray, time_s: float
    ) -> list[SeenFace]:
        """All faces in a picture.

        Args:
            first: The face that the first landmarker saw.
            before: Where that was in the last picture.
            image: The picture.
            time_s: Its time.
        """
        followed = self._followed()
        is_short = 0 < len(followed) < self._faces
        if is_short and (found := self._search.further(image, followed)):
            self._begin_further(found, image, time_s)
        seen = [] if first is None else [first]
        for further in self._further:
            last, was_sure = further.box, further.is_sure
            if last is None:
                continue
            others = [box for box in self._followed() if box is not last]
            face, box = further.seen(image, time_s), further.box
            if face is None or box is None:
                if was_sure:
                    self._search.begin_at(last)
            elif twin := next((b for b in others if box.is_on(b)), None):
                # Two landmarkers are on one face. Who came to it lets go of it.
                if (
                    first is not None
                    and twin is self._box
                    and was_sure
                    and _came(twin, before, last)
                ):
                    assert self._landmarker is not None
                    self._landmarker.let_go()
                    self._box = None
                    seen[0] = face
                else:
                    further.let_go()
            else:
                seen.append(face)
        return seen

    def _begin_further(self, box: FaceBox, image: np.ndarray, time_s: float) -> None:
        """Follows one more face, with a landmarker that is free or a new one."""
        followed = self._followed()
        further = next((f for f in self._further if f.box is None), None)
        if further is None:
            further = _Further(Landmarker(self._finder))
            self._further.append(further)
        further.begin(box, image, followed, time_s)
        further.landmarker.follow(image, time_s, self._networks.first)


def _without(image: np.ndarray, faces: Sequence[FaceBox]) -> np.ndarray:
    """A copy of an image with faces painted over; the image itself if there are none."""
    if not faces:
        return image
    without = image.copy()
    for face in faces:
        face.cover(without)
    return without


def _came(now: FaceBox, before: FaceBox | None, other: FaceBox) -> bool:
    """Whether a face has come to where it is, rather than another one that was at `other`."""
    if before is None:
        return True
    return math.hypot(now.x - before.x, now.y - before.y) > math.hypot(
        now.x - other.x, now.y - other.y
    )


def detect_face_mesh(image: np.ndarray, model: Path | LandmarkModel) -> np.ndarray | None:
    """The landmarks of the clearest face in one picture.

    Args:
        image: (height, width, 3) uint8, BGR.
        model: The checked landmark model; or a path, which is read once.

    Returns:
        (478, 3) in pixels of the picture; the third coordinate is depth on the same scale, smaller
        is nearer. None if there is no face.
    """
    with FaceFinder(model) as finder:
        found = finder.find(image)
    return None if found is None else found.landmarks
