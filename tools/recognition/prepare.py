"""Makes training data of a data set as its owners give it out.

    python tools/recognition/prepare.py SET FOLDER --out DIR

It reads the frames and tables as they are, registers the faces and makes the flow pairs with the
runtime's own tracker, registration and flow. docs/datasets.md names the sets and describes what
goes into --out; `tools/recognition/prepared.py` reads it again. Known errors of the tables are put
right by named rules (corrections.csv); each row that is not used is in left_out.csv, with the
reason. A long-video set (SET-long) becomes annotations.csv, for tools/spotting/evaluate.py.

A run that was stopped continues where it was. A clip that fails spoils no other one. The set
`flow-release` is the public flow release of CausalNet, which has no frames.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import LABELS, Clips, read_release
from realtime_mer import __version__
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import LandmarkModel, load_landmark_model
from realtime_mer.output.log import csv_line
from realtime_mer.output.writable import replace_file, shown, why
from realtime_mer.recognition.flow_pair import DenseFlow, flow_pair
from realtime_mer.spotting.cell_flow import to_cells
from tools.command import command_parser, exit_status, make_folder, progress_bar
from tools.recognition.clip_tracker import register
from tools.recognition.datasets import long_videos
from tools.recognition.datasets.catalogue import CLIPS, LONG_VIDEOS
from tools.recognition.datasets.clip import Clip, LeftOut, Reading
from tools.recognition.datasets.rules import REASONS, RULES, Applied, LeaveOut
from tools.recognition.datasets.tree import Tree
from tools.recognition.prepared import (
    ABOUT,
    FACES,
    FLOW,
    FORMAT,
    MOTION,
    TABLE,
    TVL1,
    applied_in,
    parquet,
    read_about,
    read_arrays,
    write_faces,
)
from tools.recognition.registered_clip import tv_l1

RELEASE = "flow-release"
LEFT_OUT, CORRECTIONS, ANNOTATIONS = "left_out.csv", "corrections.csv", "annotations.csv"
# Faces kept of a clip: at 200 frames a second, a micro-expression of 0.3 s with its margins.
_FACES = 121
_LEAST_FACES = 3


@dataclass(frozen=True, slots=True)
class Options:
    """How clips are prepared.

    Attributes:
        faces: How many registered faces of a clip are kept at most.
        tvl1: Whether flow pairs are made by TV-L1 as well.
        colour: Whether all of these faces are kept in colour as well, not the key frames alone.
    """

    faces: int = _FACES
    tvl1: bool = False
    colour: bool = False


@cache
def _model() -> LandmarkModel:
    """The landmark model, read once a process."""
    return load_landmark_model()


def _made_of(clip: Clip, options: Options) -> str:
    """A short text that is the same only for the same row, frames and options."""
    row = {**asdict(clip), "folder": clip.folder.parts}
    content = json.dumps([FORMAT, __version__, asdict(options), row], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def prepare_clip(clip: Clip, folder: Path, options: Options) -> LeftOut | None:
    """Writes the faces and the motion of a clip; returns why not, if it cannot be used.

    It raises nothing but what ends the whole run: a full disk, or Ctrl-C.
    """
    path = folder / f"{clip.key}.npz"
    try:
        registered = register(clip, _model(), options.faces, options.colour)
        rise, fall = registered.motion(registered.key, DenseFlow())
        more = {
            "flow": flow_pair(rise, fall),
            "motion": np.stack([to_cells(rise), to_cells(fall)]).astype(np.float32),
        }
        if options.tvl1 and (method := tv_l1()) is not None:
            more["flow_tvl1"] = registered.pair(registered.key, method)
    except LeaveOut as out:
        return _left_out(clip, out.reason, out.detail)
    except Exception as error:  # whatever a single clip raises spoils no other one
        return _left_out(clip, "failed", f"{type(error).__name__}: {error}")
    write_faces(path, registered, more, _made_of(clip, options))
    return None


def _left_out(clip: Clip, reason: str, detail: str) -> LeftOut:
    return LeftOut(clip.table, clip.row, clip.subject, clip.name, reason, detail)


def _prepare_clips(
    clips: Sequence[Clip], folder: Path, options: Options, jobs: int, advance: Callable[[], None]
) -> dict[str, LeftOut]:
    """Prepares clips, several at a time; returns why some are left out, by their keys."""
    left_out: dict[str, LeftOut] = {}

    def done(clip: Clip, out: LeftOut | None) -> None:
        if out is not None:
            left_out[clip.key] = out
        advance()

    if jobs == 1:
        for clip in clips:
            done(clip, prepare_clip(clip, folder, options))
        return left_out
    rest = list(clips)
    while rest:
        finished, has_died = set(), False
        with ProcessPoolExecutor(
            jobs, mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
        ) as pool:
            running = {pool.submit(prepare_clip, c, folder, options): c for c in rest}
            try:
                for future in as_completed(running):
                    done(running[future], future.result())
                    finished.add(running[future].key)
            except BrokenProcessPool:
                has_died = True
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        rest = [clip for clip in rest if clip.key not in finished]
        if has_died:
            # One of those that were under way took its process down: do them one at a time.
            suspects, rest = rest[: 2 * jobs], rest[2 * jobs :]
            for clip in suspects:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    try:
                        done(clip, pool.submit(prepare_clip, clip, folder, options).result())
                    except BrokenProcessPool:
                        done(clip, _left_out(clip, "failed", "its process died"))
    return left_out


def prepare(
    name: str, reading: Reading, out: Path, options: Options, jobs: int, console: Console
) -> dict[str, Any]:
    """Prepares the clips of a set; returns what set.json says.

    Raises:
        InputError: `out` cannot be written, or no clip can be used.
    """
    folder = out / FACES
    make_folder(folder, "--out")
    # Without these, every clip would fail, or all would be for nothing.
    _model()
    parquet()
    missing = [
        clip
        for clip in reading.clips
        if read_about(folder / f"{clip.key}.npz") != _made_of(clip, options)
    ]
    try:
        with progress_bar(console) as progress:
            total = len(reading.clips)
            task = progress.add_task(name, total=total, completed=total - len(missing))
            failed = _prepare_clips(missing, folder, options, jobs, lambda: progress.advance(task))
        clips = [clip for clip in reading.clips if clip.key not in failed]
        left_out = [*reading.left_out, *failed.values()]
        rows = [_row(clip, folder) for clip in clips]
        applied = [
            (clip.table, clip.row, clip.subject, clip.name, a)
            for clip, row in zip(clips, rows, strict=True)
            for a in row.pop("applied")
        ]
        write_notes(out, name, left_out, applied)
        if not clips:
            raise InputError(
                f"no clip of {name} can be used: {out / LEFT_OUT} says why for each of the "
                f"{len(left_out)} rows"
            )
        _write_array(out / FLOW, (_array(clip, folder, "flow") for clip in clips), len(clips))
        _write_array(out / MOTION, (_array(clip, folder, "motion") for clip in clips), len(clips))
        if options.tvl1:
            pairs = (_array(clip, folder, "flow_tvl1") for clip in clips)
            _write_array(out / TVL1, pairs, len(clips))
        _write_table(out / TABLE, rows)
        return _write_about(out, name, reading.tables, len(clips), left_out, applied, options)
    except OSError as error:
        raise InputError(
            f"cannot write into {shown(out)} ({why(error)}): see to its disk, or give another "
            "--out; what is there is kept"
        ) from error


def _array(clip: Clip, folder: Path, name: str) -> np.ndarray:
    return read_arrays(folder / f"{clip.key}.npz", name)[name]


def _row(clip: Clip, folder: Path) -> dict[str, Any]:
    """The row of a clip; `applied` holds its rules."""
    made = read_arrays(
        folder / f"{clip.key}.npz", "numbers", "key", "apex_from", "applied", "motion"
    )
    onset, apex, offset = (int(made["numbers"][index]) for index in made["key"])
    applied = (*clip.applied, *applied_in(made["applied"]))
    return {
        "key": clip.key,
        "set": clip.dataset,
        "subject": clip.subject,
        "clip": clip.name,
        "emotion": clip.emotion,
        "composite": clip.composite,
        "own_class": clip.own_class,
        "action_units": list(clip.action_units),
        "possible_action_units": list(clip.possible_action_units),
        "onset": onset,
        "apex": apex,
        "offset": offset,
        "apex_from": str(made["apex_from"]),
        "fps": clip.fps,
        "faces": len(made["numbers"]),
        "intensity_px": float(np.percentile(np.linalg.norm(made["motion"][0], axis=-1), 99)),
        "frames": "/".join(clip.folder.parts),
        "table": clip.table,
        "row": clip.row,
        "rules": sorted({a.rule for a in applied}),
        "applied": applied,
    }


def _schema() -> Any:  # noqa: ANN401
    """The columns of clips.parquet."""
    import pyarrow as pa

    text, number, texts = pa.string(), pa.int64(), pa.list_(pa.string())
    return pa.schema(
        [
            *((n, text) for n in ("key", "set", "subject", "clip")),
            *((n, text) for n in ("emotion", "composite", "own_class")),
            *((n, texts) for n in ("action_units", "possible_action_units")),
            *((n, number) for n in ("onset", "apex", "offset")),
            ("apex_from", text),
            ("fps", pa.float64()),
            ("faces", number),
            ("intensity_px", pa.float64()),
            ("frames", text),
            ("table", text),
            ("row", number),
            ("rules", texts),
        ]
    )


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow as pa

    part = path.with_suffix(".part")
    parquet().write_table(pa.Table.from_pylist(list(rows), _schema()), part)
    os.replace(part, path)


def _write_array(path: Path, entries: Iterator[np.ndarray], count: int) -> None:
    """Writes an array of `count` entries, one at a time, whole or not at all."""
    part = path.with_suffix(".part")
    first = next(entries)
    shape = (count, *first.shape)
    array = np.lib.format.open_memmap(part, mode="w+", dtype=first.dtype, shape=shape)
    array[0] = first
    for index, entry in enumerate(entries, start=1):
        array[index] = entry
    array.flush()
    del array
    os.replace(part, path)


Note = tuple[str, int, str, str, Applied]
"""Table, row, subject, clip, and a rule that was needed."""


def write_notes(out: Path, name: str, left_out: Iterable[LeftOut], applied: Iterable[Note]) -> None:
    """Writes left_out.csv and corrections.csv."""
    head = ("set", "table", "row", "subject", "clip")
    lines = [csv_line((*head, "reason", "detail", "what it means"))]
    lines += (
        csv_line((name, o.table, o.row, o.subject, o.name, o.reason, o.detail, REASONS[o.reason]))
        for o in left_out
    )
    replace_file(out / LEFT_OUT, b"".join(lines))
    lines = [csv_line((*head, "rule", "typed", "taken", "what it means"))]
    lines += (
        csv_line((name, table, row, subject, clip, a.rule, a.typed, a.taken, RULES[a.rule]))
        for table, row, subject, clip, a in applied
    )
    replace_file(out / CORRECTIONS, b"".join(lines))


def _write_about(
    out: Path,
    name: str,
    tables: Sequence[str],
    clips: int,
    left_out: Sequence[LeftOut],
    applied: Sequence[Note],
    options: Options | None,
) -> dict[str, Any]:
    about = {
        "format": FORMAT,
        "set": name,
        "tables": list(tables),
        "clips": clips,
        "left_out": dict(Counter(o.reason for o in left_out)),
        "rules": dict(Counter(a.rule for *_, a in applied)),
        "options": None if options is None else asdict(options),
        "made_by": {
            "realtime_mer": __version__,
            "opencv": cv2.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    replace_file(out / ABOUT, json.dumps(about, indent=2, ensure_ascii=False).encode() + b"\n")
    return about


def prepare_release(folder: Path, out: Path) -> dict[str, Any]:
    """Writes the flow release in the form of a prepared set; returns what set.json says.

    Raises:
        InputError: The release cannot be read, or `out` not be written.
    """
    release = read_release(folder)
    make_folder(out, "--out")
    try:
        _write_array(out / FLOW, iter(release.pairs), len(release))
        _write_table(out / TABLE, [_release_row(release, i) for i in range(len(release))])
        write_notes(out, RELEASE, (), ())
        return _write_about(out, RELEASE, (), len(release), (), (), None)
    except OSError as error:
        raise InputError(
            f"cannot write into {shown(out)} ({why(error)}): give another --out"
        ) from error


def _release_row(release: Clips, index: int) -> dict[str, Any]:
    name, subject = str(release.names[index]), str(release.subjects[index])
    label = LABELS[release.labels[index]]
    return {
        "key": name,
        "set": str(release.sets[index]),
        "subject": subject,
        "clip": name.removeprefix(f"{subject}_"),
        "emotion": label,
        "composite": label,
        "action_units": [],
        "possible_action_units": [],
        "rules": [],
    }


def prepare_long(name: str, reading: long_videos.LongReading, out: Path) -> dict[str, Any]:
    """Writes the table of a set of long videos for the spotting tools; returns what set.json says.

    Raises:
        InputError: `out` cannot be written, or no row can be used.
    """
    make_folder(out, "--out")
    applied: list[Note] = [
        (r.row.table, r.row.number, str(r.cells[0]), str(r.cells[1]), a)
        for r in reading.rows
        for a in r.applied
    ]
    try:
        write_notes(out, name, reading.left_out, applied)
        if not reading.rows:
            raise InputError(
                f"no row of {name} can be used: {out / LEFT_OUT} says why for each of the "
                f"{len(reading.left_out)} rows"
            )
        lines = [csv_line(long_videos.COLUMNS), *(csv_line(r.cells) for r in reading.rows)]
        replace_file(out / ANNOTATIONS, b"".join(lines))
        return _write_about(
            out, name, reading.tables, len(reading.rows), reading.left_out, applied, None
        )
    except OSError as error:
        raise InputError(
            f"cannot write into {shown(out)} ({why(error)}): give another --out"
        ) from error


def show(console: Console, about: dict[str, Any], out: Path) -> None:
    """Prints for people what was done."""
    table = Table("what", "which", "rows", title=f"{about['set']}: {about['clips']} used")
    for rule, count in sorted(about["rules"].items()):
        table.add_row("put right", rule, str(count))
    for reason, count in sorted(about["left_out"].items()):
        table.add_row("left out", reason, str(count))
    if table.row_count:
        console.print(table)
        console.print(
            f"{out / CORRECTIONS} and {LEFT_OUT} beside it name each row.", soft_wrap=True
        )
    else:
        console.print(f"{about['set']}: {about['clips']} clips, no row left out.")


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    names = (*CLIPS, *LONG_VIDEOS, RELEASE)
    parser.add_argument("set", choices=names, metavar="SET", help=f"one of {', '.join(names)}")
    parser.add_argument("folder", type=Path, help="where the set was unpacked")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is made")
    parser.add_argument("--table", type=Path, help="the set's table, if it lies elsewhere")
    parser.add_argument("--fps", type=float, help="frame rate, if it is not the published one")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="clips at the same time"
    )
    parser.add_argument(
        "--faces",
        type=int,
        default=_FACES,
        help=f"registered faces kept of a clip, at most; default {_FACES}, 45 kB each",
    )
    parser.add_argument(
        "--tvl1", action="store_true", help="also make flow pairs by TV-L1, as the release did"
    )
    parser.add_argument(
        "--colour",
        action="store_true",
        help="keep all faces in colour as well, not the key frames alone: wrong key frames need "
        "them for a network that sees colour (mmnet); 130 kB each",
    )
    options = parser.parse_args(arguments)

    def work() -> None:
        console = Console()
        if options.jobs < 1 or options.faces < _LEAST_FACES:
            raise InputError(f"--jobs is at least 1, --faces at least {_LEAST_FACES}")
        if options.fps is not None and not 0 < options.fps < np.inf:
            raise InputError("--fps is a number above 0")
        if options.tvl1 and tv_l1() is None:
            raise InputError(
                "this OpenCV has no TV-L1 flow: install opencv-contrib-python, or leave out --tvl1"
            )
        if options.set == RELEASE:
            show(console, prepare_release(options.folder, options.out), options.out)
            return
        with console.status(f"listing {shown(options.folder)}"):
            tree = Tree(options.folder)
        if options.set in LONG_VIDEOS:
            long = LONG_VIDEOS[options.set](tree, options.table, options.fps)
            about = prepare_long(options.set, long, options.out)
            show(console, about, options.out)
            console.print(
                f"python tools/spotting/evaluate.py --annotations {options.out / ANNOTATIONS} "
                f"--videos {options.folder} --fps {long.fps:g}",
                soft_wrap=True,
            )
            return
        reading = CLIPS[options.set](tree, options.table, options.fps)
        how = Options(options.faces, options.tvl1, options.colour)
        about = prepare(options.set, reading, options.out, how, options.jobs, console)
        show(console, about, options.out)

    return exit_status(parser.prog, work, resumable=True)


if __name__ == "__main__":
    raise SystemExit(main())
