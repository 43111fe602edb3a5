"""Checks that pip finds wheels for requirements.txt on every system that the README promises.

Prints a table of systems and Python versions. The exit status is 1 if one of them fails.

`pip install --platform` picks the wheels of another system, but it evaluates environment markers
(`; sys_platform == "win32"`) for the machine that it runs on. So this script evaluates them itself:
those of requirements.txt before pip runs, those of the dependencies after each run, and it runs pip
again with what was missing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"


@dataclass(frozen=True)
class System:
    """An operating system on one kind of processor.

    Attributes:
        name: As in the README.
        platforms: Platform tags of the wheels that it can install.
        markers: The values of environment markers there, without those of the Python version.
    """

    name: str
    platforms: tuple[str, ...]
    markers: dict[str, str]


def _linux(machine: str) -> System:
    # mediapipe's wheels need glibc 2.28 (2018: Debian 10, RHEL 8). Wheels for an older glibc, from
    # 2.17 on (manylinux2014), run there too; pip does not add them by itself.
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(28, 16, -1)]
    return System(
        f"Linux {machine}",
        (*tags, f"manylinux2014_{machine}"),
        _markers("posix", "linux", "Linux", machine),
    )


def _markers(os_name: str, sys_platform: str, platform_system: str, machine: str) -> dict[str, str]:
    return {
        "os_name": os_name,
        "sys_platform": sys_platform,
        "platform_system": platform_system,
        "platform_machine": machine,
        "platform_release": "",
        "platform_version": "",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


PYTHONS = ("3.11", "3.12", "3.13", "3.14")

# Not among them: macOS on Intel, for which mediapipe has no wheel, and Windows on ARM, for which
# OpenCV has none.
SYSTEMS = (
    _linux("x86_64"),
    _linux("aarch64"),
    System(
        "macOS arm64",
        # ONNX Runtime needs macOS 14. pip adds the older versions, whose wheels run there too.
        ("macosx_14_0_arm64",),
        _markers("posix", "darwin", "Darwin", "arm64"),
    ),
    System("Windows AMD64", ("win_amd64",), _markers("nt", "win32", "Windows", "AMD64")),
)


def read_requirements(path: Path) -> list[Requirement]:
    """The requirements of a file of one requirement or comment a line."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def resolve(requirements: list[Requirement], system: System, python: str) -> str:
    """Looks for wheels of `requirements` and of everything that they need, on one system.

    Returns:
        pip's error, or nothing if every wheel exists.
    """
    environment = {
        **system.markers,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_version": f"{python}.0",
    }
    wanted = _applicable(requirements, environment)
    while True:
        process = _pip(sorted(wanted), system, python)
        if process.returncode != 0:
            errors = [line for line in process.stderr.splitlines() if line.startswith("ERROR: ")]
            return (errors or process.stderr.splitlines() or ["pip failed"])[-1]
        found = json.loads(process.stdout)["install"]
        names = {canonicalize_name(package["metadata"]["name"]) for package in found}
        needed = [
            Requirement(line)
            for package in found
            for line in package["metadata"].get("requires_dist", [])
        ]
        missing = [need for need in needed if canonicalize_name(need.name) not in names]
        more = _applicable(missing, environment)
        if not more:
            return ""
        wanted |= more


def _applicable(requirements: list[Requirement], environment: dict[str, str]) -> set[str]:
    """The requirements whose markers hold in an environment, as arguments of pip, without markers.

    A dependency of an extra never holds: pip has already added those of the extras asked for.
    """
    result = set()
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate({**environment, "extra": ""}):
            plain = Requirement(str(requirement))
            plain.marker = None
            result.add(str(plain))
    return result


def _pip(wanted: list[str], system: System, python: str) -> subprocess.CompletedProcess[str]:
    with TemporaryDirectory() as target:
        return subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"),
                *("--ignore-installed", "--only-binary=:all:", "--target", target),
                *("--python-version", python, "--report", "-"),
                *(f"--platform={platform}" for platform in system.platforms),
                *wanted,
            ],
            check=False,
            capture_output=True,
            text=True,
        )


def main() -> int:
    """Prints a line a system and Python version; returns the exit status."""
    requirements = read_requirements(REQUIREMENTS)
    cases = [(system, python) for system in SYSTEMS for python in PYTHONS]
    failed = False
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda case: resolve(requirements, *case), cases)
        for (system, python), error in zip(cases, answers, strict=True):
            print(f"{system.name:14} Python {python:5} {error or 'resolves'}", flush=True)
            failed |= bool(error)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
