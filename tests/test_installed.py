"""The wheel as its users get it: built from the checkout, installed and run far from it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import realtime_mer

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
# What pip needs of the checkout to build a wheel.
SOURCES = ["LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "requirements.txt", "setup.py"]


@dataclass(frozen=True)
class Installation:
    """A wheel in an environment of its own."""

    scripts: Path
    folder: Path  # to start programs in, far from the checkout
    names: frozenset[str]  # of the files in the wheel
    metadata: Message

    def run(self, program: str, *arguments: str) -> str:
        """Starts a program of the environment; returns what it printed."""
        hidden = ("DISPLAY", "WAYLAND_DISPLAY", "PYTHONPATH", "PYTHONHOME")
        result = subprocess.run(
            [str(self.scripts / program), *arguments],
            cwd=self.folder,
            env={k: v for k, v in os.environ.items() if k not in hidden} | {"COLUMNS": "120"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout


def files_below(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]


def requirements() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools leaves a folder `build` behind and packs it next time."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for folder in ("realtime_mer", "models"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    target = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *build, f"--wheel-dir={target}", str(source)], check=True)
    (path,) = target.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installation:
    """The wheel in an environment that borrows its dependencies from the tests' own."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    python = home / SCRIPTS / Path(sys.executable).name
    pip = [sys.executable, "-m", "pip", f"--python={python}", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    # A folder that a .pth file names is searched last, and its own .pth files, such as that of an
    # editable install of the checkout, are not read.
    place = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    borrowed = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (Path(place) / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    with zipfile.ZipFile(wheel) as archive:
        names = frozenset(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        message = Parser().parsestr(archive.read(metadata).decode())
    return Installation(home / SCRIPTS, tmp_path_factory.mktemp("elsewhere"), names, message)


def test_wheel_holds_the_package_with_its_data_and_weights_and_nothing_else(installed):
    package = {p.relative_to(ROOT).as_posix() for p in files_below(ROOT / "realtime_mer")}
    weights = {f"realtime_mer/weights/{p.name}" for p in files_below(ROOT / "models" / "weights")}
    assert {name for name in installed.names if ".dist-info/" not in name} == package | weights
    for suffix in (".html", ".css", ".js", ".svg", ".onnx", "/py.typed"):
        assert any(name.endswith(suffix) for name in installed.names), suffix


def test_wheel_carries_the_terms_of_code_and_weights(installed):
    licences = {name.split("/licenses/")[1] for name in installed.names if "/licenses/" in name}
    assert licences == {"LICENSE", "models/weights/README.md"}
    assert "research" in installed.metadata["Summary"]


def test_wheel_needs_what_requirements_txt_lists(installed):
    needed = [Requirement(line) for line in installed.metadata.get_all("Requires-Dist")]
    plain = {str(need) for need in needed if "extra" not in str(need.marker)}
    assert plain == {str(need) for need in requirements()}


@pytest.mark.parametrize(
    ("sys_platform", "machine", "build"),
    [
        ("linux", "x86_64", "onnxruntime-gpu"),
        ("win32", "AMD64", "onnxruntime-gpu"),
        ("linux", "aarch64", "onnxruntime"),
        ("darwin", "arm64", "onnxruntime"),
        ("win32", "ARM64", "onnxruntime"),
    ],
)
def test_one_build_of_onnx_runtime_applies_everywhere(sys_platform, machine, build):
    environment = {"sys_platform": sys_platform, "platform_machine": machine}
    applicable = [
        need.name
        for need in requirements()
        if need.name.startswith("onnxruntime")
        and (need.marker is None or need.marker.evaluate(environment))
    ]
    assert applicable == [build]


def test_both_builds_of_onnx_runtime_have_the_same_version():
    versions = {str(need.specifier) for need in requirements() if "onnxruntime" in need.name}
    assert len(versions) == 1


def test_there_is_one_version(installed):
    version = realtime_mer.__version__
    assert installed.metadata["Version"] == version
    assert installed.run("realtime-mer", "--version").split() == ["realtime_mer", version]
    code = "from importlib.metadata import version; print(version('realtime_mer'))"
    assert installed.run("python", "-c", code).strip() == version


def test_weights_come_from_the_installed_package(installed):
    code = "from realtime_mer.model_file import CLASSIFIER; print(CLASSIFIER)"
    path = Path(installed.run("python", "-c", code).strip())
    assert path.parent.parts[-2:] == ("realtime_mer", "weights")
    assert path.is_relative_to(installed.scripts.parent.resolve())


def test_module_and_command_are_the_same_program(installed):
    command = installed.run("realtime-mer", "--help")
    module = installed.run("python", "-m", "realtime_mer", "--help")
    assert command.startswith("usage: realtime-mer ")
    assert "--demo" in command

    def options(text: str) -> list[str]:
        return [word for word in text.split() if word.startswith("--")]

    assert options(command) == options(module)


def test_demo_runs_far_from_the_checkout(installed):
    out = installed.run("realtime-mer", "--demo", "--headless")
    assert "4 of 4 found" in out
    # Nothing is left behind in the folder that it was started in.
    assert not list(installed.folder.iterdir())
