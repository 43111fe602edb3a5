"""How the tests are distributed among processes."""

from pathlib import Path

import pytest

from tests.distribution import LIVE, SHARING, pytest_xdist_auto_num_workers

ROOT = Path(__file__).resolve().parents[1]


def test_what_stays_together_exists():
    assert [path for path in (*LIVE, *SHARING) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("arguments", "is_in_this_process"),
    [
        (["tests"], False),
        (["tests/models", "tests/tools"], False),
        (["tests/test_run.py"], True),
        (["tests/test_run.py::test_piped_output_is_plain_lines"], True),
        (["tests", "-k", "stream"], True),
        (["tests", "-m", "slow"], True),
        (["tests", "-s"], True),
    ],
)
def test_only_folders_as_a_whole_take_other_processes(monkeypatch, arguments, is_in_this_process):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("tests.distribution.cores", lambda: 3)
    config = pytest.Config.fromdictargs({}, arguments)
    assert pytest_xdist_auto_num_workers(config) == (0 if is_in_this_process else 3)


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 2), (64, 4)])
def test_there_are_no_more_processes_than_cores(monkeypatch, cores, workers):
    monkeypatch.setattr("tests.distribution.cores", lambda: cores)
    config = pytest.Config.fromdictargs({}, [str(ROOT)])
    assert pytest_xdist_auto_num_workers(config) == workers
