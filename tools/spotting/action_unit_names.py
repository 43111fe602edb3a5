"""Learns to name the action units of events, and measures which names are right.

    python tools/spotting/action_unit_names.py --photos DIR ... --test-photos DIR ...
        [--data DIR --subjects S ...] [--out FILE.json] [--samples N] [--takes N] [--seed N]

Fits the functions of `realtime_mer/spotting/action_units.py` on photos whose skin is moved by drawn
action units (`realtime_mer/demo/action_units.py`). Then it hides drawn units in clips of the test
photos, under a swaying camera, with sensor noise and blinks, and lets the runtime find them. Half
of the hidden motions are single units, a third are pairs, the others combinations that databases
list; units that one half of the face can show alone are one-sided in one of four. Their peak is .8
to 4 px.

The table tells, of the motions that were found, how often each unit was named rightly, and how
often the side was right, too. "left out" are precision and recall on photos to learn from that were
left out of the fit. If both are at least .8 there and in the test, and the unit was in four motions
or more that were found, the function goes into --out.

With --data, one hidden motion in five is a measured one of CausalNet's flow release. Nobody knows
the units of these, so a second table tells what they are named, by label. The figures mean
something only if the test photos show other people.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import expit

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import LABELS, read_release
from realtime_mer.analysis.analyser import Analyser
from realtime_mer.demo.action_units import EXPRESSIONS, UNITS, action_unit
from realtime_mer.demo.photo import SIZE, PhotoFace, SwayingCamera
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.face.registration import FACE_SIZE, LAYOUT, Registration
from realtime_mer.face.tracker import detect_face_mesh
from realtime_mer.results import Interval
from realtime_mer.spotting.action_units import FEATURES, UnitFunction, action_units, features
from realtime_mer.spotting.cell_flow import CellFlow
from realtime_mer.spotting.motion import FACE_CELLS, RigidMotion, texture_trust
from tools.command import command_parser, exit_status, progress_bar
from tools.spotting.camera import is_photo, media_files, read_photo, scaled
from tools.spotting.figures import matches
from tools.spotting.hidden_motion import warped
from tools.spotting.motions import MICRO_S, course, lid_motions, measured_motions

BAR = 0.8
"""Least precision and recall of a unit that is named."""
# What was there more seldom has no figures. Chosen by judgement.
_LEAST_THERE = 4
# Units that move the middle of the face: they have no sides. Nobody wrinkles half a nose.
_MIDDLE_UNITS = frozenset({"AU9", "AU17", "AU24", "AU25", "AU26"})
# Units that pull the same skin in opposite directions are not drawn together.
_CONTRARY = frozenset(
    map(
        frozenset,
        (
            *(("AU5", "AU7"), ("AU12", "AU15"), ("AU15", "AU20"), ("AU24", "AU25")),
            *(("AU24", "AU26"), ("AU17", "AU25"), ("AU17", "AU26")),
        ),
    )
)
# Landmarks of brows, eyes, nose wings, corners of the mouth and the lower lip's edge, and their
# rows on the mean face: medians of 39 photos.
_ROWS = (
    ((105, 334), 50.0),
    ((33, 133, 362, 263), 84.0),
    ((129, 358), 136.5),
    ((61, 291), 181.0),
    ((17,), 198.0),
)
# Shares of single units and of pairs; what is left are `EXPRESSIONS`.
_SINGLE, _PAIR = 0.5, 0.35
_ONE_SIDED = 0.25
# A one-sided unit fades out over this many pixels around the middle line of the face.
_SEAM_PX = 8.0
_MIDDLE_PX = float(LAYOUT[2, 0])
# Peak of what is drawn, 99th percentile, px: what the spotter is trained to find.
_PEAK_PX = (0.8, 4.0)
# Of pictures to learn from: width of the face in pixels, sensor noise in grey levels, share in
# which nothing moves and in which the lids do. Chosen by judgement, the first two as in camera.py.
_WIDTHS = (80, 300)
_NOISE = (0.4, 3.5)
_NOTHING, _LIDS = 0.1, 0.25
# From picture to picture the landmarks jitter by so much, and light changes by so much.
_JITTER = 0.0015
# Standard deviation of the weights before anything is seen, chosen by judgement; and groups of
# photos for choosing the thresholds.
_PRIOR = 1.0
_FOLDS = 5
# Newton's method converges within so many steps; it ends with one as small as this.
_STEPS, _CLOSE = 12, 1e-4
# Of a clip: frames a second, length, width of the face, pause between two motions.
_FPS, _LENGTH_S = 30.0, 24.0
_CLIP_WIDTHS = (110, 240)
_PAUSE_S = (0.8, 1.4)
# Share of measured motions, if there are any.
_MEASURED = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """A motion of the skin and the units in it.

    Attributes:
        field: (224, 224, 2) float32 displacement at the apex, px.
        units: Of each unit that is in it, its side: "both", "left" or "right".
        label: The release's, of a measured motion; its units are not known. Else "".
    """

    field: np.ndarray
    units: dict[str, str]
    label: str = ""


def rows_of(landmarks: np.ndarray) -> np.ndarray:
    """(224,) float32, which row of a drawn unit belongs to each row of a face.

    Units are drawn for the mean face; brows and lips are higher or lower on others.

    Args:
        landmarks: (478, 2 or more) of the canonical face.
    """
    own = [float(landmarks[list(points), 1].mean()) for points, _ in _ROWS]
    drawn_at = [row for _, row in _ROWS]
    every = np.arange(FACE_SIZE)
    shift = np.interp(every, own, np.subtract(drawn_at, own))
    return (every + shift).astype(np.float32)


def drawn(rng: np.random.Generator, rows: np.ndarray) -> Motion:
    """A motion of one unit or several.

    Args:
        rng: Draws everything.
        rows: As `rows_of` gives it.
    """
    kind, names = rng.uniform(), list(UNITS)
    if kind < _SINGLE:
        chosen: tuple[str, ...] = (names[rng.integers(len(names))],)
    elif kind < _SINGLE + _PAIR:
        while True:
            first, second = rng.choice(len(names), 2, replace=False)
            chosen = names[first], names[second]
            if frozenset(chosen) not in _CONTRARY:
                break
    else:
        several = [units for of in EXPRESSIONS.values() for units in of if len(units) > 1]
        chosen = several[rng.integers(len(several))]
    total = np.zeros((FACE_SIZE, FACE_SIZE, 2), np.float32)
    units = {}
    for name in chosen:
        field = action_unit(name, rng, rng.uniform(0.6, 1.0))
        side = "both"
        if name not in _MIDDLE_UNITS and rng.uniform() < _ONE_SIDED:
            side = str(rng.choice(["left", "right"]))
            field = field * _half(side)
        total += field
        units[name] = side
    x, y = np.meshgrid(np.arange(FACE_SIZE, dtype=np.float32), rows)
    total = np.asarray(cv2.remap(total, x, y, cv2.INTER_LINEAR))
    peak = float(np.percentile(np.linalg.norm(total, axis=-1), 99))
    size = math.exp(rng.uniform(*np.log(_PEAK_PX)))
    return Motion((size / peak * total).astype(np.float32), units)


def _half(side: str) -> np.ndarray:
    """(1, 224, 1), 1 on a side of the picture and 0 on the other."""
    across = (np.arange(FACE_SIZE) - _MIDDLE_PX) / _SEAM_PX
    share = expit(across if side == "right" else -across)
    return share[None, :, None].astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What n motions look like, and what they are.

    Attributes:
        seen: (n, 2, FEATURES), as `features` gives it.
        shown: (n, 2, units) bool, whether the image-right and the image-left half show each of
            `UNITS`.
        groups: (n,) number of the photo, or of the clip.
    """

    seen: np.ndarray
    shown: np.ndarray
    groups: np.ndarray


def shown(units: dict[str, str]) -> np.ndarray:
    """(2, units) bool, whether the image-right and the image-left half show each of `UNITS`."""
    sides = ("right", "left")
    return np.array([[units.get(name) in (side, "both") for name in UNITS] for side in sides])


def pictures(
    photo: np.ndarray, mesh: np.ndarray, count: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, Motion]]:
    """Displacements (FACE_CELLS, 2) that the runtime's flow finds in pairs of pictures of a photo.

    Args:
        photo: BGR.
        mesh: The face in it, (478, 3).
        count: How many pairs.
        rng: Draws motions, sizes and noise.
    """
    photo, mesh = _face_only(photo, mesh)
    lids = lid_motions(count, rng)
    for number in range(count):
        if number % 10 == 0:  # the face at another size
            scale = rng.uniform(*_WIDTHS) / float(np.ptp(mesh[:, 0]))
            image = scaled(photo, scale)
            at = (mesh * scale).astype(np.float32)
            still = Registration()(image, at, 0.0)
            rows = rows_of(still.landmarks)
        motion = drawn(rng, rows) if rng.uniform() >= _NOTHING else Motion(np.zeros((1, 1, 2)), {})
        field = motion.field
        if rng.uniform() < _LIDS:
            field = field + rng.uniform(-6, 6) * lids[number]
        moved = warped(image, still.matrix, np.broadcast_to(field, (FACE_SIZE, FACE_SIZE, 2)))
        sigma, registration = rng.uniform(*_NOISE), Registration()
        # The anchor, the onset and the apex.
        faces = []
        for picture, time_s in ((image, 0.0), (image, 0.1), (moved, 0.2)):
            jitter = _JITTER * float(np.ptp(at[:, 0])) * rng.standard_normal(at.shape, np.float32)
            faces.append(registration(_noisy(picture, sigma, rng), at + jitter, time_s))
        anchor, onset, apex = faces
        flow, rigid = (
            CellFlow(anchor.grey),
            RigidMotion(anchor.landmarks, texture_trust(anchor.grey)),
        )
        before, after = (rigid.remove(flow(face.grey))[0][FACE_CELLS] for face in (onset, apex))
        yield after - before, motion


def _noisy(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    noise = np.float32(sigma) * rng.standard_normal(image.shape, np.float32)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _face_only(photo: np.ndarray, mesh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The face of a photo with some of what is around it, and its mesh (478, 3)."""
    around = 0.5 * float(np.ptp(mesh[:, 0]))
    low = np.maximum(mesh[:, :2].min(0) - around, 0).astype(int)
    high = (mesh[:, :2].max(0) + around).astype(int)
    moved = mesh.copy()
    moved[:, :2] -= low
    return np.ascontiguousarray(photo[low[1] : high[1], low[0] : high[0]]), moved


def samples(
    photos: Sequence[tuple[np.ndarray, np.ndarray]], takes: int, rng: np.random.Generator
) -> Samples:
    """What motions look like on photos.

    Args:
        photos: Pictures and the meshes (478, 3) of their faces.
        takes: Motions of each.
        rng: Draws them.
    """
    seen, units, groups = [], [], []
    with progress_bar(Console(stderr=True)) as bar:
        for number, (photo, mesh) in enumerate(bar.track(photos, description="photos")):
            for cells, motion in pictures(photo, mesh, takes, rng):
                seen.append(features(cells))
                units.append(shown(motion.units))
                groups.append(number)
    return Samples(np.array(seen), np.array(units), np.array(groups))


@dataclass(frozen=True, slots=True)
class Counts:
    """How often a unit was there, was named, and was named rightly; of these, the side too."""

    there: int
    named: int
    right: int
    side_right: int

    @property
    def precision(self) -> float:
        return self.right / self.named if self.named else math.nan

    @property
    def recall(self) -> float:
        return self.right / self.there if self.there else math.nan

    @property
    def passes(self) -> bool:
        """Whether the unit may be named."""
        return self.there >= _LEAST_THERE and min(self.precision, self.recall) >= BAR


def counts(probabilities: np.ndarray, there: np.ndarray, threshold: float, both: float) -> Counts:
    """How well a unit is named.

    Args:
        probabilities: (n, 2) of the image-right and the image-left half.
        there: (n, 2) bool, whether the half shows it.
        threshold, both: As in `UnitFunction`.
    """
    named, is_there = probabilities.max(1) >= threshold, there.any(1)
    right = named & is_there
    halves = probabilities >= np.minimum(both, probabilities.max(1))[:, None]
    sides = (halves == there).all(1)
    return Counts(*(int(which.sum()) for which in (is_there, named, right, right & sides)))


def _fit(seen: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (FEATURES,) and bias of the most likely logistic function.

    Args:
        seen: (n, 2, FEATURES).
        there: (n, 2) bool.
    """
    x = np.column_stack([seen.reshape(-1, FEATURES), np.ones(2 * len(seen))])
    y = there.ravel().astype(float)
    ridge = np.append(np.full(FEATURES, _PRIOR**-2), 1e-6)
    parameters = np.zeros(FEATURES + 1)
    for _ in range(_STEPS):
        p = expit(x @ parameters)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(curvature, x.T @ (y - p) - ridge * parameters)
        parameters += step
        if np.abs(step).max() < _CLOSE:
            break
    return parameters[:-1], float(parameters[-1])


def learned(data: Samples) -> list[tuple[UnitFunction, Counts]]:
    """A function for each of `UNITS`, and how well it names the unit on photos left out of the fit.

    The thresholds are chosen on these photos: for the best of the smaller of precision and recall,
    and for the most right sides.
    """
    functions = []
    for column, name in enumerate(UNITS):
        there, sided = data.shown[..., column], name not in _MIDDLE_UNITS
        on_others = np.zeros(there.shape)
        for fold in range(_FOLDS):
            left_out = data.groups % _FOLDS == fold
            fitted = UnitFunction(name, sided, *_fit(data.seen[~left_out], there[~left_out]), 0.5)
            on_others[left_out] = fitted.probabilities(data.seen[left_out])
        grid = np.arange(0.1, 0.9, 0.01)
        of = [counts(on_others, there, t, 0.0) for t in grid]
        best = int(np.argmax([np.nan_to_num(min(c.precision, c.recall)) for c in of]))
        threshold, both = float(grid[best]), 0.0
        if sided:
            below = np.arange(0.02, threshold, 0.02)
            sides = [counts(on_others, there, threshold, b).side_right for b in below]
            both = float(below[int(np.argmax(sides))])
        function = UnitFunction(name, sided, *_fit(data.seen, there), threshold, both)
        functions.append((function, counts(on_others, there, threshold, both)))
    return functions


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """An event of the runtime in a test clip.

    Attributes:
        cells: (FACE_CELLS, 2), as a proposal holds them.
        motion: What it was; None of a false report.
    """

    cells: np.ndarray
    motion: Motion | None


def placed(photo: np.ndarray, mesh: np.ndarray, width: float) -> np.ndarray:
    """A photo as `SwayingCamera` takes it (544, 704, 3), with the face in the middle.

    Args:
        photo: BGR.
        mesh: The face in it.
        width: Of the face, in pixels.
    """
    scale = width / float(np.ptp(mesh[:, 0]))
    margin = 32
    size = np.array(SIZE) + 2 * margin
    # Fewer pixels first where they would alias.
    if scale < 0.6:
        photo, mesh, scale = scaled(photo, 2 * scale), mesh * 2 * scale, 0.5
    shift = size / 2 - scale * (mesh[:, :2].min(0) + mesh[:, :2].max(0)) / 2
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return cv2.warpAffine(
        photo, matrix, size.tolist(), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


def found_in_clip(
    photo: np.ndarray, model: Path, measured: Sequence[Motion], rng: np.random.Generator
) -> tuple[list[Found], int]:
    """What the runtime finds of motions that are hidden in a clip of a photo.

    Args:
        photo: As `placed` gives it.
        model: The face landmarker's.
        measured: Motions from which some are drawn; may be empty.
        rng: Draws motions, their times, blinks, camera and noise.

    Returns:
        What was found, and how many were hidden.
    """
    mesh = detect_face_mesh(photo, model)
    if mesh is None:
        return [], 0
    face, camera = PhotoFace(photo, mesh), SwayingCamera(rng)
    times = np.arange(round(_LENGTH_S * _FPS)) / _FPS
    # Interval, field, its strength in each frame, and the motion.
    plan: list[tuple[Interval, np.ndarray, np.ndarray, Motion]] = []
    rows = rows_of(Registration()(photo, mesh, 0.0).landmarks)
    at = 2.0
    while True:
        motion = drawn(rng, rows)
        if measured and rng.uniform() < _MEASURED:
            motion = _measured(measured, rng)
        length = rng.uniform(*MICRO_S)
        interval = Interval(at, at + length * rng.uniform(0.35, 0.65), at + length)
        if interval.offset_s > _LENGTH_S - 0.5:
            break
        field = face.backwards(face.field(motion.field))
        onset, apex, offset = interval.onset_s, interval.apex_s, interval.offset_s
        up, down, left = course(times, onset, apex, offset, 1.0, 0.3)
        strength = left * (up - rng.uniform(0.8, 1.0) * down)
        plan.append((interval, field, strength, motion))
        at += length + rng.uniform(*_PAUSE_S)
    blinks = rng.uniform(1, _LENGTH_S, 5)
    sigma = rng.uniform(*_NOISE)
    # A few noises, shifted, in place of one a frame, which would take most of the time.
    noises = [
        np.float32(sigma) * rng.standard_normal((SIZE[1], SIZE[0], 3), np.float32) for _ in range(5)
    ]
    proposals = []
    with Analyser(landmarks=model, providers="cpu") as analyser:
        for index, time_s in enumerate(times.tolist()):
            skin = None
            for _, field, strength, _ in plan:
                if strength[index] > 0.005:
                    moved = strength[index] * field
                    skin = moved if skin is None else skin + moved
            closing = [
                math.sin(math.pi * (time_s - b) / 0.25) for b in blinks if b < time_s < b + 0.25
            ]
            scene = face.blink(photo, max(closing)) if closing else photo
            picture = camera.picture(scene, skin, time_s)
            noise = np.roll(noises[index % 5], int(rng.integers(SIZE[1])), 0)
            cv2.add(picture, noise, picture, dtype=cv2.CV_8U)
            analyser(picture, time_s)
            proposals += [found for step in analyser.steps for found in step.spotting.found]
    pairs = matches([p[0] for p in plan], [p.interval for p in proposals], _FPS)
    of = {j: plan[i][3] for i, j in pairs}
    found = [Found(p.cells, of.get(j)) for j, p in enumerate(proposals) if p.cells is not None]
    return found, len(plan)


def tested(
    photos: Sequence[tuple[str, np.ndarray, np.ndarray]],
    measured: Sequence[Motion],
    model: Path,
    takes: int,
    seed: int,
) -> tuple[list[Found], int]:
    """What the runtime finds in clips of test photos, and how much was hidden.

    Args:
        photos: Name, picture and mesh (478, 3).
        measured: Motions from which some are drawn; may be empty.
        model: The face landmarker's.
        takes: Clips of each photo.
        seed: Draws everything.
    """
    found: list[Found] = []
    hidden = 0
    jobs = [(take, *photo) for take in range(takes) for photo in photos]
    with progress_bar(Console(stderr=True)) as bar:
        for take, name, photo, mesh in bar.track(jobs, description="clips"):
            # By its name, so that another photo beside it changes nothing.
            rng = np.random.default_rng((seed, take, zlib.crc32(name.encode())))
            picture = placed(photo, mesh, rng.uniform(*_CLIP_WIDTHS))
            of_clip, count = found_in_clip(picture, model, measured, rng)
            found += of_clip
            hidden += count
    return found, hidden


def _measured(motions: Sequence[Motion], rng: np.random.Generator) -> Motion:
    """One of the measured motions, at some size."""
    motion = motions[int(rng.integers(len(motions)))]
    return replace(
        motion, field=np.float32(math.exp(rng.uniform(*np.log(_PEAK_PX)))) * motion.field
    )


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument(
        "--photos", type=Path, nargs="+", required=True, metavar="DIR", help="photos to learn from"
    )
    parser.add_argument(
        "--test-photos", type=Path, nargs="+", required=True, metavar="DIR", help="of other people"
    )
    parser.add_argument("--data", type=Path, help="the flow release")
    parser.add_argument("--subjects", nargs="*", metavar="S", help="whose motions (default: all)")
    parser.add_argument("--out", type=Path, help="where the functions go (default: nowhere)")
    parser.add_argument("--samples", type=int, default=40, help="motions a photo (default 40)")
    parser.add_argument("--takes", type=int, default=1, help="clips a test photo (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    return exit_status(parser.prog, lambda: _learn_and_test(options))


def _learn_and_test(options: argparse.Namespace) -> None:
    """All that the command does.

    Raises:
        InputError: A folder cannot be used, or has no face.
    """
    model = find_landmark_model()
    to_learn, to_test = (_faces(of, model) for of in (options.photos, options.test_photos))
    measured: list[Motion] = []
    if options.data is not None:
        clips = read_release(options.data)
        if options.subjects:
            clips = clips.only(options.subjects)
        measured = [
            Motion(rise, {}, LABELS[label])
            for (rise, _), label in zip(measured_motions(clips.pairs), clips.labels, strict=True)
        ]
    cv2.setNumThreads(1)
    data = samples(
        [photo[1:] for photo in to_learn], options.samples, np.random.default_rng(options.seed)
    )
    functions = learned(data)
    found, hidden = tested(to_test, measured, model, options.takes, options.seed)
    known = [f for f in found if f.motion is None or not f.motion.label]
    if not known:
        raise InputError("nothing was found in the clips: give more --test-photos, or --takes")
    seen = np.array([features(f.cells) for f in known])
    there = np.array([shown({} if f.motion is None else f.motion.units) for f in known])
    named: list[tuple[UnitFunction, Counts]] = []
    reports = sum(f.motion is not None for f in found)
    table = Table(
        title=f"{len(to_learn)} photos to learn from, {len(to_test)} to test: of {hidden} motions "
        f"{reports} were found; {len(known)} reports count, {len(found) - reports} of them false",
        pad_edge=False,  # so that no column is broken at a width of 80
    )
    for heading in ("unit", "there", "named", "right", "precision", "recall", "side"):
        table.add_column(heading, justify="left" if heading == "unit" else "right")
    table.add_column("left out")
    table.add_column("passes")
    for column, (function, on_photos) in enumerate(functions):
        of_test = counts(
            function.probabilities(seen), there[..., column], function.threshold, function.both
        )
        passes = of_test.passes and on_photos.passes
        if passes:
            named.append((function, of_test))
        table.add_row(
            function.name,
            *(str(n) for n in (of_test.there, of_test.named, of_test.right)),
            f"{of_test.precision:.2f}",
            f"{of_test.recall:.2f}",
            f"{of_test.side_right / of_test.right:.2f}" if function.sided and of_test.right else "",
            f"{on_photos.precision:.2f} {on_photos.recall:.2f}",
            "yes" if passes else "no",
        )
    console = Console()
    console.print(table)
    _print_measured(console, [f for f in found if f.motion and f.motion.label], named)
    if options.out is not None:
        write_functions(options.out, named)


def _faces(folders: Sequence[Path], model: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """The name, picture and mesh (478, 3) of each photo with a face.

    Raises:
        InputError: A folder cannot be read, or none has such a photo.
    """
    faces = []
    for file in (f for folder in folders for f in media_files(folder) if is_photo(f)):
        photo = read_photo(file)
        if (mesh := detect_face_mesh(photo, model)) is not None:
            faces.append((file.stem, photo, mesh))
    if not faces:
        raise InputError(f"no photo of a face in {', '.join(map(str, folders))}: put some there")
    return faces


def _print_measured(
    console: Console, found: Sequence[Found], named: Sequence[tuple[UnitFunction, Counts]]
) -> None:
    """Prints what measured motions are named, by label."""
    if not found:
        return
    functions = [function for function, _ in named]
    table = Table(title="measured motions: how many were found, and in how many each unit is named")
    table.add_column("unit")
    columns = []
    for label in LABELS:
        table.add_column(label, justify="right")
        of_label = [f for f in found if f.motion is not None and f.motion.label == label]
        units = [action_units(f.cells, functions) for f in of_label]
        times = Counter(unit.name for several in units for unit in several)
        columns.append(times + Counter(found=len(units), none=sum(not u for u in units)))
    for row in ("found", *(function.name for function in functions), "none"):
        table.add_row(row, *(str(column[row]) for column in columns))
    console.print(table)


def write_functions(path: Path, named: Sequence[tuple[UnitFunction, Counts]]) -> None:
    """Writes the functions of units that may be named, with the figures of the test.

    Raises:
        InputError: The file cannot be written.
    """
    units = [
        function.to_dict()
        | {"found": c.there, "precision": round(c.precision, 3), "recall": round(c.recall, 3)}
        for function, c in named
    ]
    lines = ",\n".join("  " + json.dumps(unit) for unit in units)
    content = f'{{"made_by": "tools/spotting/action_unit_names.py",\n "units": [\n{lines}\n]}}\n'
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror}): give another --out") from error


if __name__ == "__main__":
    sys.exit(main())
