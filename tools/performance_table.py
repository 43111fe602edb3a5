"""The table of docs/performance.md: a row for each revision that was measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realtime_mer.cores import cores
from realtime_mer.errors import InputError
from realtime_mer.output.writable import replace_file

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "performance.md"

_STATIONS = ("track", "register", "flow", "spot")
# What takes the time; another version may be faster or slower.
_LIBRARIES = {
    "mediapipe": "MediaPipe",
    "ai-edge-litert": "LiteRT",
    "opencv": "OpenCV",
    "onnxruntime": "ONNX Runtime",
}
COLUMNS = (
    *("date", "revision", "machine", "libraries", "video", "runs", "chain", "naming"),
    *("track, register, flow, spot", "CPU s a minute", "archive"),
)


@dataclass(frozen=True, slots=True)
class Revision:
    """What was measured.

    Attributes:
        name: The commit, abbreviated.
        is_dirty: Whether files differ from it.
    """

    name: str
    is_dirty: bool

    def __str__(self) -> str:
        return f"{self.name}, with changes" if self.is_dirty else self.name


def revision(folder: Path = ROOT, beside: Path = TABLE) -> Revision:
    """The revision of a checkout.

    Args:
        folder: The checkout.
        beside: A file in which changes do not count: the table itself.

    Raises:
        InputError: It is no checkout of git.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    try:
        top = Path(git("rev-parse", "--show-toplevel").strip())
        name = git("rev-parse", "--short", "HEAD").strip()
        changed = git("status", "--porcelain", "-z").split("\0")
    except (OSError, subprocess.CalledProcessError):
        raise InputError(
            f"{folder} is no git checkout: a record names the revision, so clone the repository"
        ) from None
    files = {top / entry[3:] for entry in changed if entry}
    return Revision(name, bool(files - {beside.resolve()}))


def machine() -> str:
    """Cores that this process may use, and the processor's name."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{cores()} cores, {next(iter(names), model)}"


def libraries() -> str:
    """Versions of Python and of the libraries that take most of the time."""
    found = [f"Python {platform.python_version()}"]
    installed = {d.name.lower(): d.version for d in importlib.metadata.distributions()}
    for start, shown in _LIBRARIES.items():
        version = next((v for name, v in sorted(installed.items()) if name.startswith(start)), None)
        if version is not None:
            found.append(f"{shown} {version}")
    return ", ".join(found)


def row(result: dict[str, Any], of: Revision, date: datetime.date | None = None) -> dict[str, str]:
    """The row of a measurement: a text for each of `COLUMNS`.

    Args:
        result: What `tools/benchmark.py` prints as JSON, of several runs.
        of: What was measured.
        date: When; None for today (UTC).
    """
    spread = result["spread"]

    def figure(key: str, digits: int = 2) -> str:
        values = spread.get(key)
        if values is None:
            return "not measured"
        low, middle, high = (f"{values[name]:.{digits}f}" for name in ("min", "median", "max"))
        return f"{middle} ({low} to {high})"

    def share(station: str) -> str:
        values = spread.get(f"{station}_share")
        return "?" if values is None else f"{100 * values['median']:.0f}"

    wide, high = result["size"]
    cells = (
        str(date or datetime.datetime.now(datetime.UTC).date()),
        str(of),
        machine(),
        libraries(),
        f"{result['video']}, {wide} x {high}, {result['source_fps']:.4g} fps",
        str(result["runs"]),
        figure("ratio"),
        figure("naming_ratio"),
        f"{', '.join(share(station) for station in _STATIONS)} %",
        f"{figure('chain_cpu_s', 1)} beside {figure('tracker_cpu_s', 1)}",
        figure("archive_hours"),
    )
    # A bar would end the cell.
    return dict(zip(COLUMNS, (cell.replace("|", "/") for cell in cells), strict=True))


def append(cells: dict[str, str], path: Path = TABLE) -> None:
    """Adds a row to the table with which a file ends.

    Raises:
        InputError: The file cannot be read or written, or does not end in the table.
    """
    try:
        text = path.read_text(encoding="utf-8").rstrip()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path} cannot be read: restore docs/performance.md") from None
    if not text.endswith("|") or not _has_head(text.splitlines()):
        raise InputError(
            f"{path} does not end in the table of runs ({', '.join(COLUMNS)}): restore "
            "docs/performance.md"
        )
    try:
        replace_file(path, f"{text}\n{_line(cells.values())}\n".encode())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


def _has_head(lines: list[str]) -> bool:
    """Whether the table at the end has the columns that a row has."""
    return _line(COLUMNS) in _last_table(lines)


def _last_table(lines: list[str]) -> Iterator[str]:
    for line in reversed(lines):
        if not line.startswith("|"):
            return
        yield line


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
