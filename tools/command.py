"""What the offline commands share: arguments, exit statuses, tables, progress, whole files."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from realtime_mer.errors import InputError

_Number = TypeVar("_Number", int, float)


def command_parser(description: str | None, file: str) -> argparse.ArgumentParser:
    """A parser that has the name of the command's file and shows the description line by line."""
    return argparse.ArgumentParser(
        prog=Path(file).name,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def number_type(
    kind: type[_Number], fits: Callable[[_Number], bool], wanted: str
) -> Callable[[str], _Number]:
    """The type of an argument that is a number within bounds.

    Args:
        kind: int or float.
        fits: Whether a number is within them.
        wanted: What to give, for the message on anything else: "a number above 0".
    """

    def number(text: str) -> _Number:
        with contextlib.suppress(ValueError):
            value = kind(text)
            if fits(value):
                return value
        raise argparse.ArgumentTypeError(f"{text!r}: give {wanted}")

    return number


def exit_status(prog: str, work: Callable[[], int | None], resumable: bool = False) -> int:
    """Does a command's work; bad input and Ctrl-C end with a message in place of a traceback.

    Args:
        prog: Name of the command, before the message.
        work: Returns the exit status, None for 0.
        resumable: Whether the same command continues work that was stopped.

    Returns:
        The exit status: 2 after bad input, 130 after Ctrl-C.
    """
    try:
        return work() or 0
    except InputError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        hint = "; the same command continues from here" if resumable else ""
        print(f"{prog}: stopped{hint}", file=sys.stderr)
        return 130


def print_figures(
    result: dict[str, Any], as_json: bool, title: str, rows: Iterable[tuple[str, str]]
) -> None:
    """Prints a result as one JSON object, or as a table of (name, figure) for people."""
    if as_json:
        print(json.dumps(result))
        return
    table = Table(title=title)
    table.add_column("what")
    table.add_column("figure", justify="right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def spread(values: Sequence[float], digits: int | None = None) -> dict[str, float]:
    """The least, the median and the most of some runs, rounded."""
    steps = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return {name: round(value, digits) for name, value in steps.items()}


def progress_bar(console: Console) -> Progress:
    """A bar with the steps done, the steps in all and the time that is left."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def make_folder(folder: Path, option: str) -> None:
    """Makes a folder for results, if it is not there yet.

    Raises:
        InputError: It cannot be written; the message asks for another one by `option`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InputError(
            f"cannot write into {folder} ({error.strerror}): give another {option}"
        ) from error


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array (.npy) whole or not at all: a run may be stopped at any time."""
    part = path.with_suffix(".part.npy")
    np.save(part, array)
    os.replace(part, path)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: The file cannot be read or holds something else; the message ends in `remedy`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {remedy}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object: {remedy}")
    return content
