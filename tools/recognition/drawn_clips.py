"""Makes clips of drawn expressions whose class is beyond doubt, on photos of faces.

    python tools/recognition/drawn_clips.py --photos DIR ... --out FILE.npz
        [--further] [--face-kit DIR] [--takes N] [--seed N]

Moves the skin of each photo by every combination of action units in `CLEAR`, and turns the pictures
into flow pairs by the runtime's own registration and flow. Heads are turned by up to 20 degrees and
move a little from picture to picture; size, light, noise and compression are those of many cameras.

tools/recognition/train.py and evaluate.py learn from the file (--drawn), and
tools/recognition/naming.py tells how a network names what is in it. For the latter, take photos of
other people, and --further: combinations that the former never draws.

--face-kit takes the motions from a clone of github.com/ICT-VGL/ICT-FaceKit (MIT) in place of our
own drawings: what its units do to a face was made from scans, by other people.
"""

from __future__ import annotations

import contextlib
import io
import math
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import DRAWN, LABELS, Clips
from realtime_mer.demo.action_units import expression, peak
from realtime_mer.demo.photo import PhotoFace
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.registration import FACE_SIZE, Registration, transform
from realtime_mer.face.ring import RingBuffer
from realtime_mer.face.tracker import detect_face_mesh
from realtime_mer.output.writable import replace_file
from realtime_mer.recognition.classifier import PAIR_SHAPE
from realtime_mer.recognition.face_pair import FacePair
from realtime_mer.results import Interval
from tools.command import command_parser, exit_status, number_type, progress_bar
from tools.recognition.face_kit import FaceKit
from tools.spotting.action_unit_names import rows_of
from tools.spotting.camera import depth_map, is_photo, media_files, read_photo, scaled

CLEAR: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "negative": (
        *(("AU4",), ("AU4", "AU7"), ("AU9",), ("AU4", "AU9"), ("AU4", "AU9", "AU10")),
        *(("AU15",), ("AU15", "AU17"), ("AU1", "AU4", "AU15"), ("AU17", "AU24")),
        ("AU10",),
    ),
    "positive": (("AU12",), ("AU6", "AU12"), ("AU12", "AU25"), ("AU6", "AU12", "AU25")),
    "surprise": (
        *(("AU1", "AU2"), ("AU1", "AU2", "AU5"), ("AU1", "AU2", "AU25")),
        ("AU1", "AU2", "AU5", "AU26"),
    ),
}
"""Combinations of action units whose class is beyond doubt, by EMFACS (Friesen and Ekman, 1983) and
by the objective classes that Davison et al. made for CASME II and SAMM (arXiv 1708.07549): anger
(4, 7, 24), disgust (9, 10) and sadness (1 with 4; 15) are negative, happiness (12, with 6 or 7) is
positive, surprise is 1 and 2, with 5 or 26. Lips may part (25) in a smile and in surprise. Left out
are 5, 6, 7, 17 or 25 alone, and fear with raised brows (1, 2 and 4)."""
FURTHER: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "negative": (("AU7", "AU10"), ("AU4", "AU7", "AU9"), ("AU1", "AU4"), ("AU20",)),
    "positive": (("AU7", "AU12"), ("AU6", "AU7", "AU12")),
    "surprise": (("AU1", "AU2", "AU26"), ("AU1", "AU2", "AU5", "AU25")),
}
"""Likewise, but only to test: training never draws them."""

# Peak of the motion, 99th percentile, pixels of the canonical face: most of what the spotter finds.
_PEAK_PX = (1.2, 4.0)
# Share of the motion that has gone back at the offset. Chosen by judgement.
_BACK = (0.6, 1.0)
# Turn of the head in degrees, across and down; and how much it and the camera move from one key
# frame to the next: degrees across and down, tilt in degrees, shift as a share of the face's width,
# size as a fraction. Chosen by judgement: a head that holds nearly still for half a second.
_TURN = (20.0, 8.0)
_SWAY = (1.0, 0.7, 0.5, 0.01, 0.005)
# Width of the face, pixels; sensor noise, grey levels; jitter of landmarks, as a share of the
# width: about as in the clips of tools/spotting/action_unit_names.py.
_WIDTHS = (110, 240)
_NOISE = (0.4, 3.0)
_JITTER = 0.0015
# Light: exponents, light and dark side of the face, flicker between two pictures; JPEG's quality,
# of every other clip. Chosen by judgement.
_GAMMA = (0.7, 1.4)
_SIDE_LIGHT = 0.4
_FLICKER = 0.02
_QUALITY = (60, 97)
# Rounds of the search for the place that a turned head shows at a pixel.
_ROUNDS = 3
# Onset, apex and offset, seconds; the pictures' own times.
_TIMES = (0.0, 0.2, 0.4)

Draw = Callable[[Sequence[str], np.random.Generator], np.ndarray]
"""Draws the field (224, 224, 2) of some action units, for the mean face; any size."""


@dataclass(frozen=True, slots=True, eq=False)
class DrawnClips:
    """Flow pairs of drawn expressions.

    Attributes:
        pairs: (n, 2, 28, 28, 3) uint8.
        labels: (n,) int64, index into `models.data.LABELS`.
        units: (n,) the action units, joined by "+".
        photos: (n,) name of the photo.
        turns: (n,) float32, degrees by which the head is turned across.
        peaks: (n,) float32, pixels.
    """

    pairs: np.ndarray
    labels: np.ndarray
    units: np.ndarray
    photos: np.ndarray
    turns: np.ndarray
    peaks: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def clips(self) -> Clips:
        """As clips to learn from: each photo is a subject of the set `DRAWN`."""
        names = np.array([f"{p}_{u}" for p, u in zip(self.photos, self.units, strict=True)])
        return Clips(names, np.full(len(self), DRAWN), self.photos, self.labels, self.pairs)


class Sitter:
    """A photo whose face is moved, turned, lit and photographed.

    Args:
        photo: BGR.
        mesh: The face in it, (478, 3).
        rng: Draws the size.
    """

    def __init__(self, photo: np.ndarray, mesh: np.ndarray, rng: np.random.Generator) -> None:
        width = float(np.ptp(mesh[:, 0]))
        low = np.maximum(mesh[:, :2].min(0) - 0.5 * width, 0).astype(int)
        high = (mesh[:, :2].max(0) + 0.5 * width).astype(int)
        scale = rng.uniform(*_WIDTHS) / width
        self._photo = scaled(photo[low[1] : high[1], low[0] : high[0]], scale)
        self._mesh = (mesh - (*low, 0)) * scale
        self._mesh[:, 2] -= self._mesh[:, 2].mean()
        self._width = width * scale
        self._centre = self._mesh[:, :2].mean(0)
        self._face = PhotoFace(self._photo, self._mesh)
        size = self._photo.shape[1], self._photo.shape[0]
        self._depth = depth_map(self._mesh, size)
        self._grid = np.dstack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in size)))
        self._rows = rows_of(Registration()(self._photo, self._mesh, 0.0).landmarks)

    def pair(
        self, field: np.ndarray, peak_px: float, turn: float, rng: np.random.Generator
    ) -> np.ndarray:
        """A flow pair (2, 28, 28, 3).

        Args:
            field: (224, 224, 2), the motion as drawn for the mean face.
            peak_px: Its size.
            turn: Of the head across, degrees.
            rng: Draws everything else.
        """
        x, y = np.meshgrid(np.arange(FACE_SIZE, dtype=np.float32), self._rows)
        placed = np.asarray(cv2.remap(field, x, y, cv2.INTER_LINEAR))
        placed = (peak_px / max(peak(placed), 1e-6) * placed).astype(np.float32)
        skin = self._face.backwards(self._face.field(placed))
        light, sigma = self._light(rng), rng.uniform(*_NOISE)
        quality = int(rng.integers(*_QUALITY)) if rng.uniform() < 0.5 else None
        pose = np.array([turn, rng.uniform(-_TURN[1], _TURN[1]), 0, 0, 0, 0])
        registration, ring = Registration(), RingBuffer(1.0, 30.0)
        for time_s, share in zip(_TIMES, (0.0, 1.0, 1 - rng.uniform(*_BACK)), strict=True):
            sway = np.array([*_SWAY[:3], _SWAY[3], _SWAY[3], _SWAY[4]])
            picture, mesh = self._picture(share * skin, pose + sway * rng.uniform(-1, 1, 6))
            lit = 255 * light[0] * (picture / np.float32(255)) ** light[1]
            lit = lit * rng.uniform(1 - _FLICKER, 1 + _FLICKER)
            lit = lit + np.float32(sigma) * rng.standard_normal(lit.shape, np.float32)
            seen = np.clip(lit, 0, 255).astype(np.uint8)
            if quality is not None:
                _, coded = cv2.imencode(".jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, quality])
                seen = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
            jitter = _JITTER * self._width * rng.standard_normal(mesh.shape)
            ring.append(time_s, registration(seen, mesh + jitter, time_s))
        with contextlib.closing(FacePair()) as make:
            return make(ring, Interval(*_TIMES)).images

    def _light(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Brightness (height, width, 1), and the exponent of the camera's response."""
        height, width = self._photo.shape[:2]
        across, down = rng.uniform(-_SIDE_LIGHT, _SIDE_LIGHT, 2)
        x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
        light = math.exp(rng.normal(0, 0.15)) * (1 + across * x + 0.5 * down * y[:, None])
        return light[..., None].astype(np.float32), rng.uniform(*_GAMMA)

    def _picture(self, skin: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The photo with its skin moved and its head turned, and the mesh (478, 3) in it.

        Args:
            skin: (height, width, 2) backward field.
            pose: Turn across and down, tilt in degrees; shift across and down as a share of the
                face's width; growth as a fraction.
        """
        sines, cosines = np.sin(np.radians(pose[:2])), np.cos(np.radians(pose[:2]))
        centre = self._centre.astype(np.float32)
        rotation = cv2.getRotationMatrix2D(self._centre.tolist(), pose[2], 1 + pose[5])
        tilted = np.asarray(rotation, np.float64)
        tilted[:, 2] += pose[3:5] * self._width
        # A point p of the photo at depth z is seen at c + (p - c) cos + z sin, then tilted.
        back = cv2.invertAffineTransform(tilted).astype(np.float32)
        seen = self._grid @ back[:, :2].T + back[:, 2] - centre
        where = self._grid
        for _ in range(_ROUNDS):
            depth = cv2.remap(  # type: ignore[call-overload]  # the second map is optional
                self._depth, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            where = centre + (seen - depth[..., None] * sines.astype(np.float32)) / cosines.astype(
                np.float32
            )
        moved = where - cv2.remap(  # type: ignore[call-overload]  # likewise
            skin, where, None, cv2.INTER_LINEAR
        )
        picture = cv2.remap(  # type: ignore[call-overload]  # likewise
            self._photo, moved, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        away, z = self._mesh[:, :2] - self._centre, self._mesh[:, 2:]
        placed = transform(self._centre + away * cosines + z * sines, tilted)
        deep = z[:, 0] * cosines[0] - away[:, 0] * sines[0]
        return picture, np.column_stack([placed, deep])


def drawn_clips(
    photos: Sequence[tuple[str, np.ndarray, np.ndarray]],
    combinations: Mapping[str, Sequence[tuple[str, ...]]],
    takes: int,
    rng: np.random.Generator,
    draw: Draw = expression,
) -> DrawnClips:
    """Clips of every photo with every combination of action units.

    Args:
        photos: Name, picture and mesh (478, 3).
        combinations: Action units, by class.
        takes: Clips of each.
        rng: Draws all variations.
        draw: Draws the motions.
    """
    rows: list[tuple[np.ndarray, int, str, str, float, float]] = []
    with progress_bar(Console(stderr=True)) as bar:
        for name, photo, mesh in bar.track(photos, description="photos"):
            for label, units in _each(combinations):
                for _ in range(takes):
                    size = math.exp(rng.uniform(*np.log(_PEAK_PX)))
                    turn = rng.uniform(-_TURN[0], _TURN[0])
                    sitter = Sitter(photo, mesh, rng)
                    pair = sitter.pair(draw(units, rng), size, turn, rng)
                    rows.append((pair, label, "+".join(units), name, turn, size))
    pairs, labels, units_, names, turns, sizes = zip(*rows, strict=True)
    return DrawnClips(
        np.stack(pairs),
        np.array(labels),
        np.array(units_),
        np.array(names),
        np.array(turns, np.float32),
        np.array(sizes, np.float32),
    )


def _each(
    combinations: Mapping[str, Sequence[tuple[str, ...]]],
) -> Iterator[tuple[int, tuple[str, ...]]]:
    for label, several in combinations.items():
        for units in several:
            yield LABELS.index(label), units


def read_drawn_clips(path: Path) -> DrawnClips:
    """The clips in a file that this tool made.

    Raises:
        InputError: It is no such file.
    """
    remedy = "give a file that tools/recognition/drawn_clips.py made"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {field.name: file[field.name] for field in fields(DrawnClips)}
    except FileNotFoundError:
        raise InputError(f"there is no file {path}: {remedy}") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} holds no drawn clips: {remedy}") from error
    pairs, labels = arrays["pairs"], arrays["labels"]
    fits = pairs.dtype == np.uint8 and pairs.shape[1:] == PAIR_SHAPE and labels.dtype.kind == "i"
    if not fits or any(len(array) != len(pairs) for array in arrays.values()):
        raise InputError(f"{path} holds no drawn clips: {remedy}")
    if not len(labels) or not np.isin(labels, range(len(LABELS))).all():
        raise InputError(f"{path} holds no clips of {', '.join(LABELS)}: {remedy}")
    return DrawnClips(**arrays)


def read_faces(folders: Sequence[Path]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, picture and mesh (478, 3) of every photo in some folders that shows a face.

    Raises:
        InputError: A folder or a photo cannot be read, or none shows a face.
    """
    model = find_landmark_model()
    found = []
    for file in [f for folder in folders for f in media_files(folder) if is_photo(f)]:
        photo = read_photo(file)
        mesh = detect_face_mesh(photo, model)
        if mesh is not None:
            found.append((file.name, photo, mesh))
    if not found:
        raise InputError("no photo shows a face: give --photos with faces seen from the front")
    return found


def write_drawn_clips(path: Path, clips: DrawnClips) -> None:
    """Writes clips whole or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    content = io.BytesIO()
    np.savez_compressed(content, **{f.name: getattr(clips, f.name) for f in fields(DrawnClips)})
    try:
        replace_file(path, content.getvalue())
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}): give another --out") from error


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument(
        "--photos", type=Path, nargs="+", required=True, metavar="DIR", help="of faces, frontal"
    )
    parser.add_argument("--out", type=Path, required=True, help="file to write (.npz)")
    parser.add_argument(
        "--further",
        action="store_true",
        help="also combinations that only test (FURTHER); never train on these",
    )
    parser.add_argument("--face-kit", type=Path, metavar="DIR", help="a clone of ICT-FaceKit")
    whole = number_type(int, lambda n: n >= 1, "a whole number above 0")
    parser.add_argument(
        "--takes", type=whole, default=2, help="clips of each photo and combination; default 2"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all variations; default 0")
    options = parser.parse_args(arguments)

    def work() -> None:
        if options.out.suffix != ".npz":
            raise InputError(f"--out {options.out} is no .npz file: give a name that ends so")
        draw = FaceKit(options.face_kit) if options.face_kit else expression
        combinations = {
            label: (*CLEAR[label], *(FURTHER[label] if options.further else ())) for label in LABELS
        }
        rng = np.random.default_rng(options.seed)
        faces = read_faces(options.photos)
        clips = drawn_clips(faces, combinations, options.takes, rng, draw)
        write_drawn_clips(options.out, clips)
        print(f"{options.out}: {len(clips)} clips of {len(faces)} faces")

    return exit_status(parser.prog, work)


if __name__ == "__main__":
    raise SystemExit(main())
