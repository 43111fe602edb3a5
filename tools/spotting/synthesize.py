"""Motion signals of faces: what `tools/spotting/train.py` trains on.

    python tools/spotting/synthesize.py --media DIR --data DIR --out DIR [--takes N] [--jobs N]
        [--seed N]

Every video and every photo of the media folder becomes N clips. The runtime's own analyser follows
the face in each, and its motion signals are written as one .npz a clip; no picture is kept.

- Take 0 of a video is the video as it is. The other takes are a piece of it, made smaller or larger
  and seen through a camera, a cheap one or a good one: sensor noise, lamp flicker, the losses of a
  codec. Short videos are played there and back.
- A photo is put under a swaying, turning camera, with blinks, and then seen through a camera too.
- Odd takes carry micro- and macro-expressions at known times: fields of CausalNet's flow release
  (--data) and drawn action units warp the face before the camera sees it.

Training adds more motions to the signals (`tools/spotting/windows.py`).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import read_release
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model
from realtime_mer.source.capture import Capture
from realtime_mer.source.frame import Frame
from tools.command import command_parser, exit_status, make_folder
from tools.spotting.camera import is_photo, media_files, read_photo, seen_by_a_camera, stretch, sway
from tools.spotting.clip_signals import follow
from tools.spotting.hidden_motion import Hidden, plan, with_motions
from tools.spotting.motions import RiseAndFall, drawn_motions, measured_motions

# Drawn motions beside the measured ones.
_DRAWN = 60
# Frame rates of photos' clips: mostly the usual one of webcams.
_RATES = (15, 24, 25, 30, 30, 30, 60)


def make(
    file: Path,
    take: int,
    model: Path,
    motions: Sequence[RiseAndFall],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """The signals of one take of a photo or video; empty where there is no face.

    Beside those of `follow` there are `still`, whether it was made from a photo, and events (k, 4):
    onset, apex and offset in seconds and 1 for a macro-expression, 0 for a micro one.

    Raises:
        InputError: The file cannot be read.
    """
    still = is_photo(file)
    hidden: list[Hidden] = []
    if not still and take == 0:
        with Capture(str(file)) as capture:
            signals = follow(capture, model)
    else:
        if still:
            fps = float(rng.choice(_RATES))
            clip = list(sway(read_photo(file), model, rng, fps))
        else:
            clip, fps = stretch(file, model, rng)
        if not clip:
            return {}
        frames: Iterable[Frame] = clip
        if take % 2:
            hidden = plan(motions, clip[-1].time_s, rng)
            frames = with_motions(clip, hidden, model)
        signals = follow(seen_by_a_camera(frames, fps, rng), model)
    if not signals:
        return {}
    events = [(h.onset_s, h.apex_s, h.offset_s, float(h.macro)) for h in hidden]
    return {**signals, "still": np.array(still), "events": np.array(events).reshape(-1, 4)}


@dataclass(frozen=True, slots=True)
class _Job:
    """One take, and where its signals go."""

    file: Path
    take: int
    out: Path
    seed: tuple[int, int, int]


# What `_run` reads, in processes that are forked.
_motions: list[RiseAndFall] = []


def _run(job: _Job) -> tuple[_Job, str]:
    """Does a job; returns it with how it went."""
    try:
        rng = np.random.default_rng(job.seed)
        signals = make(job.file, job.take, find_landmark_model(), _motions, rng)
    except InputError as error:
        return job, f"left out: {error}"
    if not signals:
        return job, "left out: no face"
    part = job.out.with_suffix(".part.npz")
    np.savez_compressed(part, allow_pickle=False, **signals)
    part.replace(job.out)
    return job, f"{len(signals['time_s'])} frames"


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument(
        "--media", type=Path, required=True, help="folder of face videos and photos"
    )
    parser.add_argument("--data", type=Path, required=True, help="the flow release")
    parser.add_argument("--out", type=Path, required=True, help="folder for the signals")
    parser.add_argument(
        "--exclude-subjects", nargs="*", default=[], metavar="S", help="subjects of the data"
    )
    parser.add_argument("--subjects", nargs="*", metavar="S", help="these subjects alone")
    parser.add_argument("--takes", type=int, default=6, help="clips a file (default 6)")
    parser.add_argument("--jobs", type=int, default=1, help="clips at a time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    return exit_status(parser.prog, lambda: _synthesize(options), resumable=True)


def _synthesize(options: argparse.Namespace) -> None:
    """All that the command does.

    Raises:
        InputError: A folder cannot be used.
    """
    files = media_files(options.media)
    find_landmark_model()
    clips = read_release(options.data).without(options.exclude_subjects)
    if options.subjects:
        clips = clips.only(options.subjects)
    make_folder(options.out, "--out")
    cv2.setNumThreads(1)
    rng = np.random.default_rng(options.seed)
    _motions[:] = measured_motions(clips.pairs) + drawn_motions(_DRAWN, rng)
    # Every file's first take before any second one: a run that is stopped has something of each.
    jobs = [
        _Job(
            file,
            take,
            options.out / f"{file.stem}.{take}.npz",
            # By its name, so that another file beside it changes nothing.
            (options.seed, take, zlib.crc32(file.stem.encode())),
        )
        for take in range(options.takes)
        for file in files
    ]
    left = [job for job in jobs if not job.out.exists()]
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for number, (job, outcome) in enumerate(pool.imap_unordered(_run, left), 1):
            print(f"{job.file.name}, take {job.take}: {outcome} ({number}/{len(left)})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
