"""Imports go down the way of the data, never up and never in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The way of the data; what stands beside the rooms serves them all.
ROOMS = (
    *("source", "face", "spotting", "recognition", "analysis", "session", "output", "demo"),
    *("archive", "review", "command"),
)


def imports_of(file: Path) -> set[str]:
    """All names that a module imports, also those it imports late, as dotted paths."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def graph() -> dict[str, set[str]]:
    """The package's modules, and which of them each imports."""
    files = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in (ROOT / "realtime_mer").rglob("*.py")
    }
    return {
        name: {other for other in imports_of(file) if other in files} - {name, "realtime_mer"}
        for name, file in files.items()
    }


def place(module: str) -> int | None:
    """How far down the way of the data a module lies; None for what serves all rooms."""
    room = (module.split(".") + [""])[1]
    return ROOMS.index(room) if room in ROOMS else None


def test_every_folder_is_a_room():
    folders = {p.parent.name for p in (ROOT / "realtime_mer").glob("*/__init__.py")}
    assert folders == set(ROOMS)


def test_no_room_imports_one_further_down():
    assert [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if (here := place(name)) is not None and (there := place(other)) is not None
        if there > here
    ] == []


def test_no_circles():
    # Raises CycleError, which names the modules of a circle.
    assert list(TopologicalSorter(graph()).static_order())


def test_the_runtime_imports_neither_training_nor_pytorch():
    for name, file in ((f.name, f) for f in (ROOT / "realtime_mer").rglob("*.py")):
        tops = {module.split(".")[0] for module in imports_of(file)}
        assert not tops & {"torch", "models", "tools"}, name
