"""Inputs kept as files: each is a Python literal, in a folder of its target's name."""

from __future__ import annotations

import ast
import hashlib
import pprint
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).resolve().parent / "corpus"
"""Inputs that failed once. Each is tried in every run of the tests."""


def kept(folder: Path = CORPUS) -> list[Path]:
    """The files of all kept inputs."""
    return sorted(folder.glob("*/*.txt"))


def read(path: Path) -> tuple[str, Any]:
    """The target and the value of a kept input."""
    return path.parent.name, ast.literal_eval(path.read_text(encoding="utf-8"))


def keep(folder: Path, target: str, value: Any) -> Path:
    """Writes an input into `folder`; returns its file."""
    text = pprint.pformat(value, width=100)
    if ast.literal_eval(text) != value:
        raise ValueError(f"{target}: an input that is no literal")
    name = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:10]
    path = folder / target / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    return path
