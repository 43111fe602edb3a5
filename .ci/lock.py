"""Keeps the lock files: every package with its version and the hashes of its files, on all systems.

    python .ci/lock.py            writes requirements.lock and requirements-dev.lock anew; versions
                                  that still fit stay
    python .ci/lock.py --check    exit status 1 if a lock file does not fit the requirements, or if
                                  a system that the README promises finds no wheel with its hash

It needs uv (.ci/requirements.txt).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent

# A lock file, and what is resolved into it. The runtime comes first: the second one keeps to it.
LOCKS: dict[str, tuple[str, ...]] = {
    "requirements.lock": ("requirements.txt",),
    "requirements-dev.lock": ("pyproject.toml", "--extra=dev", "--constraint=requirements.lock"),
}

# The oldest Python of pyproject.toml.
OLDEST_PYTHON = "3.11"
PYTHONS = (OLDEST_PYTHON, "3.12", "3.13", "3.14")

# Names for people, and uv's names. mediapipe's wheels need glibc 2.28 (2018: Debian 10, RHEL 8).
# Not among them: macOS on Intel, for which mediapipe has no wheel, and Windows on ARM, for which
# OpenCV has none.
SYSTEMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux ARM64": "aarch64-manylinux_2_28",
    "macOS arm64": "aarch64-apple-darwin",
    "Windows x64": "x86_64-pc-windows-msvc",
}
_ENVIRONMENT = {
    **os.environ,
    "MACOSX_DEPLOYMENT_TARGET": "14.0",  # ONNX Runtime needs it
    "UV_CUSTOM_COMPILE_COMMAND": "python .ci/lock.py",  # stands at the top of the files
}


def write(lock: str, folder: Path, *options: str) -> None:
    """Resolves the requirements into `folder / lock`; versions in that file that still fit stay.

    Raises:
        RuntimeError: They cannot be resolved; the message is uv's.
    """
    command = f"uv pip compile --universal --python-version {OLDEST_PYTHON} --quiet".split()
    command += [*options, "--output-file", str(folder / lock), *LOCKS[lock]]
    _run(command)


def pins(lock: Path) -> dict[str, set[str]]:
    """The packages of a lock file, such as "rich==15.0.0", with their markers, and their hashes."""
    result: dict[str, set[str]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if re.match("[A-Za-z0-9]", line):
            hashes = result.setdefault(line.removesuffix("\\").strip(), set())
        elif found := re.search("--hash=([^ ]+)", line):
            hashes.add(found[1])
    return result


def differences(lock: str) -> list[str]:
    """What is wrong with a lock file, a line each: what would change if it were written anew.

    More hashes are no difference: a package may get more files at any time, for a new Python.
    """
    old = pins(ROOT / lock)
    with TemporaryDirectory() as name:
        folder = Path(name)
        # Without hashes, for uv would keep those that it finds.
        (folder / lock).write_text("\n".join(old) + "\n", encoding="utf-8")
        write(lock, folder, "--generate-hashes")
        new = pins(folder / lock)
    return [
        *(f"- {pin}" for pin in old if pin not in new),
        *(f"+ {pin}" for pin in new if pin not in old),
        *(f"{pin}: no hashes" for pin in old if not old[pin]),
        *(
            f"{pin}: {unknown}, which is no file of it"
            for pin in old
            if pin in new
            for unknown in sorted(old[pin] - new[pin])
        ),
    ]


def installs(lock: str, platform: str, python: str) -> str:
    """Looks for wheels of the packages of a lock file, on one system.

    Returns:
        uv's error, or nothing if each package has one.
    """
    with TemporaryDirectory() as target:
        command = ["uv", "pip", "install", "--dry-run", "--quiet", "--require-hashes"]
        command += ["--only-binary", ":all:"]
        command += ["--python-platform", platform, "--python-version", python]
        try:
            _run([*command, "--target", target, "-r", lock])
        except RuntimeError as error:
            return " ".join(str(error).split())
    return ""


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env=_ENVIRONMENT, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"{command[0]} failed")


def check() -> int:
    """Prints what is wrong and a table of systems; returns the exit status."""
    failed = False
    for lock in LOCKS:
        changed = differences(lock)
        failed |= bool(changed)
        print(f"{lock:22}", "out of date: python .ci/lock.py" if changed else "is up to date")
        print("".join(f"  {line}\n" for line in changed), end="")
        for name, platform in SYSTEMS.items():
            for python in PYTHONS:
                error = installs(lock, platform, python)
                failed |= bool(error)
                print(f"{lock:22} {name:13} Python {python:5} {error or 'resolves'}", flush=True)
    return int(failed)


def main() -> int:
    """Writes or checks the lock files; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    if parser.parse_args().check:
        return check()
    for lock in LOCKS:
        write(lock, ROOT, "--generate-hashes")
        print(f"{lock}: {len(pins(ROOT / lock))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
