"""What a frame costs as the work grows: with faces, frame rate, size of the picture and cores.

    python tools/scaling.py [--runs N] [--seconds N] [--plot FILE.png] [--json]

The demo's clip is shown in other ways: side by side for several faces, with frames left out or
blended in for other rates, enlarged for other sizes. Its frames lie in memory, so decoding does not
count. Each measurement has a process of its own, which may use as many cores as it says; in it, the
chain and MediaPipe's landmarker alone take turns on the same 640 x 480 clip and on blocks of
frames, as in tools/benchmark.py. Of every case the least, the median and the most of the runs are
printed:

    chain_ms     from frames to analyses, wall clock, a frame
    cpu_ms       processor time of the chain, a frame
    ratio        chain_ms to that of the landmarker alone on one face of 640 x 480, on as many cores
    fps          frames a second
    faces_seen   faces that were followed, a frame
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realtime_mer.demo.clip import FPS, make_demo_clip
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.session.recognizer import Recognizer
from realtime_mer.source.frame import Frame
from realtime_mer.source.opencv import quiet_opencv
from tools.benchmark import BareLandmarker, MemoryReader, read_frames
from tools.command import (
    command_parser,
    exit_status,
    number_type,
    print_figures,
    progress_bar,
    spread,
)

_BASE_SIZE = (640, 480)
# Several faces are shown side by side in a picture of this size, in tiles: width, height.
_WIDE_SIZE = (1280, 720)
_TILE = (320, 360)
_FACES = (1, 2, 4, 8)
_RATES = (15.0, 30.0, 60.0, 120.0, 240.0)
_SIZES = (_BASE_SIZE, (1280, 720), (1920, 1080), (3840, 2160))
# Frames before the clock runs: detection of all faces, and the spotter's first second.
_WARM_UP_S = 1.5
# All pictures of a case lie in memory. Large ones are repeated sooner, but not at once.
_MOST_BYTES = 1_000_000_000
_FEWEST = 30
# Frames of the landmarker alone, in turns with the chain's.
_BLOCK = 30


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Attributes:
        group: "faces", "rate", "size" or "cores": what grows.
        faces: How many faces are in the picture and followed.
        rate: Frames a second of the source's clock.
        size: (width, height) of the picture.
        cores: How many cores the process may use.
    """

    group: str
    faces: int = 1
    rate: float = FPS
    size: tuple[int, int] = _BASE_SIZE
    cores: int = 1

    @property
    def name(self) -> str:
        return {
            "faces": f"{self.faces}",
            "rate": f"{self.rate:g}",
            "size": f"{self.size[0]} x {self.size[1]}",
            "cores": f"{self.cores}",
        }[self.group]


def cases(cores: int) -> list[Case]:
    """All cases, on a machine with so many cores."""
    return [
        *(Case("faces", faces=n, size=_WIDE_SIZE, cores=cores) for n in _FACES),
        *(Case("rate", rate=rate, cores=cores) for rate in _RATES),
        *(Case("size", size=size, cores=cores) for size in _SIZES),
        *(Case("cores", cores=n) for n in range(1, cores + 1)),
    ]


def pictures(clip: Sequence[np.ndarray], case: Case, seconds: float) -> Iterator[np.ndarray]:
    """The pictures of a case, `seconds` of its clock long.

    Args:
        clip: Pictures of the demo's clip, at `FPS`.
        case: What is measured.
        seconds: How long; the clip is shown there and back.
    """
    clip = clip[: max(_FEWEST, _MOST_BYTES // (3 * case.size[0] * case.size[1]))]

    def at(time_s: float) -> np.ndarray:
        place = time_s * FPS % (2 * len(clip) - 2)
        place = min(place, 2 * len(clip) - 2 - place)
        before, share = int(place), place % 1.0
        if share < 0.01:
            return clip[before]
        return cv2.addWeighted(clip[before], 1 - share, clip[before + 1], share, 0.0)

    large: dict[int, np.ndarray] = {}
    for index in range(round(seconds * case.rate)):
        time_s = index / case.rate
        if case.group == "faces":
            yield _side_by_side([at(time_s + 1.7 * k) for k in range(case.faces)], case.size)
        elif case.size == _BASE_SIZE:
            yield at(time_s)
        else:
            picture = at(time_s)
            if id(picture) not in large:
                large[id(picture)] = _enlarged(picture, case.size)
            yield large[id(picture)]


def _enlarged(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture in the middle of a larger one, as high as that."""
    width, height = size
    scaled = cv2.resize(picture, (height * picture.shape[1] // picture.shape[0], height))
    side = width - scaled.shape[1]
    return cv2.copyMakeBorder(scaled, 0, 0, side // 2, side - side // 2, cv2.BORDER_REFLECT)


def _side_by_side(faces: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Faces in the tiles of a grey picture; each fills one, cut at its sides."""
    whole = np.full((size[1], size[0], 3), 110, np.uint8)
    across = size[0] // _TILE[0]
    for k, picture in enumerate(faces):
        height, width = picture.shape[:2]
        wide = height * _TILE[0] // _TILE[1]
        middle = picture[:, (width - wide) // 2 : (width + wide) // 2]
        x, y = k % across * _TILE[0], k // across * _TILE[1]
        whole[y : y + _TILE[1], x : x + _TILE[0]] = cv2.resize(middle, _TILE)
    return whole


def _measured(case: Case, clip_path: str, seconds: float) -> dict[str, float]:
    """Measures one case; in a process of its own."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: case.cores])
    quiet_opencv()
    clip = [frame.image for frame in read_frames(clip_path, round(FPS * 10))[0]]
    frames = [
        Frame(index, index / case.rate, picture, 0.0)
        for index, picture in enumerate(pictures(clip, case, _WARM_UP_S + seconds))
    ]
    warm_up = round(_WARM_UP_S * case.rate)
    alone = [Frame(index, index / FPS, picture, 0.0) for index, picture in enumerate(clip)]
    reader = MemoryReader("scaling", frames, case.rate)
    chain_s = cpu_s = alone_s = 0.0
    seen = blocks = 0
    with contextlib.ExitStack() as stack:
        recognizer = stack.enter_context(Recognizer(reader, faces=case.faces))
        stack.callback(reader.stop)
        bare = stack.enter_context(contextlib.closing(BareLandmarker(find_landmark_model())))
        analyses = recognizer.analyses()
        for frame in alone[:_BLOCK]:
            bare(frame)
        reader.allow(warm_up - 1)
        for _ in range(warm_up):
            next(analyses)
        for start in range(warm_up, len(frames) - 1, _BLOCK):
            block = min(_BLOCK, len(frames) - start)
            began_at, cpu_at = time.perf_counter(), time.process_time()
            reader.allow(block)
            for _ in range(block):
                seen += len(next(analyses).faces)
            chain_s += time.perf_counter() - began_at
            cpu_s += time.process_time() - cpu_at
            blocks += block
            first = _BLOCK + start % (len(alone) - 2 * _BLOCK)
            began_at = time.perf_counter()
            for k, frame in enumerate(alone[first : first + _BLOCK]):
                bare(Frame(k, (start + k) / FPS + 10.0, frame.image, 0.0))
            alone_s += (time.perf_counter() - began_at) / _BLOCK * block
    return {
        "chain_ms": 1e3 * chain_s / blocks,
        "cpu_ms": 1e3 * cpu_s / blocks,
        "ratio": chain_s / alone_s,
        "fps": blocks / chain_s,
        "faces_seen": seen / blocks,
    }


def measure(seconds: float, runs: int, wanted: Sequence[Case]) -> list[dict[str, Any]]:
    """Measures cases; returns the `rows` that `--json` prints, an object a case.

    Args:
        seconds: How much video each run sees.
        runs: How often each is run. The cases take turns.
        wanted: The cases.

    Raises:
        InputError: The landmark model is missing, or the temporary folder cannot be written.
    """
    context = multiprocessing.get_context("spawn")
    found: list[list[dict[str, float]]] = [[] for _ in wanted]
    with (
        tempfile.TemporaryDirectory(prefix="scaling-") as folder,
        progress_bar(Console(stderr=True)) as bar,
    ):
        clip = Path(folder) / "demo.avi"
        make_demo_clip(clip)
        task = bar.add_task("measuring", total=runs * len(wanted))
        for _ in range(runs):
            for results, case in zip(found, wanted, strict=True):
                # A pool of one process for one task: a process of its own.
                with context.Pool(1) as pool:
                    results.append(pool.apply(_measured, (case, str(clip), seconds)))
                bar.advance(task)
    rows: list[dict[str, Any]] = []
    for case, results in zip(wanted, found, strict=True):
        row: dict[str, Any] = asdict(case) | {"name": case.name, "runs": runs}
        for key in results[0]:
            row[key] = spread([result[key] for result in results], 3)
        rows.append(row)
    return rows


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws the cost of a frame against what grows, a panel each.

    Raises:
        InputError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    titles = {
        "faces": "faces in 1280 x 720",
        "rate": "frames a second",
        "size": "size of the picture",
        "cores": "cores",
    }
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2).flat
    for (group, title), panel in zip(titles.items(), panels, strict=True):
        mine = [row for row in rows if row["group"] == group]
        places = range(len(mine))
        middle = [row["ratio"]["median"] for row in mine]
        low = [row["ratio"]["median"] - row["ratio"]["min"] for row in mine]
        high = [row["ratio"]["max"] - row["ratio"]["median"] for row in mine]
        panel.bar(places, middle, yerr=(low, high), color="#4477aa", ecolor="#222222", capsize=3)
        for place, row in zip(places, mine, strict=True):
            fps = row["fps"]["median"]
            panel.annotate(
                f"{fps:.0f} fps", (place, 0), xytext=(0, 4), textcoords="offset points",
                ha="center", color="white", fontsize=8,
            )  # fmt: skip
        panel.axhline(1.0, color="#aa3377", linewidth=1)
        panel.set_xticks(list(places), [row["name"] for row in mine])
        panel.set_xlabel(title)
        panel.set_ylim(0, None)
        panel.set_ylabel("time a frame / landmarker")
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle("A frame's time, as a multiple of MediaPipe's landmarker alone (the line)")
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}): name another file"
        ) from None


def rows_of(result: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The figures for people."""
    for row in result:
        ratio = "{min:.2f} / {median:.2f} / {max:.2f}".format(**row["ratio"])
        fps, cpu = row["fps"]["median"], row["cpu_ms"]["median"]
        yield (
            f"{row['group']} {row['name']}",
            f"{ratio} landmarkers, {fps:.0f} fps, {cpu:.1f} ms of processor",
        )


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    runs = number_type(int, lambda n: 1 <= n <= 100, "a number from 1 to 100")
    parser.add_argument("--runs", type=runs, default=5, metavar="N", help="default 5")
    seconds = number_type(float, lambda s: 2 <= s <= 60, "2 to 60 seconds")
    parser.add_argument(
        "--seconds", type=seconds, default=4.0, metavar="N", help="of video a run, default 4"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the ratios")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    options = parser.parse_args(arguments)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1

    def run() -> None:
        rows = measure(options.seconds, options.runs, cases(cores))
        title = f"A frame on {cores} cores, least / median / most of {options.runs} runs"
        print_figures({"rows": rows}, options.json, title, rows_of(rows))
        if options.plot is not None:
            plot(rows, options.plot)

    return exit_status(parser.prog, run)


if __name__ == "__main__":
    sys.exit(main())
