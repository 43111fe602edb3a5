"""Asks for known vulnerabilities of every package in the lock files, in the locked versions.

The exit status is 1 if there is one that `ACCEPTED` does not name. Packages about which no source
answers are listed, but are no failure: a source may be out of reach.

It needs pip-audit (.ci/requirements.txt), whose services it asks: the index and OSV. Where neither
has anything on a version, the index's page on the package is asked, which knows the newest one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import requests
from lock import LOCKS, ROOT, pins
from packaging.requirements import Requirement
from packaging.version import Version
from pip._internal.models.index import PyPI
from pip_audit._service import (
    OsvService,
    PyPIService,
    ResolvedDependency,
    ServiceError,
    VulnerabilityService,
)

ACCEPTED: dict[str, str] = {}
"""Identifier of a known vulnerability that is no danger here: the reason."""

_TIMEOUT_S = 15

# The identifiers of a package's known vulnerabilities; None if the source does not know it.
Source = Callable[[ResolvedDependency], "list[str] | None"]


class Silence(Exception):
    """A source does not answer."""


def by_service(service: VulnerabilityService) -> Source:
    """One of pip-audit's services as a source."""

    def ask(package: ResolvedDependency) -> list[str] | None:
        try:
            answer, found = service.query(package)
        except (ServiceError, requests.RequestException) as error:
            raise Silence(str(error)) from error
        return None if answer.is_skipped() else [one.id for one in found]

    return ask


def newest_version(package: ResolvedDependency) -> list[str] | None:
    """What the index says about the newest version, if that is the locked one."""
    try:
        answer = requests.get(f"{PyPI.pypi_url}/{package.name}/json", timeout=_TIMEOUT_S)
        answer.raise_for_status()
        page = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise Silence(str(error)) from error
    if Version(page["info"]["version"]) != package.version or "vulnerabilities" not in page:
        return None
    return [one["id"] for one in page["vulnerabilities"] if not one.get("withdrawn")]


SOURCES: dict[str, Source] = {
    "the index, by version": by_service(PyPIService(timeout=_TIMEOUT_S)),
    "OSV": by_service(OsvService(timeout=_TIMEOUT_S)),
    "the index, newest versions only": newest_version,
}


def locked() -> list[ResolvedDependency]:
    """The packages of all lock files, each version once."""
    lines = {pin for lock in LOCKS for pin in pins(ROOT / lock)}
    found = {
        (requirement.name, str(requirement.specifier).removeprefix("=="))
        for requirement in map(Requirement, lines)
    }
    return [ResolvedDependency(name, Version(version)) for name, version in sorted(found)]


def audit(
    packages: list[ResolvedDependency], sources: dict[str, Source]
) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Asks the sources in turn about each package, until one knows it.

    Returns:
        Package and version to its vulnerabilities; the packages about which none answered; the
        sources that did not answer.
    """
    found: dict[str, list[str]] = {}
    silent: list[str] = []
    left = packages
    for name, ask in sources.items():

        def answer(package: ResolvedDependency, ask: Source = ask) -> list[str] | Silence | None:
            try:
                return ask(package)
            except Silence as error:
                return error

        if not left:
            break
        # One first: a source that is out of reach takes its time to say so.
        answers = [answer(left[0])]
        if isinstance(answers[0], Silence):
            silent.append(name)
            continue
        with ThreadPoolExecutor(8) as pool:
            answers += pool.map(answer, left[1:])
        for package, said in zip(left, answers, strict=True):
            if isinstance(said, list):
                found[f"{package.name}=={package.version}"] = said
        left = [p for p in left if f"{p.name}=={p.version}" not in found]
    return found, [f"{p.name}=={p.version}" for p in left], silent


def main() -> int:
    """Prints what was found and what could not be asked; returns the exit status."""
    packages = locked()
    found, unknown, silent = audit(packages, SOURCES)
    failed = False
    for package, identifiers in found.items():
        for identifier in identifiers:
            reason = ACCEPTED.get(identifier)
            failed |= reason is None
            print(f"{package}: {identifier}: {reason or 'KNOWN VULNERABILITY, not accepted'}")
    print(f"{len(found)} of {len(packages)} packages audited")
    for name in silent:
        print(f"WARNING: no answer from {name}")
    if unknown:
        print(f"WARNING: NOT AUDITED, no source knows them here: {', '.join(unknown)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
