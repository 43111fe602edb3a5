"""Measures what a spotter's reports are worth, its threshold and its operating curve.

The card of the weights is rewritten; afterwards, limits.py states their limits of detection anew.

    python tools/spotting/calibrate.py --held-out DIR... [--weights FILE.onnx]
        [--false-per-minute N] [--jobs N]

The folders hold signals of `tools/spotting/synthesize.py`, made of faces that the weights were not
trained on and of motions of subjects that they have not seen. `tools/spotting/train.py` does the
same after training; this command is for weights that exist, and for more clips.

In M minutes of clips one false report is 1/M a minute: a sensitivity of 0.1 means something only
with more than ten minutes, so make enough takes.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from realtime_mer.model_file import SPOTTER, load_weights
from tools.command import command_parser, exit_status
from tools.spotting.calibration import FALSE_PER_MINUTE, calibrate
from tools.spotting.clip_signals import signal_files


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument(
        "--held-out", type=Path, nargs="+", required=True, metavar="DIR", help="the signals"
    )
    parser.add_argument(
        "--weights", type=Path, default=SPOTTER, metavar="FILE.onnx", help="default: the delivered"
    )
    parser.add_argument(
        "--false-per-minute",
        type=float,
        default=FALSE_PER_MINUTE,
        metavar="N",
        help=f"limit by which the threshold is chosen (default {FALSE_PER_MINUTE:g})",
    )
    parser.add_argument("--jobs", type=int, default=1, help="clips at a time")
    options = parser.parse_args(arguments)

    def work() -> None:
        held_out = signal_files(*options.held_out)
        for point in calibrate(options.weights, held_out, options.false_per_minute, options.jobs):
            print(point)
        card = load_weights(options.weights).card
        for name in ("threshold", "reliability", "reliability_of", "at_sensitivity"):
            print(f"{name}: {card[name]}")
        if "visibility" not in card:
            print("the card states no limits of detection now: run tools/spotting/limits.py")
        print(f"written to {options.weights.with_suffix('.json')}")

    return exit_status(parser.prog, work)


if __name__ == "__main__":
    sys.exit(main())
