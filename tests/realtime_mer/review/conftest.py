"""Results folders to review."""

import json
import shutil

import pytest

from realtime_mer.archive.results_folder import ResultsFolder
from tests.results import event, make_results


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("archive") / "results").path


@pytest.fixture
def results(made, tmp_path):
    """Two videos with four events, of which the last has no clip."""
    return ResultsFolder(shutil.copytree(made, tmp_path / "results"))


def rewrite(video, records):
    """Writes another log of a video."""
    video.log.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def many(results):
    """20 events: number k would be missing with a sensitivity below k / 20."""
    first, second = results.done()
    before = [r for r in first.records() if r["type"] in ("session", "summary")]
    events = []
    for number in range(1, 21):
        record = event(0.25 * number, "negative", 0.5 + number / 50).to_dict()
        events.append(record | {"least_sensitivity": number / 20})
    rewrite(first, [before[0], *events, before[1]])
    rewrite(second, [r for r in second.records() if r["type"] != "micro_expression"])
    return results
