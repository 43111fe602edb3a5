"""Clips with micro-expressions at known times, made of face videos and photos of one's own.

    python tools/spotting/render_clips.py --media DIR --data DIR --out DIR [--subjects S ...]
        [--seed N]

Into --out go folders of clips, each with a table of what is hidden in them (onset, apex and offset
in frames from 0, and how far the face's own motion covers it, see `tools/spotting/masking.py`), for
`tools/spotting/evaluate.py --annotations TABLE --videos FOLDER --first-frame 0`:

    events    micro-expressions of 1.2 to 3 px, and some macro-expressions
    weak      micro-expressions of 0.8 to 1.2 px
    macros    macro-expressions only
    none      nothing

A motion is a field of CausalNet's flow release that warps the face. Photos are put under a swaying
camera, with blinks; everything is seen through other cameras, half of them cheap ones
(`tools/spotting/camera.py`). The figures mean something only if neither network was trained on the
media and the subjects.
"""

from __future__ import annotations

import argparse
import csv
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import read_release
from realtime_mer.errors import InputError
from realtime_mer.face.landmark_model import find_landmark_model
from tools.command import command_parser, exit_status, make_folder
from tools.spotting.camera import is_photo, media_files, read_photo, seen_by_a_camera, stretch, sway
from tools.spotting.hidden_motion import Hidden, Mixture, plan, with_motions
from tools.spotting.masking import masking
from tools.spotting.motions import RiseAndFall, measured_motions

# Two motions are at least this far apart, seconds: the face comes to rest in between.
_PAUSE_S = (1.5, 4.0)
KINDS: dict[str, Mixture | None] = {
    "events": Mixture(macros=0.15, micro_px=(1.2, 3.0), macro_px=(4.0, 8.0), pause_s=_PAUSE_S),
    "weak": Mixture(macros=0.0, micro_px=(0.8, 1.2), pause_s=_PAUSE_S),
    "macros": Mixture(macros=1.0, macro_px=(4.0, 8.0), pause_s=_PAUSE_S),
    "none": None,
}
_COLUMNS = ("subject", "video", "onset", "apex", "offset", "type", "label", "masking")
_LABELS = ("negative", "positive", "surprise")
_FPS = 30.0
_QUALITY = 95


def render(
    file: Path,
    mixture: Mixture | None,
    motions: list[RiseAndFall],
    model: Path,
    rng: np.random.Generator,
    out: Path,
) -> tuple[list[tuple[Hidden, float | None]], float]:
    """Writes a clip as motion JPEG.

    Args:
        file: A photo or video.
        mixture: What to hide in it; None for nothing.
        motions: What to draw from.
        model: The face landmarker's.
        rng: Draws all that is random.
        out: The clip.

    Returns:
        What is hidden in it with its masking, and the frame rate.

    Raises:
        InputError: The file cannot be read, shows no face, or `out` cannot be written.
    """
    if is_photo(file):
        frames, fps = list(sway(read_photo(file), model, rng, _FPS)), _FPS
    else:
        frames, fps = stretch(file, model, rng)
    if not frames:
        raise InputError(f"{file} shows no face: use photos and videos of faces")
    hidden = plan(motions, frames[-1].time_s, rng, mixture) if mixture is not None else []
    moved = with_motions(frames, hidden, model) if hidden else iter(frames)
    writer = None
    for frame in seen_by_a_camera(moved, fps, rng):
        if writer is None:
            codec = cv2.VideoWriter.fourcc(*"MJPG")
            height, width = frame.image.shape[:2]
            writer = cv2.VideoWriter(str(out), cv2.CAP_OPENCV_MJPEG, codec, fps, (width, height))
            if not writer.isOpened():
                raise InputError(f"{out} cannot be written: name a writable folder")
            writer.set(cv2.VIDEOWRITER_PROP_QUALITY, _QUALITY)
        writer.write(frame.image)
    if writer is not None:
        writer.release()
    return list(zip(hidden, masking(frames, hidden, model), strict=True)), fps


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("--media", type=Path, required=True, help="face videos and photos")
    parser.add_argument("--data", type=Path, required=True, help="the flow release")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--subjects", nargs="*", metavar="S", help="whose motions (default: all)")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    return exit_status(parser.prog, lambda: _render_all(options))


def _render_all(options: argparse.Namespace) -> None:
    """All that the command does.

    Raises:
        InputError: A folder cannot be used.
    """
    files = media_files(options.media)
    model = find_landmark_model()
    clips = read_release(options.data)
    if options.subjects:
        clips = clips.only(options.subjects)
    motions = measured_motions(clips.pairs)
    for kind in options.kinds:
        folder = options.out / kind
        make_folder(folder, "--out")
        with (options.out / f"{kind}.csv").open("w", newline="", encoding="utf-8") as table:
            rows = csv.writer(table)
            rows.writerow(_COLUMNS)
            for file, out in ((f, folder / f"{f.stem}.avi") for f in files):
                # By its name and kind, so that another file beside it changes nothing.
                seed = options.seed, zlib.crc32(f"{file.stem} {kind}".encode())
                rng = np.random.default_rng(seed)
                try:
                    hidden, fps = render(file, KINDS[kind], motions, model, rng, out)
                except InputError as error:
                    print(f"{file.name} left out: {error}", file=sys.stderr, flush=True)
                    continue
                for h, ratio in hidden:
                    at = (round(t * fps) for t in (h.onset_s, h.apex_s, h.offset_s))
                    name = "macro-expression" if h.macro else "micro-expression"
                    label = _LABELS[clips.labels[h.motion]]
                    masked = "" if ratio is None else round(ratio, 3)
                    rows.writerow(["", out.stem, *at, name, label, masked])
                table.flush()
                print(f"{kind}/{out.name}: {len(hidden)} hidden", flush=True)


if __name__ == "__main__":
    sys.exit(main())
