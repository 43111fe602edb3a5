"""How long one waits: from the start of run.py to the first analysed frame.

    python tools/start_time.py VIDEO [--runs N] [--json]

Each run is a process of its own; the first one, which fills the caches, does not count. Times are
in milliseconds: least, median and most of the runs.

    first_frame_ms   from the start of `run.py VIDEO --headless` until its first frame is analysed
    import_ms        `import realtime_mer`
    recognizer_ms    `from realtime_mer import Recognizer`
    python_ms        a Python that does nothing: part of each of the others
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realtime_mer.errors import InputError
from tools.command import command_parser, exit_status, number_type, print_figures, spread

_ROOT = Path(__file__).resolve().parent.parent
_IMPORTS = {
    "import_ms": "import realtime_mer",
    "recognizer_ms": "from realtime_mer import Recognizer",
    "python_ms": "",
}
# The terminal is a session's last sink: when it gets an analysis, all others have had it. The clock
# is one that processes share.
_FIRST_FRAME = """
import sys, time
from realtime_mer import cli
from realtime_mer.output import terminal
def update(self, analysis):
    print("analysed at", time.monotonic(), flush=True)
    raise KeyboardInterrupt
terminal.Terminal.update = update
sys.exit(cli.main(sys.argv[1:]))
"""


def _run(code: str, *arguments: str) -> tuple[float, str]:
    """Runs code in a new process: when it was started (`time.monotonic()`), and what it printed."""
    started_at = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=_ROOT, capture_output=True, text=True
    )
    if done.returncode == 2:
        raise InputError(done.stderr.strip().removeprefix("error: "))
    return started_at, done.stdout


def first_frame_ms(video: str) -> float:
    """Milliseconds from the start of the program to its first analysed frame.

    Raises:
        InputError: The video cannot be read, or has no frame.
    """
    started_at, said = _run(_FIRST_FRAME, str(Path(video).absolute()), "--headless")
    found = [line for line in said.splitlines() if line.startswith("analysed at ")]
    if not found:
        raise InputError(f"{video}: no frame of it was analysed: run run.py on it to see why")
    return 1e3 * (float(found[0].split()[-1]) - started_at)


def measure(video: str, runs: int) -> dict[str, Any]:
    """The object that `--json` prints.

    Args:
        video: Path of a video.
        runs: How often each is run and counts.

    Raises:
        InputError: The video cannot be read, or has no frame.
    """
    times: dict[str, list[float]] = {name: [] for name in ("first_frame_ms", *_IMPORTS)}
    for _ in range(runs + 1):
        times["first_frame_ms"].append(first_frame_ms(video))
        for name, code in _IMPORTS.items():
            started_at, _ = _run(code)
            times[name].append(1e3 * (time.monotonic() - started_at))
    result: dict[str, Any] = {"video": Path(video).name, "runs": runs}
    for name, values in times.items():
        result[name] = spread(values[1:])
    return result


def rows_of(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures for people."""
    names = {
        "first_frame_ms": "run.py to its first analysed frame",
        "import_ms": _IMPORTS["import_ms"],
        "recognizer_ms": _IMPORTS["recognizer_ms"],
        "python_ms": "Python alone",
    }
    for key, name in names.items():
        yield f"{name}, ms", "{min} / {median} / {max}".format(**result[key])


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("video", help="video file")
    runs = number_type(int, lambda n: 1 <= n <= 1000, "a number from 1 to 1000")
    parser.add_argument("--runs", type=runs, default=5, metavar="N", help="default 5")
    parser.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    options = parser.parse_args(arguments)

    def run() -> int:
        result = measure(options.video, options.runs)
        title = f"{result['video']}, least / median / most of {result['runs']} runs"
        print_figures(result, options.json, title, rows_of(result))
        return 0

    return exit_status(parser.prog, run)


if __name__ == "__main__":
    sys.exit(main())
