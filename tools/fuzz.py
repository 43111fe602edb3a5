"""Feeds hostile inputs to every place where something from outside comes in.

    python tools/fuzz.py [--minutes N] [--seed N] [--only TARGET ...] [--keep DIR] [--json]

Each target (tests/fuzz/targets.py) gets random inputs in turn: videos with broken bytes, answers of
web servers, requests, model files, tables, command lines, arrays, ... A process of its own tries
them. An input fails if that process crashes, hangs for 30 s or takes 2 GB, if it leaves a traceback
or a file, asks another computer, or raises anything but the documented errors. The smallest such
input of each kind is kept in DIR; moved to tests/fuzz/corpus/, it is tried with every `pytest`.

    inputs, seconds     tried inputs, and what they took
    outcomes            what became of those that were handled
    failed              inputs that failed, by kind; the exit status is then 1
    native_percent      inputs that went through native code: decoders, ONNX Runtime, MediaPipe
    most_mb             memory that the process held at most
"""

from __future__ import annotations

import json
import random
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis.errors import FlakyFailure, HypothesisWarning

from realtime_mer.errors import InputError
from tests.fuzz.inputs import inputs
from tests.fuzz.kept import keep
from tests.fuzz.targets import NATIVE, TARGETS
from tests.fuzz.worker import Finding, Worker
from tools.command import command_parser, exit_status

# Inputs before the next target has its turn; fewer for targets whose inputs take long.
_TURN = 80
_SLOW_TURN = 10
SLOW = ("push", "recognizer", "session", "playlist", "network", "checkpoint")


@dataclass
class Tally:
    """What one target did so far.

    Attributes:
        inputs: Tried inputs.
        seconds: What they took, their making included.
        outcomes: What became of those that were handled.
        failed: Kind of failure to number of inputs.
        files: Kind of failure to the file of an input.
    """

    inputs: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    files: dict[str, str] = field(default_factory=dict)


class _Stop(BaseException):
    """The time is over."""


def turn(
    worker: Worker,
    target: str,
    tally: Tally,
    count: int,
    seed: int,
    folder: Path,
    end_at: float = float("inf"),
) -> None:
    """Tries so many inputs of one target; keeps the smallest of each new kind of failure."""
    smallest: list[Any] = []
    kind = ""

    @with_seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(inputs()[target])
    def attempt(value: Any) -> None:  # noqa: ANN401
        nonlocal kind, smallest
        if time.monotonic() > end_at and not kind:
            raise _Stop
        tally.inputs += 1
        try:
            tally.outcomes[worker.attempt(target, value)] += 1
        except Finding as finding:
            if kind in ("", finding.signature) and finding.signature not in tally.files:
                smallest = [value]
                if finding.is_slow:
                    # To shrink it would take an hour.
                    tally.failed[finding.signature] += 1
                    tally.files[finding.signature] = str(keep(folder, target, value))
                    return
                kind = finding.signature
                raise
            tally.failed[finding.signature] += 1

    try:
        attempt()
    except _Stop:
        return
    except (Finding, FlakyFailure) as finding:
        # Flaky: the same input does not always fail. It failed, all the same.
        tally.failed[kind] += 1
        tally.files[kind] = str(keep(folder, target, smallest[0]))
        print(f"{kind}\n{finding}\n  kept as {tally.files[kind]}\n", file=sys.stderr)


def campaign(seconds: float, seed: int, names: list[str], folder: Path) -> dict[str, Any]:
    """Tries inputs of all named targets in turn; returns the object that `--json` prints."""
    tallies = {name: Tally() for name in names}
    seeds = random.Random(seed)
    started_at = time.monotonic()
    end_at = started_at + seconds
    with Worker() as worker:
        while time.monotonic() < end_at:
            for name in names:
                count = _SLOW_TURN if name in SLOW else _TURN
                began_at = time.monotonic()
                turn(worker, name, tallies[name], count, seeds.getrandbits(64), folder, end_at)
                tallies[name].seconds += time.monotonic() - began_at
        most_mb = worker.most_mb
    total = sum(tally.inputs for tally in tallies.values())
    native = sum(tallies[name].inputs for name in names if name in NATIVE)
    return {
        "minutes": round((time.monotonic() - started_at) / 60, 2),
        "seed": seed,
        "inputs": total,
        "native_percent": round(100 * native / max(total, 1), 1),
        "most_mb": round(most_mb),
        "targets": {
            name: {
                "inputs": tally.inputs,
                "seconds": round(tally.seconds, 1),
                "outcomes": dict(tally.outcomes.most_common()),
                "failed": dict(tally.failed),
                "files": tally.files,
            }
            for name, tally in tallies.items()
        },
        "failed": sum(tally.failed.total() for tally in tallies.values()),
    }


def _show(result: dict[str, Any]) -> None:
    table = Table(title=f"{result['inputs']} inputs in {result['minutes']} min")
    for column in ("target", "inputs", "outcomes", "failed"):
        table.add_column(column, justify="right" if column == "inputs" else "left")
    for name, target in result["targets"].items():
        outcomes = ", ".join(f"{what} {n}" for what, n in list(target["outcomes"].items())[:5])
        failed = "\n".join(f"{n} x {what}" for what, n in target["failed"].items())
        table.add_row(name, str(target["inputs"]), outcomes, failed)
    Console().print(table)
    native, most_mb = result["native_percent"], result["most_mb"]
    print(f"{result['failed']} failed; {native} % went through native code; at most {most_mb} MB")
    print(f"--seed {result['seed']} begins with the same inputs")


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default 1)")
    parser.add_argument("--seed", type=int, help="repeats a run (default: another one each time)")
    parser.add_argument("--only", nargs="+", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument(
        "--keep", type=Path, default=Path("runs/fuzz"), metavar="DIR", help="default runs/fuzz"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)

    warnings.simplefilter("ignore", HypothesisWarning)  # of large inputs

    def work() -> int:
        if unknown := set(options.only or ()) - set(TARGETS):
            raise InputError(
                f"there is no target {', '.join(sorted(unknown))}: name some of "
                f"{', '.join(TARGETS)}"
            )
        if not options.minutes > 0:
            raise InputError(f"{options.minutes:g} minutes are no time: give a number above 0")
        seed = random.randrange(1 << 32) if options.seed is None else options.seed
        names = options.only or list(TARGETS)
        result = campaign(60 * options.minutes, seed, names, options.keep)
        if options.json:
            print(json.dumps(result))
        else:
            _show(result)
        return int(result["failed"] > 0)

    return exit_status(parser.prog, work)


if __name__ == "__main__":
    raise SystemExit(main())
