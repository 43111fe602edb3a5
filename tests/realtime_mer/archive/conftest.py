"""A results folder to read and to change."""

import shutil

import pytest

from realtime_mer.archive.results_folder import ResultsFolder
from tests.results import make_results


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("made") / "results").path


@pytest.fixture
def folder(made, tmp_path):
    """A copy of the results that a test may change; its videos stay where they are."""
    return ResultsFolder(shutil.copytree(made, tmp_path / "results"))
